//! What keeps packets from being carried.

use std::io;
use std::net::SocketAddr;

use overlay_netlink::IfName;
use rustix::io::Errno;

/// Why a [`Forwarder`](crate::Forwarder) cannot carry packets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The TUN device cannot be made or opened.
    #[error("TUN device {device}: {operation}: {source}{}", hint(.source))]
    Device {
        /// The name of the device.
        device: IfName,
        /// What was tried.
        operation: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },

    /// There is a device of that name that is somebody else's. It is left alone.
    #[error(
        "TUN device {device}: there is a device of that name without the alias {alias:?}, so it is somebody else's"
    )]
    Foreign {
        /// The name of the device.
        device: IfName,
        /// The alias that would make it ours.
        alias: String,
    },

    /// The UDP socket cannot be opened.
    #[error("UDP socket on {local}: {operation}: {source}")]
    Socket {
        /// The address of the socket: this node's in the underlay, and the port.
        local: SocketAddr,
        /// What was tried.
        operation: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },

    /// What netlink has to say about the device, or about its network namespace.
    #[error("TUN device {device}: {operation}: {source}")]
    Netlink {
        /// The name of the device.
        device: IfName,
        /// What was tried.
        operation: &'static str,
        /// The error.
        source: overlay_netlink::Error,
    },

    /// The programs of the fast path cannot be loaded or attached.
    #[error("fast path: {source}{}", if .source.is_permission() { FAST_HINT } else { "" })]
    FastPath {
        /// The error.
        #[from]
        source: overlay_ebpf::Error,
    },

    /// Packets are to arrive on the underlay device ([`Arrival::Underlay`](crate::Arrival)), and its reverse path filter would
    /// drop them.
    #[error(
        "fast path: the strict reverse path filter of {device} would drop what arrives there for the overlay \
         (set net.ipv4.conf.{device}.rp_filter and net.ipv4.conf.all.rp_filter to 0 or 2, or let it arrive on the TUN device)"
    )]
    ReversePathFilter {
        /// The underlay device.
        device: IfName,
    },

    /// The operating system gives no thread, or nothing to stop it by.
    #[error("{operation}: {source}")]
    Thread {
        /// What was tried.
        operation: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl ForwardError {
    pub(crate) fn device(device: IfName, operation: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Device { device, operation, source: errno.into() }
    }

    pub(crate) fn netlink(
        device: IfName,
        operation: &'static str,
    ) -> impl Fn(overlay_netlink::Error) -> Self {
        move |source| Self::Netlink { device, operation, source }
    }
}

const FAST_HINT: &str =
    " (CAP_BPF and CAP_NET_ADMIN are needed, as root has them outside of any user namespace)";

/// What to do about an error of the device, where that is known.
fn hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
            " (is /dev/net/tun there, and the kernel's module tun?)"
        }
        Some(Errno::PERM | Errno::ACCESS) => {
            " (CAP_NET_ADMIN is needed in the user namespace that owns the network namespace, and access to /dev/net/tun)"
        }
        Some(Errno::BUSY) => " (another program has it open)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_was_tried_on_what_and_what_may_help() {
        let device = IfName::new("udp.8285").unwrap();
        for (errno, help) in [
            (Errno::NOENT, "module tun"),
            (Errno::PERM, "CAP_NET_ADMIN"),
            (Errno::BUSY, "another program"),
        ] {
            let text = ForwardError::device(device, "open /dev/net/tun")(errno).to_string();
            assert!(text.starts_with("TUN device udp.8285: open /dev/net/tun: "), "{text}");
            assert!(text.contains(help), "{text}");
        }
    }
}
