//! The system calls for which there is no safe wrapper: what a TUN device is told, and messages with control data.

#![allow(unsafe_code)]

use std::io::IoSlice;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

use overlay_netlink::IfName;
use rustix::io::Errno;

/// Bytes of the longest socket address that is used here, `struct sockaddr_in6`.
pub(crate) const ADDRESS_LEN: usize = size_of::<libc::sockaddr_in6>();

/// Makes the open `/dev/net/tun` a queue of the device called `name` (`TUNSETIFF`).
pub(crate) fn set_interface(tun: BorrowedFd<'_>, name: &IfName, flags: i32) -> Result<(), Errno> {
    let mut request = interface(name);
    // As `short` in the kernel, where the highest flag is the sign.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the kernel reads and writes one `struct ifreq`, which outlives the call.
    let code = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    done(code)
}

/// Whether the open `/dev/net/tun` is a queue of a device that is there (`TUNGETIFF`).
pub(crate) fn is_attached(tun: BorrowedFd<'_>) -> bool {
    // SAFETY: all of its fields are numbers or unions of numbers and pointers that nobody follows.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // SAFETY: the kernel writes one `struct ifreq`, which outlives the call.
    let code = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    code == 0
}

/// Says how many bytes the virtio header in front of each packet has (`TUNSETVNETHDRSZ`).
pub(crate) fn set_header_len(tun: BorrowedFd<'_>, len: i32) -> Result<(), Errno> {
    // SAFETY: the kernel reads one `int`, which outlives the call.
    let code = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) };
    done(code)
}

/// Says which packets may be left to the reader to finish (`TUNSETOFFLOAD`).
pub(crate) fn set_offload(tun: BorrowedFd<'_>, offloads: u32) -> Result<(), Errno> {
    let offloads = libc::c_ulong::from(offloads);
    // SAFETY: the argument is a number.
    let code = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) };
    done(code)
}

/// Says that the device outlives its last queue (`TUNSETPERSIST`).
pub(crate) fn set_persistent(tun: BorrowedFd<'_>) -> Result<(), Errno> {
    let persistent: libc::c_ulong = 1;
    // SAFETY: the argument is a number.
    let code = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, persistent) };
    done(code)
}

/// Sets an option of a socket that is an `int`.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: i32,
) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `value`, which outlives the call and is only read.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    done(code)
}

/// Sends one message to the socket address in `to`, gathered from `payload`; returns how many bytes.
pub(crate) fn send_message(
    socket: BorrowedFd<'_>,
    to: &[u8],
    payload: &[IoSlice<'_>],
    control: &[u8],
) -> Result<usize, Errno> {
    // SAFETY: all of its fields are numbers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len() as libc::socklen_t;
    // The standard library guarantees that an `IoSlice` is laid out as a `struct iovec`.
    message.msg_iov = payload.as_ptr().cast_mut().cast();
    message.msg_iovlen = payload.len() as _;
    message.msg_control = control.as_ptr().cast_mut().cast();
    message.msg_controllen = control.len() as _;
    // SAFETY: every pointer with its length comes from a slice that outlives the call, and the kernel writes to none.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    length(sent)
}

/// What [`receive_message`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Bytes of payload.
    pub(crate) len: usize,
    /// The socket address of the sender, or of what an error is about.
    pub(crate) address: [u8; ADDRESS_LEN],
    /// Bytes of control data.
    pub(crate) control_len: usize,
    /// Whether payload or control data were longer than the room for them.
    pub(crate) is_cut: bool,
}

/// Receives one message without waiting. `flags` may be `MSG_ERRQUEUE`.
pub(crate) fn receive_message(
    socket: BorrowedFd<'_>,
    payload: &mut [u8],
    control: &mut [u8],
    flags: i32,
) -> Result<Message, Errno> {
    let mut address = [0; ADDRESS_LEN];
    let mut payload = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // SAFETY: all of its fields are numbers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = address.as_mut_ptr().cast();
    message.msg_namelen = ADDRESS_LEN as libc::socklen_t;
    message.msg_iov = &raw mut payload;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.len() as _;
    // SAFETY: every pointer with its length comes from a value or slice that is borrowed mutably and outlives the call,
    // and any bytes are valid in them.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | flags) };
    let len = length(received)?;
    let control_len = control.len().min(message.msg_controllen as usize);
    let is_cut = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    Ok(Message { len, address, control_len, is_cut })
}

fn interface(name: &IfName) -> libc::ifreq {
    // SAFETY: all of its fields are numbers or unions of numbers and pointers that nobody follows.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // A name has at most 15 bytes, so the zero behind it stays.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn done(code: i32) -> Result<(), Errno> {
    if code < 0 { Err(last_error()) } else { Ok(()) }
}

fn length(code: isize) -> Result<usize, Errno> {
    usize::try_from(code).map_err(|_| last_error())
}

fn last_error() -> Errno {
    // It does come from the operating system.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
