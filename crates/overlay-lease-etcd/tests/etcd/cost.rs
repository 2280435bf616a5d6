//! How many requests things take, and whom they wake.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_lease::{Claim, CreateError, Store, Update, Watch};
use overlay_lease_etcd::{EtcdOptions, EtcdStore};

use crate::proxy::{Proxy, Weather};
use crate::server::Etcd;
use crate::{attributes, changes, claim, configured, node, only, soon};

const LARGE: &str = r#"{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

/// Leases as Flannel would have them, written by etcd's own client in transactions of 100.
fn fill(etcd: &Etcd, leases: u32) {
    for first in (0..leases).step_by(100) {
        let mut script = String::from("\n");
        for number in first..leases.min(first + 100) {
            let (high, low) = (100 + number / 256, number % 256);
            let key = format!("/coreos.com/network/subnets/10.{high}.{low}.0-24");
            script += &format!(r#"put {key} "{{\"PublicIP\":\"198.51.{high}.{low}\"}}""#);
            script.push('\n');
        }
        script += "\n\n";
        etcd.ctl_with_input(&["txn"], &script);
    }
}

#[tokio::test]
async fn a_node_starts_with_six_requests_while_there_are_5000_leases() {
    a_node_starts_with_six_requests(5_000).await;
}

#[tokio::test]
async fn a_node_starts_with_six_requests_while_there_are_10000_leases() {
    a_node_starts_with_six_requests(10_000).await;
}

async fn a_node_starts_with_six_requests(leases: u32) {
    let Some(etcd) = Etcd::start("many leases") else { return };
    fill(&etcd, leases);
    let config = configured(&etcd.store(), LARGE).await;

    // A node that never was there: it looks, takes a subnet, and follows the others.
    let store = etcd.store();
    let standing = store.standing(&node("new")).await.unwrap();
    assert!(standing.may_guess && standing.lease.is_none());
    let lease = store.create(&claim("10.5.1.0/24", "new", &config)).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    store.watch(snapshot.revision).await.unwrap();
    assert_eq!(snapshot.leases.len(), leases as usize + 1);
    assert_eq!(store.requests(), 5, "standing, grant, transaction, list, watch");

    // The same node after a restart.
    let store = etcd.store();
    let standing = store.standing(&node("new")).await.unwrap();
    assert_eq!(standing.lease, Some(lease.clone()));
    let snapshot = store.snapshot().await.unwrap();
    store.watch(snapshot.revision).await.unwrap();
    assert_eq!(store.requests(), 4, "two for its standing, list, watch");

    // Once more, after its lease has gone.
    store.remove(&lease).await.unwrap();
    let store = etcd.store();
    let standing = store.standing(&node("new")).await.unwrap();
    assert_eq!((standing.lease, standing.last), (None, Some(lease.subnets)));
    store.create(&claim("10.5.1.0/24", "new", &config)).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let mut watch = store.watch(snapshot.revision).await.unwrap();
    assert_eq!(store.requests(), 6, "two for its standing, grant, transaction, list, watch");

    // One that reads everything before it chooses.
    let store = etcd.store();
    store.standing(&node("careful")).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    store.tenants().await.unwrap();
    store.create(&claim("10.5.2.0/24", "careful", &config)).await.unwrap();
    store.watch(snapshot.revision).await.unwrap();
    assert_eq!(store.requests(), 6, "standing, list, tenants, grant, transaction, watch");
    assert_eq!(changes(&mut watch).await, ["10.5.2.0/24 at 192.0.2.1"]);
}

#[tokio::test]
async fn another_try_uses_the_etcd_lease_of_the_one_before() {
    let Some(etcd) = Etcd::start("another try") else { return };
    let near = etcd.store();
    let config = configured(&near, LARGE).await;
    let lease = near.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();

    let store = etcd.store();
    let short = |subnets| Claim { ttl: Some(TERM), ..claim(subnets, "b", &config) };
    store.config().await.unwrap();
    for number in 1..=2 {
        let taken = store.create(&short("10.5.1.0/24")).await;
        assert!(matches!(taken, Err(CreateError::Taken(by)) if by == lease));
        assert_eq!(store.requests(), 1 + 2 * number, "each begins a term and tries");
    }
    // Its term begins with this try, and not with the first.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let asked = Instant::now();
    let made = store.create(&short("10.5.2.0/24")).await.unwrap();
    assert_eq!(store.requests(), 7);
    assert_eq!(etcd.ctl(&["lease", "list"]).lines().count(), 3, "a title, and one each");
    let left = store.remaining(&made).await.unwrap().expect("it has a term");
    // etcd says whole seconds, rounded down.
    assert!(left + asked.elapsed() + Duration::from_secs(1) >= TERM, "{left:?}");

    // One of another term is of no use, and nothing is left of any.
    let holds = store.create(&short("10.5.1.0/24")).await;
    assert!(matches!(holds, Err(CreateError::Holds(by)) if by == made));
    let taken =
        store.create(&Claim { ttl: Some(TERM), ..claim("10.5.1.0/24", "c", &config) }).await;
    assert!(matches!(taken, Err(CreateError::Taken(_))));
    store.create(&claim("10.5.3.0/24", "c", &config)).await.unwrap();
    only(&etcd, 3).await;
}

/// A term that other claims do not have.
const TERM: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_list_longer_than_a_page_is_of_one_revision() {
    let Some(etcd) = Etcd::start("a long list") else { return };
    fill(&etcd, 20_100);
    let store = etcd.store();
    let before = store.requests();
    let snapshot = soon(store.snapshot()).await.unwrap();
    assert_eq!(store.requests() - before, 2);
    let distinct: BTreeSet<_> = snapshot.leases.iter().map(|lease| lease.subnets).collect();
    assert_eq!((snapshot.leases.len(), distinct.len()), (20_100, 20_100));
}

#[tokio::test]
async fn renewals_wake_nobody() {
    let Some(etcd) = Etcd::start("renewals") else { return };
    let store = etcd.store();
    let config = configured(&store, LARGE).await;
    let lease = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    let other = store.create(&claim("10.5.2.0/24", "b", &config)).await.unwrap();
    let mut watch = store.watch(other.revision).await.unwrap();
    let before = store.requests();
    for _ in 0..50 {
        store.renew(&lease).await.unwrap();
    }
    assert_eq!(store.requests() - before, 100, "two requests each");
    let unchanged = store.update(&lease, &lease.attributes, lease.ttl).await.unwrap();
    assert_eq!(unchanged, lease);
    // Nothing comes before the change that is one.
    store.update(&other, &attributes("192.0.2.2"), other.ttl).await.unwrap();
    let Update::Changes(first) = soon(watch.next()).await.unwrap() else { panic!("a snapshot") };
    assert_eq!(first.changes.len(), 1);
    assert_eq!(first.revision.get(), other.revision.get() + 1, "renewing wrote something");
}

#[tokio::test]
async fn what_many_look_up_at_once_takes_few_requests_and_strands_nobody() {
    const NODES: usize = 200;
    let Some(etcd) = Etcd::start("many questions") else { return };
    let proxy = Proxy::to(etcd.port()).await;
    proxy.set(Weather::Fair(Duration::from_millis(30)));
    let store = EtcdStore::new(&EtcdOptions::parse(&proxy.url()).unwrap()).unwrap();
    let config = configured(&store, LARGE).await;
    let held = store.create(&claim("10.5.1.0/24", "n7", &config)).await.unwrap();
    let ask = |nodes: &mut tokio::task::JoinSet<_>, number: usize| {
        let store = store.clone();
        nodes.spawn(async move {
            (number, store.standing(&node(&format!("n{number}"))).await.unwrap().lease)
        })
    };

    let before = store.requests();
    let mut nodes = tokio::task::JoinSet::new();
    for number in 0..NODES {
        ask(&mut nodes, number);
    }
    for (number, lease) in soon(nodes.join_all()).await {
        assert_eq!(lease, (number == 7).then(|| held.clone()), "node {number}");
    }
    let took = store.requests() - before;
    assert!(took <= 20, "{took} requests");

    // Whoever is dropped may have been asking for others as well.
    let mut nodes = tokio::task::JoinSet::new();
    let asking: Vec<_> = (0..NODES).map(|number| ask(&mut nodes, number)).collect();
    for task in asking.iter().step_by(2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        task.abort();
    }
    let mut answered = 0;
    soon(async {
        while let Some(result) = nodes.join_next().await {
            answered += usize::from(result.is_ok());
        }
    })
    .await;
    assert!((NODES / 2..NODES).contains(&answered), "{answered}");
}

#[tokio::test]
async fn a_thousand_acquisitions_with_256_in_flight_all_get_subnets_of_their_own() {
    const NODES: u32 = 1000;
    let Some(etcd) = Etcd::start("1000 acquisitions") else { return };
    let store = etcd.store();
    let config = configured(&store, LARGE).await;
    let places = Arc::new(tokio::sync::Semaphore::new(256));
    let begin = Instant::now();
    let mut nodes = tokio::task::JoinSet::new();
    for number in 0..NODES {
        let (store, config, places) = (store.clone(), config.clone(), places.clone());
        nodes.spawn(async move {
            let _place = places.acquire().await.unwrap();
            for candidate in 0.. {
                // Scattered over 4096 subnets, so that some collide at first.
                let place = (number + candidate * 7).wrapping_mul(2_654_435_761) >> 20;
                let subnets = format!("10.{}.{}.0/24", place / 256, place % 256);
                match store.create(&claim(&subnets, &format!("n{number}"), &config)).await {
                    Ok(lease) => return lease.subnets,
                    Err(CreateError::Taken(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            unreachable!("there are more subnets than nodes")
        });
    }
    let distinct: BTreeSet<_> = soon(nodes.join_all()).await.into_iter().collect();
    assert_eq!(distinct.len(), NODES as usize);
    eprintln!("{NODES} acquisitions: {:?}, {} requests", begin.elapsed(), store.requests());
    assert!(begin.elapsed() < Duration::from_secs(40));
}
