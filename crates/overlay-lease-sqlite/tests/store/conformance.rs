//! The promises of every store.

use libtest_mimic::{Failed, Trial};
use overlay_lease::NetworkName;
use overlay_lease::conformance::{BoxError, Testbed, promises};
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
    promises().into_iter().map(trial).collect()
}
