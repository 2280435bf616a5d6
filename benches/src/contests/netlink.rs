//! Routes, through `overlay-netlink` and others.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use overlay_netlink::{
    Hop, Ifindex, Nexthop, NexthopId, Route, RouteFilter, Verb, scattered, table,
};
use overlay_wire::IpVersion;

use super::{BATCH, COMPAT_MODE, IP_BATCH, thousands};
use crate::iproute2::{self, BatchFile};
use crate::prefix::nexthop;
use crate::{Contest, Lab, Prefixes, rtnl};

/// As many requests as rtnetlink has under way at a time: of all numbers up to 16,384 the fastest, if only just.
const FLYING: usize = 64;

const SHARED: NexthopId = NexthopId(1);

fn shared_gateway() -> Ipv4Addr {
    Prefixes::gateway(0)
}

fn shared_hop(dev: Ifindex) -> Hop {
    let mut hop = Hop::via(IpAddr::V4(shared_gateway()));
    hop.dev = Some(dev);
    hop
}

fn shared_routes(prefixes: Prefixes, dev: Ifindex) -> Vec<Route> {
    prefixes.routes(|_| shared_hop(dev))
}

/// Adds `count` routes with one gateway.
///
/// # Errors
/// When there is no lab, or no iproute2 where it is required.
pub fn add(count: u32) -> Result<Contest> {
    let prefixes = Prefixes(count);
    let check = move |lab: &mut Lab| {
        let expected = shared_routes(prefixes, lab.uplink);
        lab.expect_routes(&expected)
    };
    let mut contest = Contest::new("add", format!("Add {} routes", thousands(count)), count)?.with(
        BATCH,
        move |lab| {
            let routes = shared_routes(prefixes, lab.uplink);
            let time = lab.execute(Verb::Add, &routes)?;
            check(lab).map(|()| time)
        },
    );
    contest =
        contest.with("overlay-netlink, a nexthop object and routes by way of it", move |lab| {
            let object = nexthop(SHARED, shared_gateway(), lab.uplink);
            let routes = prefixes.routes_by(|_| SHARED);
            let time = lab.execute(Verb::Add, [&object])? + lab.execute(Verb::Add, &routes)?;
            lab.expect_routes(&routes).map(|()| time)
        });
    for (name, flying) in [("rtnetlink, one at a time", 1), ("rtnetlink, 64 in flight", FLYING)] {
        contest = contest.with(name, move |lab| {
            let time = rtnl::add(lab, prefixes, shared_gateway(), flying)?;
            check(lab).map(|()| time)
        });
    }
    contest = contest.claim(BATCH, "rtnetlink, 64 in flight", 2.0);
    if iproute2::present("adding routes")? {
        let lines = Prefixes::lines(0..count, "add", Some(&|_| shared_gateway()));
        let file = BatchFile::new("ip", &lines)?;
        contest = contest
            .with(IP_BATCH, move |lab| {
                let time = file.run(lab)?;
                check(lab).map(|()| time)
            })
            .claim(BATCH, IP_BATCH, 2.5);
    }
    Ok(contest)
}

/// Lists `count` routes.
///
/// # Errors
/// As [`add`].
pub fn dump(count: u32) -> Result<Contest> {
    const LIST: &str = "overlay-netlink, `list::<Route>`";
    const PEER: &str = "rtnetlink, `route().get()`";
    let prefixes = Prefixes(count);
    let prepare = move |lab: &mut Lab| {
        let routes = shared_routes(prefixes, lab.uplink);
        lab.execute(Verb::Add, &routes).map(|_| routes)
    };
    let mut contest = Contest::new("dump", format!("List {} routes", thousands(count)), count)?
        .with(LIST, move |lab| {
            let expected = prepare(lab)?;
            let filter = RouteFilter::table(table::MAIN).family(IpVersion::V4);
            let start = Instant::now();
            let mut found: Vec<Route> = lab.socket.list(&filter)?;
            let time = start.elapsed();
            found.retain(|route| route.protocol == Lab::PROTOCOL);
            found.sort_by_key(|route| route.dst);
            ensure!(found == expected, "the list is not what was added");
            Ok(time)
        })
        .with(PEER, move |lab| {
            prepare(lab)?;
            rtnl::list(lab, count as usize)
        })
        .claim(LIST, PEER, 3.0);
    if iproute2::present("listing routes")? {
        contest = contest.with("`ip route show`, as text to `/dev/null`", move |lab| {
            prepare(lab)?;
            let mut command = Command::new("ip");
            command.args(["-4", "route", "show"]);
            iproute2::time(&lab.host, command)
        });
    }
    Ok(contest)
}

/// Deletes `count` routes.
///
/// # Errors
/// As [`add`].
pub fn delete(count: u32) -> Result<Contest> {
    const SCATTERED: &str = "overlay-netlink, one batch, `scattered`";
    const NEXTHOP: &str = "overlay-netlink, their nexthop object";
    let prefixes = Prefixes(count);
    let prepare = move |lab: &mut Lab| {
        let routes = shared_routes(prefixes, lab.uplink);
        lab.execute(Verb::Add, &routes).map(|_| routes)
    };
    let order = move || scattered(count as usize).map(|index| index as u32);
    let mut contest = Contest::new("delete", format!("Delete {} routes", thousands(count)), count)?
        .with(SCATTERED, move |lab| {
            let routes = prepare(lab)?;
            let time =
                lab.execute(Verb::Delete, scattered(routes.len()).map(|index| &routes[index]))?;
            lab.expect_routes(&[]).map(|()| time)
        })
        .with("overlay-netlink, one batch, ascending", move |lab| {
            let routes = prepare(lab)?;
            let time = lab.execute(Verb::Delete, &routes)?;
            lab.expect_routes(&[]).map(|()| time)
        })
        .with(NEXTHOP, move |lab| {
            let object = nexthop(SHARED, shared_gateway(), lab.uplink);
            lab.execute(Verb::Add, [&object])?;
            lab.execute(Verb::Add, &prefixes.routes_by(|_| SHARED))?;
            let time = lab.execute(Verb::Delete, [&object])?;
            lab.expect_routes(&[]).map(|()| time)
        })
        .with("rtnetlink, 64 in flight, ascending", move |lab| {
            prepare(lab)?;
            let time = rtnl::delete(lab, (0..count).collect(), FLYING)?;
            lab.expect_routes(&[]).map(|()| time)
        })
        .with("rtnetlink, 64 in flight, in our order", move |lab| {
            prepare(lab)?;
            let time = rtnl::delete(lab, order().collect(), FLYING)?;
            lab.expect_routes(&[]).map(|()| time)
        });
    if iproute2::present("deleting routes")? {
        let ascending = BatchFile::new("ip", &Prefixes::lines(0..count, "del", None))?;
        let scattered = BatchFile::new("ip", &Prefixes::lines(order(), "del", None))?;
        contest = contest
            .with(IP_BATCH, move |lab| {
                prepare(lab)?;
                let time = ascending.run(lab)?;
                lab.expect_routes(&[]).map(|()| time)
            })
            .with("`ip -batch`, in our order", move |lab| {
                prepare(lab)?;
                let time = scattered.run(lab)?;
                lab.expect_routes(&[]).map(|()| time)
            })
            .claim(SCATTERED, IP_BATCH, 8.0)
            .claim(NEXTHOP, IP_BATCH, 8.0);
    }
    Ok(contest)
}

/// A nexthop object for each prefix and a route by way of it.
fn own_nexthops(lab: &mut Lab, prefixes: Prefixes) -> Result<Duration> {
    let id = |index| NexthopId(1 + index);
    let objects: Vec<Nexthop> = (0..prefixes.0)
        .map(|index| nexthop(id(index), Prefixes::gateway(index), lab.uplink))
        .collect();
    let routes = prefixes.routes_by(id);
    let time = lab.execute(Verb::Add, &objects)? + lab.execute(Verb::Add, &routes)?;
    lab.expect_routes(&routes)?;
    Ok(time)
}

/// Adds `count` routes, each with a gateway of its own on one device, in all ways.
///
/// # Errors
/// As [`add`].
pub fn distinct_gateways(count: u32) -> Result<Contest> {
    const OBJECTS: &str = "overlay-netlink, nexthop objects and routes";
    let prefixes = Prefixes(count);
    let spelled_out = move |dev| {
        prefixes.routes(|index| {
            let mut hop = Hop::via(IpAddr::V4(Prefixes::gateway(index)));
            hop.dev = Some(dev);
            hop
        })
    };
    let title = format!("Add {} routes, each with its own gateway", thousands(count));
    let mut contest = Contest::new("gateways", title, count)?
        .with(OBJECTS, move |lab| own_nexthops(lab, prefixes))
        .with("overlay-netlink, plain routes", move |lab| {
            let routes = spelled_out(lab.uplink);
            let time = lab.execute(Verb::Add, &routes)?;
            lab.expect_routes(&routes).map(|()| time)
        });
    if iproute2::present("adding routes with many gateways")? {
        let file =
            BatchFile::new("ip", &Prefixes::lines(0..count, "add", Some(&Prefixes::gateway)))?;
        contest = contest.with(IP_BATCH, move |lab| {
            let time = file.run(lab)?;
            lab.expect_routes(&spelled_out(lab.uplink)).map(|()| time)
        });
    }
    Ok(contest)
}

/// Adds `count` routes, each with a gateway of its own on one device, by way of nexthop objects alone: without them
/// 100,000 take minutes.
///
/// # Errors
/// As [`add`].
pub fn many_distinct_gateways(count: u32) -> Result<Contest> {
    let prefixes = Prefixes(count);
    let title = format!("Add {} routes, each with its own gateway", thousands(count));
    Ok(Contest::new("many-gateways", title, count)?
        .with("overlay-netlink, nexthop objects and routes", move |lab| {
            own_nexthops(lab, prefixes)
        }))
}

/// Leads `count` routes by way of another gateway.
///
/// # Errors
/// As [`add`].
pub fn swing(count: u32) -> Result<Contest> {
    const SWINGS: u32 = 10;
    let prefixes = Prefixes(count);
    let title = format!("Lead {} routes by way of another gateway", thousands(count));
    let mut contest = Contest::new("swing", title, count)?;
    for mode in [0, 1] {
        let name = format!("overlay-netlink, one nexthop object, compat_mode={mode}");
        contest = contest.with(name, move |lab| {
            let hops = [0, 1].map(|n| nexthop(SHARED, Prefixes::gateway(n), lab.uplink));
            lab.execute(Verb::Add, [&hops[0]])?;
            let routes = prefixes.routes_by(|_| SHARED);
            lab.execute(Verb::Add, &routes)?;
            lab.host.sysctl(COMPAT_MODE, mode)?;
            let mut time = Duration::ZERO;
            for swing in 1..=SWINGS {
                time += lab.execute(Verb::Replace, [&hops[swing as usize % 2]])?;
            }
            lab.host.sysctl(COMPAT_MODE, 1)?;
            lab.expect_routes(&routes)?;
            Ok(time / SWINGS)
        });
    }
    let others = move |lab: &Lab| {
        let mut hop = Hop::via(IpAddr::V4(Prefixes::gateway(1)));
        hop.dev = Some(lab.uplink);
        prefixes.routes(|_| hop.clone())
    };
    contest = contest.with("overlay-netlink, each route, one batch", move |lab| {
        let routes = shared_routes(prefixes, lab.uplink);
        lab.execute(Verb::Add, &routes)?;
        let routes = others(lab);
        let time = lab.execute(Verb::Replace, &routes)?;
        lab.expect_routes(&routes).map(|()| time)
    });
    if iproute2::present("replacing routes")? {
        let lines = Prefixes::lines(0..count, "replace", Some(&|_| Prefixes::gateway(1)));
        let file = BatchFile::new("ip", &lines)?;
        contest = contest.with(IP_BATCH, move |lab| {
            let routes = shared_routes(prefixes, lab.uplink);
            lab.execute(Verb::Add, &routes)?;
            let time = file.run(lab)?;
            let expected = others(lab);
            lab.expect_routes(&expected).map(|()| time)
        });
    }
    Ok(contest)
}
