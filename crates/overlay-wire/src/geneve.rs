//! Geneve, generic network virtualization encapsulation (RFC 8926).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |ver|  opt len  |O|C| reserved  |         protocol type         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     virtual network identifier (VNI)          |   reserved    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 options (4 * opt len bytes)                   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        inner frame, of the kind the protocol type says ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! Each option, section 3.5:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         option class          |C|    type     |R|R|R| length  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                   data (4 * length bytes)                     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Options are written and read without a heap:
//!
//! ```
//! use overlay_wire::Vni;
//! use overlay_wire::ethernet::EtherType;
//! use overlay_wire::geneve::{GeneveHeader, GeneveOption, GeneveOptions, GenevePacket};
//!
//! let mut buffer = [0; 16];
//! let options = [
//!     GeneveOption { class: 0x0102, option_type: 0x80, data: b"must be understood. " },
//!     GeneveOption { class: 0x0102, option_type: 0x01, data: b"" },
//! ];
//! // Too much for this buffer, so it says so.
//! assert!(GeneveOptions::emit(&options, &mut buffer).is_err());
//!
//! let options = GeneveOptions::emit(&options[1..], &mut buffer)?;
//! let header = GeneveHeader { options, ..GeneveHeader::new(Vni::MAX, EtherType::ETHERNET) };
//! let mut packet = *b"____________inner frame";
//! header.emit(&mut packet)?;
//!
//! let packet = GenevePacket::parse(&packet)?;
//! assert_eq!(packet.payload(), b"inner frame");
//! assert_eq!(packet.options().iter().map(|option| option.class).next(), Some(0x0102));
//! # Ok::<(), overlay_wire::Error>(())
//! ```

use crate::error::{Error, Expected};
use crate::ethernet::EtherType;
use crate::field;
use crate::vni::Vni;

/// Bytes of a Geneve header without options.
pub const LEN: usize = 8;
/// Bytes that all options together can have at most.
pub const MAX_OPTIONS: usize = 252;
/// Bytes of an option without data.
pub const OPTION_LEN: usize = 4;
/// Bytes that the data of an option can have at most.
pub const MAX_OPTION_DATA: usize = 124;
/// The UDP port that IANA assigned.
pub const PORT: u16 = 6081;

const NAME: &str = "Geneve";
const VERSION_OPT_LEN: usize = 0;
const FLAGS: usize = 1;
const PROTOCOL: usize = 2;
const VNI: usize = 4;

const OPT_LEN: u8 = 0x3f;
const FLAG_CONTROL: u8 = 0x80;
const FLAG_CRITICAL: u8 = 0x40;

const OPTION: &str = "Geneve option";
const CLASS: usize = 0;
const TYPE: usize = 2;
const LENGTH: usize = 3;

const TYPE_CRITICAL: u8 = 0x80;
const OPTION_LENGTH: u8 = 0x1f;

/// A Geneve packet in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenevePacket<'a> {
    header: &'a [u8; LEN],
    options: GeneveOptions<'a>,
    payload: &'a [u8],
}

impl<'a> GenevePacket<'a> {
    /// The packet that `bytes`, the payload of a UDP datagram, are, with its options checked.
    ///
    /// Reserved bits are ignored, as RFC 8926 asks of receivers; [`reserved`](Self::reserved) tells them.
    ///
    /// # Errors
    /// [`Error`] when the version is not 0, the header is incomplete, the options do not end where the header says, or
    /// one of them is critical without the C flag in the header.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = field::split(NAME, bytes)?;
        let first = field::u8::<VERSION_OPT_LEN, LEN>(header);
        let version = first >> 6;
        if version != 0 {
            return Err(Error::field(NAME, "version", Expected::Exactly(0), version.into()));
        }
        let options_len = usize::from(first & OPT_LEN) * 4;
        let Some((options, payload)) = rest.split_at_checked(options_len) else {
            return Err(Error::truncated(NAME, LEN + options_len, bytes.len()));
        };
        let packet = Self { header, options: GeneveOptions::parse(options)?, payload };
        if packet.options.any_critical() && !packet.critical() {
            return Err(Error::field(NAME, "C flag", Expected::Exactly(1), 0));
        }
        Ok(packet)
    }

    /// What the payload is.
    #[must_use]
    #[inline]
    pub const fn protocol(&self) -> EtherType {
        EtherType(field::u16::<PROTOCOL, LEN>(self.header))
    }

    /// The network that the packet belongs to.
    #[must_use]
    #[inline]
    pub const fn vni(&self) -> Vni {
        Vni::from_octets(field::bytes::<VNI, 3, LEN>(self.header))
    }

    /// O: a control packet. The payload is for the tunnel's end and not to be forwarded.
    #[must_use]
    #[inline]
    pub const fn control(&self) -> bool {
        field::u8::<FLAGS, LEN>(self.header) & FLAG_CONTROL != 0
    }

    /// C: there may be critical options. Who does not read options drops the packet; who does drops it when it does not
    /// know one of the critical ones.
    #[must_use]
    #[inline]
    pub const fn critical(&self) -> bool {
        field::u8::<FLAGS, LEN>(self.header) & FLAG_CRITICAL != 0
    }

    /// The options.
    #[must_use]
    #[inline]
    pub const fn options(&self) -> GeneveOptions<'a> {
        self.options
    }

    /// The bits that are reserved and should be 0, where they are in the first 8 bytes. Options have some of their own.
    #[must_use]
    #[inline]
    pub const fn reserved(&self) -> u64 {
        u64::from_be_bytes(*self.header) & 0x003f_0000_0000_00ff
    }

    /// Bytes of the header with its options: 8 to 260.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN + self.options.bytes.len()
    }

    /// The inner packet or frame.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value, without the reserved bits.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> GeneveHeader<'a> {
        GeneveHeader {
            vni: self.vni(),
            protocol: self.protocol(),
            control: self.control(),
            options: self.options,
        }
    }
}

/// The options of a Geneve header, in bytes that have been checked: as many complete options as there are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct GeneveOptions<'a> {
    bytes: &'a [u8],
}

impl<'a> GeneveOptions<'a> {
    /// No options.
    pub const NONE: GeneveOptions<'static> = GeneveOptions { bytes: &[] };

    /// The options that `bytes` are.
    ///
    /// # Errors
    /// [`Error`] when there are more than [`MAX_OPTIONS`] bytes, or the last option does not end with them.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_OPTIONS {
            let expected = Expected::AtMost(MAX_OPTIONS as u64);
            return Err(Error::field(NAME, "options length", expected, bytes.len() as u64));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = GeneveOption::split(rest)?;
        }
        Ok(Self { bytes })
    }

    /// Writes options one after the other into the front of `buffer` and returns them as a header takes them.
    ///
    /// # Errors
    /// [`Error`] when there is not enough room, an option's data is too long or no multiple of 4 bytes, or all together
    /// have more than [`MAX_OPTIONS`] bytes. The buffer may have been written to then.
    pub fn emit(options: &[GeneveOption<'_>], buffer: &'a mut [u8]) -> Result<Self, Error> {
        let mut len = 0;
        for option in options {
            option.emit(buffer.get_mut(len..).unwrap_or_default())?;
            len += option.len();
        }
        Self::parse(field::at_most(buffer, len))
    }

    /// The options, the first one first.
    #[must_use]
    #[inline]
    pub const fn iter(&self) -> GeneveOptionsIter<'a> {
        GeneveOptionsIter { rest: self.bytes }
    }

    /// The options as bytes, as they stand in the header.
    #[must_use]
    #[inline]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether one of the options is critical: the C flag of the header.
    #[must_use]
    #[inline]
    pub fn any_critical(&self) -> bool {
        self.iter().any(|option| option.is_critical())
    }
}

impl<'a> IntoIterator for GeneveOptions<'a> {
    type Item = GeneveOption<'a>;
    type IntoIter = GeneveOptionsIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The options of a header, one after the other.
#[derive(Clone, Debug)]
pub struct GeneveOptionsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for GeneveOptionsIter<'a> {
    type Item = GeneveOption<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (option, rest) = GeneveOption::split(self.rest).ok()?;
        self.rest = rest;
        Some(option)
    }
}

impl core::iter::FusedIterator for GeneveOptionsIter<'_> {}

/// An option of a Geneve header: RFC 8926, section 3.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GeneveOption<'a> {
    /// Whose types these are: a number that IANA assigned to an organisation or a standard.
    pub class: u16,
    /// What the option is, in its class. The highest bit says that it is critical.
    pub option_type: u8,
    /// The option itself, a multiple of 4 bytes, at most [`MAX_OPTION_DATA`].
    pub data: &'a [u8],
}

impl<'a> GeneveOption<'a> {
    /// Whether a receiver that does not know this option has to drop the packet.
    #[must_use]
    #[inline]
    pub const fn is_critical(&self) -> bool {
        self.option_type & TYPE_CRITICAL != 0
    }

    const fn len(&self) -> usize {
        OPTION_LEN + self.data.len()
    }

    /// The option at the beginning of `bytes`, and what is behind it.
    #[inline]
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Error> {
        let (header, rest) = field::split(OPTION, bytes)?;
        let data_len = usize::from(field::u8::<LENGTH, OPTION_LEN>(header) & OPTION_LENGTH) * 4;
        let Some((data, rest)) = rest.split_at_checked(data_len) else {
            return Err(Error::truncated(OPTION, OPTION_LEN + data_len, bytes.len()));
        };
        let class = field::u16::<CLASS, OPTION_LEN>(header);
        let option_type = field::u8::<TYPE, OPTION_LEN>(header);
        Ok((Self { class, option_type, data }, rest))
    }

    fn emit(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let (data_len, room) = (self.data.len(), bytes.len());
        if data_len > MAX_OPTION_DATA {
            let expected = Expected::AtMost(MAX_OPTION_DATA as u64);
            return Err(Error::field(OPTION, "data length", expected, data_len as u64));
        }
        if !data_len.is_multiple_of(4) {
            let expected = Expected::MultipleOf(4);
            return Err(Error::field(OPTION, "data length", expected, data_len as u64));
        }
        let (header, rest) = field::split_mut::<OPTION_LEN>(OPTION, bytes)?;
        let Some(data) = rest.get_mut(..data_len) else {
            return Err(Error::truncated(OPTION, self.len(), room));
        };
        field::put_u16::<CLASS, OPTION_LEN>(header, self.class);
        field::put::<TYPE, 1, OPTION_LEN>(header, [self.option_type]);
        field::put::<LENGTH, 1, OPTION_LEN>(header, [(data_len / 4) as u8]);
        data.copy_from_slice(self.data);
        Ok(())
    }
}

/// A Geneve header as a plain value. The length and the C flag follow from the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GeneveHeader<'a> {
    /// The network that the packet belongs to.
    pub vni: Vni,
    /// What the payload is.
    pub protocol: EtherType,
    /// O: a control packet. The payload is for the tunnel's end and not to be forwarded.
    pub control: bool,
    /// The options.
    pub options: GeneveOptions<'a>,
}

impl GeneveHeader<'static> {
    /// The header of a packet in this network, without options.
    #[must_use]
    pub const fn new(vni: Vni, protocol: EtherType) -> Self {
        Self { vni, protocol, control: false, options: GeneveOptions::NONE }
    }
}

impl GeneveHeader<'_> {
    /// Bytes of the header with its options: 8 to 260.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN + self.options.bytes.len()
    }

    /// The bytes in front of the options.
    pub(crate) fn fixed_bytes(&self) -> [u8; LEN] {
        let control = if self.control { FLAG_CONTROL } else { 0 };
        let critical = if self.options.any_critical() { FLAG_CRITICAL } else { 0 };
        let [a, b, c] = self.vni.octets();
        let mut bytes = [0; LEN];
        // At most 63: there are no longer options.
        let opt_len = (self.options.bytes.len() / 4) as u8;
        field::put::<VERSION_OPT_LEN, 1, LEN>(&mut bytes, [opt_len]);
        field::put::<FLAGS, 1, LEN>(&mut bytes, [control | critical]);
        field::put_u16::<PROTOCOL, LEN>(&mut bytes, self.protocol.0);
        field::put::<VNI, 4, LEN>(&mut bytes, [a, b, c, 0]);
        bytes
    }

    /// Writes the header into the first [`header_len`](Self::header_len) bytes of `packet`; the rest is the inner
    /// packet and stays.
    ///
    /// # Errors
    /// [`Error`] when the packet is shorter than the header. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        let packet_len = packet.len();
        let options_len = self.options.bytes.len();
        let (header, rest) = field::split_mut::<LEN>(NAME, packet)?;
        let Some(options) = rest.get_mut(..options_len) else {
            return Err(Error::truncated(NAME, self.header_len(), packet_len));
        };
        *header = self.fixed_bytes();
        options.copy_from_slice(self.options.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const OPTIONS: [GeneveOption<'_>; 3] = [
        GeneveOption { class: 0x0102, option_type: 0x83, data: b"four" },
        GeneveOption { class: 0xffff, option_type: 0x04, data: b"" },
        GeneveOption { class: 0, option_type: 0x7f, data: b"eight..." },
    ];
    const OPTION_BYTES: &[u8] = b"\x01\x02\x83\x01four\xff\xff\x04\0\0\0\x7f\x02eight...";
    const PACKET: &[u8] = b"\x06\xc0\x65\x58\x12\x34\x56\0\
        \x01\x02\x83\x01four\xff\xff\x04\0\0\0\x7f\x02eight...frame";

    fn header() -> GeneveHeader<'static> {
        GeneveHeader {
            vni: Vni::from_octets([0x12, 0x34, 0x56]),
            protocol: EtherType::ETHERNET,
            control: true,
            options: GeneveOptions::parse(OPTION_BYTES).unwrap(),
        }
    }

    fn with(at: usize, byte: u8) -> Vec<u8> {
        let mut bytes = PACKET.to_vec();
        bytes[at] = byte;
        bytes
    }

    #[test]
    fn a_packet_reads_and_writes() {
        let packet = GenevePacket::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (header(), &b"frame"[..]));
        assert_eq!((packet.header_len(), packet.reserved()), (32, 0));
        assert!(packet.critical() && packet.control());
        assert_eq!(packet.options().into_iter().collect::<Vec<_>>(), OPTIONS);
        let mut bytes = [&[0xff; 32], &b"frame"[..]].concat();
        header().emit(&mut bytes).unwrap();
        assert_eq!(bytes, PACKET);

        let plain = GeneveHeader::new(Vni::MAX, EtherType::IPV6);
        let mut bytes = [0xff; LEN];
        plain.emit(&mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0\x86\xdd\xff\xff\xff\0");
        assert_eq!(GenevePacket::parse(&bytes).unwrap().header(), plain);
    }

    #[test]
    fn options_are_written_as_they_are_read() {
        let mut buffer = [0xff; 64];
        let options = GeneveOptions::emit(&OPTIONS, &mut buffer).unwrap();
        assert_eq!(options.as_bytes(), OPTION_BYTES);
        assert_eq!(GeneveOptions::emit(&[], &mut []), Ok(GeneveOptions::NONE));
    }

    #[test]
    fn the_longest_header_fits_exactly() {
        let option = |data| GeneveOption { class: 1, option_type: 1, data };
        let mut buffer = [0xff; MAX_OPTIONS];
        let options =
            GeneveOptions::emit(&[option(&[7; 124]), option(&[7; 120])], &mut buffer).unwrap();
        let header = GeneveHeader { options, ..header() };
        let mut bytes = [0xff; LEN + MAX_OPTIONS];
        header.emit(&mut bytes).unwrap();
        assert_eq!(bytes[0], 0x3f);
        let packet = GenevePacket::parse(&bytes).unwrap();
        assert_eq!((packet.header(), packet.payload()), (header, &b""[..]));
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        let emit = |data: &[u8], count: usize, room: usize| {
            let option = GeneveOption { class: 1, option_type: 1, data };
            let mut buffer = [0xff].repeat(room);
            GeneveOptions::emit(&[option].repeat(count), &mut buffer).map(|_| ())
        };
        let data_length = |expected, found| Error::field(OPTION, "data length", expected, found);
        assert_eq!(emit(&[0; 6], 1, 300), Err(data_length(Expected::MultipleOf(4), 6)));
        assert_eq!(emit(&[0; 128], 1, 300), Err(data_length(Expected::AtMost(124), 128)));
        assert_eq!(emit(&[0; 8], 2, 20), Err(Error::truncated(OPTION, 12, 8)));
        assert_eq!(emit(&[0; 8], 2, 14), Err(Error::truncated(OPTION, 4, 2)));
        assert_eq!(emit(&[0; 8], 21, 252), Ok(()));
        let error = Error::field(NAME, "options length", Expected::AtMost(252), 264);
        assert_eq!(emit(&[0; 8], 22, 300), Err(error));
        assert_eq!(emit(&[0; 124], 1, 128), Ok(()));
    }

    #[test]
    fn an_option_must_end_where_the_options_end() {
        // The first option claims more than there is, the last one less than there is or more.
        assert_eq!(GenevePacket::parse(&with(11, 0x1f)), Err(Error::truncated(OPTION, 128, 24)));
        assert_eq!(GenevePacket::parse(&with(23, 0x03)), Err(Error::truncated(OPTION, 16, 12)));
        assert_eq!(GenevePacket::parse(&with(0, 0x05)), Err(Error::truncated(OPTION, 12, 8)));
        assert_eq!(GeneveOptions::parse(&OPTION_BYTES[..6]), Err(Error::truncated(OPTION, 8, 6)));
        assert_eq!(GeneveOptions::parse(&OPTION_BYTES[..3]), Err(Error::truncated(OPTION, 4, 3)));
        // Its reserved bits are no part of its length.
        assert_eq!(GenevePacket::parse(&with(23, 0xe2)).unwrap().options().iter().count(), 3);
    }

    #[test]
    fn a_critical_option_needs_the_flag() {
        let error = Error::field("Geneve", "C flag", Expected::Exactly(1), 0);
        assert_eq!(GenevePacket::parse(&with(1, 0x80)), Err(error));
        // The flag without a critical option forbids nothing but ignoring the options.
        let packet = with(10, 0x03);
        let packet = GenevePacket::parse(&packet).unwrap();
        assert!(packet.critical() && !packet.options().any_critical());
    }

    #[test]
    fn reserved_bits_are_told_and_change_nothing_else() {
        for bit in (10..16).chain(56..64) {
            let mut bytes = PACKET.to_vec();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            let packet = GenevePacket::parse(&bytes).unwrap();
            assert_eq!((packet.reserved(), packet.header()), (1 << (63 - bit), header()));
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..32 {
            let error = Error::truncated("Geneve", if len < LEN { LEN } else { 32 }, len);
            assert_eq!(GenevePacket::parse(&PACKET[..len]), Err(error));
            let mut short = [0xff].repeat(len);
            assert_eq!(header().emit(&mut short), Err(error));
            assert!(short.iter().all(|byte| *byte == 0xff));
        }
        let error = Error::field("Geneve", "version", Expected::Exactly(0), 1);
        assert_eq!(GenevePacket::parse(&with(0, 0x46)), Err(error));
    }
}
