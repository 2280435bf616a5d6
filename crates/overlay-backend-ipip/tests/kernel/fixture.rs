//! Two nodes with a container each, and the program on them.

use std::net::IpAddr;
use std::process::Command;

use ipnet::IpNet;
use overlay_backend::{
    BackendData, Network, Node, Owner, Peer, PeerError, Reconciler, Report, Underlay,
};
use overlay_backend_ipip::{IpIp, IpIpOptions};
use overlay_lab::{Host, PingRequest, Result, Snapshot, Switch, connect, ping};
use overlay_netlink::{IfName, Link, LinkFilter, LinkKind, Object, Protocol, Socket, Tunnel};
use overlay_wire::IpVersion;

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

/// Whether the kernel has the devices that the case needs; says so if not.
pub(crate) fn has_tunnels(case: &str) -> std::result::Result<bool, String> {
    let text = |error: overlay_lab::Error| error.to_string();
    let mut socket = Host::new("probe").and_then(|host| host.socket()).map_err(text)?;
    let tunnel = || Box::new(Tunnel::<IfName>::new());
    for kind in [LinkKind::Ipip(tunnel()), LinkKind::Sit(tunnel()), LinkKind::Ip6tnl(tunnel())] {
        if let Err(error) = socket.probe(&kind) {
            return overlay_lab::cannot_run(case, kind.name(), &error.to_string()).map(|()| false);
        }
    }
    Ok(true)
}

/// A node with a container: 10.244.N.0/24 and fd00:244:N::/64 live here.
pub(crate) struct Spot {
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

    /// The container's address.
    pub(crate) fn inside(&self, version: IpVersion) -> IpAddr {
        let number = self.number;
        match version {
            IpVersion::V4 => ip(&format!("10.244.{number}.2")),
            IpVersion::V6 => ip(&format!("fd00:244:{number}::2")),
        }
    }

    pub(crate) fn node(&self) -> Node {
        let number = self.number;
        let mut socket = self.host.socket().expect("a socket");
        Node {
            id: format!("vm{number}").as_str().into(),
            subnets: vec![
                net(&format!("10.244.{number}.0/24")),
                net(&format!("fd00:244:{number}::/64")),
            ],
            underlay: Underlay::observe(&mut socket, &name(ETH0)).expect("an underlay"),
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        let Node { id, subnets, underlay } = self.node();
        let endpoints = underlay.addresses.iter().map(IpNet::addr).collect();
        Peer { id, subnets, endpoints, data: BackendData::default() }
    }

    /// The program on this node, with one peer.
    pub(crate) fn program(&self, options: &IpIpOptions, peer: Peer) -> Program {
        let node = self.node();
        let backend = IpIp::new(&node, options).expect("a backend");
        let mut reconciler = Reconciler::new(Owner::default());
        let mut network =
            Network::new("overlay", node, backend, &mut reconciler).expect("a network");
        let refused = network.set_peers([peer], &mut reconciler);
        let socket = self.host.socket().expect("a socket");
        Program { reconciler, network, socket, refused }
    }

    /// Runs a command in the host, which must succeed.
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
fn foreign(snapshot: &Snapshot) -> Snapshot {
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
            Object::Link(link) => ours.contains(&link.name),
            Object::Address(o) => is_ours(o.protocol),
            Object::Nexthop(o) => is_ours(o.protocol),
            Object::Route(o) => is_ours(o.protocol),
            _ => false,
        };
        let hangs = object
            .try_map_dev(&mut |dev: IfName| if ours.contains(&dev) { Err(()) } else { Ok(dev) })
            .is_err();
        !marked && !hangs
    })
}

/// Runs a command in a host and gives its output.
pub(crate) fn run(host: &Host, line: &str) -> std::result::Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
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

/// Two nodes on one switch: 192.168.32.N and fd00:32::N.
pub(crate) struct Site {
    pub(crate) a: Spot,
    pub(crate) b: Spot,
    _switch: Switch,
}

pub(crate) fn site() -> Result<Site> {
    let switch = Switch::new("switch")?;
    let site = Site { a: Spot::new(1)?, b: Spot::new(2)?, _switch: switch };
    for spot in [&site.a, &site.b] {
        let number = spot.number;
        let addresses =
            [net(&format!("192.168.32.{number}/24")), net(&format!("fd00:32::{number}/64"))];
        site._switch.plug(&spot.host, ETH0, &addresses)?;
    }
    Ok(site)
}

/// Two nodes with a router between them: 192.168.(30+N).N and fd00:3N::N.
pub(crate) fn routed_site() -> Result<(Spot, Spot, Host)> {
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
    Ok((a?, b?, router))
}

/// A program on a node: desired state, and a socket to the node's kernel.
pub(crate) struct Program {
    pub(crate) reconciler: Reconciler,
    pub(crate) network: Network<IpIp>,
    pub(crate) socket: Socket,
    pub(crate) refused: Vec<PeerError>,
}

impl Program {
    pub(crate) fn reconcile(&mut self) -> Report {
        assert!(self.refused.is_empty(), "{:?}", self.refused);
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
}

/// Joins two nodes.
pub(crate) fn join(a: &Spot, b: &Spot, options: &IpIpOptions) -> [Program; 2] {
    [(a, b), (b, a)].map(|(here, there)| {
        let mut program = here.program(options, there.peer());
        program.converge();
        program
    })
}

/// Both nodes reach each other's containers, and each other's hosts do.
pub(crate) fn reach(a: &Spot, b: &Spot, versions: &[IpVersion]) {
    for (from, to) in [(a, b), (b, a)] {
        for version in versions {
            let address = to.inside(*version);
            for host in [&from.container, &from.host] {
                let report = ping(host, &PingRequest::to(address).count(2)).expect("a ping");
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
    ["ip -d link", "ip addr", "ip route", "ip -6 route", "ip nexthop"]
        .map(|line| format!("$ {line}\n{}", run(host, line).unwrap_or_else(|error| error)))
        .join("\n")
}

pub(crate) fn link(host: &Host, device: &str) -> Option<Link> {
    let links: Vec<Link> =
        host.socket().expect("a socket").list(&LinkFilter::default()).expect("links");
    links.into_iter().find(|link| link.name == name(device))
}
