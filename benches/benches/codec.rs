//! Encoding and decoding, object by object.

use criterion::{Criterion, Throughput};
use overlay_benches::codec::routines;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    for mut routine in routines()? {
        group.bench_function(routine.name, |bencher| bencher.iter(&mut routine.run));
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
