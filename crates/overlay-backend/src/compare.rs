//! Whether what the kernel holds is what is wanted.

use overlay_netlink::{Df, Gre, IfName, Link, LinkKind, NeighbourState, Object, Tunnel, Vxlan};

/// How a device that is there fits the one that is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// In everything that is wanted.
    Exact,
    /// Once these settings are changed in place.
    Change(Box<Link<IfName>>),
    /// Not without being made anew.
    Recreate,
}

/// Whether an object other than a device is as wanted. Ownership marks do not count; what the
/// wanted object leaves open does not either.
pub(crate) fn satisfies(observed: &Object<IfName>, wanted: &Object<IfName>) -> bool {
    match (observed, wanted) {
        (Object::Address(seen), Object::Address(want)) => {
            seen.net == want.net
                && seen.peer == want.peer
                && seen.scope == want.scope
                && seen.noprefixroute == want.noprefixroute
                && (want.broadcast.is_none() || seen.broadcast == want.broadcast)
        }
        (Object::Fdb(seen), Object::Fdb(want)) => {
            seen.dst == want.dst
                && seen.port == want.port
                && seen.vni == want.vni
                && seen.via == want.via
                && seen.nexthop == want.nexthop
                && seen.flags == want.flags
                && seen.state.contains(NeighbourState::PERMANENT)
                    == want.state.contains(NeighbourState::PERMANENT)
        }
        (Object::Neighbour(seen), Object::Neighbour(want)) => {
            seen.lladdr == want.lladdr && seen.state == want.state && seen.flags == want.flags
        }
        (Object::Nexthop(seen), Object::Nexthop(want)) => {
            seen.target == want.target && seen.fdb == want.fdb
        }
        (Object::Route(seen), Object::Route(want)) => {
            seen.via == want.via
                && seen.kind == want.kind
                && seen.scope == want.scope
                && seen.src == want.src
                && seen.mtu == want.mtu
                && seen.mtu_lock == want.mtu_lock
        }
        (Object::Rule(seen), Object::Rule(want)) => seen == want,
        _ => false,
    }
}

/// How a device that is there fits the one that is wanted.
pub(crate) fn fit(seen: &Link<IfName>, want: &Link<IfName>) -> Fit {
    let kind = match kind_fit(&seen.kind, &want.kind) {
        KindFit::Exact => LinkKind::Device,
        KindFit::Change => changeable(&want.kind),
        KindFit::Recreate => return Fit::Recreate,
    };
    if kind != LinkKind::Device {
        // By itself: the kernel refuses an MTU beside it. The rest follows in the next round.
        return Fit::Change(Box::new(Link::new(want.name, kind)));
    }
    let mut change = Link::named(want.name);
    change.mtu = want.mtu.filter(|mtu| seen.mtu != Some(*mtu));
    change.address = want.address.filter(|address| seen.address != Some(*address));
    change.up = want.up.filter(|up| seen.up != Some(*up));
    change.arp = want.arp.filter(|arp| seen.arp != Some(*arp));
    change.master = want.master.filter(|master| seen.master != Some(*master));
    change.alias = want.alias.clone().filter(|alias| seen.alias.as_ref() != Some(alias));
    change.gso_max_size = want.gso_max_size.filter(|size| seen.gso_max_size != Some(*size));
    if change == Link::named(want.name) { Fit::Exact } else { Fit::Change(Box::new(change)) }
}

/// The part of a kind that the kernel changes in place. It refuses a request that mentions the rest,
/// even with the values that are there.
fn changeable(want: &LinkKind<IfName>) -> LinkKind<IfName> {
    let LinkKind::Vxlan(want) = want else { return want.clone() };
    let mut vxlan = want.clone();
    vxlan.port = None;
    vxlan.ttl_inherit = false;
    vxlan.source_ports = None;
    vxlan.limit = None;
    vxlan.proxy = None;
    vxlan.rsc = None;
    vxlan.l2miss = None;
    vxlan.l3miss = None;
    vxlan.udp_csum = None;
    vxlan.udp6_zero_csum_tx = None;
    vxlan.udp6_zero_csum_rx = None;
    vxlan.rem_csum_tx = None;
    vxlan.rem_csum_rx = None;
    vxlan.external = false;
    vxlan.vnifilter = false;
    vxlan.gbp = false;
    vxlan.gpe = false;
    LinkKind::Vxlan(vxlan)
}

#[derive(PartialEq, Eq)]
enum KindFit {
    Exact,
    Change,
    Recreate,
}

/// Whether a setting that is wanted at all is as wanted.
fn same<T: PartialEq>(seen: &Option<T>, want: &Option<T>) -> bool {
    want.is_none() || seen == want
}

fn kind_fit(seen: &LinkKind<IfName>, want: &LinkKind<IfName>) -> KindFit {
    match (seen, want) {
        (LinkKind::Vxlan(seen), LinkKind::Vxlan(want)) => vxlan_fit(seen, want),
        (LinkKind::Ipip(seen), LinkKind::Ipip(want))
        | (LinkKind::Sit(seen), LinkKind::Sit(want))
        | (LinkKind::Ip6tnl(seen), LinkKind::Ip6tnl(want)) => tunnel_fit(seen, want),
        (LinkKind::Bridge(seen), LinkKind::Bridge(want)) => {
            let exact = same(&seen.stp, &want.stp)
                && same(&seen.forward_delay, &want.forward_delay)
                && same(&seen.ageing_time, &want.ageing_time)
                && same(&seen.vlan_filtering, &want.vlan_filtering)
                && same(&seen.mcast_snooping, &want.mcast_snooping);
            if exact { KindFit::Exact } else { KindFit::Change }
        }
        (LinkKind::Gre(seen), LinkKind::Gre(want)) => gre_fit(seen, want),
        // Nothing of these is reported, or nothing can be set.
        (LinkKind::Device, LinkKind::Device)
        | (LinkKind::Veth(_), LinkKind::Veth(_))
        | (LinkKind::Ifb, LinkKind::Ifb)
        | (LinkKind::Dummy, LinkKind::Dummy)
        | (LinkKind::Tun, LinkKind::Tun) => KindFit::Exact,
        (LinkKind::Other(seen), LinkKind::Other(want)) if seen == want => KindFit::Exact,
        _ => KindFit::Recreate,
    }
}

fn gre_fit(seen: &Gre<IfName>, want: &Gre<IfName>) -> KindFit {
    if (seen.tap, seen.ipv6, seen.external) != (want.tap, want.ipv6, want.external) {
        return KindFit::Recreate;
    }
    let exact = seen.local == want.local
        && seen.remote == want.remote
        && same(&seen.dev, &want.dev)
        && seen.ikey == want.ikey
        && seen.okey == want.okey
        && same(&seen.ttl, &want.ttl)
        && same(&seen.tos, &want.tos)
        && same(&seen.pmtudisc, &want.pmtudisc);
    if exact { KindFit::Exact } else { KindFit::Change }
}

/// The kernel changes only some settings of a VXLAN device in place (`vxlan_changelink`).
fn vxlan_fit(seen: &Vxlan<IfName>, want: &Vxlan<IfName>) -> KindFit {
    let fixed = seen.id == want.id
        && same(&seen.port, &want.port)
        && same(&seen.source_ports, &want.source_ports)
        && same(&seen.limit, &want.limit)
        && same(&seen.proxy, &want.proxy)
        && same(&seen.rsc, &want.rsc)
        && same(&seen.l2miss, &want.l2miss)
        && same(&seen.l3miss, &want.l3miss)
        && same(&seen.udp_csum, &want.udp_csum)
        && same(&seen.udp6_zero_csum_tx, &want.udp6_zero_csum_tx)
        && same(&seen.udp6_zero_csum_rx, &want.udp6_zero_csum_rx)
        && same(&seen.rem_csum_tx, &want.rem_csum_tx)
        && same(&seen.rem_csum_rx, &want.rem_csum_rx)
        && seen.external == want.external
        && seen.vnifilter == want.vnifilter
        && seen.ttl_inherit == want.ttl_inherit
        && seen.gbp == want.gbp
        && seen.gpe == want.gpe
        // The family of the underlay is fixed at creation.
        && want.local.is_none_or(|want| seen.local.is_some_and(|seen| seen.is_ipv4() == want.is_ipv4()))
        && seen.group == want.group;
    let changeable = same(&seen.local, &want.local)
        && same(&seen.dev, &want.dev)
        && same(&seen.learning, &want.learning)
        && same(&seen.ageing, &want.ageing)
        && same(&seen.ttl, &want.ttl)
        && same(&seen.tos, &want.tos)
        && same(&seen.df.or(Some(Df::Unset)), &want.df)
        && same(&seen.label, &want.label)
        && same(&seen.localbypass, &want.localbypass);
    match (fixed, changeable) {
        (false, _) => KindFit::Recreate,
        (true, false) => KindFit::Change,
        (true, true) => KindFit::Exact,
    }
}

fn tunnel_fit(seen: &Tunnel<IfName>, want: &Tunnel<IfName>) -> KindFit {
    if seen.external != want.external {
        return KindFit::Recreate;
    }
    let exact = same(&seen.mode, &want.mode)
        && seen.local == want.local
        && seen.remote == want.remote
        && same(&seen.dev, &want.dev)
        && same(&seen.ttl, &want.ttl)
        && same(&seen.tos, &want.tos)
        && same(&seen.pmtudisc, &want.pmtudisc)
        && same(&seen.encap_limit, &want.encap_limit)
        && same(&seen.fwmark, &want.fwmark);
    if exact { KindFit::Exact } else { KindFit::Change }
}
