//! What can go wrong between this process and the kernel.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::{DeviceRef, LinkKind};

/// An error of a netlink operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused one request.
    #[error(transparent)]
    Kernel(#[from] Box<KernelError>),

    /// The running kernel cannot make devices of a kind.
    #[error(transparent)]
    MissingKind(#[from] Box<MissingKind>),

    /// The request cannot be put into a message: it contradicts itself, or netlink has no way to
    /// say it. Nothing was sent.
    #[error("{object}: {reason}")]
    Invalid {
        /// The object as iproute2 would write it.
        object: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A system call on the socket failed.
    #[error("{operation}: {source}")]
    Io {
        /// Which call, in the words of its manual page.
        operation: &'static str,
        /// The operating system's error.
        source: io::Error,
    },

    /// No such network namespace, or no way into it.
    #[error("network namespace {namespace}: {source}")]
    Namespace {
        /// The path, process or descriptor that was given.
        namespace: String,
        /// The operating system's error.
        source: io::Error,
    },

    /// The kernel did not answer within the socket's timeout. Whether the request took effect is
    /// unknown.
    #[error("{operation}: no answer from the kernel within the socket's timeout")]
    Timeout {
        /// What was waited for.
        operation: &'static str,
    },

    /// The kernel's answers overran the receive buffer and were lost. Whether the request took
    /// effect is unknown.
    #[error("{operation}: answers were lost because the receive buffer overran")]
    Overrun {
        /// What was waited for.
        operation: &'static str,
    },

    /// A dump stayed inconsistent over several attempts because the table changed all the while.
    #[error("listing {what} was interrupted by changes {attempts} times in a row")]
    Interrupted {
        /// What was listed.
        what: &'static str,
        /// How often it was tried.
        attempts: u32,
    },

    /// The kernel answered with bytes that make no sense.
    #[error("{operation}: the kernel's answer is malformed: {reason}")]
    Malformed {
        /// What was waited for.
        operation: &'static str,
        /// What is wrong with the answer.
        reason: &'static str,
    },
}

impl Error {
    pub(crate) const fn io(operation: &'static str, source: io::Error) -> Self {
        Self::Io { operation, source }
    }

    /// The errno, where the operating system or the kernel's answer gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel(error) => Some(error.errno),
            Self::MissingKind(_) => Some(Errno::OPNOTSUPP.raw_os_error()),
            Self::Io { source, .. } | Self::Namespace { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The same error; where it says that the kernel does not know `kind`, with what it takes to have it.
    pub(crate) fn of_kind<D: DeviceRef>(self, kind: Option<&LinkKind<D>>) -> Self {
        match (self, kind) {
            (Self::Kernel(error), Some(kind)) if error.is_unknown_kind() => {
                let missing = MissingKind::of(kind, error.command.clone());
                missing.map_or(Self::Kernel(error), |missing| Box::new(missing).into())
            }
            (error, _) => error,
        }
    }

    /// The kernel's refusal of `command` with `errno`.
    #[must_use]
    pub fn refused(command: String, errno: i32) -> Self {
        Self::Kernel(Box::new(KernelError::new(command, errno)))
    }

    /// Whether the object, or the device it belongs to, does not exist (ENOENT, ESRCH, ENODEV,
    /// and EADDRNOTAVAIL, which is what deleting an absent address gives).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.is(&[Errno::NOENT, Errno::SRCH, Errno::NODEV, Errno::ADDRNOTAVAIL])
    }

    /// Whether an object with the same key is already there (EEXIST).
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.is(&[Errno::EXIST])
    }

    /// Whether the privilege is lacking (EPERM, EACCES): `CAP_NET_ADMIN` in the user namespace
    /// that owns the network namespace.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.is(&[Errno::PERM, Errno::ACCESS])
    }

    /// Whether the running kernel lacks the feature: an unknown device kind, message type or
    /// address family (EOPNOTSUPP, EAFNOSUPPORT, EPROTONOSUPPORT).
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.is(&[Errno::OPNOTSUPP, Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT])
    }

    fn is(&self, errnos: &[Errno]) -> bool {
        self.errno().is_some_and(|n| errnos.iter().any(|e| e.raw_os_error() == n))
    }
}

/// The kernel's refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelError {
    /// What was asked, as the iproute2 command that asks the same.
    pub command: String,
    /// The errno, positive.
    pub errno: i32,
    /// The kernel's own words (`NLMSGERR_ATTR_MSG` of an extended acknowledgement), if any.
    pub message: Option<String>,
    /// Where in the request the offending attribute starts, in bytes from the netlink header
    /// (`NLMSGERR_ATTR_OFFS`), if the kernel says.
    pub offset: Option<u32>,
}

impl KernelError {
    /// The refusal of `command` with `errno`, without words of the kernel's. For those who stand in
    /// for a kernel, as tests do.
    #[must_use]
    pub const fn new(command: String, errno: i32) -> Self {
        Self { command, errno, message: None, offset: None }
    }

    /// Whether the kernel knows no devices of the kind that was asked for.
    pub(crate) fn is_unknown_kind(&self) -> bool {
        let said =
            self.message.as_deref().is_none_or(|text| text.starts_with("Unknown device type"));
        self.errno == Errno::OPNOTSUPP.raw_os_error() && said
    }

    pub(crate) fn is_permission(&self) -> bool {
        [Errno::PERM, Errno::ACCESS].iter().any(|e| e.raw_os_error() == self.errno)
    }
}

/// The running kernel lacks a kind of devices, and what it takes to have it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{command}: the running kernel has no {kind} devices: it was built without {option}, or its module {module}.ko is not \
     there to be loaded"
)]
#[non_exhaustive]
pub struct MissingKind {
    /// What was asked, as the iproute2 command that asks the same.
    pub command: String,
    /// The kind, as `ip link` calls it.
    pub kind: String,
    /// The option that kernels with it are built with: `CONFIG_NET_IPIP`.
    pub option: &'static str,
    /// The module that it may be in: `ipip`, which is the file `ipip.ko`.
    pub module: &'static str,
}

impl MissingKind {
    /// The lack of `kind`, which `command` needs; `None` for a kind of which the module is not known here.
    #[must_use]
    pub fn of<D: DeviceRef>(kind: &LinkKind<D>, command: String) -> Option<Self> {
        let (option, module) = kind.kernel_option()?;
        Some(Self { command, kind: kind.name().to_owned(), option, module })
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One request may print as several commands.
        let command = self.command.lines().collect::<Vec<_>>().join("; ");
        write!(f, "{command}: {}", io::Error::from_raw_os_error(self.errno))?;
        if let Some(message) = &self.message {
            write!(f, ": {}", message.trim_end_matches('.'))?;
        }
        if self.is_permission() {
            f.write_str(
                ": CAP_NET_ADMIN is needed in the user namespace that owns this network namespace",
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for KernelError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(errno: Errno, message: Option<&str>) -> Error {
        Error::from(Box::new(KernelError {
            command: "ip link add vtep245 type vxlan id 1".to_owned(),
            errno: errno.raw_os_error(),
            message: message.map(str::to_owned),
            offset: None,
        }))
    }

    #[test]
    fn an_error_names_what_was_asked_and_why_not() {
        let error = refusal(Errno::OPNOTSUPP, Some("Unknown device type."));
        assert!(error.is_unsupported());
        assert_eq!(
            error.to_string(),
            "ip link add vtep245 type vxlan id 1: Operation not supported (os error 95): Unknown device type"
        );
    }

    #[test]
    fn a_missing_kind_says_what_it_takes() {
        let kind = LinkKind::<crate::Ifindex>::Ip6tnl(Box::default());
        let missing = MissingKind::of(&kind, "ip link add dev x type ip6tnl".to_owned()).unwrap();
        let error = Error::from(Box::new(missing));
        assert!(error.is_unsupported() && !error.is_permission());
        let text = error.to_string();
        assert!(text.contains("CONFIG_IPV6_TUNNEL") && text.contains("ip6_tunnel.ko"), "{text}");
        let kind = LinkKind::<crate::Ifindex>::Other("nonesuch".to_owned());
        assert_eq!(MissingKind::of(&kind, String::new()), None);
    }

    #[test]
    fn a_lack_of_privilege_says_which_one() {
        let error = refusal(Errno::PERM, None);
        assert!(error.is_permission() && !error.is_not_found());
        assert!(error.to_string().ends_with(
            "CAP_NET_ADMIN is needed in the user namespace that owns this network namespace"
        ));
    }
}
