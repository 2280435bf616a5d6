//! Restarts, damage, and what is somebody else's.

use ipnet::IpNet;
use overlay_backend::{Network, Owner, Reconciler, RefusedReason};
use overlay_backend_ipip::{IpIp, IpIpOptions};
use overlay_lab::Snapshot;
use overlay_netlink::Object;
use overlay_wire::IpVersion;

use crate::fixture::{Site, Spot, ip, join, link, name, net, reach, site};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 11] = [
    ("a restart writes nothing", restart),
    ("another MTU of the underlay changes the devices in place", another_mtu),
    ("a subnet that changed while the program was stopped is followed", subnet_changed),
    ("deleted devices come back with all that they lost", || {
        repaired(&[
            "ip link del overlay.ipip",
            "ip link del overlay.sit",
            "ip link del overlay.ip6tnl",
        ])
    }),
    ("devices set down come up with all that they lost", || {
        repaired(&[
            "ip link set overlay.ipip down",
            "ip link set overlay.sit down",
            "ip link set overlay.ip6tnl down",
        ])
    }),
    ("settings of the devices are put right", || {
        repaired(&[
            "ip link set overlay.ipip type ipip local 192.168.32.77 pmtudisc",
            "ip link set overlay.ipip mtu 1400",
            "ip link set overlay.sit type sit local 192.168.32.1 ttl 9",
        ])
    }),
    ("deleted routes and nexthop objects come back", || {
        repaired(&[
            "ip nexthop flush proto 79",
            "ip route flush proto 79",
            "ip -6 route flush proto 79",
        ])
    }),
    ("an underlay that flaps costs no write", flap),
    ("somebody's tunnel between the same ends is left alone, and said to be in the way", same_ends),
    ("somebody's device by our name is left alone", same_name),
    ("clearing leaves nothing of ours and all of others", cleared),
];

fn same(before: &Snapshot, after: &Snapshot) {
    assert_eq!(before, after, "{}", before.difference(after));
}

fn restart() -> Outcome {
    let Site { a, b, .. } = &site()?;
    join(a, b, &IpIpOptions::default());
    let before = a.host.settled()?;
    let report = a.program(&IpIpOptions::default(), b.peer()).converge();
    assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
    same(&before, &a.host.settled()?);
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn another_mtu() -> Outcome {
    let Site { a, b, .. } = &site()?;
    join(a, b, &IpIpOptions::default());
    let devices = [("overlay.ipip", 1380), ("overlay.sit", 1380), ("overlay.ip6tnl", 1360)];
    let indexes = devices.map(|(device, _)| link(&a.host, device).and_then(|link| link.index));
    a.host.mtu("eth0", 1400)?;
    let report = a.program(&IpIpOptions::default(), b.peer()).converge();
    assert_eq!((report.added, report.changed, report.deleted), (0, 3, 0), "{report:?}");
    for ((device, mtu), index) in devices.into_iter().zip(indexes) {
        let link = link(&a.host, device).expect("a device");
        assert_eq!((link.mtu, link.index), (Some(mtu), index), "{device}");
    }
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn subnet_changed() -> Outcome {
    let Site { a, b, .. } = &site()?;
    join(a, b, &IpIpOptions::default());
    let mut node = a.node();
    node.subnets = vec![net("10.245.1.0/24"), net("fd00:245:1::/64")];
    let mut reconciler = Reconciler::new(Owner::default());
    let backend = IpIp::new(&node, &IpIpOptions::default())?;
    let mut network = Network::new("overlay", node, backend, &mut reconciler)?;
    network.set_peers([b.peer()], &mut reconciler);
    let report = reconciler.reconcile(&mut a.host.socket()?)?;
    assert!(report.is_converged(), "{report:?}");
    // One of each family on each device that carries it.
    let addresses: Vec<_> = a
        .host
        .settled()?
        .objects()
        .iter()
        .filter_map(|object| match object {
            Object::Address(o) if o.protocol == Owner::DEFAULT_PROTOCOL => Some(o.net),
            _ => None,
        })
        .collect();
    assert_eq!(addresses.iter().filter(|a| **a == net("10.245.1.0/32")).count(), 2);
    assert_eq!(addresses.iter().filter(|a| **a == net("fd00:245:1::/128")).count(), 2);
    assert_eq!(addresses.len(), 4, "{addresses:?}");
    Ok(())
}

fn repaired(damage: &[&str]) -> Outcome {
    let Site { a, b, .. } = &site()?;
    litter(a);
    let [mut program, _] = join(a, b, &IpIpOptions::default());
    let before = comparable(&a.host.settled()?);
    for line in damage {
        a.ip(line);
    }
    let report = program.converge();
    assert!(report.writes() > 0, "nothing was repaired: {report:?}");
    same(&before, &comparable(&a.host.settled()?));
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn flap() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let [mut program, _] = join(a, b, &IpIpOptions::default());
    a.host.flap("eth0")?;
    // Setting a device down takes its IPv6 addresses; that is the host's own to repair.
    a.host.addresses("eth0", &[net("fd00:32::1/64")])?;
    assert_eq!(program.converge().writes(), 0);
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

/// Without what is another one when a device is made anew: its number, and the link-local address that the kernel makes up.
fn comparable(snapshot: &Snapshot) -> Snapshot {
    let is_made_up = |net: &IpNet| net.addr().is_ipv6() && net.addr() > ip("fe80::");
    let lasting = snapshot.only(|object| match object {
        Object::Address(o) => !(o.dev.as_str().starts_with("overlay.") && is_made_up(&o.net)),
        Object::Route(o) => !is_made_up(&o.dst),
        _ => true,
    });
    lasting.map(|mut object| {
        if let Object::Link(link) = &mut object
            && link.name.as_str().starts_with("overlay.")
        {
            link.index = None;
        }
        object
    })
}

/// Other people's things, on which nothing depends.
fn litter(spot: &Spot) {
    for line in [
        "ip link add theirs type ipip local 192.168.32.1 remote 192.168.32.99",
        "ip link set theirs up",
        "ip link add theirs6 type ip6tnl local fd00:32::1 remote fd00:32::99",
        "ip addr add 10.99.0.1/30 dev theirs",
        "ip route add 10.98.0.0/16 via 10.99.0.2 dev theirs proto static",
        "ip -6 route add fd99::/32 via fd00:32::50 dev eth0 proto bird",
    ] {
        spot.ip(line);
    }
}

fn same_ends() -> Outcome {
    let Site { a, b, .. } = &site()?;
    a.ip("ip link add theirs type ipip local 192.168.32.1");
    a.ip("ip link add theirs6 type ip6tnl external");
    let before = a.foreign();
    let mut program = a.program(&IpIpOptions::default(), b.peer());
    let report = program.reconcile();
    for device in ["overlay.ipip", "overlay.ip6tnl"] {
        let failure = report.failed.iter().map(ToString::to_string).find(|f| f.contains(device));
        let failure = failure.unwrap_or_default();
        assert!(failure.contains("File exists") && failure.contains("another tunnel"), "{failure}");
    }
    same(&before, &a.foreign());
    a.ip("ip link del theirs");
    a.ip("ip link del theirs6");
    program.converge();
    Ok(())
}

fn same_name() -> Outcome {
    let Site { a, b, .. } = &site()?;
    a.ip("ip link add overlay.ipip type ipip local 192.168.32.1 remote 192.168.32.2");
    let before = a.foreign();
    let mut program = a.program(&IpIpOptions::default(), b.peer());
    let report = program.reconcile();
    let [refused] = &report.refused[..] else { panic!("{report:?}") };
    let is_it = matches!(
        refused.reason,
        RefusedReason::ForeignDevice { name: device, .. } if device == name("overlay.ipip")
    );
    assert!(is_it, "{refused}");
    same(&before, &a.foreign());
    a.ip("ip link del overlay.ipip");
    program.converge();
    Ok(())
}

fn cleared() -> Outcome {
    let Site { a, b, .. } = &site()?;
    litter(a);
    let before = a.host.settled()?;
    let fallback = |snapshot: &Snapshot| {
        let names = ["tunl0", "sit0", "ip6tnl0"].map(name);
        snapshot.only(|object| matches!(object, Object::Link(link) if names.contains(&link.name)))
    };
    let devices = fallback(&before);
    let [program, _] = join(a, b, &IpIpOptions::default());
    same(&devices, &fallback(&a.host.settled()?));
    let mut reconciler = program.reconciler;
    program.network.clear(&mut reconciler);
    let report = reconciler.reconcile(&mut a.host.socket()?)?;
    assert!(report.is_converged(), "{report:?}");
    same(&before, &a.host.settled()?);
    Ok(())
}
