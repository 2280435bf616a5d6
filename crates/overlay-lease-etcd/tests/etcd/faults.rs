//! etcd that dies, falls silent, is slow, forgets, or is another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use overlay_lease::{
    Change, ConfigureError, CreateError, Lease, NetworkConfig, Revision, Store, StoreError,
    StoreErrorKind, Update, View, Watch, WriteError,
};
use overlay_lease_etcd::{EtcdOptions, EtcdStore};

use crate::proxy::{Proxy, Weather};
use crate::server::Etcd;
use crate::{
    IPV4, PATIENCE, attributes, changes, claim, configured, node, only, soon, subnets, told,
};

/// A client that soon notices that nobody answers, and an etcd that lets it ask that often.
pub(crate) fn impatient(url: &str) -> EtcdOptions {
    EtcdOptions::parse(url)
        .unwrap()
        .connect_timeout(Duration::from_millis(500))
        .request_timeout(Duration::from_millis(700))
        .keepalive(Duration::from_millis(500), Duration::from_millis(500))
}

pub(crate) fn start(case: &str) -> Option<Etcd> {
    Etcd::start_with(case, |_| vec!["--grpc-keepalive-min-time=200ms".into()])
}

/// The next update, after however many errors, all of which must be of the kind that passes.
async fn after_errors(watch: &mut impl Watch) -> (Update, usize) {
    soon(async {
        let mut errors = 0;
        loop {
            match watch.next().await {
                Ok(update) => return (update, errors),
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}"),
            }
            errors += 1;
        }
    })
    .await
}

fn texts(update: Update) -> Vec<String> {
    match update {
        Update::Changes(changes) => changes.changes.iter().map(told).collect(),
        Update::Snapshot(snapshot) => panic!("{snapshot:?}"),
    }
}

#[tokio::test]
async fn a_killed_etcd_loses_nothing_and_the_watch_goes_on_where_it_was() {
    let Some(mut etcd) = Etcd::start("kill -9 of etcd") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    let lease = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    let mut watch = store.watch(config.revision).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24 at 192.0.2.1"]);
    etcd.kill();
    let error = soon(watch.next()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let error = store.snapshot().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "not an empty list");
    etcd.restart();
    store.renew(&lease).await.unwrap();
    store.create(&claim("10.5.2.0/24", "b", &config)).await.unwrap();
    let (update, _) = after_errors(&mut watch).await;
    assert_eq!(texts(update), ["10.5.2.0/24 at 192.0.2.1"], "nothing twice");
    assert_eq!(store.snapshot().await.unwrap().leases.len(), 2);
}

#[tokio::test]
async fn what_was_compacted_comes_as_a_snapshot_with_what_is_gone() {
    let Some(etcd) = Etcd::start("compaction") else { return };
    let proxy = Proxy::to(etcd.port()).await;
    let near = etcd.store();
    let config = configured(&near, IPV4).await;
    let a = near.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    let b = near.create(&claim("10.5.2.0/24", "b", &config)).await.unwrap();
    let far = EtcdStore::new(&impatient(&proxy.url())).unwrap();
    let mut view = View::new();
    let snapshot = far.snapshot().await.unwrap();
    let mut watch = far.watch(snapshot.revision).await.unwrap();
    view.apply(Update::Snapshot(snapshot));

    proxy.set(Weather::Closed);
    soon(watch.next()).await.unwrap_err();
    near.remove(&a).await.unwrap();
    let b = near.update(&b, &attributes("192.0.2.7"), b.ttl).await.unwrap();
    let c = near.create(&claim("10.5.3.0/24", "c", &config)).await.unwrap();
    etcd.ctl(&["compact", &c.revision.to_string()]);
    proxy.set(Weather::Fair(Duration::ZERO));
    let (update, _) = after_errors(&mut watch).await;
    assert!(matches!(update, Update::Snapshot(_)), "{update:?}");
    assert_eq!(view.apply(update).len(), 3);
    assert_eq!(view.leases().cloned().collect::<Vec<_>>(), [b, c.clone()]);
    // It goes on from there.
    near.remove(&c).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.3.0/24 gone"]);

    // The same for one that begins too far back.
    let mut late = near.watch(Revision::new(1)).await.unwrap();
    let update = soon(late.next()).await.unwrap();
    assert!(matches!(update, Update::Snapshot(snapshot) if snapshot.leases.len() == 1));
}

#[tokio::test]
async fn silence_is_noticed_and_what_happened_meanwhile_comes_in_order() {
    let Some(etcd) = start("a partition") else { return };
    let proxy = Proxy::to(etcd.port()).await;
    let (near, far) = (etcd.store(), EtcdStore::new(&impatient(&proxy.url())).unwrap());
    let config = configured(&near, IPV4).await;
    let lease = far.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    let mut watch = far.watch(lease.revision).await.unwrap();
    proxy.set(Weather::Hole);
    let begin = Instant::now();
    let error = soon(watch.next()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let begin = Instant::now();
    let Err(WriteError::Store(error)) = far.renew(&lease).await else { panic!("nobody answers") };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());

    let mut expected = Vec::new();
    for number in 10..60 {
        let subnets = format!("10.5.{number}.0/24");
        near.create(&claim(&subnets, &format!("n{number}"), &config)).await.unwrap();
        expected.push(format!("{subnets} at 192.0.2.1"));
    }
    proxy.set(Weather::Fair(Duration::ZERO));
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let (update, _) = after_errors(&mut watch).await;
        seen.extend(texts(update));
    }
    assert_eq!(seen, expected);
    soon(far.renew(&lease)).await.unwrap();
}

#[tokio::test]
async fn a_slow_etcd_is_waited_for() {
    let Some(etcd) = Etcd::start("a slow etcd") else { return };
    let proxy = Proxy::to(etcd.port()).await;
    proxy.set(Weather::Fair(Duration::from_millis(150)));
    let store = EtcdStore::new(&EtcdOptions::parse(&proxy.url()).unwrap()).unwrap();
    let config = configured(&store, IPV4).await;
    let mut watch = store.watch(config.revision).await.unwrap();
    let begin = Instant::now();
    let lease = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(600), "it is not slow");
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24 at 192.0.2.1"]);
    store.remove(&lease).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24 gone"]);
}

/// A store of which the first connection loses the answers from this request on.
async fn deaf(proxy: &Proxy, from: usize) -> EtcdStore {
    proxy.set(Weather::Deaf(from));
    EtcdStore::new(&impatient(&proxy.url())).unwrap()
}

#[tokio::test]
async fn what_was_done_is_recognised_when_the_answer_got_lost() {
    let Some(etcd) = Etcd::start("lost answers") else { return };
    let proxy = Proxy::to(etcd.port()).await;
    let near = etcd.store();

    let config = NetworkConfig::from_json(IPV4).unwrap();
    let config = deaf(&proxy, 1).await.configure(&config, None).await;
    // Every connection is deaf: nobody can know.
    assert!(matches!(config, Err(ConfigureError::Store(_))), "{config:?}");
    let config = near.config().await.unwrap().unwrap();

    // The grant is answered, the transaction is not; sent again it is the first of another connection.
    let claimed = claim("10.5.1.0/24", "a", &config);
    let lease = deaf(&proxy, 2).await.create(&claimed).await.unwrap();
    assert_eq!(near.snapshot().await.unwrap().leases, std::slice::from_ref(&lease));
    assert_eq!(lease.created, lease.revision, "it was made once");

    // Reading, then a transaction that keeps its etcd lease.
    let store = deaf(&proxy, 3).await;
    let lease = store.update(&lease, &attributes("192.0.2.2"), lease.ttl).await.unwrap();
    assert_eq!(near.snapshot().await.unwrap().leases, std::slice::from_ref(&lease));
    let lease = deaf(&proxy, 2).await.update(&lease, &attributes("192.0.2.3"), None).await.unwrap();
    assert_eq!(near.snapshot().await.unwrap().leases, std::slice::from_ref(&lease));
    assert!(lease.is_reservation());

    deaf(&proxy, 2).await.remove(&lease).await.unwrap();
    assert_eq!(near.snapshot().await.unwrap().leases, []);

    // A reservation has no etcd lease by which it could be recognised.
    let mut kept = claimed.clone();
    kept.ttl = None;
    let store = deaf(&proxy, 2).await;
    store.config().await.unwrap();
    let kept = store.create(&kept).await.unwrap();
    assert_eq!(near.snapshot().await.unwrap().leases, std::slice::from_ref(&kept));
    // Somebody else's is not mistaken for one's own.
    let again = near.create(&claim("10.5.1.0/24", "b", &config)).await;
    assert!(matches!(again, Err(CreateError::Taken(by)) if by == kept));
}

/// If nobody knows whether the lease was made, its maker must not take it back: by the time that arrives, the node may
/// have found the lease, and rely on it.
#[tokio::test]
async fn a_lease_of_which_its_maker_never_heard_is_not_revoked() {
    let Some(etcd) = Etcd::start("two lost answers") else { return };
    let near = etcd.store();
    let config = configured(&near, IPV4).await;
    let proxy = Proxy::to(etcd.port()).await;
    // The grant is answered. The transaction is not, nor the second time. What comes then would be heard and answered.
    proxy.set(Weather::Loses(&[2, 1]));
    let far = EtcdStore::new(&impatient(&proxy.url())).unwrap();
    let made = far.create(&claim("10.5.1.0/24", "a", &config)).await;
    assert!(matches!(made, Err(CreateError::Store(_))), "{made:?}");
    assert_eq!(far.requests(), 3, "grant, transaction, transaction");

    let lease = near.standing(&node("a")).await.unwrap().lease.expect("it was made");
    near.renew(&lease).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(far.standing(&node("a")).await.unwrap().lease, Some(lease.clone()));
    assert_eq!(etcd.ctl(&["lease", "list"]).lines().count(), 2, "a title, and the only lease");

    // One that certainly was not made leaves nothing behind, unless there is another try soon.
    let taken = far.create(&claim("10.5.1.0/24", "b", &config)).await;
    assert!(matches!(taken, Err(CreateError::Taken(by)) if by == lease));
    only(&etcd, 1).await;
}

/// Whoever is dropped may have been waiting for an etcd lease, or for what came of a transaction. All terms are longer than
/// it is waited for here.
#[tokio::test]
async fn nobody_leaves_an_etcd_lease_without_a_lease_behind() {
    const NODES: u64 = 120;
    let Some(etcd) = Etcd::start("dropped on the way") else { return };
    let near = etcd.store();
    let config = configured(&near, IPV4).await;
    near.create(&claim("10.5.1.0/24", "holder", &config)).await.unwrap();
    let proxy = Proxy::to(etcd.port()).await;
    proxy.set(Weather::Fair(Duration::from_millis(5)));
    let far = EtcdStore::new(&EtcdOptions::parse(&proxy.url()).unwrap()).unwrap();
    far.config().await.unwrap();

    let (mut dropped, mut made, mut taken) = (0, 0, 0);
    for number in 0..NODES {
        // Every third one wants what is taken; a grant and a transaction take some 20 milliseconds.
        let wanted = if number % 3 == 0 { 1 } else { 2 + number };
        let claim = claim(&format!("10.5.{wanted}.0/24"), &format!("n{number}"), &config);
        let after = if number % 10 == 9 { PATIENCE } else { Duration::from_millis(number % 30) };
        match tokio::time::timeout(after, far.create(&claim)).await {
            Err(_) => dropped += 1,
            Ok(Ok(_)) => made += 1,
            Ok(Err(CreateError::Taken(_))) => taken += 1,
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    let each = [dropped, made, taken];
    assert!(each.iter().all(|times| *times > 0), "dropped, made, taken: {each:?}");
    let settled = async {
        loop {
            let leases = near.snapshot().await.unwrap().leases.len();
            let listed = etcd.ctl(&["lease", "list"]);
            if listed.starts_with(&format!("found {leases} leases")) {
                return leases;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(soon(settled).await > made, "the holder's and those that were made");
}

#[tokio::test]
async fn the_next_member_is_asked_when_one_is_away() {
    let Some(etcd) = Etcd::start("several endpoints") else { return };
    let closed = Proxy::to(etcd.port()).await;
    closed.set(Weather::Closed);
    let hole = Proxy::to(etcd.port()).await;
    hole.set(Weather::Hole);
    // Nobody listens on this one.
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port())
    };
    let all = [nobody.as_str(), &closed.url(), &hole.url(), &etcd.url()].join(",");
    let store = EtcdStore::new(&impatient(&all)).unwrap();
    let begin = Instant::now();
    let config = configured(&store, IPV4).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // Having found one, it stays there.
    let before = store.requests();
    let lease = store.create(&claim("10.5.1.0/24", "a", &config)).await.unwrap();
    assert_eq!(store.requests() - before, 2);
    let mut watch = store.watch(config.revision).await.unwrap();
    assert_eq!(changes(&mut watch).await, ["10.5.1.0/24 at 192.0.2.1"]);
    store.renew(&lease).await.unwrap();

    let store = EtcdStore::new(&impatient(&format!("{nobody},{}", hole.url()))).unwrap();
    let begin = Instant::now();
    let error = store.config().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let text = error.to_string();
    assert!(text.contains(&nobody) && text.contains("read the configuration"), "{text}");
}

#[tokio::test]
async fn many_who_ask_while_nobody_answers_fail_together() {
    let Some(mut etcd) = Etcd::start("nobody answers") else { return };
    let proxy = Proxy::to(etcd.port()).await;
    etcd.kill();
    // A name server, say, that does not answer: connecting itself takes its time.
    proxy.set(Weather::Hole);
    let store = EtcdStore::new(&impatient(&proxy.url())).unwrap();
    let begin = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        asking.spawn(async move { store.config().await });
    }
    let answers = soon(asking.join_all()).await;
    assert!(answers.iter().all(Result::is_err));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_etcd_that_was_set_back_is_read_anew() {
    let (Some(before), Some(after)) = (Etcd::start("before"), Etcd::start("after")) else { return };
    let proxy = Proxy::to(before.port()).await;
    let store = EtcdStore::new(&impatient(&proxy.url())).unwrap();
    let config = configured(&store, IPV4).await;
    for number in 1..5 {
        let subnets = format!("10.5.{number}.0/24");
        store.create(&claim(&subnets, &format!("n{number}"), &config)).await.unwrap();
    }
    let at = store.snapshot().await.unwrap().revision;
    let mut watch = store.watch(at).await.unwrap();

    // Another etcd, as after a restored backup: its revisions are lower than what was seen.
    let config = configured(&after.store(), IPV4).await;
    let kept = after.store().create(&claim("10.5.1.0/24", "n1", &config)).await.unwrap();
    assert!(kept.revision < at);
    proxy.lead_to(after.port());
    drop(before);
    let (update, _) = after_errors(&mut watch).await;
    let Update::Snapshot(snapshot) = update else { panic!("{update:?}") };
    assert_eq!(snapshot.leases, [kept]);
}

#[tokio::test]
async fn a_call_that_was_dropped_has_taken_nothing_away() {
    let Some(etcd) = Etcd::start("dropped calls") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    let mut watch = store.watch(config.revision).await.unwrap();
    let writing = tokio::spawn(async move {
        for number in 0..200 {
            let subnets = format!("10.5.{number}.0/24");
            store.create(&claim(&subnets, &format!("n{number}"), &config)).await.unwrap();
        }
    });
    let mut seen = Vec::new();
    soon(async {
        while seen.len() < 200 {
            let call = tokio::time::timeout(Duration::from_micros(300), watch.next());
            if let Ok(update) = call.await {
                seen.extend(texts(update.unwrap()));
            }
        }
    })
    .await;
    writing.await.unwrap();
    let expected: Vec<_> =
        (0..200).map(|number| format!("10.5.{number}.0/24 at 192.0.2.1")).collect();
    assert_eq!(seen, expected);
}

/// How often etcd is killed under load: 10 times, or as `OVERLAY_KILLS` says.
fn kills() -> u32 {
    std::env::var("OVERLAY_KILLS").map_or(10, |kills| kills.parse().unwrap())
}

#[tokio::test]
async fn kills_under_load_lose_nothing_and_double_nothing() {
    const NODES: u32 = 24;
    let Some(mut etcd) = Etcd::start("kills under load") else { return };
    let store = etcd.store();
    let config = configured(&store, IPV4).await;
    let first = store.snapshot().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));

    let mut nodes = tokio::task::JoinSet::new();
    for number in 0..NODES {
        // 24 nodes that want the same 16 subnets, so that they also fight.
        let store = EtcdStore::new(&impatient(&etcd.url())).unwrap();
        let (config, done) = (config.clone(), done.clone());
        nodes.spawn(async move {
            let name = format!("n{number}");
            let mut held: Option<Arc<Lease>> = None;
            let mut round = number;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                // An unknown outcome is looked up, as everybody has to.
                let unavailable = |error: StoreError| {
                    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
                };
                match &held {
                    None => match store
                        .create(&claim(&format!("10.5.{}.0/24", round % 16), &name, &config))
                        .await
                    {
                        Ok(lease) => held = Some(lease),
                        Err(CreateError::Holds(lease)) => held = Some(lease),
                        Err(CreateError::Taken(lease)) => {
                            if lease.is_of(&node(&name)) {
                                held = Some(lease);
                            }
                        }
                        Err(CreateError::Store(error)) => unavailable(error),
                        Err(error) => panic!("{error}"),
                    },
                    Some(lease) => {
                        let result = match round % 3 {
                            0 => store.remove(lease).await.map(|()| None),
                            1 => store.renew(lease).await.map(|()| Some(lease.clone())),
                            _ => {
                                let attributes = attributes(&format!("192.0.2.{}", round % 250));
                                store.update(lease, &attributes, lease.ttl).await.map(Some)
                            }
                        };
                        match result {
                            Ok(now) => held = now,
                            Err(WriteError::Fenced(now)) => {
                                // Only an own write of unknown outcome can be in between.
                                held = now.filter(|lease| lease.is_of(&node(&name)));
                            }
                            Err(WriteError::Store(error)) => unavailable(error),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            }
            // What it believes to have at the end, when everything can be looked up again.
            soon(async {
                loop {
                    if let Ok(standing) = store.standing(&node(&name)).await {
                        return (name, standing.lease);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
            .await
        });
    }

    let following = tokio::spawn({
        let store = EtcdStore::new(&impatient(&etcd.url())).unwrap();
        let done = done.clone();
        async move {
            let mut view = View::new();
            let mut watch = None;
            view.apply(Update::Snapshot(first.clone()));
            let (mut updates, mut nodes) = (0, BTreeMap::new());
            loop {
                let watch: &mut overlay_lease_etcd::EtcdWatch = match &mut watch {
                    Some(watch) => watch,
                    none => match store.watch(first.revision).await {
                        Ok(opened) => none.insert(opened),
                        Err(_) => continue,
                    },
                };
                match tokio::time::timeout(Duration::from_secs(2), watch.next()).await {
                    Ok(Ok(Update::Changes(changes))) => {
                        assert!(Some(changes.revision) > view.revision());
                        for change in &changes.changes {
                            // At no moment has a node two leases, or a subnet two holders.
                            match change {
                                Change::Lease(lease) => {
                                    let node = lease.node.clone().unwrap();
                                    let before = nodes.insert(node, lease.subnets);
                                    assert!(before.is_none_or(|before| before == lease.subnets));
                                }
                                Change::Gone(gone) => nodes.retain(|_, subnets| subnets != gone),
                                other => panic!("{other:?}"),
                            }
                        }
                        let distinct: BTreeSet<_> = nodes.values().collect();
                        assert_eq!(distinct.len(), nodes.len());
                        view.apply(Update::Changes(changes));
                        updates += 1;
                    }
                    Ok(Ok(Update::Snapshot(snapshot))) => panic!("not compacted: {snapshot:?}"),
                    Ok(Err(error)) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
                    Err(_) if done.load(Ordering::Relaxed) => return (view, updates),
                    Err(_) => {}
                }
            }
        }
    });

    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(300)).await;
        etcd = tokio::task::spawn_blocking(move || {
            etcd.kill();
            etcd.restart();
            etcd
        })
        .await
        .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    done.store(true, Ordering::Relaxed);
    let believed = soon(nodes.join_all()).await;
    let (view, updates) = soon(following).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let mut there = snapshot.leases.clone();
    there.sort_by_key(|lease| lease.subnets);
    assert_eq!(view.leases().cloned().collect::<Vec<_>>(), there, "the view is the store");
    let mut held: Vec<_> = believed.into_iter().filter_map(|(_, lease)| lease).collect();
    held.sort_by_key(|lease| lease.subnets);
    assert_eq!(held, there, "everybody knows what it has");
    assert!(updates > 20, "{updates}");
    assert!(there.iter().all(|lease| lease.subnets.overlap(&subnets("10.5.0.0/20"))));
    eprintln!("{} kills, {updates} updates, {} leases at the end", kills(), there.len());
}
