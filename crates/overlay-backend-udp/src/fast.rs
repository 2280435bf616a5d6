//! The fast path: programs in the kernel that carry what they understand, and leave the rest to the threads.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_backend::Backend;
use overlay_ebpf::tunnel::{
    Arrival, AttachOptions, Attached, Format, Remote as TunnelRemote, Routed, TunnelOptions, Xdp,
};
use overlay_netlink::{Groups, IfName, Monitor, Namespace, Socket};
use overlay_wire::{Encapsulation, IpVersion};

use crate::forwarder::Shared;
use crate::peers::{Mirror, Remote};
use crate::stop::Bell;
use crate::{ForwardError, ForwarderOptions, Udp};

/// How long until what was missing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long news are collected.
const COLLECT: Duration = Duration::from_millis(100);

/// Whether programs in the kernel are to carry packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FastPath {
    /// Where they can be loaded and attached; user space otherwise.
    #[default]
    Auto,
    /// No: user space does it all.
    Off,
    /// Yes: otherwise [`Forwarder::start`](crate::Forwarder::start) fails.
    Required,
}

/// Whether programs in the kernel carry packets at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FastPathState {
    /// They are not to.
    Off,
    /// They do.
    Attached,
    /// They cannot, and user space does it all.
    Unavailable {
        /// Why not, in words.
        reason: String,
    },
}

/// What it takes to have programs attached, whatever becomes of the device.
#[derive(Debug)]
pub(crate) struct Fast {
    udp: Udp,
    /// That of all threads where there is none.
    namespace: Option<Namespace>,
    xdp: Xdp,
    arrival: Arrival,
    state: Mutex<State>,
    /// There is something to look at.
    news: Arc<Bell>,
    /// Hears of routes and devices.
    monitor: Mutex<Monitor>,
}

#[derive(Debug, Default)]
struct State {
    active: Option<Active>,
    reason: String,
}

#[derive(Debug)]
struct Active {
    /// Taken off before the tables go.
    _attached: Attached,
    copy: Arc<Copy>,
    /// Which of the devices of that name, counted by how often it had to be made.
    made: u64,
}

impl Fast {
    pub(crate) fn new(udp: &Udp, options: &ForwarderOptions) -> Result<Self, ForwardError> {
        let namespace = options.namespace.as_ref();
        let failed = ForwardError::netlink(udp.parent(), "hear of its routes");
        let groups = Groups::ROUTE | Groups::RULE | Groups::LINK;
        let monitor = match namespace {
            Some(namespace) => Monitor::open_in(namespace, groups),
            None => Monitor::open(groups),
        };
        let monitor = monitor.map_err(failed)?;
        let news = Bell::new()
            .map_err(|source| ForwardError::Thread { operation: "make an event", source })?;
        Ok(Self {
            udp: udp.clone(),
            namespace: namespace.cloned(),
            xdp: options.xdp,
            arrival: options.arrival,
            state: Mutex::default(),
            news: Arc::new(news),
            monitor: Mutex::new(monitor),
        })
    }

    /// Has the programs attached to the device as it is now, and tells them what was learned of paths.
    pub(crate) fn look(&self, shared: &Shared) -> Result<(), ForwardError> {
        let mut state = self.state();
        let made = shared.device.made();
        let holds = |active: &Active| active.made == made && active.copy.holds();
        if !state.active.as_ref().is_some_and(holds) {
            if let Some(old) = state.active.take() {
                let mirror: Arc<dyn Mirror> = old.copy.clone();
                self.udp.peers().stop_mirroring(&mirror);
            }
            let attached = self.attach(made);
            self.udp.set_fast_path(attached.is_ok());
            match attached {
                Ok(active) => state.active = Some(active),
                Err(error) => {
                    state.reason = error.to_string();
                    return Err(error);
                }
            }
        }
        if let Some(active) = &state.active {
            if active.copy.follow_mtu() {
                self.udp.peers().tell_again(|_| true);
            }
            let news = active.copy.learn(shared.paths.all(Instant::now()));
            if !news.is_empty() {
                self.udp.peers().tell_again(|remote| news.contains(&remote.endpoint));
            }
        }
        Ok(())
    }

    /// Looks whenever there is something to look at, until the forwarder stops.
    pub(crate) fn keep(&self, shared: &Shared) {
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        while !shared.stop.is_told() {
            shared.stop.wait_for_either(&self.news, &*monitor, LOOK_AGAIN);
            self.news.silence();
            // Changes come many at a time, and reports as fast as somebody sends them.
            shared.stop.pause(COLLECT);
            let copy = self.state().active.as_ref().map(|active| Arc::clone(&active.copy));
            match copy {
                Some(copy) if copy.routed.routes_changed(&mut monitor) => {
                    self.udp.peers().tell_again(|_| true);
                }
                Some(_) => {}
                // Nobody has asked the routing table yet.
                None => while matches!(monitor.try_next(), Ok(Some(_))) {},
            }
            if !shared.stop.is_told() {
                // What is wrong stands in the state.
                let _ = self.look(shared);
            }
        }
    }

    /// There is something to look at.
    pub(crate) fn tell(&self) {
        self.news.ring();
    }

    /// Takes the programs off, and leaves everything to user space.
    pub(crate) fn detach(&self) {
        let mut state = self.state();
        if let Some(old) = state.active.take() {
            let mirror: Arc<dyn Mirror> = old.copy.clone();
            self.udp.peers().stop_mirroring(&mirror);
        }
        self.udp.set_fast_path(false);
    }

    pub(crate) fn describe(&self) -> FastPathState {
        let state = self.state();
        match &state.active {
            Some(_) => FastPathState::Attached,
            None => FastPathState::Unavailable { reason: state.reason.clone() },
        }
    }

    /// What the programs have counted, if there are any.
    pub(crate) fn counters(&self) -> Option<overlay_ebpf::tunnel::Counters> {
        self.state().active.as_ref()?.copy.routed.tunnel().counters().ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&self, made: u64) -> Result<Active, ForwardError> {
        let work = || {
            if self.arrival == Arrival::Underlay {
                expect_loose_filter(self.udp.parent())?;
            }
            let copy = Copy::load(&self.udp, self.arrival, Arc::clone(&self.news))?;
            let copy = Arc::new(copy);
            // The table comes first: until then the programs would drop what they know nothing of.
            let mirror: Arc<dyn Mirror> = copy.clone();
            self.udp.peers().mirror_to(mirror.clone());
            let options = AttachOptions::default().xdp(self.xdp);
            let attached = copy.routed.tunnel().attach(options).map_err(ForwardError::from);
            match attached.and_then(|attached| copy.first_error().map_or(Ok(attached), Err)) {
                Ok(attached) => Ok(Active { _attached: attached, copy, made }),
                Err(error) => {
                    self.udp.peers().stop_mirroring(&mirror);
                    Err(error)
                }
            }
        };
        let failed = ForwardError::netlink(self.udp.device(), "enter its network namespace");
        match &self.namespace {
            Some(namespace) => namespace.run(work).map_err(failed)?,
            None => work(),
        }
    }
}

/// Packets of the overlay may arrive on the underlay device unless the kernel looks for their way back there
/// (`Documentation/networking/ip-sysctl.rst`, `rp_filter`: the stricter one of two settings counts).
fn expect_loose_filter(underlay: IfName) -> Result<(), ForwardError> {
    const STRICT: u8 = 1;
    let setting = |of: &str| -> u8 {
        let path = format!("/proc/sys/net/ipv4/conf/{of}/rp_filter");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    };
    match setting("all").max(setting(underlay.as_ref())) {
        STRICT => Err(ForwardError::ReversePathFilter { device: underlay }),
        _ => Ok(()),
    }
}

/// Removes what a process left at the devices that has crashed: filters, where the kernel does not take programs off by
/// itself. To be called in the network namespace of the devices.
pub(crate) fn sweep(udp: &Udp) {
    let Ok(mut netlink) = Socket::open() else { return };
    for device in [udp.device(), udp.parent()] {
        let index = netlink.link(&device).ok().and_then(|link| link.index);
        // Where there can be no filters, there are none.
        let _ = index.map(|index| overlay_ebpf::attach::sweep(index, udp.device().as_ref()));
    }
}

/// The table of peers as the programs have it.
#[derive(Debug)]
struct Copy {
    routed: Routed,
    udp: Udp,
    /// The longest inner packet that the underlay device takes, in bytes.
    mtu: AtomicU16,
    /// Path MTUs smaller than the device's, as inner packets have them.
    mtus: Mutex<HashMap<IpAddr, u16>>,
    /// An entry could not be written, so that this is no copy any more.
    wrong: AtomicBool,
    error: Mutex<Option<overlay_ebpf::Error>>,
    /// Rung when that happens.
    news: Arc<Bell>,
}

impl Copy {
    fn load(udp: &Udp, arrival: Arrival, news: Arc<Bell>) -> Result<Self, ForwardError> {
        let complete = |options: TunnelOptions| {
            let options = options
                .name(udp.device().as_ref())
                .local(udp.local())
                .format(Format::Udp { port: udp.port() })
                .arrival(arrival);
            udp.subnets().iter().fold(options, |options, net| options.subnet(*net))
        };
        Ok(Self {
            routed: Routed::load(udp.device(), udp.parent(), complete)?,
            udp: udp.clone(),
            mtu: AtomicU16::new(u16::try_from(udp.mtu()).unwrap_or(u16::MAX)),
            mtus: Mutex::default(),
            wrong: AtomicBool::new(false),
            error: Mutex::default(),
            news,
        })
    }

    /// Whether the tables are right and the devices those that the programs were made for.
    fn holds(&self) -> bool {
        !self.wrong.load(Ordering::Relaxed) && self.routed.holds()
    }

    /// Follows the MTU of the underlay device, and returns whether it has changed.
    fn follow_mtu(&self) -> bool {
        let Some(outer) = self.routed.underlay_mtu() else { return false };
        let underlay = IpVersion::of(self.udp.local());
        let inner = Encapsulation::IpInUdp.inner_mtu(outer, underlay);
        let mtu = inner.unwrap_or_default().min(self.udp.mtu());
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        self.mtu.swap(mtu, Ordering::Relaxed) != mtu
    }

    fn first_error(&self) -> Option<ForwardError> {
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.take().map(ForwardError::from)
    }

    fn check(&self, done: Result<(), overlay_ebpf::Error>) {
        if let Err(error) = done {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.wrong.store(true, Ordering::Relaxed);
            self.news.ring();
        }
    }

    /// Takes in what is known of paths, and returns the endpoints for which that is news.
    fn learn(&self, learned: Vec<(IpAddr, u32)>) -> HashSet<IpAddr> {
        let overhead = Encapsulation::IpInUdp.overhead(IpVersion::of(self.udp.local()));
        let inner = |mtu: u32| u16::try_from(mtu.saturating_sub(overhead)).unwrap_or(u16::MAX);
        let now: HashMap<_, _> = learned.into_iter().map(|(to, mtu)| (to, inner(mtu))).collect();
        let mut mtus = self.mtus.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news: HashSet<_> =
            now.iter().filter(|(to, mtu)| mtus.get(to) != Some(mtu)).map(|(to, _)| *to).collect();
        news.extend(mtus.keys().filter(|to| !now.contains_key(to)));
        *mtus = now;
        news
    }

    fn entry(&self, remote: Remote) -> TunnelRemote {
        let full = self.mtu.load(Ordering::Relaxed);
        let mtus = self.mtus.lock().unwrap_or_else(PoisonError::into_inner);
        let mtu = mtus.get(&remote.endpoint).map_or(full, |mtu| full.min(*mtu));
        let entry = self.routed.remote(remote.endpoint, mtu);
        if remote.fast_path { entry } else { entry.fast(false) }
    }
}

impl Mirror for Copy {
    fn set(&self, entries: &[(IpNet, Remote)]) {
        let entries: Vec<_> = entries.iter().map(|(net, to)| (*net, self.entry(*to))).collect();
        self.check(self.routed.tunnel().set_peers(entries.iter().map(|(net, to)| (*net, to))));
    }

    fn remove(&self, subnet: IpNet) {
        self.check(self.routed.tunnel().remove_peer(subnet).map(drop));
    }
}
