//! What the processes do that the tests start: each role talks to its parent over standard input and output.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use overlay_lease::{
    Attributes, ConfigureError, CreateError, Endpoints, Lease, Request, Revision, Store,
    StoreErrorKind, Subnets,
};
use overlay_lease_sqlite::SqliteStore;

use crate::common::{block_on, claim, config, configured, network, node, numbered, open};
use crate::serve;

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

/// Plays the role that the arguments name, in a file.
pub(crate) fn run(arguments: &[String]) {
    let [role, file, name] = arguments else { panic!("child ROLE FILE NAME: {arguments:?}") };
    let file = Path::new(file);
    block_on(async {
        match role.as_str() {
            "acquire" => begin(file, name, acquire_any).await,
            "compete" => begin(file, name, compete).await,
            "obey" => obey(file, name).await,
            "churn" => churn(file, name).await,
            "serve" => serve::run(open(file).await).await,
            "full" => full(file, name).await,
            "denied" => denied(file, name).await,
            other => panic!("no role {other}"),
        }
    });
}

/// Says something to the parent, at once.
pub(crate) fn say(text: std::fmt::Arguments<'_>) {
    let mut out = stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).expect("the parent listens");
}

/// Waits until the parent says something, and then gets a subnet in a network that may not be configured, or not even have
/// a file.
async fn begin(
    file: &Path,
    name: &str,
    acquire: impl AsyncFnOnce(&SqliteStore, &str, Revision) -> Subnets,
) {
    say(format_args!("ready"));
    stdin().lock().read_line(&mut String::new()).unwrap();
    let store = open(file).await;
    let under = match store.configure(&config(), None).await {
        Ok(configured) => configured.revision,
        Err(ConfigureError::Reconfigured(Some(configured))) => configured.revision,
        Err(error) => panic!("{error}"),
    };
    say(format_args!("{}", acquire(&store, name, under).await));
}

/// As a node does.
async fn acquire_any(store: &SqliteStore, name: &str, _under: Revision) -> Subnets {
    let attributes = Attributes::new(Endpoints::at(["192.0.2.1".parse().unwrap()]), "vxlan");
    let request = Request::new(node(name), attributes, Duration::from_secs(3600));
    overlay_lease::acquire(store, &request).await.unwrap().subnets
}

/// The first that is free: all go for the same ones.
async fn compete(store: &SqliteStore, name: &str, under: Revision) -> Subnets {
    let mut number = 0;
    loop {
        match store.create(&claim(under, name, &numbered(number), HOUR)).await {
            Ok(lease) => return lease.subnets,
            Err(CreateError::Taken(_)) => number += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Makes a lease each time when told to.
async fn obey(file: &Path, name: &str) {
    let store = open(file).await;
    let under = store.config().await.unwrap().unwrap().revision;
    say(format_args!("ready"));
    for (number, line) in (0..).zip(stdin().lock().lines()) {
        line.unwrap();
        let name = format!("{name}{number}");
        store.create(&claim(under, &name, &numbered(number), HOUR)).await.unwrap();
    }
}

/// How many write at the same time.
pub(crate) const WRITERS: u32 = 4;

/// Makes, changes, renews and removes leases, until it is killed. Before and after each operation it says so.
async fn churn(file: &Path, round: &str) {
    let store = open(file).await;
    let under = store.config().await.unwrap().unwrap().revision;
    let round = round.parse().unwrap();
    let mut writers = tokio::task::JoinSet::new();
    let local = tokio::task::LocalSet::new();
    for number in 0..WRITERS {
        writers.spawn_local_on(write_on(store.clone(), under, number, round), &local);
    }
    say(format_args!("ready"));
    local.run_until(writers.join_all()).await;
}

async fn write_on(store: SqliteStore, under: Revision, writer: u32, round: u32) {
    let name = format!("w{writer}");
    let mut held: Option<Arc<Lease>> = store.standing(&node(&name)).await.unwrap().lease;
    for step in 0_u32.. {
        let mark = u64::from(round) << 32 | u64::from(step);
        held = match held {
            None => {
                // A subnet of somebody else's now and then.
                let mut claim = claim(under, &name, &numbered(writer + WRITERS * (step % 5)), HOUR);
                claim.attributes.others.insert("Mark".into(), mark.into());
                say(format_args!("{writer} begin {mark}"));
                Some(store.create(&claim).await.unwrap())
            }
            Some(lease) if step % 7 == 6 => {
                say(format_args!("{writer} begin none"));
                store.remove(&lease).await.unwrap();
                None
            }
            Some(lease) if step % 3 == 1 => {
                store.renew(&lease).await.unwrap();
                held = Some(lease);
                continue;
            }
            Some(lease) => {
                let mut attributes = lease.attributes.clone();
                attributes.others.insert("Mark".into(), mark.into());
                say(format_args!("{writer} begin {mark}"));
                Some(store.update(&lease, &attributes, lease.ttl).await.unwrap())
            }
        };
        say(format_args!("{writer} done"));
    }
}

/// Fills the disk, until there is room again.
async fn full(file: &Path, ballast: &str) {
    let (store, under) = configured(file).await;
    std::fs::write(ballast, vec![0; 256 << 10]).unwrap();
    let mut made = Vec::new();
    let error = loop {
        let number = u32::try_from(made.len()).unwrap();
        assert!(number < 1000, "the disk is small");
        let mut claim = claim(under, &format!("n{number}"), &numbered(number), HOUR);
        claim.attributes.others.insert("Large".into(), "x".repeat(20_000).into());
        match store.create(&claim).await {
            Ok(lease) => made.push(lease),
            Err(CreateError::Store(error)) => break error,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("full"), "{error}");
    assert!(made.len() > 5, "{}", made.len());
    let mut leases = store.snapshot().await.unwrap().leases;
    leases.sort_by_key(|lease| lease.revision);
    assert_eq!(leases, made, "nothing is lost");

    std::fs::remove_file(ballast).unwrap();
    let last = store.create(&claim(under, "last", "10.200.0.0/24", HOUR)).await.unwrap();
    store.remove(&made[0]).await.unwrap();
    drop(store);
    let mut leases = open(file).await.snapshot().await.unwrap().leases;
    leases.sort_by_key(|lease| lease.revision);
    made.remove(0);
    made.push(last);
    assert_eq!(leases, made);
    say(format_args!("fine"));
}

/// Is not allowed to write.
async fn denied(file: &Path, says: &str) {
    let error = SqliteStore::open(file, &network("red")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    say(format_args!("fine"));
}
