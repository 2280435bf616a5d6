//! Joining the hosts by a backend.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use overlay_backend::{
    Backend, Keeper, Network, Node, Owner, Peer, PeerError, Reconciler, Underlay, UnderlayError,
};
use overlay_backend_host_gw::HostGw;
use overlay_backend_ipip::{IpIp, IpIpOptions};
use overlay_backend_udp::{Counters, FastPath, Forwarder, ForwarderOptions, Udp, UdpOptions};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_netlink::{IfName, Protocol, Socket};
use overlay_wire::IpVersion;

use crate::setup::{Setup, Vm};

/// A backend, and for udp who carries its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vxlan,
    HostGw,
    IpIp,
    Udp(FastPath),
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
            Self::IpIp => "ipip",
            Self::Udp(FastPath::Off) => "udp/user",
            Self::Udp(_) => "udp/ebpf",
        }
    }

    /// The backend on one node, over an underlay of this family.
    fn backend(
        self,
        vm: &Vm,
        node: &Node,
        version: IpVersion,
    ) -> anyhow::Result<Result<Method, UnderlayError>> {
        Ok(match self {
            Self::HostGw => Ok(Method::Kernel(Box::new(HostGw::new(node)))),
            Self::Vxlan => {
                let device = device_name("vtep", vm, version)?;
                let options = VxlanOptions::default().underlay(version).device(device);
                Vxlan::new(node, &options).map(|vxlan| Method::Kernel(Box::new(vxlan)))
            }
            Self::IpIp => {
                let device = device_name("tun", vm, version)?;
                let options = IpIpOptions::default().underlays([version]).carries([version]);
                let options = match version {
                    IpVersion::V4 => options.ipip(device),
                    IpVersion::V6 => options.ip6tnl(device),
                };
                IpIp::new(node, &options).map(|ipip| Method::Kernel(Box::new(ipip)))
            }
            Self::Udp(fast_path) => {
                let device = device_name("udp", vm, version)?;
                let options = UdpOptions::default().underlay(version).device(device);
                Udp::new(node, &options).map(|udp| Method::Forwarded(udp, fast_path))
            }
        })
    }
}

/// Who carries the packets of a backend.
enum Method {
    /// The kernel, as soon as it has the backend's objects.
    Kernel(Box<dyn Backend>),
    /// A forwarder.
    Forwarded(Udp, FastPath),
}

/// One host's end of an overlay network.
struct End {
    name: String,
    keeper: Keeper,
    network: Network<Box<dyn Backend>>,
    reconciler: Reconciler,
    endpoint: IpAddr,
    /// For whom packets are carried by a forwarder: how it is started, and then itself.
    forwarded: Option<(Udp, ForwarderOptions)>,
    forwarder: Option<Forwarder>,
}

impl End {
    /// What it tells the other host.
    fn announce(&self) -> Peer {
        let Node { id, subnets, .. } = self.network.node().clone();
        let data = self.network.backend().data();
        Peer { id, subnets, endpoints: vec![self.endpoint], data }
    }
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
        for vm in setup.vms() {
            let mut socket = vm.host.socket()?;
            let node = node(vm, &mut socket, version)?;
            // One number for each family: the two networks are kept apart.
            let protocol = Protocol(Owner::DEFAULT_PROTOCOL.0 + version.header_len() as u8 / 20);
            let owner = Owner::new(protocol)?;
            let namespace = vm.host.namespace();
            let (backend, forwarded): (Box<dyn Backend>, _) =
                match kind.backend(vm, &node, version)? {
                    Ok(Method::Kernel(backend)) => (backend, None),
                    Ok(Method::Forwarded(udp, fast_path)) => {
                        let options = ForwarderOptions::default()
                            .namespace(namespace.clone())
                            .owner(owner)
                            .fast_path(fast_path);
                        (Box::new(udp.clone()), Some((udp, options)))
                    }
                    Err(error) => return Ok(Err(error.to_string())),
                };
            let mut reconciler = Reconciler::new(owner);
            let network = Network::new("two-node", node, backend, &mut reconciler)?;
            ends.push(End {
                name: vm.host.name().to_owned(),
                keeper: Keeper::open_in(namespace)?,
                network,
                reconciler,
                endpoint: vm.underlay(version),
                forwarded,
                forwarder: None,
            });
        }
        let mut joined = Self { ends };
        Ok(joined.introduce()?.map(|()| joined))
    }

    /// Tells each host of everybody, itself included, as a store would. The inner error says why the backend cannot join
    /// them.
    fn introduce(&mut self) -> anyhow::Result<Result<(), String>> {
        let peers: Vec<Peer> = self.ends.iter().map(End::announce).collect();
        for end in &mut self.ends {
            let refused = end.network.set_peers(peers.clone(), &mut end.reconciler);
            match refused.into_iter().next() {
                Some(error @ PeerError::NotOnLink { .. }) => return Ok(Err(error.to_string())),
                Some(error) => return Err(error.into()),
                None => {}
            }
        }
        Ok(Ok(()))
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
            let Some((udp, options)) = &end.forwarded else { continue };
            match Forwarder::start(udp, options) {
                Ok(forwarder) => end.forwarder = Some(forwarder),
                Err(error) => return Ok(Err(format!("{}: {error}", end.name))),
            }
        }
        // What a host tells the other depends on who carries its packets.
        if let Err(reason) = self.introduce()? {
            return Ok(Err(reason));
        }
        for end in &mut self.ends {
            let report = end.reconciler.reconcile(end.keeper.socket())?;
            if let Some(failure) = report.failed.iter().find(|f| f.error.is_unsupported()) {
                let elsewhere = "`cargo run --release --example two-vm` brings a kernel of its own";
                return Ok(Err(format!("this kernel cannot do it: {failure}; {elsewhere}")));
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

    /// Who carries the packets and what they have carried, a line for each host that has a forwarder.
    pub(crate) fn carried(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for End { name, forwarder, .. } in &self.ends {
            let Some(forwarder) = forwarder else { continue };
            let Counters { sent, received, drops, .. } = forwarder.counters();
            let mut line = format!(
                "{name}, user space: sent {} packets in {} sends, received {} in {} receives",
                sent.packets, sent.trains, received.packets, received.trains
            );
            for (reason, count) in drops.iter().filter(|(_, count)| *count > 0) {
                line.push_str(&format!(", dropped {count} as {reason}"));
            }
            lines.push(line);
            if let Some(fast) = forwarder.fast_counters() {
                let (sent, received) = (fast.sent.packets, fast.received.packets);
                let mut line = format!(
                    "{name}, eBPF: sent {sent} packets and super-packets, received {received}"
                );
                for (reason, count) in fast.reasons() {
                    let fate = if reason.is_drop() { "dropped" } else { "passed on" };
                    line.push_str(&format!(", {fate} {count} as {reason}"));
                }
                lines.push(line);
            }
        }
        lines
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
            end.forwarder.take().map_or(Ok(()), Forwarder::remove)?;
        }
        Ok(())
    }
}

/// A name with the host's number in the manner of the article, which calls its VXLAN devices `vtep245` and `vtep246`, and
/// one for its twin.
fn device_name(prefix: &str, vm: &Vm, version: IpVersion) -> anyhow::Result<IfName> {
    let name = match version {
        IpVersion::V4 => format!("{prefix}{}", vm.number),
        IpVersion::V6 => format!("{prefix}{}v6", vm.number),
    };
    Ok(IfName::new(&name)?)
}

fn node(vm: &Vm, socket: &mut Socket, version: IpVersion) -> anyhow::Result<Node> {
    let dev = IfName::new("eth0")?;
    let underlay = Underlay::observe(socket, &dev)
        .with_context(|| format!("look at the underlay of {}", vm.host.name()))?;
    Ok(Node { id: vm.host.name().into(), subnets: vec![vm.subnet(version)], underlay })
}
