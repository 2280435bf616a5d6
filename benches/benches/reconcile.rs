//! Peers through the reconciler, with the kernel and without it.

use criterion::{BatchSize, Criterion, Throughput};
use overlay_benches::still::StillOverlay;
use overlay_benches::{contests, criterion_group, peer, peers, size};

fn main() -> anyhow::Result<()> {
    overlay_lab::enter()?;
    let mut criterion = Criterion::default().configure_from_args();
    for contest in [contests::program_peers, contests::no_op, contests::move_peer] {
        criterion_group(&mut criterion, &mut contest(size(10_000))?);
    }
    pure(&mut criterion, size(10_000))?;
    criterion.final_summary();
    Ok(())
}

/// What the reconciler itself costs, on a kernel that costs nothing.
fn pure(criterion: &mut Criterion, count: u32) -> anyhow::Result<()> {
    let all = peers(count);
    let empty = || StillOverlay::new().expect("an overlay");
    let full = || {
        let mut overlay = empty();
        overlay.set_peers(all.clone()).expect("peers");
        overlay
    };
    let mut group = criterion.benchmark_group("pure");
    group.sample_size(10).throughput(Throughput::Elements(count.into()));
    group.bench_function("set_peers", |bencher| {
        bencher.iter_batched(
            || (empty(), all.clone()),
            |(mut overlay, peers)| (overlay.set_peers(peers), overlay),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("plan", |bencher| {
        bencher.iter_batched(
            full,
            |mut overlay| (overlay.plan(), overlay),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("apply", |bencher| {
        bencher.iter_batched(
            || {
                let mut overlay = full();
                (overlay.plan().expect("a plan"), overlay)
            },
            |(plan, mut overlay)| (overlay.apply(plan), overlay),
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let mut group = criterion.benchmark_group("pure, one peer among many");
    let mut overlay = full();
    let plan = overlay.plan()?;
    overlay.apply(plan)?;
    let mut turn = 0;
    group.bench_function("upsert, plan and apply", |bencher| {
        bencher.iter_batched(
            || {
                turn += 1;
                let mut changed = peer(turn % count);
                changed.endpoints = peer(count + turn).endpoints;
                changed
            },
            |changed| overlay.follow(changed).expect("a kernel that takes everything"),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    Ok(())
}
