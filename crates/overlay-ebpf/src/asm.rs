//! An assembler for the instruction set of RFC 9669, as far as programs for packets need it.
//!
//! Registers, widths and conditions are types, jump targets are [`Label`]s, and a map is loaded by borrowing it, so that
//! assembled [`Code`] cannot outlive the maps it names. What the verifier knows better is left to the verifier.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

/// A register. `R0` returns, `R1` to `R5` are arguments and lost in calls, `R6` to `R9` survive calls, `R10` points to
/// the end of the stack frame of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, clippy::exhaustive_enums)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How many bytes a load or store moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Size {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

/// An arithmetic operation of two operands, of which the first is also the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, clippy::exhaustive_enums)]
pub enum Alu {
    Add,
    Sub,
    Mul,
    Or,
    And,
    ShiftLeft,
    ShiftRight,
    Xor,
    Mov,
}

/// When to jump; comparisons are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Condition {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Greater than.
    Greater,
    /// Greater than or equal.
    GreaterOrEqual,
    /// Less than.
    Less,
    /// Less than or equal.
    LessOrEqual,
    /// Some bit is set in both.
    AnySet,
}

/// The width of a conversion to network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, clippy::exhaustive_enums)]
pub enum Swap {
    Bits16,
    Bits32,
    Bits64,
}

/// A function of the kernel that programs may call, by its number in `linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Helper {
    /// `bpf_map_lookup_elem(map, key)`: a pointer to the value, or 0.
    MapLookup = 1,
    /// `bpf_skb_set_tunnel_key(skb, key, size, flags)`: takes the packet's route away.
    SetTunnelKey = 21,
    /// `bpf_redirect(ifindex, flags)`.
    Redirect = 23,
    /// `bpf_get_hash_recalc(skb)`: the hash of the packet's flow.
    HashRecalc = 34,
    /// `bpf_skb_pull_data(skb, len)`: makes that many bytes directly readable.
    PullData = 39,
    /// `bpf_skb_change_head(skb, len, flags)`: grows a packet at its front.
    ChangeHead = 43,
    /// `bpf_xdp_adjust_head(xdp, delta)`.
    XdpAdjustHead = 44,
    /// `bpf_skb_adjust_room(skb, delta, mode, flags)`: adds or takes outer headers.
    AdjustRoom = 50,
    /// `bpf_xdp_adjust_meta(xdp, delta)`.
    XdpAdjustMeta = 54,
    /// `bpf_skb_ecn_set_ce(skb)`: marks congestion experienced.
    EcnSetCe = 97,
    /// `bpf_redirect_neigh(ifindex, params, plen, flags)`: sends to a neighbour, whose MAC address the kernel knows.
    RedirectNeigh = 152,
}

impl Helper {
    const fn name(self) -> &'static str {
        match self {
            Self::MapLookup => "bpf_map_lookup_elem",
            Self::SetTunnelKey => "bpf_skb_set_tunnel_key",
            Self::Redirect => "bpf_redirect",
            Self::HashRecalc => "bpf_get_hash_recalc",
            Self::PullData => "bpf_skb_pull_data",
            Self::ChangeHead => "bpf_skb_change_head",
            Self::XdpAdjustHead => "bpf_xdp_adjust_head",
            Self::AdjustRoom => "bpf_skb_adjust_room",
            Self::XdpAdjustMeta => "bpf_xdp_adjust_meta",
            Self::EcnSetCe => "bpf_skb_ecn_set_ce",
            Self::RedirectNeigh => "bpf_redirect_neigh",
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        [
            Self::MapLookup,
            Self::SetTunnelKey,
            Self::Redirect,
            Self::HashRecalc,
            Self::PullData,
            Self::ChangeHead,
            Self::XdpAdjustHead,
            Self::AdjustRoom,
            Self::XdpAdjustMeta,
            Self::EcnSetCe,
            Self::RedirectNeigh,
        ]
        .into_iter()
        .find(|helper| *helper as i32 == number)
    }
}

/// The second operand: a register, or a constant that is sign-extended to 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Operand {
    /// What a register holds.
    Reg(Reg),
    /// A constant.
    Constant(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(constant: i32) -> Self {
        Self::Constant(constant)
    }
}

/// A place to jump to, of the [`Assembler`] that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(usize);

/// What keeps code from being assembled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// Something jumps to a label that is nowhere.
    #[error("instruction {instruction} jumps to a label that was never bound")]
    Unbound {
        /// The jump, counted from 0.
        instruction: usize,
    },
    /// A jump reaches 32,767 instructions at most.
    #[error("instruction {instruction} jumps {distance} instructions, which is too far")]
    TooFar {
        /// The jump, counted from 0.
        instruction: usize,
        /// How far it would have to go.
        distance: i64,
    },
    /// One label is at two places.
    #[error("a label is bound a second time at instruction {instruction}")]
    BoundTwice {
        /// The second place, counted from 0.
        instruction: usize,
    },
}

/// One instruction of 8 bytes; loading a map takes two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Instruction {
    opcode: u8,
    /// Destination in the low half and source in the high half, on little-endian machines.
    registers: u8,
    offset: i16,
    constant: i32,
}

/// Instructions that are ready to be loaded, as long as the maps they name live. Prints as a listing in the notation of
/// `bpftool prog dump`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code<'m> {
    instructions: Vec<Instruction>,
    maps: PhantomData<&'m ()>,
}

/// Writes a program, instruction by instruction.
#[derive(Debug, Default)]
pub struct Assembler<'m> {
    instructions: Vec<Instruction>,
    /// Where each label is.
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
    bound_twice: Option<usize>,
    maps: PhantomData<&'m ()>,
}

impl<'m> Assembler<'m> {
    /// An empty program.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A label that is nowhere yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label before the next instruction.
    pub fn bind(&mut self, label: Label) {
        let here = self.instructions.len();
        // A label of another assembler is the same as one that is bound twice: no place to jump to.
        match self.labels.get_mut(label.0) {
            Some(place @ None) => *place = Some(here),
            _ => self.bound_twice = self.bound_twice.or(Some(here)),
        }
    }

    /// Whether something jumps to a label so far. The verifier refuses code that nothing reaches.
    #[must_use]
    pub fn is_used(&self, label: Label) -> bool {
        self.jumps.iter().any(|(_, to)| *to == label)
    }

    /// `dst = dst OP src`, 64 bits wide.
    pub fn alu(&mut self, op: Alu, dst: Reg, src: impl Into<Operand>) {
        self.operate(class::ALU64 | op.bits(), dst, src.into(), 0);
    }

    /// `dst = dst OP src`, 32 bits wide; the upper half becomes zero.
    pub fn alu32(&mut self, op: Alu, dst: Reg, src: impl Into<Operand>) {
        self.operate(class::ALU | op.bits(), dst, src.into(), 0);
    }

    /// `dst = src`.
    pub fn mov(&mut self, dst: Reg, src: impl Into<Operand>) {
        self.alu(Alu::Mov, dst, src);
    }

    /// `dst += src`.
    pub fn add(&mut self, dst: Reg, src: impl Into<Operand>) {
        self.alu(Alu::Add, dst, src);
    }

    /// `dst &= src`.
    pub fn and(&mut self, dst: Reg, src: impl Into<Operand>) {
        self.alu(Alu::And, dst, src);
    }

    /// Converts between the machine's byte order and that of the network, and cuts to the width.
    pub fn to_be(&mut self, reg: Reg, width: Swap) {
        let bits = match width {
            Swap::Bits16 => 16,
            Swap::Bits32 => 32,
            Swap::Bits64 => 64,
        };
        const TO_BE: u8 = 0xd8;
        self.push(class::ALU | TO_BE, reg, Reg::R0, 0, bits);
    }

    /// `dst = *(size *)(base + offset)`.
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.push(class::LDX | MEM | size.bits(), dst, base, offset, 0);
    }

    /// `*(size *)(base + offset) = src`.
    pub fn store(&mut self, size: Size, base: Reg, offset: i16, src: impl Into<Operand>) {
        match src.into() {
            Operand::Reg(src) => self.push(class::STX | MEM | size.bits(), base, src, offset, 0),
            Operand::Constant(constant) => {
                self.push(class::ST | MEM | size.bits(), base, Reg::R0, offset, constant);
            }
        }
    }

    /// `dst = ` a constant of 64 bits.
    pub fn load_constant(&mut self, dst: Reg, constant: u64) {
        self.push(LD_IMM64, dst, Reg::R0, 0, (constant as u32).cast_signed());
        self.push(0, Reg::R0, Reg::R0, 0, ((constant >> 32) as u32).cast_signed());
    }

    /// `dst = ` a map, to be the first argument of [`Helper::MapLookup`].
    pub fn load_map(&mut self, dst: Reg, map: &'m impl AsFd) {
        const PSEUDO_MAP_FD: Reg = Reg::R1;
        self.push(LD_IMM64, dst, PSEUDO_MAP_FD, 0, map.as_fd().as_raw_fd());
        self.push(0, Reg::R0, Reg::R0, 0, 0);
    }

    /// Goes on at a label.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(class::JMP, Reg::R0, Reg::R0, 0, 0);
    }

    /// Goes on at a label if `left CONDITION right`, 64 bits wide.
    pub fn jump_if(&mut self, left: Reg, is: Condition, right: impl Into<Operand>, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.operate(class::JMP | is.bits(), left, right.into(), 0);
    }

    /// Goes on at a label if `left CONDITION right`, of which only the lower 32 bits count. This is what an IPv4 address
    /// wants to be compared with: a constant would be sign-extended otherwise.
    pub fn jump32_if(&mut self, left: Reg, is: Condition, right: impl Into<Operand>, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.operate(class::JMP32 | is.bits(), left, right.into(), 0);
    }

    /// Calls the kernel.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, Reg::R0, Reg::R0, 0, helper as i32);
    }

    /// Ends the program; `R0` is its answer.
    pub fn exit(&mut self) {
        self.push(EXIT, Reg::R0, Reg::R0, 0, 0);
    }

    /// The program with its jumps resolved.
    ///
    /// # Errors
    ///
    /// [`AssembleError`] when a label is not bound exactly once, or too far away.
    pub fn assemble(mut self) -> Result<Code<'m>, AssembleError> {
        if let Some(instruction) = self.bound_twice {
            return Err(AssembleError::BoundTwice { instruction });
        }
        for (instruction, label) in self.jumps {
            let target = self.labels.get(label.0).copied().flatten();
            let target = target.ok_or(AssembleError::Unbound { instruction })?;
            let distance = target as i64 - instruction as i64 - 1;
            self.instructions[instruction].offset = i16::try_from(distance)
                .map_err(|_| AssembleError::TooFar { instruction, distance })?;
        }
        Ok(Code { instructions: self.instructions, maps: PhantomData })
    }

    fn operate(&mut self, opcode: u8, dst: Reg, src: Operand, offset: i16) {
        const FROM_REGISTER: u8 = 8;
        match src {
            Operand::Reg(src) => self.push(opcode | FROM_REGISTER, dst, src, offset, 0),
            Operand::Constant(constant) => self.push(opcode, dst, Reg::R0, offset, constant),
        }
    }

    fn push(&mut self, opcode: u8, dst: Reg, src: Reg, offset: i16, constant: i32) {
        self.instructions.push(Instruction::new(opcode, dst, src, offset, constant));
    }
}

mod class {
    pub(super) const LDX: u8 = 1;
    pub(super) const ST: u8 = 2;
    pub(super) const STX: u8 = 3;
    pub(super) const ALU: u8 = 4;
    pub(super) const JMP: u8 = 5;
    pub(super) const JMP32: u8 = 6;
    pub(super) const ALU64: u8 = 7;
}

const MEM: u8 = 0x60;
const LD_IMM64: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

impl Alu {
    const fn bits(self) -> u8 {
        match self {
            Self::Add => 0x00,
            Self::Sub => 0x10,
            Self::Mul => 0x20,
            Self::Or => 0x40,
            Self::And => 0x50,
            Self::ShiftLeft => 0x60,
            Self::ShiftRight => 0x70,
            Self::Xor => 0xa0,
            Self::Mov => 0xb0,
        }
    }
}

impl Condition {
    const fn bits(self) -> u8 {
        match self {
            Self::Equal => 0x10,
            Self::Greater => 0x20,
            Self::GreaterOrEqual => 0x30,
            Self::AnySet => 0x40,
            Self::NotEqual => 0x50,
            Self::Less => 0xa0,
            Self::LessOrEqual => 0xb0,
        }
    }
}

impl Size {
    const fn bits(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

impl Instruction {
    const fn new(opcode: u8, dst: Reg, src: Reg, offset: i16, constant: i32) -> Self {
        let registers = if cfg!(target_endian = "little") {
            dst as u8 | (src as u8) << 4
        } else {
            src as u8 | (dst as u8) << 4
        };
        Self { opcode, registers, offset, constant }
    }

    const fn dst(self) -> u8 {
        if cfg!(target_endian = "little") { self.registers & 15 } else { self.registers >> 4 }
    }

    const fn src(self) -> u8 {
        if cfg!(target_endian = "little") { self.registers >> 4 } else { self.registers & 15 }
    }
}

impl Code<'_> {
    /// How many instructions there are, of 8 bytes each.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Whether there is none, which the kernel would refuse.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    pub(crate) fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut instructions = self.instructions.iter().enumerate();
        while let Some((number, instruction)) = instructions.next() {
            let (dst, src) = (instruction.dst(), instruction.src());
            let Instruction { opcode, offset, constant, .. } = *instruction;
            write!(f, "{number:4}: ({opcode:02x}) ")?;
            match opcode & 7 {
                _ if opcode == LD_IMM64 => {
                    let high = instructions.next().map_or(0, |(_, next)| next.constant);
                    if src == Reg::R1 as u8 {
                        writeln!(f, "r{dst} = map[fd:{constant}]")?;
                    } else {
                        let value = u64::from(constant.cast_unsigned())
                            | u64::from(high.cast_unsigned()) << 32;
                        writeln!(f, "r{dst} = {value:#x} ll")?;
                    }
                }
                class::LDX => {
                    writeln!(f, "r{dst} = *({} *)(r{src} {offset:+})", size_name(opcode))?;
                }
                class::ST => {
                    writeln!(f, "*({} *)(r{dst} {offset:+}) = {constant}", size_name(opcode))?;
                }
                class::STX => {
                    writeln!(f, "*({} *)(r{dst} {offset:+}) = r{src}", size_name(opcode))?;
                }
                class::ALU | class::ALU64 => arithmetic(f, *instruction)?,
                _ => jump(f, number, *instruction)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} instructions)", self.len())
    }
}

fn size_name(opcode: u8) -> &'static str {
    match opcode & 0x18 {
        0x00 => "u32",
        0x08 => "u16",
        0x10 => "u8",
        _ => "u64",
    }
}

/// The second operand as text, in registers of the given kind: `r` for 64 bits, `w` for 32.
fn operand(instruction: Instruction, kind: char) -> String {
    if instruction.opcode & 8 == 0 {
        instruction.constant.to_string()
    } else {
        format!("{kind}{}", instruction.src())
    }
}

fn arithmetic(f: &mut fmt::Formatter<'_>, instruction: Instruction) -> fmt::Result {
    let kind = if instruction.opcode & 7 == class::ALU64 { 'r' } else { 'w' };
    let dst = instruction.dst();
    let sign = match instruction.opcode & 0xf0 {
        0x00 => "+=",
        0x10 => "-=",
        0x20 => "*=",
        0x40 => "|=",
        0x50 => "&=",
        0x60 => "<<=",
        0x70 => ">>=",
        0xa0 => "^=",
        0xd0 => return writeln!(f, "r{dst} = be{} r{dst}", instruction.constant),
        _ => "=",
    };
    writeln!(f, "{kind}{dst} {sign} {}", operand(instruction, kind))
}

fn jump(f: &mut fmt::Formatter<'_>, number: usize, instruction: Instruction) -> fmt::Result {
    let target = number as i64 + 1 + i64::from(instruction.offset);
    let kind = if instruction.opcode & 7 == class::JMP32 { 'w' } else { 'r' };
    let sign = match instruction.opcode & 0xf0 {
        0x00 => return writeln!(f, "goto {target}"),
        0x10 => "==",
        0x20 => ">",
        0x30 => ">=",
        0x40 => "&",
        0x50 => "!=",
        0x80 => {
            let helper = Helper::from_number(instruction.constant).map_or("unknown", Helper::name);
            return writeln!(f, "call {helper}#{}", instruction.constant);
        }
        0x90 => return f.write_str("exit\n"),
        0xa0 => "<",
        _ => "<=",
    };
    let (dst, right) = (instruction.dst(), operand(instruction, kind));
    writeln!(f, "if {kind}{dst} {sign} {right} goto {target}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reg::{R0, R1, R2, R10};

    fn bytes(code: &Code<'_>) -> Vec<u64> {
        let bytes = |i: &Instruction| {
            let mut bytes = [0; 8];
            bytes[0] = i.opcode;
            bytes[1] = i.registers;
            bytes[2..4].copy_from_slice(&i.offset.to_ne_bytes());
            bytes[4..].copy_from_slice(&i.constant.to_ne_bytes());
            u64::from_be_bytes(bytes)
        };
        code.instructions.iter().map(bytes).collect()
    }

    /// The bytes are those that GNU as and LLVM give for the same text.
    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_have_their_bytes() {
        let mut asm = Assembler::new();
        asm.mov(R1, R2);
        asm.mov(R0, -1);
        asm.alu32(Alu::And, R1, 0xffff);
        asm.alu(Alu::ShiftRight, R2, 16);
        asm.to_be(R1, Swap::Bits16);
        asm.load(Size::Word, R1, R2, 16);
        asm.load(Size::Byte, R0, R1, 9);
        asm.store(Size::Half, R10, -8, R1);
        asm.store(Size::Double, R10, -16, 7);
        asm.load_constant(R1, 0x1122_3344_5566_7788);
        asm.call(Helper::RedirectNeigh);
        asm.exit();
        assert_eq!(
            bytes(&asm.assemble().unwrap()),
            [
                0xbf21_0000_0000_0000,
                0xb700_0000_ffff_ffff,
                0x5401_0000_ffff_0000,
                0x7702_0000_1000_0000,
                0xdc01_0000_1000_0000,
                0x6121_1000_0000_0000,
                0x7110_0900_0000_0000,
                0x6b1a_f8ff_0000_0000,
                0x7a0a_f0ff_0700_0000,
                0x1801_0000_8877_6655,
                0x0000_0000_4433_2211,
                0x8500_0000_9800_0000,
                0x9500_0000_0000_0000,
            ]
        );
    }

    #[test]
    fn jumps_go_forward_and_back() {
        let mut asm = Assembler::new();
        let (top, end) = (asm.label(), asm.label());
        asm.bind(top);
        asm.jump_if(R1, Condition::AnySet, 3, end);
        asm.jump32_if(R1, Condition::Less, R2, top);
        asm.jump(end);
        asm.mov(R0, 0);
        asm.bind(end);
        asm.exit();
        assert!(asm.is_used(top));
        let code = asm.assemble().unwrap();
        let offsets: Vec<_> = code.instructions.iter().map(|i| i.offset).collect();
        assert_eq!(offsets, [3, -2, 1, 0, 0]);
        let text = code.to_string();
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        assert_eq!(
            lines,
            [
                "0: (45) if r1 & 3 goto 4",
                "1: (ae) if w1 < w2 goto 0",
                "2: (05) goto 4",
                "3: (b7) r0 = 0",
                "4: (95) exit",
            ]
        );
    }

    #[test]
    fn what_cannot_be_assembled_is_said() {
        let mut asm = Assembler::new();
        let label = asm.label();
        asm.exit();
        asm.jump(label);
        assert_eq!(asm.assemble(), Err(AssembleError::Unbound { instruction: 1 }));

        let mut asm = Assembler::new();
        let label = asm.label();
        asm.bind(label);
        asm.exit();
        asm.bind(label);
        assert_eq!(asm.assemble(), Err(AssembleError::BoundTwice { instruction: 1 }));

        for (between, fits) in [(32_767, true), (32_768, false)] {
            let mut asm = Assembler::new();
            let label = asm.label();
            asm.jump(label);
            (0..between).for_each(|_| asm.exit());
            asm.bind(label);
            asm.exit();
            assert_eq!(asm.assemble().is_ok(), fits);
        }
    }
}
