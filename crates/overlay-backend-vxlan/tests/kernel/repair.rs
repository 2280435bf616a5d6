//! Somebody else's hand in a running node is put right within a second.

use std::time::Duration;

use libtest_mimic::Failed;
use overlay_backend::{Owner, Reconciler, RefusedReason};
use overlay_lab::Snapshot;
use overlay_netlink::{NexthopTarget, Object};
use overlay_wire::IpVersion;

use crate::fixture::{
    Kept, Program, Site, Spot, VTEP, foreign, has_iproute2, link, name, options, reach, run, site,
    within_a_second,
};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 24] = [
    ("flushed routes come back", || {
        repaired_without_nexthops(&["ip route flush proto 79", "ip -6 route flush proto 79"])
    }),
    ("routes flushed from the device come back", || {
        repaired_without_nexthops(&[
            "ip route flush dev vxlan.1",
            "ip -6 route flush proto 79 dev vxlan.1",
        ])
    }),
    ("one deleted route comes back", || repaired(&["ip route del 10.244.2.0/24"])),
    ("a route sent elsewhere comes back", || {
        repaired(&["ip route replace 10.244.2.0/24 via 192.168.32.77 dev eth0 proto 79"])
    }),
    ("a device set down comes up with all that it lost", || {
        repaired(&["ip link set vxlan.1 down"])
    }),
    ("a device set down and up gets back what it lost", || {
        repaired(&["ip link set vxlan.1 down", "ip link set vxlan.1 up"])
    }),
    ("a deleted device comes back with all that it lost", || repaired(&["ip link del vxlan.1"])),
    ("a renamed device gives way to one with the right name", renamed),
    ("the MTU is put right", || repaired(&["ip link set vxlan.1 mtu 1400"])),
    ("the MAC address is put right, and the neighbours that go with it", || {
        repaired(&["ip link set vxlan.1 address 02:00:00:00:00:09"])
    }),
    ("settings of the device are put right", || {
        repaired(&["ip link set vxlan.1 type vxlan learning"])
    }),
    ("deleted neighbours come back", || {
        repaired(&["ip neigh del 10.244.2.0 dev vxlan.1", "ip neigh del GATEWAY dev vxlan.1"])
    }),
    ("an altered neighbour is put right", || {
        repaired(&["ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:09 dev vxlan.1"])
    }),
    ("a neighbour that may expire becomes permanent again", || {
        repaired(&["ip neigh change GATEWAY lladdr MAC dev vxlan.1 nud reachable"])
    }),
    ("a deleted FDB entry comes back", || {
        repaired(&["bridge fdb del MAC dev vxlan.1 dst 192.168.32.2"])
    }),
    ("an altered FDB entry is put right", || {
        repaired(&["bridge fdb replace MAC dev vxlan.1 dst 192.168.32.77"])
    }),
    ("an FDB entry of nobody's goes", || {
        repaired(&["bridge fdb add 02:00:00:00:00:09 dev vxlan.1 dst 192.168.32.77"])
    }),
    ("a flood list of nobody's goes, however long", || {
        repaired(&["77", "78", "79"].map(|end| {
            format!("bridge fdb append 00:00:00:00:00:00 dev vxlan.1 dst 192.168.32.{end}")
        }))
    }),
    ("a flood list is cleared once", flood_list),
    ("deleted nexthop objects come back with their routes", || {
        repaired(&["ip nexthop flush proto 79"])
    }),
    ("deleted addresses come back", || {
        repaired(&["ip addr del 10.244.1.0/32 dev vxlan.1", "ip addr del fd00:244:1:: dev vxlan.1"])
    }),
    ("a nexthop object turned elsewhere is put right", turned_nexthop),
    ("an underlay that flaps is survived", underlay_flap),
    ("a device whose alias was changed is no longer ours", alias),
];

/// Other people's things, on which nothing depends.
pub(crate) fn litter(spot: &Spot) {
    for line in [
        "ip route add 10.99.0.0/16 via 192.168.32.50 dev eth0 proto static metric 7",
        "ip -6 route add fd99::/32 via fd00:32::50 dev eth0 proto bird",
        "ip route add 10.98.0.0/16 dev br0 proto 80 table 100",
        "ip nexthop add id 7 via 192.168.32.50 dev eth0 proto 80",
        "ip route add 10.97.0.0/16 nhid 7",
        "ip neigh add 192.168.32.50 lladdr 02:00:00:00:00:50 dev eth0 nud permanent",
        "ip rule add from 10.99.0.0/16 lookup 100 pref 1000 protocol 80",
        "ip link add vxlan.88 type vxlan id 88 dstport 8888 dev eth0",
        "bridge fdb add 02:00:00:00:00:88 dev vxlan.88 dst 192.168.32.88",
    ] {
        spot.ip(line);
    }
}

/// Device numbers apart, which change when a device is made anew.
fn comparable(snapshot: &Snapshot) -> Snapshot {
    snapshot.map(|mut object| {
        if let Object::Link(link) = &mut object
            && link.name == name(VTEP)
        {
            link.index = None;
        }
        object
    })
}

struct Scene {
    site: Site,
    before: Snapshot,
    kept: Kept,
}

fn scene() -> Result<Scene, Failed> {
    scene_of(Reconciler::new(Owner::default()))
}

fn scene_of(reconciler: Reconciler) -> Result<Scene, Failed> {
    let site = site()?;
    let Site { a, b, .. } = &site;
    litter(a);
    b.program(&options()).with_peers([a.peer(&options())]).converge();
    let mut program =
        Program::new(reconciler, a.node(), &options(), &a.host).with_peers([b.peer(&options())]);
    program.converge();
    let kept = program.keep();
    let before = comparable(&a.host.settled()?);
    Ok(Scene { site, before, kept })
}

fn repaired(damage: &[impl AsRef<str>]) -> Outcome {
    damaged(Reconciler::new(Owner::default()), damage)
}

/// `ip route flush` cannot flush routes by way of nexthop objects: it sends back what it has listed,
/// and the kernel will not have the object and its gateway in one request.
fn repaired_without_nexthops(damage: &[impl AsRef<str>]) -> Outcome {
    damaged(Reconciler::new(Owner::default()).without_nexthop_objects(), damage)
}

fn damaged(reconciler: Reconciler, damage: &[impl AsRef<str>]) -> Outcome {
    if !has_iproute2("a repair")? {
        return Ok(());
    }
    let Scene { site, before, kept } = scene_of(reconciler)?;
    let Site { a, b, .. } = &site;
    let mac = b.host.mac(VTEP)?.expect("a MAC address");
    let (gateway, mac) = (mac.link_local().to_string(), mac.to_string());
    for line in damage {
        a.ip(&line.as_ref().replace("MAC", &mac).replace("GATEWAY", &gateway));
    }
    assert_right_again(&site, &before, &kept);
    reach(a, b, &IpVersion::ALL);
    kept.stop();
    Ok(())
}

fn assert_right_again(site: &Site, before: &Snapshot, kept: &Kept) {
    let report = kept.next(|report| report.writes() > 0);
    let now = || comparable(&site.a.host.snapshot().expect("a snapshot"));
    let took = within_a_second(|| now() == *before);
    assert!(took.is_some(), "{report:?}\n{}", before.difference(&now()));
    assert!(report.is_ok(), "nothing was repaired: {report:?}");
    let foreign_now = foreign(&now());
    assert_eq!(foreign_now, foreign(before), "{}", foreign(before).difference(&foreign_now));
}

/// Before Linux 6.2 only a device that is down can be renamed, and it is set up again at once.
fn renamed() -> Outcome {
    if !has_iproute2("a repair")? {
        return Ok(());
    }
    let Scene { site, before, kept } = scene()?;
    let a = &site.a;
    let renamed = (0..20).any(|_| {
        a.ip("ip link set vxlan.1 down");
        run(&a.host, "ip link set vxlan.1 name elsewhere up").is_ok()
    });
    assert!(renamed, "the device is up whenever it is to be renamed");
    assert_right_again(&site, &before, &kept);
    reach(a, &site.b, &IpVersion::ALL);
    kept.stop();
    Ok(())
}

fn flood_list() -> Outcome {
    if !has_iproute2("a flood list")? {
        return Ok(());
    }
    let Site { a, .. } = &site()?;
    let mut program = a.program(&options()).with_peers([]);
    program.converge();
    for end in 77..80 {
        let to = format!("dst 192.168.32.{end}");
        a.ip(&format!("bridge fdb append 00:00:00:00:00:00 dev vxlan.1 {to}"));
    }
    let report = program.reconcile();
    assert_eq!((report.deleted, report.writes()), (3, 3), "{report:?}");
    let report = program.push();
    assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
    Ok(())
}

fn turned_nexthop() -> Outcome {
    if !has_iproute2("a repair")? {
        return Ok(());
    }
    let Scene { site, before, kept } = scene()?;
    let owner = Owner::default().protocol();
    let ours = before.objects().iter().find_map(|object| match object {
        Object::Nexthop(nexthop) if nexthop.protocol == owner => match &nexthop.target {
            NexthopTarget::Hop(hop) if hop.gateway?.is_ipv4() => Some(nexthop.id),
            _ => None,
        },
        _ => None,
    });
    let id = ours.expect("a nexthop object for IPv4");
    site.a.ip(&format!("ip nexthop replace id {id} via 192.168.32.77 dev eth0 proto 79"));
    assert_right_again(&site, &before, &kept);
    reach(&site.a, &site.b, &IpVersion::ALL);
    kept.stop();
    Ok(())
}

fn underlay_flap() -> Outcome {
    let Scene { site, kept, .. } = scene()?;
    site.a.host.flap("eth0")?;
    // Setting a device down takes its IPv6 addresses; that is the host's own to repair.
    site.a.host.addresses("eth0", &[crate::fixture::net("fd00:32::1/64")])?;
    reach(&site.a, &site.b, &IpVersion::ALL);
    let mut program = kept.stop();
    program.converge();
    Ok(())
}

fn alias() -> Outcome {
    if !has_iproute2("a changed alias")? {
        return Ok(());
    }
    let Scene { site, before, kept } = scene()?;
    let Site { a, b, .. } = &site;
    a.ip("ip link set vxlan.1 alias somebody");
    let report = kept.next(|report| !report.is_converged()).expect("a refusal");
    assert_eq!(report.writes(), 0, "{report:?}");
    let [refused] = &report.refused[..] else { panic!("{report:?}") };
    assert!(matches!(refused.reason, RefusedReason::ForeignDevice { .. }), "{refused}");
    assert!(refused.to_string().contains("\"overlay/79\""), "{refused}");
    // Nothing is done to it, and it goes on working.
    reach(a, b, &IpVersion::ALL);
    a.ip("ip link set vxlan.1 mtu 1400");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(link(&a.host, VTEP).and_then(|link| link.mtu), Some(1400));
    // Handed back, it is put right.
    a.ip("ip link set vxlan.1 alias overlay/79");
    assert_right_again(&site, &before, &kept);
    kept.stop();
    Ok(())
}
