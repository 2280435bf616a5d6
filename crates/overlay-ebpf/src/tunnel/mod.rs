//! Tunnels: IP packets in UDP datagrams or IP packets, put in and taken out by programs in the kernel.

pub(crate) mod abi;
mod counters;
mod egress;
mod emit;
mod ingress;
mod options;
mod peer;
mod routed;

use ipnet::IpNet;
use overlay_netlink::Ifindex;

pub use counters::{Counters, Reason, Traffic};
pub use options::{Arrival, DEFAULT_PORT, Dscp, Format, SourcePort, TunnelOptions};
pub use peer::Remote;
pub use routed::Routed;

use self::emit::{Maps, PeersV4, PeersV6};
use self::options::Plan;
use crate::attach::{Attachment, Hook, Method, sweep};
use crate::error::Error;
use crate::map::{MapKind, PerCpuArray};
use crate::probe::Mixtures;
use crate::program::{Program, ProgramKind};

/// How a tunnel is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachOptions {
    /// How classifiers are attached.
    pub method: Method,
    /// Whether decapsulation happens before GRO, in an XDP program.
    pub xdp: Xdp,
}

impl AttachOptions {
    /// TCX where the kernel has it, without XDP.
    #[must_use]
    pub const fn new() -> Self {
        Self { method: Method::Auto, xdp: Xdp::Off }
    }

    /// With classifiers attached in another way.
    #[must_use]
    pub const fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// With decapsulation before GRO, or not.
    #[must_use]
    pub const fn xdp(mut self, xdp: Xdp) -> Self {
        self.xdp = xdp;
        self
    }
}

/// Whether packets are decapsulated in an XDP program.
///
/// That pays where packets arrive one by one, as from a network card: the kernel then merges the inner TCP segments (GRO),
/// which it does not do for a packet inside another. It does not pay where packets arrive unsegmented, as from a veth
/// whose other end is on the same machine: XDP takes segmentation offload from that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Xdp {
    /// No: the classifier does it.
    #[default]
    Off,
    /// In the driver; those that cannot are an error. Behind the driver, as generic XDP, it would be too late for GRO.
    Native,
}

/// The programs and maps of a tunnel, loaded.
///
/// They do nothing before they are [attached](Self::attach).
#[derive(Debug)]
pub struct Tunnel {
    name: String,
    device: Ifindex,
    underlay: Ifindex,
    maps: Maps,
    egress: Program,
    ingress: Program,
    plan: Plan,
    mixtures: Mixtures,
}

impl Tunnel {
    /// Makes the maps and loads the programs.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when the options contradict each other, [`Error::Map`] and [`Error::Load`] when the kernel
    /// refuses.
    ///
    /// # Privileges
    ///
    /// `CAP_BPF` and `CAP_NET_ADMIN` (before Linux 5.8 `CAP_SYS_ADMIN`), outside of any user namespace. Before Linux 5.11
    /// maps count as locked memory, of which `RLIMIT_MEMLOCK` must allow enough.
    pub fn load(options: &TunnelOptions) -> Result<Self, Error> {
        let plan = Plan::new(options)?;
        let name = &options.name;
        let maps = Maps {
            v4: PeersV4::create(MapKind::LpmTrie, &format!("{name}_v4"), options.capacity)?,
            v6: PeersV6::create(MapKind::LpmTrie, &format!("{name}_v6"), options.capacity)?,
            counters: PerCpuArray::create(&format!("{name}_count"), 1)?,
        };
        let mixtures = Mixtures::probe()?;
        let classifier = |name: &str, code| Program::assemble(ProgramKind::Classifier, name, code);
        let egress = classifier(&format!("{name}_out"), egress::program(&plan, &maps, mixtures))?;
        let ingress =
            classifier(&format!("{name}_in"), ingress::classifier(&plan, &maps, mixtures, None))?;
        Ok(Self {
            name: name.clone(),
            device: plan.device,
            underlay: plan.underlay,
            maps,
            egress,
            ingress,
            plan,
            mixtures,
        })
    }

    /// Sends packets for a prefix to a peer, and takes packets from the prefix from nobody else. What was there is
    /// replaced, without a packet in between seeing neither.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when the map is full.
    pub fn set_peer(&self, prefix: IpNet, remote: &Remote) -> Result<(), Error> {
        self.set_peers([(prefix, remote)])
    }

    /// The same for many at once, in few system calls.
    ///
    /// # Errors
    ///
    /// As [`set_peer`](Self::set_peer); some of them may be done.
    pub fn set_peers<'a>(
        &self,
        peers: impl IntoIterator<Item = (IpNet, &'a Remote)>,
    ) -> Result<(), Error> {
        let (v4, v6) = peer::entries(peers);
        self.maps.v4.update_all(&v4)?;
        self.maps.v6.update_all(&v6)
    }

    /// Forgets the peer of a prefix; returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when the kernel refuses.
    pub fn remove_peer(&self, prefix: IpNet) -> Result<bool, Error> {
        match prefix {
            IpNet::V4(net) => self.maps.v4.delete(&peer::key_v4(net)),
            IpNet::V6(net) => self.maps.v6.delete(&peer::key_v6(net)),
        }
    }

    /// Attaches the programs to their devices, which have to be in the calling thread's network namespace. From the
    /// moment it is dropped on, all packets go where they would go without.
    ///
    /// Filters that an earlier process of the same tunnel name left behind are removed first.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`] and [`Error::Netlink`]: nothing stays attached.
    ///
    /// # Privileges
    ///
    /// `CAP_NET_ADMIN` in the devices' network namespace; for XDP as [`load`](Self::load).
    pub fn attach(&self, options: AttachOptions) -> Result<Attached, Error> {
        for device in [self.device, self.underlay] {
            sweep(device, &self.name)?;
        }
        let attach = |program: &Program, hook, device| {
            Attachment::new(program, hook, device, options.method, &self.name)
        };
        // In before out: peers answer to what is sent.
        let mut held = Vec::new();
        match options.xdp {
            Xdp::Off => held.push(attach(&self.ingress, Hook::Ingress, self.underlay)?),
            Xdp::Native => {
                let mark = (self.plan.arrival == Arrival::Device).then(|| mark(self.underlay));
                let name = format!("{}_in", self.name);
                let code = ingress::classifier(&self.plan, &self.maps, self.mixtures, mark);
                let classifier = Program::assemble(ProgramKind::Classifier, &name, code)?;
                held.push(attach(&classifier, Hook::Ingress, self.underlay)?);
                let xdp = self.load_xdp(mark)?;
                held.push(attach(&xdp, Hook::XdpNative, self.underlay)?);
            }
        }
        held.push(attach(&self.egress, Hook::Egress, self.device)?);
        // They go off in this order: first nothing more is sent.
        held.reverse();
        Ok(Attached { held })
    }

    /// For frames in several pieces where the kernel knows of those.
    fn load_xdp(&self, mark: Option<ingress::Mark>) -> Result<Program, Error> {
        let name = format!("{}_xdp", self.name);
        let code = || ingress::xdp(&self.plan, &self.maps, self.mixtures, mark);
        Program::assemble(ProgramKind::XdpFragments, &name, code())
            .or_else(|_| Program::assemble(ProgramKind::Xdp, &name, code()))
    }

    /// What was carried so far, and what was not, whether attached or not.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when the kernel refuses.
    pub fn counters(&self) -> Result<Counters, Error> {
        Counters::read(&self.maps.counters)
    }

    /// The program on the tunnel's device, for tests and listings.
    #[must_use]
    pub const fn egress(&self) -> &Program {
        &self.egress
    }

    /// The classifier on the underlay device, for tests and listings.
    #[must_use]
    pub const fn ingress(&self) -> &Program {
        &self.ingress
    }
}

/// What no other program writes in front of a packet by chance.
fn mark(underlay: Ifindex) -> ingress::Mark {
    [u32::from_be_bytes(*b"ovly"), underlay.0]
}

/// An attached tunnel; dropping it takes the programs off.
#[derive(Debug)]
#[must_use = "dropping it takes the programs off again"]
pub struct Attached {
    held: Vec<Attachment>,
}

impl Attached {
    /// Each program's place.
    pub fn attachments(&self) -> &[Attachment] {
        &self.held
    }
}
