//! The promises of a store, each on an etcd of its own.

use overlay_lease::conformance::{BoxError, Testbed};
use overlay_lease::{NetworkName, Store};
use overlay_lease_etcd::EtcdStore;

use crate::server::Etcd;

impl Testbed for Etcd {
    type Store = EtcdStore;

    async fn client(&self, network: &NetworkName) -> Result<EtcdStore, BoxError> {
        Ok(EtcdStore::new(&self.options())?.named(network)?)
    }

    async fn compact(&self, network: &NetworkName) -> Result<(), BoxError> {
        // etcd refuses to compact twice at the same revision.
        self.ctl(&["put", "/elsewhere", "x"]);
        let revision = self.client(network).await?.snapshot().await?.revision;
        self.ctl(&["compact", &revision.to_string()]);
        Ok(())
    }
}

overlay_lease::conformance_tests! {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    on match Etcd::start("the promises of a store") {
        Some(etcd) => etcd,
        None => return Ok(()),
    }
}
