//! The fast path: programs in the kernel that carry what they understand, and leave the rest to the threads.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_backend::Backend;
use overlay_ebpf::tunnel::{
    Arrival, AttachOptions, Attached, Format, Remote as TunnelRemote, Tunnel, TunnelOptions, Xdp,
};
use overlay_netlink::{
    Event, Groups, IfName, Ifindex, Monitor, Namespace, Route, RouteQuery, Socket, Via,
};
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
        let groups = Groups::ROUTE | Groups::LINK;
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
            if self.routes_changed(&mut monitor) {
                self.udp.peers().tell_again(|_| true);
            }
            if !shared.stop.is_told() {
                // What is wrong stands in the state.
                let _ = self.look(shared);
            }
        }
    }

    /// Whether routes have changed by which peers may be reached. Those of the overlay itself come by the thousand, and lead
    /// into the device.
    fn routes_changed(&self, monitor: &mut Monitor) -> bool {
        let device = self.state().active.as_ref().map(|active| active.copy.device);
        let mut changed = false;
        loop {
            match monitor.try_next() {
                Ok(Some(Event::Route(_, route))) => changed |= leads_to(&route) != device,
                Ok(Some(Event::Link(..))) => {}
                Ok(Some(_)) => changed = true,
                Ok(None) | Err(_) => return changed,
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
        self.state().active.as_ref()?.copy.tunnel.counters().ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&self, made: u64) -> Result<Active, ForwardError> {
        let work = || {
            let (tun, underlay) = self.devices()?;
            if self.arrival == Arrival::Underlay {
                expect_loose_filter(self.udp.parent())?;
            }
            let options = TunnelOptions::new(tun, underlay).arrival(self.arrival);
            let copy = Arc::new(Copy::load(&self.udp, options, Arc::clone(&self.news))?);
            // The table comes first: until then the programs would drop what they know nothing of.
            let mirror: Arc<dyn Mirror> = copy.clone();
            self.udp.peers().mirror_to(mirror.clone());
            let options = AttachOptions::default().xdp(self.xdp);
            let attached = copy.tunnel.attach(options).map_err(ForwardError::from);
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

    /// The numbers of the TUN device and of the underlay device.
    fn devices(&self) -> Result<(Ifindex, Ifindex), ForwardError> {
        let failed = |device| ForwardError::netlink(device, "look for it");
        let (tun, parent) = (self.udp.device(), self.udp.parent());
        let mut netlink = Socket::open().map_err(failed(tun))?;
        let device = netlink.link(&tun).map_err(failed(tun))?;
        let underlay = netlink.link(&parent).map_err(failed(parent))?;
        if underlay.address.is_none() {
            return Err(ForwardError::NoEthernet { device: parent });
        }
        Ok((device.index.unwrap_or_default(), underlay.index.unwrap_or_default()))
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

/// The device that a route leads to, if it is one.
fn leads_to(route: &Route) -> Option<Ifindex> {
    match &route.via {
        Via::Hop(hop) => hop.dev,
        _ => None,
    }
}

/// The table of peers as the programs have it.
#[derive(Debug)]
struct Copy {
    tunnel: Tunnel,
    udp: Udp,
    device: Ifindex,
    underlay: Ifindex,
    /// To ask for routes and devices.
    netlink: Mutex<Socket>,
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
    fn load(udp: &Udp, options: TunnelOptions, news: Arc<Bell>) -> Result<Self, ForwardError> {
        let (device, underlay) = (options.device, options.underlay);
        let options = options
            .name(udp.device().as_ref())
            .local(udp.local())
            .format(Format::Udp { port: udp.port() });
        let options = udp.subnets().iter().fold(options, |options, net| options.subnet(*net));
        let failed = ForwardError::netlink(udp.parent(), "open a socket");
        Ok(Self {
            tunnel: Tunnel::load(&options)?,
            udp: udp.clone(),
            device,
            underlay,
            netlink: Mutex::new(Socket::open().map_err(failed)?),
            mtu: AtomicU16::new(u16::try_from(udp.mtu()).unwrap_or(u16::MAX)),
            mtus: Mutex::default(),
            wrong: AtomicBool::new(false),
            error: Mutex::default(),
            news,
        })
    }

    /// Whether the tables are right and the devices those that the programs were made for.
    fn holds(&self) -> bool {
        let mut netlink = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is = |name, index| netlink.link(&name).is_ok_and(|link| link.index == Some(index));
        !self.wrong.load(Ordering::Relaxed)
            && is(self.udp.device(), self.device)
            && is(self.udp.parent(), self.underlay)
    }

    /// Follows the MTU of the underlay device, and returns whether it has changed.
    fn follow_mtu(&self) -> bool {
        let mut netlink = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(link) = netlink.link(&self.udp.parent()) else { return false };
        let underlay = IpVersion::of(self.udp.local());
        let inner = link.mtu.and_then(|mtu| Encapsulation::IpInUdp.inner_mtu(mtu, underlay));
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
        let entry = TunnelRemote::new(remote.endpoint, mtu);
        match self.next_hop(remote.endpoint) {
            Some(next_hop) => entry.via(next_hop).fast(remote.fast_path),
            // By another device, or not at all: user space asks the routing table.
            None => entry.fast(false),
        }
    }

    /// The neighbour on the underlay device by way of which a peer is reached, as the routing table has it.
    fn next_hop(&self, endpoint: IpAddr) -> Option<IpAddr> {
        let mut netlink = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        let route = netlink.route(&RouteQuery::to(endpoint)).ok()?;
        match &route.via {
            Via::Hop(hop) if hop.dev == Some(self.underlay) => {
                Some(hop.gateway.unwrap_or(endpoint))
            }
            _ => None,
        }
    }
}

impl Mirror for Copy {
    fn set(&self, entries: &[(IpNet, Remote)]) {
        let entries: Vec<_> = entries.iter().map(|(net, to)| (*net, self.entry(*to))).collect();
        self.check(self.tunnel.set_peers(entries.iter().map(|(net, to)| (*net, to))));
    }

    fn remove(&self, subnet: IpNet) {
        self.check(self.tunnel.remove_peer(subnet).map(drop));
    }
}
