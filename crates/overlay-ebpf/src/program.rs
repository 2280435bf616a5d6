//! Programs: loading them, and running them on test packets.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::asm::{Assembler, Code};
use crate::error::{Error, VerifierLog};
use crate::sys;

/// None of the kernel's functions that are called here asks for the GPL.
const LICENCE: &CStr = c"MIT OR Apache-2.0";

/// The verifier's log is read with buffers of these many bytes, until one is enough.
const LOG_SIZES: [usize; 3] = [1 << 16, 1 << 20, 1 << 24];

/// The most bytes of headers and metadata a program may add to a test packet.
const TEST_ROOM: usize = 1024;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProgramKind {
    /// On packets as the network stack has them (`BPF_PROG_TYPE_SCHED_CLS`).
    Classifier,
    /// On frames as the driver receives them (`BPF_PROG_TYPE_XDP`).
    Xdp,
    /// The same, and frames may be in several pieces (`BPF_F_XDP_HAS_FRAGS`, Linux 5.18), which a device of a large MTU
    /// asks for.
    XdpFragments,
}

/// A program that the verifier has accepted. It is unloaded when this and all that it is attached to is gone.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    name: String,
    kind: ProgramKind,
}

/// What a program made of a test packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestRun {
    /// What the program returned.
    pub answer: i32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// How long one run took on average.
    pub duration: Duration,
}

impl Program {
    /// Assembles a program and loads it. The name is for people; the kernel keeps 15 bytes of it.
    ///
    /// # Errors
    ///
    /// [`Error::Assemble`] when the code is not complete, otherwise as [`load`](Self::load).
    ///
    /// # Privileges
    ///
    /// As [`load`](Self::load).
    pub fn assemble(kind: ProgramKind, name: &str, code: Assembler<'_>) -> Result<Self, Error> {
        let code = code
            .assemble()
            .map_err(|source| Error::Assemble { program: name.to_owned(), source })?;
        Self::load(kind, name, &code)
    }

    /// Loads a program.
    ///
    /// # Errors
    ///
    /// [`Error::Load`], with the verifier's log if that is who refused.
    ///
    /// # Privileges
    ///
    /// `CAP_BPF` and `CAP_NET_ADMIN` (before Linux 5.8 `CAP_SYS_ADMIN`), outside of any user namespace.
    pub fn load(kind: ProgramKind, name: &str, code: &Code<'_>) -> Result<Self, Error> {
        const CLASSIFIER: u32 = 3;
        const XDP: u32 = 6;
        const XDP_HAS_FRAGS: u32 = 1 << 5;
        let (number, flags) = match kind {
            ProgramKind::Classifier => (CLASSIFIER, 0),
            ProgramKind::Xdp => (XDP, 0),
            ProgramKind::XdpFragments => (XDP, XDP_HAS_FRAGS),
        };
        let spec = sys::ProgramSpec {
            kind: number,
            name,
            licence: LICENCE,
            flags,
            instructions: code.instructions(),
        };
        match sys::load(&spec, None) {
            Ok(fd) => Ok(Self { fd, name: name.to_owned(), kind }),
            Err(source) => {
                let log = explain(&spec);
                Err(Error::Load { program: name.to_owned(), source, log })
            }
        }
    }

    /// Runs the program on a packet, `repeat` times, without attaching it anywhere. The packet begins with an Ethernet
    /// header and came from no device.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when the kernel refuses, for example because the packet is too short.
    pub fn test_run(&self, packet: &[u8], repeat: u32) -> Result<TestRun, Error> {
        let mut output = vec![0; packet.len() + TEST_ROOM];
        let run = sys::test_run(self.as_fd(), packet, &mut output, repeat)
            .map_err(|source| Error::Run { program: self.name.clone(), source })?;
        output.truncate(run.len);
        Ok(TestRun {
            answer: run.answer.cast_signed(),
            packet: output,
            duration: Duration::from_nanos(run.nanoseconds.into()),
        })
    }

    /// The name it was loaded with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it runs.
    #[must_use]
    pub const fn kind(&self) -> ProgramKind {
        self.kind
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Asks the verifier again, with a log this time; accepted programs are not slowed down by writing one.
fn explain(spec: &sys::ProgramSpec<'_>) -> VerifierLog {
    for size in LOG_SIZES {
        let mut log = vec![0; size];
        let error = sys::load(spec, Some(&mut log)).err();
        let len = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        let truncated = error.as_ref().and_then(io::Error::raw_os_error) == Some(libc::ENOSPC);
        if !truncated || size == LOG_SIZES[LOG_SIZES.len() - 1] {
            log.truncate(len);
            return VerifierLog(String::from_utf8_lossy(&log).trim_end().to_owned());
        }
    }
    VerifierLog::default()
}
