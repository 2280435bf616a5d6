//! Out: the program on the tunnel's device that puts outer headers in front of packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use overlay_wire::IpVersion;

use super::abi::{self, skb};
use super::counters::{Reason, Slot};
use super::emit::{
    Context, Emitter, Maps, SPILL, TCP, UDP, UDP_LEN, half, half_be, in_ip, ip_len, word, words,
};
use super::options::{Dscp, Format, Plan, SourcePort};
use super::peer::{FLAG_USER_SPACE, FLAG_V6, value};
use crate::asm::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R9, R10};
use crate::asm::{Alu, Assembler, Condition, Helper, Size, Swap};
use crate::probe::Mixtures;

/// The length of the inner packet.
const LEN: i16 = SPILL;
/// Its traffic class.
const CLASS: i16 = SPILL - 8;
/// The source port, as it stands in the packet.
const PORT: i16 = SPILL - 16;

/// `struct bpf_tunnel_key` in its shortest form.
const NO_TUNNEL: i16 = SPILL - 24;
const NO_TUNNEL_LEN: i32 = 8;

/// The longest packet whose length fits an outer header, whatever that is.
const LONGEST: i32 = 65_535 - 48;

pub(super) fn program<'m>(plan: &Plan, maps: &'m Maps, mixtures: Mixtures) -> Assembler<'m> {
    let mut emit = Emitter::new(maps, Context::Skb, mixtures);
    let v6 = emit.asm.label();
    emit.asm.mov(R6, R1);
    emit.counters();
    emit.asm.load(Size::Word, R2, R6, skb::PROTOCOL);
    emit.asm.jump_if(R2, Condition::Equal, half_be(abi::ETH_P_IPV6), v6);
    emit.asm.jump_if(R2, Condition::NotEqual, half_be(abi::ETH_P_IP), emit.ignore);
    inner(&mut emit, plan, IpVersion::V4);
    emit.asm.bind(v6);
    inner(&mut emit, plan, IpVersion::V6);
    emit.finish()
}

/// From an inner packet to its peer, and to the headers that lead there.
fn inner(emit: &mut Emitter<'_>, plan: &Plan, version: IpVersion) {
    const SOURCE_TO_DESTINATION: [i16; 2] = [16, 24];
    let at = plan.link_len();
    let destination = at + SOURCE_TO_DESTINATION[usize::from(version == IpVersion::V6)];
    let (segmented, fits) = (emit.asm.label(), emit.asm.label());
    let (unusual, too_big) = (emit.because(Reason::Unusual), emit.because(Reason::TooBig));
    emit.need(at + ip_len(version), unusual);
    emit.traffic_class(version, at, R1);
    emit.asm.store(Size::Double, R10, CLASS, R1);
    emit.find_peer(version, destination, emit.because(Reason::NoPeer));
    emit.asm.load(Size::Half, R1, R9, value::FLAGS);
    let user_space = emit.because(Reason::UserSpace);
    emit.asm.jump_if(R1, Condition::AnySet, i32::from(FLAG_USER_SPACE), user_space);

    emit.asm.load(Size::Word, R1, R6, skb::LEN);
    emit.asm.alu(Alu::Sub, R1, i32::from(at));
    emit.asm.store(Size::Double, R10, LEN, R1);
    emit.asm.load(Size::Half, R2, R9, value::MTU);
    emit.asm.load(Size::Word, R4, R6, skb::GSO_SIZE);
    emit.asm.jump_if(R4, Condition::NotEqual, 0, segmented);
    emit.asm.jump_if(R1, Condition::Greater, R2, too_big);
    emit.asm.jump(fits);
    emit.asm.bind(segmented);
    emit.asm.jump_if(R1, Condition::Greater, LONGEST, too_big);
    segment_len(emit, version, at);
    emit.asm.jump_if(R4, Condition::Greater, R2, too_big);
    emit.asm.bind(fits);

    if plan.source_port == SourcePort::FlowHash {
        source_port(emit);
    }
    let outer_v6 = emit.asm.label();
    match (plan.local_v4, plan.local_v6) {
        (Some(v4), Some(v6)) => {
            emit.asm.load(Size::Half, R1, R9, value::FLAGS);
            emit.asm.jump_if(R1, Condition::AnySet, i32::from(FLAG_V6), outer_v6);
            outer(emit, plan, version, Local::V4(v4));
            emit.asm.bind(outer_v6);
            outer(emit, plan, version, Local::V6(v6));
        }
        (Some(v4), None) => {
            emit.asm.load(Size::Half, R1, R9, value::FLAGS);
            emit.asm.jump_if(R1, Condition::AnySet, i32::from(FLAG_V6), user_space);
            outer(emit, plan, version, Local::V4(v4));
        }
        (None, Some(v6)) => {
            emit.asm.load(Size::Half, R1, R9, value::FLAGS);
            emit.asm.and(R1, i32::from(FLAG_V6));
            emit.asm.jump_if(R1, Condition::Equal, 0, user_space);
            outer(emit, plan, version, Local::V6(v6));
        }
        // A plan has one of them.
        (None, None) => emit.asm.jump(user_space),
    }
}

/// `R4` += the headers of each segment of the TCP or UDP packet at `at`, which makes it as long as a segment will be.
fn segment_len(emit: &mut Emitter<'_>, version: IpVersion, at: i16) {
    let unusual = emit.because(Reason::Unusual);
    let asm = &mut emit.asm;
    let (tcp, known) = (asm.label(), asm.label());
    let protocol = match version {
        IpVersion::V4 => at + 9,
        IpVersion::V6 => at + 6,
    };
    // R0 = where the transport header begins.
    asm.mov(R0, R7);
    asm.add(R0, i32::from(at));
    match version {
        IpVersion::V4 => {
            asm.load(Size::Byte, R5, R7, at);
            asm.and(R5, 0x0f);
            asm.alu(Alu::ShiftLeft, R5, 2);
            asm.add(R0, R5);
            asm.add(R4, R5);
        }
        IpVersion::V6 => {
            asm.add(R0, i32::from(ip_len(version)));
            asm.add(R4, i32::from(ip_len(version)));
        }
    }
    asm.load(Size::Byte, R5, R7, protocol);
    asm.jump_if(R5, Condition::Equal, i32::from(TCP), tcp);
    asm.jump_if(R5, Condition::NotEqual, i32::from(UDP), unusual);
    asm.add(R4, i32::from(UDP_LEN));
    asm.jump(known);
    asm.bind(tcp);
    asm.load(Size::Word, R3, R6, skb::DATA_END);
    asm.mov(R5, R0);
    asm.add(R5, 20);
    asm.jump_if(R5, Condition::Greater, R3, unusual);
    asm.load(Size::Byte, R5, R0, 12);
    asm.alu(Alu::ShiftRight, R5, 4);
    asm.alu(Alu::ShiftLeft, R5, 2);
    asm.add(R4, R5);
    asm.bind(known);
}

/// Keeps a source port that follows from the flow.
fn source_port(emit: &mut Emitter<'_>) {
    let asm = &mut emit.asm;
    asm.mov(R1, R6);
    asm.call(Helper::HashRecalc);
    asm.mov(R1, R0);
    asm.alu(Alu::ShiftRight, R1, 16);
    asm.alu(Alu::Xor, R0, R1);
    asm.and(R0, 0x3fff);
    asm.alu(Alu::Or, R0, 0xc000);
    asm.to_be(R0, Swap::Bits16);
    asm.store(Size::Double, R10, PORT, R0);
}

#[derive(Clone, Copy)]
enum Local {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// Makes room, writes the headers, and sends the packet off.
fn outer(emit: &mut Emitter<'_>, plan: &Plan, inner: IpVersion, local: Local) {
    let (version, encapsulation, possible) = match local {
        Local::V4(_) => (
            IpVersion::V4,
            abi::ENCAP_L3_IPV4,
            inner == IpVersion::V4 || emit.mixtures.encapsulate_v6_in_v4,
        ),
        Local::V6(_) => (
            IpVersion::V6,
            abi::ENCAP_L3_IPV6,
            inner == IpVersion::V6 || emit.mixtures.encapsulate_v4_in_v6,
        ),
    };
    if !possible {
        let user_space = emit.because(Reason::UserSpace);
        return emit.asm.jump(user_space);
    }
    let (udp_len, encapsulation) = match plan.format {
        Format::Udp { .. } => (UDP_LEN, encapsulation | abi::ENCAP_L4_UDP),
        Format::IpInIp => (0, encapsulation),
    };
    let len = ip_len(version) + udp_len;

    // Nothing is altered when the first refuses, and the packet can still take the slow path.
    emit.asm.mov(R1, R6);
    emit.asm.mov(R2, i32::from(len));
    emit.asm.mov(R3, abi::ADJ_ROOM_MAC);
    emit.asm.mov(R4, abi::FIXED_GSO | encapsulation);
    emit.asm.call(Helper::AdjustRoom);
    emit.asm.jump_if(R0, Condition::NotEqual, 0, emit.because(Reason::Unusual));
    forget_route(emit);
    if plan.device_address.is_none() {
        // An Ethernet header of zeroes, to be filled in with the neighbour's address.
        emit.asm.mov(R1, R6);
        emit.asm.mov(R2, i32::from(abi::ETHERNET));
        emit.asm.mov(R3, 0);
        emit.asm.call(Helper::ChangeHead);
        emit.asm.jump_if(R0, Condition::NotEqual, 0, emit.because(Reason::NoRoom));
    }
    emit.need(abi::ETHERNET + len, emit.because(Reason::NoRoom));

    let protocol = match plan.format {
        Format::Udp { .. } => UDP,
        Format::IpInIp => in_ip(inner),
    };
    emit.asm.load(Size::Double, R2, R10, CLASS);
    if plan.dscp == Dscp::Zero {
        emit.asm.and(R2, 3);
    }
    emit.asm.load(Size::Double, R5, R10, LEN);
    match local {
        Local::V4(local) => ipv4(emit, plan, local, protocol, len),
        Local::V6(local) => ipv6(emit, plan, local, protocol, udp_len),
    }
    if let Format::Udp { port } = plan.format {
        udp(emit, plan, port, abi::ETHERNET + ip_len(version));
    }
    emit.count_packet(Slot::SentPackets, Slot::SentBytes, R5);
    send(emit, plan);
}

/// Writes an IPv4 header behind the Ethernet header; `R2` is its type of service, `R5` the length of the inner packet.
fn ipv4(emit: &mut Emitter<'_>, plan: &Plan, local: Ipv4Addr, protocol: u8, len: i16) {
    const AT: i16 = abi::ETHERNET;
    /// The identification may be anything where fragmentation is forbidden (RFC 6864).
    const DONT_FRAGMENT: [u8; 2] = [0x40, 0];
    let asm = &mut emit.asm;
    let octets = local.octets();
    let ttl_protocol = half([plan.ttl, protocol]);
    asm.store(Size::Byte, R7, AT, 0x45);
    asm.store(Size::Byte, R7, AT + 1, R2);
    // R4 = the total length as it stands in the packet.
    asm.mov(R4, R5);
    asm.add(R4, i32::from(len));
    asm.to_be(R4, Swap::Bits16);
    asm.store(Size::Half, R7, AT + 2, R4);
    asm.store(Size::Word, R7, AT + 4, word([0, 0, DONT_FRAGMENT[0], DONT_FRAGMENT[1]]));
    asm.store(Size::Half, R7, AT + 8, ttl_protocol);
    asm.store(Size::Word, R7, AT + 12, word(octets));
    asm.load(Size::Word, R3, R9, value::ADDRESS);
    asm.store(Size::Word, R7, AT + 16, R3);

    // The sum of all halves in the machine's byte order is the right one in that order (RFC 1071).
    let fixed = [
        half([0x45, 0]),
        half(DONT_FRAGMENT),
        ttl_protocol,
        half([octets[0], octets[1]]),
        half([octets[2], octets[3]]),
    ];
    let second_byte = if cfg!(target_endian = "little") { 8 } else { 0 };
    asm.alu(Alu::ShiftLeft, R2, second_byte);
    asm.add(R4, R2);
    asm.add(R4, fixed.iter().sum::<i32>());
    asm.mov(R1, R3);
    asm.alu(Alu::ShiftRight, R1, 16);
    asm.add(R4, R1);
    asm.and(R3, 0xffff);
    asm.add(R4, R3);
    for _ in 0..2 {
        asm.mov(R1, R4);
        asm.alu(Alu::ShiftRight, R1, 16);
        asm.and(R4, 0xffff);
        asm.add(R4, R1);
    }
    asm.alu(Alu::Xor, R4, 0xffff);
    asm.store(Size::Half, R7, AT + 10, R4);
}

/// Writes an IPv6 header behind the Ethernet header; `R2` is its traffic class, `R5` the length of the inner packet.
fn ipv6(emit: &mut Emitter<'_>, plan: &Plan, local: Ipv6Addr, protocol: u8, udp_len: i16) {
    const AT: i16 = abi::ETHERNET;
    const VERSION: i32 = 0x6000_0000;
    let asm = &mut emit.asm;
    asm.alu(Alu::ShiftLeft, R2, 20);
    asm.alu(Alu::Or, R2, VERSION);
    asm.to_be(R2, Swap::Bits32);
    asm.store(Size::Word, R7, AT, R2);
    asm.mov(R4, R5);
    asm.add(R4, i32::from(udp_len));
    asm.to_be(R4, Swap::Bits16);
    asm.store(Size::Half, R7, AT + 4, R4);
    asm.store(Size::Half, R7, AT + 6, half([protocol, plan.ttl]));
    for (at, source) in (0..).step_by(4).zip(words(local.octets())) {
        asm.store(Size::Word, R7, AT + 8 + at, source);
        asm.load(Size::Word, R1, R9, value::ADDRESS + at);
        asm.store(Size::Word, R7, AT + 24 + at, R1);
    }
}

/// Writes a UDP header; `R5` is the length of the inner packet. A checksum of 0 says that there is none, which tunnels
/// may do over IPv6, too (RFC 6935).
fn udp(emit: &mut Emitter<'_>, plan: &Plan, port: u16, at: i16) {
    let asm = &mut emit.asm;
    match plan.source_port {
        SourcePort::Fixed => asm.store(Size::Half, R7, at, half_be(port)),
        SourcePort::FlowHash => {
            asm.load(Size::Double, R1, R10, PORT);
            asm.store(Size::Half, R7, at, R1);
        }
    }
    asm.store(Size::Half, R7, at + 2, half_be(port));
    asm.mov(R4, R5);
    asm.add(R4, i32::from(UDP_LEN));
    asm.to_be(R4, Swap::Bits16);
    asm.store(Size::Half, R7, at + 4, R4);
    asm.store(Size::Half, R7, at + 6, 0);
}

/// Hands the packet to the underlay device.
fn send(emit: &mut Emitter<'_>, plan: &Plan) {
    let asm = &mut emit.asm;
    asm.mov(R1, plan.underlay.0.cast_signed());
    asm.mov(R2, R9);
    asm.add(R2, i32::from(value::NEXT_HOP));
    asm.mov(R3, abi::REDIR_NEIGH);
    asm.mov(R4, 0);
    asm.call(Helper::RedirectNeigh);
    asm.exit();
}

/// Makes the packet forget its route over the TUN device. While a neighbour is being resolved packets wait for it, and
/// those that have a route are sent by way of that afterwards. Of the helpers that replace a route this is the cheapest.
fn forget_route(emit: &mut Emitter<'_>) {
    let asm = &mut emit.asm;
    asm.store(Size::Double, R10, NO_TUNNEL, 0);
    asm.mov(R1, R6);
    asm.mov(R2, R10);
    asm.add(R2, i32::from(NO_TUNNEL));
    asm.mov(R3, NO_TUNNEL_LEN);
    asm.mov(R4, 0);
    asm.call(Helper::SetTunnelKey);
}
