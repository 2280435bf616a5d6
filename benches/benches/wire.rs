//! Packets through `overlay-wire` and others. Criterion runs one after the other; `compare` interleaves.

use criterion::Criterion;
use overlay_benches::{contests, criterion_group};

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let all = [
        contests::checksums,
        contests::encapsulations,
        contests::decapsulations,
        contests::formats,
    ];
    for contests in all {
        for mut contest in contests()? {
            criterion_group(&mut criterion, &mut contest);
        }
    }
    criterion.final_summary();
    Ok(())
}
