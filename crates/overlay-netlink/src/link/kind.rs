//! What sort of device a link is, and the attributes of each sort.

use std::fmt::{Display, Write};
use std::net::IpAddr;

use netlink_packet_core::{NlasIterator, ParseableParametrized};
use netlink_packet_route::IpProtocol;
use netlink_packet_route::link::{
    BridgeStpState, GreIOFlags, InfoBridge, InfoData, InfoGre, InfoGre6, InfoIpTunnel, InfoKind,
    InfoVeth, InfoVxlan, Ip6TunnelFlags, LinkInfo, LinkMessage, VxlanDf,
};
use overlay_wire::{MacAddr, Vni};

use super::{LinkNamespace, each};
use crate::codec;
use crate::{DeviceRef, IfName, Ifindex};

/// What sort of device a link is (`IFLA_INFO_KIND` in `linux/if_link.h`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkKind<D = Ifindex> {
    /// None that netlink can create: a physical device, loopback. In a change, any.
    Device,
    /// One end of a virtual cable. The other end is given at creation and never reported.
    Veth(Option<Box<VethPeer>>),
    /// An Ethernet bridge.
    Bridge(Bridge),
    /// A VXLAN device.
    Vxlan(Box<Vxlan<D>>),
    /// IPv4 (or MPLS) in IPv4.
    Ipip(Box<Tunnel<D>>),
    /// IPv6 (or IPv4) in IPv4.
    Sit(Box<Tunnel<D>>),
    /// IPv6 or IPv4 in IPv6.
    Ip6tnl(Box<Tunnel<D>>),
    /// GRE, over IPv4 or IPv6, of packets or of Ethernet frames.
    Gre(Box<Gre<D>>),
    /// An intermediate functional block.
    Ifb,
    /// A device that drops all it is given.
    Dummy,
    /// A TUN or TAP device. Seen, not created: `/dev/net/tun` does that.
    Tun,
    /// Any other kind, by its name.
    Other(String),
}

/// The other end of a new virtual cable. It starts down: the kernel sets this end up, if told so,
/// before the other end has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct VethPeer {
    /// Its name.
    pub name: IfName,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Its MAC address.
    pub address: Option<MacAddr>,
    /// The namespace it is created in.
    pub namespace: Option<LinkNamespace>,
}

impl VethPeer {
    /// The end called `name`, in the same namespace.
    #[must_use]
    pub const fn new(name: IfName) -> Self {
        Self { name, mtu: None, address: None, namespace: None }
    }
}

/// Attributes of a bridge. `None` leaves a setting to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Bridge {
    /// Whether the spanning tree protocol runs.
    pub stp: Option<bool>,
    /// Hundredths of a second until a port that comes up forwards.
    pub forward_delay: Option<u32>,
    /// Hundredths of a second until a learned address is forgotten.
    pub ageing_time: Option<u32>,
    /// Whether frames are kept apart by VLAN.
    pub vlan_filtering: Option<bool>,
    /// Whether multicast goes only to the ports that asked for it.
    pub mcast_snooping: Option<bool>,
}

/// How a VXLAN device sets the Don't Fragment bit of the outer IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Df {
    /// Never.
    Unset,
    /// Always.
    Set,
    /// As in the inner packet.
    Inherit,
}

/// Attributes of a VXLAN device (`IFLA_VXLAN_*` in `linux/if_link.h`). `None` and `false` leave a
/// setting to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Vxlan<D = Ifindex> {
    /// The network identifier; `None` on flow-based devices.
    pub id: Option<Vni>,
    /// The underlay device.
    pub dev: Option<D>,
    /// The source address of outer packets.
    pub local: Option<IpAddr>,
    /// Where frames for unknown addresses go: a multicast group, or one VTEP (iproute2's
    /// `remote`).
    pub group: Option<IpAddr>,
    /// The UDP destination port. The kernel's own default is 8472; IANA's is 4789.
    pub port: Option<u16>,
    /// The range that UDP source ports are taken from, first and last; `(0, 0)` for the system's.
    pub source_ports: Option<(u16, u16)>,
    /// Whether source addresses are learned from packets.
    pub learning: Option<bool>,
    /// Seconds until a learned entry is forgotten.
    pub ageing: Option<u32>,
    /// The most FDB entries; zero for no limit.
    pub limit: Option<u32>,
    /// TTL or hop limit of outer packets; zero leaves it to the system (64).
    pub ttl: Option<u8>,
    /// TTL is copied from the inner packet.
    pub ttl_inherit: bool,
    /// TOS or traffic class of outer packets; 1 copies that of the inner packet.
    pub tos: Option<u8>,
    /// Don't Fragment.
    pub df: Option<Df>,
    /// Flow label of outer IPv6 packets.
    pub label: Option<u32>,
    /// Answer ARP and neighbour discovery from the neighbour table.
    pub proxy: Option<bool>,
    /// Route short circuit.
    pub rsc: Option<bool>,
    /// Tell of MAC addresses without FDB entry.
    pub l2miss: Option<bool>,
    /// Tell of IP addresses without neighbour.
    pub l3miss: Option<bool>,
    /// Outer UDP checksum over IPv4.
    pub udp_csum: Option<bool>,
    /// Send outer UDP over IPv6 without checksum.
    pub udp6_zero_csum_tx: Option<bool>,
    /// Accept outer UDP over IPv6 without checksum.
    pub udp6_zero_csum_rx: Option<bool>,
    /// Remote checksum offload, sending.
    pub rem_csum_tx: Option<bool>,
    /// Remote checksum offload, receiving.
    pub rem_csum_rx: Option<bool>,
    /// Flow-based (iproute2's `external`): routes and filters give each packet its tunnel.
    pub external: bool,
    /// Flow-based, and takes only the VNIs that were configured.
    pub vnifilter: bool,
    /// Group policy extension.
    pub gbp: bool,
    /// Generic protocol extension.
    pub gpe: bool,
    /// Deliver to another VXLAN device of this host without the underlay.
    pub localbypass: Option<bool>,
}

impl<D> Vxlan<D> {
    /// A device for the network `id`.
    #[must_use]
    pub fn new(id: Vni) -> Self {
        Self { id: Some(id), ..Self::unset() }
    }

    /// A flow-based device. It does not learn, as with iproute2: what it would learn is not what
    /// the routes and filters say.
    #[must_use]
    pub fn external() -> Self {
        Self { external: true, learning: Some(false), ..Self::unset() }
    }

    /// A device with every setting left open: for a change in place set what is to change, and
    /// nothing else, since the kernel refuses to hear of what it cannot change even where it is
    /// right.
    #[must_use]
    pub const fn unset() -> Self {
        Self {
            id: None,
            dev: None,
            local: None,
            group: None,
            port: None,
            source_ports: None,
            learning: None,
            ageing: None,
            limit: None,
            ttl: None,
            ttl_inherit: false,
            tos: None,
            df: None,
            label: None,
            proxy: None,
            rsc: None,
            l2miss: None,
            l3miss: None,
            udp_csum: None,
            udp6_zero_csum_tx: None,
            udp6_zero_csum_rx: None,
            rem_csum_tx: None,
            rem_csum_rx: None,
            external: false,
            vnifilter: false,
            gbp: false,
            gpe: false,
            localbypass: None,
        }
    }
}

/// What a tunnel carries (`IFLA_IPTUN_PROTO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TunnelMode {
    /// Whatever the device can.
    Any,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl TunnelMode {
    const fn number(self) -> u8 {
        match self {
            Self::Any => 0,
            Self::Ipv4 => 4,
            Self::Ipv6 => 41,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Any),
            4 => Some(Self::Ipv4),
            41 => Some(Self::Ipv6),
            _ => None,
        }
    }
}

/// What an ip6tnl device writes about further encapsulation (RFC 2473, section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncapLimit {
    /// Nothing.
    Off,
    /// How often a packet may be encapsulated again: 8 bytes in a destination options header.
    At(u8),
}

impl Display for EncapLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("none"),
            Self::At(limit) => limit.fmt(f),
        }
    }
}

/// Attributes of an IP tunnel: ipip, sit or ip6tnl (`IFLA_IPTUN_*` in `linux/if_tunnel.h`). `None`
/// and `false` leave a setting to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tunnel<D = Ifindex> {
    /// What it carries.
    pub mode: Option<TunnelMode>,
    /// The near end.
    pub local: Option<IpAddr>,
    /// The far end; without one the routes decide.
    pub remote: Option<IpAddr>,
    /// The underlay device.
    pub dev: Option<D>,
    /// TTL or hop limit of outer packets; zero copies that of the inner packet.
    pub ttl: Option<u8>,
    /// TOS of outer packets; 1 copies that of the inner packet.
    pub tos: Option<u8>,
    /// Whether outer IPv4 packets have Don't Fragment set.
    pub pmtudisc: Option<bool>,
    /// ip6tnl: the limit of further encapsulation. The kernel writes one of zero unless told not to.
    pub encap_limit: Option<EncapLimit>,
    /// Mark of outer packets.
    pub fwmark: Option<u32>,
    /// Flow-based.
    pub external: bool,
}

impl<D> Tunnel<D> {
    /// A tunnel with all settings left to the kernel.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: None,
            local: None,
            remote: None,
            dev: None,
            ttl: None,
            tos: None,
            pmtudisc: None,
            encap_limit: None,
            fwmark: None,
            external: false,
        }
    }
}

impl<D> Default for Tunnel<D> {
    fn default() -> Self {
        Self::new()
    }
}

/// Attributes of a GRE device (`IFLA_GRE_*` in `linux/if_tunnel.h`). Whether it runs over IPv4 or
/// IPv6 follows from its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Gre<D = Ifindex> {
    /// Carries Ethernet frames (gretap) and not packets.
    pub tap: bool,
    /// The outer header is IPv6 (ip6gre) and not IPv4.
    pub ipv6: bool,
    /// The near end.
    pub local: Option<IpAddr>,
    /// The far end.
    pub remote: Option<IpAddr>,
    /// The underlay device.
    pub dev: Option<D>,
    /// The key that packets must have.
    pub ikey: Option<u32>,
    /// The key that packets are given.
    pub okey: Option<u32>,
    /// TTL or hop limit of outer packets; zero copies that of the inner packet.
    pub ttl: Option<u8>,
    /// TOS of outer packets; 1 copies that of the inner packet.
    pub tos: Option<u8>,
    /// Whether outer IPv4 packets have Don't Fragment set.
    pub pmtudisc: Option<bool>,
    /// Flow-based.
    pub external: bool,
}

impl<D> Gre<D> {
    /// A GRE device with all settings left to the kernel, over IPv6 if `ipv6`.
    #[must_use]
    pub const fn new(ipv6: bool) -> Self {
        Self {
            tap: false,
            ipv6,
            local: None,
            remote: None,
            dev: None,
            ikey: None,
            okey: None,
            ttl: None,
            tos: None,
            pmtudisc: None,
            external: false,
        }
    }
}

impl<D: DeviceRef> LinkKind<D> {
    /// The kernel's name for the kind; empty for a device that has none.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Device => "",
            Self::Veth(_) => "veth",
            Self::Bridge(_) => "bridge",
            Self::Vxlan(_) => "vxlan",
            Self::Ipip(_) => "ipip",
            Self::Sit(_) => "sit",
            Self::Ip6tnl(_) => "ip6tnl",
            Self::Gre(gre) => match (gre.ipv6, gre.tap) {
                (false, false) => "gre",
                (false, true) => "gretap",
                (true, false) => "ip6gre",
                (true, true) => "ip6gretap",
            },
            Self::Ifb => "ifb",
            Self::Dummy => "dummy",
            Self::Tun => "tun",
            Self::Other(name) => name,
        }
    }

    /// Leaves open which device it runs over.
    pub(super) fn forget_dev(&mut self) {
        match self {
            Self::Vxlan(vxlan) => vxlan.dev = None,
            Self::Ipip(tunnel) | Self::Sit(tunnel) | Self::Ip6tnl(tunnel) => tunnel.dev = None,
            Self::Gre(gre) => gre.dev = None,
            Self::Device
            | Self::Veth(_)
            | Self::Bridge(_)
            | Self::Ifb
            | Self::Dummy
            | Self::Tun
            | Self::Other(_) => {}
        }
    }

    pub(super) fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<LinkKind<E>, X> {
        Ok(match self {
            Self::Device => LinkKind::Device,
            Self::Veth(peer) => LinkKind::Veth(peer.clone()),
            Self::Bridge(bridge) => LinkKind::Bridge(bridge.clone()),
            Self::Vxlan(vxlan) => {
                let dev = vxlan.dev.map(f).transpose()?;
                LinkKind::Vxlan(Box::new(vxlan.with_dev(dev)))
            }
            Self::Ipip(tunnel) => LinkKind::Ipip(tunnel.try_map_dev(f)?),
            Self::Sit(tunnel) => LinkKind::Sit(tunnel.try_map_dev(f)?),
            Self::Ip6tnl(tunnel) => LinkKind::Ip6tnl(tunnel.try_map_dev(f)?),
            Self::Gre(gre) => LinkKind::Gre(Box::new(Gre {
                tap: gre.tap,
                ipv6: gre.ipv6,
                local: gre.local,
                remote: gre.remote,
                dev: gre.dev.map(f).transpose()?,
                ikey: gre.ikey,
                okey: gre.okey,
                ttl: gre.ttl,
                tos: gre.tos,
                pmtudisc: gre.pmtudisc,
                external: gre.external,
            })),
            Self::Ifb => LinkKind::Ifb,
            Self::Dummy => LinkKind::Dummy,
            Self::Tun => LinkKind::Tun,
            Self::Other(name) => LinkKind::Other(name.clone()),
        })
    }

    /// What follows `type` in an `ip link` command.
    pub(super) fn words(&self) -> String {
        let mut words = Words(self.name().to_owned());
        match self {
            Self::Veth(Some(peer)) => {
                words.value("peer name", Some(peer.name));
                words.value("mtu", peer.mtu);
                words.value("address", peer.address);
                words.value("netns", peer.namespace);
            }
            Self::Bridge(bridge) => bridge.words(&mut words),
            Self::Vxlan(vxlan) => vxlan.words(&mut words),
            Self::Ipip(tunnel) => {
                tunnel.words(&mut words, ["any", "ipip", "any"], TunnelMode::Ipv4);
            }
            Self::Sit(tunnel) => {
                tunnel.words(&mut words, ["any", "ipip", "ip6ip"], TunnelMode::Ipv6);
            }
            Self::Ip6tnl(tunnel) => {
                tunnel.words(&mut words, ["any", "ipip6", "ip6ip6"], TunnelMode::Any);
                over_ipv6_words(&mut words, tunnel.ttl, tunnel.encap_limit);
            }
            Self::Gre(gre) => gre.words(&mut words),
            _ => {}
        }
        words.0
    }
}

/// The words of a command, each with a space in front.
struct Words(String);

impl Words {
    fn flag(&mut self, word: &str) {
        self.0.push(' ');
        self.0.push_str(word);
    }

    fn value(&mut self, word: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = write!(self.0, " {word} {value}");
        }
    }

    /// `word`, or `word` with `no` in front.
    fn switch(&mut self, word: &str, on: Option<bool>) {
        match on {
            Some(true) => self.flag(word),
            Some(false) => self.flag(&format!("no{word}")),
            None => {}
        }
    }

    fn number(&mut self, word: &str, on: Option<bool>) {
        self.value(word, on.map(u8::from));
    }
}

impl LinkKind {
    /// What the kernel would misunderstand, if anything: it takes the first bytes of an address
    /// of the wrong family.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        const FAMILY: &str = "an end of the tunnel is not of the family that the device runs over";
        /// The longest name of a kernel module, less the terminating zero.
        const MAX_KIND_LEN: usize = 55;
        let (ipv6, ends) = match self {
            Self::Ipip(tunnel) | Self::Sit(tunnel) => (false, [tunnel.local, tunnel.remote]),
            Self::Ip6tnl(tunnel) => (true, [tunnel.local, tunnel.remote]),
            Self::Gre(gre) => (gre.ipv6, [gre.local, gre.remote]),
            Self::Other(name) if name.is_empty() || name.len() > MAX_KIND_LEN => {
                return Some("a kind has a name of 1 to 55 bytes");
            }
            _ => return None,
        };
        ends.into_iter().flatten().any(|end| end.is_ipv6() != ipv6).then_some(FAMILY)
    }

    /// The attributes that create or change a device of this kind; `None` when netlink cannot.
    pub(super) fn info(&self) -> Option<Vec<LinkInfo>> {
        let data = match self {
            Self::Device | Self::Tun => return None,
            Self::Veth(None) | Self::Ifb | Self::Dummy | Self::Other(_) => None,
            Self::Veth(Some(peer)) => Some(InfoData::Veth(InfoVeth::Peer(peer.message()))),
            Self::Bridge(bridge) => Some(InfoData::Bridge(bridge.attributes())),
            Self::Vxlan(vxlan) => Some(InfoData::Vxlan(vxlan.attributes())),
            Self::Ipip(tunnel) | Self::Sit(tunnel) | Self::Ip6tnl(tunnel) => {
                Some(InfoData::IpTunnel(tunnel.attributes()))
            }
            Self::Gre(gre) => Some(gre.data()),
        };
        let mut info = vec![LinkInfo::Kind(InfoKind::from(self.name()))];
        info.extend(data.filter(|data| !is_empty(data)).map(LinkInfo::Data));
        Some(info)
    }

    /// The kind in the value of an `IFLA_LINKINFO` attribute.
    pub(super) fn decode(info: &[u8]) -> Self {
        let (mut name, mut data) = (String::new(), &[][..]);
        for (kind, value) in codec::attributes(info) {
            match kind {
                // IFLA_INFO_KIND and IFLA_INFO_DATA.
                1 => name = codec::text(value),
                2 => data = value,
                _ => {}
            }
        }
        match name.as_str() {
            "" => Self::Device,
            "veth" => Self::Veth(None),
            "bridge" => Self::Bridge(Bridge::decode(data)),
            "vxlan" => Self::Vxlan(Box::new(Vxlan::decode(data))),
            "ipip" => Self::Ipip(Box::new(Tunnel::decode(data, &InfoKind::IpIp))),
            "sit" => Self::Sit(Box::new(Tunnel::decode(data, &InfoKind::SitTun))),
            "ip6tnl" => Self::Ip6tnl(Box::new(Tunnel::decode(data, &InfoKind::Ip6Tnl))),
            "gre" | "gretap" => Self::Gre(Box::new(Gre::decode(data, false, name == "gretap"))),
            "ip6gre" | "ip6gretap" => {
                Self::Gre(Box::new(Gre::decode(data, true, name == "ip6gretap")))
            }
            "ifb" => Self::Ifb,
            "dummy" => Self::Dummy,
            "tun" => Self::Tun,
            _ => Self::Other(name),
        }
    }
}

fn is_empty(data: &InfoData) -> bool {
    use netlink_packet_core::Nla;
    data.value_len() == 0
}

impl VethPeer {
    fn message(&self) -> LinkMessage {
        let mut link = super::Link::<Ifindex>::named(self.name);
        link.mtu = self.mtu;
        link.address = self.address;
        link.namespace = self.namespace;
        let mut message = LinkMessage::default();
        message.header = link.header(crate::Verb::Add);
        message.attributes = link.attributes();
        message
    }
}

impl Bridge {
    fn words(&self, words: &mut Words) {
        words.number("stp_state", self.stp);
        words.value("forward_delay", self.forward_delay);
        words.value("ageing_time", self.ageing_time);
        words.number("vlan_filtering", self.vlan_filtering);
        words.number("mcast_snooping", self.mcast_snooping);
    }

    fn attributes(&self) -> Vec<InfoBridge> {
        let stp = |on| if on { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
        [
            self.forward_delay.map(InfoBridge::ForwardDelay),
            self.ageing_time.map(InfoBridge::AgeingTime),
            self.stp.map(|on| InfoBridge::StpState(stp(on))),
            self.vlan_filtering.map(InfoBridge::VlanFiltering),
            self.mcast_snooping.map(InfoBridge::MulticastSnooping),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn decode(data: &[u8]) -> Self {
        let mut bridge = Self::default();
        for attribute in each::<InfoBridge>(data) {
            match attribute {
                InfoBridge::ForwardDelay(time) => bridge.forward_delay = Some(time),
                InfoBridge::AgeingTime(time) => bridge.ageing_time = Some(time),
                InfoBridge::StpState(state) => {
                    bridge.stp = Some(state != BridgeStpState::Disabled);
                }
                InfoBridge::VlanFiltering(on) => bridge.vlan_filtering = Some(on),
                InfoBridge::MulticastSnooping(on) => bridge.mcast_snooping = Some(on),
                _ => {}
            }
        }
        bridge
    }
}

impl<D: DeviceRef> Vxlan<D> {
    fn with_dev<E>(&self, dev: Option<E>) -> Vxlan<E> {
        Vxlan {
            id: self.id,
            dev,
            local: self.local,
            group: self.group,
            port: self.port,
            source_ports: self.source_ports,
            learning: self.learning,
            ageing: self.ageing,
            limit: self.limit,
            ttl: self.ttl,
            ttl_inherit: self.ttl_inherit,
            tos: self.tos,
            df: self.df,
            label: self.label,
            proxy: self.proxy,
            rsc: self.rsc,
            l2miss: self.l2miss,
            l3miss: self.l3miss,
            udp_csum: self.udp_csum,
            udp6_zero_csum_tx: self.udp6_zero_csum_tx,
            udp6_zero_csum_rx: self.udp6_zero_csum_rx,
            rem_csum_tx: self.rem_csum_tx,
            rem_csum_rx: self.rem_csum_rx,
            external: self.external,
            vnifilter: self.vnifilter,
            gbp: self.gbp,
            gpe: self.gpe,
            localbypass: self.localbypass,
        }
    }

    fn words(&self, words: &mut Words) {
        words.value("id", self.id);
        if let Some(group) = self.group {
            words.value(if group.is_multicast() { "group" } else { "remote" }, Some(group));
        }
        words.value("local", self.local);
        words.value("dev", self.dev);
        words.value("srcport", self.source_ports.map(|(low, high)| format!("{low} {high}")));
        words.value("dstport", self.port);
        if self.external {
            words.flag("external");
        }
        // `external` switches learning off in iproute2, but not in the kernel.
        words.switch("learning", self.learning.or_else(|| self.external.then_some(true)));
        words.switch("proxy", self.proxy);
        words.switch("rsc", self.rsc);
        words.switch("l2miss", self.l2miss);
        words.switch("l3miss", self.l3miss);
        words.value("ageing", self.ageing);
        words.value("maxaddress", self.limit);
        match (self.ttl_inherit, self.ttl) {
            (true, _) => words.flag("ttl inherit"),
            (false, Some(0)) => words.flag("ttl auto"),
            (false, ttl) => words.value("ttl", ttl),
        }
        match self.tos {
            Some(1) => words.flag("tos inherit"),
            tos => words.value("tos", tos.map(|tos| format!("{tos:#04x}"))),
        }
        words.value(
            "df",
            self.df.map(|df| match df {
                Df::Unset => "unset",
                Df::Set => "set",
                Df::Inherit => "inherit",
            }),
        );
        words.value("flowlabel", self.label.map(|label| format!("{label:#x}")));
        words.switch("udpcsum", self.udp_csum);
        words.switch("udp6zerocsumtx", self.udp6_zero_csum_tx);
        words.switch("udp6zerocsumrx", self.udp6_zero_csum_rx);
        words.switch("remcsumtx", self.rem_csum_tx);
        words.switch("remcsumrx", self.rem_csum_rx);
        words.switch("localbypass", self.localbypass);
        for (on, word) in [(self.vnifilter, "vnifilter"), (self.gbp, "gbp"), (self.gpe, "gpe")] {
            if on {
                words.flag(word);
            }
        }
    }
}

impl Vxlan {
    fn attributes(&self) -> Vec<InfoVxlan> {
        let group = self.group.map(|group| match group {
            IpAddr::V4(v4) => InfoVxlan::Group(v4),
            IpAddr::V6(v6) => InfoVxlan::Group6(v6),
        });
        let local = self.local.map(|local| match local {
            IpAddr::V4(v4) => InfoVxlan::Local(v4),
            IpAddr::V6(v6) => InfoVxlan::Local6(v6),
        });
        let df = |df| match df {
            Df::Unset => VxlanDf::Unset,
            Df::Set => VxlanDf::Set,
            Df::Inherit => VxlanDf::Inherit,
        };
        [
            self.id.map(|id| InfoVxlan::Id(id.get())),
            group,
            local,
            self.dev.map(|dev| InfoVxlan::Link(dev.0)),
            self.source_ports.map(InfoVxlan::PortRange),
            self.port.map(InfoVxlan::Port),
            self.learning.map(InfoVxlan::Learning),
            self.ageing.map(InfoVxlan::Ageing),
            self.limit.map(InfoVxlan::Limit),
            self.ttl.map(InfoVxlan::Ttl),
            self.ttl_inherit.then_some(InfoVxlan::TtlInheritFlag),
            self.tos.map(InfoVxlan::Tos),
            self.df.map(|d| InfoVxlan::Df(df(d))),
            self.label.map(InfoVxlan::Label),
            self.proxy.map(InfoVxlan::Proxy),
            self.rsc.map(InfoVxlan::Rsc),
            self.l2miss.map(InfoVxlan::L2Miss),
            self.l3miss.map(InfoVxlan::L3Miss),
            self.udp_csum.map(InfoVxlan::UDPCsum),
            self.udp6_zero_csum_tx.map(InfoVxlan::UDPZeroCsumTX),
            self.udp6_zero_csum_rx.map(InfoVxlan::UDPZeroCsumRX),
            self.rem_csum_tx.map(InfoVxlan::RemCsumTX),
            self.rem_csum_rx.map(InfoVxlan::RemCsumRX),
            self.external.then_some(InfoVxlan::CollectMetadata(true)),
            self.vnifilter.then_some(InfoVxlan::Vnifilter(true)),
            self.gbp.then_some(InfoVxlan::Gbp),
            self.gpe.then_some(InfoVxlan::Gpe),
            self.localbypass.map(InfoVxlan::Localbypass),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn decode(data: &[u8]) -> Self {
        let mut vxlan = Self::unset();
        for attribute in each::<InfoVxlan>(data) {
            match attribute {
                InfoVxlan::Id(id) => vxlan.id = Vni::new(id).ok(),
                InfoVxlan::Group(group) => vxlan.group = Some(group.into()),
                InfoVxlan::Group6(group) => vxlan.group = Some(group.into()),
                InfoVxlan::Local(local) => vxlan.local = Some(local.into()),
                InfoVxlan::Local6(local) => vxlan.local = Some(local.into()),
                InfoVxlan::Link(index) => vxlan.dev = Some(Ifindex(index)),
                InfoVxlan::PortRange(range) => vxlan.source_ports = Some(range),
                InfoVxlan::Port(port) => vxlan.port = Some(port),
                InfoVxlan::Learning(on) => vxlan.learning = Some(on),
                InfoVxlan::Ageing(seconds) => vxlan.ageing = Some(seconds),
                InfoVxlan::Limit(limit) => vxlan.limit = Some(limit),
                InfoVxlan::Ttl(ttl) => vxlan.ttl = Some(ttl),
                InfoVxlan::TtlInherit(on) => vxlan.ttl_inherit = on != 0,
                InfoVxlan::TtlInheritFlag => vxlan.ttl_inherit = true,
                InfoVxlan::Tos(tos) => vxlan.tos = Some(tos),
                InfoVxlan::Df(df) => {
                    vxlan.df = match df {
                        VxlanDf::Unset => Some(Df::Unset),
                        VxlanDf::Set => Some(Df::Set),
                        VxlanDf::Inherit => Some(Df::Inherit),
                        _ => None,
                    }
                }
                InfoVxlan::Label(label) => vxlan.label = Some(label),
                InfoVxlan::Proxy(on) => vxlan.proxy = Some(on),
                InfoVxlan::Rsc(on) => vxlan.rsc = Some(on),
                InfoVxlan::L2Miss(on) => vxlan.l2miss = Some(on),
                InfoVxlan::L3Miss(on) => vxlan.l3miss = Some(on),
                InfoVxlan::UDPCsum(on) => vxlan.udp_csum = Some(on),
                InfoVxlan::UDPZeroCsumTX(on) => vxlan.udp6_zero_csum_tx = Some(on),
                InfoVxlan::UDPZeroCsumRX(on) => vxlan.udp6_zero_csum_rx = Some(on),
                InfoVxlan::RemCsumTX(on) => vxlan.rem_csum_tx = Some(on),
                InfoVxlan::RemCsumRX(on) => vxlan.rem_csum_rx = Some(on),
                InfoVxlan::CollectMetadata(on) => vxlan.external = on,
                InfoVxlan::Vnifilter(on) => vxlan.vnifilter = on,
                InfoVxlan::Gbp => vxlan.gbp = true,
                InfoVxlan::Gpe => vxlan.gpe = true,
                InfoVxlan::Localbypass(on) => vxlan.localbypass = Some(on),
                _ => {}
            }
        }
        // A flow-based device reports VNI 0, which is none.
        if vxlan.external {
            vxlan.id = None;
        }
        vxlan
    }
}

impl<D: DeviceRef> Tunnel<D> {
    fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Box<Tunnel<E>>, X> {
        Ok(Box::new(Tunnel {
            mode: self.mode,
            local: self.local,
            remote: self.remote,
            dev: self.dev.map(f).transpose()?,
            ttl: self.ttl,
            tos: self.tos,
            pmtudisc: self.pmtudisc,
            encap_limit: self.encap_limit,
            fwmark: self.fwmark,
            external: self.external,
        }))
    }

    /// `modes` are iproute2's words for any, IPv4 and IPv6. Where none is given the kernel takes `default`, which has to
    /// be said: iproute2 asks for any.
    fn words(&self, words: &mut Words, modes: [&str; 3], default: TunnelMode) {
        let [any, v4, v6] = modes;
        let mode = match self.mode.unwrap_or(default) {
            TunnelMode::Any => any,
            TunnelMode::Ipv4 => v4,
            TunnelMode::Ipv6 => v6,
        };
        words.value("mode", Some(mode));
        words.value("remote", self.remote);
        words.value("local", self.local);
        words.value("dev", self.dev);
        outer_words(words, self.ttl, self.tos, self.pmtudisc);
        words.value("encaplimit", self.encap_limit);
        words.value("fwmark", self.fwmark.map(|mark| format!("{mark:#x}")));
        if self.external {
            words.flag("external");
        }
    }
}

/// What the kernel takes for an outer IPv6 header where nothing is said, while iproute2 asks for 64 hops and a limit of 4.
fn over_ipv6_words(words: &mut Words, ttl: Option<u8>, encap_limit: Option<EncapLimit>) {
    if ttl.is_none() {
        words.flag("ttl inherit");
    }
    if encap_limit.is_none() {
        words.value("encaplimit", Some(0));
    }
}

fn outer_words(words: &mut Words, ttl: Option<u8>, tos: Option<u8>, pmtudisc: Option<bool>) {
    match ttl {
        Some(0) => words.flag("ttl inherit"),
        ttl => words.value("ttl", ttl),
    }
    match tos {
        Some(1) => words.flag("tos inherit"),
        tos => words.value("tos", tos.map(|tos| format!("{tos:#04x}"))),
    }
    words.switch("pmtudisc", pmtudisc);
}

impl Tunnel {
    fn attributes(&self) -> Vec<InfoIpTunnel> {
        [
            self.mode.map(|mode| InfoIpTunnel::Protocol(IpProtocol::from(mode.number()))),
            self.local.map(InfoIpTunnel::Local),
            self.remote.map(InfoIpTunnel::Remote),
            self.dev.map(|dev| InfoIpTunnel::Link(dev.0)),
            self.ttl.map(InfoIpTunnel::Ttl),
            self.tos.map(InfoIpTunnel::Tos),
            self.pmtudisc.map(InfoIpTunnel::PMtuDisc),
            self.encap_limit.map(|limit| match limit {
                EncapLimit::Off => InfoIpTunnel::Ipv6Flags(Ip6TunnelFlags::IgnEncapLimit),
                EncapLimit::At(limit) => InfoIpTunnel::EncapLimit(limit),
            }),
            self.fwmark.map(InfoIpTunnel::FwMark),
            self.external.then_some(InfoIpTunnel::CollectMetadata),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn decode(data: &[u8], kind: &InfoKind) -> Self {
        let mut tunnel = Self::new();
        let mut limited = true;
        for nla in NlasIterator::new(data).flatten() {
            let Ok(attribute) = InfoIpTunnel::parse_with_param(&nla, kind.clone()) else {
                continue;
            };
            match attribute {
                InfoIpTunnel::Protocol(protocol) => {
                    tunnel.mode = TunnelMode::from_number(u8::from(protocol));
                }
                InfoIpTunnel::Local(local) => tunnel.local = known(local),
                InfoIpTunnel::Remote(remote) => tunnel.remote = known(remote),
                InfoIpTunnel::Link(index) => tunnel.dev = device(index),
                InfoIpTunnel::Ttl(ttl) => tunnel.ttl = Some(ttl),
                InfoIpTunnel::Tos(tos) => tunnel.tos = Some(tos),
                InfoIpTunnel::PMtuDisc(on) => tunnel.pmtudisc = Some(on),
                InfoIpTunnel::EncapLimit(limit) => {
                    tunnel.encap_limit = Some(EncapLimit::At(limit));
                }
                InfoIpTunnel::Ipv6Flags(flags) => {
                    limited = !flags.contains(Ip6TunnelFlags::IgnEncapLimit);
                }
                InfoIpTunnel::FwMark(mark) => tunnel.fwmark = Some(mark),
                InfoIpTunnel::CollectMetadata => tunnel.external = true,
                _ => {}
            }
        }
        // A limit is reported even where it is not written.
        if !limited {
            tunnel.encap_limit = Some(EncapLimit::Off);
        }
        tunnel
    }
}

/// The address, unless it is the one that says "any".
fn known(address: IpAddr) -> Option<IpAddr> {
    Some(address).filter(|address| !address.is_unspecified())
}

/// The device, unless it is none.
fn device(index: u32) -> Option<Ifindex> {
    Some(Ifindex(index)).filter(|dev| dev.0 != 0)
}

impl<D: DeviceRef> Gre<D> {
    fn words(&self, words: &mut Words) {
        words.value("remote", self.remote);
        words.value("local", self.local);
        words.value("dev", self.dev);
        words.value("ikey", self.ikey);
        words.value("okey", self.okey);
        outer_words(words, self.ttl, self.tos, self.pmtudisc);
        if self.ipv6 {
            over_ipv6_words(words, self.ttl, None);
        }
        if self.external {
            words.flag("external");
        }
    }
}

impl Gre {
    fn data(&self) -> InfoData {
        let key = |key: Option<u32>| key.map(|_| GreIOFlags::Key);
        macro_rules! attributes {
            ($info:ident, $address:ident) => {{
                let address = |address| match address {
                    Some(IpAddr::$address(address)) => Some(address),
                    _ => None,
                };
                [
                    self.dev.map(|dev| $info::Link(dev.0)),
                    key(self.ikey).map($info::IFlags),
                    key(self.okey).map($info::OFlags),
                    self.ikey.map($info::IKey),
                    self.okey.map($info::OKey),
                    address(self.local).map($info::Local),
                    address(self.remote).map($info::Remote),
                    self.ttl.map($info::Ttl),
                    self.tos.map($info::Tos),
                    self.external.then_some($info::CollectMetadata),
                ]
                .into_iter()
                .flatten()
            }};
        }
        if self.ipv6 {
            let attributes = attributes!(InfoGre6, V6).collect();
            if self.tap { InfoData::GreTap6(attributes) } else { InfoData::GreTun6(attributes) }
        } else {
            let pmtudisc = self.pmtudisc.map(InfoGre::PathMTUDiscovery);
            let attributes = attributes!(InfoGre, V4).chain(pmtudisc).collect();
            if self.tap { InfoData::GreTap(attributes) } else { InfoData::GreTun(attributes) }
        }
    }

    fn decode(data: &[u8], ipv6: bool, tap: bool) -> Self {
        let mut gre = Self { tap, ..Self::new(ipv6) };
        let (mut has_ikey, mut has_okey) = (false, false);
        macro_rules! read {
            ($info:ident) => {
                for attribute in each::<$info>(data) {
                    match attribute {
                        $info::Link(index) => gre.dev = device(index),
                        $info::IFlags(flags) => has_ikey = flags.contains(GreIOFlags::Key),
                        $info::OFlags(flags) => has_okey = flags.contains(GreIOFlags::Key),
                        $info::IKey(key) => gre.ikey = Some(key),
                        $info::OKey(key) => gre.okey = Some(key),
                        $info::Local(local) => gre.local = known(local.into()),
                        $info::Remote(remote) => gre.remote = known(remote.into()),
                        $info::Ttl(ttl) => gre.ttl = Some(ttl),
                        $info::Tos(tos) => gre.tos = Some(tos),
                        $info::CollectMetadata => gre.external = true,
                        _ => {}
                    }
                }
            };
        }
        if ipv6 {
            read!(InfoGre6);
        } else {
            read!(InfoGre);
            gre.pmtudisc = each::<InfoGre>(data).find_map(|attribute| match attribute {
                InfoGre::PathMTUDiscovery(on) => Some(on),
                _ => None,
            });
        }
        // The kernel reports a key of zero where there is none.
        gre.ikey = gre.ikey.filter(|_| has_ikey);
        gre.okey = gre.okey.filter(|_| has_okey);
        gre
    }
}
