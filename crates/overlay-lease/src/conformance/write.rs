//! Changing, renewing and removing leases.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::client::{Client, at_once, check, same, text};
use super::ledger::{Follower, Ledger};
use super::sample::{LONG, attributes, claim, dual, node, red, v4};
use super::{Broken, Testbed};
use crate::attributes::Attributes;
use crate::family::{ByFamily, Endpoint};
use crate::lease::{Lease, Revision};
use crate::store::{LATE, Store, WriteError};

pub(super) async fn attributes_come_back_exactly<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let mut claim = claim(dual(1), 1, LONG, &configured);
    let mut all = odd();
    claim.attributes = all.remove(0);
    let mut lease = one.create(&claim).await?;
    same("claiming with these attributes", &claim.attributes, &lease.attributes)?;
    for attributes in all {
        lease = one.update(&lease, &attributes, LONG).await?;
        same("updating to these attributes", &attributes, &lease.attributes)?;
        let standing = other.standing(&node(1)).await?;
        same("the lease as others see it", &Some(lease.clone()), &standing.lease)?;
        // Had they come back only nearly the same, this would be a change.
        let again = other.update(&lease, &attributes, LONG).await?;
        same("updating to the same attributes", &lease, &again)?;
    }
    Ok(())
}

/// Attributes that are hard to keep.
fn odd() -> Vec<Attributes> {
    let mut endpoints = attributes(1);
    endpoints.endpoints = ByFamily {
        v4: Some(Endpoint { advertised: [203, 0, 113, 7].into(), bind: [10, 0, 0, 7].into() }),
        v6: Some(Endpoint {
            advertised: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into(),
            bind: [0xfd00, 0, 0, 0, 0, 0, 0, 7].into(),
        }),
    };
    endpoints.data.v6 = Some(json!({"VNI": 2}));
    let mut only_v6 = attributes(1);
    only_v6.endpoints.v4 = None;
    only_v6.endpoints.v6 = endpoints.endpoints.v6.map(|v6| Endpoint::at(v6.advertised));
    only_v6.data = ByFamily { v4: None, v6: only_v6.data.v4 };
    let others: [Value; 10] = [
        json!("\u{0}\u{1f}\"\\/ \u{7f} ü 日本 🦀 \u{10ffff} \r\n\t'%_--;"),
        json!([u64::MAX, i64::MIN, 0, -1, 1u64 << 53, (1u64 << 53) + 1]),
        json!([0.1, 0.3, -0.0, 1.0, 1e300, f64::MIN_POSITIVE, f64::MAX, 5e-324, 2.0 / 3.0]),
        json!([[], {}, [[[[{"a": [{"b": null}]}]]]], null, true, false]),
        json!({"": "", " ": 0, "ü": {"ü": 1}, "a.b": 1, "a/b": 2, "$": "$"}),
        json!("x".repeat(100_000)),
        json!((0..5_000).collect::<Vec<_>>()),
        json!(null),
        json!(""),
        json!("null"),
    ];
    let others = others.into_iter().enumerate().map(|(number, value)| {
        let mut attributes = attributes(1);
        attributes.others.insert(format!("Odd{number}"), value.clone());
        attributes.others.insert("🦀 'quoted' \"name\"".into(), json!(number));
        if !value.is_null() {
            attributes.data.v4 = Some(value);
        }
        attributes
    });
    [Attributes::default(), endpoints, only_v6].into_iter().chain(others).collect()
}

pub(super) async fn an_update_changes_in_place<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let first = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
    let second = other.update(&first, &attributes(2), LONG).await?;
    let mut expected = Lease::clone(&first);
    expected.attributes = attributes(2);
    expected.revision = second.revision;
    same("updating", &expected, &*second)?;
    check(
        second.revision > first.revision,
        "updating",
        format_args!("a later revision than {}", first.revision),
        second.revision,
    )?;
    let third = one.update(&second, &attributes(3), LONG).await?;
    same("when the lease was made, after two updates", &first.created, &third.created)?;
    same("the leases", &vec![third.clone()], &other.snapshot().await?.leases)?;
    one.fenced(&first, Some(&third)).await
}

pub(super) async fn an_update_that_changes_nothing_wakes_nobody<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let lease = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
    let mut ledger = Ledger::default();
    let mut watch = Follower::new(&other, other.snapshot().await?.revision, 0).await?;
    for _ in 0..3 {
        let again = one.update(&lease, &lease.attributes, lease.ttl).await?;
        same("updating without a change", &lease, &again)?;
    }
    watch.silent().await?;
    same("the leases", &vec![lease], &other.snapshot().await?.leases)?;
    ledger.lease(&one.create(&claim(dual(2), 2, LONG, &configured)).await?);
    watch.catch_up(&ledger).await
}

pub(super) async fn renewing_wakes_nobody<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let lease = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
    let reservation = one.create(&claim(dual(2), 2, None, &configured)).await?;
    let mut ledger = Ledger::default();
    let mut watch = Follower::new(&other, other.snapshot().await?.revision, 0).await?;
    for client in [&one, &other, &one] {
        client.renew(&lease).await?;
        client.renew(&reservation).await?;
    }
    watch.silent().await?;
    let mut leases = other.snapshot().await?.leases;
    leases.sort_by_key(|lease| lease.revision);
    same("the leases", &vec![lease, reservation], &leases)?;
    ledger.lease(&one.create(&claim(dual(3), 3, LONG, &configured)).await?);
    watch.catch_up(&ledger).await
}

pub(super) async fn stale_writes_change_nothing<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    for (subnets, number, ttl) in [(dual(1), 1, LONG), (dual(2), 2, None)] {
        let first = client.create(&claim(subnets, number, ttl, &configured)).await?;
        let second = client.update(&first, &attributes(9), ttl).await?;
        client.fenced(&first, Some(&second)).await?;
        let mut future = Lease::clone(&second);
        future.revision = second.revision.next();
        client.fenced(&future, Some(&second)).await?;
        future.revision = Revision::ZERO;
        client.fenced(&future, Some(&second)).await?;
        let standing = client.standing(&node(number)).await?;
        same("the lease after refused writes", &Some(second.clone()), &standing.lease)?;
        client.update(&second, &attributes(8), ttl).await?;
    }
    // Subnets that nobody ever had.
    let mut never = Lease::clone(&*client.create(&claim(dual(3), 3, LONG, &configured)).await?);
    never.subnets = v4(4).into();
    client.fenced(&never, None).await
}

pub(super) async fn writes_of_others_change_nothing<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let mine = client.create(&claim(dual(1), 1, LONG, &configured)).await?;
    client.create(&claim(dual(2), 2, LONG, &configured)).await?;
    for node in [Some(node(2)), Some(node(3)), None] {
        let mut forged = Lease::clone(&mine);
        forged.node = node;
        client.fenced(&forged, Some(&mine)).await?;
    }
    let standing = client.standing(&node(1)).await?;
    same("the lease after refused writes", &Some(mine.clone()), &standing.lease)?;
    client.renew(&mine).await
}

pub(super) async fn late_writes_change_nothing<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let late = Client::new(testbed, &red()).await?;
    let old = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
    one.remove(&old).await?;
    late.fenced(&old, None).await?;
    // The same node comes back: it has the same subnets, and yet another lease.
    let again = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
    late.fenced(&old, Some(&again)).await?;
    one.remove(&again).await?;
    let ttl = Some(Duration::from_secs(30));
    let successor = one.create(&claim(dual(1), 2, ttl, &configured)).await?;
    for old in [&old, &again] {
        late.fenced(old, Some(&successor)).await?;
    }
    let standing = late.standing(&node(2)).await?;
    same("the successor's lease", &Some(successor.clone()), &standing.lease)?;
    one.renew(&successor).await
}

pub(super) async fn writes_after_expiry_change_nothing<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let late = Client::new(testbed, &red()).await?;
    let ttl = Duration::from_secs(2);
    let old = one.create(&claim(dual(1), 1, Some(ttl), &configured)).await?;
    sleep(old.ttl.unwrap_or(ttl) + LATE).await;
    late.fenced(&old, None).await?;
    let successor = one.create(&claim(dual(1), 2, Some(ttl), &configured)).await?;
    late.fenced(&old, Some(&successor)).await?;
    // A write that comes late would also make the successor's lease live longer than it may.
    sleep(successor.ttl.unwrap_or(ttl) + LATE).await;
    late.fenced(&successor, None).await
}

pub(super) async fn of_several_updates_one_is_made<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let lease = client.create(&claim(dual(1), 1, LONG, &configured)).await?;
    let base = lease.clone();
    let results = at_once(testbed, &red(), 16, move |store, number| {
        let base = base.clone();
        async move { store.update(&base, &attributes(number + 2), LONG).await }
    })
    .await?;
    let step = "updating a lease 16 times at once";
    let made: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let [one] = made[..] else {
        return Err(Broken::new(step, "one success", format_args!("{results:?}")));
    };
    for result in &results {
        let right = match result {
            Ok(_) => true,
            Err(WriteError::Fenced(Some(found))) => found == one,
            Err(_) => false,
        };
        check(right, step, format_args!("one success, else refused: {one:?}"), text(result))?;
    }
    same("the leases", &vec![one.clone()], &client.snapshot().await?.leases)
}

pub(super) async fn removed_subnets_are_free<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let mut before = Revision::ZERO;
    for (client, number, ttl) in [(&one, 1, LONG), (&other, 2, None), (&one, 2, LONG)] {
        let lease = client.create(&claim(dual(1), number, ttl, &configured)).await?;
        check(
            lease.created > before,
            "claiming subnets that were removed",
            format_args!("a later revision than {before}"),
            lease.created,
        )?;
        before = lease.revision;
        other.remove(&lease).await?;
        let standing = one.standing(&node(number)).await?;
        same("the lease of a node after it was removed", &None, &standing.lease)?;
        same("the leases after removing all", &Vec::new(), &one.snapshot().await?.leases)?;
    }
    let elsewhere = one.create(&claim(v4(2), 2, LONG, &configured)).await?;
    same("claiming other subnets", &Some(node(2)), &elsewhere.node)
}
