//! What of this crate works here, and why not.

use std::fmt;

use crate::asm::{Assembler, Helper, Reg, Size};
use crate::error::Error;
use crate::program::{Program, ProgramKind};
use crate::tunnel::abi::{self, skb};

/// Which mixtures of IP versions the kernel's `bpf_skb_adjust_room` handles. Equal versions always work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mixtures {
    /// IPv6 packets in IPv4.
    pub encapsulate_v6_in_v4: bool,
    /// IPv4 packets in IPv6.
    pub encapsulate_v4_in_v6: bool,
    /// Taking either out of the other (`BPF_F_ADJ_ROOM_DECAP_L3_*`, Linux 6.3).
    pub decapsulate: bool,
}

impl Mixtures {
    /// Asks the kernel by running small programs on test packets.
    ///
    /// # Errors
    ///
    /// [`Error::Load`] when not even those can be loaded.
    ///
    /// # Privileges
    ///
    /// As [`Program::load`].
    pub fn probe() -> Result<Self, Error> {
        let grow = |version, flag, header: i32| {
            let flags = abi::FIXED_GSO | flag;
            adjust(header, flags, true).map(|p| answer(&p, version))
        };
        let v4 = grow(abi::ETH_P_IPV6, abi::ENCAP_L3_IPV4, 20)?;
        let v6 = grow(abi::ETH_P_IP, abi::ENCAP_L3_IPV6, 40)?;
        let shrink = |version, flag, header: i32| {
            let flags = abi::FIXED_GSO | flag;
            adjust(-header, flags, false).map(|p| answer(&p, version))
        };
        let out_of_v4 = shrink(abi::ETH_P_IP, abi::DECAP_L3_IPV6, 20)?;
        let out_of_v6 = shrink(abi::ETH_P_IPV6, abi::DECAP_L3_IPV4, 40)?;
        Ok(Self {
            encapsulate_v6_in_v4: v4 == Some(i32::from(abi::ETH_P_IP.to_be())),
            encapsulate_v4_in_v6: v6 == Some(i32::from(abi::ETH_P_IPV6.to_be())),
            decapsulate: out_of_v4 == Some(0) && out_of_v6 == Some(0),
        })
    }
}

/// A program that adjusts the room of a packet and answers with the error, or with the protocol afterwards.
fn adjust(delta: i32, flags: i32, protocol: bool) -> Result<Program, Error> {
    use Reg::{R0, R1, R2, R3, R4, R6};
    let mut asm = Assembler::new();
    let end = asm.label();
    asm.mov(R6, R1);
    asm.mov(R2, delta);
    asm.mov(R3, abi::ADJ_ROOM_MAC);
    asm.mov(R4, flags);
    asm.call(Helper::AdjustRoom);
    if protocol {
        asm.jump_if(R0, crate::asm::Condition::NotEqual, 0, end);
        asm.load(Size::Word, R0, R6, skb::PROTOCOL);
    }
    asm.bind(end);
    asm.exit();
    Program::assemble(ProgramKind::Classifier, "probe", asm)
}

/// What a program answers to a packet of an EtherType. A kernel that cannot run it has no answer.
fn answer(program: &Program, ether_type: u16) -> Option<i32> {
    let mut packet = vec![0; 14];
    packet[12..].copy_from_slice(&ether_type.to_be_bytes());
    packet.push(if ether_type == abi::ETH_P_IP { 0x45 } else { 0x60 });
    packet.resize(14 + 120, 0);
    program.test_run(&packet, 1).ok().map(|run| run.answer)
}

/// Whether something works, or what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Support {
    /// It works.
    Works,
    /// This process may not: it lacks these capabilities, outside of any user namespace.
    Privilege(&'static str),
    /// The kernel lacks it: the version since which there is such a thing, and the option it is built with.
    Kernel {
        /// The version of Linux.
        since: &'static str,
        /// The option.
        option: &'static str,
    },
}

impl Support {
    /// Whether it works.
    #[must_use]
    pub fn works(&self) -> bool {
        *self == Self::Works
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("works"),
            Self::Privilege(capabilities) => {
                write!(f, "needs {capabilities}, outside of any user namespace")
            }
            Self::Kernel { since, option } => {
                write!(f, "needs Linux {since} or later, built with {option}")
            }
        }
    }
}
