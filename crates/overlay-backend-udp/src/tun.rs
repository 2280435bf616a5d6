//! The TUN device: made or adopted with the mark of its owner, and made again when somebody deletes it.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use overlay_backend::Owner;
use overlay_netlink::{IfName, Link, LinkKind, Socket};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::{ForwardError, sys};

/// Bytes of the virtio header in front of each packet.
pub(crate) const HEADER_LEN: usize = 10;

const PATH: &str = "/dev/net/tun";
/// IP packets without a header of the device's own, with a virtio header, from as many queues as are opened.
const FLAGS: i32 = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

/// What the kernel leaves to the forwarder when it hands over packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TunLevel {
    /// Packets come complete, one by one.
    Complete,
    /// Checksums, and the segmentation of TCP.
    Tcp,
    /// Checksums, and the segmentation of TCP and UDP (Linux 6.2).
    TcpAndUdp,
}

impl TunLevel {
    /// From the best to what any kernel can do.
    const ALL: [Self; 3] = [Self::TcpAndUdp, Self::Tcp, Self::Complete];

    const fn offloads(self) -> u32 {
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        match self {
            Self::Complete => 0,
            Self::Tcp => tcp,
            Self::TcpAndUdp => tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6,
        }
    }

    const fn of(number: u8) -> Self {
        match number {
            2 => Self::TcpAndUdp,
            1 => Self::Tcp,
            _ => Self::Complete,
        }
    }
}

/// The device with its queues.
#[derive(Debug)]
pub(crate) struct Device {
    name: IfName,
    owner: Owner,
    queues: Vec<Queue>,
    /// In the namespace of the device. Held while the device is looked for or made.
    netlink: Mutex<Socket>,
    level: AtomicU8,
    made: AtomicU64,
}

impl Device {
    /// Makes the device in the network namespace of the calling thread, or adopts it when it is there and `owner`'s.
    pub(crate) fn open(name: IfName, owner: Owner, queues: u16) -> Result<Self, ForwardError> {
        let netlink = Socket::open().map_err(ForwardError::netlink(name, "open a socket"))?;
        let queues: Vec<Queue> = (0..queues.max(1))
            .map(|_| Queue::open())
            .collect::<Result<_, _>>()
            .map_err(ForwardError::device(name, "open /dev/net/tun"))?;
        let device = Self {
            name,
            owner,
            queues,
            netlink: Mutex::new(netlink),
            level: AtomicU8::new(TunLevel::Complete as u8),
            made: AtomicU64::new(0),
        };
        device.attach()?;
        Ok(device)
    }

    pub(crate) fn queues(&self) -> &[Queue] {
        &self.queues
    }

    pub(crate) fn level(&self) -> TunLevel {
        TunLevel::of(self.level.load(Ordering::Relaxed))
    }

    /// How often it had to be made because it was not there.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Sees to it that all queues are queues of the device, which is made if it is not there. Several threads may find out
    /// at once that it is gone; the first one does the work.
    pub(crate) fn attach(&self) -> Result<(), ForwardError> {
        // A socket between two requests is as good as ever, whatever became of the one who held it.
        let mut netlink = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        if self.queues.iter().all(Queue::is_attached) {
            return Ok(());
        }
        if !self.is_there(&mut netlink)? {
            self.make(&mut netlink)?;
        }
        match self.join(FLAGS) {
            // It is ours, but was made without several queues; they cannot be had later.
            Err(Errno::INVAL) => {
                self.delete(&mut netlink)?;
                self.make(&mut netlink)?;
                self.join(FLAGS)
            }
            joined => joined,
        }
        .map_err(self.fail("attach a queue"))?;
        self.set_up()
    }

    /// Deletes the device, if it is still ours.
    pub(crate) fn remove(&self) -> Result<(), ForwardError> {
        let mut netlink = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        match self.is_there(&mut netlink) {
            Ok(true) => self.delete(&mut netlink),
            Ok(false) | Err(ForwardError::Foreign { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_there(&self, netlink: &mut Socket) -> Result<bool, ForwardError> {
        let alias = self.owner.alias();
        match netlink.link(&self.name) {
            Ok(link) if link.kind == LinkKind::Tun && link.alias.as_ref() == Some(&alias) => {
                Ok(true)
            }
            Ok(_) => Err(ForwardError::Foreign { device: self.name, alias }),
            Err(error) if error.is_not_found() => Ok(false),
            Err(source) => Err(ForwardError::netlink(self.name, "look for it")(source)),
        }
    }

    /// The device has the mark of its owner before it outlives the process, so that a crash in between leaves nothing that
    /// is nobody's.
    fn make(&self, netlink: &mut Socket) -> Result<(), ForwardError> {
        let Some(first) = self.queues.first() else { return Ok(()) };
        let fd = first.fd.as_fd();
        sys::set_interface(fd, &self.name, FLAGS | libc::IFF_TUN_EXCL)
            .map_err(self.fail("create"))?;
        let marked = netlink
            .change(&Link::named(self.name).alias(self.owner.alias()))
            .map_err(ForwardError::netlink(self.name, "set the alias"))
            .and_then(|()| sys::set_persistent(fd).map_err(self.fail("make persistent")));
        if marked.is_err() {
            // The descriptor stays open, and would keep what could not be marked.
            let _ = netlink.delete(&Link::named(self.name));
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        marked
    }

    fn join(&self, flags: i32) -> Result<(), Errno> {
        let mut apart = self.queues.iter().filter(|queue| !queue.is_attached());
        apart.try_for_each(|queue| sys::set_interface(queue.fd.as_fd(), &self.name, flags))
    }

    fn set_up(&self) -> Result<(), ForwardError> {
        let Some(first) = self.queues.first() else { return Ok(()) };
        let fd = first.fd.as_fd();
        sys::set_header_len(fd, HEADER_LEN as i32)
            .map_err(self.fail("set the length of the virtio header"))?;
        let mut levels = TunLevel::ALL.into_iter();
        let level = levels.find(|level| sys::set_offload(fd, level.offloads()).is_ok());
        self.level.store(level.unwrap_or(TunLevel::Complete) as u8, Ordering::Relaxed);
        Ok(())
    }

    fn delete(&self, netlink: &mut Socket) -> Result<(), ForwardError> {
        match netlink.delete(&Link::named(self.name)) {
            Err(error) if !error.is_not_found() => {
                Err(ForwardError::netlink(self.name, "delete")(error))
            }
            _ => Ok(()),
        }
    }

    fn fail(&self, operation: &'static str) -> impl Fn(Errno) -> ForwardError {
        ForwardError::device(self.name, operation)
    }
}

/// A queue of the device: what is read and written whole, one packet each.
#[derive(Debug)]
pub(crate) struct Queue {
    fd: OwnedFd,
}

impl Queue {
    fn open() -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(PATH, flags, Mode::empty()).map(|fd| Self { fd })
    }

    fn is_attached(&self) -> bool {
        sys::is_attached(self.fd.as_fd())
    }

    /// The next packet and what the kernel left to be done with it, without waiting; returns how many bytes it has.
    pub(crate) fn read(
        &self,
        header: &mut [u8; HEADER_LEN],
        packet: &mut [u8],
    ) -> Result<usize, Errno> {
        let mut room = [IoSliceMut::new(header), IoSliceMut::new(packet)];
        let len = rustix::io::readv(&self.fd, &mut room)?;
        Ok(len.saturating_sub(HEADER_LEN))
    }

    /// Hands a packet to the kernel: a virtio header, and the packet in pieces.
    pub(crate) fn write(&self, pieces: &[IoSlice<'_>]) -> Result<(), Errno> {
        rustix::io::writev(&self.fd, pieces).map(drop)
    }
}

#[cfg(test)]
impl From<OwnedFd> for Queue {
    /// Of a socket in place of a device.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether an error of a queue says that its device is gone.
pub(crate) const fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::BADFD | Errno::NODEV | Errno::NXIO)
}
