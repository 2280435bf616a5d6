//! How many bytes an encapsulation adds, and what that leaves of an MTU.

use core::fmt;

use crate::ip::IpVersion;
use crate::{ethernet, geneve, gre, gue, ipv4, ipv6, udp, vxlan, vxlan_gpe};

/// A way to carry a packet across the underlay.
///
/// Bytes that each adds to an inner IP packet, with headers without anything optional:
///
/// | | over IPv4 | over IPv6 | headers |
/// |---|---|---|---|
/// | [`Direct`](Self::Direct) | 0 | 0 | |
/// | [`IpInIp`](Self::IpInIp) | 20 | 40 | IP |
/// | [`Gre`](Self::Gre) | 24 | 44 | IP, GRE 4 |
/// | [`IpInUdp`](Self::IpInUdp) | 28 | 48 | IP, UDP 8 |
/// | [`Gue`](Self::Gue) | 32 | 52 | IP, UDP 8, GUE 4 |
/// | [`VxlanGpe`](Self::VxlanGpe) | 36 | 56 | IP, UDP 8, VXLAN-GPE 8 |
/// | [`GreTap`](Self::GreTap) | 38 | 58 | IP, GRE 4, Ethernet 14 |
/// | [`Vxlan`](Self::Vxlan) | 50 | 70 | IP, UDP 8, VXLAN 8, Ethernet 14 |
/// | [`Geneve`](Self::Geneve) | 50 | 70 | IP, UDP 8, Geneve 8, Ethernet 14 |
///
/// What is optional comes on top; [`Template::inner_mtu`](crate::encapsulate::Template::inner_mtu) counts a tunnel with
/// all it has:
///
/// | | bytes |
/// |---|---|
/// | GRE checksum, key, sequence number | [`gre::FIELD_LEN`] each |
/// | GUE extension fields | 4 to [`gue::MAX_EXTENSIONS`] |
/// | Geneve options | 4 to [`geneve::MAX_OPTIONS`] |
/// | tunnel encapsulation limit, which Linux' `ip6tnl` and `ip6gre` send unless told not to | [`ip_in_ip::ENCAPSULATION_LIMIT_LEN`](crate::ip_in_ip::ENCAPSULATION_LIMIT_LEN) |
/// | a VLAN tag in an inner Ethernet frame | 4 |
/// | a VLAN tag in the outer frame | 0: it is not part of the underlay's MTU |
///
/// ```
/// use overlay_wire::{Encapsulation, IpVersion, gre, ip_in_ip};
///
/// // An ip6gre device with a key, as Linux makes it: 1500 - 40 - 8 - 4 - 4.
/// let optional = ip_in_ip::ENCAPSULATION_LIMIT_LEN + gre::FIELD_LEN;
/// let mtu = Encapsulation::Gre.inner_mtu(1500 - optional as u32, IpVersion::V6);
/// assert_eq!(mtu, Some(1444));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Encapsulation {
    /// None: the packet is routed as it is.
    Direct,
    /// An IP header in front of the packet (RFC 2003, RFC 4213, RFC 2473).
    IpInIp,
    /// IP and GRE headers in front of the IP packet (RFC 2784).
    Gre,
    /// IP and UDP headers in front of the IP packet, as FOU and Flannel's udp backend send it.
    IpInUdp,
    /// IP, UDP and GUE headers in front of the IP packet (draft-ietf-intarea-gue-09, variant 0).
    Gue,
    /// IP, UDP and VXLAN-GPE headers in front of the IP packet (draft-ietf-nvo3-vxlan-gpe-13).
    VxlanGpe,
    /// IP and GRE headers in front of an Ethernet frame (RFC 1701): transparent Ethernet bridging.
    GreTap,
    /// IP, UDP and VXLAN headers in front of an Ethernet frame (RFC 7348).
    Vxlan,
    /// IP, UDP and Geneve headers in front of an Ethernet frame (RFC 8926).
    Geneve,
}

impl Encapsulation {
    /// Every encapsulation, the leanest first.
    pub const ALL: [Self; 9] = [
        Self::Direct,
        Self::IpInIp,
        Self::Gre,
        Self::IpInUdp,
        Self::Gue,
        Self::VxlanGpe,
        Self::GreTap,
        Self::Vxlan,
        Self::Geneve,
    ];

    /// The name, in small letters, of which iproute2 has most: `vxlan`, `gretap`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::IpInIp => "ip-in-ip",
            Self::Gre => "gre",
            Self::IpInUdp => "ip-in-udp",
            Self::Gue => "gue",
            Self::VxlanGpe => "vxlan-gpe",
            Self::GreTap => "gretap",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
        }
    }

    /// Bytes between the outer link-layer header and the inner IP packet: what a packet of the
    /// overlay grows by before it is handed to the underlay.
    #[must_use]
    pub const fn overhead(self, outer: IpVersion) -> u32 {
        let ip = match outer {
            IpVersion::V4 => ipv4::LEN,
            IpVersion::V6 => ipv6::LEN,
        };
        let len = match self {
            Self::Direct => 0,
            Self::IpInIp => ip,
            Self::Gre => ip + gre::LEN,
            Self::IpInUdp => ip + udp::LEN,
            Self::Gue => ip + udp::LEN + gue::LEN,
            Self::VxlanGpe => ip + udp::LEN + vxlan_gpe::LEN,
            Self::GreTap => ip + gre::LEN + ethernet::LEN,
            Self::Vxlan => ip + udp::LEN + vxlan::LEN + ethernet::LEN,
            Self::Geneve => ip + udp::LEN + geneve::LEN + ethernet::LEN,
        };
        len as u32
    }

    /// The largest packet of the overlay, in bytes, that fits an underlay whose MTU is `outer_mtu`
    /// bytes; `None` when nothing is left.
    ///
    /// Optional parts of the headers are taken off `outer_mtu` beforehand.
    #[must_use]
    pub const fn inner_mtu(self, outer_mtu: u32, outer: IpVersion) -> Option<u32> {
        match outer_mtu.checked_sub(self.overhead(outer)) {
            None | Some(0) => None,
            mtu => mtu,
        }
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

const _: () = assert!(
    IpVersion::V4.header_len() as usize == ipv4::LEN
        && IpVersion::V6.header_len() as usize == ipv6::LEN,
    "the lengths of IP headers differ"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_overheads() {
        let table = [
            (Encapsulation::Direct, 0, 0),
            (Encapsulation::IpInIp, 20, 40),
            (Encapsulation::Gre, 24, 44),
            (Encapsulation::IpInUdp, 28, 48),
            (Encapsulation::Gue, 32, 52),
            (Encapsulation::VxlanGpe, 36, 56),
            (Encapsulation::GreTap, 38, 58),
            (Encapsulation::Vxlan, 50, 70),
            (Encapsulation::Geneve, 50, 70),
        ];
        assert_eq!(table.map(|(encapsulation, ..)| encapsulation), Encapsulation::ALL);
        for (encapsulation, v4, v6) in table {
            assert_eq!(encapsulation.overhead(IpVersion::V4), v4);
            assert_eq!(encapsulation.overhead(IpVersion::V6), v6);
        }
    }

    #[test]
    fn the_leanest_comes_first() {
        assert!(Encapsulation::ALL.is_sorted());
        for version in IpVersion::ALL {
            assert!(Encapsulation::ALL.map(|it| it.overhead(version)).is_sorted());
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
