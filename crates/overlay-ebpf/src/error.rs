//! What can go wrong.

use std::fmt;
use std::io;

use overlay_netlink::{IfName, Ifindex};

use crate::asm::AssembleError;
use crate::attach::Hook;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused something about a map.
    #[error("{operation} map {map}: {source}")]
    Map {
        /// What was asked.
        operation: &'static str,
        /// The map's name.
        map: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// A program could not be assembled.
    #[error("assemble program {program}: {source}")]
    Assemble {
        /// The program's name.
        program: String,
        /// What is wrong with it.
        source: AssembleError,
    },
    /// The kernel did not take a program.
    #[error("load program {program}: {source}{log}")]
    Load {
        /// The program's name.
        program: String,
        /// The operating system's error.
        source: io::Error,
        /// What the verifier says about it; empty when it said nothing.
        log: VerifierLog,
    },
    /// A program could not be run on a test packet.
    #[error("run program {program}: {source}")]
    Run {
        /// The program's name.
        program: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// A program could not be attached.
    #[error("attach program {program} to {hook} of {device}: {source}")]
    Attach {
        /// The program's name.
        program: String,
        /// Where to.
        hook: Hook,
        /// Of which device.
        device: Ifindex,
        /// The operating system's error.
        source: io::Error,
    },
    /// The kernel refused a queueing discipline or a filter, or what it was asked about a device.
    #[error(transparent)]
    Netlink(#[from] overlay_netlink::Error),
    /// The programs of a tunnel make and read Ethernet headers, and the underlay device has none.
    #[error("{device} is no Ethernet device")]
    NoEthernet {
        /// The underlay device.
        device: IfName,
    },
    /// What is asked of a tunnel contradicts itself.
    #[error("tunnel {tunnel}: {reason}")]
    Options {
        /// The tunnel's name.
        tunnel: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    pub(crate) fn map(operation: &'static str, map: &str, source: io::Error) -> Self {
        Self::Map { operation, map: map.to_owned(), source }
    }

    /// The errno, where the operating system gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Map { source, .. }
            | Self::Load { source, .. }
            | Self::Run { source, .. }
            | Self::Attach { source, .. } => source.raw_os_error(),
            Self::Netlink(error) => error.errno(),
            Self::Assemble { .. } | Self::NoEthernet { .. } | Self::Options { .. } => None,
        }
    }

    /// Whether a privilege is lacking (`EPERM`, `EACCES`): `CAP_BPF` and `CAP_NET_ADMIN`, outside of any user namespace.
    ///
    /// The verifier says `EACCES`, too, when a program reads what it must not; then there is a log.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Load { log, .. } if !log.0.is_empty() => false,
            _ => matches!(self.errno(), Some(libc::EPERM | libc::EACCES)),
        }
    }
}

/// The verifier's account of a program it refused: each path it took, and at the end what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifierLog(pub(crate) String);

impl VerifierLog {
    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VerifierLog {
    /// Its last lines, which say what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES: usize = 12;
        let lines: Vec<_> = self.0.lines().collect();
        if lines.is_empty() {
            return Ok(());
        }
        f.write_str("; the verifier says")?;
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}
