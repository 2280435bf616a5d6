//! Nexthop objects.

use overlay_netlink::{Nexthop, NexthopId, NexthopTarget, Scope, Verb};
use overlay_wire::IpVersion;

use super::refusal::{EEXIST, EINVAL, ENETDOWN, ENOENT, EOPNOTSUPP, Refusal};
use super::route::Wanted;
use super::state::State;

impl State {
    pub(super) fn nexthop(&mut self, verb: Verb, asked: &Nexthop) -> Result<(), Refusal> {
        if !self.has_nexthops {
            return Err(EOPNOTSUPP);
        }
        if verb == Verb::Delete {
            if asked.id.0 == 0 {
                return Err(EINVAL.says("Invalid nexthop id"));
            }
            if !self.nexthops.contains_key(&asked.id) {
                return Err(ENOENT);
            }
            self.remove_nexthop(asked.id);
            return Ok(());
        }
        let replace = matches!(verb, Verb::Replace | Verb::Change);
        if replace && asked.id.0 == 0 {
            return Err(EINVAL.says("Replace requires nexthop id"));
        }
        let mut new = asked.clone();
        match &mut new.target {
            NexthopTarget::Hop(hop) if new.fdb => {
                if hop.dev.is_some() || hop.encap.is_some() || hop.onlink {
                    return Err(
                        EINVAL.says("Fdb attribute can not be used with encap, oif or blackhole")
                    );
                }
                if hop.gateway.is_none() {
                    return Err(EINVAL);
                }
            }
            NexthopTarget::Hop(hop) => {
                let Some(dev) = hop.dev else {
                    return Err(EINVAL
                        .says("Device attribute required for non-blackhole and non-fdb nexthops"));
                };
                if hop.gateway.is_none() && hop.onlink {
                    return Err(
                        EINVAL.says("ONLINK flag can not be set for nexthop without a gateway")
                    );
                }
                let device = self.device(dev).map_err(|_| EINVAL.says("Invalid device index"))?;
                if !device.is_up() {
                    return Err(ENETDOWN.says("Nexthop device is not up"));
                }
                if !device.has_carrier() {
                    return Err(ENETDOWN.says("Carrier for nexthop device is down"));
                }
                let ipv6 = match (hop.gateway, &hop.encap) {
                    (Some(gateway), _) => gateway.is_ipv6(),
                    (None, Some(encap)) => encap.dst.is_ipv6(),
                    (None, None) => false,
                };
                // No table of its own: the rules decide where the gateway is looked for.
                let wanted = Wanted { table: 0, scope: Scope::UNIVERSE };
                *hop =
                    if ipv6 { self.ipv6_hop(hop, &wanted)? } else { self.ipv4_hop(hop, &wanted)? };
            }
            NexthopTarget::Blackhole(_) if new.fdb => return Err(EINVAL),
            NexthopTarget::Blackhole(_) => {}
            NexthopTarget::Group(members) => self.check_group(members, new.fdb)?,
            _ => return Err(EINVAL),
        }
        if new.id.0 == 0 {
            new.id =
                (1..).map(NexthopId).find(|id| !self.nexthops.contains_key(id)).ok_or(EINVAL)?;
        }
        match self.nexthops.get(&new.id) {
            Some(_) if !replace => return Err(EEXIST),
            Some(old) => self.check_users(old, &new)?,
            None if verb == Verb::Change => return Err(ENOENT),
            None => {}
        }
        if matches!(new.target, NexthopTarget::Group(_)) {
            self.groups.insert(new.id);
        }
        self.nexthops.insert(new.id, new);
        Ok(())
    }

    fn check_group(&self, members: &[(NexthopId, u16)], fdb: bool) -> Result<(), Refusal> {
        if members.is_empty() {
            return Err(EINVAL);
        }
        for (at, (id, _)) in members.iter().enumerate() {
            if members[..at].iter().any(|(other, _)| other == id) {
                return Err(EINVAL.says("Nexthop id can not be used twice in a group"));
            }
            let member = self.nexthops.get(id).ok_or(EINVAL.says("Invalid nexthop id"))?;
            match &member.target {
                NexthopTarget::Group(_) => {
                    return Err(EINVAL.says("Group is nested"));
                }
                NexthopTarget::Blackhole(_) if members.len() > 1 => {
                    return Err(EINVAL.says(
                        "Blackhole nexthop can not be used in a group with more than 1 path",
                    ));
                }
                _ => {}
            }
            if member.fdb != fdb {
                return Err(EINVAL.says("FDB nexthop group can only have fdb nexthops"));
            }
        }
        Ok(())
    }

    /// Whether the routes and groups that use `old` can use `new`.
    fn check_users(&self, old: &Nexthop, new: &Nexthop) -> Result<(), Refusal> {
        let is_group = |nexthop: &Nexthop| matches!(nexthop.target, NexthopTarget::Group(_));
        let mut ipv6_seen = false;
        for route in self.fib.users(old.id) {
            let ipv6 = route.dst.addr().is_ipv6();
            // All IPv6 routes ask the same question.
            if !ipv6 || !ipv6_seen {
                self.check_nexthop_use(new, ipv6, route.scope)?;
            }
            ipv6_seen |= ipv6;
        }
        if is_group(old) != is_group(new) {
            return Err(EINVAL.says("Can not replace a nexthop group with a nexthop"));
        }
        if old.fdb != new.fdb && self.groups_with(old.id).next().is_some() {
            return Err(EINVAL.says("Can not change FDB status of a nexthop in a group"));
        }
        Ok(())
    }

    fn groups_with(&self, id: NexthopId) -> impl Iterator<Item = NexthopId> {
        self.groups.iter().copied().filter(move |group| {
            self.nexthops.get(group).is_some_and(|group| match &group.target {
                NexthopTarget::Group(members) => members.iter().any(|(member, _)| *member == id),
                _ => false,
            })
        })
    }

    /// Removes an object, its routes, its places in groups, and the groups that this empties.
    pub(super) fn remove_nexthop(&mut self, id: NexthopId) {
        self.nexthops.remove(&id);
        self.fib.remove_users(id);
        // FDB entries name groups only.
        if self.groups.remove(&id) {
            self.remove_fdb_of(id);
        }
        for group in self.groups_with(id).collect::<Vec<_>>() {
            let Some(NexthopTarget::Group(members)) =
                self.nexthops.get_mut(&group).map(|group| &mut group.target)
            else {
                continue;
            };
            members.retain(|(member, _)| *member != id);
            if members.is_empty() {
                self.remove_nexthop(group);
            }
        }
    }

    /// Whether a route can lead by way of `nexthop`.
    pub(super) fn check_nexthop_use(
        &self,
        nexthop: &Nexthop,
        ipv6: bool,
        scope: Scope,
    ) -> Result<(), Refusal> {
        if nexthop.fdb {
            return Err(EINVAL.says("Route cannot point to a fdb nexthop"));
        }
        match &nexthop.target {
            NexthopTarget::Hop(hop) => {
                let is_ipv4 = match (hop.gateway, &hop.encap) {
                    (Some(gateway), _) => gateway.is_ipv4(),
                    (None, Some(encap)) => encap.dst.is_ipv4(),
                    (None, None) => true,
                };
                if ipv6 && is_ipv4 {
                    return Err(EINVAL.says("IPv6 routes can not use an IPv4 nexthop"));
                }
                if !ipv6 && scope == Scope::HOST && hop.gateway.is_some() {
                    return Err(EINVAL.says("Route with host scope can not have a gateway"));
                }
                if !ipv6 && hop.onlink && scope >= Scope::LINK {
                    return Err(EINVAL.says("Scope mismatch with nexthop"));
                }
                Ok(())
            }
            NexthopTarget::Blackhole(IpVersion::V4) if ipv6 => {
                Err(EINVAL.says("IPv6 routes can not use an IPv4 nexthop"))
            }
            NexthopTarget::Group(members) => {
                if !ipv6 && scope == Scope::HOST {
                    return Err(EINVAL.says("Route with host scope can not have multiple nexthops"));
                }
                members
                    .iter()
                    .filter_map(|(member, _)| self.nexthops.get(member))
                    .try_for_each(|member| self.check_nexthop_use(member, ipv6, scope))
            }
            _ => Ok(()),
        }
    }
}
