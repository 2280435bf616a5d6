//! How long to wait before trying again.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Random lengths of time, from a seed: those who fail at the same moment do not come again at the same moment.
///
/// A SplitMix64, which is more than enough to be unlike one's neighbours.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between `shortest` and `longest`.
    pub(crate) fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let room = longest.saturating_sub(shortest);
        shortest.saturating_add(Duration::from_nanos(self.below(room)))
    }

    /// A wait after this many failures in a row: anything up to a bound that doubles from `first` to `longest`.
    pub(crate) fn backoff(
        &mut self,
        failures: u32,
        first: Duration,
        longest: Duration,
    ) -> Duration {
        let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        self.between(Duration::ZERO, doubled.min(longest))
    }

    /// Up to `room`, in nanoseconds, as far as these fit.
    fn below(&mut self, room: Duration) -> u64 {
        let room = u64::try_from(room.as_nanos()).unwrap_or(u64::MAX);
        u64::try_from((u128::from(self.next()) * u128::from(room)) >> 64).unwrap_or(room)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A seed that no other process has: what the standard library protects its maps with.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_fill_all_of_it() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut jitter = Jitter::new(1);
        for (failures, bound) in
            [(0, first), (1, first), (3, 4 * first), (8, longest), (u32::MAX, longest)]
        {
            let waits: Vec<_> =
                (0..1000).map(|_| jitter.backoff(failures, first, longest)).collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "{failures}");
            assert!(waits.iter().any(|wait| *wait < bound / 10), "{failures}");
            assert!(waits.iter().any(|wait| *wait > bound / 10 * 9), "{failures}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_waits_again() {
        let waits = |seed| {
            let mut jitter = Jitter::new(seed);
            [0; 4].map(|_| jitter.between(Duration::from_secs(1), Duration::from_secs(2)))
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
        assert!(waits(7).iter().all(|wait| (1..2).contains(&wait.as_secs())));
    }
}
