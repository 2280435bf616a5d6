//! The suite itself: a store that keeps its promises passes, and one that breaks a promise does not.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::flawed::{Flaw, FlawedTestbed};
use super::{BoxError, Testbed, promises};
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

/// The promises that a store with this flaw breaks.
async fn broken(flaw: Flaw) -> Vec<&'static str> {
    let mut broken = Vec::new();
    for promise in promises() {
        if let Err(found) = promise.check(&FlawedTestbed::new(flaw)).await {
            assert_eq!(found.promise(), promise.name());
            assert!(found.to_string().contains(promise.name()), "{found}");
            broken.push(promise.name());
        }
    }
    broken
}

#[tokio::test(start_paused = true)]
async fn without_a_flaw_nothing_is_broken() {
    assert!(broken(Flaw::None).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_flaw_is_found() {
    for (flaw, promises) in [
        (Flaw::AnyRevision, &["stale_writes_change_nothing", "late_writes_change_nothing"][..]),
        (Flaw::AnyNode, &["writes_of_others_change_nothing"]),
        (Flaw::OverlapInV6, &["leases_do_not_overlap", "of_crossing_claims_none_overlap"]),
        (Flaw::ManyLeases, &["a_node_has_at_most_one_lease"]),
        (Flaw::AnyConfiguration, &["a_claim_holds_under_its_configuration"]),
        (Flaw::AnyConfigure, &["configuring_is_fenced", "of_several_configurations_one_is_made"]),
        (Flaw::Early, &["a_lease_lives_for_its_term", "renewing_prolongs"]),
        (Flaw::Late, &["a_lease_is_gone_after_its_term", "a_lease_lives_for_its_term"]),
        (Flaw::ReservationsExpire, &["reservations_stay"]),
        (Flaw::RenewalWrites, &["renewing_wakes_nobody"]),
        (Flaw::UpdateAlwaysWrites, &["an_update_that_changes_nothing_wakes_nobody"]),
        (Flaw::UpdateDoesNotProlong, &["updating_prolongs"]),
        (Flaw::LosesOthers, &["attributes_come_back_exactly"]),
        (Flaw::LosesChanges, &["every_change_comes_once_and_in_order"]),
        (Flaw::LosesEnds, &["expiry_is_watched", "a_slow_reader_misses_nothing"]),
        (Flaw::DoublesChanges, &["every_change_comes_once_and_in_order"]),
        (Flaw::Shuffles, &["every_change_comes_once_and_in_order", "all_watches_bring_the_same"]),
        (Flaw::NotCancelSafe, &["a_dropped_wait_takes_nothing_away"]),
        (Flaw::HidesEnds, &["compaction_hides_nothing"]),
        (Flaw::HidesUpdates, &["compaction_hides_nothing"]),
        (Flaw::TornSnapshots, &["a_lease_is_as_claimed"]),
        (Flaw::StaleStanding, &["a_node_learns_what_it_has"]),
        (Flaw::WrongHolder, &["of_several_claimants_one_gets_the_subnets"]),
        (Flaw::RemainingStands, &["remaining_time_counts_down"]),
        (Flaw::OneNetwork, &["networks_do_not_see_each_other"]),
        (Flaw::WrongMemory, &["what_is_remembered_is_right"]),
    ] {
        let broken = broken(flaw).await;
        for promise in promises {
            assert!(broken.contains(promise), "{flaw:?}: {promise} not among {broken:?}");
        }
    }
}
