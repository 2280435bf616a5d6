use std::hint::black_box;

use anyhow::{Result, ensure};
use overlay_wire::Framing;
use overlay_wire::buffer::PacketBuffer;
use overlay_wire::checksum;
use overlay_wire::decapsulate::{Accept, Decapsulator, Policy};
use overlay_wire::ethernet;
use overlay_wire::flow::{FlowHash, Ports};
use overlay_wire::vxlan;

use super::super::thousands;
use super::ring::{HEADROOM, Ring};
use super::{BATCH, HEADERS, OBJECTS, inner_frame, others, vni, vxlan_template};
use crate::{Contest, Memory};

const FLOW: &str = "overlay-wire, `encapsulate_flow`, the flow's hash given";
const WHOLE: &str = "overlay-wire, `encapsulate`: hash and ECN from the inner packet";
const FLOOR: &str = "copy of the headers, patched, the flow's hash given";
const HASHING_FLOOR: &str = "copy of the headers, patched, hash from the inner packet";
const BUILDER: &str = "etherparse, builder";

/// Frames into VXLAN over IPv4 and Ethernet: from prepared headers, from headers built anew, and by copying bytes.
///
/// # Errors
/// When a contestant's packet is not accepted.
pub(super) fn encapsulation(len: usize) -> Result<Contest<Memory>> {
    let title = format!("VXLAN encapsulation, frames of {} bytes", thousands(len as u32));
    let mut contest = Contest::in_memory("encapsulate", title, OBJECTS);

    let mut template = vxlan_template(true)?;
    contest = with(contest, FLOW, len, move |slot, hash| {
        let mut packet = PacketBuffer::new(slot, HEADROOM);
        template.encapsulate_flow(&mut packet, FlowHash(hash)).is_ok()
    })?;
    let mut template = vxlan_template(false)?;
    contest = with(contest, WHOLE, len, move |slot, _| {
        template.encapsulate(&mut PacketBuffer::new(slot, HEADROOM)).is_ok()
    })?;
    let mut template = vxlan_template(false)?;
    let mut ring = Ring::new(len, |flow| inner_frame(len, flow))?;
    contest = contest.repeat("overlay-wire, `encapsulate_batch` of 64", BATCH, move || {
        let mut refused = 0;
        template.encapsulate_batch(&mut ring.batch(HEADROOM), |_, _| refused += 1);
        refused
    });

    let headers = prepared()?;
    contest = with(contest, FLOOR, len, move |slot, hash| {
        copied(&headers, slot, FlowHash(hash).port(Ports::DYNAMIC))
    })?;
    contest = with(contest, HASHING_FLOOR, len, move |slot, _| {
        let hash = FlowHash::of_frame(&slot[HEADROOM..]);
        copied(&headers, slot, hash.port(Ports::DYNAMIC))
    })?;

    let frame = inner_frame(len, 0)?;
    contest = with(contest, BUILDER, len, others::etherparse_builder(&frame))?;
    contest = with(contest, "etherparse, headers", len, others::etherparse_headers)?;
    contest = with(contest, "smoltcp, `emit`", len, others::smoltcp_emit)?;
    contest = with(contest, "pnet_packet, setters", len, others::pnet_setters)?;
    Ok(contest.claim(FLOW, BUILDER, 15.0).within(FLOW, FLOOR, 1.3).within(
        WHOLE,
        HASHING_FLOOR,
        1.3,
    ))
}

/// One more contestant, after a look at what it makes of the first frame.
fn with(
    contest: Contest<Memory>,
    name: &str,
    len: usize,
    mut run: impl FnMut(&mut [u8], u32) -> bool + 'static,
) -> Result<Contest<Memory>> {
    let mut ring = Ring::new(len, |flow| inner_frame(len, flow))?;
    let mut trial = ring.clone();
    let slot = trial.first();
    ensure!(run(slot, 1), "{name} refuses a packet");
    let accept = Accept::Vxlan { port: vxlan::PORT, vni: Some(vni()?), group_policy: false };
    let mut packet = PacketBuffer::new(slot, HEADROOM - HEADERS);
    let decapsulator = Decapsulator::new(&Policy::new(Framing::Ethernet, accept));
    let learned = decapsulator.decapsulate(&mut packet)?;
    ensure!(
        learned.src_port().is_some_and(|port| port >= 49152),
        "{name}: the port is not the flow's"
    );
    ensure!(packet.as_slice() == inner_frame(len, 0)?, "{name} has changed the inner packet");
    Ok(contest.repeat(name, BATCH, move || ring.each(&mut run)))
}

/// The headers that are copied, with the header checksum of a packet without a payload.
fn prepared() -> Result<[u8; HEADERS]> {
    const FRAME: usize = ethernet::LEN;
    let mut bytes = [0; HEADERS + FRAME];
    let mut packet = PacketBuffer::new(&mut bytes, HEADERS);
    vxlan_template(true)?.encapsulate_flow(&mut packet, FlowHash(0))?;
    let mut headers = [0; HEADERS];
    headers.copy_from_slice(&bytes[..HEADERS]);
    let number = |at: usize| u16::from_be_bytes([headers[at], headers[at + 1]]);
    let sum = checksum::update(number(24), number(16), number(16) - FRAME as u16);
    headers[24..26].copy_from_slice(&sum.to_be_bytes());
    Ok(headers)
}

/// What nobody can do without: copies the headers in front of the packet and patches total length, header checksum, source
/// port and UDP length.
#[inline(always)]
fn copied(headers: &[u8; HEADERS], slot: &mut [u8], port: u16) -> bool {
    let inner_len = slot.len() - HEADROOM;
    let Some(room) = slot[..HEADROOM].last_chunk_mut::<HEADERS>() else { return false };
    *room = *black_box(headers);
    let udp_length = (8 + 8 + inner_len) as u16;
    let total_length = 20 + udp_length;
    room[16..18].copy_from_slice(&total_length.to_be_bytes());
    // The prepared checksum is that of a packet without payload.
    let sum = u32::from(!u16::from_be_bytes([headers[24], headers[25]])) + inner_len as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    room[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    room[34..36].copy_from_slice(&port.to_be_bytes());
    room[38..40].copy_from_slice(&udp_length.to_be_bytes());
    true
}
