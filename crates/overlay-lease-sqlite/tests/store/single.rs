//! What a program sees of the store, and what others do to the file meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::{
    Dir, claim, config, configured, network, node, numbered, open, subnets, trials,
};
use libtest_mimic::Trial;
use overlay_lease::{
    Change, ConfigureError, CreateError, LATE, Revision, Snapshot, Store, StoreErrorKind, Update,
    Watch, WriteError,
};
use overlay_lease_sqlite::SqliteStore;
use rusqlite::Connection;

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        what_is_written_is_there_when_the_file_is_opened_again,
        every_overlap_is_taken,
        networks_in_one_file_do_not_see_each_other,
        nonsense_in_one_network_does_not_stop_the_others,
        a_lease_goes_when_its_time_is_over_even_if_nobody_asks,
        a_renewal_prolongs_and_wakes_nobody,
        after_a_reboot_a_lease_lives_for_its_time_once_more,
        a_watch_brings_everything_once_and_in_order,
        who_is_too_far_behind_gets_a_snapshot,
        what_somebody_deletes_by_hand_is_noticed,
        the_schema_stops_a_writer_that_does_not_check,
        a_row_that_cannot_be_read_is_skipped_and_stays_in_the_way,
        a_file_that_is_no_store_is_named_and_left_alone,
        who_only_looks_makes_no_file,
        what_is_closed_leaves_only_the_file,
        nodes_that_never_come_back_are_forgotten,
        a_file_that_is_behind_its_log_is_whole,
        another_file_in_its_place_is_noticed,
        a_lock_that_is_held_for_too_long_makes_it_unavailable_and_no_more,
        what_cannot_be_removed_in_time_is_not_told,
        many_writers_share_commits,
        too_much_is_refused_and_harms_nobody_else,
    ]
}

/// The same file, as somebody else sees it.
fn raw(dir: &Dir) -> Connection {
    let connection = Connection::open(dir.file()).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

async fn next(watch: &mut impl Watch) -> Update {
    tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("in time").unwrap()
}

async fn changes(watch: &mut impl Watch) -> Vec<Change> {
    match next(watch).await {
        Update::Changes(changes) => changes.changes,
        Update::Snapshot(snapshot) => panic!("a snapshot: {snapshot:?}"),
    }
}

async fn snapshot(watch: &mut impl Watch) -> Snapshot {
    match next(watch).await {
        Update::Snapshot(snapshot) => snapshot,
        Update::Changes(changes) => panic!("changes: {changes:?}"),
    }
}

async fn what_is_written_is_there_when_the_file_is_opened_again() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let both = store.create(&claim(under, "a", "10.5.1.0/24,fd00:5:1::/64", HOUR)).await.unwrap();
    let reserved = store.create(&claim(under, "b", "10.5.2.0/24", None)).await.unwrap();
    let mut attributes = both.attributes.clone();
    attributes.others.insert("Rack".into(), 12.into());
    let changed = store.update(&both, &attributes, Some(Duration::from_millis(1_500_500))).await;
    let changed = changed.unwrap();
    drop(store);

    let again = open(&dir.file()).await;
    let snapshot = again.snapshot().await.unwrap();
    let mut leases = snapshot.leases;
    leases.sort_by_key(|lease| lease.subnets);
    assert_eq!(leases, [changed.clone(), reserved.clone()]);
    assert_eq!((snapshot.revision, snapshot.skipped), (changed.revision, Vec::new()));
    let found = snapshot.config.unwrap();
    assert_eq!((&*found.config, found.revision), (&config(), under));
    let standing = again.standing(&node("a")).await.unwrap();
    assert_eq!((standing.lease, standing.last), (Some(changed.clone()), Some(changed.subnets)));
    let tenants = again.tenants().await.unwrap();
    assert_eq!(tenants.iter().map(|tenant| tenant.node.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let remaining = again.remaining(&changed).await.unwrap().unwrap();
    assert!(remaining <= Duration::from_millis(1_500_500) && remaining > Duration::from_secs(1400));
    assert_eq!(again.remaining(&reserved).await.unwrap(), None);
    assert!(matches!(
        again.renew(&both).await,
        Err(WriteError::Fenced(Some(now))) if now == changed
    ));
}

async fn every_overlap_is_taken() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let held = "10.5.16.0/20,fd00:5:10::/44";
    let lease = store.create(&claim(under, "a", held, HOUR)).await.unwrap();
    for wanted in [
        "10.5.16.0/20",
        "10.5.16.0/24",
        "10.5.31.0/24",
        "10.5.20.0/24",
        "10.0.0.0/8",
        "fd00:5:10::/44",
        "fd00:5:1f:ffff::/64",
        "fd00::/16",
        "10.6.0.0/24,fd00:5:10::/64",
        "10.5.31.255/32,fd01::/64",
    ] {
        let refused = store.create(&claim(under, "b", wanted, HOUR)).await.unwrap_err();
        assert!(matches!(&refused, CreateError::Taken(by) if *by == lease), "{wanted}: {refused}");
    }
    for (name, free) in [
        ("before", "10.5.15.0/24,fd00:5:f:ffff::/64"),
        ("after", "10.5.32.0/24,fd00:5:20::/64"),
        ("highest", "255.255.255.255/32,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
        ("lowest", "0.0.0.0/32,::/128"),
    ] {
        store.create(&claim(under, name, free, HOUR)).await.unwrap();
    }
    let refused = store.create(&claim(under, "a", "10.7.0.0/24", HOUR)).await.unwrap_err();
    assert!(matches!(&refused, CreateError::Holds(by) if *by == lease), "{refused}");
}

async fn nonsense_in_one_network_does_not_stop_the_others() {
    let dir = Dir::new();
    let (red, under) = configured(&dir.file()).await;
    let short = Some(Duration::from_secs(1));
    let gone = red.create(&claim(under, "a", "10.5.1.0/24", short)).await.unwrap();
    let blue = SqliteStore::open(dir.file(), &network("blue")).await.unwrap();
    let under = blue.configure(&config(), None).await.unwrap().revision;
    blue.create(&claim(under, "b", "10.5.1.0/24", short)).await.unwrap();
    raw(&dir).execute("UPDATE networks SET revision = 1 WHERE name = 'blue'", []).unwrap();
    let mut watch = red.watch(gone.revision).await.unwrap();
    assert_eq!(changes(&mut watch).await, [Change::Gone(gone.subnets)]);
    let under = red.config().await.unwrap().unwrap().revision;
    red.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    assert_eq!(red.snapshot().await.unwrap().leases.len(), 1);
    // Nothing is said about it that would not be so.
    assert_eq!(blue.snapshot().await.unwrap().leases.len(), 1);
}

async fn networks_in_one_file_do_not_see_each_other() {
    let dir = Dir::new();
    let (red, under) = configured(&dir.file()).await;
    let blue = SqliteStore::open(dir.file(), &network("blue")).await.unwrap();
    assert_eq!(blue.snapshot().await.unwrap(), Snapshot::default());
    let refused = blue.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap_err();
    assert!(matches!(refused, CreateError::Reconfigured(None)));
    let under_blue = blue.configure(&config(), None).await.unwrap().revision;
    let in_red = red.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    let in_blue = blue.create(&claim(under_blue, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    red.remove(&in_red).await.unwrap();
    assert_eq!(blue.snapshot().await.unwrap().leases, [in_blue]);
    let refused = blue.configure(&config(), None).await.unwrap_err();
    assert!(
        matches!(refused, ConfigureError::Reconfigured(Some(now)) if now.revision == under_blue)
    );
}

async fn a_lease_goes_when_its_time_is_over_even_if_nobody_asks() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let ttl = Duration::from_secs(1);
    let begin = Instant::now();
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", Some(ttl))).await.unwrap();
    let stays = store.create(&claim(under, "b", "10.5.2.0/24", None)).await.unwrap();
    // Another watch, as a process has one that never asks for anything else.
    let other = open(&dir.file()).await;
    let mut watch = other.watch(stays.revision).await.unwrap();
    assert_eq!(changes(&mut watch).await, [Change::Gone(lease.subnets)]);
    let after = begin.elapsed();
    assert!(after >= ttl && after < ttl + LATE, "{after:?}");
    // Nobody watches or asks now.
    drop((watch, other));
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", Some(ttl))).await.unwrap();
    tokio::time::sleep(ttl + Duration::from_millis(500)).await;
    let left: i64 =
        raw(&dir).query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1, "only the reservation");
    assert!(matches!(store.renew(&lease).await, Err(WriteError::Fenced(None))));
}

async fn a_renewal_prolongs_and_wakes_nobody() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let ttl = Duration::from_secs(1);
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", Some(ttl))).await.unwrap();
    let mut watch = store.watch(lease.revision).await.unwrap();
    let begin = Instant::now();
    while begin.elapsed() < 2 * ttl {
        store.renew(&lease).await.unwrap();
        let same = store.update(&lease, &lease.attributes, lease.ttl).await.unwrap();
        assert_eq!(same, lease);
        let woken = tokio::time::timeout(Duration::from_millis(200), watch.next()).await;
        assert!(woken.is_err(), "{woken:?}");
    }
    assert_eq!(store.snapshot().await.unwrap().leases, [lease]);
}

async fn after_a_reboot_a_lease_lives_for_its_time_once_more() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    drop(store);
    // Before the machine was started anew, its clock was far ahead, or far behind.
    for (deadline, boot_id) in [(1, "an earlier life"), (i64::MAX, "another one")] {
        let file = raw(&dir);
        file.execute("UPDATE leases SET deadline_ms = ?1", [deadline]).unwrap();
        file.execute("UPDATE clock SET boot_id = ?1", [boot_id]).unwrap();
        let store = open(&dir.file()).await;
        let remaining = store.remaining(&lease).await.unwrap().unwrap();
        assert!(remaining <= Duration::from_secs(3600), "{remaining:?}");
        assert!(remaining > Duration::from_secs(3500), "{remaining:?}");
    }
    // In the same life it has expired.
    raw(&dir).execute("UPDATE leases SET deadline_ms = 1", []).unwrap();
    assert_eq!(open(&dir.file()).await.snapshot().await.unwrap().leases, []);
}

async fn a_watch_brings_everything_once_and_in_order() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let other = open(&dir.file()).await;
    let mut watch = other.watch(Revision::ZERO).await.unwrap();
    assert!(matches!(&changes(&mut watch).await[..], [Change::Config(Some(_))]));
    let writes = async {
        let mut expected = Vec::new();
        for number in 0..200 {
            let name = format!("n{number}");
            let lease = store.create(&claim(under, &name, &numbered(number), HOUR)).await.unwrap();
            expected.push(Change::Lease(lease.clone()));
            if number % 3 == 0 {
                store.remove(&lease).await.unwrap();
                expected.push(Change::Gone(lease.subnets));
            }
        }
        expected
    };
    let reads = async {
        let mut seen = Vec::new();
        while seen.len() < 267 {
            // A call that is dropped has taken nothing away.
            let _ = tokio::time::timeout(Duration::from_micros(300), watch.next()).await.map(
                |update| match update.unwrap() {
                    Update::Changes(changes) => seen.extend(changes.changes),
                    Update::Snapshot(_) => panic!("a snapshot"),
                },
            );
        }
        seen
    };
    let (expected, seen) =
        tokio::join!(writes, tokio::time::timeout(Duration::from_secs(60), reads));
    assert_eq!(seen.expect("in time"), expected);
}

async fn who_is_too_far_behind_gets_a_snapshot() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    let file = raw(&dir);
    let begin = file.unchecked_transaction().unwrap();
    for revision in 3..=10_050 {
        begin
            .prepare_cached("UPDATE leases SET attributes = '{}', revision = ?1")
            .unwrap()
            .execute([revision])
            .unwrap();
    }
    begin.commit().unwrap();
    let logged: i64 = file.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).unwrap();
    assert_eq!(logged, 10_000);
    let mut behind = store.watch(lease.revision).await.unwrap();
    let leases = snapshot(&mut behind).await.leases;
    assert_eq!(leases[0].revision, Revision::new(10_050));
    let mut just = store.watch(Revision::new(50)).await.unwrap();
    assert_eq!(changes(&mut just).await.len(), 10_000);
    // From the future: the file was set back.
    let mut ahead = store.watch(Revision::new(20_000)).await.unwrap();
    assert_eq!(snapshot(&mut ahead).await.revision, Revision::new(10_050));
    // Somebody damaged the log.
    file.execute("DELETE FROM changes WHERE revision = 10000", []).unwrap();
    let mut hole = store.watch(Revision::new(9_990)).await.unwrap();
    assert_eq!(snapshot(&mut hole).await.revision, Revision::new(10_050));
    file.execute("UPDATE changes SET attributes = 'x' WHERE revision = 10049", []).unwrap();
    let mut nonsense = store.watch(Revision::new(10_040)).await.unwrap();
    assert_eq!(snapshot(&mut nonsense).await.revision, Revision::new(10_050));
}

async fn what_somebody_deletes_by_hand_is_noticed() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    let mut watch = store.watch(lease.revision).await.unwrap();
    raw(&dir).execute("DELETE FROM leases WHERE node = 'a'", []).unwrap();
    assert_eq!(changes(&mut watch).await, [Change::Gone(lease.subnets)]);
    assert!(matches!(store.renew(&lease).await, Err(WriteError::Fenced(None))));
    assert_eq!(store.standing(&node("a")).await.unwrap().last, Some(lease.subnets));
}

async fn the_schema_stops_a_writer_that_does_not_check() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    store.create(&claim(under, "a", "10.5.1.0/24,fd00:5:1::/64", HOUR)).await.unwrap();
    let before = store.snapshot().await.unwrap();
    let file = raw(&dir);
    let insert = |what: &str, columns: &str, values: &str| {
        let refused = file
            .execute(&format!("INSERT INTO leases ({columns}) VALUES ({values})"), [])
            .expect_err(what);
        assert!(refused.sqlite_error_code().is_some(), "{what}: {refused}");
    };
    let v4 = "network, ipv4, ipv4_first, ipv4_last, node, attributes, created, revision";
    // 10.5.1.0 is 168100096.
    insert("a double", v4, "1, '10.5.1.0/24', 168100096, 168100351, 'b', '{}', 3, 3");
    insert("one inside", v4, "1, '10.5.1.8/29', 168100104, 168100111, 'b', '{}', 3, 3");
    insert("one around", v4, "1, '10.5.0.0/16', 168099840, 168165375, 'b', '{}', 3, 3");
    insert("a second one", v4, "1, '10.5.2.0/24', 168100352, 168100607, 'a', '{}', 3, 3");
    insert("no JSON", v4, "1, '10.5.2.0/24', 168100352, 168100607, 'b', 'x', 3, 3");
    insert("an old revision", v4, "1, '10.5.2.0/24', 168100352, 168100607, 'b', '{}', 2, 2");
    insert("a far revision", v4, "1, '10.5.2.0/24', 168100352, 168100607, 'b', '{}', 9, 9");
    insert("no network", v4, "7, '10.5.2.0/24', 168100352, 168100607, 'b', '{}', 3, 3");
    insert("no subnets", "network, node, attributes, created, revision", "1, 'b', '{}', 3, 3");
    insert(
        "no bounds",
        "network, ipv4, node, attributes, created, revision",
        "1, '10.5.2.0/24', 'b', '{}', 3, 3",
    );
    let v6 = "network, ipv6, ipv6_first, ipv6_last, node, attributes, created, revision";
    insert(
        "an IPv6 double",
        v6,
        "1, 'fd00:5:1::/65', x'fd000005000100000000000000000000', x'fd0000050001000000007fffffffffffff', 'b', '{}', 3, 3",
    );
    insert(
        "an IPv6 double",
        v6,
        "1, 'fd00:5::/32', x'fd000005000000000000000000000000', x'fd000005ffffffffffffffffffffffff', 'b', '{}', 3, 3",
    );
    for sql in [
        "UPDATE leases SET ipv4_first = 1",
        "UPDATE leases SET attributes = '{}'",
        "UPDATE networks SET config = NULL",
        "DELETE FROM networks",
    ] {
        assert!(file.execute(sql, []).is_err(), "{sql}");
    }
    assert_eq!(store.snapshot().await.unwrap(), before);
    // And one that does as it should is heard.
    let fine = format!(
        "INSERT INTO leases ({v4}) VALUES (1, '10.5.2.0/24', 168100352, 168100607, 'b', '{{}}', 3, 3)"
    );
    file.execute(&fine, []).unwrap();
    assert_eq!(store.snapshot().await.unwrap().leases.len(), 2);
}

async fn a_row_that_cannot_be_read_is_skipped_and_stays_in_the_way() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let names = ["a", "b", "c", "d", "e"];
    for (number, name) in (0..).zip(names) {
        store.create(&claim(under, name, &numbered(number), HOUR)).await.unwrap();
    }
    let file = raw(&dir);
    file.pragma_update(None, "ignore_check_constraints", true).unwrap();
    for (name, damage) in [
        ("a", "attributes = '{\"PublicIP\": 7}'"),
        ("b", "attributes = 'x'"),
        ("c", "attributes = '[]'"),
        ("d", "ttl_ms = -5, deadline_ms = 1 << 62"),
    ] {
        let sql = format!(
            "UPDATE leases SET {damage}, revision = (SELECT revision + 1 FROM networks) WHERE node = '{name}'"
        );
        assert_eq!(file.execute(&sql, []).unwrap(), 1);
    }
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(
        snapshot.leases.iter().map(|l| l.subnets).collect::<Vec<_>>(),
        [subnets("10.0.4.0/24")]
    );
    let skipped: Vec<_> = snapshot.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    assert!(skipped[0].starts_with("leases row 1: attributes: PublicIP: expected"), "{skipped:?}");
    // Its subnets are not given away, and nobody says whose they are.
    let refused = store.create(&claim(under, "f", "10.0.0.0/24", HOUR)).await.unwrap_err();
    assert!(matches!(&refused, CreateError::Taken(by) if by.node.is_none()), "{refused}");
    let refused = store.create(&claim(under, "a", "10.0.9.0/24", HOUR)).await.unwrap_err();
    let CreateError::Store(error) = refused else { panic!("{refused}") };
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("leases row 1"), "{error}");
    // Nor is the file refused, after a reboot either.
    file.execute("UPDATE clock SET boot_id = 'an earlier life'", []).unwrap();
    let again = open(&dir.file()).await.snapshot().await.unwrap();
    assert_eq!((again.leases, again.skipped), (snapshot.leases, snapshot.skipped));
    // A configuration that cannot be read hides no leases.
    file.execute(
        "UPDATE networks SET config = '{\"Network\": 7}', revision = revision + 1, configured = revision + 1",
        [],
    )
    .unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.config, snapshot.leases.len(), snapshot.skipped.len()), (None, 1, 5));
    assert_eq!(store.config().await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

async fn a_file_that_is_no_store_is_named_and_left_alone() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    store.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    drop(store);
    raw(&dir).pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap_or(());
    let good = fs::read(dir.file()).unwrap();
    let other = dir.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("PRAGMA application_id = 7; CREATE TABLE t (x)")
        .unwrap();
    let plain = dir.path().join("plain.db");
    Connection::open(&plain).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let newer = dir.path().join("newer.db");
    fs::write(&newer, &good).unwrap();
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let altered = dir.path().join("altered.db");
    fs::write(&altered, &good).unwrap();
    Connection::open(&altered).unwrap().execute("DROP TRIGGER lease_overlaps", []).unwrap();
    let added = dir.path().join("added.db");
    fs::write(&added, &good).unwrap();
    Connection::open(&added)
        .unwrap()
        .execute_batch("CREATE TRIGGER t AFTER DELETE ON leases BEGIN DELETE FROM nodes; END")
        .unwrap();

    let mut scrambled = good.clone();
    scrambled[4096..8192].iter_mut().zip(1_u8..=u8::MAX).for_each(|(byte, other)| *byte = other);
    let read = |path| fs::read(path).unwrap();
    for (name, bytes, says) in [
        ("empty", Vec::new(), "cut off: it has 0 bytes"),
        ("text", b"these are no leases at all\n".repeat(20), "not a database"),
        (
            "random",
            (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
            "not a database",
        ),
        ("cut", good[..good.len() / 2].to_vec(), "malformed"),
        ("cut in the header", good[..60].to_vec(), "cut off: it has 60 bytes"),
        ("scrambled", scrambled, ""),
        ("other", read(&other), "another program: its application id is 0x00000007"),
        ("plain", read(&plain), "another program: its application id is 0x00000000"),
        ("newer", read(&newer), "format 2"),
        ("altered", read(&altered), "lease_overlaps"),
        ("added", read(&added), "not as it was made: t"),
    ] {
        let damaged = Dir::new();
        let path = damaged.file();
        fs::write(&path, &bytes).unwrap();
        let error = SqliteStore::open(&path, &network("red")).await.expect_err(name);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains(says), "{name}: {text}");
        assert!(text.contains(path.to_str().unwrap()), "{name}: {text}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name} was touched");
    }

    for (path, says) in [
        (dir.path().to_owned(), "no file"),
        (dir.path().join("missing/leases.db"), "No such file or directory"),
        (dir.file().join("leases.db"), "Not a directory"),
    ] {
        let error = SqliteStore::open(&path, &network("red")).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_ne!(error.kind(), StoreErrorKind::Denied, "{error}");
    }
    assert!(!dir.path().join("missing").exists());
    assert_eq!(open(&dir.file()).await.snapshot().await.unwrap().leases.len(), 1, "it was good");
}

async fn who_only_looks_makes_no_file() {
    let dir = Dir::new();
    let red = network("red");
    let open = || SqliteStore::open_existing(dir.file(), &red);
    let error = open().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains("cannot open the file: there is no such file"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    configured(&dir.file()).await.0.close().await;
    assert!(open().await.unwrap().config().await.unwrap().is_some());
}

async fn what_is_closed_leaves_only_the_file() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let other = open(&dir.file()).await;
    let mut watch = store.watch(under).await.unwrap();
    let clone = store.clone();
    let asked: Vec<_> = (0..100)
        .map(|number| {
            let (store, claim) =
                (store.clone(), claim(under, &format!("n{number}"), &numbered(number), HOUR));
            tokio::spawn(async move { store.create(&claim).await.is_ok() })
        })
        .collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    store.close().await;
    for asked in asked {
        assert!(asked.await.unwrap(), "what was asked before is done");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "another process has it open");
    let error = clone.snapshot().await.unwrap_err();
    assert!(error.to_string().contains("the store was closed"), "{error}");
    let watched = async { while watch.next().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), watched).await.expect("the watch hears of it");
    clone.close().await;
    assert_eq!(other.snapshot().await.unwrap().leases.len(), 100);
    other.close().await;
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the file");
    assert_eq!(open(&dir.file()).await.snapshot().await.unwrap().leases.len(), 100);
}

async fn nodes_that_never_come_back_are_forgotten() {
    const BEFORE: u32 = 70_000;
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    store.create(&claim(under, "stays", "10.200.0.0/24", HOUR)).await.unwrap();
    let known = |pattern: &str| {
        let count = "SELECT count(*), min(since) FROM nodes WHERE node LIKE ?1";
        let row = raw(&dir).query_row(count, [pattern], |row| Ok((row.get(0)?, row.get(1)?)));
        row.map(|row: (u32, Option<u32>)| row).unwrap()
    };
    let fill = "INSERT INTO nodes
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        SELECT 1, 'old' || i, '10.' || (i / 256 % 200) || '.' || (i % 256) || '.0/24', NULL, i + 2 FROM n";
    raw(&dir).execute(fill, [BEFORE]).unwrap();
    raw(&dir)
        .execute_batch("UPDATE leases SET revision = 3; UPDATE networks SET revision = 79998")
        .unwrap();
    assert_eq!(known("old%"), (BEFORE, Some(3)));
    for (name, free) in [("a", "10.201.0.0/24"), ("b", "10.202.0.0/24")] {
        store.create(&claim(under, name, free, HOUR)).await.unwrap();
    }
    // 65,536 of which one is new, and one that came later.
    assert_eq!(known("old%"), (65_535, Some(BEFORE + 2 - 65_534)));
    assert_eq!((known("stays").0, known("_").0), (1, 2));
    assert_eq!(store.tenants().await.unwrap().len(), 65_538);
}

async fn a_file_that_is_behind_its_log_is_whole() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    // Fewer than what SQLite carries over by itself, which is after 1,000 pages.
    for number in 0..60 {
        let name = format!("n{number}");
        store.create(&claim(under, &name, &numbered(number), HOUR)).await.unwrap();
    }
    let before = store.snapshot().await.unwrap();
    let interrupted = Dir::new();
    let log = |dir: &Dir| dir.path().join("leases.db-wal");
    let mut file = fs::read(dir.file()).unwrap();
    fs::copy(log(&dir), log(&interrupted)).unwrap();
    raw(&dir).query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).unwrap();
    // Somebody who carried the log over was killed after the first page, which tells how long the file will be.
    let full = fs::read(dir.file()).unwrap();
    assert!(full.len() > file.len());
    file[..4096].copy_from_slice(&full[..4096]);
    fs::write(interrupted.file(), &file).unwrap();
    assert_eq!(open(&interrupted.file()).await.snapshot().await.unwrap(), before);
}

async fn another_file_in_its_place_is_noticed() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    let mut watch = store.watch(lease.revision).await.unwrap();
    let away = dir.path().join("away");
    fs::create_dir(&away).unwrap();
    let put_away = || {
        for name in ["leases.db", "leases.db-wal", "leases.db-shm"] {
            let _ = fs::rename(dir.path().join(name), away.join(name));
        }
    };
    put_away();
    let error = store.snapshot().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let error = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap();
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert!(!dir.file().exists(), "nobody made a new one");
    let refused = store.create(&claim(under, "b", "10.5.2.0/24", HOUR)).await.unwrap_err();
    assert!(matches!(refused, CreateError::Store(_)));
    // Somebody sets up a new one, and this program serves it from now on.
    let (_other, _) = configured(&dir.file()).await;
    assert_eq!(snapshot(&mut watch).await.leases, []);
    assert!(matches!(store.renew(&lease).await, Err(WriteError::Fenced(None))));
}

async fn a_lock_that_is_held_for_too_long_makes_it_unavailable_and_no_more() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    let file = raw(&dir);
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begin = Instant::now();
    let error = store.renew(&lease).await.unwrap_err();
    assert!(begin.elapsed() > Duration::from_secs(4) && begin.elapsed() < Duration::from_secs(8));
    let WriteError::Store(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    // Who reads does not wait.
    assert_eq!(store.snapshot().await.unwrap().leases, std::slice::from_ref(&lease));
    file.execute_batch("ROLLBACK").unwrap();
    store.renew(&lease).await.unwrap();
}

async fn what_cannot_be_removed_in_time_is_not_told() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let ttl = Some(Duration::from_secs(1));
    let lease = store.create(&claim(under, "a", "10.5.1.0/24", ttl)).await.unwrap();
    let file = raw(&dir);
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(store.snapshot().await.unwrap().leases, [lease], "not for long yet");
    tokio::time::sleep(LATE).await;
    let error = store.snapshot().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    file.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.snapshot().await.unwrap().leases, []);
}

async fn many_writers_share_commits() {
    const WRITERS: usize = 64;
    const RENEWALS: usize = 10;
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let mut leases = Vec::new();
    for number in 0..WRITERS {
        let number = u32::try_from(number).unwrap();
        let name = format!("n{number}");
        leases.push(store.create(&claim(under, &name, &numbered(number), HOUR)).await.unwrap());
    }
    let before = commits(&dir);
    for lease in &leases {
        store.renew(lease).await.unwrap();
    }
    let alone = commits(&dir) - before;
    assert_eq!(alone, WRITERS, "each is on the disk when it returns");
    let mut writers = tokio::task::JoinSet::new();
    for lease in leases {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..RENEWALS {
                store.renew(&lease).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let together = commits(&dir) - before - alone;
    eprintln!("{} renewals of {WRITERS} writers: {together} commits", WRITERS * RENEWALS);
    assert!(together <= WRITERS * RENEWALS / 20, "{together}");
}

/// Commits in the write-ahead log (SQLite file format, 4.1): each of them is flushed once. The log begins anew after 1,000
/// pages or somewhat more.
fn commits(dir: &Dir) -> usize {
    let log = fs::read(dir.path().join("leases.db-wal")).unwrap();
    let frames = log[32..].chunks_exact(24 + 4096);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

async fn too_much_is_refused_and_harms_nobody_else() {
    let dir = Dir::new();
    let (store, under) = configured(&dir.file()).await;
    let mut large = claim(under, "a", "10.5.1.0/24", HOUR);
    large.attributes.others.insert("Large".into(), "x".repeat(1 << 20).into());
    let mut deep = claim(under, "b", "10.5.2.0/24", HOUR);
    let nested = (0..200).fold(serde_json::Value::Null, |inner, _| vec![inner].into());
    deep.attributes.others.insert("Deep".into(), nested);
    let mut forever = claim(under, "c", "10.5.3.0/24", Some(Duration::MAX));
    forever.attributes.data.v4 = Some(serde_json::Value::Null);
    let (large, deep, forever) =
        tokio::join!(store.create(&large), store.create(&deep), store.create(&forever));
    for refused in [large.unwrap_err(), deep.unwrap_err()] {
        let CreateError::Store(error) = refused else { panic!("{refused}") };
        assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    }
    // What is told is what everybody reads.
    assert_eq!(store.snapshot().await.unwrap().leases, [forever.unwrap()]);
}
