//! In: the programs on the underlay device that take outer headers off.

use std::net::{Ipv4Addr, Ipv6Addr};

use overlay_wire::{IpVersion, MacAddr};

use super::abi::{self, skb, xdp};
use super::counters::{Reason, Slot};
use super::emit::{
    Context, Emitter, Maps, SPILL, UDP, UDP_LEN, ether_type, half, half_be, in_ip, ip_len, word,
    words,
};
use super::options::{Arrival, Format, Plan};
use super::peer::{FLAG_V6, value};
use crate::asm::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R9, R10};
use crate::asm::{Alu, Assembler, Condition, Helper, Label, Size, Swap};
use crate::probe::Mixtures;

/// The length of the inner packet as the outer headers have it.
const LEN: i16 = SPILL;
/// Whether congestion was experienced.
const CONGESTED: i16 = SPILL - 8;

/// What the XDP program writes in front of a packet that it has decapsulated.
pub(super) type Mark = [u32; 2];

/// The classifier. With a mark it also takes what the XDP program has decapsulated.
pub(super) fn classifier<'m>(
    plan: &Plan,
    maps: &'m Maps,
    mixtures: Mixtures,
    mark: Option<Mark>,
) -> Assembler<'m> {
    let mut emit = Emitter::new(maps, Context::Skb, mixtures);
    emit.asm.mov(R6, R1);
    if let Some(mark) = mark {
        take_marked(&mut emit, plan, mark);
    }
    emit.asm.load(Size::Word, R2, R6, skb::PROTOCOL);
    versions(&mut emit, plan, None);
    emit.finish()
}

/// The XDP program: whatever is not quite usual is left to the classifier, and what it has done is marked for that where
/// a mark is given.
pub(super) fn xdp<'m>(
    plan: &Plan,
    maps: &'m Maps,
    mixtures: Mixtures,
    mark: Option<Mark>,
) -> Assembler<'m> {
    let mut emit = Emitter::new(maps, Context::Xdp, mixtures);
    emit.asm.mov(R6, R1);
    emit.need(abi::ETHERNET, emit.ignore);
    emit.asm.load(Size::Half, R2, R7, 12);
    versions(&mut emit, plan, mark);
    emit.finish()
}

/// Sends a packet with the mark to the tunnel's device, if it is for this machine.
fn take_marked(emit: &mut Emitter<'_>, plan: &Plan, mark: Mark) {
    let unmarked = emit.asm.label();
    let asm = &mut emit.asm;
    asm.load(Size::Word, R7, R6, skb::DATA);
    asm.load(Size::Word, R2, R6, skb::DATA_META);
    asm.mov(R1, R2);
    asm.add(R1, MARK_LEN);
    asm.jump_if(R1, Condition::Greater, R7, unmarked);
    for (at, word) in [0, 4].into_iter().zip(mark) {
        asm.load(Size::Word, R1, R2, at);
        asm.jump32_if(R1, Condition::NotEqual, word.cast_signed(), unmarked);
    }
    // What the XDP program cannot see: for whom the frame is, and a tag that the card has taken off.
    for field in [skb::PACKET_TYPE, skb::VLAN_PRESENT] {
        asm.load(Size::Word, R1, R6, field);
        asm.jump_if(R1, Condition::NotEqual, 0, emit.ignore);
    }
    deliver(emit, plan, None);
    emit.asm.bind(unmarked);
}

const MARK_LEN: i32 = size_of::<Mark>() as i32;

/// `R2` is the EtherType.
fn versions(emit: &mut Emitter<'_>, plan: &Plan, mark: Option<Mark>) {
    let v6 = emit.asm.label();
    let ignore = emit.ignore;
    match (plan.local_v4, plan.local_v6) {
        (Some(local_v4), Some(local_v6)) => {
            emit.asm.jump_if(R2, Condition::Equal, half_be(abi::ETH_P_IPV6), v6);
            emit.asm.jump_if(R2, Condition::NotEqual, half_be(abi::ETH_P_IP), ignore);
            outer_v4(emit, plan, local_v4, mark);
            emit.asm.bind(v6);
            outer_v6(emit, plan, local_v6, mark);
        }
        (Some(local), None) => {
            emit.asm.jump_if(R2, Condition::NotEqual, half_be(abi::ETH_P_IP), ignore);
            outer_v4(emit, plan, local, mark);
        }
        (None, Some(local)) => {
            emit.asm.jump_if(R2, Condition::NotEqual, half_be(abi::ETH_P_IPV6), ignore);
            outer_v6(emit, plan, local, mark);
        }
        // A plan has one of them.
        (None, None) => emit.asm.jump(ignore),
    }
}

fn outer_v4(emit: &mut Emitter<'_>, plan: &Plan, local: Ipv4Addr, mark: Option<Mark>) {
    const AT: i16 = abi::ETHERNET;
    const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
    let ignore = emit.ignore;
    emit.need_pulled(AT + headers(plan, IpVersion::V4), ignore);
    let asm = &mut emit.asm;
    asm.load(Size::Byte, R1, R7, AT);
    asm.jump_if(R1, Condition::NotEqual, 0x45, ignore);
    asm.load(Size::Half, R1, R7, AT + 6);
    asm.jump_if(R1, Condition::AnySet, half_be(MORE_FRAGMENTS_OR_OFFSET), ignore);
    asm.load(Size::Word, R1, R7, AT + 16);
    asm.jump32_if(R1, Condition::NotEqual, word(local.octets()), ignore);
    asm.load(Size::Byte, R1, R7, AT + 9);
    ours(emit, plan, IpVersion::V4);
    // R4 = what the header says is behind it.
    emit.asm.load(Size::Half, R4, R7, AT + 2);
    emit.asm.to_be(R4, Swap::Bits16);
    emit.asm.jump_if(R4, Condition::Less, 20, emit.because(Reason::Malformed));
    emit.asm.alu(Alu::Sub, R4, 20);
    payload(emit, plan, IpVersion::V4, mark);
}

fn outer_v6(emit: &mut Emitter<'_>, plan: &Plan, local: Ipv6Addr, mark: Option<Mark>) {
    const AT: i16 = abi::ETHERNET;
    let ignore = emit.ignore;
    emit.need_pulled(AT + headers(plan, IpVersion::V6), ignore);
    for (at, local) in (0..).step_by(4).zip(words(local.octets())) {
        emit.asm.load(Size::Word, R1, R7, AT + 24 + at);
        emit.asm.jump32_if(R1, Condition::NotEqual, local, ignore);
    }
    // Fragments have another next header.
    emit.asm.load(Size::Byte, R1, R7, AT + 6);
    ours(emit, plan, IpVersion::V6);
    emit.asm.load(Size::Half, R4, R7, AT + 4);
    emit.asm.to_be(R4, Swap::Bits16);
    payload(emit, plan, IpVersion::V6, mark);
}

/// Bytes of outer headers.
fn headers(plan: &Plan, version: IpVersion) -> i16 {
    match plan.format {
        Format::Udp { .. } => ip_len(version) + UDP_LEN,
        Format::IpInIp => ip_len(version),
    }
}

/// Goes on with packets of the tunnel that are for this machine; `R1` is the protocol. Afterwards `R8` has the counters.
fn ours(emit: &mut Emitter<'_>, plan: &Plan, version: IpVersion) {
    let ignore = emit.ignore;
    match plan.format {
        Format::Udp { port } => {
            emit.asm.jump_if(R1, Condition::NotEqual, i32::from(UDP), ignore);
            emit.asm.load(Size::Half, R1, R7, abi::ETHERNET + ip_len(version) + 2);
            emit.asm.jump_if(R1, Condition::NotEqual, half_be(port), ignore);
        }
        Format::IpInIp => {
            let known = emit.asm.label();
            let number = |version| i32::from(in_ip(version));
            emit.asm.jump_if(R1, Condition::Equal, number(IpVersion::V4), known);
            emit.asm.jump_if(R1, Condition::NotEqual, number(IpVersion::V6), ignore);
            emit.asm.bind(known);
        }
    }
    emit.counters();
    if emit.context == Context::Skb {
        // What is for another machine, or tagged for another device of this one.
        for field in [skb::PACKET_TYPE, skb::VLAN_PRESENT] {
            emit.asm.load(Size::Word, R1, R6, field);
            emit.asm.jump_if(R1, Condition::NotEqual, 0, ignore);
        }
    }
}

/// `R4` is the length behind the outer IP header; `R7` and `R3` are the packet and its end.
fn payload(emit: &mut Emitter<'_>, plan: &Plan, outer: IpVersion, mark: Option<Mark>) {
    let mismatch = emit.asm.label();
    let end = abi::ETHERNET + ip_len(outer);
    match emit.context {
        Context::Skb => {
            emit.asm.load(Size::Word, R1, R6, skb::LEN);
            emit.asm.alu(Alu::Sub, R1, i32::from(end));
            emit.asm.jump_if(R4, Condition::Greater, R1, mismatch);
        }
        Context::Xdp => {
            // A frame in several pieces is the classifier's.
            emit.load_packet();
            emit.asm.mov(R1, R7);
            emit.asm.add(R1, i32::from(end));
            emit.asm.add(R1, R4);
            emit.asm.jump_if(R1, Condition::Greater, R3, emit.ignore);
        }
    }
    if let Format::Udp { .. } = plan.format {
        emit.need(end + UDP_LEN, emit.ignore);
        emit.asm.load(Size::Half, R1, R7, end + 4);
        emit.asm.to_be(R1, Swap::Bits16);
        emit.asm.jump_if(R1, Condition::NotEqual, R4, mismatch);
        emit.asm.jump_if(R4, Condition::Less, i32::from(UDP_LEN), mismatch);
        emit.asm.alu(Alu::Sub, R4, i32::from(UDP_LEN));
    }
    emit.asm.store(Size::Double, R10, LEN, R4);
    let inner = abi::ETHERNET + headers(plan, outer);
    emit.need_pulled(inner + ip_len(IpVersion::V4), mismatch);
    emit.asm.load(Size::Byte, R1, R7, inner);
    let v6 = emit.asm.label();
    emit.asm.mov(R2, R1);
    emit.asm.alu(Alu::ShiftRight, R2, 4);
    emit.asm.jump_if(R2, Condition::Equal, 6, v6);
    emit.asm.jump_if(R2, Condition::NotEqual, 4, mismatch);
    inner_v4(emit, plan, outer, mismatch, mark);
    emit.asm.bind(v6);
    inner_v6(emit, plan, outer, mismatch, mark);

    emit.asm.bind(mismatch);
    let malformed = emit.because(Reason::Malformed);
    if emit.context == Context::Skb {
        // Datagrams that the kernel has merged for a socket have the length of all.
        let merged = emit.because(Reason::Merged);
        emit.asm.load(Size::Word, R1, R6, skb::GSO_SIZE);
        emit.asm.jump_if(R1, Condition::NotEqual, 0, merged);
    }
    emit.asm.jump(malformed);
}

/// `R1` is the first byte.
fn inner_v4(
    emit: &mut Emitter<'_>,
    plan: &Plan,
    outer: IpVersion,
    mismatch: Label,
    mark: Option<Mark>,
) {
    let at = abi::ETHERNET + headers(plan, outer);
    emit.asm.and(R1, 0x0f);
    emit.asm.jump_if(R1, Condition::Less, 5, mismatch);
    emit.asm.load(Size::Double, R4, R10, LEN);
    // A header that is longer than its packet is for the network stack to see.
    emit.asm.load(Size::Half, R1, R7, at + 2);
    emit.asm.to_be(R1, Swap::Bits16);
    emit.asm.jump_if(R1, Condition::NotEqual, R4, mismatch);
    protocol(emit, plan, outer, IpVersion::V4, mismatch);
    belongs(emit, plan, outer, IpVersion::V4);

    let here = emit.asm.label();
    for subnet in &plan.subnets_v4 {
        emit.asm.load(Size::Word, R1, R7, at + 16);
        emit.asm.alu32(Alu::And, R1, word(subnet.netmask().octets()));
        emit.asm.jump32_if(R1, Condition::Equal, word(subnet.network().octets()), here);
    }
    let foreign = emit.because(Reason::Foreign);
    emit.asm.jump(foreign);
    if emit.asm.is_used(here) {
        emit.asm.bind(here);
        take(emit, plan, outer, IpVersion::V4, mark);
    }
}

fn inner_v6(
    emit: &mut Emitter<'_>,
    plan: &Plan,
    outer: IpVersion,
    mismatch: Label,
    mark: Option<Mark>,
) {
    let at = abi::ETHERNET + headers(plan, outer);
    emit.need_pulled(at + ip_len(IpVersion::V6), mismatch);
    emit.asm.load(Size::Double, R4, R10, LEN);
    emit.asm.load(Size::Half, R1, R7, at + 4);
    emit.asm.to_be(R1, Swap::Bits16);
    emit.asm.add(R1, i32::from(ip_len(IpVersion::V6)));
    emit.asm.jump_if(R1, Condition::NotEqual, R4, mismatch);
    protocol(emit, plan, outer, IpVersion::V6, mismatch);
    belongs(emit, plan, outer, IpVersion::V6);

    let here = emit.asm.label();
    for subnet in &plan.subnets_v6 {
        let next = emit.asm.label();
        let masks = words(subnet.netmask().octets());
        let network = words(subnet.network().octets());
        for (offset, (mask, network)) in (0..).step_by(4).zip(masks.into_iter().zip(network)) {
            if mask != 0 {
                emit.asm.load(Size::Word, R1, R7, at + 24 + offset);
                emit.asm.alu32(Alu::And, R1, mask);
                emit.asm.jump32_if(R1, Condition::NotEqual, network, next);
            }
        }
        emit.asm.jump(here);
        emit.asm.bind(next);
    }
    let foreign = emit.because(Reason::Foreign);
    emit.asm.jump(foreign);
    if emit.asm.is_used(here) {
        emit.asm.bind(here);
        take(emit, plan, outer, IpVersion::V6, mark);
    }
}

/// The protocol number of IP in IP must agree with the inner version.
fn protocol(
    emit: &mut Emitter<'_>,
    plan: &Plan,
    outer: IpVersion,
    inner: IpVersion,
    mismatch: Label,
) {
    if plan.format != Format::IpInIp {
        return;
    }
    let at = abi::ETHERNET
        + match outer {
            IpVersion::V4 => 9,
            IpVersion::V6 => 6,
        };
    emit.asm.load(Size::Byte, R1, R7, at);
    emit.asm.jump_if(R1, Condition::NotEqual, i32::from(in_ip(inner)), mismatch);
}

/// The inner source must be the peer's who has the outer source.
fn belongs(emit: &mut Emitter<'_>, plan: &Plan, outer: IpVersion, inner: IpVersion) {
    let spoofed = emit.because(Reason::Spoofed);
    let header = abi::ETHERNET + headers(plan, outer);
    let source = match inner {
        IpVersion::V4 => header + 12,
        IpVersion::V6 => header + 8,
    };
    emit.find_peer(inner, source, spoofed);
    let asm = &mut emit.asm;
    asm.load(Size::Half, R1, R9, value::FLAGS);
    match outer {
        IpVersion::V4 => {
            asm.jump_if(R1, Condition::AnySet, i32::from(FLAG_V6), spoofed);
            asm.load(Size::Word, R1, R9, value::ADDRESS);
            asm.load(Size::Word, R2, R7, abi::ETHERNET + 12);
            asm.jump_if(R1, Condition::NotEqual, R2, spoofed);
        }
        IpVersion::V6 => {
            asm.and(R1, i32::from(FLAG_V6));
            asm.jump_if(R1, Condition::Equal, 0, spoofed);
            for at in [0, 4, 8, 12] {
                asm.load(Size::Word, R1, R9, value::ADDRESS + at);
                asm.load(Size::Word, R2, R7, abi::ETHERNET + 8 + at);
                asm.jump_if(R1, Condition::NotEqual, R2, spoofed);
            }
        }
    }
}

/// Takes the headers off a packet that is as it should be.
fn take(
    emit: &mut Emitter<'_>,
    plan: &Plan,
    outer: IpVersion,
    inner: IpVersion,
    mark: Option<Mark>,
) {
    congestion(emit, plan, outer, inner);
    match emit.context {
        Context::Skb => take_off(emit, plan, outer, inner),
        Context::Xdp => take_off_early(emit, plan, outer, inner, mark),
    }
}

/// RFC 6040, section 4.2: congestion experienced on the way is told to the receiver of the inner packet.
fn congestion(emit: &mut Emitter<'_>, plan: &Plan, outer: IpVersion, inner: IpVersion) {
    const NOT_ECT: i32 = 0;
    const ECT_1: i32 = 1;
    const ECT_0: i32 = 2;
    const CE: i32 = 3;
    let (marked, done) = (emit.asm.label(), emit.asm.label());
    if emit.context == Context::Skb {
        emit.asm.store(Size::Double, R10, CONGESTED, 0);
    }
    emit.traffic_class(outer, abi::ETHERNET, R1);
    emit.traffic_class(inner, abi::ETHERNET + headers(plan, outer), R2);
    emit.asm.and(R1, CE);
    emit.asm.and(R2, CE);
    emit.asm.jump_if(R1, Condition::Equal, R2, done);
    emit.asm.jump_if(R1, Condition::Equal, CE, marked);
    emit.asm.jump_if(R1, Condition::NotEqual, ECT_1, done);
    // The milder mark of ECT(1) on ECT(0) is for user space.
    let merged =
        if emit.context == Context::Xdp { emit.ignore } else { emit.because(Reason::Merged) };
    emit.asm.jump_if(R2, Condition::Equal, ECT_0, merged);
    emit.asm.jump(done);
    emit.asm.bind(marked);
    emit.asm.jump_if(R2, Condition::Equal, NOT_ECT, emit.because(Reason::Congested));
    match emit.context {
        Context::Skb => emit.asm.store(Size::Double, R10, CONGESTED, 1),
        Context::Xdp => {
            let ignore = emit.ignore;
            emit.asm.jump(ignore);
        }
    }
    emit.asm.bind(done);
}

/// In a classifier.
fn take_off(emit: &mut Emitter<'_>, plan: &Plan, outer: IpVersion, inner: IpVersion) {
    let decapsulation = match (outer, inner) {
        // Older kernels know neither flag, and need none.
        (IpVersion::V4, IpVersion::V4) | (IpVersion::V6, IpVersion::V6) => 0,
        _ if !emit.mixtures.decapsulate => {
            let merged = emit.because(Reason::Merged);
            return emit.asm.jump(merged);
        }
        (_, IpVersion::V4) => abi::DECAP_L3_IPV4,
        (_, IpVersion::V6) => abi::DECAP_L3_IPV6,
    };
    emit.asm.mov(R1, R6);
    emit.asm.mov(R2, -i32::from(headers(plan, outer)));
    emit.asm.mov(R3, abi::ADJ_ROOM_MAC);
    emit.asm.mov(R4, abi::FIXED_GSO | decapsulation);
    emit.asm.call(Helper::AdjustRoom);
    emit.asm.jump_if(R0, Condition::NotEqual, 0, emit.because(Reason::Refused));
    let uncongested = emit.asm.label();
    emit.asm.load(Size::Double, R1, R10, CONGESTED);
    emit.asm.jump_if(R1, Condition::Equal, 0, uncongested);
    emit.asm.mov(R1, R6);
    emit.asm.call(Helper::EcnSetCe);
    emit.asm.bind(uncongested);
    emit.asm.load(Size::Double, R5, R10, LEN);
    emit.count_packet(Slot::ReceivedPackets, Slot::ReceivedBytes, R5);
    deliver(emit, plan, Some(inner));
}

/// Lets a decapsulated packet arrive. Its Ethernet header is the outer packet's, unless `version` is none: then it has an
/// EtherType of its own.
fn deliver(emit: &mut Emitter<'_>, plan: &Plan, version: Option<IpVersion>) {
    if plan.arrival == Arrival::Underlay {
        let ignore = emit.ignore;
        return emit.asm.jump(ignore);
    }
    if let Some(MacAddr(address)) = plan.device_address {
        // To another address it would be taken for another machine's.
        let otherwise = version.map_or(emit.ignore, |_| emit.because(Reason::Refused));
        emit.need(abi::ETHERNET, otherwise);
        let [a, b, c, d, e, f] = address;
        emit.asm.store(Size::Word, R7, 0, word([a, b, c, d]));
        emit.asm.store(Size::Half, R7, 4, half([e, f]));
        if let Some(version) = version {
            emit.asm.store(Size::Half, R7, 12, half_be(ether_type(version)));
        }
    }
    emit.asm.mov(R1, plan.device.0.cast_signed());
    emit.asm.mov(R2, abi::REDIRECT_INGRESS);
    emit.asm.call(Helper::Redirect);
    emit.asm.exit();
}

/// In an XDP program: moves the Ethernet header up to the inner packet, and marks that where a mark is given.
fn take_off_early(
    emit: &mut Emitter<'_>,
    plan: &Plan,
    outer: IpVersion,
    inner: IpVersion,
    mark: Option<Mark>,
) {
    let len = headers(plan, outer);
    let ignore = emit.ignore;
    emit.asm.load(Size::Double, R9, R10, LEN);
    if mark.is_some() {
        // Not every driver has metadata; without it the packet stays as it is.
        emit.asm.mov(R1, R6);
        emit.asm.mov(R2, -MARK_LEN);
        emit.asm.call(Helper::XdpAdjustMeta);
        emit.asm.jump_if(R0, Condition::NotEqual, 0, ignore);
    }
    emit.need(abi::ETHERNET + len, ignore);
    let asm = &mut emit.asm;
    if mark.is_some() {
        asm.load(Size::Word, R2, R6, xdp::DATA_META);
        asm.mov(R1, R2);
        asm.add(R1, MARK_LEN);
        asm.jump_if(R1, Condition::Greater, R7, ignore);
    }
    // The mark is complete only when the packet is.
    asm.load(Size::Word, R1, R7, 0);
    asm.load(Size::Word, R4, R7, 4);
    asm.load(Size::Word, R5, R7, 8);
    asm.store(Size::Word, R7, len, R1);
    asm.store(Size::Word, R7, len + 4, R4);
    asm.store(Size::Word, R7, len + 8, R5);
    asm.store(Size::Half, R7, len + 12, half_be(ether_type(inner)));
    for (at, word) in [0, 4].into_iter().zip(mark.into_iter().flatten()) {
        asm.store(Size::Word, R2, at, word.cast_signed());
    }
    asm.mov(R1, R6);
    asm.mov(R2, i32::from(len));
    asm.call(Helper::XdpAdjustHead);
    // The Ethernet header is in the packet's middle by now.
    let refused = emit.because(Reason::Refused);
    emit.asm.jump_if(R0, Condition::NotEqual, 0, refused);
    emit.count_packet(Slot::ReceivedPackets, Slot::ReceivedBytes, R9);
    emit.asm.mov(R0, abi::XDP_PASS);
    emit.asm.exit();
}
