//! Two nodes with a container each, and what the cases do to them.

use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_backend::{
    Backend, BackendData, Keeper, Network, Node, Owner, Peer, Reconciler, Report, Underlay,
};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_lab::{Host, PingRequest, Result, Snapshot, Switch, connect, ping};
use overlay_netlink::{IfName, Link, LinkFilter, Object, Protocol, Socket};
use overlay_wire::{IpVersion, Vni};

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn name(text: &str) -> IfName {
    IfName::new(text).expect("a name")
}

pub(crate) const ETH0: &str = "eth0";
pub(crate) const VTEP: &str = "vxlan.1";

/// A node with a container.
pub(crate) struct Spot {
    /// Its number: 10.244.N.0/24 and fd00:244:N::/64 live here.
    pub(crate) number: u8,
    pub(crate) host: Host,
    pub(crate) container: Host,
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

    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        subnets(self.number)
    }

    /// The container's addresses.
    pub(crate) fn inside(&self) -> [IpAddr; 2] {
        let number = self.number;
        [ip(&format!("10.244.{number}.2")), ip(&format!("fd00:244:{number}::2"))]
    }

    pub(crate) fn underlay(&self) -> Underlay {
        let mut socket = self.host.socket().expect("a socket");
        Underlay::observe(&mut socket, &name(ETH0)).expect("an underlay")
    }

    pub(crate) fn node(&self) -> Node {
        Node {
            id: format!("vm{}", self.number).as_str().into(),
            subnets: self.subnets(),
            underlay: self.underlay(),
        }
    }

    /// The program on this node: no peers yet.
    pub(crate) fn program(&self, options: &VxlanOptions) -> Program {
        self.program_of(self.node(), options)
    }

    pub(crate) fn program_of(&self, node: Node, options: &VxlanOptions) -> Program {
        Program::new(Reconciler::new(Owner::default()), node, options, &self.host)
    }

    /// What it publishes with these options.
    pub(crate) fn peer(&self, options: &VxlanOptions) -> Peer {
        let node = self.node();
        let data = Vxlan::new(&node, options).expect("a backend").data();
        Peer {
            id: node.id,
            subnets: node.subnets,
            endpoints: node.underlay.addresses.iter().map(IpNet::addr).collect(),
            data,
        }
    }

    /// Runs a command of iproute2 in the host.
    pub(crate) fn ip(&self, line: &str) {
        let output = run(&self.host, line);
        assert!(output.is_ok(), "{line}: {output:?}");
    }

    /// What is there and was not made by us.
    pub(crate) fn foreign(&self) -> Snapshot {
        foreign(&self.host.settled().expect("a snapshot"))
    }
}

/// The part of a snapshot that is not of the default owner, nor on a device that is.
pub(crate) fn foreign(snapshot: &Snapshot) -> Snapshot {
    let owner = Owner::default();
    let ours: Vec<IfName> = snapshot
        .objects()
        .iter()
        .filter_map(|object| match object {
            Object::Link(link) if link.alias.as_ref() == Some(&owner.alias()) => Some(link.name),
            _ => None,
        })
        .collect();
    let is_ours = |protocol: Protocol| protocol == owner.protocol();
    snapshot.only(|object| {
        let marked = match object {
            Object::Address(o) => is_ours(o.protocol),
            Object::Neighbour(o) => is_ours(o.protocol),
            Object::Nexthop(o) => is_ours(o.protocol),
            Object::Route(o) => is_ours(o.protocol),
            Object::Rule(o) => is_ours(o.protocol),
            _ => false,
        };
        let named = |dev: &IfName| ours.contains(dev);
        let hangs = match object {
            Object::Link(o) => named(&o.name),
            _ => object
                .try_map_dev(&mut |dev: IfName| if named(&dev) { Err(()) } else { Ok(dev) })
                .is_err(),
        };
        !marked && !hangs
    })
}

pub(crate) fn subnets(number: u8) -> Vec<IpNet> {
    vec![net(&format!("10.244.{number}.0/24")), net(&format!("fd00:244:{number}::/64"))]
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
    let missing = Host::new("probe").map_err(|error| error.to_string());
    match missing.and_then(|host| run(&host, "ip -Version")) {
        Ok(_) => Ok(true),
        Err(why) => overlay_lab::cannot_run(case, "iproute2", &why).map(|()| false),
    }
}

/// Two nodes on one switch: 192.168.32.N and fd00:32::N.
pub(crate) struct Site {
    pub(crate) a: Spot,
    pub(crate) b: Spot,
    switch: Switch,
}

pub(crate) fn site() -> Result<Site> {
    let switch = Switch::new("switch")?;
    let site = Site { a: Spot::new(1)?, b: Spot::new(2)?, switch };
    site.plug(&site.a)?;
    site.plug(&site.b)?;
    Ok(site)
}

impl Site {
    /// Gives a node its device.
    pub(crate) fn plug(&self, spot: &Spot) -> Result<()> {
        let number = spot.number;
        let addresses =
            [net(&format!("192.168.32.{number}/24")), net(&format!("fd00:32::{number}/64"))];
        self.switch.plug(&spot.host, ETH0, &addresses).map(drop)
    }
}

/// Two nodes with a router between them: 192.168.(30+N).N and fd00:3N::N.
pub(crate) struct RoutedSite {
    pub(crate) a: Spot,
    pub(crate) b: Spot,
    _router: Host,
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
    Ok(RoutedSite { a: a?, b: b?, _router: router })
}

/// As many peers as wanted, somewhere behind 192.168.32.0/24.
pub(crate) fn some_peers(count: u32) -> impl Iterator<Item = Peer> {
    (0..count).map(some_peer)
}

pub(crate) fn some_peer(number: u32) -> Peer {
    let [_, _, high, low] = number.to_be_bytes();
    let data = format!(r#"{{"VNI":1,"VtepMAC":"02:00:00:00:{high:02x}:{low:02x}"}}"#);
    Peer {
        id: format!("peer{number}").as_str().into(),
        subnets: vec![
            net(&format!("{}.{}.{low}.0/24", 20 + high / 100, high % 100)),
            net(&format!("fd01:{high:x}:{low:x}::/64")),
        ],
        endpoints: vec![ip(&format!("172.16.{high}.{low}"))],
        data: BackendData::of(IpVersion::V4, data.parse().expect("JSON")),
    }
}

pub(crate) fn over(underlay: IpVersion) -> VxlanOptions {
    let mut options = VxlanOptions::default();
    options.underlay = underlay;
    options.device = Some(name(VTEP));
    options
}

pub(crate) fn options() -> VxlanOptions {
    over(IpVersion::V4)
}

pub(crate) fn vni(number: u32) -> Vni {
    Vni::new(number).expect("a VNI")
}

/// A program on a node: desired state, and a socket to the node's kernel.
pub(crate) struct Program {
    pub(crate) reconciler: Reconciler,
    pub(crate) network: Network<Vxlan>,
    pub(crate) socket: Socket,
    host: Host,
}

impl Program {
    pub(crate) fn new(
        mut reconciler: Reconciler,
        node: Node,
        options: &VxlanOptions,
        host: &Host,
    ) -> Self {
        let backend = Vxlan::new(&node, options).expect("a backend");
        let network = Network::new("overlay", node, backend, &mut reconciler).expect("a network");
        let socket = host.socket().expect("a socket");
        Self { reconciler, network, socket, host: host.clone() }
    }

    pub(crate) fn set_peers(&mut self, peers: impl IntoIterator<Item = Peer>) {
        let refused = self.network.set_peers(peers, &mut self.reconciler);
        assert!(refused.is_empty(), "{refused:?}");
    }

    pub(crate) fn with_peers(mut self, peers: impl IntoIterator<Item = Peer>) -> Self {
        self.set_peers(peers);
        self
    }

    pub(crate) fn reconcile(&mut self) -> Report {
        self.reconciler.reconcile(&mut self.socket).expect("a pass")
    }

    pub(crate) fn push(&mut self) -> Report {
        self.reconciler.push(&mut self.socket).expect("a pass")
    }

    /// Reconciles, which must leave nothing to do; and a second time, which must do nothing.
    pub(crate) fn converge(&mut self) -> Report {
        let report = self.reconcile();
        assert!(report.is_converged(), "{report:?}");
        let again = self.reconcile();
        assert_eq!((again.writes(), again.sends), (0, 0), "{again:?}");
        report
    }

    pub(crate) fn keep(self) -> Kept {
        Kept::start(self)
    }
}

/// A program that keeps its node right on a thread of its own.
pub(crate) struct Kept {
    thread: JoinHandle<Program>,
    stop: Sender<()>,
    reports: Receiver<Report>,
}

impl Kept {
    fn start(mut program: Program) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        let mut keeper = Keeper::open_in(program.host.namespace()).expect("a keeper");
        let thread = thread::spawn(move || {
            while stopped.try_recv().is_err() {
                let step = keeper.step(&mut program.reconciler, Duration::from_millis(20));
                if let Some(done) = step.expect("a pass") {
                    let _ = report.send(done);
                }
            }
            program
        });
        Self { thread, stop, reports }
    }

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

/// Waits until `ready`, at most a second, and says how long that took.
pub(crate) fn within_a_second(mut ready: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        if ready() {
            return Some(start.elapsed());
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Both nodes reach each other's containers, and each other's hosts do.
pub(crate) fn reach(a: &Spot, b: &Spot, versions: &[IpVersion]) {
    for (from, to) in [(a, b), (b, a)] {
        for address in to.inside() {
            if !versions.contains(&IpVersion::of(address)) {
                continue;
            }
            for host in [&from.container, &from.host] {
                let report = ping(host, &PingRequest::to(address).count(3)).expect("a ping");
                assert!(
                    report.perfect(),
                    "{} of vm{} to {address}: {report:?}\n{}",
                    host.name(),
                    from.number,
                    text(&from.host)
                );
            }
        }
    }
}

/// The host's state in iproute2's words, for failures.
pub(crate) fn text(host: &Host) -> String {
    ["ip -d link", "ip addr", "ip route", "ip -6 route", "ip nexthop", "ip neigh", "bridge fdb"]
        .map(|line| format!("$ {line}\n{}", run(host, line).unwrap_or_else(|error| error)))
        .join("\n")
}

pub(crate) fn link(host: &Host, device: &str) -> Option<Link> {
    let links: Vec<Link> =
        host.socket().expect("a socket").list(&LinkFilter::default()).expect("links");
    links.into_iter().find(|link| link.name == name(device))
}
