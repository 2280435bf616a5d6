//! Addresses, and the routes that come and go with them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use overlay_netlink::{Address, Hop, Ifindex, Protocol, Route, Scope, Verb, Via, table};

use super::fib;
use super::refusal::{EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV, ENXIO, Refusal};
use super::state::{HeldAddress, LOOPBACK, State};

/// `IP6_RT_PRIO_ADDRCONF`.
const CONNECTED_METRIC: u32 = 256;

impl State {
    pub(super) fn address(&mut self, verb: Verb, asked: &Address) -> Result<(), Refusal> {
        let device = self.device(asked.dev)?;
        let ipv4 = asked.net.addr().is_ipv4();
        let found = device.addresses.iter().position(|held| same_key(&held.address, asked));
        if verb == Verb::Delete {
            let exact = found.filter(|at| {
                device.addresses[*at].address.net.prefix_len() == asked.net.prefix_len()
            });
            let Some(at) = exact else {
                if !ipv4 && !device.has_ipv6 {
                    return Err(ENXIO.says("IPv6 is disabled on this device"));
                }
                return Err(EADDRNOTAVAIL.says("Address not found"));
            };
            let address = device.addresses[at].address.clone();
            self.drop_address(asked.dev, &address);
            return Ok(());
        }
        match found {
            Some(_) if !matches!(verb, Verb::Replace | Verb::Change) => {
                Err(EEXIST.says("Address already assigned"))
            }
            Some(at) if ipv4 => {
                let device = self.device_mut(asked.dev)?;
                device.addresses[at].address.protocol = asked.protocol;
                Ok(())
            }
            Some(at) => {
                self.modify_ipv6(at, asked);
                Ok(())
            }
            None if ipv4 => self.add_ipv4(asked),
            None => self.add_ipv6(asked),
        }
    }

    fn add_ipv4(&mut self, asked: &Address) -> Result<(), Refusal> {
        let mut secondary = false;
        for held in &self.device(asked.dev)?.addresses {
            let other = &held.address;
            if other.net.addr().is_ipv4()
                && other.net.prefix_len() == asked.net.prefix_len()
                && prefix(other) == prefix(asked)
            {
                if other.scope != asked.scope {
                    return Err(EINVAL.says("Invalid scope value"));
                }
                secondary = true;
            }
        }
        let mut address = asked.clone();
        address.nodad = false;
        address.tentative = false;
        address.temporary = false;
        address.deprecated = false;
        self.hold(address, secondary);
        Ok(())
    }

    fn add_ipv6(&mut self, asked: &Address) -> Result<(), Refusal> {
        let IpAddr::V6(own) = asked.net.addr() else { return Err(EINVAL) };
        if !self.device(asked.dev)?.has_ipv6 {
            return Err(EINVAL.says("IPv6 is disabled on this device"));
        }
        let foreign_loopback = own.is_loopback() && asked.dev != LOOPBACK;
        if own.is_unspecified() || own.is_multicast() || foreign_loopback {
            return Err(EADDRNOTAVAIL);
        }
        let mut address = asked.clone();
        address.broadcast = None;
        address.tentative = false;
        address.temporary = false;
        address.deprecated = false;
        address.scope = scope_of(own);
        self.hold(address, false);
        Ok(())
    }

    fn modify_ipv6(&mut self, at: usize, asked: &Address) {
        let Ok(device) = self.device_mut(asked.dev) else { return };
        let held = &mut device.addresses[at].address;
        let had_route = !held.noprefixroute;
        held.nodad = asked.nodad;
        held.noprefixroute = asked.noprefixroute;
        held.protocol = asked.protocol;
        let mut held = held.clone();
        let has_route = !std::mem::take(&mut held.noprefixroute);
        match (had_route, has_route) {
            // Even a route that somebody took away meanwhile.
            (_, true) => self.connect(&held),
            (true, false) => self.disconnect_ipv6(&held),
            _ => {}
        }
    }

    /// Puts an address on its device.
    pub(super) fn hold(&mut self, address: Address, secondary: bool) {
        self.next_serial += 1;
        let serial = self.next_serial;
        let Ok(device) = self.device_mut(address.dev) else { return };
        device.addresses.push(HeldAddress { address: address.clone(), secondary, serial });
        if !secondary {
            self.connect(&address);
        }
    }

    /// Makes the routes of all addresses of a device that came up.
    pub(super) fn connect_addresses(&mut self, index: Ifindex) {
        let Ok(device) = self.device(index) else { return };
        let held: Vec<_> =
            device.addresses.iter().filter(|held| !held.secondary).cloned().collect();
        for held in held {
            self.connect(&held.address);
        }
    }

    /// Makes the routes to the prefix of an address.
    fn connect(&mut self, address: &Address) {
        if address.dev == LOOPBACK || !self.device(address.dev).is_ok_and(|device| device.is_up()) {
            return;
        }
        for route in connected(address) {
            self.fib.update(fib::key(&route), |routes| {
                if !routes.contains(&route) {
                    routes.push(route);
                }
            });
        }
    }

    /// Removes an address with what depends on it.
    pub(super) fn drop_address(&mut self, index: Ifindex, address: &Address) {
        let Ok(device) = self.device_mut(index) else { return };
        let Some(at) = device.addresses.iter().position(|held| held.address == *address) else {
            return;
        };
        let held = device.addresses.remove(at);
        if address.net.addr().is_ipv6() {
            self.remove_ipv6_src(address.net.addr());
            if !address.noprefixroute {
                self.disconnect_ipv6(address);
            }
            return;
        }
        if !held.secondary {
            let (followers, rest) =
                std::mem::take(&mut device.addresses).into_iter().partition(|other| {
                    other.secondary
                        && other.address.net.prefix_len() == address.net.prefix_len()
                        && prefix(&other.address) == prefix(address)
                });
            device.addresses = rest;
            let followers: Vec<HeldAddress> = followers;
            for follower in followers {
                self.remove_ipv4_src(follower.address.net.addr());
            }
            self.disconnect_ipv4(address);
        }
        self.remove_ipv4_src(address.net.addr());
        let last = self
            .device(index)
            .is_ok_and(|device| !device.addresses.iter().any(|h| h.address.net.addr().is_ipv4()));
        if last {
            self.remove_ipv4_routes_on(index, true, false);
            self.neighbours.retain(|(dev, _, dst), _| *dev != index || dst.is_ipv6());
        }
    }

    fn disconnect_ipv4(&mut self, address: &Address) {
        for route in connected(address) {
            self.fib.update(fib::key(&route), |routes| {
                if let Some(at) = routes.iter().position(|other| *other == route) {
                    routes.remove(at);
                }
            });
        }
    }

    /// Removes a device's route to the prefix of an address, unless another address needs it too.
    fn disconnect_ipv6(&mut self, address: &Address) {
        let Ok(device) = self.device(address.dev) else { return };
        let shared = device.addresses.iter().any(|held| {
            held.address.net.addr() != address.net.addr()
                && held.address.net.trunc() == address.net.trunc()
        });
        let nets = connected(address).into_iter().map(|route| route.dst);
        for net in nets.filter(|net| !shared || *net != address.net.trunc()) {
            // The kernel takes the first that looks like it, whoever made it.
            let on_link = |route: &Route| {
                matches!(&route.via, Via::Hop(hop)
                    if hop.dev == Some(address.dev) && hop.gateway.is_none())
            };
            let key = self.fib.to(table::MAIN, net).find(|route| on_link(route)).map(fib::key);
            if let Some(key) = key {
                self.fib.update(key, |routes| {
                    if let Some(at) = routes.iter().position(on_link) {
                        routes.remove(at);
                    }
                });
            }
        }
    }

    /// Routes of the main table that prefer a source address do not outlive it.
    fn remove_ipv4_src(&mut self, src: IpAddr) {
        if !self.is_own(src, None) {
            let prefers = |route: &Route| route.src == Some(src) && route.table == table::MAIN;
            self.fib.update_where(prefers, |routes| routes.retain(|route| !prefers(route)));
        }
    }

    /// IPv6 routes forget a source address that is gone.
    fn remove_ipv6_src(&mut self, src: IpAddr) {
        if self.is_own(src, None) {
            return;
        }
        let prefers =
            |route: &Route| route.src == Some(src) && !matches!(route.via, Via::Nexthop(_));
        self.fib.update_where(prefers, |routes| {
            for route in routes.iter_mut().filter(|route| prefers(route)) {
                route.src = None;
            }
        });
    }
}

/// The kernel's key: for IPv6 the prefix length is no part of it.
fn same_key(one: &Address, other: &Address) -> bool {
    one.net.addr() == other.net.addr()
        && (one.net.addr().is_ipv6()
            || one.net.prefix_len() == other.net.prefix_len() && prefix(one) == prefix(other))
}

/// What the address makes reachable.
fn prefix(address: &Address) -> IpNet {
    let far = address.peer.unwrap_or_else(|| address.net.addr());
    IpNet::new(far, address.net.prefix_len()).map_or(address.net, |net| net.trunc())
}

/// The routes that an address brings.
fn connected(address: &Address) -> Vec<Route> {
    if address.noprefixroute {
        return Vec::new();
    }
    let to = |net: IpNet| Route::to(net).hop(Hop::dev(address.dev)).protocol(Protocol::KERNEL);
    let net = prefix(address);
    match address.net {
        IpNet::V4(own) if net.prefix_len() == 32 && net.addr() == IpAddr::V4(own.addr()) => {
            Vec::new()
        }
        IpNet::V4(own) => vec![to(net).src(own.addr().into())],
        IpNet::V6(own) => {
            let mut routes = vec![to(IpNet::V6(own).trunc()).metric(CONNECTED_METRIC)];
            routes.extend(address.peer.map(|peer| to(IpNet::from(peer)).metric(CONNECTED_METRIC)));
            routes
        }
    }
}

/// The broadcast addresses that come with an address.
pub(super) fn broadcasts(address: &Address) -> impl Iterator<Item = Ipv4Addr> {
    let of_prefix = match prefix(address) {
        IpNet::V4(net) if net.prefix_len() < 31 => Some(Ipv4Net::broadcast(&net)),
        _ => None,
    };
    of_prefix.into_iter().chain(address.broadcast)
}

fn scope_of(address: Ipv6Addr) -> Scope {
    match address {
        a if a.is_loopback() => Scope::HOST,
        a if a.is_unicast_link_local() => Scope::LINK,
        a if a.segments()[0] & 0xffc0 == 0xfec0 => Scope::SITE,
        _ => Scope::UNIVERSE,
    }
}

impl State {
    /// What is listed: IPv4 first, as the kernel does it.
    pub(super) fn list_addresses(&self, dev: Ifindex) -> Result<Vec<Address>, Refusal> {
        let device = self.device(dev).map_err(|_| ENODEV)?;
        let of = |ipv4: bool| {
            device
                .addresses
                .iter()
                .map(|held| &held.address)
                .filter(move |address| address.net.addr().is_ipv4() == ipv4)
        };
        Ok(of(true).chain(of(false)).cloned().collect())
    }
}
