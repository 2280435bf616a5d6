//! Frames as they pass a device.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::Socket;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::{pcap, sys};

/// Largest frame: 64 KiB of segmentation offload with its headers and some room.
const LARGEST: usize = 1 << 17;

/// A captured frame.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// When the kernel saw it, as time since 1970.
    pub time: Duration,
    /// Its bytes: an Ethernet frame, or an IP packet on a device without link-layer header.
    ///
    /// Between hosts in namespaces there are no cables, so that a frame can be a
    /// segmentation-offloaded one of up to 64 KiB whose TCP or UDP checksum is not filled in yet.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:?}", self.time)?;
        self.bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
        f.write_str(")")
    }
}

/// A running capture of both directions of a device; dropping it ends it.
///
/// Capturing starts before [`capture`] returns, and [`Capture::frames`] contains everything that
/// passed before the call.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

type Predicate = dyn Fn(&[u8]) -> bool + Send + Sync;

struct Shared {
    object: String,
    socket: Socket,
    stop: sys::Bell,
    link_type: u32,
    wanted: Box<Predicate>,
    seen: Mutex<Seen>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("object", &self.object).finish_non_exhaustive()
    }
}

struct Seen {
    frames: Vec<Frame>,
    buffer: Vec<u8>,
    lost: u64,
}

/// Captures every frame that a device of a host sends or receives.
///
/// # Errors
///
/// [`Error::Io`] when there is no such device.
///
/// # Privileges
///
/// `CAP_NET_RAW` in the user namespace, which [`enter`](crate::enter) gives.
pub fn capture(host: &Host, device: &str) -> Result<Capture> {
    capture_if(host, device, |_| true)
}

/// Captures the frames for which a predicate on their bytes holds.
///
/// # Errors
///
/// As [`capture`].
///
/// # Privileges
///
/// As [`capture`].
pub fn capture_if(
    host: &Host,
    device: &str,
    wanted: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
) -> Result<Capture> {
    let object = host.object(device);
    let failed = |error| Error::io("capture on", object.clone(), error);
    let socket = host.try_run(|| open(device))?.map_err(failed)?;
    let shared = Arc::new(Shared {
        link_type: pcap::link_type(sys::hardware_type(&socket).map_err(failed)?),
        stop: sys::Bell::new().map_err(failed)?,
        socket,
        wanted: Box::new(wanted),
        seen: Mutex::new(Seen { frames: Vec::new(), buffer: vec![0; LARGEST], lost: 0 }),
        object: object.clone(),
    });
    let thread = thread::Builder::new()
        .name("capture".to_owned())
        .spawn({
            let shared = Arc::clone(&shared);
            move || shared.follow()
        })
        .map_err(failed)?;
    Ok(Capture { shared, thread: Some(thread) })
}

fn open(device: &str) -> io::Result<Socket> {
    let socket = sys::packet_socket(device, &[])?;
    sys::set_int(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    sys::large_buffers(&socket);
    Ok(socket)
}

impl Capture {
    /// The frames so far, in order.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        self.shared.drained().frames.clone()
    }

    /// How many frames the kernel dropped because they came faster than they could be taken.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let mut seen = self.shared.drained();
        seen.lost += dropped(&self.shared.socket);
        seen.lost
    }

    /// Forgets the frames so far.
    pub fn clear(&self) {
        self.shared.drained().frames.clear();
    }

    /// Waits until a frame has been captured for which the predicate holds, and returns the first
    /// such frame.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when there is none in time.
    pub fn wait_for(&self, timeout: Duration, found: impl Fn(&[u8]) -> bool) -> Result<Frame> {
        let start = Instant::now();
        let mut checked = 0;
        loop {
            {
                let seen = self.shared.drained();
                let from = checked.min(seen.frames.len());
                if let Some(frame) = seen.frames[from..].iter().find(|frame| found(&frame.bytes)) {
                    return Ok(frame.clone());
                }
                checked = seen.frames.len();
            }
            if start.elapsed() >= timeout {
                let object = self.shared.object.clone();
                return Err(Error::TimedOut {
                    operation: "wait for a frame on",
                    object,
                    after: timeout,
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes the frames so far to a file that tcpdump(8) and Wireshark read, with times in
    /// nanoseconds.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be written.
    pub fn write_pcap(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |error| Error::io("write", path.display().to_string(), error);
        let frames = self.frames();
        let file = BufWriter::new(File::create(path).map_err(failed)?);
        pcap::write(file, self.shared.link_type, &frames).map_err(failed)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The frames that a device sends and receives, one after the other, without a thread and without remembering them.
///
/// For programs that look at a network that is there. It listens from when it is made until it is dropped.
#[derive(Debug)]
pub struct Listener {
    object: String,
    socket: Socket,
    buffer: Vec<u8>,
    link_type: u32,
}

/// Listens to a device in the calling thread's network namespace.
///
/// # Errors
///
/// [`Error::Io`] when there is no such device, or without the privilege.
///
/// # Privileges
///
/// `CAP_NET_RAW` in the user namespace that owns the network namespace.
pub fn listen(device: &str) -> Result<Listener> {
    let failed = |error| Error::io("listen on", device.to_owned(), error);
    let socket = open(device).map_err(failed)?;
    let link_type = pcap::link_type(sys::hardware_type(&socket).map_err(failed)?);
    Ok(Listener { object: device.to_owned(), socket, buffer: vec![0; LARGEST], link_type })
}

impl Listener {
    /// The link type of the frames, as pcap files have it: 1 for Ethernet, 101 for IP packets without a link-layer
    /// header.
    #[must_use]
    pub const fn link_type(&self) -> u32 {
        self.link_type
    }

    /// The next frame, if there is one in time.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the device is gone.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Frame>> {
        let failed = |error| Error::io("listen on", self.object.clone(), error);
        let ready = sys::wait([(self.socket.as_fd(), PollFlags::IN)], Some(timeout));
        if ready.map_err(failed)? != [true] {
            return Ok(None);
        }
        match sys::receive(&self.socket, &mut self.buffer) {
            Ok(message) => {
                let bytes = message.frame(&self.buffer);
                Ok(Some(Frame { time: message.time.unwrap_or_default(), bytes }))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            // A device that goes down says so once and may come up again.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// How many frames the kernel dropped because they came faster than they were taken, since the last call.
    #[must_use]
    pub fn lost(&self) -> u64 {
        dropped(&self.socket)
    }
}

/// How many frames the kernel has dropped since the last question.
fn dropped(socket: &Socket) -> u64 {
    sys::get_ints::<2>(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)
        .map_or(0, |[_, dropped]| u64::from(dropped))
}

impl Shared {
    fn follow(&self) {
        loop {
            let ready = sys::wait(
                [(self.socket.as_fd(), PollFlags::IN), (self.stop.as_fd(), PollFlags::IN)],
                None,
            );
            match ready {
                Ok([_, false]) => drop(self.drained()),
                _ => return,
            }
        }
    }

    /// Takes everything that waits in the socket. Whoever holds the lock does it, so that order is
    /// kept and nobody has to wait for the thread.
    fn drained(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { frames, buffer, .. } = &mut *seen;
        loop {
            match sys::receive(&self.socket, buffer) {
                Ok(message) => {
                    let bytes = message.frame(buffer);
                    if (self.wanted)(&bytes) {
                        frames.push(Frame { time: message.time.unwrap_or_default(), bytes });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return seen,
                // A device that goes down says so once and may come up again.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return seen,
            }
        }
    }
}
