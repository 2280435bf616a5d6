//! Joining a machine to the other one by a backend.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use overlay_backend::{
    Backend, Keeper, Network, Node, Owner, Peer, PeerError, Reconciler, Underlay, UnderlayError,
};
use overlay_backend_host_gw::HostGw;
use overlay_backend_ipip::{Counters as ProgramCounters, IpIp, IpIpOptions, Programs};
use overlay_backend_udp::{Counters, FastPath, Forwarder, ForwarderOptions, Udp, UdpOptions};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_netlink::{IfName, Namespace, Protocol, Socket};
use overlay_wire::IpVersion;

use crate::Machine;

/// A backend, and for udp who carries its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VXLAN device.
    Vxlan,
    /// Routes.
    HostGw,
    /// IP in IP, by the kernel's devices or by programs in it.
    IpIp,
    /// IP in UDP.
    Udp(FastPath),
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::HostGw,
        Self::IpIp,
        Self::Vxlan,
        Self::Udp(FastPath::Off),
        Self::Udp(FastPath::Required),
    ];

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
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
        machine: &Machine,
        node: &Node,
        version: IpVersion,
    ) -> anyhow::Result<Result<Method, UnderlayError>> {
        Ok(match self {
            Self::HostGw => Ok(Method::Kernel(Box::new(HostGw::new(node)))),
            Self::IpIp => {
                let device = device_name("tun", machine, version)?;
                let options = IpIpOptions::default().underlays([version]).carries([version]);
                let options = match version {
                    IpVersion::V4 => options.ipip(device),
                    IpVersion::V6 => options.ip6tnl(device),
                };
                let options = options.ebpf(device).suited_to(node, &mut machine.host.socket()?)?;
                IpIp::new(node, &options).map(Method::IpIp)
            }
            Self::Vxlan => {
                let device = device_name("vtep", machine, version)?;
                let options = VxlanOptions::default().underlay(version).device(device);
                Vxlan::new(node, &options).map(|vxlan| Method::Kernel(Box::new(vxlan)))
            }
            Self::Udp(fast_path) => {
                let device = device_name("udp", machine, version)?;
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
    /// The kernel, or programs in it.
    IpIp(IpIp),
}

/// One machine's end of an overlay network, about to be joined or joined.
///
/// Where a method returns a `Result` in a `Result`, the inner error says why the backend, or the kernel, cannot do it.
pub struct End {
    name: String,
    keeper: Keeper,
    network: Network<Box<dyn Backend>>,
    reconciler: Reconciler,
    endpoint: IpAddr,
    /// For whom packets are carried by a forwarder: how it is started, and then itself.
    forwarded: Option<(Udp, ForwarderOptions)>,
    forwarder: Option<Forwarder>,
    /// For whom they are carried by programs alone: the backend, and then these.
    by_programs: Option<(IpIp, Namespace)>,
    programs: Option<Programs>,
}

impl End {
    /// Works out what the machine needs.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked.
    pub fn prepare(
        machine: &Machine,
        kind: Kind,
        version: IpVersion,
    ) -> anyhow::Result<Result<Self, String>> {
        let mut socket = machine.host.socket()?;
        let node = node(machine, &mut socket, version)?;
        // One number for each family: the two networks are kept apart.
        let protocol = Protocol(Owner::DEFAULT_PROTOCOL.0 + version.header_len() as u8 / 20);
        let owner = Owner::new(protocol)?;
        let namespace = machine.host.namespace();
        let (backend, forwarded, by_programs): (Box<dyn Backend>, _, _) = match kind
            .backend(machine, &node, version)?
        {
            Ok(Method::Kernel(backend)) => (backend, None, None),
            Ok(Method::IpIp(ipip)) => {
                let by_programs = ipip.is_by_programs().then(|| (ipip.clone(), namespace.clone()));
                (Box::new(ipip), None, by_programs)
            }
            Ok(Method::Forwarded(udp, fast_path)) => {
                let options = ForwarderOptions::default()
                    .namespace(namespace.clone())
                    .owner(owner)
                    .fast_path(fast_path);
                (Box::new(udp.clone()), Some((udp, options)), None)
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut reconciler = Reconciler::new(owner);
        let network = Network::new("two-node", node, backend, &mut reconciler)?;
        Ok(Ok(Self {
            name: machine.host.name().to_owned(),
            keeper: Keeper::open_in(namespace)?,
            network,
            reconciler,
            endpoint: machine.addresses.host(version),
            forwarded,
            forwarder: None,
            by_programs,
            programs: None,
        }))
    }

    /// What it tells the other machine, which depends on who carries its packets.
    #[must_use]
    pub fn announce(&self) -> Peer {
        let Node { id, subnets, .. } = self.network.node().clone();
        let data = self.network.backend().data();
        Peer { id, subnets, endpoints: vec![self.endpoint], data }
    }

    /// Hears of everybody, itself included, as from a store.
    ///
    /// # Errors
    ///
    /// When a peer cannot be joined, and not for lack of a link to it.
    pub fn introduce(&mut self, peers: &[Peer]) -> anyhow::Result<Result<(), String>> {
        let refused = self.network.set_peers(peers.iter().cloned(), &mut self.reconciler);
        match refused.into_iter().next() {
            Some(error @ PeerError::NotOnLink { .. }) => Ok(Err(error.to_string())),
            Some(error) => Err(error.into()),
            None => Ok(Ok(())),
        }
    }

    /// What is to be done, as commands.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked.
    pub fn commands(&mut self) -> anyhow::Result<Vec<String>> {
        self.reconciler.observe(self.keeper.socket())?;
        let plan = self.reconciler.plan()?.to_string();
        Ok(plan.lines().map(|line| format!("{}# {line}", self.name)).collect())
    }

    /// Starts the forwarder, if packets are carried by one.
    ///
    /// # Errors
    ///
    /// What it lacks, in words.
    pub fn start(&mut self) -> Result<(), String> {
        let Some((udp, options)) = &self.forwarded else { return Ok(()) };
        let started = Forwarder::start(udp, options);
        self.forwarder = Some(started.map_err(|error| format!("{}: {error}", self.name))?);
        Ok(())
    }

    /// Makes the kernel hold what it should.
    ///
    /// # Errors
    ///
    /// When it refuses something that it supports.
    pub fn apply(&mut self) -> anyhow::Result<Result<(), String>> {
        let report = self.reconciler.reconcile(self.keeper.socket())?;
        if let Some(failure) = report.failed.iter().find(|f| f.error.is_unsupported()) {
            return Ok(Err(format!("this kernel cannot do it: {failure}")));
        }
        if let Some(failure) = report.failed.first() {
            bail!("{}: {failure}", self.name);
        }
        if let Some(refused) = report.refused.first() {
            bail!("{}: {refused}", self.name);
        }
        Ok(self.start_programs())
    }

    /// Starts the programs on the device that has been made, if packets are carried by those alone.
    fn start_programs(&mut self) -> Result<(), String> {
        if let (Some((ipip, namespace)), None) = (&self.by_programs, &self.programs) {
            let started = Programs::start(ipip, Some(namespace));
            self.programs = Some(started.map_err(|error| {
                format!("this kernel has no devices for it, and programs are not possible: {error}")
            })?);
        }
        Ok(())
    }

    /// Who carries the packets and what they have carried, in lines; none if the kernel's devices and routes do it.
    #[must_use]
    pub fn carried(&self) -> Vec<String> {
        let name = &self.name;
        let counters = self.programs.as_ref().and_then(Programs::counters);
        let programs = counters.map(|counters| by_programs(name, &counters));
        let Some(forwarder) = &self.forwarder else { return programs.into_iter().collect() };
        let Counters { sent, received, drops, .. } = forwarder.counters();
        let mut line = format!(
            "{name}, user space: sent {} packets in {} sends, received {} in {} receives",
            sent.packets, sent.trains, received.packets, received.trains
        );
        for (reason, count) in drops.iter().filter(|(_, count)| *count > 0) {
            line.push_str(&format!(", dropped {count} as {reason}"));
        }
        let mut lines = vec![line];
        lines.extend(forwarder.fast_counters().map(|fast| by_programs(name, &fast)));
        lines
    }

    /// The MTU that containers should have.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.network.backend().mtu()
    }

    /// Repairs what somebody broke, if anything, and tells it. What could not be done is tried again
    /// by the next call.
    pub fn repair(&mut self) -> Vec<String> {
        let patience = Duration::from_millis(1);
        let name = &self.name;
        let report = match self.keeper.step(&mut self.reconciler, patience) {
            Ok(Some(report)) => report,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![format!("{name}: {error}")],
        };
        let mut lines = Vec::new();
        if report.writes() > 0 || !report.is_converged() {
            lines.push(format!("{name}: repaired: {report}"));
        }
        lines.extend(report.failed.iter().map(|f| format!("{name}: {f}")));
        lines.extend(report.refused.iter().map(|r| format!("{name}: {r}")));
        lines
    }

    /// Removes everything again.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn clear(mut self) -> anyhow::Result<()> {
        self.programs = None;
        self.network.clear(&mut self.reconciler);
        let report = self.reconciler.reconcile(self.keeper.socket());
        let removed = self.forwarder.take().map_or(Ok(()), Forwarder::remove);
        if let Some(failure) = report?.failed.first() {
            bail!("{}: cannot clean up: {failure}", self.name);
        }
        Ok(removed?)
    }
}

/// What programs have carried, in a line.
fn by_programs(name: &str, counters: &ProgramCounters) -> String {
    let (sent, received) = (counters.sent.packets, counters.received.packets);
    let mut line =
        format!("{name}, eBPF: sent {sent} packets and super-packets, received {received}");
    for (reason, count) in counters.reasons() {
        let fate = if reason.is_drop() { "dropped" } else { "passed on" };
        line.push_str(&format!(", {fate} {count} as {reason}"));
    }
    line
}

/// A name with the machine's number in the manner of the article, which calls its devices `tun245` and `vtep245`, and one for its twin.
fn device_name(prefix: &str, machine: &Machine, version: IpVersion) -> anyhow::Result<IfName> {
    let name = match version {
        IpVersion::V4 => format!("{prefix}{}", machine.addresses.number),
        IpVersion::V6 => format!("{prefix}{}v6", machine.addresses.number),
    };
    Ok(IfName::new(&name)?)
}

fn node(machine: &Machine, socket: &mut Socket, version: IpVersion) -> anyhow::Result<Node> {
    let dev = IfName::new("eth0")?;
    let underlay = Underlay::observe(socket, &dev)
        .with_context(|| format!("look at the underlay of {}", machine.host.name()))?;
    Ok(Node {
        id: machine.host.name().into(),
        subnets: vec![machine.addresses.subnet(version)],
        underlay,
    })
}
