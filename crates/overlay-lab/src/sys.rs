//! The few system calls for which no safe wrapper is at hand.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use socket2::{Domain, Protocol, Socket, Type};

const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;

/// Sets an integer socket option.
pub(crate) fn set_int(socket: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call; the kernel only
    // reads it.
    let code = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads a socket option made of `N` integers.
pub(crate) fn get_ints<const N: usize>(
    socket: impl AsFd,
    level: i32,
    name: i32,
) -> io::Result<[u32; N]> {
    let mut value = [0_u32; N];
    let mut length = size_of::<[u32; N]>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`, for which every bit pattern is valid.
    let code = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Opens a non-blocking packet socket that sees every frame of the device in the calling thread's
/// namespace.
pub(crate) fn packet_socket(device: &str, options: &[(i32, i32)]) -> io::Result<Socket> {
    // Protocol 0 keeps it deaf until it is bound to the one device.
    let socket =
        Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(0)))?;
    let index = rustix::net::netdevice::name_to_index(&socket, device)?;
    set_int(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
    for (name, value) in options {
        set_int(&socket, libc::SOL_PACKET, *name, *value)?;
    }
    bind_packet(&socket, index)?;
    Ok(socket)
}

/// Makes the buffers as large as the machine allows.
pub(crate) fn large_buffers(socket: &Socket) {
    const WANTED: usize = 16 << 20;
    // The kernel takes what its limit allows, and only a real root may go beyond: less is not an
    // error.
    for (name, forced) in
        [(libc::SO_RCVBUF, libc::SO_RCVBUFFORCE), (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE)]
    {
        if set_int(socket, libc::SOL_SOCKET, forced, WANTED as i32).is_err() {
            let _ = set_int(socket, libc::SOL_SOCKET, name, WANTED as i32);
        }
    }
}

fn bind_packet(socket: &Socket, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETH_P_ALL.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer and length describe `address`, which outlives the call; the kernel only
    // reads it.
    let code = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The hardware type (`ARPHRD_*`) of the device a packet socket is bound to.
pub(crate) fn hardware_type(socket: &Socket) -> io::Result<u16> {
    let mut name = Aligned([0; 128]);
    let mut length = name.0.len() as libc::socklen_t;
    // SAFETY: the pointer and length describe `name`, for which every bit pattern is valid.
    let code =
        unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut name).cast(), &raw mut length) };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    // family, protocol, index, then the type
    Ok(u16::from_ne_bytes([name.0[8], name.0[9]]))
}

/// Whether a device of the calling thread's namespace is up and can reach the other end
/// (`IFF_RUNNING`).
pub(crate) fn running(device: &str) -> io::Result<bool> {
    let mut request = interface_request(device)?;
    interface_ioctl(libc::SIOCGIFFLAGS as _, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_RUNNING != 0)
}

/// Runs an ethtool command, which is also the place of the answer.
///
/// # Safety
///
/// `command` is long enough for what the kernel reads and writes at such a command.
pub(crate) unsafe fn ethtool(device: &str, command: &mut [u32]) -> io::Result<i32> {
    let mut request = interface_request(device)?;
    request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    interface_ioctl(libc::SIOCETHTOOL as _, &mut request)
}

fn interface_request(device: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeroes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.is_empty() || device.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn interface_ioctl(name: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<i32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: `request` and what it points to outlive the call.
    let code = unsafe { libc::ioctl(socket.as_raw_fd(), name, std::ptr::from_mut(request)) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

/// Makes a TUN device in the calling thread's namespace: one IP packet per read and write, and nothing else.
pub(crate) fn open_tun(device: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let tun = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let mut request = interface_request(device)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: `request` outlives the call.
    let code = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(tun) }
}

/// A message, and what the kernel tells about it.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// Bytes in the buffer.
    pub(crate) length: usize,
    /// The buffer was too small for the rest.
    pub(crate) truncated: bool,
    /// Sender, for internet sockets.
    pub(crate) from: Option<IpAddr>,
    /// IPv6 hop limit.
    pub(crate) hop_limit: Option<u8>,
    /// Time of arrival since 1970.
    pub(crate) time: Option<Duration>,
    /// A VLAN tag (protocol and control information) that was taken out of the frame.
    pub(crate) vlan: Option<[u16; 2]>,
}

impl Message {
    /// The frame as it was on the wire, its VLAN tag put back.
    pub(crate) fn frame(&self, buffer: &[u8]) -> Vec<u8> {
        const ADDRESSES: usize = 12;
        let bytes = &buffer[..self.length];
        match (self.vlan, bytes.split_at_checked(ADDRESSES)) {
            (Some([protocol, tag]), Some((addresses, rest))) => {
                [addresses, &protocol.to_be_bytes(), &tag.to_be_bytes(), rest].concat()
            }
            _ => bytes.to_vec(),
        }
    }
}

#[repr(C, align(8))]
struct Aligned([u8; 128]);

/// Receives one message without blocking.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Message> {
    let mut name = Aligned([0; 128]);
    let mut control = Aligned([0; 128]);
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes are a valid `msghdr`.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = name.0.len() as libc::socklen_t;
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = control.0.len();
    // SAFETY: every pointer in `header` is to a local or to `buffer` with its true length, and all
    // outlive the call.
    let length = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut header,
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
        )
    };
    let original = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut message = Message {
        length: original.min(buffer.len()),
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
        from: address(&name.0[..(header.msg_namelen as usize).min(128)]),
        ..Message::default()
    };
    read_control(&control.0[..header.msg_controllen.min(128)], &mut message);
    Ok(message)
}

fn address(name: &[u8]) -> Option<IpAddr> {
    let family = i32::from(u16::from_ne_bytes(name.get(..2)?.try_into().ok()?));
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(name.get(4..8)?).ok()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(name.get(8..24)?).ok()?).into()),
        _ => None,
    }
}

fn read_control(mut control: &[u8], message: &mut Message) {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const ALIGN: usize = size_of::<usize>();
    while let Some(length) = word(control, 0) {
        if length < HEADER || length > control.len() {
            return;
        }
        let data = &control[HEADER..length];
        match (half(control, ALIGN), half(control, ALIGN + 4)) {
            (Some(libc::SOL_IPV6), Some(libc::IPV6_HOPLIMIT)) => {
                message.hop_limit = half(data, 0).and_then(|limit| u8::try_from(limit).ok());
            }
            (Some(libc::SOL_SOCKET), Some(libc::SO_TIMESTAMPNS)) => {
                message.time = word(data, 0)
                    .zip(word(data, 1))
                    .map(|(s, ns)| Duration::new(s as u64, ns as u32));
            }
            // struct tpacket_auxdata: status, len, snaplen (32 bits), mac, net, tci, tpid (16 bits)
            (Some(libc::SOL_PACKET), Some(libc::PACKET_AUXDATA)) if data.len() >= 20 => {
                let status = u32::from_ne_bytes([data[0], data[1], data[2], data[3]]);
                if status & libc::TP_STATUS_VLAN_VALID != 0 {
                    let tci = u16::from_ne_bytes([data[16], data[17]]);
                    let tpid = u16::from_ne_bytes([data[18], data[19]]);
                    message.vlan = Some([if tpid == 0 { 0x8100 } else { tpid }, tci]);
                }
            }
            _ => {}
        }
        let Some(rest) = control.get(length.next_multiple_of(ALIGN)..) else { return };
        control = rest;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let size = size_of::<usize>();
    Some(usize::from_ne_bytes(bytes.get(at * size..(at + 1) * size)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Sends one message, or tells that it would block.
pub(crate) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    socket.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// Lets the process that the command will start keep these descriptors, under the same numbers, and has the kernel kill
/// it when the thread that started it ends.
pub(crate) fn bequeath(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before the kernel was told.
        if getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        for descriptor in &descriptors {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec `prepare` makes a few system calls: it takes no lock and no memory.
    unsafe { command.pre_exec(prepare) };
}

/// Waits until one of the descriptors is ready or the time is over; tells which are ready, errors
/// included.
pub(crate) fn wait<const N: usize>(
    descriptors: [(BorrowedFd<'_>, PollFlags); N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polls = descriptors.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags));
    wait_for_any(&mut polls, timeout)?;
    Ok(polls.map(|poll| !poll.revents().is_empty()))
}

/// The same for as many descriptors as there are.
pub(crate) fn wait_for<'fd>(
    descriptors: impl Iterator<Item = (BorrowedFd<'fd>, PollFlags)>,
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    let mut polls: Vec<_> =
        descriptors.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
    wait_for_any(&mut polls, timeout)?;
    Ok(polls.iter().map(|poll| !poll.revents().is_empty()).collect())
}

fn wait_for_any(polls: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    match poll(polls, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A bell that wakes a polling thread, once and for all.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn ring(&self) {
        // It can only fail when it has been rung 2^64 times and nobody listened.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
