//! Peers through the reconciler, with the kernel and without it.

use criterion::{BatchSize, Criterion, Throughput};
use overlay_backend::{Network, Owner, Peer, Reconciler};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_benches::still::Still;
use overlay_benches::{contests, criterion_group, node, peer, peers, size};
use overlay_netlink::{Ifindex, Link, LinkKind};

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

/// A reconciler that has observed a kernel with the VXLAN device and nothing on it, and its network.
fn overlay() -> anyhow::Result<(Reconciler, Network<Vxlan>, Still)> {
    let mut reconciler = Reconciler::new(Owner::default());
    let backend = Vxlan::new(&node(), &VxlanOptions::default())?;
    let mut link = Link::new(backend.device(), LinkKind::Device).alias(Owner::default().alias());
    link.index = Some(Ifindex(2));
    let mut uplink = Link::new(node().underlay.dev, LinkKind::Device);
    uplink.index = Some(Ifindex(1));
    let mut kernel = Still { links: vec![uplink, link], requests: 0 };
    let mut network = Network::new("bench", node(), backend, &mut reconciler)?;
    network.set_peers([], &mut reconciler);
    reconciler.observe(&mut kernel)?;
    Ok((reconciler, network, kernel))
}

/// What the reconciler itself costs: its kernel is an empty shell.
fn pure(criterion: &mut Criterion, count: u32) -> anyhow::Result<()> {
    let all = peers(count);
    let mut group = criterion.benchmark_group("pure");
    group.sample_size(10).throughput(Throughput::Elements(count.into()));
    group.bench_function("set_peers", |bencher| {
        bencher.iter_batched(
            || (overlay().expect("an overlay"), all.clone()),
            |((mut reconciler, mut network, kernel), peers): (_, Vec<Peer>)| {
                let refused = network.set_peers(peers, &mut reconciler);
                (refused, reconciler, network, kernel)
            },
            BatchSize::LargeInput,
        );
    });
    let full = || {
        let (mut reconciler, mut network, kernel) = overlay().expect("an overlay");
        network.set_peers(all.clone(), &mut reconciler);
        (reconciler, network, kernel)
    };
    group.bench_function("plan", |bencher| {
        bencher.iter_batched(
            full,
            |(mut reconciler, network, kernel)| (reconciler.plan(), reconciler, network, kernel),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("apply", |bencher| {
        bencher.iter_batched(
            || {
                let (mut reconciler, network, kernel) = full();
                let plan = reconciler.plan().expect("a plan");
                (reconciler, network, kernel, plan)
            },
            |(mut reconciler, network, mut kernel, plan)| {
                (reconciler.apply(&mut kernel, plan), reconciler, network, kernel)
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();

    let mut group = criterion.benchmark_group("pure, one peer among many");
    let (mut reconciler, mut network, mut kernel) = full();
    reconciler.push(&mut kernel)?;
    let mut turn = 0;
    group.bench_function("upsert, plan and apply", |bencher| {
        bencher.iter_batched(
            || {
                turn += 1;
                let mut changed = peer(turn % count);
                changed.endpoints = peer(count + turn).endpoints;
                changed
            },
            |changed| {
                network.upsert_peer(changed, &mut reconciler).expect("a peer");
                reconciler.push(&mut kernel).expect("an empty shell takes everything")
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
    Ok(())
}
