//! What must hold at every moment, whatever happens.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use overlay_lease::{Change, Configured, LATE, Lease, Revision, Subnets};

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// No two nodes hold overlapping subnets, by what they know.
    OneHolder,
    /// What a node holds, by what it knows, is its lease in the store.
    NoLostLease,
    /// No two leases overlap, and a node has one at most.
    OneLease,
    /// A write has no effect unless the lease is as the writer saw it last.
    Fence,
    /// A lease is gone after its time to live, and not before, nor much later.
    Term,
    /// A view only goes forward.
    ViewForward,
    /// After peace has returned, each node has a lease, tells what it wants to tell, and sees what is there.
    Peace,
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) at: Duration,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} broken after {:?}: {}", self.rule, self.at, self.what)
    }
}

pub(crate) type Checked = Result<(), Violation>;

/// What the nodes believe, and a book about the store that is kept apart from the store's own.
#[derive(Default)]
pub(crate) struct Checker {
    now: Duration,
    beliefs: Vec<Option<Belief>>,
    believed: Ranges<usize>,
    leases: HashMap<Subnets, Entry>,
    leased: Ranges<Subnets>,
    holders: HashMap<usize, Subnets>,
    pub(crate) config: Option<Configured>,
    revision: Revision,
    pub(crate) counts: Counts,
}

/// What happened, to see that anything did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) created: u64,
    pub(crate) changed: u64,
    pub(crate) removed: u64,
    pub(crate) expired: u64,
    pub(crate) fenced: u64,
    pub(crate) taken: u64,
}

struct Belief {
    subnets: Subnets,
    until: Duration,
}

struct Entry {
    lease: Arc<Lease>,
    node: Option<usize>,
    /// When the store's clock showed what when its life began anew.
    touched: Duration,
}

impl Checker {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { beliefs: (0..nodes).map(|_| None).collect(), ..Self::default() }
    }

    pub(crate) fn time(&mut self, now: Duration) {
        self.now = now;
    }

    pub(crate) fn broken(&self, rule: Rule, what: String) -> Violation {
        Violation { rule, at: self.now, what }
    }

    /// The node knows that it holds `subnets` until the true time `until`, or that it holds nothing.
    pub(crate) fn believe(&mut self, node: usize, holds: Option<(Subnets, Duration)>) -> Checked {
        if let Some(belief) = self.beliefs[node].take() {
            self.believed.remove(&belief.subnets);
        }
        let Some((subnets, until)) = holds else { return Ok(()) };
        while let Some(other) = self.believed.overlapping(&subnets) {
            if let Some(belief) = self.beliefs[other].take() {
                self.believed.remove(&belief.subnets);
                if belief.until > self.now {
                    let what = format!(
                        "node {node} holds {subnets} until {until:?}, but node {other} holds {} until {:?}",
                        belief.subnets, belief.until
                    );
                    return Err(self.broken(Rule::OneHolder, what));
                }
            }
        }
        self.believed.insert(&subnets, node);
        self.beliefs[node] = Some(Belief { subnets, until });
        match self.leases.get(&subnets) {
            Some(entry) if entry.node == Some(node) => Ok(()),
            _ => {
                let what = format!("node {node} holds {subnets}, which the store does not say");
                Err(self.broken(Rule::NoLostLease, what))
            }
        }
    }

    /// Something was made or changed in the store, by a write whose fence was `fence`, if it was no creation.
    pub(crate) fn wrote(
        &mut self,
        revision: Revision,
        change: Change,
        cause: &Cause,
        store_now: Duration,
        node_of: impl Fn(&Lease) -> Option<usize>,
    ) -> Checked {
        if revision <= self.revision {
            let what = format!("revision {revision} after {}", self.revision);
            return Err(self.broken(Rule::ViewForward, what));
        }
        self.revision = revision;
        match change {
            Change::Config(config) => {
                self.config = config;
                Ok(())
            }
            Change::Gone(subnets) => self.gone(subnets, cause, store_now),
            Change::Lease(lease) => {
                let node = node_of(&lease);
                self.lease(lease, node, cause, store_now)
            }
            other => Err(self.broken(Rule::OneLease, format!("unknown change {other:?}"))),
        }
    }

    fn lease(
        &mut self,
        lease: Arc<Lease>,
        node: Option<usize>,
        cause: &Cause,
        store_now: Duration,
    ) -> Checked {
        let subnets = lease.subnets;
        match cause {
            Cause::Create => {
                if let Some(other) = self.leased.overlapping(&subnets) {
                    let what = format!("{subnets} is leased to {node:?}, but so is {other}");
                    return Err(self.broken(Rule::OneLease, what));
                }
                if let Some(other) = node.and_then(|node| self.holders.get(&node)) {
                    let what = format!("node {node:?} got {subnets}, but has {other}");
                    return Err(self.broken(Rule::OneLease, what));
                }
                self.counts.created += 1;
                self.leased.insert(&subnets, subnets);
                if let Some(node) = node {
                    self.holders.insert(node, subnets);
                }
            }
            Cause::Write(fence) => {
                self.fence(fence)?;
                self.counts.changed += 1;
            }
            Cause::Expiry => {
                let what = format!("{subnets} changed by itself");
                return Err(self.broken(Rule::Fence, what));
            }
        }
        self.leases.insert(subnets, Entry { lease, node, touched: store_now });
        Ok(())
    }

    fn gone(&mut self, subnets: Subnets, cause: &Cause, store_now: Duration) -> Checked {
        match cause {
            Cause::Write(fence) => {
                self.fence(fence)?;
                self.counts.removed += 1;
            }
            Cause::Create => {
                let what = format!("{subnets} was removed by a creation");
                return Err(self.broken(Rule::Fence, what));
            }
            Cause::Expiry => {
                self.counts.expired += 1;
                let entry = self.leases.get(&subnets);
                let age = entry.map(|entry| store_now.saturating_sub(entry.touched));
                let ttl = entry.and_then(|entry| entry.lease.ttl);
                if age.zip(ttl).is_none_or(|(age, ttl)| age < ttl) {
                    let what = format!("{subnets} expired after {age:?} of {ttl:?}");
                    return Err(self.broken(Rule::Term, what));
                }
            }
        }
        let Some(entry) = self.leases.remove(&subnets) else {
            return Err(self.broken(Rule::Fence, format!("{subnets} is gone for a second time")));
        };
        self.leased.remove(&subnets);
        if let Some(node) = entry.node {
            self.holders.remove(&node);
            if let Some(belief) = &self.beliefs[node]
                && belief.subnets == subnets
                && belief.until > self.now
            {
                let what = format!(
                    "{subnets} is gone by {cause:?}, but node {node} holds it until {:?}",
                    belief.until
                );
                return Err(self.broken(Rule::NoLostLease, what));
            }
        }
        Ok(())
    }

    /// The store says that a write was done which `saw` the lease.
    fn fence(&self, saw: &Lease) -> Checked {
        match self.leases.get(&saw.subnets) {
            Some(entry) if entry.lease.revision == saw.revision && entry.lease.node == saw.node => {
                Ok(())
            }
            entry => {
                let now = entry.map(|entry| (&entry.lease.node, entry.lease.revision));
                let what = format!(
                    "a write to {} that saw {:?} at {} was done, but it is {now:?}",
                    saw.subnets, saw.node, saw.revision
                );
                Err(self.broken(Rule::Fence, what))
            }
        }
    }

    /// The store says that a lease lives anew.
    pub(crate) fn renewed(&mut self, saw: &Lease, store_now: Duration) -> Checked {
        self.fence(saw)?;
        if let Some(entry) = self.leases.get_mut(&saw.subnets) {
            entry.touched = store_now;
        }
        Ok(())
    }

    /// The store was asked at the moment `store_now` of its clock, and has these leases left.
    pub(crate) fn nothing_overdue(&self, store_now: Duration) -> Checked {
        let overdue = self.leases.values().find(|entry| {
            entry.lease.ttl.is_some_and(|ttl| store_now > entry.touched + ttl + LATE)
        });
        match overdue {
            Some(entry) => {
                let what = format!("{} is still there", entry.lease.subnets);
                Err(self.broken(Rule::Term, what))
            }
            None => Ok(()),
        }
    }

    /// Whether the book has exactly these leases.
    pub(crate) fn has_exactly(&self, leases: &[Arc<Lease>]) -> bool {
        leases.len() == self.leases.len()
            && leases.iter().all(|lease| {
                self.leases.get(&lease.subnets).is_some_and(|entry| entry.lease == *lease)
            })
    }

    pub(crate) fn lease_of(&self, node: usize) -> Option<&Arc<Lease>> {
        self.leases.get(self.holders.get(&node)?).map(|entry| &entry.lease)
    }
}

/// Why the store's contents changed.
#[derive(Debug)]
pub(crate) enum Cause {
    Create,
    /// An update or a removal by somebody who saw this.
    Write(Arc<Lease>),
    Expiry,
}

/// Subnets that do not overlap, and whose they are.
struct Ranges<T>(BTreeMap<(bool, u128), (u128, T)>);

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Copy> Ranges<T> {
    fn insert(&mut self, subnets: &Subnets, of: T) {
        for (family, first, last) in ranges(subnets) {
            self.0.insert((family, first), (last, of));
        }
    }

    fn remove(&mut self, subnets: &Subnets) {
        for (family, first, _) in ranges(subnets) {
            self.0.remove(&(family, first));
        }
    }

    fn overlapping(&self, subnets: &Subnets) -> Option<T> {
        ranges(subnets).find_map(|(family, first, last)| {
            let (_, (end, of)) = self.0.range((family, 0)..=(family, last)).next_back()?;
            (*end >= first).then_some(*of)
        })
    }
}

fn ranges(subnets: &Subnets) -> impl Iterator<Item = (bool, u128, u128)> {
    let v4 = subnets
        .v4()
        .map(|v4| (false, u32::from(v4.network()).into(), u32::from(v4.broadcast()).into()));
    let v6 = subnets.v6().map(|v6| (true, v6.network().into(), v6.broadcast().into()));
    v4.into_iter().chain(v6)
}
