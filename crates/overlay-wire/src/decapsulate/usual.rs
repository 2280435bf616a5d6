//! The usual packet, in one straight line.
//!
//! Whatever is not as usual, good or bad, is left to the complete check, which knows reasons. This one must never
//! accept what that one rejects, and must find the same in what both accept: the tests compare them.

use super::{
    Accept, Decapsulated, Decapsulator, EcnRule, Policy, Rejected, Shape, Shim, UdpChecksumRule,
};
use crate::buffer::PacketBuffer;
use crate::ethernet::{self, EtherType};
use crate::field;
use crate::framing::Framing;
use crate::ip::{IpPacket, IpProtocol};
use crate::{ipv4, ipv6, udp, vxlan};

/// [`Decapsulator::usual`] for some framing and tunnel.
pub(super) type Open =
    for<'p> fn(&Decapsulator, &'p mut PacketBuffer<'_>) -> Result<Decapsulated<'p>, Rejected>;

/// What the headers of usual packets look like: numbers in network byte order, and which of their bits count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    ipv4: Bits,
    ipv6: Bits,
    udp: Bits,
    vxlan: Bits,
    verify_ip_checksum: bool,
    /// Whether UDP over IPv6 must have a checksum.
    checksum_over_ipv6: bool,
    /// Whether there is an address to compare.
    addresses: bool,
}

/// Bits that a number should have, of those that count.
#[derive(Clone, Copy, Debug)]
struct Bits {
    expected: u64,
    counting: u64,
}

impl Bits {
    #[inline(always)]
    const fn are_in(self, number: u64) -> bool {
        (number ^ self.expected) & self.counting == 0
    }
}

impl Usual {
    pub(super) const fn new(policy: &Policy) -> Self {
        // ECT(1) and CE, the notifications with the last bit set, may change the inner packet.
        let ecn = match policy.ecn {
            EcnRule::Combine => 0b01,
            EcnRule::Ignore => 0,
        };
        let (port, vni) = match policy.accept {
            Accept::IpInUdp { port } => (port, None),
            Accept::Vxlan { port, vni, .. } => (port, vni),
            _ => (0, None),
        };
        // Without a checksum, or with one that does not matter.
        let checksum = match policy.udp_checksum {
            UdpChecksumRule::Ignore => 0,
            _ => 0xffff,
        };
        let (vni, vni_bits) = match vni {
            Some(vni) => ((vni.get() as u64) << 8, 0xffff_ff00),
            None => (0, 0),
        };
        Self {
            // Version, header length, and no fragment.
            ipv4: Bits { expected: 0x45 << 56, counting: 0xff << 56 | ecn << 48 | 0x3fff },
            ipv6: Bits { expected: 6 << 60, counting: 0xf << 60 | ecn << 52 },
            udp: Bits { expected: (port as u64) << 32, counting: 0xffff << 32 | checksum },
            // The I flag and no other.
            vxlan: Bits { expected: 8 << 56 | vni, counting: 0xffff_ffff_0000_00ff | vni_bits },
            verify_ip_checksum: policy.verify_ip_checksum,
            checksum_over_ipv6: matches!(policy.udp_checksum, UdpChecksumRule::RequireOverIpv6),
            addresses: policy.local.is_some() || policy.remote.is_some(),
        }
    }
}

/// The tunnels that have a usual packet, as constants that functions can be made for.
const IP_IN_IP: u8 = 0;
const IP_IN_UDP: u8 = 1;
const VXLAN: u8 = 2;

/// The function for a policy.
pub(super) const fn open(policy: &Policy) -> Open {
    const ETHERNET: bool = true;
    const IP: bool = false;
    if matches!(policy.udp_checksum, UdpChecksumRule::Require)
        && !matches!(policy.accept, Accept::IpInIp)
    {
        return Decapsulator::any;
    }
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

/// The outer IP header.
struct Outer<'p> {
    protocol: IpProtocol,
    payload: &'p [u8],
    header_len: usize,
}

impl Decapsulator {
    fn usual<'p, const ETHERNET: bool, const KIND: u8>(
        &self,
        packet: &'p mut PacketBuffer<'_>,
    ) -> Result<Decapsulated<'p>, Rejected> {
        match self.shape::<ETHERNET, KIND>(packet) {
            Some((shape, inner_len)) => {
                packet.narrow(shape.header_len, inner_len);
                Ok(Decapsulated { packet, shape })
            }
            None => self.any(packet),
        }
    }

    /// Where the headers are and how long the inner packet is.
    #[inline(always)]
    fn shape<const ETHERNET: bool, const KIND: u8>(
        &self,
        packet: &PacketBuffer<'_>,
    ) -> Option<(Shape, usize)> {
        let bytes = packet.get()?;
        let link_len = if ETHERNET { ethernet::LEN } else { 0 };
        let is_v4 = if ETHERNET {
            match EtherType(field::u16::<12, _>(bytes.first_chunk::<{ ethernet::LEN }>()?)) {
                EtherType::IPV4 => true,
                EtherType::IPV6 => false,
                _ => return None,
            }
        } else {
            // The complete version is looked at next.
            bytes.first()? & 0x20 == 0
        };
        let ip = bytes.get(link_len..)?;
        let outer = if is_v4 { self.usual_ipv4(ip)? } else { self.usual_ipv6(ip)? };
        if self.usual.addresses && !self.are_addresses_right(ip) {
            return None;
        }
        let shim_at = link_len + outer.header_len;
        let (shim, shim_at, shim_len, inner_len) = match KIND {
            IP_IN_IP => {
                if usual_inner(outer.payload)? != outer.protocol {
                    return None;
                }
                (Shim::Ip, shim_at, 0, outer.payload.len())
            }
            IP_IN_UDP => {
                let inner = self.usual_udp(&outer)?;
                usual_inner(inner)?;
                (Shim::Udp, shim_at + udp::LEN, 0, inner.len())
            }
            _ => {
                let datagram = self.usual_udp(&outer)?;
                let (header, frame) = datagram.split_first_chunk::<{ vxlan::LEN }>()?;
                if !self.usual.vxlan.are_in(u64::from_be_bytes(*header))
                    || frame.len() < ethernet::LEN
                {
                    return None;
                }
                (Shim::Vxlan, shim_at + udp::LEN, vxlan::LEN, frame.len())
            }
        };
        let shape = Shape {
            header_len: shim_at + shim_len,
            ip_at: link_len as u16,
            shim_at: shim_at as u16,
            shim,
            carries: if KIND == VXLAN { Framing::Ethernet } else { Framing::Ip },
        };
        Some((shape, inner_len))
    }

    #[inline(always)]
    fn usual_ipv4<'p>(&self, bytes: &'p [u8]) -> Option<Outer<'p>> {
        let (header, rest) = bytes.split_first_chunk::<{ ipv4::LEN }>()?;
        let ([a, b], last) = header.as_chunks::<8>().0.first_chunk().zip(header.last_chunk())?;
        let [a, b] = [u64::from_be_bytes(*a), u64::from_be_bytes(*b)];
        let last = u64::from(u32::from_be_bytes(*last));
        if !self.usual.ipv4.are_in(a) {
            return None;
        }
        let low = 0xffff_ffff;
        if self.usual.verify_ip_checksum
            && !is_all_ones((a & low) + (a >> 32) + (b & low) + (b >> 32) + last)
        {
            return None;
        }
        let payload_len = ((a >> 32) as u16 as usize).checked_sub(ipv4::LEN)?;
        Some(Outer {
            protocol: IpProtocol((b >> 48) as u8),
            payload: rest.get(..payload_len)?,
            header_len: ipv4::LEN,
        })
    }

    /// An extension header is no tunnel's protocol.
    #[inline(always)]
    fn usual_ipv6<'p>(&self, bytes: &'p [u8]) -> Option<Outer<'p>> {
        let (header, rest) = bytes.split_first_chunk::<{ ipv6::LEN }>()?;
        let first = u64::from_be_bytes(*header.first_chunk()?);
        let protocol = IpProtocol((first >> 8) as u8);
        let needs_checksum = self.usual.checksum_over_ipv6 && protocol == IpProtocol::UDP;
        if !self.usual.ipv6.are_in(first) || needs_checksum {
            return None;
        }
        Some(Outer {
            protocol,
            payload: rest.get(..(first >> 16) as u16 as usize)?,
            header_len: ipv6::LEN,
        })
    }

    /// Not inline: most policies do not ask for it.
    #[inline(never)]
    fn are_addresses_right(&self, packet: &[u8]) -> bool {
        let Policy { local, remote, .. } = self.policy;
        IpPacket::parse_cut(packet).is_ok_and(|packet| {
            local.is_none_or(|local| local == packet.dst())
                && remote.is_none_or(|remote| remote == packet.src())
        })
    }

    /// What the datagram carries.
    #[inline(always)]
    fn usual_udp<'p>(&self, outer: &Outer<'p>) -> Option<&'p [u8]> {
        let (header, rest) = outer.payload.split_first_chunk::<{ udp::LEN }>()?;
        let header = u64::from_be_bytes(*header);
        if outer.protocol != IpProtocol::UDP || !self.usual.udp.are_in(header) {
            return None;
        }
        rest.get(..((header >> 16) as u16 as usize).checked_sub(udp::LEN)?)
    }
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

/// Whether a sum of at most a few 32-bit numbers is the sum of the words of a packet with a right checksum.
#[inline(always)]
const fn is_all_ones(sum: u64) -> bool {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    // At most 0x1ffff, or a carry into that bit.
    (sum & 0xffff) + (sum >> 16) == 0xffff
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

    fn policy(is_v4: bool, linked: bool, kind: u8) -> impl Strategy<Value = Policy> {
        let framing = if linked { Framing::Ethernet } else { Framing::Ip };
        let rule = prop_oneof![
            Just(UdpChecksumRule::Ignore),
            Just(UdpChecksumRule::IfPresent),
            Just(UdpChecksumRule::RequireOverIpv6),
            Just(UdpChecksumRule::Require)
        ];
        let vni = prop_oneof![Just(None), Just(Some(VNI)), Just(Some(Vni::MAX))];
        let address = (any::<bool>(), any::<bool>());
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (rule, vni, address, flags).prop_map(move |(rule, vni, (local, remote), flags)| {
            let (group_policy, verify, reject, combine) = flags;
            let accept = match kind {
                IP_IN_IP => Accept::IpInIp,
                IP_IN_UDP => Accept::IpInUdp { port: PORT },
                _ => Accept::Vxlan { port: PORT, vni, group_policy },
            };
            let (src, dst) = addresses(is_v4);
            let mut policy = Policy::new(framing, accept);
            policy.local = local.then_some(dst);
            policy.remote = remote.then_some(src);
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
                let link_len = if policy.framing == Framing::Ethernet { ethernet::LEN } else { 0 };
                if right_sum && let Some(header) = damaged.get_mut(link_len..link_len + ipv4::LEN) {
                    // So that more than the checksum is wrong.
                    header[10..12].fill(0);
                    let sum = crate::checksum::of(header);
                    header[10..12].copy_from_slice(&sum.to_be_bytes());
                }
            }
            if let Some(cut) = cut {
                damaged.truncate(cut.index(damaged.len()));
            }
            damaged.extend(std::iter::repeat_n(0, tail));
            let decapsulator = Decapsulator::new(&policy);
            let mut other = damaged.clone();
            let [mut a, mut b] =
                [PacketBuffer::new(&mut damaged, 0), PacketBuffer::new(&mut other, 0)];
            let shape = |result: Result<Decapsulated<'_>, _>| result.map(|told| told.shape);
            let usual = shape(decapsulator.decapsulate(&mut a));
            prop_assert_eq!(usual, shape(decapsulator.any(&mut b)));
            prop_assert_eq!(a.as_slice(), b.as_slice());
            prop_assert_eq!(a.headroom(), b.headroom());
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
                let accept = match kind {
                    IP_IN_IP => Accept::IpInIp,
                    IP_IN_UDP => Accept::IpInUdp { port: PORT },
                    _ => Accept::Vxlan { port: PORT, vni: Some(VNI), group_policy: false },
                };
                let mut policy = Policy::new(Framing::Ethernet, accept);
                policy.udp_checksum = UdpChecksumRule::IfPresent;
                let decapsulator = Decapsulator::new(&policy);
                let packet = PacketBuffer::new(&mut bytes, 0);
                let found = match kind {
                    IP_IN_IP => decapsulator.shape::<true, IP_IN_IP>(&packet),
                    IP_IN_UDP => decapsulator.shape::<true, IP_IN_UDP>(&packet),
                    _ => decapsulator.shape::<true, VXLAN>(&packet),
                };
                let Some((shape, inner_len)) = found else { panic!("{is_v4} {kind}") };
                assert_eq!(shape.header_len + inner_len, packet.len());
                assert_eq!(inner_len, inner.len());
            }
        }
    }
}
