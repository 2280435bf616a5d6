//! Asking the kernel how it would route.

use overlay_netlink::{Hop, Nexthop, NexthopId, Route, RouteKind, RouteQuery, Rule, Via};
use overlay_wire::IpVersion;

use crate::world::{UPLINK, furnished, has_iproute2, shell};
use crate::{Case, Outcome, ensure, ip, net, same};

pub(crate) const CASES: [Case; 3] = [
    ("lookups::routes", routes),
    ("lookups::unreachable", unreachable),
    ("lookups::the_printed_query_runs", the_printed_query_runs),
];

fn routes() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    let gateway = Hop::onlink(ip("192.0.2.9"), UPLINK);
    socket.add(&Nexthop::new(NexthopId(7), gateway.clone()))?;
    socket.add(&Route::to(net("10.1.0.0/16")).hop(gateway))?;
    socket.add(&Route::to(net("10.1.2.0/24")).nexthop(NexthopId(7)))?;
    socket.add(&Route::to(net("fd01::/64")).hop(Hop::via(ip("fd00::9"))))?;
    socket.add(&Route::to(net("10.1.0.0/16")).hop(Hop::via(ip("10.0.0.8"))).table(100_000))?;
    let mut marked = Rule::lookup(IpVersion::V4, 100_000).priority(5);
    marked.fwmark = Some((8, 0xff));
    socket.add(&marked)?;

    let mut gateway_to = |query: &RouteQuery| -> Result<_, libtest_mimic::Failed> {
        let route = socket.route(query)?;
        match route.via {
            Via::Hop(hop) => {
                same(hop.dev, Some(UPLINK), "device")?;
                Ok((hop.gateway, route.table))
            }
            other => crate::fail(format!("{other:?}")),
        }
    };
    let to = |text| RouteQuery::to(ip(text));
    same(gateway_to(&to("10.1.0.1"))?, (Some(ip("192.0.2.9")), 254), "main table")?;
    same(gateway_to(&to("fd01::1"))?, (Some(ip("fd00::9")), 254), "IPv6")?;
    same(gateway_to(&to("10.0.0.77"))?, (None, 254), "on the link")?;
    let mut query = to("10.1.0.1");
    query.mark = 8;
    same(gateway_to(&query)?, (Some(ip("10.0.0.8")), 100_000), "by mark")?;
    query.src = Some(ip("10.0.0.1"));
    query.oif = Some(UPLINK);
    same(gateway_to(&query)?.0, Some(ip("10.0.0.8")), "with source and device")?;

    let local = socket.route(&to("10.0.0.1"))?;
    same((local.kind, local.table), (RouteKind::Local, 255), "this host")?;
    query.src = Some(ip("fd00::1"));
    ensure(socket.route(&query).is_err(), || "two families in one query".to_owned())
}

fn unreachable() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    for text in ["198.51.100.1", "fd99::1"] {
        let error = socket.route(&RouteQuery::to(ip(text))).unwrap_err();
        same(error.errno(), Some(libc::ENETUNREACH), text)?;
        ensure(error.to_string().starts_with("ip route get"), || error.to_string())?;
    }
    Ok(())
}

fn the_printed_query_runs() -> Outcome {
    if !has_iproute2("lookups::the_printed_query_runs")? {
        return Ok(());
    }
    let (host, _socket) = furnished("a")?;
    let mut query = RouteQuery::to(ip("10.0.0.77"));
    query.src = Some(ip("10.0.0.1"));
    query.oif = Some(UPLINK);
    query.mark = 8;
    let answer = shell(&host, &query.command())?;
    ensure(answer.contains("dev uplink"), || answer)
}
