//! `etherparse` as a second opinion: the same packets are accepted, and have the same fields.

use etherparse::{
    Ethernet2Slice, IpNumber, Ipv4HeaderSlice, Ipv4Slice, Ipv6HeaderSlice, Ipv6Slice, UdpSlice,
};
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ethernet::EthernetFrame;
use overlay_wire::ipv4::Ipv4Packet;
use overlay_wire::ipv6::Ipv6Packet;
use overlay_wire::udp::UdpPacket;

/// Ethernet, beside etherparse.
pub fn etherparse_link(input: &[u8]) {
    let (ours, theirs) =
        (EthernetFrame::parse(input), Ethernet2Slice::from_slice_without_fcs(input));
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
        assert_eq!(ours.dst().octets(), theirs.destination());
        assert_eq!(ours.src().octets(), theirs.source());
        assert_eq!(ours.ether_type().0, theirs.ether_type().0);
        assert_eq!(ours.payload(), theirs.payload_slice());
    }
}

/// IPv4 and IPv6, beside etherparse.
pub fn etherparse_ip(input: &[u8]) {
    ipv4(input);
    ipv6(input);
}

/// UDP, beside etherparse.
pub fn etherparse_transport(input: &[u8]) {
    udp(input);
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
        // A payload length of 0 is a jumbogram to etherparse, of as many bytes as there are. It is not one without a
        // hop-by-hop option that says so (RFC 2675), and links of more than 64 KiB do not exist.
        if ours.payload_length() != 0
            && let Ok(theirs) = Ipv6Slice::from_slice(input)
        {
            assert!(ours.payload().ends_with(theirs.payload().payload));
        }
    } else if let Ok(header) = header {
        assert!(header.payload_length() != 0);
        assert!(Ipv6Slice::from_slice(input).is_err(), "{ours:?}");
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
    for addresses in &super::ADDRESSES {
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
