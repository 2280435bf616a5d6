//! What both directions have in common when they are written down as instructions.
//!
//! `R6` holds the context, `R7` the packet where it can be read directly, `R8` the counters, `R9` the peer.

use overlay_wire::IpVersion;

use super::abi::{self, skb, xdp};
use super::counters::{LEN, Reason, Slot};
use super::peer::{KEY_V4, KEY_V6, value};
use crate::asm::Reg::{self, R0, R1, R2, R3, R6, R7, R8, R9, R10};
use crate::asm::{Alu, Assembler, Condition, Helper, Label, Size, Swap};
use crate::map::{Map, PerCpuArray};
use crate::probe::Mixtures;

/// Peers by inner IPv4 prefix.
pub(super) type PeersV4 = Map<KEY_V4, { value::LEN }>;
/// Peers by inner IPv6 prefix.
pub(super) type PeersV6 = Map<KEY_V6, { value::LEN }>;

/// The maps of a tunnel.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) v4: PeersV4,
    pub(super) v6: PeersV6,
    pub(super) counters: PerCpuArray<LEN>,
}

/// Which context a program is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// `struct __sk_buff`.
    Skb,
    /// `struct xdp_md`.
    Xdp,
}

impl Context {
    const fn data(self) -> i16 {
        match self {
            Self::Skb => skb::DATA,
            Self::Xdp => xdp::DATA,
        }
    }

    const fn data_end(self) -> i16 {
        match self {
            Self::Skb => skb::DATA_END,
            Self::Xdp => xdp::DATA_END,
        }
    }

    /// The answer for a packet that is somebody else's to look at.
    const fn pass(self) -> i32 {
        match self {
            Self::Skb => abi::NEXT,
            Self::Xdp => abi::XDP_PASS,
        }
    }

    const fn drop(self) -> i32 {
        match self {
            Self::Skb => abi::DROP,
            Self::Xdp => abi::XDP_DROP,
        }
    }
}

/// Where the key of a lookup of peers is on the stack.
const KEY: i16 = -24;
/// Where the key of the counters is.
const ZERO: i16 = -28;
/// From here down is room for what a direction wants to keep.
pub(super) const SPILL: i16 = -40;

/// An assembler with the ways out that all programs of a tunnel have.
pub(super) struct Emitter<'m> {
    pub(super) asm: Assembler<'m>,
    pub(super) maps: &'m Maps,
    pub(super) context: Context,
    pub(super) mixtures: Mixtures,
    /// Passes without counting.
    pub(super) ignore: Label,
    reasons: [Label; Reason::ALL.len()],
}

impl<'m> Emitter<'m> {
    pub(super) fn new(maps: &'m Maps, context: Context, mixtures: Mixtures) -> Self {
        let mut asm = Assembler::new();
        let ignore = asm.label();
        let reasons = Reason::ALL.map(|_| asm.label());
        Self { asm, maps, context, mixtures, ignore, reasons }
    }

    /// Where to go with a packet that is not carried; `R8` must hold the counters there.
    pub(super) fn because(&self, reason: Reason) -> Label {
        self.reasons[reason as usize]
    }

    /// The program, with the ways out that are used.
    pub(super) fn finish(mut self) -> Assembler<'m> {
        for reason in Reason::ALL {
            let label = self.because(reason);
            if self.asm.is_used(label) {
                self.asm.bind(label);
                self.count(reason.slot(), None);
                let context = self.context;
                self.leave(if reason.is_drop() { context.drop() } else { context.pass() });
            }
        }
        if self.asm.is_used(self.ignore) {
            self.asm.bind(self.ignore);
            self.leave(self.context.pass());
        }
        self.asm
    }

    fn leave(&mut self, answer: i32) {
        self.asm.mov(R0, answer);
        self.asm.exit();
    }

    /// `R8` = the counters.
    pub(super) fn counters(&mut self) {
        let asm = &mut self.asm;
        asm.store(Size::Word, R10, ZERO, 0);
        asm.load_map(R1, &self.maps.counters);
        asm.mov(R2, R10);
        asm.add(R2, i32::from(ZERO));
        asm.call(Helper::MapLookup);
        asm.jump_if(R0, Condition::Equal, 0, self.ignore);
        asm.mov(R8, R0);
    }

    /// Adds 1, or a register, to a counter; `R1` is lost.
    fn count(&mut self, offset: i16, amount: Option<Reg>) {
        self.asm.load(Size::Double, R1, R8, offset);
        match amount {
            Some(reg) => self.asm.add(R1, reg),
            None => self.asm.add(R1, 1),
        }
        self.asm.store(Size::Double, R8, offset, R1);
    }

    /// Counts a packet, of as many bytes as `bytes` holds; `R1` is lost.
    pub(super) fn count_packet(&mut self, packets: Slot, in_bytes: Slot, bytes: Reg) {
        self.count(packets.offset(), None);
        self.count(in_bytes.offset(), Some(bytes));
    }

    /// `R7` = the packet, `R3` = its directly readable end.
    pub(super) fn load_packet(&mut self) {
        self.asm.load(Size::Word, R7, R6, self.context.data());
        self.asm.load(Size::Word, R3, R6, self.context.data_end());
    }

    /// Loads the packet and goes to `otherwise` unless `len` bytes of it can be read directly; `R1` is lost.
    pub(super) fn need(&mut self, len: i16, otherwise: Label) {
        self.load_packet();
        self.asm.mov(R1, R7);
        self.asm.add(R1, i32::from(len));
        self.asm.jump_if(R1, Condition::Greater, R3, otherwise);
    }

    /// As [`need`](Self::need), and has the kernel collect the bytes where they are in several pieces; `R0` to `R5` are
    /// lost.
    pub(super) fn need_pulled(&mut self, len: i16, otherwise: Label) {
        if self.context == Context::Xdp {
            return self.need(len, otherwise);
        }
        let ready = self.asm.label();
        self.load_packet();
        self.asm.mov(R1, R7);
        self.asm.add(R1, i32::from(len));
        self.asm.jump_if(R1, Condition::LessOrEqual, R3, ready);
        self.asm.mov(R1, R6);
        self.asm.mov(R2, i32::from(len));
        self.asm.call(Helper::PullData);
        self.asm.jump_if(R0, Condition::NotEqual, 0, otherwise);
        self.need(len, otherwise);
        self.asm.bind(ready);
    }

    /// `R9` = the peer that has the address at an offset of the packet, which can be read; `R0` to `R5` are lost.
    pub(super) fn find_peer(&mut self, version: IpVersion, address: i16, otherwise: Label) {
        let asm = &mut self.asm;
        match version {
            IpVersion::V4 => {
                asm.store(Size::Word, R10, KEY, 32);
                asm.load(Size::Word, R1, R7, address);
                asm.store(Size::Word, R10, KEY + 4, R1);
                asm.load_map(R1, &self.maps.v4);
            }
            IpVersion::V6 => {
                asm.store(Size::Word, R10, KEY, 128);
                for at in [0, 4, 8, 12] {
                    asm.load(Size::Word, R1, R7, address + at);
                    asm.store(Size::Word, R10, KEY + 4 + at, R1);
                }
                asm.load_map(R1, &self.maps.v6);
            }
        }
        asm.mov(R2, R10);
        asm.add(R2, i32::from(KEY));
        asm.call(Helper::MapLookup);
        asm.jump_if(R0, Condition::Equal, 0, otherwise);
        asm.mov(R9, R0);
    }

    /// `reg` = the type of service, or traffic class, of an IP header in the packet.
    pub(super) fn traffic_class(&mut self, version: IpVersion, header: i16, reg: Reg) {
        match version {
            IpVersion::V4 => self.asm.load(Size::Byte, reg, R7, header + 1),
            IpVersion::V6 => {
                self.asm.load(Size::Half, reg, R7, header);
                self.asm.to_be(reg, Swap::Bits16);
                self.asm.alu(Alu::ShiftRight, reg, 4);
                self.asm.and(reg, 0xff);
            }
        }
    }
}

/// Bytes as they stand in a packet, as the number that a load of 2 bytes gives.
pub(super) const fn half(bytes: [u8; 2]) -> i32 {
    u16::from_ne_bytes(bytes) as i32
}

/// The same for 4 bytes; compare it with 32 bits.
pub(super) const fn word(bytes: [u8; 4]) -> i32 {
    i32::from_ne_bytes(bytes)
}

/// The same for a number in network byte order.
pub(super) const fn half_be(number: u16) -> i32 {
    half(number.to_be_bytes())
}

/// The words of an IPv6 address or mask.
pub(super) fn words(octets: [u8; 16]) -> [i32; 4] {
    let (words, _) = octets.as_chunks::<4>();
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(words) {
        *number = word(*bytes);
    }
    numbers
}

/// Bytes of an IP header without options.
pub(super) const fn ip_len(version: IpVersion) -> i16 {
    match version {
        IpVersion::V4 => 20,
        IpVersion::V6 => 40,
    }
}

pub(super) const fn ether_type(version: IpVersion) -> u16 {
    match version {
        IpVersion::V4 => abi::ETH_P_IP,
        IpVersion::V6 => abi::ETH_P_IPV6,
    }
}

/// The protocol number of an IP packet in an IP packet.
pub(super) const fn in_ip(inner: IpVersion) -> u8 {
    match inner {
        IpVersion::V4 => 4,
        IpVersion::V6 => 41,
    }
}

/// The protocol number of UDP.
pub(super) const UDP: u8 = 17;
/// The protocol number of TCP.
pub(super) const TCP: u8 = 6;
/// Bytes of a UDP header.
pub(super) const UDP_LEN: i16 = 8;
