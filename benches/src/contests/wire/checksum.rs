use std::hint::black_box;

use anyhow::{Result, ensure};
use overlay_wire::checksum;

use super::super::thousands;
use super::OBJECTS;
use crate::{Contest, Memory};

/// The checksum of `len` bytes: of an IPv4 header, of a small or large packet, of the largest.
///
/// # Errors
/// When the contestants disagree.
pub(super) fn checksum(len: usize) -> Result<Contest<Memory>> {
    const OURS: &str = "overlay-wire";
    const FUCHSIA: &str = "internet-checksum";
    let bytes: Vec<u8> = (0..len).map(|at| ((at * 167) >> 3) as u8).collect();
    // About as many bytes whatever the length, so that a turn takes as long.
    let objects = (OBJECTS * 64 / len as u32).max(1);
    let title = format!("Checksum of {} bytes", thousands(len as u32));
    let mut contest = Contest::in_memory("checksum", title, objects);
    contest = with(contest, OURS, &bytes, checksum::of)?;
    contest = with(contest, FUCHSIA, &bytes, |bytes| {
        u16::from_be_bytes(internet_checksum::checksum(bytes))
    })?;
    contest = with(contest, "etherparse", &bytes, |bytes| {
        etherparse::checksum::Sum16BitWords::new().add_slice(bytes).ones_complement().to_be()
    })?;
    contest = with(contest, "pnet_packet", &bytes, |bytes| {
        // The word that is left out is behind the end.
        pnet_packet::util::checksum(bytes, usize::MAX)
    })?;
    Ok(if len == 1_450 { contest.claim(OURS, FUCHSIA, 1.5) } else { contest })
}

fn with(
    contest: Contest<Memory>,
    name: &'static str,
    bytes: &[u8],
    sum: impl Fn(&[u8]) -> u16 + 'static,
) -> Result<Contest<Memory>> {
    let (expected, found) = (checksum::of(bytes), sum(bytes));
    ensure!(found == expected, "{name} says {found:#06x}, not {expected:#06x}");
    let bytes = bytes.to_vec();
    Ok(contest.repeat(name, 1, move || sum(black_box(&bytes))))
}
