use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_wire::buffer::PacketBuffer;
use overlay_wire::decapsulate::{
    Accept, Decapsulated, Decapsulator, GreKey, Policy, Rejected, Reserved, UdpChecksumRule,
};
use overlay_wire::encapsulate::{
    DontFragment, Dscp, EcnMode, FlowLabel, Link, Outer, SrcPort, Template, Ttl, Tunnel,
    UdpChecksum,
};
use overlay_wire::ethernet::{EtherType, EthernetFrame};
use overlay_wire::flow::{FlowHash, Ports};
use overlay_wire::geneve::GeneveOptions;
use overlay_wire::ip::{IpPacket, IpVersion};
use overlay_wire::ipv4::Ipv4Packet;
use overlay_wire::ipv6::Ipv6Packet;
use overlay_wire::vlan::VlanPacket;
use overlay_wire::vxlan::{GroupPolicy, VxlanHeader};
use overlay_wire::{Framing, MacAddr, Vni};

const PORT: u16 = 4789;
const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)];
/// What is in front of a packet before there are headers.
const EMPTY: u8 = 0xa5;

/// Any packet through any tunnel and out of it again: it is the same, and what was learned is what was put in.
///
/// The first 16 bytes of the input choose the tunnel, the next 40, fewer if there are no options of Geneve, are its options;
/// the rest is the packet.
pub fn encapsulate(input: &[u8]) {
    let Some((choices, rest)) = input.split_first_chunk::<16>() else { return };
    let choice = Choices(choices);
    let options_len = usize::from(choice.byte(9) % 11) * 4;
    let Some((options, packet)) = rest.split_at_checked(options_len) else { return };
    let options = GeneveOptions::parse(options).unwrap_or(GeneveOptions::NONE);
    let outer = choice.outer();
    let tunnel = choice.tunnel(options);
    let Ok(mut template) = Template::new(&outer, &tunnel) else { return };
    assert_eq!(template.carries(), tunnel.carries());

    let headroom = template.header_len() + usize::from(choice.byte(10) % 8);
    let mut bytes = vec![EMPTY; headroom];
    bytes.extend_from_slice(packet);
    let mut buffer = PacketBuffer::new(&mut bytes, headroom);
    if let Err(why) = template.encapsulate(&mut buffer) {
        super::prints(why, 128);
        assert_eq!((buffer.headroom(), buffer.as_slice()), (headroom, packet));
        assert_eq!(bytes[..headroom], vec![EMPTY; headroom], "written though refused");
        return;
    }
    assert_eq!(buffer.len(), template.header_len() + packet.len());
    right(&outer, buffer.as_slice());
    too_little_room(&mut template, packet);

    // As strict as it can be: what we send has to be accepted by whoever is no more lenient than the RFCs.
    let framing = if outer.link.is_some() { Framing::Ethernet } else { Framing::Ip };
    let mut policy = Policy::new(framing, choice.accept());
    policy.local = Some(outer.dst);
    policy.remote = Some(outer.src);
    policy.reserved = Reserved::Reject;
    policy.udp_checksum = match outer.udp_checksum {
        UdpChecksum::Compute => UdpChecksumRule::Require,
        UdpChecksum::Zero => UdpChecksumRule::IfPresent,
    };
    let decapsulator = Decapsulator::new(&policy);
    match decapsulator.decapsulate(&mut buffer) {
        Ok(learned) => {
            assert_eq!(learned.inner(), packet, "the packet has changed");
            assert_eq!((learned.src(), learned.dst()), (outer.src, outer.dst));
            assert_eq!(learned.headers().len(), template.header_len());
            assert_eq!(learned.carries(), tunnel.carries());
            choice.told(&tunnel, &outer, &learned, packet);
        }
        // What is inside was not looked at on the way in.
        Err(Rejected::Malformed(error)) => {
            super::prints(error, 128);
            assert!(inner_is_malformed(tunnel.carries(), packet), "{error} in what we wrote");
        }
        // Geneve's options may have reserved bits of their own; critical ones are for the caller.
        Err(Rejected::Options) => assert!(options.any_critical() && !choice.flag(11)),
        Err(why) => panic!("{why}: not accepted though we wrote it"),
    }
    damaged(&decapsulator, &choice, &bytes);
}

/// The outer headers as others see them.
fn right(outer: &Outer, packet: &[u8]) {
    let ip = if outer.link.is_some() { &packet[14..] } else { packet };
    let ip = IpPacket::parse(ip).expect("an IP packet");
    assert_eq!((ip.src(), ip.dst()), (outer.src, outer.dst));
    if let IpPacket::V4(ip) = ip {
        assert!(
            ip.is_checksum_valid() && usize::from(ip.total_length()) == ip.payload().len() + 20
        );
        if outer.dont_fragment == DontFragment::Set {
            assert!(ip.dont_fragment());
        }
    }
    if let Ttl::Fixed(ttl) = outer.ttl {
        assert_eq!(
            ttl,
            match ip {
                IpPacket::V4(ip) => ip.ttl(),
                IpPacket::V6(ip) => ip.hop_limit(),
            }
        );
    }
}

/// One byte of headroom too few: refused, and nothing written.
fn too_little_room(template: &mut Template, packet: &[u8]) {
    let Some(headroom) = template.header_len().checked_sub(1) else { return };
    let mut bytes = vec![EMPTY; headroom];
    bytes.extend_from_slice(packet);
    let before = bytes.clone();
    let mut buffer = PacketBuffer::new(&mut bytes, headroom);
    assert!(template.encapsulate(&mut buffer).is_err());
    assert_eq!(bytes, before);
}

/// A packet that was damaged on the way is accepted or rejected; if rejected it stays as it was.
fn damaged(decapsulator: &Decapsulator, choice: &Choices<'_>, bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let at =
        usize::from(u16::from_be_bytes([choice.byte(12), choice.byte(13)])) % bytes.len().max(1);
    let Some(byte) = bytes.get_mut(at) else { return };
    *byte ^= 1 << (choice.byte(14) % 8);
    let before = bytes.clone();
    let start = usize::from(choice.byte(10) % 8);
    let mut buffer = PacketBuffer::new(&mut bytes, start);
    match decapsulator.decapsulate(&mut buffer) {
        Ok(learned) => {
            let (header_len, inner_len) = (learned.headers().len(), learned.inner().len());
            assert!(header_len + inner_len <= before.len() - start);
            assert_eq!((buffer.headroom(), buffer.len()), (start + header_len, inner_len));
        }
        Err(why) => {
            super::prints(why, 128);
            assert_eq!((buffer.headroom(), buffer.as_slice()), (start, &before[start..]));
        }
    }
}

/// Whether the packet has no header, or is a frame without the IP header that it says it has: the outer congestion
/// notification would have to be combined with that.
fn inner_is_malformed(carries: Framing, packet: &[u8]) -> bool {
    if carries == Framing::Ip {
        return IpPacket::parse(packet).is_err();
    }
    let Ok(frame) = EthernetFrame::parse(packet) else { return true };
    let (mut ether_type, mut payload) = (frame.ether_type(), frame.payload());
    while let (EtherType::VLAN | EtherType::QINQ, Ok(tag)) =
        (ether_type, VlanPacket::parse(payload))
    {
        (ether_type, payload) = (tag.ether_type(), tag.payload());
    }
    match ether_type {
        EtherType::IPV4 => Ipv4Packet::parse(payload).is_err(),
        EtherType::IPV6 => Ipv6Packet::parse(payload).is_err(),
        EtherType::VLAN | EtherType::QINQ => true,
        _ => false,
    }
}

/// Choices that a fuzzer makes, byte by byte.
struct Choices<'a>(&'a [u8; 16]);

impl Choices<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.0[at]
    }

    fn flag(&self, at: usize) -> bool {
        self.0[at] & 0x80 != 0
    }

    fn carries(&self) -> Framing {
        if self.flag(1) { Framing::Ethernet } else { Framing::Ip }
    }

    fn vni(&self) -> Vni {
        Vni::from_octets([self.byte(6), self.byte(7), self.byte(8)])
    }

    fn key(&self) -> Option<u32> {
        self.flag(2).then_some(u32::from_be_bytes([
            self.byte(5),
            self.byte(6),
            self.byte(7),
            self.byte(8),
        ]))
    }

    fn group_policy(&self) -> Option<GroupPolicy> {
        let id = u16::from_be_bytes([self.byte(5), self.byte(9)]);
        let policy = GroupPolicy { id, dont_learn: self.flag(5), applied: self.flag(9) };
        self.flag(2).then_some(policy)
    }

    fn outer(&self) -> Outer {
        let version = if self.flag(0) { IpVersion::V6 } else { IpVersion::V4 };
        let [src, dst]: [IpAddr; 2] = match version {
            IpVersion::V4 => V4.map(IpAddr::V4),
            IpVersion::V6 => V6.map(IpAddr::V6),
        };
        let mut outer = Outer::new(src, dst);
        let bits = self.byte(3);
        let link = Link { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]) };
        outer.link = (bits & 0x01 != 0).then_some(link);
        outer.ttl = if bits & 0x02 != 0 { Ttl::Inherit } else { Ttl::Fixed(self.byte(5).max(1)) };
        outer.dscp = if bits & 0x04 != 0 { Dscp::Inherit } else { Dscp::Fixed(self.byte(5) >> 2) };
        outer.ecn = if bits & 0x08 != 0 { EcnMode::Normal } else { EcnMode::Compatibility };
        outer.dont_fragment = match bits >> 4 & 0b11 {
            0 => DontFragment::Set,
            1 => DontFragment::Unset,
            _ => DontFragment::Inherit,
        };
        outer.udp_checksum =
            if bits & 0x40 != 0 { UdpChecksum::Compute } else { UdpChecksum::Zero };
        if bits & 0x80 != 0 {
            outer.flow_label = FlowLabel::Fixed(u32::from(self.byte(4)) << 12);
            outer.src_port = SrcPort::Fixed(u16::from(self.byte(4)));
        }
        outer
    }

    fn tunnel<'a>(&self, options: GeneveOptions<'a>) -> Tunnel<'a> {
        let (port, vni, carries) = (PORT, self.vni(), self.carries());
        match self.byte(0) % 7 {
            0 => {
                let mut header = VxlanHeader::new(vni);
                header.group_policy = self.group_policy();
                Tunnel::Vxlan { port, header }
            }
            1 => Tunnel::IpInIp,
            2 => Tunnel::IpInUdp { port },
            3 => Tunnel::VxlanGpe { port, vni, carries },
            4 => Tunnel::Gre {
                carries,
                checksum: self.flag(4),
                key: self.key(),
                sequence: self.flag(9),
            },
            5 => Tunnel::Gue { port, carries },
            _ => Tunnel::Geneve { port, vni, carries, options },
        }
    }

    fn accept(&self) -> Accept {
        let (port, vni) = (PORT, Some(self.vni()));
        match self.byte(0) % 7 {
            0 => Accept::Vxlan { port, vni, group_policy: self.flag(2) },
            1 => Accept::IpInIp,
            2 => Accept::IpInUdp { port },
            3 => Accept::VxlanGpe { port, vni },
            4 => Accept::Gre { key: self.key().map_or(GreKey::None, GreKey::Is) },
            5 => Accept::Gue { port },
            _ => Accept::Geneve { port, vni, critical_options: self.flag(11) },
        }
    }

    /// What was learned is what was chosen.
    fn told(&self, tunnel: &Tunnel<'_>, outer: &Outer, learned: &Decapsulated, packet: &[u8]) {
        let (mut vni, mut key, mut sequence, mut group_policy) = (None, None, None, None);
        match tunnel {
            Tunnel::Vxlan { .. } => (vni, group_policy) = (Some(self.vni()), self.group_policy()),
            Tunnel::VxlanGpe { .. } | Tunnel::Geneve { .. } => vni = Some(self.vni()),
            Tunnel::Gre { .. } => (key, sequence) = (self.key(), self.flag(9).then_some(0)),
            _ => {}
        }
        assert_eq!((learned.vni(), learned.group_policy()), (vni, group_policy));
        assert_eq!((learned.key(), learned.sequence()), (key, sequence));
        let hash = match tunnel.carries() {
            Framing::Ethernet => FlowHash::of_frame(packet),
            Framing::Ip => FlowHash::of_packet(packet),
        };
        let port = match outer.src_port {
            SrcPort::Fixed(port) => port,
            SrcPort::Entropy(ports) => hash.port(ports),
        };
        let over_udp = !matches!(tunnel, Tunnel::IpInIp | Tunnel::Gre { .. });
        assert_eq!(learned.src_port(), over_udp.then_some(port));
        assert!(Ports::DYNAMIC != Ports::only(port) && hash.label() != 0);
        if let (Framing::Ethernet, Some(mac)) = (tunnel.carries(), learned.inner_src()) {
            assert_eq!(mac.octets(), packet[6..12]);
        }
    }
}
