//! Properties of the reconciler on the in-memory kernel: whatever was there before, whatever goes
//! wrong on the way, and whoever else has objects there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_backend::{Fault, Kernel, Listing, MemoryKernel, Owner, Reconciler, Snapshot};
use overlay_netlink::{
    Address, Fdb, Hop, IfName, Ifindex, Link, LinkKind, Neighbour, NeighbourState, Nexthop,
    NexthopId, NexthopTarget, Object, Protocol, Request, Route, RouteKind, Rule, Verb, VethPeer,
    Via, Vxlan,
};
use overlay_wire::{IpVersion, MacAddr, Vni};
use proptest::prelude::*;

const FOREIGN: Protocol = Protocol::STATIC;

fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Which families a test is about.
#[derive(Clone, Copy, Debug)]
struct Families(&'static [IpVersion]);

/// A VXLAN device and what hangs on it, in the terms that vary.
#[derive(Clone, Debug)]
struct Device {
    vni: u32,
    mtu: u32,
    mac: u8,
    ageing: u32,
    addresses: BTreeSet<(IpVersion, u8)>,
}

/// A peer: its MAC address, its place in the underlay, its subnets.
#[derive(Clone, Debug)]
struct Peer {
    mac: u8,
    endpoint: u8,
    device: u8,
    subnets: BTreeMap<(IpVersion, u8), Option<u32>>,
}

/// What is wanted.
#[derive(Clone, Debug)]
struct Wanted {
    devices: BTreeMap<u8, Device>,
    peers: BTreeMap<u8, Peer>,
    blackholes: BTreeSet<(IpVersion, u8)>,
    rules: BTreeSet<(IpVersion, u8)>,
}

fn device_name(device: u8) -> IfName {
    name(&format!("vx{device}"))
}

fn mac(byte: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, byte])
}

fn subnet(version: IpVersion, n: u8) -> IpNet {
    match version {
        IpVersion::V4 => net(&format!("10.1.{n}.0/24")),
        IpVersion::V6 => net(&format!("fd01:{n:x}::/64")),
    }
}

impl Wanted {
    fn groups(&self) -> BTreeMap<String, Vec<Object<IfName>>> {
        let mut groups: BTreeMap<String, Vec<Object<IfName>>> = BTreeMap::new();
        for (at, device) in &self.devices {
            let mut vxlan = Vxlan::new(Vni::new(device.vni).unwrap());
            vxlan.local = Some("192.168.32.245".parse().unwrap());
            vxlan.dev = Some(name("eth0"));
            vxlan.port = Some(8472 + u16::from(*at));
            vxlan.learning = Some(false);
            vxlan.ageing = Some(device.ageing);
            let mut link = Link::new(device_name(*at), LinkKind::Vxlan(Box::new(vxlan)))
                .mtu(device.mtu)
                .address(mac(device.mac));
            link.up = Some(true);
            let group = groups.entry(format!("device {at}")).or_default();
            group.push(link.into());
            for (version, n) in &device.addresses {
                let address = match version {
                    IpVersion::V4 => net(&format!("10.{at}.200.{n}/32")),
                    IpVersion::V6 => net(&format!("fd0a:{at}::{n:x}/128")),
                };
                group.push(Address::new(address, device_name(*at)).nodad().into());
            }
        }
        for (n, peer) in &self.peers {
            let Some(_) = self.devices.get(&peer.device) else { continue };
            let dev = device_name(peer.device);
            let group = groups.entry(format!("peer {n}")).or_default();
            let endpoint: IpAddr = format!("192.168.32.{}", peer.endpoint).parse().unwrap();
            // Keys differ between peers, so that no two want the same.
            let lladdr = MacAddr([2, 0, 0, 0, *n, peer.mac]);
            group.push(Fdb::remote(lladdr, endpoint, dev).into());
            for ((version, s), mtu) in &peer.subnets {
                let dst = subnet(*version, *n * 4 + *s);
                let gateway = match version {
                    IpVersion::V4 => dst.network(),
                    IpVersion::V6 => format!("fe80::{n:x}:{s:x}").parse().unwrap(),
                };
                group.push(Neighbour::permanent(gateway, lladdr, dev).into());
                let mut route = Route::to(dst).hop(Hop::onlink(gateway, dev));
                route.mtu = *mtu;
                group.push(route.into());
            }
        }
        let group = groups.entry("drops".to_owned()).or_default();
        for (version, n) in &self.blackholes {
            let dst = match version {
                IpVersion::V4 => net(&format!("10.2.{n}.0/24")),
                IpVersion::V6 => net(&format!("fd02:{n:x}::/64")),
            };
            group.push(Route::drop(RouteKind::Blackhole, dst).into());
        }
        for (version, n) in &self.rules {
            group.push(Rule::lookup(*version, 1000 + u32::from(*n)).priority(u32::from(*n)).into());
        }
        groups
    }

    fn reconciler(&self, plain: bool) -> Reconciler {
        let mut reconciler = Reconciler::new(Owner::default());
        if plain {
            reconciler = reconciler.without_nexthop_objects();
        }
        self.set_in(&mut reconciler, &BTreeMap::new());
        reconciler
    }

    /// Brings a reconciler that has `before` to this.
    fn set_in(&self, reconciler: &mut Reconciler, before: &BTreeMap<String, Vec<Object<IfName>>>) {
        let groups = self.groups();
        for gone in before.keys().filter(|group| !groups.contains_key(*group)) {
            reconciler.remove(gone);
        }
        for (group, objects) in groups {
            reconciler.set(&group, objects).unwrap();
        }
        reconciler.complete("test");
    }

    /// The commands that make what is wanted, routes with their gateways spelled out.
    fn expected(&self) -> BTreeSet<String> {
        let protocol = Owner::default().protocol();
        let objects = self.groups().into_values().flatten();
        objects
            .filter(|object| !matches!(object, Object::Link(_)))
            .map(|mut object| {
                match &mut object {
                    Object::Address(o) => o.protocol = protocol,
                    Object::Neighbour(o) => o.protocol = protocol,
                    Object::Route(o) => o.protocol = protocol,
                    Object::Rule(o) => o.protocol = protocol,
                    _ => {}
                }
                object.command(Verb::Add)
            })
            .collect()
    }
}

fn families() -> impl Strategy<Value = Families> {
    prop_oneof![
        Just(Families(&[IpVersion::V4])),
        Just(Families(&[IpVersion::V6])),
        Just(Families(&IpVersion::ALL)),
    ]
}

fn wanted(families: Families) -> impl Strategy<Value = Wanted> {
    let version = move || proptest::sample::select(families.0);
    let device = (
        1..4_u32,
        prop_oneof![Just(1450_u32), Just(1430), Just(1300)],
        1..4_u8,
        prop_oneof![Just(300_u32), Just(100)],
        prop::collection::btree_set((version(), 1..3_u8), 0..3),
    )
        .prop_map(|(vni, mtu, mac, ageing, addresses)| Device {
            vni,
            mtu,
            mac,
            ageing,
            addresses,
        });
    let mtu = prop_oneof![3 => Just(None), 1 => Just(Some(1400))];
    let peer =
        (1..4_u8, 10..14_u8, 0..2_u8, prop::collection::btree_map((version(), 0..3_u8), mtu, 0..4))
            .prop_map(|(mac, endpoint, device, subnets)| Peer { mac, endpoint, device, subnets });
    (
        prop::collection::btree_map(0..2_u8, device, 0..3),
        prop::collection::btree_map(0..6_u8, peer, 0..6),
        prop::collection::btree_set((version(), 0..3_u8), 0..3),
        prop::collection::btree_set((version(), 1..4_u8), 0..3),
    )
        .prop_map(|(devices, peers, blackholes, rules)| Wanted {
            devices,
            peers,
            blackholes,
            rules,
        })
}

/// A kernel with an underlay device and objects of other people's.
fn kernel() -> MemoryKernel {
    let mut kernel = MemoryKernel::new();
    let cable = LinkKind::Veth(Some(Box::new(VethPeer::new(name("far")))));
    kernel.apply(&Request::new(Verb::Add, Link::new(name("eth0"), cable))).unwrap();
    kernel.set_up("far", true).unwrap();
    kernel.set_up("eth0", true).unwrap();
    let eth0 = kernel.ifindex("eth0").unwrap();
    let gateway = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut foreign: Vec<Request> = Vec::new();
    let mut add = |object: Object| foreign.push(Request::new(Verb::Add, object));
    add(Address::new(net("192.168.32.245/24"), eth0).into());
    add(Address::new(net("fd00:32::245/64"), eth0).nodad().into());
    add(Neighbour::permanent(gateway("192.168.32.77"), mac(77), eth0).into());
    add(Nexthop::new(NexthopId(7), Hop::onlink(gateway("192.168.32.9"), eth0))
        .protocol(FOREIGN)
        .into());
    add(Route::to(net("10.9.0.0/16")).nexthop(NexthopId(7)).protocol(FOREIGN).into());
    add(Route::to(net("10.1.0.0/16"))
        .hop(Hop::onlink(gateway("192.168.32.9"), eth0))
        .protocol(FOREIGN)
        .into());
    add(Route::to(net("fd01::/16"))
        .hop(Hop::onlink(gateway("fd00:32::9"), eth0))
        .protocol(FOREIGN)
        .into());
    // The same prefix as one of ours, at another metric.
    add(Route::to(net("10.1.0.0/24"))
        .metric(5)
        .hop(Hop::onlink(gateway("192.168.32.9"), eth0))
        .protocol(FOREIGN)
        .into());
    add(Rule::lookup(IpVersion::V4, 999).priority(2).protocol(FOREIGN).into());
    add(Object::from(Link::new(name("br0"), LinkKind::Bridge(Default::default()))));
    for request in &foreign {
        kernel.apply(request).unwrap_or_else(|error| panic!("{error}"));
    }
    kernel
}

/// What is not ours, to be compared before and after.
fn foreign(kernel: &MemoryKernel) -> Snapshot {
    let ours = Owner::default().protocol();
    let mut snapshot = kernel.snapshot();
    let owned: BTreeSet<Ifindex> = snapshot
        .links
        .iter()
        .filter(|link| link.alias.as_deref() == Some("overlay/79"))
        .filter_map(|link| link.index)
        .collect();
    snapshot.links.retain(|link| link.index.is_some_and(|index| !owned.contains(&index)));
    snapshot.addresses.retain(|address| !owned.contains(&address.dev));
    snapshot.fdb.retain(|fdb| !owned.contains(&fdb.dev));
    snapshot.neighbours.retain(|neighbour| !owned.contains(&neighbour.dev));
    snapshot.nexthops.retain(|nexthop| nexthop.protocol != ours);
    let out_of_ours = |route: &Route| matches!(&route.via, Via::Hop(hop) if hop.dev.is_some_and(|d| owned.contains(&d)));
    snapshot.routes.retain(|route| route.protocol != ours && !out_of_ours(route));
    snapshot.rules.retain(|rule| rule.protocol != ours);
    snapshot
}

/// What is ours, as the commands that make it, routes with their gateways spelled out.
fn ours(kernel: &MemoryKernel) -> BTreeSet<String> {
    let protocol = Owner::default().protocol();
    let snapshot = kernel.snapshot();
    let names: BTreeMap<Ifindex, IfName> =
        snapshot.links.iter().map(|link| (link.index.unwrap(), link.name)).collect();
    let owned = |dev: Ifindex| {
        snapshot
            .links
            .iter()
            .any(|link| link.index == Some(dev) && link.alias.as_deref() == Some("overlay/79"))
    };
    let hops: BTreeMap<NexthopId, Hop> = snapshot
        .nexthops
        .iter()
        .filter_map(|nexthop| match &nexthop.target {
            NexthopTarget::Hop(hop) => Some((nexthop.id, hop.clone())),
            _ => None,
        })
        .collect();
    let mut objects: Vec<Object> = Vec::new();
    objects.extend(
        snapshot.addresses.iter().filter(|a| a.protocol == protocol).cloned().map(Object::from),
    );
    objects.extend(
        snapshot
            .fdb
            .iter()
            .filter(|fdb| owned(fdb.dev) && fdb.state.contains(NeighbourState::PERMANENT))
            .cloned()
            .map(Object::from),
    );
    objects.extend(
        snapshot.neighbours.iter().filter(|n| n.protocol == protocol).cloned().map(Object::from),
    );
    for mut route in snapshot.routes.iter().filter(|r| r.protocol == protocol).cloned() {
        if let Via::Nexthop(id) = route.via {
            route.via = Via::Hop(hops[&id].clone());
        }
        objects.push(route.into());
    }
    objects.extend(
        snapshot.rules.iter().filter(|r| r.protocol == protocol).cloned().map(Object::from),
    );
    objects
        .into_iter()
        .map(|object| {
            let object =
                object.try_map_dev(&mut |dev| names.get(&dev).copied().ok_or(dev)).unwrap();
            // IPv6 addresses report their flag, the wanted ones ask for it.
            object.command(Verb::Add)
        })
        .collect()
}

fn check(kernel: &mut MemoryKernel, wanted: &Wanted) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours(kernel), wanted.expected());
    let links = kernel.links().unwrap();
    let alias = |link: &&Link| link.alias.as_deref() == Some("overlay/79");
    prop_assert_eq!(links.iter().filter(alias).count(), wanted.devices.len());
    for (at, device) in &wanted.devices {
        let link = links.iter().find(|link| link.name == device_name(*at)).unwrap();
        prop_assert_eq!(link.mtu, Some(device.mtu));
        prop_assert_eq!(link.address, Some(mac(device.mac)));
        prop_assert_eq!(link.up, Some(true));
        let LinkKind::Vxlan(vxlan) = &link.kind else { panic!("{link:?}") };
        prop_assert_eq!(vxlan.id, Vni::new(device.vni).ok());
        prop_assert_eq!(vxlan.ageing, Some(device.ageing));
    }
    Ok(())
}

/// A second look finds nothing to do and writes nothing, be it by the same reconciler or by one
/// that knows nothing of the past.
fn check_quiet(
    kernel: &mut MemoryKernel,
    reconciler: &mut Reconciler,
    wanted: &Wanted,
    plain: bool,
) -> Result<(), TestCaseError> {
    kernel.reset_counters();
    prop_assert_eq!(reconciler.reconcile(kernel).unwrap().writes(), 0);
    let mut restarted = wanted.reconciler(plain);
    restarted.observe(kernel).unwrap();
    let plan = restarted.plan().unwrap();
    prop_assert!(plan.is_empty(), "{}", plan);
    prop_assert_eq!(kernel.counters().requests, 0);
    Ok(())
}

/// What a foreign hand may do to our objects.
#[derive(Clone, Debug)]
enum Meddling {
    Flap(u8),
    Delete(u8),
    Down(u8),
    Mtu(u8),
    Mac(u8),
    Rename(u8),
    FlushRoutes,
    FlushNeighbours,
    FlushNexthops,
    AppendRemote(u8),
}

fn meddling() -> impl Strategy<Value = Meddling> {
    prop_oneof![
        (0..2_u8).prop_map(Meddling::Flap),
        (0..2_u8).prop_map(Meddling::Delete),
        (0..2_u8).prop_map(Meddling::Down),
        (0..2_u8).prop_map(Meddling::Mtu),
        (0..2_u8).prop_map(Meddling::Mac),
        (0..2_u8).prop_map(Meddling::Rename),
        Just(Meddling::FlushRoutes),
        Just(Meddling::FlushNeighbours),
        Just(Meddling::FlushNexthops),
        (0..2_u8).prop_map(Meddling::AppendRemote),
    ]
}

fn meddle(kernel: &mut MemoryKernel, meddling: &Meddling) {
    let ours = Owner::default().protocol();
    let change = |kernel: &mut MemoryKernel, device: u8, change: fn(Link) -> Link| {
        let _ = kernel.apply(&Request::new(Verb::Change, change(Link::named(device_name(device)))));
    };
    match meddling {
        Meddling::Flap(device) => {
            let _ = kernel.flap(device_name(*device).as_str());
        }
        Meddling::Down(device) => {
            let _ = kernel.set_up(device_name(*device).as_str(), false);
        }
        Meddling::Delete(device) => {
            let _ = kernel.apply(&Request::new(Verb::Delete, Link::named(device_name(*device))));
        }
        Meddling::Mtu(device) => change(kernel, *device, |link| link.mtu(1000)),
        Meddling::Mac(device) => change(kernel, *device, |link| link.address(mac(99))),
        Meddling::Rename(device) => {
            let _ = kernel.set_up(device_name(*device).as_str(), false);
            if let Some(index) = kernel.ifindex(device_name(*device).as_str()) {
                let mut link: Link = Link::named(name("renamed"));
                link.index = Some(index);
                let _ = kernel.apply(&Request::new(Verb::Change, link));
            }
        }
        Meddling::FlushRoutes => {
            for route in kernel.routes(ours).unwrap() {
                let _ = kernel.apply(&Request::new(Verb::Delete, route));
            }
        }
        Meddling::FlushNeighbours => {
            for neighbour in kernel.snapshot().neighbours {
                if neighbour.protocol == ours {
                    let _ = kernel.apply(&Request::new(Verb::Delete, neighbour));
                }
            }
        }
        Meddling::FlushNexthops => {
            for nexthop in kernel.nexthops().unwrap_or_default() {
                if nexthop.protocol == ours {
                    let _ = kernel.apply(&Request::new(Verb::Delete, nexthop));
                }
            }
        }
        Meddling::AppendRemote(device) => {
            if let Some(dev) = kernel.ifindex(device_name(*device).as_str()) {
                let remote = "192.168.32.99".parse().unwrap();
                for fdb in kernel.fdb(dev).unwrap() {
                    let extra = Fdb::remote(fdb.lladdr, remote, dev);
                    let _ = kernel.apply(&Request::new(Verb::Append, extra));
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Accident {
    Refused(usize, i32),
    TimedOut(usize),
    AnswersLost(usize),
    ListingFailed(Listing, usize),
    ListingInterrupted(Listing),
    Vanishes(u8, Listing),
}

fn accident() -> impl Strategy<Value = Accident> {
    let listing = || {
        proptest::sample::select(vec![
            Listing::Links,
            Listing::Addresses,
            Listing::Fdb,
            Listing::Neighbours,
            Listing::Nexthops,
            Listing::Routes,
            Listing::Rules,
        ])
    };
    // EPERM, ENOMEM, EBUSY, EEXIST, ENODEV, EINVAL, ENOBUFS.
    let errno = proptest::sample::select(vec![1, 12, 16, 17, 19, 22, 105]);
    prop_oneof![
        (0..20_usize, errno).prop_map(|(after, errno)| Accident::Refused(after, errno)),
        (0..20_usize).prop_map(Accident::TimedOut),
        (0..20_usize).prop_map(Accident::AnswersLost),
        (listing(), 0..2_usize)
            .prop_map(|(listing, after)| Accident::ListingFailed(listing, after)),
        listing().prop_map(Accident::ListingInterrupted),
        (0..2_u8, listing()).prop_map(|(device, listing)| Accident::Vanishes(device, listing)),
    ]
}

fn inject(kernel: &mut MemoryKernel, accident: &Accident) {
    kernel.inject(match accident {
        Accident::Refused(after, errno) => Fault::refuse(*errno).after(*after),
        Accident::TimedOut(after) => Fault::time_out().after(*after),
        Accident::AnswersLost(after) => Fault::lose_answers().after(*after),
        Accident::ListingFailed(listing, after) => Fault::refuse(12).on(*listing).after(*after),
        Accident::ListingInterrupted(listing) => Fault::interrupt().on(*listing),
        Accident::Vanishes(device, listing) => {
            let gone = Request::new(Verb::Delete, Link::named(device_name(*device)));
            Fault::meanwhile([gone]).on(*listing)
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// From nothing to a, from a to b, by the same process or across a restart.
    #[test]
    fn the_kernel_comes_to_hold_what_is_wanted(
        (a, b) in families().prop_flat_map(|f| (wanted(f), wanted(f))),
        restart in any::<bool>(),
        plain in any::<bool>(),
        plain_after in any::<bool>(),
    ) {
        let mut kernel = kernel();
        let others = foreign(&kernel);
        let mut reconciler = a.reconciler(plain);
        let report = reconciler.reconcile(&mut kernel).unwrap();
        prop_assert!(report.is_converged(), "{:?}", report);
        check(&mut kernel, &a)?;
        check_quiet(&mut kernel, &mut reconciler, &a, plain)?;

        let plain = if restart { plain_after } else { plain };
        if restart {
            reconciler = b.reconciler(plain);
        } else {
            b.set_in(&mut reconciler, &a.groups());
        }
        let report = reconciler.push(&mut kernel).unwrap();
        prop_assert!(report.is_converged(), "{:?}", report);
        check(&mut kernel, &b)?;
        check_quiet(&mut kernel, &mut reconciler, &b, plain)?;
        prop_assert_eq!(foreign(&kernel), others);
    }

    /// Between any two states lie at most three rounds: one for what the kernel wants to hear of by
    /// itself, one for the rest, one for what it took along.
    #[test]
    fn three_rounds_are_enough(
        (a, b) in families().prop_flat_map(|f| (wanted(f), wanted(f))),
    ) {
        let mut kernel = kernel();
        prop_assert!(a.reconciler(false).reconcile(&mut kernel).unwrap().rounds <= 3);
        let report = b.reconciler(false).reconcile(&mut kernel).unwrap();
        prop_assert!(report.rounds <= 3, "{:?}", report);
        check(&mut kernel, &b)?;
    }

    /// Whatever somebody else does to our objects is undone, and nothing of theirs is touched.
    #[test]
    fn drift_is_repaired(
        a in families().prop_flat_map(wanted),
        meddlings in prop::collection::vec(meddling(), 1..6),
    ) {
        let mut kernel = kernel();
        let others = foreign(&kernel);
        let mut reconciler = a.reconciler(false);
        reconciler.reconcile(&mut kernel).unwrap();
        for meddling in &meddlings {
            meddle(&mut kernel, meddling);
        }
        let report = reconciler.reconcile(&mut kernel).unwrap();
        prop_assert!(report.is_converged(), "{:?}", report);
        check(&mut kernel, &a)?;
        check_quiet(&mut kernel, &mut reconciler, &a, false)?;
        prop_assert_eq!(foreign(&kernel), others);
    }

    /// Whatever goes wrong on the way, in the end the state is the wanted one.
    #[test]
    fn accidents_delay_and_no_more(
        (a, b) in families().prop_flat_map(|f| (wanted(f), wanted(f))),
        accidents in prop::collection::vec(accident(), 1..5),
        restart in any::<bool>(),
    ) {
        let mut kernel = kernel();
        let others = foreign(&kernel);
        let mut reconciler = a.reconciler(false);
        reconciler.reconcile(&mut kernel).unwrap();
        for accident in &accidents {
            inject(&mut kernel, accident);
        }
        if restart {
            reconciler = b.reconciler(false);
        } else {
            b.set_in(&mut reconciler, &a.groups());
        }
        let mut passes = 0;
        loop {
            passes += 1;
            prop_assert!(passes < 20, "does not converge: {:?}", reconciler.reconcile(&mut kernel));
            let done = reconciler.push(&mut kernel).is_ok_and(|report| report.is_converged());
            // What vanished without a trace is found by the next audit.
            reconciler.forget();
            if done && kernel.failures_left() == 0 {
                break;
            }
            if done && passes > 10 {
                // The rest of the accidents wait for requests that are not made.
                break;
            }
        }
        let report = reconciler.reconcile(&mut kernel).unwrap();
        prop_assert!(report.is_converged(), "{:?}", report);
        check(&mut kernel, &b)?;
        prop_assert_eq!(foreign(&kernel), others);
    }

    /// A kernel without nexthop objects holds the same routes, in the plain form.
    #[test]
    fn a_kernel_without_nexthop_objects_is_served(
        (a, b) in families().prop_flat_map(|f| (wanted(f), wanted(f))),
    ) {
        let mut kernel = MemoryKernel::new().without_nexthops();
        let cable = LinkKind::Veth(Some(Box::new(VethPeer::new(name("far")))));
        kernel.apply(&Request::new(Verb::Add, Link::new(name("eth0"), cable))).unwrap();
        kernel.set_up("far", true).unwrap();
        kernel.set_up("eth0", true).unwrap();
        let mut reconciler = a.reconciler(false);
        prop_assert!(reconciler.reconcile(&mut kernel).unwrap().is_converged());
        check(&mut kernel, &a)?;
        b.set_in(&mut reconciler, &a.groups());
        prop_assert!(reconciler.push(&mut kernel).unwrap().is_converged());
        check(&mut kernel, &b)?;
        check_quiet(&mut kernel, &mut reconciler, &b, false)?;
    }

    /// Removing everything leaves what was there before.
    #[test]
    fn nothing_is_left_behind(a in families().prop_flat_map(wanted)) {
        let mut kernel = kernel();
        let before = kernel.snapshot();
        let mut reconciler = a.reconciler(false);
        reconciler.reconcile(&mut kernel).unwrap();
        for group in a.groups().keys() {
            reconciler.remove(group);
        }
        prop_assert!(reconciler.push(&mut kernel).unwrap().is_converged());
        prop_assert_eq!(kernel.snapshot(), before);
    }
}
