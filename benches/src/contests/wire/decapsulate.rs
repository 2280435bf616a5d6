use anyhow::{Result, ensure};
use overlay_wire::Framing;
use overlay_wire::buffer::PacketBuffer;
use overlay_wire::decapsulate::{Accept, Decapsulator, Policy};
use overlay_wire::ethernet::{EtherType, EthernetFrame};
use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv4::Ipv4Packet;
use overlay_wire::udp::UdpPacket;
use overlay_wire::vxlan::{self, VxlanPacket};

use super::super::thousands;
use super::ring::{HEADROOM, Ring};
use super::{BATCH, HEADERS, OBJECTS, VNI, inner_frame, others, vni, vxlan_template};
use crate::{Contest, Memory};

const POLICY: &str = "overlay-wire, `decapsulate` under a policy";
const VIEWS: &str = "overlay-wire, one header after the other";
const ETHERPARSE: &str = "etherparse, `SlicedPacket`, and the checksum";
const SMOLTCP: &str = "smoltcp, checked packets, and the checksum";

/// What a contestant finds in a packet: the network and the inner frame.
pub(super) type Found<'a> = Option<(u32, &'a [u8])>;

/// Frames out of VXLAN over IPv4 and Ethernet, all lengths and the outer header checksum verified.
///
/// # Errors
/// When a contestant does not find the frame, or takes a broken packet for a right one.
pub(super) fn decapsulation(len: usize) -> Result<Contest<Memory>> {
    let title = format!("VXLAN decapsulation, frames of {} bytes", thousands(len as u32));
    let accept = Accept::Vxlan { port: vxlan::PORT, vni: Some(vni()?), group_policy: false };
    let decapsulator = Decapsulator::new(&Policy::new(Framing::Ethernet, accept));
    let mut ring = encapsulated(len)?;

    let mut contest = Contest::in_memory("decapsulate", title, OBJECTS);
    contest = contest.repeat(POLICY, BATCH, {
        let (mut ring, decapsulator) = (ring.clone(), decapsulator.clone());
        move || {
            ring.each(|slot, _| {
                let mut packet = PacketBuffer::new(slot, HEADROOM - HEADERS);
                let learned = decapsulator.decapsulate(&mut packet).ok();
                learned.map(|learned| (learned.vni(), learned.inner().len()))
            });
        }
    });
    contest = contest.repeat("overlay-wire, `decapsulate_batch` of 64", BATCH, move || {
        let mut accepted = 0;
        let mut packets = ring.batch(HEADROOM - HEADERS);
        decapsulator
            .decapsulate_batch(&mut packets, |_, result| accepted += u32::from(result.is_ok()));
        accepted
    });
    contest = with(contest, VIEWS, len, true, views)?;
    contest = with(contest, ETHERPARSE, len, true, others::etherparse_sliced)?;
    contest = with(contest, SMOLTCP, len, true, others::smoltcp_checked)?;
    contest =
        with(contest, "pnet_packet, getters, nothing verified", len, false, others::pnet_getters)?;
    Ok(contest.claim(POLICY, ETHERPARSE, 9.0).claim(POLICY, SMOLTCP, 1.4))
}

fn views(frame: &[u8]) -> Found<'_> {
    let frame = EthernetFrame::parse(frame).ok()?;
    if frame.ether_type() != EtherType::IPV4 {
        return None;
    }
    let packet = Ipv4Packet::parse(frame.payload()).ok()?;
    if packet.protocol() != IpProtocol::UDP || packet.is_fragment() || !packet.is_checksum_valid() {
        return None;
    }
    let datagram = UdpPacket::parse(packet.payload()).ok()?;
    if datagram.dst_port() != vxlan::PORT {
        return None;
    }
    let packet = VxlanPacket::parse(datagram.payload()).ok()?;
    Some((packet.vni().get(), packet.payload()))
}

/// One more contestant, after a look at what it finds. Those that verify must not find anything in a packet whose header
/// checksum is wrong, or of which the end is missing.
fn with(
    contest: Contest<Memory>,
    name: &str,
    len: usize,
    verifies: bool,
    run: impl for<'a> Fn(&'a [u8]) -> Found<'a> + 'static,
) -> Result<Contest<Memory>> {
    let mut ring = encapsulated(len)?;
    let mut trial = ring.clone();
    let packet = &mut trial.first()[HEADROOM - HEADERS..];
    ensure!(run(packet) == Some((VNI, &inner_frame(len, 0)?[..])), "{name} finds something else");
    if verifies {
        ensure!(run(&packet[..packet.len() - 1]).is_none(), "{name} does not miss the end");
        packet[24] ^= 1;
        ensure!(run(packet).is_none(), "{name} does not verify the checksum");
    }
    Ok(contest.repeat(name, BATCH, move || {
        ring.each(|slot, _| {
            run(&slot[HEADROOM - HEADERS..]).map(|(vni, inner)| (vni, inner.len()))
        });
    }))
}

/// Buffers of encapsulated frames.
fn encapsulated(len: usize) -> Result<Ring> {
    let mut ring = Ring::new(len, |flow| inner_frame(len, flow))?;
    let mut template = vxlan_template(false)?;
    for packet in &mut ring.batch(HEADROOM) {
        template.encapsulate(packet)?;
    }
    Ok(ring)
}
