//! What of this crate works here, and why not.

use std::fmt;

use overlay_netlink::Ifindex;

use crate::asm::{Assembler, Condition, Helper, Reg, Size};
use crate::attach::{Attachment, Hook, Method};
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
        asm.jump_if(R0, Condition::NotEqual, 0, end);
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
    /// Whether classifiers or XDP programs can be attached to a hook of a device: attaches one that does nothing, and
    /// takes it off again. In a driver that may restart queues, so ask for [`Hook::XdpNative`] only to use it.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`] and [`Error::Netlink`] for reasons that have to do with the device: there is none, or somebody
    /// else's XDP program is there.
    ///
    /// # Privileges
    ///
    /// None to be told that they are lacking; to be told that it works, those of [`Attachment::new`].
    pub fn of(hook: Hook, method: Method, device: Ifindex) -> Result<Self, Error> {
        const NAME: &str = "probe";
        let (kind, answer) = match hook {
            Hook::Ingress | Hook::Egress => (ProgramKind::Classifier, abi::NEXT),
            Hook::XdpNative | Hook::XdpGeneric => (ProgramKind::Xdp, abi::XDP_PASS),
        };
        let mut asm = Assembler::new();
        asm.mov(Reg::R0, answer);
        asm.exit();
        let attached = Program::assemble(kind, NAME, asm)
            .and_then(|program| Attachment::new(&program, hook, device, method, NAME));
        match attached {
            Ok(_) => Ok(Self::Works),
            Err(error) if error.is_permission() => Ok(Self::Privilege("CAP_BPF and CAP_NET_ADMIN")),
            Err(error) => match error.errno() {
                Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOENT) => {
                    Ok(Self::missing(hook, method, &error))
                }
                _ => Err(error),
            },
        }
    }

    /// What the kernel would have to have.
    fn missing(hook: Hook, method: Method, error: &Error) -> Self {
        let (since, option) = match (hook, method) {
            _ if matches!(error, Error::Load { .. }) => ("4.8", "CONFIG_BPF_SYSCALL"),
            (Hook::XdpNative, _) => ("5.9", "CONFIG_BPF_SYSCALL and a driver that knows XDP"),
            (Hook::XdpGeneric, _) => ("5.9", "CONFIG_BPF_SYSCALL"),
            (_, Method::Tcx) => ("6.6", "CONFIG_NET_XGRESS"),
            (_, Method::Clsact | Method::Auto) => {
                ("4.5", "CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF")
            }
        };
        Self::Kernel { since, option }
    }

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
