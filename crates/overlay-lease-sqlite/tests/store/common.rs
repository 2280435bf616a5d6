//! What the tests have in common: a directory of their own, a network in a file, claims, a runtime.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use overlay_lease::{
    Attributes, Claim, Endpoints, NetworkConfig, NetworkName, NodeId, Revision, Store, Subnets,
};
use overlay_lease_sqlite::SqliteStore;

/// A directory that goes with the value.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sqlite-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("leases.db")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What is left of a failed test does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn network(name: &str) -> NetworkName {
    NetworkName::new(name).unwrap()
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn subnets(text: &str) -> Subnets {
    text.parse().unwrap()
}

/// 63 subnets for nodes that choose for themselves, fewer than there are of [`numbered`] ones.
pub(crate) fn config() -> NetworkConfig {
    NetworkConfig::from_json(
        r#"{"Network":"10.0.0.0/8","SubnetLen":14,"Backend":{"Type":"vxlan"}}"#,
    )
    .unwrap()
}

pub(crate) async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &network("red")).await.unwrap()
}

/// The network, configured, and under which revision.
pub(crate) async fn configured(path: &Path) -> (SqliteStore, Revision) {
    let store = open(path).await;
    let under = store.configure(&config(), None).await.unwrap().revision;
    (store, under)
}

pub(crate) fn claim(under: Revision, name: &str, wanted: &str, ttl: Option<Duration>) -> Claim {
    let attributes = Attributes::new(Endpoints::at(["192.0.2.1".parse().unwrap()]), "vxlan");
    Claim { subnets: subnets(wanted), node: Some(node(name)), attributes, ttl, under }
}

/// The subnet with that number, of 65,536.
pub(crate) fn numbered(number: u32) -> String {
    format!("10.{}.{}.0/24", number / 256, number % 256)
}

/// Trials of asynchronous functions.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || {
            $crate::common::block_on($name());
            Ok(())
        })),*]
    };
}

pub(crate) use trials;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}
