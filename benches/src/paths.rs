//! Two hosts with an overlay between them, and what is carried from one to the other.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use overlay_backend::{Backend, Keeper, Network, Node, Owner, Peer, Reconciler, Underlay};
use overlay_lab::{Host, PingRequest, connect, packet_rate, ping, round_trip, throughput_of};
use overlay_netlink::IfName;

use crate::{Place, smoke};

/// Nothing but the hosts that each contestant has to itself.
#[derive(Clone, Copy, Debug)]
pub struct Paths;

impl Place for Paths {
    const TURNS: usize = 1;
    const EACH: bool = false;

    fn clean(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What crosses the cable between the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Whatever the sender's kernel has: super-packets of 64 KiB go through whole, as between containers of one machine.
    Whole,
    /// Packets no larger than the MTU, cut by the sender's kernel and put together by the receiver's, as with network
    /// cards that know nothing of tunnels.
    Segmented,
}

/// The features that let super-packets onto a cable.
const SEGMENTATION: [&str; 9] = [
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-udp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
];

/// Two hosts and a cable.
pub struct Pair {
    /// The one that sends.
    pub from: Host,
    /// The one that receives.
    pub to: Host,
}

impl Pair {
    /// The device at either end of the cable.
    pub const DEVICE: &str = "eth0";
    const ADDRESSES: [&str; 2] = ["192.168.32.1/24", "192.168.32.2/24"];
    const SUBNETS: [&str; 2] = ["10.1.1.0/24", "10.1.2.0/24"];

    /// Makes them.
    ///
    /// # Errors
    /// When the program cannot make namespaces, or a feature of the cable cannot be switched.
    pub fn new(cable: Cable) -> Result<Self> {
        let (from, to) = (Host::new("from")?, Host::new("to")?);
        connect(&from, Self::DEVICE, &to, Self::DEVICE)?;
        for (host, address) in [(&from, Self::ADDRESSES[0]), (&to, Self::ADDRESSES[1])] {
            host.addresses(Self::DEVICE, &[address.parse()?])?;
            if cable == Cable::Segmented {
                for feature in SEGMENTATION {
                    host.feature(Self::DEVICE, feature, false)?;
                }
                host.feature(Self::DEVICE, "rx-gro", true)?;
            }
        }
        Ok(Self { from, to })
    }

    /// The receiver's address on the cable.
    ///
    /// # Errors
    /// None.
    pub fn direct(&self) -> Result<IpAddr> {
        Ok(Self::ADDRESSES[1].parse::<IpNet>()?.addr())
    }

    /// Both hosts as nodes of an overlay network.
    ///
    /// # Errors
    /// When their devices cannot be looked at.
    pub fn nodes(&self) -> Result<[Node; 2]> {
        let node = |host: &Host, subnet: &str| {
            let underlay = Underlay::observe(&mut host.socket()?, &IfName::new(Self::DEVICE)?)?;
            let subnets = vec![subnet.parse()?];
            anyhow::Ok(Node { id: host.name().into(), subnets, underlay })
        };
        Ok([node(&self.from, Self::SUBNETS[0])?, node(&self.to, Self::SUBNETS[1])?])
    }

    /// The receiver's address in the overlay: the base of its subnet, which backends give to the node.
    ///
    /// # Errors
    /// None.
    pub fn overlay(&self) -> Result<IpAddr> {
        Ok(Self::SUBNETS[1].parse::<IpNet>()?.network())
    }
}

/// A network on one of the hosts, with its kernel objects made.
pub struct End<B> {
    /// The network.
    pub network: Network<B>,
    /// What its objects are made with.
    pub reconciler: Reconciler,
    keeper: Keeper,
}

impl<B: Backend> End<B> {
    /// Makes the objects of `backend` on `host`, for these peers.
    ///
    /// # Errors
    /// When a peer is refused or the kernel refuses an object.
    pub fn new(host: &Host, node: Node, backend: B, peers: Vec<Peer>) -> Result<Self> {
        let mut reconciler = Reconciler::new(Owner::default());
        let mut network = Network::new("bench", node, backend, &mut reconciler)?;
        if let Some(error) = network.set_peers(peers, &mut reconciler).into_iter().next() {
            return Err(error.into());
        }
        let mut end = Self { network, reconciler, keeper: Keeper::open_in(host.namespace())? };
        end.reconcile()?;
        Ok(end)
    }

    /// Has the kernel hold what the network wants.
    ///
    /// # Errors
    /// When it does not.
    pub fn reconcile(&mut self) -> Result<()> {
        let report = self.reconciler.reconcile(self.keeper.socket())?;
        if let Some(failure) = report.failed.first() {
            anyhow::bail!("{failure}");
        }
        ensure!(report.is_converged(), "{report}");
        Ok(())
    }
}

/// What a node with `backend` tells the others.
#[must_use]
pub fn announce(node: &Node, backend: &impl Backend) -> Peer {
    Peer {
        id: node.id.clone(),
        subnets: node.subnets.clone(),
        endpoints: node.underlay.addresses.iter().map(IpNet::addr).collect(),
        data: backend.data(),
    }
}

/// How long one measurement takes.
fn window() -> Duration {
    Duration::from_millis(if smoke() { 100 } else { 1000 })
}

/// A measurement of what gets from one host to an address of the other. It says how long its objects took.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// So many TCP flows, until they have carried so many MiB.
    Tcp {
        /// The flows.
        flows: usize,
        /// What they carry, in MiB.
        mib: u64,
    },
    /// Datagrams with so many bytes of payload, one after the other from one socket.
    Datagrams {
        /// Bytes of payload.
        size: usize,
        /// How many.
        count: u64,
    },
    /// One datagram and its answer.
    RoundTrip,
}

impl Load {
    /// How many objects that are.
    #[must_use]
    pub fn objects(self) -> u64 {
        match self {
            Self::Tcp { mib, .. } => mib,
            Self::Datagrams { count, .. } => count,
            Self::RoundTrip => 1,
        }
    }

    /// Measures for a second, and says how long the objects take at that rate.
    ///
    /// # Errors
    /// When nothing arrives.
    pub fn measure(self, pair: &Pair, to: IpAddr) -> Result<Duration> {
        let (from, receiver) = (&pair.from, &pair.to);
        let seconds = match self {
            Self::Tcp { flows, mib } => {
                let carried = throughput_of(flows, from, receiver, to, window())?;
                (mib << 20) as f64 * 8.0 / carried.bits_per_second()
            }
            Self::Datagrams { size, count } => {
                count as f64 / packet_rate(from, receiver, to, size, window())?.per_second()
            }
            Self::RoundTrip => return Ok(round_trip(from, receiver, to, window())?),
        };
        Ok(Duration::from_secs_f64(seconds))
    }
}

/// Waits until the receiver answers: the first packets may be lost to address resolution.
///
/// # Errors
/// When it does not within three seconds.
pub fn expect_answer(pair: &Pair, to: IpAddr) -> Result<()> {
    let request = PingRequest::to(to).count(30).interval(Duration::from_millis(100));
    let report = ping(&pair.from, &request.timeout(Duration::from_secs(1)))?;
    ensure!(report.received > 0, "{to} does not answer");
    Ok(())
}

impl Pair {
    /// The overlay of `backend` between the hosts.
    ///
    /// # Errors
    /// When one end cannot be made.
    pub fn join<B: Backend>(&self, backend: impl Fn(&Node) -> Result<B>) -> Result<[End<B>; 2]> {
        let nodes = self.nodes()?;
        let backends = [backend(&nodes[0])?, backend(&nodes[1])?];
        let peers = vec![announce(&nodes[0], &backends[0]), announce(&nodes[1], &backends[1])];
        let hosts = [&self.from, &self.to];
        let mut ends = Vec::new();
        for ((host, node), backend) in hosts.into_iter().zip(nodes).zip(backends) {
            ends.push(End::new(host, node, backend, peers.clone())?);
        }
        ends.try_into().ok().context("two ends")
    }
}
