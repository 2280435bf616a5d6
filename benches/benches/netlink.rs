//! Routes through `overlay-netlink`, rtnetlink and iproute2. Criterion runs one after the other; `compare` interleaves.

use criterion::Criterion;
use overlay_benches::{contests, criterion_group, size};

fn main() -> anyhow::Result<()> {
    overlay_lab::enter()?;
    let mut criterion = Criterion::default().configure_from_args();
    for contest in [contests::add, contests::dump, contests::delete, contests::swing] {
        criterion_group(&mut criterion, &mut contest(size(100_000))?);
    }
    criterion_group(&mut criterion, &mut contests::distinct_gateways(size(10_000))?);
    criterion_group(&mut criterion, &mut contests::many_distinct_gateways(size(100_000))?);
    criterion.final_summary();
    Ok(())
}
