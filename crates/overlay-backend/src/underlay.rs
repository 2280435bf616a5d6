//! This node's place in the underlay.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_netlink::{
    Address, AddressFilter, Hop, IfName, Ifindex, Link, LinkFilter, Nexthop, NexthopFilter,
    NexthopId, NexthopTarget, Route, RouteFilter, RouteKind, RouteQuery, Scope, Socket, Via,
};
use overlay_wire::IpVersion;

/// The device that carries the overlay, as far as backends need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Underlay {
    /// The device.
    pub dev: IfName,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses of global scope, each with the prefix of its link: those that peers can be told
    /// of, which leaves out temporary, deprecated and tentative ones.
    pub addresses: Vec<IpNet>,
    /// The prefixes that it reaches without a router, whichever routing table says so. Of a device
    /// without MAC addresses, which hands everything to its far end, these are the far end's own.
    pub on_link: Vec<IpNet>,
    /// The addresses inside these that are reached another way all the same, as far as the kernel
    /// was [asked](Self::ask): a longer prefix leads to a router, or a rule to another table.
    pub routed: BTreeSet<IpAddr>,
}

impl Underlay {
    /// Asks the kernel about the device called `dev`.
    ///
    /// # Errors
    /// [`UnderlayError::NoDevice`] when there is none of that name, [`UnderlayError::Netlink`] when
    /// the kernel cannot be asked.
    pub fn observe(socket: &mut Socket, dev: &IfName) -> Result<Self, UnderlayError> {
        let link = link(socket, dev)?;
        Self::of(socket, &link)
    }

    /// Asks the kernel about the same device again, and then how it would send to each of
    /// `endpoints`.
    ///
    /// # Errors
    /// As [`observe`](Self::observe); and [`UnderlayError::Down`] when the device is down, because
    /// what can be seen then says nothing of what is true afterwards.
    pub fn observe_again(
        &self,
        socket: &mut Socket,
        endpoints: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, UnderlayError> {
        let link = link(socket, &self.dev)?;
        if link.up == Some(false) {
            return Err(UnderlayError::Down { dev: self.dev });
        }
        let mut now = Self::of(socket, &link)?;
        now.ask(socket, endpoints)?;
        Ok(now)
    }

    /// Asks the kernel how it would send to each of `endpoints`, and notes in
    /// [`routed`](Self::routed) those to which that is not straight from the device, although a
    /// prefix that is on the link contains them. Costs a request for each that one contains.
    ///
    /// # Errors
    /// As [`observe`](Self::observe).
    pub fn ask(
        &mut self,
        socket: &mut Socket,
        endpoints: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), UnderlayError> {
        let index = link(socket, &self.dev)?.index.unwrap_or_default();
        for endpoint in endpoints {
            if !self.on_link_prefix_contains(endpoint) {
                continue;
            }
            let straight = match socket.route(&RouteQuery::to(endpoint)) {
                Ok(route) => {
                    route.kind == RouteKind::Unicast
                        && matches!(&route.via, Via::Hop(hop) if is_straight(hop, index))
                }
                // No route, or one that forbids it.
                Err(overlay_netlink::Error::Kernel(_)) => false,
                Err(error) => return Err(error.into()),
            };
            if straight {
                self.routed.remove(&endpoint);
            } else {
                self.routed.insert(endpoint);
            }
        }
        Ok(())
    }

    fn of(socket: &mut Socket, link: &Link) -> Result<Self, UnderlayError> {
        let index = link.index.unwrap_or_default();
        let mut addresses: Vec<Address> = socket.list(&AddressFilter::on(index))?;
        // Those that may pass are the node's too, but the last to choose.
        addresses.sort_by_key(|address| !is_lasting(address));
        let far_ends: HashSet<IpAddr> = addresses.iter().filter_map(|a| a.peer).collect();
        let straight = straight_nexthops(socket, index)?;
        let mut filter = RouteFilter::default();
        if straight.is_empty() {
            // Which leaves out routes by way of nexthop objects.
            filter = filter.dev(index);
        }
        let routes: Vec<Route> = socket.list(&filter)?;
        let mut on_link: Vec<IpNet> = routes
            .iter()
            .filter(|route| route.kind == RouteKind::Unicast)
            .filter(|route| match &route.via {
                Via::Hop(hop) => is_straight(hop, index),
                Via::Nexthop(id) => straight.contains(id),
                _ => false,
            })
            .map(|route| route.dst)
            .filter(|dst| link.address.is_some() || is_one_of(dst, &far_ends))
            .collect();
        on_link.sort_unstable();
        on_link.dedup();
        Ok(Self {
            dev: link.name,
            mtu: link.mtu.unwrap_or_default(),
            addresses: addresses
                .iter()
                .filter(|address| address.scope == Scope::UNIVERSE)
                .map(|address| address.net)
                .collect(),
            on_link,
            routed: BTreeSet::new(),
        })
    }

    /// The node's address of this family: the first one. [`observe`](Self::observe) puts temporary,
    /// deprecated and tentative ones last.
    #[must_use]
    pub fn address(&self, version: IpVersion) -> Option<IpAddr> {
        self.addresses.iter().map(IpNet::addr).find(|address| IpVersion::of(*address) == version)
    }

    /// Whether `address` is one of this node's.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// Whether the device reaches `address` without a router.
    ///
    /// A default route without a gateway does not count: it says that somebody takes whatever is sent
    /// (a far end, or a router that answers for all addresses), not who.
    #[must_use]
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.on_link_prefix_contains(address) && !self.routed.contains(&address)
    }

    fn on_link_prefix_contains(&self, address: IpAddr) -> bool {
        self.on_link.iter().any(|net| net.prefix_len() > 0 && net.contains(&address))
    }
}

fn link(socket: &mut Socket, dev: &IfName) -> Result<Link, UnderlayError> {
    match socket.link(dev) {
        Err(error) if error.is_not_found() => {
            let links: Vec<Link> = socket.list(&LinkFilter::default())?;
            let names = links.iter().map(|link| link.name.to_string()).collect::<Vec<_>>();
            Err(UnderlayError::NoDevice { dev: *dev, present: names.join(", ") })
        }
        other => Ok(other?),
    }
}

/// The nexthop objects that lead out of the device without a gateway. None on kernels without any.
fn straight_nexthops(
    socket: &mut Socket,
    index: Ifindex,
) -> Result<HashSet<NexthopId>, UnderlayError> {
    let nexthops: Vec<Nexthop> = match socket.list(&NexthopFilter::default()) {
        Err(error) if error.is_unsupported() => Vec::new(),
        other => other?,
    };
    let is_straight = |nexthop: &&Nexthop| matches!(&nexthop.target, NexthopTarget::Hop(hop) if is_straight(hop, index));
    Ok(nexthops.iter().filter(is_straight).map(|nexthop| nexthop.id).collect())
}

fn is_straight(hop: &Hop, index: Ifindex) -> bool {
    hop.gateway.is_none() && hop.dev == Some(index)
}

fn is_one_of(net: &IpNet, addresses: &HashSet<IpAddr>) -> bool {
    net.prefix_len() == net.max_prefix_len() && addresses.contains(&net.addr())
}

/// Whether peers can be told of it: it answers already, and will be there tomorrow.
const fn is_lasting<D>(address: &Address<D>) -> bool {
    !address.temporary && !address.deprecated && !address.tentative
}

/// Why the underlay cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnderlayError {
    /// There is no such device.
    #[error("interface {dev} does not exist; there are: {present}")]
    NoDevice {
        /// The name that was given.
        dev: IfName,
        /// The names of those that exist.
        present: String,
    },
    /// The device is down: what is seen of it now will not be so when it is up.
    #[error("interface {dev} is down")]
    Down {
        /// The device.
        dev: IfName,
    },
    /// The device has no address of the family that is needed.
    #[error("interface {dev} has no {version} address to send from")]
    NoAddress {
        /// The device.
        dev: IfName,
        /// The family.
        version: IpVersion,
    },
    /// The MTU of the device leaves no room for the encapsulation.
    #[error(
        "interface {dev} has an MTU of {mtu} bytes, too small for {backend} and the overlay's packets"
    )]
    MtuTooSmall {
        /// The device.
        dev: IfName,
        /// Its MTU in bytes.
        mtu: u32,
        /// The backend.
        backend: &'static str,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] overlay_netlink::Error),
}
