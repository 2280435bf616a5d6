//! The kernel's own keys: two objects with one key cannot be there together.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_netlink::{Hop, IfName, NeighbourFlags, NexthopId, NexthopTarget, Object, Rule, Via};
use overlay_wire::{MacAddr, Vni};

/// What the kernel tells objects apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Link(IfName),
    /// The prefix length counts for IPv4 only.
    Address(IfName, IpAddr, u8),
    Fdb(IfName, MacAddr, Option<u16>, Option<Vni>),
    /// Proxy entries are apart.
    Neighbour(IfName, IpAddr, bool),
    Nexthop(NexthopId),
    Route {
        table: u32,
        dst: IpNet,
        tos: u8,
        metric: u32,
    },
    /// Rules have no key but all that they say.
    Rule(Box<Rule>),
}

/// The order in which objects come into being; they go in the opposite order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Layer {
    Link,
    Address,
    Fdb,
    Neighbour,
    Nexthop,
    Route,
    Rule,
}

impl Layer {
    pub(crate) const COUNT: usize = 7;

    pub(crate) const fn of<D>(object: &Object<D>) -> Self {
        match object {
            Object::Link(_) => Self::Link,
            Object::Address(_) => Self::Address,
            Object::Fdb(_) => Self::Fdb,
            Object::Neighbour(_) => Self::Neighbour,
            Object::Nexthop(_) => Self::Nexthop,
            Object::Route(_) => Self::Route,
            Object::Rule(_) => Self::Rule,
        }
    }
}

impl Key {
    pub(crate) fn of(object: &Object<IfName>) -> Self {
        match object {
            Object::Link(link) => Self::Link(link.name),
            Object::Address(address) => {
                let length = match address.net {
                    IpNet::V4(net) => net.prefix_len(),
                    IpNet::V6(_) => 128,
                };
                Self::Address(address.dev, address.net.addr(), length)
            }
            Object::Fdb(fdb) => Self::Fdb(fdb.dev, fdb.lladdr, fdb.vlan, fdb.src_vni),
            Object::Neighbour(neighbour) => Self::Neighbour(
                neighbour.dev,
                neighbour.dst,
                neighbour.flags.contains(NeighbourFlags::PROXY),
            ),
            Object::Nexthop(nexthop) => Self::Nexthop(nexthop.id),
            Object::Route(route) => Self::Route {
                table: route.table,
                dst: route.dst,
                tos: route.tos,
                // The kernel makes the default of IPv6 explicit.
                metric: match (route.dst, route.metric) {
                    (IpNet::V6(_), 0) => 1024,
                    (_, metric) => metric,
                },
            },
            Object::Rule(rule) => Self::Rule(rule.clone()),
        }
    }
}

/// Whether one of the devices that an object hangs on, itself not counted, is one that `f` holds
/// for.
pub(crate) fn any_device(object: &Object<IfName>, f: &mut impl FnMut(IfName) -> bool) -> bool {
    fn of_hop(hop: &Hop<IfName>, f: &mut impl FnMut(IfName) -> bool) -> bool {
        hop.dev.is_some_and(f)
    }
    match object {
        // The mapping visits every device that the link refers to.
        Object::Link(link) => {
            link.try_map_dev(&mut |dev: IfName| if f(dev) { Err(()) } else { Ok(dev) }).is_err()
        }
        Object::Address(address) => f(address.dev),
        Object::Fdb(fdb) => f(fdb.dev) || fdb.via.is_some_and(f),
        Object::Neighbour(neighbour) => f(neighbour.dev),
        Object::Nexthop(nexthop) => match &nexthop.target {
            NexthopTarget::Hop(hop) => of_hop(hop, f),
            _ => false,
        },
        Object::Route(route) => match &route.via {
            Via::Hop(hop) => of_hop(hop, f),
            Via::Multipath(hops) => hops.iter().any(|weighted| of_hop(&weighted.hop, f)),
            _ => false,
        },
        Object::Rule(_) => false,
    }
}
