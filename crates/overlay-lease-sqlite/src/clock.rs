//! Which life of the machine it is, and how long it lasts.

use std::{fs, io};

use overlay_lease::BootInstant;

/// Now, in milliseconds since the machine was started: the same for all its processes.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(BootInstant::now().since_start().as_millis()).unwrap_or(i64::MAX)
}

/// What tells this life of the machine from all others.
pub(crate) fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}
