//! Frames of all kinds, written with this crate.

use std::net::{Ipv4Addr, Ipv6Addr};

use overlay_wire::MacAddr;
use overlay_wire::arp::{ArpHeader, ArpOperation};
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ethernet::{EtherType, EthernetHeader};
use overlay_wire::icmpv4::{Icmpv4Header, Icmpv4Unreachable};
use overlay_wire::icmpv6::{Icmpv6Header, Icmpv6Unreachable};
use overlay_wire::ip::{Ecn, IpProtocol};
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::ipv6::extension::{FragmentHeader, OptionsHeader};
use overlay_wire::ndp::{NeighbourHeader, NeighbourMessage};
use overlay_wire::tcp::{TcpFlags, TcpHeader};
use overlay_wire::udp::UdpHeader;
use overlay_wire::vlan::VlanHeader;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

/// Ones for noise.
pub(crate) fn addresses(six: bool) -> PseudoHeader {
    if six {
        PseudoHeader::V6 { src: Ipv6Addr::LOCALHOST, dst: Ipv6Addr::from_bits(u128::MAX - 1) }
    } else {
        PseudoHeader::V4 { src: Ipv4Addr::LOCALHOST, dst: Ipv4Addr::BROADCAST }
    }
}

/// An Ethernet frame with up to two tags.
pub(crate) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let tag = (0..8_u8, any::<bool>(), 0..4096_u16, any::<bool>());
    let network = prop_oneof![
        1 => arp().prop_map(|bytes| (EtherType::ARP, bytes)),
        4 => ipv4().prop_map(|bytes| (EtherType::IPV4, bytes)),
        5 => ipv6().prop_map(|bytes| (EtherType::IPV6, bytes)),
        1 => payload().prop_map(|bytes| (EtherType(0x88cc), bytes)),
    ];
    (mac(), mac(), vec(tag, 0..3), network).prop_map(|(dst, src, tags, (ether_type, bytes))| {
        let (ether_type, bytes) = tags.into_iter().rev().fold(
            (ether_type, bytes),
            |(ether_type, bytes), (pcp, dei, vid, outer)| {
                let header = VlanHeader { pcp, dei, vid, ether_type };
                let bytes = in_front(4, &bytes, |packet| header.emit(packet).unwrap());
                (if outer { EtherType::QINQ } else { EtherType::VLAN }, bytes)
            },
        );
        let header = EthernetHeader { dst, src, ether_type };
        in_front(14, &bytes, |packet| header.emit(packet).unwrap())
    })
}

/// A header of `len` bytes, in a place full of ones, in front of a payload.
fn in_front(len: usize, payload: &[u8], emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut packet = [&[0xff].repeat(len), payload].concat();
    emit(&mut packet);
    packet
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..60)
}

fn arp() -> impl Strategy<Value = Vec<u8>> {
    let addresses = (mac(), any::<Ipv4Addr>(), mac(), any::<Ipv4Addr>());
    (any::<u16>(), addresses).prop_map(
        |(operation, (sender_mac, sender_ip, target_mac, target_ip))| {
            let operation = ArpOperation(operation);
            let header = ArpHeader { operation, sender_mac, sender_ip, target_mac, target_ip };
            header.to_bytes().to_vec()
        },
    )
}

fn ecn() -> impl Strategy<Value = Ecn> {
    any::<u8>().prop_map(Ecn::of)
}

fn ipv4() -> impl Strategy<Value = Vec<u8>> {
    let addresses = (any::<Ipv4Addr>(), any::<Ipv4Addr>());
    let fields = (any::<u8>(), 0..64_u8, ecn(), any::<u16>(), any::<bool>());
    let fragment = prop_oneof![3 => Just((false, 0)), 1 => (any::<bool>(), 0..8192_u16)];
    let rest = (fragment, vec(any::<[u8; 4]>(), 0..11), of(authentication()), upper());
    (addresses, fields, rest).prop_map(|((src, dst), fields, rest)| {
        let (ttl, dscp, ecn, identification, dont_fragment) = fields;
        let ((more_fragments, fragment_offset), options, authentication, upper) = rest;
        let (mut protocol, mut bytes) = upper.written(&PseudoHeader::V4 { src, dst });
        // The header of a fragment is not to be taken for one.
        if let (Some(header), 0) = (authentication, fragment_offset) {
            bytes = header.written(protocol, bytes);
            protocol = IpProtocol::AUTHENTICATION;
        }
        let options = options.concat();
        let header = Ipv4Header {
            src,
            dst,
            protocol,
            ttl,
            dscp,
            ecn,
            identification,
            dont_fragment,
            more_fragments,
            fragment_offset,
            options: &options,
        };
        in_front(header.header_len(), &bytes, |packet| header.emit(packet).unwrap())
    })
}

fn ipv6() -> impl Strategy<Value = Vec<u8>> {
    let addresses = (any::<Ipv6Addr>(), any::<Ipv6Addr>());
    let fields = (any::<u8>(), 0..64_u8, ecn(), 0..1_u32 << 20);
    let rest = (of(options()), vec(extension(), 0..5), upper());
    (addresses, fields, rest).prop_map(|((src, dst), fields, (hop_by_hop, extensions, upper))| {
        let (hop_limit, dscp, ecn, flow_label) = fields;
        let (mut next_header, mut bytes) = upper.written(&PseudoHeader::V6 { src, dst });
        for extension in extensions.into_iter().rev() {
            let protocol = extension.protocol();
            bytes = extension.written(next_header, bytes);
            next_header = protocol;
        }
        if let Some(options) = hop_by_hop {
            bytes = options.written(next_header, bytes);
            next_header = IpProtocol::HOP_BY_HOP;
        }
        let header = Ipv6Header { src, dst, next_header, hop_limit, dscp, ecn, flow_label };
        in_front(40, &bytes, |packet| header.emit(packet).unwrap())
    })
}

#[derive(Clone, Debug)]
enum Extension {
    Options(Vec<u8>),
    Routing(u8, u8, Vec<u8>),
    Fragment(u16, bool, u32),
    Authentication(u32, u32, Vec<u8>),
}

fn options() -> impl Strategy<Value = Extension> {
    vec((2..=255_u8, vec(any::<u8>(), 0..20)), 0..4).prop_map(|options| {
        let written = |(kind, data): (u8, Vec<u8>)| {
            let kind = if kind == 4 { 0x1e } else { kind };
            [&[kind, data.len() as u8], &data[..]].concat()
        };
        Extension::Options(options.into_iter().flat_map(written).collect())
    })
}

fn authentication() -> impl Strategy<Value = Extension> {
    (any::<u32>(), any::<u32>(), vec(any::<[u8; 4]>(), 0..8))
        .prop_map(|(spi, sequence, icv)| Extension::Authentication(spi, sequence, icv.concat()))
}

fn extension() -> impl Strategy<Value = Extension> {
    let offset = prop_oneof![3 => Just(0), 1 => 0..8192_u16];
    prop_oneof![
        options(),
        (any::<u8>(), any::<u8>(), vec(any::<[u8; 8]>(), 0..4)).prop_map(|(kind, left, words)| {
            Extension::Routing(kind, left, [&[0; 4], &words.concat()[..]].concat())
        }),
        (offset, any::<bool>(), any::<u32>())
            .prop_map(|(offset, more, id)| Extension::Fragment(offset, more, id)),
        authentication(),
    ]
}

impl Extension {
    fn protocol(&self) -> IpProtocol {
        match self {
            Self::Options(_) => IpProtocol::DESTINATION_OPTIONS,
            Self::Routing(..) => IpProtocol::ROUTING,
            Self::Fragment(..) => IpProtocol::FRAGMENT,
            Self::Authentication(..) => IpProtocol::AUTHENTICATION,
        }
    }

    fn written(&self, next_header: IpProtocol, payload: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Options(options) => {
                let header = OptionsHeader { next_header, options };
                in_front(header.header_len(), &payload, |packet| header.emit(packet).unwrap())
            }
            Self::Routing(kind, left, data) => {
                let len = (4 + data.len()) / 8 - 1;
                [&[next_header.0, len as u8, *kind, *left], &data[..], &payload].concat()
            }
            &Self::Fragment(fragment_offset, more_fragments, identification) => {
                let header =
                    FragmentHeader { next_header, fragment_offset, more_fragments, identification };
                in_front(8, &payload, |packet| header.emit(packet).unwrap())
            }
            Self::Authentication(spi, sequence, icv) => {
                let len = (12 + icv.len()) / 4 - 2;
                let (spi, sequence) = (spi.to_be_bytes(), sequence.to_be_bytes());
                [&[next_header.0, len as u8, 0, 0], &spi[..], &sequence, icv, &payload].concat()
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Upper {
    Udp(UdpHeader, bool, Vec<u8>),
    Tcp([u16; 2], [u32; 2], [u16; 3], Vec<u8>, Vec<u8>),
    Icmpv4(Icmpv4Header, Vec<u8>),
    Icmpv6(Icmpv6Header, Vec<u8>),
    Neighbour(NeighbourHeader),
    Other(Vec<u8>),
}

fn upper() -> impl Strategy<Value = Upper> {
    let udp = (any::<u16>(), any::<u16>(), any::<bool>(), payload()).prop_map(
        |(src_port, dst_port, checksum, payload)| {
            Upper::Udp(UdpHeader { src_port, dst_port }, checksum, payload)
        },
    );
    let tcp = (any::<[u16; 2]>(), any::<[u32; 2]>(), any::<[u16; 3]>(), tcp_options(), payload())
        .prop_map(|(a, b, c, options, payload)| Upper::Tcp(a, b, c, options, payload));
    prop_oneof![
        udp,
        tcp,
        (icmpv4(), payload()).prop_map(|(header, payload)| Upper::Icmpv4(header, payload)),
        (icmpv6(), payload()).prop_map(|(header, payload)| Upper::Icmpv6(header, payload)),
        neighbour().prop_map(Upper::Neighbour),
        payload().prop_map(Upper::Other),
    ]
}

fn tcp_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        any::<[u8; 2]>().prop_map(|mss| [&[2, 4], &mss[..]].concat()),
        any::<u8>().prop_map(|shift| vec![3, 3, shift]),
        Just(vec![4, 2]),
        vec(any::<[u8; 8]>(), 1..4).prop_map(|blocks| [
            &[5, 2 + 8 * blocks.len() as u8],
            &blocks.concat()[..]
        ]
        .concat()),
        any::<[u8; 8]>().prop_map(|times| [&[8, 10], &times[..]].concat()),
        (9..=255_u8, vec(any::<u8>(), 0..6)).prop_map(|(kind, data)| [
            &[kind, 2 + data.len() as u8],
            &data[..]
        ]
        .concat()),
    ];
    vec(option, 0..6).prop_map(|options| {
        let mut bytes = Vec::new();
        for option in options {
            if bytes.len() + option.len() <= 40 {
                bytes.extend(option);
            }
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

fn icmpv4() -> impl Strategy<Value = Icmpv4Header> {
    let pair = (any::<u16>(), any::<u16>());
    prop_oneof![
        pair.prop_map(|(identifier, sequence)| Icmpv4Header::EchoRequest { identifier, sequence }),
        pair.prop_map(|(identifier, sequence)| Icmpv4Header::EchoReply { identifier, sequence }),
        (5..20_u8).prop_map(|code| Icmpv4Header::DestinationUnreachable {
            code: Icmpv4Unreachable(code)
        }),
        any::<u16>().prop_map(|mtu| Icmpv4Header::FragmentationNeeded { mtu }),
        (0..6_u8, any::<Ipv4Addr>())
            .prop_map(|(code, gateway)| Icmpv4Header::Redirect { code, gateway }),
        (0..4_u8).prop_map(|code| Icmpv4Header::TimeExceeded { code }),
        (0..4_u8, any::<u8>())
            .prop_map(|(code, pointer)| Icmpv4Header::ParameterProblem { code, pointer }),
        (15..40_u8, any::<u8>(), any::<[u8; 4]>())
            .prop_map(|(kind, code, rest)| Icmpv4Header::Other { kind, code, rest }),
    ]
}

fn icmpv6() -> impl Strategy<Value = Icmpv6Header> {
    let pair = (any::<u16>(), any::<u16>());
    prop_oneof![
        pair.prop_map(|(identifier, sequence)| Icmpv6Header::EchoRequest { identifier, sequence }),
        pair.prop_map(|(identifier, sequence)| Icmpv6Header::EchoReply { identifier, sequence }),
        (0..9_u8).prop_map(|code| Icmpv6Header::DestinationUnreachable {
            code: Icmpv6Unreachable(code)
        }),
        any::<u32>().prop_map(|mtu| Icmpv6Header::PacketTooBig { mtu }),
        (0..4_u8).prop_map(|code| Icmpv6Header::TimeExceeded { code }),
        (0..12_u8, any::<u32>())
            .prop_map(|(code, pointer)| Icmpv6Header::ParameterProblem { code, pointer }),
        (130..135_u8, any::<u8>(), any::<[u8; 4]>())
            .prop_map(|(kind, code, rest)| Icmpv6Header::Other { kind, code, rest }),
    ]
}

fn neighbour() -> impl Strategy<Value = NeighbourHeader> {
    let advertisement = any::<[bool; 3]>().prop_map(|[router, solicited, overrides]| {
        NeighbourMessage::Advertisement { router, solicited, overrides }
    });
    let message = prop_oneof![Just(NeighbourMessage::Solicitation), advertisement];
    (message, any::<Ipv6Addr>(), of(mac()))
        .prop_map(|(message, target, link_layer)| NeighbourHeader { message, target, link_layer })
}

impl Upper {
    fn written(&self, addresses: &PseudoHeader) -> (IpProtocol, Vec<u8>) {
        match self {
            Self::Udp(header, checksum, payload) => {
                let addresses = checksum.then_some(addresses);
                let emit = |packet: &mut [u8]| header.emit(packet, addresses).unwrap();
                (IpProtocol::UDP, in_front(8, payload, emit))
            }
            Self::Tcp(ports, numbers, [flags, window, urgent], options, payload) => {
                let header = TcpHeader {
                    src_port: ports[0],
                    dst_port: ports[1],
                    sequence: numbers[0],
                    acknowledgment: numbers[1],
                    flags: TcpFlags::from_bits(*flags),
                    window: *window,
                    urgent: *urgent,
                    options,
                };
                let emit = |packet: &mut [u8]| header.emit(packet, addresses).unwrap();
                (IpProtocol::TCP, in_front(header.header_len(), payload, emit))
            }
            Self::Icmpv4(header, payload) => {
                let emit = |packet: &mut [u8]| header.emit(packet).unwrap();
                (IpProtocol::ICMP, in_front(8, payload, emit))
            }
            Self::Icmpv6(header, payload) => {
                let emit = |packet: &mut [u8]| header.emit(packet, addresses).unwrap();
                (IpProtocol::ICMPV6, in_front(8, payload, emit))
            }
            Self::Neighbour(header) => {
                let emit = |packet: &mut [u8]| header.emit(packet, addresses).unwrap();
                (IpProtocol::ICMPV6, in_front(header.header_len(), &[], emit))
            }
            // Reserved for experiments (RFC 3692).
            Self::Other(payload) => (IpProtocol(253), payload.clone()),
        }
    }
}
