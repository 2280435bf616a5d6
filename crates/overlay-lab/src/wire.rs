//! A cable that loses and delays.

mod lane;

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::Socket;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::topology::connect;
use crate::{offload, sys};
use lane::Lane;

/// Segmentation of tunnelled packets cannot be described to a packet socket: the inner kind of
/// segmentation arrives without the tunnel around it. So it happens before the cable.
const TUNNEL_SEGMENTATION: [&str; 7] = [
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gso-partial",
];

/// How a [`Wire`] treats the frames of each direction.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct WireConfig {
    /// Probability that a frame is lost, from 0 to 1. A segmentation-offloaded frame is lost as a
    /// whole. Default 0.
    pub loss: f64,
    /// Time a frame spends on the wire. Default none.
    pub delay: Duration,
    /// How many frames may be on the wire at a time; further ones are dropped. Default 1000.
    pub queue: usize,
}

impl Default for WireConfig {
    fn default() -> Self {
        Self { loss: 0.0, delay: Duration::ZERO, queue: 1000 }
    }
}

impl WireConfig {
    /// A perfect wire.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the probability of loss, from 0 to 1.
    #[must_use]
    pub fn loss(mut self, probability: f64) -> Self {
        self.loss = probability;
        self
    }

    /// Sets the delay of each direction.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets how many frames each direction holds.
    #[must_use]
    pub fn queue(mut self, frames: usize) -> Self {
        self.queue = frames;
        self
    }
}

/// What happened to the frames of one direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WireStats {
    /// Delivered.
    pub forwarded: u64,
    /// Lost by chance, as wanted.
    pub lost: u64,
    /// Dropped because the queue was full, or the device refused them.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    forwarded: AtomicU64,
    lost: AtomicU64,
    dropped: AtomicU64,
}

/// A cable between two hosts that loses and delays frames in user space, since not every kernel can
/// (netem).
///
/// Each host's device is a veth whose other end lies in a namespace in the middle, where one thread
/// carries frames from one packet socket to the other. Checksum and segmentation offload work
/// across it; segmentation of tunnelled packets is switched off on its ends. Which frames are lost
/// depends on the seed and their order only.
///
/// Dropping it unplugs the cable: both devices disappear.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    middle: Host,
    ends: [(Host, String); 2],
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    config: Mutex<WireConfig>,
    counters: [Counters; 2],
    stop: sys::Bell,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// Joins two hosts. Equal seeds lose the same frames of equal sequences.
    ///
    /// # Errors
    ///
    /// When one of the hosts has a device of that name already, or no thread can be started.
    pub fn new(
        a: &Host,
        a_device: &str,
        b: &Host,
        b_device: &str,
        config: WireConfig,
        seed: u64,
    ) -> Result<Self> {
        let middle = Host::new(&format!("{}-{}", a.name(), b.name()))?;
        middle.sysctl("net.ipv6.conf.default.disable_ipv6", 1)?;
        let ends = [(a.clone(), a_device.to_owned()), (b.clone(), b_device.to_owned())];
        let mut sockets = Vec::new();
        for ((host, device), inner) in ends.iter().zip(INNER) {
            connect(host, device, &middle, inner)?;
            let failed = |error| Error::io("set up the wire at", host.object(device), error);
            host.try_run(|| offload::clear_supported(device, &TUNNEL_SEGMENTATION))?
                .map_err(failed)?;
            sockets.push(middle.try_run(|| open(inner))?.map_err(failed)?);
        }
        let failed = |error| Error::io("set up the wire", middle.name(), error);
        let shared = Arc::new(Shared {
            config: Mutex::new(config),
            counters: Default::default(),
            stop: sys::Bell::new().map_err(failed)?,
        });
        let sockets: [Socket; 2] =
            sockets.try_into().unwrap_or_else(|_| unreachable!("two ends make two sockets"));
        let thread = thread::Builder::new()
            .name("wire".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.carry(&sockets, seed)
            })
            .map_err(failed)?;
        Ok(Self { shared, middle, ends, thread: Some(thread) })
    }

    /// Changes how frames are treated from now on. Frames on the way keep their delay, and order is
    /// kept.
    pub fn set(&self, config: WireConfig) {
        *self.shared.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Sets the MTU of the wire, ends included, in bytes of IP packet.
    ///
    /// # Errors
    ///
    /// When the size is outside what a veth can do.
    pub fn mtu(&self, mtu: u32) -> Result<()> {
        INNER.iter().try_for_each(|inner| self.middle.mtu(inner, mtu))?;
        self.ends.iter().try_for_each(|(host, device)| host.mtu(device, mtu))
    }

    /// What happened so far from the first host to the second, and back.
    #[must_use]
    pub fn stats(&self) -> [WireStats; 2] {
        [0, 1].map(|lane| {
            let Counters { forwarded, lost, dropped } = &self.shared.counters[lane];
            let [forwarded, lost, dropped] =
                [forwarded, lost, dropped].map(|count| count.load(Ordering::Relaxed));
            WireStats { forwarded, lost, dropped }
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const INNER: [&str; 2] = ["left", "right"];

fn open(device: &str) -> io::Result<Socket> {
    let socket = sys::packet_socket(
        device,
        &[(libc::PACKET_VNET_HDR, 1), (libc::PACKET_IGNORE_OUTGOING, 1)],
    )?;
    sys::large_buffers(&socket);
    Ok(socket)
}

impl Shared {
    fn carry(&self, sockets: &[Socket; 2], seed: u64) {
        let mut lanes = [Lane::new(seed), Lane::new(!seed)];
        loop {
            let now = Instant::now();
            let due = lanes.iter().filter_map(|lane| lane.due()).min();
            // A lane whose outgoing socket is full waits for it rather than for the clock.
            let full = [lanes[1].blocked, lanes[0].blocked];
            let timeout = due.map(|due| due.saturating_duration_since(now));
            let flags =
                full.map(|full| if full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN });
            let waits = [
                (sockets[0].as_fd(), flags[0]),
                (sockets[1].as_fd(), flags[1]),
                (self.stop.as_fd(), PollFlags::IN),
            ];
            match sys::wait(waits, timeout) {
                Ok([.., false]) => {}
                _ => return,
            }
            let config = *self.config.lock().unwrap_or_else(PoisonError::into_inner);
            for (index, lane) in lanes.iter_mut().enumerate() {
                let (from, to, counters) =
                    (&sockets[index], &sockets[1 - index], &self.counters[index]);
                lane.take(from, to, &config, counters);
                lane.release(to, counters);
            }
        }
    }
}
