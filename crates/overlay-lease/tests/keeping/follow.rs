//! Following what is in a network.

use std::time::Duration;

use overlay_lease::{
    Changes, Difference, Follower, Following, Knowledge, MemoryStore, NetworkConfig, News,
    Revision, Skipped, Snapshot, Step, Store, StoreErrorKind, Update, acquire, release,
};
use tokio::time::{Instant, timeout};

use crate::flaky::{Flaky, SMALL, id, request};

async fn next(follower: &mut Follower<Flaky>) -> News {
    let news = timeout(Duration::from_secs(60), follower.next()).await;
    news.expect("something to tell")
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told() {
    let store = Flaky::with(SMALL).await;
    let a = acquire(&store, &request("a")).await.unwrap();
    let mut follower = Follower::new(store.clone());
    assert_eq!(follower.view().knowledge(), Knowledge::Unknown);
    let news = next(&mut follower).await;
    assert_eq!(news.knowledge, Knowledge::Current);
    assert!(
        matches!(&news.differences[..], [Difference::Config { .. }, Difference::Added(lease)] if *lease == a)
    );
    let b = acquire(&store, &request("b")).await.unwrap();
    assert_eq!(next(&mut follower).await.differences, [Difference::Added(b)]);
    release(&store, &a).await.unwrap();
    let mut differences = Vec::new();
    while differences.len() < 2 {
        differences.extend(next(&mut follower).await.differences);
    }
    assert!(matches!(&differences[..], [Difference::Changed { .. }, Difference::Removed(_)]));
    assert_eq!(follower.view().leases().len(), 1);
    let nothing = timeout(Duration::from_secs(20), follower.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

/// As in a `select!` with something that comes often.
#[tokio::test(start_paused = true)]
async fn who_often_looks_elsewhere_hears_it_as_soon() {
    let store = Flaky::with(SMALL).await;
    let a = acquire(&store, &request("a")).await.unwrap();
    store.slow(true);
    store.asked();
    let mut follower = Follower::new(store.clone());
    let mut looks = 0;
    let begin = Instant::now();
    let news = loop {
        match timeout(Duration::from_millis(100), follower.next()).await {
            Ok(news) => break news,
            Err(_) => looks += 1,
        }
    };
    assert_eq!(news.knowledge, Knowledge::Current);
    assert!(matches!(&news.differences[..], [_, Difference::Added(lease)] if *lease == a));
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    while store.asked().last() != Some(&"watch") {
        assert!(timeout(Duration::from_millis(100), follower.next()).await.is_err());
    }
    for _ in 0..40 {
        assert!(timeout(Duration::from_millis(100), follower.next()).await.is_err());
    }
    assert_eq!(store.asked(), [""; 0], "each question once");
    assert!(looks > 20, "{looks}");
    let b = acquire(&store, &request("b")).await.unwrap();
    assert_eq!(next(&mut follower).await.differences, [Difference::Added(b)]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once_and_then_what_was_missed() {
    let store = Flaky::with(SMALL).await;
    store.away(true);
    let mut follower = Follower::new(store.clone());
    let news = next(&mut follower).await;
    assert_eq!((news.knowledge, news.differences.len()), (Knowledge::Unknown, 0));
    assert_eq!(news.error.unwrap().kind(), StoreErrorKind::Unavailable);
    store.away(false);
    assert_eq!(next(&mut follower).await.knowledge, Knowledge::Current);
    let a = acquire(&store, &request("a")).await.unwrap();
    assert_eq!(next(&mut follower).await.differences, [Difference::Added(a.clone())]);

    store.away(true);
    let news = next(&mut follower).await;
    assert_eq!(news.knowledge, Knowledge::Stale);
    assert!(news.error.is_some() && news.differences.is_empty());
    assert_eq!(follower.view().leases().collect::<Vec<_>>(), [&a], "what is known stays");
    store.asked();
    assert!(timeout(Duration::from_secs(600), follower.next()).await.is_err());
    let tries = store.asked().len();
    assert!((60..400).contains(&tries), "{tries} in ten minutes");

    // What happened meanwhile is not known in detail.
    assert!(store.leases().is_empty());
    store.store.access(|memory, _| memory.compact());
    store.away(false);
    let mut differences = Vec::new();
    while differences.is_empty() {
        differences = next(&mut follower).await.differences;
    }
    assert_eq!(differences, [Difference::Removed(a)]);
    assert_eq!(follower.view().knowledge(), Knowledge::Current);
}

#[tokio::test(start_paused = true)]
async fn back_without_news_is_news() {
    let store = Flaky::with(SMALL).await;
    let mut follower = Follower::new(store.clone());
    next(&mut follower).await;
    store.away(true);
    while next(&mut follower).await.knowledge != Knowledge::Stale {}
    store.away(false);
    let news = timeout(Duration::from_secs(60), async {
        loop {
            let news = follower.next().await;
            if news.knowledge == Knowledge::Current {
                return news;
            }
        }
    });
    assert!(news.await.unwrap().differences.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_set_back_is_read_anew() {
    let mut store = Flaky::with(SMALL).await;
    let backup = store.store.access(|memory, _| memory.clone());
    let a = acquire(&store, &request("a")).await.unwrap();
    let mut follower = Follower::new(store.clone());
    next(&mut follower).await;
    let seen = follower.view().revision();

    store.store = MemoryStore::with(backup);
    // The store behind the same address is another one now.
    let mut following = Following::new(1);
    let now = std::time::Instant::now();
    following.read(now, Ok(Snapshot { revision: seen.unwrap(), ..Default::default() }));
    following.watched(now, Ok(()));
    let mut watch = store.store.watch(seen.unwrap()).await.unwrap();
    let error = overlay_lease::Watch::next(&mut watch).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let news = following.heard(now, Err(error)).unwrap();
    assert_eq!(news.knowledge, Knowledge::Stale);
    let Step::Rest(_) = following.step() else { panic!("{:?}", following.step()) };
    following.rested();
    assert_eq!(following.step(), Step::Read);
    let snapshot = store.store.snapshot().await.unwrap();
    let revision = snapshot.revision;
    assert!(Some(revision) < seen && !snapshot.leases.contains(&a));
    assert_eq!(following.read(now, Ok(snapshot)).unwrap().knowledge, Knowledge::Current);
    assert_eq!(following.step(), Step::Watch(revision));
}

#[test]
fn an_older_snapshot_is_not_believed_before_it_was_asked_for() {
    let snapshot = |revision| Snapshot { revision: Revision::new(revision), ..Default::default() };
    let now = std::time::Instant::now();
    let mut following = Following::new(1);
    following.read(now, Ok(snapshot(9)));
    following.watched(now, Ok(()));
    let news = following.heard(now, Ok(Update::Snapshot(snapshot(4)))).unwrap();
    assert_eq!(news.knowledge, Knowledge::Stale);
    assert!(news.error.unwrap().to_string().contains("from revision 9 to 4"));
    following.rested();
    assert_eq!(following.step(), Step::Read);
    following.read(now, Ok(snapshot(4)));
    assert_eq!(following.step(), Step::Watch(Revision::new(4)));
}

#[tokio::test(start_paused = true)]
async fn what_lives_longer_than_clocks_count_is_followed() {
    let store = MemoryStore::new();
    let config = NetworkConfig::from_json(SMALL).unwrap();
    store.configure(&config, None).await.unwrap();
    let mut request = request("a");
    request.ttl = Duration::MAX;
    acquire(&store, &request).await.unwrap();
    let mut follower = Follower::new(store.clone());
    timeout(Duration::from_secs(60), follower.next()).await.unwrap();
    let more = acquire(&store, &crate::flaky::request("b")).await.unwrap();
    let news = timeout(Duration::from_secs(60), follower.next()).await.unwrap();
    assert_eq!(news.differences, [Difference::Added(more)]);
}

#[test]
fn what_cannot_be_read_is_told_once() {
    let skipped =
        |key: &str, reason: &str| Skipped { key: key.into(), reason: reason.into(), about: None };
    let (odd, worse) = (skipped("a", "odd"), skipped("a", "worse"));
    let other = skipped("b", "odd");
    let now = std::time::Instant::now();
    let snapshot = |revision, skipped: &[&Skipped]| Snapshot {
        revision: Revision::new(revision),
        skipped: skipped.iter().copied().cloned().collect(),
        ..Default::default()
    };
    let changes = |revision, skipped: &[&Skipped]| {
        Ok(Update::Changes(Changes {
            revision: Revision::new(revision),
            skipped: skipped.iter().copied().cloned().collect(),
            changes: Vec::new(),
        }))
    };
    let mut following = Following::new(1);
    assert_eq!(
        following.read(now, Ok(snapshot(1, &[&odd]))).unwrap().skipped,
        std::slice::from_ref(&odd)
    );
    assert!(following.watched(now, Ok(())).is_none());
    assert!(following.heard(now, changes(2, &[&odd])).is_none());
    let news = following.heard(now, changes(3, &[&odd, &other])).unwrap();
    assert_eq!(news.skipped, std::slice::from_ref(&other));
    assert_eq!(
        following.heard(now, changes(4, &[&worse])).unwrap().skipped,
        std::slice::from_ref(&worse)
    );
    let again = following.heard(now, Ok(Update::Snapshot(snapshot(5, &[&worse]))));
    assert!(again.is_none());
    // What was mended is told when it breaks again.
    let news = following.heard(now, changes(6, &[&other])).unwrap();
    assert_eq!((news.skipped, id("b").as_str()), (vec![other], "b"));
}
