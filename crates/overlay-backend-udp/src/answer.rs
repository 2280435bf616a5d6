//! What the sources of packets that cannot be carried are told.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use overlay_wire::icmp::{IcmpError, MAX_LEN};
use overlay_wire::ip::IpPacket;

use crate::bucket::Bucket;
use crate::counters::Tally;
use crate::tun::{HEADER_LEN, Queue};

/// As many at once, and one more each interval: what Linux allows itself (`net.ipv4.icmp_msgs_burst` and
/// `net.ipv4.icmp_msgs_per_sec`).
const BURST: u32 = 50;
const INTERVAL: Duration = Duration::from_millis(1);

/// Tells sources by ICMP, at a limited rate.
#[derive(Debug)]
pub(crate) struct Answers {
    bucket: Bucket,
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self { bucket: Bucket::new(BURST, INTERVAL, Instant::now()) }
    }

    /// Tells the source of the packet that `original` begins with, if it may be told.
    ///
    /// The error comes from where the packet was going: from an address of this node the kernel would not take it, since
    /// it comes in by a device; and where a packet goes out, one from its destination may come in, however strict the
    /// filter of reverse paths.
    pub(crate) fn tell(&mut self, error: IcmpError, original: &[u8], queue: &Queue, tally: &Tally) {
        let Ok(packet) = IpPacket::parse_cut(original) else { return };
        let mut room = [0; MAX_LEN];
        let Ok(len) = error.emit(original, packet.dst(), &mut room) else { return };
        if !self.bucket.take(Instant::now()) {
            tally.answers_withheld.add(1);
            return;
        }
        let answer = room.get(..len).unwrap_or_default();
        if queue.write(&[IoSlice::new(&[0; HEADER_LEN]), IoSlice::new(answer)]).is_ok() {
            tally.answers.add(1);
        }
    }
}
