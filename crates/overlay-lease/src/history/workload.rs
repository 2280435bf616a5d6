//! Many clients that do anything.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::History;
use super::random::Random;
use super::record::{Log, Recorder};
use crate::attributes::Attributes;
use crate::config::Configured;
use crate::conformance::sample;
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::store::{Claim, CreateError, Store, WriteError};
use crate::watch::{Update, Watch};

/// Clients that do anything at all with a network, at random and at once, and whether it is right or not: they claim what
/// others have, write what they know is stale, forge, renew, let expire, reserve, drop operations in the middle, and
/// watch all the while.
///
/// The network must be untouched. A store that fails is asked again, so that it may be killed, cut off and started again
/// meanwhile; once it is back for good, the workload ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Workload {
    /// Decides what each client chooses to do. Who comes first is not decided by it.
    pub seed: u64,
    /// How many operations each client does.
    pub operations: usize,
    /// After which time clients begin no other operation.
    pub duration: Duration,
    /// For how many nodes.
    pub nodes: usize,
    /// How many subnets they share. They differ in length and family, so that most overlap some others.
    pub subnets: u8,
    /// The time to live of leases.
    pub ttl: Duration,
    /// How long a client pauses after an operation at most.
    pub pause: Duration,
    /// After which time a client no longer waits for an answer.
    pub patience: Duration,
    /// How long the store may take in the end until it answers again and all watches have caught up.
    pub recovery: Duration,
}

impl Workload {
    /// 300 operations of each client within 30 seconds, for 12 nodes that share 10 subnets.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            operations: 300,
            duration: Duration::from_secs(30),
            nodes: 12,
            subnets: 10,
            ttl: Duration::from_secs(2),
            pause: Duration::from_millis(40),
            patience: Duration::from_secs(5),
            recovery: Duration::from_secs(60),
        }
    }

    /// Lets these clients of one network work, each with a watch of its own, and tells what happened.
    pub async fn run<S: Store + 'static>(&self, clients: Vec<S>) -> History {
        let log = Log::new();
        let mut random = Random::new(self.seed);
        let (end, ended) = watch::channel(None);
        let (mut workers, mut watchers) = (JoinSet::new(), JoinSet::new());
        let clients: Vec<_> =
            clients.into_iter().map(|client| Arc::new(log.client(client))).collect();
        for (number, store) in clients.iter().enumerate() {
            watchers.spawn(follow(store.clone(), random.fork(), ended.clone()));
            let worker = Worker {
                workload: self.clone(),
                number,
                store: store.clone(),
                random: random.fork(),
                config: None,
                leases: Vec::new(),
                written: 0,
            };
            workers.spawn(worker.run());
        }
        drop(ended);
        while workers.join_next().await.is_some() {}
        if let Some(client) = clients.first() {
            let last = timeout(self.recovery, settle(client)).await;
            // Those who watch have to see the last write, and no more.
            end.send_replace(last.ok().flatten());
        }
        let watched = async { while watchers.join_next().await.is_some() {} };
        if timeout(self.recovery, watched).await.is_err() {
            watchers.shutdown().await;
        }
        if let Some(client) = clients.first() {
            let _recorded = timeout(self.patience, client.snapshot()).await;
        }
        log.history()
    }

    fn some_subnets(&self, random: &mut Random) -> Subnets {
        let mut number = || u8::try_from(random.below(self.subnets.into())).unwrap_or_default();
        let (one, other) = (number(), number());
        match random.below(8) {
            0 => sample::v4(one).into(),
            1 => sample::v6(one).into(),
            2 => (sample::v4(one), sample::v6(other)).into(),
            _ => sample::dual(one),
        }
    }
}

/// Writes something that all who watch can wait for.
async fn settle<S: Store>(store: &Recorder<S>) -> Option<Revision> {
    const AGAIN: Duration = Duration::from_millis(200);
    loop {
        let replaces = match store.config().await {
            Ok(config) => config.map(|config| config.revision),
            Err(_) => {
                sleep(AGAIN).await;
                continue;
            }
        };
        if let Ok(configured) = store.configure(&sample::config(), replaces).await {
            return Some(configured.revision);
        }
        sleep(AGAIN).await;
    }
}

/// Watches until the revision that ends it, with another watch now and then, from where the last one was.
async fn follow<S: Store>(
    store: Arc<Recorder<S>>,
    mut random: Random,
    mut end: watch::Receiver<Option<Revision>>,
) {
    const AGAIN: Duration = Duration::from_millis(50);
    let mut revision = Revision::ZERO;
    loop {
        let Ok(mut watch) = store.watch(revision).await else {
            sleep(AGAIN).await;
            continue;
        };
        loop {
            if end.borrow().is_some_and(|end| revision >= end) {
                return;
            }
            tokio::select! {
                update = watch.next() => match update {
                    Ok(update) => revision = Update::revision(&update),
                    Err(_) => sleep(AGAIN).await,
                },
                changed = end.changed() => if changed.is_err() && end.borrow().is_none() {
                    return;
                },
            }
            if random.one_in(50) {
                break;
            }
        }
    }
}

struct Worker<S> {
    workload: Workload,
    number: usize,
    store: Arc<Recorder<S>>,
    random: Random,
    config: Option<Configured>,
    /// Some of those that were seen, as they were seen.
    leases: Vec<Arc<Lease>>,
    /// By which what was written can be told apart.
    written: u64,
}

impl<S: Store> Worker<S> {
    async fn run(mut self) {
        /// After so many operations everybody rests, so that leases expire.
        const BUSY: usize = 100;
        let start = Instant::now();
        for number in 1..=self.workload.operations {
            if number % BUSY == 0 {
                sleep(self.workload.ttl * 2).await;
            }
            if start.elapsed() >= self.workload.duration {
                break;
            }
            let patience = match self.random.below(40) {
                0 => Duration::from_micros(self.random.below(2_000)),
                _ => self.workload.patience,
            };
            let answered = timeout(patience, self.operation()).await.unwrap_or(false);
            let pause = u64::try_from(self.workload.pause.as_micros()).unwrap_or(u64::MAX);
            sleep(Duration::from_micros(self.random.below(pause))).await;
            if !answered && patience == self.workload.patience {
                sleep(self.workload.pause).await;
            }
        }
    }

    /// Does something. Returns whether the store answered.
    async fn operation(&mut self) -> bool {
        let Some(config) = &self.config else { return self.configure(None).await };
        let under = config.revision;
        match self.random.below(100) {
            0..30 => self.create(under).await,
            30..45 => self.update().await,
            45..65 => self.renew().await,
            65..75 => self.remove().await,
            75..80 => self.remaining().await,
            80..88 => self.standing().await,
            88..93 => self.snapshot().await,
            93..95 => self.store.tenants().await.is_ok(),
            95..98 => match self.store.config().await {
                Ok(config) => {
                    self.config = config;
                    true
                }
                Err(_) => false,
            },
            _ => self.configure(Some(under)).await,
        }
    }

    async fn configure(&mut self, replaces: Option<Revision>) -> bool {
        use crate::store::ConfigureError::{Reconfigured, Store};
        match self.store.configure(&sample::config(), replaces).await {
            Ok(config) => self.config = Some(config),
            Err(Reconfigured(config)) => self.config = config,
            Err(Store(_)) => return false,
        }
        true
    }

    async fn create(&mut self, under: Revision) -> bool {
        let claim = Claim {
            subnets: self.workload.some_subnets(&mut self.random),
            node: if self.random.one_in(40) { None } else { Some(self.node()) },
            attributes: self.attributes(),
            ttl: self.ttl(),
            under,
        };
        match self.store.create(&claim).await {
            Ok(lease) | Err(CreateError::Taken(lease) | CreateError::Holds(lease)) => {
                self.saw(lease);
            }
            Err(CreateError::Reconfigured(config)) => self.config = config,
            Err(CreateError::Store(_)) => return false,
        }
        true
    }

    async fn update(&mut self) -> bool {
        let Some(lease) = self.lease() else { return true };
        let (attributes, ttl) = if self.random.one_in(4) {
            (lease.attributes.clone(), lease.ttl)
        } else {
            (self.attributes(), self.ttl())
        };
        match self.store.update(&lease, &attributes, ttl).await {
            Ok(lease) => {
                self.saw(lease);
                true
            }
            Err(error) => self.refused(error),
        }
    }

    async fn renew(&mut self) -> bool {
        let Some(lease) = self.lease() else { return true };
        self.store.renew(&lease).await.map_or_else(|error| self.refused(error), |()| true)
    }

    async fn remove(&mut self) -> bool {
        let Some(lease) = self.lease() else { return true };
        self.store.remove(&lease).await.map_or_else(|error| self.refused(error), |()| true)
    }

    async fn remaining(&mut self) -> bool {
        let Some(lease) = self.lease() else { return true };
        self.store.remaining(&lease).await.map_or_else(|error| self.refused(error), |_| true)
    }

    async fn standing(&mut self) -> bool {
        let node = self.node();
        let Ok(standing) = self.store.standing(&node).await else { return false };
        self.config = standing.config;
        standing.lease.into_iter().for_each(|lease| self.saw(lease));
        true
    }

    async fn snapshot(&mut self) -> bool {
        let Ok(snapshot) = self.store.snapshot().await else { return false };
        self.config = snapshot.config;
        for lease in snapshot.leases {
            if self.random.one_in(2) {
                self.saw(lease);
            }
        }
        true
    }

    fn refused(&mut self, error: WriteError) -> bool {
        match error {
            WriteError::Fenced(now) => {
                now.into_iter().for_each(|lease| self.saw(lease));
                true
            }
            WriteError::Store(_) => false,
        }
    }

    fn saw(&mut self, lease: Arc<Lease>) {
        const MEMORY: usize = 6;
        let stale = self.random.one_in(3);
        self.leases.retain(|known| stale || known.subnets != lease.subnets);
        self.leases.push(lease);
        if self.leases.len() > MEMORY {
            self.leases.remove(0);
        }
    }

    /// A lease that was seen at some time, or one that nobody ever saw like this.
    fn lease(&mut self) -> Option<Arc<Lease>> {
        let lease = self.random.of(&self.leases)?.clone();
        if !self.random.one_in(20) {
            return Some(lease);
        }
        let mut forged = Lease::clone(&lease);
        match self.random.below(3) {
            0 => forged.node = None,
            1 => forged.revision = forged.revision.next(),
            _ => forged.node = Some(self.node()),
        }
        Some(Arc::new(forged))
    }

    fn node(&mut self) -> NodeId {
        let nodes = u64::try_from(self.workload.nodes).unwrap_or(u64::MAX);
        sample::node(usize::try_from(self.random.below(nodes)).unwrap_or_default())
    }

    fn ttl(&mut self) -> Option<Duration> {
        match self.random.below(12) {
            0 => None,
            1 => Some(self.workload.ttl * 2),
            _ => Some(self.workload.ttl),
        }
    }

    fn attributes(&mut self) -> Attributes {
        self.written += 1;
        let mut attributes = sample::attributes(self.number);
        attributes.others.insert("Writer".into(), json!([self.number, self.written]));
        attributes
    }
}
