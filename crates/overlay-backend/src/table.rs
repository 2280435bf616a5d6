//! What is wanted beside what is there, key by key.

use std::collections::{HashMap, hash_map};
use std::sync::Arc;

use overlay_netlink::{IfName, NexthopId, Object, Via};

use crate::compare::{Fit, fit, satisfies};
use crate::key::Key;

/// A place in the table, valid while something is wanted or seen there.
pub(crate) type Slot = usize;

/// One key: what is wanted there, what is there, or both. What is as wanted is kept only once.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) wanted: Option<Arc<Object<IfName>>>,
    /// The group that wants it.
    pub(crate) holder: Option<Arc<str>>,
    pub(crate) seen: Option<Arc<Object<IfName>>>,
    /// What is there is somebody else's.
    pub(crate) foreign: bool,
    /// The last [`Table::claim`] that named it.
    claim: u64,
    /// Listed in [`Table::dirty`].
    dirty: bool,
    /// The last request about it was refused, and nothing has changed since.
    stuck: bool,
}

impl Entry {
    const fn new(key: Key) -> Self {
        Self {
            key,
            wanted: None,
            holder: None,
            seen: None,
            foreign: false,
            claim: 0,
            dirty: false,
            stuck: false,
        }
    }

    const fn is_empty(&self) -> bool {
        self.wanted.is_none() && self.seen.is_none()
    }

    /// Whether nothing is to be done here. Somebody else's object will do if it is as wanted.
    fn settled(&self) -> bool {
        match (self.wanted.as_deref(), self.seen.as_deref()) {
            (None, None) => true,
            (None, Some(_)) => self.foreign,
            (Some(_), None) => false,
            (Some(Object::Link(want)), Some(Object::Link(seen))) => {
                !self.foreign && fit(seen, want) == Fit::Exact
            }
            (Some(want), Some(seen)) => std::ptr::eq(want, seen) || satisfies(seen, want),
        }
    }
}

/// All keys, and those among them that may need work, in the order in which they came, so that what a
/// plan does first does not change from run to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    index: HashMap<Key, Slot>,
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    dirty: Vec<Slot>,
    claims: u64,
}

impl Table {
    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        self.at(*self.index.get(key)?)
    }

    pub(crate) fn at(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot)?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)))
    }

    /// Makes room for so many more keys, so that the table does not grow step by step.
    pub(crate) fn reserve(&mut self, additional: usize) {
        self.index.reserve(additional);
        self.entries.reserve(additional);
    }

    /// The place of a key, made if need be.
    pub(crate) fn slot(&mut self, key: Key) -> Slot {
        let vacant = match self.index.entry(key) {
            hash_map::Entry::Occupied(occupied) => return *occupied.get(),
            hash_map::Entry::Vacant(vacant) => vacant,
        };
        let entry = Some(Entry::new(vacant.key().clone()));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        *vacant.insert(slot)
    }

    /// Starts a new claim; [`claim`](Self::claim) then tells which places it named before.
    pub(crate) const fn begin_claim(&mut self) {
        self.claims += 1;
    }

    /// Names a place. Returns whether it is the first time in this claim.
    pub(crate) fn claim(&mut self, slot: Slot) -> bool {
        let claims = self.claims;
        self.entry(slot).is_some_and(|entry| std::mem::replace(&mut entry.claim, claims) != claims)
    }

    /// Whether the current claim named a place.
    pub(crate) fn is_claimed(&self, slot: Slot) -> bool {
        self.at(slot).is_some_and(|entry| entry.claim == self.claims)
    }

    /// Sets what is wanted at a place, and by whom.
    pub(crate) fn want(&mut self, slot: Slot, holder: &Arc<str>, object: Object<IfName>) {
        let Some(entry) = self.entry(slot) else { return };
        entry.holder = Some(Arc::clone(holder));
        if entry.wanted.as_deref() != Some(&object) {
            entry.wanted = Some(Arc::new(object));
            self.touch(slot);
        }
    }

    /// Nothing is wanted at a place any more. Returns what was.
    pub(crate) fn unwant(&mut self, slot: Slot) -> Option<Arc<Object<IfName>>> {
        let entry = self.entry(slot)?;
        entry.holder = None;
        let wanted = entry.wanted.take();
        self.touch(slot);
        wanted
    }

    /// Makes the route that is wanted at a place lead another way.
    pub(crate) fn reroute(&mut self, slot: Slot, via: Via<IfName>) {
        let Some(entry) = self.entry(slot) else { return };
        if let Some(Object::Route(route)) = entry.wanted.as_mut().map(Arc::make_mut) {
            route.via = via;
            self.touch(slot);
        }
    }

    /// Which nexthop object the route that is wanted at a place leads through.
    pub(crate) fn nexthop_at(&self, slot: Slot) -> Option<NexthopId> {
        match self.at(slot)?.wanted.as_deref()? {
            Object::Route(route) => match route.via {
                Via::Nexthop(id) => Some(id),
                _ => None,
            },
            _ => None,
        }
    }

    /// Notes what a request that succeeded left under a key.
    pub(crate) fn settle(&mut self, key: &Key, seen: Option<Arc<Object<IfName>>>) {
        let Some(slot) = self.index.get(key).copied() else { return };
        let Some(entry) = self.entry(slot) else { return };
        entry.seen = seen;
        entry.foreign = false;
        // What was asked may be outdated by now.
        if !entry.settled() {
            self.touch(slot);
        }
    }

    /// Notes that a request about a key was refused: it would be again, until something changes.
    pub(crate) fn refuse(&mut self, key: &Key) {
        if let Some(slot) = self.index.get(key).copied()
            && let Some(entry) = self.entry(slot)
        {
            entry.stuck = true;
        }
    }

    /// Whether a request about a place was refused and nothing has changed since.
    pub(crate) fn is_stuck(&self, slot: Slot) -> bool {
        self.at(slot).is_some_and(|entry| entry.stuck)
    }

    /// Forgets all that is there, before it is listed anew.
    pub(crate) fn forget_seen(&mut self) {
        for entry in self.entries.iter_mut().flatten() {
            entry.seen = None;
            entry.foreign = false;
        }
    }

    /// Notes that an object is there.
    pub(crate) fn see(&mut self, key: Key, object: Object<IfName>, foreign: bool) {
        let slot = self.slot(key);
        if let Some(entry) = self.entry(slot) {
            entry.foreign = foreign;
            entry.seen = Some(match &entry.wanted {
                Some(wanted) if **wanted == object => Arc::clone(wanted),
                _ => Arc::new(object),
            });
        }
    }

    /// Drops empty entries and finds anew which may need work.
    pub(crate) fn refresh(&mut self) {
        self.dirty.clear();
        for slot in 0..self.entries.len() {
            let Some(entry) = &mut self.entries[slot] else { continue };
            entry.stuck = false;
            entry.dirty = !entry.settled();
            if entry.dirty {
                self.dirty.push(slot);
            } else if entry.is_empty() {
                self.vacate(slot);
            }
        }
    }

    /// Whether there may be entries that need work.
    pub(crate) const fn has_pending(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The entries that need work. Those that turn out to be settled are cleared on the way.
    pub(crate) fn pending(&mut self) -> Vec<Slot> {
        let dirty = std::mem::take(&mut self.dirty);
        for slot in dirty {
            let Some(entry) = &mut self.entries[slot] else { continue };
            entry.dirty = !entry.settled();
            if entry.dirty {
                self.dirty.push(slot);
            } else if entry.is_empty() {
                self.vacate(slot);
            }
        }
        self.dirty.clone()
    }

    fn entry(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(slot)?.as_mut()
    }

    fn touch(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot).and_then(Option::as_mut) {
            entry.stuck = false;
            if !entry.dirty {
                entry.dirty = true;
                self.dirty.push(slot);
            }
        }
    }

    fn vacate(&mut self, slot: Slot) {
        if let Some(entry) = self.entries[slot].take() {
            self.index.remove(&entry.key);
            self.free.push(slot);
        }
    }
}
