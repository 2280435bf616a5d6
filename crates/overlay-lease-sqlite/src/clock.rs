//! Time that nobody sets.

use std::{fs, io};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine was started, those included in which it slept: the same for all its processes.
pub(crate) fn now_ms() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// What tells this life of the machine from all others.
pub(crate) fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}
