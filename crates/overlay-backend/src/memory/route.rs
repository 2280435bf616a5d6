//! Routes: what may be added, what is in the way, where a gateway is.

use std::net::IpAddr;

use overlay_netlink::{
    Hop, Ifindex, NexthopTarget, Route, RouteKind, Rule, RuleAction, Scope, Verb, Via, WeightedHop,
    table,
};
use overlay_wire::IpVersion;

use super::address::broadcasts;
use super::fib;
use super::refusal::{
    EACCES, EEXIST, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ENOENT, ESRCH, Refusal,
};
use super::state::{LOOPBACK, State};

/// `IP6_RT_PRIO_USER`.
const IPV6_METRIC: u32 = 1024;

/// What the checks of a hop need to know of the route.
pub(super) struct Wanted {
    pub(super) table: u32,
    pub(super) scope: Scope,
}

/// What a lookup found.
struct Found {
    kind: RouteKind,
    dev: Option<Ifindex>,
    has_gateway: bool,
    prefix_len: u8,
}

impl Found {
    fn rejects(&self) -> bool {
        error_of(self.kind).is_some()
    }
}

impl State {
    pub(super) fn route(&mut self, verb: Verb, asked: &Route) -> Result<(), Refusal> {
        let mut route = asked.clone();
        route.dst = route.dst.trunc();
        if route.table == 0 {
            route.table = table::MAIN;
        }
        let ipv6 = route.dst.addr().is_ipv6();
        if route.tos != 0 && (ipv6 || route.tos & 3 != 0) {
            return Err(EINVAL.says("Invalid dsfield (tos)"));
        }
        if verb == Verb::Delete {
            return self.delete_route(&route);
        }
        if matches!(&route.via, Via::Multipath(hops) if hops.is_empty()) {
            return Err(EINVAL.says("Invalid nexthop configuration - no valid nexthops"));
        }
        route.mtu = route.mtu.map(|mtu| if ipv6 { mtu } else { mtu.min(65_520) });
        route.mtu_lock &= route.mtu.is_some();
        if ipv6 {
            self.resolve_ipv6(&mut route)?;
            self.put_ipv6(verb, route)
        } else {
            self.resolve_ipv4(&mut route)?;
            self.put_ipv4(verb, route)
        }
    }

    fn delete_route(&mut self, asked: &Route) -> Result<(), Refusal> {
        let ipv6 = asked.dst.addr().is_ipv6();
        // A metric of zero is any.
        let matches = |route: &Route| {
            route.tos == asked.tos
                && (asked.metric == 0 || route.metric == asked.metric)
                && (asked.protocol.0 == 0 || route.protocol == asked.protocol)
        };
        let key = self.fib.to(asked.table, asked.dst).find(|route| matches(route)).map(fib::key);
        let Some(key) = key else {
            let absent = !self.fib.has_table(asked.table, ipv6);
            return Err(if absent { ESRCH.says("FIB table does not exist") } else { ESRCH });
        };
        self.fib.update(key, |routes| {
            let Some(at) = routes.iter().position(matches) else { return };
            if ipv6 && shares_load(&routes[at]) {
                routes.retain(|route| !shares_load(route));
            } else {
                routes.remove(at);
            }
        });
        Ok(())
    }

    fn resolve_ipv4(&self, route: &mut Route) -> Result<(), Refusal> {
        let least = match route.kind {
            RouteKind::Local => Scope::HOST,
            RouteKind::Broadcast | RouteKind::Anycast => Scope::LINK,
            RouteKind::Other(_) => return Err(EINVAL.says("Invalid route type")),
            _ => Scope::UNIVERSE,
        };
        if least > route.scope || route.scope > Scope::HOST {
            return Err(EINVAL.says("Invalid scope"));
        }
        let wanted = Wanted { table: route.table, scope: route.scope };
        if let Via::Nexthop(id) = route.via {
            let nexthop = self.nexthops.get(&id).ok_or(EINVAL.says("Nexthop id does not exist"))?;
            self.check_nexthop_use(nexthop, false, route.scope)?;
        } else if error_of(route.kind).is_some() {
            if route.via != Via::None {
                return Err(EINVAL.says(
                    "Gateway, device and multipath can not be specified for this route type",
                ));
            }
            return Ok(());
        }
        route.via = match &route.via {
            Via::None => return Err(ENODEV),
            Via::Hop(hop) if route.scope == Scope::HOST => {
                if hop.gateway.is_some() {
                    return Err(EINVAL.says("Route with host scope can not have a gateway"));
                }
                self.device(hop.dev.ok_or(ENODEV)?)?;
                Via::Hop(hop.clone())
            }
            Via::Hop(hop) => Via::Hop(self.ipv4_hop(hop, &wanted)?),
            Via::Multipath(hops) => {
                Via::Multipath(each_hop(hops, |hop| self.ipv4_hop(hop, &wanted))?)
            }
            other => other.clone(),
        };
        if let Some(src) = route.src
            && !self.is_own(src, None)
        {
            return Err(EINVAL.says("Invalid prefsrc address"));
        }
        Ok(())
    }

    fn put_ipv4(&mut self, verb: Verb, route: Route) -> Result<(), Refusal> {
        let key = fib::key(&route);
        let now = self.fib.at(&key);
        let same = now.iter().position(|other| *other == route);
        match verb {
            _ if now.is_empty() => {
                if verb == Verb::Change {
                    return Err(ENOENT);
                }
                self.fib.update(key, |routes| routes.push(route));
            }
            Verb::Add => return Err(EEXIST),
            Verb::Replace | Verb::Change => match same {
                Some(0) => {}
                Some(_) => return Err(EEXIST),
                None => self.fib.update(key, |routes| routes[0] = route),
            },
            _ if same.is_some() => return Err(EEXIST),
            _ => self.fib.update(key, |routes| routes.push(route)),
        }
        Ok(())
    }

    /// Checks an IPv4 hop, and finds its device where none is given.
    pub(super) fn ipv4_hop(&self, hop: &Hop, wanted: &Wanted) -> Result<Hop, Refusal> {
        let gateway = match hop.gateway {
            Some(IpAddr::V4(gateway)) => IpAddr::V4(gateway),
            Some(IpAddr::V6(_)) => return self.ipv6_hop(hop, wanted),
            None => {
                if hop.onlink {
                    return Err(EINVAL
                        .says("Invalid flags for nexthop - PERVASIVE and ONLINK can not be set"));
                }
                let device = self.device(hop.dev.ok_or(ENODEV)?)?;
                if !device.is_up() {
                    return Err(ENETDOWN.says("Device for nexthop is not up"));
                }
                return Ok(hop.clone());
            }
        };
        let mut hop = hop.clone();
        if hop.onlink {
            if wanted.scope >= Scope::LINK {
                return Err(EINVAL.says("Nexthop has invalid scope"));
            }
            let dev = hop.dev.ok_or(ENODEV.says("Nexthop device required for onlink"))?;
            if !self.device(dev)?.is_up() {
                return Err(ENETDOWN.says("Nexthop device is not up"));
            }
            if self.ipv4_type(gateway) != RouteKind::Unicast {
                return Err(EINVAL.says("Nexthop has invalid gateway"));
            }
            return Ok(hop);
        }
        let least = Scope(wanted.scope.0.saturating_add(1)).max(Scope::LINK);
        let in_table = match wanted.table {
            table::MAIN => None,
            other if !self.fib.has_table(other, false) => None,
            other => self.ipv4_in(other, gateway, hop.dev, least).and_then(Result::ok),
        };
        let found = match in_table {
            Some(found) => found,
            None => self
                .by_rules(IpVersion::V4, gateway, hop.dev, |table| {
                    self.ipv4_in(table, gateway, hop.dev, least)
                })
                .map_err(|refusal| refusal.says("Nexthop has invalid gateway"))?,
        };
        if !matches!(found.kind, RouteKind::Unicast | RouteKind::Local) {
            return Err(EINVAL.says("Nexthop has invalid gateway"));
        }
        hop.dev = found.dev;
        let dev = found.dev.ok_or(EINVAL.says("No egress device for nexthop gateway"))?;
        if self.device(dev)?.is_up() { Ok(hop) } else { Err(ENETDOWN) }
    }

    /// What an address is to the host, by any of its devices.
    fn ipv4_type(&self, address: IpAddr) -> RouteKind {
        let IpAddr::V4(v4) = address else { return RouteKind::Unicast };
        if v4.octets()[0] == 0 || v4.is_broadcast() {
            return RouteKind::Broadcast;
        }
        if v4.is_multicast() {
            return RouteKind::Multicast;
        }
        match self.ipv4_local(address, None, Scope::UNIVERSE) {
            Some(found) => found.kind,
            None => RouteKind::Unicast,
        }
    }

    /// Looks into what the kernel keeps in the local table: own addresses and broadcasts.
    fn ipv4_local(&self, address: IpAddr, dev: Option<Ifindex>, least: Scope) -> Option<Found> {
        let found = |kind, dev| Found { kind, dev: Some(dev), has_gateway: false, prefix_len: 32 };
        let devices =
            || self.devices.iter().filter(|(index, _)| dev.is_none_or(|dev| dev == **index));
        let first = devices()
            .flat_map(|(index, device)| device.addresses.iter().map(move |held| (index, held)))
            .filter(|(_, held)| held.address.net.addr() == address)
            .min_by_key(|(_, held)| held.serial);
        if let Some((index, _)) = first {
            return Some(found(RouteKind::Local, *index));
        }
        if least > Scope::LINK {
            return None;
        }
        for (index, device) in devices().filter(|(_, device)| device.is_up()) {
            let mut all = device.addresses.iter().flat_map(|held| broadcasts(&held.address));
            if all.any(|broadcast| IpAddr::V4(broadcast) == address) {
                return Some(found(RouteKind::Broadcast, *index));
            }
        }
        None
    }

    /// Looks for an IPv4 address in one table: nothing, a route, or the route's own error.
    fn ipv4_in(
        &self,
        table: u32,
        address: IpAddr,
        dev: Option<Ifindex>,
        least: Scope,
    ) -> Option<Result<Found, Refusal>> {
        if table == table::LOCAL
            && let Some(found) = self.ipv4_local(address, dev, least)
        {
            return Some(Ok(found));
        }
        for route in self.fib.matching(table, address).flatten() {
            if route.scope < least {
                continue;
            }
            if let Some(refusal) = error_of(route.kind) {
                // A route of this kind sends the lookup to the next table.
                return if route.kind == RouteKind::Throw { None } else { Some(Err(refusal)) };
            }
            let through = self.devices_of(route);
            let found = |(dev, has_gateway)| Found {
                kind: route.kind,
                dev: Some(dev),
                has_gateway,
                prefix_len: route.dst.prefix_len(),
            };
            match through.into_iter().find(|(of, _)| dev.is_none_or(|dev| dev == *of)) {
                Some(hop) => return Some(Ok(found(hop))),
                None if self.is_blackhole(route) => return Some(Err(EINVAL)),
                None => {}
            }
        }
        None
    }

    /// Asks the tables in the order of the rules.
    fn by_rules(
        &self,
        family: IpVersion,
        address: IpAddr,
        dev: Option<Ifindex>,
        lookup: impl Fn(u32) -> Option<Result<Found, Refusal>>,
    ) -> Result<Found, Refusal> {
        let oif = dev.and_then(|dev| self.devices.get(&dev)).map(|device| device.link.name);
        let applies = |rule: &Rule| {
            let selected = rule.src.is_none()
                && rule.dst.is_none_or(|net| net.contains(&address))
                && rule.iif.is_none_or(|iif| iif.as_str() == "lo")
                && (rule.oif.is_none() || rule.oif == oif)
                && rule.fwmark.is_none_or(|(mark, _)| mark == 0)
                && rule.tos == 0
                && rule.ip_proto.is_none();
            selected != rule.invert
        };
        let mut skip_to = 0;
        for rule in self.rules.iter().filter(|rule| rule.family == family) {
            if rule.priority.unwrap_or(0) < skip_to || !applies(rule) {
                continue;
            }
            match rule.action {
                RuleAction::Lookup(table) => match lookup(table) {
                    Some(Ok(found)) => {
                        // Looking for an IPv6 gateway, the kernel forgets to suppress.
                        let suppressed = family == IpVersion::V4
                            && rule
                                .suppress_prefixlength
                                .is_some_and(|length| u32::from(found.prefix_len) <= length);
                        if !suppressed {
                            return Ok(found);
                        }
                    }
                    Some(Err(refusal)) => return Err(refusal),
                    None => {}
                },
                RuleAction::Goto(priority) => skip_to = priority,
                RuleAction::Blackhole => return Err(EINVAL),
                RuleAction::Unreachable => return Err(ENETUNREACH),
                RuleAction::Prohibit => return Err(EACCES),
                _ => {}
            }
        }
        Err(ENETUNREACH)
    }

    /// The devices that a route leads through, each with whether a gateway is there.
    fn devices_of(&self, route: &Route) -> Vec<(Ifindex, bool)> {
        let of = |hop: &Hop| hop.dev.map(|dev| (dev, hop.gateway.is_some()));
        match &route.via {
            Via::None => Vec::new(),
            Via::Hop(hop) => of(hop).into_iter().collect(),
            Via::Multipath(hops) => hops.iter().filter_map(|weighted| of(&weighted.hop)).collect(),
            Via::Nexthop(id) => {
                let target = |id| self.nexthops.get(id).map(|nexthop| &nexthop.target);
                match target(id) {
                    Some(NexthopTarget::Hop(hop)) => of(hop).into_iter().collect(),
                    Some(NexthopTarget::Group(members)) => members
                        .iter()
                        .filter_map(|(member, _)| match target(member) {
                            Some(NexthopTarget::Hop(hop)) => of(hop),
                            _ => None,
                        })
                        .collect(),
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    /// IPv6 routes keep their path MTU within the device's, and at it where it was there.
    pub(super) fn change_ipv6_mtus(&mut self, dev: Ifindex, old: u32, new: u32) {
        // Taken out while the rest is asked which device a nexthop object leads to.
        let mut fib = std::mem::take(&mut self.fib);
        let follows = |mtu: u32| mtu >= new || mtu == old;
        let affected = |route: &Route| {
            route.dst.addr().is_ipv6()
                && !route.mtu_lock
                && route.mtu.is_some_and(follows)
                && self.devices_of(route).iter().any(|(of, _)| *of == dev)
        };
        fib.update_where(affected, |routes| {
            for route in routes.iter_mut().filter(|route| affected(route)) {
                route.mtu = Some(new);
            }
        });
        self.fib = fib;
    }

    fn is_blackhole(&self, route: &Route) -> bool {
        let target = |id| self.nexthops.get(id).map(|nexthop| &nexthop.target);
        let target = match &route.via {
            Via::Nexthop(id) => target(id),
            _ => None,
        };
        let target = match target {
            Some(NexthopTarget::Group(members)) if members.len() == 1 => {
                self.nexthops.get(&members[0].0).map(|nexthop| &nexthop.target)
            }
            other => other,
        };
        matches!(target, Some(NexthopTarget::Blackhole(_)))
    }

    /// What is listed. A route by way of a nexthop object that drops shows as one that does, and
    /// the hops of an IPv6 route show as one.
    pub(super) fn list_routes(&self) -> impl Iterator<Item = Route> {
        self.fib.keys().flat_map(move |routes| {
            let shared: Vec<WeightedHop> = match routes {
                [_, _, ..] if routes[0].dst.addr().is_ipv6() => {
                    routes.iter().filter(|route| shares_load(route)).flat_map(hops_of).collect()
                }
                _ => Vec::new(),
            };
            let mut first = true;
            routes.iter().filter_map(move |route| {
                let mut route = route.clone();
                if self.is_blackhole(&route) {
                    route.kind = RouteKind::Blackhole;
                }
                if error_of(route.kind).is_some() && matches!(route.via, Via::Hop(_)) {
                    // That it goes by way of the loopback device is not told.
                    route.via = Via::None;
                } else if route.dst.addr().is_ipv6() && shares_load(&route) {
                    if shared.len() > 1 {
                        if !std::mem::take(&mut first) {
                            return None;
                        }
                        route.via = Via::Multipath(shared.clone());
                    } else if let Some(only) = hops_of(&route).into_iter().next() {
                        route.via = Via::Hop(only.hop);
                    }
                }
                Some(route)
            })
        })
    }

    fn resolve_ipv6(&self, route: &mut Route) -> Result<(), Refusal> {
        if route.metric == 0 {
            route.metric = IPV6_METRIC;
        }
        route.scope = Scope::UNIVERSE;
        let wanted = Wanted { table: route.table, scope: route.scope };
        let src = route.src;
        let ipv6_hop = |hop: &Hop| {
            let hop = self.ipv6_hop(hop, &wanted)?;
            self.check_ipv6_src(src, hop.dev)?;
            Ok(hop)
        };
        if let Via::Nexthop(id) = route.via {
            let nexthop = self.nexthops.get(&id).ok_or(EINVAL.says("Nexthop id does not exist"))?;
            self.check_nexthop_use(nexthop, true, route.scope)?;
        } else if error_of(route.kind).is_some() {
            if let Via::Hop(Hop { dev: Some(dev), .. }) = &route.via {
                self.device(*dev)?;
            }
            // Packets that are not to go anywhere go there by way of the loopback device.
            route.via = Via::Hop(Hop::dev(LOOPBACK));
        } else {
            route.via = match &route.via {
                Via::Hop(hop) => Via::Hop(ipv6_hop(hop)?),
                Via::Multipath(hops) => {
                    if hops.iter().any(|weighted| weighted.hop.gateway.is_none()) {
                        return Err(EINVAL.says(
                            "Device only routes can not be added for IPv6 using the multipath API",
                        ));
                    }
                    Via::Multipath(each_hop(hops, ipv6_hop)?)
                }
                _ => return Err(ENODEV),
            };
        }
        match &route.via {
            Via::Nexthop(_) => self.check_ipv6_src(route.src, None),
            Via::Hop(hop) => self.check_ipv6_src(route.src, hop.dev),
            _ => Ok(()),
        }
    }

    /// Whether the host has the address; one of the link, on the device.
    fn check_ipv6_src(&self, src: Option<IpAddr>, dev: Option<Ifindex>) -> Result<(), Refusal> {
        match src {
            Some(src) if !self.is_own(src, dev.filter(|_| is_link_local(src))) => {
                Err(EINVAL.says("Invalid source address"))
            }
            _ => Ok(()),
        }
    }

    fn put_ipv6(&mut self, verb: Verb, route: Route) -> Result<(), Refusal> {
        let key = fib::key(&route);
        let mut parts = parts(route);
        let twice = |(at, part): (usize, &Route)| parts[..at].iter().any(|p| leads_alike(p, part));
        if parts.iter().enumerate().any(twice) {
            return Err(EEXIST);
        }
        let now = self.fib.at(&key);
        if now.is_empty() && verb == Verb::Change {
            return Err(ENOENT);
        }
        match verb {
            Verb::Add if !now.is_empty() => return Err(EEXIST),
            Verb::Replace | Verb::Change if !now.is_empty() => {
                let shares = shares_load(&parts[0]);
                let at = now.iter().position(|other| shares_load(other) == shares).unwrap_or(0);
                self.fib.update(key, |routes| {
                    let replaced = std::mem::replace(&mut routes[at], parts.remove(0));
                    if shares_load(&replaced) {
                        let mut index = 0;
                        routes.retain(|route| {
                            index += 1;
                            index - 1 <= at || !shares_load(route)
                        });
                    }
                    routes.append(&mut parts);
                });
            }
            _ => {
                if parts.iter().any(|part| now.iter().any(|other| leads_alike(other, part))) {
                    return Err(EEXIST);
                }
                self.fib.update(key, |routes| routes.append(&mut parts));
            }
        }
        Ok(())
    }

    /// Checks an IPv6 hop, and finds its device where none is given.
    pub(super) fn ipv6_hop(&self, hop: &Hop, wanted: &Wanted) -> Result<Hop, Refusal> {
        let mut hop = hop.clone();
        if let Some(dev) = hop.dev
            && !self.device(dev)?.has_ipv6
        {
            return Err(ENODEV);
        }
        if hop.onlink {
            let dev = hop.dev.ok_or(ENODEV.says("Nexthop device required for onlink"))?;
            if !self.device(dev)?.is_up() {
                return Err(ENETDOWN.says("Nexthop device is not up"));
            }
        }
        if let Some(gateway) = hop.gateway {
            hop.dev = Some(self.check_ipv6_gateway(&hop, gateway, wanted)?);
        }
        let device = self.device(hop.dev.ok_or(ENODEV)?)?;
        if !device.has_ipv6 {
            return Err(EACCES.says("IPv6 is disabled on nexthop device"));
        }
        if !device.is_up() {
            return Err(ENETDOWN.says("Nexthop device is not up"));
        }
        Ok(hop)
    }

    fn check_ipv6_gateway(
        &self,
        hop: &Hop,
        gateway: IpAddr,
        wanted: &Wanted,
    ) -> Result<Ifindex, Refusal> {
        let link_local = is_link_local(gateway);
        let is_own = |dev: Ifindex| self.is_own(gateway, Some(dev).filter(|_| link_local));
        let local = EINVAL.says("Gateway can not be a local address");
        if hop.dev.is_some_and(is_own) {
            return Err(local);
        }
        if gateway.is_multicast() || gateway.is_unspecified() || gateway.is_loopback() {
            return Err(EINVAL.says("Invalid gateway address"));
        }
        let mut dev = hop.dev;
        if !link_local && hop.onlink {
            let found = self.ipv6_in(table::MAIN, gateway, dev, false);
            let elsewhere = found.is_some_and(|found| {
                !found.rejects()
                    && found.prefix_len > 0
                    && (found.kind != RouteKind::Unicast || found.dev != dev)
            });
            if elsewhere {
                return Err(EINVAL.says("Nexthop has invalid gateway or device mismatch"));
            }
        } else if !link_local {
            let fits = |found: &Found| !found.rejects() && !found.has_gateway;
            let in_table = self
                .ipv6_in(wanted.table, gateway, dev, true)
                .filter(|found| fits(found) && (dev.is_none() || found.dev == dev));
            let found = match in_table {
                Some(found) => found,
                None => self
                    .by_rules(IpVersion::V6, gateway, dev, |table| {
                        self.ipv6_in(table, gateway, dev, true).map(Ok)
                    })
                    .ok()
                    .filter(fits)
                    .ok_or(EHOSTUNREACH)?,
            };
            if dev.is_some() && dev != found.dev {
                return Err(EHOSTUNREACH);
            }
            dev = found.dev;
        }
        let dev = dev.ok_or(EINVAL.says("Egress device not specified"))?;
        if dev == LOOPBACK {
            return Err(EINVAL.says("Egress device can not be loopback device for this route"));
        }
        if is_own(dev) {
            return Err(local);
        }
        Ok(dev)
    }

    /// Looks for an IPv6 address in one table: the best route of the longest prefix, `strict` only
    /// among those through the device.
    fn ipv6_in(
        &self,
        table: u32,
        address: IpAddr,
        dev: Option<Ifindex>,
        strict: bool,
    ) -> Option<Found> {
        let fits = |of: Ifindex| dev.is_none_or(|dev| dev == of);
        if table == table::LOCAL {
            let (index, _) = self.devices.iter().find(|(index, device)| {
                fits(**index) && device.addresses.iter().any(|h| h.address.net.addr() == address)
            })?;
            let kind = RouteKind::Local;
            return Some(Found { kind, dev: Some(*index), has_gateway: false, prefix_len: 128 });
        }
        for routes in self.fib.matching(table, address) {
            let found = |route: &Route, hop: Option<(Ifindex, bool)>| Found {
                kind: if self.is_blackhole(route) { RouteKind::Blackhole } else { route.kind },
                dev: hop.map(|(dev, _)| dev),
                has_gateway: hop.is_some_and(|(_, has_gateway)| has_gateway),
                prefix_len: route.dst.prefix_len(),
            };
            for same_metric in routes.chunk_by(|a, b| a.metric == b.metric) {
                for route in same_metric {
                    let hops = self.devices_of(route);
                    if let Some(hop) = hops.into_iter().find(|(of, _)| fits(*of)) {
                        return Some(found(route, Some(hop)));
                    }
                }
                if !strict && let Some(route) = same_metric.first() {
                    return Some(found(route, self.devices_of(route).first().copied()));
                }
            }
        }
        None
    }
}

fn each_hop(
    hops: &[WeightedHop],
    check: impl Fn(&Hop) -> Result<Hop, Refusal>,
) -> Result<Vec<WeightedHop>, Refusal> {
    hops.iter()
        .map(|weighted| Ok(WeightedHop { hop: check(&weighted.hop)?, weight: weighted.weight }))
        .collect()
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// What a lookup says that ends at a route of this kind.
fn error_of(kind: RouteKind) -> Option<Refusal> {
    match kind {
        RouteKind::Blackhole => Some(EINVAL),
        RouteKind::Unreachable => Some(EHOSTUNREACH),
        RouteKind::Prohibit => Some(EACCES),
        RouteKind::Throw => Some(ENETUNREACH),
        _ => None,
    }
}

/// Whether an IPv6 route shares its packets with others of the same key that do.
pub(super) fn shares_load(route: &Route) -> bool {
    match &route.via {
        Via::Hop(hop) => hop.gateway.is_some(),
        Via::Multipath(_) => true,
        _ => false,
    }
}

/// A route for each hop.
fn parts(route: Route) -> Vec<Route> {
    let Via::Multipath(hops) = &route.via else { return vec![route] };
    let part = |hop: &WeightedHop| {
        let mut part = route.clone();
        part.via = Via::Multipath(vec![hop.clone()]);
        part
    };
    hops.iter().map(part).collect()
}

fn hops_of(route: &Route) -> Vec<WeightedHop> {
    match &route.via {
        Via::Hop(hop) => vec![WeightedHop { hop: hop.clone(), weight: 1 }],
        Via::Multipath(hops) => hops.clone(),
        _ => Vec::new(),
    }
}

/// Whether two IPv6 routes of one key lead the same way (`rt6_duplicate_nexthop`).
fn leads_alike(one: &Route, other: &Route) -> bool {
    match (&one.via, &other.via) {
        (Via::Nexthop(a), Via::Nexthop(b)) => a == b,
        (Via::Nexthop(_), _) | (_, Via::Nexthop(_)) => false,
        _ => hops_of(one).iter().any(|a| {
            hops_of(other).iter().any(|b| a.hop.dev == b.hop.dev && a.hop.gateway == b.hop.gateway)
        }),
    }
}
