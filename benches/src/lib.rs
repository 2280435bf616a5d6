//! Benchmarks of the Overlay libraries beside their named peers.
//!
//! A [`Contest`] is one job and several ways to do it. Criterion runs contests one contestant after the other, to notice
//! when one of them changes; `compare` interleaves the contestants, to say how they compare.

mod bare;
pub mod codec;
mod contest;
pub mod contests;
mod iproute2;
mod lab;
pub mod paths;
mod peer;
mod prefix;
mod rtnl;
pub mod still;
pub mod stores;

pub use contest::{Claim, Contest, Contestant, Goal, Memory, Place, Spread, criterion_group};
pub use iproute2::version as iproute2_version;
pub use lab::Lab;
pub use peer::{node, peer, peers};
pub use prefix::Prefixes;

/// Whether to run everything once with few objects, to see that it works: criterion's `--test`.
#[must_use]
pub fn smoke() -> bool {
    let mut arguments = std::env::args();
    // Cargo passes `--bench` to measure; without it this is a test run too.
    let (mut bench, mut test) = (false, false);
    arguments.by_ref().for_each(|argument| {
        bench |= argument == "--bench";
        test |= argument == "--test";
    });
    test || !bench
}

/// How many objects to work with: `count`, or few when this is a [`smoke`] run.
#[must_use]
pub fn size(count: u32) -> u32 {
    if smoke() { count.div_ceil(200) } else { count }
}
