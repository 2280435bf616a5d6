//! What tells flows apart: a hash for the source port of tunnels over UDP and the flow label of tunnels over IPv6.
//!
//! Routers spread load by the outer header's ports or flow label. All packets of an inner flow must get the same there,
//! or they are reordered, and different flows should get different ones (RFC 7348, section 5; RFC 6438).

use core::ops::RangeInclusive;

use crate::ethernet::{self, EtherType};
use crate::field;
use crate::framing::Framing;
use crate::ip::IpProtocol;
use crate::{ipv4, ipv6};

/// A hash of the flow that a packet belongs to.
///
/// Of addresses, protocol and, of TCP, UDP and SCTP, ports; over IPv6 also of the flow label. All fragments of an IPv4
/// packet have one hash. Without IP it is a hash of the Ethernet header. Good for spreading load, not against
/// adversaries; another release may compute another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowHash(pub u32);

impl FlowHash {
    /// The hash of an Ethernet frame. VLAN tags are looked through.
    #[must_use]
    #[inline]
    pub fn of_frame(frame: &[u8]) -> Self {
        Inner::of_frame(frame).hash
    }

    /// The hash of an IP packet.
    #[must_use]
    #[inline]
    pub fn of_packet(packet: &[u8]) -> Self {
        Inner::of_packet(packet).hash
    }

    /// The port of `ports` that belongs to the hash.
    #[must_use]
    #[inline]
    pub const fn port(self, ports: Ports) -> u16 {
        // Multiplied and shifted, the hash is spread over the range as evenly as by a division.
        ports.first.wrapping_add(((self.0 as u64 * ports.count as u64) >> 32) as u16)
    }

    /// The flow label that belongs to the hash: 20 bits, never 0, which means that there is none (RFC 6437).
    #[must_use]
    #[inline]
    pub const fn label(self) -> u32 {
        let label = self.0 >> 12;
        if label == 0 { 1 } else { label }
    }
}

/// A range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    first: u16,
    /// 1 to 65,536.
    count: u32,
}

impl Ports {
    /// 49152 to 65535, as RFC 7348, section 5 recommends.
    pub const DYNAMIC: Self = Self { first: 49152, count: 16384 };

    /// This one port.
    #[must_use]
    pub const fn only(port: u16) -> Self {
        Self { first: port, count: 1 }
    }

    /// The ports of a range; `None` when it is empty.
    #[must_use]
    pub const fn new(range: RangeInclusive<u16>) -> Option<Self> {
        let (first, last) = (*range.start(), *range.end());
        match last.checked_sub(first) {
            Some(more) => Some(Self { first, count: more as u32 + 1 }),
            None => None,
        }
    }
}

/// What an outer header takes from the packet it is put in front of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner {
    pub(crate) hash: FlowHash,
    /// Traffic class, time to live and don't fragment flag: see [`share`](Self::share).
    pub(crate) shared: u32,
}

/// The time to live of what has none.
const TTL: u8 = 64;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit of both words over the whole result.
#[inline(always)]
const fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ 0xa076_1d64_78bd_642f) as u128 * (b ^ MULTIPLIER) as u128;
    product as u64 ^ (product >> 64) as u64
}

/// How many VLAN tags are looked through.
const MAX_TAGS: usize = 2;

impl Inner {
    /// Of a packet that nobody looked at.
    pub(crate) const UNKNOWN: Self = Self::opaque(0);

    /// What IPv4 and IPv6 both have, packed so that it can be masked all at once: the traffic class, the TTL or hop
    /// limit, and the don't fragment flag as IPv4 has it, which is always set with IPv6.
    #[inline(always)]
    pub(crate) const fn share(traffic_class: u8, ttl: u8, flags: u16) -> u32 {
        (traffic_class as u32) << 24 | (ttl as u32) << 16 | flags as u32
    }

    #[inline(always)]
    pub(crate) fn of(framing: Framing, packet: &[u8]) -> Self {
        match framing {
            Framing::Ethernet => Self::of_frame(packet),
            Framing::Ip => Self::of_packet(packet),
        }
    }

    #[inline]
    pub(crate) fn of_frame(frame: &[u8]) -> Self {
        let Some((header, mut payload)) = frame.split_first_chunk::<{ ethernet::LEN }>() else {
            return Self::opaque(0);
        };
        let mut ether_type = EtherType(field::u16::<12, _>(header));
        for _ in 0..MAX_TAGS {
            if !matches!(ether_type, EtherType::VLAN | EtherType::QINQ) {
                break;
            }
            let Some((tag, rest)) = payload.split_first_chunk::<4>() else { break };
            (ether_type, payload) = (EtherType(field::u16::<2, _>(tag)), rest);
        }
        let inner = match ether_type {
            EtherType::IPV4 => Self::of_ipv4(payload),
            EtherType::IPV6 => Self::of_ipv6(payload),
            _ => None,
        };
        inner.unwrap_or_else(|| {
            let stations = u64::from_be_bytes(field::bytes::<0, 8, _>(header));
            Self::opaque(mix(stations, u64::from_be_bytes(field::bytes::<6, 8, _>(header))))
        })
    }

    #[inline]
    pub(crate) fn of_packet(packet: &[u8]) -> Self {
        let inner = match packet.first().map(|first| first >> 4) {
            Some(4) => Self::of_ipv4(packet),
            Some(6) => Self::of_ipv6(packet),
            _ => None,
        };
        inner.unwrap_or_else(|| Self::opaque(0))
    }

    #[inline]
    fn of_ipv4(packet: &[u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<{ ipv4::LEN }>()?;
        let fragment = field::u16::<6, _>(header);
        let protocol = field::u8::<9, _>(header);
        let options_len = usize::from(header[0] & 0x0f).saturating_sub(5) * 4;
        let is_fragment = fragment & 0x3fff != 0;
        let ports = if is_fragment { 0 } else { ports(protocol, rest.get(options_len..)) };
        let addresses = u64::from_be_bytes(field::bytes::<12, 8, _>(header));
        let hash = mix(addresses, u64::from(ports) << 8 | u64::from(protocol));
        Some(Self {
            hash: FlowHash((hash >> 32) as u32),
            shared: Self::share(
                field::u8::<1, _>(header),
                field::u8::<8, _>(header),
                fragment & ipv4::DONT_FRAGMENT,
            ),
        })
    }

    #[inline]
    fn of_ipv6(packet: &[u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<{ ipv6::LEN }>()?;
        let first = field::u32::<0, _>(header);
        let next_header = field::u8::<6, _>(header);
        let ports = u64::from(ports(next_header, Some(rest)));
        let label = u64::from(first & 0x000f_ffff);
        let word = |bytes| u64::from_be_bytes(bytes);
        let src = mix(
            word(field::bytes::<8, 8, _>(header)),
            word(field::bytes::<16, 8, _>(header)) ^ label << 32,
        );
        let dst = mix(
            word(field::bytes::<24, 8, _>(header)) ^ ports << 8 ^ u64::from(next_header),
            word(field::bytes::<32, 8, _>(header)),
        );
        let hash = mix(src, dst);
        Some(Self {
            hash: FlowHash((hash >> 32) as u32),
            shared: Self::share(
                (first >> 20) as u8,
                field::u8::<7, _>(header),
                ipv4::DONT_FRAGMENT,
            ),
        })
    }

    /// Without IP.
    #[inline]
    const fn opaque(hash: u64) -> Self {
        Self { hash: FlowHash((hash >> 32) as u32), shared: Self::share(0, TTL, 0) }
    }
}

/// Both ports, of the protocols that begin with them.
#[inline(always)]
fn ports(protocol: u8, payload: Option<&[u8]>) -> u32 {
    const SCTP: IpProtocol = IpProtocol(132);
    match (IpProtocol(protocol), payload.and_then(<[u8]>::first_chunk)) {
        (IpProtocol::TCP | IpProtocol::UDP | SCTP, Some(ports)) => u32::from_be_bytes(*ports),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::Ecn;
    use crate::ipv4::Ipv4Header;
    use crate::ipv6::Ipv6Header;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::collections::HashSet;
    use std::vec::Vec;

    fn v4(host: u8, ports: [u8; 4], change: impl Fn(&mut Ipv4Header<'_>)) -> Vec<u8> {
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, host), Ipv4Addr::new(10, 0, 1, 1));
        let mut header = Ipv4Header::new(src, dst, IpProtocol::TCP);
        change(&mut header);
        let mut packet = [&[0].repeat(header.header_len()), &ports[..], &[0; 16]].concat();
        header.emit(&mut packet).unwrap();
        packet
    }

    fn v6(label: u32, ports: [u8; 4]) -> Vec<u8> {
        let (src, dst) = (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::LOCALHOST);
        let header = Ipv6Header {
            flow_label: label,
            dscp: 46,
            ecn: Ecn::Ect0,
            ..Ipv6Header::new(src, dst, IpProtocol::UDP)
        };
        let mut packet = [&[0; 40], &ports[..], &[0; 16]].concat();
        header.emit(&mut packet).unwrap();
        packet
    }

    fn framed(tags: &[u8], ether_type: EtherType, packet: &[u8]) -> Vec<u8> {
        [&[2; 12], tags, &ether_type.0.to_be_bytes(), packet].concat()
    }

    #[test]
    fn a_flow_has_one_hash() {
        let ports = [0, 80, 200, 1];
        let first = FlowHash::of_packet(&v4(1, ports, |_| ()));
        // What differs from packet to packet of a flow.
        let later = v4(1, ports, |header| {
            (header.identification, header.ttl, header.ecn) = (7, 3, Ecn::Ce);
        });
        assert_eq!(FlowHash::of_packet(&later), first);
        let options = v4(1, ports, |header| header.options = &[1, 1, 1, 0]);
        assert_eq!(FlowHash::of_packet(&options), first);
        for tags in [&[][..], &[0x81, 0, 0, 1], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2]] {
            let frame = framed(tags, EtherType::IPV4, &later);
            assert_eq!(FlowHash::of_frame(&frame), first, "{tags:?}");
        }
    }

    #[test]
    fn fragments_stay_with_each_other() {
        let first = v4(1, [0, 80, 200, 1], |header| header.more_fragments = true);
        let last = v4(1, [9, 9, 9, 9], |header| header.fragment_offset = 185);
        assert_eq!(FlowHash::of_packet(&first), FlowHash::of_packet(&last));
    }

    #[test]
    fn flows_are_spread() {
        let mut v4_ports = HashSet::new();
        let mut v6_ports = HashSet::new();
        for port in 0..1000_u16 {
            let [a, b] = port.to_be_bytes();
            let hash = FlowHash::of_packet(&v4(1, [a, b, 0, 80], |_| ()));
            v4_ports.insert(hash.port(Ports::DYNAMIC));
            v6_ports.insert(FlowHash::of_packet(&v6(0, [a, b, 0, 80])).port(Ports::DYNAMIC));
        }
        // Of 1000 balls thrown into 16384 bins, 970 hit a bin of their own on average.
        assert!(v4_ports.len() > 940, "{}", v4_ports.len());
        assert!(v6_ports.len() > 940, "{}", v6_ports.len());
        assert_ne!(FlowHash::of_packet(&v6(1, [0; 4])), FlowHash::of_packet(&v6(2, [0; 4])));
        let hosts = (0..250).map(|host| FlowHash::of_packet(&v4(host, [0; 4], |_| ())));
        assert_eq!(hosts.collect::<HashSet<_>>().len(), 250);
    }

    #[test]
    fn ports_stay_in_their_range() {
        let ports = Ports::new(40_000..=40_002).unwrap();
        let seen: HashSet<u16> =
            (0..=u16::MAX).map(|high| FlowHash(u32::from(high) << 16).port(ports)).collect();
        assert_eq!(seen, HashSet::from([40_000, 40_001, 40_002]));
        assert_eq!(FlowHash(u32::MAX).port(Ports::new(0..=u16::MAX).unwrap()), u16::MAX);
        assert_eq!(FlowHash(u32::MAX).port(Ports::new(7..=7).unwrap()), 7);
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range is what is tested")]
        let empty = 8..=7;
        assert_eq!(Ports::new(empty), None);
        assert_eq!(FlowHash(u32::MAX).port(Ports::DYNAMIC), u16::MAX);
        assert_eq!(FlowHash(0).label(), 1);
        assert_eq!(FlowHash(u32::MAX).label(), 0xf_ffff);
    }

    #[test]
    fn what_the_outer_header_needs_is_found() {
        let packet = v6(0, [0; 4]);
        let frame = framed(&[], EtherType::IPV6, &packet);
        for inner in [Inner::of_packet(&packet), Inner::of_frame(&frame)] {
            assert_eq!(inner.shared, Inner::share(46 << 2 | 2, 64, ipv4::DONT_FRAGMENT));
        }
        let arp = framed(&[], EtherType::ARP, &[0; 28]);
        let inner = Inner::of_frame(&arp);
        assert_eq!(inner.shared, Inner::share(0, TTL, 0));
        let other = framed(&[], EtherType(0x88cc), &[0; 28]);
        assert_ne!(inner.hash, Inner::of_frame(&other).hash);
    }

    #[test]
    fn anything_has_a_hash() {
        let frame = framed(&[0x88, 0xa8, 0, 1], EtherType::IPV4, &v4(1, [0; 4], |_| ()));
        for len in 0..frame.len() {
            let _ = FlowHash::of_frame(&frame[..len]);
            let _ = FlowHash::of_packet(&frame[len..]);
        }
    }
}
