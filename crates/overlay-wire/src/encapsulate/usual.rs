//! The usual headers, in one straight line: those of frames in VXLAN, or in a tunnel whose header is as long, over UDP
//! without a checksum, over IPv4 that is never fragmented, over Ethernet.
//!
//! They are what the complete writer makes of the shortest frame, taken apart into pieces that are written at once, each
//! with what varies in it: the fewer writes, the faster. Whatever is not as usual is left to that writer, which also
//! knows reasons to refuse a packet.

use super::{Policy, Shim, Template};
use crate::buffer::PacketBuffer;
use crate::ethernet;
use crate::field;
use crate::flow::{FlowHash, Inner, Ports};
use crate::framing::Framing;
use crate::{ipv4, udp, vxlan};

const LEN: usize = ethernet::LEN + ipv4::LEN + udp::LEN + vxlan::LEN;

/// The headers of a frame without a payload, and how they vary.
#[derive(Clone, Debug)]
pub(super) struct Usual {
    /// Ethernet, and the first two bytes of IPv4.
    start: [[u8; 8]; 2],
    /// IPv4 from the total length to the protocol.
    length: u64,
    /// The sum of all words of the IPv4 header, not complemented.
    sum: u16,
    addresses: [u8; 8],
    /// UDP without the source port.
    udp: u64,
    ports: Ports,
    shim: [u8; vxlan::LEN],
    /// Bits of the inner traffic class that are added.
    inherited: u8,
    /// Bytes of the longest frame's payload.
    max_len: usize,
}

impl Usual {
    /// `None` when the template's headers are not as usual.
    pub(super) fn new(template: &Template) -> Option<Self> {
        let Policy { shared, ports, .. } = template.policy;
        let [inherited, varying @ ..] = shared.inherited.to_be_bytes();
        let is_fixed = varying == [0; 3] && shared.own & u32::from(ipv4::DONT_FRAGMENT) != 0;
        // There is only one way to be so long.
        let is_over_ipv4 = template.link_len > 0 && template.header_len == LEN;
        let is_udp = matches!(template.shim, Shim::Udp(_)) && template.udp_checksum.is_none();
        if !is_fixed || !is_over_ipv4 || !is_udp || template.carries != Framing::Ethernet {
            return None;
        }
        let mut bytes = [0; LEN + ethernet::LEN];
        let mut packet = PacketBuffer::new(&mut bytes, LEN);
        (template.write)(&mut template.clone(), &mut packet, Inner { shared: 0, ..Inner::UNKNOWN })
            .ok()?;
        let headers = bytes.first_chunk::<LEN>()?;
        let udp = u64::from_be_bytes(field::bytes::<34, 8, _>(headers));
        Some(Self {
            start: [field::bytes::<0, 8, _>(headers), field::bytes::<8, 8, _>(headers)],
            length: u64::from_be_bytes(field::bytes::<16, 8, _>(headers)),
            sum: !field::u16::<24, _>(headers),
            addresses: field::bytes::<26, 8, _>(headers),
            udp: udp & (u64::MAX >> 16),
            ports,
            shim: field::bytes::<42, 8, _>(headers),
            inherited,
            max_len: template.max_inner_len - ethernet::LEN,
        })
    }

    /// Puts the headers in front of a packet. `false` when it cannot, and has changed nothing.
    #[inline(always)]
    pub(super) fn write(&self, packet: &mut PacketBuffer<'_>) -> bool {
        let Inner { hash, shared } = Inner::of_frame(packet.as_slice());
        self.write_with(packet, hash, (shared >> 24) as u8 & self.inherited).is_some()
    }

    /// The same for a packet that is not read; not if its traffic class is needed.
    #[inline(always)]
    pub(super) fn write_flow(&self, packet: &mut PacketBuffer<'_>, hash: FlowHash) -> bool {
        self.inherited == 0 && self.write_with(packet, hash, 0).is_some()
    }

    #[inline(always)]
    fn write_with(&self, packet: &mut PacketBuffer<'_>, hash: FlowHash, class: u8) -> Option<()> {
        let len = packet.len().wrapping_sub(ethernet::LEN);
        if len > self.max_len {
            return None;
        }
        let headers = packet.before::<LEN>(0)?;
        let sum = add(add(self.sum, len as u16), u16::from(class));
        let (len, port) = (len as u64, u64::from(hash.port(self.ports)));
        // The last byte of the start.
        let class = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, class]);
        let [start, last] = self.start.map(u64::from_ne_bytes);
        // Because of `max_len` no length grows out of its field.
        field::put::<0, 8, _>(headers, start.to_ne_bytes());
        field::put::<8, 8, _>(headers, (last | class).to_ne_bytes());
        field::put::<16, 8, _>(headers, (self.length + (len << 48)).to_be_bytes());
        field::put_u16::<24, _>(headers, !sum);
        field::put::<26, 8, _>(headers, self.addresses);
        field::put::<34, 8, _>(headers, (self.udp + (port << 48 | len << 16)).to_be_bytes());
        field::put::<42, 8, _>(headers, self.shim);
        packet.grow_front(LEN);
        Some(())
    }
}

/// Adds as the Internet checksum does.
#[inline(always)]
const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encapsulate::{
        DontFragment, Dscp, EcnMode, Link, Outer, SrcPort, Ttl, Tunnel, UdpChecksum,
    };
    use crate::ethernet::{EtherType, EthernetHeader};
    use crate::geneve::GeneveOptions;
    use crate::ip::IpProtocol;
    use crate::vxlan::{GroupPolicy, VxlanHeader};
    use crate::{MacAddr, Vni};
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;
    use std::vec::Vec;

    const TUNNEL: Tunnel<'static> =
        Tunnel::Vxlan { port: vxlan::PORT, header: VxlanHeader::new(Vni::MAX) };
    const LINK: Link = Link { src: MacAddr([2; 6]), dst: MacAddr([4; 6]) };

    fn usual_outer() -> Outer {
        let [src, dst] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|octets| Ipv4Addr::from(octets).into());
        Outer { link: Some(LINK), ..Outer::new(src, dst) }
    }

    fn outer() -> impl Strategy<Value = Outer> {
        let addresses = prop_oneof![
            9 => any::<[[u8; 4]; 2]>().prop_map(|both| both.map(IpAddr::from)),
            1 => Just([Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()]),
        ];
        let ttl = prop_oneof![9 => (1..=u8::MAX).prop_map(Ttl::Fixed), 1 => Just(Ttl::Inherit)];
        let dscp = prop_oneof![(0..64_u8).prop_map(Dscp::Fixed), Just(Dscp::Inherit)];
        let ecn = prop_oneof![Just(EcnMode::Normal), Just(EcnMode::Compatibility)];
        let dont_fragment = prop_oneof![
            9 => Just(DontFragment::Set),
            1 => Just(DontFragment::Unset),
            1 => Just(DontFragment::Inherit),
        ];
        let src_port = prop_oneof![
            any::<u16>().prop_map(SrcPort::Fixed),
            any::<[u16; 2]>()
                .prop_map(|[a, b]| { SrcPort::Entropy(Ports::new(a.min(b)..=a.max(b)).unwrap()) }),
        ];
        let udp_checksum =
            prop_oneof![9 => Just(UdpChecksum::Zero), 1 => Just(UdpChecksum::Compute)];
        let link = prop::option::weighted(0.9, Just(LINK));
        (addresses, ttl, dscp, ecn, dont_fragment, src_port, udp_checksum, link).prop_map(
            |([src, dst], ttl, dscp, ecn, dont_fragment, src_port, udp_checksum, link)| Outer {
                link,
                ttl,
                dscp,
                ecn,
                dont_fragment,
                src_port,
                udp_checksum,
                ..Outer::new(src, dst)
            },
        )
    }

    fn tunnel() -> impl Strategy<Value = Tunnel<'static>> {
        let (port, vni, carries) = (vxlan::PORT, Vni::MAX, Framing::Ethernet);
        let group_policy = Some(GroupPolicy { id: 7, dont_learn: false, applied: true });
        let header = VxlanHeader { group_policy, ..VxlanHeader::new(vni) };
        prop_oneof![
            Just(TUNNEL),
            Just(Tunnel::Vxlan { port, header }),
            Just(Tunnel::VxlanGpe { port, vni, carries }),
            Just(Tunnel::VxlanGpe { port, vni, carries: Framing::Ip }),
            Just(Tunnel::Geneve { port, vni, carries, options: GeneveOptions::NONE }),
            Just(Tunnel::Gre { carries, checksum: true, key: Some(1), sequence: true }),
        ]
    }

    /// An Ethernet frame of `len` bytes with as much of an IPv4 packet as there is room for.
    fn frame(len: usize, class: u8, flags: u8) -> Vec<u8> {
        let mac = MacAddr::BROADCAST;
        let ethernet = EthernetHeader { dst: mac, src: mac, ether_type: EtherType::IPV4 };
        let ip = [0x45, class, 0, 0, 0, 0, flags, 0, 7, IpProtocol::TCP.0];
        let mut frame = [&ethernet.to_bytes()[..], &ip].concat();
        frame.resize(len, 0x5a);
        frame
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn both_writers_write_the_same(
            outer in outer(),
            tunnel in tunnel(),
            len in prop_oneof![9 => 0..200_usize, 1 => 65_440..65_540_usize],
            headroom in prop_oneof![9 => Just(64_usize), 1 => 0..64_usize],
            (class, flags, hash) in any::<(u8, u8, Option<u32>)>(),
        ) {
            let template = Template::new(&outer, &tunnel).unwrap();
            let mut complete = template.clone();
            complete.usual = None;

            let bytes = [&[0xee].repeat(headroom)[..], &frame(len, class, flags)].concat();
            let [a, b] = [template, complete].map(|mut template| {
                let mut bytes = bytes.clone();
                let mut packet = PacketBuffer::new(&mut bytes, headroom);
                let result = match hash {
                    Some(hash) => template.encapsulate_flow(&mut packet, FlowHash(hash)),
                    None => template.encapsulate(&mut packet),
                };
                (result, packet.headroom(), packet.len(), bytes)
            });
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn what_is_usual_needs_no_complete_writer() {
        for ecn in [EcnMode::Normal, EcnMode::Compatibility] {
            let template = Template::new(&Outer { ecn, ..usual_outer() }, &TUNNEL).unwrap();
            let usual = template.usual.unwrap();
            let mut bytes = [0; LEN + 64];
            assert!(usual.write(&mut PacketBuffer::new(&mut bytes, LEN)));
            let mut packet = PacketBuffer::new(&mut bytes, LEN);
            assert_eq!(usual.write_flow(&mut packet, FlowHash(0)), ecn == EcnMode::Compatibility);
        }
    }
}
