//! Which packets leave together: those to one peer that follow one another and are of one length.

use std::net::IpAddr;
use std::ops::Range;

use overlay_wire::ip::Ecn;

/// Bytes of the longest payload of a UDP datagram over IPv4, which is also the longest train of them.
pub(crate) const MAX_TRAIN: usize = 65_507;

/// Packets that lie one after the other in a buffer and wait to leave as one train of datagrams.
///
/// All are as long as the first; a shorter one may be the last.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    to: Option<(IpAddr, Ecn)>,
    start: usize,
    end: usize,
    /// Bytes of the first packet.
    each: usize,
    count: usize,
    /// Whether nothing may follow.
    is_closed: bool,
}

impl Batch {
    /// Where the next packet has to lie to join.
    pub(crate) const fn end(&self) -> usize {
        self.end
    }

    /// Where the packets lie, how long each but the last is, and where they go. `None` when there are none.
    pub(crate) fn waiting(&self) -> Option<(IpAddr, Ecn, Range<usize>, usize)> {
        let (to, ecn) = self.to?;
        Some((to, ecn, self.start..self.end, self.each))
    }

    /// Whether a packet of `len` bytes at [`end`](Self::end) may leave with the others.
    pub(crate) fn admits(&self, to: IpAddr, ecn: Ecn, len: usize, max: usize) -> bool {
        match self.to {
            None => true,
            Some(known) => {
                !self.is_closed
                    && known == (to, ecn)
                    && len <= self.each
                    && self.count < max
                    && self.end - self.start + len <= MAX_TRAIN
            }
        }
    }

    /// Takes in the packet of `len` bytes at [`end`](Self::end), which [`admits`](Self::admits) has said yes to.
    pub(crate) fn push(&mut self, to: IpAddr, ecn: Ecn, len: usize) {
        if self.to.is_none() {
            self.to = Some((to, ecn));
            self.each = len;
        }
        self.is_closed = len < self.each;
        self.end += len;
        self.count += 1;
    }

    /// Those that waited have left; the next one may lie behind them.
    pub(crate) const fn depart(&mut self) {
        self.to = None;
        self.start = self.end;
        self.count = 0;
        self.is_closed = false;
    }

    /// Begins at the front of the buffer again.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes, trains cut into pieces of their length give the packets back, in order.
        #[test]
        fn trains_are_what_came(
            packets in proptest::collection::vec((0_u8..3, 1_usize..2000, any::<bool>()), 1..300),
            max in 1_usize..130,
        ) {
            let address = |peer: u8| IpAddr::from([192, 0, 2, peer]);
            let (mut batch, mut left) = (Batch::default(), Vec::new());
            let mut at = Vec::new();
            let mut leave = |batch: &mut Batch| -> Result<(), TestCaseError> {
                if let Some((to, _, range, each)) = batch.waiting() {
                    prop_assert!(range.len() <= MAX_TRAIN);
                    let mut lens = Vec::new();
                    let mut start = range.start;
                    while start < range.end {
                        lens.push(each.min(range.end - start));
                        start += each;
                    }
                    prop_assert!(lens.len() <= max);
                    left.extend(lens.into_iter().map(|len| (to, len)));
                }
                batch.depart();
                Ok(())
            };
            for (peer, len, repeat) in packets {
                for _ in 0..if repeat { 5 } else { 1 } {
                    if !batch.admits(address(peer), Ecn::NotEct, len, max) {
                        leave(&mut batch)?;
                        prop_assert!(batch.admits(address(peer), Ecn::NotEct, len, max));
                    }
                    batch.push(address(peer), Ecn::NotEct, len);
                    at.push((address(peer), len));
                }
            }
            leave(&mut batch)?;
            prop_assert_eq!(left, at);
        }
    }

    #[test]
    fn congestion_marks_do_not_mix() {
        let mut batch = Batch::default();
        let to = IpAddr::from([192, 0, 2, 1]);
        batch.push(to, Ecn::Ect0, 100);
        assert!(batch.admits(to, Ecn::Ect0, 100, 64));
        assert!(!batch.admits(to, Ecn::Ce, 100, 64));
    }
}
