//! How a train of datagrams leaves: at once, or in as many parts as the kernel, the devices and the path make necessary.

use rustix::io::Errno;

use crate::batch::MAX_TRAIN;
use crate::counters::DropReason;

/// How often a send is tried again that failed because of what an earlier one may have met with.
const TRIES: u32 = 3;

/// A train on its way: what to send next, and what to make of the answer.
///
/// No datagram is lost to finding out what kernel, devices and path take: what was refused together is sent again, one by
/// one, and only then is it said to be the segmentation that was refused.
#[derive(Debug)]
pub(crate) struct Departure {
    count: usize,
    /// Bytes of each datagram but the last.
    each: usize,
    last: usize,
    /// The first one that has not left.
    next: usize,
    /// Whether the others go one by one.
    alone: bool,
    /// Why several were refused together, until it is known whether one by one are.
    refusal: Option<Errno>,
    tries: u32,
}

/// Some datagrams of a train that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Bytes of all of them.
    pub(crate) len: usize,
}

/// What is to be done after a part has been tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has left.
    Left,
    /// It has left, and it is the segmentation that was refused: no longer ask for so much.
    LeftAlone(Errno),
    /// It has not left; go on with what comes next.
    Again,
    /// It has not left: listen to what the underlay reports, then go on.
    Listen,
    /// It will not leave.
    Lost(DropReason),
}

impl Departure {
    /// Of `count` datagrams with `each` bytes, the last with `last`.
    pub(crate) const fn new(count: usize, each: usize, last: usize) -> Self {
        Self { count, each, last, next: 0, alone: false, refusal: None, tries: 0 }
    }

    /// What is to be sent next, when one send takes so many segments and one datagram may be so long. A single datagram may
    /// be longer than that, and is not to be sent as it is.
    pub(crate) fn part(&self, segments: usize, limit: usize) -> Option<Part> {
        let left = self.count.checked_sub(self.next).filter(|left| *left > 0)?;
        let alone = self.alone || self.each > limit;
        let fit = MAX_TRAIN.checked_div(self.each).unwrap_or(1).min(segments);
        let count = if alone { 1 } else { fit.clamp(1, left) };
        let is_last = count == left;
        let len = if is_last { (count - 1) * self.each + self.last } else { count * self.each };
        Some(Part { first: self.next, count, len })
    }

    /// A part is done with, in another way than by a send.
    pub(crate) const fn done(&mut self, part: Part) {
        self.next += part.count;
        self.tries = 0;
    }

    /// What becomes of a part after a send.
    pub(crate) fn tried(&mut self, part: Part, result: Result<(), Errno>) -> Verdict {
        match result {
            Ok(()) => {
                self.done(part);
                match self.refusal.take() {
                    Some(errno) => {
                        self.alone = false;
                        Verdict::LeftAlone(errno)
                    }
                    None => Verdict::Left,
                }
            }
            Err(Errno::INTR) => Verdict::Again,
            Err(Errno::MSGSIZE) if part.count > 1 => {
                // The path takes less than a segment has, as older kernels say by the next error.
                self.alone = true;
                Verdict::Again
            }
            Err(errno @ (Errno::IO | Errno::INVAL)) if part.count > 1 => {
                self.alone = true;
                self.refusal = Some(errno);
                Verdict::Again
            }
            Err(errno) if is_of_the_path(errno) && self.tries < TRIES => {
                // It may be about a datagram that was sent before, perhaps to somebody else.
                self.tries += 1;
                // Of the segmentation nothing is known then.
                if errno == Errno::MSGSIZE {
                    self.refusal = None;
                }
                Verdict::Listen
            }
            Err(errno) => {
                self.done(part);
                Verdict::Lost(reason(errno))
            }
        }
    }
}

/// Why a datagram was not sent.
pub(crate) const fn reason(errno: Errno) -> DropReason {
    match errno {
        Errno::MSGSIZE => DropReason::TooBig,
        Errno::CONNREFUSED
        | Errno::HOSTUNREACH
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::NONET => DropReason::Unreachable,
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => DropReason::Congested,
        _ => DropReason::Refused,
    }
}

/// Whether an error may be one that the underlay has reported (`icmp_err_convert` and `icmpv6_err_convert` in Linux).
const fn is_of_the_path(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::MSGSIZE
            | Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::OPNOTSUPP
            | Errno::NOPROTOOPT
            | Errno::PROTO
            | Errno::ACCESS
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a kernel, its devices and the path take.
    #[derive(Clone, Debug)]
    struct Underlay {
        /// The most segments in one send, and what more are refused with.
        segments: usize,
        refusal: Errno,
        /// The longest datagram, headers aside.
        mtu: usize,
        /// Whether the limit is known before anything is sent.
        is_known: bool,
        /// Errors that are reported about something else, before sends with these numbers.
        reports: Vec<(usize, Errno)>,
    }

    /// Sends everything, as the sender does; returns what has left and what was too big, and the level in the end.
    fn send(
        count: usize,
        each: usize,
        last: usize,
        mut underlay: Underlay,
    ) -> (Vec<usize>, Vec<usize>, usize) {
        let mut departure = Departure::new(count, each, last);
        let (mut left, mut too_big, mut level) = (Vec::new(), Vec::new(), 128);
        let mut limit = if underlay.is_known { underlay.mtu } else { usize::MAX };
        let mut sends = 0;
        while let Some(part) = departure.part(level, limit) {
            if part.count == 1 && part.len > limit {
                too_big.push(part.first);
                departure.done(part);
                continue;
            }
            sends += 1;
            assert!(sends < 10 * count + 100, "it does not end");
            underlay.reports.sort_by_key(|(at, _)| *at);
            let result = match underlay.reports.first() {
                Some((at, errno)) if *at <= sends => {
                    let errno = *errno;
                    underlay.reports.remove(0);
                    Err(errno)
                }
                _ if part.count > underlay.segments => Err(underlay.refusal),
                _ if each.min(part.len) > underlay.mtu => Err(Errno::MSGSIZE),
                _ => Ok(()),
            };
            match departure.tried(part, result) {
                Verdict::Left => left.extend(part.first..part.first + part.count),
                Verdict::LeftAlone(errno) => {
                    left.extend(part.first..part.first + part.count);
                    level = if errno == Errno::INVAL && level > 64 { 64 } else { 1 };
                }
                Verdict::Again => {}
                Verdict::Listen => {
                    limit = if result == Err(Errno::MSGSIZE) && part.len > underlay.mtu {
                        underlay.mtu
                    } else {
                        limit
                    };
                }
                Verdict::Lost(reason) => panic!("{reason} of {part:?}"),
            }
        }
        (left, too_big, level)
    }

    fn good() -> Underlay {
        Underlay {
            segments: 128,
            refusal: Errno::INVAL,
            mtu: 1472,
            is_known: false,
            reports: Vec::new(),
        }
    }

    #[test]
    fn what_is_refused_together_leaves_one_by_one_and_is_remembered() {
        let all: Vec<usize> = (0..128).collect();
        let none: Vec<usize> = Vec::new();
        assert_eq!(send(128, 100, 50, good()), (all.clone(), none.clone(), 128));
        let older = Underlay { segments: 64, ..good() };
        assert_eq!(send(128, 100, 50, older), (all.clone(), none.clone(), 64));
        let oldest = Underlay { segments: 1, ..good() };
        assert_eq!(send(128, 100, 50, oldest), (all.clone(), none.clone(), 1));
        let device = Underlay { segments: 1, refusal: Errno::IO, ..good() };
        assert_eq!(send(128, 100, 50, device), (all, none, 1));
    }

    #[test]
    fn a_path_that_takes_less_is_no_reason_to_step_down() {
        let narrow = Underlay { mtu: 1400, ..good() };
        assert_eq!(send(44, 1472, 1000, narrow), (vec![43], (0..43).collect(), 128));
        // As kernels before 6.13 put it.
        let departure = &mut Departure::new(3, 1472, 1472);
        let part = departure.part(128, usize::MAX).unwrap();
        assert_eq!(departure.tried(part, Err(Errno::INVAL)), Verdict::Again);
        let part = departure.part(128, usize::MAX).unwrap();
        assert_eq!(departure.tried(part, Err(Errno::MSGSIZE)), Verdict::Listen);
        assert_eq!(departure.part(128, 1400), Some(Part { first: 0, count: 1, len: 1472 }));
    }

    #[test]
    fn what_stays_refused_is_lost_with_its_reason() {
        for (errno, expected) in [
            (Errno::HOSTUNREACH, DropReason::Unreachable),
            (Errno::NETUNREACH, DropReason::Unreachable),
            (Errno::AGAIN, DropReason::Congested),
            (Errno::NOBUFS, DropReason::Congested),
            (Errno::PERM, DropReason::Refused),
            (Errno::MSGSIZE, DropReason::TooBig),
        ] {
            let mut departure = Departure::new(1, 100, 100);
            let mut verdicts = Vec::new();
            while let Some(part) = departure.part(128, usize::MAX) {
                verdicts.push(departure.tried(part, Err(errno)));
                assert!(verdicts.len() < 10);
            }
            assert_eq!(verdicts.pop(), Some(Verdict::Lost(expected)), "{errno}");
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Listen));
        }
    }

    proptest! {
        /// Whatever there is between, each datagram leaves once and in order, but for those that are too long.
        #[test]
        fn nothing_is_lost_to_finding_out(
            count in 1_usize..129,
            each in 20_usize..1473,
            last in 20_usize..1473,
            segments in prop_oneof![Just(1_usize), Just(64), Just(128)],
            refusal in prop_oneof![Just(Errno::INVAL), Just(Errno::IO)],
            mtu in prop_oneof![Just(1472_usize), 20_usize..1473],
            is_known in any::<bool>(),
            reports in proptest::collection::btree_map(
                (1_usize..40).prop_map(|at| 5 * at),
                prop_oneof![Just(Errno::CONNREFUSED), Just(Errno::HOSTUNREACH), Just(Errno::MSGSIZE)],
                0..5,
            ),
        ) {
            let last = last.min(each);
            let reports = reports.into_iter().collect();
            let underlay = Underlay { segments, refusal, mtu, is_known, reports };
            let (left, too_big, level) = send(count, each, last, underlay);
            let fits = |index: &usize| if index + 1 == count { last <= mtu } else { each <= mtu };
            prop_assert_eq!(left, (0..count).filter(fits).collect::<Vec<_>>());
            prop_assert_eq!(too_big, (0..count).filter(|index| !fits(index)).collect::<Vec<_>>());
            prop_assert!(level >= segments.min(64) || level == 1 && (segments == 1 || refusal == Errno::IO));
        }
    }
}
