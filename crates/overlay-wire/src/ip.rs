//! What IPv4 and IPv6 have in common.

use core::fmt;
use core::net::IpAddr;

use crate::checksum::PseudoHeader;
use crate::error::{Error, Expected};
use crate::ipv4::{self, Ipv4Packet};
use crate::ipv6::{self, Ipv6Packet};

/// The version of the outer (underlay) or inner (overlay) IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpVersion {
    /// IPv4: a header of 20 bytes without options (RFC 791).
    V4,
    /// IPv6: a header of 40 bytes without extension headers (RFC 8200).
    V6,
}

impl IpVersion {
    /// Both versions, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The version of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bytes of an IP header without options or extension headers.
    #[must_use]
    pub const fn header_len(self) -> u32 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// The smallest MTU that a link may have to carry this version: 68 bytes (RFC 791) or
    /// 1280 bytes (RFC 8200).
    #[must_use]
    pub const fn min_mtu(self) -> u32 {
        match self {
            Self::V4 => 68,
            Self::V6 => 1280,
        }
    }

    /// Bits of an address, 32 or 128: the prefix length of a host route.
    #[must_use]
    pub const fn address_bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// One address is an IPv4 and the other an IPv6 address where both should be of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected two IPv4 or two IPv6 addresses, found {src} and {dst}")]
#[non_exhaustive]
pub struct MixedVersions {
    /// The source.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
}

/// What an IP packet carries: the protocol of an IPv4 header, the next header of an IPv6 header.
///
/// Numbers as assigned by IANA (RFC 5237). Prints as iproute2 and tcpdump do, by name where there is one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// IPv6 hop-by-hop options (RFC 8200, section 4.3).
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP (RFC 792).
    pub const ICMP: Self = Self(1);
    /// An IPv4 packet (RFC 2003): IP-in-IP.
    pub const IPV4: Self = Self(4);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// An IPv6 packet (RFC 4213 over IPv4, where it is called sit; RFC 2473 over IPv6).
    pub const IPV6: Self = Self(41);
    /// IPv6 routing header (RFC 8200, section 4.4).
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header (RFC 8200, section 4.5).
    pub const FRAGMENT: Self = Self(44);
    /// GRE (RFC 2784).
    pub const GRE: Self = Self(47);
    /// Encapsulating security payload (RFC 4303).
    pub const ESP: Self = Self(50);
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: Self = Self(51);
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// IPv6 without anything behind it (RFC 8200, section 4.7).
    pub const NO_NEXT_HEADER: Self = Self(59);
    /// IPv6 destination options (RFC 8200, section 4.6).
    pub const DESTINATION_OPTIONS: Self = Self(60);
    /// An Ethernet frame (RFC 8986, section 4.9).
    pub const ETHERNET: Self = Self(143);

    /// The protocol that says that an IP packet of this version follows.
    #[must_use]
    pub const fn ip(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::IPV4,
            IpVersion::V6 => Self::IPV6,
        }
    }

    /// The usual name, in small letters, where there is one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::HOP_BY_HOP => "hopopt",
            Self::ICMP => "icmp",
            Self::IPV4 => "ipip",
            Self::TCP => "tcp",
            Self::UDP => "udp",
            Self::IPV6 => "ipv6",
            Self::ROUTING => "ipv6-route",
            Self::FRAGMENT => "ipv6-frag",
            Self::GRE => "gre",
            Self::ESP => "esp",
            Self::AUTHENTICATION => "ah",
            Self::ICMPV6 => "ipv6-icmp",
            Self::NO_NEXT_HEADER => "ipv6-nonxt",
            Self::DESTINATION_OPTIONS => "ipv6-opts",
            Self::ETHERNET => "ethernet",
            _ => return None,
        })
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl fmt::Debug for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IpProtocol({self})")
    }
}

/// Explicit congestion notification: the two low bits of the traffic class (RFC 3168, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Ecn {
    /// 00: the sender does not understand ECN.
    #[default]
    NotEct = 0b00,
    /// 01: the sender understands ECN; with L4S (RFC 9331), it wants the scalable treatment.
    Ect1 = 0b01,
    /// 10: the sender understands ECN.
    Ect0 = 0b10,
    /// 11: a router on the way was congested.
    Ce = 0b11,
}

impl Ecn {
    /// The two low bits of a traffic class.
    #[must_use]
    #[inline]
    pub const fn of(traffic_class: u8) -> Self {
        match traffic_class & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// What an inner packet's notification becomes when it is taken out of an outer packet with this notification: RFC
    /// 6040, section 4.2, figure 4. `None` when the packet has to be dropped.
    #[must_use]
    #[inline]
    pub const fn decapsulated(self, outer: Self) -> Option<Self> {
        match (self, outer) {
            (Self::NotEct, Self::Ce) => None,
            (Self::NotEct, _) => Some(Self::NotEct),
            (Self::Ect0 | Self::Ect1, Self::Ce) => Some(Self::Ce),
            (Self::Ect0, Self::Ect1) => Some(Self::Ect1),
            (inner, _) => Some(inner),
        }
    }
}

/// An IP packet of either version, found out from its first byte.
///
/// This is all there is to an IP-in-IP payload, and to what Flannel's udp backend puts into a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpPacket<'a> {
    /// An IPv4 packet.
    V4(Ipv4Packet<'a>),
    /// An IPv6 packet.
    V6(Ipv6Packet<'a>),
}

impl<'a> IpPacket<'a> {
    /// The packet at the beginning of `bytes`, with all lengths checked.
    ///
    /// # Errors
    /// [`Error`] when it is neither IPv4 nor IPv6, or as [`Ipv4Packet::parse`] and [`Ipv6Packet::parse`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        match ip_version(bytes)? {
            IpVersion::V4 => Ipv4Packet::parse(bytes).map(Self::V4),
            IpVersion::V6 => Ipv6Packet::parse(bytes).map(Self::V6),
        }
    }

    /// The packet of which `bytes` are the beginning: one that an ICMP error quotes, or a capture has cut.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), except that the payload may be shorter than the header says.
    #[inline]
    pub fn parse_cut(bytes: &'a [u8]) -> Result<Self, Error> {
        match ip_version(bytes)? {
            IpVersion::V4 => Ipv4Packet::parse_cut(bytes).map(Self::V4),
            IpVersion::V6 => Ipv6Packet::parse_cut(bytes).map(Self::V6),
        }
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> IpVersion {
        match self {
            Self::V4(_) => IpVersion::V4,
            Self::V6(_) => IpVersion::V6,
        }
    }

    /// The address of the sender.
    #[must_use]
    pub const fn src(&self) -> IpAddr {
        match self {
            Self::V4(packet) => IpAddr::V4(packet.src()),
            Self::V6(packet) => IpAddr::V6(packet.src()),
        }
    }

    /// The address of the receiver.
    #[must_use]
    pub const fn dst(&self) -> IpAddr {
        match self {
            Self::V4(packet) => IpAddr::V4(packet.dst()),
            Self::V6(packet) => IpAddr::V6(packet.dst()),
        }
    }

    /// The addresses as the upper layer's checksum includes them.
    ///
    /// With an IPv6 routing header that has segments left, the destination of the packet is not the final one, with
    /// which the sender computed the checksum (RFC 8200, section 8.1).
    #[must_use]
    pub const fn pseudo_header(&self) -> PseudoHeader {
        match self {
            Self::V4(packet) => PseudoHeader::V4 { src: packet.src(), dst: packet.dst() },
            Self::V6(packet) => PseudoHeader::V6 { src: packet.src(), dst: packet.dst() },
        }
    }

    /// Time to live or hop limit: how many more routers may forward the packet.
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        match self {
            Self::V4(packet) => packet.ttl(),
            Self::V6(packet) => packet.hop_limit(),
        }
    }

    /// Differentiated services code point: 0 to 63.
    #[must_use]
    pub const fn dscp(&self) -> u8 {
        match self {
            Self::V4(packet) => packet.dscp(),
            Self::V6(packet) => packet.dscp(),
        }
    }

    /// Explicit congestion notification.
    #[must_use]
    pub const fn ecn(&self) -> Ecn {
        match self {
            Self::V4(packet) => packet.ecn(),
            Self::V6(packet) => packet.ecn(),
        }
    }

    /// The bytes behind the IPv4 header with its options, or behind the IPv6 header without extension headers.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        match self {
            Self::V4(packet) => packet.payload(),
            Self::V6(packet) => packet.payload(),
        }
    }

    /// What the packet carries behind all headers of IP itself.
    ///
    /// # Errors
    /// As [`Ipv4Packet::upper_layer`] and [`Ipv6Packet::upper_layer`].
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer<'a>, Error> {
        match self {
            Self::V4(packet) => packet.upper_layer(),
            Self::V6(packet) => packet.upper_layer(),
        }
    }
}

/// What an IP packet carries behind all headers of IP itself: UDP, TCP, ICMP, another IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer<'a> {
    /// What the payload is. In a later fragment, what the payload of the whole packet begins with.
    pub protocol: IpProtocol,
    /// The bytes: all of them, or as many as this fragment has.
    pub payload: &'a [u8],
    /// Bytes of the packet in front of the payload: the IP header with its options or extension headers.
    pub header_len: usize,
    /// Which part this is, if the packet is a fragment.
    pub fragment: Option<Fragment>,
}

impl UpperLayer<'_> {
    /// Whether the payload begins with a header of its protocol: not in a fragment that is not the first one.
    #[must_use]
    #[inline]
    pub fn has_header(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }

    /// Whether the payload is all there is, so that its checksum can be looked at.
    ///
    /// An IPv6 packet may have a fragment header and be whole (RFC 6946).
    #[must_use]
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0 && !fragment.more)
    }
}

/// Which part of a packet a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Where in the part of the packet that is fragmented this one begins, in units of 8 bytes: 0 to 8191.
    pub offset: u16,
    /// Whether this is not the last fragment.
    pub more: bool,
    /// What the fragments of a packet have in common: 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
}

/// The version that the first byte of an IP packet names.
///
/// # Errors
/// [`Error`] when there is no byte, or the version is neither 4 nor 6.
#[inline]
pub fn ip_version(packet: &[u8]) -> Result<IpVersion, Error> {
    match packet.first().map(|first| first >> 4) {
        Some(4) => Ok(IpVersion::V4),
        Some(6) => Ok(IpVersion::V6),
        Some(other) => {
            Err(Error::field("IP", "version", Expected::OneOf(&[4, 6]), u64::from(other)))
        }
        None => Err(Error::truncated("IP", 1, 0)),
    }
}

/// Takes one off the TTL or hop limit of the IP packet that begins with `header`, as a router does. Returns what is
/// left.
///
/// # Errors
/// As [`ipv4::decrement_ttl`] and [`ipv6::decrement_hop_limit`]. Nothing is changed then.
#[inline]
pub fn decrement_ttl(header: &mut [u8]) -> Result<u8, Error> {
    match ip_version(header)? {
        IpVersion::V4 => ipv4::decrement_ttl(header),
        IpVersion::V6 => ipv6::decrement_hop_limit(header),
    }
}

/// Changes the congestion notification of the IP packet that begins with `header`.
///
/// # Errors
/// As [`ipv4::set_ecn`] and [`ipv6::set_ecn`]. Nothing is changed then.
#[inline]
pub fn set_ecn(header: &mut [u8], ecn: Ecn) -> Result<(), Error> {
    match ip_version(header)? {
        IpVersion::V4 => ipv4::set_ecn(header, ecn),
        IpVersion::V6 => ipv6::set_ecn(header, ecn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let [a, b] = fragment.to_be_bytes();
        let total_length = 20 + payload.len() as u8;
        let header = [0x47, 0xb9, 0, total_length + 8, 0x12, 0x34, a, b, 9, protocol];
        let rest = b"\0\0\x0a\0\0\x01\x0a\0\0\x02\x94\x04\0\0\x01\x01\x01\0";
        [&header[..], rest, payload].concat()
    }

    fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let header = [0x6b, 0x90, 0, 0, 0, payload.len() as u8, next_header, 9];
        [&header[..], &[0xfd; 16], &[0xfc; 16], payload].concat()
    }

    #[test]
    fn the_upper_layer_is_found_in_either_version() {
        let (v4, v6) = (v4(17, 0x4000, b"datagram"), v6(17, b"datagram"));
        for (bytes, header_len) in [(v4, 28), (v6, 40)] {
            let packet = IpPacket::parse(&bytes).unwrap();
            assert_eq!((packet.ttl(), packet.dscp(), packet.ecn()), (9, 46, Ecn::Ect1));
            let addresses = PseudoHeader::new(packet.src(), packet.dst());
            assert_eq!(addresses, Ok(packet.pseudo_header()));
            let (protocol, payload) = (IpProtocol::UDP, &b"datagram"[..]);
            assert_eq!(packet.payload(), payload);
            let upper = UpperLayer { protocol, payload, header_len, fragment: None };
            assert_eq!(packet.upper_layer(), Ok(upper));
            assert_eq!(&bytes[header_len..], payload);
            assert!(upper.has_header() && upper.is_whole());
        }
    }

    #[test]
    fn fragments_are_told_in_either_version() {
        for (offset, more, has_header, is_whole) in [
            (0, true, true, false),
            (181, true, false, false),
            (362, false, false, false),
            (0, false, true, true),
        ] {
            let [a, b] = (offset << 3 | u16::from(more)).to_be_bytes();
            let v6 = v6(44, &[&[17, 0, a, b, 0, 0, 0x12, 0x34], &b"part"[..]].concat());
            let v4 = v4(17, offset | if more { 0x2000 } else { 0 }, b"part");
            for bytes in [v4, v6] {
                let upper = IpPacket::parse(&bytes).unwrap().upper_layer().unwrap();
                assert_eq!((upper.protocol, upper.payload), (IpProtocol::UDP, &b"part"[..]));
                assert_eq!(&bytes[upper.header_len..], b"part");
                let expected = Fragment { offset, more, identification: 0x1234 };
                // A whole IPv4 packet looks like no fragment.
                assert!(upper.fragment == Some(expected) || is_whole);
                assert_eq!((upper.has_header(), upper.is_whole()), (has_header, is_whole));
            }
        }
    }

    #[test]
    fn the_first_fragment_is_one_whatever_is_in_it() {
        let [first, whole, later] = [[0, 1], [0, 0], [0, 8]];
        for (outer, inner, has_header, is_whole) in [
            (first, whole, true, false),
            (whole, first, true, false),
            (whole, whole, true, true),
            (first, later, false, false),
        ] {
            let [[a, b], [c, d]] = [outer, inner];
            let payload = [44, 0, a, b, 0, 0, 0, 1, 17, 0, c, d, 0, 0, 0, 2];
            let bytes = v6(44, &payload);
            let upper = IpPacket::parse(&bytes).unwrap().upper_layer().unwrap();
            assert_eq!((upper.has_header(), upper.is_whole()), (has_header, is_whole));
        }
    }

    #[test]
    fn authentication_headers_are_stepped_over() {
        let header = b"\x06\x01\0\0\0\0\0\x07\0\0\0\x09";
        let payload = [&header[..], b"segment"].concat();
        for bytes in [v4(51, 0, &payload), v6(51, &payload)] {
            let upper = IpPacket::parse(&bytes).unwrap().upper_layer().unwrap();
            assert_eq!((upper.protocol, upper.payload), (IpProtocol::TCP, &b"segment"[..]));
            assert_eq!(&bytes[upper.header_len..], b"segment");
        }
        // A later fragment does not begin with the header.
        let bytes = v4(51, 1, &payload);
        let upper = IpPacket::parse(&bytes).unwrap().upper_layer().unwrap();
        assert_eq!((upper.protocol, upper.payload), (IpProtocol::AUTHENTICATION, &payload[..]));
        for bytes in [v4(51, 0, &header[..11]), v6(51, &header[..11])] {
            let error = IpPacket::parse(&bytes).unwrap().upper_layer().unwrap_err();
            assert_eq!(error, Error::truncated("authentication header", 12, 11));
        }
    }
}
