//! The suite itself: a store that keeps its promises passes, and one that breaks a promise does not.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{BoxError, Testbed};
use crate::memory::MemoryStore;
use crate::name::NetworkName;

#[derive(Default)]
struct InMemory(Mutex<BTreeMap<NetworkName, MemoryStore>>);

impl Testbed for InMemory {
    type Store = MemoryStore;

    async fn client(&self, network: &NetworkName) -> Result<MemoryStore, BoxError> {
        Ok(self.0.lock().unwrap().entry(network.clone()).or_default().clone())
    }

    async fn compact(&self, network: &NetworkName) -> Result<(), BoxError> {
        self.client(network).await?.access(|memory, _| memory.compact());
        Ok(())
    }
}

mod memory {
    use super::InMemory;

    crate::conformance_tests! {
        #[tokio::test(start_paused = true)]
        on InMemory::default()
    }
}
