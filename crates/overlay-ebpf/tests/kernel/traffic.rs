//! Packets cross, whatever they are in.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use overlay_ebpf::attach::Method;
use overlay_ebpf::tunnel::{Arrival, AttachOptions, Dscp, Format, Reason, SourcePort, Xdp};
use overlay_lab::{PingRequest, ping, throughput};

use crate::fixture::{Pair, UDP, pair, pair_of};
use crate::{Case, Outcome};

const PLAIN: AttachOptions = AttachOptions::new();

pub(crate) const CASES: [Case; 15] = [
    ("IP in UDP over IPv4", || crosses(UDP, false, PLAIN)),
    ("IP in UDP over IPv6", || crosses(UDP, true, PLAIN)),
    ("IP in IPv4", || crosses(Format::IpInIp, false, PLAIN)),
    ("IP in IPv6", || crosses(Format::IpInIp, true, PLAIN)),
    ("by clsact filters", || crosses(UDP, false, PLAIN.method(Method::Clsact))),
    ("by native XDP", || crosses(UDP, false, PLAIN.xdp(Xdp::Native))),
    ("by native XDP over IPv6", || crosses(UDP, true, PLAIN.xdp(Xdp::Native))),
    ("to the underlay device", || arrives_on_the_underlay(UDP, PLAIN)),
    ("to the underlay device, IP in IP", || arrives_on_the_underlay(Format::IpInIp, PLAIN)),
    ("to the underlay device by native XDP", || {
        arrives_on_the_underlay(UDP, PLAIN.xdp(Xdp::Native))
    }),
    ("on an Ethernet device", || on_ethernet(UDP, false, PLAIN)),
    ("on an Ethernet device, IP in IPv4", || on_ethernet(Format::IpInIp, false, PLAIN)),
    ("on an Ethernet device, IP in IPv6", || on_ethernet(Format::IpInIp, true, PLAIN)),
    ("on an Ethernet device by native XDP", || {
        on_ethernet(Format::IpInIp, false, PLAIN.xdp(Xdp::Native))
    }),
    ("with ports of flows and inherited services", inherited),
];

/// Both inner versions, echo, UDP with fragments, and TCP.
fn crosses(format: Format, v6: bool, options: AttachOptions) -> Outcome {
    let pair = pair(|node| node.options().format(format), v6, options)?;
    check(&pair)
}

fn arrives_on_the_underlay(format: Format, attach: AttachOptions) -> Outcome {
    let options =
        |node: &crate::fixture::Node| node.options().format(format).arrival(Arrival::Underlay);
    check(&pair_of(options, options, false, attach)?)
}

fn on_ethernet(format: Format, v6: bool, attach: AttachOptions) -> Outcome {
    let options = |node: &crate::fixture::Node| node.ethernet_options().format(format);
    check(&pair_of(options, options, v6, attach)?)
}

fn inherited() -> Outcome {
    let options = |node: &crate::fixture::Node| {
        node.options().source_port(SourcePort::FlowHash).dscp(Dscp::Inherit)
    };
    check(&pair_of(options, options, false, AttachOptions::default())?)
}

fn check(pair: &Pair) -> Outcome {
    let [a, b] = &pair.nodes;
    for v6 in [false, true] {
        for (here, there) in [(a, b), (b, a)] {
            // The first one waits for the neighbour, and arrives all the same.
            let report = ping(&here.host, &PingRequest::to(there.inner(v6)))?;
            assert!(report.perfect(), "{report:?}");
        }
        for len in [0, 1, 64, 1000, 1372, 1373, 3000, 20_000, 65_000] {
            datagram(pair, v6, len)?;
        }
        let to = b.inner(v6);
        let flow = throughput(&a.host, &b.host, to, Duration::from_millis(300))?;
        // A chain that segments wrongly is slower by orders of magnitude.
        assert!(flow.bits_per_second() > 1e8, "{flow:?}");
    }
    for tunnel in &pair.tunnels {
        let counters = tunnel.counters()?;
        assert!(counters.sent.packets > 20 && counters.received.packets > 20, "{counters:?}");
        // Everything took the fast path.
        let others = counters.reasons().filter(|(reason, _)| *reason != Reason::NoPeer);
        assert_eq!(others.count(), 0, "{counters:?}");
    }
    Ok(())
}

/// One datagram, in fragments if it is long, arrives as it was.
fn datagram(pair: &Pair, v6: bool, len: usize) -> Outcome {
    let [a, b] = &pair.nodes;
    let bind = |node: &crate::fixture::Node, address: IpAddr| {
        node.host.run(|| UdpSocket::bind((address, 0)))
    };
    let receiver = bind(b, b.inner(v6))?;
    receiver.set_read_timeout(Some(Duration::from_secs(2)))?;
    let sender = bind(a, a.inner(v6))?;
    let payload: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
    sender.send_to(&payload, receiver.local_addr()?)?;
    let mut buffer = vec![0; 1 << 16];
    let (received, from) = receiver.recv_from(&mut buffer)?;
    assert_eq!(from, sender.local_addr()?);
    assert_eq!(&buffer[..received], payload, "{len} bytes");
    Ok(())
}
