//! What the reconciler sends, counted: the facts behind the figures that do not depend on the machine.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use libtest_mimic::{Arguments, Failed, Trial};
use overlay_backend::{Backend, BackendData, Network, Owner, Peer, Reconciler, Report};
use overlay_backend_host_gw::HostGw;
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_benches::{Lab, node, peer, peers};
use overlay_netlink::{Batch, Fdb, Hop, Neighbour, Route, Socket, Verb};
use overlay_wire::MacAddr;

type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

const CASES: [Case; 5] = [
    ("a_thousand_peers_leave_in_eight_sends", a_thousand_peers_leave_in_eight_sends),
    ("a_reconciled_thousand_leave_in_eight_sends", a_reconciled_thousand_leave_in_eight_sends),
    ("ten_thousand_right_peers_are_left_alone", ten_thousand_right_peers_are_left_alone),
    ("a_vxlan_peer_moves_by_one_message", a_vxlan_peer_moves_by_one_message),
    ("a_host_gw_peer_moves_by_one_message", a_host_gw_peer_moves_by_one_message),
];

fn main() {
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let trials = CASES.into_iter().map(|(name, case)| Trial::test(name, case)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(why().into()) }
}

/// What an unprivileged program gets on a kernel as it comes: `net.core.rmem_max`, which the kernel doubles.
const STOCK_BUFFER: usize = 212_992;

fn a_thousand_peers_leave_in_eight_sends() -> Outcome {
    let mut lab = Lab::new()?;
    lab.socket.set_buffers(STOCK_BUFFER)?;
    let dev = lab.vxlan()?;
    let mut batch = Batch::new();
    for index in 0..1000u32 {
        let [.., c, d] = index.to_be_bytes();
        let mac = MacAddr([2, 0, 0, 0, c, d]);
        let gateway = IpAddr::V4(Ipv4Addr::new(10, 1 + c, d, 0));
        batch.push(Verb::Add, &Fdb::remote(mac, Ipv4Addr::new(172, 16, c, d).into(), dev))?;
        batch.push(Verb::Add, &Neighbour::permanent(gateway, mac, dev))?;
        let subnet = IpNet::new(gateway, 24)?;
        batch.push(Verb::Add, &Route::to(subnet).hop(Hop::onlink(gateway, dev)))?;
    }
    let outcome = lab.socket.execute(&mut batch)?;
    ensure(outcome.len() == 3000 && outcome.is_ok(), || format!("{outcome:?}"))?;
    ensure(outcome.sends() <= 8, || format!("{} sends", outcome.sends()))
}

fn a_reconciled_thousand_leave_in_eight_sends() -> Outcome {
    let mut lab = Lab::new()?;
    lab.socket.set_buffers(STOCK_BUFFER)?;
    let reconciler = Reconciler::new(Owner::default()).without_nexthop_objects();
    let mut overlay = Overlay::vxlan(reconciler, &mut lab.socket)?;
    let report = overlay.reach(peers(1000), &mut lab.socket)?;
    ensure(report.added == 3000 && report.sends <= 8, || format!("{report}, {}", report.sends))
}

fn ten_thousand_right_peers_are_left_alone() -> Outcome {
    let mut lab = Lab::new()?;
    let mut overlay = Overlay::vxlan(Reconciler::new(Owner::default()), &mut lab.socket)?;
    let report = overlay.reach(peers(10_000), &mut lab.socket)?;
    ensure(report.added == 40_000, || report.to_string())?;
    // Neither this reconciler nor one that was started a moment ago finds anything to do.
    let report = overlay.reconciler.reconcile(&mut lab.socket)?;
    ensure((report.writes(), report.sends, report.rounds) == (0, 0, 0), || report.to_string())?;
    let mut reconciler = Reconciler::new(Owner::default());
    let backend = Vxlan::new(&node(), &VxlanOptions::default())?;
    let mut network = Network::new("bench", node(), backend, &mut reconciler)?;
    ensure(network.set_peers(peers(10_000), &mut reconciler).is_empty(), || "refused".to_owned())?;
    let report = reconciler.reconcile(&mut lab.socket)?;
    ensure((report.writes(), report.sends, report.rounds) == (0, 0, 0), || report.to_string())
}

fn a_vxlan_peer_moves_by_one_message() -> Outcome {
    let mut lab = Lab::new()?;
    let mut overlay = Overlay::vxlan(Reconciler::new(Owner::default()), &mut lab.socket)?;
    overlay.reach(peers(100), &mut lab.socket)?;
    overlay.moves_by_one_message(peer(7), "bridge fdb replace", &mut lab.socket)
}

/// However many subnets it has: its routes lead by way of one nexthop object.
fn a_host_gw_peer_moves_by_one_message() -> Outcome {
    let mut lab = Lab::new()?;
    let reconciler = Reconciler::new(Owner::default());
    let mut overlay = Overlay::new(HostGw::new(&node()), reconciler, &mut lab.socket)?;
    let peer = |index: u32| {
        let nets = (0..50).map(|nth| peer(1000 * index + nth).subnets[0]).collect();
        Peer { subnets: nets, data: BackendData::default(), ..peer(index) }
    };
    overlay.reach((0..5).map(peer).collect(), &mut lab.socket)?;
    overlay.moves_by_one_message(peer(3), "ip nexthop replace", &mut lab.socket)
}

struct Overlay<B> {
    reconciler: Reconciler,
    network: Network<B>,
}

impl Overlay<Vxlan> {
    fn vxlan(reconciler: Reconciler, socket: &mut Socket) -> Result<Self, Failed> {
        Self::new(Vxlan::new(&node(), &VxlanOptions::default())?, reconciler, socket)
    }
}

impl<B: Backend> Overlay<B> {
    /// With its device and no peers.
    fn new(backend: B, mut reconciler: Reconciler, socket: &mut Socket) -> Result<Self, Failed> {
        let network = Network::new("bench", node(), backend, &mut reconciler)?;
        let mut overlay = Self { reconciler, network };
        overlay.reach(Vec::new(), socket)?;
        Ok(overlay)
    }

    fn reach(&mut self, peers: Vec<Peer>, socket: &mut Socket) -> Result<Report, Failed> {
        let refused = self.network.set_peers(peers, &mut self.reconciler);
        ensure(refused.is_empty(), || format!("{refused:?}"))?;
        let report = self.reconciler.reconcile(socket)?;
        ensure(report.is_converged(), || format!("{report}: {:?}", report.failed.first()))?;
        Ok(report)
    }

    fn moves_by_one_message(&mut self, peer: Peer, command: &str, socket: &mut Socket) -> Outcome {
        let moved = Peer { endpoints: vec![Ipv4Addr::new(172, 31, 0, 1).into()], ..peer };
        self.network.upsert_peer(moved, &mut self.reconciler)?;
        let plan = self.reconciler.plan()?;
        ensure(plan.len() == 1 && plan.to_string().starts_with(command), || plan.to_string())?;
        let report = self.reconciler.push(socket)?;
        ensure((report.changed, report.writes(), report.sends) == (1, 1, 1), || {
            format!("{report}, {} sends", report.sends)
        })?;
        let report = self.reconciler.reconcile(socket)?;
        ensure(report.writes() == 0 && report.is_converged(), || report.to_string())
    }
}
