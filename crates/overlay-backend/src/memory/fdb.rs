//! Forwarding databases.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_netlink::{
    Fdb, Ifindex, LinkKind, NeighbourFlags, NeighbourState, NexthopId, NexthopTarget, Verb, Vxlan,
};
use overlay_wire::{MacAddr, Vni};

use super::refusal::{
    EADDRNOTAVAIL, EAFNOSUPPORT, EEXIST, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP, Refusal,
};
use super::state::State;
use super::vxlan;

/// The kernel's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FdbKey {
    pub(super) dev: Ifindex,
    /// Held by the bridge that the device is a port of.
    master: bool,
    lladdr: MacAddr,
    vlan: Option<u16>,
    src_vni: Option<Vni>,
}

/// An entry with its remotes.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    state: NeighbourState,
    flags: NeighbourFlags,
    nexthop: Option<NexthopId>,
    /// Empty for an entry that names a nexthop object or no remote at all.
    remotes: Vec<Remote>,
    /// Not made by the kernel for the `group` of the device.
    by_user: bool,
}

/// One VTEP, all defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remote {
    dst: IpAddr,
    port: Option<u16>,
    vni: Option<Vni>,
    via: Option<Ifindex>,
}

impl Entry {
    /// Whether it is still there after its device was down.
    pub(super) fn outlives_down(&self, key: &FdbKey) -> bool {
        key.lladdr.is_zero()
            || self.state.contains(NeighbourState::PERMANENT)
            || self.state.contains(NeighbourState::NOARP)
    }
}

impl FdbKey {
    fn of(fdb: &Fdb, master: bool) -> Self {
        let Fdb { dev, lladdr, vlan, src_vni, .. } = *fdb;
        Self { dev, master, lladdr, vlan, src_vni }
    }
}

impl State {
    pub(super) fn fdb(&mut self, verb: Verb, asked: &Fdb) -> Result<(), Refusal> {
        let device = self.device(asked.dev)?;
        if asked.vlan.is_some_and(|vlan| !(1..4095).contains(&vlan)) {
            return Err(EINVAL.says("invalid vlan id"));
        }
        let by_master =
            asked.flags == NeighbourFlags::NONE || asked.flags.contains(NeighbourFlags::MASTER);
        let mut result = Err(EOPNOTSUPP);
        let kind = device.link.kind.clone();
        if by_master && device.link.master.is_some() {
            self.plain_fdb(verb, asked, true)?;
            result = Ok(());
        }
        if asked.flags.contains(NeighbourFlags::SELF) {
            result = match &kind {
                LinkKind::Vxlan(vxlan) => self.vxlan_fdb(verb, asked, vxlan),
                _ => self.plain_fdb(verb, asked, false),
            };
        }
        result
    }

    /// An entry of a bridge, or an address that an ordinary device receives for.
    fn plain_fdb(&mut self, verb: Verb, asked: &Fdb, master: bool) -> Result<(), Refusal> {
        let key = FdbKey::of(asked, master);
        if verb == Verb::Delete {
            return self.fdb.remove(&key).map(drop).ok_or(ENOENT);
        }
        if !master && !asked.state.contains(NeighbourState::PERMANENT) {
            return Err(EINVAL.says("FDB only supports static addresses"));
        }
        if verb == Verb::Add && self.fdb.contains_key(&key) {
            return Err(EEXIST);
        }
        let entry = Entry {
            state: asked.state,
            flags: asked.flags,
            nexthop: None,
            remotes: Vec::new(),
            by_user: true,
        };
        self.fdb.insert(key, entry);
        Ok(())
    }

    fn vxlan_fdb(&mut self, verb: Verb, asked: &Fdb, vxlan: &Vxlan) -> Result<(), Refusal> {
        let ipv6 = vxlan::is_ipv6(vxlan);
        let mut key = FdbKey::of(asked, false);
        key.vlan = None;
        key.src_vni =
            if vxlan.external { asked.src_vni.or_else(|| Vni::new(0).ok()) } else { None };
        let any = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let remote = Remote {
            dst: asked.dst.unwrap_or(any),
            port: asked.port.or(vxlan.port),
            vni: asked.vni.or(vxlan.id),
            via: asked.via.filter(|via| via.0 != 0),
        };
        let also = asked.dst.is_some()
            || asked.vni.is_some()
            || asked.via.is_some()
            || asked.port.is_some();
        if verb != Verb::Delete {
            if !asked.state.contains(NeighbourState::PERMANENT)
                && !asked.state.contains(NeighbourState::REACHABLE)
            {
                return Err(EINVAL);
            }
            if asked.dst.is_none() && asked.nexthop.is_none() {
                return Err(EINVAL);
            }
        }
        if asked.nexthop.is_some() && also {
            return Err(EINVAL.says("DST, VNI, ifindex and port are mutually exclusive with NH_ID"));
        }
        if remote.via.is_some_and(|via| !self.devices.contains_key(&via)) {
            return Err(EADDRNOTAVAIL.says("Device not found"));
        }
        if verb == Verb::Delete {
            return self.delete_remote(key, remote, asked.dst.is_some());
        }
        if remote.dst.is_ipv6() != ipv6 {
            return Err(EAFNOSUPPORT);
        }
        let many = !asked.lladdr.is_unicast();
        match self.fdb.get(&key) {
            Some(_) if verb == Verb::Add => return Err(EEXIST),
            Some(now) => {
                if asked.nexthop.is_some() && now.nexthop.is_none() {
                    return Err(EOPNOTSUPP
                        .says("Cannot replace an existing non nexthop fdb with a nexthop"));
                }
                if asked.nexthop.is_some() && verb == Verb::Append {
                    return Err(EOPNOTSUPP.says("Cannot append to a nexthop fdb"));
                }
            }
            None if verb == Verb::Change => return Err(ENOENT),
            None if many && verb == Verb::Replace => {
                return Err(EOPNOTSUPP.says("Cannot replace non-unicast fdb entries"));
            }
            None => {
                let limit = vxlan.limit.unwrap_or(0) as usize;
                if limit != 0 && self.remotes_of(asked.dev) >= limit {
                    return Err(ENOSPC);
                }
            }
        }
        if let Some(id) = asked.nexthop {
            self.check_fdb_nexthop(id, ipv6)?;
        }
        let state = asked.state;
        let entry = self.fdb.entry(key).or_insert_with(|| Entry {
            state,
            flags: asked.flags,
            nexthop: asked.nexthop,
            remotes: if asked.nexthop.is_some() { Vec::new() } else { vec![remote] },
            by_user: true,
        });
        if !asked.flags.contains(NeighbourFlags::EXT_LEARNED) || !entry.by_user {
            entry.state = state;
            entry.flags = asked.flags;
            entry.by_user = true;
        }
        let known = entry.remotes.contains(&remote);
        match verb {
            Verb::Replace | Verb::Change if many => {
                return Err(EOPNOTSUPP.says("Cannot replace non-unicast fdb entries"));
            }
            Verb::Replace | Verb::Change if asked.nexthop.is_some() => {
                entry.nexthop = asked.nexthop;
            }
            Verb::Replace | Verb::Change if !known => {
                entry.nexthop = None;
                match entry.remotes.first_mut() {
                    Some(first) => *first = remote,
                    None => entry.remotes.push(remote),
                }
            }
            Verb::Append if many && !known => entry.remotes.push(remote),
            _ => {}
        }
        Ok(())
    }

    /// Removes one remote, or without one the entry.
    fn delete_remote(&mut self, key: FdbKey, remote: Remote, one: bool) -> Result<(), Refusal> {
        let entry = self.fdb.get_mut(&key).ok_or(ENOENT)?;
        if one && !remote.dst.is_unspecified() {
            let Some(at) = entry.remotes.iter().position(|other| *other == remote) else {
                // The kernel is content: there is the entry, and it has no such remote.
                return Ok(());
            };
            if entry.remotes.len() > 1 {
                entry.remotes.remove(at);
                return Ok(());
            }
        }
        self.fdb.remove(&key);
        Ok(())
    }

    fn remotes_of(&self, dev: Ifindex) -> usize {
        self.fdb_of(dev).count()
    }

    fn check_fdb_nexthop(&self, id: NexthopId, ipv6: bool) -> Result<(), Refusal> {
        let nexthop = self.nexthops.get(&id).ok_or(EINVAL.says("Nexthop id does not exist"))?;
        if !nexthop.fdb {
            return Err(EINVAL.says("Nexthop is not a fdb nexthop"));
        }
        let NexthopTarget::Group(members) = &nexthop.target else {
            return Err(EINVAL.says("Nexthop is not a multipath group"));
        };
        let fits = members.iter().all(|(member, _)| {
            self.nexthops.get(member).is_some_and(|member| match &member.target {
                NexthopTarget::Hop(hop) => hop.gateway.is_some_and(|g| g.is_ipv6() == ipv6),
                _ => false,
            })
        });
        if fits { Ok(()) } else { Err(EINVAL.says("Nexthop family does not match device family")) }
    }

    /// The entries that name a nexthop object go with it.
    pub(super) fn remove_fdb_of(&mut self, id: NexthopId) {
        self.fdb.retain(|_, entry| entry.nexthop != Some(id));
    }

    /// Puts the remote for the device's `group` in the place of the one that there was.
    pub(super) fn set_default_remote(
        &mut self,
        dev: Ifindex,
        old: Option<&Vxlan>,
        new: Option<&Vxlan>,
    ) {
        let remote = |vxlan: &Vxlan| {
            let Vxlan { group, port, id: vni, dev: via, .. } = *vxlan;
            group.map(|dst| Remote { dst, port, vni, via })
        };
        let external = old.or(new).is_some_and(|vxlan| vxlan.external);
        let src_vni = if external { Vni::new(0).ok() } else { None };
        let key = FdbKey { dev, master: false, lladdr: MacAddr::ZERO, vlan: None, src_vni };
        if let Some(remote) = old.and_then(remote) {
            // There may be none: then there is nothing to remove.
            let _ = self.delete_remote(key, remote, true);
        }
        let Some(remote) = new.and_then(remote) else { return };
        let entry = self.fdb.entry(key).or_insert_with(|| Entry {
            state: NeighbourState::NONE,
            flags: NeighbourFlags::NONE,
            nexthop: None,
            remotes: Vec::new(),
            by_user: false,
        });
        entry.state = NeighbourState::PERMANENT | NeighbourState::REACHABLE;
        entry.flags = NeighbourFlags::SELF;
        entry.by_user = false;
        if !entry.remotes.contains(&remote) {
            entry.remotes.push(remote);
        }
    }

    fn fdb_of(&self, dev: Ifindex) -> impl Iterator<Item = (&FdbKey, &Entry)> {
        let first = FdbKey { dev, master: false, lladdr: MacAddr::ZERO, vlan: None, src_vni: None };
        self.fdb.range(first..).take_while(move |(key, _)| key.dev == dev)
    }

    /// What is listed: a line for each remote, without what is the device's own.
    pub(super) fn list_fdb(&self, dev: Ifindex) -> Vec<Fdb> {
        let Ok(device) = self.device(dev) else { return Vec::new() };
        let (port, vni) = match &device.link.kind {
            LinkKind::Vxlan(vxlan) => (vxlan.port, vxlan.id),
            _ => (None, None),
        };
        let mut listed = Vec::new();
        for (key, entry) in self.fdb_of(dev) {
            let mut fdb = Fdb::local(key.lladdr, dev);
            fdb.vlan = key.vlan;
            fdb.src_vni = key.src_vni.filter(|vni| vni.get() != 0);
            fdb.state = entry.state;
            fdb.flags = entry.flags;
            fdb.nexthop = entry.nexthop;
            if entry.remotes.is_empty() {
                listed.push(fdb);
                continue;
            }
            for remote in &entry.remotes {
                let mut fdb = fdb.clone();
                fdb.dst = Some(remote.dst).filter(|dst| !dst.is_unspecified());
                fdb.port = remote.port.filter(|_| remote.port != port);
                fdb.vni = remote.vni.filter(|_| remote.vni != vni);
                fdb.via = remote.via;
                listed.push(fdb);
            }
        }
        listed
    }
}
