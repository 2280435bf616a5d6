//! Peers that change over between a direct backend and a tunnel, on the in-memory kernel. After each
//! single request somebody looks whether every peer is still reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Mutex;

use ipnet::IpNet;
use overlay_backend::{
    Backend, BackendData, CrossSubnet, DataPath, Executed, Fault, Kernel, MemoryKernel, Network,
    Node, NodeId, Owner, Peer, PeerError, Reconciler, Report, Snapshot, TunnelMode, Underlay,
    UnderlayError,
};
use overlay_netlink::{
    Address, Error, Fdb, Hop, IfName, Ifindex, Link, LinkKind, Neighbour, Nexthop, NexthopTarget,
    Object, Protocol, Request, Route, Rule, Verb, VethPeer, Via, Vxlan,
};
use overlay_wire::{IpVersion, MacAddr, Vni};

fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const UNDERLAY: &str = "eth0";
const TUNNEL: &str = "vx";

fn underlay(on_link: &[&str]) -> Underlay {
    Underlay {
        dev: name(UNDERLAY),
        mtu: 1500,
        addresses: vec![net("192.168.32.1/24"), net("fd00:32::1/64")],
        on_link: on_link.iter().map(|text| net(text)).collect(),
        routed: BTreeSet::new(),
    }
}

/// A route by way of the peer, if it is on the link.
#[derive(Debug)]
struct Direct(Underlay);

impl Backend for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn node_objects(&self) -> Vec<Object<IfName>> {
        Vec::new()
    }

    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        let (dev, backend) = (self.0.dev, self.name());
        let mut objects = Vec::new();
        for subnet in &peer.subnets {
            let version = IpVersion::of(subnet.addr());
            let no_endpoint = PeerError::NoEndpoint { peer: peer.id.clone(), version, backend };
            let address = peer.endpoint(version).ok_or(no_endpoint)?;
            if !self.0.is_on_link(address) {
                return Err(PeerError::NotOnLink { peer: peer.id.clone(), address, dev, backend });
            }
            objects.push(Route::to(*subnet).hop(Hop::onlink(address, dev)).into());
        }
        Ok(objects)
    }

    fn data(&self) -> BackendData {
        BackendData::of(IpVersion::V6, "direct".into())
    }

    fn mtu(&self) -> u32 {
        self.0.mtu
    }

    fn set_underlay(&mut self, underlay: &Underlay) -> Result<(), UnderlayError> {
        self.0 = underlay.clone();
        Ok(())
    }
}

/// Everything that a VXLAN overlay over IPv4 takes, or with `bare` a device that takes only routes;
/// and a data path that remembers who is reached.
#[derive(Debug, Default)]
struct Tunnel {
    bare: bool,
    told: Mutex<BTreeMap<NodeId, Peer>>,
}

/// The VTEP of the peer at an endpoint.
fn mac(endpoint: IpAddr) -> MacAddr {
    match endpoint {
        IpAddr::V4(v4) => {
            let [.., last] = v4.octets();
            MacAddr([2, 0, 0, 0, 0, last])
        }
        IpAddr::V6(_) => MacAddr::ZERO,
    }
}

impl Backend for Tunnel {
    fn name(&self) -> &'static str {
        "tunnel"
    }

    fn node_objects(&self) -> Vec<Object<IfName>> {
        let mut vxlan = Vxlan::new(Vni::new(1).unwrap());
        vxlan.local = Some(ip("192.168.32.1"));
        let dev = name(TUNNEL);
        let own = ["10.244.1.0/32", "fd00:244:1::/128"].map(net);
        let addresses = own.map(|net| Address::new(net, dev).nodad().into());
        let link = Link::new(dev, LinkKind::Vxlan(Box::new(vxlan))).up().into();
        [link].into_iter().chain(addresses).collect()
    }

    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        let (backend, version, dev) = (self.name(), IpVersion::V4, name(TUNNEL));
        let no_endpoint = PeerError::NoEndpoint { peer: peer.id.clone(), version, backend };
        let endpoint = peer.endpoint(version).ok_or(no_endpoint)?;
        if self.bare {
            let to = |subnet: &IpNet| Route::to(*subnet).hop(Hop::dev(dev)).into();
            return Ok(peer.subnets.iter().map(to).collect());
        }
        let mac = mac(endpoint);
        let mut objects = vec![Fdb::remote(mac, endpoint, dev).into()];
        for subnet in &peer.subnets {
            let gateway = match subnet {
                IpNet::V4(_) => subnet.network(),
                IpNet::V6(_) => mac.link_local().into(),
            };
            objects.push(Neighbour::permanent(gateway, mac, dev).into());
            objects.push(Route::to(*subnet).hop(Hop::onlink(gateway, dev)).into());
        }
        Ok(objects)
    }

    fn data(&self) -> BackendData {
        BackendData::of(IpVersion::V4, "tunnel".into())
    }

    fn mtu(&self) -> u32 {
        1450
    }

    fn data_path(&self) -> Option<&dyn DataPath> {
        Some(self)
    }
}

impl DataPath for Tunnel {
    fn set_peer(&self, peer: &Peer) {
        self.told.lock().unwrap().insert(peer.id.clone(), peer.clone());
    }

    fn remove_peer(&self, id: &NodeId) {
        self.told.lock().unwrap().remove(id);
    }
}

/// A kernel that looks after every request whether these subnets are still reached.
#[derive(Clone)]
struct Watched {
    kernel: MemoryKernel,
    reached: Vec<IpNet>,
}

impl Kernel for Watched {
    fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.kernel.links()
    }
    fn addresses(&mut self, dev: Option<Ifindex>) -> Result<Vec<Address>, Error> {
        self.kernel.addresses(dev)
    }
    fn fdb(&mut self, dev: Ifindex) -> Result<Vec<Fdb>, Error> {
        self.kernel.fdb(dev)
    }
    fn neighbours(&mut self, dev: Option<Ifindex>) -> Result<Vec<Neighbour>, Error> {
        self.kernel.neighbours(dev)
    }
    fn nexthops(&mut self) -> Result<Vec<Nexthop>, Error> {
        self.kernel.nexthops()
    }
    fn routes(&mut self, protocol: Protocol) -> Result<Vec<Route>, Error> {
        self.kernel.routes(protocol)
    }
    fn rules(&mut self, protocol: Protocol) -> Result<Vec<Rule>, Error> {
        self.kernel.rules(protocol)
    }

    fn execute(&mut self, requests: &mut dyn Iterator<Item = Request>) -> Result<Executed, Error> {
        let mut all = Executed::default();
        for request in requests {
            let command = request.object.command(request.verb);
            let one = self.kernel.execute(&mut [request].into_iter())?;
            let snapshot = self.kernel.snapshot();
            for subnet in &self.reached {
                way_to(subnet, &snapshot)
                    .unwrap_or_else(|gap| panic!("{subnet}: {gap} after {command}"));
            }
            let at = all.requests;
            all.errors.extend(one.errors.into_iter().map(|(_, error)| (at, error)));
            all.requests += 1;
        }
        all.sends += 1;
        Ok(all)
    }
}

/// Where packets to a subnet leave, and to whom, if nothing is missing on the way.
fn way_to(subnet: &IpNet, there: &Snapshot) -> Result<String, String> {
    let route = there.routes.iter().find(|route| route.dst == *subnet).ok_or("no route")?;
    let hop = match &route.via {
        Via::Hop(hop) => hop,
        Via::Nexthop(id) => {
            let nexthop = there.nexthops.iter().find(|nexthop| nexthop.id == *id);
            match nexthop.map(|nexthop| &nexthop.target) {
                Some(NexthopTarget::Hop(hop)) => hop,
                _ => return Err("no nexthop object".to_owned()),
            }
        }
        via => return Err(format!("{via:?}")),
    };
    let link = there.links.iter().find(|link| link.index == hop.dev).ok_or("no device")?;
    let Some(gateway) = hop.gateway else { return Ok(link.name.to_string()) };
    if link.name == name(UNDERLAY) {
        return Ok(format!("{} {gateway}", link.name));
    }
    let of_gateway = |n: &&Neighbour| Some(n.dev) == link.index && n.dst == gateway;
    let neighbour = there.neighbours.iter().find(of_gateway).ok_or("no neighbour")?;
    let of_vtep = |f: &&Fdb| Some(f.dev) == link.index && Some(f.lladdr) == neighbour.lladdr;
    let remote = there.fdb.iter().find(of_vtep).and_then(|fdb| fdb.dst).ok_or("no FDB entry")?;
    Ok(format!("{} {remote}", link.name))
}

struct Lab {
    kernel: Watched,
    reconciler: Reconciler,
    network: Network<CrossSubnet<Direct, Tunnel>>,
}

/// Two peers in the node's own network and two that a router leads to, of both families.
fn peers() -> Vec<Peer> {
    let peer = |n: u8, endpoint: [&str; 2]| Peer {
        id: format!("vm{n}").into(),
        subnets: vec![net(&format!("10.244.{n}.0/24")), net(&format!("fd00:244:{n}::/64"))],
        endpoints: endpoint.map(ip).to_vec(),
        data: BackendData::default(),
    };
    vec![
        peer(2, ["192.168.32.2", "fd00:32::2"]),
        peer(3, ["192.168.32.3", "fd00:32::3"]),
        peer(4, ["192.168.33.4", "fd00:33::4"]),
        peer(5, ["192.168.33.5", "fd00:33::5"]),
    ]
}

const HERE: [&str; 2] = ["192.168.32.0/24", "fd00:32::/64"];
const THERE: [&str; 2] = ["192.168.33.0/24", "fd00:33::/64"];

fn kernel(has_nexthops: bool) -> Watched {
    let mut kernel = MemoryKernel::new();
    if !has_nexthops {
        kernel = kernel.without_nexthops();
    }
    let cable = LinkKind::Veth(Some(Box::new(VethPeer::new(name("far")))));
    kernel.apply(&Request::new(Verb::Add, Link::new(name(UNDERLAY), cable))).unwrap();
    kernel.set_up("far", true).unwrap();
    kernel.set_up(UNDERLAY, true).unwrap();
    let dev = kernel.ifindex(UNDERLAY).unwrap();
    for address in underlay(&[]).addresses {
        kernel.apply(&Request::new(Verb::Add, Address::new(address, dev).nodad())).unwrap();
    }
    Watched { kernel, reached: Vec::new() }
}

impl Lab {
    fn new(mode: TunnelMode, bare: bool, kernel: Watched, on_link: &[&str]) -> Self {
        let mut this = Self::before(mode, bare, kernel, on_link);
        assert!(this.reconcile().is_converged());
        this.kernel.reached = peers().into_iter().flat_map(|peer| peer.subnets).collect();
        this
    }

    /// Before the first pass.
    fn before(mode: TunnelMode, bare: bool, kernel: Watched, on_link: &[&str]) -> Self {
        let underlay = underlay(on_link);
        let tunnel = Tunnel { bare, ..Tunnel::default() };
        let backend = CrossSubnet::new(mode, Direct(underlay.clone()), tunnel);
        let subnets = vec![net("10.244.1.0/24"), net("fd00:244:1::/64")];
        let node = Node { id: "vm1".into(), subnets, underlay };
        let mut reconciler = Reconciler::new(Owner::default());
        let mut network = Network::new("net", node, backend, &mut reconciler).unwrap();
        assert_eq!(network.set_peers(peers(), &mut reconciler), []);
        Self { kernel, reconciler, network }
    }

    fn reconcile(&mut self) -> Report {
        self.reconciler.reconcile(&mut self.kernel).unwrap()
    }

    fn set_on_link(&mut self, on_link: &[&str]) {
        self.network.set_underlay(underlay(on_link), &mut self.reconciler).unwrap();
    }

    fn push(&mut self) -> Report {
        self.reconciler.push(&mut self.kernel).unwrap()
    }

    /// Where packets to each peer's subnets leave.
    fn ways(&mut self) -> Vec<String> {
        let snapshot = self.kernel.kernel.snapshot();
        let peers = peers();
        let subnets = peers.iter().flat_map(|peer| &peer.subnets);
        subnets.map(|subnet| way_to(subnet, &snapshot).unwrap()).collect()
    }

    /// What is there of the tunnel's besides routes.
    fn entries(&mut self) -> (usize, usize) {
        let Some(dev) = self.kernel.kernel.ifindex(TUNNEL) else { return (0, 0) };
        let neighbours = self.kernel.kernel.neighbours(Some(dev)).unwrap();
        (self.kernel.kernel.fdb(dev).unwrap().len(), neighbours.len())
    }
}

#[test]
fn each_peer_goes_its_way_and_changes_over_without_a_gap() {
    for has_nexthops in [true, false] {
        for bare in [false, true] {
            let kernel = kernel(has_nexthops);
            let mut lab = Lab::new(TunnelMode::CrossSubnet, bare, kernel, &HERE);
            let to = |direct: &str, endpoint: &str| match (direct, bare) {
                ("vx", true) => "vx".to_owned(),
                _ => format!("{direct} {endpoint}"),
            };
            let direct =
                ["eth0 192.168.32.2", "eth0 fd00:32::2", "eth0 192.168.32.3", "eth0 fd00:32::3"];
            let behind = [4, 4, 5, 5].map(|n| to("vx", &format!("192.168.33.{n}")));
            assert_eq!(lab.ways(), [&direct.map(str::to_owned)[..], &behind].concat());
            let half = if bare { (0, 0) } else { (2, 4) };
            assert_eq!(lab.entries(), half);

            lab.set_on_link(&[HERE, THERE].concat());
            assert!(lab.push().is_converged());
            assert!(lab.ways().iter().all(|way| way.starts_with("eth0 ")), "{:?}", lab.ways());
            assert_eq!(lab.entries(), (0, 0));

            lab.set_on_link(&[]);
            assert!(lab.push().is_converged());
            assert!(lab.ways().iter().all(|way| way.starts_with("vx")), "{:?}", lab.ways());

            lab.set_on_link(&HERE);
            assert!(lab.push().is_converged());
            assert_eq!(lab.ways()[..4], direct);
            assert_eq!(lab.entries(), half);
            assert_eq!(lab.reconcile().writes(), 0);
        }
    }
}

#[test]
fn only_the_peers_that_are_concerned_are_written() {
    let mut lab = Lab::new(TunnelMode::CrossSubnet, false, kernel(true), &HERE);
    lab.set_on_link(&[&HERE[..], &["192.168.33.4/32"]].concat());
    let report = lab.push();
    // One nexthop object moves; the neighbour goes, and the FDB entry stays for IPv6.
    assert_eq!((report.added, report.changed, report.deleted), (0, 1, 1), "{report:?}");
    assert_eq!(lab.ways()[4..6], ["eth0 192.168.33.4", "vx 192.168.33.4"]);
    lab.set_on_link(&[&HERE[..], &["192.168.33.4/32"]].concat());
    assert_eq!(lab.push().writes(), 0);
}

#[test]
fn an_address_that_a_router_leads_to_all_the_same_is_not_on_the_link() {
    let mut lab = Lab::new(TunnelMode::CrossSubnet, false, kernel(true), &HERE);
    let mut routed = underlay(&HERE);
    routed.routed = [ip("192.168.32.2"), ip("fd00:32::3")].into();
    lab.network.set_underlay(routed, &mut lab.reconciler).unwrap();
    assert!(lab.push().is_converged());
    assert_eq!(
        lab.ways()[..4],
        ["vx 192.168.32.2", "eth0 fd00:32::2", "eth0 192.168.32.3", "vx 192.168.32.3"]
    );
}

#[test]
fn a_default_route_without_a_gateway_makes_nobody_a_neighbour() {
    let mut lab = Lab::new(TunnelMode::CrossSubnet, false, kernel(true), &["0.0.0.0/0", "::/0"]);
    assert!(lab.ways().iter().all(|way| way.starts_with("vx ")));
}

#[test]
fn modes_are_calicos() {
    let always = Lab::new(TunnelMode::Always, false, kernel(true), &HERE);
    let Lab { network, .. } = &always;
    assert!(network.peers().all(|peer| !network.backend().is_direct(peer, IpVersion::V4)));
    let mut always = always;
    assert!(always.ways().iter().all(|way| way.starts_with("vx ")));
    assert_eq!((always.network.backend().name(), always.network.backend().mtu()), ("tunnel", 1450));

    let never = Lab::new(TunnelMode::Never, false, kernel(true), &[HERE, THERE].concat());
    assert_eq!((never.network.backend().name(), never.network.backend().mtu()), ("direct", 1500));
    assert!(never.network.backend().data_path().is_none());
    assert!(never.kernel.kernel.ifindex(TUNNEL).is_none());

    let both = Lab::new(TunnelMode::CrossSubnet, false, kernel(true), &HERE);
    let backend = both.network.backend();
    assert_eq!((backend.name(), backend.mtu()), ("tunnel", 1450));
    let data = backend.data();
    assert_eq!((data.v4, data.v6), (Some("tunnel".into()), Some("direct".into())));
    // Who is reached directly may send through the tunnel all the same.
    assert_eq!(backend.tunnel().told.lock().unwrap().len(), 4);
    let mtus = |id: &str| IpVersion::ALL.map(|version| both.network.peer_mtu(&id.into(), version));
    assert_eq!((mtus("vm2"), mtus("vm4")), ([Some(1500); 2], [Some(1450); 2]));
    assert_eq!(mtus("nobody"), [None; 2]);
}

#[test]
fn another_mode_after_a_restart_leaves_no_gap() {
    let all = [HERE, THERE].concat();
    let modes = [
        TunnelMode::Always,
        TunnelMode::Never,
        TunnelMode::CrossSubnet,
        TunnelMode::Always,
        TunnelMode::CrossSubnet,
        TunnelMode::Never,
    ];
    for bare in [false, true] {
        for has_nexthops in [true, false] {
            let mut kernel = kernel(has_nexthops);
            for mode in modes {
                // The kernel goes on looking at what was reached before.
                let mut lab = Lab::new(mode, bare, kernel, &all);
                let direct = lab.ways().iter().all(|way| way.starts_with("eth0 "));
                assert_eq!(direct, mode != TunnelMode::Always, "{mode:?}");
                let has_tunnel = lab.kernel.kernel.ifindex(TUNNEL).is_some();
                assert_eq!(has_tunnel, mode != TunnelMode::Never, "{mode:?}");
                kernel = lab.kernel;
            }
        }
    }
}

#[test]
fn a_route_that_cannot_leave_keeps_what_it_needs() {
    for has_nexthops in [true, false] {
        let mut lab = Lab::new(TunnelMode::CrossSubnet, false, kernel(has_nexthops), &HERE);
        let all = lab.entries();
        lab.set_on_link(&[HERE, THERE].concat());
        // At the first try and at the one that follows it.
        for _ in 0..2 {
            let moves = |request: &Request| {
                request.verb == Verb::Replace
                    && matches!(request.object, Object::Nexthop(_) | Object::Route(_))
                    && request.object.command(Verb::Add).contains("192.168.33.4")
            };
            lab.kernel.kernel.inject(Fault::refuse(22).at(moves));
        }
        let report = lab.push();
        assert!(!report.is_converged(), "{report:?}");
        // The FDB entry of vm4 and the neighbour of its IPv4 route are all that is left.
        assert_eq!((all, lab.entries()), ((2, 4), (1, 1)));
        assert_eq!(lab.ways()[4], "vx 192.168.33.4");
        // Somebody else's change does not sweep them away either.
        lab.network.remove_peer(&"vm2".into(), &mut lab.reconciler);
        lab.kernel.reached.retain(|subnet| !peers()[0].subnets.contains(subnet));
        lab.push();
        assert_eq!(lab.entries(), (1, 1));
        assert!(lab.reconcile().is_converged());
        assert_eq!(lab.entries(), (0, 0));
    }
}

#[test]
fn a_device_that_a_route_has_to_stay_on_keeps_its_addresses() {
    for has_nexthops in [true, false] {
        let all = [HERE, THERE].concat();
        let mut kernel = Lab::new(TunnelMode::Always, false, kernel(has_nexthops), &all).kernel;
        let moves = |request: &Request| {
            request.verb == Verb::Replace
                && matches!(request.object, Object::Nexthop(_) | Object::Route(_))
                && request.object.command(Verb::Add).contains("192.168.33.4")
        };
        // At the first try and at the one that follows it.
        kernel.kernel.inject(Fault::refuse(22).at(moves));
        kernel.kernel.inject(Fault::refuse(22).at(moves));
        let mut lab = Lab::before(TunnelMode::Never, false, kernel, &all);
        assert!(!lab.reconcile().is_converged());
        let dev = lab.kernel.kernel.ifindex(TUNNEL).unwrap();
        let addresses = lab.kernel.kernel.addresses(Some(dev)).unwrap();
        assert!(addresses.iter().any(|address| address.net == net("10.244.1.0/32")));
        assert!(lab.reconcile().is_converged());
        assert_eq!(lab.kernel.kernel.ifindex(TUNNEL), None);
    }
}

#[test]
fn a_peer_that_nobody_can_reach_any_more_keeps_its_objects() {
    let all = [HERE, THERE].concat();
    let mut lab = Lab::new(TunnelMode::Never, false, kernel(true), &all);
    let before = lab.kernel.kernel.snapshot();
    lab.set_on_link(&HERE);
    assert_eq!(lab.push().writes(), 0);
    assert_eq!(lab.kernel.kernel.snapshot(), before);
    let mut lost: Vec<_> =
        lab.network.out_of_reach().map(|(peer, _)| peer.id.to_string()).collect();
    lost.sort();
    assert_eq!(lost, ["vm4", "vm5"]);
    assert_eq!(lab.network.refused().count(), 0);
    // What comes anew is refused, and comes in when the underlay allows it.
    let mut late = peers().swap_remove(3);
    late.id = "vm6".into();
    late.subnets = vec![net("10.244.6.0/24")];
    late.endpoints = vec![ip("192.168.33.6")];
    let error = lab.network.upsert_peer(late, &mut lab.reconciler).unwrap_err();
    assert!(matches!(error, PeerError::NotOnLink { .. }), "{error}");
    lab.set_on_link(&all);
    assert_eq!((lab.network.out_of_reach().count(), lab.network.refused().count()), (0, 0));
    assert_eq!(lab.push().added, 2);
}

#[test]
fn a_peer_without_a_way_is_refused_with_the_tunnels_reason() {
    let mut lab = Lab::new(TunnelMode::CrossSubnet, false, kernel(true), &HERE);
    let peer = |endpoints: &[&str]| Peer {
        id: "vm9".into(),
        subnets: vec![net("10.244.9.0/24"), net("fd00:244:9::/64")],
        endpoints: endpoints.iter().map(|text| ip(text)).collect(),
        data: BackendData::default(),
    };
    // IPv6 would go directly, but there is no way for IPv4.
    let error = lab.network.upsert_peer(peer(&["fd00:32::9"]), &mut lab.reconciler).unwrap_err();
    assert!(matches!(&error, PeerError::NoEndpoint { backend: "tunnel", .. }), "{error}");
    // IPv4 goes directly, and IPv6 through the tunnel that IPv4 carries.
    lab.network.upsert_peer(peer(&["192.168.32.9"]), &mut lab.reconciler).unwrap();
    assert!(lab.push().is_converged());
    let snapshot = lab.kernel.kernel.snapshot();
    assert_eq!(way_to(&net("10.244.9.0/24"), &snapshot).unwrap(), "eth0 192.168.32.9");
    assert_eq!(way_to(&net("fd00:244:9::/64"), &snapshot).unwrap(), "vx 192.168.32.9");
}
