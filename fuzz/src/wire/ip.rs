use std::net::{Ipv4Addr, Ipv6Addr};

use overlay_wire::ip::{IpPacket, IpVersion};
use overlay_wire::ipv4::Ipv4Packet;
use overlay_wire::ipv6::Ipv6Packet;
use overlay_wire::{ip_in_udp, isatap};

use super::prints;

/// IP in IP and in UDP, as deep as it goes, and the addresses of ISATAP.
pub fn ip_in_ip(input: &[u8]) {
    let mut rest = input;
    // Each packet is shorter than the one around it.
    while let Ok(packet) = ip_in_udp::parse(rest) {
        same(&packet, rest);
        let Ok(upper) = packet.upper_layer() else { break };
        prints(upper.protocol, 32);
        assert!(upper.payload.len() < rest.len());
        rest = upper.payload;
    }
    addresses(input);
}

/// A packet found out from its first byte is the one that its own parser reads.
pub(super) fn same(packet: &IpPacket<'_>, bytes: &[u8]) {
    let version = match packet {
        IpPacket::V4(packet) => {
            assert_eq!(Ipv4Packet::parse(bytes), Ok(*packet));
            IpVersion::V4
        }
        IpPacket::V6(packet) => {
            assert_eq!(Ipv6Packet::parse(bytes), Ok(*packet));
            IpVersion::V6
        }
    };
    assert_eq!(packet.version(), version);
    assert_eq!(IpPacket::parse_cut(bytes), Ok(*packet));
    assert_eq!((IpVersion::of(packet.src()), IpVersion::of(packet.dst())), (version, version));
}

/// An IPv4 address comes back out of the IPv6 address it was put in, and a prefix stays.
fn addresses(input: &[u8]) {
    let Some((bytes, rest)) = input.split_first_chunk::<16>() else { return };
    let v6 = Ipv6Addr::from(*bytes);
    if let Some(v4) = isatap::embedded(v6) {
        assert_eq!(isatap::embedded(isatap::address(v6, v4)), Some(v4));
    }
    if let Some(v4) = rest.first_chunk::<4>() {
        let v4 = Ipv4Addr::from(*v4);
        let address = isatap::address(v6, v4);
        assert_eq!(isatap::embedded(address), Some(v4));
        assert_eq!(address.segments()[..4], v6.segments()[..4]);
    }
}
