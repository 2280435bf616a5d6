//! From the TUN device to peers.

use std::io::IoSlice;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use overlay_wire::IpVersion;
use overlay_wire::icmp::{IcmpError, MAX_LEN};
use overlay_wire::ip::{Ecn, IpPacket};
use overlay_wire::segment::{MAX_HEADER_LEN, Segments, complete_checksum};
use overlay_wire::virtio_net::VirtioNetHeader;
use rustix::io::Errno;

use crate::answer::Answers;
use crate::batch::{Batch, MAX_TRAIN};
use crate::counters::{DropReason, Tally};
use crate::departure::{Departure, Verdict, reason};
use crate::forwarder::Shared;
use crate::socket::{MAX_SEGMENTS, Report, UdpSocket};
use crate::tun::{HEADER_LEN, Queue, is_gone};

/// How many reports are read at once, before packets have their turn again.
const REPORTS: usize = 64;

/// Bytes of the longest packet that a read returns.
const MAX_READ: usize = 65_536;
/// Room for packets that wait, and for one more.
const BUFFER: usize = 4 * MAX_READ;

/// Carries what one queue of the device gives, until it is told to stop.
pub(crate) fn run(shared: &Shared, index: usize) {
    let (Some(queue), Some(socket), Some(tally)) = (
        shared.device.queues().get(index),
        shared.sockets.get(index),
        shared.tallies.transmit.get(index),
    ) else {
        return;
    };
    let mut this = Transmit { shared, queue, socket, tally, answers: Answers::new() };
    let mut buffer = vec![0; BUFFER];
    let mut headers = vec![0; MAX_SEGMENTS * MAX_HEADER_LEN];
    let mut batch = Batch::default();
    let mut virtio = [0; HEADER_LEN];
    while !shared.stop.is_told() {
        if buffer.len() - batch.end() < MAX_READ {
            this.depart(&buffer, &mut batch);
            batch.restart();
        }
        let room = buffer.get_mut(batch.end()..).unwrap_or_default();
        match queue.read(&mut virtio, room) {
            Ok(len) => this.take(&virtio, &mut buffer, len, &mut headers, &mut batch),
            Err(Errno::AGAIN) if batch.waiting().is_some() => {
                this.depart(&buffer, &mut batch);
                batch.restart();
            }
            Err(Errno::AGAIN) => {
                shared.stop.wait_for(queue);
            }
            Err(errno) if is_gone(errno) => shared.restore_device(),
            Err(Errno::INTR) => {}
            Err(_) => shared.stop.pause(Duration::from_millis(10)),
        }
    }
    this.depart(&buffer, &mut batch);
}

struct Transmit<'a> {
    shared: &'a Shared,
    queue: &'a Queue,
    socket: &'a UdpSocket,
    tally: &'a Tally,
    answers: Answers,
}

/// Datagrams that leave together, in pieces for a gathering send.
#[derive(Clone, Copy)]
struct Train<'a> {
    to: IpAddr,
    ecn: Ecn,
    pieces: &'a [IoSlice<'a>],
    /// How many pieces a datagram has.
    per: usize,
    /// Bytes of each datagram but the last, which may have fewer.
    each: usize,
}

impl<'a> Train<'a> {
    fn count(&self) -> usize {
        self.pieces.len() / self.per
    }

    /// Some of the datagrams.
    fn part(&self, first: usize, count: usize) -> &'a [IoSlice<'a>] {
        self.pieces.get(first * self.per..(first + count) * self.per).unwrap_or_default()
    }
}

fn bytes_of(pieces: &[IoSlice<'_>]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

impl Transmit<'_> {
    /// Takes in the packet of `len` bytes that has been read to the end of the batch.
    fn take(
        &mut self,
        virtio: &[u8; HEADER_LEN],
        buffer: &mut [u8],
        len: usize,
        headers: &mut [u8],
        batch: &mut Batch,
    ) {
        self.tally.super_packets.add(1);
        let at = batch.end();
        let Ok((virtio, _)) = VirtioNetHeader::parse(virtio) else {
            return self.tally.dropped(DropReason::Unsendable, 1);
        };
        if virtio.gso.is_some() {
            self.depart(buffer, batch);
            let packet = buffer.get(at..at + len).unwrap_or_default();
            self.segment(&virtio, packet, headers);
            return batch.restart();
        }
        let packet = buffer.get_mut(at..at + len).unwrap_or_default();
        if complete_checksum(&virtio, packet).is_err() {
            return self.tally.dropped(DropReason::Unsendable, 1);
        }
        let Some((to, ecn)) = self.destination(packet, 1) else { return };
        if !batch.admits(to, ecn, len, self.socket.max_segments().min(MAX_SEGMENTS)) {
            self.depart(buffer, batch);
        }
        batch.push(to, ecn, len);
    }

    /// Sends the packets that wait.
    fn depart(&mut self, buffer: &[u8], batch: &mut Batch) {
        let Some((to, ecn, range, each)) = batch.waiting() else { return };
        let bytes = buffer.get(range).unwrap_or_default();
        if bytes.len() == each {
            self.send(Train { to, ecn, pieces: &[IoSlice::new(bytes)], per: 1, each });
        } else {
            let mut pieces = [IoSlice::new(&[]); MAX_SEGMENTS];
            let packets = bytes.chunks(each.max(1));
            let count = packets.len();
            pieces.iter_mut().zip(packets).for_each(|(to, packet)| *to = IoSlice::new(packet));
            let pieces = pieces.get(..count).unwrap_or_default();
            self.send(Train { to, ecn, pieces, per: 1, each });
        }
        batch.depart();
    }

    /// Sends the segments of a packet, with their payloads where they are.
    fn segment(&mut self, virtio: &VirtioNetHeader, packet: &[u8], headers: &mut [u8]) {
        let Ok(segments) = Segments::new(virtio, packet) else {
            return self.tally.dropped(DropReason::Unsendable, 1);
        };
        let Some((to, ecn)) = self.destination(packet, segments.count()) else { return };
        let each = segments.segment_len();
        let most = (MAX_TRAIN / each.max(1)).clamp(1, MAX_SEGMENTS);
        let mut next = 0;
        while next < segments.count() {
            let mut pieces = [IoSlice::new(&[]); 2 * MAX_SEGMENTS];
            let first = next;
            let rooms = headers.chunks_mut(segments.header_len().max(1));
            for (pair, header) in pieces.as_chunks_mut::<2>().0.iter_mut().zip(rooms).take(most) {
                let Some(payload) = segments.write(next, header) else { break };
                *pair = [IoSlice::new(header), IoSlice::new(payload)];
                next += 1;
            }
            if next == first {
                // There are as many as it says; were there fewer, it would never end.
                return self.tally.dropped(DropReason::Unsendable, segments.count() - next);
            }
            let pieces = pieces.get(..2 * (next - first)).unwrap_or_default();
            self.send(Train { to, ecn, pieces, per: 2, each });
        }
    }

    /// Where a packet that stands for `count` of them goes, and what its outer header says about congestion. If it goes
    /// nowhere, that has been counted and told.
    fn destination(&mut self, bytes: &[u8], count: usize) -> Option<(IpAddr, Ecn)> {
        let Ok(packet) = IpPacket::parse(bytes) else {
            self.tally.dropped(DropReason::Unsendable, count);
            return None;
        };
        let dst = packet.dst();
        let owner = self.shared.peers.lookup().owner(dst);
        if let Some(remote) = owner {
            return Some((remote.endpoint, packet.ecn()));
        }
        if is_group(dst) {
            self.tally.dropped(DropReason::Group, count);
        } else {
            self.tally.dropped(DropReason::NoPeer, count);
            self.tell(IcmpError::NetworkUnreachable, bytes);
        }
        None
    }

    /// Sends a train, or counts and tells what becomes of it.
    fn send(&mut self, train: Train<'_>) {
        let Train { to, ecn, each, .. } = train;
        let last = bytes_of(train.part(train.count().saturating_sub(1), 1));
        let mut departure = Departure::new(train.count(), each, last);
        let mut limit = self.limit(to);
        // One answer for all of them.
        let mut is_told = false;
        while let Some(part) = departure.part(self.socket.max_segments(), limit) {
            let pieces = train.part(part.first, part.count);
            if part.count == 1 && part.len > limit {
                self.send_too_big(train, pieces, limit, &mut is_told);
                departure.done(part);
                continue;
            }
            let segment = u16::try_from(each).ok().filter(|_| part.count > 1);
            let result = self.socket.send(to, ecn, pieces, segment);
            match departure.tried(part, result) {
                Verdict::Left => self.tally.train(part.count, part.len),
                Verdict::LeftAlone(refusal) => {
                    self.tally.train(part.count, part.len);
                    self.socket.step_down(refusal);
                }
                Verdict::Again => {}
                Verdict::Listen => {
                    self.shared.hear(self.socket);
                    limit = self.limit(to);
                }
                Verdict::Lost(reason) => {
                    self.tally.dropped(reason, part.count);
                    if reason == DropReason::Unreachable && !std::mem::replace(&mut is_told, true) {
                        let mut room = [0; MAX_LEN];
                        self.tell(IcmpError::HostUnreachable, beginning(pieces, &mut room));
                    }
                }
            }
        }
    }

    /// One datagram that does not fit on the way to the peer: the outer packet is cut into fragments if the inner one could
    /// be, or is as short as any link must take; else its source is told.
    fn send_too_big(
        &mut self,
        train: Train<'_>,
        part: &[IoSlice<'_>],
        limit: usize,
        is_told: &mut bool,
    ) {
        let mut room = [0; MAX_LEN];
        let original = beginning(part, &mut room);
        let (may_fragment, least) = match IpPacket::parse_cut(original) {
            Ok(IpPacket::V4(packet)) => (!packet.dont_fragment(), IpVersion::V4.min_mtu()),
            _ => (false, IpVersion::V6.min_mtu()),
        };
        let len = bytes_of(part);
        if may_fragment || len <= least as usize {
            match self.socket.send_fragmented(train.to, train.ecn, part) {
                Ok(()) => self.tally.train(1, len),
                Err(errno) => self.tally.dropped(reason(errno), 1),
            }
            return;
        }
        self.tally.dropped(DropReason::TooBig, 1);
        if !std::mem::replace(is_told, true) {
            let mtu = u32::try_from(limit).unwrap_or(u32::MAX).max(least);
            self.tell(IcmpError::PacketTooBig { mtu }, original);
        }
    }

    /// How long a packet to the peer may be, as far as is known.
    fn limit(&self, to: IpAddr) -> usize {
        let mtu = self.shared.paths.mtu(to);
        mtu.map_or(usize::MAX, |mtu| mtu.saturating_sub(self.shared.overhead) as usize)
    }

    fn tell(&mut self, error: IcmpError, original: &[u8]) {
        self.answers.tell(error, original, self.queue, self.tally);
    }
}

impl Shared {
    /// Takes in what the underlay reports about what was sent. Reports may be forged: those that are about no peer do not
    /// count, and each peer has one place.
    pub(crate) fn hear(&self, socket: &UdpSocket) {
        for report in std::iter::from_fn(|| socket.report()).take(REPORTS) {
            let Report::PathMtu { to, mtu } = report else { continue };
            let is_peer = self.peers.lookup().is_endpoint(to);
            if is_peer && self.paths.learn(to, mtu, Instant::now()) {
                self.tell_fast_path();
            }
        }
    }
}

/// The beginning of a datagram that is in pieces.
fn beginning<'r>(pieces: &[IoSlice<'_>], room: &'r mut [u8]) -> &'r [u8] {
    let bytes = pieces.iter().flat_map(|piece| piece.iter());
    let len = bytes_of(pieces).min(room.len());
    room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    room.get(..len).unwrap_or_default()
}

fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}
