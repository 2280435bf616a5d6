//! Hearing of changes.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use overlay_lab::Host;
use overlay_netlink::{
    Address, Batch, Bridge, Change, Event, Fdb, Groups, Hop, Ifindex, Link, LinkKind, Miss,
    Monitor, Neighbour, Nexthop, NexthopId, Protocol, Route, RouteKind, Rule, Socket, Verb, Vxlan,
};
use overlay_wire::{IpVersion, MacAddr, Vni};
use socket2::SockRef;

use crate::world::{BRIDGE, UPLINK, VXLAN, bare, furnished};
use crate::{Case, Outcome, ensure, fail, ip, mac, name, net, same};

pub(crate) const CASES: [Case; 7] = [
    ("monitors::every_kind", every_kind),
    ("monitors::only_the_groups_asked_for", only_the_groups_asked_for),
    ("monitors::misses_of_mac_addresses", misses_of_mac_addresses),
    ("monitors::misses_of_vxlan_neighbours", misses_of_vxlan_neighbours),
    ("monitors::misses_by_app_solicit", misses_by_app_solicit),
    ("monitors::an_overrun_is_an_event", an_overrun_is_an_event),
    ("monitors::time_runs_out", time_runs_out),
];

const SOON: Duration = Duration::from_secs(5);

/// The first event that `wanted` takes.
pub(crate) fn wait<T>(
    monitor: &mut Monitor,
    what: &str,
    mut wanted: impl FnMut(&Event) -> Option<T>,
) -> Result<T, Failed> {
    let deadline = Instant::now() + SOON;
    let mut seen = Vec::new();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let Some(event) = monitor.next(Some(left))? else { break };
        match wanted(&event) {
            Some(found) => return Ok(found),
            None => seen.push(event),
        }
    }
    fail(format!("no event: {what}, only {seen:?}"))
}

fn appears(monitor: &mut Monitor, expected: &Event) -> Outcome {
    wait(monitor, &format!("{expected:?}"), |event| (event == expected).then_some(()))
}

fn every_kind() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let mut monitor = Monitor::open_in(host.namespace(), Groups::ALL)?;
    let bridge = Link::new(name("br9"), LinkKind::Bridge(Bridge::default()));
    let both = [Change::New, Change::Gone];

    socket.add(&bridge)?;
    let link = socket.link(&name("br9"))?;
    socket.delete(&bridge)?;
    for change in both {
        wait(&mut monitor, "a device", |event| match event {
            Event::Link(found, l) if *found == change && l.index == link.index => Some(()),
            _ => None,
        })?;
    }
    for text in ["10.7.0.1/24", "fd07::1/64"] {
        let mut address = Address::new(net(text), UPLINK).nodad();
        address.noprefixroute = true;
        for change in both {
            // One at a time: an IPv6 address that does not last is never announced.
            let verb = if change == Change::New { Verb::Add } else { Verb::Delete };
            socket.request(verb, &address)?;
            wait(&mut monitor, "an address", |event| match event {
                Event::Address(found, a) if *found == change && a.net == address.net => Some(()),
                _ => None,
            })?;
        }
    }
    for text in ["10.0.0.9", "fd00::9"] {
        let neighbour = Neighbour::permanent(ip(text), mac(1), UPLINK).protocol(Protocol(79));
        socket.add(&neighbour)?;
        appears(&mut monitor, &Event::Neighbour(Change::New, neighbour.clone()))?;
        socket.delete(&neighbour)?;
        wait(&mut monitor, "a neighbour gone", |event| match event {
            Event::Neighbour(_, n) if n.dst == neighbour.dst => Some(()),
            _ => None,
        })?;
    }
    let entry = Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN);
    socket.add(&entry)?;
    socket.delete(&entry)?;
    appears(&mut monitor, &Event::Fdb(Change::New, entry.clone()))?;
    appears(&mut monitor, &Event::Fdb(Change::Gone, entry))?;

    for text in ["10.8.0.0/16", "fd08::/64"] {
        let route = Route::to(net(text)).hop(Hop::dev(UPLINK)).table(100_000).metric(3);
        socket.add(&route)?;
        socket.delete(&route)?;
        appears(&mut monitor, &Event::Route(Change::New, route.clone()))?;
        appears(&mut monitor, &Event::Route(Change::Gone, route))?;
    }
    for version in IpVersion::ALL {
        let rule = Rule::lookup(version, 100_000).priority(9).protocol(Protocol(79));
        socket.add(&rule)?;
        socket.delete(&rule)?;
        appears(&mut monitor, &Event::Rule(Change::New, Box::new(rule.clone())))?;
        appears(&mut monitor, &Event::Rule(Change::Gone, Box::new(rule)))?;
    }
    let nexthop = Nexthop::new(NexthopId(5), Hop::onlink(ip("192.0.2.9"), UPLINK));
    socket.add(&nexthop)?;
    socket.delete(&nexthop)?;
    appears(&mut monitor, &Event::Nexthop(Change::New, nexthop.clone()))?;
    appears(&mut monitor, &Event::Nexthop(Change::Gone, nexthop))?;
    same(monitor.try_next()?, None, "nothing more")
}

fn only_the_groups_asked_for() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let mut monitor = Monitor::open_in(host.namespace(), Groups::RULE | Groups::NEXTHOP)?;
    socket.add(&Route::drop(RouteKind::Blackhole, net("10.8.0.0/16")))?;
    socket.add(&Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN))?;
    let nexthop = Nexthop::blackhole(NexthopId(5), IpVersion::V4);
    socket.add(&nexthop)?;
    same(monitor.next(Some(SOON))?, Some(Event::Nexthop(Change::New, nexthop)), "the first")
}

/// A VXLAN device that asks, with an address on it.
fn asking(host: &str, set: impl Fn(&mut Vxlan)) -> Result<(Host, Socket, Ifindex), Failed> {
    let (host, mut socket) = bare(host)?;
    let mut vxlan = Vxlan::new(Vni::new(7)?);
    vxlan.port = Some(4789);
    vxlan.learning = Some(false);
    set(&mut vxlan);
    let link = Link::new(name("vx"), LinkKind::Vxlan(Box::new(vxlan))).address(mac(0xc0));
    socket.add(&link.up())?;
    let dev = socket.link(&name("vx"))?.index.unwrap_or_default();
    socket.add(&Address::new(net("10.5.0.1/24"), dev))?;
    socket.add(&Address::new(net("fd05::1/64"), dev).nodad())?;
    Ok((host, socket, dev))
}

fn send(host: &Host, to: &str) -> Outcome {
    host.run(|| -> Outcome {
        let from = if ip(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        // Whether it arrives does not matter.
        let _ = UdpSocket::bind(from)?.send_to(b"knock", (ip(to), 9));
        Ok(())
    })
}

fn misses_of_mac_addresses() -> Outcome {
    let (host, mut socket, dev) = asking("a", |vxlan| vxlan.l2miss = Some(true))?;
    let mut monitor = Monitor::open_in(host.namespace(), Groups::NEIGHBOUR)?;
    let unknown = MacAddr([2, 9, 9, 9, 9, 9]);
    for to in ["10.5.0.2", "fd05::2"] {
        socket.add(&Neighbour::permanent(ip(to), unknown, dev))?;
        send(&host, to)?;
        let miss = wait(&mut monitor, "a miss", |event| match event {
            Event::Miss(miss @ Miss::L2 { .. }) => Some(*miss),
            _ => None,
        })?;
        let Miss::L2 { dev: asks, lladdr, .. } = miss else { unreachable!() };
        same((asks, lladdr), (dev, unknown), "who asks for what")?;
    }
    Ok(())
}

/// The device asks for those whom others look for through a bridge. For this host's own packets
/// the neighbour table already has an entry, though an incomplete one, and it does not ask.
fn misses_of_vxlan_neighbours() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let mut vxlan = Vxlan::new(Vni::new(7)?);
    vxlan.port = Some(4795);
    vxlan.l3miss = Some(true);
    vxlan.proxy = Some(true);
    let link = Link::new(name("vx"), LinkKind::Vxlan(Box::new(vxlan))).address(mac(0xc7));
    socket.add(&link.up().master(BRIDGE))?;
    socket.change(&Link::named(name("far")).master(BRIDGE))?;
    let dev = socket.link(&name("vx"))?.index.unwrap_or_default();
    host.wait_running("br0")?;
    let mut monitor = Monitor::open_in(host.namespace(), Groups::NEIGHBOUR)?;
    l3_miss(&host, &mut monitor, "10.0.0.77", dev)
}

fn misses_by_app_solicit() -> Outcome {
    let (host, _socket, dev) = asking("a", |_| {})?;
    for (family, to) in [("ipv4", "10.5.0.2"), ("ipv6", "fd05::2")] {
        host.sysctl(&format!("net.{family}.neigh.vx.app_solicit"), 3)?;
        let mut monitor = Monitor::open_in(host.namespace(), Groups::NEIGHBOUR)?;
        l3_miss(&host, &mut monitor, to, dev)?;
    }
    Ok(())
}

fn l3_miss(host: &Host, monitor: &mut Monitor, to: &str, dev: Ifindex) -> Outcome {
    send(host, to)?;
    wait(monitor, "a miss", |event| match event {
        Event::Miss(Miss::L3 { dev: asks, dst, .. }) if *asks == dev && *dst == ip(to) => Some(()),
        _ => None,
    })
}

fn an_overrun_is_an_event() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let mut monitor = Monitor::open_in(host.namespace(), Groups::NEIGHBOUR)?;
    SockRef::from(&monitor).set_recv_buffer_size(1)?;
    for round in 0..3u8 {
        let mut batch = Batch::new();
        for number in 0..500u16 {
            let [high, low] = number.to_be_bytes();
            let entry = Fdb::remote(MacAddr([2, round, 1, 1, high, low]), ip("10.0.0.9"), VXLAN);
            batch.push(Verb::Add, &entry)?;
        }
        socket.execute(&mut batch)?.into_result()?;
        let mut heard = 0;
        let overruns = std::iter::from_fn(|| monitor.try_next().transpose())
            .inspect(|_| heard += 1)
            .filter(|event| matches!(event, Ok(Event::Overrun)))
            .count();
        ensure((1..500).contains(&heard), || format!("heard {heard}"))?;
        same(overruns, 1, "overruns")?;
        // It goes on.
        let last = Fdb::remote(MacAddr([2, round, 2, 2, 2, 2]), ip("10.0.0.9"), VXLAN);
        socket.add(&last)?;
        appears(&mut monitor, &Event::Fdb(Change::New, last))?;
    }
    Ok(())
}

fn time_runs_out() -> Outcome {
    let (host, _socket) = bare("a")?;
    let mut monitor = Monitor::open_in(host.namespace(), Groups::RULE)?;
    let start = Instant::now();
    same(monitor.next(Some(Duration::from_millis(50)))?, None, "an event")?;
    ensure(start.elapsed() >= Duration::from_millis(50), || "too early".to_owned())?;
    same(monitor.next(Some(Duration::ZERO))?, None, "an event")
}
