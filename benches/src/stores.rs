//! Stores of leases, and what they are filled with.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use overlay_lab::Etcd;
use overlay_lease::{
    AnyStore, Attributes, Claim, Endpoints, Lease, MemoryStore, NetworkConfig, NetworkName, NodeId,
    Request, Store, Subnets,
};
use overlay_lease_etcd::{EtcdOptions, EtcdStore};
use overlay_lease_sqlite::SqliteStore;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::Place;

/// An etcd and a directory for files, both empty at the beginning of each turn, and a runtime to ask them with.
pub struct Stores {
    /// What runs the clients, on two threads.
    pub runtime: Runtime,
    etcd: Etcd,
    dir: PathBuf,
    files: u32,
}

/// A kind of store.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// In memory.
    Memory,
    /// In a file, on whatever the directory for temporary files is on.
    Sqlite,
    /// In etcd, one member on loopback.
    Etcd,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Sqlite, Self::Etcd];

    /// What it is called in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Etcd => "etcd",
        }
    }
}

impl Stores {
    /// Starts an etcd.
    ///
    /// # Errors
    /// When there is none.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("overlay-benches-{}-{count}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let etcd = Etcd::start().context("these benchmarks need etcd and etcdctl")?;
        Ok(Self { runtime, etcd, dir, files: 0 })
    }

    /// Where etcd answers.
    #[must_use]
    pub fn etcd_url(&self) -> String {
        self.etcd.url()
    }

    /// An empty store, with a network configured that has 65,535 subnets.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn open(&mut self, kind: Kind) -> Result<AnyStore> {
        self.files += 1;
        let name = NetworkName::new(format!("n{}", self.files))?;
        let file = self.dir.join(name.as_str());
        let url = self.etcd.url();
        self.runtime.block_on(async {
            let store = match kind {
                Kind::Memory => AnyStore::new(MemoryStore::new()),
                Kind::Sqlite => AnyStore::new(SqliteStore::open(file, &name).await?),
                Kind::Etcd => {
                    AnyStore::new(EtcdStore::new(&EtcdOptions::parse(&url)?)?.named(&name)?)
                }
            };
            store.configure(&config()?, None).await?;
            Ok(store)
        })
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Place for Stores {
    const TURNS: usize = 1;
    const EACH: bool = false;

    fn clean(&mut self) -> Result<()> {
        self.etcd = Etcd::start()?;
        Ok(())
    }
}

/// A network of 65,535 subnets.
///
/// # Errors
/// Never.
pub fn config() -> Result<NetworkConfig> {
    Ok(NetworkConfig::from_json(
        r#"{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#,
    )?)
}

/// What node `number` tells its peers.
#[must_use]
pub fn attributes(number: u32) -> Attributes {
    let [_, a, b, c] = number.to_be_bytes();
    let mut attributes = Attributes::new(Endpoints::at([[172, 16 + a % 16, b, c].into()]), "vxlan");
    attributes.data.v4 =
        Some(json!({"VNI": 1, "VtepMAC": format!("0a:58:ac:{a:02x}:{b:02x}:{c:02x}")}));
    attributes
}

/// What node `number` asks for.
///
/// # Errors
/// Never.
pub fn request(number: u32) -> Result<Request> {
    Ok(Request::new(NodeId::new(format!("node-{number}"))?, attributes(number), DAY))
}

/// Makes `count` leases, and returns them.
///
/// # Errors
/// When the store does not answer.
pub async fn fill(store: &AnyStore, count: u32) -> Result<Vec<Arc<Lease>>> {
    let configured = store.config().await?.context("the network is configured")?;
    let pool = configured.config.pools().v4.context("the network has IPv4")?;
    let claim = |number: u32| {
        Ok::<_, anyhow::Error>(Claim {
            subnets: Subnets::from(pool.nth(number.into()).context("there are that many")?),
            node: Some(NodeId::new(format!("node-{number}"))?),
            attributes: attributes(number),
            ttl: Some(DAY),
            under: configured.revision,
        })
    };
    let claims = (0..count).map(claim).collect::<Result<Vec<_>>>()?;
    let made = stream::iter(&claims).map(|claim| store.create(claim)).buffer_unordered(64);
    Ok(made.try_collect().await?)
}

/// Whether these are `count` leases of different subnets.
///
/// # Errors
/// When they are not.
pub fn ensure_distinct<'a>(
    leases: impl IntoIterator<Item = &'a Arc<Lease>>,
    count: u32,
) -> Result<()> {
    let distinct: BTreeSet<_> = leases.into_iter().map(|lease| lease.subnets).collect();
    ensure!(distinct.len() == count as usize, "{} leases of {count}", distinct.len());
    Ok(())
}

/// How long the leases live.
pub const DAY: Duration = Duration::from_secs(86_400);
