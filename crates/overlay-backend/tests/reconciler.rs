//! What the reconciler and a network must not get wrong, case by case, on the in-memory kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use ipnet::IpNet;
use overlay_backend::{
    Backend, BackendData, DataPath, Fault, Kernel, MemoryKernel, Network, Node, NodeId, NotReady,
    Owner, Peer, PeerError, Reconciler, Underlay,
};
use overlay_netlink::{
    Address, Bridge, Fdb, Hop, IfName, Link, LinkKind, Neighbour, Object, Protocol, Request, Route,
    Verb, VethPeer, Vxlan,
};
use overlay_wire::{MacAddr, Vni};

fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

fn kernel() -> MemoryKernel {
    let mut kernel = MemoryKernel::new();
    let cable = LinkKind::Veth(Some(Box::new(VethPeer::new(name("far")))));
    kernel.apply(&Request::new(Verb::Add, Link::new(name("eth0"), cable))).unwrap();
    kernel.set_up("far", true).unwrap();
    kernel.set_up("eth0", true).unwrap();
    let eth0 = kernel.ifindex("eth0").unwrap();
    let address = Address::new(net("192.168.32.245/24"), eth0);
    kernel.apply(&Request::new(Verb::Add, address)).unwrap();
    kernel
}

fn reconciler(groups: &[(&str, Vec<Object<IfName>>)]) -> Reconciler {
    let mut reconciler = Reconciler::new(Owner::default());
    for (group, objects) in groups {
        reconciler.set(group, objects.clone()).unwrap();
    }
    reconciler.complete("test");
    reconciler
}

fn vxlan(device: &str) -> Object<IfName> {
    let mut vxlan = Vxlan::new(Vni::new(1).unwrap());
    vxlan.dev = Some(name("eth0"));
    vxlan.local = Some(ip("192.168.32.245"));
    vxlan.learning = Some(false);
    Link::new(name(device), LinkKind::Vxlan(Box::new(vxlan))).up().into()
}

fn route(subnet: &str, via: &str, dev: &str) -> Object<IfName> {
    Route::to(net(subnet)).hop(Hop::onlink(ip(via), name(dev))).into()
}

#[test]
fn nothing_is_put_on_a_device_that_somebody_else_made_first() {
    let mut kernel = kernel();
    let mut reconciler = reconciler(&[(
        "node",
        vec![
            vxlan("vx"),
            Address::new(net("10.1.0.0/32"), name("vx")).into(),
            Neighbour::permanent(ip("10.2.0.0"), MAC, name("vx")).into(),
            route("10.2.0.0/24", "10.2.0.0", "vx"),
        ],
    )]);
    let theirs = Link::new(name("vx"), LinkKind::Bridge(Bridge::default())).up();
    kernel.inject(Fault::meanwhile([Request::new(Verb::Add, theirs)]));
    let report = reconciler.reconcile(&mut kernel).unwrap();
    assert!(!report.is_converged());
    let dev = kernel.ifindex("vx").unwrap();
    assert!(kernel.neighbours(Some(dev)).unwrap().is_empty());
    let ours = Owner::default().protocol();
    assert!(kernel.addresses(Some(dev)).unwrap().iter().all(|address| address.protocol != ours));
    assert!(kernel.routes(ours).unwrap().is_empty());
}

#[test]
fn what_is_ours_on_a_device_of_somebody_else_goes_when_nobody_wants_it() {
    let mut kernel = kernel();
    let before = kernel.snapshot();
    let objects = vec![
        Address::new(net("10.1.0.1/32"), name("eth0")).into(),
        Address::new(net("fd01::1/128"), name("eth0")).nodad().into(),
        Neighbour::permanent(ip("192.168.32.7"), MAC, name("eth0")).into(),
    ];
    reconciler(&[("node", objects)]).reconcile(&mut kernel).unwrap();
    assert_ne!(kernel.snapshot(), before);
    // As after a restart.
    let report = reconciler(&[]).reconcile(&mut kernel).unwrap();
    assert_eq!((report.deleted, report.is_converged()), (3, true));
    assert_eq!(kernel.snapshot(), before);
}

#[test]
fn remotes_of_somebody_elses_device_stay() {
    let mut kernel = kernel();
    let foreign = Vxlan::new(Vni::new(9).unwrap());
    let foreign = Link::new(name("theirs"), LinkKind::Vxlan(Box::new(foreign))).up();
    kernel.apply(&Request::new(Verb::Add, foreign)).unwrap();
    let dev = kernel.ifindex("theirs").unwrap();
    for remote in ["192.168.32.1", "192.168.32.2"] {
        let fdb = Fdb::remote(MacAddr::ZERO, ip(remote), dev);
        kernel.apply(&Request::new(Verb::Append, fdb)).unwrap();
    }
    let wanted = Fdb::remote(MacAddr::ZERO, ip("192.168.32.1"), name("theirs"));
    let mut reconciler = reconciler(&[("node", vec![wanted.into()])]);
    reconciler.reconcile(&mut kernel).unwrap();
    assert_eq!(kernel.fdb(dev).unwrap().len(), 2);
}

#[test]
fn devices_of_every_kind_are_left_alone_once_they_are_right() {
    let cable = LinkKind::Veth(Some(Box::new(VethPeer::new(name("veth1")))));
    for link in [
        Link::new(name("br"), LinkKind::Bridge(Bridge::default())).up(),
        Link::new(name("veth0"), cable).up(),
        Link::new(name("drop"), LinkKind::Dummy).up(),
        Link::new(name("ifb"), LinkKind::Ifb).up(),
    ] {
        let mut kernel = kernel();
        let mut reconciler = reconciler(&[("node", vec![link.clone().into()])]);
        assert!(reconciler.reconcile(&mut kernel).unwrap().is_converged(), "{link:?}");
        kernel.reset_counters();
        let report = reconciler.reconcile(&mut kernel).unwrap();
        assert_eq!((report.is_converged(), kernel.counters().requests), (true, 0), "{link:?}");
    }
}

#[test]
fn a_plan_that_is_out_of_date_confuses_nobody() {
    let mut kernel = kernel();
    let mut reconciler = reconciler(&[("a", vec![route("10.1.0.0/24", "192.168.32.1", "eth0")])]);
    reconciler.observe(&mut kernel).unwrap();
    let old = reconciler.plan().unwrap();
    reconciler.remove("a");
    reconciler.plan().unwrap();
    reconciler.set("b", vec![route("10.2.0.0/24", "192.168.32.2", "eth0")]).unwrap();
    reconciler.apply(&mut kernel, old).unwrap();
    assert!(reconciler.reconcile(&mut kernel).unwrap().is_converged());
    let routes = kernel.routes(Owner::default().protocol()).unwrap();
    assert_eq!(routes.iter().map(|route| route.dst).collect::<Vec<_>>(), [net("10.2.0.0/24")]);
}

#[test]
fn after_a_device_the_kernel_is_looked_at_again() {
    let mut kernel = kernel();
    let mut reconciler = reconciler(&[("node", vec![vxlan("vx")])]);
    reconciler.observe(&mut kernel).unwrap();
    let plan = reconciler.plan().unwrap();
    reconciler.apply(&mut kernel, plan).unwrap();
    assert_eq!(reconciler.plan(), Err(NotReady::Observed));
    reconciler.observe(&mut kernel).unwrap();
    assert!(reconciler.plan().unwrap().is_empty());
}

#[test]
fn what_is_refused_for_good_does_not_make_others_dear() {
    let mut kernel = kernel();
    let eth0 = kernel.ifindex("eth0").unwrap();
    let theirs = Route::to(net("10.1.0.0/24")).hop(Hop::onlink(ip("192.168.32.9"), eth0));
    let theirs = theirs.protocol(Protocol::STATIC);
    kernel.apply(&Request::new(Verb::Add, theirs)).unwrap();
    let mut reconciler =
        reconciler(&[("in the way", vec![route("10.1.0.0/24", "192.168.32.1", "eth0")])]);
    assert!(!reconciler.reconcile(&mut kernel).unwrap().is_converged());
    kernel.reset_counters();
    for peer in 2..12 {
        let subnet = format!("10.{peer}.0.0/24");
        let via = format!("192.168.32.{peer}");
        reconciler.set(&subnet, vec![route(&subnet, &via, "eth0")]).unwrap();
        let report = reconciler.push(&mut kernel).unwrap();
        assert!(!report.is_converged() && report.failed.is_empty(), "{report:?}");
    }
    let counters = kernel.counters();
    assert_eq!((counters.listings, counters.requests, counters.refused), (0, 20, 0));
}

/// Routes by way of the peer's endpoint, and a data path that remembers who is reached.
#[derive(Debug, Default)]
struct Direct {
    told: Told,
}

#[derive(Debug, Default)]
struct Told(Mutex<BTreeMap<NodeId, Peer>>);

impl DataPath for Told {
    fn set_peer(&self, peer: &Peer) {
        self.0.lock().unwrap().insert(peer.id.clone(), peer.clone());
    }

    fn remove_peer(&self, id: &NodeId) {
        assert!(self.0.lock().unwrap().remove(id).is_some(), "{id} was never told of");
    }
}

impl Backend for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn node_objects(&self) -> Vec<Object<IfName>> {
        Vec::new()
    }

    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        let via = peer.endpoints.first().map(IpAddr::to_string).unwrap_or_default();
        Ok(peer.subnets.iter().map(|subnet| route(&subnet.to_string(), &via, "eth0")).collect())
    }

    fn data(&self) -> BackendData {
        BackendData::default()
    }

    fn mtu(&self) -> u32 {
        1500
    }

    fn data_path(&self) -> Option<&dyn DataPath> {
        Some(&self.told)
    }
}

/// The data path knows whom the network reaches, as the network knows them.
fn assert_data_path_agrees(network: &Network<Direct>) {
    let told = network.backend().told.0.lock().unwrap();
    let reached: BTreeMap<NodeId, Peer> =
        network.peers().map(|peer| (peer.id.clone(), peer.clone())).collect();
    assert_eq!(*told, reached);
}

fn network(label: &str, reconciler: &mut Reconciler) -> Result<Network<Direct>, PeerError> {
    let underlay = Underlay {
        dev: name("eth0"),
        mtu: 1500,
        addresses: vec![net("192.168.32.245/24")],
        on_link: vec![net("192.168.32.0/24")],
        routed: Default::default(),
    };
    let node = Node { id: "me".into(), subnets: vec![net("10.0.0.0/24")], underlay };
    Network::new(label, node, Direct::default(), reconciler)
}

fn peer(id: &str, subnet: &str, endpoint: &str) -> Peer {
    Peer {
        id: id.into(),
        subnets: vec![net(subnet)],
        endpoints: vec![ip(endpoint)],
        data: BackendData::default(),
    }
}

fn routes(kernel: &mut MemoryKernel) -> Vec<IpNet> {
    let mut routes: Vec<IpNet> =
        kernel.routes(Owner::default().protocol()).unwrap().iter().map(|route| route.dst).collect();
    routes.sort();
    routes
}

#[test]
fn peers_may_take_from_one_another_in_a_snapshot() {
    let mut kernel = kernel();
    let mut reconciler = Reconciler::new(Owner::default());
    let mut network = network("net", &mut reconciler).unwrap();
    let [a, b, c] = ["192.168.32.1", "192.168.32.2", "192.168.32.3"];
    let first =
        [peer("a", "10.1.0.0/24", a), peer("b", "10.2.0.0/24", b), peer("c", "10.3.0.0/24", c)];
    assert!(network.set_peers(first, &mut reconciler).is_empty());
    assert!(reconciler.reconcile(&mut kernel).unwrap().is_converged());
    // Two swap, and one takes what no one had.
    let swapped =
        [peer("a", "10.2.0.0/24", b), peer("b", "10.1.0.0/24", a), peer("c", "10.4.0.0/24", c)];
    assert_eq!(network.set_peers(swapped, &mut reconciler), []);
    assert_data_path_agrees(&network);
    // A chain, each taking what the next gives up.
    let chain =
        [peer("a", "10.1.0.0/24", a), peer("b", "10.4.0.0/24", c), peer("c", "10.5.0.0/24", b)];
    assert_eq!(network.set_peers(chain, &mut reconciler), []);
    assert_data_path_agrees(&network);
    assert!(reconciler.push(&mut kernel).unwrap().is_converged());
    let expected = ["10.1.0.0/24", "10.4.0.0/24", "10.5.0.0/24"].map(net);
    assert_eq!(routes(&mut kernel), expected);
}

#[test]
fn a_refused_peer_comes_in_when_the_way_is_free() {
    let mut kernel = kernel();
    let mut reconciler = Reconciler::new(Owner::default());
    let mut network = network("net", &mut reconciler).unwrap();
    let old = peer("old", "10.1.0.0/24", "192.168.32.1");
    network.set_peers([old.clone()], &mut reconciler);
    let new = peer("new", "10.1.0.0/25", "192.168.32.2");
    let error = network.upsert_peer(new, &mut reconciler).unwrap_err();
    assert!(matches!(error, PeerError::Overlap { .. }), "{error}");
    assert_eq!(network.refused().count(), 1);
    assert_data_path_agrees(&network);
    assert!(network.remove_peer(&old.id, &mut reconciler));
    assert_eq!(network.refused().count(), 0);
    assert_data_path_agrees(&network);
    assert!(reconciler.reconcile(&mut kernel).unwrap().is_converged());
    assert_eq!(routes(&mut kernel), [net("10.1.0.0/25")]);
}

#[test]
fn networks_do_not_mix_up_their_peers() {
    let mut reconciler = Reconciler::new(Owner::default());
    let _first = network("a", &mut reconciler).unwrap();
    for label in ["a", "a/b", ""] {
        let error = network(label, &mut reconciler).unwrap_err();
        assert!(matches!(error, PeerError::NetworkName { .. }), "{error}");
    }
}
