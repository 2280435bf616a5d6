//! What a tunnel counts.

use std::fmt;

use crate::error::Error;
use crate::map::PerCpuArray;

/// Why a packet was not carried.
///
/// Some are passed on, to the reader of the TUN device or to the tunnel's socket, as if there were no program. Others are
/// dropped: nothing good could come of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Out: no peer has the destination. Passed.
    NoPeer,
    /// Out: the peer is served by user space ([`Remote::fast`](super::Remote::fast)). Passed.
    UserSpace,
    /// Out: larger than the peer's MTU. Passed.
    TooBig,
    /// Out: segmentation-offloaded in a way that cannot be judged, or carrying a tunnel already. Passed.
    Unusual,
    /// Out: the kernel had no room for the headers. Dropped.
    NoRoom,
    /// In: several datagrams that the kernel has merged, or an outer header that asks for a closer look. Passed.
    Merged,
    /// In: lengths or versions contradict each other. Dropped.
    Malformed,
    /// In: the inner source does not belong to the peer at the outer source. Dropped.
    Spoofed,
    /// In: the inner destination is not in a subnet of this node. Dropped.
    Foreign,
    /// In: congestion was experienced by a packet that cannot tell its receiver (RFC 6040). Dropped.
    Congested,
    /// In: the kernel could not take the headers off. Dropped.
    Refused,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::NoPeer,
        Self::UserSpace,
        Self::TooBig,
        Self::Unusual,
        Self::NoRoom,
        Self::Merged,
        Self::Malformed,
        Self::Spoofed,
        Self::Foreign,
        Self::Congested,
        Self::Refused,
    ];

    /// Whether such packets are dropped rather than passed on.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        match self {
            Self::NoPeer | Self::UserSpace | Self::TooBig | Self::Unusual | Self::Merged => false,
            Self::NoRoom
            | Self::Malformed
            | Self::Spoofed
            | Self::Foreign
            | Self::Congested
            | Self::Refused => true,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::NoPeer => "no peer",
            Self::UserSpace => "user space",
            Self::TooBig => "too big",
            Self::Unusual => "unusual",
            Self::NoRoom => "no room",
            Self::Merged => "merged",
            Self::Malformed => "malformed",
            Self::Spoofed => "spoofed",
            Self::Foreign => "foreign",
            Self::Congested => "congested",
            Self::Refused => "refused",
        }
    }

    pub(super) const fn slot(self) -> i16 {
        (Slot::COUNT + self as usize) as i16 * 8
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counters in front of those by reason.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    SentPackets,
    SentBytes,
    ReceivedPackets,
    ReceivedBytes,
}

impl Slot {
    const COUNT: usize = 4;

    pub(super) const fn offset(self) -> i16 {
        self as i16 * 8
    }
}

const SLOTS: usize = Slot::COUNT + Reason::ALL.len();

/// Bytes of the counters of one processor.
pub(super) const LEN: usize = SLOTS * 8;

/// What was carried one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Packets; one that is segmentation-offloaded counts once.
    pub packets: u64,
    /// Bytes of inner packets, from the IP header on.
    pub bytes: u64,
}

/// Counters of a tunnel since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// What was encapsulated.
    pub sent: Traffic,
    /// What was decapsulated.
    pub received: Traffic,
    reasons: [u64; Reason::ALL.len()],
}

impl Counters {
    /// How many packets were not carried for a reason.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.reasons.get(reason as usize).copied().unwrap_or_default()
    }

    /// The reasons that occurred, and how often.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason, self.of(reason))).filter(|(_, n)| *n > 0)
    }

    /// The sum over all processors.
    pub(super) fn read(map: &PerCpuArray<LEN>) -> Result<Self, Error> {
        let mut sums = [0_u64; SLOTS];
        for processor in map.lookup(0)? {
            for (sum, bytes) in sums.iter_mut().zip(processor.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_ne_bytes(*bytes));
            }
        }
        let [sent_packets, sent_bytes, received_packets, received_bytes, reasons @ ..] = sums;
        Ok(Self {
            sent: Traffic { packets: sent_packets, bytes: sent_bytes },
            received: Traffic { packets: received_packets, bytes: received_bytes },
            reasons,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_slot() {
        let offsets: Vec<_> = Reason::ALL.into_iter().map(Reason::slot).collect();
        let expected: Vec<_> = (4..15).map(|slot| slot * 8).collect();
        assert_eq!(offsets, expected);
    }
}
