//! Operations in a small world, so that they get in each other's way.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_netlink::{
    Address, Bridge, Df, Fdb, Hop, IfName, Ifindex, Link, LinkKind, Neighbour, NeighbourFlags,
    NeighbourState, Nexthop, NexthopId, Object, Protocol, Request, Route, RouteKind, Rule,
    RuleAction, Scope, Verb, VethPeer, Vxlan, WeightedHop, table,
};
use overlay_wire::{IpVersion, MacAddr, Vni};

use crate::random::Random;

/// A request with devices by name, since the two kernels number them on their own.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) request: Request<IfName>,
    /// A change of the device with this name, found by its number.
    pub(crate) by_number: Option<IfName>,
}

impl Operation {
    fn new(verb: Verb, object: impl Into<Object<IfName>>) -> Self {
        Self { request: Request::new(verb, object), by_number: None }
    }

    /// The request in the numbers of one kernel.
    pub(crate) fn numbered(&self, mut number: impl FnMut(&IfName) -> Ifindex) -> Request {
        let by_number = self.by_number.map(|name| number(&name));
        let object = self.request.object.try_map_dev(&mut |name| Ok::<_, ()>(number(&name)));
        let mut object = object.expect("the closure gives no error");
        if let Object::Link(link) = &mut object {
            link.index = by_number;
        }
        Request::new(self.request.verb, object)
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by_number {
            Some(name) => write!(f, "{} [{name}]", self.request),
            None => self.request.fmt(f),
        }
    }
}

fn name(text: &str) -> IfName {
    text.parse().expect("a device name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

const PROTOCOL: Protocol = Protocol(80);

fn device(random: &mut Random) -> IfName {
    name(random.of(&["e0", "e0", "e1", "vx", "vx", "vx", "vy", "br", "none"]))
}

fn cable(end: &str, other: &str, numbers: [u8; 2]) -> Operation {
    let mut peer = VethPeer::new(name(other));
    peer.address = Some(mac(numbers[1]));
    let link = Link::new(name(end), LinkKind::Veth(Some(Box::new(peer)))).address(mac(numbers[0]));
    Operation::new(Verb::Add, link)
}

/// What every case starts with: two cables, an address of each family on the first, and a VXLAN
/// device with the things of an overlay.
pub(crate) fn beginning() -> Vec<Operation> {
    let mut operations = vec![cable("e0", "p0", [1, 2]), cable("e1", "p1", [3, 4])];
    for end in ["p0", "e0", "p1", "e1"] {
        operations.push(Operation::new(Verb::Change, Link::named(name(end)).up()));
    }
    for text in ["10.0.0.1/24", "fd00::1/64"] {
        let address = Address::new(net(text), name("e0")).nodad();
        operations.push(Operation::new(Verb::Add, address));
    }
    let mut vxlan = Vxlan::new(Vni::new(1).expect("a VNI"));
    vxlan.dev = Some(name("e0"));
    vxlan.local = Some(ip("10.0.0.1"));
    let link = Link::new(name("vx"), LinkKind::Vxlan(Box::new(vxlan))).address(mac(9)).up();
    operations.push(Operation::new(Verb::Add, link));
    for text in ["10.9.0.0/32", "fd09::/128"] {
        let address = Address::new(net(text), name("vx")).nodad();
        operations.push(Operation::new(Verb::Add, address));
    }
    operations
}

pub(crate) fn any(random: &mut Random) -> Operation {
    match random.below(100) {
        0..20 => link(random),
        20..35 => address(random),
        35..45 => fdb(random),
        45..57 => neighbour(random),
        57..70 => nexthop(random),
        70..94 => route(random),
        _ => rule(random),
    }
}

/// Adds weigh as much as deletions, and the rest together as much as one of them.
fn verb(random: &mut Random) -> Verb {
    random.of(&[
        Verb::Add,
        Verb::Add,
        Verb::Replace,
        Verb::Replace,
        Verb::Replace,
        Verb::Delete,
        Verb::Delete,
        Verb::Change,
        Verb::Append,
    ])
}

fn vxlan(random: &mut Random) -> Vxlan<IfName> {
    let mut vxlan = Vxlan::new(Vni::new(random.of(&[1, 2])).expect("a VNI"));
    if random.one_in(6) {
        vxlan = Vxlan::external();
    }
    vxlan.dev = random.of(&[None, Some(name("e0")), Some(name("e0")), Some(name("e1"))]);
    vxlan.local = random.of(&[None, Some(ip("10.0.0.1")), Some(ip("fd00::1"))]);
    vxlan.port = random.of(&[None, Some(8472), Some(4789)]);
    if random.one_in(8) {
        vxlan.group =
            random.of(&[Some(ip("10.0.0.77")), Some(ip("fd00::77")), Some(ip("239.1.1.1"))]);
    }
    for _ in 0..random.below(3) {
        tune(random, &mut vxlan);
    }
    vxlan
}

/// Sets one attribute that does not decide what the device is.
fn tune(random: &mut Random, vxlan: &mut Vxlan<IfName>) {
    let on = Some(random.one_in(2));
    match random.below(19) {
        0 => vxlan.learning = on,
        1 => vxlan.ageing = Some(random.of(&[0, 100, 300])),
        2 => vxlan.limit = Some(random.of(&[0, 2])),
        3 => vxlan.ttl = Some(random.of(&[0, 5])),
        4 => vxlan.tos = Some(random.of(&[0, 1, 4])),
        5 => vxlan.df = Some(random.of(&[Df::Unset, Df::Set, Df::Inherit])),
        6 => vxlan.label = Some(random.of(&[0, 7])),
        7 => vxlan.proxy = on,
        8 => vxlan.l2miss = on,
        9 => vxlan.l3miss = on,
        10 => vxlan.rsc = on,
        11 => vxlan.udp_csum = on,
        12 => vxlan.udp6_zero_csum_tx = on,
        13 => vxlan.udp6_zero_csum_rx = on,
        14 => vxlan.localbypass = on,
        15 => vxlan.source_ports = Some(random.of(&[(0, 0), (1000, 2000), (9, 3)])),
        16 => vxlan.gbp = true,
        17 => vxlan.rem_csum_rx = on,
        _ => vxlan.ttl_inherit = true,
    }
}

fn unset() -> Vxlan<IfName> {
    let mut vxlan = Vxlan::external();
    vxlan.external = false;
    vxlan
}

fn link(random: &mut Random) -> Operation {
    let of = device(random);
    match random.below(16) {
        0..3 => {
            let mut link =
                Link::new(name(random.of(&["vx", "vy"])), LinkKind::Vxlan(Box::new(vxlan(random))))
                    .address(random.of(&[mac(9), mac(10), mac(10), MacAddr([1, 0, 0, 0, 0, 1])]));
            link.mtu = random.of(&[None, None, Some(1200), Some(1400), Some(9000), Some(60)]);
            link.up = random.of(&[None, Some(true)]);
            if random.one_in(4) {
                link.alias = Some("new".to_owned());
            }
            Operation::new(Verb::Add, link)
        }
        3 => {
            let mut link =
                Link::new(name("br"), LinkKind::Bridge(Bridge::default())).address(mac(20));
            link.up = random.of(&[None, Some(true)]);
            Operation::new(Verb::Add, link)
        }
        4 => random.of(&[cable("e0", "p0", [1, 2]), cable("e1", "p1", [3, 4])]),
        5 => {
            let of = random.of(&["vx", "vy", "vx", "vy", "br", "e1", "p0", "lo", "none"]);
            Operation::new(Verb::Delete, Link::named(name(of)))
        }
        6 | 7 => Operation::new(Verb::Change, Link::named(of).up()),
        8 => Operation::new(Verb::Change, Link::named(of).down()),
        9 => {
            let address = random.of(&[mac(9), mac(11), MacAddr::ZERO]);
            Operation::new(Verb::Change, Link::named(of).address(address))
        }
        10 => {
            let mtu = random.of(&[60, 1200, 1280, 1400, 1450, 1500, 9000, 70_000]);
            Operation::new(Verb::Change, Link::named(of).mtu(mtu))
        }
        11 => {
            let to = random.of(&["vx", "vy", "vz"]);
            let mut operation = Operation::new(Verb::Change, Link::named(name(to)));
            operation.by_number = Some(name(random.of(&["vx", "vy", "vz"])));
            operation
        }
        12 => {
            let alias = random.of(&["one", "two words", ""]);
            Operation::new(Verb::Change, Link::named(of).alias(alias))
        }
        13 if random.one_in(2) => {
            // Only devices with a MAC address of their own, which a bridge of its own keeps.
            let of = name(random.of(&["vx", "vy", "e1"]));
            Operation::new(Verb::Change, Link::named(of).master(name("br")))
        }
        _ => {
            let mut change = unset();
            match random.below(7) {
                6 => change.group = Some(ip(random.of(&["10.0.0.77", "10.0.0.78", "fd00::77"]))),
                0 => change.local = Some(ip(random.of(&["10.0.0.1", "10.0.0.9", "fd00::1"]))),
                1 => change.dev = Some(name(random.of(&["e0", "e1"]))),
                2 => change.id = Vni::new(random.of(&[1, 2])).ok(),
                3 => change.port = Some(random.of(&[4789, 8472])),
                _ => tune(random, &mut change),
            }
            let mut link = Link::new(
                name(random.of(&["vx", "vx", "vy", "e0"])),
                LinkKind::Vxlan(Box::new(change)),
            );
            link.mtu = random.of(&[None, None, None, Some(1400)]);
            Operation::new(Verb::Change, link)
        }
    }
}

fn address(random: &mut Random) -> Operation {
    let net = net(random.of(&[
        "10.9.0.0/32",
        "10.9.0.1/32",
        "10.9.0.1/24",
        "10.9.0.5/24",
        "10.0.0.1/24",
        "fd09::/128",
        "fd09::1/128",
        "fd09::1/64",
        "fd09::5/64",
        "fd00::1/64",
    ]));
    let mut address = Address::new(net, device(random)).nodad();
    address.noprefixroute = random.one_in(6);
    address.protocol = random.of(&[Protocol::UNSPEC, PROTOCOL]);
    if random.one_in(10) {
        address.scope = Scope::LINK;
    }
    Operation::new(verb(random), address)
}

fn fdb(random: &mut Random) -> Operation {
    // The entries of other devices are mixed with the kernel's own.
    let dev = name(random.of(&["vx", "vx", "vy"]));
    let lladdr = random.of(&[mac(30), mac(31), mac(31), MacAddr::ZERO, MacAddr([1; 6])]);
    let dst = ip(random.of(&["10.0.0.2", "10.0.0.2", "10.0.0.3", "fd00::2"]));
    let mut fdb = Fdb::remote(lladdr, dst, dev);
    match random.below(12) {
        0 => fdb.dst = None,
        1 => fdb.port = Some(random.of(&[8472, 9999])),
        2 => fdb.vni = Vni::new(random.of(&[1, 7])).ok(),
        3 => fdb.via = Some(name(random.of(&["e0", "none"]))),
        4 => fdb.state = random.of(&[NeighbourState::REACHABLE, NeighbourState::STALE]),
        5 => fdb.flags = NeighbourFlags::SELF | NeighbourFlags::EXT_LEARNED,
        _ => {}
    }
    Operation::new(verb(random), fdb)
}

fn neighbour(random: &mut Random) -> Operation {
    // Not the remotes of FDB entries: the kernel itself looks for those.
    let dst = ip(random.of(&["10.9.0.2", "10.9.0.3", "10.0.0.4", "fd09::2", "fd09::3", "fd00::4"]));
    let dev = device(random);
    let mut neighbour = match random.one_in(8) {
        true => Neighbour::proxy(dst, dev),
        false => Neighbour::permanent(dst, random.of(&[mac(30), mac(31)]), dev),
    };
    neighbour.protocol = random.of(&[Protocol::UNSPEC, PROTOCOL, PROTOCOL]);
    // Without a MAC address the kernel refuses it but keeps an empty entry, for as long as its
    // garbage collection likes: left out.
    if random.one_in(12) {
        neighbour.flags = neighbour.flags | NeighbourFlags::ROUTER;
    }
    Operation::new(verb(random), neighbour)
}

fn hop(random: &mut Random, ipv6: bool) -> Hop<IfName> {
    let gateways: &[&str] = if ipv6 {
        &["fd09::2", "fd00::2", "fd00::3", "fd09::", "fd50::2", "fe80::2", "fd00::1", "ff02::1"]
    } else {
        &["10.9.0.2", "10.0.0.2", "10.0.0.3", "10.9.0.0", "10.50.0.2", "10.0.0.255", "10.0.0.1"]
    };
    let gateway = ip(random.of(gateways));
    match random.below(8) {
        0 => Hop::via(gateway),
        1 => Hop::dev(device(random)),
        2 => {
            let mut hop = Hop::via(gateway);
            hop.dev = Some(device(random));
            hop
        }
        3 if random.one_in(4) => {
            let mut hop = Hop::dev(device(random));
            hop.onlink = true;
            hop
        }
        _ => Hop::onlink(gateway, device(random)),
    }
}

fn nexthop(random: &mut Random) -> Operation {
    let id = NexthopId(random.below(4) as u32 + 1);
    let ipv6 = random.one_in(2);
    let nexthop = match random.below(10) {
        0 => Nexthop::blackhole(id, random.of(&IpVersion::ALL)),
        1 => {
            let count = random.below(3);
            let members = (0..count)
                .map(|_| (NexthopId(random.below(4) as u32 + 1), random.of(&[1, 3])))
                .collect();
            Nexthop::group(NexthopId(random.of(&[4, 5])), members)
        }
        _ => Nexthop::new(id, hop(random, ipv6)),
    };
    Operation::new(verb(random), nexthop.protocol(random.of(&[PROTOCOL, Protocol::STATIC])))
}

fn route(random: &mut Random) -> Operation {
    let ipv6 = random.one_in(2);
    let nets: &[&str] = if ipv6 {
        &["fd50::/64", "fd50::/64", "fd51::/32", "fd09::/64", "::/0", "fd09::2/128"]
    } else {
        &["10.50.0.0/24", "10.50.0.0/24", "10.51.0.0/16", "10.9.0.0/24", "0.0.0.0/0", "10.9.0.2/32"]
    };
    let mut route = Route::to(net(random.of(nets)));
    route = match random.below(12) {
        0 => {
            let kinds = [
                RouteKind::Blackhole,
                RouteKind::Unreachable,
                RouteKind::Throw,
                RouteKind::Prohibit,
            ];
            Route::drop(random.of(&kinds), route.dst)
        }
        1..5 => route.nexthop(NexthopId(random.below(5) as u32 + 1)),
        5 if random.one_in(2) => {
            let hops = (0..2).map(|_| WeightedHop { hop: hop(random, ipv6), weight: 1 }).collect();
            route.multipath(hops)
        }
        _ => route.hop(hop(random, ipv6)),
    };
    route = route
        .protocol(random.of(&[PROTOCOL, PROTOCOL, PROTOCOL, Protocol::STATIC]))
        .table(random.of(&[table::MAIN, table::MAIN, table::MAIN, 100, 1000]));
    if random.one_in(4) {
        route = route.metric(random.of(&[0, 10, 1024]));
    }
    if random.one_in(6) {
        route = route.mtu(random.of(&[1300, 1400]));
        route.mtu_lock = random.one_in(2);
    }
    if random.one_in(6) {
        let sources: &[&str] =
            if ipv6 { &["fd00::1", "fd09::", "fd09::1"] } else { &["10.0.0.1", "10.9.0.0"] };
        route = route.src(ip(random.of(sources)));
    }
    if !ipv6 && random.one_in(12) {
        route.tos = random.of(&[4, 8, 3]);
    }
    let mut operation = Operation::new(verb(random), route);
    let Object::Route(route) = &mut operation.request.object else { return operation };
    // The kernel finds a route to ::/0 where there is none, and has another errno for it: left out.
    let root = route.dst.prefix_len() == 0;
    if operation.request.verb == Verb::Delete && !root && random.one_in(4) {
        route.protocol = Protocol::UNSPEC;
    }
    operation
}

fn rule(random: &mut Random) -> Operation {
    let family = random.of(&IpVersion::ALL);
    let mut rule = Rule::lookup(family, random.of(&[100, 1000]));
    rule.priority = random.of(&[None, Some(100), Some(200), Some(200)]);
    rule.protocol = random.of(&[PROTOCOL, PROTOCOL, Protocol::UNSPEC]);
    match random.below(10) {
        0 => {
            rule.src = Some(net(if family == IpVersion::V4 { "10.50.0.0/16" } else { "fd50::/16" }))
        }
        1 => {
            rule.dst = Some(net(if family == IpVersion::V4 { "10.9.0.0/24" } else { "fd09::/64" }))
        }
        2 => rule.fwmark = Some((5, 0xff)),
        3 => rule.iif = Some(name("vx")),
        4 => rule.invert = true,
        5 => rule.suppress_prefixlength = Some(0),
        6 => rule.action = random.of(&[RuleAction::Unreachable, RuleAction::Nop]),
        7 => rule.action = RuleAction::Goto(random.of(&[150, 32_766])),
        _ => {}
    }
    Operation::new(random.of(&[Verb::Add, Verb::Delete]), rule)
}
