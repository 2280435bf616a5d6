//! TCP (RFC 9293; RFC 7323 for window scale and timestamps, RFC 2018 for selective acknowledgements, RFC 3168 and
//! RFC 9768 for congestion notification).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          source port          |       destination port        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        sequence number                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                     acknowledgment number                     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | data  |     |A|C|E|U|A|P|R|S|F|                               |
//! |offset |rsrvd|E|W|C|R|C|S|S|Y|I|            window             |
//! |       |     | |R|E|G|K|H|T|N|N|                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           checksum            |        urgent pointer         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |            options, 0 to 40 bytes, in whole words ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          payload ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```

use core::fmt;
use core::ops::BitOr;

use crate::checksum::{self, Checksum, PseudoHeader};
use crate::error::{Error, Expected};
use crate::field;
use crate::ip::IpProtocol;
use crate::option::{self, OptionList};

/// Bytes of a TCP header without options.
pub const LEN: usize = 20;
/// Bytes of options that fit into a header.
pub const MAX_OPTIONS: usize = 40;

const NAME: &str = "TCP";
const SRC_PORT: usize = 0;
const DST_PORT: usize = 2;
pub(crate) const SEQUENCE: usize = 4;
pub(crate) const ACKNOWLEDGMENT: usize = 8;
pub(crate) const OFFSET_FLAGS: usize = 12;
pub(crate) const WINDOW: usize = 14;
pub(crate) const CHECKSUM: usize = 16;
pub(crate) const URGENT: usize = 18;

/// The control bits of a TCP header, nine of them.
///
/// Prints as tcpdump does: `S`, `S.`, `P.`, `none`.
///
/// ```
/// use overlay_wire::tcp::TcpFlags;
///
/// let flags = TcpFlags::SYN | TcpFlags::ACK;
/// assert!(flags.contains(TcpFlags::SYN));
/// assert_eq!(flags.to_string(), "S.");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(u16);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x001);
    /// Synchronize sequence numbers: the first segment in each direction.
    pub const SYN: Self = Self(0x002);
    /// Reset the connection.
    pub const RST: Self = Self(0x004);
    /// Push: hand the data to the application.
    pub const PSH: Self = Self(0x008);
    /// The acknowledgment number is significant.
    pub const ACK: Self = Self(0x010);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x020);
    /// Echo of congestion experienced (RFC 3168, section 6.1).
    pub const ECE: Self = Self(0x040);
    /// Congestion window reduced (RFC 3168, section 6.1).
    pub const CWR: Self = Self(0x080);
    /// Accurate ECN (RFC 9768), once the nonce sum.
    pub const AE: Self = Self(0x100);

    const ALL: u16 = 0x1ff;
    /// In tcpdump's order.
    const LETTERS: [(Self, &'static str); 9] = [
        (Self::FIN, "F"),
        (Self::SYN, "S"),
        (Self::RST, "R"),
        (Self::PSH, "P"),
        (Self::ACK, "."),
        (Self::URG, "U"),
        (Self::ECE, "E"),
        (Self::CWR, "W"),
        (Self::AE, "e"),
    ];

    /// The flags in the low nine bits; the others do not count.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & Self::ALL)
    }

    /// The flags as they are in the header: nine bits.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether all of these are set.
    #[must_use]
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        Self::LETTERS
            .iter()
            .filter(|(flag, _)| self.contains(*flag))
            .try_for_each(|(_, letter)| f.write_str(letter))
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpFlags({self})")
    }
}

/// A TCP segment in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPacket<'a> {
    header: &'a [u8; LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> TcpPacket<'a> {
    /// The segment that `bytes` are. Nothing in it says where it ends: that is where the IP packet does.
    ///
    /// Single options are not looked at.
    ///
    /// # Errors
    /// [`Error`] when the header is incomplete, or its data offset is less than [`LEN`] or more than there is.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = field::split(NAME, bytes)?;
        let offset = field::u8::<OFFSET_FLAGS, LEN>(header) >> 4;
        let header_len = usize::from(offset) * 4;
        let Some(options_len) = header_len.checked_sub(LEN) else {
            return Err(Error::field(NAME, "data offset", Expected::AtLeast(5), offset.into()));
        };
        let Some((options, payload)) = rest.split_at_checked(options_len) else {
            return Err(Error::truncated(NAME, header_len, bytes.len()));
        };
        Ok(Self { header, options, payload })
    }

    /// The port of the sender.
    #[must_use]
    #[inline]
    pub const fn src_port(&self) -> u16 {
        field::u16::<SRC_PORT, LEN>(self.header)
    }

    /// The port of the receiver.
    #[must_use]
    #[inline]
    pub const fn dst_port(&self) -> u16 {
        field::u16::<DST_PORT, LEN>(self.header)
    }

    /// The sequence number of the first byte of the payload; with SYN, the initial one.
    #[must_use]
    #[inline]
    pub const fn sequence(&self) -> u32 {
        field::u32::<SEQUENCE, LEN>(self.header)
    }

    /// The sequence number that the sender expects next. Without meaning if ACK is not set.
    #[must_use]
    #[inline]
    pub const fn acknowledgment(&self) -> u32 {
        field::u32::<ACKNOWLEDGMENT, LEN>(self.header)
    }

    /// The control bits.
    #[must_use]
    #[inline]
    pub const fn flags(&self) -> TcpFlags {
        TcpFlags::from_bits(field::u16::<OFFSET_FLAGS, LEN>(self.header))
    }

    /// The three bits between data offset and flags, which should be 0.
    #[must_use]
    #[inline]
    pub const fn reserved(&self) -> u8 {
        field::u8::<OFFSET_FLAGS, LEN>(self.header) >> 1 & 0x07
    }

    /// How many bytes the sender can take, in units that the window scale option of its SYN tells.
    #[must_use]
    #[inline]
    pub const fn window(&self) -> u16 {
        field::u16::<WINDOW, LEN>(self.header)
    }

    /// The checksum.
    #[must_use]
    #[inline]
    pub const fn checksum(&self) -> u16 {
        field::u16::<CHECKSUM, LEN>(self.header)
    }

    /// Whether the checksum is right.
    #[must_use]
    #[inline]
    pub fn is_checksum_valid(&self, addresses: &PseudoHeader) -> bool {
        // No IP packet is so long that this fails.
        let Ok(length) = u32::try_from(self.header_len() + self.payload.len()) else {
            return false;
        };
        Checksum::new()
            .pseudo_header(addresses, IpProtocol::TCP, length)
            .bytes(self.header)
            .bytes(self.options)
            .bytes(self.payload)
            .finish()
            == 0
    }

    /// Where urgent data ends, from the sequence number on. Without meaning if URG is not set.
    #[must_use]
    #[inline]
    pub const fn urgent(&self) -> u16 {
        field::u16::<URGENT, LEN>(self.header)
    }

    /// The options, 0 to 40 bytes, padding included.
    #[must_use]
    #[inline]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The options, one after the other.
    #[must_use]
    #[inline]
    pub const fn options_iter(&self) -> TcpOptions<'a> {
        TcpOptions::new(self.options)
    }

    /// Bytes of the header with its options: 20 to 60.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN + self.options.len()
    }

    /// The bytes behind the header.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value, without the reserved bits.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> TcpHeader<'a> {
        TcpHeader {
            src_port: self.src_port(),
            dst_port: self.dst_port(),
            sequence: self.sequence(),
            acknowledgment: self.acknowledgment(),
            flags: self.flags(),
            window: self.window(),
            urgent: self.urgent(),
            options: self.options,
        }
    }
}

/// The header of a TCP segment as a plain value. Data offset and checksum follow from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpHeader<'a> {
    /// The port of the sender.
    pub src_port: u16,
    /// The port of the receiver.
    pub dst_port: u16,
    /// The sequence number of the first byte of the payload; with SYN, the initial one.
    pub sequence: u32,
    /// The sequence number that the sender expects next.
    pub acknowledgment: u32,
    /// The control bits.
    pub flags: TcpFlags,
    /// How many bytes the sender can take, in units that the window scale option of its SYN tells.
    pub window: u16,
    /// Where urgent data ends, from the sequence number on.
    pub urgent: u16,
    /// Options, padded to a multiple of 4 bytes, at most [`MAX_OPTIONS`].
    pub options: &'a [u8],
}

impl TcpHeader<'_> {
    /// Bytes of the header with its options.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN + self.options.len()
    }

    /// Writes the header into the first [`header_len`](Self::header_len) bytes of `packet`, of which the rest is the
    /// payload already, with the checksum.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the header or longer than an IP packet can carry, or the options do not
    /// fit. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8], addresses: &PseudoHeader) -> Result<(), Error> {
        let refused =
            |field, expected, found: usize| Error::field(NAME, field, expected, found as u64);
        let len = packet.len();
        let Ok(length) = u16::try_from(len) else {
            return Err(refused("length", Expected::AtMost(u16::MAX.into()), len));
        };
        let options_len = self.options.len();
        if options_len > MAX_OPTIONS {
            return Err(refused(
                "options length",
                Expected::AtMost(MAX_OPTIONS as u64),
                options_len,
            ));
        }
        if !options_len.is_multiple_of(4) {
            return Err(refused("options length", Expected::MultipleOf(4), options_len));
        }
        let (header, rest) = field::split_mut::<LEN>(NAME, packet)?;
        let Some((options, payload)) = rest.split_at_mut_checked(options_len) else {
            return Err(Error::truncated(NAME, self.header_len(), len));
        };

        // At most 15: the options have been checked.
        let offset = (self.header_len() / 4) as u16;
        field::put_u16::<SRC_PORT, LEN>(header, self.src_port);
        field::put_u16::<DST_PORT, LEN>(header, self.dst_port);
        field::put_u32::<SEQUENCE, LEN>(header, self.sequence);
        field::put_u32::<ACKNOWLEDGMENT, LEN>(header, self.acknowledgment);
        field::put_u16::<OFFSET_FLAGS, LEN>(header, offset << 12 | self.flags.bits());
        field::put_u16::<WINDOW, LEN>(header, self.window);
        field::put_u16::<CHECKSUM, LEN>(header, 0);
        field::put_u16::<URGENT, LEN>(header, self.urgent);
        options.copy_from_slice(self.options);
        let sum = Checksum::new()
            .pseudo_header(addresses, IpProtocol::TCP, length.into())
            .bytes(header)
            .bytes(options)
            .bytes(payload)
            .finish();
        field::put_u16::<CHECKSUM, LEN>(header, sum);
        Ok(())
    }
}

const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// An option in a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpOption<'a> {
    /// End of the list.
    End,
    /// Fills a gap.
    NoOperation,
    /// Maximum segment size: the largest payload that the sender of this SYN can take (RFC 9293, section 3.7.1).
    Mss(u16),
    /// By how many bits the windows of the sender of this SYN are to be shifted to the left (RFC 7323, section 2.2).
    WindowScale(u8),
    /// The sender of this SYN understands selective acknowledgements (RFC 2018, section 2).
    SackPermitted,
    /// Selective acknowledgement (RFC 2018, section 3).
    Sack(SackBlocks<'a>),
    /// Timestamps (RFC 7323, section 3.2).
    Timestamps {
        /// The clock of the sender.
        value: u32,
        /// The other side's value that is answered.
        echo_reply: u32,
    },
    /// Any other.
    Other {
        /// Which option, as assigned by IANA.
        kind: u8,
        /// The data, without kind and length.
        data: &'a [u8],
    },
}

impl<'a> TcpOption<'a> {
    #[inline]
    fn of(kind: u8, data: &'a [u8]) -> Result<Self, Error> {
        let wrong = |field, expected| {
            Err(Error::field(NAME, field, Expected::OneOf(expected), data.len() as u64 + 2))
        };
        Ok(match (kind, data) {
            (option::END, _) => Self::End,
            (option::NO_OPERATION, _) => Self::NoOperation,
            (MSS, &[a, b]) => Self::Mss(u16::from_be_bytes([a, b])),
            (MSS, _) => return wrong("maximum segment size length", &[4]),
            (WINDOW_SCALE, &[shift]) => Self::WindowScale(shift),
            (WINDOW_SCALE, _) => return wrong("window scale length", &[3]),
            (SACK_PERMITTED, []) => Self::SackPermitted,
            (SACK_PERMITTED, _) => return wrong("SACK permitted length", &[2]),
            (SACK, _) => match data.as_chunks() {
                (blocks @ [_, ..], []) => Self::Sack(SackBlocks(blocks)),
                _ => return wrong("SACK length", &[10, 18, 26, 34]),
            },
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => Self::Timestamps {
                value: u32::from_be_bytes([a, b, c, d]),
                echo_reply: u32::from_be_bytes([e, f, g, h]),
            },
            (TIMESTAMPS, _) => return wrong("timestamps length", &[10]),
            (kind, data) => Self::Other { kind, data },
        })
    }
}

/// The blocks of a selective acknowledgement, 1 to 4 of them: what has arrived behind a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackBlocks<'a>(&'a [[u8; 8]]);

impl<'a> SackBlocks<'a> {
    /// First sequence number of each block, and the first one behind it.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, u32)> + use<'a> {
        self.0.iter().map(|block| (field::u32::<0, 8>(block), field::u32::<4, 8>(block)))
    }
}

/// The options of a TCP header, padding included. The last item is the end of the list, if that is marked, or an error.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions<'a>(OptionList<'a>);

impl<'a> TcpOptions<'a> {
    #[inline]
    const fn new(options: &'a [u8]) -> Self {
        Self(OptionList::new(NAME, options))
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = Result<TcpOption<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let option = self.0.next()?.and_then(|(kind, data)| TcpOption::of(kind, data));
        if option.is_err() {
            *self = Self::new(&[]);
        }
        Some(option)
    }
}

/// Lowers the maximum segment size that a SYN announces to `limit`, and corrects the checksum (RFC 1624); whether there
/// was anything to lower. `segment` begins with the TCP header and need not be complete behind it.
///
/// So both ends of a connection through a tunnel send segments that fit, also when the ICMP errors that would tell
/// them do not arrive. The limit is the tunnel's inner MTU less 40 bytes of IPv4 or 60 of IPv6 and TCP headers. A SYN
/// without the option means 536 over IPv4 and 1220 over IPv6 (RFC 9293, section 3.7.1), and stays without. Of
/// several options the last one counts, as it does for Linux.
///
/// # Errors
/// [`Error`] when the header is incomplete, or the options of a SYN are malformed. Nothing is changed then.
pub fn clamp_mss(segment: &mut [u8], limit: u16) -> Result<bool, Error> {
    let packet = TcpPacket::parse(segment)?;
    if !packet.flags().contains(TcpFlags::SYN) {
        return Ok(false);
    }
    let options_len = packet.options.len();
    let mut options = packet.options_iter();
    let mut found = None;
    while let Some(option) = options.next() {
        if let TcpOption::Mss(mss) = option? {
            found = Some((mss, options_len - options.0.rest().len() - 2));
        }
    }
    let Some((mss, at)) = found else {
        return Ok(false);
    };
    if mss <= limit {
        return Ok(false);
    }
    let (header, options) = field::split_mut::<LEN>(NAME, segment)?;
    let Some(value) = options.get_mut(at..at + 2) else {
        return Ok(false);
    };
    value.copy_from_slice(&limit.to_be_bytes());
    // At an odd offset, the bytes of the value are the low and the high one of two words: RFC 1071, section 2 (B).
    let swapped = |value: u16| if at % 2 == 1 { value.swap_bytes() } else { value };
    let sum = field::u16::<CHECKSUM, LEN>(header);
    field::put_u16::<CHECKSUM, LEN>(header, checksum::update(sum, swapped(mss), swapped(limit)));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::string::ToString;
    use std::vec::Vec;

    const V4: PseudoHeader =
        PseudoHeader::V4 { src: Ipv4Addr::new(10, 0, 0, 1), dst: Ipv4Addr::new(10, 0, 0, 2) };
    const V6: PseudoHeader =
        PseudoHeader::V6 { src: Ipv6Addr::LOCALHOST, dst: Ipv6Addr::UNSPECIFIED };

    // As Linux opens a connection.
    const OPTIONS: &[u8] = b"\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\x01\0\0\0\x02\x01\x03\x03\x07";
    const HEADER: TcpHeader<'static> = TcpHeader {
        src_port: 40000,
        dst_port: 443,
        sequence: 0x0102_0304,
        acknowledgment: 0x0506_0708,
        flags: TcpFlags::SYN,
        window: 64240,
        urgent: 7,
        options: OPTIONS,
    };
    // The sum of the words is 1435 for addresses, protocol and the length of 44, and 3399b for the rest.
    const PACKET: &[u8] =
        b"\x9c\x40\x01\xbb\x01\x02\x03\x04\x05\x06\x07\x08\xa0\x02\xfa\xf0\xb2\x2c\0\x07\
        \x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\x01\0\0\0\x02\x01\x03\x03\x07data";

    fn emitted(header: &TcpHeader<'_>, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let mut packet = [&[0xff].repeat(header.header_len()), payload].concat();
        header.emit(&mut packet, &V4).map(|()| packet)
    }

    #[test]
    fn a_segment_reads_and_writes() {
        let packet = TcpPacket::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (HEADER, &b"data"[..]));
        assert_eq!(emitted(&HEADER, b"data").unwrap(), PACKET);
        assert!(packet.is_checksum_valid(&V4) && !packet.is_checksum_valid(&V6));
        assert_eq!((packet.header_len(), packet.reserved()), (40, 0));
    }

    #[test]
    fn reserved_bits_change_nothing_else() {
        for reserved in 0..8 {
            let mut bytes = PACKET.to_vec();
            bytes[OFFSET_FLAGS] |= reserved << 1;
            let packet = TcpPacket::parse(&bytes).unwrap();
            assert_eq!((packet.reserved(), packet.header()), (reserved, HEADER));
        }
    }

    #[test]
    fn a_flipped_bit_breaks_the_checksum() {
        for addresses in [V4, V6] {
            let mut bytes = PACKET.to_vec();
            HEADER.emit(&mut bytes, &addresses).unwrap();
            assert!(TcpPacket::parse(&bytes).unwrap().is_checksum_valid(&addresses));
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let Ok(packet) = TcpPacket::parse(&bytes) else { continue };
                assert!(!packet.is_checksum_valid(&addresses), "{bit}");
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..40 {
            let needed = if len < LEN { 20 } else { 40 };
            let error = Error::truncated("TCP", needed, len);
            assert_eq!(TcpPacket::parse(&PACKET[..len]), Err(error));
            let mut short = [0xff; 40];
            assert_eq!(HEADER.emit(&mut short[..len], &V4), Err(error));
            assert_eq!(short, [0xff; 40]);
        }
        let mut bytes = PACKET.to_vec();
        bytes[OFFSET_FLAGS] = 0x40;
        let error = Error::field("TCP", "data offset", Expected::AtLeast(5), 4);
        assert_eq!(TcpPacket::parse(&bytes), Err(error));
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        let refused = |options: &[u8], payload: &[u8]| {
            emitted(&TcpHeader { options, ..HEADER }, payload).unwrap_err().field
        };
        assert_eq!(refused(&[1; 3], b""), "options length");
        assert_eq!(refused(&[1; 44], b""), "options length");
        assert_eq!(refused(OPTIONS, &[0; 65_496]), "length");
    }

    #[test]
    fn flags_print_as_tcpdump_prints_them() {
        let print = |bits| TcpFlags::from_bits(bits).to_string();
        assert_eq!(
            [0, 0x02, 0x12, 0x18, 0x11, 0x14, 0xc2, 0x1ff, 0xfe00].map(print),
            ["none", "S", "S.", "P.", "F.", "R.", "SEW", "FSRP.UEWe", "none"]
        );
    }

    #[test]
    fn options_are_told_apart() {
        let list = |bytes| TcpOptions::new(bytes).collect::<Result<Vec<_>, _>>();
        let timestamps = TcpOption::Timestamps { value: 1, echo_reply: 2 };
        let options = [
            TcpOption::Mss(1460),
            TcpOption::SackPermitted,
            timestamps,
            TcpOption::NoOperation,
            TcpOption::WindowScale(7),
        ];
        assert_eq!(list(OPTIONS).unwrap(), options);
        let sack = b"\x01\x05\x12\0\0\0\x01\0\0\0\x02\0\0\0\x05\0\0\0\x09\xfe\x03\x99\0\xff";
        let [TcpOption::NoOperation, TcpOption::Sack(blocks), other, TcpOption::End] =
            list(sack).unwrap()[..]
        else {
            panic!("{:?}", list(sack))
        };
        assert_eq!(blocks.iter().collect::<Vec<_>>(), [(1, 2), (5, 9)]);
        assert_eq!(other, TcpOption::Other { kind: 254, data: &[0x99] });
    }

    #[test]
    fn an_option_of_the_wrong_length_ends_the_list() {
        let cases: [(&[u8], _, _); 7] = [
            (b"\x02\x03\x05\x01", "maximum segment size length", Expected::OneOf(&[4])),
            (b"\x03\x04\x05\x01", "window scale length", Expected::OneOf(&[3])),
            (b"\x04\x03\x05\x01", "SACK permitted length", Expected::OneOf(&[2])),
            (b"\x05\x02\x05\x01", "SACK length", Expected::OneOf(&[10, 18, 26, 34])),
            (b"\x08\x04\x05\x01\x01", "timestamps length", Expected::OneOf(&[10])),
            (b"\x02\x05\x05\x01", "option length", Expected::AtMost(4)),
            (b"\x02\0\x05\x01", "option length", Expected::AtLeast(2)),
        ];
        for (bytes, field, expected) in cases {
            let mut options = TcpOptions::new(bytes);
            let error = Error::field("TCP", field, expected, bytes[1].into());
            assert_eq!(options.next(), Some(Err(error)));
            assert_eq!(options.next(), None);
        }
    }

    #[test]
    fn a_syn_is_clamped_wherever_the_option_is() {
        for at in 0..8 {
            let mut options = [&[1].repeat(at), &b"\x02\x04\x05\xb4"[..]].concat();
            options.resize(12, 1);
            for flags in [TcpFlags::SYN, TcpFlags::SYN | TcpFlags::ACK] {
                let header = TcpHeader { options: &options, flags, ..HEADER };
                let before = emitted(&header, b"odd").unwrap();
                for limit in [0, 1, 255, 256, 536, 1410, 1459] {
                    let mut bytes = before.clone();
                    assert_eq!(clamp_mss(&mut bytes, limit), Ok(true));
                    let packet = TcpPacket::parse(&bytes).unwrap();
                    assert!(packet.is_checksum_valid(&V4), "{at} {limit}");
                    assert!(packet.options_iter().any(|o| o == Ok(TcpOption::Mss(limit))));
                    let header = TcpHeader { options: packet.options(), ..header };
                    assert_eq!((packet.header(), packet.payload()), (header, &b"odd"[..]));
                }
                for limit in [1460, 1461, u16::MAX] {
                    let mut bytes = before.clone();
                    assert_eq!(clamp_mss(&mut bytes, limit), Ok(false));
                    assert_eq!(bytes, before);
                }
            }
        }
    }

    #[test]
    fn what_is_no_syn_or_has_no_such_option_stays() {
        let clamped = |header: TcpHeader<'_>| {
            let before = emitted(&header, b"").unwrap();
            let mut bytes = before.clone();
            let result = clamp_mss(&mut bytes, 100);
            assert_eq!(bytes, before);
            result
        };
        assert_eq!(clamped(TcpHeader { flags: TcpFlags::ACK, ..HEADER }), Ok(false));
        assert_eq!(clamped(TcpHeader { options: b"", ..HEADER }), Ok(false));
        assert_eq!(
            clamped(TcpHeader { options: b"\0\0\0\0\x02\x04\x05\xb4", ..HEADER }),
            Ok(false)
        );
        let error = Error::field("TCP", "option length", Expected::AtMost(4), 5);
        let options = b"\x02\x04\x05\xb4\x08\x05\x01\x01";
        assert_eq!(clamped(TcpHeader { options, ..HEADER }), Err(error));
        assert_eq!(clamp_mss(&mut [0; 19], 100), Err(Error::truncated("TCP", 20, 19)));
    }
}
