//! What the stores of leases cost, with few leases and with many.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use criterion::{Criterion, SamplingMode, Throughput};
use overlay_benches::stores::{Kind, Stores, attributes, fill, request};
use overlay_benches::{contests, criterion_group, size};
use overlay_lease::{AnyStore, Lease, Store, Update, Watch, acquire};

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut stores = Stores::new()?;
    for kind in Kind::ALL {
        for leases in [1_000, 10_000].map(size) {
            operations(&mut criterion, &mut stores, kind, leases)?;
        }
    }
    criterion_group(&mut criterion, &mut contests::sqlite_create(size(1_000))?);
    criterion_group(&mut criterion, &mut contests::etcd_acquire(size(10_000))?);
    criterion.final_summary();
    Ok(())
}

/// One operation at a time, on a store with so many leases.
fn operations(
    criterion: &mut Criterion,
    stores: &mut Stores,
    kind: Kind,
    leases: u32,
) -> Result<()> {
    let store = stores.open(kind)?;
    let filled = stores.runtime.block_on(fill(&store, leases))?;
    let mut group = criterion.benchmark_group(format!("{}, {leases} leases", kind.name()));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let mut measure =
        |name: &str, elements: u32, mut turn: Box<dyn FnMut(u32) -> Result<Duration> + '_>| {
            group.throughput(Throughput::Elements(elements.into()));
            let mut number = 0;
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|turns| {
                    let mut time = Duration::ZERO;
                    for _ in 0..turns {
                        number += 1;
                        time += turn(number).expect("the store answers");
                    }
                    time
                });
            });
        };
    let runtime = &stores.runtime;
    measure("acquire", 1, Box::new(|turn| runtime.block_on(one_more(&store, leases + turn))));
    measure(
        "renew",
        1,
        Box::new(|turn| {
            let lease = &filled[(turn % leases) as usize];
            runtime.block_on(async {
                let start = Instant::now();
                store.renew(lease).await?;
                Ok(start.elapsed())
            })
        }),
    );
    measure(
        "snapshot",
        leases,
        Box::new(|_| {
            runtime.block_on(async {
                let start = Instant::now();
                black_box(store.snapshot().await?);
                Ok(start.elapsed())
            })
        }),
    );
    let mut changing = filled[0].clone();
    let mut watch =
        runtime.block_on(async { store.watch(store.snapshot().await?.revision).await })?;
    measure(
        "change, and be told",
        1,
        Box::new(|turn| runtime.block_on(change(&store, &mut changing, &mut watch, turn))),
    );
    group.finish();
    Ok(())
}

/// A node that was never there gets a lease. That it goes again does not count.
async fn one_more(store: &AnyStore, number: u32) -> Result<Duration> {
    let request = request(number)?;
    let start = Instant::now();
    let lease = acquire(store, &request).await?;
    let time = start.elapsed();
    store.remove(&lease).await?;
    Ok(time)
}

/// From asking for a change until a watch brings it.
async fn change(
    store: &AnyStore,
    lease: &mut Arc<Lease>,
    watch: &mut impl Watch,
    turn: u32,
) -> Result<Duration> {
    let attributes = attributes(1_000_000 + turn);
    let start = Instant::now();
    *lease = store.update(lease, &attributes, lease.ttl).await?;
    loop {
        match watch.next().await? {
            // Leases that came and went before this are still being told.
            Update::Changes(changes) if changes.revision < lease.revision => {}
            Update::Changes(_) => return Ok(start.elapsed()),
            Update::Snapshot(_) => bail!("a snapshot"),
        }
    }
}
