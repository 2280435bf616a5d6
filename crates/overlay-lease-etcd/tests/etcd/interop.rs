//! Flannel's nodes and ours in one network. What Flannel writes is written by etcd's own client here.

use std::time::Duration;

use overlay_lease::{
    Change, CreateError, Endpoint, Endpoints, NodeId, Store, Update, Watch, WriteError,
};
use serde_json::{Value, json};

use crate::server::Etcd;
use crate::{IPV4, attributes, changes, claim, configured, node, soon, subnets};

const PREFIX: &str = "/coreos.com/network";

/// As Flannel 0.20 and later write the value of a lease.
const FLANNELS: &str = r#"{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:58:0a:05:09:00"}}"#;

/// An etcd lease of a day, as Flannel has.
fn grant(etcd: &Etcd) -> String {
    let said = etcd.ctl(&["lease", "grant", "86400"]);
    said.split_whitespace().nth(1).unwrap().to_owned()
}

fn put_leased(etcd: &Etcd, key: &str, value: &str) {
    etcd.ctl(&["put", &format!("--lease={}", grant(etcd)), &format!("{PREFIX}/{key}"), value]);
}

fn put(etcd: &Etcd, key: &str, value: &str) {
    etcd.ctl(&["put", &format!("{PREFIX}/{key}"), value]);
}

#[tokio::test]
async fn flannels_leases_are_read_and_respected() {
    let Some(etcd) = Etcd::start("Flannel's leases") else { return };
    let store = etcd.store();
    put(&etcd, "config", r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#);
    let config = store.config().await.unwrap().unwrap();
    let mut watch = store.watch(config.revision).await.unwrap();
    put_leased(&etcd, "subnets/10.5.9.0-24", FLANNELS);
    put_leased(&etcd, "subnets/10.5.84.0-24&fd99:99:0:e::-64", FLANNELS);
    assert_eq!(changes(&mut watch).await, ["10.5.9.0/24 at 192.0.2.9"]);
    assert_eq!(changes(&mut watch).await, ["10.5.84.0/24,fd99:99:0:e::/64 at 192.0.2.9"]);

    let mut snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.skipped, []);
    snapshot.leases.sort_by_key(|lease| lease.created);
    let lease = &snapshot.leases[0];
    assert_eq!((lease.subnets, &lease.node), (subnets("10.5.9.0/24"), &None));
    assert_eq!(lease.ttl, Some(Duration::from_secs(86400)));
    assert_eq!(lease.attributes.endpoints, Endpoints::at(["192.0.2.9".parse().unwrap()]));
    assert_eq!(lease.attributes.data.v4, Some(json!({"VNI": 1, "VtepMAC": "0a:58:0a:05:09:00"})));
    assert!((86_000..=86_400).contains(&store.remaining(lease).await.unwrap().unwrap().as_secs()));

    for taken in ["10.5.9.0/24", "10.5.84.0/24", "10.5.84.0/22", "10.5.9.8/29"] {
        let result = store.create(&claim(taken, "a", &config)).await;
        assert!(matches!(result, Err(CreateError::Taken(_))), "{taken}: {result:?}");
    }
}

/// Flannel's transaction asks for its own key only. README.md says what follows from that.
#[tokio::test]
async fn what_flannel_takes_at_the_same_moment_hides_nobody() {
    let Some(etcd) = Etcd::start("Flannel at the same moment") else { return };
    let store = etcd.store();
    let both = r#"{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}"#;
    let config = configured(&store, both).await;
    let mut watch = store.watch(config.revision).await.unwrap();
    assert!(!store.standing(&node("a")).await.unwrap().may_guess, "without a list");

    // After our list: what has the same IPv4 addresses is seen, what has the same of IPv6 alone is not.
    put_leased(&etcd, "subnets/10.5.1.0-24&fd00:5:0:7::-64", FLANNELS);
    let refused = store.create(&claim("10.5.1.0/24,fd00:5:0:1::/64", "a", &config)).await;
    assert!(matches!(refused, Err(CreateError::Taken(_))), "{refused:?}");
    let ours = store.create(&claim("10.5.2.0/24,fd00:5:0:7::/64", "a", &config)).await.unwrap();
    // Both stay, and everybody is told of both.
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24,fd00:5:0:7::/64 at 192.0.2.9"]);
    assert_eq!(changes(&mut watch).await, ["10.5.2.0/24,fd00:5:0:7::/64 at 192.0.2.1"]);
    assert_eq!(store.snapshot().await.unwrap().leases.len(), 2);
    // To remove ours leaves Flannel's, and the node is free to take others.
    store.remove(&ours).await.unwrap();
    let [theirs] = &store.snapshot().await.unwrap().leases[..] else { panic!("not one lease") };
    assert_eq!(theirs.node, None);
    store.create(&claim("10.5.2.0/24,fd00:5:0:2::/64", "a", &config)).await.unwrap();
}

#[tokio::test]
async fn flannel_reads_what_we_write() {
    let Some(etcd) = Etcd::start("what Flannel reads") else { return };
    let store = etcd.store();
    let config = configured(&store, r#"{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan","VNI":7}}"#).await;
    let written: Value = serde_json::from_str(&etcd.ctl(&[
        "get",
        "--print-value-only",
        &format!("{PREFIX}/config"),
    ]))
    .unwrap();
    assert_eq!(written["Network"], "10.5.0.0/16");
    assert_eq!(written["Backend"], json!({"Type": "vxlan", "VNI": 7}));

    let mut one = claim("10.5.1.0/24", "one", &config);
    one.attributes.data.v4 = Some(json!({"VNI": 7, "VtepMAC": "0a:58:0a:05:01:00"}));
    let mut two = claim("10.5.2.0/24,fd00:5:0:2::/64", "two", &config);
    two.attributes.endpoints.v6 = Some(Endpoint {
        advertised: "2001:db8::2".parse().unwrap(),
        bind: "fe80::2".parse().unwrap(),
    });
    let mut kept = claim("10.5.3.0/24", "three", &config);
    kept.ttl = None;
    for claim in [&one, &two, &kept] {
        store.create(claim).await.unwrap();
    }
    // All that Flannel lists, by what it asks for: without a slash.
    let listed = etcd.ctl(&["get", "--prefix", &format!("{PREFIX}/subnets")]);
    let lines: Vec<_> = listed.lines().collect();
    let values: Vec<(&str, Value)> = lines
        .chunks(2)
        .map(|pair| (pair[0].strip_prefix(PREFIX).unwrap(), serde_json::from_str(pair[1]).unwrap()))
        .collect();
    assert_eq!(
        values,
        [
            (
                "/subnets/10.5.1.0-24",
                json!({
                    "PublicIP": "192.0.2.1",
                    "BackendType": "vxlan",
                    "BackendData": {"VNI": 7, "VtepMAC": "0a:58:0a:05:01:00"},
                    "OverlayNode": "one",
                    "OverlayTTL": 60,
                })
            ),
            (
                "/subnets/10.5.2.0-24&fd00:5:0:2::-64",
                json!({
                    "PublicIP": "192.0.2.1",
                    "PublicIPv6": "2001:db8::2",
                    "BindIPv6": "fe80::2",
                    "BackendType": "vxlan",
                    "OverlayNode": "two",
                    "OverlayTTL": 60,
                })
            ),
            (
                "/subnets/10.5.3.0-24",
                json!({"PublicIP": "192.0.2.1", "BackendType": "vxlan", "OverlayNode": "three"})
            ),
        ]
    );
    // A reservation is a key without an etcd lease, as Flannel documents it; the others have one each.
    let fields = etcd.ctl(&["get", "--prefix", "-w", "fields", &format!("{PREFIX}/subnets")]);
    let leases: Vec<_> =
        fields.lines().filter_map(|line| line.strip_prefix("\"Lease\" : ")).collect();
    assert!(leases.len() == 3 && leases[2] == "0" && leases[0] != leases[1], "{leases:?}");
}

#[tokio::test]
async fn a_reservation_by_hand_is_one() {
    let Some(etcd) = Etcd::start("a reservation by hand") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    put(&etcd, "subnets/10.5.7.0-24", r#"{"PublicIP":"192.0.2.7"}"#);
    let snapshot = store.snapshot().await.unwrap();
    assert!(snapshot.leases[0].is_reservation());
    let result = store.create(&claim("10.5.7.0/24", "a", &config)).await;
    assert!(matches!(result, Err(CreateError::Taken(by)) if by == snapshot.leases[0]));
}

#[tokio::test]
async fn flannels_renewal_fences_and_a_change_keeps_what_it_says() {
    let Some(etcd) = Etcd::start("Flannel's renewal") else { return };
    let store = etcd.store();
    configured(&store, IPV4).await;
    put_leased(&etcd, "subnets/10.5.9.0-24", FLANNELS);
    let lease = store.snapshot().await.unwrap().leases.remove(0);
    // Flannel renews by another put with another etcd lease.
    put_leased(&etcd, "subnets/10.5.9.0-24", FLANNELS);
    let result = store.remove(&lease).await;
    let Err(WriteError::Fenced(Some(now))) = result else { panic!("{result:?}") };
    assert!(now.revision > lease.revision && now.created == lease.created);
    let mut changed = now.attributes.clone();
    changed.others.insert("Rack".into(), json!(12));
    let now = store.update(&now, &changed, now.ttl).await.unwrap();
    assert_eq!((&now.node, &now.attributes), (&None, &changed));
    store.remove(&now).await.unwrap();
    assert_eq!(etcd.ctl(&["get", "--prefix", &format!("{PREFIX}/subnets")]), "");
}

#[tokio::test]
async fn a_lease_that_flannel_took_over_is_no_longer_ours() {
    let Some(etcd) = Etcd::start("taken over") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    let ours = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    put_leased(&etcd, "subnets/10.5.1.0-24", FLANNELS);
    let result = store.renew(&ours).await;
    let Err(WriteError::Fenced(Some(theirs))) = result else { panic!("{result:?}") };
    assert_eq!(theirs.node, None);
    assert_eq!(store.standing(&node("a")).await.unwrap().lease, None);
    let result = store.create(&claim("10.5.1.0/24", "a", &config)).await;
    assert!(matches!(result, Err(CreateError::Taken(by)) if by == theirs));
    let again = store.create(&claim("10.5.2.0/24", "a", &config)).await.unwrap();
    assert_eq!(store.standing(&node("a")).await.unwrap().lease, Some(again));
}

#[tokio::test]
async fn what_cannot_be_read_is_reported_and_hides_nobody() {
    let Some(etcd) = Etcd::start("what cannot be read") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    let good = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    let mut watch = store.watch(good.revision).await.unwrap();
    let long = format!("subnets/{}", "x".repeat(2000));
    let strays = [
        ("subnets/10.5.2.0-24", "no JSON"),
        ("subnets/10.5.3.0-24", "[]"),
        ("subnets/10.5.4.0-24", r#"{"PublicIP":"nonsense"}"#),
        ("subnets/10.5.5.0-24", r#"{"PublicIP":"192.0.2.5","OverlayNode":7}"#),
        ("subnets/10.5.6.0-24", r#"{"PublicIP":"192.0.2.5","OverlayNode":"a b"}"#),
        ("subnets/10.5.7.7-24", FLANNELS),
        ("subnets/leader", "x"),
        (long.as_str(), "x"),
        ("config", "{"),
    ];
    for (key, value) in strays {
        put(&etcd, key, value);
        let Update::Changes(changes) = soon(watch.next()).await.unwrap() else { panic!("{key}") };
        assert_eq!(changes.changes, [], "{key}");
        let [skipped] = &changes.skipped[..] else { panic!("{key}: {changes:?}") };
        assert!(format!("{PREFIX}/{key}").starts_with(&skipped.key), "{skipped}");
        assert!(skipped.key.len() + skipped.reason.len() <= 600, "{skipped}");
    }
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.leases, std::slice::from_ref(&good));
    assert_eq!(snapshot.skipped.len(), strays.len());
    assert_eq!(snapshot.config, None);
    assert!(store.config().await.unwrap_err().to_string().contains("config"));
    assert!(store.standing(&NodeId::new("a").unwrap()).await.is_err());
    etcd.ctl(&["del", &format!("{PREFIX}/subnets/leader")]);

    // Its addresses are somebody's, whatever else it says.
    put(&etcd, "config", IPV4);
    let config = store.config().await.unwrap().unwrap();
    let result = store.create(&claim("10.5.2.0/24", "b", &config)).await;
    let Err(CreateError::Taken(by)) = result else { panic!("{result:?}") };
    assert_eq!((by.subnets, &by.node), (subnets("10.5.2.0/24"), &None));
    // What no longer says what it said before is not gone: nobody has told that it is.
    put(&etcd, "subnets/10.5.1.0-24", "no JSON");
    let told = loop {
        let Update::Changes(changes) = soon(watch.next()).await.unwrap() else {
            panic!("a snapshot")
        };
        if !changes.skipped.is_empty() {
            break changes;
        }
        assert!(!changes.changes.contains(&Change::Gone(good.subnets)));
    };
    assert_eq!(told.changes, []);
    assert!(store.update(&good, &attributes("192.0.2.2"), None).await.is_err());
}
