//! What IPv4 and IPv6 have in common.

use core::fmt;
use core::net::IpAddr;

use crate::error::{Error, Expected};
use crate::ipv4::Ipv4Packet;
use crate::ipv6::Ipv6Packet;

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
