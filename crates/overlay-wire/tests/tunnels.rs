//! Templates against headers emitted one by one, and policies against templates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_wire::buffer::PacketBuffer;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::decapsulate::{
    Accept, Decapsulator, EcnRule, GreKey, Policy, Rejected, Reserved, UdpChecksumRule,
};
use overlay_wire::encapsulate::{
    DontFragment, Dscp, EcnMode, FlowLabel, Link, MAX_GENEVE_OPTIONS, Outer, Refused, SrcPort,
    Template, Ttl, Tunnel, UdpChecksum,
};
use overlay_wire::ethernet::{EtherType, EthernetHeader};
use overlay_wire::flow::{FlowHash, Ports};
use overlay_wire::geneve::{GeneveHeader, GeneveOptions};
use overlay_wire::gre::GreHeader;
use overlay_wire::gue::GueHeader;
use overlay_wire::ip::{Ecn, IpPacket, IpProtocol};
use overlay_wire::ipv4::{self, Ipv4Header, Ipv4Packet};
use overlay_wire::ipv6::{self, Ipv6Header, Ipv6Packet};
use overlay_wire::udp::UdpHeader;
use overlay_wire::vxlan::{GroupPolicy, VxlanHeader};
use overlay_wire::vxlan_gpe::{NextProtocol, VxlanGpeHeader};
use overlay_wire::{Framing, MacAddr, Vni};
use proptest::prelude::*;

/// Room enough for every header.
const HEADROOM: usize = 160;
const OPTIONS: &[u8] = b"\x01\x02\x03\x01four\xff\xff\x04\0";

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn v6(last: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into()
}

fn vni(number: u32) -> Vni {
    Vni::new(number & Vni::MAX.get()).expect("24 bits")
}

/// An inner packet as it should be found again, and what the outer header may take from it.
#[derive(Clone, Debug)]
struct Inner {
    bytes: Vec<u8>,
    framing: Framing,
    /// The version's protocol, and what is inherited. Not without IP.
    ip: Option<Inherited>,
}

#[derive(Clone, Copy, Debug)]
struct Inherited {
    protocol: IpProtocol,
    dscp: u8,
    ecn: Ecn,
    ttl: u8,
    dont_fragment: bool,
}

fn ecn() -> impl Strategy<Value = Ecn> {
    (0..4_u8).prop_map(Ecn::of)
}

fn ip_packet() -> impl Strategy<Value = (Vec<u8>, Inherited)> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let protocol = prop_oneof![Just(6), Just(17), Just(1), any::<u8>()];
    (any::<bool>(), 0..64_u8, ecn(), any::<u8>(), any::<bool>(), protocol, payload, any::<u32>())
        .prop_map(|(is_v4, dscp, ecn, ttl, dont_fragment, protocol, payload, other)| {
            let protocol = IpProtocol(protocol);
            if is_v4 {
                let (src, dst) = (other.into(), Ipv4Addr::new(172, 16, 0, 1));
                let options = if other % 3 == 0 { &b"\x94\x04\0\0"[..] } else { &[] };
                let header = Ipv4Header {
                    dscp,
                    ecn,
                    ttl,
                    dont_fragment,
                    options,
                    ..Ipv4Header::new(src, dst, protocol)
                };
                let mut bytes = [&vec![0; header.header_len()], &payload[..]].concat();
                header.emit(&mut bytes).expect("it fits");
                let protocol = IpProtocol::IPV4;
                (bytes, Inherited { protocol, dscp, ecn, ttl, dont_fragment })
            } else {
                let dst = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, (other >> 16) as u16, other as u16);
                let header = Ipv6Header {
                    dscp,
                    ecn,
                    hop_limit: ttl,
                    flow_label: other & 0xf_ffff,
                    ..Ipv6Header::new(Ipv6Addr::LOCALHOST, dst, protocol)
                };
                let mut bytes = [&[0; ipv6::LEN], &payload[..]].concat();
                header.emit(&mut bytes).expect("it fits");
                let protocol = IpProtocol::IPV6;
                (bytes, Inherited { protocol, dscp, ecn, ttl, dont_fragment: true })
            }
        })
}

fn inner(framing: Framing) -> BoxedStrategy<Inner> {
    match framing {
        Framing::Ip => ip_packet()
            .prop_map(|(bytes, ip)| Inner { bytes, framing: Framing::Ip, ip: Some(ip) })
            .boxed(),
        Framing::Ethernet => (ip_packet(), 0..4_usize, any::<[u8; 12]>())
            .prop_map(|((packet, ip), kind, stations)| {
                let ether_type = EtherType::ip(if ip.protocol == IpProtocol::IPV4 {
                    overlay_wire::IpVersion::V4
                } else {
                    overlay_wire::IpVersion::V6
                })
                .0
                .to_be_bytes();
                let (tags, ether_type, ip): (&[u8], _, _) = match kind {
                    0 => (&[], [0x88, 0xcc], None),
                    1 => (&[], ether_type, Some(ip)),
                    2 => (&[0x81, 0, 0, 7], ether_type, Some(ip)),
                    _ => (&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7], ether_type, Some(ip)),
                };
                let bytes = [&stations, tags, &ether_type, &packet].concat();
                Inner { bytes, framing: Framing::Ethernet, ip }
            })
            .boxed(),
    }
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::Ethernet), Just(Framing::Ip)]
}

fn tunnel() -> impl Strategy<Value = Tunnel<'static>> {
    let group_policy = (any::<u16>(), any::<bool>(), any::<bool>())
        .prop_map(|(id, dont_learn, applied)| GroupPolicy { id, dont_learn, applied });
    let port = any::<u16>();
    let number = any::<u32>().prop_map(vni);
    prop_oneof![
        Just(Tunnel::IpInIp),
        port.prop_map(|port| Tunnel::IpInUdp { port }),
        (port, number.clone(), prop::option::of(group_policy)).prop_map(
            |(port, vni, group_policy)| {
                Tunnel::Vxlan {
                    port,
                    header: VxlanHeader { group_policy, ..VxlanHeader::new(vni) },
                }
            }
        ),
        (port, number.clone(), framing()).prop_map(|(port, vni, carries)| Tunnel::VxlanGpe {
            port,
            vni,
            carries
        }),
        (framing(), any::<bool>(), any::<Option<u32>>(), any::<bool>()).prop_map(
            |(carries, checksum, key, sequence)| Tunnel::Gre { carries, checksum, key, sequence }
        ),
        (port, framing()).prop_map(|(port, carries)| Tunnel::Gue { port, carries }),
        (port, number, framing(), any::<bool>()).prop_map(|(port, vni, carries, options)| {
            let bytes = if options { OPTIONS } else { &[] };
            let options = GeneveOptions::parse(bytes).expect("valid options");
            Tunnel::Geneve { port, vni, carries, options }
        }),
    ]
}

fn outer() -> impl Strategy<Value = Outer> {
    let ttl = prop_oneof![(1..=u8::MAX).prop_map(Ttl::Fixed), Just(Ttl::Inherit)];
    let dscp = prop_oneof![(0..64_u8).prop_map(Dscp::Fixed), Just(Dscp::Inherit)];
    let ecn = prop_oneof![Just(EcnMode::Normal), Just(EcnMode::Compatibility)];
    let dont_fragment = prop_oneof![
        Just(DontFragment::Set),
        Just(DontFragment::Unset),
        Just(DontFragment::Inherit)
    ];
    let label = prop_oneof![(0..1_u32 << 20).prop_map(FlowLabel::Fixed), Just(FlowLabel::Entropy)];
    let port = prop_oneof![
        any::<u16>().prop_map(SrcPort::Fixed),
        Just(SrcPort::Entropy(Ports::DYNAMIC)),
        any::<u16>()
            .prop_map(|first| SrcPort::Entropy(Ports::new(first..=u16::MAX).expect("not empty"))),
    ];
    let checksum = prop_oneof![Just(UdpChecksum::Zero), Just(UdpChecksum::Compute)];
    let rest = (ttl, dscp, ecn, dont_fragment, label, port, checksum);
    (any::<bool>(), any::<bool>(), any::<u16>(), rest).prop_map(|(is_v4, link, first, rest)| {
        let mut outer = if is_v4 { Outer::new(v4(1), v4(2)) } else { Outer::new(v6(1), v6(2)) };
        outer.link = link
            .then_some(Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]) });
        (outer.ttl, outer.dscp, outer.ecn, outer.dont_fragment, ..) = rest;
        (.., outer.flow_label, outer.src_port, outer.udp_checksum) = rest;
        outer.identification = first;
        outer
    })
}

fn case() -> impl Strategy<Value = (Outer, Tunnel<'static>, Inner)> {
    (outer(), tunnel())
        .prop_flat_map(|(outer, tunnel)| (Just(outer), Just(tunnel), inner(tunnel.carries())))
}

/// A packet with a header in front, which `emit` writes.
fn behind<E: std::fmt::Debug>(
    len: usize,
    packet: &[u8],
    emit: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Vec<u8> {
    let mut bytes = [&vec![0xff; len], packet].concat();
    emit(&mut bytes).expect("it fits");
    bytes
}

/// What a template should make of the packet that it sees as its `nth`, header by header.
fn expected(outer: &Outer, tunnel: &Tunnel<'_>, inner: &Inner, nth: u16) -> Vec<u8> {
    let addresses = PseudoHeader::new(outer.src, outer.dst).expect("one version");
    let hash = match inner.framing {
        Framing::Ethernet => FlowHash::of_frame(&inner.bytes),
        Framing::Ip => FlowHash::of_packet(&inner.bytes),
    };
    let carried = inner.ip.map_or(IpProtocol(0), |ip| ip.protocol);
    let is_v4 = carried == IpProtocol::IPV4;
    let frame = inner.framing == Framing::Ethernet;
    let ether_type = match (frame, is_v4) {
        (true, _) => EtherType::ETHERNET,
        (_, true) => EtherType::IPV4,
        (_, false) => EtherType::IPV6,
    };
    let over_udp = |port, packet: &[u8]| {
        let src_port = match outer.src_port {
            SrcPort::Fixed(port) => port,
            SrcPort::Entropy(ports) => hash.port(ports),
        };
        let checksum = (outer.udp_checksum == UdpChecksum::Compute).then_some(&addresses);
        behind(8, packet, |bytes| UdpHeader { src_port, dst_port: port }.emit(bytes, checksum))
    };
    let (protocol, packet) = match *tunnel {
        Tunnel::IpInIp => (carried, inner.bytes.clone()),
        Tunnel::IpInUdp { port } => (IpProtocol::UDP, over_udp(port, &inner.bytes)),
        Tunnel::Vxlan { port, header } => {
            (IpProtocol::UDP, over_udp(port, &behind(8, &inner.bytes, |bytes| header.emit(bytes))))
        }
        Tunnel::VxlanGpe { port, vni, .. } => {
            let next = match (frame, is_v4) {
                (true, _) => NextProtocol::ETHERNET,
                (_, true) => NextProtocol::IPV4,
                (_, false) => NextProtocol::IPV6,
            };
            let header = VxlanGpeHeader::new(vni, next);
            (IpProtocol::UDP, over_udp(port, &behind(8, &inner.bytes, |bytes| header.emit(bytes))))
        }
        Tunnel::Gre { checksum, key, sequence, .. } => {
            let sequence = sequence.then_some(nth.into());
            let header = GreHeader { protocol: ether_type, checksum, key, sequence };
            let packet = behind(header.header_len(), &inner.bytes, |bytes| header.emit(bytes));
            (IpProtocol::GRE, packet)
        }
        Tunnel::Gue { port, .. } => {
            let header = GueHeader::new(if frame { IpProtocol::ETHERNET } else { carried });
            (IpProtocol::UDP, over_udp(port, &behind(4, &inner.bytes, |bytes| header.emit(bytes))))
        }
        Tunnel::Geneve { port, vni, options, .. } => {
            let header = GeneveHeader { options, ..GeneveHeader::new(vni, ether_type) };
            let packet = behind(header.header_len(), &inner.bytes, |bytes| header.emit(bytes));
            (IpProtocol::UDP, over_udp(port, &packet))
        }
        _ => panic!("a tunnel without a test"),
    };
    let dscp = match outer.dscp {
        Dscp::Fixed(dscp) => dscp,
        Dscp::Inherit => inner.ip.map_or(0, |ip| ip.dscp),
    };
    let ecn = match outer.ecn {
        EcnMode::Normal => inner.ip.map_or(Ecn::NotEct, |ip| ip.ecn),
        EcnMode::Compatibility => Ecn::NotEct,
    };
    let ttl = match outer.ttl {
        Ttl::Fixed(ttl) => ttl,
        Ttl::Inherit => inner.ip.map_or(64, |ip| ip.ttl),
    };
    let (ether_type, packet) = match addresses {
        PseudoHeader::V4 { src, dst } => {
            let dont_fragment = match outer.dont_fragment {
                DontFragment::Set => true,
                DontFragment::Unset => false,
                DontFragment::Inherit => inner.ip.is_some_and(|ip| ip.dont_fragment),
            };
            let identification =
                if dont_fragment { 0 } else { outer.identification.wrapping_add(nth) };
            let header = Ipv4Header {
                dscp,
                ecn,
                ttl,
                dont_fragment,
                identification,
                ..Ipv4Header::new(src, dst, protocol)
            };
            (EtherType::IPV4, behind(ipv4::LEN, &packet, |bytes| header.emit(bytes)))
        }
        PseudoHeader::V6 { src, dst } => {
            let flow_label = match outer.flow_label {
                FlowLabel::Fixed(label) => label,
                FlowLabel::Entropy => hash.label(),
            };
            let header = Ipv6Header {
                dscp,
                ecn,
                hop_limit: ttl,
                flow_label,
                ..Ipv6Header::new(src, dst, protocol)
            };
            (EtherType::IPV6, behind(ipv6::LEN, &packet, |bytes| header.emit(bytes)))
        }
    };
    match outer.link {
        None => packet,
        Some(Link { src, dst }) => {
            behind(14, &packet, |bytes| EthernetHeader { dst, src, ether_type }.emit(bytes))
        }
    }
}

/// The policy that accepts a tunnel's packets and no others.
fn accepting(outer: &Outer, tunnel: &Tunnel<'_>) -> Policy {
    let framing = if outer.link.is_some() { Framing::Ethernet } else { Framing::Ip };
    let mut policy = Policy::new(framing, tunnel.into());
    (policy.local, policy.remote) = (Some(outer.dst), Some(outer.src));
    policy.reserved = Reserved::Reject;
    if outer.udp_checksum == UdpChecksum::Zero {
        policy.udp_checksum = UdpChecksumRule::IfPresent;
    }
    policy
}

fn with(mut policy: Policy, change: impl FnOnce(&mut Policy)) -> Policy {
    change(&mut policy);
    policy
}

fn buffer(inner: &[u8]) -> Vec<u8> {
    [&[0xee; HEADROOM], inner, &[0xdd; 7]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_template_writes_what_its_headers_would(
        (outer, tunnel, inner) in case(),
        given in any::<Option<u32>>(),
    ) {
        let mut template = Template::new(&outer, &tunnel).unwrap();
        for nth in 0..3 {
            let mut bytes = buffer(&inner.bytes);
            let mut packet = PacketBuffer::new(&mut bytes, HEADROOM).truncated(inner.bytes.len());
            let expected = expected(&outer, &tunnel, &inner, nth);
            template.encapsulate(&mut packet).unwrap();
            prop_assert_eq!(packet.as_slice(), &expected[..]);
            prop_assert_eq!(template.header_len(), expected.len() - inner.bytes.len());
            prop_assert_eq!(packet.headroom(), HEADROOM - template.header_len());
            prop_assert_eq!(&bytes[..HEADROOM - template.header_len()], &[0xee; HEADROOM][template.header_len()..]);
            prop_assert_eq!(&bytes[HEADROOM + inner.bytes.len()..], &[0xdd; 7]);
        }
        // A flow that is known shows in the port and the label only.
        let hash = given.map_or_else(|| match inner.framing {
            Framing::Ethernet => FlowHash::of_frame(&inner.bytes),
            Framing::Ip => FlowHash::of_packet(&inner.bytes),
        }, FlowHash);
        let mut bytes = buffer(&inner.bytes);
        let mut packet = PacketBuffer::new(&mut bytes, HEADROOM).truncated(inner.bytes.len());
        template.encapsulate_flow(&mut packet, hash).unwrap();
        if given.is_none() {
            prop_assert_eq!(packet.as_slice(), expected(&outer, &tunnel, &inner, 3));
        }
        let decapsulator = Decapsulator::new(&accepting(&outer, &tunnel));
        let learned = decapsulator.decapsulate(&mut packet).unwrap();
        if let (Some(port), SrcPort::Entropy(ports)) = (learned.src_port(), outer.src_port) {
            prop_assert_eq!(port, hash.port(ports));
        }
    }

    #[test]
    fn what_goes_in_comes_out((outer, tunnel, inner) in case()) {
        let mut template = Template::new(&outer, &tunnel).unwrap();
        let decapsulator = Decapsulator::new(&accepting(&outer, &tunnel));
        for nth in 0..2 {
            let mut bytes = buffer(&inner.bytes);
            let mut packet = PacketBuffer::new(&mut bytes, HEADROOM).truncated(inner.bytes.len());
            template.encapsulate(&mut packet).unwrap();
            let learned = decapsulator.decapsulate(&mut packet).unwrap();
            prop_assert_eq!(learned.inner(), &inner.bytes[..]);
            prop_assert_eq!((learned.src(), learned.dst()), (outer.src, outer.dst));
            prop_assert_eq!(learned.carries(), inner.framing);
            prop_assert_eq!(learned.headers().len(), template.header_len());
            let ecn = match (outer.ecn, inner.ip) {
                (EcnMode::Normal, Some(ip)) => ip.ecn,
                _ => Ecn::NotEct,
            };
            prop_assert_eq!(learned.ecn(), ecn);
            let inner_src = (inner.framing == Framing::Ethernet)
                .then(|| MacAddr(inner.bytes[6..12].try_into().unwrap()))
                .filter(|mac| mac.is_unicast());
            prop_assert_eq!(learned.inner_src(), inner_src);
            let mut expected = (None, None, None, None);
            match tunnel {
                Tunnel::Vxlan { header, .. } => {
                    (expected.0, expected.1) = (Some(header.vni), header.group_policy);
                }
                Tunnel::VxlanGpe { vni, .. } | Tunnel::Geneve { vni, .. } => expected.0 = Some(vni),
                Tunnel::Gre { key, sequence, .. } => {
                    (expected.2, expected.3) = (key, sequence.then_some(nth));
                }
                _ => {}
            }
            let told = (learned.vni(), learned.group_policy(), learned.key(), learned.sequence());
            prop_assert_eq!(told, expected);
            let options = match tunnel {
                Tunnel::Geneve { options, .. } => Some(options),
                _ => None,
            };
            prop_assert_eq!(learned.geneve_options(), options);
            prop_assert_eq!(packet.as_slice(), &inner.bytes[..]);
        }
    }

    #[test]
    fn what_is_rejected_stays_as_it_was(
        (outer, tunnel, inner) in case(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut template = Template::new(&outer, &tunnel).unwrap();
        let mut bytes = buffer(&inner.bytes);
        let mut packet = PacketBuffer::new(&mut bytes, HEADROOM).truncated(inner.bytes.len());
        template.encapsulate(&mut packet).unwrap();
        let good = packet.into_slice().to_vec();
        let decapsulator = Decapsulator::new(&accepting(&outer, &tunnel));
        let mut bad = good.clone();
        for (at, xor) in damage {
            // Where the headers are.
            bad[at.index(template.header_len())] ^= xor;
        }
        for mut bad in [bad, good[..cut.index(good.len())].to_vec()] {
            let before = bad.clone();
            let mut packet = PacketBuffer::new(&mut bad, 0);
            if decapsulator.decapsulate(&mut packet).is_err() {
                prop_assert_eq!(packet.as_slice(), &before[..]);
            }
        }
    }

    #[test]
    fn congestion_is_told_as_rfc_6040_says((packet, ip) in ip_packet(), outer_ecn in ecn(), framed: bool) {
        let tunnel = if framed {
            Tunnel::Vxlan { port: 4789, header: VxlanHeader::new(vni(1)) }
        } else {
            Tunnel::IpInUdp { port: 8285 }
        };
        let ether_type = if ip.protocol == IpProtocol::IPV4 { [8, 0] } else { [0x86, 0xdd] };
        let header = [&[2; 12], &ether_type[..]].concat();
        let header: &[u8] = if framed { &header } else { &[] };
        let inner = [header, &packet].concat();
        let mut bytes = buffer(&inner);
        let mut buffer = PacketBuffer::new(&mut bytes, HEADROOM).truncated(inner.len());
        let outer = Outer::new(v4(1), v4(2));
        Template::new(&outer, &tunnel).unwrap().encapsulate(&mut buffer).unwrap();
        ipv4::set_ecn(buffer.as_mut_slice(), outer_ecn).unwrap();
        let mut ignoring = accepting(&outer, &tunnel);
        ignoring.ecn = EcnRule::Ignore;
        let decapsulator = Decapsulator::new(&accepting(&outer, &tunnel));
        let result = decapsulator.decapsulate(&mut buffer).map(|_| ());
        // RFC 6040, figure 4, read column by column.
        let expected = match (outer_ecn, ip.ecn) {
            (Ecn::Ce, Ecn::NotEct) => {
                prop_assert_eq!(result, Err(Rejected::Congestion));
                Decapsulator::new(&ignoring).decapsulate(&mut buffer).unwrap();
                Ecn::NotEct
            }
            (Ecn::Ce, _) => Ecn::Ce,
            (Ecn::Ect1, Ecn::Ect0) => Ecn::Ect1,
            (_, inner) => inner,
        };
        let found = buffer.as_slice()[header.len()..].to_vec();
        let packet = IpPacket::parse(&found).unwrap();
        prop_assert_eq!(packet.ecn(), expected);
        if let IpPacket::V4(packet) = packet {
            prop_assert!(packet.is_checksum_valid());
        }
    }
}

fn round_trip(
    outer: &Outer,
    tunnel: &Tunnel<'_>,
    policy: &Policy,
    change: impl FnOnce(&mut [u8]),
) -> Result<(IpAddr, Option<GroupPolicy>), Rejected> {
    let inner = match tunnel.carries() {
        Framing::Ethernet => [2; 60],
        Framing::Ip => {
            let mut packet = [0; 60];
            let (src, dst) = (Ipv4Addr::new(172, 16, 0, 1), Ipv4Addr::new(172, 16, 0, 2));
            Ipv4Header::new(src, dst, IpProtocol::UDP).emit(&mut packet).unwrap();
            packet
        }
    };
    let mut bytes = buffer(&inner);
    let mut packet = PacketBuffer::new(&mut bytes, HEADROOM).truncated(inner.len());
    Template::new(outer, tunnel).unwrap().encapsulate(&mut packet).unwrap();
    change(packet.as_mut_slice());
    let learned = Decapsulator::new(policy).decapsulate(&mut packet)?;
    Ok((learned.src(), learned.group_policy()))
}

const VXLAN: Tunnel<'_> =
    Tunnel::Vxlan { port: 4789, header: VxlanHeader::new(Vni::from_octets([0, 0, 1])) };

#[test]
fn a_rejection_says_why() {
    let outer = Outer::new(v4(1), v4(2));
    let policy = accepting(&outer, &VXLAN);
    let check = |change: fn(&mut Policy), reason: &str| {
        let error = round_trip(&outer, &VXLAN, &with(policy, change), |_| {}).unwrap_err();
        assert_eq!(error.to_string(), reason);
    };
    check(|policy| policy.local = Some(v4(9)), "destination: expected 10.0.0.9, found 10.0.0.2");
    check(|policy| policy.remote = Some(v6(9)), "source: expected fd00::9, found 10.0.0.1");
    check(|policy| policy.udp_checksum = UdpChecksumRule::Require, "UDP: no checksum");
    check(
        |policy| {
            policy.accept = Accept::Vxlan { port: 8472, vni: None, group_policy: false };
        },
        "destination port: expected 8472, found 4789",
    );
    check(
        |policy| {
            policy.accept = Accept::Vxlan { port: 4789, vni: Some(vni(7)), group_policy: false };
        },
        "VNI: expected 7, found 1",
    );
    check(
        |policy| policy.accept = Accept::Gre { key: GreKey::None },
        "protocol: found udp, which is not the tunnel's",
    );
    check(|policy| policy.framing = Framing::Ethernet, "EtherType: expected IP, found 0x0a00");

    let changed = |at: usize, byte: u8, policy: &Policy| {
        round_trip(&outer, &VXLAN, policy, |packet| packet[at] = byte)
    };
    let reason = |at, byte| changed(at, byte, &policy).unwrap_err().to_string();
    assert_eq!(reason(1, 0xff), "IPv4: wrong checksum");
    assert_eq!(reason(28, 0), "VXLAN I flag: expected 1, found 0");
    assert_eq!(reason(29, 1), "reserved bits: expected 0, found 0x1000000000000");
    // Group policy that nobody agreed on.
    assert_eq!(reason(28, 0x88), "reserved bits: expected 0, found 0x8000000000000000");
    assert_eq!(reason(24, 1), "UDP length: expected at most 76, found 332");
    let tolerant = with(policy, |policy| policy.reserved = Reserved::Ignore);
    assert!(changed(29, 1, &tolerant).is_ok());
    assert_eq!(changed(28, 0x88, &tolerant), Ok((v4(1), None)));
    let unchecked = with(policy, |policy| policy.verify_ip_checksum = false);
    assert_eq!(changed(6, 0x20, &unchecked), Err(Rejected::Fragment));
    assert_eq!(changed(8, 1, &unchecked), Ok((v4(1), None)));
}

#[test]
fn a_wrong_checksum_is_found_and_can_be_ignored() {
    for outer in [Outer::new(v4(1), v4(2)), Outer::new(v6(1), v6(2))] {
        let outer = {
            let mut outer = outer;
            outer.udp_checksum = UdpChecksum::Compute;
            outer
        };
        let policy = accepting(&outer, &VXLAN);
        let flip = |policy: &Policy| {
            round_trip(&outer, &VXLAN, policy, |packet| *packet.last_mut().unwrap() ^= 1)
        };
        assert_eq!(flip(&policy), Err(Rejected::Checksum("UDP")));
        let require = with(policy, |policy| policy.udp_checksum = UdpChecksumRule::Require);
        assert_eq!(flip(&require), Err(Rejected::Checksum("UDP")));
        assert!(round_trip(&outer, &VXLAN, &require, |_| {}).is_ok());
        let ignore = with(policy, |policy| policy.udp_checksum = UdpChecksumRule::Ignore);
        assert!(flip(&ignore).is_ok());
    }
    let gre = Tunnel::Gre { carries: Framing::Ip, checksum: true, key: Some(5), sequence: true };
    let outer = Outer::new(v4(1), v4(2));
    let policy = accepting(&outer, &gre);
    let result = round_trip(&outer, &gre, &policy, |packet| *packet.last_mut().unwrap() ^= 1);
    assert_eq!(result, Err(Rejected::Checksum("GRE")));
    let other = with(policy, |policy| policy.accept = Accept::Gre { key: GreKey::None });
    let error = round_trip(&outer, &gre, &other, |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "GRE key: expected none, found 5");
}

#[test]
fn options_that_must_be_understood_are_left_to_who_understands_them() {
    let options = GeneveOptions::parse(b"\x01\x02\x83\0").unwrap();
    let tunnel = Tunnel::Geneve { port: 6081, vni: vni(1), carries: Framing::Ethernet, options };
    let outer = Outer::new(v6(1), v6(2));
    let policy = accepting(&outer, &tunnel);
    assert!(round_trip(&outer, &tunnel, &policy, |_| {}).is_ok());
    let accept = Accept::Geneve { port: 6081, vni: None, critical_options: false };
    let others = with(policy, |policy| policy.accept = accept);
    assert_eq!(round_trip(&outer, &tunnel, &others, |_| {}), Err(Rejected::Options));
}

#[test]
fn outer_vlan_tags_are_looked_through() {
    let outer = Outer::new(v4(1), v4(2));
    let mut bytes = buffer(&[2; 60]);
    let mut packet = PacketBuffer::new(&mut bytes, HEADROOM).truncated(60);
    Template::new(&outer, &VXLAN).unwrap().encapsulate(&mut packet).unwrap();
    let tags = [&[2; 12], &b"\x88\xa8\0\x05\x81\0\0\x06\x08\0"[..]].concat();
    let mut tagged = [&tags, packet.as_slice()].concat();
    let policy = with(accepting(&outer, &VXLAN), |policy| policy.framing = Framing::Ethernet);
    let mut packet = PacketBuffer::new(&mut tagged, 0);
    let learned = Decapsulator::new(&policy).decapsulate(&mut packet).unwrap();
    assert_eq!((learned.headers().len(), learned.inner()), (22 + 36, &[2; 60][..]));
}

#[test]
fn a_refused_packet_stays_as_it_was() {
    let outer = Outer::new(v4(1), v4(2));
    let mut template = Template::new(&outer, &VXLAN).unwrap();
    for headroom in 0..36 {
        let mut bytes = [7; 100];
        let mut packet = PacketBuffer::new(&mut bytes, headroom);
        let refused = Refused::Headroom { needed: 36, found: headroom };
        assert_eq!(template.encapsulate(&mut packet), Err(refused));
        assert_eq!(packet.headroom(), headroom);
        assert_eq!(bytes, [7; 100]);
    }
    let mut ip = Template::new(&outer, &Tunnel::IpInIp).unwrap();
    let mut bytes = [0x50; 100];
    let mut packet = PacketBuffer::new(&mut bytes, 50);
    assert_eq!(ip.encapsulate(&mut packet), Err(Refused::NotIp { version: 5 }));
    let too_short = |template: &mut Template, packet: &[u8]| {
        let mut bytes = buffer(packet);
        let mut buffer = PacketBuffer::new(&mut bytes, HEADROOM).truncated(packet.len());
        let why = template.encapsulate(&mut buffer).unwrap_err();
        assert_eq!(buffer.as_slice(), packet);
        why
    };
    for (first, needed) in [(0x45, 20), (0x60, 40)] {
        for found in 1..needed {
            let why = too_short(&mut ip, &vec![first; found]);
            assert_eq!(why, Refused::TooShort { needed, found });
        }
    }
    assert_eq!(too_short(&mut ip, &[]), Refused::TooShort { needed: 20, found: 0 });
    for found in 0..14 {
        let why = too_short(&mut template, &vec![2; found]);
        assert_eq!(why, Refused::TooShort { needed: 14, found });
    }
    for (mut template, limit) in [
        (template, 65_535 - 36),
        (Template::new(&Outer::new(v6(1), v6(2)), &VXLAN).unwrap(), 65_535 - 16),
    ] {
        let mut bytes = vec![2; 100 + limit + 1];
        let mut packet = PacketBuffer::new(&mut bytes, 100);
        let refused = Refused::TooLong { limit, found: limit + 1 };
        assert_eq!(template.encapsulate(&mut packet), Err(refused));
        assert_eq!(packet.len(), limit + 1);
        template.encapsulate(&mut packet.truncated(limit)).unwrap();
    }
}

#[test]
fn a_template_that_cannot_be_is_refused() {
    let refused = |outer: &Outer, tunnel: &Tunnel<'_>| {
        Template::new(outer, tunnel).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&Outer::new(v4(1), v6(2)), &VXLAN),
        "outer addresses: expected two IPv4 or two IPv6 addresses, found 10.0.0.1 and fd00::2"
    );
    let mut outer = Outer::new(v6(1), v6(2));
    outer.dscp = Dscp::Fixed(64);
    assert_eq!(refused(&outer, &VXLAN), "IP DSCP: expected at most 63, found 64");
    outer.dscp = Dscp::Inherit;
    outer.flow_label = FlowLabel::Fixed(1 << 20);
    assert_eq!(refused(&outer, &VXLAN), "IPv6 flow label: expected at most 1048575, found 1048576");
    outer.flow_label = FlowLabel::Entropy;
    outer.ttl = Ttl::Fixed(0);
    assert_eq!(refused(&outer, &VXLAN), "IP TTL: expected at least 1, found 0");
    outer.ttl = Ttl::Inherit;
    let bytes = [0; MAX_GENEVE_OPTIONS + 4];
    let options = GeneveOptions::parse(&bytes).unwrap();
    let tunnel = Tunnel::Geneve { port: 6081, vni: vni(1), carries: Framing::Ip, options };
    assert_eq!(refused(&outer, &tunnel), "Geneve options length: expected at most 64, found 68");
}

#[test]
fn a_batch_tells_which_packets_it_could_not_do() {
    let outer = Outer::new(v4(1), v4(2));
    let mut template = Template::new(&outer, &VXLAN).unwrap();
    let mut arena = [[2_u8; 128]; 64];
    let mut packets: Vec<_> = arena
        .iter_mut()
        .enumerate()
        .map(|(index, bytes)| PacketBuffer::new(bytes, if index % 10 == 3 { 35 } else { 64 }))
        .collect();
    let mut refused = Vec::new();
    template.encapsulate_batch(&mut packets, |index, why| refused.push((index, why)));
    let expected: Vec<_> = (0..64)
        .filter(|index| index % 10 == 3)
        .map(|index| (index, Refused::Headroom { needed: 36, found: 35 }))
        .collect();
    assert_eq!(refused, expected);
    let decapsulator = Decapsulator::new(&accepting(&outer, &VXLAN));
    let mut failed = Vec::new();
    decapsulator.decapsulate_batch(&mut packets, |index, result| {
        if result.is_err() {
            failed.push(index);
        }
    });
    assert_eq!(failed, expected.iter().map(|(index, _)| *index).collect::<Vec<_>>());
    assert!(packets.iter().all(|packet| packet.as_slice().iter().all(|byte| *byte == 2)));
}

#[test]
fn packets_in_packets_in_packets() {
    let plain = [2; 60];
    let mut bytes = buffer(&plain);
    let mut packet = PacketBuffer::new(&mut bytes, HEADROOM).truncated(plain.len());
    let first = Outer::new(v4(1), v4(2));
    let second = Outer::new(v6(3), v6(4));
    Template::new(&first, &VXLAN).unwrap().encapsulate(&mut packet).unwrap();
    Template::new(&second, &Tunnel::IpInIp).unwrap().encapsulate(&mut packet).unwrap();
    let outermost = Ipv6Packet::parse(packet.as_slice()).unwrap();
    assert_eq!(outermost.next_header(), IpProtocol::IPV4);
    assert!(Ipv4Packet::parse(outermost.payload()).unwrap().is_checksum_valid());
    for (outer, tunnel) in [(&second, Tunnel::IpInIp), (&first, VXLAN)] {
        let decapsulator = Decapsulator::new(&accepting(outer, &tunnel));
        assert_eq!(decapsulator.decapsulate(&mut packet).unwrap().src(), outer.src);
    }
    assert_eq!(packet.as_slice(), plain);
}

#[test]
fn an_mtu_is_known_exactly() {
    let v6_outer = {
        let mut outer = Outer::new(v6(1), v6(2));
        outer.link = Some(Link { src: MacAddr::ZERO, dst: MacAddr::ZERO });
        outer
    };
    let inner_mtu = |outer, tunnel, mtu| Template::new(outer, tunnel).unwrap().inner_mtu(mtu);
    let v4_outer = Outer::new(v4(1), v4(2));
    assert_eq!(inner_mtu(&v4_outer, &VXLAN, 1500), Some(1450));
    assert_eq!(inner_mtu(&v6_outer, &VXLAN, 1500), Some(1430));
    assert_eq!(inner_mtu(&v4_outer, &Tunnel::IpInIp, 20), None);
    assert_eq!(inner_mtu(&v4_outer, &Tunnel::IpInIp, 19), None);
    let options = GeneveOptions::parse(OPTIONS).unwrap();
    let tunnel = Tunnel::Geneve { port: 6081, vni: vni(1), carries: Framing::Ip, options };
    assert_eq!(inner_mtu(&v6_outer, &tunnel, 9000), Some(9000 - 40 - 8 - 8 - 12));
    let tunnel = Tunnel::Gre { carries: Framing::Ip, checksum: true, key: Some(1), sequence: true };
    assert_eq!(inner_mtu(&v4_outer, &tunnel, 1500), Some(1500 - 20 - 16));
}

/// An IPv6 packet to a tunnel's end, with headers in between.
fn with_extensions(next_header: u8, extensions: &[u8]) -> Vec<u8> {
    let mut inner = [0; 60];
    let (src, dst) = (Ipv4Addr::new(172, 16, 0, 1), Ipv4Addr::new(172, 16, 0, 2));
    Ipv4Header::new(src, dst, IpProtocol::UDP).emit(&mut inner).unwrap();
    let packet = [extensions, &inner[..]].concat();
    let header = Ipv6Header::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, IpProtocol(next_header));
    behind(ipv6::LEN, &packet, |bytes| header.emit(bytes))
}

#[test]
fn extension_headers_are_obeyed() {
    let policy = Policy::new(Framing::Ip, Accept::IpInIp);
    let result = |next_header, extensions: &[u8]| {
        let mut bytes = with_extensions(next_header, extensions);
        let mut packet = PacketBuffer::new(&mut bytes, 0);
        Decapsulator::new(&policy).decapsulate(&mut packet).map(|told| told.inner().len())
    };
    // As Linux sends it: a tunnel encapsulation limit, padded.
    assert_eq!(result(60, &[4, 0, 4, 1, 4, 1, 1, 0]), Ok(60));
    // Unknown options whose high bits say: go on, drop.
    assert_eq!(result(60, &[4, 0, 0x1e, 4, 0, 0, 0, 0]), Ok(60));
    for kind in [0x45, 0x85, 0xc5] {
        assert_eq!(result(60, &[4, 0, kind, 4, 0, 0, 0, 0]), Err(Rejected::Options), "{kind:#x}");
        assert_eq!(result(0, &[4, 0, kind, 4, 0, 0, 0, 0]), Err(Rejected::Options), "{kind:#x}");
    }
    // An option that is longer than its header.
    assert!(matches!(result(60, &[4, 0, 0x1e, 9, 0, 0, 0, 0]), Err(Rejected::Malformed(_))));
    // A routing header that has nodes left to visit, and one that has not.
    let routed = |left| result(43, &[4, 0, 0, left, 0, 0, 0, 0]);
    assert_eq!(routed(1), Err(Rejected::Protocol(IpProtocol::ROUTING)));
    assert_eq!(routed(0), Ok(60));
    // An authentication header, which nobody has verified.
    let result =
        result(51, &[4, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
    assert_eq!(result, Err(Rejected::Protocol(IpProtocol::AUTHENTICATION)));
}

#[test]
fn udp_over_ipv6_needs_a_checksum_unless_agreed_otherwise() {
    let tunnel = Tunnel::IpInUdp { port: 8285 };
    let accept = Accept::IpInUdp { port: 8285 };
    for (mut outer, zero) in
        [(Outer::new(v4(1), v4(2)), Ok(())), (Outer::new(v6(1), v6(2)), Err(Rejected::NoChecksum))]
    {
        let policy = Policy::new(Framing::Ip, accept);
        outer.udp_checksum = UdpChecksum::Compute;
        assert!(round_trip(&outer, &tunnel, &policy, |_| {}).is_ok());
        outer.udp_checksum = UdpChecksum::Zero;
        assert_eq!(round_trip(&outer, &tunnel, &policy, |_| {}).map(|_| ()), zero);
        let agreed = with(policy, |policy| policy.udp_checksum = UdpChecksumRule::IfPresent);
        assert!(round_trip(&outer, &tunnel, &agreed, |_| {}).is_ok());
        // RFC 7348, section 5: a VXLAN packet without checksum must be accepted.
        let accept = Accept::Vxlan { port: 4789, vni: None, group_policy: false };
        assert!(round_trip(&outer, &VXLAN, &Policy::new(Framing::Ip, accept), |_| {}).is_ok());
    }
}

#[test]
fn gue_takes_both_variants() {
    let outer = Outer::new(v4(1), v4(2));
    let policy = Policy::new(Framing::Ip, Accept::Gue { port: 6080 });
    let bare = Tunnel::IpInUdp { port: 6080 };
    assert!(round_trip(&outer, &bare, &policy, |_| {}).is_ok());
    let tunnel = Tunnel::Gue { port: 6080, carries: Framing::Ethernet };
    assert!(round_trip(&outer, &tunnel, &policy, |_| {}).is_ok());
}
