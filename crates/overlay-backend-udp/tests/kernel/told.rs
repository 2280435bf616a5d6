//! Sources learn why their packets do not arrive.

use std::time::Duration;

use overlay_backend_udp::DropReason;
use overlay_lab::{Host, PingRequest, capture, path_mtu, ping, throughput};
use overlay_netlink::{Hop, Route};
use overlay_wire::IpVersion;
use rustix::net::sockopt::{set_ip_tos, set_ipv6_tclass};

use crate::fixture::{
    ETH0, PORT, RoutedSite, Site, TUN, ip, joined, name, options, over, paced, plug, routed_site,
    site, subnets, udp, within,
};
use crate::hostile::Inner;
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 5] = [
    ("a destination that nobody has is unreachable, and its source learns it", unreachable),
    ("a peer that cannot be reached is told about", no_way),
    ("a path that takes less is told about, and TCP goes on", narrow),
    ("a path that takes less than IPv6 needs is bridged by fragments", very_narrow),
    ("congestion is told across the overlay", congestion),
];

fn unreachable() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (program, _other) = joined(a, b, &options());
    a.host.sysctl("net.ipv4.conf.all.rp_filter", 1)?;
    let mut netlink = a.host.socket()?;
    let tun = netlink.link(&name(TUN))?.index.expect("a number");
    for subnet in subnets(9) {
        netlink.add(&Route::to(subnet).hop(Hop::dev(tun)))?;
    }
    for address in ["10.244.9.2", "fd00:244:9::2"] {
        for host in [&a.container, &a.host] {
            let report = ping(host, &PingRequest::to(ip(address)).count(2))?;
            assert_eq!((report.received, report.errors.len()), (0, 2), "{address}: {report:?}");
            assert!(
                report.errors.iter().all(|e| e.to_string().contains("nreachable")),
                "{report:?}"
            );
        }
    }
    let all = || {
        let counters = program.counters();
        (counters.drops.of(DropReason::NoPeer), counters.answers) == (8, 8)
    };
    within(Duration::from_secs(10), all).expect("all are counted");
    // A flood is not answered in full.
    let flood = udp(&a.container, ip("10.244.1.2"), 0);
    for _ in 0..5000 {
        // What has been told is an error of the next send.
        let _ = flood.send_to(b"?", (ip("10.244.9.2"), 9));
    }
    let some = || program.counters().answers_withheld > 0;
    within(Duration::from_secs(10), some).expect("not all are answered");
    let counters = program.counters();
    let told = counters.answers - 8;
    assert!((50..5000).contains(&told), "{counters:?}");
    Ok(())
}

fn no_way() -> Outcome {
    let RoutedSite { a, b, router } = &routed_site()?;
    let (program, _other) = joined(a, b, &options());
    router.set_down("p2")?;
    let address = b.container_address(IpVersion::V4);
    let told = || {
        let report =
            ping(&a.container, &PingRequest::to(address).timeout(Duration::from_millis(100)));
        !report.expect("a ping").errors.is_empty()
    };
    // The router tells this node, which tells the next one that sends there.
    let _ = within(Duration::from_secs(5), told);
    // The kernel of this node does not remember what the router said, so that a new packet goes out again.
    a.host.set_down("eth0")?;
    within(Duration::from_secs(5), told).expect("the container is told");
    assert!(program.counters().drops.of(DropReason::Unreachable) > 0);
    Ok(())
}

fn narrow() -> Outcome {
    for underlay in IpVersion::ALL {
        let RoutedSite { a, b, router } = &routed_site()?;
        let (program, _other) = joined(a, b, &over(underlay));
        router.mtu("p2", 1400)?;
        b.host.mtu("eth0", 1400)?;
        let overhead = underlay.header_len() + 8;
        for version in IpVersion::ALL {
            let address = b.container_address(version);
            let time = Duration::from_millis(500);
            let flow = throughput(&a.container, &b.container, address, time)?;
            assert!(flow.bits_per_second() > f64::from(paced(10_000_000)), "{flow:?}");
            assert_eq!(path_mtu(&a.container, address)?, 1400 - overhead);
        }
        let counters = program.counters();
        assert_eq!(counters.path_mtus, [(b.outside(underlay), 1400)], "{counters:?}");
        assert!(counters.drops.of(DropReason::TooBig) > 0, "{counters:?}");
        // Whoever lets his packets be cut need not know.
        let v4 = b.container_address(IpVersion::V4);
        let report = ping(&a.host, &PingRequest::to(v4).count(3).payload(1444))?;
        assert!(report.received >= 2, "{report:?}");
        let levels = program.forwarder().levels();
        assert!(levels.segments > 1, "the path is no reason to step down: {levels:?}");
    }
    Ok(())
}

fn very_narrow() -> Outcome {
    let RoutedSite { a, b, router } = &routed_site()?;
    let (program, _other) = joined(a, b, &options());
    router.mtu("p2", 1000)?;
    b.host.mtu("eth0", 1000)?;
    let address = b.container_address(IpVersion::V6);
    let long = PingRequest::to(address).count(3).payload(1280 - 48);
    ping(&a.container, &long)?;
    let report = ping(&a.container, &long)?;
    assert!(report.perfect(), "{report:?} {:?}", program.counters());
    assert_eq!(path_mtu(&a.container, address)?, 1280);
    Ok(())
}

fn congestion() -> Outcome {
    for underlay in IpVersion::ALL {
        let Site { a, switch, .. } = &site()?;
        let elsewhere = Host::new("elsewhere")?;
        plug(switch, &elsewhere, 7)?;
        let outside = match underlay {
            IpVersion::V4 => ip("192.168.32.7"),
            IpVersion::V6 => ip("fd00:32::7"),
        };
        let mut peer = a.peer();
        peer.id = "elsewhere".into();
        peer.subnets = subnets(7);
        peer.endpoints = vec![outside];
        let program = a.program(&over(underlay)).with_peers([peer]);
        let socket = udp(&elsewhere, outside, PORT);
        let (here, there) = (a.container_address(IpVersion::V4), ip("10.244.7.2"));
        let inner = udp(&a.container, here, 4000);
        let patience = Duration::from_secs(10);
        let has = |frame: &[u8], text: &[u8]| frame.windows(text.len()).any(|it| it == text);

        // What leaves has the inner mark on the outside.
        let outer = capture(&elsewhere, ETH0)?;
        for ecn in [0b10, 0b01, 0b00] {
            outer.clear();
            set_ip_tos(&inner, ecn)?;
            inner.send_to(b"marked", (there, 4000))?;
            let frame = outer.wait_for(patience, |frame| has(frame, b"marked"))?;
            let mark = match underlay {
                IpVersion::V4 => frame.bytes[15] & 3,
                IpVersion::V6 => frame.bytes[15] >> 4 & 3,
            };
            assert_eq!(mark, ecn);
        }
        // What comes in with the mark of a router has it inside, if it may.
        match underlay {
            IpVersion::V4 => set_ip_tos(&socket, 0b11)?,
            IpVersion::V6 => set_ipv6_tclass(&socket, 0b11)?,
        }
        let delivered = capture(&a.container, ETH0)?;
        for (ecn, expected) in [(0b10_u8, 0b11), (0b01, 0b11), (0b11, 0b11), (0b00, 0b00)] {
            delivered.clear();
            let text = format!("mark {ecn:b}");
            let packet = Inner::udp(there, here, text.as_bytes()).ecn(ecn).packet();
            socket.send_to(&packet, (a.outside(underlay), PORT))?;
            let found = |frame: &[u8]| has(frame, text.as_bytes());
            if expected == 0 {
                let dropped = || program.counters().drops.of(DropReason::Congestion) == 1;
                within(patience, dropped).expect("it is counted");
                assert!(delivered.frames().iter().all(|frame| !found(&frame.bytes)));
            } else {
                let frame = delivered.wait_for(patience, found)?;
                assert_eq!(frame.bytes[15] & 3, expected, "{ecn:b}");
            }
        }
    }
    Ok(())
}
