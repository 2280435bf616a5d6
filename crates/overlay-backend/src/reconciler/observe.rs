//! Reading what the kernel holds, and hearing whether it changed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use overlay_netlink::{
    Change, Error, Event, Fdb, Hop, IfName, Link, LinkKind, Neighbour, NeighbourState, Nexthop,
    NexthopId, Object, Via,
};

use super::Reconciler;
use super::nexthops::hop_of;
use crate::compare::{Fit, fit, satisfies};
use crate::kernel::Kernel;
use crate::key::{Key, any_device};

/// How often a listing is begun anew because a device vanished in the middle of it.
const ATTEMPTS: usize = 5;

/// Everything that was read in one go.
struct Observation {
    links: Vec<Link>,
    objects: Vec<Object>,
    /// `None` on a kernel without nexthop objects.
    nexthops: Option<Vec<Nexthop>>,
}

pub(super) fn observe(this: &mut Reconciler, kernel: &mut impl Kernel) -> Result<(), Error> {
    let mut attempt = 1;
    let observation = loop {
        match read(this, kernel) {
            Err(error) if error.is_not_found() && attempt < ATTEMPTS => attempt += 1,
            other => break other?,
        }
    };
    take_in(this, observation);
    this.observed = true;
    Ok(())
}

fn read(this: &Reconciler, kernel: &mut impl Kernel) -> Result<Observation, Error> {
    let protocol = this.owner.protocol();
    let links = kernel.links()?;
    let hangers = hangers(this);
    let mut objects = Vec::new();
    for link in &links {
        let Some(index) = link.index else { continue };
        if !this.owner.owns_link(link) && !hangers.contains(&link.name) {
            continue;
        }
        objects.extend(kernel.fdb(index)?.into_iter().map(Object::from));
    }
    // Of all devices: what is ours by its mark is ours wherever it is.
    objects.extend(kernel.addresses(None)?.into_iter().map(Object::from));
    objects.extend(kernel.neighbours(None)?.into_iter().map(Object::from));
    // Even if none are wanted: there may be some of an earlier run.
    let nexthops = match kernel.nexthops() {
        Ok(nexthops) => Some(nexthops),
        Err(error) if error.is_unsupported() => None,
        Err(error) => return Err(error),
    };
    objects.extend(kernel.routes(protocol)?.into_iter().map(Object::from));
    objects.extend(kernel.rules(protocol)?.into_iter().map(Object::from));
    Ok(Observation { links, objects, nexthops })
}

/// The devices on which FDB entries are wanted.
fn hangers(this: &Reconciler) -> HashSet<IfName> {
    this.table
        .iter()
        .filter(|(_, entry)| entry.wanted.is_some())
        .filter_map(|(_, entry)| match &entry.key {
            Key::Fdb(dev, ..) => Some(*dev),
            _ => None,
        })
        .collect()
}

fn take_in(this: &mut Reconciler, observation: Observation) {
    let Observation { links, objects, nexthops } = observation;
    this.indexes = links.iter().filter_map(|link| Some((link.name, link.index?))).collect();
    this.names = this.indexes.iter().map(|(name, index)| (*index, *name)).collect();
    this.uses.clear();
    for wanted in this.table.iter().filter_map(|(_, entry)| entry.wanted.as_deref()) {
        any_device(wanted, &mut |dev| {
            this.uses.insert(dev);
            false
        });
    }
    let owned: HashMap<IfName, Option<IpAddr>> = links
        .iter()
        .filter(|link| this.owner.owns_link(link))
        .map(|link| (link.name, group_of(&link.kind)))
        .collect();

    match nexthops {
        Some(nexthops) => {
            let nexthops: Vec<Nexthop<IfName>> = nexthops
                .iter()
                .filter_map(|nexthop| named(this, nexthop.clone().into()))
                .filter_map(nexthop_of)
                .collect();
            if this.nexthops.enabled() {
                renumber(this, &nexthops);
            }
            this.table.forget_seen();
            let protocol = this.owner.protocol();
            for nexthop in nexthops.into_iter().filter(|n| n.protocol == protocol) {
                see(this, nexthop.into(), false);
            }
        }
        None => {
            spell_out_hops(this);
            this.table.forget_seen();
        }
    }

    for link in links {
        let foreign = !this.owner.owns_link(&link);
        // Even one that refers to something unknown is there.
        let object = named(this, link.clone().into()).unwrap_or_else(|| bare(link));
        see(this, object, foreign);
    }
    this.surplus.clear();
    for object in objects {
        let Some(object) = named(this, object) else { continue };
        let on_ours = |dev: &IfName| owned.contains_key(dev);
        let ours = is_ours(this, &object, on_ours);
        // What the kernel learned by itself gives way; it is as if it were not there.
        let passing = match &object {
            Object::Fdb(fdb) => {
                // The default entry of a device with a group comes with the device.
                let default = fdb.lladdr.is_zero()
                    && fdb.dst.is_some()
                    && owned.get(&fdb.dev).is_some_and(|group| *group == fdb.dst);
                default || !fdb.state.contains(NeighbourState::PERMANENT)
            }
            Object::Neighbour(neighbour) => {
                !ours && !neighbour.state.contains(NeighbourState::PERMANENT)
            }
            _ => false,
        };
        if !passing {
            see(this, object, !ours);
        }
    }
    this.table.refresh();
}

/// Enters an object that is there.
fn see(this: &mut Reconciler, object: Object<IfName>, foreign: bool) {
    let key = Key::of(&object);
    if let Some(entry) = this.table.get(&key) {
        // A second FDB entry of one key is a second remote. The wanted one counts, the others are
        // too many, if they are ours.
        if let Some(first) = &entry.seen {
            if foreign {
                return;
            }
            if entry.foreign {
                this.table.see(key, object, false);
                return;
            }
            if entry.wanted.as_deref().is_some_and(|wanted| satisfies(first, wanted)) {
                this.surplus.push(Arc::new(object));
                return;
            }
            this.surplus.push(Arc::clone(first));
        } else if foreign && entry.wanted.is_none() {
            return;
        }
    } else if foreign {
        // Somebody else's object matters only where it is in the way.
        return;
    }
    this.table.see(key, object, foreign);
}

/// What a device sends to when it does not know better.
fn group_of<D>(kind: &LinkKind<D>) -> Option<IpAddr> {
    match kind {
        LinkKind::Vxlan(vxlan) => vxlan.group,
        _ => None,
    }
}

/// The device without what it refers to.
fn bare(link: Link) -> Object<IfName> {
    let mut bare = Link::new(link.name, LinkKind::Other(link.kind.name().to_owned()));
    bare.index = link.index;
    bare.mtu = link.mtu;
    bare.address = link.address;
    bare.up = link.up;
    bare.alias = link.alias;
    bare.into()
}

/// Whether an object is ours, by its mark or by its device's. The entries of an FDB that lead nowhere
/// are the kernel's own.
fn is_ours(this: &Reconciler, object: &Object<IfName>, on_ours: impl Fn(&IfName) -> bool) -> bool {
    let protocol = this.owner.protocol();
    match object {
        Object::Address(address) => address.protocol == protocol,
        Object::Fdb(Fdb { dev, dst, nexthop, via, .. }) => {
            on_ours(dev) && (dst.is_some() || nexthop.is_some() || via.is_some())
        }
        Object::Neighbour(Neighbour { protocol: by, .. }) => *by == protocol,
        Object::Route(route) => route.protocol == protocol,
        Object::Rule(rule) => rule.protocol == protocol,
        Object::Nexthop(nexthop) => nexthop.protocol == protocol,
        Object::Link(link) => this.owner.owns_link(link),
    }
}

/// The same object with its devices by name; `None` when one of them is not known.
fn named(this: &Reconciler, object: Object) -> Option<Object<IfName>> {
    object.try_map_dev(&mut |dev| this.names.get(&dev).copied().ok_or(())).ok()
}

fn nexthop_of<D>(object: Object<D>) -> Option<Nexthop<D>> {
    match object {
        Object::Nexthop(nexthop) => Some(nexthop),
        _ => None,
    }
}

/// Gives nexthop objects other numbers where theirs turn out to be somebody else's, and, at the
/// first look, those under which the kernel has them already.
fn renumber(this: &mut Reconciler, there: &[Nexthop<IfName>]) {
    let protocol = this.owner.protocol();
    let (ours, foreign): (Vec<_>, Vec<_>) = there.iter().partition(|n| n.protocol == protocol);
    let foreign: HashSet<NexthopId> = foreign.iter().map(|nexthop| nexthop.id).collect();
    let mut present: HashMap<Hop<IfName>, NexthopId> = HashMap::new();
    // Not before it is known what there is to adopt them for.
    if !this.adopted && this.is_complete() {
        this.adopted = true;
        present.extend(ours.iter().filter_map(|nexthop| {
            let object = Object::Nexthop((*nexthop).clone());
            Some((hop_of(&object)?.clone(), nexthop.id))
        }));
    }

    let wanted: Vec<(NexthopId, Hop<IfName>)> = wanted_hops(this).collect();
    let mut avoid = foreign.clone();
    let mut moves: Vec<(NexthopId, Option<NexthopId>)> = Vec::new();
    for (id, hop) in &wanted {
        match present.remove(hop) {
            Some(known) => {
                avoid.insert(known);
                moves.push((*id, Some(known)));
            }
            None => moves.push((*id, None)),
        }
    }
    let moves: Vec<(NexthopId, NexthopId)> = {
        let claimed: HashSet<NexthopId> = moves.iter().filter_map(|(_, to)| *to).collect();
        let mut chosen = Vec::new();
        for (id, to) in moves {
            let to = match to {
                Some(known) => known,
                None if foreign.contains(&id) || claimed.contains(&id) => {
                    let entry = this.table.get(&Key::Nexthop(id));
                    let group = entry.and_then(|entry| entry.holder.as_deref());
                    let other = this.nexthops.other(group.unwrap_or_default(), &avoid);
                    avoid.insert(other);
                    other
                }
                None => id,
            };
            if to != id {
                chosen.push((id, to));
            }
        }
        chosen
    };
    this.move_nexthops(&moves);
}

impl Reconciler {
    /// Gives nexthop objects other numbers, all at once: one may take the number that another
    /// leaves.
    fn move_nexthops(&mut self, moves: &[(NexthopId, NexthopId)]) {
        if moves.is_empty() {
            return;
        }
        let to: HashMap<NexthopId, NexthopId> = moves.iter().copied().collect();
        self.nexthops.renumber(&to);
        let mut lifted = Vec::new();
        for (old, new) in moves {
            let slot = self.table.slot(Key::Nexthop(*old));
            let Some(holder) = self.table.at(slot).and_then(|entry| entry.holder.clone()) else {
                continue;
            };
            if let Some(Object::Nexthop(mut nexthop)) =
                self.table.unwant(slot).map(Arc::unwrap_or_clone)
            {
                nexthop.id = *new;
                lifted.push((holder, slot, nexthop));
            }
        }
        let mut moved = HashMap::new();
        let mut groups = HashSet::new();
        for (holder, old, nexthop) in lifted {
            let new = self.table.slot(Key::Nexthop(nexthop.id));
            self.table.want(new, &holder, nexthop.into());
            moved.insert(old, new);
            groups.insert(holder);
        }
        for group in groups {
            for member in self.groups.get_mut(&group).into_iter().flatten() {
                let through = self.table.nexthop_at(*member);
                if let Some(new) = moved.get(member) {
                    *member = *new;
                } else if let Some(new) = through.and_then(|old| to.get(&old)) {
                    self.table.reroute(*member, Via::Nexthop(*new));
                }
            }
        }
    }
}

/// The nexthop objects that are wanted, with their hops.
fn wanted_hops(this: &Reconciler) -> impl Iterator<Item = (NexthopId, Hop<IfName>)> {
    this.table.iter().filter_map(|(_, entry)| match (&entry.key, entry.wanted.as_deref()?) {
        (Key::Nexthop(id), wanted) => Some((*id, hop_of(wanted)?.clone())),
        _ => None,
    })
}

/// Puts the gateways back into the routes: this kernel has no nexthop objects.
fn spell_out_hops(this: &mut Reconciler) {
    if !this.nexthops.enabled() {
        return;
    }
    this.nexthops.disable();
    let hops: HashMap<NexthopId, Hop<IfName>> = wanted_hops(this).collect();
    for members in this.groups.values_mut() {
        members.retain(|slot| {
            let Some(entry) = this.table.at(*slot) else { return false };
            if matches!(entry.key, Key::Nexthop(_)) {
                this.table.unwant(*slot);
                return false;
            }
            if let Some(hop) = this.table.nexthop_at(*slot).and_then(|id| hops.get(&id)) {
                this.table.reroute(*slot, Via::Hop(hop.clone()));
            }
            true
        });
    }
}

pub(super) fn is_news(this: &Reconciler, event: &Event) -> bool {
    match event {
        Event::Overrun => true,
        Event::Link(change, link) => link_is_news(this, *change, link),
        Event::Address(change, o) => {
            this.names.get(&o.dev).is_some_and(|dev| this.concerns(dev))
                && match change {
                    // The last address of a device takes routes along of which the kernel says
                    // nothing.
                    Change::Gone => true,
                    // It may be what was missing; else it is most often a lifetime that began anew.
                    Change::New => {
                        this.table.has_pending() || object_is_news(this, *change, o.clone().into())
                    }
                }
        }
        Event::Neighbour(change, o) => object_is_news(this, *change, o.clone().into()),
        Event::Fdb(change, o) => object_is_news(this, *change, o.clone().into()),
        Event::Route(change, o) => object_is_news(this, *change, o.clone().into()),
        Event::Nexthop(change, o) => object_is_news(this, *change, o.clone().into()),
        Event::Rule(change, o) => object_is_news(this, *change, Object::Rule(o.clone())),
        _ => false,
    }
}

impl Reconciler {
    /// Whether something is wanted on a device, or the device itself.
    fn concerns(&self, dev: &IfName) -> bool {
        self.uses.contains(dev) || self.table.get(&Key::Link(*dev)).is_some()
    }
}

fn link_is_news(this: &Reconciler, change: Change, link: &Link) -> bool {
    let ours = this.owner.owns_link(link);
    let known = this.table.get(&Key::Link(link.name));
    if change == Change::Gone {
        return ours || this.concerns(&link.name);
    }
    match known.and_then(|entry| entry.wanted.as_deref()) {
        Some(Object::Link(want)) => {
            let same_device = this.indexes.get(&link.name).copied() == link.index;
            let Some(Object::Link(seen)) = named(this, link.clone().into()) else { return true };
            !(ours && same_device && fit(&seen, want) == Fit::Exact)
        }
        _ => {
            // Under its old name it may have been somebody's underlay.
            let known_as = link.index.and_then(|index| this.names.get(&index));
            ours || this.concerns(&link.name) || known_as.is_some_and(|name| this.concerns(name))
        }
    }
}

fn object_is_news(this: &Reconciler, change: Change, object: Object) -> bool {
    // On a device that came after the last look, anything may be news only if it is ours by mark.
    let Some(object) = named(this, object) else { return false };
    let key = Key::of(&object);
    let wanted = this.table.get(&key).and_then(|entry| entry.wanted.as_deref());
    match (change, wanted) {
        (Change::Gone, wanted) => wanted.is_some(),
        (Change::New, Some(wanted)) => !satisfies(&object, wanted),
        (Change::New, None) => {
            let learned = matches!(&object, Object::Fdb(fdb) if !fdb.state.contains(NeighbourState::PERMANENT));
            !learned && is_ours(this, &object, |dev| owns_device(this, dev))
        }
    }
}

fn owns_device(this: &Reconciler, dev: &IfName) -> bool {
    this.table.get(&Key::Link(*dev)).is_some_and(|entry| entry.seen.is_some() && !entry.foreign)
}
