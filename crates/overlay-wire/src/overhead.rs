//! How many bytes an encapsulation adds, and what that leaves of an MTU.

use core::fmt;
use core::net::IpAddr;

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

/// A way to carry a packet across the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Encapsulation {
    /// None: the packet is routed as it is.
    Direct,
    /// An IP header in front of the packet (RFC 2003, RFC 4213, RFC 2473).
    IpInIp,
    /// IP and UDP headers in front of the IP packet, as Flannel's udp backend sends it.
    IpInUdp,
    /// IP, UDP and VXLAN headers in front of an Ethernet frame (RFC 7348).
    Vxlan,
}

impl Encapsulation {
    /// Every encapsulation, the leanest first.
    pub const ALL: [Self; 4] = [Self::Direct, Self::IpInIp, Self::IpInUdp, Self::Vxlan];

    /// Bytes between the outer link-layer header and the inner IP packet: what a packet of the
    /// overlay grows by before it is handed to the underlay.
    #[must_use]
    pub const fn overhead(self, outer: IpVersion) -> u32 {
        const UDP: u32 = 8;
        const VXLAN: u32 = 8;
        const ETHERNET: u32 = 14;
        match self {
            Self::Direct => 0,
            Self::IpInIp => outer.header_len(),
            Self::IpInUdp => outer.header_len() + UDP,
            Self::Vxlan => outer.header_len() + UDP + VXLAN + ETHERNET,
        }
    }

    /// The largest packet of the overlay, in bytes, that fits an underlay whose MTU is `outer_mtu`
    /// bytes; `None` when nothing is left.
    #[must_use]
    pub const fn inner_mtu(self, outer_mtu: u32, outer: IpVersion) -> Option<u32> {
        match outer_mtu.checked_sub(self.overhead(outer)) {
            None | Some(0) => None,
            mtu => mtu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_overheads() {
        let table = [
            (Encapsulation::Direct, 0, 0),
            (Encapsulation::IpInIp, 20, 40),
            (Encapsulation::IpInUdp, 28, 48),
            (Encapsulation::Vxlan, 50, 70),
        ];
        for (encapsulation, v4, v6) in table {
            assert_eq!(encapsulation.overhead(IpVersion::V4), v4);
            assert_eq!(encapsulation.overhead(IpVersion::V6), v6);
        }
    }

    #[test]
    fn an_mtu_too_small_leaves_nothing() {
        assert_eq!(Encapsulation::Vxlan.inner_mtu(50, IpVersion::V4), None);
        assert_eq!(Encapsulation::Vxlan.inner_mtu(49, IpVersion::V4), None);
        assert_eq!(Encapsulation::Vxlan.inner_mtu(51, IpVersion::V4), Some(1));
        assert_eq!(Encapsulation::Direct.inner_mtu(1500, IpVersion::V6), Some(1500));
    }
}
