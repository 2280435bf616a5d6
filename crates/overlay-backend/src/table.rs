//! What is wanted beside what is there, key by key.

use indexmap::IndexMap;
use overlay_netlink::{IfName, NexthopId, Object, Via};

use crate::compare::{Fit, fit, satisfies};
use crate::key::Key;

/// One key: what is wanted there, what is there, or both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) wanted: Option<Object<IfName>>,
    pub(crate) seen: Option<Object<IfName>>,
    /// What is there is somebody else's.
    pub(crate) foreign: bool,
    /// Listed in [`Table::dirty`].
    dirty: bool,
}

impl Entry {
    /// Whether nothing is to be done here. Somebody else's object will do if it is as wanted.
    pub(crate) fn settled(&self) -> bool {
        match (&self.wanted, &self.seen) {
            (None, None) => true,
            (None, Some(_)) => self.foreign,
            (Some(_), None) => false,
            (Some(Object::Link(want)), Some(Object::Link(seen))) => {
                !self.foreign && fit(seen, want) == Fit::Exact
            }
            (Some(want), Some(seen)) => satisfies(seen, want),
        }
    }
}

/// All keys, and those among them that may need work. Insertion order is kept, so that what a plan
/// does first does not change from run to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: IndexMap<Key, Entry>,
    dirty: Vec<Key>,
}

impl Table {
    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Whether the route wanted under `key` leads through the nexthop object `id`.
    pub(crate) fn leads_through(&self, key: &Key, id: NexthopId) -> bool {
        let wanted = self.entries.get(key).and_then(|entry| entry.wanted.as_ref());
        matches!(wanted, Some(Object::Route(route)) if route.via == Via::Nexthop(id))
    }

    /// Alters one entry and notes that it may need work.
    pub(crate) fn update(&mut self, key: Key, change: impl FnOnce(&mut Entry)) {
        let entry = self.entries.entry(key.clone()).or_default();
        change(entry);
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Notes what became of a request about an entry: it is settled, or stays dirty.
    pub(crate) fn settle(&mut self, key: &Key, seen: Option<Object<IfName>>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.seen = seen;
            entry.foreign = false;
        }
    }

    /// Forgets all that is there, before it is listed anew.
    pub(crate) fn forget_seen(&mut self) {
        for entry in self.entries.values_mut() {
            entry.seen = None;
            entry.foreign = false;
        }
    }

    /// Notes that an object is there.
    pub(crate) fn see(&mut self, key: Key, object: Object<IfName>, foreign: bool) {
        let entry = self.entries.entry(key).or_default();
        entry.seen = Some(object);
        entry.foreign = foreign;
    }

    /// Drops empty entries and finds anew which may need work.
    pub(crate) fn refresh(&mut self) {
        self.entries.retain(|_, entry| entry.wanted.is_some() || entry.seen.is_some());
        self.dirty.clear();
        for (key, entry) in &mut self.entries {
            entry.dirty = !entry.settled();
            if entry.dirty {
                self.dirty.push(key.clone());
            }
        }
    }

    /// The entries that need work. Those that turn out to be settled are cleared on the way.
    pub(crate) fn pending(&mut self) -> Vec<Key> {
        let dirty = std::mem::take(&mut self.dirty);
        for key in dirty {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.wanted.is_none() && entry.seen.is_none() {
                self.entries.swap_remove(&key);
            } else if entry.settled() {
                entry.dirty = false;
            } else {
                self.dirty.push(key);
            }
        }
        self.dirty.clone()
    }
}
