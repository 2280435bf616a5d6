//! Two nodes with a container each, and what the cases do to them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_backend::{
    BackendData, Keeper, Network, Node, Owner, Peer, Reconciler, Report, Underlay,
};
use overlay_backend_udp::{Counters, Forwarder, ForwarderOptions, Udp, UdpOptions};
use overlay_lab::vm;
use overlay_lab::{Host, PingRequest, Result, Switch, connect, ping};
use overlay_netlink::{IfName, Link, Socket};
use overlay_wire::IpVersion;

pub(crate) const ETH0: &str = "eth0";
pub(crate) const TUN: &str = "tun0";
pub(crate) const PORT: u16 = 8285;

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn name(text: &str) -> IfName {
    IfName::new(text).expect("a name")
}

/// A node with a container.
pub(crate) struct Spot {
    /// Its number: 10.244.N.0/24 and fd00:244:N::/64 live here.
    pub(crate) number: u8,
    pub(crate) host: Host,
    pub(crate) container: Host,
}

pub(crate) fn subnets(number: u8) -> Vec<IpNet> {
    vec![net(&format!("10.244.{number}.0/24")), net(&format!("fd00:244:{number}::/64"))]
}

impl Spot {
    /// A node that is not plugged in yet.
    fn new(number: u8) -> Result<Self> {
        let host = Host::new(&format!("vm{number}"))?;
        host.forwarding(true)?;
        let on = |end: &str| {
            [
                net(&format!("10.244.{number}.{end}/24")),
                net(&format!("fd00:244:{number}::{end}/64")),
            ]
        };
        host.bridge("br0", &on("1"))?;
        let gateways = on("1").map(|net| net.addr());
        let container = host.container("container", "br0", "veth0", &on("2"), &gateways)?;
        Ok(Self { number, host, container })
    }

    /// The container's addresses.
    pub(crate) fn inside(&self) -> [IpAddr; 2] {
        let number = self.number;
        [ip(&format!("10.244.{number}.2")), ip(&format!("fd00:244:{number}::2"))]
    }

    /// The container's address of this version.
    pub(crate) fn container_address(&self, version: IpVersion) -> IpAddr {
        let [v4, v6] = self.inside();
        if version == IpVersion::V4 { v4 } else { v6 }
    }

    pub(crate) fn node(&self) -> Node {
        let mut socket = self.host.socket().expect("a socket");
        Node {
            id: format!("vm{}", self.number).as_str().into(),
            subnets: subnets(self.number),
            underlay: Underlay::observe(&mut socket, &name(ETH0)).expect("an underlay"),
        }
    }

    /// This node's address in the underlay.
    pub(crate) fn outside(&self, version: IpVersion) -> IpAddr {
        self.node().underlay.address(version).expect("an address")
    }

    /// What it publishes: nothing, as Flannel's nodes.
    pub(crate) fn peer(&self) -> Peer {
        let node = self.node();
        Peer {
            id: node.id,
            subnets: node.subnets,
            endpoints: node.underlay.addresses.iter().map(IpNet::addr).collect(),
            data: BackendData::default(),
        }
    }

    /// The program on this node, carrying packets; no peers yet.
    pub(crate) fn program(&self, options: &UdpOptions) -> Program {
        self.program_with(options, &self.forwarder_options())
    }

    pub(crate) fn program_with(&self, options: &UdpOptions, how: &ForwarderOptions) -> Program {
        let mut program = self.program_at_rest(options);
        program.start(how);
        program
    }

    /// The program on this node, carrying nothing yet.
    pub(crate) fn program_at_rest(&self, options: &UdpOptions) -> Program {
        let mut reconciler = Reconciler::new(Owner::default());
        let backend = Udp::new(&self.node(), options).expect("a backend");
        let network =
            Network::new("overlay", self.node(), backend, &mut reconciler).expect("a network");
        let socket = self.host.socket().expect("a socket");
        Program { reconciler, network, socket, forwarder: None, host: self.host.clone() }
    }

    pub(crate) fn forwarder_options(&self) -> ForwarderOptions {
        ForwarderOptions::default().namespace(self.host.namespace().clone())
    }

    pub(crate) fn link(&self, device: &str) -> Option<Link> {
        self.host.socket().expect("a socket").link(&name(device)).ok()
    }
}

/// Two nodes on one switch: 192.168.32.N and fd00:32::N.
pub(crate) struct Site {
    pub(crate) a: Spot,
    pub(crate) b: Spot,
    pub(crate) switch: Switch,
}

pub(crate) fn site() -> Result<Site> {
    let switch = Switch::new("switch")?;
    let site = Site { a: Spot::new(1)?, b: Spot::new(2)?, switch };
    for spot in [&site.a, &site.b] {
        plug(&site.switch, &spot.host, spot.number)?;
    }
    Ok(site)
}

pub(crate) fn plug(switch: &Switch, host: &Host, number: u8) -> Result<()> {
    let addresses =
        [net(&format!("192.168.32.{number}/24")), net(&format!("fd00:32::{number}/64"))];
    switch.plug(host, ETH0, &addresses).map(drop)
}

/// Two nodes with a router between them: 192.168.3N.N and fd00:3N::N.
pub(crate) struct RoutedSite {
    pub(crate) a: Spot,
    pub(crate) b: Spot,
    pub(crate) router: Host,
}

pub(crate) fn routed_site() -> Result<RoutedSite> {
    let router = Host::new("router")?;
    router.forwarding(true)?;
    let [a, b] = [1_u8, 2].map(|number| -> Result<Spot> {
        let spot = Spot::new(number)?;
        let port = format!("p{number}");
        connect(&spot.host, ETH0, &router, &port)?;
        let on = |end: &str| {
            [net(&format!("192.168.3{number}.{end}/24")), net(&format!("fd00:3{number}::{end}/64"))]
        };
        spot.host.addresses(ETH0, &on(&number.to_string()))?;
        router.addresses(&port, &on("99"))?;
        spot.host.default_routes(&on("99").map(|net| net.addr()))?;
        Ok(spot)
    });
    Ok(RoutedSite { a: a?, b: b?, router })
}

pub(crate) fn over(underlay: IpVersion) -> UdpOptions {
    UdpOptions::default().underlay(underlay).device(name(TUN))
}

pub(crate) fn options() -> UdpOptions {
    over(IpVersion::V4)
}

/// A program on a node.
pub(crate) struct Program {
    pub(crate) reconciler: Reconciler,
    pub(crate) network: Network<Udp>,
    pub(crate) socket: Socket,
    pub(crate) forwarder: Option<Forwarder>,
    host: Host,
}

impl Program {
    pub(crate) fn start(&mut self, how: &ForwarderOptions) {
        let forwarder = Forwarder::start(self.network.backend(), how);
        self.forwarder = Some(forwarder.expect("a forwarder"));
    }

    pub(crate) fn forwarder(&self) -> &Forwarder {
        self.forwarder.as_ref().expect("it has been started")
    }

    pub(crate) fn counters(&self) -> Counters {
        self.forwarder().counters()
    }

    pub(crate) fn set_peers(&mut self, peers: impl IntoIterator<Item = Peer>) {
        let refused = self.network.set_peers(peers, &mut self.reconciler);
        assert!(refused.is_empty(), "{refused:?}");
    }

    pub(crate) fn reconcile(&mut self) -> Report {
        self.reconciler.reconcile(&mut self.socket).expect("a pass")
    }

    /// Reconciles, which must leave nothing to do; and a second time, which must do nothing.
    pub(crate) fn converge(&mut self) {
        let report = self.reconcile();
        assert!(report.is_converged(), "{report:?}");
        let again = self.reconcile();
        assert_eq!((again.writes(), again.sends), (0, 0), "{again:?}");
    }

    /// Reaches these peers, and no others.
    pub(crate) fn with_peers(mut self, peers: impl IntoIterator<Item = Peer>) -> Self {
        self.set_peers(peers);
        self.converge();
        // An adopted device has its carrier again a moment after it has a reader.
        self.host.wait_running(TUN).expect("the device runs");
        self
    }

    pub(crate) fn keep(self) -> Kept {
        Kept::start(self)
    }
}

/// A program that keeps its node right on a thread of its own.
pub(crate) struct Kept {
    pub(crate) program: Arc<Mutex<Program>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Kept {
    fn start(program: Program) -> Self {
        let mut keeper = Keeper::open_in(program.host.namespace()).expect("a keeper");
        let (program, stop) = (Arc::new(Mutex::new(program)), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&program), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut program = shared.lock().unwrap_or_else(PoisonError::into_inner);
                keeper.step(&mut program.reconciler, Duration::from_millis(20)).expect("a pass");
            }
        });
        Self { program, stop, thread: Some(thread) }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.program.lock().unwrap_or_else(PoisonError::into_inner).counters()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Both nodes of a site, each the other's peer.
pub(crate) fn joined(a: &Spot, b: &Spot, options: &UdpOptions) -> (Program, Program) {
    (a.program(options).with_peers([b.peer()]), b.program(options).with_peers([a.peer()]))
}

/// Waits until `ready`, at most so long, and says how long that took.
pub(crate) fn within(limit: Duration, mut ready: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if ready() {
            return Some(start.elapsed());
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// What is a tenth of it on an emulated processor: a rate, an amount within a time.
pub(crate) fn paced(amount: u32) -> u32 {
    if vm::is_inside() { amount / 10 } else { amount }
}

/// The containers of both nodes reach each other, and each other's hosts do.
pub(crate) fn reach(a: &Spot, b: &Spot, versions: &[IpVersion]) {
    for (from, to) in [(a, b), (b, a)] {
        for version in versions {
            let address = to.container_address(*version);
            for host in [&from.container, &from.host] {
                let report = ping(host, &PingRequest::to(address).count(3)).expect("a ping");
                assert!(report.perfect(), "{} to {address}: {report:?}", host.name());
            }
        }
    }
}

/// A UDP socket in a host.
pub(crate) fn udp(host: &Host, address: IpAddr, port: u16) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind(SocketAddr::new(address, port))).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    socket
}
