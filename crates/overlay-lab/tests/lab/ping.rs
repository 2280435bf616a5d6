//! Ping and path MTU across a router.

use std::time::{Duration, Instant};

use overlay_lab::{Error, Host, PingError, PingRequest, path_mtu, ping};

use crate::{Case, Outcome, ips, nets, pair, routed};

pub(crate) const CASES: [Case; 9] = [
    ("a router takes one from the TTL", ttl),
    ("a TTL of one ends at the router", time_exceeded),
    ("a silent address is waited for, but not longer", silence),
    ("what cannot be sent or reached is reported", unreachable),
    ("pings side by side do not mix", side_by_side),
    ("every payload size is verified", sizes),
    ("a link-local address answers by its device", link_local),
    ("a smaller link is reported to dont_fragment", too_big),
    ("the path MTU is that of the smallest link", smallest_link),
];

fn ttl() -> Outcome {
    let (a, _router, b) = routed()?;
    for (from, to) in [(&a, "10.0.2.1"), (&a, "fd00:2::1"), (&b, "10.0.1.1"), (&b, "fd00:1::1")] {
        let report = ping(from, &PingRequest::to(ips([to])[0]).count(3))?;
        assert!(report.perfect(), "{to}: {report:?}");
        assert_eq!(report.replies.iter().map(|reply| reply.seq).collect::<Vec<_>>(), [0, 1, 2]);
        for reply in &report.replies {
            assert_eq!((reply.ttl, reply.from), (63, ips([to])[0]));
            assert!(reply.rtt > Duration::ZERO && reply.rtt < Duration::from_secs(1));
        }
    }
    Ok(())
}

fn time_exceeded() -> Outcome {
    let (a, _router, _b) = routed()?;
    for (to, router) in [("10.0.2.1", "10.0.1.254"), ("fd00:2::1", "fd00:1::fe")] {
        let [to, from] = ips([to, router]);
        let report = ping(&a, &PingRequest::to(to).ttl(1).count(2))?;
        assert_eq!((report.sent, report.received), (2, 0));
        let expected = [0, 1].map(|seq| PingError::TimeExceeded { seq, from });
        assert_eq!(report.errors, expected);
        assert!(ping(&a, &PingRequest::to(to).ttl(2))?.perfect());
    }
    Ok(())
}

fn silence() -> Outcome {
    let (a, b) = pair()?;
    b.sysctl("net.ipv4.icmp_echo_ignore_all", 1)?;
    b.sysctl("net.ipv6.icmp.echo_ignore_all", 1)?;
    for to in ips(["10.0.0.2", "fd00::2"]) {
        let start = Instant::now();
        let report = ping(&a, &PingRequest::to(to).timeout(Duration::from_millis(200)))?;
        assert_eq!((report.sent, report.received, report.errors.len()), (1, 0, 0), "{report:?}");
        assert!(
            start.elapsed() >= Duration::from_millis(200)
                && start.elapsed() < Duration::from_secs(2)
        );
        assert!(matches!(path_mtu(&a, to), Err(Error::NoPath { .. })));
    }
    Ok(())
}

fn unreachable() -> Outcome {
    let (a, router, _b) = routed()?;
    let lonely = Host::new("lonely")?;
    for to in ips(["10.0.9.9", "fd00:9::9"]) {
        let report = ping(&lonely, &PingRequest::to(to))?;
        let expected = PingError::Send { seq: 0, errno: libc::ENETUNREACH };
        assert_eq!((report.sent, &report.errors[..]), (0, &[expected][..]));
        // The router has no route either, and says so.
        let report = ping(&a, &PingRequest::to(to))?;
        let [PingError::Unreachable { seq: 0, code: 0, from }] = report.errors[..] else {
            return Err(format!("{report:?}").into());
        };
        assert!(ips(["10.0.1.254", "fd00:1::fe"]).contains(&from));
    }
    // Nobody has that address on the far network: known when address resolution gives up.
    router.sysctl("net.ipv4.neigh.right.retrans_time_ms", 100)?;
    router.sysctl("net.ipv6.neigh.right.retrans_time_ms", 100)?;
    for to in ips(["10.0.2.77", "fd00:2::77"]) {
        let report = ping(&a, &PingRequest::to(to).timeout(Duration::from_secs(5)))?;
        assert!(matches!(report.errors[..], [PingError::Unreachable { seq: 0, .. }]), "{report:?}");
    }
    Ok(())
}

fn side_by_side() -> Outcome {
    let (a, _b) = pair()?;
    std::thread::scope(|scope| {
        let pings = [10, 20, 30, 40].map(|payload| {
            let request = PingRequest::to(ips(["10.0.0.2"])[0])
                .count(30)
                .interval(Duration::from_millis(1))
                .payload(payload);
            let a = &a;
            scope.spawn(move || ping(a, &request))
        });
        for thread in pings {
            let report = thread.join().expect("no panic")?;
            assert!(report.perfect() && report.sent == 30, "{report:?}");
        }
        Ok(())
    })
}

fn sizes() -> Outcome {
    let (a, _b) = pair()?;
    for to in ips(["10.0.0.2", "fd00::2"]) {
        for payload in [0, 1, 1000, 1452, 1473, 9000, 60_000] {
            let report = ping(&a, &PingRequest::to(to).payload(payload))?;
            assert!(report.perfect(), "{to} {payload}: {report:?}");
        }
    }
    Ok(())
}

fn link_local() -> Outcome {
    let (a, b) = pair()?;
    b.addresses("eth0", &nets(["fe80::2/64"]))?;
    let report = ping(&a, &PingRequest::to(ips(["fe80::2"])[0]).device("eth0"))?;
    assert!(report.perfect(), "{report:?}");
    let [source, other] = ips(["10.0.0.1", "10.0.0.77"]);
    assert!(ping(&a, &PingRequest::to(ips(["10.0.0.2"])[0]).source(source))?.perfect());
    assert!(
        ping(&a, &PingRequest::to(ips(["10.0.0.2"])[0]).source(other)).is_err(),
        "not an address of the host"
    );
    Ok(())
}

fn too_big() -> Outcome {
    let (a, router, b) = routed()?;
    router.mtu("right", 1300)?;
    b.mtu("eth0", 1300)?;
    for (to, router, headers) in [("10.0.2.1", "10.0.1.254", 28), ("fd00:2::1", "fd00:1::fe", 48)] {
        let [to, router] = ips([to, router]);
        let just = PingRequest::to(to).dont_fragment(true).payload(1300 - headers);
        assert!(ping(&a, &just)?.perfect());
        let more = PingRequest::to(to).dont_fragment(true).payload(1301 - headers).count(2);
        let report = ping(&a, &more)?;
        // The first learns it from the router; the second the host refuses itself.
        let expected = [
            PingError::TooBig { seq: 0, mtu: 1300, from: Some(router) },
            PingError::TooBig { seq: 1, mtu: 1300, from: None },
        ];
        assert_eq!((report.sent, &report.errors[..]), (1, &expected[..]));
        assert!(ping(&a, &more.dont_fragment(false))?.perfect());
    }
    Ok(())
}

fn smallest_link() -> Outcome {
    let (a, router, b) = routed()?;
    for to in ips(["10.0.2.1", "fd00:2::1"]) {
        assert_eq!(path_mtu(&a, to)?, 1500);
    }
    for mtu in [1500, 1333, 1280] {
        router.mtu("right", mtu)?;
        b.mtu("eth0", mtu)?;
        for to in ips(["10.0.2.1", "fd00:2::1"]) {
            assert_eq!(path_mtu(&a, to)?, mtu);
        }
    }
    // Larger again: what the kernel has learnt must not matter.
    router.mtu("right", 1450)?;
    b.mtu("eth0", 1450)?;
    for to in ips(["10.0.2.1", "fd00:2::1"]) {
        assert_eq!(path_mtu(&a, to)?, 1450);
    }
    // The far end drops what the router thinks will fit, and nobody says so. A veth receives four
    // bytes more than its MTU, the room for a VLAN tag.
    b.mtu("eth0", 1400)?;
    assert_eq!(path_mtu(&a, ips(["10.0.2.1"])[0])?, 1404);
    Ok(())
}
