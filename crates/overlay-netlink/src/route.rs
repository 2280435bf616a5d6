//! Routes.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_wire::IpVersion;

use crate::codec::{self, Encoder, rtm};
use crate::hop::{self, RTNH_F_ONLINK};
use crate::object::{KernelObject, Listable, sealed};
use crate::{DeviceRef, Encap, Error, Hop, Ifindex, NexthopId, Protocol, Scope, Verb, table};

/// Bytes of `struct rtmsg`.
const RTMSG_LEN: usize = 12;
/// Bytes of `struct rtnexthop`.
const RTNEXTHOP_LEN: usize = 8;

/// Attributes and values (`linux/rtnetlink.h`).
mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const SRC: u16 = 2;
    pub(super) const IIF: u16 = 3;
    pub(super) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const PREFSRC: u16 = 7;
    pub(super) const METRICS: u16 = 8;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const TABLE: u16 = 15;
    pub(super) const MARK: u16 = 16;
    pub(super) const VIA: u16 = 18;
    pub(super) const ENCAP_TYPE: u16 = 21;
    pub(super) const ENCAP: u16 = 22;
    pub(super) const NH_ID: u16 = 30;

    pub(super) const RTAX_LOCK: u16 = 1;
    pub(super) const RTAX_MTU: u16 = 2;

    pub(super) const F_CLONED: u32 = 0x200;
    pub(super) const F_LOOKUP_TABLE: u32 = 0x1000;
    /// `RT_TABLE_COMPAT`: the number is in the attribute.
    pub(super) const TABLE_COMPAT: u8 = 252;
}

/// What happens to packets for a destination (`RTN_*` in `linux/rtnetlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteKind {
    /// Sent on.
    Unicast,
    /// Delivered to this host.
    Local,
    /// Delivered here and sent as broadcast.
    Broadcast,
    /// Delivered here, sent as unicast.
    Anycast,
    /// Multicast.
    Multicast,
    /// Dropped silently.
    Blackhole,
    /// Dropped; the sender is told that the host is unreachable.
    Unreachable,
    /// Dropped; the sender is told that it is prohibited.
    Prohibit,
    /// The lookup goes on in the next table.
    Throw,
    /// Any other number.
    Other(u8),
}

impl RouteKind {
    const TABLE: [(Self, u8, &'static str); 9] = [
        (Self::Unicast, 1, "unicast"),
        (Self::Local, 2, "local"),
        (Self::Broadcast, 3, "broadcast"),
        (Self::Anycast, 4, "anycast"),
        (Self::Multicast, 5, "multicast"),
        (Self::Blackhole, 6, "blackhole"),
        (Self::Unreachable, 7, "unreachable"),
        (Self::Prohibit, 8, "prohibit"),
        (Self::Throw, 9, "throw"),
    ];

    /// Whether packets go no further, at least by this table.
    pub(crate) const fn drops(self) -> bool {
        matches!(self, Self::Blackhole | Self::Unreachable | Self::Prohibit | Self::Throw)
    }

    fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            known => Self::TABLE.iter().find(|(k, ..)| *k == known).map_or(0, |(_, n, _)| *n),
        }
    }

    fn from_number(number: u8) -> Self {
        Self::TABLE.iter().find(|(_, n, _)| *n == number).map_or(Self::Other(number), |(k, ..)| *k)
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => fmt::Display::fmt(number, f),
            known => {
                let name = Self::TABLE.iter().find(|(k, ..)| k == known).map_or("", |(.., s)| *s);
                f.write_str(name)
            }
        }
    }
}

/// One of several hops of a route, chosen in proportion to its weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct WeightedHop<D = Ifindex> {
    /// The hop.
    pub hop: Hop<D>,
    /// Its weight, 1 to 256.
    pub weight: u16,
}

/// Which way a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Via<D = Ifindex> {
    /// Nowhere: a route of a kind that drops.
    None,
    /// One hop.
    Hop(Hop<D>),
    /// Several hops.
    Multipath(Vec<WeightedHop<D>>),
    /// Whatever the nexthop object says.
    Nexthop(NexthopId),
}

/// A route. The kernel's key is table, destination, TOS and metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Route<D = Ifindex> {
    /// The prefix it is for.
    pub dst: IpNet,
    /// The table it is in.
    pub table: u32,
    /// Its metric: of several routes to one prefix the lowest wins. The kernel turns 0 into 1024
    /// for IPv6, and [`Route::to`] starts there.
    pub metric: u32,
    /// IPv4: only for packets with this TOS; zero for all.
    pub tos: u8,
    /// What happens to the packets.
    pub kind: RouteKind,
    /// How far the destination is. Always [`Scope::UNIVERSE`] for IPv6.
    pub scope: Scope,
    /// Who made it.
    pub protocol: Protocol,
    /// Which way it leads.
    pub via: Via<D>,
    /// The source address that this host prefers for packets of its own.
    pub src: Option<IpAddr>,
    /// The path MTU in bytes, where it is less than the device's.
    pub mtu: Option<u32>,
    /// Path MTU discovery must not change `mtu`.
    pub mtu_lock: bool,
}

impl<D: DeviceRef> Route<D> {
    /// A unicast route to `dst` in the main table, leading nowhere yet. Host bits of `dst` are
    /// cleared.
    #[must_use]
    pub fn to(dst: IpNet) -> Self {
        Self {
            dst: dst.trunc(),
            table: table::MAIN,
            metric: match dst {
                IpNet::V4(_) => 0,
                IpNet::V6(_) => 1024,
            },
            tos: 0,
            kind: RouteKind::Unicast,
            scope: Scope::UNIVERSE,
            protocol: Protocol::BOOT,
            via: Via::None,
            src: None,
            mtu: None,
            mtu_lock: false,
        }
    }

    /// A route that makes packets to `dst` vanish as `kind` says.
    #[must_use]
    pub fn drop(kind: RouteKind, dst: IpNet) -> Self {
        Self { kind, ..Self::to(dst) }
    }

    /// The same route by way of `hop`. Without a gateway it is of link scope for IPv4.
    #[must_use]
    pub fn hop(mut self, hop: Hop<D>) -> Self {
        let on_link = hop.gateway.is_none() && hop.encap.is_none() && self.dst.addr().is_ipv4();
        self.scope = if on_link { Scope::LINK } else { Scope::UNIVERSE };
        self.via = Via::Hop(hop);
        self
    }

    /// The same route by way of several hops.
    #[must_use]
    pub fn multipath(mut self, hops: Vec<WeightedHop<D>>) -> Self {
        self.via = Via::Multipath(hops);
        self
    }

    /// The same route by way of a nexthop object.
    #[must_use]
    pub fn nexthop(mut self, id: NexthopId) -> Self {
        self.via = Via::Nexthop(id);
        self
    }

    /// The same route in another table.
    #[must_use]
    pub const fn table(mut self, table: u32) -> Self {
        self.table = table;
        self
    }

    /// The same route with another metric.
    #[must_use]
    pub const fn metric(mut self, metric: u32) -> Self {
        self.metric = metric;
        self
    }

    /// The same route, made by `protocol`.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same route with a path MTU in bytes.
    #[must_use]
    pub const fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// The same route with a preferred source address.
    #[must_use]
    pub const fn src(mut self, src: IpAddr) -> Self {
        self.src = Some(src);
        self
    }

    /// The family of the destination.
    #[must_use]
    pub const fn version(&self) -> IpVersion {
        codec::net_version(&self.dst)
    }

    /// The same route with its devices named another way.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Route<E>, X> {
        let via = match &self.via {
            Via::None => Via::None,
            Via::Hop(hop) => Via::Hop(hop.try_map_dev(f)?),
            Via::Nexthop(id) => Via::Nexthop(*id),
            Via::Multipath(hops) => Via::Multipath(
                hops.iter()
                    .map(|w| Ok(WeightedHop { hop: w.hop.try_map_dev(f)?, weight: w.weight }))
                    .collect::<Result<_, X>>()?,
            ),
        };
        Ok(Route {
            dst: self.dst,
            table: self.table,
            metric: self.metric,
            tos: self.tos,
            kind: self.kind,
            scope: self.scope,
            protocol: self.protocol,
            via,
            src: self.src,
            mtu: self.mtu,
            mtu_lock: self.mtu_lock,
        })
    }

    /// The `ip route` command that does `verb` to it.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        let family = match self.dst {
            IpNet::V4(_) => "",
            IpNet::V6(_) => "-6 ",
        };
        let mut command = format!("ip {family}route {}", verb.word());
        let delete = verb == Verb::Delete;
        if self.kind != RouteKind::Unicast && !delete {
            command.push_str(&format!(" {}", self.kind));
        }
        command.push_str(&format!(" {}", self.dst));
        if self.tos != 0 {
            command.push_str(&format!(" tos {:#04x}", self.tos));
        }
        let differs =
            |hop: &Hop<D>| hop.gateway.is_some_and(|g| g.is_ipv4() != self.dst.addr().is_ipv4());
        if !delete {
            match &self.via {
                Via::Hop(hop) => command.push_str(&hop.words(differs(hop))),
                Via::Nexthop(id) => command.push_str(&format!(" nhid {id}")),
                Via::None | Via::Multipath(_) => {}
            }
        }
        if self.table != table::MAIN {
            command.push_str(&format!(" table {}", self.table));
        }
        // Without the word `ip` takes `boot` to create and any to delete.
        if self.protocol != Protocol::BOOT || delete {
            command.push_str(&format!(" proto {}", self.protocol));
        }
        if self.metric != Self::to(self.dst).metric {
            command.push_str(&format!(" metric {}", self.metric));
        }
        if delete {
            return command;
        }
        if self.dst.addr().is_ipv4() && self.scope != self.usual_scope() {
            command.push_str(&format!(" scope {}", self.scope));
        }
        if let Some(src) = self.src {
            command.push_str(&format!(" src {src}"));
        }
        if let Some(mtu) = self.mtu {
            let lock = if self.mtu_lock { "lock " } else { "" };
            command.push_str(&format!(" mtu {lock}{mtu}"));
        }
        if let Via::Multipath(hops) = &self.via {
            for WeightedHop { hop, weight } in hops {
                command.push_str(&format!(" nexthop{} weight {weight}", hop.words(differs(hop))));
            }
        }
        command
    }
}

impl<D> Route<D> {
    /// The scope that `ip` gives an IPv4 route unless told.
    const fn usual_scope(&self) -> Scope {
        match (self.kind, &self.via) {
            (RouteKind::Local, _) => Scope::HOST,
            (RouteKind::Broadcast | RouteKind::Multicast | RouteKind::Anycast, _) => Scope::LINK,
            (RouteKind::Unicast, Via::None | Via::Hop(Hop { gateway: None, .. })) => Scope::LINK,
            _ => Scope::UNIVERSE,
        }
    }
}

impl KernelObject for Route {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl Route {
    /// What netlink would misunderstand, if anything.
    fn contradiction(&self) -> Option<&'static str> {
        if self.src.is_some_and(|src| src.is_ipv4() != self.dst.addr().is_ipv4()) {
            return Some("the preferred source is not of the destination's family");
        }
        match &self.via {
            Via::Hop(_) if self.kind.drops() => Some("a route that drops has no hop"),
            Via::None | Via::Nexthop(_) => None,
            Via::Hop(hop) => hop.contradiction(),
            Via::Multipath(hops) => hop::bad_weight(hops.iter().map(|w| w.weight))
                .or_else(|| hops.iter().find_map(|w| w.hop.contradiction())),
        }
    }

    fn put_hop(&self, message: &mut Encoder<'_>, hop: &Hop) {
        if let Some(gateway) = hop.gateway {
            if gateway.is_ipv4() == self.dst.addr().is_ipv4() {
                message.attr_ip(rta::GATEWAY, gateway);
            } else {
                // `struct rtvia`: the family, then the address.
                let mut via =
                    u16::from(codec::family_of(IpVersion::of(gateway))).to_ne_bytes().to_vec();
                match gateway {
                    IpAddr::V4(v4) => via.extend_from_slice(&v4.octets()),
                    IpAddr::V6(v6) => via.extend_from_slice(&v6.octets()),
                }
                message.attr(rta::VIA, &via);
            }
        }
        if let Some(encap) = &hop.encap {
            encap.encode(message, rta::ENCAP_TYPE, rta::ENCAP);
        }
    }

    fn put_multipath(&self, message: &mut Encoder<'_>, hops: &[WeightedHop]) {
        let mut value = Vec::new();
        for WeightedHop { hop, weight } in hops {
            let at = value.len();
            value.extend_from_slice(&[0; RTNEXTHOP_LEN]);
            // A scratch message gives the attributes; its header is cut off again.
            let mut scratch = Vec::new();
            self.put_hop(&mut Encoder::begin(&mut scratch, 0, 0), hop);
            value.extend_from_slice(&scratch[codec::HEADER_LEN..]);
            let len = (value.len() - at) as u16;
            value[at..at + 2].copy_from_slice(&len.to_ne_bytes());
            value[at + 2] = hop.flags();
            // The kernel counts weights from zero.
            value[at + 3] = (weight - 1) as u8;
            let dev = hop.dev.unwrap_or_default().0;
            value[at + 4..at + 8].copy_from_slice(&dev.to_ne_bytes());
        }
        message.attr(rta::MULTIPATH, &value);
    }
}

impl sealed::Encode for Route {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        let delete = verb == Verb::Delete;
        if let Some(reason) = self.contradiction().filter(|_| !delete) {
            return Err(Error::Invalid { object: self.command(verb), reason });
        }
        let kind = if delete { rtm::DELROUTE } else { rtm::NEWROUTE };
        let mut message = Encoder::begin(buffer, kind, verb.flags());
        let flags = match &self.via {
            Via::Hop(hop) if !delete => u32::from(hop.flags()),
            _ => 0,
        };
        // To delete, the kernel takes any scope and kind when told so, and only the given owner's.
        let (scope, kind) =
            if delete { (Scope::NOWHERE, 0) } else { (self.scope, self.kind.number()) };
        message.put(&[
            codec::family_of(self.version()),
            self.dst.prefix_len(),
            0,
            self.tos,
            u8::try_from(self.table).unwrap_or(rta::TABLE_COMPAT),
            self.protocol.0,
            scope.0,
            kind,
        ]);
        message.put(&flags.to_ne_bytes());
        message.attr_ip(rta::DST, self.dst.network());
        if self.table > 255 {
            message.attr_u32(rta::TABLE, self.table);
        }
        if self.metric != 0 {
            message.attr_u32(rta::PRIORITY, self.metric);
        }
        if !delete {
            match &self.via {
                Via::None => {}
                Via::Hop(hop) => {
                    self.put_hop(&mut message, hop);
                    if let Some(dev) = hop.dev {
                        message.attr_u32(rta::OIF, dev.0);
                    }
                }
                Via::Nexthop(id) => message.attr_u32(rta::NH_ID, id.0),
                Via::Multipath(hops) => self.put_multipath(&mut message, hops),
            }
            if let Some(src) = self.src {
                message.attr_ip(rta::PREFSRC, src);
            }
            if let Some(mtu) = self.mtu {
                message.nest(rta::METRICS, |metrics| {
                    if self.mtu_lock {
                        metrics.attr_u32(rta::RTAX_LOCK, 1 << rta::RTAX_MTU);
                    }
                    metrics.attr_u32(rta::RTAX_MTU, mtu);
                });
            }
        }
        message.try_finish(|| self.command(verb))?;
        Ok(1)
    }
}

/// Which routes to list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RouteFilter {
    /// Only of this family.
    pub family: Option<IpVersion>,
    /// Only in this table. One that does not exist is empty.
    pub table: Option<u32>,
    /// Only those made by this protocol.
    pub protocol: Option<Protocol>,
    /// Only those out of this device. A route by way of a nexthop object names no device and is
    /// left out, as is one that drops.
    pub dev: Option<Ifindex>,
}

impl RouteFilter {
    /// All routes made by `protocol`, in all tables, of both families.
    #[must_use]
    pub const fn made_by(protocol: Protocol) -> Self {
        Self { family: None, table: None, protocol: Some(protocol), dev: None }
    }

    /// All routes in `table`, of both families.
    #[must_use]
    pub const fn table(table: u32) -> Self {
        Self { family: None, table: Some(table), protocol: None, dev: None }
    }

    /// The same, of one family only.
    #[must_use]
    pub const fn family(mut self, family: IpVersion) -> Self {
        self.family = Some(family);
        self
    }

    /// The same, out of one device only.
    #[must_use]
    pub const fn dev(mut self, dev: Ifindex) -> Self {
        self.dev = Some(dev);
        self
    }
}

impl Listable for Route {}

impl sealed::Decode for Route {
    type Filter = RouteFilter;

    const WHAT: &'static str = "routes";
    const NEW: u16 = rtm::NEWROUTE;

    fn dumps(filter: &RouteFilter) -> Vec<sealed::Dump> {
        codec::versions(filter.family)
            .map(|version| {
                let mut header = vec![0; RTMSG_LEN];
                header[0] = codec::family_of(version);
                header[5] = filter.protocol.unwrap_or_default().0;
                let table = filter.table.map(|table| (rta::TABLE, table));
                let dev = filter.dev.map(|dev| (rta::OIF, dev.0));
                sealed::Dump {
                    kind: rtm::GETROUTE,
                    header,
                    attributes: table.into_iter().chain(dev).collect(),
                    absent_is_empty: filter.table.is_some(),
                }
            })
            .collect()
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let version = codec::version_of(codec::u8_at(body, 0)?)?;
        let dst_len = codec::u8_at(body, 1)?;
        let flags = codec::u32_at(body, 8)?;
        // Exceptions that path MTU discovery and redirects leave behind are no routes of a table.
        if flags & rta::F_CLONED != 0 && dst_len != version.address_bits() {
            return None;
        }
        let mut route = Self {
            tos: codec::u8_at(body, 3)?,
            table: u32::from(codec::u8_at(body, 4)?),
            protocol: Protocol(codec::u8_at(body, 5)?),
            scope: Scope(codec::u8_at(body, 6)?),
            kind: RouteKind::from_number(codec::u8_at(body, 7)?),
            metric: 0,
            ..Self::to(codec::default_net(version))
        };
        let mut hop = Hop {
            gateway: None,
            dev: None,
            onlink: flags & u32::from(RTNH_F_ONLINK) != 0,
            encap: None,
        };
        let attributes = body.get(RTMSG_LEN..)?;
        hop.encap = Encap::find(attributes, rta::ENCAP_TYPE, rta::ENCAP);
        let (mut dst, mut nexthop, mut multipath) = (None, None, None);
        for (kind, value) in codec::attributes(attributes) {
            match kind {
                rta::DST => dst = codec::ip(value),
                rta::TABLE => route.table = codec::u32_at(value, 0)?,
                rta::PRIORITY => route.metric = codec::u32_at(value, 0)?,
                rta::PREFSRC => route.src = codec::ip(value),
                rta::OIF => hop.dev = codec::u32_at(value, 0).map(Ifindex),
                rta::GATEWAY => hop.gateway = codec::ip(value),
                rta::VIA => hop.gateway = codec::ip(value.get(2..)?),
                rta::NH_ID => nexthop = codec::u32_at(value, 0).map(NexthopId),
                rta::MULTIPATH => multipath = Some(decode_multipath(value)),
                rta::METRICS => {
                    for (kind, value) in codec::attributes(value) {
                        match kind {
                            rta::RTAX_MTU => route.mtu = codec::u32_at(value, 0),
                            rta::RTAX_LOCK => {
                                route.mtu_lock =
                                    codec::u32_at(value, 0)? & (1 << rta::RTAX_MTU) != 0;
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(dst) = dst {
            route.dst = IpNet::new(dst, dst_len).ok()?;
        } else if dst_len != 0 {
            return None;
        }
        // With a nexthop object the kernel may repeat what the object says; the object counts.
        route.via = match (nexthop, multipath) {
            (Some(id), _) => Via::Nexthop(id),
            (None, Some(hops)) => Via::Multipath(hops),
            // IPv6 hangs a route that leads nowhere on the loopback device.
            (None, None) if route.kind.drops() => Via::None,
            (None, None) if hop.dev.is_some() || hop.gateway.is_some() || hop.encap.is_some() => {
                Via::Hop(hop)
            }
            (None, None) => Via::None,
        };
        Some(route)
    }

    fn accepts(filter: &RouteFilter, route: &Self) -> bool {
        let out_of = |wanted: Ifindex| match &route.via {
            Via::Hop(hop) => hop.dev == Some(wanted),
            Via::Multipath(hops) => hops.iter().any(|w| w.hop.dev == Some(wanted)),
            Via::None | Via::Nexthop(_) => false,
        };
        filter.family.is_none_or(|family| family == route.version())
            && filter.table.is_none_or(|table| table == route.table)
            && filter.protocol.is_none_or(|protocol| protocol == route.protocol)
            && filter.dev.is_none_or(out_of)
    }
}

fn decode_multipath(mut bytes: &[u8]) -> Vec<WeightedHop> {
    let mut hops = Vec::new();
    while let Some(len) = codec::u16_at(bytes, 0).map(usize::from) {
        let Some(entry) = bytes.get(..len).filter(|entry| entry.len() >= RTNEXTHOP_LEN) else {
            break;
        };
        let dev = Ifindex(codec::u32_at(entry, 4).unwrap_or_default());
        let mut hop = Hop {
            gateway: None,
            dev: Some(dev).filter(|dev| dev.0 != 0),
            onlink: entry[2] & RTNH_F_ONLINK != 0,
            encap: Encap::find(&entry[RTNEXTHOP_LEN..], rta::ENCAP_TYPE, rta::ENCAP),
        };
        for (kind, value) in codec::attributes(&entry[RTNEXTHOP_LEN..]) {
            match kind {
                rta::GATEWAY => hop.gateway = codec::ip(value),
                rta::VIA => hop.gateway = value.get(2..).and_then(codec::ip),
                _ => {}
            }
        }
        hops.push(WeightedHop { hop, weight: u16::from(entry[3]) + 1 });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

/// A question to the kernel: how would a packet be routed? As `ip route get`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteQuery {
    /// Where the packet goes.
    pub dst: IpAddr,
    /// Where it comes from.
    pub src: Option<IpAddr>,
    /// The device it came in on, if it is to be forwarded.
    pub iif: Option<Ifindex>,
    /// The device it must go out of.
    pub oif: Option<Ifindex>,
    /// Its mark.
    pub mark: u32,
}

impl RouteQuery {
    /// A packet of this host to `dst`.
    #[must_use]
    pub const fn to(dst: IpAddr) -> Self {
        Self { dst, src: None, iif: None, oif: None, mark: 0 }
    }

    /// Appends the request.
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        if self.src.is_some_and(|src| src.is_ipv4() != self.dst.is_ipv4()) {
            let reason = "the source is not of the destination's family";
            return Err(Error::Invalid { object: self.command(), reason });
        }
        let mut message = Encoder::begin(buffer, rtm::GETROUTE, netlink_packet_core::NLM_F_REQUEST);
        let version = IpVersion::of(self.dst);
        let src_len = if self.src.is_some() { version.address_bits() } else { 0 };
        message.put(&[codec::family_of(version), version.address_bits(), src_len, 0, 0, 0, 0, 0]);
        // IPv6 always tells the table, and refuses the flag.
        let flags = if self.dst.is_ipv4() { rta::F_LOOKUP_TABLE } else { 0 };
        message.put(&flags.to_ne_bytes());
        message.attr_ip(rta::DST, self.dst);
        if let Some(src) = self.src {
            message.attr_ip(rta::SRC, src);
        }
        if let Some(iif) = self.iif {
            message.attr_u32(rta::IIF, iif.0);
        }
        if let Some(oif) = self.oif {
            message.attr_u32(rta::OIF, oif.0);
        }
        if self.mark != 0 {
            message.attr_u32(rta::MARK, self.mark);
        }
        message.finish();
        Ok(())
    }

    /// The `ip route get` command that asks the same.
    #[must_use]
    pub fn command(&self) -> String {
        let mut command = format!("ip route get {}", self.dst);
        if let Some(src) = self.src {
            command.push_str(&format!(" from {src}"));
        }
        if let Some(iif) = self.iif {
            command.push_str(&format!(" iif {iif}"));
        }
        if let Some(oif) = self.oif {
            command.push_str(&format!(" oif {oif}"));
        }
        if self.mark != 0 {
            command.push_str(&format!(" mark {:#x}", self.mark));
        }
        command
    }
}
