//! Listing what is there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use overlay_netlink::{
    Address, AddressFilter, Batch, Error, Fdb, FdbFilter, Hop, Ifindex, Link, LinkFilter, Listable,
    Neighbour, NeighbourFilter, Nexthop, NexthopFilter, NexthopId, Protocol, Route, RouteFilter,
    RouteKind, Rule, RuleFilter, Socket, Verb,
};
use overlay_wire::{IpVersion, MacAddr};

use crate::world::{BRIDGE, FAR, UPLINK, VXLAN, all, furnished};
use crate::{Case, Outcome, ensure, fail, ip, mac, name, net, same};

pub(crate) const CASES: [Case; 8] = [
    ("dumps::what_is_sent_is_listed", what_is_sent_is_listed),
    ("dumps::filters_filter", filters_filter),
    ("dumps::a_refused_dump_is_an_error", a_refused_dump_is_an_error),
    ("dumps::an_absent_table_is_empty", an_absent_table_is_empty),
    ("dumps::while_nexthops_change", while_nexthops_change),
    ("dumps::while_routes_change", while_routes_change),
    ("dumps::while_devices_change", while_devices_change),
    ("dumps::without_ipv6", without_ipv6),
];

/// The filtered list is what of the whole one the filter wants, and both are not empty.
fn filtered<T: Listable + std::fmt::Debug + PartialEq>(
    socket: &mut Socket,
    filter: &T::Filter,
    wanted: impl Fn(&T) -> bool,
) -> Outcome {
    let whole = all::<T>(socket, &T::Filter::default())?;
    let total = whole.len();
    let expected: Vec<_> = whole.into_iter().filter(wanted).collect();
    ensure(!expected.is_empty() && expected.len() < total, || {
        format!("{filter:?} has nothing to do: {} of {total}", expected.len())
    })?;
    same(all::<T>(socket, filter)?, expected, &format!("{filter:?}"))
}

fn out_of(route: &Route) -> Option<Ifindex> {
    match &route.via {
        overlay_netlink::Via::Hop(hop) => hop.dev,
        _ => None,
    }
}

fn filters_filter() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    socket.change(&Link::named(name("far")).master(BRIDGE))?;
    socket.add(&Address::new(net("10.9.0.1/24"), BRIDGE))?;
    for (last, dev) in (1..).zip([UPLINK, BRIDGE]) {
        for address in ["10.0.0.9", "fd00::9"] {
            socket.add(&Neighbour::permanent(ip(address), mac(last), dev))?;
        }
        let mark = Protocol(78 + last);
        socket.add(&Nexthop::new(NexthopId(last.into()), Hop::dev(dev)).protocol(mark))?;
        let rule = Rule::lookup(IpVersion::V4, 100).priority(last.into()).protocol(mark);
        socket.add(&rule)?;
        for (table, prefix) in [(254, "10.1.0.0/24"), (100_000, "fd01::/64")] {
            let route = Route::to(net(prefix)).hop(Hop::dev(dev)).metric(last.into());
            socket.add(&route.table(table).protocol(mark))?;
        }
        socket.add(&Fdb::remote(mac(last), ip("10.0.0.9"), VXLAN))?;
    }

    let mut ports = LinkFilter::default();
    ports.master = Some(BRIDGE);
    filtered::<Link>(&mut socket, &ports, |link| link.master == Some(BRIDGE))?;

    let v6 = Some(IpVersion::V6);
    filtered::<Address>(&mut socket, &AddressFilter::on(UPLINK), |a| a.dev == UPLINK)?;
    let mut family = AddressFilter::default();
    family.family = v6;
    filtered::<Address>(&mut socket, &family, |a| a.net.addr().is_ipv6())?;

    filtered::<Neighbour>(&mut socket, &NeighbourFilter::on(UPLINK), |n| n.dev == UPLINK)?;
    let mut family = NeighbourFilter::on(UPLINK);
    family.family = v6;
    filtered::<Neighbour>(&mut socket, &family, |n| n.dev == UPLINK && n.dst.is_ipv6())?;

    filtered::<Fdb>(&mut socket, &FdbFilter::on(VXLAN), |f| f.dev == VXLAN)?;
    filtered::<Fdb>(&mut socket, &FdbFilter::on(FAR), |f| f.dev == FAR)?;

    let mark = Protocol(79);
    filtered::<Route>(&mut socket, &RouteFilter::made_by(mark), |r| r.protocol == mark)?;
    filtered::<Route>(&mut socket, &RouteFilter::table(100_000), |r| r.table == 100_000)?;
    filtered::<Route>(&mut socket, &RouteFilter::table(255), |r| r.table == 255)?;
    let narrow = RouteFilter::made_by(mark).dev(UPLINK).family(IpVersion::V6);
    filtered::<Route>(&mut socket, &narrow, |r| {
        r.protocol == mark && out_of(r) == Some(UPLINK) && r.version() == IpVersion::V6
    })?;

    filtered::<Rule>(&mut socket, &RuleFilter::made_by(mark), |r| r.protocol == mark)?;
    let mut family = RuleFilter::default();
    family.family = v6;
    filtered::<Rule>(&mut socket, &family, |r| r.family == IpVersion::V6)?;

    filtered::<Nexthop>(&mut socket, &NexthopFilter::made_by(mark), |n| n.protocol == mark)?;
    let mut through = NexthopFilter::default();
    through.dev = Some(UPLINK);
    filtered::<Nexthop>(&mut socket, &through, |n| n.id == NexthopId(1))
}

/// A reconciler compares what it wants with what is there: sent and listed must be equal, or it
/// would never be done.
fn what_is_sent_is_listed() -> Outcome {
    fn check<T: Listable + std::fmt::Debug + PartialEq>(
        socket: &mut Socket,
        objects: impl IntoIterator<Item = T>,
    ) -> Outcome {
        for object in objects {
            socket.add(&object).map_err(|error| error.to_string())?;
            let listed = socket.list::<T>(&T::Filter::default())?;
            ensure(listed.contains(&object), || {
                let lines: Vec<_> = listed.iter().map(|o| format!("{o:?}\n")).collect();
                format!("not listed: {object:?}, only\n{}", lines.concat())
            })?;
        }
        Ok(())
    }
    const FLOW: Ifindex = crate::world::FLOW;
    let (_host, mut socket) = furnished("a")?;
    let mark = Protocol(79);
    let mut far_end = Address::new(net("192.0.2.9/32"), UPLINK).protocol(mark);
    far_end.peer = Some(ip("198.51.100.1"));
    check(
        &mut socket,
        [
            Address::new(net("192.0.2.1/24"), UPLINK),
            Address::new(net("fd01::1/128"), UPLINK).nodad().protocol(mark),
            far_end,
        ],
    )?;
    check(
        &mut socket,
        ["10.0.0.9", "fd00::9"].map(|a| Neighbour::permanent(ip(a), mac(1), UPLINK).protocol(mark)),
    )?;
    let mut elsewhere = Fdb::remote(mac(2), ip("10.0.0.9"), VXLAN);
    elsewhere.port = Some(4444);
    elsewhere.vni = Some(overlay_wire::Vni::new(9)?);
    elsewhere.via = Some(UPLINK);
    let entries = ["10.0.0.9", "10.0.0.8"].map(|a| Fdb::remote(MacAddr::ZERO, ip(a), VXLAN));
    for entry in entries {
        socket.append(&entry)?;
        ensure(socket.list::<Fdb>(&FdbFilter::on(VXLAN))?.contains(&entry), || {
            format!("{entry:?}")
        })?;
    }
    check(&mut socket, [elsewhere])?;
    let encap = overlay_netlink::Encap::new(7, ip("10.0.0.9"));
    let mut nexthops = vec![
        Nexthop::new(NexthopId(1), Hop::onlink(ip("192.0.2.77"), UPLINK)).protocol(mark),
        Nexthop::new(NexthopId(2), Hop::onlink(ip("fe80::77"), UPLINK)),
        Nexthop::new(NexthopId(3), Hop::dev(FLOW).encap(encap.clone())),
        Nexthop::blackhole(NexthopId(4), IpVersion::V6),
        Nexthop::group(NexthopId(5), vec![(NexthopId(1), 1), (NexthopId(3), 256)]),
    ];
    let mut fdb = Nexthop::new(NexthopId(6), Hop::via(ip("10.0.0.9")));
    fdb.fdb = true;
    nexthops.push(fdb);
    check(&mut socket, nexthops)?;
    let mut routes = Vec::new();
    for (prefix, gateway) in [("10.1.0.0/24", "10.0.0.9"), ("fd01:1::/64", "fd00::9")] {
        let to = || Route::to(net(prefix)).protocol(mark);
        let weighted =
            |weight| overlay_netlink::WeightedHop { hop: Hop::onlink(ip(gateway), UPLINK), weight };
        let hops = vec![
            weighted(1),
            overlay_netlink::WeightedHop {
                hop: Hop::via(ip(if prefix.contains(':') { "fd00::8" } else { "10.0.0.8" }))
                    .through(UPLINK),
                weight: 7,
            },
        ];
        routes.extend([
            to().hop(Hop::dev(UPLINK)).table(1),
            to().hop(Hop::onlink(ip(gateway), UPLINK)).table(2).mtu(1400),
            to().hop(Hop::via(ip(gateway)).through(UPLINK)).table(100_000).metric(7),
            to().multipath(hops).table(3),
            to().hop(Hop::dev(FLOW).encap(encap.clone())).table(4),
            to().nexthop(NexthopId(if prefix.contains(':') { 2 } else { 5 })).table(5),
        ]);
        let drops =
            [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit, RouteKind::Throw];
        routes.extend(
            drops
                .into_iter()
                .zip(10..)
                .map(|(kind, table)| Route::drop(kind, net(prefix)).protocol(mark).table(table)),
        );
    }
    check(&mut socket, routes)?;
    let mut rule = Rule::lookup(IpVersion::V6, 100_000).priority(7).protocol(mark);
    rule.src = Some(net("fd00::/8"));
    rule.fwmark = Some((1, 0xff));
    check(&mut socket, [Rule::lookup(IpVersion::V4, 100).priority(6).protocol(mark), rule])
}

fn a_refused_dump_is_an_error() -> Outcome {
    const NOBODY: Ifindex = Ifindex(9999);
    let (_host, mut socket) = furnished("a")?;
    let addresses = socket.list::<Address>(&AddressFilter::on(NOBODY)).map(|l| l.len());
    let mut filter = RouteFilter::default();
    filter.dev = Some(NOBODY);
    let routes = socket.list::<Route>(&filter).map(|l| l.len());
    for result in [addresses, routes] {
        match result {
            Err(error) if error.is_not_found() => {
                ensure(error.to_string().contains("list "), || error.to_string())?;
            }
            other => return fail(format!("{other:?}")),
        }
    }
    // The socket is none the worse.
    same(socket.list::<Address>(&AddressFilter::on(UPLINK))?.len(), 2, "addresses")
}

fn an_absent_table_is_empty() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    same(socket.list::<Route>(&RouteFilter::table(4242))?.len(), 0, "routes")?;
    // Where one family has the table and the other has not, that one's routes are there.
    socket.add(&Route::drop(RouteKind::Blackhole, net("fd01::/64")).table(4242))?;
    same(socket.list::<Route>(&RouteFilter::table(4242))?.len(), 1, "routes")
}

/// Lists over and over while another thread runs `disturb`: what stays put is in every list, or
/// the error says that it could not be made.
fn undisturbed<T: Listable>(
    host: &overlay_lab::Host,
    filter: &T::Filter,
    stays: impl Fn(&T) -> bool,
    count: usize,
    disturb: impl Fn(&mut Socket) -> Outcome + Sync,
) -> Outcome {
    let mut socket = host.socket()?;
    let stop = AtomicBool::new(false);
    let mut disturbing = host.socket()?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| -> Outcome {
            while !stop.load(Ordering::Relaxed) {
                disturb(&mut disturbing)?;
            }
            Ok(())
        });
        let mut list = || -> Outcome {
            let mut consistent = 0;
            for _ in 0..60 {
                match socket.list::<T>(filter) {
                    Ok(list) => {
                        consistent += 1;
                        same(list.iter().filter(|o| stays(o)).count(), count, "what stays put")?;
                    }
                    Err(Error::Interrupted { attempts, .. }) => {
                        ensure(attempts > 1, || "gave up at once".to_owned())?;
                    }
                    Err(error) => return fail(error.to_string()),
                }
            }
            println!("{consistent} of 60 lists were consistent");
            Ok(())
        };
        let listed = list();
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("no panic")?;
        listed
    })
}

fn all_ok(socket: &mut Socket, batch: &mut Batch) -> Outcome {
    Ok(socket.execute(batch)?.into_result()?)
}

fn while_nexthops_change() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let mut batch = Batch::new();
    for id in 1..=2000 {
        batch.push(Verb::Add, &Nexthop::blackhole(NexthopId(id * 2), IpVersion::V4))?;
    }
    all_ok(&mut socket, &mut batch)?;
    undisturbed::<Nexthop>(
        &host,
        &NexthopFilter::default(),
        |nexthop| nexthop.id.0 % 2 == 0,
        2000,
        |socket| {
            let guest = Nexthop::blackhole(NexthopId(1001), IpVersion::V4);
            socket.add(&guest)?;
            Ok(socket.delete(&guest)?)
        },
    )
}

fn while_routes_change() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let route = |number: u32, version| {
        let prefix = match version {
            IpVersion::V4 => format!("10.{}.{}.0/24", 1 + number / 250, number % 250),
            IpVersion::V6 => format!("fd01:{number:x}::/64"),
        };
        Route::drop(RouteKind::Blackhole, net(&prefix))
    };
    let mut batch = Batch::new();
    for number in 0..2000 {
        for version in IpVersion::ALL {
            batch.push(Verb::Add, &route(number, version).protocol(Protocol(79)))?;
        }
    }
    all_ok(&mut socket, &mut batch)?;
    undisturbed::<Route>(
        &host,
        &RouteFilter::table(254),
        |route| route.protocol == Protocol(79),
        4000,
        |socket| {
            let mut batch = Batch::new();
            for verb in [Verb::Add, Verb::Delete] {
                for number in [2001, 2500] {
                    for version in IpVersion::ALL {
                        batch.push(verb, &route(number, version).metric(7))?;
                    }
                }
            }
            all_ok(socket, &mut batch)
        },
    )
}

fn while_devices_change() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let mut batch = Batch::new();
    for number in 0..100 {
        let kind = overlay_netlink::LinkKind::Bridge(overlay_netlink::Bridge::default());
        let link = Link::new(name(&format!("stay{number}")), kind);
        let own = MacAddr([2, 2, 0, 0, 0, number]);
        batch.push(Verb::Add, &link.address(own))?;
    }
    all_ok(&mut socket, &mut batch)?;
    undisturbed::<Link>(
        &host,
        &LinkFilter::default(),
        |link| link.name.as_str().starts_with("stay"),
        100,
        |socket| {
            let kind = overlay_netlink::LinkKind::Bridge(overlay_netlink::Bridge::default());
            let guest = Link::new(name("guest"), kind);
            socket.add(&guest)?;
            Ok(socket.delete(&guest)?)
        },
    )
}

/// Switched off by an administrator, IPv6 is an empty family and no error.
fn without_ipv6() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)?;
    let addresses = socket.list::<Address>(&AddressFilter::default())?;
    let distinct: BTreeSet<_> = addresses.iter().map(|a| a.net.to_string()).collect();
    same(addresses.len(), distinct.len(), "addresses listed twice")?;
    ensure(addresses.iter().all(|a| a.net.addr().is_ipv4()), || format!("{addresses:?}"))?;
    socket.list::<Route>(&RouteFilter::default())?;
    socket.list::<Neighbour>(&NeighbourFilter::default())?;
    let error = socket.add(&Address::new(net("fd00::2/64"), UPLINK)).unwrap_err();
    ensure(error.to_string().contains("IPv6 is disabled"), || error.to_string())
}
