//! The cascades and the failures, without a real kernel. What is asserted here was seen there.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_netlink::{
    Address, Bridge, Error, Fdb, Hop, IfName, Ifindex, Link, LinkKind, Neighbour, Nexthop,
    NexthopId, Object, Protocol, Request, Route, RouteKind, Rule, Verb, VethPeer, Vxlan,
};
use overlay_wire::{IpVersion, MacAddr, Vni};

use crate::{Fault, Kernel, Listing, MemoryKernel};

const PROTOCOL: Protocol = Protocol(80);
const FAMILIES: [IpVersion; 2] = IpVersion::ALL;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

/// The one of the family.
fn of<T>(family: IpVersion, ipv4: T, ipv6: T) -> T {
    match family {
        IpVersion::V4 => ipv4,
        IpVersion::V6 => ipv6,
    }
}

fn vxlan(under: Option<Ifindex>) -> Link {
    let mut vxlan = Vxlan::new(Vni::new(1).unwrap());
    vxlan.dev = under;
    vxlan.local = under.map(|_| ip("10.0.0.1"));
    Link::new(name("vx"), LinkKind::Vxlan(Box::new(vxlan))).address(mac(9)).up()
}

struct World {
    kernel: MemoryKernel,
    under: Ifindex,
    over: Ifindex,
}

impl World {
    /// An underlay device and a VXLAN device over it, with an address of each family and one peer.
    fn new() -> Self {
        let mut kernel = MemoryKernel::new();
        let cable = LinkKind::Veth(Some(Box::new(VethPeer::new(name("p0")))));
        add(&mut kernel, Link::new(name("e0"), cable).address(mac(1)));
        kernel.set_up("p0", true).unwrap();
        kernel.set_up("e0", true).unwrap();
        let under = kernel.ifindex("e0").unwrap();
        add(&mut kernel, Address::new(net("10.0.0.1/24"), under));
        add(&mut kernel, Address::new(net("fd00::1/64"), under).nodad());
        add(&mut kernel, vxlan(Some(under)));
        let over = kernel.ifindex("vx").unwrap();
        let mut world = Self { kernel, under, over };
        world.add(Fdb::remote(mac(2), ip("10.0.0.2"), over));
        for family in FAMILIES {
            let own = of(family, "10.9.1.0/32", "fd09:1::/128");
            let gateway = ip(of(family, "10.9.2.0", "fd09:2::"));
            let block = net(of(family, "10.9.2.0/24", "fd09:2::/64"));
            world.add(Address::new(net(own), over).nodad());
            world.add(Neighbour::permanent(gateway, mac(2), over).protocol(PROTOCOL));
            world.add(Route::to(block).hop(Hop::onlink(gateway, over)).protocol(PROTOCOL));
            let id = NexthopId(of(family, 4, 6));
            world.add(Nexthop::new(id, Hop::onlink(gateway, over)).protocol(PROTOCOL));
            let block = net(of(family, "10.9.3.0/24", "fd09:3::/64"));
            world.add(Route::to(block).nexthop(id).protocol(PROTOCOL));
            world.add(Rule::lookup(family, 100).priority(100).protocol(PROTOCOL));
        }
        world
    }

    fn add(&mut self, object: impl Into<Object>) {
        add(&mut self.kernel, object);
    }

    fn errno(&mut self, verb: Verb, object: impl Into<Object>) -> i32 {
        errno(&mut self.kernel, verb, object)
    }

    /// How many there are of: addresses on the VXLAN device, FDB entries, neighbours, nexthop
    /// objects, routes and rules.
    fn counts(&mut self) -> [usize; 6] {
        [
            self.kernel.addresses(Some(self.over)).map_or(0, |all| all.len()),
            self.kernel.fdb(self.over).unwrap().len(),
            self.kernel.neighbours(Some(self.over)).unwrap().len(),
            self.kernel.nexthops().unwrap().len(),
            self.kernel.routes(PROTOCOL).unwrap().len(),
            self.kernel.rules(PROTOCOL).unwrap().len(),
        ]
    }
}

fn add(kernel: &mut MemoryKernel, object: impl Into<Object>) {
    kernel.apply(&Request::new(Verb::Add, object)).unwrap();
}

/// Zero for success.
fn errno(kernel: &mut MemoryKernel, verb: Verb, object: impl Into<Object>) -> i32 {
    match kernel.apply(&Request::new(verb, object)) {
        Ok(()) => 0,
        Err(error) => error.errno().unwrap(),
    }
}

#[test]
fn a_flap_takes_routes_neighbours_nexthops_and_ipv6_addresses() {
    let mut world = World::new();
    // The addresses count the link-local one.
    assert_eq!(world.counts(), [3, 1, 2, 2, 4, 2]);
    world.kernel.flap("vx").unwrap();
    assert_eq!(world.counts(), [2, 1, 0, 0, 0, 2]);
    let kept = world.kernel.addresses(Some(world.over)).unwrap();
    assert_eq!(kept[0].net, net("10.9.1.0/32"));
}

#[test]
fn ipv6_leaves_a_device_with_a_small_mtu() {
    let mut world = World::new();
    let small = Link::named(name("vx")).mtu(1200);
    assert_eq!(world.errno(Verb::Change, small), 0);
    // Routes by way of nexthop objects stay, as do the objects.
    assert_eq!(world.counts(), [1, 1, 1, 2, 3, 2]);
    let address = Address::new(net("fd09:1::/128"), world.over);
    assert_eq!(world.errno(Verb::Add, address), 22);
}

#[test]
fn a_mac_address_takes_the_neighbours_even_when_it_is_the_same() {
    let mut world = World::new();
    assert_eq!(world.errno(Verb::Change, Link::named(name("vx")).address(mac(9))), 0);
    assert_eq!(world.counts(), [3, 1, 0, 2, 4, 2]);
}

#[test]
fn a_deleted_device_takes_all_that_is_on_it() {
    // With the underlay device goes the VXLAN device, with a cable's end the other one.
    for gone in ["vx", "e0", "p0"] {
        let mut world = World::new();
        assert_eq!(world.errno(Verb::Delete, Link::named(name(gone))), 0);
        assert_eq!(world.counts(), [0, 0, 0, 0, 0, 2], "{gone}");
        let left = world.kernel.links().unwrap().len();
        assert_eq!(left, if gone == "vx" { 3 } else { 1 }, "{gone}");
    }
}

#[test]
fn the_last_ipv4_address_takes_the_ipv4_routes_and_neighbours() {
    let mut world = World::new();
    let address = Address::new(net("10.9.1.0/32"), world.over);
    assert_eq!(world.errno(Verb::Delete, address), 0);
    assert_eq!(world.counts(), [2, 1, 1, 2, 3, 2]);
}

#[test]
fn a_source_address_takes_ipv4_routes_and_leaves_ipv6_routes() {
    for family in FAMILIES {
        let mut world = World::new();
        let own = net(of(family, "10.9.1.0/32", "fd09:1::/128"));
        let hop = Hop::onlink(ip(of(family, "10.0.0.2", "fd00::2")), world.under);
        let block = net(of(family, "10.8.0.0/24", "fd08::/64"));
        let route = Route::to(block).hop(hop).src(own.addr()).protocol(Protocol(81));
        world.add(route);
        assert_eq!(world.errno(Verb::Delete, Address::new(own, world.over)), 0);
        let left = world.kernel.routes(Protocol(81)).unwrap();
        assert_eq!(left.len(), of(family, 0, 1));
        assert!(left.iter().all(|route| route.src.is_none()));
    }
}

#[test]
fn the_carrier_takes_nexthop_objects_and_their_routes() {
    let mut world = World::new();
    let id = NexthopId(9);
    world.add(Nexthop::new(id, Hop::via(ip("10.0.0.2"))).protocol(PROTOCOL).with_dev(world.under));
    world.add(Route::to(net("10.8.0.0/24")).nexthop(id).protocol(PROTOCOL));
    world.kernel.set_up("p0", false).unwrap();
    assert_eq!(world.counts(), [3, 1, 2, 2, 4, 2]);
}

/// The same nexthop object through a device.
trait WithDev {
    fn with_dev(self, dev: Ifindex) -> Self;
}

impl WithDev for Nexthop {
    fn with_dev(mut self, dev: Ifindex) -> Self {
        if let overlay_netlink::NexthopTarget::Hop(hop) = &mut self.target {
            hop.dev = Some(dev);
        }
        self
    }
}

#[test]
fn somebody_elses_route_is_in_the_way() {
    for family in FAMILIES {
        let mut world = World::new();
        let block = net(of(family, "10.9.2.0/24", "fd09:2::/64"));
        let theirs = Route::drop(RouteKind::Unreachable, block).protocol(Protocol::STATIC);
        assert_eq!(world.errno(Verb::Add, theirs.clone()), 17);
        // The connected route too, where the metric is the same.
        let connected = net(of(family, "10.0.0.0/24", "fd00::/64"));
        let hop = Hop::dev(world.over);
        let route = Route::to(connected).hop(hop).metric(of(family, 0, 256)).protocol(PROTOCOL);
        assert_eq!(world.errno(Verb::Add, route), 17);
        assert_eq!(world.errno(Verb::Replace, theirs.clone()), 0);
        assert_eq!(world.errno(Verb::Delete, theirs.clone().protocol(PROTOCOL)), 3);
        assert_eq!(world.errno(Verb::Delete, theirs), 0);
    }
}

#[test]
fn a_gateway_must_be_within_reach() {
    for family in FAMILIES {
        let mut world = World::new();
        let block = net(of(family, "10.8.0.0/24", "fd08::/64"));
        let far = ip(of(family, "192.0.2.1", "2001:db8::1"));
        assert_eq!(
            world.errno(Verb::Add, Route::to(block).hop(Hop::via(far))),
            of(family, 101, 113)
        );
        let own = ip(of(family, "10.9.1.0", "fd09:1::"));
        let route = Route::to(block).hop(Hop::onlink(own, world.over));
        assert_eq!(world.errno(Verb::Add, route), 22);
        let near = ip(of(family, "10.0.0.2", "fd00::2"));
        world.add(Route::to(block).hop(Hop::via(near)).protocol(Protocol(81)));
        let routes = world.kernel.routes(Protocol(81)).unwrap();
        assert_eq!(routes[0].via, overlay_netlink::Via::Hop(dev(Hop::via(near), world.under)));
        world.kernel.set_up("vx", false).unwrap();
        let route = Route::to(block).hop(Hop::onlink(far, world.over));
        assert_eq!(world.errno(Verb::Replace, route), 100);
    }
}

fn dev(mut hop: Hop, dev: Ifindex) -> Hop {
    hop.dev = Some(dev);
    hop
}

#[test]
fn an_ipv6_gateway_on_link_must_not_be_routed_elsewhere() {
    let mut world = World::new();
    let block = net("fd08::/64");
    let direct = Route::to(block).hop(Hop::via(ip("fd00::2"))).protocol(PROTOCOL);
    world.add(direct.clone());
    let tunnel = Route::to(block).hop(Hop::onlink(ip("fd08::"), world.over)).protocol(PROTOCOL);
    assert_eq!(world.errno(Verb::Replace, tunnel.clone()), 22);
    assert_eq!(world.errno(Verb::Delete, direct), 0);
    assert_eq!(world.errno(Verb::Replace, tunnel), 0);
}

#[test]
fn vxlan_devices_are_told_apart_by_vni_port_and_family() {
    let mut world = World::new();
    let other = |change: fn(&mut Vxlan)| {
        let mut vxlan = Vxlan::new(Vni::new(1).unwrap());
        change(&mut vxlan);
        Link::new(name("vy"), LinkKind::Vxlan(Box::new(vxlan)))
    };
    assert_eq!(world.errno(Verb::Add, other(|_| {})), 17);
    assert_eq!(world.errno(Verb::Add, other(|v| v.dev = Some(Ifindex(99)))), 19);
    let port = other(|v| v.port = Some(4789));
    assert_eq!(world.errno(Verb::Add, port.clone()), 0);
    assert_eq!(world.errno(Verb::Delete, port), 0);
    assert_eq!(world.errno(Verb::Add, other(|v| v.local = Some(ip("fd00::1")))), 0);
    let links = world.kernel.links().unwrap();
    let LinkKind::Vxlan(filled) = &links.last().unwrap().kind else { panic!() };
    assert_eq!((filled.port, filled.ageing, filled.learning), (Some(8472), Some(300), Some(true)));
}

#[test]
fn a_vxlan_device_changes_in_place_in_what_it_can() {
    type Change = fn(&mut Vxlan);
    let changes: [(Change, i32); 10] = [
        (|v| v.ttl = Some(9), 0),
        (|v| v.learning = Some(false), 0),
        (|v| v.ageing = Some(100), 0),
        (|v| v.df = Some(overlay_netlink::Df::Set), 0),
        (|v| v.local = Some(ip("10.0.0.9")), 0),
        (|v| v.id = Vni::new(2).ok(), 95),
        (|v| v.local = Some(ip("fd00::9")), 95),
        // Even to what they are already.
        (|v| v.port = Some(8472), 95),
        (|v| v.udp_csum = Some(true), 95),
        (|v| v.limit = Some(0), 95),
    ];
    for (at, (change, expected)) in changes.into_iter().enumerate() {
        let mut world = World::new();
        let mut asked = Vxlan::unset();
        change(&mut asked);
        let link = Link::new(name("vx"), LinkKind::Vxlan(Box::new(asked)));
        assert_eq!(world.errno(Verb::Change, link.clone()), expected, "{at}");
        assert_eq!(world.errno(Verb::Change, link.mtu(1300)), 95, "with an MTU, {at}");
    }
}

#[test]
fn the_mtu_stays_within_the_underlays() {
    let mut world = World::new();
    assert_eq!(world.kernel.links().unwrap().last().unwrap().mtu, Some(1450));
    assert_eq!(world.errno(Verb::Change, Link::named(name("vx")).mtu(1451)), 22);
    assert_eq!(world.errno(Verb::Delete, Link::named(name("vx"))), 0);
    let large = vxlan(Some(world.under)).mtu(9000);
    assert_eq!(world.errno(Verb::Add, large), 0);
    assert_eq!(world.kernel.links().unwrap().last().unwrap().mtu, Some(1450));
}

#[test]
fn only_group_entries_of_an_fdb_have_several_remotes() {
    let mut world = World::new();
    let (first, second) = (ip("10.0.0.2"), ip("10.0.0.3"));
    let fdb = |mac, dst| Fdb::remote(mac, dst, world.over);
    let (unicast, default) = (fdb(mac(2), second), fdb(MacAddr::ZERO, first));
    assert_eq!(errno(&mut world.kernel, Verb::Append, unicast.clone()), 0);
    assert_eq!(world.kernel.fdb(world.over).unwrap(), [fdb(mac(2), first)]);
    assert_eq!(world.errno(Verb::Replace, unicast.clone()), 0);
    assert_eq!(world.kernel.fdb(world.over).unwrap(), std::slice::from_ref(&unicast));
    assert_eq!(world.errno(Verb::Replace, default.clone()), 95);
    assert_eq!(world.errno(Verb::Append, default), 0);
    let also = Fdb::remote(MacAddr::ZERO, second, world.over);
    assert_eq!(world.errno(Verb::Append, also.clone()), 0);
    assert_eq!(world.kernel.fdb(world.over).unwrap().len(), 3);
    assert_eq!(world.errno(Verb::Delete, also.clone()), 0);
    // The kernel says nothing to a remote that is not there, only to an entry that is not.
    assert_eq!(world.errno(Verb::Delete, also), 0);
    assert_eq!(world.kernel.fdb(world.over).unwrap().len(), 2);
    let absent = Fdb::remote(mac(7), second, world.over);
    assert_eq!(world.errno(Verb::Delete, absent), 2);
    let other_family = Fdb::remote(mac(7), ip("fd00::2"), world.over);
    assert_eq!(world.errno(Verb::Add, other_family), 97);
}

#[test]
fn a_neighbour_keeps_its_owner_unless_another_is_given() {
    let mut world = World::new();
    let dst = ip("10.9.2.0");
    let neighbour = Neighbour::permanent(dst, mac(3), world.over);
    assert_eq!(world.errno(Verb::Add, neighbour.clone()), 17);
    assert_eq!(world.errno(Verb::Replace, neighbour), 0);
    assert_eq!(
        world.kernel.neighbours(Some(world.over)).unwrap()[0],
        Neighbour::permanent(dst, mac(3), world.over).protocol(PROTOCOL)
    );
}

#[test]
fn a_replaced_nexthop_object_moves_its_routes_unless_they_cannot_use_it() {
    let mut world = World::new();
    let to = |gateway: &str| Nexthop::new(NexthopId(6), Hop::onlink(ip(gateway), world.under));
    let (same_family, other) = (to("fd00::9"), to("10.0.0.9"));
    assert_eq!(errno(&mut world.kernel, Verb::Replace, same_family), 0);
    assert_eq!(errno(&mut world.kernel, Verb::Replace, other), 22);
    assert_eq!(world.counts()[4], 4);
    world.kernel.set_up("e0", false).unwrap();
    assert_eq!(world.counts()[4], 3);
}

#[test]
fn a_kernel_can_lack_device_kinds_and_nexthop_objects() {
    let mut kernel = MemoryKernel::new().without_kind("vxlan").without_nexthops();
    assert_eq!(errno(&mut kernel, Verb::Add, vxlan(None)), 95);
    let bridge = Link::new(name("br"), LinkKind::Bridge(Bridge::default()));
    assert_eq!(errno(&mut kernel, Verb::Add, bridge), 0);
    let nexthop = Nexthop::blackhole(NexthopId(1), IpVersion::V4);
    assert_eq!(errno(&mut kernel, Verb::Add, nexthop), 95);
    assert!(kernel.nexthops().unwrap_err().is_unsupported());
}

#[test]
fn equal_histories_give_equal_snapshots_and_foreign_objects_stay() {
    let (mut world, other) = (World::new(), World::new());
    assert_eq!(world.kernel.snapshot(), other.kernel.snapshot());
    let theirs = |world: &World| {
        let mut snapshot = world.kernel.snapshot();
        snapshot.routes.retain(|route| route.protocol != PROTOCOL);
        snapshot.routes
    };
    let before = theirs(&world);
    world.kernel.flap("vx").unwrap();
    // The route to the VXLAN device's IPv6 address is the kernel's and gone with it.
    assert_eq!(theirs(&world).len() + 1, before.len());
}

#[test]
fn failures_strike_once_where_they_are_told() {
    let mut world = World::new();
    let routes: Vec<_> = (0..4)
        .map(|n| {
            let block = net(&format!("10.7.{n}.0/24"));
            let hop = Hop::onlink(ip("10.9.2.0"), world.over);
            Request::new(Verb::Replace, Route::to(block).hop(hop).protocol(PROTOCOL))
        })
        .collect();
    let kernel = &mut world.kernel;
    let is_route = |request: &Request| matches!(request.object, Object::Route(_));
    kernel.inject(Fault::refuse(12).at(is_route).after(1));
    kernel.inject(Fault::time_out().at(is_route).after(6));
    kernel.inject(Fault::interrupt().on(Listing::Routes).after(1));
    assert_eq!(kernel.failures_left(), 3);
    let executed = kernel.execute(&mut routes.clone().into_iter()).unwrap();
    assert_eq!(executed.requests, 4);
    let [(1, error)] = &executed.errors[..] else { panic!("{executed:?}") };
    assert_eq!(
        error.to_string(),
        "ip route replace 10.7.1.0/24 via 10.9.2.0 dev vx onlink proto 80: \
         Cannot allocate memory (os error 12)"
    );
    assert_eq!(kernel.failures_left(), 2);
    let error = kernel.execute(&mut routes.clone().into_iter()).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(kernel.routes(PROTOCOL).unwrap().len(), 4 + 4);
    assert!(matches!(kernel.routes(PROTOCOL), Err(Error::Interrupted { .. })));
    assert_eq!(kernel.failures_left(), 0);
    let counters = kernel.counters();
    assert_eq!((counters.executions, counters.requests, counters.listings), (2, 7, 2));
    assert_eq!((counters.refused, counters.writes()), (2, 5));
    kernel.inject(Fault::lose_answers());
    assert!(matches!(kernel.execute(&mut routes.into_iter()), Err(Error::Overrun { .. })));
}

#[test]
fn somebody_else_is_faster() {
    let mut world = World::new();
    let delete = Request::new(Verb::Delete, Link::named(name("vx")));
    world.kernel.inject(Fault::meanwhile([delete]).on(Listing::Links));
    assert_eq!(world.kernel.links().unwrap().len(), 4);
    assert_eq!(world.kernel.links().unwrap().len(), 3);
    assert!(world.kernel.addresses(Some(world.over)).unwrap_err().is_not_found());
}

#[test]
fn what_netlink_cannot_say_is_refused_before_anything_is_sent() {
    let mut kernel = MemoryKernel::new();
    let rule = Request::new(Verb::Replace, Rule::lookup(IpVersion::V4, 100));
    let executed = kernel.execute(&mut [rule].into_iter()).unwrap();
    assert!(matches!(executed.errors[..], [(0, Error::Invalid { .. })]));
    assert_eq!((executed.requests, executed.sends), (1, 0));
}

#[test]
fn ten_thousand_peers_are_no_burden() {
    let mut world = World::new();
    let over = world.over;
    let mut requests = Vec::new();
    for peer in 0..10_000_u32 {
        let [_, _, a, b] = peer.to_be_bytes();
        let lladdr = MacAddr([2, 1, 0, 0, a, b]);
        let id = NexthopId(1000 + peer);
        let gateway = ip(&format!("fd09::{peer:x}:1"));
        requests.push(Request::new(Verb::Add, Fdb::remote(lladdr, ip("10.0.0.2"), over)));
        requests.push(Request::new(Verb::Add, Neighbour::permanent(gateway, lladdr, over)));
        requests.push(Request::new(Verb::Add, Nexthop::new(id, Hop::onlink(gateway, over))));
        let block = net(&format!("fd10:0:{peer:x}::/64"));
        requests.push(Request::new(Verb::Add, Route::to(block).nexthop(id).protocol(PROTOCOL)));
    }
    let executed = world.kernel.execute(&mut requests.clone().into_iter()).unwrap();
    assert!(executed.errors.is_empty(), "{:?}", executed.errors.first());
    requests.reverse();
    for request in &mut requests {
        request.verb = Verb::Delete;
    }
    let executed = world.kernel.execute(&mut requests.into_iter()).unwrap();
    assert!(executed.errors.is_empty(), "{:?}", executed.errors.first());
    assert_eq!(world.counts(), World::new().counts());
}
