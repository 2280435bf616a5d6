//! Getting a lease, giving it back, and reserving subnets.

use std::error::Error;
use std::time::Duration;

use crate::flaky::{Flaky, SMALL, attributes, id, request, subnets};
use overlay_lease::{
    AcquireError, Attributes, ReserveError, Store, WriteError, acquire, release, reserve,
};

#[tokio::test(start_paused = true)]
async fn a_node_gets_a_lease_with_two_questions_and_the_same_one_again() {
    let store = Flaky::with(SMALL).await;
    let lease = acquire(&store, &request("a")).await.unwrap();
    assert_eq!(store.asked(), ["standing", "create"]);
    assert_eq!((&lease.attributes, lease.ttl), (&attributes(1), Some(Duration::from_secs(30))));
    let revision = store.revision();
    assert_eq!(acquire(&store, &request("a")).await.unwrap(), lease);
    assert_eq!(store.asked(), ["standing", "renew"]);
    assert_eq!(store.revision(), revision, "nobody is woken");

    let mut elsewhere = request("a");
    elsewhere.attributes = attributes(2);
    let moved = acquire(&store, &elsewhere).await.unwrap();
    assert_eq!((moved.subnets, moved.created), (lease.subnets, lease.created));
    assert_eq!(moved.attributes, attributes(2));
    assert_eq!(store.leases().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_nearly_full_network_takes_one_list_and_a_full_one_is_an_error() {
    let store = Flaky::with(SMALL).await;
    for node in 1..=15 {
        store.asked();
        acquire(&store, &request(&format!("node-{node}"))).await.unwrap();
        let asked = store.asked();
        assert!(asked.iter().filter(|asked| **asked == "snapshot").count() <= 1, "{asked:?}");
        assert!(asked.len() <= 8, "{asked:?}");
    }
    let error = acquire(&store, &request("late")).await.unwrap_err();
    assert!(matches!(error, AcquireError::Exhausted { .. }), "{error:?}");
    assert!(error.to_string().contains("late"), "{error}");
    assert!(error.source().unwrap().to_string().contains("15"), "{:?}", error.source());
}

#[tokio::test(start_paused = true)]
async fn where_guessing_is_wrong_everything_is_read_first() {
    let store = Flaky::with(SMALL).await;
    store.forbids_guesses();
    let first = acquire(&store, &request("a")).await.unwrap();
    assert_eq!(store.asked(), ["standing", "snapshot", "tenants", "create"]);
    release(&store, &first).await.unwrap();
    store.give(first.subnets, "b").await;
    let second = acquire(&store, &request("a")).await.unwrap();
    assert!(!second.subnets.overlap(&first.subnets));
    let asked = store.asked();
    assert_eq!(asked.iter().filter(|asked| **asked == "create").count(), 1, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_no_lost_lease() {
    let store = Flaky::with(SMALL).await;
    store.loses_answers(1);
    let lease = acquire(&store, &request("a")).await.unwrap();
    assert_eq!(store.asked(), ["standing", "create", "standing", "renew"]);
    assert_eq!(store.leases(), [lease]);

    store.loses_answers(usize::MAX);
    let error = acquire(&store, &request("b")).await.unwrap_err();
    assert!(matches!(&error, AcquireError::Store { node, .. } if *node == id("b")), "{error:?}");
    assert!(store.lease_of("b").is_some(), "and yet");
}

#[tokio::test(start_paused = true)]
async fn no_time_to_live_is_a_second() {
    let store = Flaky::with(SMALL).await;
    let mut request = request("a");
    for (asked, given) in [(Duration::ZERO, 1), (Duration::from_millis(1500), 2)] {
        request.ttl = asked;
        let lease = acquire(&store, &request).await.unwrap();
        assert_eq!(lease.ttl, Some(Duration::from_secs(given)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_nothing_is_an_error_in_the_end() {
    let store = Flaky::with(SMALL).await;
    store.hangs(true);
    let start = tokio::time::Instant::now();
    let error = acquire(&store, &request("a")).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("no answer within 10s"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_network_there_is_no_lease() {
    let store = Flaky::default();
    let error = acquire(&store, &request("a")).await.unwrap_err();
    assert!(matches!(error, AcquireError::NotConfigured { .. }), "{error:?}");
    let error = reserve(&store, subnets("10.5.1.0/24"), None).await.unwrap_err();
    assert!(matches!(error, ReserveError::NotConfigured { .. }), "{error:?}");
    assert_eq!(store.asked(), ["standing", "snapshot"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_node_had_comes_first() {
    let store = Flaky::with(SMALL).await;
    let lease = acquire(&store, &request("a")).await.unwrap();
    release(&store, &lease).await.unwrap();
    assert!(store.leases().is_empty());
    let again = acquire(&store, &request("a")).await.unwrap();
    assert_eq!(again.subnets, lease.subnets);
    assert!(again.created > lease.created);

    let mut knows = request("b");
    knows.last = Some(subnets("10.5.9.0/24"));
    assert_eq!(acquire(&store, &knows).await.unwrap().subnets, subnets("10.5.9.0/24"));
    let mut wrong = request("c");
    wrong.last = Some(subnets("10.6.9.0/24"));
    assert_ne!(acquire(&store, &wrong).await.unwrap().subnets, subnets("10.6.9.0/24"));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_taken_up_and_stays_one() {
    let store = Flaky::with(SMALL).await;
    let reserved = reserve(&store, subnets("10.5.7.0/24"), Some(id("a"))).await.unwrap();
    assert!(reserved.is_reservation() && !reserved.is_in_use());
    let lease = acquire(&store, &request("a")).await.unwrap();
    assert_eq!(lease.subnets, reserved.subnets);
    assert!(lease.is_reservation() && lease.is_in_use());
    tokio::time::sleep(Duration::from_secs(1000)).await;
    release(&store, &lease).await.unwrap();
    let left = store.lease_of("a").unwrap();
    assert!(left.is_reservation() && !left.is_in_use());
    // Who knows only what was before changes nothing.
    let error = release(&store, &lease).await.unwrap_err();
    assert!(matches!(error, WriteError::Fenced(Some(_))), "{error:?}");
    store.remove(&left).await.unwrap();
    release(&store, &left).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_leased_is_reserved_for_its_node_only() {
    let store = Flaky::with(SMALL).await;
    let lease = acquire(&store, &request("a")).await.unwrap();
    for node in [None, Some(id("b"))] {
        let error = reserve(&store, lease.subnets, node).await.unwrap_err();
        assert!(matches!(&error, ReserveError::Leased { by, .. } if *by == lease), "{error:?}");
    }
    let other = ["10.5.3.0/24", "10.5.4.0/24"].map(subnets);
    let other = other.into_iter().find(|other| *other != lease.subnets).unwrap();
    let error = reserve(&store, other, Some(id("a"))).await.unwrap_err();
    assert!(matches!(&error, ReserveError::Leased { by, .. } if *by == lease), "{error:?}");
    for wrong in ["10.5.3.0/25", "10.6.3.0/24", "fd00::/64"] {
        let error = reserve(&store, subnets(wrong), None).await.unwrap_err();
        assert!(matches!(error, ReserveError::NotInPool { .. }), "{error:?}");
    }
    let kept = reserve(&store, lease.subnets, Some(id("a"))).await.unwrap();
    assert!(kept.is_reservation());
    assert_eq!((kept.created, &kept.attributes), (lease.created, &attributes(1)));
    assert_eq!(reserve(&store, lease.subnets, Some(id("a"))).await.unwrap(), kept);
    let nobodys = reserve(&store, other, None).await.unwrap();
    assert_eq!((nobodys.node.as_ref(), &nobodys.attributes), (None, &Attributes::default()));
}

#[tokio::test(start_paused = true)]
async fn what_no_longer_fits_is_replaced() {
    let store = Flaky::with(SMALL).await;
    let lease = acquire(&store, &request("a")).await.unwrap();
    let kept = reserve(&store, subnets("10.5.14.0/24"), Some(id("b"))).await.unwrap();
    let elsewhere = SMALL.replace("10.5", "10.6");
    store.configure(&elsewhere).await;
    store.asked();
    for (node, before) in [("a", lease), ("b", kept)] {
        let now = acquire(&store, &request(node)).await.unwrap();
        assert!(now.subnets.to_string().starts_with("10.6."), "{now:?}");
        assert!(!now.is_reservation());
        assert_eq!(store.lease_of(node).unwrap(), now);
        assert!(store.leases().iter().all(|lease| lease.subnets != before.subnets));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_at_once_get_a_hundred_leases() {
    let store =
        Flaky::with(r#"{"Network":"10.0.0.0/16","SubnetLen":23,"SubnetMin":"10.0.0.0"}"#).await;
    let nodes = (0..128).map(|node| {
        let store = store.clone();
        tokio::spawn(async move { acquire(&store, &request(&format!("node-{node}"))).await })
    });
    for node in nodes.collect::<Vec<_>>() {
        node.await.unwrap().unwrap();
    }
    assert_eq!(store.leases().len(), 128);
}
