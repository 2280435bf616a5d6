//! Nodes with a container each, and the program on them.

use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_backend::{
    BackendData, Keeper, Network, Node, Owner, Peer, PeerError, Reconciler, Report, Underlay,
};
use overlay_backend_host_gw::HostGw;
use overlay_lab::{Host, PingRequest, Result, Switch, connect, ping};
use overlay_netlink::{IfName, Socket};
use overlay_wire::IpVersion;

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A node with a container: 10.244.N.0/24 and fd00:244:N::/64 live here.
pub(crate) struct Spot {
    pub(crate) number: u8,
    pub(crate) host: Host,
    pub(crate) container: Host,
}

impl Spot {
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

    pub(crate) fn node(&self) -> Node {
        let number = self.number;
        let mut socket = self.host.socket().expect("a socket");
        let eth0 = IfName::new("eth0").expect("a name");
        Node {
            id: format!("vm{number}").as_str().into(),
            subnets: vec![
                net(&format!("10.244.{number}.0/24")),
                net(&format!("fd00:244:{number}::/64")),
            ],
            underlay: Underlay::observe(&mut socket, &eth0).expect("an underlay"),
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        let node = self.node();
        Peer {
            id: node.id,
            subnets: node.subnets,
            endpoints: node.underlay.addresses.iter().map(IpNet::addr).collect(),
            data: BackendData::default(),
        }
    }

    pub(crate) fn program(&self) -> Program {
        self.program_of(Reconciler::new(Owner::default()))
    }

    pub(crate) fn program_of(&self, mut reconciler: Reconciler) -> Program {
        let node = self.node();
        let backend = HostGw::new(&node);
        let network = Network::new("overlay", node, backend, &mut reconciler).expect("a network");
        let socket = self.host.socket().expect("a socket");
        Program { reconciler, network, socket, host: self.host.clone() }
    }

    /// Runs a command of iproute2 in the host.
    pub(crate) fn ip(&self, line: &str) {
        let output = run(&self.host, line);
        assert!(output.is_ok(), "{line}: {output:?}");
    }
}

/// Runs a command in a host and gives its output.
pub(crate) fn run(host: &Host, line: &str) -> std::result::Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    // Ordinary users of Debian do not have it.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = host
        .run(|| Command::new(words[0]).args(&words[1..]).env("PATH", path).output())
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Whether iproute2 is there; says so if not.
pub(crate) fn has_iproute2(case: &str) -> std::result::Result<bool, String> {
    let host = Host::new("probe").map_err(|error| error.to_string());
    match host.and_then(|host| run(&host, "ip -Version")) {
        Ok(_) => Ok(true),
        Err(why) => overlay_lab::cannot_run(case, "iproute2", &why).map(|()| false),
    }
}

/// Nodes on one switch: 192.168.32.N and fd00:32::N.
pub(crate) struct Site {
    pub(crate) a: Spot,
    pub(crate) b: Spot,
    switch: Switch,
}

pub(crate) fn site() -> Result<Site> {
    let site = Site { a: Spot::new(1)?, b: Spot::new(2)?, switch: Switch::new("switch")? };
    for spot in [&site.a, &site.b] {
        let number = spot.number;
        let addresses =
            [net(&format!("192.168.32.{number}/24")), net(&format!("fd00:32::{number}/64"))];
        site.switch.plug(&spot.host, "eth0", &addresses)?;
    }
    Ok(site)
}

/// Two nodes with a router between them, which knows where their subnets are not.
pub(crate) fn routed_site() -> Result<(Spot, Host, Spot)> {
    let router = Host::new("router")?;
    router.forwarding(true)?;
    let [a, b] = [1_u8, 2].map(|number| -> Result<Spot> {
        let spot = Spot::new(number)?;
        let port = format!("p{number}");
        connect(&spot.host, "eth0", &router, &port)?;
        let on = |end: &str| {
            [net(&format!("192.168.3{number}.{end}/24")), net(&format!("fd00:3{number}::{end}/64"))]
        };
        spot.host.addresses("eth0", &on(&number.to_string()))?;
        router.addresses(&port, &on("99"))?;
        spot.host.default_routes(&on("99").map(|net| net.addr()))?;
        Ok(spot)
    });
    Ok((a?, router, b?))
}

/// A program on a node: desired state, and a socket to the node's kernel.
pub(crate) struct Program {
    pub(crate) reconciler: Reconciler,
    pub(crate) network: Network<HostGw>,
    pub(crate) socket: Socket,
    host: Host,
}

impl Program {
    pub(crate) fn set_peers(&mut self, peers: impl IntoIterator<Item = Peer>) -> Vec<PeerError> {
        self.network.set_peers(peers, &mut self.reconciler)
    }

    pub(crate) fn with_peers(mut self, peers: impl IntoIterator<Item = Peer>) -> Self {
        let refused = self.set_peers(peers);
        assert!(refused.is_empty(), "{refused:?}");
        self
    }

    pub(crate) fn reconcile(&mut self) -> Report {
        self.reconciler.reconcile(&mut self.socket).expect("a pass")
    }

    /// Reconciles, which must leave nothing to do; and a second time, which must do nothing.
    pub(crate) fn converge(&mut self) -> Report {
        let report = self.reconcile();
        assert!(report.is_converged(), "{report:?}");
        let again = self.reconcile();
        assert_eq!((again.writes(), again.sends), (0, 0), "{again:?}");
        report
    }

    /// Goes on on a thread of its own.
    pub(crate) fn keep(mut self) -> Kept {
        let (stop, stopped) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        let mut keeper = Keeper::open_in(self.host.namespace()).expect("a keeper");
        let thread = thread::spawn(move || {
            while stopped.try_recv().is_err() {
                let step = keeper.step(&mut self.reconciler, Duration::from_millis(20));
                if let Some(done) = step.expect("a pass") {
                    let _ = report.send(done);
                }
            }
            self
        });
        Kept { thread, stop, reports }
    }
}

/// A program that keeps its node right.
pub(crate) struct Kept {
    thread: JoinHandle<Program>,
    stop: Sender<()>,
    reports: Receiver<Report>,
}

impl Kept {
    /// The next pass that `wanted` holds for, if it comes within a second; the others otherwise.
    pub(crate) fn next(
        &self,
        wanted: impl Fn(&Report) -> bool,
    ) -> std::result::Result<Report, Vec<Report>> {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut others = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.reports.recv_timeout(left) {
                Ok(report) if wanted(&report) => return Ok(report),
                Ok(report) => others.push(report),
                Err(_) => return Err(others),
            }
        }
    }

    pub(crate) fn stop(self) -> Program {
        self.stop.send(()).expect("the thread listens");
        self.thread.join().expect("no panic")
    }
}

/// Waits until `ready`, at most a second, and says whether it came to that.
pub(crate) fn within_a_second(mut ready: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        if ready() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Both containers and both hosts reach the other side's container.
pub(crate) fn reach(a: &Spot, b: &Spot, versions: &[IpVersion]) {
    for (from, to) in [(a, b), (b, a)] {
        let inside = to.inside().into_iter();
        for address in inside.filter(|address| versions.contains(&IpVersion::of(*address))) {
            for host in [&from.container, &from.host] {
                let report = ping(host, &PingRequest::to(address).count(3)).expect("a ping");
                let whence = format!("{} of vm{} to {address}", host.name(), from.number);
                assert!(report.perfect(), "{whence}: {report:?}");
            }
        }
    }
}
