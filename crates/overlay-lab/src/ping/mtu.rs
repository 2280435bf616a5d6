//! The largest packet that passes.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::{Fragmentation, PingError, PingRequest, icmp, run};
use crate::error::{Error, Result};
use crate::host::Host;

/// Requests per size, so that one lost packet does not look like a small link.
const TRIES: u16 = 2;
const PATIENCE: Duration = Duration::from_millis(300);
const LARGEST: u32 = 65_535;

/// Finds the size in bytes, IP header included, of the largest packet that passes from a host to an
/// address unfragmented.
///
/// It sends echo requests of different sizes and believes only replies: the MTU in a router's error
/// is a size to try next, and a router that drops large packets in silence is found as well. What
/// the kernel has learnt before is ignored. With silent drops it takes at most 12 seconds.
///
/// # Errors
///
/// [`Error::NoPath`] when not even the smallest packet is answered, [`Error::Io`] as
/// [`ping`](super::ping).
///
/// # Privileges
///
/// As [`ping`](super::ping).
pub fn path_mtu(from: &Host, dst: impl Into<IpAddr>) -> Result<u32> {
    let dst = dst.into();
    let headers = if dst.is_ipv6() { 40 } else { 20 } + icmp::HEADER as u32;
    let probe = |size: u32| probe(dst, size - headers);
    let search = || search(headers, probe);
    let found = from.try_run(search)?.map_err(|error| {
        Error::io("find path MTU from", format!("{} to {dst}", from.name()), error)
    })?;
    found.ok_or_else(|| Error::NoPath {
        host: from.name().to_owned(),
        destination: dst,
        smallest: headers,
    })
}

/// What one size met.
enum Outcome {
    Passed,
    /// Not answered, perhaps because of a link of this MTU.
    Refused(Option<u32>),
}

fn probe(dst: IpAddr, payload: u32) -> io::Result<Outcome> {
    let request = PingRequest::to(dst)
        .payload(payload as usize)
        .count(TRIES)
        .interval(PATIENCE / 10)
        .timeout(PATIENCE);
    let report = run(&request, Fragmentation::Probe)?;
    if report.received > 0 {
        return Ok(Outcome::Passed);
    }
    let hint = report.errors.iter().find_map(|error| match error {
        PingError::TooBig { mtu, .. } => Some(*mtu),
        _ => None,
    });
    Ok(Outcome::Refused(hint))
}

fn search(
    smallest: u32,
    mut probe: impl FnMut(u32) -> io::Result<Outcome>,
) -> io::Result<Option<u32>> {
    if matches!(probe(smallest)?, Outcome::Refused(_)) {
        return Ok(None);
    }
    let (mut passes, mut refused) = (smallest, LARGEST + 1);
    let mut next = Some(LARGEST);
    let mut hinted = false;
    while refused - passes > 1 {
        let size = next
            .take()
            .unwrap_or_else(|| u32::midpoint(passes, refused))
            .clamp(passes + 1, refused - 1);
        match probe(size)? {
            Outcome::Passed => {
                passes = size;
                // If the hint is the truth, the very next size proves it.
                next = hinted.then_some(size + 1);
                hinted = false;
            }
            Outcome::Refused(hint) => {
                refused = size;
                next = hint.filter(|hint| (passes + 1..refused).contains(hint));
                hinted = next.is_some();
            }
        }
    }
    Ok(Some(passes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: u32, hint: Option<u32>) -> (Option<u32>, u32) {
        let mut probes = 0;
        let result = search(28, |size| {
            probes += 1;
            Ok(if size <= limit { Outcome::Passed } else { Outcome::Refused(hint) })
        });
        (result.unwrap(), probes)
    }

    #[test]
    fn every_limit_is_found_within_bounds() {
        for limit in [28, 29, 68, 576, 1280, 1400, 1499, 1500, 9000, 65_534, 65_535] {
            for hint in
                [None, Some(limit), Some(0), Some(1), Some(70_000), Some(limit + 1), Some(1400)]
            {
                let (result, probes) = found(limit, hint);
                assert_eq!(result, Some(limit), "hint {hint:?}");
                assert!(probes <= 20, "{probes} probes for {limit} with hint {hint:?}");
            }
        }
        assert_eq!(found(27, None), (None, 1));
    }

    #[test]
    fn a_true_hint_is_quick() {
        assert_eq!(found(1400, Some(1400)).1, 4);
    }
}
