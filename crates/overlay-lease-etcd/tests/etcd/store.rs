//! What every store does, as far as etcd does it in a way of its own.

use std::time::Duration;

use overlay_lease::{
    Change, ConfigureError, CreateError, NetworkConfig, Store, Update, Watch, WriteError,
};

use crate::server::Etcd;
use crate::{IPV4, attributes, changes, claim, configured, node, soon, subnets};

const BOTH: &str = r#"{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd00:5::/48"}"#;
const IPV6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:5::/48"}"#;

#[tokio::test]
async fn a_lease_lives_and_ends() {
    let Some(etcd) = Etcd::start("a lease lives and ends") else { return };
    let store = etcd.store();
    assert_eq!(store.config().await.unwrap(), None);
    let config = configured(&store, IPV4).await;
    assert_eq!(store.config().await.unwrap(), Some(config.clone()));
    let standing = store.standing(&node("a")).await.unwrap();
    assert_eq!(
        (&standing.config, &standing.lease, &standing.last),
        (&Some(config.clone()), &None, &None)
    );
    assert!(standing.may_guess);

    let mut watch = store.watch(config.revision).await.unwrap();
    let lease = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24 at 192.0.2.1"]);
    let standing = store.standing(&node("a")).await.unwrap();
    assert_eq!(standing.lease.as_ref(), Some(&lease));
    let left = store.remaining(&lease).await.unwrap().unwrap();
    assert!((50..=60).contains(&left.as_secs()), "{left:?}");

    let moved = store.update(&lease, &attributes("192.0.2.2"), lease.ttl).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24 at 192.0.2.2"]);
    assert!(moved.revision > lease.revision && moved.created == lease.created);
    assert_eq!(store.snapshot().await.unwrap().leases, std::slice::from_ref(&moved));
    // The lease as it was before is no longer good for anything.
    for result in [
        store.update(&lease, &attributes("192.0.2.3"), lease.ttl).await.map(drop),
        store.renew(&lease).await,
        store.remove(&lease).await,
        store.remaining(&lease).await.map(drop),
    ] {
        let Err(WriteError::Fenced(Some(now))) = result else { panic!("{result:?}") };
        assert_eq!(now, moved);
    }

    store.renew(&moved).await.unwrap();
    store.remove(&moved).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24 gone"]);
    let Err(WriteError::Fenced(None)) = store.remove(&moved).await else { panic!("it is gone") };
    let standing = store.standing(&node("a")).await.unwrap();
    assert_eq!((standing.lease, standing.last), (None, Some(subnets("10.5.1.0/24"))));
    // Nothing but the configuration and the history is left.
    let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "/"]);
    let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
    assert_eq!(keys, ["/coreos.com/network/config", "/coreos.com/network/tenants/nodes/a"]);
    assert_eq!(etcd.ctl(&["lease", "list"]).trim(), "found 0 leases");
}

#[tokio::test]
async fn an_expired_lease_leaves_nothing_in_the_way() {
    let Some(etcd) = Etcd::start("an expired lease") else { return };
    let store = etcd.store();
    let config = configured(&store, BOTH).await;
    let mut claim = claim("10.5.1.0/24,fd00:5:0:1::/64", "a", &config);
    claim.ttl = Some(Duration::from_millis(700));
    let mut watch = store.watch(config.revision).await.unwrap();
    let lease = store.create(&claim).await.unwrap();
    assert_eq!(lease.ttl, Some(Duration::from_secs(1)), "etcd counts whole seconds");
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24,fd00:5:0:1::/64 at 192.0.2.1"]);
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24,fd00:5:0:1::/64 gone"]);
    let Err(WriteError::Fenced(None)) = store.renew(&lease).await else { panic!("it is gone") };
    let standing = store.standing(&node("a")).await.unwrap();
    assert_eq!((standing.lease, standing.last), (None, Some(claim.subnets)));
    assert_eq!(store.tenants().await.unwrap()[0].subnets, claim.subnets);
    store.create(&claim).await.unwrap();
}

#[tokio::test]
async fn overlaps_are_noticed_without_reading_all_leases() {
    let Some(etcd) = Etcd::start("overlaps") else { return };
    let store = etcd.store();
    let config = configured(&store, BOTH).await;
    let held = store.create(&claim("10.5.16.0/20,fd00:5:0:10::/60", "a", &config)).await.unwrap();
    for (other, overlaps) in [
        ("10.5.16.0/20", true),
        ("10.5.16.0/24", true),
        ("10.5.31.0/24", true),
        ("10.5.20.4/30", true),
        ("10.5.0.0/16", true),
        ("10.5.32.0/24", false),
        ("10.5.160.0/24", false),
        ("10.5.15.0/24", false),
        ("fd00:5:0:10::/64", true),
        ("fd00:5:0:1f::/64", true),
        ("fd00:5::/56", true),
        ("fd00:5:0:20::/60", false),
        ("10.5.1.0/24,fd00:5:0:11::/64", true),
        ("10.5.17.0/24,fd00:5:0:1::/64", true),
        ("10.5.1.0/24,fd00:5:0:1::/64", false),
    ] {
        let result = store.create(&claim(other, "b", &config)).await;
        match result {
            Err(CreateError::Taken(by)) if overlaps => assert_eq!(by, held),
            Ok(lease) if !overlaps => store.remove(&lease).await.unwrap(),
            result => panic!("{other}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn a_node_has_one_lease() {
    let Some(etcd) = Etcd::start("a node has one lease") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    let held = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    let again = store.create(&claim("10.5.2.0/24", "a", &config)).await;
    let Err(CreateError::Holds(lease)) = again else { panic!("{again:?}") };
    assert_eq!(lease, held);
    let same = store.create(&claim("10.5.1.0/24", "a", &config)).await;
    assert!(matches!(same, Err(CreateError::Taken(lease)) if lease == held));
    // Nor is there anything left of the attempts.
    assert!(etcd.ctl(&["lease", "list"]).starts_with("found 1 leases"));
}

#[tokio::test]
async fn subnets_are_chosen_under_the_present_configuration() {
    let Some(etcd) = Etcd::start("the present configuration") else { return };
    let store = etcd.store();
    let before = configured(&store, IPV4).await;
    let config = NetworkConfig::from_json(BOTH).unwrap();
    let after = store.configure(&config, Some(before.revision)).await.unwrap();
    let late = store.configure(&config, Some(before.revision)).await;
    assert!(matches!(late, Err(ConfigureError::Reconfigured(Some(now))) if now == after));
    let late = store.configure(&config, None).await;
    assert!(matches!(late, Err(ConfigureError::Reconfigured(Some(now))) if now == after));

    let late = store.create(&claim("10.5.1.0/24", "a", &before)).await;
    assert!(matches!(late, Err(CreateError::Reconfigured(Some(now))) if now == after));
    etcd.ctl(&["del", "/coreos.com/network/config"]);
    let late = store.create(&claim("10.5.1.0/24", "a", &after)).await;
    assert!(matches!(late, Err(CreateError::Reconfigured(None))), "{late:?}");
}

#[tokio::test]
async fn ipv6_alone_has_keys_that_flannel_does_not_see() {
    let Some(etcd) = Etcd::start("IPv6 alone") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV6).await;
    let mut watch = store.watch(config.revision).await.unwrap();
    let lease = store.create(&claim("fd00:5:0:1::/64", "a", &config)).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["fd00:5:0:1::/64 at 192.0.2.1"]);
    assert_eq!(store.snapshot().await.unwrap().leases, std::slice::from_ref(&lease));
    assert_eq!(store.standing(&node("a")).await.unwrap().lease, Some(lease.clone()));
    assert_eq!(etcd.ctl(&["get", "--prefix", "/coreos.com/network/subnets"]), "");
    store.remove(&lease).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["fd00:5:0:1::/64 gone"]);
}

#[tokio::test]
async fn a_lease_becomes_a_reservation_and_a_lease_again() {
    let Some(etcd) = Etcd::start("reservations") else { return };
    let store = etcd.store();
    let config = configured(&store, BOTH).await;
    let leased = store.create(&claim("10.5.1.0/24,fd00:5:0:1::/64", "a", &config)).await.unwrap();
    let reserved = store.update(&leased, &leased.attributes, None).await.unwrap();
    assert!(reserved.is_reservation());
    assert_eq!(store.snapshot().await.unwrap().leases, std::slice::from_ref(&reserved));
    assert_eq!(store.remaining(&reserved).await.unwrap(), None);
    store.renew(&reserved).await.unwrap();
    assert_eq!(etcd.ctl(&["lease", "list"]).trim(), "found 0 leases");
    // All that belongs to it has become as lasting as itself.
    assert_eq!(store.standing(&node("a")).await.unwrap().lease, Some(reserved.clone()));
    let other = store.create(&claim("10.5.2.0/24,fd00:5:0:1::/64", "b", &config)).await;
    assert!(matches!(other, Err(CreateError::Taken(_))), "{other:?}");

    let ttl = Some(Duration::from_secs(2));
    let leased = store.update(&reserved, &attributes("192.0.2.7"), ttl).await.unwrap();
    assert_eq!(leased.ttl, ttl);
    let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "/coreos.com/network/tenants"]);
    assert_eq!(keys.lines().filter(|key| !key.is_empty()).count(), 2, "{keys}");
    let mut watch = store.watch(leased.revision).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24,fd00:5:0:1::/64 gone"]);
    let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "/coreos.com/network/tenants"]);
    assert_eq!(keys.trim(), "/coreos.com/network/tenants/nodes/a");
}

#[tokio::test]
async fn a_reservation_for_nobody_keeps_everybody_away() {
    let Some(etcd) = Etcd::start("a reservation for nobody") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    let mut nobody = claim("10.5.1.0/24", "x", &config);
    (nobody.node, nobody.ttl) = (None, None);
    let reserved = store.create(&nobody).await.unwrap();
    let result = store.create(&claim("10.5.1.0/24", "a", &config)).await;
    assert!(matches!(result, Err(CreateError::Taken(by)) if by == reserved));
    store.remove(&reserved).await.unwrap();
    store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
}

#[tokio::test]
async fn networks_with_names_are_apart() {
    let Some(etcd) = Etcd::start("networks with names") else { return };
    let (plain, red) = (etcd.store(), etcd.store().named(&"red".parse().unwrap()).unwrap());
    let config = configured(&plain, IPV4).await;
    let mut watch = plain.watch(config.revision).await.unwrap();
    let in_red = configured(&red, IPV4).await;
    let of_red = red.create(&claim("10.5.1.0/24", "a", &in_red)).await.unwrap();
    let in_plain = plain.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    // What happened in the other network is not told, although it lies between the keys of this one.
    let Update::Changes(changes) = soon(watch.next()).await.unwrap() else { panic!("a snapshot") };
    assert_eq!(changes.changes, [Change::Lease(in_plain.clone())]);
    assert_eq!(changes.skipped, []);
    assert_eq!(plain.snapshot().await.unwrap().leases, [in_plain]);
    assert_eq!(red.snapshot().await.unwrap().leases, [of_red]);
    assert!(red.named(&"subnets".parse().unwrap()).is_err());
}

#[tokio::test]
async fn what_was_deleted_by_hand_leaves_nothing_in_the_way() {
    let Some(etcd) = Etcd::start("deleted by hand") else { return };
    let store = etcd.store();
    let config = configured(&store, BOTH).await;
    let lease = store.create(&claim("10.5.1.0/24,fd00:5:0:1::/64", "a", &config)).await.unwrap();
    etcd.ctl(&["del", "--prefix", "/coreos.com/network/subnets/10.5.1.0-24"]);
    let Err(WriteError::Fenced(None)) = store.renew(&lease).await else { panic!("it is gone") };
    assert_eq!(store.standing(&node("a")).await.unwrap().lease, None);
    // The keys beside it are still there, and in nobody's way: not of the node, and not of others.
    let again = store.create(&claim("10.5.2.0/24,fd00:5:0:2::/64", "a", &config)).await.unwrap();
    let other = store.create(&claim("10.5.3.0/24,fd00:5:0:1::/64", "b", &config)).await.unwrap();
    assert_eq!(store.standing(&node("a")).await.unwrap().lease, Some(again));
    assert_eq!(store.standing(&node("b")).await.unwrap().lease, Some(other));
}

#[tokio::test]
async fn two_hundred_nodes_at_the_same_instant_all_get_subnets_of_their_own() {
    let Some(etcd) = Etcd::start("200 nodes at the same instant") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    let mut nodes = tokio::task::JoinSet::new();
    for number in 0..200_u32 {
        // Each with a connection of its own, and always four that want the same subnet first.
        let (store, config) = (etcd.store(), config.clone());
        nodes.spawn(async move {
            for candidate in 0.. {
                let subnets = format!("10.5.{}.0/24", (number / 4 + candidate * 53) % 256);
                match store.create(&claim(&subnets, &format!("n{number}"), &config)).await {
                    Ok(lease) => return lease,
                    Err(CreateError::Taken(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            unreachable!("there are more subnets than nodes")
        });
    }
    let leases = soon(nodes.join_all()).await;
    let distinct: std::collections::BTreeSet<_> =
        leases.iter().map(|lease| lease.subnets).collect();
    assert_eq!(distinct.len(), 200);
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.leases.len(), 200);
    assert!(leases.iter().all(|lease| snapshot.leases.contains(lease)));
}
