//! The same work by other libraries, as their documentation does it. None of them knows VXLAN: its eight bytes are read and
//! written by hand.

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    Ethernet2Header, IpNumber, Ipv4Header, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
    UdpHeader,
};
use overlay_wire::flow::{FlowHash, Ports};
use overlay_wire::vxlan;
use pnet_packet::Packet as _;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{Ipv4Packet, MutableIpv4Packet};
use pnet_packet::udp::{MutableUdpPacket, UdpPacket};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire;

use super::decapsulate::Found;
use super::ring::HEADROOM;
use super::{ADDRESSES, HEADERS, MACS, VNI};

const TTL: u8 = 64;

/// The builder, which writes headers and payload one after the other.
pub(super) fn etherparse_builder(frame: &[u8]) -> impl FnMut(&mut [u8], u32) -> bool + 'static {
    let payload = [&vxlan_header()[..], frame].concat();
    move |slot, hash| {
        let builder = PacketBuilder::ethernet2(MACS[0], MACS[1])
            .ipv4(ADDRESSES[0], ADDRESSES[1], TTL)
            .udp(FlowHash(hash).port(Ports::DYNAMIC), vxlan::PORT);
        builder.write_to_slice(&mut slot[HEADROOM - HEADERS..], &payload).is_ok()
    }
}

/// One header after the other, as values that become bytes.
pub(super) fn etherparse_headers(slot: &mut [u8], hash: u32) -> bool {
    let inner_len = slot.len() - HEADROOM;
    let Some(room) = slot[..HEADROOM].last_chunk_mut::<HEADERS>() else { return false };
    let udp_length = (8 + 8 + inner_len) as u16;
    let ethernet = Ethernet2Header {
        source: MACS[0],
        destination: MACS[1],
        ether_type: etherparse::EtherType::IPV4,
    };
    let Ok(mut ip) = Ipv4Header::new(udp_length, TTL, IpNumber::UDP, ADDRESSES[0], ADDRESSES[1])
    else {
        return false;
    };
    ip.header_checksum = ip.calc_header_checksum();
    let udp = UdpHeader {
        source_port: FlowHash(hash).port(Ports::DYNAMIC),
        destination_port: vxlan::PORT,
        length: udp_length,
        checksum: 0,
    };
    room[..14].copy_from_slice(&ethernet.to_bytes());
    room[14..34].copy_from_slice(&ip.to_bytes());
    room[34..42].copy_from_slice(&udp.to_bytes());
    room[42..].copy_from_slice(&vxlan_header());
    true
}

/// Headers emitted from their representations.
pub(super) fn smoltcp_emit(slot: &mut [u8], hash: u32) -> bool {
    let inner_len = slot.len() - HEADROOM;
    let [src, dst] = ADDRESSES.map(wire::Ipv4Address::from);
    let ethernet = wire::EthernetRepr {
        src_addr: wire::EthernetAddress(MACS[0]),
        dst_addr: wire::EthernetAddress(MACS[1]),
        ethertype: wire::EthernetProtocol::Ipv4,
    };
    let ip = wire::Ipv4Repr {
        src_addr: src,
        dst_addr: dst,
        next_header: wire::IpProtocol::Udp,
        payload_len: 8 + 8 + inner_len,
        hop_limit: TTL,
    };
    let packet = &mut slot[HEADROOM - HEADERS..];
    ethernet.emit(&mut wire::EthernetFrame::new_unchecked(&mut *packet));
    let packet = &mut packet[14..];
    let capabilities = ChecksumCapabilities::default();
    ip.emit(&mut wire::Ipv4Packet::new_unchecked(&mut *packet), &capabilities);
    let mut udp = wire::UdpPacket::new_unchecked(&mut packet[20..]);
    udp.set_src_port(FlowHash(hash).port(Ports::DYNAMIC));
    udp.set_dst_port(vxlan::PORT);
    udp.set_len((8 + 8 + inner_len) as u16);
    udp.set_checksum(0);
    packet[28..36].copy_from_slice(&vxlan_header());
    true
}

/// Headers written field by field.
pub(super) fn pnet_setters(slot: &mut [u8], hash: u32) -> bool {
    let inner_len = slot.len() - HEADROOM;
    let packet = &mut slot[HEADROOM - HEADERS..];
    let Some(mut ethernet) = MutableEthernetPacket::new(packet) else { return false };
    ethernet.set_source(MACS[0].into());
    ethernet.set_destination(MACS[1].into());
    ethernet.set_ethertype(EtherTypes::Ipv4);
    let packet = &mut packet[14..];
    let Some(mut ip) = MutableIpv4Packet::new(packet) else { return false };
    ip.set_version(4);
    ip.set_header_length(5);
    ip.set_dscp(0);
    ip.set_ecn(0);
    ip.set_total_length((20 + 8 + 8 + inner_len) as u16);
    ip.set_identification(0);
    ip.set_flags(2);
    ip.set_fragment_offset(0);
    ip.set_ttl(TTL);
    ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
    ip.set_source(ADDRESSES[0].into());
    ip.set_destination(ADDRESSES[1].into());
    let checksum = pnet_packet::ipv4::checksum(&ip.to_immutable());
    ip.set_checksum(checksum);
    let Some(mut udp) = MutableUdpPacket::new(&mut packet[20..]) else { return false };
    udp.set_source(FlowHash(hash).port(Ports::DYNAMIC));
    udp.set_destination(vxlan::PORT);
    udp.set_length((8 + 8 + inner_len) as u16);
    udp.set_checksum(0);
    packet[28..36].copy_from_slice(&vxlan_header());
    true
}

pub(super) fn etherparse_sliced(frame: &[u8]) -> Found<'_> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { return None };
    if Sum16BitWords::new().add_slice(ip.header().slice()).ones_complement() != 0 {
        return None;
    }
    let Some(TransportSlice::Udp(udp)) = packet.transport else { return None };
    if udp.destination_port() != vxlan::PORT {
        return None;
    }
    vxlan_payload(udp.payload())
}

pub(super) fn smoltcp_checked(frame: &[u8]) -> Found<'_> {
    let frame = wire::EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != wire::EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = wire::Ipv4Packet::new_checked(frame.payload()).ok()?;
    let is_fragment = packet.more_frags() || packet.frag_offset() != 0;
    if packet.version() != 4
        || packet.next_header() != wire::IpProtocol::Udp
        || is_fragment
        || !packet.verify_checksum()
    {
        return None;
    }
    let datagram = wire::UdpPacket::new_checked(packet.payload()).ok()?;
    if datagram.dst_port() != vxlan::PORT {
        return None;
    }
    vxlan_payload(datagram.payload())
}

pub(super) fn pnet_getters(frame: &[u8]) -> Found<'_> {
    let ethernet = EthernetPacket::new(frame)?;
    if ethernet.get_ethertype() != EtherTypes::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new(&frame[14..])?;
    if ip.get_next_level_protocol() != IpNextHeaderProtocols::Udp {
        return None;
    }
    let header_len = usize::from(ip.get_header_length()) * 4;
    let udp = UdpPacket::new(frame.get(14 + header_len..)?)?;
    if udp.get_destination() != vxlan::PORT || udp.packet().len() < 8 {
        return None;
    }
    vxlan_payload(&frame[14 + header_len + 8..])
}

fn vxlan_header() -> [u8; 8] {
    let [_, a, b, c] = VNI.to_be_bytes();
    [0x08, 0, 0, 0, a, b, c, 0]
}

#[inline(always)]
fn vxlan_payload(bytes: &[u8]) -> Found<'_> {
    let (&[flags, _, _, _, a, b, c, _], payload) = bytes.split_first_chunk::<8>()?;
    (flags & 0x08 != 0).then_some((u32::from_be_bytes([0, a, b, c]), payload))
}
