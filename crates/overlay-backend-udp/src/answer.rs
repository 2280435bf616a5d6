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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Counters, Tallies};
    use overlay_wire::ip::IpProtocol;
    use overlay_wire::ipv4::Ipv4Header;
    use overlay_wire::ipv6::Ipv6Header;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    /// What is written, and counted, when the sources of these packets are told.
    fn told(originals: &[Vec<u8>]) -> (Vec<Vec<u8>>, Counters) {
        let (device, kernel) = UnixDatagram::pair().unwrap();
        kernel.set_nonblocking(true).unwrap();
        let (queue, tallies) = (Queue::from(OwnedFd::from(device)), Tallies::new(1));
        let mut answers = Answers::new();
        let (mut written, mut room) = (Vec::new(), [0; 2000]);
        for original in originals {
            answers.tell(IcmpError::HostUnreachable, original, &queue, &tallies.transmit[0]);
            if let Ok(len) = kernel.recv(&mut room) {
                written.push(room[..len].to_vec());
            }
        }
        (written, tallies.sum())
    }

    fn v4(src: [u8; 4], dst: [u8; 4], protocol: IpProtocol) -> Vec<u8> {
        let mut packet = vec![0; 60];
        Ipv4Header::new(src.into(), dst.into(), protocol).emit(&mut packet).unwrap();
        packet
    }

    #[test]
    fn the_source_is_told_from_where_the_packet_was_going() {
        let mut v6 = vec![0; 80];
        let (src, dst) = ("fd00:1::2".parse().unwrap(), "fd00:9::2".parse().unwrap());
        Ipv6Header::new(src, dst, IpProtocol::UDP).emit(&mut v6).unwrap();
        let originals = [v4([10, 1, 0, 2], [10, 9, 0, 2], IpProtocol::UDP), v6];
        let (written, counters) = told(&originals);
        assert_eq!((written.len(), counters.answers, counters.answers_withheld), (2, 2, 0));
        for (answer, original) in written.iter().zip(&originals) {
            let (virtio, packet) = answer.split_at(HEADER_LEN);
            assert_eq!(virtio, [0; HEADER_LEN]);
            let (answer, about) =
                (IpPacket::parse(packet).unwrap(), IpPacket::parse(original).unwrap());
            assert_eq!((answer.src(), answer.dst()), (about.dst(), about.src()));
            assert!(answer.payload().ends_with(original), "it is quoted");
        }
    }

    #[test]
    fn what_may_not_be_answered_is_not() {
        let mut error = v4([10, 1, 0, 2], [10, 9, 0, 2], IpProtocol::ICMP);
        error[20] = 3;
        let mut fragment = v4([10, 1, 0, 2], [10, 9, 0, 2], IpProtocol::UDP);
        fragment[7] = 100;
        let group = v4([10, 1, 0, 2], [224, 0, 0, 5], IpProtocol::UDP);
        let all = v4([10, 1, 0, 2], [255; 4], IpProtocol::UDP);
        let nobody = v4([0; 4], [10, 9, 0, 2], IpProtocol::UDP);
        let (written, counters) = told(&[error, fragment, group, all, nobody, Vec::new()]);
        assert_eq!((written.len(), counters.answers, counters.answers_withheld), (0, 0, 0));
    }

    #[test]
    fn a_flood_is_answered_in_part() {
        let start = Instant::now();
        let original = v4([10, 1, 0, 2], [10, 9, 0, 2], IpProtocol::UDP);
        let (written, counters) = told(&vec![original; 2000]);
        let most = u128::from(BURST) + 1 + start.elapsed().as_nanos() / INTERVAL.as_nanos();
        assert!(written.len() >= BURST as usize && written.len() as u128 <= most);
        assert_eq!(counters.answers, written.len() as u64);
        assert_eq!(counters.answers + counters.answers_withheld, 2000);
    }
}
