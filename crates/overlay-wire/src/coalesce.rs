//! Coalescing: packets of a flow that follow each other become one packet of up to 64 KiB, as Linux does it for what it
//! receives (generic receive offload, GRO). The inverse of [segmenting](crate::segment).
//!
//! A [`Coalescer`] is shown packets that lie in one buffer of the caller's, for instance the datagrams that one receive
//! with `UDP_GRO` has returned. Packets that are segments of each other become one, of which the caller writes the pieces
//! at once: a virtio header, the first packet whole, the payloads of the others. Its headers are changed in place, and
//! nothing is copied. All other packets pass alone, as they are.
//!
//! Two packets are coalesced when everything is the same but
//!
//! * the lengths: all payloads are as long as the first one, the last may be shorter, and none is empty;
//! * the IPv4 identification: it counts up by 1, or, if the packet must not be fragmented, stays the same;
//! * TCP's sequence numbers, which follow each other;
//! * TCP's flags: ACK is set, FIN and PSH are only in the last, CWR is only in the first, and SYN, RST and URG are not set.
//!
//! So they have the same addresses, ports, traffic class, TTL, flow label, acknowledgment, window and options. Fragments,
//! packets with IPv6 extension headers or an IPv4 authentication header, datagrams without checksum, and unless the caller
//! has done so himself packets with wrong checksums are not coalesced. [Segmenting](crate::segment) what has been coalesced
//! gives the packets as they were, except that identifications which were all the same count up then, which receivers do
//! not look at (RFC 6864).
//!
//! The packets of a flow stay in order. A few flows may be interleaved: that of each is coalesced on its own, and takes the
//! place of its first packet. What belongs to no known flow is not overtaken.
//!
//! ```
//! use overlay_wire::coalesce::{Coalescer, Options, datagrams};
//! use overlay_wire::ip::IpProtocol;
//! use overlay_wire::checksum::PseudoHeader;
//! use overlay_wire::ipv4::Ipv4Header;
//! use overlay_wire::udp::UdpHeader;
//!
//! // What a receive with UDP_GRO might have returned: three datagrams, the last one shorter.
//! let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
//! let mut buffer = [7; 1028 + 1028 + 528];
//! for (identification, range) in (0..).zip(datagrams(buffer.len(), 1028)) {
//!     let packet = &mut buffer[range];
//!     let udp = UdpHeader { src_port: 40000, dst_port: 443 };
//!     udp.emit(&mut packet[20..], Some(&PseudoHeader::V4 { src, dst }))?;
//!     Ipv4Header { identification, ..Ipv4Header::new(src, dst, IpProtocol::UDP) }.emit(packet)?;
//! }
//!
//! let mut coalescer = Coalescer::<64>::new(Options::default());
//! for range in datagrams(buffer.len(), 1028) {
//!     coalescer.push(&buffer, range)?;
//! }
//! for packet in coalescer.finish(&mut buffer) {
//!     // To be written at once, the virtio header in front.
//!     assert_eq!(packet.header().gso.map(|gso| gso.size.get()), Some(1000));
//!     assert!(packet.pieces().eq([0..1028, 1056..2056, 2084..2584]));
//! }
//! coalescer.clear();
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::num::NonZeroU16;
use core::ops::Range;

use crate::checksum::{self, PseudoHeader};
use crate::error::Error;
use crate::field;
use crate::ip::{IpPacket, IpVersion};
use crate::tcp::{self, TcpFlags};
use crate::transport::{self, Transport, TransportKind};
use crate::virtio_net::{ChecksumState, Gso, GsoKind, VirtioNetHeader};
use crate::{ipv4, ipv6, udp};

/// Bytes of the longest packet that is made.
pub const MAX_LEN: usize = 65_535;

/// How many datagrams of UDP become one at most: what every kernel takes from a TUN device (`UDP_MAX_SEGMENTS`).
pub const MAX_DATAGRAMS: usize = 64;

/// How many flows may be interleaved. With more of them, the one that began first is not continued.
pub const MAX_FLOWS: usize = 8;

/// What is coalesced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Options {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams, which whoever gets the packet must be able to segment: a TUN device since Linux 6.2.
    pub udp: bool,
    /// Whether the checksums of packets to be coalesced are verified. If not, a packet that was damaged on its way gets a
    /// new and right checksum.
    pub verify: bool,
}

/// Everything, verified.
impl Default for Options {
    fn default() -> Self {
        Self { tcp: true, udp: true, verify: true }
    }
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There are as many packets as there is room for. They have to be [finished](Coalescer::finish) and
    /// [cleared](Coalescer::clear) first.
    #[error("no room for another packet")]
    Full,
    /// It is neither IPv4 nor IPv6, or its header is incomplete or contradicts itself.
    #[error(transparent)]
    Malformed(Error),
    /// It says that it is longer than it is: it was cut.
    #[error("a packet of {expected} bytes, of which there are {found}")]
    Truncated {
        /// Bytes as the packet's header says.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// It says that it is shorter than it is: something is behind it.
    #[error("{found} bytes with a packet of {expected}")]
    Trailing {
        /// Bytes as the packet's header says.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
}

/// Coalesces up to `PACKETS` packets at a time.
///
/// Nothing in it is on the heap: with room for 128 packets it has 13 KiB.
#[derive(Clone, Debug)]
pub struct Coalescer<const PACKETS: usize> {
    options: Options,
    /// Of all packets, in the order in which they came.
    pieces: [Piece; PACKETS],
    piece_count: usize,
    /// In the order of their first packets.
    runs: [Run; PACKETS],
    run_count: usize,
    /// The runs that may be continued.
    open: [Option<Open>; MAX_FLOWS],
}

/// What is written of a packet.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    len: usize,
    /// The next one of the same run, if this is not its last.
    next: usize,
}

/// Packets that become one.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: usize,
    last: usize,
    packets: usize,
    /// Bytes of the one packet.
    len: usize,
    /// Of TCP, the flags of the last packet that the first one did not have.
    late_flags: u8,
    /// Of a packet that belongs to a flow.
    transport: Option<Transport>,
    header: VirtioNetHeader,
}

/// What no packet of another flow has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    kind: TransportKind,
    addresses: PseudoHeader,
    ports: [u8; 4],
}

/// A packet that belongs to a flow.
#[derive(Clone, Debug)]
struct Candidate<'p> {
    flow: Flow,
    transport: Transport,
    bytes: &'p [u8],
    /// Where the packet is in the buffer.
    range: Range<usize>,
    payload_len: usize,
    /// Of TCP.
    sequence: u32,
    /// Of TCP.
    flags: u8,
    /// Of IPv4, with whether it must not be fragmented.
    identification: u16,
    dont_fragment: bool,
}

/// A run that may be continued.
#[derive(Clone, Debug)]
struct Open {
    flow: Flow,
    run: usize,
    transport: Transport,
    /// The first packet.
    first: Range<usize>,
    /// Bytes of payload in each packet.
    size: usize,
    packets: usize,
    /// Bytes of the one packet so far.
    len: usize,
    /// Whether the checksums of the first packet have been verified.
    is_verified: bool,
    next_sequence: u32,
    next_identification: u16,
    /// By how much the identification grows: unknown before the second packet.
    step: Option<u16>,
}

const ACK: u8 = TcpFlags::ACK.bits() as u8;
const CWR: u8 = TcpFlags::CWR.bits() as u8;
const ECE: u8 = TcpFlags::ECE.bits() as u8;
/// The flags after which a run ends.
const LAST: u8 = (TcpFlags::FIN.bits() | TcpFlags::PSH.bits()) as u8;
/// Where these flags are in the header of TCP.
const FLAGS: usize = tcp::OFFSET_FLAGS + 1;

impl<const PACKETS: usize> Coalescer<PACKETS> {
    /// Without packets.
    #[must_use]
    pub const fn new(options: Options) -> Self {
        const PIECE: Piece = Piece { start: 0, len: 0, next: 0 };
        const RUN: Run = Run {
            first: 0,
            last: 0,
            packets: 0,
            len: 0,
            late_flags: 0,
            transport: None,
            header: VirtioNetHeader { checksum: ChecksumState::Unverified, gso: None },
        };
        Self {
            options,
            pieces: [PIECE; PACKETS],
            piece_count: 0,
            runs: [RUN; PACKETS],
            run_count: 0,
            open: [const { None }; MAX_FLOWS],
        }
    }

    /// How many packets have been taken.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.piece_count
    }

    /// Whether no packet has been taken.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.piece_count == 0
    }

    /// Whether there is no room for another packet.
    #[must_use]
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.piece_count == PACKETS
    }

    /// Takes the next packet, which lies at `range` in the buffer. The packets that have been taken must stay as they are
    /// until they are [finished](Self::finish).
    ///
    /// # Errors
    /// [`Refused`] when there is no room, or the bytes are not exactly one IP packet. It has not been taken then.
    #[inline]
    pub fn push(&mut self, buffer: &[u8], range: Range<usize>) -> Result<(), Refused> {
        if self.is_full() {
            return Err(Refused::Full);
        }
        let bytes = buffer.get(range.clone()).unwrap_or_default();
        let packet = IpPacket::parse_cut(bytes).map_err(Refused::Malformed)?;
        let (expected, found) = (transport::total_len(&packet), bytes.len());
        if expected > found {
            return Err(Refused::Truncated { expected, found });
        }
        if expected < found {
            return Err(Refused::Trailing { expected, found });
        }
        match Candidate::of(bytes, &packet, range.clone()) {
            Some(candidate) => self.join(candidate, buffer),
            None => {
                // It could belong to any of them.
                self.close();
                self.begin(range, None);
            }
        }
        Ok(())
    }

    /// Completes the headers of the packets that have become one, and returns all that are to be written, in order.
    ///
    /// Packets that are taken after this continue none of them.
    pub fn finish<'c>(
        &'c mut self,
        buffer: &mut [u8],
    ) -> impl ExactSizeIterator<Item = Coalesced<'c>> + use<'c, PACKETS> {
        self.close();
        let runs = self.runs.get(..self.run_count).unwrap_or_default();
        for run in runs.iter().filter(|run| run.packets > 1) {
            if let (Some(first), Some(transport)) = (self.pieces.get(run.first), run.transport) {
                // Nothing is left undone, as long as the buffer is that in which the packets are.
                let _ = complete(buffer, first.start, transport, run);
            }
        }
        runs.iter().map(|run| Coalesced { run, pieces: &self.pieces })
    }

    /// Forgets all packets.
    #[inline]
    pub fn clear(&mut self) {
        self.close();
        self.piece_count = 0;
        self.run_count = 0;
    }

    /// No run is continued.
    #[inline]
    fn close(&mut self) {
        self.open = [const { None }; MAX_FLOWS];
    }

    /// Continues the run of the flow, or begins one.
    #[inline]
    fn join(&mut self, candidate: Candidate<'_>, buffer: &[u8]) {
        let is_same = |slot: &&mut Option<Open>| {
            slot.as_ref().is_some_and(|open| open.flow == candidate.flow)
        };
        if let Some(slot) = self.open.iter_mut().find(is_same) {
            if let Some(open) = slot
                && open.take(&candidate, buffer, self.options.verify)
            {
                let (run, header) = (open.run, open.header(buffer));
                if candidate.is_last_of(open.size) {
                    *slot = None;
                }
                self.append(run, header, &candidate);
                return;
            }
            *slot = None;
        }
        let run = self.run_count;
        self.begin(candidate.range.clone(), Some(candidate.transport));
        if candidate.may_begin(&self.options) {
            // One that is free, or else that of the oldest run.
            let age = |slot: &&mut Option<Open>| slot.as_ref().map_or(0, |open| open.run + 1);
            if let Some(slot) = self.open.iter_mut().min_by_key(age) {
                *slot = Some(Open::begin(run, &candidate));
            }
        }
    }

    /// A run of one packet.
    #[inline]
    fn begin(&mut self, range: Range<usize>, transport: Option<Transport>) {
        let (len, piece) = (range.len(), self.piece_count);
        if let Some(run) = self.runs.get_mut(self.run_count) {
            *run = Run {
                first: piece,
                last: piece,
                packets: 1,
                len,
                late_flags: 0,
                transport,
                header: VirtioNetHeader::default(),
            };
            self.run_count += 1;
        }
        self.add(range);
    }

    /// One packet more in a run.
    #[inline]
    fn append(&mut self, run: usize, header: VirtioNetHeader, candidate: &Candidate<'_>) {
        let piece = self.piece_count;
        if let Some(run) = self.runs.get_mut(run) {
            if let Some(last) = self.pieces.get_mut(run.last) {
                last.next = piece;
            }
            run.last = piece;
            run.packets += 1;
            run.len += candidate.payload_len;
            run.late_flags |= candidate.flags & LAST;
            run.header = header;
        }
        self.add(candidate.range.start + candidate.transport.header_len..candidate.range.end);
    }

    #[inline]
    fn add(&mut self, range: Range<usize>) {
        if let Some(piece) = self.pieces.get_mut(self.piece_count) {
            *piece = Piece { start: range.start, len: range.len(), next: 0 };
            self.piece_count += 1;
        }
    }
}

impl<'p> Candidate<'p> {
    /// `None` when it cannot be told to which flow the packet belongs.
    #[inline]
    fn of(bytes: &'p [u8], packet: &IpPacket<'_>, range: Range<usize>) -> Option<Self> {
        let transport = Transport::of(packet).ok().filter(|transport| !transport.extended)?;
        let upper = bytes.get(transport.at..)?;
        let (sequence, flags) = match transport.kind {
            TransportKind::Tcp => {
                let tcp = upper.first_chunk::<{ tcp::LEN }>()?;
                (field::u32::<{ tcp::SEQUENCE }, _>(tcp), field::u8::<FLAGS, _>(tcp))
            }
            TransportKind::Udp => (0, 0),
        };
        let (identification, dont_fragment) = match packet {
            IpPacket::V4(packet) => (packet.identification(), packet.dont_fragment()),
            IpPacket::V6(_) => (0, true),
        };
        Some(Self {
            flow: Flow {
                kind: transport.kind,
                addresses: packet.pseudo_header(),
                ports: *upper.first_chunk()?,
            },
            transport,
            bytes,
            range,
            payload_len: bytes.len().checked_sub(transport.header_len)?,
            sequence,
            flags,
            identification,
            dont_fragment,
        })
    }

    /// Whether another packet might follow.
    #[inline]
    fn may_begin(&self, options: &Options) -> bool {
        self.payload_len > 0
            && match self.transport.kind {
                TransportKind::Tcp => options.tcp && self.flags & !(CWR | ECE) == ACK,
                TransportKind::Udp => options.udp && self.udp_checksum() != Some(&[0, 0]),
            }
    }

    /// Whether no other packet can follow in a run of packets with so much payload.
    #[inline]
    const fn is_last_of(&self, size: usize) -> bool {
        self.payload_len < size || self.flags & LAST != 0
    }

    #[inline]
    fn udp_checksum(&self) -> Option<&[u8; 2]> {
        self.bytes.get(self.transport.at + udp::CHECKSUM..)?.first_chunk()
    }
}

impl Open {
    #[inline]
    fn begin(run: usize, candidate: &Candidate<'_>) -> Self {
        Self {
            flow: candidate.flow,
            run,
            transport: candidate.transport,
            first: candidate.range.clone(),
            size: candidate.payload_len,
            packets: 1,
            len: candidate.bytes.len(),
            is_verified: false,
            next_sequence: candidate.sequence.wrapping_add(candidate.payload_len as u32),
            next_identification: candidate.identification,
            step: None,
        }
    }

    /// Whether the packet continues the run. If so, it has.
    #[inline]
    fn take(&mut self, candidate: &Candidate<'_>, buffer: &[u8], verify: bool) -> bool {
        let step = candidate.identification.wrapping_sub(self.next_identification);
        let is_step = match (self.transport.version, self.step) {
            (IpVersion::V6, _) => true,
            (IpVersion::V4, None) => step == 1 || step == 0 && candidate.dont_fragment,
            (IpVersion::V4, Some(usual)) => step == usual,
        };
        let is_next = match self.transport.kind {
            TransportKind::Tcp => candidate.sequence == self.next_sequence,
            TransportKind::Udp => {
                self.packets < MAX_DATAGRAMS && candidate.udp_checksum() != Some(&[0, 0])
            }
        };
        let len = self.len + candidate.payload_len;
        let fits = (1..=self.size).contains(&candidate.payload_len) && len <= MAX_LEN;
        let Some(first) = buffer.get(self.first.clone()) else { return false };
        if !is_step || !is_next || !fits || !self.is_alike(first, candidate) {
            return false;
        }
        if verify {
            let addresses = &self.flow.addresses;
            self.is_verified = self.is_verified || self.transport.is_valid(first, addresses);
            if !self.is_verified || !self.transport.is_valid(candidate.bytes, addresses) {
                return false;
            }
        }
        self.packets += 1;
        self.len = len;
        self.next_sequence = self.next_sequence.wrapping_add(candidate.payload_len as u32);
        self.next_identification = candidate.identification;
        self.step = Some(step);
        true
    }

    /// Whether what may not differ does not.
    #[inline]
    fn is_alike(&self, first: &[u8], candidate: &Candidate<'_>) -> bool {
        let (at, other) = (self.transport.at, candidate.bytes);
        let same = |range: Range<usize>| match (first.get(range.clone()), other.get(range)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        };
        self.transport == candidate.transport
            && match self.transport.version {
                IpVersion::V4 => {
                    same(0..ipv4::TOTAL_LENGTH)
                        && same(ipv4::FRAGMENT..ipv4::CHECKSUM)
                        && same(ipv4::CHECKSUM + 2..at)
                }
                IpVersion::V6 => {
                    same(0..ipv6::PAYLOAD_LENGTH) && same(ipv6::PAYLOAD_LENGTH + 2..at)
                }
            }
            && match self.transport.kind {
                TransportKind::Tcp => {
                    let flags = first.get(at + FLAGS).map(|flags| flags & !CWR);
                    same(at + tcp::ACKNOWLEDGMENT..at + FLAGS)
                        && flags == Some(candidate.flags & !LAST)
                        && same(at + tcp::WINDOW..at + tcp::CHECKSUM)
                        && same(at + tcp::URGENT..self.transport.header_len)
                }
                TransportKind::Udp => true,
            }
    }

    /// The virtio header of the packet that the run becomes.
    #[inline]
    fn header(&self, buffer: &[u8]) -> VirtioNetHeader {
        let Transport { version, kind, at, header_len, .. } = self.transport;
        let flags = || buffer.get(self.first.start + at + FLAGS).copied();
        let (gso_kind, ecn) = match (kind, version) {
            (TransportKind::Tcp, IpVersion::V4) => (GsoKind::TcpV4, flags()),
            (TransportKind::Tcp, IpVersion::V6) => (GsoKind::TcpV6, flags()),
            (TransportKind::Udp, _) => (GsoKind::Udp, None),
        };
        // No packet is so long that a number is cut.
        VirtioNetHeader {
            checksum: ChecksumState::Needed { start: at as u16, offset: kind.checksum_at() as u16 },
            gso: NonZeroU16::new(self.size as u16).map(|size| Gso {
                kind: gso_kind,
                ecn: ecn.is_some_and(|flags| flags & CWR != 0),
                header_len: header_len as u16,
                size,
            }),
        }
    }
}

/// Makes the headers of the packet at `start` those of its run.
fn complete(buffer: &mut [u8], start: usize, transport: Transport, run: &Run) -> Option<()> {
    let header = buffer.get_mut(start..)?.get_mut(..transport.header_len)?;
    let addresses = IpPacket::parse_cut(header).ok()?.pseudo_header();
    let partial = transport.partial_checksum(&addresses, run.len);
    let (ip, upper) = header.split_at_mut_checked(transport.at)?;
    // Nothing is cut: the packet has at most `MAX_LEN` bytes.
    match transport.version {
        IpVersion::V4 => {
            let ip = ip.first_chunk_mut::<{ ipv4::LEN }>()?;
            let old = field::u16::<{ ipv4::TOTAL_LENGTH }, _>(ip);
            // What was wrong stays wrong.
            let sum = field::u16::<{ ipv4::CHECKSUM }, _>(ip);
            let sum = checksum::update(sum, old, run.len as u16);
            field::put_u16::<{ ipv4::TOTAL_LENGTH }, _>(ip, run.len as u16);
            field::put_u16::<{ ipv4::CHECKSUM }, _>(ip, sum);
        }
        IpVersion::V6 => {
            let ip = ip.first_chunk_mut::<{ ipv6::LEN }>()?;
            let payload_len = run.len.checked_sub(ipv6::LEN)?;
            field::put_u16::<{ ipv6::PAYLOAD_LENGTH }, _>(ip, payload_len as u16);
        }
    }
    match transport.kind {
        TransportKind::Tcp => {
            let tcp = upper.first_chunk_mut::<{ tcp::LEN }>()?;
            let flags = field::u8::<FLAGS, _>(tcp) | run.late_flags;
            field::put::<FLAGS, 1, _>(tcp, [flags]);
            field::put_u16::<{ tcp::CHECKSUM }, _>(tcp, partial);
        }
        TransportKind::Udp => {
            let udp = upper.first_chunk_mut::<{ udp::LEN }>()?;
            let len = run.len.checked_sub(transport.at)?;
            field::put_u16::<{ udp::LENGTH }, _>(udp, len as u16);
            field::put_u16::<{ udp::CHECKSUM }, _>(udp, partial);
        }
    }
    Some(())
}

/// A packet to be written: one that has passed as it was, or several that have become one.
#[derive(Clone, Copy, Debug)]
pub struct Coalesced<'c> {
    run: &'c Run,
    pieces: &'c [Piece],
}

impl<'c> Coalesced<'c> {
    /// The virtio header to be written in front.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> VirtioNetHeader {
        self.run.header
    }

    /// How many packets have become this one.
    #[must_use]
    #[inline]
    pub const fn packets(&self) -> usize {
        self.run.packets
    }

    /// Bytes of the packet, without the virtio header.
    #[must_use]
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub const fn len(&self) -> usize {
        self.run.len
    }

    /// Where in the buffer the pieces are that make up the packet, one after the other: the first packet, and the payloads
    /// of all others.
    #[must_use]
    #[inline]
    pub const fn pieces(&self) -> Pieces<'c> {
        Pieces { pieces: self.pieces, next: self.run.first, left: self.run.packets }
    }
}

/// The pieces of a packet, by where they are in the buffer.
#[derive(Clone, Debug)]
pub struct Pieces<'c> {
    pieces: &'c [Piece],
    next: usize,
    left: usize,
}

impl Iterator for Pieces<'_> {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let piece = self.pieces.get(self.next)?;
        self.next = piece.next;
        Some(piece.start..piece.start + piece.len)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Pieces<'_> {}

/// Where the datagrams are in the `len` bytes that a receive with `UDP_GRO` has returned: each has `size` bytes, the last
/// one may have fewer. Without a size they are one datagram, and without bytes there is none.
pub fn datagrams(len: usize, size: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let step = if size == 0 { len.max(1) } else { size };
    (0..len).step_by(step).map(move |start| start..len.min(start.saturating_add(step)))
}
