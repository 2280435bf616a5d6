//! Time that nobody sets, and that goes on while the machine sleeps.

use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment in the time since the machine was started, which nobody sets, and which goes on while the machine sleeps.
///
/// Leases are counted in it. [`Instant`](std::time::Instant) will not do: it stands still during a sleep, in which leases
/// go. All processes of the machine see the same time, unless one has its own (`time_namespaces(7)`). A virtual machine
/// that somebody else pauses, or puts to disk, does not notice, whichever clock it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Now, by `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let since = |number: i64| u64::try_from(number).unwrap_or_default();
        Self(Duration::from_secs(since(now.tv_sec)) + Duration::from_nanos(since(now.tv_nsec)))
    }

    /// This long after the machine was started: for programs that bring a clock of their own.
    #[must_use]
    pub const fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long after the start of the machine this is.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero if it is before it.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment that is this much later, if there is one.
    #[must_use]
    pub const fn checked_add(self, duration: Duration) -> Option<Self> {
        match self.0.checked_add(duration) {
            Some(since_start) => Some(Self(since_start)),
            None => None,
        }
    }
}

/// The moment that is this much later, or the last one that there is.
impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The kernel's own word for it, in hundredths of a second; `proc_uptime(5)`.
    #[test]
    fn it_is_what_the_kernel_calls_its_uptime() {
        let uptime = || {
            let text = fs::read_to_string("/proc/uptime").unwrap();
            Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
        };
        let (before, now, after) = (uptime(), BootInstant::now(), uptime());
        assert!(before <= now.since_start(), "{before:?} {now:?}");
        assert!(now.since_start() <= after + Duration::from_millis(10), "{now:?} {after:?}");
    }

    #[test]
    fn there_is_a_last_moment() {
        let last = BootInstant::at(Duration::MAX);
        let earlier = BootInstant::at(Duration::MAX - Duration::from_secs(3));
        assert_eq!(earlier + Duration::from_secs(4), last);
        assert_eq!(earlier.checked_add(Duration::from_secs(3)), Some(last));
        assert_eq!(earlier.checked_add(Duration::from_secs(4)), None);
        assert_eq!(last.saturating_duration_since(earlier), Duration::from_secs(3));
        assert_eq!(earlier.saturating_duration_since(last), Duration::ZERO);
    }
}
