//! What the backends carry, and how fast, beside the kernel's own VXLAN.

use anyhow::Result;
use overlay_backend::Node;
use overlay_backend_ipip::{IpIp, IpIpOptions, Programs};
use overlay_backend_udp::{Arrival, FastPath, Forwarder, ForwarderOptions, Udp, UdpOptions, Xdp};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_lab::Host;

use crate::Contest;
use crate::paths::{Cable, End, Load, Pair, Paths, announce, expect_answer};

/// The bare cable.
const CABLE: &str = "the cable itself";
/// The kernel's VXLAN device.
const VXLAN: &str = "kernel VXLAN, overlay-backend-vxlan";

/// The udp backend, by threads in user space.
const USER: &str = "overlay-backend-udp, user space";
/// The udp backend, by programs in the kernel.
const EBPF: &str = "overlay-backend-udp, eBPF";
/// The same, with packets that arrive on the underlay device.
const UNDERLAY: &str = "overlay-backend-udp, eBPF, arriving on the underlay";
/// The same, before GRO.
const XDP: &str = "overlay-backend-udp, eBPF with XDP, arriving on the underlay";

/// The ipip backend, by programs in the kernel.
const IPIP: &str = "overlay-backend-ipip, eBPF";

/// A contest about what is carried between two hosts.
#[derive(Clone, Copy)]
pub struct PathContest {
    /// Its short name.
    pub id: &'static str,
    title: &'static str,
    cable: Cable,
    load: Load,
    /// How the contestants are to compare with [`VXLAN`].
    goals: &'static [(&'static str, f64)],
}

/// All of them.
pub const ALL: [PathContest; 5] = [
    PathContest {
        id: "tcp-whole",
        title: "1,024 MiB by one TCP flow, super-packets whole",
        cable: Cable::Whole,
        load: Load::Tcp { flows: 1, mib: 1024 },
        goals: &[(UNDERLAY, 1.25), (IPIP, 1.2), (USER, 0.4)],
    },
    PathContest {
        id: "tcp-segmented",
        title: "1,024 MiB by one TCP flow, packets of MTU size",
        cable: Cable::Segmented,
        load: Load::Tcp { flows: 1, mib: 1024 },
        goals: &[(USER, 0.9), (XDP, 0.85)],
    },
    PathContest {
        id: "tcp-segmented-4",
        title: "1,024 MiB by four TCP flows, packets of MTU size",
        cable: Cable::Segmented,
        load: Load::Tcp { flows: 4, mib: 1024 },
        goals: &[(USER, 1.0)],
    },
    PathContest {
        id: "datagrams",
        title: "1,000,000 datagrams of 64 bytes",
        cable: Cable::Whole,
        load: Load::Datagrams { size: 64, count: 1_000_000 },
        goals: &[(UNDERLAY, 1.3), (USER, 1.0)],
    },
    PathContest {
        id: "round-trip",
        title: "A datagram there and back",
        cable: Cable::Whole,
        load: Load::RoundTrip,
        goals: &[(EBPF, 1.0)],
    },
];

impl PathContest {
    /// The contest, with its hosts made and joined.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn make(self) -> Result<Contest<Paths>> {
        let Self { id, title, cable, load, goals } = self;
        let mut contest = Contest::between_hosts(id, title.to_owned(), load.objects());
        let pair = Pair::new(cable)?;
        contest = contest.with(CABLE, move |_| load.measure(&pair, pair.direct()?));

        let pair = Pair::new(cable)?;
        let ends = pair.join(|node| Ok(Vxlan::new(node, &VxlanOptions::default())?))?;
        contest = self.joined(contest, VXLAN, pair, ends)?;
        let programs = ForwarderOptions::default().fast_path(FastPath::Required);
        let underlay = programs.clone().arrival(Arrival::Underlay);
        for (name, options) in [
            (USER, ForwarderOptions::default().fast_path(FastPath::Off)),
            (EBPF, programs),
            (UNDERLAY, underlay.clone()),
            (XDP, underlay.xdp(Xdp::Native)),
        ] {
            let pair = Pair::new(cable)?;
            match carried(&pair, &options) {
                Ok(ends) => contest = self.joined(contest, name, pair, ends)?,
                Err(error) => eprintln!("{name} takes no part: {error:#}"),
            }
        }
        let pair = Pair::new(cable)?;
        match in_ip(&pair) {
            Ok(ends) => contest = self.joined(contest, IPIP, pair, ends)?,
            Err(error) => eprintln!("{IPIP} takes no part: {error:#}"),
        }
        for (fast, at_least) in goals {
            contest = contest.claim(fast, VXLAN, *at_least);
        }
        Ok(contest)
    }

    /// The contest with one more contestant, whose overlay lasts as long as `ends`.
    fn joined(
        self,
        contest: Contest<Paths>,
        name: &str,
        pair: Pair,
        ends: impl Sized + 'static,
    ) -> Result<Contest<Paths>> {
        expect_answer(&pair, pair.overlay()?)?;
        let load = self.load;
        Ok(contest.with(name, move |_| {
            let _ends = &ends;
            load.measure(&pair, pair.overlay()?)
        }))
    }
}

/// The udp backend between two hosts, with whoever carries its packets.
fn carried(pair: &Pair, options: &ForwarderOptions) -> Result<impl Sized + 'static> {
    let nodes = pair.nodes()?;
    let hosts = [&pair.from, &pair.to];
    let start = |host: &Host, node: &Node| {
        let udp = Udp::new(node, &UdpOptions::default())?;
        let namespace = host.namespace().clone();
        let options = options.clone().namespace(namespace);
        let forwarder = Forwarder::start(&udp, &options)?;
        anyhow::Ok((udp, forwarder))
    };
    let [(first, sender), (second, receiver)] =
        [start(hosts[0], &nodes[0])?, start(hosts[1], &nodes[1])?];
    let peers = vec![announce(&nodes[0], &first), announce(&nodes[1], &second)];
    let mut ends = Vec::new();
    for ((host, node), udp) in hosts.into_iter().zip(nodes).zip([first, second]) {
        ends.push(End::new(host, node, udp, peers.clone())?);
    }
    Ok((ends, sender, receiver))
}

/// The ipip backend between two hosts, by programs.
fn in_ip(pair: &Pair) -> Result<impl Sized + 'static> {
    let options = IpIpOptions::default().programs();
    let ends = pair.join(|node| Ok(IpIp::new(node, &options)?))?;
    let mut programs = Vec::new();
    for (host, end) in [&pair.from, &pair.to].into_iter().zip(&ends) {
        programs.push(Programs::start(end.network.backend(), Some(host.namespace()))?);
    }
    Ok((programs, ends))
}
