//! The backend on the running kernel, as any user.

mod fixture;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_backend::{Owner, PeerError, Reconciler};
use overlay_lab::vm::{self, VmOptions};
use overlay_lab::{PingReport, PingRequest, Snapshot, ping};
use overlay_netlink::Object;
use overlay_wire::IpVersion;

use fixture::{
    Kept, Site, Spot, has_iproute2, ip, net, reach, routed_site, run, site, within_a_second,
};

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

const CASES: [Case; 15] = [
    ("containers reach each other in both families", reached),
    ("a node set up by hand with iproute2 joins", by_hand),
    ("a peer behind a router is refused, and nothing changes", behind_a_router),
    ("a printed plan does the same by iproute2", printed),
    ("a restart writes nothing and loses nothing", restart),
    ("a peer that moves costs one message per family", moved),
    ("nexthop objects go and come without a loss", with_and_without_nexthops),
    ("deleted routes come back", || {
        repaired(&["ip route del 10.244.2.0/24", "ip -6 route del fd00:244:2::/64"])
    }),
    ("deleted nexthop objects come back with their routes", || {
        repaired(&["ip nexthop flush proto 79"])
    }),
    ("a route sent elsewhere comes back", || {
        repaired(&["ip route replace 10.244.2.0/24 via 192.168.32.77 dev eth0 proto 79"])
    }),
    ("the underlay flaps", || {
        repaired(&[
            "ip link set eth0 down",
            "ip link set eth0 up",
            // That it loses its IPv6 addresses is the host's own to repair.
            "ip addr add fd00:32::1/64 dev eth0 nodad",
        ])
    }),
    ("the underlay loses its last address and gets it back", || {
        let reconciler = Reconciler::new(Owner::default()).without_nexthop_objects();
        // The kernel takes the routes along and says nothing of them.
        damaged(
            reconciler,
            &["ip addr del 192.168.32.1/24 dev eth0", "ip addr add 192.168.32.1/24 dev eth0"],
        )
    }),
    ("somebody's route is left alone, and the prefix taken over when it goes", foreign_route),
    ("an underlay that vanishes is said once", underlay_vanishes),
    ("clearing leaves nothing of ours and all of others", cleared),
];

fn main() {
    vm::init_if_asked(&[]);
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let trials = CASES.into_iter().map(|(name, case)| Trial::test(name, case));
    let inside = Trial::test("another_kernel", another_kernel);
    let outside = (!vm::is_inside()).then_some(inside);
    libtest_mimic::run(&Arguments::from_args(), trials.chain(outside).collect()).exit();
}

/// The same cases on the distribution's kernel.
fn another_kernel() -> Outcome {
    let options = VmOptions::new("debian")
        .cpus(2)
        .modules(["bridge", "dummy", "veth"])
        .programs(["sh", "sleep", "ip"]);
    const REQUIRED: &str = "userns,iproute2,nexthop";
    let patience = Duration::from_secs(400);
    Ok(vm::run_tests_inside("another_kernel", options, &[], REQUIRED, patience)?)
}

fn assert_same(before: &Snapshot, after: &Snapshot) {
    assert!(before == after, "{}", before.difference(after));
}

fn started_site() -> overlay_lab::Result<Site> {
    let site = site()?;
    for (here, there) in [(&site.a, &site.b), (&site.b, &site.a)] {
        let report = here.program().with_peers([there.peer()]).converge();
        // Of each family a nexthop object and a route.
        assert_eq!((report.added, report.writes()), (4, 4), "{report:?}");
    }
    reach(&site.a, &site.b, &IpVersion::ALL);
    Ok(site)
}

fn reached() -> Outcome {
    started_site()?;
    Ok(())
}

fn by_hand() -> Outcome {
    if !has_iproute2("a node set up by hand")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    b.ip("ip route add 10.244.1.0/24 via 192.168.32.1 dev eth0 onlink");
    b.ip("ip -6 route add fd00:244:1::/64 via fd00:32::1 dev eth0 onlink");
    a.program().with_peers([b.peer()]).converge();
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn behind_a_router() -> Outcome {
    let (a, _router, b) = routed_site()?;
    let before = a.host.settled()?;
    let mut program = a.program();
    let refused = program.set_peers([b.peer()]);
    let [error @ PeerError::NotOnLink { .. }] = &refused[..] else { panic!("{refused:?}") };
    let text = error.to_string();
    assert!(text.contains("192.168.32.2 is not on-link on eth0"), "{text}");
    let report = program.reconcile();
    assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
    assert_same(&before, &a.host.settled()?);
    Ok(())
}

/// What the program made: everything with its mark.
fn ours(snapshot: &Snapshot) -> Snapshot {
    snapshot.only(|object| match object {
        Object::Route(o) => o.protocol == Owner::DEFAULT_PROTOCOL,
        Object::Nexthop(o) => o.protocol == Owner::DEFAULT_PROTOCOL,
        _ => false,
    })
}

fn printed() -> Outcome {
    if !has_iproute2("a printed plan")? {
        return Ok(());
    }
    let sites = [site()?, site()?];
    let [by_netlink, by_hand] = sites.each_ref().map(|site| &site.a);
    let peers = sites[0].b.peer();
    let mut moved = peers.clone();
    moved.endpoints = vec![ip("192.168.32.9"), ip("fd00:32::9")];
    for peers in [vec![peers], vec![moved], vec![]] {
        by_netlink.program().with_peers(peers.clone()).converge();
        let mut program = by_hand.program().with_peers(peers);
        program.reconciler.observe(&mut program.socket)?;
        let plan = program.reconciler.plan()?;
        assert!(!plan.is_empty());
        for line in plan.to_string().lines() {
            run(&by_hand.host, line).map_err(|error| format!("{line}: {error}\n{plan}"))?;
        }
        assert_eq!(program.converge().writes(), 0, "{plan}");
        let [applied, executed] =
            [by_netlink, by_hand].map(|spot| spot.host.settled().expect("a snapshot"));
        assert_same(&ours(&applied), &ours(&executed));
    }
    Ok(())
}

/// Pings both families before, while and after `work` is done. Not one may be lost.
fn without_loss(from: &Spot, to: &Spot, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let stream = |address| {
        let request = PingRequest::to(address).count(20).interval(Duration::from_millis(10));
        let mut reports = Vec::new();
        loop {
            let last = done.load(Ordering::Relaxed);
            reports.push(ping(&from.container, &request).expect("a ping"));
            if last {
                return reports;
            }
        }
    };
    thread::scope(|scope| {
        let streams = to.inside().map(|address| scope.spawn(move || stream(address)));
        thread::sleep(Duration::from_millis(100));
        work();
        done.store(true, Ordering::Relaxed);
        for stream in streams {
            let reports = stream.join().expect("no panic");
            assert!(reports.iter().all(PingReport::perfect), "{reports:?}");
        }
    });
}

fn restart() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let before = a.host.settled()?;
    without_loss(a, b, || {
        for _ in 0..3 {
            let report = a.program().with_peers([b.peer()]).converge();
            assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
        }
    });
    assert_same(&before, &a.host.settled()?);
    Ok(())
}

fn moved() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    b.host.addresses("eth0", &[net("192.168.32.22/24"), net("fd00:32::22/64")])?;
    let mut peer = b.peer();
    peer.endpoints = vec![ip("192.168.32.22"), ip("fd00:32::22")];
    peer.subnets.extend([net("10.245.2.0/24"), net("10.246.2.0/24")]);
    let mut program = a.program().with_peers([peer.clone()]);
    program.converge();
    peer.endpoints = vec![ip("192.168.32.2"), ip("fd00:32::2")];
    program.set_peers([peer]);
    without_loss(a, b, || {
        let report = program.converge();
        assert_eq!((report.changed, report.writes()), (2, 2), "{report:?}");
    });
    Ok(())
}

fn with_and_without_nexthops() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let with = a.host.settled()?;
    without_loss(a, b, || {
        for _ in 0..2 {
            let reconciler = Reconciler::new(Owner::default()).without_nexthop_objects();
            let report = a.program_of(reconciler).with_peers([b.peer()]).converge();
            assert_eq!((report.added, report.changed, report.deleted), (0, 2, 2), "{report:?}");
            let report = a.program().with_peers([b.peer()]).converge();
            assert_eq!((report.added, report.changed, report.deleted), (2, 2, 0), "{report:?}");
        }
    });
    assert_same(&with, &a.host.settled()?);
    Ok(())
}

/// Other people's things, on which nothing depends.
fn litter(spot: &Spot) {
    for line in [
        "ip route add 10.98.0.0/16 dev br0 proto 80 table 100",
        "ip -6 route add fd98::/32 dev br0 proto static metric 7",
        "ip nexthop add id 7 via 10.244.1.50 dev br0 proto 80",
        "ip route add 10.97.0.0/16 nhid 7",
        "ip neigh add 10.244.1.50 lladdr 02:00:00:00:00:50 dev br0 nud permanent",
        "ip rule add from 10.99.0.0/16 lookup 100 pref 1000 protocol 80",
    ] {
        spot.ip(line);
    }
}

fn repaired(damage: &[&str]) -> Outcome {
    damaged(Reconciler::new(Owner::default()), damage)
}

fn damaged(reconciler: Reconciler, damage: &[&str]) -> Outcome {
    if !has_iproute2("a repair")? {
        return Ok(());
    }
    let Site { a, b, .. } = &started_site()?;
    litter(a);
    let mut program = a.program_of(reconciler).with_peers([b.peer()]);
    program.converge();
    let before = a.host.settled()?;
    let kept = program.keep();
    kept.next(|report| report.is_converged()).expect("a first pass");
    for line in damage {
        a.ip(line);
    }
    assert_right_again(a, &before, &kept);
    reach(a, b, &IpVersion::ALL);
    kept.stop().converge();
    Ok(())
}

fn assert_right_again(spot: &Spot, before: &Snapshot, kept: &Kept) {
    let now = || spot.host.snapshot().expect("a snapshot");
    let right = within_a_second(|| now() == *before);
    let report = kept.next(|report| report.writes() > 0);
    assert!(right, "{report:?}\n{}", before.difference(&now()));
    assert!(report.is_ok(), "nothing was repaired: {report:?}");
}

fn foreign_route() -> Outcome {
    if !has_iproute2("somebody's route")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    b.program().with_peers([a.peer()]).converge();
    a.ip("ip route add 10.244.2.0/24 via 192.168.32.50 dev eth0 proto static");
    a.ip("ip -6 route add fd00:244:2::/64 via fd00:32::50 dev eth0 proto bird");
    let before = a.host.settled()?;
    let mut program = a.program().with_peers([b.peer()]);
    let report = program.reconcile();
    assert_eq!(report.failed.len(), 2, "{report:?}");
    for failure in &report.failed {
        assert!(
            failure.to_string().contains("a route that is not ours is in the way"),
            "{failure}"
        );
    }
    let after = a.host.settled()?;
    let is_theirs = |object: &Object<_>| !matches!(object, Object::Nexthop(o) if o.protocol == Owner::DEFAULT_PROTOCOL);
    assert_same(&before, &after.only(is_theirs));

    let kept = program.keep();
    a.ip("ip route del 10.244.2.0/24 proto static");
    a.ip("ip -6 route del fd00:244:2::/64 proto bird");
    let report = kept.next(|report| report.is_converged());
    assert!(report.is_ok(), "{report:?}");
    reach(a, b, &IpVersion::ALL);
    kept.stop().converge();
    Ok(())
}

fn underlay_vanishes() -> Outcome {
    if !has_iproute2("an underlay that vanishes")? {
        return Ok(());
    }
    let Site { a, b, .. } = &started_site()?;
    let kept = a.program().with_peers([b.peer()]).keep();
    kept.next(|report| report.is_converged()).expect("a first pass");
    a.ip("ip link del eth0");
    let report = kept.next(|report| !report.is_converged()).expect("a refusal");
    assert_eq!(report.failed.len(), 0, "{report:?}");
    let [refused] = &report.refused[..] else { panic!("{report:?}") };
    assert!(refused.to_string().contains("eth0 does not exist"), "{refused}");
    kept.stop();
    Ok(())
}

fn cleared() -> Outcome {
    if !has_iproute2("clearing")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    litter(a);
    a.ip("ip route add 10.90.0.0/16 via 192.168.32.2 dev eth0 proto bird");
    let before = a.host.settled()?;
    let mut program = a.program().with_peers([b.peer()]);
    program.converge();
    let fixture::Program { network, mut reconciler, mut socket, .. } = program;
    network.clear(&mut reconciler);
    let report = reconciler.reconcile(&mut socket)?;
    assert!(report.is_converged(), "{report:?}");
    assert_same(&before, &a.host.settled()?);
    Ok(())
}
