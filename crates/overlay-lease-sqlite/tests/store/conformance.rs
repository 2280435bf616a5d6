//! The promises of every store.

use libtest_mimic::{Failed, Trial};
use overlay_lease::NetworkName;
use overlay_lease::conformance::{BoxError, Testbed, promises};
use overlay_lease::history::{Workload, check};
use overlay_lease_sqlite::SqliteStore;

use crate::common::{Dir, block_on};

struct InFile(Dir);

impl Testbed for InFile {
    type Store = SqliteStore;

    async fn client(&self, network: &NetworkName) -> Result<SqliteStore, BoxError> {
        Ok(SqliteStore::open(self.0.file(), network).await?)
    }

    async fn compact(&self, network: &NetworkName) -> Result<(), BoxError> {
        let file = rusqlite::Connection::open(self.0.file())?;
        let forget =
            "DELETE FROM changes WHERE network = (SELECT id FROM networks WHERE name = ?1)";
        file.execute(forget, [network.as_str()])?;
        Ok(())
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |promise: overlay_lease::conformance::Promise<InFile>| {
        Trial::test(promise.name(), move || {
            let kept = block_on(async { promise.check(&InFile(Dir::new())).await });
            kept.map_err(|broken| Failed::from(broken.to_string()))
        })
    };
    let history = Trial::test("what many do at once can be explained", || {
        let checked = block_on(check_history());
        checked.map_err(|error| Failed::from(error.to_string()))
    });
    promises().into_iter().map(trial).chain([history]).collect()
}

/// Each client has opened the file for itself, as processes do.
async fn check_history() -> Result<(), BoxError> {
    for seed in 0..3 {
        let (dir, network) = (Dir::new(), NetworkName::new("red")?);
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(SqliteStore::open(dir.file(), &network).await?);
        }
        let history = Workload::new(seed).run(clients).await;
        let summary = check(&history)?;
        assert!(summary.leases > 50 && summary.gone > 20, "seed {seed}: {summary:?}");
        println!("seed {seed}: {summary:?}");
    }
    Ok(())
}
