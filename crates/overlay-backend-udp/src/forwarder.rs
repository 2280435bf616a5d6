//! Device, socket and threads: what carries the packets.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_backend::Backend;
use overlay_wire::{Encapsulation, IpVersion};
use serde::Serialize;

use crate::counters::{Counters, Tallies};
use crate::fast::{self, Fast, FastPath, FastPathState};
use crate::options::ForwarderOptions;
use crate::paths::Paths;
use crate::socket::{Sharing, UdpSocket};
use crate::stop::Stop;
use crate::tun::{Device, TunLevel};
use crate::{ForwardError, Peers, Udp, receive, transmit};

/// How long to wait until a device that could not be made is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Carries the packets of a [`Udp`] network between its TUN device and a UDP socket: on threads of its own, and by programs in
/// the kernel where they are [wanted](FastPath) and allowed.
///
/// It looks up peers in [`Udp::peers`], which may change at any time. The TUN device outlives it, and the process:
/// routes stay, and the next forwarder adopts it. While it is there, a device that somebody deletes is made again; what
/// else belongs to the device is the business of the [`Reconciler`](overlay_backend::Reconciler).
///
/// Dropped, it stops.
#[derive(Debug)]
pub struct Forwarder {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) peers: Arc<Peers>,
    /// The subnets that live here.
    pub(crate) subnets: Vec<IpNet>,
    /// Bytes of the outer headers.
    pub(crate) overhead: u32,
    /// The longest packet of the overlay in bytes.
    pub(crate) mtu: usize,
    pub(crate) device: Device,
    /// One for each queue.
    pub(crate) sockets: Vec<UdpSocket>,
    pub(crate) paths: Paths,
    pub(crate) tallies: Tallies,
    pub(crate) stop: Stop,
    /// `None` where user space is to do it all.
    fast: Option<Fast>,
    /// Why there is none.
    no_fast_path: FastPathState,
    /// Why the device is not there.
    trouble: Mutex<Option<String>>,
}

/// How much the kernel does at once: what it was found to be able to do, as far as it has been tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Levels {
    /// What the TUN device hands over.
    pub tun: TunLevel,
    /// How many datagrams one send carries at most: 128, which older kernels turn into 64, or 1 where the kernel or the
    /// underlay device refuses to segment.
    pub segments: usize,
    /// Whether one receive returns several datagrams (`UDP_GRO`, Linux 5.0).
    pub coalesces: bool,
    /// How many queues there are, each with a thread for either direction.
    pub queues: usize,
}

impl Forwarder {
    /// Opens socket and device, and begins to carry packets.
    ///
    /// The device is made if it is not there, and adopted if it is the owner's. The reconciler gives it its MTU, its
    /// addresses and routes, and sets it up.
    ///
    /// # Errors
    /// [`ForwardError`] when the socket's address is taken, which is the case while another forwarder of the same network
    /// runs on the node; when the device is somebody else's or cannot be made; when programs in the kernel are
    /// [required](FastPath::Required) and cannot be attached.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` in the user namespace that owns the network namespace, and access to `/dev/net/tun`; to enter
    /// another network namespace, what [`Namespace::run`](overlay_netlink::Namespace::run) needs.
    pub fn start(udp: &Udp, options: &ForwarderOptions) -> Result<Self, ForwardError> {
        let open = || Shared::open(udp, options);
        let shared = match &options.namespace {
            Some(namespace) => namespace
                .run(open)
                .map_err(ForwardError::netlink(udp.device(), "enter its network namespace"))?,
            None => open(),
        }?;
        let mut forwarder = Self { shared: Arc::new(shared), threads: Vec::new() };
        if let Some(fast) = &forwarder.shared.fast {
            match fast.look(&forwarder.shared) {
                Err(error) if options.fast_path == FastPath::Required => {
                    // A device that nobody was to see before does not stay.
                    if forwarder.shared.device.made() > 0 {
                        let _ = forwarder.shared.device.remove();
                    }
                    return Err(error);
                }
                // The state tells.
                _ => {}
            }
            forwarder.spawn("udp-fast".to_owned(), 0, |shared, _| {
                shared.fast.iter().for_each(|fast| fast.keep(shared));
            })?;
        }
        for index in 0..forwarder.shared.sockets.len() {
            forwarder.spawn(format!("udp-send-{index}"), index, transmit::run)?;
            forwarder.spawn(format!("udp-receive-{index}"), index, receive::run)?;
        }
        Ok(forwarder)
    }

    /// What the threads have carried since the start; of what programs have carried tells
    /// [`fast_counters`](Self::fast_counters). At any time, and at no cost to those who carry.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let Shared { tallies, device, paths, .. } = &*self.shared;
        let (devices_made, path_mtus) = (device.made(), paths.all(Instant::now()));
        Counters { devices_made, path_mtus, ..tallies.sum() }
    }

    /// How much the kernel does at once.
    #[must_use]
    pub fn levels(&self) -> Levels {
        let Shared { sockets, device, .. } = &*self.shared;
        Levels {
            tun: device.level(),
            segments: sockets.iter().map(UdpSocket::max_segments).min().unwrap_or(1),
            coalesces: sockets.iter().all(UdpSocket::coalesces),
            queues: sockets.len(),
        }
    }

    /// Whether programs in the kernel carry packets. When that changes, so does what this node
    /// [publishes](overlay_backend::Backend::data).
    #[must_use]
    pub fn fast_path(&self) -> FastPathState {
        let Shared { fast, no_fast_path, .. } = &*self.shared;
        fast.as_ref().map_or_else(|| no_fast_path.clone(), Fast::describe)
    }

    /// What those programs have carried since they were attached; `None` while there are none.
    #[must_use]
    pub fn fast_counters(&self) -> Option<overlay_ebpf::tunnel::Counters> {
        self.shared.fast.as_ref()?.counters()
    }

    /// Why there is no device at the moment, if somebody has deleted it and it could not be made again. It is tried again
    /// every second.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops, and leaves the device with its routes, for the next one. Returns what was carried.
    pub fn stop(mut self) -> Counters {
        self.halt();
        self.counters()
    }

    /// Stops, and deletes the device.
    ///
    /// # Errors
    /// [`ForwardError::Netlink`] when the kernel refuses. It has stopped all the same.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    pub fn remove(mut self) -> Result<(), ForwardError> {
        self.halt();
        self.shared.device.remove()
    }

    fn spawn(
        &mut self,
        name: String,
        index: usize,
        work: fn(&Shared, usize),
    ) -> Result<(), ForwardError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || work(&shared, index))
            .map_err(|source| ForwardError::Thread { operation: "start a thread", source })?;
        self.threads.push(thread);
        Ok(())
    }

    fn halt(&mut self) {
        self.shared.stop.tell();
        self.shared.tell_fast_path();
        for thread in self.threads.drain(..) {
            // A thread that has panicked has ended, too.
            let _ = thread.join();
        }
        self.shared.fast.iter().for_each(Fast::detach);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.halt();
    }
}

impl Shared {
    fn open(udp: &Udp, options: &ForwarderOptions) -> Result<Self, ForwardError> {
        let stop = |source: io::Error| ForwardError::Thread { operation: "make an event", source };
        let queues = options.queue_count();
        let local = SocketAddr::new(udp.local(), udp.port());
        // The sockets first: of two forwarders of one network, the second one must not touch the device.
        let sockets = (0..queues)
            .map(|index| {
                let sharing = match (queues, index) {
                    (1, _) => Sharing::Alone,
                    (_, 0) => Sharing::First,
                    _ => Sharing::Joined,
                };
                UdpSocket::open(local, sharing, options.buffers)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let device = Device::open(udp.device(), options.owner, queues)?;
        fast::sweep(udp);
        let (fast, no_fast_path) = match options.fast_path {
            FastPath::Off => (None, FastPathState::Off),
            _ => match Fast::new(udp, options) {
                Ok(fast) => (Some(fast), FastPathState::Off),
                Err(error) if options.fast_path == FastPath::Required => return Err(error),
                Err(error) => (None, FastPathState::Unavailable { reason: error.to_string() }),
            },
        };
        Ok(Self {
            peers: Arc::clone(udp.peers()),
            subnets: udp.subnets().to_vec(),
            mtu: udp.mtu() as usize,
            overhead: Encapsulation::IpInUdp.overhead(IpVersion::of(udp.local())),
            device,
            sockets,
            paths: Paths::default(),
            tallies: Tallies::new(queues.into()),
            stop: Stop::new().map_err(stop)?,
            fast,
            no_fast_path,
            trouble: Mutex::default(),
        })
    }

    /// Makes the device again, or waits a while if that is not possible.
    pub(crate) fn restore_device(&self) {
        let restored = self.device.attach();
        let failed = restored.is_err();
        let trouble = restored.err().map(|error| error.to_string());
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        if failed {
            self.stop.pause(RETRY);
        } else {
            self.tell_fast_path();
        }
    }

    /// The device is another one, or something was learned of a path.
    pub(crate) fn tell_fast_path(&self) {
        self.fast.iter().for_each(Fast::tell);
    }
}
