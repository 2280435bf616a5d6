//! A store that keeps its promises, and yet makes it hard to know what happened.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::history::random::Random;
use crate::lease::{Lease, Revision};
use crate::memory::{MemoryStore, MemoryWatch};
use crate::name::NodeId;
use crate::store::{
    Claim, ConfigureError, CreateError, Standing, Store, StoreError, StoreErrorKind, Tenant,
    WriteError,
};
use crate::watch::{Snapshot, Update, Watch};

#[derive(Clone)]
pub(super) struct ShakyStore {
    store: MemoryStore,
    random: Arc<Mutex<Random>>,
}

impl ShakyStore {
    pub(super) fn new(seed: u64) -> Self {
        Self { store: MemoryStore::new(), random: Arc::new(Mutex::new(Random::new(seed))) }
    }

    /// Takes its time, now and then longer than anybody waits, and now and then in vain.
    async fn shake(&self) -> Result<(), StoreError> {
        let (wait, fails) = {
            let mut random = self.random.lock().unwrap();
            (if random.one_in(20) { 100 } else { random.below(4) }, random.one_in(20))
        };
        sleep(Duration::from_millis(wait)).await;
        if fails {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "shaky:", "answer", "shaken"));
        }
        Ok(())
    }

    async fn shaken<T, E: From<StoreError>>(
        &self,
        operation: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        self.shake().await?;
        let result = operation.await;
        self.shake().await?;
        result
    }
}

impl Store for ShakyStore {
    type Watch = ShakyWatch;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        self.shaken(self.store.config()).await
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        self.shaken(self.store.configure(config, replaces)).await
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        self.shaken(self.store.standing(node)).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.shaken(self.store.tenants()).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.shaken(self.store.snapshot()).await
    }

    async fn watch(&self, after: Revision) -> Result<ShakyWatch, StoreError> {
        let watch = self.shaken(self.store.watch(after)).await?;
        Ok(ShakyWatch { store: self.clone(), watch })
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        self.shaken(self.store.create(claim)).await
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        self.shaken(self.store.update(lease, attributes, ttl)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        self.shaken(self.store.renew(lease)).await
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        self.shaken(self.store.remove(lease)).await
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        self.shaken(self.store.remaining(lease)).await
    }
}

pub(super) struct ShakyWatch {
    store: ShakyStore,
    watch: MemoryWatch,
}

impl Watch for ShakyWatch {
    async fn next(&mut self) -> Result<Update, StoreError> {
        self.store.shake().await?;
        if self.store.random.lock().unwrap().one_in(50) {
            self.store.store.access(|memory, _| memory.compact());
        }
        self.watch.next().await
    }
}
