//! Loss, delay and offload on a wire.

use std::time::Duration;

use overlay_lab::{Host, PingRequest, Switch, Wire, WireConfig, path_mtu, ping, throughput};

use crate::{Case, Outcome, address_pair, ips, nets};

pub(crate) const CASES: [Case; 8] = [
    ("a perfect wire carries everything", perfect),
    ("a wire loses what it should", loss),
    ("a wire delays both ways", delay),
    ("a full wire drops", full),
    ("a wire has an MTU", mtu),
    ("TCP crosses a wire in large segments", tcp),
    ("without segmentation offload packets have the MTU's size", segmented),
    ("a wire plugs into a switch", switched),
];

fn wired(config: WireConfig, seed: u64) -> overlay_lab::Result<(Host, Host, Wire)> {
    let (a, b) = (Host::new("a")?, Host::new("b")?);
    let wire = Wire::new(&a, "eth0", &b, "eth0", config, seed)?;
    address_pair(&a, &b)?;
    Ok((a, b, wire))
}

fn perfect() -> Outcome {
    let (a, b, wire) = wired(WireConfig::new(), 1)?;
    for to in ips(["10.0.0.2", "fd00::2"]) {
        for payload in [0, 56, 1452, 8000] {
            let report = ping(&a, &PingRequest::to(to).count(3).payload(payload))?;
            assert!(report.perfect(), "{to} {payload}: {report:?}");
        }
    }
    let [there, back] = wire.stats();
    assert!(there.forwarded > 24 && back.forwarded > 24, "{there:?} {back:?}");
    assert_eq!((there.lost, back.lost, there.dropped, back.dropped), (0, 0, 0, 0));
    drop(wire);
    // The devices go with the wire, a moment later.
    for host in [&a, &b] {
        for _ in 0..500 {
            if host.set_up("eth0").is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(host.set_up("eth0").is_err());
    }
    Ok(())
}

fn answered(a: &Host, to: &str) -> Result<Vec<u16>, overlay_lab::Error> {
    let request = PingRequest::to(ips([to])[0])
        .count(200)
        .interval(Duration::from_millis(2))
        .timeout(Duration::from_millis(200));
    Ok(ping(a, &request)?.replies.iter().map(|reply| reply.seq).collect())
}

fn loss() -> Outcome {
    let (a, _b, wire) = wired(WireConfig::new(), 42)?;
    for to in ["10.0.0.2", "fd00::2"] {
        // Resolved addresses first, or losing that packet loses them all.
        wire.set(WireConfig::new());
        assert!(ping(&a, &PingRequest::to(ips([to])[0]))?.perfect());
        wire.set(WireConfig::new().loss(1.0));
        let before = wire.stats()[0];
        let report =
            ping(&a, &PingRequest::to(ips([to])[0]).count(5).timeout(Duration::from_millis(100)))?;
        let after = wire.stats()[0];
        assert_eq!((report.sent, report.received), (5, 0));
        assert!(after.lost - before.lost >= 5 && after.forwarded == before.forwarded);
        wire.set(WireConfig::new().loss(0.5));
        let there_and_back = answered(&a, to)?.len();
        assert!(
            (25..=75).contains(&there_and_back),
            "{there_and_back} of 200 at a chance of a quarter"
        );
    }
    Ok(())
}

fn delay() -> Outcome {
    let (a, _b, wire) = wired(WireConfig::new().delay(Duration::from_millis(30)), 1)?;
    for to in ips(["10.0.0.2", "fd00::2"]) {
        assert!(ping(&a, &PingRequest::to(to))?.perfect());
        let report = ping(&a, &PingRequest::to(to).count(10).interval(Duration::from_millis(5)))?;
        assert!(report.perfect(), "{report:?}");
        let fastest = report.replies.iter().map(|reply| reply.rtt).min().expect("replies");
        assert!(
            fastest >= Duration::from_millis(60) && fastest < Duration::from_millis(90),
            "{fastest:?}"
        );
        let order: Vec<u16> = report.replies.iter().map(|reply| reply.seq).collect();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
    }
    wire.set(WireConfig::new());
    let report = ping(&a, &PingRequest::to(ips(["10.0.0.2"])[0]))?;
    assert!(report.replies[0].rtt < Duration::from_millis(30), "{report:?}");
    Ok(())
}

fn full() -> Outcome {
    let (a, _b, wire) = wired(WireConfig::new(), 1)?;
    let to = ips(["10.0.0.2"])[0];
    assert!(ping(&a, &PingRequest::to(to))?.perfect());
    wire.set(WireConfig::new().delay(Duration::from_millis(300)).queue(4));
    let report = ping(&a, &PingRequest::to(to).count(20).interval(Duration::ZERO))?;
    assert!((1..=4).contains(&report.received), "{report:?}");
    assert!(wire.stats()[0].dropped >= 16);
    Ok(())
}

fn mtu() -> Outcome {
    let (a, _b, wire) = wired(WireConfig::new(), 1)?;
    for mtu in [9000, 1400] {
        wire.mtu(mtu)?;
        for to in ips(["10.0.0.2", "fd00::2"]) {
            assert_eq!(path_mtu(&a, to)?, mtu);
        }
    }
    Ok(())
}

fn tcp() -> Outcome {
    let (a, b, wire) = wired(WireConfig::new(), 1)?;
    for to in ips(["10.0.0.2", "fd00::2"]) {
        let before = wire.stats()[0];
        let measured = throughput(&a, &b, to, Duration::from_millis(400))?;
        let frames = wire.stats()[0].forwarded - before.forwarded;
        assert!(measured.bits_per_second() > 50e6, "{measured:?}");
        let per_frame = measured.bytes / frames.max(1);
        assert!(per_frame > 3000, "{per_frame} bytes in a frame: not segmented late");
    }
    Ok(())
}

fn segmented() -> Outcome {
    let (a, b, wire) = wired(WireConfig::new(), 1)?;
    a.feature("eth0", "tx-tcp-segmentation", false)?;
    a.feature("eth0", "tx-tcp6-segmentation", false)?;
    for to in ips(["10.0.0.2", "fd00::2"]) {
        let before = wire.stats()[0];
        let measured = throughput(&a, &b, to, Duration::from_millis(300))?;
        let after = wire.stats()[0];
        let per_frame = measured.bytes / (after.forwarded - before.forwarded).max(1);
        assert!(per_frame < 1500, "{per_frame} bytes in a frame");
    }
    Ok(())
}

fn switched() -> Outcome {
    let (a, b, switch) = (Host::new("a")?, Host::new("b")?, Switch::new("switch")?);
    let config = WireConfig::new().delay(Duration::from_millis(10));
    let wire = switch.plug_wire(&a, "eth0", &nets(["10.0.0.1/24", "fd00::1/64"]), config, 1)?;
    switch.plug(&b, "eth0", &nets(["10.0.0.2/24", "fd00::2/64"]))?;
    for to in ips(["10.0.0.2", "fd00::2"]) {
        let report = ping(&a, &PingRequest::to(to))?;
        assert!(
            report.perfect() && report.replies[0].rtt >= Duration::from_millis(20),
            "{report:?}"
        );
    }
    wire.set(WireConfig::new().loss(1.0));
    let request = PingRequest::to(ips(["fd00::2"])[0]).timeout(Duration::from_millis(100));
    assert_eq!(ping(&a, &request)?.received, 0);
    Ok(())
}
