use std::io;
use std::time::Duration;

/// What can go wrong in the lab.
///
/// Every variant names the operation and the object it was about, so that the text alone tells
/// where to look.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program could not get its own network namespace.
    #[error(transparent)]
    Enter(#[from] EnterError),

    /// A system call or a file of the kernel failed.
    #[error("{operation} {object}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What it was tried on.
        object: String,
        /// What the kernel answered.
        source: io::Error,
    },

    /// The kernel refused a change of a device, an address or a route.
    #[error("{operation} {object}: {source}")]
    Netlink {
        /// What was tried.
        operation: &'static str,
        /// What it was tried on.
        object: String,
        /// What the kernel answered, and to which request.
        source: overlay_netlink::Error,
    },

    /// The kernel has no devices of such a name.
    #[error(transparent)]
    Name(#[from] overlay_netlink::InvalidIfName),

    /// A sysctl key is not of the form `net.ipv4.ip_forward` or `net/ipv4/ip_forward`.
    #[error("sysctl key {key:?} is not a dotted or slashed path")]
    Key {
        /// The key as given.
        key: String,
    },

    /// Something that was waited for did not happen in time.
    #[error("{operation} {object}: nothing after {} ms", after.as_millis())]
    TimedOut {
        /// What was waited for.
        operation: &'static str,
        /// On what.
        object: String,
        /// How long.
        after: Duration,
    },

    /// No packet of any size reached the destination, so that it has no path MTU.
    #[error("path MTU from {host} to {destination}: not even {smallest} bytes pass")]
    NoPath {
        /// The sending host.
        host: String,
        /// The address that did not answer.
        destination: std::net::IpAddr,
        /// The size of the smallest packet that was tried, in bytes, IP header included.
        smallest: u32,
    },
}

impl Error {
    pub(crate) fn io(
        operation: &'static str,
        object: impl Into<String>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io { operation, object: object.into(), source: source.into() }
    }

    pub(crate) fn netlink(
        operation: &'static str,
        object: String,
        source: overlay_netlink::Error,
    ) -> Self {
        Self::Netlink { operation, object, source }
    }
}

/// Why [`enter`](crate::enter) could not give the program a network namespace of its own, and what
/// to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The kernel moves only a single-threaded process into a user namespace.
    #[error(
        "the process already has {count} threads; \
         call overlay_lab::enter() first in main, before anything starts a thread"
    )]
    Threads {
        /// Threads found, this one included.
        count: usize,
    },

    /// Debian's switch is off.
    #[error(
        "kernel.unprivileged_userns_clone is 0, which keeps user namespaces to root; \
         run `sysctl -w kernel.unprivileged_userns_clone=1` as root, or run the program as root"
    )]
    UnprivilegedCloneOff,

    /// Ubuntu's AppArmor takes all privileges from a new user namespace.
    #[error(
        "kernel.apparmor_restrict_unprivileged_userns is 1, \
         which takes the privileges from user namespaces; \
         run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root, \
         give the program an AppArmor profile with `userns,`, or run it as root"
    )]
    AppArmor,

    /// A limit on the number of namespaces is reached, possibly because it is zero.
    #[error(
        "{sysctl} is {limit}: no more namespaces may be made; \
         raise it with `sysctl -w {sysctl}=10000` as root"
    )]
    Limit {
        /// The sysctl that holds the limit.
        sysctl: &'static str,
        /// Its value.
        limit: u64,
    },

    /// The kernel was built without user or network namespaces.
    #[error(
        "this kernel has no user or no network namespaces (CONFIG_USER_NS, CONFIG_NET_NS): {source}"
    )]
    Unsupported {
        /// What the kernel answered.
        source: io::Error,
    },

    /// Something else said no: a seccomp filter, an SELinux or other security policy, a chroot.
    #[error(
        "making a namespace is forbidden ({source}), and no known sysctl is the reason; \
         in a container start it with `--security-opt seccomp=unconfined` or `--privileged`; \
         in a chroot leave it; otherwise look for a security policy"
    )]
    Forbidden {
        /// What the kernel answered.
        source: io::Error,
    },

    /// Only root may do it.
    #[error(
        "a network namespace without a user namespace is for root alone ({source}): run it as root"
    )]
    NotRoot {
        /// What the kernel answered.
        source: io::Error,
    },

    /// The namespace was made but not given its user, so that the process is now of no use: end it.
    #[error("writing {file} of the new user namespace: {source}")]
    Map {
        /// The file below `/proc/self`.
        file: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// A result of the lab.
pub type Result<T, E = Error> = std::result::Result<T, E>;
