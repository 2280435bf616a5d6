//! Packets cross the overlay.

use std::time::Duration;

use overlay_backend::{Backend, Peer};
use overlay_backend_ipip::IpIpOptions;
use overlay_lab::{Capture, Frame, PingRequest, capture, path_mtu, ping, vm};
use overlay_wire::IpVersion::{self, V4, V6};
use overlay_wire::dissect::{Dissection, Dissector, Kind, Start};

use crate::fixture::{ETH0, Site, Spot, join, reach, routed_site, run, site};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 8] = [
    ("IPv4 in IPv4", || carried(V4, V4)),
    ("IPv6 in IPv4", || carried(V6, V4)),
    ("IPv4 in IPv6", || carried(V4, V6)),
    ("IPv6 in IPv6", || carried(V6, V6)),
    ("each family in its own where the underlay has both", own_family),
    ("a peer with half of the underlay is reached by that", half),
    ("the overlay crosses a router", across_a_router),
    ("the MTU of the devices is what passes", mtu),
];

pub(crate) fn only(inner: IpVersion, outer: IpVersion) -> IpIpOptions {
    IpIpOptions::default().carries([inner]).underlays([outer])
}

fn carried(inner: IpVersion, outer: IpVersion) -> Outcome {
    let Site { a, b, .. } = &site()?;
    join(a, b, &only(inner, outer));
    let seen = capture(&a.host, ETH0)?;
    reach(a, b, &[inner]);
    let frame = seen.wait_for(Duration::from_secs(1), |frame| is_echo(frame, a, b, inner))?;
    assert_eq!(families(&frame), [outer, inner], "{frame:?}");
    let dissector = Dissector::new(Start::Ethernet);
    let ours = dissector.dissect(&frame.bytes);
    assert_eq!(ours.error(), None, "{ours}");
    let overhead = ours.outermost().expect("an encapsulation").overhead();
    assert_eq!(overhead, outer.header_len() as usize, "{ours}");
    same_as_tcpdump(&seen, &frame, a)
}

/// tcpdump prints the frame as we do. It runs in the machine only: in a user namespace it gives up.
fn same_as_tcpdump(seen: &Capture, frame: &Frame, a: &Spot) -> Outcome {
    if !vm::is_inside() {
        return Ok(());
    }
    let path = std::env::temp_dir().join(format!("ipip-{}.pcap", std::process::id()));
    seen.write_pcap(&path)?;
    let printed = run(&a.host, &format!("tcpdump -Z root -nr {}", path.display()));
    std::fs::remove_file(&path)?;
    let printed = match printed {
        Ok(printed) => printed,
        Err(why) => return Ok(overlay_lab::cannot_run("a second opinion", "tcpdump", &why)?),
    };
    let ours = Dissector::new(Start::Ethernet).dissect(&frame.bytes).to_string();
    let same =
        printed.lines().any(|line| line.split_once(' ').is_some_and(|(_, line)| line == ours));
    assert!(same, "{ours}\n{printed}");
    Ok(())
}

/// The families of a frame's IP headers, from the outside in.
fn families(frame: &Frame) -> Vec<IpVersion> {
    let dissector = Dissector::new(Start::Ethernet);
    headers(&dissector.dissect(&frame.bytes)).map(|(src, _)| IpVersion::of(src)).collect()
}

fn headers<'a>(
    packet: &'a Dissection<'_, '_>,
) -> impl Iterator<Item = (std::net::IpAddr, std::net::IpAddr)> + 'a {
    packet.layers().filter_map(|layer| match layer.kind {
        Kind::Ipv4(ip) => Some((ip.src().into(), ip.dst().into())),
        Kind::Ipv6(ip) => Some((ip.src().into(), ip.dst().into())),
        _ => None,
    })
}

/// Whether a packet is one from the container of `a` to that of `b`.
fn is_echo(frame: &[u8], a: &Spot, b: &Spot, inner: IpVersion) -> bool {
    let dissector = Dissector::new(Start::Ethernet);
    let packet = dissector.dissect(frame);
    headers(&packet).last() == Some((a.inside(inner), b.inside(inner)))
}

fn own_family() -> Outcome {
    let Site { a, b, .. } = &site()?;
    join(a, b, &IpIpOptions::default());
    let seen = capture(&a.host, ETH0)?;
    reach(a, b, &IpVersion::ALL);
    for inner in IpVersion::ALL {
        let frame = seen.wait_for(Duration::from_secs(1), |frame| is_echo(frame, a, b, inner))?;
        assert_eq!(families(&frame), [inner, inner], "{frame:?}");
    }
    Ok(())
}

fn half() -> Outcome {
    for outer in IpVersion::ALL {
        let Site { a, b, .. } = &site()?;
        let half = |peer: Peer| {
            let endpoints = peer.endpoints.iter().copied();
            let endpoints = endpoints.filter(|address| IpVersion::of(*address) == outer).collect();
            Peer { endpoints, ..peer }
        };
        a.program(&IpIpOptions::default(), half(b.peer())).converge();
        // The other end sends by what it has, and both receive whatever comes.
        b.program(&IpIpOptions::default().underlays([outer]), a.peer()).converge();
        reach(a, b, &IpVersion::ALL);
    }
    Ok(())
}

fn across_a_router() -> Outcome {
    let (a, b, _router) = &routed_site()?;
    for outer in IpVersion::ALL {
        join(a, b, &IpIpOptions::default().underlays([outer]));
        reach(a, b, &IpVersion::ALL);
    }
    Ok(())
}

fn mtu() -> Outcome {
    for (outer, mtu) in [(V4, 1480), (V6, 1460)] {
        let Site { a, b, .. } = &site()?;
        let programs = join(a, b, &IpIpOptions::default().underlays([outer]));
        assert_eq!(programs[0].network.backend().mtu(), mtu);
        for inner in IpVersion::ALL {
            assert_eq!(path_mtu(&a.container, b.inside(inner))?, mtu, "{inner} in {outer}");
        }
        // What is larger arrives in pieces.
        let large = PingRequest::to(b.inside(V4)).payload(4000).count(2);
        assert!(ping(&a.host, &large)?.perfect(), "{outer}");
    }
    Ok(())
}
