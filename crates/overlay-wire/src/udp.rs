//! UDP (RFC 768; RFC 6935 and RFC 6936 for tunnels over IPv6).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          source port          |       destination port        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |            length             |           checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          payload ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```

use crate::checksum::{Checksum, PseudoHeader};
use crate::error::{Error, Expected};
use crate::field;
use crate::ip::IpProtocol;

/// Bytes of a UDP header.
pub const LEN: usize = 8;

const NAME: &str = "UDP";
const SRC_PORT: usize = 0;
const DST_PORT: usize = 2;
pub(crate) const LENGTH: usize = 4;
pub(crate) const CHECKSUM: usize = 6;

/// A UDP datagram in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPacket<'a> {
    header: &'a [u8; LEN],
    payload: &'a [u8],
}

impl<'a> UdpPacket<'a> {
    /// The datagram at the beginning of `bytes`; what is behind its end is ignored.
    ///
    /// # Errors
    /// [`Error`] when there is no complete header, or the length is less than the header or more than there is.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let packet = Self::parse_cut(bytes)?;
        if usize::from(packet.length()) > bytes.len() {
            let expected = Expected::AtMost(bytes.len() as u64);
            return Err(Error::field(NAME, "length", expected, packet.length().into()));
        }
        Ok(packet)
    }

    /// The datagram of which `bytes` are the beginning: one that an ICMP error quotes, or a capture has cut.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), except that the payload may be shorter than the length says.
    #[inline]
    pub fn parse_cut(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = field::split(NAME, bytes)?;
        let length = usize::from(field::u16::<LENGTH, LEN>(header));
        let Some(payload_len) = length.checked_sub(LEN) else {
            let expected = Expected::AtLeast(LEN as u64);
            return Err(Error::field(NAME, "length", expected, length as u64));
        };
        Ok(Self { header, payload: field::at_most(rest, payload_len) })
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

    /// Bytes of header and payload, as the header says.
    #[must_use]
    #[inline]
    pub const fn length(&self) -> u16 {
        field::u16::<LENGTH, LEN>(self.header)
    }

    /// The checksum; 0 when the sender did not compute one.
    #[must_use]
    #[inline]
    pub const fn checksum(&self) -> u16 {
        field::u16::<CHECKSUM, LEN>(self.header)
    }

    /// Whether the checksum is right, or there is none. Whether there may be none is for the caller to say: over IPv6
    /// only tunnels may leave it out (RFC 6935).
    #[must_use]
    #[inline]
    pub fn is_checksum_valid(&self, addresses: &PseudoHeader) -> bool {
        let length = u32::from(self.length());
        self.checksum() == 0
            || Checksum::new()
                .pseudo_header(addresses, IpProtocol::UDP, length)
                .bytes(self.header)
                .bytes(self.payload)
                .finish()
                == 0
    }

    /// The bytes behind the header, as many as the length says.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> UdpHeader {
        UdpHeader { src_port: self.src_port(), dst_port: self.dst_port() }
    }
}

/// The header of a UDP datagram as a plain value. Length and checksum follow from the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpHeader {
    /// The port of the sender.
    pub src_port: u16,
    /// The port of the receiver.
    pub dst_port: u16,
}

impl UdpHeader {
    /// Bytes of the header: [`LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN
    }

    /// Writes the header into the first [`LEN`] bytes of `packet`, of which the rest is the payload already, with the
    /// checksum if there are addresses to compute it with, else with 0: no checksum.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the header or longer than a datagram can be. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8], addresses: Option<&PseudoHeader>) -> Result<(), Error> {
        let len = packet.len();
        let Ok(length) = u16::try_from(len) else {
            let expected = Expected::AtMost(u16::MAX.into());
            return Err(Error::field(NAME, "length", expected, len as u64));
        };
        let (header, payload) = field::split_mut::<LEN>(NAME, packet)?;
        field::put_u16::<SRC_PORT, LEN>(header, self.src_port);
        field::put_u16::<DST_PORT, LEN>(header, self.dst_port);
        field::put_u16::<LENGTH, LEN>(header, length);
        field::put_u16::<CHECKSUM, LEN>(header, 0);
        if let Some(addresses) = addresses {
            let sum = Checksum::new()
                .pseudo_header(addresses, IpProtocol::UDP, length.into())
                .bytes(header)
                .bytes(payload)
                .finish();
            field::put_u16::<CHECKSUM, LEN>(header, if sum == 0 { 0xffff } else { sum });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use std::vec::Vec;

    const ADDRESSES: PseudoHeader =
        PseudoHeader::V4 { src: Ipv4Addr::new(10, 0, 0, 1), dst: Ipv4Addr::new(10, 0, 0, 2) };
    const HEADER: UdpHeader = UdpHeader { src_port: 40000, dst_port: 8285 };
    const PACKET: &[u8] = b"\x9c\x40\x20\x5d\0\x0c\0\0ping";

    fn emitted(addresses: Option<&PseudoHeader>, payload: &[u8]) -> Vec<u8> {
        let mut packet = [&[0xff; LEN], payload].concat();
        HEADER.emit(&mut packet, addresses).unwrap();
        packet
    }

    #[test]
    fn a_datagram_reads_and_writes() {
        let packet = UdpPacket::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (HEADER, &b"ping"[..]));
        assert_eq!((packet.length(), packet.checksum()), (12, 0));
        assert!(packet.is_checksum_valid(&ADDRESSES));
        assert_eq!(emitted(None, b"ping"), PACKET);
    }

    #[test]
    fn a_checksum_that_is_zero_is_sent_as_all_ones() {
        for last in 0..=u16::MAX {
            let packet = emitted(Some(&ADDRESSES), &last.to_be_bytes());
            let view = UdpPacket::parse(&packet).unwrap();
            assert_ne!(view.checksum(), 0);
            assert!(view.is_checksum_valid(&ADDRESSES));
        }
    }

    #[test]
    fn a_flipped_bit_breaks_the_checksum() {
        let packet = emitted(Some(&ADDRESSES), b"odd");
        for bit in 0..packet.len() * 8 {
            let mut packet = packet.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            // Parsed as cut, because a flipped length may be too long.
            let Ok(view) = UdpPacket::parse_cut(&packet) else { continue };
            assert!(!view.is_checksum_valid(&ADDRESSES), "{bit}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..PACKET.len() {
            let expected = match len {
                0..LEN => Error::truncated("UDP", 8, len),
                _ => Error::field("UDP", "length", Expected::AtMost(len as u64), 12),
            };
            assert_eq!(UdpPacket::parse(&PACKET[..len]), Err(expected));
        }
        assert_eq!(UdpPacket::parse_cut(&PACKET[..10]).unwrap().payload(), b"pi");
        assert_eq!(
            UdpPacket::parse(b"\0\0\0\0\0\x07\0\0"),
            Err(Error::field("UDP", "length", Expected::AtLeast(8), 7))
        );
    }

    #[test]
    fn what_is_too_long_is_refused_and_not_touched() {
        let mut packet = [0xff].repeat(65_536);
        let error = HEADER.emit(&mut packet, None).unwrap_err();
        assert_eq!(error, Error::field("UDP", "length", Expected::AtMost(65_535), 65_536));
        assert!(packet.iter().all(|byte| *byte == 0xff));
    }
}
