//! Whether the two parsers say the same about some bytes. Where they may differ, the reason stands there.

use std::fmt::Debug;

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    ArpPacketSlice, Ethernet2Slice, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, IpNumber,
    Ipv4HeaderSlice, Ipv4Slice, Ipv6ExtensionSlice, Ipv6ExtensionsSlice, Ipv6HeaderSlice,
    SingleVlanSlice, TcpOptionElement, TcpOptionReadError, TcpOptionsIterator, TcpSlice, UdpSlice,
    icmpv4, icmpv6,
};
use overlay_wire::arp::ArpPacket;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ethernet::{EtherType, EthernetFrame};
use overlay_wire::icmpv4::{Icmpv4Header, Icmpv4Packet};
use overlay_wire::icmpv6::{Icmpv6Header, Icmpv6Packet};
use overlay_wire::ip::{IpProtocol, UpperLayer};
use overlay_wire::ipv4::Ipv4Packet;
use overlay_wire::ipv6::Ipv6Packet;
use overlay_wire::ipv6::extension::Extension;
use overlay_wire::ndp::{NeighbourMessage, NeighbourPacket};
use overlay_wire::tcp::{TcpFlags, TcpOption, TcpPacket};
use overlay_wire::udp::UdpPacket;
use overlay_wire::vlan::VlanPacket;

/// What both parsers have found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) wrong_checksums: u32,
}

impl Found {
    fn checksum(right: bool) -> Self {
        Self { wrong_checksums: u32::from(!right) }
    }
}

#[track_caller]
fn both<A, B, E: Debug, F: Debug>(ours: Result<A, E>, theirs: Result<B, F>) -> Option<(A, B)> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Some((ours, theirs)),
        (Err(_), Err(_)) => None,
        (Ok(_), Err(error)) => panic!("only etherparse refuses: {error:?}"),
        (Err(error), Ok(_)) => panic!("only overlay-wire refuses: {error:?}"),
    }
}

/// Zero has two forms in one's complement: a receiver takes either for the other.
fn same_sum(a: u16, b: u16) -> bool {
    a == b || matches!((a, b), (0, 0xffff) | (0xffff, 0))
}

pub(crate) fn on_frame(bytes: &[u8]) -> Found {
    let theirs = Ethernet2Slice::from_slice_without_fcs(bytes);
    let Some((ours, theirs)) = both(EthernetFrame::parse(bytes), theirs) else {
        return Found::default();
    };
    assert_eq!(ours.dst().octets(), theirs.destination());
    assert_eq!(ours.src().octets(), theirs.source());
    assert_eq!(ours.ether_type().0, theirs.ether_type().0);
    assert_eq!(ours.payload(), theirs.payload_slice());

    let (mut ether_type, mut payload) = (ours.ether_type(), ours.payload());
    while [EtherType::VLAN, EtherType::QINQ].contains(&ether_type) {
        let theirs = SingleVlanSlice::from_slice(payload);
        let Some((ours, theirs)) = both(VlanPacket::parse(payload), theirs) else {
            return Found::default();
        };
        assert_eq!(ours.pcp(), theirs.priority_code_point().value());
        assert_eq!(ours.dei(), theirs.drop_eligible_indicator());
        assert_eq!(ours.vid(), theirs.vlan_identifier().value());
        assert_eq!(ours.ether_type().0, theirs.ether_type().0);
        assert_eq!(ours.payload(), theirs.payload_slice());
        (ether_type, payload) = (ours.ether_type(), ours.payload());
    }
    match ether_type {
        EtherType::ARP => on_arp(payload),
        EtherType::IPV4 => return on_ipv4(payload),
        EtherType::IPV6 => return on_ipv6(payload),
        _ => {}
    }
    Found::default()
}

pub(crate) fn on_ip(bytes: &[u8]) -> Found {
    if bytes.first().is_some_and(|first| first >> 4 == 6) { on_ipv6(bytes) } else { on_ipv4(bytes) }
}

pub(crate) fn on_arp(bytes: &[u8]) {
    // etherparse reads addresses of any kind, and makes those of Ethernet and IPv4 of them in a second step.
    let theirs = ArpPacketSlice::from_slice(bytes).map_err(|error| format!("{error:?}"));
    let theirs = theirs
        .and_then(|packet| packet.to_packet().try_eth_ipv4().map_err(|error| format!("{error:?}")));
    let Some((ours, theirs)) = both(ArpPacket::parse(bytes), theirs) else { return };
    assert_eq!(ours.operation().0, theirs.operation.0);
    assert_eq!(ours.sender_mac().octets(), theirs.sender_mac);
    assert_eq!(ours.sender_ip().octets(), theirs.sender_ipv4);
    assert_eq!(ours.target_mac().octets(), theirs.target_mac);
    assert_eq!(ours.target_ip().octets(), theirs.target_ipv4);
}

fn on_ipv4(bytes: &[u8]) -> Found {
    let ours = Ipv4Packet::parse(bytes);
    if let Ok(packet) = &ours
        && packet.protocol() == IpProtocol::AUTHENTICATION
        && packet.fragment_offset() != 0
    {
        // etherparse reads a part of the payload as an authentication header. It is none.
        let theirs = Ipv4HeaderSlice::from_slice(bytes).unwrap();
        return on_ipv4_header(packet, &theirs);
    }
    let ours = ours.and_then(|packet| packet.upper_layer().map(|upper| (packet, upper)));
    let Some(((packet, upper), theirs)) = both(ours, Ipv4Slice::from_slice(bytes)) else {
        return Found::default();
    };
    let header = on_ipv4_header(&packet, &theirs.header());
    assert_eq!(upper.protocol.0, theirs.payload().ip_number.0);
    assert_eq!(upper.payload, theirs.payload().payload);
    assert_eq!(upper.is_whole(), !theirs.payload().fragmented);
    assert_eq!(&bytes[upper.header_len..][..upper.payload.len()], upper.payload);
    let (src, dst) = (packet.src(), packet.dst());
    let inner = on_upper(&upper, &PseudoHeader::V4 { src, dst });
    Found { wrong_checksums: header.wrong_checksums + inner.wrong_checksums }
}

fn on_ipv4_header(ours: &Ipv4Packet<'_>, theirs: &Ipv4HeaderSlice<'_>) -> Found {
    assert_eq!(ours.dscp(), theirs.dcp().value());
    assert_eq!(ours.ecn() as u8, theirs.ecn().value());
    assert_eq!(ours.total_length(), theirs.total_len());
    assert_eq!(ours.identification(), theirs.identification());
    assert_eq!(ours.dont_fragment(), theirs.dont_fragment());
    assert_eq!(ours.more_fragments(), theirs.more_fragments());
    assert_eq!(ours.fragment_offset(), theirs.fragments_offset().value());
    assert_eq!(ours.is_fragment(), theirs.is_fragmenting_payload());
    assert_eq!(ours.ttl(), theirs.ttl());
    assert_eq!(ours.protocol().0, theirs.protocol().0);
    assert_eq!(ours.checksum(), theirs.header_checksum());
    assert_eq!(ours.src(), theirs.source_addr());
    assert_eq!(ours.dst(), theirs.destination_addr());
    assert_eq!(ours.options(), theirs.options());
    assert_eq!(ours.header_len(), theirs.slice().len());
    // Over the bytes, because etherparse forgets the reserved flag when it makes a header of them.
    let sum = Sum16BitWords::new().add_slice(theirs.slice()).ones_complement();
    assert_eq!(ours.is_checksum_valid(), sum == 0);
    Found::checksum(ours.is_checksum_valid())
}

fn on_ipv6(bytes: &[u8]) -> Found {
    let theirs = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| format!("{error:?}"));
    let theirs = theirs.and_then(|header| {
        let len = 40 + usize::from(header.payload_length());
        // As in etherparse's slice of a whole packet, except that a payload length of 0 is not taken for that of a
        // jumbogram (RFC 2675).
        bytes.get(40..len).map(|payload| (header, payload)).ok_or_else(|| String::from("length"))
    });
    let Some((ours, (theirs, payload))) = both(Ipv6Packet::parse(bytes), theirs) else {
        return Found::default();
    };
    assert_eq!(ours.dscp(), theirs.dscp().value());
    assert_eq!(ours.ecn() as u8, theirs.ecn().value());
    assert_eq!(ours.flow_label(), theirs.flow_label().value());
    assert_eq!(ours.payload_length(), theirs.payload_length());
    assert_eq!(ours.next_header().0, theirs.next_header().0);
    assert_eq!(ours.hop_limit(), theirs.hop_limit());
    assert_eq!(ours.src(), theirs.source_addr());
    assert_eq!(ours.dst(), theirs.destination_addr());
    assert_eq!(ours.payload(), payload);
    on_extensions(ours.next_header().0, payload);
    let Ok(upper) = ours.upper_layer() else { return Found::default() };
    assert_eq!(&bytes[upper.header_len..][..upper.payload.len()], upper.payload);
    let (src, dst) = (ours.src(), ours.dst());
    on_upper(&upper, &PseudoHeader::V6 { src, dst })
}

pub(crate) fn on_extensions(next_header: u8, payload: &[u8]) {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    header[6] = next_header;
    let bytes = [&header, payload].concat();
    let packet = Ipv6Packet::parse(&bytes).unwrap();
    let payload = packet.payload();
    let theirs = Ipv6ExtensionsSlice::from_slice(IpNumber(next_header), payload);

    let extensions: Result<Vec<_>, _> = packet.extensions().collect();
    if extensions.as_ref().is_err_and(|error| error.field == "extension headers") {
        // There is no limit in etherparse.
        return;
    }
    let is_later = |extension: &Extension<'_>| matches!(extension, Extension::Fragment(header) if header.fragment_offset() != 0);
    let later = extensions.as_ref().is_ok_and(|list| list.last().is_some_and(is_later));
    if later && theirs.is_err() {
        // etherparse reads a part of the payload as more extension headers. It is none.
        return;
    }
    let Some((extensions, (theirs, ip_number, rest))) = both(extensions, theirs) else { return };
    let fragmented = theirs.is_fragmenting_payload();
    let mut theirs = theirs.into_iter();
    for (ours, theirs) in extensions.iter().zip(theirs.by_ref()) {
        on_extension(ours, &theirs);
    }
    if later {
        return;
    }
    assert_eq!(theirs.next(), None);
    let upper = packet.upper_layer().unwrap();
    assert_eq!((upper.protocol.0, upper.payload), (ip_number.0, rest));
    assert_eq!(upper.is_whole(), !fragmented);
    assert_eq!(extensions.len(), packet.extensions().count());
}

fn on_extension(ours: &Extension<'_>, theirs: &Ipv6ExtensionSlice<'_>) {
    match (ours, theirs) {
        (Extension::HopByHop(ours), Ipv6ExtensionSlice::HopByHop(theirs))
        | (Extension::DestinationOptions(ours), Ipv6ExtensionSlice::DestinationOptions(theirs)) => {
            assert_eq!(ours.next_header().0, theirs.next_header().0);
            assert_eq!(ours.options(), theirs.payload());
            assert_eq!(ours.header_len(), theirs.slice().len());
        }
        (Extension::Routing(ours), Ipv6ExtensionSlice::Routing(theirs)) => {
            assert_eq!(ours.next_header().0, theirs.next_header().0);
            let first = [ours.routing_type(), ours.segments_left()];
            assert_eq!([&first, ours.data()].concat(), theirs.payload());
        }
        (Extension::Fragment(ours), Ipv6ExtensionSlice::Fragment(theirs)) => {
            assert_eq!(ours.next_header().0, theirs.next_header().0);
            assert_eq!(ours.fragment_offset(), theirs.fragment_offset().value());
            assert_eq!(ours.more_fragments(), theirs.more_fragments());
            assert_eq!(ours.identification(), theirs.identification());
        }
        (Extension::Authentication(ours), Ipv6ExtensionSlice::Authentication(theirs)) => {
            assert_eq!(ours.next_header().0, theirs.next_header().0);
            assert_eq!(ours.spi(), theirs.spi());
            assert_eq!(ours.sequence(), theirs.sequence_number());
            assert_eq!(ours.icv(), theirs.raw_icv());
        }
        _ => panic!("{ours:?} is {theirs:?}"),
    }
}

/// Checksums count as wrong only in what is whole.
fn on_upper(upper: &UpperLayer<'_>, addresses: &PseudoHeader) -> Found {
    if !upper.has_header() {
        return Found::default();
    }
    let found = match upper.protocol {
        IpProtocol::UDP => on_udp(upper.payload, addresses),
        IpProtocol::TCP => on_tcp(upper.payload, addresses),
        IpProtocol::ICMP => on_icmpv4(upper.payload),
        IpProtocol::ICMPV6 => on_icmpv6(upper.payload, addresses),
        _ => Found::default(),
    };
    if upper.is_whole() { found } else { Found::default() }
}

pub(crate) fn on_udp(bytes: &[u8], addresses: &PseudoHeader) -> Found {
    let theirs = UdpSlice::from_slice(bytes);
    if theirs.as_ref().is_ok_and(|theirs| theirs.length() == 0) {
        // To etherparse, that of a jumbogram (RFC 2675).
        assert!(UdpPacket::parse(bytes).is_err());
        return Found::default();
    }
    let Some((ours, theirs)) = both(UdpPacket::parse(bytes), theirs) else {
        return Found::default();
    };
    assert_eq!(ours.src_port(), theirs.source_port());
    assert_eq!(ours.dst_port(), theirs.destination_port());
    assert_eq!(ours.length(), theirs.length());
    assert_eq!(ours.checksum(), theirs.checksum());
    assert_eq!(ours.payload(), theirs.payload());
    let header = theirs.to_header();
    let sum = match addresses {
        PseudoHeader::V4 { src, dst } => {
            header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), theirs.payload())
        }
        PseudoHeader::V6 { src, dst } => {
            header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), theirs.payload())
        }
    };
    let valid = ours.checksum() == 0 || ours.checksum() == sum.unwrap();
    assert_eq!(ours.is_checksum_valid(addresses), valid);
    Found::checksum(valid)
}

pub(crate) fn on_tcp(bytes: &[u8], addresses: &PseudoHeader) -> Found {
    let Some((ours, theirs)) = both(TcpPacket::parse(bytes), TcpSlice::from_slice(bytes)) else {
        return Found::default();
    };
    assert_eq!(ours.src_port(), theirs.source_port());
    assert_eq!(ours.dst_port(), theirs.destination_port());
    assert_eq!(ours.sequence(), theirs.sequence_number());
    assert_eq!(ours.acknowledgment(), theirs.acknowledgment_number());
    assert_eq!(ours.header_len(), usize::from(theirs.data_offset()) * 4);
    for (flag, set) in [
        (TcpFlags::FIN, theirs.fin()),
        (TcpFlags::SYN, theirs.syn()),
        (TcpFlags::RST, theirs.rst()),
        (TcpFlags::PSH, theirs.psh()),
        (TcpFlags::ACK, theirs.ack()),
        (TcpFlags::URG, theirs.urg()),
        (TcpFlags::ECE, theirs.ece()),
        (TcpFlags::CWR, theirs.cwr()),
        (TcpFlags::AE, theirs.ns()),
    ] {
        assert_eq!(ours.flags().contains(flag), set, "{flag}");
    }
    assert_eq!(ours.window(), theirs.window_size());
    assert_eq!(ours.checksum(), theirs.checksum());
    assert_eq!(ours.urgent(), theirs.urgent_pointer());
    assert_eq!(ours.options(), theirs.options());
    assert_eq!(ours.payload(), theirs.payload());
    on_tcp_options(ours.options());
    let sum = match addresses {
        PseudoHeader::V4 { src, dst } => theirs.calc_checksum_ipv4(src.octets(), dst.octets()),
        PseudoHeader::V6 { src, dst } => theirs.calc_checksum_ipv6(src.octets(), dst.octets()),
    };
    // etherparse leaves out the three reserved bits.
    let valid = same_sum(ours.checksum(), sum.unwrap());
    if ours.reserved() == 0 {
        assert_eq!(ours.is_checksum_valid(addresses), valid);
    }
    Found::checksum(ours.is_checksum_valid(addresses))
}

pub(crate) fn on_tcp_options(bytes: &[u8]) {
    // Only as many as fit into a header, whatever their sum.
    let bytes = &bytes[..bytes.len().min(40) / 4 * 4];
    let mut segment = [0; 60];
    segment[12] = (((20 + bytes.len()) / 4) << 4) as u8;
    segment[20..20 + bytes.len()].copy_from_slice(bytes);
    let packet = TcpPacket::parse(&segment).unwrap();
    let mut theirs = TcpOptionsIterator::from_slice(bytes);
    for ours in packet.options_iter() {
        match (ours, theirs.next()) {
            (Ok(TcpOption::End), None) => {}
            (Ok(TcpOption::NoOperation), Some(Ok(TcpOptionElement::Noop)))
            | (
                Ok(TcpOption::SackPermitted),
                Some(Ok(TcpOptionElement::SelectiveAcknowledgementPermitted)),
            ) => {}
            (Ok(TcpOption::Mss(a)), Some(Ok(TcpOptionElement::MaximumSegmentSize(b)))) => {
                assert_eq!(a, b);
            }
            (Ok(TcpOption::WindowScale(a)), Some(Ok(TcpOptionElement::WindowScale(b)))) => {
                assert_eq!(a, b);
            }
            (
                Ok(TcpOption::Timestamps { value, echo_reply }),
                Some(Ok(TcpOptionElement::Timestamp(a, b))),
            ) => assert_eq!((value, echo_reply), (a, b)),
            (
                Ok(TcpOption::Sack(blocks)),
                Some(Ok(TcpOptionElement::SelectiveAcknowledgement(first, rest))),
            ) => {
                let theirs = [Some(first)].into_iter().chain(rest).flatten();
                assert!(blocks.iter().eq(theirs));
            }
            // etherparse does not step over options that it does not know.
            (Ok(TcpOption::Other { kind, .. }), Some(Err(TcpOptionReadError::UnknownId(id)))) => {
                assert_eq!(kind, id);
                return;
            }
            (Err(_), Some(Err(_))) => {}
            (ours, theirs) => panic!("{ours:?} is {theirs:?}"),
        }
    }
    assert_eq!(theirs.next(), None);
}

pub(crate) fn on_icmpv4(bytes: &[u8]) -> Found {
    if matches!(bytes, [13 | 14, 0, ..]) && bytes.len() >= 8 && bytes.len() != 20 {
        // etherparse refuses timestamp messages of another length, which are not read here.
        assert!(Icmpv4Packet::parse(bytes).is_ok());
        return Found::default();
    }
    let Some((ours, theirs)) = both(Icmpv4Packet::parse(bytes), Icmpv4Slice::from_slice(bytes))
    else {
        return Found::default();
    };
    assert_eq!((ours.kind(), ours.code()), (theirs.type_u8(), theirs.code_u8()));
    assert_eq!(ours.checksum(), theirs.checksum());
    let [_, _, _, _, a, b, c, d] = *bytes.first_chunk().unwrap();
    match (ours.header(), theirs.icmp_type()) {
        (Icmpv4Header::EchoReply { identifier, sequence }, Icmpv4Type::EchoReply(echo))
        | (Icmpv4Header::EchoRequest { identifier, sequence }, Icmpv4Type::EchoRequest(echo)) => {
            assert_eq!((identifier, sequence), (echo.id, echo.seq));
        }
        (
            Icmpv4Header::FragmentationNeeded { mtu },
            Icmpv4Type::DestinationUnreachable(
                icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu },
            ),
        ) => assert_eq!(mtu, next_hop_mtu),
        (
            Icmpv4Header::DestinationUnreachable { code },
            Icmpv4Type::DestinationUnreachable(header),
        ) => assert_eq!(code.0, header.code_u8()),
        (Icmpv4Header::Redirect { code, gateway }, Icmpv4Type::Redirect(header)) => {
            assert_eq!(code, header.code.code_u8());
            assert_eq!(gateway.octets(), header.gateway_internet_address);
        }
        (Icmpv4Header::TimeExceeded { code }, Icmpv4Type::TimeExceeded(theirs)) => {
            assert_eq!(code, theirs.code_u8());
        }
        (
            Icmpv4Header::ParameterProblem { code, pointer },
            Icmpv4Type::ParameterProblem(header),
        ) => {
            use icmpv4::ParameterProblemHeader::{
                BadLength, MissingRequiredOption, PointerIndicatesError,
            };
            let expected = match header {
                PointerIndicatesError(theirs) => (0, theirs),
                MissingRequiredOption => (1, a),
                BadLength => (2, a),
            };
            assert_eq!((code, pointer), expected);
        }
        (
            Icmpv4Header::Other { rest, .. },
            Icmpv4Type::TimestampRequest(_) | Icmpv4Type::TimestampReply(_),
        ) => assert_eq!(rest, [a, b, c, d]),
        // Codes that etherparse has no name for.
        (ours, Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 }) => {
            let theirs = Icmpv4Header::Other { kind: type_u8, code: code_u8, rest: bytes5to8 };
            assert!(ours == theirs || [3, 5, 11, 12].contains(&type_u8), "{ours:?} {theirs:?}");
        }
        (ours, theirs) => panic!("{ours:?} is {theirs:?}"),
    }
    assert_eq!(ours.payload(), &bytes[8..]);
    let valid = Sum16BitWords::new().add_slice(bytes).ones_complement() == 0;
    assert_eq!(ours.is_checksum_valid(), valid);
    Found::checksum(valid)
}

pub(crate) fn on_icmpv6(bytes: &[u8], addresses: &PseudoHeader) -> Found {
    let Some((ours, theirs)) = both(Icmpv6Packet::parse(bytes), Icmpv6Slice::from_slice(bytes))
    else {
        return Found::default();
    };
    assert_eq!((ours.kind(), ours.code()), (theirs.type_u8(), theirs.code_u8()));
    assert_eq!(ours.checksum(), theirs.checksum());
    match (ours.header(), theirs.icmp_type()) {
        (Icmpv6Header::EchoReply { identifier, sequence }, Icmpv6Type::EchoReply(echo))
        | (Icmpv6Header::EchoRequest { identifier, sequence }, Icmpv6Type::EchoRequest(echo)) => {
            assert_eq!((identifier, sequence), (echo.id, echo.seq));
        }
        (
            Icmpv6Header::DestinationUnreachable { code },
            Icmpv6Type::DestinationUnreachable(theirs),
        ) => assert_eq!(code.0, theirs.code_u8()),
        (Icmpv6Header::PacketTooBig { mtu }, Icmpv6Type::PacketTooBig { mtu: theirs }) => {
            assert_eq!(mtu, theirs);
        }
        (Icmpv6Header::TimeExceeded { code }, Icmpv6Type::TimeExceeded(theirs)) => {
            assert_eq!(code, theirs.code_u8());
        }
        (
            Icmpv6Header::ParameterProblem { code, pointer },
            Icmpv6Type::ParameterProblem(header),
        ) => assert_eq!((code, pointer), (header.code.code_u8(), header.pointer)),
        (
            Icmpv6Header::Other { kind: 133..=137, .. },
            Icmpv6Type::RouterSolicitation
            | Icmpv6Type::RouterAdvertisement(_)
            | Icmpv6Type::NeighborSolicitation
            | Icmpv6Type::Redirect,
        ) => {}
        (Icmpv6Header::Other { kind: 136, .. }, Icmpv6Type::NeighborAdvertisement(header)) => {
            on_advertisement(bytes, &header)
        }
        // Codes that etherparse has no name for.
        (ours, Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 }) => {
            let theirs = Icmpv6Header::Other { kind: type_u8, code: code_u8, rest: bytes5to8 };
            assert!(ours == theirs || [1, 3, 4].contains(&type_u8), "{ours:?} {theirs:?}");
        }
        (ours, theirs) => panic!("{ours:?} is {theirs:?}"),
    }
    assert_eq!(ours.payload(), theirs.payload());
    let PseudoHeader::V6 { src, dst } = addresses else {
        // ICMPv6 in an IPv4 packet: etherparse has no checksum for that.
        return Found::default();
    };
    let valid = theirs.is_checksum_valid(src.octets(), dst.octets());
    // etherparse compares with the one form of zero.
    if ours.checksum() != 0xffff {
        assert_eq!(ours.is_checksum_valid(addresses), valid);
    }
    Found::checksum(ours.is_checksum_valid(addresses))
}

fn on_advertisement(bytes: &[u8], theirs: &icmpv6::NeighborAdvertisementHeader) {
    let Ok(ours) = NeighbourPacket::parse(bytes) else { return };
    let message = NeighbourMessage::Advertisement {
        router: theirs.router,
        solicited: theirs.solicited,
        overrides: theirs.r#override,
    };
    assert_eq!(ours.message(), message);
}
