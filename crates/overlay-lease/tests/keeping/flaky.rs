//! A store in memory that can be made to fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use overlay_lease::{
    Attributes, BootInstant, Claim, ConfigureError, Configured, CreateError, Endpoints, Lease,
    MemoryStore, MemoryWatch, NetworkConfig, NodeId, Request, Revision, Snapshot, Standing, Store,
    StoreError, StoreErrorKind, Subnets, Tenant, Update, Watch, WriteError,
};
use tokio::time::Instant;

/// Clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct Flaky {
    pub(crate) store: MemoryStore,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    away: AtomicBool,
    loses: AtomicUsize,
    hangs: AtomicBool,
    slow: AtomicBool,
    refuses: AtomicBool,
    knows_all: AtomicBool,
    asked: Mutex<Vec<&'static str>>,
}

impl Flaky {
    /// With a network of this configuration.
    pub(crate) async fn with(config: &str) -> Self {
        let store = Self::default();
        store.configure(config).await;
        store
    }

    pub(crate) async fn configure(&self, config: &str) {
        let config = NetworkConfig::from_json(config).unwrap();
        let replaces = self.store.config().await.unwrap().map(|config| config.revision);
        self.store.configure(&config, replaces).await.unwrap();
    }

    /// Every operation fails without any effect.
    pub(crate) fn away(&self, away: bool) {
        self.faults.away.store(away, Ordering::SeqCst);
    }

    /// The next so many writes have their effect, and fail.
    pub(crate) fn loses_answers(&self, writes: usize) {
        self.faults.loses.store(writes, Ordering::SeqCst);
    }

    /// Operations are never answered, and have no effect.
    pub(crate) fn hangs(&self, hangs: bool) {
        self.faults.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Each operation takes three seconds.
    pub(crate) fn slow(&self, slow: bool) {
        self.faults.slow.store(slow, Ordering::SeqCst);
    }

    /// Nothing may be changed, only renewed.
    pub(crate) fn refuses_updates(&self, refuses: bool) {
        self.faults.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Subnets may not be guessed.
    pub(crate) fn forbids_guesses(&self) {
        self.faults.knows_all.store(true, Ordering::SeqCst);
    }

    /// What was asked since this was called last.
    pub(crate) fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.faults.asked.lock().unwrap())
    }

    pub(crate) fn leases(&self) -> Vec<Arc<Lease>> {
        self.store.access(|memory, _| memory.snapshot().leases)
    }

    pub(crate) fn lease_of(&self, node: &str) -> Option<Arc<Lease>> {
        self.leases().into_iter().find(|lease| lease.is_of(&id(node)))
    }

    pub(crate) fn revision(&self) -> Revision {
        self.store.access(|memory, _| memory.revision())
    }

    /// Somebody else makes a lease of these subnets.
    pub(crate) async fn give(&self, subnets: Subnets, node: &str) -> Arc<Lease> {
        let under = self.store.config().await.unwrap().unwrap().revision;
        let (node, ttl) = (Some(id(node)), Some(Duration::from_secs(3600)));
        let claim = Claim { subnets, node, attributes: attributes(99), ttl, under };
        self.store.create(&claim).await.unwrap()
    }

    async fn ask<T, E: From<StoreError>>(
        &self,
        name: &'static str,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.faults.asked.lock().unwrap().push(name);
        if self.faults.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.faults.slow.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let failed = |what| StoreError::new(StoreErrorKind::Unavailable, "flaky", name, what);
        if self.faults.away.load(Ordering::SeqCst) {
            return Err(failed("it is away").into());
        }
        if name == "update" && self.faults.refuses.load(Ordering::SeqCst) {
            let kind = StoreErrorKind::Denied;
            return Err(StoreError::new(kind, "flaky", name, "it is too long").into());
        }
        let outcome = operation.await;
        let is_write = matches!(name, "create" | "update" | "renew" | "remove");
        let fewer = |writes: usize| writes.checked_sub(1);
        if is_write
            && self.faults.loses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok()
        {
            return Err(failed("the answer is lost").into());
        }
        outcome
    }
}

impl Store for Flaky {
    type Watch = FlakyWatch;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        self.ask("config", self.store.config()).await
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        self.ask("configure", self.store.configure(config, replaces)).await
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        let standing = self.ask("standing", self.store.standing(node)).await?;
        let may_guess = !self.faults.knows_all.load(Ordering::SeqCst);
        Ok(Standing { may_guess, ..standing })
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.ask("tenants", self.store.tenants()).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.ask("snapshot", self.store.snapshot()).await
    }

    async fn watch(&self, after: Revision) -> Result<FlakyWatch, StoreError> {
        let watch = self.ask("watch", self.store.watch(after)).await?;
        Ok(FlakyWatch { store: self.clone(), watch })
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        self.ask("create", self.store.create(claim)).await
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        self.ask("update", self.store.update(lease, attributes, ttl)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        self.ask("renew", self.store.renew(lease)).await
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        self.ask("remove", self.store.remove(lease)).await
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        self.ask("remaining", self.store.remaining(lease)).await
    }
}

pub(crate) struct FlakyWatch {
    store: Flaky,
    watch: MemoryWatch,
}

impl Watch for FlakyWatch {
    async fn next(&mut self) -> Result<Update, StoreError> {
        loop {
            if self.store.faults.away.load(Ordering::SeqCst) {
                let what = "it is away";
                return Err(StoreError::new(StoreErrorKind::Unavailable, "flaky", "watch", what));
            }
            let soon = Duration::from_millis(100);
            if let Ok(update) = tokio::time::timeout(soon, self.watch.next()).await {
                return update;
            }
        }
    }
}

/// Tokio's clock, which the tests hold, as the time since the start of the machine.
pub(crate) fn now() -> BootInstant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // Each test has a clock of its own, and one may begin before that of the first.
    let later = Instant::now() + Duration::from_secs(3600);
    BootInstant::at(later - *ORIGIN.get_or_init(Instant::now))
}

pub(crate) fn id(node: &str) -> NodeId {
    node.parse().unwrap()
}

pub(crate) fn attributes(host: u8) -> Attributes {
    Attributes::new(Endpoints::at([[192, 0, 2, host].into()]), "vxlan")
}

pub(crate) fn request(node: &str) -> Request {
    Request::new(id(node), attributes(1), Duration::from_secs(30))
}

pub(crate) fn subnets(text: &str) -> Subnets {
    text.parse().unwrap()
}

/// 16 subnets, 15 of which are leased.
pub(crate) const SMALL: &str = r#"{"Network":"10.5.0.0/20","Backend":{"Type":"vxlan"}}"#;
