//! Writing down what happens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Call, History, Moment, Operation};
use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::store::{
    Claim, ConfigureError, CreateError, Standing, Store, StoreError, Tenant, WriteError,
};
use crate::watch::{Snapshot, Update, Watch};

/// What several clients of one network do, as it happens. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    start: Instant,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    operations: Vec<Operation>,
    events: u64,
    clients: usize,
    watches: usize,
    among_others: bool,
}

impl Log {
    /// Nothing happened yet in the network, which nobody has touched.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), shared: Arc::default() }
    }

    /// There are others who do something in the network, or did, and nothing of them comes here.
    #[must_use]
    pub fn among_others() -> Self {
        let log = Self::new();
        log.lock().among_others = true;
        log
    }

    /// What `store` is asked and answers is written down from now on, as that of another client.
    pub fn client<S: Store>(&self, store: S) -> Recorder<S> {
        let mut shared = self.lock();
        let client = shared.clients;
        shared.clients += 1;
        Recorder { store, log: self.clone(), client }
    }

    /// What happened up to now.
    #[must_use]
    pub fn history(&self) -> History {
        let shared = self.lock();
        History { operations: shared.operations.clone(), among_others: shared.among_others }
    }

    fn begin(&self, client: usize, call: Call) -> Entry {
        let mut shared = self.lock();
        let began = shared.moment(self.start);
        let index = shared.operations.len();
        let operation = Operation { client, began, ended: None, call, answer: Answer::None };
        shared.operations.push(operation);
        Entry { log: self.clone(), index, answer: Answer::None }
    }

    fn watch(&self) -> usize {
        let mut shared = self.lock();
        shared.watches += 1;
        shared.watches - 1
    }

    /// A panic of another thread leaves a log that is as whole as before.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn moment(&mut self, start: Instant) -> Moment {
        let order = self.events;
        self.events += 1;
        Moment { at: start.elapsed(), order }
    }
}

/// An operation that has begun. It ends when this is dropped.
struct Entry {
    log: Log,
    index: usize,
    answer: Answer,
}

impl Entry {
    fn end(mut self, answer: Answer) {
        self.answer = answer;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut shared = self.log.lock();
        let ended = shared.moment(self.log.start);
        if let Some(operation) = shared.operations.get_mut(self.index) {
            operation.ended = Some(ended);
            operation.answer = std::mem::replace(&mut self.answer, Answer::None);
        }
    }
}

/// A store, all of whose operations are written down in a [`Log`].
#[derive(Debug)]
pub struct Recorder<S> {
    store: S,
    log: Log,
    client: usize,
}

impl<S> Recorder<S> {
    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    fn begin(&self, call: Call) -> Entry {
        self.log.begin(self.client, call)
    }
}

fn failed(error: &StoreError) -> Answer {
    Answer::Failed(error.to_string())
}

fn answer<T>(result: &Result<T, StoreError>, answer: impl FnOnce(&T) -> Answer) -> Answer {
    match result {
        Ok(result) => answer(result),
        Err(error) => failed(error),
    }
}

fn written<T>(result: &Result<T, WriteError>, answer: impl FnOnce(&T) -> Answer) -> Answer {
    match result {
        Ok(result) => answer(result),
        Err(WriteError::Fenced(now)) => Answer::Fenced(now.clone()),
        Err(WriteError::Store(error)) => failed(error),
    }
}

impl<S: Store> Store for Recorder<S> {
    type Watch = RecordedWatch<S::Watch>;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        let entry = self.begin(Call::Config);
        let result = self.store.config().await;
        entry.end(answer(&result, |config| Answer::Config(config.clone())));
        result
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        let entry = self.begin(Call::Configure { config: config.clone(), replaces });
        let result = self.store.configure(config, replaces).await;
        entry.end(match &result {
            Ok(configured) => Answer::Configured(configured.clone()),
            Err(ConfigureError::Reconfigured(now)) => Answer::Reconfigured(now.clone()),
            Err(ConfigureError::Store(error)) => failed(error),
        });
        result
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        let entry = self.begin(Call::Standing(node.clone()));
        let result = self.store.standing(node).await;
        entry.end(answer(&result, |standing| Answer::Standing(standing.clone())));
        result
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let entry = self.begin(Call::Tenants);
        let result = self.store.tenants().await;
        entry.end(answer(&result, |tenants| Answer::Tenants(tenants.clone())));
        result
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let entry = self.begin(Call::Snapshot);
        let result = self.store.snapshot().await;
        entry.end(answer(&result, |snapshot| Answer::Snapshot(snapshot.clone())));
        result
    }

    async fn watch(&self, after: Revision) -> Result<Self::Watch, StoreError> {
        let number = self.log.watch();
        let entry = self.begin(Call::Watch { watch: number, after });
        let result = self.store.watch(after).await;
        entry.end(answer(&result, |_| Answer::Done));
        let (log, client) = (self.log.clone(), self.client);
        Ok(RecordedWatch { watch: result?, log, client, number })
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        let entry = self.begin(Call::Create(claim.clone()));
        let result = self.store.create(claim).await;
        entry.end(match &result {
            Ok(lease) => Answer::Lease(lease.clone()),
            Err(CreateError::Taken(lease)) => Answer::Taken(lease.clone()),
            Err(CreateError::Holds(lease)) => Answer::Holds(lease.clone()),
            Err(CreateError::Reconfigured(now)) => Answer::Reconfigured(now.clone()),
            Err(CreateError::Store(error)) => failed(error),
        });
        result
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        let entry = self.begin(Call::Update {
            lease: Arc::new(lease.clone()),
            attributes: attributes.clone(),
            ttl,
        });
        let result = self.store.update(lease, attributes, ttl).await;
        entry.end(written(&result, |lease| Answer::Lease(lease.clone())));
        result
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        let entry = self.begin(Call::Renew(Arc::new(lease.clone())));
        let result = self.store.renew(lease).await;
        entry.end(written(&result, |()| Answer::Done));
        result
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        let entry = self.begin(Call::Remove(Arc::new(lease.clone())));
        let result = self.store.remove(lease).await;
        entry.end(written(&result, |()| Answer::Done));
        result
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        let entry = self.begin(Call::Remaining(Arc::new(lease.clone())));
        let result = self.store.remaining(lease).await;
        entry.end(written(&result, |remaining| Answer::Remaining(*remaining)));
        result
    }
}

/// A watch, all of whose updates are written down in a [`Log`].
#[derive(Debug)]
pub struct RecordedWatch<W> {
    watch: W,
    log: Log,
    client: usize,
    number: usize,
}

impl<W: Watch> Watch for RecordedWatch<W> {
    async fn next(&mut self) -> Result<Update, StoreError> {
        let entry = self.log.begin(self.client, Call::Next { watch: self.number });
        let result = self.watch.next().await;
        entry.end(answer(&result, |update| Answer::Update(update.clone())));
        result
    }
}
