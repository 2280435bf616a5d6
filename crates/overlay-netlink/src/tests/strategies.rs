//! Any object that netlink can say.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_wire::{IpVersion, MacAddr, Vni};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::{
    Address, Bridge, Df, Encap, EncapLimit, Fdb, Gre, Hop, IfName, Ifindex, Link, LinkKind,
    Neighbour, NeighbourFlags, NeighbourState, Nexthop, NexthopId, NexthopTarget, Protocol, Route,
    RouteKind, Rule, RuleAction, Scope, Tunnel, TunnelMode, Via, Vxlan, WeightedHop, table,
};

pub(super) fn version() -> impl Strategy<Value = IpVersion> {
    prop_oneof![Just(IpVersion::V4), Just(IpVersion::V6)]
}

pub(super) fn ip(version: IpVersion) -> BoxedStrategy<IpAddr> {
    match version {
        IpVersion::V4 => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
        IpVersion::V6 => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
    }
}

/// An address that is not the one that stands for none.
fn specific(version: IpVersion) -> impl Strategy<Value = IpAddr> {
    ip(version).prop_filter("specific", |ip| !ip.is_unspecified())
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    version().prop_flat_map(ip)
}

fn net(version: IpVersion) -> impl Strategy<Value = IpNet> {
    (ip(version), 0..=version.address_bits())
        .prop_map(|(ip, len)| IpNet::new(ip, len).expect("a length within the family"))
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn vni() -> impl Strategy<Value = Vni> {
    (0u32..1 << 24).prop_map(|vni| Vni::new(vni).expect("24 bits"))
}

fn dev() -> impl Strategy<Value = Ifindex> {
    (1..=i32::MAX as u32).prop_map(Ifindex)
}

fn name() -> impl Strategy<Value = IfName> {
    "[a-z][a-z0-9.]{0,14}".prop_map(|name| IfName::new(&name).expect("a name"))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    any::<u8>().prop_map(Protocol)
}

pub(super) fn address() -> BoxedStrategy<Address> {
    version()
        .prop_flat_map(|version| {
            let own = (net(version), of(ip(version)), of(any::<[u8; 4]>()));
            let flags = (any::<u8>(), any::<bool>(), any::<bool>());
            (own, flags, dev(), protocol()).prop_map(
                |((net, peer, broadcast), (scope, nodad, noprefixroute), dev, protocol)| Address {
                    dev,
                    net,
                    peer: peer.filter(|peer| *peer != net.addr()),
                    broadcast: broadcast.map(Into::into).filter(|_| net.addr().is_ipv4()),
                    scope: Scope(scope),
                    nodad: nodad && net.addr().is_ipv6(),
                    noprefixroute,
                    tentative: false,
                    temporary: false,
                    deprecated: false,
                    protocol,
                },
            )
        })
        .boxed()
}

pub(super) fn neighbour() -> BoxedStrategy<Neighbour> {
    (dev(), any_ip(), of(mac()), any::<u16>(), any::<u8>(), protocol())
        .prop_map(|(dev, dst, lladdr, state, flags, protocol)| Neighbour {
            dev,
            dst,
            lladdr,
            state: NeighbourState(state),
            flags: NeighbourFlags(flags),
            protocol,
        })
        .boxed()
}

pub(super) fn fdb() -> BoxedStrategy<Fdb> {
    let place = (dev(), mac(), of(any_ip()), of(any::<u16>()), of(vni()), of(vni()));
    let rest = (of(dev()), of(any::<u32>()), of(any::<u16>()), any::<u16>(), any::<u8>());
    (place, rest)
        .prop_map(|((dev, lladdr, dst, port, vni, src_vni), (via, nexthop, vlan, state, flags))| {
            Fdb {
                dev,
                lladdr,
                dst,
                port,
                vni,
                src_vni,
                via,
                nexthop: nexthop.map(NexthopId),
                vlan,
                state: NeighbourState(state),
                flags: NeighbourFlags(flags),
            }
        })
        .boxed()
}

fn encap() -> impl Strategy<Value = Encap> {
    version().prop_flat_map(|version| {
        (any::<u64>(), ip(version), of(specific(version)), any::<u8>(), any::<u8>())
            .prop_map(|(id, dst, src, ttl, tos)| Encap { id, dst, src, ttl, tos })
    })
}

fn hop(gateway: impl Strategy<Value = IpAddr> + 'static) -> impl Strategy<Value = Hop> {
    (of(gateway), of(dev()), any::<bool>(), of(encap().prop_map(Box::new)))
        .prop_filter("a hop that says nothing is none", |(gateway, dev, _, encap)| {
            gateway.is_some() || dev.is_some() || encap.is_some()
        })
        .prop_map(|(gateway, dev, onlink, encap)| Hop { gateway, dev, onlink, encap })
}

fn weight() -> impl Strategy<Value = u16> {
    1..=256u16
}

fn via() -> impl Strategy<Value = Via> {
    let weighted = (hop(any_ip()), weight()).prop_map(|(hop, weight)| WeightedHop { hop, weight });
    prop_oneof![
        Just(Via::None),
        hop(any_ip()).prop_map(Via::Hop),
        vec(weighted, 1..5).prop_map(Via::Multipath),
        any::<u32>().prop_map(|id| Via::Nexthop(NexthopId(id))),
    ]
}

fn route_kind() -> impl Strategy<Value = RouteKind> {
    prop_oneof![
        Just(RouteKind::Unicast),
        Just(RouteKind::Local),
        Just(RouteKind::Blackhole),
        Just(RouteKind::Unreachable),
        Just(RouteKind::Prohibit),
        Just(RouteKind::Throw),
        Just(RouteKind::Other(77)),
    ]
}

pub(super) fn route() -> BoxedStrategy<Route> {
    version()
        .prop_flat_map(|version| {
            let place = (net(version), 1..=u32::MAX, any::<u32>(), any::<u8>());
            let marks = (route_kind(), any::<u8>(), protocol());
            let rest = (via(), of(ip(version)), of((any::<u32>(), any::<bool>())));
            (place, marks, rest).prop_map(
                |((dst, table, metric, tos), (kind, scope, protocol), (via, src, mtu))| Route {
                    dst: dst.trunc(),
                    table,
                    metric,
                    tos,
                    kind,
                    scope: Scope(scope),
                    protocol,
                    via: match via {
                        Via::Hop(_) if kind.drops() => Via::None,
                        via => via,
                    },
                    src,
                    mtu: mtu.map(|(mtu, _)| mtu),
                    mtu_lock: mtu.is_some_and(|(_, lock)| lock),
                },
            )
        })
        .boxed()
}

fn rule_action() -> impl Strategy<Value = RuleAction> {
    prop_oneof![
        (1..=u32::MAX).prop_map(RuleAction::Lookup),
        Just(RuleAction::Lookup(table::MAIN)),
        any::<u32>().prop_map(RuleAction::Goto),
        Just(RuleAction::Nop),
        Just(RuleAction::Blackhole),
        Just(RuleAction::Unreachable),
        Just(RuleAction::Prohibit),
    ]
}

pub(super) fn rule() -> BoxedStrategy<Rule> {
    version()
        .prop_flat_map(|version| {
            let prefixes = (any::<u32>(), of(net(version)), of(net(version)));
            let devices = (of(name()), of(name()), of(any::<(u32, u32)>()));
            let packet = (any::<u8>(), of(any::<u8>()), any::<bool>(), of(0..u32::MAX));
            (prefixes, devices, packet, rule_action(), protocol()).prop_map(
                move |(
                    (priority, src, dst),
                    (iif, oif, fwmark),
                    (tos, ip_proto, invert, suppress_prefixlength),
                    action,
                    protocol,
                )| Rule {
                    family: version,
                    priority: Some(priority),
                    src: src.map(|net| net.trunc()),
                    dst: dst.map(|net| net.trunc()),
                    iif,
                    oif,
                    fwmark,
                    tos,
                    ip_proto,
                    invert,
                    suppress_prefixlength,
                    action,
                    protocol,
                },
            )
        })
        .boxed()
}

pub(super) fn nexthop() -> BoxedStrategy<Nexthop> {
    let target = prop_oneof![
        hop(any_ip()).prop_map(NexthopTarget::Hop),
        version().prop_map(NexthopTarget::Blackhole),
        vec((any::<u32>().prop_map(NexthopId), weight()), 1..9).prop_map(NexthopTarget::Group),
    ];
    (any::<u32>(), target, any::<bool>(), protocol())
        .prop_map(|(id, target, fdb, protocol)| Nexthop {
            id: NexthopId(id),
            target,
            fdb,
            protocol,
        })
        .boxed()
}

fn vxlan() -> impl Strategy<Value = Vxlan> {
    let on = || of(any::<bool>());
    let ends = version().prop_flat_map(|version| (of(ip(version)), of(ip(version))));
    let place = (of(vni()), of(dev()), ends, of(any::<u16>()), of(any::<(u16, u16)>()));
    let limits = (on(), of(any::<u32>()), of(any::<u32>()));
    let df = prop_oneof![Just(Df::Unset), Just(Df::Set), Just(Df::Inherit)];
    let outer = (of(any::<u8>()), any::<bool>(), of(any::<u8>()), of(df), of(0..1u32 << 20));
    let asks = (on(), on(), on(), on());
    let checksums = (on(), on(), on(), on(), on());
    let extensions = (any::<[bool; 4]>(), on());
    (place, limits, outer, asks, checksums, extensions).prop_map(
        |(place, limits, outer, asks, checksums, extensions)| {
            let (id, dev, (local, group), port, source_ports) = place;
            let ([external, vnifilter, gbp, gpe], localbypass) = extensions;
            Vxlan {
                id: id.filter(|_| !external),
                dev,
                local,
                group,
                port,
                source_ports,
                learning: limits.0,
                ageing: limits.1,
                limit: limits.2,
                ttl: outer.0,
                ttl_inherit: outer.1,
                tos: outer.2,
                df: outer.3,
                label: outer.4,
                proxy: asks.0,
                rsc: asks.1,
                l2miss: asks.2,
                l3miss: asks.3,
                udp_csum: checksums.0,
                udp6_zero_csum_tx: checksums.1,
                udp6_zero_csum_rx: checksums.2,
                rem_csum_tx: checksums.3,
                rem_csum_rx: checksums.4,
                external,
                vnifilter,
                gbp,
                gpe,
                localbypass,
            }
        },
    )
}

fn tunnel(version: IpVersion) -> impl Strategy<Value = Box<Tunnel>> {
    let mode = prop_oneof![Just(TunnelMode::Any), Just(TunnelMode::Ipv4), Just(TunnelMode::Ipv6)];
    let ends = (of(specific(version)), of(specific(version)), of(dev()));
    let limit = prop_oneof![Just(EncapLimit::Off), any::<u8>().prop_map(EncapLimit::At)];
    let outer = (of(any::<u8>()), of(any::<u8>()), of(any::<bool>()), of(limit));
    (of(mode), ends, outer, of(any::<u32>()), any::<bool>()).prop_map(
        |(mode, (local, remote, dev), (ttl, tos, pmtudisc, encap_limit), fwmark, external)| {
            Box::new(Tunnel {
                mode,
                local,
                remote,
                dev,
                ttl,
                tos,
                pmtudisc,
                encap_limit,
                fwmark,
                external,
            })
        },
    )
}

fn gre() -> impl Strategy<Value = Box<Gre>> {
    version().prop_flat_map(|version| {
        let ends = (of(specific(version)), of(specific(version)), of(dev()));
        let keys = (of(any::<u32>()), of(any::<u32>()));
        let outer = (of(any::<u8>()), of(any::<u8>()), of(any::<bool>()));
        (any::<bool>(), ends, keys, outer, any::<bool>()).prop_map(
            move |(tap, (local, remote, dev), (ikey, okey), (ttl, tos, pmtudisc), external)| {
                let ipv6 = version == IpVersion::V6;
                Box::new(Gre {
                    tap,
                    ipv6,
                    local,
                    remote,
                    dev,
                    ikey,
                    okey,
                    ttl,
                    tos,
                    pmtudisc: pmtudisc.filter(|_| !ipv6),
                    external,
                })
            },
        )
    })
}

fn bridge() -> impl Strategy<Value = Bridge> {
    let on = || of(any::<bool>());
    (on(), of(any::<u32>()), of(any::<u32>()), on(), on()).prop_map(
        |(stp, forward_delay, ageing_time, vlan_filtering, mcast_snooping)| Bridge {
            stp,
            forward_delay,
            ageing_time,
            vlan_filtering,
            mcast_snooping,
        },
    )
}

/// Boxed, as all that is built of many: in a debug build an unboxed one fills a thread's stack.
fn link_kind() -> BoxedStrategy<LinkKind> {
    prop_oneof![
        Just(LinkKind::Veth(None)),
        Just(LinkKind::Ifb),
        Just(LinkKind::Dummy),
        "[a-z]{9,15}".prop_map(LinkKind::Other),
        bridge().prop_map(LinkKind::Bridge).boxed(),
        vxlan().prop_map(|vxlan| LinkKind::Vxlan(Box::new(vxlan))).boxed(),
        tunnel(IpVersion::V4).prop_map(LinkKind::Ipip).boxed(),
        tunnel(IpVersion::V4).prop_map(LinkKind::Sit).boxed(),
        tunnel(IpVersion::V6).prop_map(LinkKind::Ip6tnl).boxed(),
        gre().prop_map(LinkKind::Gre).boxed(),
    ]
    .boxed()
}

pub(super) fn link() -> BoxedStrategy<Link> {
    let basics = (name(), of(dev()), link_kind(), of(any::<u32>()), of(mac()));
    let rest = (any::<bool>(), of(dev()), of("[ -~]{0,40}"), of(any::<u32>()));
    (basics, rest)
        .prop_map(|((name, index, kind, mtu, address), (up, master, alias, gso_max_size))| Link {
            name,
            index,
            kind,
            mtu,
            address,
            up: Some(up),
            carrier: None,
            master,
            alias,
            namespace: None,
            peer: None,
            link_netnsid: None,
            gso_max_size,
        })
        .boxed()
}
