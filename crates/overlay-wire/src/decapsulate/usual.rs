//! The usual packet, in one straight line.
//!
//! Whatever is not as usual, good or bad, is left to the complete check, which knows reasons. This one must never
//! accept what that one rejects, and must find the same in what both accept: the tests compare them.

use core::net::IpAddr;

use super::{
    Accept, Decapsulated, Decapsulator, EcnRule, Policy, Rejected, Shape, Shim, UdpChecksumRule,
};
use crate::buffer::PacketBuffer;
use crate::ethernet::{self, EtherType};
use crate::field;
use crate::framing::Framing;
use crate::ip::IpProtocol;
use crate::vni::Vni;
use crate::{ipv4, ipv6, udp, vxlan};

/// [`Decapsulator::usual`] for some framing and tunnel.
pub(super) type Open =
    for<'p> fn(&Decapsulator, &'p mut PacketBuffer<'_>) -> Result<Decapsulated<'p>, Rejected>;

/// What the headers of usual packets look like, from the IP header on.
#[derive(Clone, Debug)]
pub(super) struct Usual {
    ipv4: Pattern<IPV4>,
    ipv6: Pattern<IPV6>,
    verify_ip_checksum: bool,
}

/// Bytes of the IP header and those behind it that are looked at: of UDP and VXLAN, if the tunnel has them. No usual
/// packet has fewer.
const IPV4: usize = ipv4::LEN + BEHIND;
const IPV6: usize = ipv6::LEN + BEHIND;
const BEHIND: usize = udp::LEN + vxlan::LEN;
const _: () = assert!(BEHIND <= ipv4::LEN);

/// Which bits of some bytes count, and what these have to be.
#[derive(Clone, Copy, Debug)]
struct Pattern<const N: usize> {
    counting: [u8; N],
    expected: [u8; N],
}

impl<const N: usize> Pattern<N> {
    const ANY: Self = Self { counting: [0; N], expected: [0; N] };
    /// Bits that do not count are expected to be set.
    const NONE: Self = Self { counting: [0; N], expected: [0xff; N] };

    /// These bits count at offset `AT`.
    const fn expect<const AT: usize, const LEN: usize>(
        mut self,
        counting: [u8; LEN],
        expected: [u8; LEN],
    ) -> Self {
        field::put::<AT, LEN, N>(&mut self.counting, counting);
        field::put::<AT, LEN, N>(&mut self.expected, expected);
        self
    }

    #[inline(always)]
    fn matches(&self, bytes: &[u8; N]) -> bool {
        let [bytes, counting, expected] =
            [bytes, &self.counting, &self.expected].map(|bytes| bytes.as_chunks().0);
        // Without a branch for each word, so that compilers make vectors of them.
        let words = bytes.iter().zip(counting).zip(expected);
        let wrong = words.fold(0, |wrong, ((word, counting), expected)| {
            let [word, counting, expected] =
                [word, counting, expected].map(|word| u32::from_ne_bytes(*word));
            wrong | (word & counting) ^ expected
        });
        wrong == 0
    }
}

impl Usual {
    pub(super) const fn new(policy: &Policy) -> Self {
        // ECT(1) and CE, the notifications with the last bit set, may change the inner packet.
        let ecn = match policy.ecn {
            EcnRule::Combine => 0b01,
            EcnRule::Ignore => 0,
        };
        // Version and header length, and no fragment.
        let ipv4 = Pattern::ANY.expect::<0, 2>([0xff, ecn], [0x45, 0]);
        let usual = Self {
            ipv4: ipv4.expect::<6, 2>([0x3f, 0xff], [0; 2]),
            ipv6: Pattern::ANY.expect::<0, 2>([0xf0, ecn << 4], [0x60, 0]),
            verify_ip_checksum: policy.verify_ip_checksum,
        };
        let usual = match policy.accept {
            Accept::IpInUdp { port } => usual.udp(port, policy.udp_checksum),
            Accept::Vxlan { port, vni, .. } => usual.udp(port, policy.udp_checksum).vxlan(vni),
            _ => usual,
        };
        usual.address::<12, 8>(policy.remote).address::<16, 24>(policy.local)
    }

    const fn udp(self, port: u16, checksum: UdpChecksumRule) -> Self {
        let (protocol, port) = ([IpProtocol::UDP.0], port.to_be_bytes());
        let mut ipv4 = self.ipv4.expect::<9, 1>([0xff], protocol);
        let mut ipv6 = self.ipv6.expect::<6, 1>([0xff], protocol);
        ipv4 = ipv4.expect::<{ ipv4::LEN + 2 }, 2>([0xff; 2], port);
        ipv6 = ipv6.expect::<{ ipv6::LEN + 2 }, 2>([0xff; 2], port);
        // Without a checksum, or with one that does not matter.
        if !matches!(checksum, UdpChecksumRule::Ignore) {
            ipv4 = ipv4.expect::<{ ipv4::LEN + 6 }, 2>([0xff; 2], [0; 2]);
            ipv6 = ipv6.expect::<{ ipv6::LEN + 6 }, 2>([0xff; 2], [0; 2]);
        }
        match checksum {
            UdpChecksumRule::Ignore | UdpChecksumRule::IfPresent => {}
            UdpChecksumRule::RequireOverIpv6 => ipv6 = Pattern::NONE,
            UdpChecksumRule::Require => (ipv4, ipv6) = (Pattern::NONE, Pattern::NONE),
        }
        Self { ipv4, ipv6, ..self }
    }

    const fn vxlan(self, vni: Option<Vni>) -> Self {
        let (id, [a, b, c]) = match vni {
            Some(vni) => (0xff, vni.octets()),
            None => (0, [0; 3]),
        };
        // The I flag and no other.
        let counting = [0xff, 0xff, 0xff, 0xff, id, id, id, 0xff];
        let expected = [8, 0, 0, 0, a, b, c, 0];
        Self {
            ipv4: self.ipv4.expect::<{ ipv4::LEN + udp::LEN }, 8>(counting, expected),
            ipv6: self.ipv6.expect::<{ ipv6::LEN + udp::LEN }, 8>(counting, expected),
            ..self
        }
    }

    /// An address at offset `V4` or `V6`.
    const fn address<const V4: usize, const V6: usize>(self, address: Option<IpAddr>) -> Self {
        let (ipv4, ipv6) = match address {
            None => (self.ipv4, self.ipv6),
            Some(IpAddr::V4(address)) => {
                (self.ipv4.expect::<V4, 4>([0xff; 4], address.octets()), Pattern::NONE)
            }
            Some(IpAddr::V6(address)) => {
                (Pattern::NONE, self.ipv6.expect::<V6, 16>([0xff; 16], address.octets()))
            }
        };
        Self { ipv4, ipv6, ..self }
    }
}

/// The tunnels that have a usual packet, as constants that functions can be made for.
pub(super) const IP_IN_IP: u8 = 0;
pub(super) const IP_IN_UDP: u8 = 1;
pub(super) const VXLAN: u8 = 2;

/// The function for a policy.
pub(super) const fn open(policy: &Policy) -> Open {
    const ETHERNET: usize = ethernet::LEN;
    const IP: usize = 0;
    match (policy.framing, policy.accept) {
        (Framing::Ethernet, Accept::IpInIp) => Decapsulator::usual::<ETHERNET, IP_IN_IP>,
        (Framing::Ethernet, Accept::IpInUdp { .. }) => Decapsulator::usual::<ETHERNET, IP_IN_UDP>,
        (Framing::Ethernet, Accept::Vxlan { .. }) => Decapsulator::usual::<ETHERNET, VXLAN>,
        (Framing::Ip, Accept::IpInIp) => Decapsulator::usual::<IP, IP_IN_IP>,
        (Framing::Ip, Accept::IpInUdp { .. }) => Decapsulator::usual::<IP, IP_IN_UDP>,
        (Framing::Ip, Accept::Vxlan { .. }) => Decapsulator::usual::<IP, VXLAN>,
        _ => Decapsulator::any,
    }
}

impl Decapsulator {
    fn usual<'p, const LINK: usize, const KIND: u8>(
        &self,
        packet: &'p mut PacketBuffer<'_>,
    ) -> Result<Decapsulated<'p>, Rejected> {
        let first = packet.get().and_then(|bytes| bytes.get(LINK));
        let found = match first.map(|first| first >> 4) {
            Some(6) => self.usual.over_ipv6::<LINK, KIND>(packet),
            _ => self.usual.over_ipv4::<LINK, KIND>(packet),
        };
        match found {
            Some((shape, inner_len)) => Ok(Decapsulated::new(packet, shape, inner_len)),
            None => self.any(packet),
        }
    }
}

impl Usual {
    /// Where the headers of a packet over IPv4 are and how long the inner packet is, if that is usual.
    #[inline(always)]
    pub(super) fn over_ipv4<const LINK: usize, const KIND: u8>(
        &self,
        packet: &PacketBuffer<'_>,
    ) -> Option<(Shape, usize)> {
        let bytes = packet.get()?;
        let headers = headers::<LINK, IPV4>(bytes, EtherType::IPV4)?;
        if !self.ipv4.matches(headers) || self.verify_ip_checksum && !is_checksum_valid(headers) {
            return None;
        }
        let total_length = usize::from(field::u16::<2, _>(headers));
        let protocol = IpProtocol(field::u8::<9, _>(headers));
        let (_, behind) = headers.split_last_chunk()?;
        shape::<LINK, { ipv4::LEN }, KIND>(bytes, total_length, protocol, behind)
    }

    /// Likewise over IPv6. An extension header is no tunnel's protocol.
    #[inline(always)]
    fn over_ipv6<const LINK: usize, const KIND: u8>(
        &self,
        packet: &PacketBuffer<'_>,
    ) -> Option<(Shape, usize)> {
        let bytes = packet.get()?;
        let headers = headers::<LINK, IPV6>(bytes, EtherType::IPV6)?;
        if !self.ipv6.matches(headers) {
            return None;
        }
        let total_length = ipv6::LEN + usize::from(field::u16::<4, _>(headers));
        let protocol = IpProtocol(field::u8::<6, _>(headers));
        let (_, behind) = headers.split_last_chunk()?;
        shape::<LINK, { ipv6::LEN }, KIND>(bytes, total_length, protocol, behind)
    }
}

/// The IP header and what is looked at behind it.
#[inline(always)]
fn headers<const LINK: usize, const N: usize>(
    bytes: &[u8],
    ether_type: EtherType,
) -> Option<&[u8; N]> {
    // One comparison of lengths for all.
    let (link, rest) = bytes.get(..LINK + N)?.split_first_chunk::<LINK>()?;
    match link.last_chunk() {
        Some(found) if u16::from_be_bytes(*found) != ether_type.0 => None,
        _ => rest.first_chunk(),
    }
}

/// Checks the lengths and the inner packet. `behind` is what is behind the IP header.
#[inline(always)]
fn shape<const LINK: usize, const IP: usize, const KIND: u8>(
    bytes: &[u8],
    total_length: usize,
    protocol: IpProtocol,
    behind: &[u8; BEHIND],
) -> Option<(Shape, usize)> {
    let end = LINK + total_length;
    let udp_length = usize::from(field::u16::<4, _>(behind));
    let (shim, shim_at, header_len, min_len, carries) = match KIND {
        IP_IN_IP => (Shim::Ip, LINK + IP, LINK + IP, 1, Framing::Ip),
        IP_IN_UDP => (Shim::Udp, LINK + IP + udp::LEN, LINK + IP + udp::LEN, 1, Framing::Ip),
        _ => {
            let shim_at = LINK + IP + udp::LEN;
            (Shim::Vxlan, shim_at, shim_at + vxlan::LEN, ethernet::LEN, Framing::Ethernet)
        }
    };
    if end > bytes.len()
        || end < header_len + min_len
        || KIND != IP_IN_IP && IP + udp_length != total_length
    {
        return None;
    }
    if KIND != VXLAN {
        let version = usual_inner(bytes.get(header_len..end)?)?;
        if KIND == IP_IN_IP && version != protocol {
            return None;
        }
    }
    let [.., a, b, c, _] = *behind;
    let vni = if KIND == VXLAN { Some(Vni::from_octets([a, b, c])) } else { None };
    let (ip_at, shim_at) = (LINK as u16, shim_at as u16);
    Some((Shape { header_len, ip_at, shim_at, shim, vni, carries }, end - header_len))
}

/// Whether the checksum of a usual IPv4 header is right.
#[inline(always)]
fn is_checksum_valid(headers: &[u8; IPV4]) -> bool {
    // In whichever order their bytes are, words of 16 bits add up, with the carries, to what wider words add up to modulo
    // 0xffff: that must be 0.
    let a = u64::from_ne_bytes(field::bytes::<0, 8, _>(headers));
    let b = u64::from_ne_bytes(field::bytes::<8, 8, _>(headers));
    let c = u64::from(u32::from_ne_bytes(field::bytes::<16, 4, _>(headers)));
    // Neither first nor last byte of the first eight of a usual header has its high bit set: no carry.
    let (sum, carry) = a.wrapping_add(c).overflowing_add(b);
    sum.wrapping_add(u64::from(carry)) % 0xffff == 0
}

/// The protocol that an inner packet belongs to, its lengths checked.
#[inline(always)]
fn usual_inner(packet: &[u8]) -> Option<IpProtocol> {
    match packet.first()? {
        0x45 => {
            let (header, _) = packet.split_first_chunk::<{ ipv4::LEN }>()?;
            let total_length = usize::from(field::u16::<2, _>(header));
            (ipv4::LEN..=packet.len()).contains(&total_length).then_some(IpProtocol::IPV4)
        }
        0x60..=0x6f => {
            let (header, rest) = packet.split_first_chunk::<{ ipv6::LEN }>()?;
            let payload_length = usize::from(field::u16::<4, _>(header));
            (payload_length <= rest.len()).then_some(IpProtocol::IPV6)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decapsulate::Reserved;
    use crate::encapsulate::{Outer, Template, Tunnel, UdpChecksum};
    use crate::vni::Vni;
    use crate::vxlan::VxlanHeader;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;
    use std::vec::Vec;

    const VNI: Vni = Vni::from_octets([0x12, 0x34, 0x56]);
    const PORT: u16 = 4789;

    fn addresses(is_v4: bool) -> (IpAddr, IpAddr) {
        if is_v4 {
            (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into())
        } else {
            (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into())
        }
    }

    fn packet(is_v4: bool, linked: bool, checksum: bool, kind: u8, inner: &[u8]) -> Vec<u8> {
        let (src, dst) = addresses(is_v4);
        let mut outer = Outer::new(src, dst);
        outer.link = linked.then_some(crate::encapsulate::Link {
            src: crate::MacAddr::ZERO,
            dst: crate::MacAddr::BROADCAST,
        });
        if checksum {
            outer.udp_checksum = UdpChecksum::Compute;
        } else {
            outer.udp_checksum = UdpChecksum::Zero;
        }
        let tunnel = match kind {
            IP_IN_IP => Tunnel::IpInIp,
            IP_IN_UDP => Tunnel::IpInUdp { port: PORT },
            _ => Tunnel::Vxlan { port: PORT, header: VxlanHeader::new(VNI) },
        };
        let mut bytes = [&[0; 128], inner].concat();
        let mut packet = PacketBuffer::new(&mut bytes, 128);
        Template::new(&outer, &tunnel).unwrap().encapsulate(&mut packet).unwrap();
        packet.into_slice().to_vec()
    }

    fn accept(kind: u8, vni: Option<Vni>) -> Accept {
        match kind {
            IP_IN_IP => Accept::IpInIp,
            IP_IN_UDP => Accept::IpInUdp { port: PORT },
            _ => Accept::Vxlan { port: PORT, vni, group_policy: false },
        }
    }

    fn policy(is_v4: bool, linked: bool, kind: u8) -> impl Strategy<Value = Policy> {
        let framing = if linked { Framing::Ethernet } else { Framing::Ip };
        let rule = prop_oneof![
            Just(UdpChecksumRule::Ignore),
            Just(UdpChecksumRule::IfPresent),
            Just(UdpChecksumRule::RequireOverIpv6),
            Just(UdpChecksumRule::Require)
        ];
        let vni = prop_oneof![Just(None), Just(Some(VNI)), Just(Some(Vni::MAX))];
        // None, the packet's, or one of the other version.
        let address = || prop_oneof![3 => Just(0_usize), 3 => Just(1), 1 => Just(2)];
        let address = (address(), address());
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (rule, vni, address, flags).prop_map(move |(rule, vni, (local, remote), flags)| {
            let (group_policy, verify, reject, combine) = flags;
            let accept = match kind {
                IP_IN_IP => Accept::IpInIp,
                IP_IN_UDP => Accept::IpInUdp { port: PORT },
                _ => Accept::Vxlan { port: PORT, vni, group_policy },
            };
            let mut policy = Policy::new(framing, accept);
            let [same, other] = [is_v4, !is_v4].map(addresses);
            policy.local = [None, Some(same.1), Some(other.1)][local];
            policy.remote = [None, Some(same.0), Some(other.0)][remote];
            policy.verify_ip_checksum = verify;
            policy.udp_checksum = rule;
            policy.reserved = if reject { Reserved::Reject } else { Reserved::Ignore };
            policy.ecn = if combine { EcnRule::Combine } else { EcnRule::Ignore };
            policy
        })
    }

    fn case() -> impl Strategy<Value = (Policy, Vec<u8>)> {
        (any::<bool>(), any::<bool>(), any::<bool>(), 0..3_u8, any::<bool>()).prop_flat_map(
            |(is_v4, linked, checksum, kind, inner_is_v4)| {
                let mut inner = std::vec![0; 64];
                let (src, dst) = (Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
                if inner_is_v4 {
                    let header = ipv4::Ipv4Header::new(src, dst, IpProtocol::UDP);
                    header.emit(&mut inner).unwrap();
                } else {
                    let address = Ipv6Addr::LOCALHOST;
                    let header = ipv6::Ipv6Header::new(address, address, IpProtocol::UDP);
                    header.emit(&mut inner).unwrap();
                }
                let packet = packet(is_v4, linked, checksum, kind, &inner);
                (policy(is_v4, linked, kind), Just(packet))
            },
        )
    }

    /// So that more than the checksum is wrong.
    fn mend_checksum(policy: &Policy, packet: &mut [u8]) {
        let link_len = if policy.framing == Framing::Ethernet { ethernet::LEN } else { 0 };
        if let Some(header) = packet.get_mut(link_len..link_len + ipv4::LEN) {
            header[10..12].fill(0);
            let sum = crate::checksum::of(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }

    #[track_caller]
    fn both_agree(policy: &Policy, mut packet: Vec<u8>) {
        let decapsulator = Decapsulator::new(policy);
        let mut other = packet.clone();
        let [mut a, mut b] = [PacketBuffer::new(&mut packet, 0), PacketBuffer::new(&mut other, 0)];
        let found = |result: Result<Decapsulated<'_>, _>| {
            result.map(|told| (told.shape, told.headers.to_vec(), told.inner.to_vec()))
        };
        assert_eq!(found(decapsulator.decapsulate(&mut a)), found(decapsulator.any(&mut b)));
        assert_eq!(a.as_slice(), b.as_slice());
        assert_eq!(a.headroom(), b.headroom());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn both_checks_say_the_same(
            (policy, packet) in case(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32, any::<bool>()), 0..3),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
            tail in 0..3_usize,
        ) {
            let mut damaged = packet;
            for (at, bit, right_sum) in damage {
                let at = at.index(damaged.len().min(90));
                damaged[at] ^= 1 << bit;
                if right_sum {
                    mend_checksum(&policy, &mut damaged);
                }
            }
            if let Some(cut) = cut {
                damaged.truncate(cut.index(damaged.len()));
            }
            damaged.extend(std::iter::repeat_n(0, tail));
            both_agree(&policy, damaged);
        }
    }

    #[test]
    fn both_checks_say_the_same_of_every_flipped_bit() {
        for case in 0..12_u8 {
            let (is_v4, linked, kind) = (case & 1 != 0, case & 2 != 0, case >> 2);
            let mut inner = [0; 64];
            let (src, dst) = (Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
            ipv4::Ipv4Header::new(src, dst, IpProtocol::UDP).emit(&mut inner).unwrap();
            let packet = packet(is_v4, linked, false, kind, &inner);
            let framing = if linked { Framing::Ethernet } else { Framing::Ip };
            let mut policy = Policy::new(framing, accept(kind, Some(VNI)));
            policy.udp_checksum = UdpChecksumRule::IfPresent;
            for bit in 0..packet.len() * 8 {
                let mut flipped = packet.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                both_agree(&policy, flipped.clone());
                mend_checksum(&policy, &mut flipped);
                both_agree(&policy, flipped);
            }
        }
    }

    #[test]
    fn what_is_usual_needs_no_complete_check() {
        for is_v4 in [true, false] {
            for kind in [IP_IN_IP, IP_IN_UDP, VXLAN] {
                let mut inner = [0; 64];
                let (src, dst) = (Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
                ipv4::Ipv4Header::new(src, dst, IpProtocol::UDP).emit(&mut inner).unwrap();
                let mut bytes = packet(is_v4, true, false, kind, &inner);
                let mut policy = Policy::new(Framing::Ethernet, accept(kind, Some(VNI)));
                policy.udp_checksum = UdpChecksumRule::IfPresent;
                let decapsulator = Decapsulator::new(&policy);
                let packet = PacketBuffer::new(&mut bytes, 0);
                const LINK: usize = ethernet::LEN;
                let usual = &decapsulator.usual;
                let found = match (is_v4, kind) {
                    (true, IP_IN_IP) => usual.over_ipv4::<LINK, IP_IN_IP>(&packet),
                    (true, IP_IN_UDP) => usual.over_ipv4::<LINK, IP_IN_UDP>(&packet),
                    (true, _) => usual.over_ipv4::<LINK, VXLAN>(&packet),
                    (false, IP_IN_IP) => usual.over_ipv6::<LINK, IP_IN_IP>(&packet),
                    (false, IP_IN_UDP) => usual.over_ipv6::<LINK, IP_IN_UDP>(&packet),
                    (false, _) => usual.over_ipv6::<LINK, VXLAN>(&packet),
                };
                let Some((shape, inner_len)) = found else { panic!("{is_v4} {kind}") };
                assert_eq!(shape.header_len + inner_len, packet.len());
                assert_eq!(inner_len, inner.len());
            }
        }
    }
}
