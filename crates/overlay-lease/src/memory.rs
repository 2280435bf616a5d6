//! A store in memory, for tests and for programs that keep everything in one process.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::store::{
    Claim, ConfigureError, CreateError, Standing, Store, StoreError, Tenant, WriteError,
};
use crate::watch::{Change, Changes, Snapshot, Update, Watch};

/// The leases of a network as a plain value: a store without a clock.
///
/// Time is an argument, and counts from any moment that stays the same. This is what all other stores are compared
/// with.
#[derive(Clone, Debug)]
pub struct Memory {
    revision: Revision,
    config: Option<Configured>,
    leases: BTreeMap<Subnets, Entry>,
    /// What overlaps: first addresses of the IPv4 and of the IPv6 subnets.
    v4: BTreeMap<Ipv4Addr, Subnets>,
    v6: BTreeMap<Ipv6Addr, Subnets>,
    nodes: HashMap<NodeId, Subnets>,
    tenants: BTreeMap<NodeId, (Subnets, Revision)>,
    deadlines: BTreeSet<(Duration, Subnets)>,
    history: VecDeque<(Revision, Change)>,
    /// The latest revision of which the history does not know all that came after it.
    compacted: Revision,
}

#[derive(Clone, Debug)]
struct Entry {
    lease: Arc<Lease>,
    deadline: Option<Duration>,
}

/// Changes that are remembered in detail.
const HISTORY: usize = 10_000;

impl Memory {
    /// Without configuration and leases.
    #[must_use]
    pub fn new() -> Self {
        Self {
            revision: Revision::ZERO,
            config: None,
            leases: BTreeMap::new(),
            v4: BTreeMap::new(),
            v6: BTreeMap::new(),
            nodes: HashMap::new(),
            tenants: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            history: VecDeque::new(),
            compacted: Revision::ZERO,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// As the operations of a [`Store`], which can fail for the same reasons, except that this one always answers.
impl Memory {
    /// See [`Store::config`].
    #[must_use]
    pub const fn config(&self) -> Option<&Configured> {
        self.config.as_ref()
    }

    /// See [`Store::configure`].
    ///
    /// # Errors
    ///
    /// [`ConfigureError::Reconfigured`].
    pub fn configure(
        &mut self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        if self.config.as_ref().map(|config| config.revision) != replaces {
            return Err(ConfigureError::Reconfigured(self.config.clone()));
        }
        let configured =
            Configured { config: Arc::new(config.clone()), revision: self.revision.next() };
        self.config = Some(configured.clone());
        self.record(Change::Config(self.config.clone()));
        Ok(configured)
    }

    /// See [`Store::standing`].
    #[must_use]
    pub fn standing(&self, node: &NodeId) -> Standing {
        Standing {
            config: self.config.clone(),
            lease: self.nodes.get(node).and_then(|subnets| self.current(subnets)).cloned(),
            last: self.tenants.get(node).map(|(subnets, _)| *subnets),
            may_guess: true,
        }
    }

    /// See [`Store::tenants`].
    pub fn tenants(&self) -> impl Iterator<Item = Tenant> {
        let tenant = |(node, (subnets, since)): (&NodeId, &(Subnets, Revision))| Tenant {
            node: node.clone(),
            subnets: *subnets,
            since: *since,
        };
        self.tenants.iter().map(tenant)
    }

    /// See [`Store::snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.revision,
            config: self.config.clone(),
            leases: self.leases.values().map(|entry| entry.lease.clone()).collect(),
            skipped: Vec::new(),
        }
    }

    /// What happened after the revision `after`: see [`Store::watch`]. `None` if nothing did.
    #[must_use]
    pub fn since(&self, after: Revision) -> Option<Update> {
        if after == self.revision {
            return None;
        }
        if after < self.compacted || after > self.revision {
            return Some(Update::Snapshot(self.snapshot()));
        }
        let seen = self.history.partition_point(|(revision, _)| *revision <= after);
        let changes = self.history.range(seen..).map(|(_, change)| change.clone()).collect();
        Some(Update::Changes(Changes { revision: self.revision, changes, skipped: Vec::new() }))
    }

    /// Forgets in detail what happened up to now.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
    }

    /// See [`Store::create`].
    ///
    /// # Errors
    ///
    /// [`CreateError`], except for [`CreateError::Store`].
    pub fn create(&mut self, now: Duration, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        if self.config.as_ref().map(|config| config.revision) != Some(claim.under) {
            return Err(CreateError::Reconfigured(self.config.clone()));
        }
        let held = claim
            .node
            .as_ref()
            .and_then(|node| self.nodes.get(node))
            .and_then(|held| self.current(held));
        if let Some(lease) = held.filter(|lease| lease.subnets != claim.subnets) {
            return Err(CreateError::Holds(lease.clone()));
        }
        if let Some(lease) = self.overlapping(&claim.subnets) {
            return Err(CreateError::Taken(lease.clone()));
        }
        let revision = self.revision.next();
        let Claim { subnets, node, attributes, ttl, .. } = claim.clone();
        let lease = Arc::new(Lease::new(subnets, node, attributes, ttl, revision, revision));
        if let Some(v4) = subnets.v4() {
            self.v4.insert(v4.network(), subnets);
        }
        if let Some(v6) = subnets.v6() {
            self.v6.insert(v6.network(), subnets);
        }
        if let Some(node) = &lease.node {
            self.nodes.insert(node.clone(), subnets);
            self.tenants.insert(node.clone(), (subnets, revision));
        }
        self.put(now, lease.clone());
        Ok(lease)
    }

    /// See [`Store::update`].
    ///
    /// # Errors
    ///
    /// [`WriteError::Fenced`].
    pub fn update(
        &mut self,
        now: Duration,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        let current = self.fence(lease)?;
        if current.attributes == *attributes && current.ttl == ttl {
            self.set_deadline(now, &current);
            return Ok(current);
        }
        let mut lease = Lease::clone(&current);
        lease.attributes.clone_from(attributes);
        lease.ttl = ttl;
        lease.revision = self.revision.next();
        let lease = Arc::new(lease);
        self.put(now, lease.clone());
        Ok(lease)
    }

    /// See [`Store::renew`].
    ///
    /// # Errors
    ///
    /// [`WriteError::Fenced`].
    pub fn renew(&mut self, now: Duration, lease: &Lease) -> Result<(), WriteError> {
        let current = self.fence(lease)?;
        self.set_deadline(now, &current);
        Ok(())
    }

    /// See [`Store::remove`].
    ///
    /// # Errors
    ///
    /// [`WriteError::Fenced`].
    pub fn remove(&mut self, lease: &Lease) -> Result<(), WriteError> {
        let current = self.fence(lease)?;
        self.drop_lease(&current.subnets);
        Ok(())
    }

    /// See [`Store::remaining`].
    ///
    /// # Errors
    ///
    /// [`WriteError::Fenced`].
    pub fn remaining(&self, now: Duration, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        let current = self.fence(lease)?;
        let deadline = self.leases.get(&current.subnets).and_then(|entry| entry.deadline);
        Ok(deadline.map(|deadline| deadline.saturating_sub(now)))
    }

    /// Removes what has expired by `now`.
    pub fn expire(&mut self, now: Duration) {
        while let Some((deadline, subnets)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.drop_lease(&subnets);
        }
    }

    /// When the next lease expires, if nobody renews it until then.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The revision of the last write.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    fn current(&self, subnets: &Subnets) -> Option<&Arc<Lease>> {
        self.leases.get(subnets).map(|entry| &entry.lease)
    }

    fn fence(&self, lease: &Lease) -> Result<Arc<Lease>, WriteError> {
        match self.current(&lease.subnets) {
            Some(current) if current.revision == lease.revision && current.node == lease.node => {
                Ok(current.clone())
            }
            other => Err(WriteError::Fenced(other.cloned())),
        }
    }

    /// Leases do not overlap each other, so that only the last one that begins before the end of `subnets` can overlap.
    fn overlapping(&self, subnets: &Subnets) -> Option<&Arc<Lease>> {
        let v4 = subnets.v4().and_then(|v4| self.v4.range(..=v4.broadcast()).next_back());
        let v6 = subnets.v6().and_then(|v6| self.v6.range(..=v6.broadcast()).next_back());
        let candidates =
            v4.map(|(_, subnets)| subnets).into_iter().chain(v6.map(|(_, subnets)| subnets));
        candidates
            .filter(|candidate| candidate.overlap(subnets))
            .find_map(|candidate| self.current(candidate))
    }

    fn put(&mut self, now: Duration, lease: Arc<Lease>) {
        self.set_deadline(now, &lease);
        self.record(Change::Lease(lease));
    }

    fn set_deadline(&mut self, now: Duration, lease: &Arc<Lease>) {
        let deadline = lease.ttl.map(|ttl| now.saturating_add(ttl));
        let entry = Entry { lease: lease.clone(), deadline };
        if let Some(before) =
            self.leases.insert(lease.subnets, entry).and_then(|entry| entry.deadline)
        {
            self.deadlines.remove(&(before, lease.subnets));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, lease.subnets));
        }
    }

    fn drop_lease(&mut self, subnets: &Subnets) {
        let Some(Entry { lease, deadline }) = self.leases.remove(subnets) else { return };
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, *subnets));
        }
        if let Some(v4) = subnets.v4() {
            self.v4.remove(&v4.network());
        }
        if let Some(v6) = subnets.v6() {
            self.v6.remove(&v6.network());
        }
        if let Some(node) = &lease.node {
            self.nodes.remove(node);
            // Now it is this long that the subnets are free.
            self.tenants.insert(node.clone(), (*subnets, self.revision.next()));
        }
        self.record(Change::Gone(*subnets));
    }

    fn record(&mut self, change: Change) {
        self.revision = self.revision.next();
        self.history.push_back((self.revision, change));
        if self.history.len() > HISTORY
            && let Some((revision, _)) = self.history.pop_front()
        {
            self.compacted = revision;
        }
    }
}

/// A store in memory. Clones are the same store.
///
/// Its watches need the timer of a tokio runtime.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    start: Instant,
    changed: watch::Sender<Revision>,
}

impl MemoryStore {
    /// Without configuration and leases.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Memory::new())
    }

    /// With what is in `memory`, whose time counts from now on.
    #[must_use]
    pub fn with(memory: Memory) -> Self {
        let changed = watch::Sender::new(memory.revision);
        Self {
            shared: Arc::new(Shared { memory: Mutex::new(memory), start: Instant::now(), changed }),
        }
    }

    /// Does something with what is there now, and wakes those who watch if it changed.
    pub fn access<T>(&self, operation: impl FnOnce(&mut Memory, Duration) -> T) -> T {
        self.shared.access(operation)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn access<T>(&self, operation: impl FnOnce(&mut Memory, Duration) -> T) -> T {
        let mut memory = self.lock();
        let now = self.start.elapsed();
        memory.expire(now);
        let result = operation(&mut memory, now);
        self.changed.send_if_modified(|revision| {
            std::mem::replace(revision, memory.revision) != memory.revision
        });
        result
    }

    /// A panic of another thread leaves a value that is as whole as before: each operation checks before it changes.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    type Watch = MemoryWatch;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        Ok(self.access(|memory, _| memory.config().cloned()))
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        self.access(|memory, _| memory.configure(config, replaces))
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        Ok(self.access(|memory, _| memory.standing(node)))
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        Ok(self.access(|memory, _| memory.tenants().collect()))
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(self.access(|memory, _| memory.snapshot()))
    }

    async fn watch(&self, after: Revision) -> Result<MemoryWatch, StoreError> {
        Ok(MemoryWatch {
            shared: self.shared.clone(),
            changed: self.shared.changed.subscribe(),
            after,
        })
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        self.access(|memory, now| memory.create(now, claim))
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        self.access(|memory, now| memory.update(now, lease, attributes, ttl))
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        self.access(|memory, now| memory.renew(now, lease))
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        self.access(|memory, _| memory.remove(lease))
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        self.access(|memory, now| memory.remaining(now, lease))
    }
}

/// What happens in a [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryWatch {
    shared: Arc<Shared>,
    changed: watch::Receiver<Revision>,
    after: Revision,
}

impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Update, StoreError> {
        loop {
            self.changed.mark_unchanged();
            let (update, expiry) =
                self.shared.access(|memory, _| (memory.since(self.after), memory.next_expiry()));
            if let Some(update) = update {
                if update.revision() < self.after {
                    return Err(StoreError::set_back(Some(self.after), update.revision()));
                }
                self.after = update.revision();
                return Ok(update);
            }
            let expired = async {
                match expiry.and_then(|expiry| self.shared.start.checked_add(expiry)) {
                    Some(expiry) => tokio::time::sleep_until(expiry).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.changed.changed() => {}
                () = expired => {}
            }
        }
    }
}
