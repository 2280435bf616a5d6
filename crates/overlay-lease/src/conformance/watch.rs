//! Watching.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::client::{Client, bounded, check, same, succeeds};
use super::ledger::{Follower, Ledger};
use super::sample::{LONG, attributes, claim, config, dual, red};
use super::{Broken, Testbed};
use crate::config::Configured;
use crate::lease::{Lease, Revision};
use crate::store::{LATE, Store};
use crate::view::{Difference, View};
use crate::watch::{Update, Watch};

/// One of each kind of change, and those that follow each other.
async fn write<S: Store + 'static>(
    client: &Client<S>,
    ledger: &mut Ledger,
    configured: Configured,
) -> Result<Configured, Broken> {
    let first = client.create(&claim(dual(1), 1, LONG, &configured)).await?;
    ledger.lease(&first);
    let second = client.create(&claim(dual(2), 2, None, &configured)).await?;
    ledger.lease(&second);
    let configured = client.configure(&config(), Some(configured.revision)).await?;
    ledger.config(&configured);
    let first = client.update(&first, &attributes(5), LONG).await?;
    ledger.lease(&first);
    let first = client.update(&first, &attributes(6), LONG).await?;
    ledger.lease(&first);
    client.renew(&first).await?;
    client.remove(&second).await?;
    ledger.gone(second.subnets);
    let second = client.create(&claim(dual(2), 3, LONG, &configured)).await?;
    ledger.lease(&second);
    client.remove(&first).await?;
    ledger.gone(first.subnets);
    client.remove(&second).await?;
    ledger.gone(second.subnets);
    let first = client.create(&claim(dual(1), 1, LONG, &configured)).await?;
    ledger.lease(&first);
    client.remove(&first).await?;
    ledger.gone(first.subnets);
    Ok(configured)
}

async fn configure<S: Store + 'static>(
    client: &Client<S>,
    ledger: &mut Ledger,
) -> Result<Configured, Broken> {
    let configured = client.configure(&config(), None).await?;
    ledger.config(&configured);
    Ok(configured)
}

pub(super) async fn every_change_comes_once_and_in_order<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (one, other) = (Client::new(testbed, &red()).await?, Client::new(testbed, &red()).await?);
    let mut ledger = Ledger::default();
    let start = other.snapshot().await?.revision;
    let mut watch = Follower::new(&other, start, 0).await?;
    watch.silent().await?;
    let mut configured = configure(&one, &mut ledger).await?;
    watch.catch_up(&ledger).await?;
    // First each change as soon as it is made, then many at once.
    let lease = one.create(&claim(dual(9), 9, LONG, &configured)).await?;
    ledger.lease(&lease);
    watch.catch_up(&ledger).await?;
    one.remove(&lease).await?;
    ledger.gone(lease.subnets);
    watch.catch_up(&ledger).await?;
    for _ in 0..3 {
        configured = write(&one, &mut ledger, configured).await?;
        watch.catch_up(&ledger).await?;
    }
    watch.silent().await
}

pub(super) async fn a_watch_continues_from_any_revision<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (one, other) = (Client::new(testbed, &red()).await?, Client::new(testbed, &red()).await?);
    let mut ledger = Ledger::default();
    let mut points = BTreeSet::from([(0, Revision::ZERO), (0, one.snapshot().await?.revision)]);
    let configured = configure(&one, &mut ledger).await?;
    let configured = write(&one, &mut ledger, configured).await?;
    points.insert((ledger.end(), one.snapshot().await?.revision));
    write(&one, &mut ledger, configured).await?;
    points.extend(ledger.known());
    let mut watch = Follower::new(&other, Revision::ZERO, 0).await?;
    while watch.position() < ledger.end() {
        watch.step(&ledger).await?;
        points.insert((watch.position(), watch.revision()));
    }
    for (position, revision) in points {
        Follower::new(&other, revision, position).await?.catch_up(&ledger).await?;
    }
    let end = other.snapshot().await?.revision;
    let mut watch = Follower::new(&other, end, ledger.end()).await?;
    watch.silent().await
}

pub(super) async fn expiry_is_watched<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, other) = (Client::new(testbed, &red()).await?, Client::new(testbed, &red()).await?);
    let mut ledger = Ledger::default();
    let start = other.snapshot().await?.revision;
    let mut watch = Follower::new(&other, start, 0).await?;
    let configured = configure(&one, &mut ledger).await?;
    let ttl = Duration::from_secs(2);
    let lease = one.create(&claim(dual(1), 1, Some(ttl), &configured)).await?;
    ledger.lease(&lease);
    watch.catch_up(&ledger).await?;
    ledger.gone(lease.subnets);
    watch.catch_up(&ledger).await?;
    // The same, with nobody watching when it happens.
    let lease = one.create(&claim(dual(2), 2, Some(ttl), &configured)).await?;
    ledger.lease(&lease);
    tokio::time::sleep(lease.ttl.unwrap_or(ttl) + LATE).await;
    ledger.gone(lease.subnets);
    watch.catch_up(&ledger).await?;
    Follower::new(&other, lease.revision, ledger.end() - 1).await?.catch_up(&ledger).await
}

pub(super) async fn compaction_hides_nothing<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let network = red();
    let (one, other) =
        (Client::new(testbed, &network).await?, Client::new(testbed, &network).await?);
    let mut ledger = Ledger::default();
    let configured = configure(&one, &mut ledger).await?;
    let mut leases = Vec::new();
    for number in 1..4 {
        let lease = one.create(&claim(dual(number), number.into(), LONG, &configured)).await?;
        ledger.lease(&lease);
        leases.push(lease);
    }
    let snapshot = other.snapshot().await?;
    let (revision, position) = (snapshot.revision, ledger.end());
    let mut view = View::new();
    view.replace(snapshot);
    let mut open = Follower::new(&other, revision, position).await?;

    let [removed, changed, _stays] = &leases[..] else { return Ok(()) };
    one.remove(removed).await?;
    ledger.gone(removed.subnets);
    let now_changed = one.update(changed, &attributes(9), LONG).await?;
    ledger.lease(&now_changed);
    let added = one.create(&claim(dual(4), 4, LONG, &configured)).await?;
    ledger.lease(&added);
    succeeds("compacting", testbed.compact(&network)).await?;

    for (position, revision) in [(0, Revision::ZERO), (position, revision)] {
        Follower::new(&other, revision, position).await?.catch_up(&ledger).await?;
    }
    open.catch_up(&ledger).await?;
    let found = differences(&other, &mut view, added.revision).await?;
    let expected = [
        Difference::Removed(removed.clone()),
        Difference::Changed { from: changed.clone(), to: now_changed },
        Difference::Added(added),
    ];
    let same = expected.iter().all(|difference| found.contains(difference));
    check(
        same && found.len() == expected.len(),
        format_args!("watching what comes after revision {revision}, after compaction"),
        format_args!("{expected:?}"),
        format_args!("{found:?}"),
    )?;
    // What happens from now on is known again, also where one compaction follows another.
    for lease in one.snapshot().await?.leases {
        one.remove(&lease).await?;
        ledger.gone(lease.subnets);
    }
    write(&one, &mut ledger, configured).await?;
    succeeds("compacting", testbed.compact(&network)).await?;
    succeeds("compacting", testbed.compact(&network)).await?;
    open.catch_up(&ledger).await?;
    open.silent().await
}

/// What a watch from where the view is tells, up to `until`.
async fn differences<S: Store>(
    client: &Client<S>,
    view: &mut View,
    until: Revision,
) -> Result<Vec<Difference>, Broken> {
    let after = view.revision().unwrap_or_default();
    let mut watch = succeeds("watching", client.store.watch(after)).await?;
    let mut differences = Vec::new();
    while view.revision().is_none_or(|revision| revision < until) {
        let update: Update = succeeds("watching", watch.next()).await?;
        differences.extend(view.apply(update));
    }
    Ok(differences)
}

pub(super) async fn a_slow_reader_misses_nothing<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let network = red();
    let (one, other) =
        (Client::new(testbed, &network).await?, Client::new(testbed, &network).await?);
    let mut ledger = Ledger::default();
    let start = other.snapshot().await?.revision;
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(Follower::new(&other, start, 0).await?);
    }
    let mut configured = configure(&one, &mut ledger).await?;
    for round in 0..20 {
        configured = write(&one, &mut ledger, configured).await?;
        // One reads now and then, one only a little, one nothing until the end.
        match &mut watches[..] {
            [now_and_then, ..] if round % 5 == 0 => now_and_then.catch_up(&ledger).await?,
            [_, a_little, _] if a_little.position() < ledger.end() => {
                a_little.step(&ledger).await?
            }
            _ => {}
        }
        if round == 10 {
            succeeds("compacting", testbed.compact(&network)).await?;
        }
    }
    for watch in &mut watches {
        watch.catch_up(&ledger).await?;
    }
    Ok(())
}

pub(super) async fn a_dropped_wait_takes_nothing_away<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (one, other) = (Client::new(testbed, &red()).await?, Client::new(testbed, &red()).await?);
    let mut ledger = Ledger::default();
    let start = other.snapshot().await?.revision;
    let mut watch = Follower::new(&other, start, 0).await?;
    let configured = configure(&one, &mut ledger).await?;
    let mut lease: Option<Arc<Lease>> = None;
    for round in 0..100 {
        match lease.take() {
            Some(held) if round % 10 == 9 => {
                one.remove(&held).await?;
                ledger.gone(held.subnets);
            }
            Some(held) => {
                let next = one.update(&held, &attributes(1_000 + round), LONG).await?;
                ledger.lease(&next);
                lease = Some(next);
            }
            None => {
                let made = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
                ledger.lease(&made);
                lease = Some(made);
            }
        }
        // From not at all over in the middle of it to long enough.
        for wait in [0, 50, 200, 1_000].iter().take(1 + round % 4) {
            watch.glance(&ledger, Duration::from_micros(*wait)).await?;
        }
    }
    watch.catch_up(&ledger).await?;
    watch.silent().await
}

pub(super) async fn all_watches_bring_the_same<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    const WATCHES: usize = 24;
    let one = Client::new(testbed, &red()).await?;
    let mut ledger = Ledger::default();
    let start = one.snapshot().await?.revision;
    let mut configured = configure(&one, &mut ledger).await?;
    let mut followers = Vec::with_capacity(WATCHES);
    for _ in 0..WATCHES {
        let client = Client::new(testbed, &red()).await?;
        followers.push(Follower::new(&client, start, 0).await?);
    }
    for _ in 0..4 {
        configured = write(&one, &mut ledger, configured).await?;
    }
    let ledger = Arc::new(ledger);
    let mut tasks = JoinSet::new();
    for mut follower in followers {
        let ledger = ledger.clone();
        tasks.spawn(async move { follower.catch_up(&ledger).await });
    }
    let mut ended = 0;
    while let Some(joined) = bounded("reading all watches", tasks.join_next()).await? {
        joined.map_err(|error| Broken::new("reading all watches", "no panic", error))??;
        ended += 1;
    }
    same("watches that brought everything", &WATCHES, &ended)
}
