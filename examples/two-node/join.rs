//! Joining the hosts by a backend.

use std::time::Duration;

use anyhow::{Context, bail};
use overlay_backend::{
    Backend, Keeper, Network, Node, Owner, Peer, PeerError, Reconciler, Underlay, UnderlayError,
};
use overlay_backend_host_gw::HostGw;
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_netlink::{IfName, Protocol, Socket};
use overlay_wire::IpVersion;

use crate::setup::{Setup, Vm};

/// A backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vxlan,
    HostGw,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        }
    }

    /// The backend on one node, over an underlay of this family, with a device of this name if it
    /// makes one.
    fn backend(
        self,
        device: IfName,
        node: &Node,
        version: IpVersion,
    ) -> Result<Box<dyn Backend>, UnderlayError> {
        Ok(match self {
            Self::HostGw => Box::new(HostGw::new(node)),
            Self::Vxlan => {
                let options = VxlanOptions::default().underlay(version).device(device);
                Box::new(Vxlan::new(node, &options)?)
            }
        })
    }
}

/// One host's end of an overlay network.
struct End {
    name: String,
    keeper: Keeper,
    network: Network<Box<dyn Backend>>,
    reconciler: Reconciler,
}

/// Both hosts, about to be joined or joined.
pub(crate) struct Joined {
    ends: Vec<End>,
}

impl Joined {
    /// Works out what both hosts need. The inner error says why the backend cannot join them.
    pub(crate) fn prepare(
        setup: &Setup,
        kind: Kind,
        version: IpVersion,
    ) -> anyhow::Result<Result<Self, String>> {
        let mut ends = Vec::new();
        let mut peers = Vec::new();
        for vm in setup.vms() {
            let mut socket = vm.host.socket()?;
            let node = node(vm, &mut socket, version)?;
            let backend = match kind.backend(vtep_name(vm, version)?, &node, version) {
                Ok(backend) => backend,
                Err(error) => return Ok(Err(error.to_string())),
            };
            peers.push(Peer {
                id: node.id.clone(),
                subnets: node.subnets.clone(),
                endpoints: vec![vm.underlay(version)],
                data: backend.data(),
            });
            // One number for each family: the two networks are kept apart.
            let protocol = Protocol(Owner::DEFAULT_PROTOCOL.0 + version.header_len() as u8 / 20);
            let mut reconciler = Reconciler::new(Owner::new(protocol)?);
            let network = Network::new("two-node", node, backend, &mut reconciler)?;
            let keeper = Keeper::open_in(vm.host.namespace())?;
            ends.push(End { name: vm.host.name().to_owned(), keeper, network, reconciler });
        }
        for end in &mut ends {
            // Each host is given everybody, itself included, as a store would.
            let refused = end.network.set_peers(peers.clone(), &mut end.reconciler);
            if let Some(error) = refused.into_iter().next() {
                return match error {
                    PeerError::NotOnLink { .. } => Ok(Err(error.to_string())),
                    error => Err(error.into()),
                };
            }
        }
        Ok(Ok(Self { ends }))
    }

    /// What is to be done on each host, as commands.
    pub(crate) fn commands(&mut self) -> anyhow::Result<String> {
        let mut lines = Vec::new();
        for end in &mut self.ends {
            end.reconciler.observe(end.keeper.socket())?;
            let plan = end.reconciler.plan()?.to_string();
            lines.extend(plan.lines().map(|line| format!("{}# {line}", end.name)));
        }
        Ok(lines.join("\n"))
    }

    /// Joins the hosts. The inner error says what the kernel lacks.
    pub(crate) fn apply(&mut self) -> anyhow::Result<Result<(), String>> {
        for end in &mut self.ends {
            let report = end.reconciler.reconcile(end.keeper.socket())?;
            if let Some(failure) = report.failed.iter().find(|f| f.error.is_unsupported()) {
                return Ok(Err(format!("this kernel cannot do it: {failure}")));
            }
            if let Some(failure) = report.failed.first() {
                bail!("{}: {failure}", end.name);
            }
            if let Some(refused) = report.refused.first() {
                bail!("{}: {refused}", end.name);
            }
        }
        Ok(Ok(()))
    }

    /// The MTU that containers should have.
    pub(crate) fn mtu(&self) -> u32 {
        self.ends.iter().map(|end| end.network.backend().mtu()).min().unwrap_or_default()
    }

    /// Repairs what somebody broke, if anything, and tells it. What could not be done is tried again
    /// by the next call.
    pub(crate) fn repair(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for end in &mut self.ends {
            let patience = Duration::from_millis(1);
            let report = match end.keeper.step(&mut end.reconciler, patience) {
                Ok(Some(report)) => report,
                Ok(None) => continue,
                Err(error) => {
                    lines.push(format!("{}: {error}", end.name));
                    continue;
                }
            };
            if report.writes() > 0 || !report.is_converged() {
                lines.push(format!("{}: repaired: {report}", end.name));
            }
            lines.extend(report.failed.iter().map(|f| format!("{}: {f}", end.name)));
            lines.extend(report.refused.iter().map(|r| format!("{}: {r}", end.name)));
        }
        lines
    }

    /// Removes everything again.
    pub(crate) fn clear(self) -> anyhow::Result<()> {
        for mut end in self.ends {
            end.network.clear(&mut end.reconciler);
            let report = end.reconciler.reconcile(end.keeper.socket())?;
            if let Some(failure) = report.failed.first() {
                bail!("{}: cannot clean up: {failure}", end.name);
            }
        }
        Ok(())
    }
}

/// The article's name, and one for its twin.
fn vtep_name(vm: &Vm, version: IpVersion) -> anyhow::Result<IfName> {
    let name = match version {
        IpVersion::V4 => format!("vtep{}", vm.number),
        IpVersion::V6 => format!("vtep{}v6", vm.number),
    };
    Ok(IfName::new(&name)?)
}

fn node(vm: &Vm, socket: &mut Socket, version: IpVersion) -> anyhow::Result<Node> {
    let dev = IfName::new("eth0")?;
    let underlay = Underlay::observe(socket, &dev)
        .with_context(|| format!("look at the underlay of {}", vm.host.name()))?;
    Ok(Node { id: vm.host.name().into(), subnets: vec![vm.subnet(version)], underlay })
}
