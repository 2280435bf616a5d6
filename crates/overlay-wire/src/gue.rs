//! GUE, generic UDP encapsulation (draft-ietf-intarea-gue-09).
//!
//! The first two bits tell two variants apart. Variant 0 has a header:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | 0 |C|  Hlen   |  proto/ctype  |             flags             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        extension fields and private data (4 * Hlen bytes)     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   inner packet, or with C a control message ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! Variant 1 has none: the datagram is an IP packet, whose version, binary 0100 or 0110, is also the variant. That is
//! the same as [`ip_in_udp`](crate::ip_in_udp):
//!
//! ```text
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! |0 1 0 0|   inner IPv4 packet ...
//! |0 1 1 0|   inner IPv6 packet ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! Linux receives both variants on ports made with `ip fou add port 6080 gue`, and sends variant 0.

use crate::error::{Error, Expected};
use crate::field;
use crate::ip::{IpPacket, IpProtocol};

/// Bytes of a GUE header of variant 0 without extension fields.
pub const LEN: usize = 4;
/// Bytes that extension fields can have at most.
pub const MAX_EXTENSIONS: usize = 124;
/// The UDP port that IANA assigned.
pub const PORT: u16 = 6080;

const NAME: &str = "GUE";
const VARIANT_HLEN: usize = 0;
const PROTO: usize = 1;
const FLAGS: usize = 2;

const CONTROL: u8 = 0x20;
const HLEN: u8 = 0x1f;

/// What a datagram to a GUE port is: either variant, in bytes that have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gue<'a> {
    /// Variant 0: a header, and what it says behind it.
    Variant0(GuePacket<'a>),
    /// Variant 1: an IP packet, without any header of GUE.
    Variant1(IpPacket<'a>),
}

impl<'a> Gue<'a> {
    /// What `bytes`, the payload of a UDP datagram, are.
    ///
    /// # Errors
    /// [`Error`] when the variant is neither 0 nor 1, or as [`GuePacket::parse`] and [`IpPacket::parse`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        match bytes.first().map(|first| first >> 6) {
            Some(0) => GuePacket::parse(bytes).map(Self::Variant0),
            Some(1) => IpPacket::parse(bytes).map(Self::Variant1),
            Some(other) => {
                Err(Error::field(NAME, "variant", Expected::OneOf(&[0, 1]), other.into()))
            }
            None => Err(Error::truncated(NAME, 1, 0)),
        }
    }
}

/// What is behind a GUE header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GueContent {
    /// A packet of this protocol, as behind an IP header.
    Data(IpProtocol),
    /// A control message of this type. 0 means that the message itself says what it is.
    Control(u8),
}

/// A GUE packet of variant 0 in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuePacket<'a> {
    header: &'a [u8; LEN],
    extensions: &'a [u8],
    payload: &'a [u8],
}

impl<'a> GuePacket<'a> {
    /// The packet that `bytes`, the payload of a UDP datagram, are.
    ///
    /// Which extension fields there are, and how long each is, follows from the flags by other specifications; nothing
    /// is assumed about them here. A receiver drops what has flags it does not know.
    ///
    /// # Errors
    /// [`Error`] when the variant is not 0, or the header is incomplete.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = field::split(NAME, bytes)?;
        let first = field::u8::<VARIANT_HLEN, LEN>(header);
        let variant = first >> 6;
        if variant != 0 {
            return Err(Error::field(NAME, "variant", Expected::Exactly(0), variant.into()));
        }
        let extensions_len = usize::from(first & HLEN) * 4;
        let Some((extensions, payload)) = rest.split_at_checked(extensions_len) else {
            return Err(Error::truncated(NAME, LEN + extensions_len, bytes.len()));
        };
        Ok(Self { header, extensions, payload })
    }

    /// What the payload is.
    #[must_use]
    #[inline]
    pub const fn content(&self) -> GueContent {
        let number = field::u8::<PROTO, LEN>(self.header);
        match field::u8::<VARIANT_HLEN, LEN>(self.header) & CONTROL {
            0 => GueContent::Data(IpProtocol(number)),
            _ => GueContent::Control(number),
        }
    }

    /// Which extension fields there are.
    #[must_use]
    #[inline]
    pub const fn flags(&self) -> u16 {
        field::u16::<FLAGS, LEN>(self.header)
    }

    /// The extension fields and private data, 0 to [`MAX_EXTENSIONS`] bytes.
    #[must_use]
    #[inline]
    pub const fn extensions(&self) -> &'a [u8] {
        self.extensions
    }

    /// Bytes of the header with its extension fields: 4 to 128.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN + self.extensions.len()
    }

    /// The inner packet or control message.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> GueHeader<'a> {
        GueHeader { content: self.content(), flags: self.flags(), extensions: self.extensions }
    }
}

/// A GUE header of variant 0 as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GueHeader<'a> {
    /// What the payload is.
    pub content: GueContent,
    /// Which extension fields there are.
    pub flags: u16,
    /// The extension fields, a multiple of 4 bytes, at most [`MAX_EXTENSIONS`].
    pub extensions: &'a [u8],
}

impl GueHeader<'static> {
    /// The header of a packet of this protocol, without extension fields.
    #[must_use]
    pub const fn new(protocol: IpProtocol) -> Self {
        Self { content: GueContent::Data(protocol), flags: 0, extensions: &[] }
    }
}

impl GueHeader<'_> {
    /// Bytes of the header with its extension fields.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN + self.extensions.len()
    }

    /// Writes the header into the first [`header_len`](Self::header_len) bytes of `packet`; the rest is the inner
    /// packet and stays.
    ///
    /// # Errors
    /// [`Error`] when the packet is shorter than the header, or the extension fields are too long or no multiple of 4
    /// bytes. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        let extensions_len = self.extensions.len();
        if extensions_len > MAX_EXTENSIONS {
            let expected = Expected::AtMost(MAX_EXTENSIONS as u64);
            return Err(Error::field(NAME, "extensions length", expected, extensions_len as u64));
        }
        if !extensions_len.is_multiple_of(4) {
            let expected = Expected::MultipleOf(4);
            return Err(Error::field(NAME, "extensions length", expected, extensions_len as u64));
        }
        let packet_len = packet.len();
        let (header, rest) = field::split_mut::<LEN>(NAME, packet)?;
        let Some(extensions) = rest.get_mut(..extensions_len) else {
            return Err(Error::truncated(NAME, self.header_len(), packet_len));
        };
        let (control, number) = match self.content {
            GueContent::Data(protocol) => (0, protocol.0),
            GueContent::Control(ctype) => (CONTROL, ctype),
        };
        let hlen = (extensions_len / 4) as u8;
        field::put::<VARIANT_HLEN, 1, LEN>(header, [control | hlen]);
        field::put::<PROTO, 1, LEN>(header, [number]);
        field::put_u16::<FLAGS, LEN>(header, self.flags);
        extensions.copy_from_slice(self.extensions);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::IpVersion;
    use std::vec::Vec;

    const PACKET: &[u8] = b"\x02\x04\x80\x01extended ping";
    const HEADER: GueHeader<'_> = GueHeader {
        content: GueContent::Data(IpProtocol::IPV4),
        flags: 0x8001,
        extensions: b"extended",
    };

    fn emitted(header: &GueHeader<'_>, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let mut packet = [&[0xff].repeat(header.header_len()), payload].concat();
        header.emit(&mut packet).map(|()| packet)
    }

    #[test]
    fn a_packet_reads_and_writes() {
        let control = GueHeader { content: GueContent::Control(9), ..HEADER };
        for (bytes, header, payload) in [
            (PACKET, HEADER, &b" ping"[..]),
            (b"\x22\x09\x80\x01extended message", control, b" message"),
            (b"\0\x29\0\0ping", GueHeader::new(IpProtocol::IPV6), b"ping"),
        ] {
            let packet = GuePacket::parse(bytes).unwrap();
            assert_eq!((packet.header(), packet.payload()), (header, payload));
            assert_eq!(packet.header_len(), header.header_len());
            assert_eq!(Gue::parse(bytes), Ok(Gue::Variant0(packet)));
            assert_eq!(emitted(&header, payload).unwrap(), bytes);
        }
    }

    #[test]
    fn the_longest_header_fits_exactly() {
        let header = GueHeader { extensions: &[7; MAX_EXTENSIONS], ..HEADER };
        let bytes = emitted(&header, b"").unwrap();
        assert_eq!((bytes.len(), bytes[0]), (128, 0x1f));
        assert_eq!(GuePacket::parse(&bytes).unwrap().header(), header);
        for (len, expected) in [
            (128, Expected::AtMost(124)),
            (125, Expected::AtMost(124)),
            (6, Expected::MultipleOf(4)),
        ] {
            let extensions = [7].repeat(len);
            let header = GueHeader { extensions: &extensions, ..HEADER };
            let error = Error::field("GUE", "extensions length", expected, len as u64);
            assert_eq!(emitted(&header, b""), Err(error));
        }
    }

    #[test]
    fn an_ip_packet_is_variant_1() {
        let v4 = b"\x45\0\0\x14\0\0\x40\0\x40\x01\0\0\x0a\0\0\x01\x0a\0\0\x02";
        assert!(matches!(Gue::parse(v4), Ok(Gue::Variant1(IpPacket::V4(_)))));
        let mut v6 = [0; 40];
        v6[0] = 0x60;
        let Ok(Gue::Variant1(packet)) = Gue::parse(&v6) else { panic!("variant 1") };
        assert_eq!(packet.version(), IpVersion::V6);
    }

    #[test]
    fn other_variants_are_refused() {
        for (first, found) in [(0x80, 2), (0xc0, 3)] {
            let bytes = [first; 40];
            let error = Error::field("GUE", "variant", Expected::OneOf(&[0, 1]), found);
            assert_eq!(Gue::parse(&bytes), Err(error));
        }
        let error = Error::field("IP", "version", Expected::OneOf(&[4, 6]), 5);
        assert_eq!(Gue::parse(&[0x50; 40]), Err(error));
        let error = Error::field("GUE", "variant", Expected::Exactly(0), 1);
        assert_eq!(GuePacket::parse(&[0x45; 40]), Err(error));
    }

    #[test]
    fn every_truncation_is_an_error() {
        assert_eq!(Gue::parse(b""), Err(Error::truncated("GUE", 1, 0)));
        for len in 0..HEADER.header_len() {
            let needed = if len < LEN { LEN } else { HEADER.header_len() };
            let error = Error::truncated("GUE", needed, len);
            assert_eq!(GuePacket::parse(&PACKET[..len]), Err(error));
            let mut short = [0xff].repeat(len);
            assert_eq!(HEADER.emit(&mut short), Err(error));
            assert!(short.iter().all(|byte| *byte == 0xff));
        }
    }
}
