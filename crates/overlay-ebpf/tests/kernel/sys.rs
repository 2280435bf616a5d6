//! The reader of a TUN device, and what else needs the system's own calls.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use overlay_lab::Host;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// An open queue of a TUN device without further headers.
pub(crate) struct Tun {
    file: File,
}

impl Tun {
    pub(crate) fn open(host: &Host, name: &str) -> Self {
        let file = host.run(|| open(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Before it is noticed that somebody reads, packets are dropped.
        host.wait_running(name).expect("a device that runs");
        Self { file }
    }

    /// The next packet for which `wanted` holds, within a second.
    pub(crate) fn read(&self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            let mut fds = [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::IN)];
            let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            if poll(&mut fds, Some(&tick)).expect("poll") == 1 {
                let mut packet = vec![0; 1 << 16];
                let len = (&self.file).read(&mut packet).expect("a packet");
                packet.truncate(len);
                if wanted(&packet) {
                    return Some(packet);
                }
            }
        }
        None
    }
}

fn open(name: &str) -> io::Result<File> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zeroes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is the one of this command and outlives the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// Lets a UDP socket over IPv6 receive datagrams without a checksum, as tunnels send them (RFC 6935).
pub(crate) fn allow_no_checksum(socket: impl AsFd) -> io::Result<()> {
    const UDP_NO_CHECK6_RX: libc::c_int = 102;
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe `on`, which outlives the call and is only read.
    let code = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_UDP,
            UDP_NO_CHECK6_RX,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
