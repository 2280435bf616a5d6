use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can go wrong with a [`Vm`](super::Vm).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// The emulator is not installed.
    #[error("run {program}: {source}; on Debian it is in the package qemu-system-x86")]
    NoQemu {
        /// The program's name.
        program: &'static str,
        /// Why it could not be started.
        source: io::Error,
    },

    /// No kernel is installed that could be booted.
    #[error(
        "no vmlinuz-* in /boot that has its modules in /lib/modules; \
         on Debian they are in the package linux-image-amd64"
    )]
    NoKernel,

    /// The kernel has no such module, neither as a file nor built in.
    #[error("kernel {kernel} has no module {name}")]
    Module {
        /// The module's name.
        name: String,
        /// The kernel's release.
        kernel: String,
    },

    /// A program that the machine should have is not installed here.
    #[error("program {name} is nowhere in PATH, /sbin and /usr/sbin")]
    Program {
        /// Its name.
        name: String,
    },

    /// A library that a program needs is nowhere to be found.
    #[error("library {name}, which {} needs, is in none of the loader's directories", of.display())]
    Library {
        /// The library's file name.
        name: String,
        /// The program or library that needs it.
        of: PathBuf,
    },

    /// A program or library cannot be understood.
    #[error("read the ELF file {}: {source}", path.display())]
    Elf {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        source: object::read::Error,
    },

    /// A file could not be read.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Its path.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },

    /// A system call failed on this side.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },

    /// A name or an argument has a character that it cannot have.
    #[error("{what} {text:?} cannot be passed to the machine")]
    Invalid {
        /// What it is: a file's path, a kernel argument.
        what: &'static str,
        /// As given.
        text: String,
    },

    /// The machine was not ready in time.
    #[error("machine {name} was not ready after {} s; its console ends with:\n{console}", after.as_secs())]
    Boot {
        /// The machine's name.
        name: String,
        /// How long it was waited for.
        after: Duration,
        /// The last lines of its console, and of the emulator's own words.
        console: String,
    },

    /// The machine, or the program that emulates it, has ended.
    #[error("machine {name} has ended; its console ends with:\n{console}")]
    Ended {
        /// The machine's name.
        name: String,
        /// The last lines of its console, and of the emulator's own words.
        console: String,
    },

    /// The machine did not even say that a program takes too long.
    #[error("{request}: machine {name} is silent after {} s; its console ends with:\n{console}", after.as_secs())]
    Silent {
        /// What was asked for.
        request: String,
        /// The machine's name.
        name: String,
        /// How long it was waited for.
        after: Duration,
        /// The last lines of its console, and of the emulator's own words.
        console: String,
    },

    /// A program did not end in time, and was killed with all that it had started.
    #[error("{request} on machine {name} did not end within {} ms; it had written:\n{output}", after.as_millis())]
    TimedOut {
        /// What was asked for.
        request: String,
        /// The machine's name.
        name: String,
        /// How long it had.
        after: Duration,
        /// What it had written until then.
        output: String,
    },

    /// A program could not be started in the machine.
    #[error("{request} on machine {name}: {reason}")]
    NotStarted {
        /// What was asked for.
        request: String,
        /// The machine's name.
        name: String,
        /// What the machine's kernel answered.
        reason: String,
    },
}

impl VmError {
    /// Whether the emulator or the kernel is not installed, so that no machine at all can be had here.
    #[must_use]
    pub const fn is_not_installed(&self) -> bool {
        matches!(self, Self::NoQemu { .. } | Self::NoKernel)
    }

    pub(super) fn file(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { operation, path: path.to_owned(), source }
    }

    pub(super) fn io(operation: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { operation, source: source.into() }
    }
}
