//! The bytes on the wire, and what leads there and back, against the other implementation of the formats.

use std::net::IpAddr;
use std::time::Duration;

use overlay_ebpf::tunnel::{AttachOptions, Dscp, Format, Reason};
use overlay_lab::capture;
use overlay_wire::buffer::PacketBuffer;
use overlay_wire::encapsulate::{self, FlowLabel, Outer, SrcPort, Template, UdpChecksum};

use crate::fixture::{INNER_MTU, Node, Pair, TUN, UDP, UNDERLAY, pair, site, udp_packet};
use crate::sys::Tun;
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 7] = [
    ("outer headers are those of overlay-wire", headers),
    ("congestion comes out as RFC 6040 says", congestion),
    ("a peer that is larger than the MTU gets nothing by the fast path", too_big),
    ("packets for nobody reach the reader of the TUN device", unknown),
    ("a peer of user space is left to user space", user_space),
    ("a plain socket speaks the format, both ways", plain_socket),
    ("fragments of outer packets reach the socket", fragments),
];

/// What overlay-wire makes of an inner packet from the first node to the second.
pub(crate) fn expected(pair: &Pair, format: Format, v6: bool, dscp: Dscp, inner: &[u8]) -> Vec<u8> {
    let [a, b] = &pair.nodes;
    let mut outer = Outer::new(a.outer(v6), b.outer(v6));
    outer.udp_checksum = UdpChecksum::Zero;
    outer.flow_label = FlowLabel::Fixed(0);
    if dscp == Dscp::Inherit {
        outer.dscp = encapsulate::Dscp::Inherit;
    }
    let tunnel = match format {
        Format::Udp { port } => {
            outer.src_port = SrcPort::Fixed(port);
            encapsulate::Tunnel::IpInUdp { port }
        }
        _ => encapsulate::Tunnel::IpInIp,
    };
    let mut template = Template::new(&outer, &tunnel).expect("a template");
    let mut buffer = vec![0; 128];
    buffer.extend_from_slice(inner);
    let mut packet = PacketBuffer::new(&mut buffer, 128);
    template.encapsulate(&mut packet).expect("a packet");
    packet.as_slice().to_vec()
}

/// What the first node sends over its underlay when an inner packet is routed to the TUN device.
fn sent(pair: &Pair, inner: &[u8]) -> Option<Vec<u8>> {
    let [a, b] = &pair.nodes;
    let seen = capture(&b.host, UNDERLAY).expect("a capture");
    let tail = inner.to_vec();
    a.send_raw(inner);
    let frame =
        seen.wait_for(Duration::from_secs(1), move |frame| frame.ends_with(&tail[28..])).ok()?;
    Some(frame.bytes[14..].to_vec())
}

fn headers() -> Outcome {
    for format in [UDP, Format::IpInIp] {
        for outer_v6 in [false, true] {
            for dscp in [Dscp::Zero, Dscp::Inherit] {
                let options = |node: &Node| node.options().format(format).dscp(dscp);
                let pair = pair(options, outer_v6, AttachOptions::default())?;
                let [a, b] = &pair.nodes;
                for inner_v6 in [false, true] {
                    for class in [0, 1, 2, 3, 0xb8 | 2] {
                        let (from, to) = (a.inner(inner_v6), b.inner(inner_v6));
                        let inner = udp_packet(from, to, class, b"the inner packet, unmistakably");
                        let outer = sent(&pair, &inner).expect("a packet on the wire");
                        let expected = expected(&pair, format, outer_v6, dscp, &inner);
                        assert_eq!(outer, expected, "{format:?} {dscp:?} {class:#x}");
                    }
                }
            }
        }
    }
    Ok(())
}

/// Every combination of outer and inner mark, by the table in section 4.2.
fn congestion() -> Outcome {
    const NOT_ECT: u8 = 0;
    const ECT_1: u8 = 1;
    const ECT_0: u8 = 2;
    const CE: u8 = 3;
    const NEXT: i32 = -1;
    const DROP: i32 = 2;
    const REDIRECT: i32 = 7;
    for outer_v6 in [false, true] {
        let pair = pair(|node| node.options(), outer_v6, AttachOptions::default())?;
        let [a, b] = &pair.nodes;
        for inner_v6 in [false, true] {
            for outer in 0..4 {
                for inner in 0..4 {
                    let (from, to) = (a.inner(inner_v6), b.inner(inner_v6));
                    let packet = udp_packet(from, to, 0x28 | inner, b"payload");
                    let mut outside = expected(&pair, UDP, outer_v6, Dscp::Zero, &packet);
                    set_class(&mut outside, outer);
                    let run = pair.tunnels[1].ingress().test_run(&framed(&outside), 1)?;
                    let answer = match (outer, inner) {
                        (CE, NOT_ECT) => DROP,
                        // Left to user space.
                        (ECT_1, ECT_0) => NEXT,
                        _ => REDIRECT,
                    };
                    assert_eq!(run.answer, answer, "outer {outer}, inner {inner}");
                    if answer == REDIRECT {
                        let told = if outer == CE { CE } else { inner };
                        let arrived = udp_packet(from, to, 0x28 | told, b"payload");
                        assert_eq!(run.packet[14..], arrived, "outer {outer}, inner {inner}");
                    }
                }
            }
        }
    }
    Ok(())
}

/// An outer packet with another traffic class.
fn set_class(packet: &mut [u8], class: u8) {
    if packet[0] >> 4 == 6 {
        packet[0] = 0x60 | class >> 4;
        packet[1] = class << 4 | packet[1] & 0x0f;
    } else {
        packet[1] = class;
        packet[10..12].fill(0);
        let checksum = overlay_wire::checksum::of(&packet[..20]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A packet in an Ethernet frame to the device of test packets, whose address is zero.
pub(crate) fn framed(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2];
    frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend_from_slice(packet);
    frame
}

fn too_big() -> Outcome {
    let pair = pair(|node| node.options(), false, AttachOptions::default())?;
    let [a, b] = &pair.nodes;
    for v6 in [false, true] {
        let packet = |len: usize| {
            let headers = if v6 { 48 } else { 28 };
            udp_packet(a.inner(v6), b.inner(v6), 0, &vec![0x5a; len - headers])
        };
        let fits = packet(INNER_MTU.into());
        assert!(sent(&pair, &fits).is_some());
        let before = pair.tunnels[0].counters()?;
        let mut smaller = b.remote(false);
        smaller.mtu = INNER_MTU - 1;
        for subnet in b.subnets() {
            pair.tunnels[0].set_peer(subnet, &smaller)?;
        }
        let reader = Tun::open(&a.host, TUN);
        a.send_raw(&fits);
        assert_eq!(reader.read(|packet| packet == fits).as_deref(), Some(&fits[..]));
        let after = pair.tunnels[0].counters()?;
        assert_eq!(after.of(Reason::TooBig), before.of(Reason::TooBig) + 1);
        assert_eq!(after.sent, before.sent);
        for subnet in b.subnets() {
            pair.tunnels[0].set_peer(subnet, &b.remote(false))?;
        }
    }
    Ok(())
}

fn unknown() -> Outcome {
    let pair = pair(|node| node.options(), false, AttachOptions::default())?;
    let [a, b] = &pair.nodes;
    let reader = Tun::open(&a.host, TUN);
    for nobody in ["10.244.77.1", "fd00:244:77::1"] {
        let nobody: IpAddr = nobody.parse()?;
        let packet = udp_packet(a.inner(nobody.is_ipv6()), nobody, 0, b"to whom it may concern");
        a.send_raw(&packet);
        assert_eq!(reader.read(|p| p == packet), Some(packet));
    }
    assert!(pair.tunnels[0].counters()?.of(Reason::NoPeer) >= 2);
    // A peer that is gone is nobody, too, and what it sends is somebody else's.
    for subnet in b.subnets() {
        assert!(pair.tunnels[0].remove_peer(subnet)?);
        assert!(!pair.tunnels[0].remove_peer(subnet)?);
    }
    let packet = udp_packet(a.inner(false), b.inner(false), 0, b"too late");
    a.send_raw(&packet);
    assert_eq!(reader.read(|p| p == packet), Some(packet));
    Ok(())
}

fn user_space() -> Outcome {
    let pair = pair(|node| node.options(), false, AttachOptions::default())?;
    let [a, b] = &pair.nodes;
    for subnet in b.subnets() {
        pair.tunnels[0].set_peer(subnet, &b.remote(false).fast(false))?;
    }
    let reader = Tun::open(&a.host, TUN);
    let packet = udp_packet(a.inner(false), b.inner(false), 0, b"slowly");
    a.send_raw(&packet);
    assert_eq!(reader.read(|p| p == packet), Some(packet));
    let counters = pair.tunnels[0].counters()?;
    assert_eq!((counters.of(Reason::UserSpace), counters.sent.packets), (1, 0));
    Ok(())
}

/// The other end has no programs: a socket, whose datagrams are packets.
fn plain_socket() -> Outcome {
    for outer_v6 in [false, true] {
        let [a, b] = &site()?;
        let tunnel = a.tunnel(&a.options(), b, outer_v6);
        let _attached = a.attach(&tunnel, AttachOptions::default());
        let socket = b.plain_socket(outer_v6)?;
        for v6 in [false, true] {
            for len in [0, 1, 100, 1300, usize::from(INNER_MTU) - 48] {
                let payload = vec![0xa5; len];
                let there = udp_packet(a.inner(v6), b.inner(v6), 0, &payload);
                let back = udp_packet(b.inner(v6), a.inner(v6), 0, &payload);
                a.send_raw(&there);
                let mut buffer = [0; 2048];
                let (got, from) = socket.recv_from(&mut buffer)?;
                assert_eq!(buffer[..got], there);
                assert_eq!(from.ip(), a.outer(outer_v6));
                let receiver = a.listen(v6)?;
                socket.send_to(&back, from)?;
                let got = receiver.recv(&mut buffer)?;
                assert_eq!(buffer[..got], payload);
            }
        }
        assert_eq!(tunnel.counters()?.received.packets, 10);
    }
    Ok(())
}

fn fragments() -> Outcome {
    let pair = pair(|node| node.options(), false, AttachOptions::default())?;
    let [a, b] = &pair.nodes;
    let receiver = a.plain_socket(false)?;
    let sender = b.plain_socket(false)?;
    let datagram = vec![0x45; 3000];
    sender.send_to(&datagram, receiver.local_addr()?)?;
    let mut buffer = [0; 4096];
    let (got, _) = receiver.recv_from(&mut buffer)?;
    assert_eq!(buffer[..got], datagram);
    assert_eq!(pair.tunnels[0].counters()?.received.packets, 0);
    Ok(())
}
