//! Files that somebody has damaged, in ways that nobody chose: whatever the store makes of them, it says so, and in time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use overlay_lease::{Lease, Revision, Snapshot, Store, StoreError, Watch};
use overlay_lease_sqlite::SqliteStore;
use tokio::time::timeout;

use crate::common::{Dir, claim, configured, network, node, numbered, trials};

const DAY: Duration = Duration::from_secs(86_400);
const LEASES: u32 = 40;
const CASES: u64 = 60;

/// How long everything that one damaged file is asked may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_file_with_other_bytes_is_used_or_refused,
        a_file_cut_off_is_what_it_was_or_refused,
        a_log_with_other_bytes_brings_nothing_that_was_not_written,
    ]
}

async fn a_file_with_other_bytes_is_used_or_refused() {
    let whole = Files::written(Log::Empty).await;
    let refused = whole.each_damaged("-flipped", |random, file, _| flip(random, file)).await;
    assert!(refused > 0, "no damage was noticed");
}

async fn a_file_cut_off_is_what_it_was_or_refused() {
    let whole = Files::written(Log::Empty).await;
    let cut = |random: &mut Random, file: &mut Vec<u8>, _: &mut Vec<u8>| {
        // An empty file is a new one.
        let length = 1 + random.below(file.len() - 1);
        file.truncate(length);
    };
    let refused = whole.each_damaged("-cut", cut).await;
    assert!(refused > 0, "no damage was noticed");
}

async fn a_log_with_other_bytes_brings_nothing_that_was_not_written() {
    let whole = Files::written(Log::Full).await;
    whole.each_damaged("-log", |random, _, log| flip(random, log)).await;
}

fn flip(random: &mut Random, bytes: &mut [u8]) {
    for _ in 0..1 + random.below(40) {
        // One in two near the beginning, where most depends on few bytes.
        let end = if random.below(2) == 0 { bytes.len().min(512) } else { bytes.len() };
        bytes[random.below(end)] = random.next().to_le_bytes()[0];
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Log {
    /// Everything is in the file.
    Empty,
    /// As a crash leaves it.
    Full,
}

/// What a store has on the disk, and what it says about that.
struct Files {
    file: Vec<u8>,
    log: Vec<u8>,
    snapshot: Snapshot,
    under: Revision,
}

impl Files {
    async fn written(log: Log) -> Self {
        let dir = Dir::new();
        let (store, under) = configured(&dir.file()).await;
        for number in 0..LEASES {
            let (name, ttl) = (format!("n{number}"), (number % 5 > 0).then_some(DAY));
            store.create(&claim(under, &name, &numbered(number), ttl)).await.unwrap();
        }
        let snapshot = store.snapshot().await.unwrap();
        if log == Log::Empty {
            let raw = rusqlite::Connection::open(dir.file()).unwrap();
            raw.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
                .unwrap();
        }
        let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
        let (file, log) = (read(dir.file()), read(log_of(&dir.file())));
        Self { file, log, snapshot, under }
    }

    /// Uses a damaged copy, again and again; how often the damage was noticed.
    async fn each_damaged(
        &self,
        kind: &str,
        damage: impl Fn(&mut Random, &mut Vec<u8>, &mut Vec<u8>),
    ) -> usize {
        static PANICS: AtomicUsize = AtomicUsize::new(0);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            before(info);
        }));
        let mut refused = 0;
        for seed in 0..CASES {
            let (mut file, mut log) = (self.file.clone(), self.log.clone());
            damage(&mut Random(seed), &mut file, &mut log);
            let dir = Dir::new();
            std::fs::write(dir.file(), &file).unwrap();
            if !log.is_empty() {
                std::fs::write(log_of(&dir.file()), &log).unwrap();
            }
            let used = timeout(PATIENCE, self.used(&dir.file())).await;
            let Ok(used) = used else { panic!("{kind}, seed {seed}: no end") };
            match used {
                Ok(leases) if kind == "-flipped" => drop(leases),
                // What is there can be less than there was only where a log may have been cut off.
                Ok(leases) => {
                    let all = &self.snapshot.leases;
                    assert!(leases.iter().all(|lease| all.contains(lease)), "{kind}, seed {seed}");
                    assert!(kind == "-log" || leases.len() == all.len(), "{kind}, seed {seed}");
                }
                Err(_) => refused += 1,
            }
        }
        // Also those of the store's own threads.
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "{kind}");
        refused
    }

    /// Everything that a store can be asked, once. What it brings is what was listed first.
    async fn used(&self, path: &Path) -> Result<Vec<Arc<Lease>>, StoreError> {
        let store = SqliteStore::open(path, &network("red")).await?;
        let listed = store.snapshot().await;
        let mut watch = store.watch(Revision::default()).await?;
        let told = timeout(Duration::from_millis(50), watch.next()).await;
        drop(told);
        drop((store.config().await, store.tenants().await, store.standing(&node("n1")).await));
        for lease in self.snapshot.leases.iter().take(3) {
            drop((store.renew(lease).await, store.remaining(lease).await));
            drop(store.update(lease, &lease.attributes, None).await);
            drop(store.remove(lease).await);
        }
        let claimed = claim(self.under, "new", &numbered(1000), Some(DAY));
        drop(store.create(&claimed).await);
        Ok(listed?.leases)
    }
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}
