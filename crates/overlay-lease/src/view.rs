//! What is in a network, as far as one knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Configured;
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::watch::{About, Change, Snapshot, Update};

/// What is in a network, made of what a [`Watch`](crate::Watch) brings.
///
/// It does no I/O and reads no clock. Updates that bring nothing new, because they come twice or late, change nothing.
/// As long as no snapshot came, there is nothing that one could act on: not even the absence of peers.
#[derive(Clone, Debug, Default)]
pub struct View {
    revision: Option<Revision>,
    behind: bool,
    config: Option<Configured>,
    leases: BTreeMap<Subnets, Arc<Lease>>,
}

/// How much one knows of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Knowledge {
    /// Nothing yet.
    Unknown,
    /// What is there.
    Current,
    /// What was there when the store answered last.
    Stale,
}

/// What an update changed in a [`View`].
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_enums)]
pub enum Difference {
    /// The configuration is another one.
    Config {
        /// It was this one.
        from: Option<Configured>,
        /// It is this one.
        to: Option<Configured>,
    },
    /// There is a lease of subnets that had none.
    Added(Arc<Lease>),
    /// The lease of these subnets is another one: its attributes, its term, or even its node changed.
    Changed {
        /// It was this one.
        from: Arc<Lease>,
        /// It is this one.
        to: Arc<Lease>,
    },
    /// There is no lease of these subnets any more.
    Removed(Arc<Lease>),
}

impl View {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what the watch brought, and tells what changed by it, in order.
    pub fn apply(&mut self, update: Update) -> Vec<Difference> {
        let late = self.revision.is_some_and(|revision| update.revision() < revision);
        match update {
            _ if late => Vec::new(),
            Update::Snapshot(snapshot) => self.replace(snapshot),
            // It tells what happened after something that we have not seen.
            Update::Changes(_) if self.revision.is_none() => Vec::new(),
            Update::Changes(changes) => {
                self.behind = false;
                if self.revision == Some(changes.revision) {
                    return Vec::new();
                }
                self.revision = Some(changes.revision);
                changes.changes.into_iter().filter_map(|change| self.change(change)).collect()
            }
        }
    }

    /// Takes over the snapshot, even one that is older than what is known: for a store that was set back to a backup.
    /// What stands there and cannot be read is taken for what it was when it could be. Tells what changed by it: removals
    /// first, since those who come may have what those who go had.
    pub fn replace(&mut self, snapshot: Snapshot) -> Vec<Difference> {
        self.revision = Some(snapshot.revision);
        self.behind = false;
        let leases = snapshot.leases.into_iter().map(|lease| (lease.subnets, lease));
        let mut leases: BTreeMap<_, _> = leases.collect();
        let mut config = Some(snapshot.config);
        for skipped in snapshot.skipped {
            match skipped.about {
                Some(About::Lease(subnets)) => {
                    if let Some(last) = self.leases.get(&subnets) {
                        leases.entry(subnets).or_insert_with(|| last.clone());
                    }
                }
                Some(About::Config) => config = None,
                None => {}
            }
        }
        let before = std::mem::replace(&mut self.leases, leases);
        let config = config.and_then(|config| self.change(Change::Config(config)));
        let mut before = before.into_values().peekable();
        let (mut removed, mut others) = (Vec::new(), Vec::new());
        for (subnets, to) in &self.leases {
            while let Some(gone) = before.next_if(|lease| lease.subnets < *subnets) {
                removed.push(Difference::Removed(gone));
            }
            match before.next_if(|lease| lease.subnets == *subnets) {
                None => others.push(Difference::Added(to.clone())),
                Some(from) => others.extend(changed(&from, to)),
            }
        }
        removed.extend(before.map(Difference::Removed));
        config.into_iter().chain(removed).chain(others).collect()
    }

    /// Takes in that the store does not answer. What is known stays.
    pub fn lost(&mut self) {
        self.behind = true;
    }

    /// Takes in that the store answers again, and that a watch continues from what is known.
    pub fn found(&mut self) {
        self.behind = false;
    }

    /// How much is known.
    #[must_use]
    pub const fn knowledge(&self) -> Knowledge {
        match (self.revision, self.behind) {
            (None, _) => Knowledge::Unknown,
            (Some(_), false) => Knowledge::Current,
            (Some(_), true) => Knowledge::Stale,
        }
    }

    /// The revision of what is known, to watch from; `None` as long as nothing is.
    #[must_use]
    pub const fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// The network's configuration.
    #[must_use]
    pub const fn config(&self) -> Option<&Configured> {
        self.config.as_ref()
    }

    /// The leases, in the order of their subnets.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = &Arc<Lease>> {
        self.leases.values()
    }

    /// The lease of exactly these subnets.
    #[must_use]
    pub fn lease(&self, subnets: &Subnets) -> Option<&Arc<Lease>> {
        self.leases.get(subnets)
    }

    fn change(&mut self, change: Change) -> Option<Difference> {
        match change {
            Change::Config(to) => {
                let from = std::mem::replace(&mut self.config, to.clone());
                (from != to).then_some(Difference::Config { from, to })
            }
            Change::Lease(to) => match self.leases.insert(to.subnets, to.clone()) {
                None => Some(Difference::Added(to)),
                Some(from) => changed(&from, &to),
            },
            Change::Gone(subnets) => self.leases.remove(&subnets).map(Difference::Removed),
        }
    }
}

fn changed(from: &Arc<Lease>, to: &Arc<Lease>) -> Option<Difference> {
    let same = Arc::ptr_eq(from, to) || from == to;
    (!same).then(|| Difference::Changed { from: from.clone(), to: to.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;
    use crate::config::NetworkConfig;
    use crate::family::Endpoints;
    use crate::name::NodeId;
    use crate::watch::{Changes, Skipped};

    fn lease(subnets: &str, node: &str, revision: u64) -> Arc<Lease> {
        let attributes = Attributes::new(Endpoints::at(["192.0.2.1".parse().unwrap()]), "vxlan");
        let revision = Revision::new(revision);
        let node = Some(NodeId::new(node).unwrap());
        Arc::new(Lease::new(subnets.parse().unwrap(), node, attributes, None, revision, revision))
    }

    fn snapshot(revision: u64, leases: &[&Arc<Lease>]) -> Update {
        Update::Snapshot(Snapshot {
            revision: Revision::new(revision),
            leases: leases.iter().copied().cloned().collect(),
            ..Snapshot::default()
        })
    }

    fn changes(revision: u64, changes: Vec<Change>) -> Update {
        Update::Changes(Changes { revision: Revision::new(revision), changes, skipped: Vec::new() })
    }

    #[test]
    fn nothing_is_known_before_a_snapshot() {
        let a = lease("10.5.1.0/24", "a", 3);
        let mut view = View::new();
        assert_eq!(view.knowledge(), Knowledge::Unknown);
        assert_eq!(view.apply(changes(3, vec![Change::Lease(a.clone())])), []);
        view.lost();
        assert_eq!((view.knowledge(), view.revision()), (Knowledge::Unknown, None));
        assert_eq!(view.apply(snapshot(4, &[&a])), [Difference::Added(a)]);
        assert_eq!(
            (view.knowledge(), view.revision()),
            (Knowledge::Current, Some(Revision::new(4)))
        );
    }

    #[test]
    fn a_snapshot_after_a_gap_tells_removals_and_changes() {
        let (a, b) = (lease("10.5.1.0/24", "a", 1), lease("10.5.2.0/24", "b", 2));
        let (later, c) = (lease("10.5.2.0/24", "b", 5), lease("10.5.3.0/24", "c", 6));
        let mut view = View::new();
        view.apply(snapshot(2, &[&a, &b]));
        view.lost();
        assert_eq!(view.knowledge(), Knowledge::Stale);
        assert_eq!(view.leases().len(), 2, "what was known stays");
        assert_eq!(
            view.apply(snapshot(6, &[&later, &c])),
            [
                Difference::Removed(a),
                Difference::Changed { from: b, to: later },
                Difference::Added(c)
            ]
        );
        assert_eq!(view.knowledge(), Knowledge::Current);
    }

    #[test]
    fn what_comes_twice_or_late_changes_nothing() {
        let (a, later) = (lease("10.5.1.0/24", "a", 1), lease("10.5.1.0/24", "a", 5));
        let mut view = View::new();
        view.apply(snapshot(1, &[&a]));
        let update = changes(5, vec![Change::Lease(later.clone())]);
        assert_eq!(
            view.apply(update.clone()),
            [Difference::Changed { from: a.clone(), to: later.clone() }]
        );
        assert_eq!(view.apply(update), []);
        assert_eq!(view.apply(snapshot(1, &[&a])), []);
        assert_eq!(view.apply(changes(4, vec![Change::Gone(a.subnets)])), []);
        assert_eq!(view.apply(snapshot(5, &[&later])), []);
        assert_eq!(view.leases().collect::<Vec<_>>(), [&later]);
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        let (a, b) = (lease("10.5.1.0/24", "a", 1), lease("10.5.2.0/24", "b", 2));
        let config = NetworkConfig::from_json(r#"{"Network":"10.5.0.0/16"}"#).unwrap();
        let config = Configured { config: Arc::new(config), revision: Revision::new(1) };
        let skipped = |about| Skipped { key: "k".into(), reason: "odd".into(), about };
        let with =
            |revision, leases: &[&Arc<Lease>], config: Option<&Configured>, abouts: &[About]| {
                Update::Snapshot(Snapshot {
                    revision: Revision::new(revision),
                    config: config.cloned(),
                    leases: leases.iter().copied().cloned().collect(),
                    skipped: abouts.iter().map(|about| skipped(Some(*about))).collect(),
                })
            };
        let mut view = View::new();
        view.apply(with(2, &[&a, &b], Some(&config), &[]));
        let odd = [About::Config, About::Lease(a.subnets)];
        assert_eq!(view.apply(with(3, &[&b], None, &odd)), []);
        assert_eq!((view.leases().len(), view.config()), (2, Some(&config)));
        // Nothing is made of what could never be read.
        let never = [About::Lease("10.5.9.0/24".parse().unwrap())];
        assert_eq!(view.apply(with(4, &[&a], Some(&config), &never)), [Difference::Removed(b)]);
        assert_eq!(
            view.apply(with(5, &[&a], None, &[])),
            [Difference::Config { from: Some(config), to: None }]
        );
    }

    #[test]
    fn a_store_that_was_set_back_is_believed_when_told_so() {
        let (a, b) = (lease("10.5.1.0/24", "a", 7), lease("10.5.2.0/24", "b", 2));
        let mut view = View::new();
        view.apply(snapshot(9, &[&a]));
        let Update::Snapshot(backup) = snapshot(2, &[&b]) else { unreachable!() };
        assert_eq!(view.replace(backup), [Difference::Removed(a), Difference::Added(b)]);
        assert_eq!(view.revision(), Some(Revision::new(2)));
    }
}
