//! How many bytes an encapsulation adds, and what that leaves of an MTU.

use crate::ip::IpVersion;

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
