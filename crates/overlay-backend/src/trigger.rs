//! When to look at the kernel again.

use std::time::Duration;

/// Decides when a pass over the kernel is due: soon after something changed, later after a failure,
/// and once in a while in any case. Reads no clock: time is an argument, counted from any fixed
/// moment.
#[derive(Clone, Debug)]
pub struct Trigger {
    debounce: Duration,
    audit: Duration,
    retry: Duration,
    /// When the next pass is due.
    due: Duration,
    /// When the first change was heard of that no pass has answered yet.
    changed_at: Option<Duration>,
    failures: u32,
    /// Something else than the desired state calls for the next pass.
    look: bool,
    /// When the last pass began that looked at the kernel.
    looked_at: Duration,
}

impl Trigger {
    /// How long changes are gathered before they are answered.
    pub const DEBOUNCE: Duration = Duration::from_millis(50);
    /// How often the kernel is looked at without a reason.
    pub const AUDIT: Duration = Duration::from_secs(60);
    /// How long after a failure the first retry comes; the next ones wait twice as long each, up to
    /// the audit interval.
    pub const RETRY: Duration = Duration::from_millis(200);

    /// A trigger whose first pass is due at once.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            debounce: Self::DEBOUNCE,
            audit: Self::AUDIT,
            retry: Self::RETRY,
            due: now,
            changed_at: None,
            failures: 0,
            look: true,
            looked_at: now,
        }
    }

    /// The same trigger with another audit interval.
    #[must_use]
    pub const fn audit_every(mut self, audit: Duration) -> Self {
        self.audit = audit;
        self
    }

    /// Something changed. However long changes go on, the answer comes one debounce interval after
    /// the first of them.
    pub fn changed(&mut self, now: Duration) {
        self.look = true;
        self.wanted(now);
    }

    /// The desired state changed, and nothing else that is known of. Answered as soon as
    /// [`changed`](Self::changed).
    pub fn wanted(&mut self, now: Duration) {
        if self.changed_at.is_none() {
            self.changed_at = Some(now);
            self.due = self.due.min(now + self.debounce);
        }
    }

    /// A pass begins. Returns whether it has to look at the kernel: not if only the desired state
    /// changed, unless the last look is an audit interval ago.
    pub fn begin(&mut self, now: Duration) -> bool {
        let look = self.look || now >= self.looked_at + self.audit;
        if look {
            self.looked_at = now;
        }
        self.look = false;
        look
    }

    /// A pass is done. If it left something undone there will be a retry, the sooner if the pass
    /// got on at all: what is refused for good must not keep what is refused for now waiting.
    pub fn passed(&mut self, now: Duration, converged: bool, progress: bool) {
        self.changed_at = None;
        self.look |= !converged;
        if converged || progress {
            self.failures = 0;
        }
        if converged {
            self.due = now + self.audit;
        } else {
            let wait = self.retry.saturating_mul(1 << self.failures.min(16));
            self.failures = self.failures.saturating_add(1);
            self.due = now + wait.min(self.audit);
        }
    }

    /// Whether a pass is due.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        now >= self.due
    }

    /// How long until a pass is due.
    #[must_use]
    pub const fn wait(&self, now: Duration) -> Duration {
        self.due.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_storm_of_changes_is_answered_in_time() {
        let mut trigger = Trigger::new(Duration::ZERO);
        trigger.passed(Duration::ZERO, true, false);
        for at in 100..200 {
            trigger.changed(MS * at);
        }
        assert!(!trigger.is_due(MS * 149));
        assert!(trigger.is_due(MS * 150));
    }

    #[test]
    fn failures_back_off_and_never_stop() {
        let mut trigger = Trigger::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..40 {
            trigger.passed(now, false, false);
            waits.push(trigger.wait(now));
            now += trigger.wait(now);
        }
        assert_eq!(waits[0], Trigger::RETRY);
        assert!(waits.windows(2).all(|w| w[1] >= w[0]));
        assert_eq!(waits[39], Trigger::AUDIT);
        trigger.passed(now, true, false);
        trigger.passed(now, false, false);
        assert_eq!(trigger.wait(now), Trigger::RETRY);
    }

    #[test]
    fn a_change_brings_a_retry_forward() {
        let mut trigger = Trigger::new(Duration::ZERO);
        for _ in 0..20 {
            trigger.passed(Duration::ZERO, false, false);
        }
        trigger.changed(MS);
        assert!(trigger.is_due(MS + Trigger::DEBOUNCE));
    }

    #[test]
    fn a_busy_store_does_not_put_off_the_audit() {
        let mut trigger = Trigger::new(Duration::ZERO).audit_every(MS * 1000);
        assert!(trigger.begin(Duration::ZERO));
        trigger.passed(Duration::ZERO, true, true);
        let looks: Vec<u32> = (1..25)
            .map(|n| n * 100)
            .filter(|at| {
                trigger.wanted(MS * *at);
                let look = trigger.begin(MS * *at);
                trigger.passed(MS * *at, true, true);
                look
            })
            .collect();
        assert_eq!(looks, [1000, 2000]);
        // What the kernel tells, or what failed, calls for a look at once.
        trigger.wanted(MS * 2500);
        trigger.changed(MS * 2510);
        assert!(trigger.begin(MS * 2550));
        trigger.passed(MS * 2550, false, false);
        assert!(trigger.begin(MS * 2600));
    }

    #[test]
    fn quiet_times_end_with_an_audit() {
        let mut trigger = Trigger::new(Duration::ZERO).audit_every(MS * 500);
        trigger.passed(MS, true, false);
        assert!(!trigger.is_due(MS * 500));
        assert!(trigger.is_due(MS * 501));
    }
}
