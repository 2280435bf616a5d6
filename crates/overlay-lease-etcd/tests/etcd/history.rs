//! Recorded histories while etcd dies, forgets, and is cut off, slowed down and not heard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_lease::history::{Rule, Workload, check};
use overlay_lease::{
    Attributes, Claim, ConfigureError, Configured, CreateError, Lease, NetworkConfig, NodeId,
    Revision, Snapshot, Standing, Store, StoreError, Tenant, WriteError,
};
use overlay_lease_etcd::{EtcdStore, EtcdWatch};

use crate::faults::{self, impatient};
use crate::proxy::{Proxy, Weather};
use crate::server::Etcd;

/// How long there is trouble in one history.
const TROUBLE: Duration = Duration::from_secs(8);

/// More than a few where somebody asks for it: `OVERLAY_SEEDS=100`.
fn seeds() -> std::ops::Range<u64> {
    1..1 + std::env::var("OVERLAY_SEEDS").map_or(3, |seeds| seeds.parse().unwrap())
}

fn workload(seed: u64) -> Workload {
    let mut workload = Workload::new(seed);
    workload.operations = 1_000;
    workload.duration = TROUBLE;
    workload.nodes = 8;
    workload.subnets = 6;
    workload.pause = Duration::from_millis(30);
    // Before the store itself gives up, now and then.
    workload.patience = Duration::from_millis(1_200);
    workload
}

/// An etcd, and ways to it that two clients each have.
struct Trouble {
    etcd: Etcd,
    ways: Vec<Proxy>,
    random: u64,
    suffered: Suffered,
}

/// How often what went wrong.
#[derive(Debug, Default)]
struct Suffered {
    kills: usize,
    compactions: usize,
    cuts: usize,
    silences: usize,
    delays: usize,
}

impl Trouble {
    async fn new(case: &str, seed: u64) -> Option<Self> {
        let etcd = faults::start(case)?;
        let mut ways = Vec::new();
        for _ in 0..3 {
            ways.push(Proxy::to(etcd.port()).await);
        }
        Some(Self { etcd, ways, random: seed, suffered: Suffered::default() })
    }

    fn clients(&self) -> Vec<EtcdStore> {
        let urls = self.ways.iter().map(Proxy::url).flat_map(|url| [url.clone(), url]);
        urls.map(|url| EtcdStore::new(&impatient(&url)).unwrap()).collect()
    }

    /// One thing after the other goes wrong for a while, and in the end nothing is wrong any more.
    async fn run(&mut self) {
        let start = Instant::now();
        while start.elapsed() < TROUBLE {
            self.begin();
            let duration = 100 + self.below(700);
            tokio::time::sleep(Duration::from_millis(duration)).await;
            self.ways.iter().for_each(|way| way.set(Weather::Fair(Duration::ZERO)));
        }
    }

    fn begin(&mut self) {
        let (what, way) = (self.below(9), self.below(self.ways.len() as u64));
        let way = &self.ways[usize::try_from(way).unwrap()];
        match what {
            0 => {
                tokio::task::block_in_place(|| {
                    self.etcd.kill();
                    self.etcd.restart();
                });
                self.suffered.kills += 1;
            }
            1 => {
                tokio::task::block_in_place(|| self.compact());
                self.suffered.compactions += 1;
            }
            2 | 3 => {
                way.set(Weather::Closed);
                self.suffered.cuts += 1;
            }
            4 | 5 => {
                way.set(Weather::Hole);
                self.suffered.silences += 1;
            }
            6 | 7 => {
                // What is asked is done, and nobody hears of it.
                way.set(Weather::Deaf(2));
                self.suffered.silences += 1;
            }
            _ => {
                way.set(Weather::Fair(Duration::from_millis(80)));
                self.suffered.delays += 1;
            }
        }
    }

    /// Forgets everything up to now, and what was current before.
    fn compact(&self) {
        let written = self.etcd.ctl(&["put", "-w", "fields", "/elsewhere", "x"]);
        let revision = written.lines().find_map(|line| line.strip_prefix("\"Revision\" : "));
        self.etcd.ctl(&["compact", revision.unwrap()]);
    }

    /// SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_under_faults_pass() {
    for seed in seeds() {
        let Some(mut trouble) = Trouble::new("histories under faults", seed).await else { return };
        let clients = trouble.clients();
        let workload = workload(seed);
        let (history, ()) = tokio::join!(workload.run(clients), trouble.run());
        let suffered = trouble.suffered;
        let summary = match check(&history) {
            Ok(summary) => summary,
            Err(violation) => panic!("seed {seed}: {violation}\n\n{history}"),
        };
        eprintln!("seed {seed}: {suffered:?}, {summary:?}");
        assert!(suffered.kills + suffered.cuts + suffered.silences > 3, "{suffered:?}");
        assert!(summary.uncertain > 20, "{summary:?}");
        assert!(summary.leases > 10 && summary.gone > 10 && summary.watched > 100, "{summary:?}");
    }
}

/// A store that does not want to know what it does not know.
struct Liar {
    store: EtcdStore,
    lie: Lie,
}

#[derive(Clone, Copy, Debug)]
enum Lie {
    /// What failed is said to have been done.
    Done,
    /// What failed is said to have been refused, since the lease is gone.
    Refused,
}

impl Liar {
    fn lied(&self, result: Result<(), WriteError>) -> Result<(), WriteError> {
        match (result, self.lie) {
            (Err(WriteError::Store(_)), Lie::Done) => Ok(()),
            (Err(WriteError::Store(_)), Lie::Refused) => Err(WriteError::Fenced(None)),
            (result, _) => result,
        }
    }
}

impl Store for Liar {
    type Watch = EtcdWatch;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        self.store.config().await
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        self.store.configure(config, replaces).await
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        self.store.standing(node).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.store.tenants().await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.store.snapshot().await
    }

    async fn watch(&self, after: Revision) -> Result<EtcdWatch, StoreError> {
        self.store.watch(after).await
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        self.store.create(claim).await
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        self.store.update(lease, attributes, ttl).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        self.lied(self.store.renew(lease).await)
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        self.lied(self.store.remove(lease).await)
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        self.store.remaining(lease).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_a_store_that_guesses_what_it_does_not_know_are_refused() {
    for lie in [Lie::Done, Lie::Refused] {
        let Some(mut trouble) = Trouble::new("histories of a liar", 1).await else { return };
        let clients = trouble.clients().into_iter().map(|store| Liar { store, lie }).collect();
        let workload = workload(1);
        let (history, ()) = tokio::join!(workload.run(clients), trouble.run());
        let violation = match check(&history) {
            Ok(summary) => panic!("{lie:?} passes: {summary:?}"),
            Err(violation) => violation,
        };
        eprintln!("{lie:?}: {violation}");
        assert!(matches!(violation.rule(), Rule::Fence | Rule::Stale | Rule::Early), "{violation}");
    }
}
