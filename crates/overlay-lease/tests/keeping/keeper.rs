//! Keeping a lease.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use overlay_lease::{
    AcquireError, Answer, BootInstant, Keeper, Lease, Operation, Reply, Request, Revision,
    Standing, Status, Statuses, Store, StoreError, StoreErrorKind, Tenure, reserve,
};
use tokio::time::{Instant, sleep, timeout};

use crate::flaky::{Flaky, SMALL, attributes, id, now, request, subnets};

const HOUR: Duration = Duration::from_secs(3600);

async fn until(statuses: &mut Statuses, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut status = statuses.now();
    timeout(10 * HOUR, async {
        while !wanted(&status) {
            status = statuses.changed().await.expect("a keeper that tells its status");
        }
    })
    .await
    .unwrap_or_else(|_| panic!("it never is as wanted"));
    status
}

async fn held(statuses: &mut Statuses) -> Arc<Lease> {
    let status = until(statuses, |status| matches!(status, Status::Held { .. })).await;
    status.lease().unwrap().clone()
}

async fn keeper(store: &Flaky) -> (Keeper, Statuses, Arc<Lease>) {
    let keeper = Keeper::with_clock(store.clone(), request("a"), now);
    let mut statuses = keeper.statuses();
    let lease = held(&mut statuses).await;
    (keeper, statuses, lease)
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_and_nobody_is_woken() {
    let store = Flaky::with(SMALL).await;
    let (keeper, _, lease) = keeper(&store).await;
    let revision = store.revision();
    store.asked();
    for _ in 0..100 {
        sleep(Duration::from_secs(30)).await;
        assert_eq!(keeper.status().holds(now()), Some(&lease));
    }
    assert_eq!(store.leases(), [lease]);
    assert_eq!(store.revision(), revision);
    let asked = store.asked();
    let renewals = asked.iter().filter(|asked| **asked == "renew").count();
    assert!((300..=400).contains(&renewals), "{renewals}");
    assert_eq!(asked.len(), 2 * renewals, "one look at the configuration each");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_and_survived() {
    let store = Flaky::with(SMALL).await;
    let (_keeper, mut statuses, lease) = keeper(&store).await;
    let went = now();
    store.away(true);
    let status = until(&mut statuses, |status| !matches!(status, Status::Held { .. })).await;
    let Status::Unconfirmed { lease: unsure, until: end, since, error } = status else {
        panic!("{status:?}")
    };
    assert_eq!(unsure, lease);
    assert!(since <= went && error.to_string().contains("no lease for a"), "{error}");
    let end = end.unwrap();
    assert!(end <= went + Duration::from_secs(30) && end > went + Duration::from_secs(15));
    sleep(Duration::from_secs(5)).await;
    store.away(false);
    assert_eq!(held(&mut statuses).await, lease);
    assert_eq!(store.leases(), [lease]);
}

#[tokio::test(start_paused = true)]
async fn hours_without_a_store_cost_little_and_the_subnets_come_back() {
    let store = Flaky::with(SMALL).await;
    let (_keeper, mut statuses, lease) = keeper(&store).await;
    store.away(true);
    store.asked();
    let expired = until(&mut statuses, |status| matches!(status, Status::Expired { .. })).await;
    assert_eq!((expired.lease(), expired.holds(now())), (Some(&lease), None));
    sleep(3 * HOUR).await;
    let tries = store.asked().len();
    assert!((1000..10_000).contains(&tries), "{tries} in three hours");
    assert!(store.leases().is_empty());
    store.away(false);
    let again = held(&mut statuses).await;
    assert_eq!(again.subnets, lease.subnets);
    assert!(again.created > lease.created);
    assert!(matches!(statuses.now(), Status::Held { moved_from: None, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_like_one_that_is_away() {
    let store = Flaky::with(SMALL).await;
    let (_keeper, mut statuses, lease) = keeper(&store).await;
    store.hangs(true);
    let status = until(&mut statuses, |status| matches!(status, Status::Unconfirmed { .. })).await;
    assert_eq!(status.lease(), Some(&lease));
    until(&mut statuses, |status| matches!(status, Status::Expired { .. })).await;
    store.hangs(false);
    assert_eq!(held(&mut statuses).await.subnets, lease.subnets);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_vanished_is_made_again() {
    let store = Flaky::with(SMALL).await;
    let (keeper, mut statuses, lease) = keeper(&store).await;
    store.store.remove(&lease).await.unwrap();
    let asked = Instant::now();
    keeper.look();
    let status = until(&mut statuses, |status| match status {
        Status::Held { lease: now, .. } => now.created > lease.created,
        _ => false,
    });
    assert_eq!(status.await.lease().unwrap().subnets, lease.subnets);
    assert!(asked.elapsed() <= Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn subnets_that_somebody_else_has_are_told_and_others_are_found() {
    let store = Flaky::with(SMALL).await;
    let (_keeper, mut statuses, lease) = keeper(&store).await;
    store.store.remove(&lease).await.unwrap();
    let theirs = store.give(lease.subnets, "b").await;
    let moved =
        until(&mut statuses, |status| matches!(status, Status::Held { moved_from: Some(_), .. }));
    let Status::Held { lease: other, moved_from, .. } = moved.await else { unreachable!() };
    assert!(!other.subnets.overlap(&lease.subnets));
    assert_eq!(moved_from, Some(lease.subnets));
    assert!(store.leases().contains(&theirs));

    // Where there are no others, there is time to see whose they are.
    for third in 1..16 {
        let free = subnets(&format!("10.5.{third}.0/24"));
        if store.leases().iter().all(|lease| lease.subnets != free) {
            store.give(free, &format!("b{third}")).await;
        }
    }
    store.store.remove(&other).await.unwrap();
    let theirs = store.give(other.subnets, "c").await;
    let lost = until(&mut statuses, |status| matches!(status, Status::Acquiring { .. })).await;
    let Status::Acquiring { lost, successor, .. } = lost else { unreachable!() };
    assert_eq!((lost, successor), (Some(other), Some(theirs)));
}

#[tokio::test(start_paused = true)]
async fn a_full_network_is_waited_for() {
    let store = Flaky::with(SMALL).await;
    let mut others = Vec::new();
    for third in 1..16 {
        others.push(store.give(subnets(&format!("10.5.{third}.0/24")), &format!("b{third}")).await);
    }
    let keeper = Keeper::with_clock(store.clone(), request("a"), now);
    let mut statuses = keeper.statuses();
    let full = until(&mut statuses, |status| match status {
        Status::Acquiring { failures, .. } => *failures > 3,
        _ => false,
    });
    let Status::Acquiring { error: Some(error), .. } = full.await else { unreachable!() };
    assert!(matches!(*error, AcquireError::Exhausted { .. }), "{error:?}");
    store.store.remove(&others[3]).await.unwrap();
    assert_eq!(held(&mut statuses).await.subnets, others[3].subnets);
}

#[tokio::test(start_paused = true)]
async fn what_peers_are_told_changes_in_place_and_at_once() {
    let store = Flaky::with(SMALL).await;
    let (keeper, mut statuses, lease) = keeper(&store).await;
    keeper.publish(attributes(2));
    let told = until(&mut statuses, |status| {
        status.lease().is_some_and(|lease| lease.attributes == attributes(2))
    });
    let told = told.await.lease().unwrap().clone();
    assert_eq!((told.subnets, told.created), (lease.subnets, lease.created));
    assert_eq!(store.leases(), std::slice::from_ref(&told));

    // During an outage it is not forgotten, and the last word counts.
    store.away(true);
    keeper.publish(attributes(3));
    sleep(Duration::from_secs(2)).await;
    keeper.publish(attributes(4));
    sleep(Duration::from_secs(2)).await;
    store.away(false);
    let told = until(&mut statuses, |status| matches!(status, Status::Held { .. }));
    assert_eq!(told.await.lease().unwrap().attributes, attributes(4));
    assert_eq!(store.lease_of("a").unwrap().attributes, attributes(4));

    // A write whose answer was lost is our own, and no contest.
    store.loses_answers(usize::MAX);
    keeper.publish(attributes(5));
    sleep(Duration::from_secs(1)).await;
    store.loses_answers(0);
    let status = until(&mut statuses, |status| matches!(status, Status::Held { .. })).await;
    assert!(matches!(status, Status::Held { contested: None, .. }), "{status:?}");
    assert_eq!(store.lease_of("a").unwrap().attributes, attributes(5));
}

#[tokio::test(start_paused = true)]
async fn what_the_store_does_not_take_costs_no_lease() {
    let store = Flaky::with(SMALL).await;
    let (keeper, mut statuses, lease) = keeper(&store).await;
    store.refuses_updates(true);
    keeper.publish(attributes(2));
    let refused = until(&mut statuses, |status| matches!(status, Status::Unconfirmed { .. }));
    let Status::Unconfirmed { error, .. } = refused.await else { unreachable!() };
    assert!(
        matches!(&*error, AcquireError::Store { source, .. } if source.to_string().contains("too long"))
    );
    store.asked();
    sleep(3 * HOUR).await;
    assert_eq!(store.leases(), [lease]);
    let asked = store.asked();
    let updates = asked.iter().filter(|asked| **asked == "update").count();
    assert!((500..1500).contains(&updates), "one a round: {updates}");

    store.refuses_updates(false);
    keeper.publish(attributes(3));
    let told = until(&mut statuses, |status| {
        status.lease().is_some_and(|lease| lease.attributes == attributes(3))
    });
    timeout(Duration::from_secs(5), told).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_process_of_the_same_identity_is_told_and_not_fought() {
    let store = Flaky::with(SMALL).await;
    let (_keeper, mut statuses, lease) = keeper(&store).await;
    let mut twin = request("a");
    twin.attributes = attributes(7);
    let twin = Keeper::with_clock(store.clone(), twin, now);
    let contested =
        until(&mut statuses, |status| matches!(status, Status::Held { contested: Some(_), .. }));
    let Status::Held { contested: Some(theirs), .. } = contested.await else { unreachable!() };
    assert_eq!((&theirs.attributes, theirs.subnets), (&attributes(7), lease.subnets));
    let mut newer = twin.statuses();
    let contested =
        until(&mut newer, |status| matches!(status, Status::Held { contested: Some(_), .. }));
    let Status::Held { contested: Some(theirs), .. } = contested.await else { unreachable!() };
    assert_eq!(theirs.attributes, attributes(1), "the newcomer is told as well");
    store.asked();
    let revision = store.revision();
    sleep(HOUR).await;
    let writes = store.revision().get() - revision.get();
    assert!((1..200).contains(&writes), "{writes} writes in an hour");
    assert!(store.asked().len() < 5000);
    assert_eq!(store.leases().len(), 1);
    assert_eq!(store.leases()[0].subnets, lease.subnets);
    drop(twin);
    let over =
        until(&mut statuses, |status| matches!(status, Status::Held { contested: None, .. }));
    over.await;
    assert_eq!(store.lease_of("a").unwrap().attributes, attributes(1));
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_configured_anew_is_followed() {
    let store = Flaky::with(SMALL).await;
    let (keeper, mut statuses, lease) = keeper(&store).await;
    store.configure(&SMALL.replace("vxlan", "host-gw")).await;
    keeper.look();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(held(&mut statuses).await, lease, "what still fits stays");
    store.configure(&SMALL.replace("10.5", "10.6")).await;
    keeper.look();
    let moved =
        until(&mut statuses, |status| matches!(status, Status::Held { moved_from: Some(_), .. }));
    let Status::Held { lease: other, moved_from, .. } = moved.await else { unreachable!() };
    assert_eq!(moved_from, Some(lease.subnets));
    assert_eq!(store.leases(), [other]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_becomes_a_reservation_has_no_end() {
    let store = Flaky::with(SMALL).await;
    let (keeper, mut statuses, lease) = keeper(&store).await;
    reserve(&store, lease.subnets, Some(id("a"))).await.unwrap();
    let kept = until(&mut statuses, |status| matches!(status, Status::Held { until: None, .. }));
    assert!(kept.await.lease().unwrap().is_reservation());
    store.away(true);
    sleep(HOUR).await;
    let status = keeper.status();
    assert!(matches!(status, Status::Unconfirmed { until: None, .. }), "{status:?}");
    assert!(status.holds(now()).is_some());
}

#[tokio::test(start_paused = true)]
async fn stopping_gives_back_what_it_is_told_to() {
    let store = Flaky::with(SMALL).await;
    let (first, _, lease) = keeper(&store).await;
    assert!(matches!(first.stop(false).await, Status::Stopped { error: None }));
    assert_eq!(store.leases(), std::slice::from_ref(&lease));

    let (second, mut statuses, same) = keeper(&store).await;
    assert_eq!(same, lease);
    assert!(matches!(second.stop(true).await, Status::Stopped { error: None }));
    assert!(store.leases().is_empty());
    while statuses.changed().await.is_some() {}
    assert!(matches!(statuses.now(), Status::Stopped { .. }));

    let (third, ..) = keeper(&store).await;
    store.away(true);
    let Status::Stopped { error: Some(error) } = third.stop(true).await else { unreachable!() };
    assert!(matches!(*error, AcquireError::Store { .. }), "{error:?}");
    store.away(false);
    assert_eq!(store.leases().len(), 1);
    sleep(Duration::from_secs(40)).await;
    assert!(store.leases().is_empty(), "it goes when its time is over");

    let (fourth, ..) = keeper(&store).await;
    drop(fourth);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(store.leases().len(), 1);
    sleep(Duration::from_secs(20)).await;
    assert!(store.leases().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_next_process_has_is_not_given_back() {
    let store = Flaky::with(SMALL).await;
    let (old, ..) = keeper(&store).await;
    let mut next = request("a");
    next.attributes = attributes(2);
    let next = Keeper::with_clock(store.clone(), next, now);
    held(&mut next.statuses()).await;
    assert!(matches!(old.stop(true).await, Status::Stopped { error: None }));
    assert_eq!(store.lease_of("a").unwrap().attributes, attributes(2));
}

/// What a machine does that sleeps: tokio's clock stands still, the time since the start goes on.
#[tokio::test(start_paused = true)]
async fn after_a_sleep_nothing_is_held_that_came_to_its_end_meanwhile() {
    let store = Flaky::with(SMALL).await;
    let slept = Arc::new(Mutex::new(Duration::ZERO));
    let clock = {
        let slept = slept.clone();
        move || now() + *slept.lock().unwrap()
    };
    let keeper = Keeper::with_clock(store.clone(), request("a"), clock.clone());
    let mut statuses = keeper.statuses();
    let lease = held(&mut statuses).await;
    sleep(Duration::from_millis(1500)).await;

    // While nothing is asked.
    store.away(true);
    *slept.lock().unwrap() += lease.ttl.unwrap();
    assert_eq!(keeper.status().holds(clock()), None, "even before the keeper noticed");
    let woke = Instant::now();
    until(&mut statuses, |status| matches!(status, Status::Expired { .. })).await;
    assert!(woke.elapsed() <= Duration::from_secs(1), "{:?}", woke.elapsed());
    store.away(false);
    assert_eq!(held(&mut statuses).await, lease);

    // While an answer is waited for.
    store.hangs(true);
    keeper.publish(attributes(2));
    store.asked();
    while store.asked().is_empty() {
        sleep(Duration::from_millis(100)).await;
    }
    *slept.lock().unwrap() += lease.ttl.unwrap();
    let woke = Instant::now();
    until(&mut statuses, |status| matches!(status, Status::Expired { .. })).await;
    assert!(woke.elapsed() <= Duration::from_secs(1), "{:?}", woke.elapsed());
    store.hangs(false);
    let again = held(&mut statuses).await;
    assert_eq!((again.subnets, &again.attributes), (lease.subnets, &attributes(2)));
    assert_eq!(keeper.status().holds(clock()), Some(&again));
}

/// An answer that was under way during the sleep counts from when it was asked for.
#[test]
fn an_answer_from_before_a_sleep_is_no_news() {
    let (ttl, start) = (Duration::from_secs(30), BootInstant::at(HOUR));
    let mut tenure = Tenure::new(Request::new(id("a"), attributes(1), ttl), 1);
    let revision = Revision::new(1);
    let mine = Lease::new(
        subnets("10.5.1.0/24"),
        Some(id("a")),
        attributes(1),
        Some(ttl),
        revision,
        revision,
    );
    let standing = Standing { lease: Some(Arc::new(mine)), ..Default::default() };
    let question = tenure.question(start).unwrap();
    tenure.answer(start, question.number, Ok(Answer::Standing(standing)));
    let question = tenure.question(start).unwrap();
    assert!(matches!(question.operation, Operation::Renew(_)), "{question:?}");
    tenure.answer(start, question.number, Ok(Answer::Done));
    assert!(tenure.status().holds(start).is_some());

    let due = tenure.wake().unwrap();
    let question = tenure.question(due).unwrap();
    let woke = due + ttl;
    tenure.answer(woke, question.number, Ok(Answer::Done));
    assert_eq!(tenure.status().holds(woke), None);
    assert!(matches!(tenure.status(), Status::Expired { .. }), "{:?}", tenure.status());
}

/// Answers of any kind, even to other questions, at any time, and any course of time: it goes on.
#[test]
fn nothing_makes_it_stop_or_panic() {
    let mut random = 1_u64;
    let mut next = move || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let lease = |revision: u64, node: &str, ttl: Option<u64>| {
        let revision = Revision::new(revision);
        let ttl = ttl.map(Duration::from_secs);
        let (subnets, node) = (subnets("10.5.1.0/24"), Some(id(node)));
        Arc::new(Lease::new(subnets, node, attributes(1), ttl, revision, revision))
    };
    for ttl in [Duration::ZERO, Duration::from_millis(1500), HOUR, Duration::MAX] {
        let mut tenure = Tenure::new(Request::new(id("a"), attributes(1), ttl), next());
        let mut time = BootInstant::now();
        let mut number = 0;
        let mut questions = 0;
        for _ in 0..20_000 {
            time = time + Duration::from_millis(next() % 20_000);
            if let Some(question) = tenure.question(time) {
                number = question.number;
                questions += 1;
            }
            let some = match next() % 3 {
                0 => lease(next() % 8, "a", Some(next() % 60)),
                1 => lease(next() % 8, "a", None),
                _ => lease(next() % 8, "b", Some(u64::MAX)),
            };
            let reply: Reply = match next() % 10 {
                0 => Ok(Answer::Standing(Default::default())),
                1 => Ok(Answer::Standing(Standing { lease: Some(some), ..Default::default() })),
                2 => Ok(Answer::Snapshot(Default::default())),
                3 => Ok(Answer::Tenants(Vec::new())),
                4 => Ok(Answer::Lease(some)),
                5 => Ok(Answer::Done),
                6 => Ok(Answer::Fenced(Some(some))),
                7 => Ok(Answer::Taken(some)),
                8 => Ok(Answer::Reconfigured(None)),
                _ => Err(StoreError::new(StoreErrorKind::Corrupt, "odd", "answer", "nonsense")),
            };
            tenure.answer(time, number - next() % 2 * number.min(1), reply);
            match next() % 50 {
                0 => tenure.look(time),
                1 => tenure.publish(attributes((next() % 4) as u8)),
                _ => {}
            }
            let status = tenure.status();
            assert!(!matches!(status, Status::Stopped { .. } | Status::Releasing), "{status:?}");
        }
        assert!(questions > 1000, "{questions}");
    }
}
