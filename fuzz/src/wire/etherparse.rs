//! `etherparse` as a second opinion: the same packets are accepted, and have the same fields.

use etherparse::{
    ArpPacketSlice, Ethernet2Slice, Icmpv4Slice, Icmpv6Slice, IpNumber, Ipv4HeaderSlice, Ipv4Slice,
    Ipv6HeaderSlice, Ipv6Slice, SingleVlanSlice, TcpSlice, UdpSlice,
};
use overlay_wire::arp::ArpPacket;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ethernet::EthernetFrame;
use overlay_wire::icmpv4::Icmpv4Packet;
use overlay_wire::icmpv6::Icmpv6Packet;
use overlay_wire::ipv4::Ipv4Packet;
use overlay_wire::ipv6::Ipv6Packet;
use overlay_wire::ipv6::extension::MAX_EXTENSIONS;
use overlay_wire::tcp::{TcpFlags, TcpPacket};
use overlay_wire::udp::UdpPacket;
use overlay_wire::vlan::VlanPacket;

use super::ADDRESSES;

/// Ethernet, VLAN tags and ARP, beside etherparse.
pub fn etherparse_link(input: &[u8]) {
    ethernet(input);
    vlan(input);
    arp(input);
}

/// IPv4 and IPv6 with extension headers, beside etherparse.
pub fn etherparse_ip(input: &[u8]) {
    ipv4(input);
    ipv6(input);
}

/// UDP, TCP and ICMP, beside etherparse.
pub fn etherparse_transport(input: &[u8]) {
    udp(input);
    tcp(input);
    icmpv4(input);
    icmpv6(input);
}

fn ethernet(input: &[u8]) {
    let (ours, theirs) =
        (EthernetFrame::parse(input), Ethernet2Slice::from_slice_without_fcs(input));
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!(ours.dst().octets(), theirs.destination());
    assert_eq!(ours.src().octets(), theirs.source());
    assert_eq!(ours.ether_type().0, theirs.ether_type().0);
    assert_eq!(ours.payload(), theirs.payload_slice());
}

fn vlan(input: &[u8]) {
    let (ours, theirs) = (VlanPacket::parse(input), SingleVlanSlice::from_slice(input));
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!(ours.pcp(), theirs.priority_code_point().value());
    assert_eq!(ours.dei(), theirs.drop_eligible_indicator());
    assert_eq!(ours.vid(), theirs.vlan_identifier().value());
    assert_eq!(ours.ether_type().0, theirs.ether_type().0);
    assert_eq!(ours.payload(), theirs.payload_slice());
}

fn arp(input: &[u8]) {
    // Theirs is about all kinds of addresses, ours about Ethernet and IPv4 alone.
    let theirs = ArpPacketSlice::from_slice(input).ok();
    let theirs = theirs.and_then(|packet| packet.to_packet().try_eth_ipv4().ok());
    let ours = ArpPacket::parse(input);
    assert_eq!(ours.is_ok(), theirs.is_some(), "{ours:?} {theirs:?}");
    let (Ok(ours), Some(theirs)) = (ours, theirs) else { return };
    assert_eq!(ours.operation().0, theirs.operation.0);
    assert_eq!(ours.sender_mac().octets(), theirs.sender_mac);
    assert_eq!(ours.sender_ip().octets(), theirs.sender_ipv4);
    assert_eq!(ours.target_mac().octets(), theirs.target_mac);
    assert_eq!(ours.target_ip().octets(), theirs.target_ipv4);
}

fn ipv4(input: &[u8]) {
    let (ours, theirs) = (Ipv4Packet::parse(input), Ipv4Slice::from_slice(input));
    // etherparse takes an authentication header for a part of this one: its payload begins behind it, or there is none.
    let authentication =
        ours.is_ok_and(|packet| packet.protocol().0 == IpNumber::AUTHENTICATION_HEADER.0);
    if !authentication {
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    }
    let Ok(ours) = ours else { return };
    if let (Ok(theirs), false) = (theirs, authentication) {
        assert_eq!(ours.payload(), theirs.payload().payload);
        assert_eq!(ours.is_fragment(), theirs.is_payload_fragmented());
    }
    let theirs = Ipv4HeaderSlice::from_slice(input).expect("a packet begins with a header");
    assert_eq!(ours.header_len(), theirs.slice().len());
    assert_eq!(ours.dscp(), theirs.dcp().value());
    assert_eq!(ours.ecn() as u8, theirs.ecn().value());
    assert_eq!(ours.total_length(), theirs.total_len());
    assert_eq!(ours.identification(), theirs.identification());
    assert_eq!(ours.dont_fragment(), theirs.dont_fragment());
    assert_eq!(ours.more_fragments(), theirs.more_fragments());
    assert_eq!(ours.fragment_offset(), theirs.fragments_offset().value());
    assert_eq!(ours.ttl(), theirs.ttl());
    assert_eq!(ours.protocol().0, theirs.protocol().0);
    assert_eq!(ours.checksum(), theirs.header_checksum());
    assert_eq!(ours.src(), theirs.source_addr());
    assert_eq!(ours.dst(), theirs.destination_addr());
    assert_eq!(ours.options(), theirs.options());
    let header = theirs.to_header();
    // Theirs leaves the reserved bit out of the header, and so out of the sum.
    if input[6] & 0x80 == 0 && ours.checksum() != 0xffff {
        assert_eq!(ours.is_checksum_valid(), header.calc_header_checksum() == ours.checksum());
    }
}

fn ipv6(input: &[u8]) {
    let ours = Ipv6Packet::parse(input);
    let header = Ipv6HeaderSlice::from_slice(input);
    if let Ok(ours) = ours {
        let theirs = header.expect("a packet begins with a header");
        assert_eq!(ours.dscp(), theirs.dscp().value());
        assert_eq!(ours.ecn() as u8, theirs.ecn().value());
        assert_eq!(ours.flow_label(), theirs.flow_label().value());
        assert_eq!(ours.payload_length(), theirs.payload_length());
        assert_eq!(ours.next_header().0, theirs.next_header().0);
        assert_eq!(ours.hop_limit(), theirs.hop_limit());
        assert_eq!(ours.src(), theirs.source_addr());
        assert_eq!(ours.dst(), theirs.destination_addr());
        extensions(&ours, input);
    } else if let Ok(header) = header {
        assert!(header.payload_length() != 0);
        assert!(Ipv6Slice::from_slice(input).is_err(), "{ours:?}");
    }
}

fn extensions(packet: &Ipv6Packet<'_>, input: &[u8]) {
    // A payload length of 0 is a jumbogram to etherparse, of as many bytes as there are. It is not one without a
    // hop-by-hop option that says so (RFC 2675), and links of more than 64 KiB do not exist.
    if packet.payload_length() == 0 {
        return;
    }
    match (packet.upper_layer(), Ipv6Slice::from_slice(input)) {
        (Ok(ours), theirs) => {
            // Behind the header of a later fragment etherparse looks for more extension headers.
            if ours.fragment.is_some_and(|fragment| fragment.offset != 0) {
                return;
            }
            let theirs = theirs.expect("what we accept");
            assert_eq!(ours.protocol.0, theirs.payload().ip_number.0);
            assert_eq!(ours.payload, theirs.payload().payload);
        }
        (Err(error), theirs) => {
            // There is no limit to their number for etherparse.
            let many = packet.extensions().filter(Result::is_ok).count() == MAX_EXTENSIONS;
            assert!(many || theirs.is_err(), "{error}");
        }
    }
}

fn udp(input: &[u8]) {
    let (ours, theirs) = (UdpPacket::parse(input), UdpSlice::from_slice(input));
    // A length of 0 means all there is to etherparse. Only a jumbogram may have it (RFC 2675).
    if theirs.as_ref().is_ok_and(|theirs| theirs.length() == 0) {
        assert!(ours.is_err());
        return;
    }
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!(ours.src_port(), theirs.source_port());
    assert_eq!(ours.dst_port(), theirs.destination_port());
    assert_eq!(ours.length(), theirs.length());
    assert_eq!(ours.checksum(), theirs.checksum());
    assert_eq!(ours.payload(), theirs.payload());
    let header = theirs.to_header();
    for addresses in &ADDRESSES {
        let checksum = match addresses {
            PseudoHeader::V4 { src, dst } => {
                header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), ours.payload())
            }
            PseudoHeader::V6 { src, dst } => {
                header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), ours.payload())
            }
        };
        let checksum = checksum.expect("a payload that fits");
        let valid = ours.checksum() == 0 || ours.checksum() == checksum;
        assert_eq!(ours.is_checksum_valid(addresses), valid);
    }
}

fn tcp(input: &[u8]) {
    let (ours, theirs) = (TcpPacket::parse(input), TcpSlice::from_slice(input));
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!(ours.src_port(), theirs.source_port());
    assert_eq!(ours.dst_port(), theirs.destination_port());
    assert_eq!(ours.sequence(), theirs.sequence_number());
    assert_eq!(ours.acknowledgment(), theirs.acknowledgment_number());
    assert_eq!(ours.header_len() / 4, usize::from(theirs.data_offset()));
    let flags = [
        (TcpFlags::AE, theirs.ns()),
        (TcpFlags::CWR, theirs.cwr()),
        (TcpFlags::ECE, theirs.ece()),
        (TcpFlags::URG, theirs.urg()),
        (TcpFlags::ACK, theirs.ack()),
        (TcpFlags::PSH, theirs.psh()),
        (TcpFlags::RST, theirs.rst()),
        (TcpFlags::SYN, theirs.syn()),
        (TcpFlags::FIN, theirs.fin()),
    ];
    for (flag, set) in flags {
        assert_eq!(ours.flags().contains(flag), set, "{flag}");
    }
    assert_eq!(ours.window(), theirs.window_size());
    assert_eq!(ours.checksum(), theirs.checksum());
    assert_eq!(ours.urgent(), theirs.urgent_pointer());
    assert_eq!(ours.options(), theirs.options());
    assert_eq!(ours.payload(), theirs.payload());
    // Theirs leaves the reserved bits out of the sum.
    if ours.reserved() != 0 || ours.checksum() == 0xffff {
        return;
    }
    for addresses in &ADDRESSES {
        let checksum = match addresses {
            PseudoHeader::V4 { src, dst } => theirs.calc_checksum_ipv4(src.octets(), dst.octets()),
            PseudoHeader::V6 { src, dst } => theirs.calc_checksum_ipv6(src.octets(), dst.octets()),
        };
        let right = checksum.expect("a segment that fits") == ours.checksum();
        assert_eq!(ours.is_checksum_valid(addresses), right);
    }
}

fn icmpv4(input: &[u8]) {
    let (ours, theirs) = (Icmpv4Packet::parse(input), Icmpv4Slice::from_slice(input));
    let Ok(theirs) = theirs else {
        // Timestamps have a length of their own for etherparse.
        assert!(ours.is_err() || matches!(input[0], 13 | 14), "{ours:?}");
        return;
    };
    let ours = ours.expect("what they accept");
    assert_eq!(ours.kind(), theirs.type_u8());
    assert_eq!(ours.code(), theirs.code_u8());
    assert_eq!(ours.checksum(), theirs.checksum());
}

fn icmpv6(input: &[u8]) {
    let (ours, theirs) = (Icmpv6Packet::parse(input), Icmpv6Slice::from_slice(input));
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!(ours.kind(), theirs.type_u8());
    assert_eq!(ours.code(), theirs.code_u8());
    assert_eq!(ours.checksum(), theirs.checksum());
    let PseudoHeader::V6 { src, dst } = ADDRESSES[1] else { return };
    if ours.checksum() != 0xffff {
        let valid = theirs.is_checksum_valid(src.octets(), dst.octets());
        assert_eq!(ours.is_checksum_valid(&ADDRESSES[1]), valid);
    }
}
