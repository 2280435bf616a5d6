//! Packets cross the overlay.

use std::time::Duration;

use overlay_backend::Backend;
use overlay_lab::vm;
use overlay_lab::{PingRequest, path_mtu, ping, throughput};
use overlay_wire::IpVersion;

use crate::fixture::{Site, joined, options, over, paced, reach, routed_site, site, udp, within};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 6] = [
    ("both families over either", both),
    ("the overlay crosses a router", across_a_router),
    ("the MTU of the device is what passes", mtu),
    ("TCP goes both ways, in super-packets", tcp),
    ("datagrams of every size arrive as they were sent", sizes),
    ("a packet's time to live is one less for each node", ttl),
];

fn both() -> Outcome {
    for underlay in IpVersion::ALL {
        let Site { a, b, .. } = &site()?;
        let (at_a, at_b) = joined(a, b, &over(underlay));
        reach(a, b, &IpVersion::ALL);
        for program in [at_a, at_b] {
            // A packet is counted once it has been written.
            let all = || {
                let counters = program.counters();
                counters.sent.packets >= 24 && counters.received.packets >= 24
            };
            within(Duration::from_secs(10), all).expect("all are counted");
            let counters = program.counters();
            // IPv6 on the device says hello to groups.
            let drops = counters.drops.total();
            let group = counters.drops.of(overlay_backend_udp::DropReason::Group);
            assert_eq!(drops, group, "{counters:?}");
        }
    }
    Ok(())
}

fn across_a_router() -> Outcome {
    let site = routed_site()?;
    for underlay in IpVersion::ALL {
        let _programs = joined(&site.a, &site.b, &over(underlay));
        reach(&site.a, &site.b, &IpVersion::ALL);
    }
    Ok(())
}

fn mtu() -> Outcome {
    for underlay in IpVersion::ALL {
        let Site { a, b, .. } = &site()?;
        let (program, _other) = joined(a, b, &over(underlay));
        for address in b.inside() {
            assert_eq!(path_mtu(&a.container, address)?, program.network.backend().mtu());
            // Longer ones go in fragments, once the container knows.
            let long = PingRequest::to(address).count(3).payload(5000);
            ping(&a.container, &long.clone().count(1))?;
            let report = ping(&a.container, &long)?;
            assert!(report.perfect(), "{address}: {report:?}");
        }
    }
    Ok(())
}

fn tcp() -> Outcome {
    for underlay in IpVersion::ALL {
        let Site { a, b, .. } = &site()?;
        let (at_a, at_b) = joined(a, b, &over(underlay));
        for version in IpVersion::ALL {
            for (from, to) in [(a, b), (b, a)] {
                let address = to.container_address(version);
                let flow = throughput(
                    &from.container,
                    &to.container,
                    address,
                    Duration::from_millis(300),
                )?;
                assert!(
                    flow.bits_per_second() > f64::from(paced(10_000_000)),
                    "{flow:?} over {underlay}"
                );
            }
        }
        for program in [&at_a, &at_b] {
            let counters = program.counters();
            let levels = program.forwarder().levels();
            // Where it takes long to send a packet no others wait for it.
            if levels.segments > 1 && levels.coalesces && !vm::is_inside() {
                let per_train = counters.sent.packets / counters.sent.trains;
                assert!(per_train >= 4, "{levels:?} {counters:?}");
                let per_write = counters.received.packets / counters.received.super_packets;
                assert!(per_write >= 4, "{levels:?} {counters:?}");
            }
        }
    }
    Ok(())
}

fn sizes() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let _programs = joined(a, b, &options());
    for version in IpVersion::ALL {
        let (here, there) = (a.container_address(version), b.container_address(version));
        let (from, to) = (udp(&a.container, here, 4000), udp(&b.container, there, 4000));
        // So that the container knows the path MTU: the datagram that finds out is lost.
        from.send_to(&[0; 1472], (there, 4000))?;
        std::thread::sleep(Duration::from_millis(100));
        let mut room = [0; 4096];
        for len in (0..3000_usize).step_by(7).chain([1424, 1444, 1445]) {
            let sent: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
            from.send_to(&sent, (there, 4000))?;
            let (received, source) = to.recv_from(&mut room)?;
            assert_eq!((&room[..received], source.ip()), (&sent[..], here), "{len} bytes");
        }
    }
    Ok(())
}

fn ttl() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let _programs = joined(a, b, &options());
    for address in b.inside() {
        let report = ping(&a.container, &PingRequest::to(address))?;
        let ttl = report.replies.first().map(|reply| reply.ttl);
        assert_eq!(ttl, Some(62), "{report:?}");
        // It runs out on the first node, on the second one, and in the container it does not.
        for (ttl, arrives) in [(1, false), (2, false), (3, true)] {
            let report = ping(&a.container, &PingRequest::to(address).ttl(ttl))?;
            assert_eq!(report.perfect(), arrives, "{ttl}: {report:?}");
            assert_eq!(report.errors.len(), usize::from(!arrives), "{ttl}: {report:?}");
        }
    }
    Ok(())
}
