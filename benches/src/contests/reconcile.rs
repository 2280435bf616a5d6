//! Peers, through the reconciler and others.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net};
use overlay_backend::{Backend, BackendData, Network, NodeId, Owner, Peer, Reconciler, Report};
use overlay_backend_host_gw::HostGw;
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_netlink::{Batch, Socket, Verb};

use super::{COMPAT_MODE, thousands};
use crate::iproute2::{self, BatchFile};
use crate::peer::{Objects, classic_lines, node, peers};
use crate::{Contest, Lab, Prefixes};

/// Whether the reconciler makes nexthop objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Nexthops,
    Plain,
}

impl Form {
    fn reconciler(self) -> Reconciler {
        let reconciler = Reconciler::new(Owner::default());
        match self {
            Self::Nexthops => reconciler,
            Self::Plain => reconciler.without_nexthop_objects(),
        }
    }

    /// Objects of a peer with one subnet.
    const fn per_peer(self) -> usize {
        match self {
            Self::Nexthops => 4,
            Self::Plain => 3,
        }
    }
}

/// An overlay and what keeps it.
struct Overlay<B> {
    network: Network<B>,
    reconciler: Reconciler,
}

impl<B: Backend> Overlay<B> {
    /// With its device and no peers.
    fn new(backend: B, form: Form, socket: &mut Socket) -> Result<Self> {
        let mut reconciler = form.reconciler();
        let mut network = Network::new("bench", node(), backend, &mut reconciler)?;
        network.set_peers([], &mut reconciler);
        let mut overlay = Self { network, reconciler };
        overlay.reconcile(socket)?;
        Ok(overlay)
    }

    fn set_peers(&mut self, peers: Vec<Peer>) -> Result<()> {
        let refused = self.network.set_peers(peers, &mut self.reconciler);
        ensure!(refused.is_empty(), "refused: {refused:?}");
        Ok(())
    }

    fn reconcile(&mut self, socket: &mut Socket) -> Result<Report> {
        converged(self.reconciler.reconcile(socket)?)
    }
}

fn converged(report: Report) -> Result<Report> {
    ensure!(report.is_converged(), "{report}: {:?}", report.failed.first());
    Ok(report)
}

fn vxlan(form: Form, socket: &mut Socket) -> Result<Overlay<Vxlan>> {
    Overlay::new(Vxlan::new(&node(), &VxlanOptions::default())?, form, socket)
}

/// Programs `count` VXLAN peers on a device without peers.
///
/// # Errors
/// When there is no lab, or no iproute2 where it is required.
pub fn program_peers(count: u32) -> Result<Contest> {
    const PEER: &str = "`bridge -batch` and `ip -batch`, plain";
    const RAW: &str = "overlay-netlink, batches, nexthop objects";
    const RECONCILER: &str = "overlay-backend, from peers to kernel, nexthop objects";
    let title = format!("Program {} VXLAN peers", thousands(count));
    let mut contest = Contest::new("vxlan", title, count)?
        .with(RAW, move |lab| {
            let dev = lab.vxlan()?;
            let objects: Vec<_> = (0..count).map(|index| Objects::of(index, dev)).collect();
            let start = Instant::now();
            let mut batch = Batch::new();
            for peer in &objects {
                batch.push(Verb::Add, &peer.fdb)?;
            }
            for peer in &objects {
                batch.push(Verb::Add, &peer.neighbour)?;
            }
            for peer in &objects {
                batch.push(Verb::Add, &peer.nexthop)?;
            }
            for peer in &objects {
                batch.push(Verb::Add, &peer.route)?;
            }
            let outcome = lab.socket.execute(&mut batch)?;
            let time = start.elapsed();
            outcome.into_result()?;
            lab.expect_peers(dev, count as usize).map(|()| time)
        })
        .with("overlay-netlink, batches, plain", move |lab| {
            let dev = lab.vxlan()?;
            let objects: Vec<_> = (0..count).map(|index| Objects::of(index, dev)).collect();
            let start = Instant::now();
            let mut batch = Batch::new();
            for peer in &objects {
                batch.push(Verb::Add, &peer.fdb)?;
            }
            for peer in &objects {
                batch.push(Verb::Add, &peer.neighbour)?;
            }
            for peer in &objects {
                batch.push(Verb::Add, &peer.plain_route)?;
            }
            let outcome = lab.socket.execute(&mut batch)?;
            let time = start.elapsed();
            outcome.into_result()?;
            lab.expect_peers(dev, count as usize).map(|()| time)
        });
    for (name, form) in [
        (RECONCILER, Form::Nexthops),
        ("overlay-backend, from peers to kernel, plain", Form::Plain),
    ] {
        contest = contest.with(name, move |lab| {
            let mut overlay = vxlan(form, &mut lab.socket)?;
            let peers = peers(count);
            let start = Instant::now();
            overlay.set_peers(peers)?;
            let report = overlay.reconcile(&mut lab.socket)?;
            let time = start.elapsed();
            ensure!(report.added == form.per_peer() * count as usize, "{report}");
            let dev = lab.socket.link(&overlay.network.backend().device())?.index;
            lab.expect_peers(dev.unwrap_or_default(), count as usize).map(|()| time)
        });
    }
    if iproute2::present("programming VXLAN peers")? {
        let (fdb, rest) = classic_lines(count)?;
        let files = [BatchFile::new("bridge", &fdb)?, BatchFile::new("ip", &rest)?];
        contest = contest
            .with(PEER, move |lab| {
                let dev = lab.vxlan()?;
                let time = files[0].run(lab)? + files[1].run(lab)?;
                lab.expect_peers(dev, count as usize).map(|()| time)
            })
            .claim(RAW, PEER, 20.0)
            .claim(RECONCILER, PEER, 20.0);
    }
    Ok(contest)
}

/// Finds nothing to do for `count` VXLAN peers.
///
/// # Errors
/// When there is no lab.
pub fn no_op(count: u32) -> Result<Contest> {
    let title = format!("Reconcile {} VXLAN peers that are as they should be", thousands(count));
    let mut contest = Contest::new("no-op", title, count)?;
    for (name, form) in [
        ("overlay-backend, nexthop objects", Form::Nexthops),
        ("overlay-backend, plain", Form::Plain),
    ] {
        contest = contest.with(name, move |lab| {
            let mut overlay = vxlan(form, &mut lab.socket)?;
            overlay.set_peers(peers(count))?;
            overlay.reconcile(&mut lab.socket)?;
            let start = Instant::now();
            let report = overlay.reconcile(&mut lab.socket)?;
            let time = start.elapsed();
            ensure!((report.writes(), report.sends) == (0, 0), "{report}");
            Ok(time)
        });
    }
    Ok(contest)
}

/// How many subnets each peer of the host-gw overlay has.
const SUBNETS: u32 = 16;

/// Follows one of `count` peers to another address.
///
/// # Errors
/// When there is no lab.
pub fn move_peer(count: u32) -> Result<Contest> {
    let title = format!("Follow one of {} peers to another address", thousands(count));
    let contest = Contest::new("move", title, 1)?
        .with("overlay-backend-vxlan: 1 message", move |lab| {
            let mut overlay = vxlan(Form::Nexthops, &mut lab.socket)?;
            overlay.set_peers(peers(count))?;
            moves(&mut overlay, lab, count, 1)
        })
        .with(host_gw_name(0), move |lab| host_gw_moves(lab, count, 0))
        .with(host_gw_name(1), move |lab| host_gw_moves(lab, count, 1))
        .with(format!("overlay-backend-host-gw, plain: {SUBNETS} messages"), move |lab| {
            let mut overlay = Overlay::new(HostGw::new(&node()), Form::Plain, &mut lab.socket)?;
            // The kernel takes long for many plain routes with different gateways; the others do not matter here.
            overlay.set_peers(host_gw_peers(count.min(500)))?;
            moves(&mut overlay, lab, count, SUBNETS as usize)
        });
    Ok(contest)
}

fn host_gw_name(compat_mode: u8) -> String {
    format!("overlay-backend-host-gw, {SUBNETS} subnets, compat_mode={compat_mode}: 1 message")
}

fn host_gw_moves(lab: &mut Lab, count: u32, compat_mode: u8) -> Result<Duration> {
    let mut overlay = Overlay::new(HostGw::new(&node()), Form::Nexthops, &mut lab.socket)?;
    overlay.set_peers(host_gw_peers(count))?;
    lab.host.sysctl(COMPAT_MODE, compat_mode)?;
    let time = moves(&mut overlay, lab, count, 1)?;
    lab.host.sysctl(COMPAT_MODE, 1)?;
    Ok(time)
}

fn host_gw_peers(count: u32) -> Vec<Peer> {
    let subnet = |index| {
        let base = Ipv4Addr::from(0x1400_0000_u32 + (index << 8));
        IpNet::V4(Ipv4Net::new(base, 24).unwrap_or_default())
    };
    (0..count)
        .map(|index| Peer {
            id: NodeId::new(format!("node-{index}")),
            subnets: (0..SUBNETS).map(|nth| subnet(index * SUBNETS + nth)).collect(),
            endpoints: vec![IpAddr::V4(Prefixes::gateway(index))],
            data: BackendData::default(),
        })
        .collect()
}

/// Lets one peer move a few times, from the call that says so until the kernel knows. The mean time of a move.
fn moves<B: Backend>(
    overlay: &mut Overlay<B>,
    lab: &mut Lab,
    count: u32,
    messages: usize,
) -> Result<Duration> {
    const MOVES: u32 = 50;
    overlay.reconcile(&mut lab.socket)?;
    let mut peer = overlay.network.peers().next().context("there are no peers")?.clone();
    let mut time = Duration::ZERO;
    for step in 0..MOVES {
        peer.endpoints = vec![IpAddr::V4(Prefixes::gateway(count + step))];
        let peer = peer.clone();
        let start = Instant::now();
        overlay.network.upsert_peer(peer, &mut overlay.reconciler)?;
        let report = overlay.reconciler.push(&mut lab.socket)?;
        time += start.elapsed();
        ensure!((report.writes(), report.sends) == (messages, 1), "{report}");
        converged(report)?;
    }
    Ok(time / MOVES)
}
