//! Segmenting: one packet of up to 64 KiB becomes packets of the size that a link can carry, as Linux does it for
//! devices that cannot (generic segmentation offload, GSO).
//!
//! A TUN device with a virtio header hands over large packets together with how they are to be segmented. [`Segments`]
//! checks such a packet once, and then writes the headers of any segment into a buffer of the caller's; the payload is
//! not copied, but returned as the part of the packet that it is. Headers and payloads of all segments in one gathering
//! write are what `UDP_SEGMENT` takes: all segments but the last have the same length.
//!
//! What is done is what the kernel does (`tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment`,
//! `ipv6_gso_segment`), bit by bit:
//!
//! | field | in the segments |
//! |---|---|
//! | IPv4 total length, IPv6 payload length, UDP length | their own |
//! | IPv4 identification | counts up from that of the packet |
//! | TCP sequence number | that of the packet, and the payload in front |
//! | TCP flags | FIN and PSH only in the last, CWR only in the first |
//! | checksums | computed |
//! | everything else, options and extension headers included | that of the packet |
//!
//! ```
//! use core::num::NonZeroU16;
//! use overlay_wire::checksum::PseudoHeader;
//! use overlay_wire::ip::IpProtocol;
//! use overlay_wire::ipv4::Ipv4Header;
//! use overlay_wire::segment::Segments;
//! use overlay_wire::udp::{UdpHeader, UdpPacket};
//! use overlay_wire::virtio_net::{ChecksumState, Gso, GsoKind, VirtioNetHeader};
//!
//! // 2,500 bytes of payload, to be sent in datagrams of 1,000.
//! let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
//! let mut packet = [7; 28 + 2500];
//! UdpHeader { src_port: 40000, dst_port: 443 }.emit(&mut packet[20..], None)?;
//! Ipv4Header::new(src, dst, IpProtocol::UDP).emit(&mut packet)?;
//! // Where the checksum belongs is the sum of the pseudo-header: addresses, protocol, length.
//! packet[26..28].copy_from_slice(&(0x0a00_u16 + 1 + 0x0a00 + 2 + 17 + 2508).to_be_bytes());
//! let size = NonZeroU16::new(1000).ok_or("0")?;
//! let header = VirtioNetHeader {
//!     checksum: ChecksumState::Needed { start: 20, offset: 6 },
//!     gso: Some(Gso { kind: GsoKind::Udp, ecn: false, header_len: 28, size }),
//! };
//!
//! let segments = Segments::new(&header, &packet)?;
//! assert_eq!((segments.count(), segments.segment_len()), (3, 1028));
//! let mut last = [0; 28 + 500];
//! let payload = segments.write(2, &mut last).ok_or("no such segment")?;
//! assert_eq!(payload.len(), 500);
//! last[28..].copy_from_slice(payload);
//! let datagram = UdpPacket::parse(&last[20..])?;
//! assert_eq!(datagram.length(), 508);
//! assert!(datagram.is_checksum_valid(&PseudoHeader::V4 { src, dst }));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::num::NonZeroU16;

use crate::checksum::{Checksum, PseudoHeader};
use crate::error::{Error, Expected};
use crate::field;
use crate::ip::{IpPacket, IpVersion};
use crate::tcp::{self, TcpFlags};
use crate::transport::{Transport, TransportKind, total_len};
use crate::virtio_net::{self, ChecksumState, Gso, GsoKind, VirtioNetHeader};
use crate::{ipv4, ipv6, udp};

/// Bytes of the longest headers that a packet to be segmented may have. Without IPv6 extension headers there are at most
/// 120: 60 each of IPv4 and TCP.
pub const MAX_HEADER_LEN: usize = 256;

/// The segments of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'p> {
    header: &'p [u8],
    payload: &'p [u8],
    /// Bytes of payload in each segment but the last.
    size: usize,
    count: usize,
    transport: Transport,
    /// Of what all IPv4 headers have in common.
    ip_sum: Checksum,
    identification: u16,
    /// Of the pseudo-header without length and of what all headers of TCP or UDP have in common.
    sum: Checksum,
    sequence: u32,
    /// The data offset and all flags of TCP.
    offset_flags: u16,
}

/// The flags that only the last segment has.
const LAST: u16 = TcpFlags::FIN.bits() | TcpFlags::PSH.bits();
/// The flags that only the first segment has.
const FIRST: u16 = TcpFlags::CWR.bits();

impl<'p> Segments<'p> {
    /// The segments of `packet`, as the virtio header in front of it wants them.
    ///
    /// A payload that is no longer than one segment's is one segment. Where the checksum belongs there is the sum of the
    /// pseudo-header, as [`ChecksumState::Needed`] says, and it is taken to be right: with a routing header, only who
    /// sends knows the addresses.
    ///
    /// # Errors
    /// [`Error`] when the virtio header wants no segmentation, or another one than that of the TCP or UDP packet that is
    /// there; when the packet is longer or shorter than it says, is a fragment, or has an authentication header or headers
    /// of more than [`MAX_HEADER_LEN`].
    #[inline]
    pub fn new(header: &VirtioNetHeader, packet: &'p [u8]) -> Result<Self, Error> {
        let wrong = |field, expected, found: usize| {
            Err(Error::field(virtio_net::NAME, field, expected, found as u64))
        };
        let Some(gso) = header.gso else {
            return wrong("gso type", Expected::OneOf(&[1, 4, 5]), 0);
        };
        let transport = Transport::of(&whole(packet)?)?;
        let kind = match (transport.kind, transport.version) {
            (TransportKind::Tcp, IpVersion::V4) => GsoKind::TcpV4,
            (TransportKind::Tcp, IpVersion::V6) => GsoKind::TcpV6,
            (TransportKind::Udp, _) => GsoKind::Udp,
        };
        if gso.kind != kind {
            return wrong("gso type", Expected::Exactly(kind as u64), gso.kind as usize);
        }
        let ChecksumState::Needed { start, offset } = header.checksum else {
            return wrong("flags", Expected::Exactly(1), 0);
        };
        let (start, offset) = (usize::from(start), usize::from(offset));
        if start != transport.at {
            return wrong("checksum start", Expected::Exactly(transport.at as u64), start);
        }
        let checksum_at = transport.kind.checksum_at();
        if offset != checksum_at {
            return wrong("checksum offset", Expected::Exactly(checksum_at as u64), offset);
        }
        if transport.header_len > MAX_HEADER_LEN {
            let expected = Expected::AtMost(MAX_HEADER_LEN as u64);
            let found = transport.header_len as u64;
            return Err(Error::field("IP", "length of all headers", expected, found));
        }
        Self::of(transport, gso.size.get().into(), packet)
    }

    #[inline]
    fn of(transport: Transport, size: usize, packet: &'p [u8]) -> Result<Self, Error> {
        let truncated = || Error::truncated("IP", transport.header_len, packet.len());
        let (header, payload) =
            packet.split_at_checked(transport.header_len).ok_or_else(truncated)?;
        let (ip, upper) = header.split_at_checked(transport.at).ok_or_else(truncated)?;
        // The length that the sum of the pseudo-header has in it goes out again.
        let len = (upper.len() + payload.len()) as u16;
        let sum = Checksum::new().word(!len);
        let mut segments = Self {
            header,
            payload,
            size,
            count: payload.len().div_ceil(size).max(1),
            transport,
            ip_sum: Checksum::new(),
            identification: 0,
            sum,
            sequence: 0,
            offset_flags: 0,
        };
        if transport.version == IpVersion::V4 {
            let (ip, options) = field::split::<{ ipv4::LEN }>("IPv4", ip)?;
            segments.identification = field::u16::<{ ipv4::IDENTIFICATION }, _>(ip);
            let mut ip = *ip;
            field::put_u16::<{ ipv4::TOTAL_LENGTH }, _>(&mut ip, 0);
            field::put_u16::<{ ipv4::IDENTIFICATION }, _>(&mut ip, 0);
            field::put_u16::<{ ipv4::CHECKSUM }, _>(&mut ip, 0);
            segments.ip_sum = Checksum::new().bytes(&ip).bytes(options);
        }
        match transport.kind {
            TransportKind::Tcp => {
                let (tcp, options) = field::split::<{ tcp::LEN }>("TCP", upper)?;
                segments.sequence = field::u32::<{ tcp::SEQUENCE }, _>(tcp);
                segments.offset_flags = field::u16::<{ tcp::OFFSET_FLAGS }, _>(tcp);
                let mut tcp = *tcp;
                field::put_u32::<{ tcp::SEQUENCE }, _>(&mut tcp, 0);
                field::put_u16::<{ tcp::OFFSET_FLAGS }, _>(&mut tcp, 0);
                segments.sum = sum.bytes(&tcp).bytes(options);
            }
            TransportKind::Udp => {
                let (udp, _) = field::split::<{ udp::LEN }>("UDP", upper)?;
                let mut udp = *udp;
                field::put_u16::<{ udp::LENGTH }, _>(&mut udp, 0);
                segments.sum = sum.bytes(&udp);
            }
        }
        Ok(segments)
    }

    /// How many segments there are: 1 to 65,535.
    #[must_use]
    #[inline]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the headers of each segment.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.transport.header_len
    }

    /// Bytes of each segment, headers and payload; the last one may have fewer.
    #[must_use]
    #[inline]
    pub const fn segment_len(&self) -> usize {
        let payload_len = if self.count > 1 { self.size } else { self.payload.len() };
        self.transport.header_len + payload_len
    }

    /// Writes the headers of a segment into the first [`header_len`](Self::header_len) bytes of `header`, and returns the
    /// payload that follows them. Segments are counted from 0.
    ///
    /// `None` when there is no such segment, or `header` is too short; nothing is written then.
    #[must_use]
    #[inline]
    pub fn write(&self, index: usize, header: &mut [u8]) -> Option<&'p [u8]> {
        if index >= self.count {
            return None;
        }
        let before = index.checked_mul(self.size)?;
        let payload = field::at_most(self.payload.get(before..)?, self.size);
        let header = header.get_mut(..self.header.len())?;
        let len = header.len() + payload.len();
        let (ip, upper) = header.split_at_mut_checked(self.transport.at)?;
        let (ip_header, upper_header) = self.header.split_at_checked(self.transport.at)?;
        ip.copy_from_slice(ip_header);
        upper.copy_from_slice(upper_header);

        // None of the numbers is cut: the lengths are less than those of the packet, and the others go round.
        let upper_len = (upper.len() + payload.len()) as u16;
        match self.transport.version {
            IpVersion::V4 => {
                let (ip, _) = ip.split_first_chunk_mut::<{ ipv4::LEN }>()?;
                let identification = self.identification.wrapping_add(index as u16);
                let sum = self.ip_sum.word(len as u16).word(identification);
                field::put_u16::<{ ipv4::TOTAL_LENGTH }, _>(ip, len as u16);
                field::put_u16::<{ ipv4::IDENTIFICATION }, _>(ip, identification);
                field::put_u16::<{ ipv4::CHECKSUM }, _>(ip, sum.finish());
            }
            IpVersion::V6 => {
                let (ip, _) = ip.split_first_chunk_mut::<{ ipv6::LEN }>()?;
                field::put_u16::<{ ipv6::PAYLOAD_LENGTH }, _>(ip, (len - ipv6::LEN) as u16);
            }
        }
        let sum = self.sum.word(upper_len);
        match self.transport.kind {
            TransportKind::Tcp => {
                let (tcp, _) = upper.split_first_chunk_mut::<{ tcp::LEN }>()?;
                let sequence = self.sequence.wrapping_add(before as u32);
                let flags = self.offset_flags
                    & if index == 0 { u16::MAX } else { !FIRST }
                    & if index + 1 == self.count { u16::MAX } else { !LAST };
                let sum = sum.word((sequence >> 16) as u16).word(sequence as u16).word(flags);
                field::put_u32::<{ tcp::SEQUENCE }, _>(tcp, sequence);
                field::put_u16::<{ tcp::OFFSET_FLAGS }, _>(tcp, flags);
                field::put_u16::<{ tcp::CHECKSUM }, _>(tcp, sum.bytes(payload).finish());
            }
            TransportKind::Udp => {
                let (udp, _) = upper.split_first_chunk_mut::<{ udp::LEN }>()?;
                let sum = sum.word(upper_len).bytes(payload).finish();
                field::put_u16::<{ udp::LENGTH }, _>(udp, upper_len);
                field::put_u16::<{ udp::CHECKSUM }, _>(udp, nonzero(sum));
            }
        }
        Some(payload)
    }
}

/// Computes the checksum of a packet that is not to be segmented and whose checksum is
/// [needed](ChecksumState::Needed), and writes it into its place. Any other packet is left as it is.
///
/// # Errors
/// [`Error`] when the place lies outside of the packet. Nothing is written then.
#[inline]
pub fn complete_checksum(header: &VirtioNetHeader, packet: &mut [u8]) -> Result<(), Error> {
    let ChecksumState::Needed { start, offset } = header.checksum else { return Ok(()) };
    let (start, offset, len) = (usize::from(start), usize::from(offset), packet.len());
    let outside = || {
        let expected = Expected::AtMost((len as u64).saturating_sub(2));
        let found = (start + offset) as u64;
        Error::field(virtio_net::NAME, "checksum start and offset", expected, found)
    };
    let covered = packet.get_mut(start..).ok_or_else(outside)?;
    let sum = nonzero(Checksum::new().bytes(covered).finish());
    let place = covered.get_mut(offset..).and_then(<[u8]>::first_chunk_mut).ok_or_else(outside)?;
    *place = sum.to_be_bytes();
    Ok(())
}

/// The other zero for a checksum of 0, which in UDP would say that there is none. To all others it is the same.
#[inline(always)]
const fn nonzero(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// The packet that `bytes` are, neither more nor less.
#[inline]
fn whole(bytes: &[u8]) -> Result<IpPacket<'_>, Error> {
    let packet = IpPacket::parse(bytes)?;
    let found = total_len(&packet);
    if found != bytes.len() {
        let expected = Expected::Exactly(bytes.len() as u64);
        return Err(Error::field("IP", "length", expected, found as u64));
    }
    Ok(packet)
}

/// What is to be said of a packet that its sender has left unfinished, as it is inside of a kernel: with the sum of the
/// pseudo-header in the place of a checksum, and with more than `mtu` bytes if it has yet to be segmented. `None` for every
/// other packet: one that is finished, no TCP or UDP, or UDP that has yet to be segmented into nobody knows what.
///
/// Such packets come by way of virtual devices, which leave both to whoever is behind them. Of 65,536 packets that are
/// finished one looks as if it were not. Whoever finishes it, or need not, is right all the same.
#[must_use]
pub fn unfinished(packet: &[u8], mtu: usize) -> Option<VirtioNetHeader> {
    let ip = IpPacket::parse(packet).ok()?;
    let transport = Transport::of(&ip).ok()?;
    let len = total_len(&ip);
    let at = transport.at + transport.kind.checksum_at();
    let found = u16::from_be_bytes(*packet.get(at..)?.first_chunk()?);
    let addresses = PseudoHeader::new(ip.src(), ip.dst()).ok()?;
    if len != packet.len() || found != transport.partial_checksum(&addresses, len) {
        return None;
    }
    let checksum = ChecksumState::Needed {
        start: u16::try_from(transport.at).ok()?,
        offset: u16::try_from(transport.kind.checksum_at()).ok()?,
    };
    if len <= mtu {
        return Some(VirtioNetHeader { checksum, gso: None });
    }
    let kind = match (transport.kind, transport.version) {
        (TransportKind::Tcp, IpVersion::V4) => GsoKind::TcpV4,
        (TransportKind::Tcp, IpVersion::V6) => GsoKind::TcpV6,
        (TransportKind::Udp, _) => return None,
    };
    let flags = packet.get(transport.at + tcp::OFFSET_FLAGS..)?.first_chunk()?;
    let gso = Gso {
        kind,
        ecn: u16::from_be_bytes(*flags) & TcpFlags::CWR.bits() != 0,
        header_len: u16::try_from(transport.header_len).ok()?,
        size: NonZeroU16::new(u16::try_from(mtu.checked_sub(transport.header_len)?).ok()?)?,
    };
    Some(VirtioNetHeader { checksum, gso: Some(gso) })
}

/// How much a socket takes in one send with `UDP_SEGMENT`.
///
/// ```
/// use overlay_wire::IpVersion;
/// use overlay_wire::segment::SendLimit;
///
/// let limit = SendLimit::new(IpVersion::V4);
/// assert_eq!(limit.gso_max_size(1472), Some(62_532));
/// assert_eq!(limit.segments(1472), 44);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SendLimit {
    /// Bytes of payload.
    pub bytes: usize,
    /// Segments (`UDP_MAX_SEGMENTS`).
    pub segments: usize,
}

impl SendLimit {
    /// The limit over an underlay of this version: 65,507 bytes over IPv4, 65,527 over IPv6, and the 64 segments that
    /// every kernel with `UDP_SEGMENT` takes. Since Linux 6.10 there may be 128.
    #[must_use]
    pub const fn new(underlay: IpVersion) -> Self {
        let ip = match underlay {
            // The total length counts the header.
            IpVersion::V4 => ipv4::LEN,
            IpVersion::V6 => 0,
        };
        Self { bytes: u16::MAX as usize - ip - udp::LEN, segments: 64 }
    }

    /// How many segments of this many bytes fit into one send: at least one, which may be too long by itself.
    #[must_use]
    #[inline]
    pub const fn segments(&self, segment_len: usize) -> usize {
        let fit = match self.bytes.checked_div(segment_len) {
            Some(fit) if fit < self.segments => fit,
            _ => self.segments,
        };
        if fit == 0 { 1 } else { fit }
    }

    /// The size, in bytes with headers, that packets before segmentation should at most have, so that the segments of
    /// one fit into one send; `None` when not even one segment does. To be set as `gso_max_size` of the device from which
    /// they are read.
    ///
    /// This is exact for full segments of TCP with timestamps over IPv4, which is what there is most of. A peer that
    /// wants smaller segments, or longer headers, can make it two sends.
    #[must_use]
    pub const fn gso_max_size(&self, inner_mtu: u32) -> Option<u32> {
        /// IPv4, TCP, and its timestamps with padding.
        const HEADERS: u32 = (ipv4::LEN + tcp::LEN + 12) as u32;
        if inner_mtu <= HEADERS || inner_mtu as usize > self.bytes {
            return None;
        }
        let segments = self.segments(inner_mtu as usize) as u32;
        Some(segments.saturating_mul(inner_mtu - HEADERS).saturating_add(HEADERS))
    }
}
