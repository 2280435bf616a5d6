//! The reconciler on a kernel that costs nothing, to see what it costs itself.

use anyhow::{Context, Result, ensure};
use overlay_backend::{Backend, Executed, Kernel, Network, Owner, Peer, Plan, Reconciler, Report};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_netlink::{
    Address, Error, Fdb, IfName, Ifindex, Link, LinkKind, Neighbour, Nexthop, Object, Protocol,
    Request, Route, Rule,
};

use crate::node;

/// A kernel that has some devices and addresses and nothing else, and does what it is told without remembering it.
#[derive(Clone, Debug, Default)]
struct Still {
    links: Vec<Link>,
    addresses: Vec<Address>,
}

/// A VXLAN overlay on such a kernel, its device in place.
#[derive(Debug)]
pub struct StillOverlay {
    kernel: Still,
    reconciler: Reconciler,
    network: Network<Vxlan>,
}

impl StillOverlay {
    /// An overlay without peers, observed.
    ///
    /// # Errors
    /// When something is left to do.
    pub fn new() -> Result<Self> {
        let backend = Vxlan::new(&node(), &VxlanOptions::default())?;
        let mut uplink = Link::new(node().underlay.dev, LinkKind::Device);
        uplink.index = Some(Ifindex(1));
        let mut kernel = Still { links: vec![uplink], addresses: Vec::new() };
        let owner = Owner::default();
        for object in backend.node_objects() {
            let numbered = |dev: IfName| {
                Ok::<_, std::convert::Infallible>(Ifindex(1 + u32::from(dev == backend.device())))
            };
            match object.try_map_dev(&mut { numbered })? {
                Object::Link(link) => {
                    let mut link = link.alias(owner.alias());
                    link.index = Some(Ifindex(2));
                    kernel.links.push(link);
                }
                Object::Address(mut address) => {
                    address.protocol = owner.protocol();
                    kernel.addresses.push(address);
                }
                _ => {}
            }
        }
        let mut reconciler = Reconciler::new(owner);
        let network = Network::new("bench", node(), backend, &mut reconciler)?;
        let mut overlay = Self { kernel, reconciler, network };
        overlay.set_peers(Vec::new())?;
        overlay.reconciler.observe(&mut overlay.kernel)?;
        let plan = overlay.plan()?;
        ensure!(plan.is_empty(), "left to do: {plan}");
        Ok(overlay)
    }

    /// Reaches these peers and no others.
    ///
    /// # Errors
    /// When one is refused.
    pub fn set_peers(&mut self, peers: Vec<Peer>) -> Result<()> {
        let refused = self.network.set_peers(peers, &mut self.reconciler);
        ensure!(refused.is_empty(), "refused: {refused:?}");
        Ok(())
    }

    /// What is to be done.
    ///
    /// # Errors
    /// Never.
    pub fn plan(&mut self) -> Result<Plan> {
        self.reconciler.plan().context("it was observed")
    }

    /// Does it.
    ///
    /// # Errors
    /// Never.
    pub fn apply(&mut self, plan: Plan) -> Result<Report> {
        Ok(self.reconciler.apply(&mut self.kernel, plan)?)
    }

    /// Follows one peer, from what it says to what is done.
    ///
    /// # Errors
    /// When it is refused.
    pub fn follow(&mut self, peer: Peer) -> Result<Report> {
        self.network.upsert_peer(peer, &mut self.reconciler)?;
        Ok(self.reconciler.push(&mut self.kernel)?)
    }
}

impl Kernel for Still {
    fn links(&mut self) -> Result<Vec<Link>, Error> {
        Ok(self.links.clone())
    }

    fn addresses(&mut self, dev: Option<Ifindex>) -> Result<Vec<Address>, Error> {
        Ok(self
            .addresses
            .iter()
            .filter(|address| dev.is_none_or(|dev| address.dev == dev))
            .cloned()
            .collect())
    }

    fn fdb(&mut self, _: Ifindex) -> Result<Vec<Fdb>, Error> {
        Ok(Vec::new())
    }

    fn neighbours(&mut self, _: Option<Ifindex>) -> Result<Vec<Neighbour>, Error> {
        Ok(Vec::new())
    }

    fn nexthops(&mut self) -> Result<Vec<Nexthop>, Error> {
        Ok(Vec::new())
    }

    fn routes(&mut self, _: Protocol) -> Result<Vec<Route>, Error> {
        Ok(Vec::new())
    }

    fn rules(&mut self, _: Protocol) -> Result<Vec<Rule>, Error> {
        Ok(Vec::new())
    }

    fn execute(&mut self, requests: &mut dyn Iterator<Item = Request>) -> Result<Executed, Error> {
        Ok(Executed { requests: requests.count(), ..Executed::default() })
    }
}
