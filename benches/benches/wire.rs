//! Packets through `overlay-wire` and others. Criterion runs one after the other; `compare` interleaves.

use criterion::Criterion;
use overlay_benches::{contests, criterion_group};

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    for packets in contests::ABOUT_PACKETS {
        for &size in packets.sizes {
            criterion_group(&mut criterion, &mut (packets.of)(size)?);
        }
    }
    criterion.final_summary();
    Ok(())
}
