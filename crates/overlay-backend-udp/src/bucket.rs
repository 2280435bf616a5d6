//! A limit on a rate.

use std::time::{Duration, Instant};

/// A token bucket: so many at once, and one more each interval (RFC 4443, section 2.4 (f)).
#[derive(Debug)]
pub(crate) struct Bucket {
    burst: u32,
    interval: Duration,
    tokens: u32,
    /// When the last token came in.
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) const fn new(burst: u32, interval: Duration, now: Instant) -> Self {
        Self { burst, interval, tokens: burst, filled: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        let interval = self.interval.as_nanos().max(1);
        let new = u32::try_from(passed / interval).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(new).min(self.burst);
        // What of an interval has passed counts for the next token; a full bucket begins anew.
        self.filled = match self.interval.checked_mul(new) {
            Some(counted) if self.tokens < self.burst => self.filled + counted,
            _ if new > 0 => now,
            _ => self.filled,
        };
        let taken = self.tokens > 0;
        self.tokens -= u32::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_millis(10);

    #[test]
    fn a_full_bucket_gives_a_burst_and_then_one_each_interval() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, INTERVAL, start);
        assert_eq!((0..5).filter(|_| bucket.take(start)).count(), 3);
        assert!(!bucket.take(start + INTERVAL / 2));
        assert!(bucket.take(start + INTERVAL));
        assert!(!bucket.take(start + INTERVAL * 3 / 2));
        assert!(bucket.take(start + INTERVAL * 2));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..5).filter(|_| bucket.take(later)).count(), 3);
    }

    proptest! {
        /// However it is asked, it gives no more than the burst and what has come in since.
        #[test]
        fn never_more_than_the_rate(steps in proptest::collection::vec(0_u64..30, 1..200), burst in 1_u32..20) {
            let start = Instant::now();
            let mut now = start;
            let mut bucket = Bucket::new(burst, INTERVAL, start);
            let mut given = 0;
            for step in steps {
                now += Duration::from_millis(step);
                given += u128::from(bucket.take(now));
                let limit = u128::from(burst) + (now - start).as_nanos() / INTERVAL.as_nanos();
                prop_assert!(given <= limit);
            }
        }
    }
}
