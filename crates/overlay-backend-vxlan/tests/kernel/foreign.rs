//! What is somebody else's stays as it is, and is said to be in the way where it is.

use overlay_backend::{Network, Owner, Reconciler, RefusedReason};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_lab::Snapshot;
use overlay_netlink::{NexthopId, NexthopTarget, Object, Protocol, Via};
use overlay_wire::IpVersion;

use crate::fixture::{
    Program, Site, Spot, foreign, has_iproute2, name, net, options, reach, site, some_peers, vni,
    within_a_second,
};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 9] = [
    ("somebody's route is left alone, and the prefix taken over when it goes", route),
    ("somebody's device of another kind is left alone", || {
        device("ip link add vxlan.1 type bridge")
    }),
    ("somebody's device of the same kind is left alone", || {
        device(
            "ip link add vxlan.1 type vxlan id 1 local 192.168.32.1 dev eth0 dstport 8472 nolearning",
        )
    }),
    ("somebody's device with our VNI and port is in the way, and that is said once", same_vni),
    ("somebody's neighbour on our device is left alone, and taken over when it goes", neighbour),
    ("the number of somebody's nexthop object is not taken", nexthop),
    ("a nexthop object that somebody took is left to them", nexthop_taken),
    ("somebody's routes over our device stay", over_our_device),
    ("two owners in one namespace do not touch each other", two_owners),
];

fn started(a: &Spot, b: &Spot) -> Program {
    b.program(&options()).with_peers([a.peer(&options())]).converge();
    a.program(&options()).with_peers([b.peer(&options())])
}

fn assert_same(before: &Snapshot, after: &Snapshot) {
    assert_eq!(before, after, "{}", before.difference(after));
}

fn route() -> Outcome {
    if !has_iproute2("somebody's route")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    a.ip("ip route add 10.244.2.0/24 via 192.168.32.50 dev eth0 proto static");
    a.ip("ip -6 route add fd00:244:2::/64 via fd00:32::50 dev eth0 proto bird");
    let before = a.foreign();
    let mut program = started(a, b);
    let report = program.reconcile();
    assert_eq!(report.failed.len(), 2, "{report:?}");
    // The kernel refuses the IPv6 gateway already, because the route leads there.
    for (said, why) in [
        ("via fd00:244:2:: dev vxlan.1", "a route that is not ours may lead to the gateway"),
        ("ip route add 10.244.2.0/24", "a route that is not ours is in the way"),
    ] {
        let mut texts = report.failed.iter().map(ToString::to_string);
        assert!(texts.any(|text| text.contains(said) && text.contains(why)), "{report:?}");
    }
    // Nothing is tried over and over within a pass.
    assert_eq!(program.reconcile().sends, 1);
    assert_same(&before, &a.foreign());

    let kept = program.keep();
    a.ip("ip route del 10.244.2.0/24 proto static");
    a.ip("ip -6 route del fd00:244:2::/64 proto bird");
    let report = kept.next(|report| report.is_converged());
    assert!(report.is_ok(), "{report:?}");
    reach(a, b, &IpVersion::ALL);
    kept.stop().converge();
    Ok(())
}

fn device(command: &str) -> Outcome {
    if !has_iproute2("somebody's device")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    a.ip(command);
    let before = a.host.settled()?;
    let mut program = started(a, b);
    let report = program.reconcile();
    assert_eq!((report.writes(), report.sends, report.failed.len()), (0, 0, 0), "{report:?}");
    let [refused] = &report.refused[..] else { panic!("{report:?}") };
    assert!(
        matches!(refused.reason, RefusedReason::ForeignDevice { name, .. } if name == crate::fixture::name("vxlan.1"))
    );
    let text = refused.to_string();
    assert!(text.contains("vxlan.1") && text.contains("not ours"), "{text}");
    assert_same(&before, &a.host.settled()?);

    let kept = program.keep();
    a.ip("ip link del vxlan.1");
    let report = kept.next(|report| report.is_converged());
    assert!(report.is_ok(), "{report:?}");
    reach(a, b, &IpVersion::ALL);
    kept.stop();
    Ok(())
}

fn same_vni() -> Outcome {
    if !has_iproute2("somebody's device with our VNI")? {
        return Ok(());
    }
    let Site { a, .. } = &site()?;
    a.ip("ip link add theirs type vxlan id 1 local 192.168.32.1 dev eth0 dstport 8472 nolearning");
    let before = a.host.settled()?;
    let mut program = a.program(&options()).with_peers(some_peers(5));
    let report = program.reconcile();
    assert_eq!((report.writes(), report.sends), (0, 1), "{report:?}");
    let [failure] = &report.failed[..] else { panic!("{report:?}") };
    let text = failure.to_string();
    assert!(text.contains("VNI already exists"), "{text}");
    assert_same(&before, &a.host.settled()?);
    Ok(())
}

fn neighbour() -> Outcome {
    if !has_iproute2("somebody's neighbour")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    let mut program = started(a, b);
    program.set_peers([]);
    program.converge();
    a.ip("ip neigh add 10.244.2.0 lladdr 02:00:00:00:00:09 dev vxlan.1 nud permanent");
    let is_it = |object: &Object<_>| matches!(object, Object::Neighbour(o) if o.dst == net("10.244.2.0/32").addr());
    let before = a.host.settled()?.only(is_it);
    program.set_peers([b.peer(&options())]);
    let report = program.reconcile();
    let [refused] = &report.refused[..] else { panic!("{report:?}") };
    let text = refused.to_string();
    assert!(matches!(refused.reason, RefusedReason::ForeignObject { .. }), "{text}");
    assert!(text.contains("10.244.2.0") && text.contains("02:00:00:00:00:09"), "{text}");
    assert_same(&before, &a.host.settled()?.only(is_it));

    let kept = program.keep();
    a.ip("ip neigh del 10.244.2.0 dev vxlan.1");
    let report = kept.next(|report| report.is_converged());
    assert!(report.is_ok(), "{report:?}");
    reach(a, b, &IpVersion::ALL);
    kept.stop();
    Ok(())
}

/// The nexthop objects of the default owner, that for IPv4 first.
fn our_nexthops(snapshot: &Snapshot) -> Vec<NexthopId> {
    let mut nexthops: Vec<_> = snapshot
        .objects()
        .iter()
        .filter_map(|object| match object {
            Object::Nexthop(o) if o.protocol == Owner::DEFAULT_PROTOCOL => match &o.target {
                NexthopTarget::Hop(hop) => Some((hop.gateway, o.id)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    nexthops.sort();
    nexthops.into_iter().map(|(_, id)| id).collect()
}

fn nexthop() -> Outcome {
    if !has_iproute2("somebody's nexthop object")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    let mut program = started(a, b);
    program.converge();
    let ids = our_nexthops(&a.host.settled()?);
    assert_eq!(ids.len(), 2);
    let Program { network, mut reconciler, mut socket, .. } = program;
    network.clear(&mut reconciler);
    reconciler.reconcile(&mut socket)?;

    for id in &ids {
        a.ip(&format!("ip nexthop add id {id} via 192.168.32.50 dev eth0 proto 80"));
    }
    let before = a.foreign();
    let mut program = started(a, b);
    program.converge();
    assert_same(&before, &a.foreign());
    let others = our_nexthops(&a.host.settled()?);
    assert!(others.len() == 2 && others.iter().all(|id| !ids.contains(id)), "{others:?}");
    reach(a, b, &IpVersion::ALL);
    // And after a restart the same ones again.
    let report = started(a, b).converge();
    assert_eq!(report.writes(), 0, "{report:?}");
    Ok(())
}

fn nexthop_taken() -> Outcome {
    if !has_iproute2("a nexthop object that somebody took")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    let mut program = started(a, b);
    program.converge();
    let id = our_nexthops(&a.host.settled()?)[0];
    let kept = program.keep();
    a.ip(&format!("ip nexthop replace id {id} via 192.168.32.50 dev eth0 proto 80"));
    let report = kept.next(|report| report.writes() > 0);
    assert!(report.is_ok(), "{report:?}");
    let free = || {
        let snapshot = a.host.snapshot().expect("a snapshot");
        snapshot
            .objects()
            .iter()
            .all(|object| !matches!(object, Object::Route(route) if route.via == Via::Nexthop(id)))
    };
    assert!(within_a_second(free).is_some());
    let theirs = foreign(&a.host.settled()?);
    assert!(theirs.objects().iter().any(|o| matches!(o, Object::Nexthop(o) if o.id == id)));
    kept.stop().converge();
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn over_our_device() -> Outcome {
    if !has_iproute2("somebody's route over our device")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    let mut program = started(a, b);
    program.converge();
    for line in [
        "ip route add 10.50.0.0/16 dev vxlan.1 proto static",
        "ip route add 10.51.0.0/16 via 10.244.2.0 dev vxlan.1 onlink proto 80",
        "ip -6 route add fd50::/32 dev vxlan.1 proto static",
        "ip addr add 10.60.0.1/24 dev vxlan.1",
    ] {
        a.ip(line);
    }
    let theirs = |snapshot: &Snapshot| {
        snapshot.only(|object| match object {
            Object::Route(o) => o.protocol != Owner::DEFAULT_PROTOCOL,
            Object::Address(o) => o.protocol != Owner::DEFAULT_PROTOCOL,
            _ => false,
        })
    };
    let before = theirs(&a.host.settled()?);
    program.set_peers(some_peers(3));
    program.converge();
    program.set_peers([b.peer(&options())]);
    program.converge();
    started(a, b).converge();
    assert_same(&before, &theirs(&a.host.settled()?));
    Ok(())
}

fn two_owners() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let mut first = started(a, b);
    first.converge();
    let before = a.host.settled()?;

    let second = || {
        let mut options = VxlanOptions::default();
        options.vni = vni(2);
        options.device = Some(name("vxlan.2"));
        let mut node = a.node();
        node.subnets = vec![net("10.245.1.0/24"), net("fd00:245:1::/64")];
        let owner = Owner::new(Protocol(80)).expect("a number that is free");
        let mut reconciler = Reconciler::new(owner);
        let backend = Vxlan::new(&node, &options).expect("a backend");
        let network = Network::new("overlay", node, backend, &mut reconciler).expect("a network");
        let mut peer = b.peer(&options);
        peer.subnets = vec![net("10.245.2.0/24"), net("fd00:245:2::/64")];
        (network, reconciler, peer)
    };
    let mut socket = a.host.socket()?;
    // The same names of network and peer ask for the same numbers for nexthop objects.
    let (mut network, mut reconciler, peer) = second();
    assert!(network.set_peers([peer], &mut reconciler).is_empty());
    let report = reconciler.reconcile(&mut socket)?;
    assert!(report.is_converged() && report.added == 10, "{report:?}");
    assert_eq!(first.reconcile().writes(), 0);
    assert_eq!(reconciler.reconcile(&mut socket)?.writes(), 0);
    // Restarted in the other order.
    let (mut network, mut reconciler, peer) = second();
    assert!(network.set_peers([peer], &mut reconciler).is_empty());
    assert_eq!(reconciler.reconcile(&mut socket)?.writes(), 0);
    assert_eq!(started(a, b).converge().writes(), 0);
    reach(a, b, &IpVersion::ALL);

    network.clear(&mut reconciler);
    let report = reconciler.reconcile(&mut socket)?;
    assert!(report.is_converged(), "{report:?}");
    assert_same(&before, &a.host.settled()?);
    Ok(())
}
