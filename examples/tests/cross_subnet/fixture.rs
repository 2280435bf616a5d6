//! Three nodes in two networks on one wire, with a router that has a foot in both, and a program on each node
//! that keeps it right.
//!
//! Because the wire is one, a route is all that makes a neighbour of a node in the other network, or
//! takes that away again.

use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_backend::{
    Backend, CrossSubnet, Keeper, Network, Node, Owner, Peer, Reconciler, TunnelMode, Underlay,
};
use overlay_backend_host_gw::HostGw;
use overlay_backend_udp::{DropReason, FastPath, Forwarder, ForwarderOptions, Udp, UdpOptions};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_lab::{Host, PingReport, PingRequest, Result, Switch, ping};
use overlay_netlink::{IfName, RouteQuery, Via};

pub(crate) const ETH0: &str = "eth0";

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn name(text: &str) -> IfName {
    IfName::new(text).expect("a name")
}

/// What crosses the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tunnel {
    Vxlan,
    Udp,
}

impl Tunnel {
    pub(crate) const ALL: [Self; 2] = [Self::Vxlan, Self::Udp];

    /// Its device.
    pub(crate) const fn device(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan.1",
            Self::Udp => "udp.8285",
        }
    }

    /// What it leaves of 1500 bytes.
    pub(crate) const fn mtu(self) -> u32 {
        match self {
            Self::Vxlan => 1450,
            Self::Udp => 1472,
        }
    }
}

/// A node with a container: 10.244.N.0/24 and fd00:244:N::/64 live here.
pub(crate) struct Spot {
    pub(crate) number: u8,
    pub(crate) host: Host,
    pub(crate) container: Host,
    /// The third octet of its network: 192.168.S.0/24, fd00:S::/64.
    pub(crate) segment: u8,
}

impl Spot {
    fn new(number: u8, segment: u8, switch: &Switch) -> Result<Self> {
        let host = Host::new(&format!("vm{number}"))?;
        host.forwarding(true)?;
        // The strictest filter that lets a packet come another way than the answer goes.
        host.sysctl("net.ipv4.conf.all.rp_filter", 2)?;
        let on = |end: &str| {
            [
                net(&format!("10.244.{number}.{end}/24")),
                net(&format!("fd00:244:{number}::{end}/64")),
            ]
        };
        host.bridge("br0", &on("1"))?;
        let gateways = on("1").map(|net| net.addr());
        let container = host.container("container", "br0", "veth0", &on("2"), &gateways)?;
        let this = Self { number, host, container, segment };
        switch.plug(&this.host, ETH0, &this.outside())?;
        this.host.default_routes(&routers(segment).map(|net| net.addr()))?;
        Ok(this)
    }

    /// The node's addresses in the underlay.
    pub(crate) fn outside(&self) -> [IpNet; 2] {
        outside(self.segment, self.number)
    }

    /// The container's addresses.
    pub(crate) fn inside(&self) -> [IpAddr; 2] {
        let number = self.number;
        [ip(&format!("10.244.{number}.2")), ip(&format!("fd00:244:{number}::2"))]
    }

    fn node(&self) -> Node {
        let number = self.number;
        let mut socket = self.host.socket().expect("a socket");
        let subnets = ["10.244.N.0/24", "fd00:244:N::/64"];
        Node {
            id: format!("vm{number}").into(),
            subnets: subnets.map(|text| net(&text.replace('N', &number.to_string()))).to_vec(),
            underlay: Underlay::observe(&mut socket, &name(ETH0)).expect("an underlay"),
        }
    }

    /// Through which device packets of each family go to the other node's container.
    pub(crate) fn ways(&self, to: &Self) -> [String; 2] {
        let mut socket = self.host.socket().expect("a socket");
        to.inside().map(|address| {
            let route = socket.route(&RouteQuery::to(address)).expect("a route");
            let Via::Hop(hop) = route.via else { panic!("{route:?}") };
            let link = socket.link_by_index(hop.dev.expect("a device")).expect("a link");
            link.name.to_string()
        })
    }

    /// Waits until packets go there, of both families, through these devices.
    pub(crate) fn wait_for(&self, to: &Self, ways: [&str; 2]) {
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.ways(to) != ways {
            let (from, to, now) = (self.number, to.number, self.ways(to));
            assert!(Instant::now() < deadline, "vm{from} to vm{to}: {now:?}, not {ways:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a command of iproute2 in the host.
    pub(crate) fn ip(&self, line: &str) {
        let output = run(&self.host, line);
        assert!(output.is_ok(), "{line}: {output:?}");
    }

    /// Makes neighbours of the nodes in a network, or takes that away again.
    pub(crate) fn neighbours(&self, verb: &str, segment: u8) {
        self.ip(&format!("ip route {verb} 192.168.{segment}.0/24 dev {ETH0}"));
        self.ip(&format!("ip -6 route {verb} fd00:{segment}::/64 dev {ETH0}"));
    }
}

fn outside(segment: u8, number: u8) -> [IpNet; 2] {
    [net(&format!("192.168.{segment}.{number}/24")), net(&format!("fd00:{segment}::{number}/64"))]
}

/// The router's addresses in a network.
pub(crate) fn routers(segment: u8) -> [IpNet; 2] {
    outside(segment, 99)
}

fn run(host: &Host, line: &str) -> std::result::Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    // Ordinary users of Debian do not have it.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = host
        .run(|| Command::new(words[0]).args(&words[1..]).env("PATH", path).output())
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Whether iproute2 is there; says so if not.
pub(crate) fn has_iproute2(case: &str) -> std::result::Result<bool, String> {
    let host = Host::new("probe").map_err(|error| error.to_string());
    match host.and_then(|host| run(&host, "ip -Version")) {
        Ok(()) => Ok(true),
        Err(why) => overlay_lab::cannot_run(case, "iproute2", &why).map(|()| false),
    }
}

/// vm1 and vm2 in one network, vm3 in the other.
pub(crate) struct Site {
    pub(crate) a: Spot,
    pub(crate) b: Spot,
    pub(crate) c: Spot,
    _router: Host,
    _switch: Switch,
}

pub(crate) const HERE: u8 = 32;
pub(crate) const THERE: u8 = 33;

impl Site {
    pub(crate) fn new() -> Result<Self> {
        let switch = Switch::new("switch")?;
        let router = Host::new("router")?;
        router.forwarding(true)?;
        // It would tell the nodes that they see each other.
        router.sysctl("net.ipv4.conf.all.send_redirects", 0)?;
        router.sysctl("net.ipv4.conf.default.send_redirects", 0)?;
        let addresses = [HERE, THERE].map(routers).concat();
        switch.plug(&router, ETH0, &addresses)?;
        Ok(Self {
            a: Spot::new(1, HERE, &switch)?,
            b: Spot::new(2, HERE, &switch)?,
            c: Spot::new(3, THERE, &switch)?,
            _router: router,
            _switch: switch,
        })
    }

    pub(crate) fn spots(&self) -> [&Spot; 3] {
        [&self.a, &self.b, &self.c]
    }

    /// The programs on all nodes, each with the others as peers, when all is as it should be.
    pub(crate) fn start(&self, mode: TunnelMode, tunnel: Tunnel) -> Vec<Kept> {
        self.start_with(mode, tunnel, || Reconciler::new(Owner::default()))
    }

    pub(crate) fn start_with(
        &self,
        mode: TunnelMode,
        tunnel: Tunnel,
        reconciler: impl Fn() -> Reconciler,
    ) -> Vec<Kept> {
        let program = |spot| Program::new(spot, mode, tunnel, reconciler());
        let mut programs = self.spots().map(program);
        let peers: Vec<Peer> = programs.iter().map(Program::announce).collect();
        for program in &mut programs {
            let refused = program.network.set_peers(peers.clone(), &mut program.reconciler);
            assert!(refused.is_empty(), "{refused:?}");
        }
        let kept: Vec<Kept> = programs.into_iter().map(Kept::start).collect();
        kept.iter().for_each(Kept::wait_for_pass);
        kept
    }
}

/// A program on a node.
pub(crate) struct Program {
    pub(crate) reconciler: Reconciler,
    pub(crate) network: Network<CrossSubnet<HostGw, Box<dyn Backend>>>,
    pub(crate) keeper: Keeper,
    forwarder: Option<Forwarder>,
    /// Underlays that could not be seen.
    pub(crate) unseen: usize,
    passes: usize,
}

impl Program {
    /// The program that is to run on a node: no peers yet.
    pub(crate) fn new(
        spot: &Spot,
        mode: TunnelMode,
        tunnel: Tunnel,
        mut reconciler: Reconciler,
    ) -> Self {
        let node = spot.node();
        let mut forwarder = None;
        let tunnel: Box<dyn Backend> = match tunnel {
            Tunnel::Vxlan => {
                Box::new(Vxlan::new(&node, &VxlanOptions::default()).expect("a backend"))
            }
            Tunnel::Udp => {
                let udp = Udp::new(&node, &UdpOptions::default()).expect("a backend");
                let options = ForwarderOptions::default()
                    .namespace(spot.host.namespace().clone())
                    .fast_path(FastPath::Off);
                if mode != TunnelMode::Never {
                    forwarder = Some(Forwarder::start(&udp, &options).expect("a forwarder"));
                }
                Box::new(udp)
            }
        };
        let backend = CrossSubnet::new(mode, HostGw::new(&node), tunnel);
        let network = Network::new("overlay", node, backend, &mut reconciler).expect("a network");
        let keeper = Keeper::open_in(spot.host.namespace()).expect("a keeper");
        Self { reconciler, network, keeper, forwarder, unseen: 0, passes: 0 }
    }

    /// What it publishes.
    fn announce(&self) -> Peer {
        let Node { id, subnets, underlay } = self.network.node().clone();
        let endpoints = underlay.addresses.iter().map(IpNet::addr).collect();
        Peer { id, subnets, endpoints, data: self.network.backend().data() }
    }

    fn step(&mut self) {
        let networks = std::slice::from_mut(&mut self.network);
        let patience = Duration::from_millis(10);
        let step = self.keeper.step_following(networks, &mut self.reconciler, patience);
        if let Some(report) = step.expect("a pass") {
            self.unseen += report.unseen.len();
            self.passes += usize::from(report.is_converged());
        }
    }

    /// Packets that the forwarder took for those of somebody else than the peer that sent them.
    fn spoofed(&self) -> u64 {
        let counters = self.forwarder.as_ref().map(Forwarder::counters);
        let drops = counters.iter().flat_map(|counters| counters.drops.iter());
        drops.filter(|(reason, _)| *reason == DropReason::Spoofed).map(|(_, count)| count).sum()
    }

    /// Leaves nothing behind.
    fn clear(self) {
        let Self { mut reconciler, network, mut keeper, forwarder, .. } = self;
        network.clear(&mut reconciler);
        let report = reconciler.reconcile(keeper.socket()).expect("a pass");
        assert!(report.is_converged(), "{report:?}");
        forwarder.map_or(Ok(()), Forwarder::remove).expect("the device goes");
    }
}

/// A program that goes on on a thread of its own.
pub(crate) struct Kept {
    program: Arc<Mutex<Program>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Kept {
    fn start(program: Program) -> Self {
        let (program, stop) = (Arc::new(Mutex::new(program)), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&program), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).step();
                // So that somebody else can have a look.
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { program, stop, thread }
    }

    pub(crate) fn program(&self) -> MutexGuard<'_, Program> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spoofed(&self) -> u64 {
        self.program().spoofed()
    }

    fn wait_for_pass(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.program().passes == 0 {
            assert!(Instant::now() < deadline, "no pass that left nothing to do");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the program. What it did stays.
    pub(crate) fn stop(self) -> Program {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
        let program = Arc::into_inner(self.program).expect("nobody else has it");
        program.into_inner().expect("no panic")
    }

    /// Ends the program and removes all that it did.
    pub(crate) fn clear(self) {
        self.stop().clear();
    }
}

/// All containers reach each other, of both families.
pub(crate) fn reach(spots: &[&Spot]) {
    for from in spots {
        for to in spots.iter().filter(|to| to.number != from.number) {
            for address in to.inside() {
                let report = ping(&from.container, &PingRequest::to(address).count(3));
                let report = report.expect("a ping");
                assert!(report.perfect(), "vm{} to {address}: {report:?}", from.number);
            }
        }
    }
}

/// Does `work` while the containers of two nodes ping each other a hundred times a second, of both families. No
/// answer may be missing. Returns how many came.
pub(crate) fn without_loss(one: &Spot, other: &Spot, work: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    let stream = |from: &Spot, address| {
        let request = PingRequest::to(address).count(20).interval(Duration::from_millis(10));
        let mut reports = Vec::new();
        loop {
            let last = done.load(Ordering::Relaxed);
            reports.push(ping(&from.container, &request).expect("a ping"));
            if last {
                return reports;
            }
        }
    };
    thread::scope(|scope| {
        let streams: Vec<_> = [(one, other), (other, one)]
            .into_iter()
            .flat_map(|(from, to)| to.inside().map(|address| (from, address)))
            .map(|(from, address)| scope.spawn(move || (address, stream(from, address))))
            .collect();
        thread::sleep(Duration::from_millis(300));
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        thread::sleep(Duration::from_millis(300));
        done.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for stream in streams {
            let (address, reports) = stream.join().expect("no panic");
            assert!(
                worked.is_err() || reports.iter().all(PingReport::perfect),
                "{address}: {reports:?}"
            );
            answered += reports.iter().map(|report| report.received as usize).sum::<usize>();
        }
        if let Err(panic) = worked {
            std::panic::resume_unwind(panic);
        }
        answered
    })
}
