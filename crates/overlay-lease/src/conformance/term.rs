//! How long leases live.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::{Client, check, same};
use super::ledger::{Follower, Ledger};
use super::sample::{attributes, claim, dual, node, red};
use super::{Broken, Testbed};
use crate::history::{SKEW, grants};
use crate::lease::Lease;
use crate::store::{LATE, Store};

/// A time to live that is worth waiting for.
const SHORT: Duration = Duration::from_secs(3);

/// How long it may take to learn what has happened, on a machine that does other things, too.
const SLACK: Duration = Duration::from_secs(1);

pub(super) async fn a_lease_lives_for_its_term<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    for ttl in [SHORT, Duration::from_millis(1500)] {
        let start = Instant::now();
        let lease = client.create(&claim(dual(1), 1, Some(ttl), &configured)).await?;
        outlives(&client, &lease, start + ttl).await?;
    }
    Ok(())
}

pub(super) async fn a_lease_is_gone_after_its_term<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let mut ledger = Ledger::default();
    let lease = one.create(&claim(dual(1), 1, Some(SHORT), &configured)).await?;
    let end = Instant::now() + lease.ttl.unwrap_or(SHORT) + LATE + SLACK;
    let stays = one.create(&claim(dual(2), 2, Some(SHORT * 100), &configured)).await?;
    let mut watch = Follower::new(&other, other.snapshot().await?.revision, 0).await?;
    ledger.gone(lease.subnets);
    watch.catch_up(&ledger).await?;
    let late = Instant::now().saturating_duration_since(end);
    check(
        late.is_zero(),
        "waiting for a lease to expire",
        format_args!("to learn of it at most {LATE:?} and {SLACK:?} after its time to live"),
        format_args!("another {late:?} later"),
    )?;
    same("the leases after one has expired", &vec![stays], &one.snapshot().await?.leases)?;
    same("the lease of its node", &None, &one.standing(&node(1)).await?.lease)?;
    one.fenced(&lease, None).await?;
    other.create(&claim(dual(1), 3, Some(SHORT), &configured)).await.map(drop)
}

pub(super) async fn renewing_prolongs<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let lease = client.create(&claim(dual(1), 1, Some(SHORT), &configured)).await?;
    let mut start = Instant::now();
    for _ in 0..3 {
        sleep(SHORT / 2).await;
        start = Instant::now();
        client.renew(&lease).await?;
    }
    outlives(&client, &lease, start + SHORT).await
}

pub(super) async fn updating_prolongs<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let mut lease = client.create(&claim(dual(1), 1, Some(SHORT), &configured)).await?;
    for number in [1, 1, 2] {
        sleep(SHORT / 2).await;
        lease = client.update(&lease, &attributes(number), Some(SHORT)).await?;
    }
    let (shorter, longer) = (SHORT * 2 / 3, SHORT * 4 / 3);
    lease = client.update(&lease, &attributes(2), Some(longer)).await?;
    sleep(SHORT * 7 / 6).await;
    let start = Instant::now();
    lease = client.update(&lease, &attributes(2), Some(shorter)).await?;
    check(
        grants(Some(shorter), lease.ttl),
        "updating the time to live",
        format_args!("{shorter:?} or less than 1 s more"),
        format_args!("{:?}", lease.ttl),
    )?;
    outlives(&client, &lease, start + shorter).await
}

/// Expects that the lease is there until `end`, and not for much longer.
async fn outlives<S: Store + 'static>(
    client: &Client<S>,
    lease: &Arc<Lease>,
    end: Instant,
) -> Result<(), Broken> {
    const OFTEN: Duration = Duration::from_millis(50);
    let node = lease.node.clone().unwrap_or_else(|| node(1));
    loop {
        let asked = Instant::now();
        let found = client.standing(&node).await?.lease;
        let (now, step) = (Instant::now(), format!("waiting for {} to expire", lease.subnets));
        match found {
            Some(found) => {
                same(&step, lease, &found)?;
                let late = asked.saturating_duration_since(end + Duration::from_secs(1) + LATE);
                check(
                    late.is_zero(),
                    step,
                    format_args!("it to be gone {LATE:?} after its time to live"),
                    format_args!("it is there another {late:?} later"),
                )?;
            }
            None => {
                let early = end.saturating_duration_since(now);
                return check(
                    early <= SKEW,
                    step,
                    "it to live for its time to live",
                    format_args!("it is gone {early:?} before that"),
                );
            }
        }
        sleep(OFTEN).await;
    }
}

pub(super) async fn reservations_stay<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let reserved = client.create(&claim(dual(1), 1, None, &configured)).await?;
    let leased = client.create(&claim(dual(2), 2, Some(SHORT), &configured)).await?;
    let kept = client.update(&leased, &leased.attributes, None).await?;
    same("the time to live of what became a reservation", &None, &kept.ttl)?;
    let given_up = client.create(&claim(dual(3), 3, None, &configured)).await?;
    let given_up = client.update(&given_up, &attributes(4), Some(SHORT)).await?;
    check(
        given_up.ttl.is_some(),
        "updating a reservation to a lease",
        "a time to live",
        format_args!("{given_up:?}"),
    )?;
    sleep(given_up.ttl.unwrap_or(SHORT) + LATE + SLACK).await;
    let mut leases = client.snapshot().await?.leases;
    leases.sort_by_key(|lease| lease.subnets);
    same("what is left after some time", &vec![reserved.clone(), kept], &leases)?;
    same("the remaining time of a reservation", &None, &client.remaining(&reserved).await?)?;
    client.renew(&reserved).await?;
    let standing = client.standing(&node(1)).await?;
    same("a reservation that was renewed", &Some(reserved), &standing.lease)
}

pub(super) async fn remaining_time_counts_down<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let ttl = Duration::from_secs(20);
    let mut start = Instant::now();
    let lease = one.create(&claim(dual(1), 1, Some(ttl), &configured)).await?;
    let mut started = Instant::now();
    for (wait, renew) in [(0, false), (2500, false), (0, true), (2500, false)] {
        sleep(Duration::from_millis(wait)).await;
        if renew {
            start = Instant::now();
            one.renew(&lease).await?;
            started = Instant::now();
        }
        let asked = Instant::now();
        let remaining = other.remaining(&lease).await?;
        // Stores may count in whole seconds, and grant less than one more.
        let second = Duration::from_secs(1);
        let least = (start + ttl).saturating_duration_since(Instant::now()).saturating_sub(second);
        let most = (started + ttl + second).saturating_duration_since(asked);
        check(
            remaining.is_some_and(|remaining| least <= remaining && remaining <= most),
            "asking for the remaining time",
            format_args!("between {least:?} and {most:?}"),
            format_args!("{remaining:?}"),
        )?;
    }
    Ok(())
}
