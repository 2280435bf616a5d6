//! Randomness that a seed repeats, and clocks that do not run alike.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use overlay_lease::BootInstant;

/// A SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub(crate) fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let room = (longest - shortest).as_nanos() as u64;
        shortest + Duration::from_nanos(self.below(room + 1))
    }

    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        self.between(Duration::ZERO, longest)
    }

    /// True this many times in a million.
    pub(crate) fn chance(&mut self, per_million: u64) -> bool {
        self.below(1_000_000) < per_million
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

/// A clock that starts anywhere and runs faster or slower than true time, which counts from the simulation's begin.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    offset: Duration,
    /// How many millionths faster.
    faster: i64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    pub(crate) const fn new(offset: Duration, faster: i64) -> Self {
        Self { offset, faster }
    }

    /// What it shows at the true time `now`.
    pub(crate) fn reads(&self, now: Duration) -> Duration {
        let rate = MILLION + i128::from(self.faster);
        self.offset + Duration::from_nanos((now.as_nanos() as i128 * rate / MILLION) as u64)
    }

    /// The true time at which it shows `reading`, or a nanosecond after it.
    pub(crate) fn when(&self, reading: Duration) -> Duration {
        let since = reading.saturating_sub(self.offset).as_nanos() as i128;
        let rate = MILLION + i128::from(self.faster);
        Duration::from_nanos(((since * MILLION + rate - 1) / rate) as u64)
    }

    pub(crate) fn boot_instant(&self, now: Duration) -> BootInstant {
        BootInstant::at(self.reads(now))
    }

    pub(crate) fn when_boot_instant(&self, instant: BootInstant) -> Duration {
        self.when(instant.since_start())
    }

    pub(crate) fn instant(&self, now: Duration) -> Instant {
        origin() + self.reads(now)
    }

    pub(crate) fn when_instant(&self, instant: Instant) -> Duration {
        self.when(instant - origin())
    }
}

/// An `Instant` cannot be made from nothing; only differences to this one count.
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

#[test]
fn a_clock_shows_no_less_than_it_was_waited_for() {
    let mut random = Random::new(1);
    for _ in 0..10_000 {
        let offset = random.up_to(Duration::from_secs(1_000_000));
        let clock = Clock::new(offset, random.below(20_000) as i64 - 10_000);
        let reading = offset + random.up_to(Duration::from_secs(1000));
        let when = clock.when(reading);
        assert!(clock.reads(when) >= reading);
        assert!(clock.reads(when) <= reading + Duration::from_nanos(2));
    }
}
