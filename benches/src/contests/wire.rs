//! Packets, through `overlay-wire` and others.

mod checksum;

pub use self::checksum::checksums;

/// So many objects a turn works on, if they are small: some hundred microseconds of work.
const OBJECTS: u32 = 64 * 512;
