//! The UDP socket: trains of datagrams to one peer and from one peer, and what the underlay reports.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use overlay_wire::IpVersion;
use overlay_wire::ip::Ecn;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::ForwardError;
use crate::control::{Control, RawAddress, ip_of, messages};
use crate::options::Buffers;
use crate::sys;

/// How many segments the kernel takes in one send: `UDP_MAX_SEGMENTS` since Linux 6.9, and before.
pub(crate) const MAX_SEGMENTS: usize = 128;
const MAX_SEGMENTS_ONCE: usize = 64;

/// How long a send waits for room in the send buffer, and with it a stop for a send.
const SEND_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(100);

/// A UDP socket of the underlay.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
    /// How many segments a send may have: 1 once the kernel or a device has refused to segment.
    max_segments: AtomicUsize,
    coalesces: AtomicBool,
}

/// Whether several sockets have the address and share what arrives by sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nobody else may have the address.
    Alone,
    /// Nobody else had the address, others may join.
    First,
    /// Another socket of this process has the address.
    Joined,
}

/// What a receive returned: datagrams of equal length but the last, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagrams {
    /// Bytes of all of them.
    pub(crate) len: usize,
    /// Bytes of each but the last.
    pub(crate) each: usize,
    /// Who sent them.
    pub(crate) source: IpAddr,
    /// What the outer headers say about congestion.
    pub(crate) ecn: Ecn,
    /// Whether the end is missing.
    pub(crate) is_cut: bool,
}

/// What the error queue told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The kernel knows that no datagram, its headers included, may be longer than `mtu` on the way there.
    PathMtu { to: IpAddr, mtu: u32 },
    /// Anything else: a send that follows may be refused because of it.
    Other,
}

impl UdpSocket {
    /// Opens the socket in the network namespace of the calling thread.
    pub(crate) fn open(
        local: SocketAddr,
        sharing: Sharing,
        buffers: Buffers,
    ) -> Result<Self, ForwardError> {
        let fail = |operation| {
            move |errno: Errno| ForwardError::Socket { local, operation, source: errno.into() }
        };
        let family = match local {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(fail("open"))?;
        if sharing == Sharing::Joined {
            sockopt::set_socket_reuseport(&fd, true).map_err(fail("share the port"))?;
        }
        let set = |level, name, value| sys::set_option(fd.as_fd(), level, name, value);
        match IpVersion::of(local.ip()) {
            IpVersion::V4 => {
                // With DF set, and never longer than the path takes.
                set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
                    .and_then(|()| set(libc::IPPROTO_IP, libc::IP_RECVERR, 1))
                    .and_then(|()| set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1))
            }
            IpVersion::V6 => sockopt::set_ipv6_v6only(&fd, true)
                .and_then(|()| {
                    set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
                })
                .and_then(|()| set(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1))
                .and_then(|()| set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1))
                // Programs in a peer's kernel send without a checksum, as RFC 6935 allows tunnels.
                .and_then(|()| set(libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1)),
        }
        .map_err(fail("prepare"))?;
        sockopt::set_socket_timeout(&fd, Timeout::Send, Some(SEND_TIMEOUT))
            .map_err(fail("limit the time of a send"))?;
        set_buffers(&fd, buffers);
        let coalesces = set(libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        rustix::net::bind(&fd, &local).map_err(fail("bind"))?;
        if sharing == Sharing::First {
            // Not before: whoever else has the address, it shall be an error.
            sockopt::set_socket_reuseport(&fd, true).map_err(fail("share the port"))?;
        }
        Ok(Self {
            fd,
            local,
            max_segments: AtomicUsize::new(MAX_SEGMENTS),
            coalesces: AtomicBool::new(coalesces),
        })
    }

    /// How many segments one [`send`](Self::send) may have, as far as is known.
    pub(crate) fn max_segments(&self) -> usize {
        self.max_segments.load(Ordering::Relaxed)
    }

    /// Whether the kernel hands over several datagrams at once.
    pub(crate) fn coalesces(&self) -> bool {
        self.coalesces.load(Ordering::Relaxed)
    }

    /// Remembers that a send of several segments was refused with `errno`, though one segment was not.
    pub(crate) fn step_down(&self, errno: Errno) {
        let now = match errno {
            Errno::INVAL if self.max_segments() > MAX_SEGMENTS_ONCE => MAX_SEGMENTS_ONCE,
            _ => 1,
        };
        self.max_segments.store(now, Ordering::Relaxed);
    }

    /// Sends `payload` to a peer: as one datagram, or as datagrams of `each` bytes and the rest.
    pub(crate) fn send(
        &self,
        to: IpAddr,
        ecn: Ecn,
        payload: &[IoSlice<'_>],
        each: Option<u16>,
    ) -> Result<(), Errno> {
        let mut control = Control::new();
        if let Some(each) = each {
            control = control.with(libc::SOL_UDP, libc::UDP_SEGMENT, &each.to_ne_bytes());
        }
        if ecn != Ecn::NotEct {
            let value = i32::from(ecn as u8).to_ne_bytes();
            control = match self.version() {
                IpVersion::V4 => control.with(libc::IPPROTO_IP, libc::IP_TOS, &value),
                IpVersion::V6 => control.with(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value),
            };
        }
        let to = RawAddress::new(SocketAddr::new(to, self.local.port()));
        sys::send_message(self.fd.as_fd(), to.as_bytes(), payload, control.as_bytes()).map(drop)
    }

    /// Sends one datagram that the kernel may cut into fragments. Not while another thread sends.
    pub(crate) fn send_fragmented(
        &self,
        to: IpAddr,
        ecn: Ecn,
        payload: &[IoSlice<'_>],
    ) -> Result<(), Errno> {
        self.discover(libc::IP_PMTUDISC_DONT, libc::IPV6_PMTUDISC_DONT)?;
        let sent = self.send(to, ecn, payload, None);
        self.discover(libc::IP_PMTUDISC_DO, libc::IPV6_PMTUDISC_DO)?;
        sent
    }

    fn discover(&self, v4: i32, v6: i32) -> Result<(), Errno> {
        let fd = self.fd.as_fd();
        match self.version() {
            IpVersion::V4 => sys::set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4),
            IpVersion::V6 => sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6),
        }
    }

    /// What has arrived, without waiting.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Datagrams, Errno> {
        let mut control = [0; 128];
        let message = sys::receive_message(self.fd.as_fd(), buffer, &mut control, 0)?;
        let source = ip_of(&message.address).ok_or(Errno::AFNOSUPPORT)?;
        let mut datagrams = Datagrams {
            len: message.len,
            each: message.len,
            source,
            ecn: Ecn::NotEct,
            is_cut: message.is_cut,
        };
        for (level, kind, data) in messages(control.get(..message.control_len).unwrap_or_default())
        {
            match (level, kind, data) {
                (libc::SOL_UDP, libc::UDP_GRO, [a, b, c, d]) => {
                    let each = i32::from_ne_bytes([*a, *b, *c, *d]);
                    datagrams.each = usize::try_from(each).unwrap_or(message.len);
                }
                (libc::IPPROTO_IP, libc::IP_TOS, [tos]) => datagrams.ecn = Ecn::of(*tos),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, [a, b, c, d]) => {
                    let class = i32::from_ne_bytes([*a, *b, *c, *d]);
                    datagrams.ecn = Ecn::of(class.to_le_bytes()[0]);
                }
                _ => {}
            }
        }
        Ok(datagrams)
    }

    /// The next report of the underlay, if there is one.
    pub(crate) fn report(&self) -> Option<Report> {
        let mut control = [0; 256];
        let fd = self.fd.as_fd();
        let message = sys::receive_message(fd, &mut [], &mut control, libc::MSG_ERRQUEUE).ok()?;
        let to = ip_of(&message.address);
        let mut control = messages(control.get(..message.control_len).unwrap_or_default());
        let error = control.find_map(|(level, kind, data)| {
            let is_error = (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
                || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
            extended_error(data).filter(|_| is_error)
        });
        Some(match (to, error) {
            // What the kernel says of itself, and not what a message from anywhere makes it say: a forged one is checked
            // by the kernel before it changes what the kernel believes.
            (Some(to), Some((libc::EMSGSIZE, libc::SO_EE_ORIGIN_LOCAL, mtu))) => {
                Report::PathMtu { to, mtu }
            }
            _ => Report::Other,
        })
    }

    fn version(&self) -> IpVersion {
        IpVersion::of(self.local.ip())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Errno, origin and information of a `struct sock_extended_err` (linux/errqueue.h).
fn extended_error(data: &[u8]) -> Option<(i32, u8, u32)> {
    let (errno, rest) = data.split_first_chunk()?;
    let (origin, rest) = rest.split_first()?;
    let info = rest.get(3..)?.first_chunk()?;
    Some((i32::from_ne_bytes(*errno), *origin, u32::from_ne_bytes(*info)))
}

/// Makes the buffers as large as wanted, or as the machine allows.
fn set_buffers(fd: &OwnedFd, buffers: Buffers) {
    // Beyond the limit of the machine only a real root may go; less is not an error.
    if sockopt::set_socket_recv_buffer_size_force(fd, buffers.receive).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(fd, buffers.receive);
    }
    if sockopt::set_socket_send_buffer_size_force(fd, buffers.send).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(fd, buffers.send);
    }
}
