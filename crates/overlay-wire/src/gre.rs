//! GRE, generic routing encapsulation (RFC 2784), with key and sequence number (RFC 2890).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |C|0|K|S|0 0|   reserved0 |ver 0|         protocol type         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           checksum            |           reserved1           |  if C
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                              key                              |  if K
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        sequence number                        |  if S
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        inner packet, of the kind the protocol type says ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! It follows directly on an IP header with protocol [`GRE`](crate::ip::IpProtocol::GRE). The protocol type
//! [`ETHERNET`](EtherType::ETHERNET), transparent Ethernet bridging, says that an Ethernet frame follows: on Linux,
//! `gretap`. The key is often used as the number of a network.

use crate::checksum::Checksum;
use crate::error::{Error, Expected};
use crate::ethernet::EtherType;
use crate::field;

/// Bytes of a GRE header without optional fields.
pub const LEN: usize = 4;
/// Bytes that each of the three optional fields adds.
pub const FIELD_LEN: usize = 4;

const NAME: &str = "GRE";
const FLAGS: usize = 0;
const PROTOCOL: usize = 2;

const FLAG_CHECKSUM: u16 = 0x8000;
const FLAG_KEY: u16 = 0x2000;
const FLAG_SEQUENCE: u16 = 0x1000;
/// Routing, strict source route and the first bit of the recursion control of RFC 1701. RFC 2784, section 2.3: packets
/// with one of these bits are discarded by whoever does not implement RFC 1701.
const RFC_1701: u16 = 0x4c00;
const RESERVED: u16 = 0x03f8;
const VERSION: u16 = 0x0007;

/// A GRE packet in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrePacket<'a> {
    bytes: &'a [u8],
    header: &'a [u8; LEN],
    checksum: Option<&'a [u8; FIELD_LEN]>,
    key: Option<&'a [u8; FIELD_LEN]>,
    sequence: Option<&'a [u8; FIELD_LEN]>,
    payload: &'a [u8],
}

impl<'a> GrePacket<'a> {
    /// The packet that `bytes`, the payload of an IP packet, are.
    ///
    /// The checksum is not looked at: [`is_checksum_valid`](Self::is_checksum_valid) does that. The reserved bits that
    /// receivers should ignore are ignored; [`reserved`](Self::reserved) tells them.
    ///
    /// # Errors
    /// [`Error`] when the version is not 0, one of the first six flags is set that only RFC 1701 knows, or the header
    /// is incomplete.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = field::split(NAME, bytes)?;
        let flags = field::u16::<FLAGS, LEN>(header);
        if flags & VERSION != 0 {
            let found = u64::from(flags & VERSION);
            return Err(Error::field(NAME, "version", Expected::Exactly(0), found));
        }
        if flags & RFC_1701 != 0 {
            let found = u64::from(flags & RFC_1701);
            return Err(Error::field(NAME, "reserved flags", Expected::Exactly(0), found));
        }
        let optional = |flag, rest: &'a [u8]| {
            if flags & flag == 0 {
                return Ok((None, rest));
            }
            match rest.split_first_chunk() {
                Some((field, rest)) => Ok((Some(field), rest)),
                None => Err(Error::truncated(NAME, len(flags), bytes.len())),
            }
        };
        let (checksum, rest) = optional(FLAG_CHECKSUM, rest)?;
        let (key, rest) = optional(FLAG_KEY, rest)?;
        let (sequence, payload) = optional(FLAG_SEQUENCE, rest)?;
        Ok(Self { bytes, header, checksum, key, sequence, payload })
    }

    /// What the payload is.
    #[must_use]
    #[inline]
    pub const fn protocol(&self) -> EtherType {
        EtherType(field::u16::<PROTOCOL, LEN>(self.header))
    }

    /// The checksum of header and payload, if there is one.
    #[must_use]
    #[inline]
    pub const fn checksum(&self) -> Option<u16> {
        match self.checksum {
            Some(field) => Some(field::u16::<0, FIELD_LEN>(field)),
            None => None,
        }
    }

    /// Whether the checksum of header and payload is right, or there is none.
    #[must_use]
    #[inline]
    pub fn is_checksum_valid(&self) -> bool {
        self.checksum.is_none() || Checksum::new().bytes(self.bytes).finish() == 0
    }

    /// The key, if there is one: which of several flows or networks between two addresses this is (RFC 2890).
    #[must_use]
    #[inline]
    pub const fn key(&self) -> Option<u32> {
        match self.key {
            Some(field) => Some(field::u32::<0, FIELD_LEN>(field)),
            None => None,
        }
    }

    /// The sequence number, if there is one. The first packet has number 0 (RFC 2890).
    #[must_use]
    #[inline]
    pub const fn sequence(&self) -> Option<u32> {
        match self.sequence {
            Some(field) => Some(field::u32::<0, FIELD_LEN>(field)),
            None => None,
        }
    }

    /// The bits of `reserved0` that receivers ignore and senders should leave 0, as they are in the first 16 bits.
    #[must_use]
    #[inline]
    pub const fn reserved(&self) -> u16 {
        field::u16::<FLAGS, LEN>(self.header) & RESERVED
    }

    /// Bytes of the header with its optional fields: 4 to 16.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        len(field::u16::<FLAGS, LEN>(self.header))
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
    pub const fn header(&self) -> GreHeader {
        GreHeader {
            protocol: self.protocol(),
            checksum: self.checksum.is_some(),
            key: self.key(),
            sequence: self.sequence(),
        }
    }
}

/// A GRE header as a plain value. The checksum follows from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GreHeader {
    /// What the payload is.
    pub protocol: EtherType,
    /// Whether there is a checksum of header and payload.
    pub checksum: bool,
    /// Which of several flows or networks between two addresses this is.
    pub key: Option<u32>,
    /// The number of the packet, beginning with 0.
    pub sequence: Option<u32>,
}

impl GreHeader {
    /// A header without optional fields.
    #[must_use]
    pub const fn new(protocol: EtherType) -> Self {
        Self { protocol, checksum: false, key: None, sequence: None }
    }

    /// Bytes of the header with its optional fields: 4 to 16.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        len(self.flags())
    }

    const fn flags(&self) -> u16 {
        let checksum = if self.checksum { FLAG_CHECKSUM } else { 0 };
        let key = if self.key.is_some() { FLAG_KEY } else { 0 };
        let sequence = if self.sequence.is_some() { FLAG_SEQUENCE } else { 0 };
        checksum | key | sequence
    }

    /// Writes the header into the first [`header_len`](Self::header_len) bytes of `packet`, of which the rest is the
    /// inner packet already, with the checksum if there is to be one.
    ///
    /// # Errors
    /// [`Error`] when the packet is shorter than the header. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        let packet_len = packet.len();
        let Some((bytes, payload)) = packet.split_at_mut_checked(self.header_len()) else {
            return Err(Error::truncated(NAME, self.header_len(), packet_len));
        };
        let (header, optional) = field::split_mut::<LEN>(NAME, bytes)?;
        field::put_u16::<FLAGS, LEN>(header, self.flags());
        field::put_u16::<PROTOCOL, LEN>(header, self.protocol.0);
        let optional = optional.as_chunks_mut().0;
        let checksum = self.checksum.then_some(0);
        let values = [checksum, self.key, self.sequence].into_iter().flatten();
        for (field, value) in optional.iter_mut().zip(values) {
            *field = u32::to_be_bytes(value);
        }
        if self.checksum {
            let sum = Checksum::new().bytes(header).bytes(optional.as_flattened()).bytes(payload);
            if let [checksum, ..] = optional {
                field::put_u16::<0, FIELD_LEN>(checksum, sum.finish());
            }
        }
        Ok(())
    }
}

/// Bytes of a header with these flags.
const fn len(flags: u16) -> usize {
    let fields = flags & (FLAG_CHECKSUM | FLAG_KEY | FLAG_SEQUENCE);
    LEN + FIELD_LEN * fields.count_ones() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum;
    use std::vec::Vec;

    const FULL: GreHeader = GreHeader {
        protocol: EtherType::IPV4,
        checksum: true,
        key: Some(0x0102_0304),
        sequence: Some(5),
    };
    const PACKET: &[u8] = b"\xb0\0\x08\0\x65\x23\0\0\x01\x02\x03\x04\0\0\0\x05ping";

    fn combinations() -> impl Iterator<Item = GreHeader> {
        (0..8).map(|bits| GreHeader {
            protocol: EtherType::ETHERNET,
            checksum: bits & 1 != 0,
            key: (bits & 2 != 0).then_some(0xdead_beef),
            sequence: (bits & 4 != 0).then_some(u32::MAX),
        })
    }

    fn emitted(header: &GreHeader, payload: &[u8]) -> Vec<u8> {
        let mut packet = [&[0xff].repeat(header.header_len()), payload].concat();
        header.emit(&mut packet).unwrap();
        packet
    }

    #[test]
    fn a_packet_reads_and_writes() {
        let packet = GrePacket::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (FULL, &b"ping"[..]));
        assert_eq!((packet.header_len(), packet.reserved()), (16, 0));
        assert_eq!(packet.checksum(), Some(0x6523));
        assert!(packet.is_checksum_valid());
        assert_eq!(emitted(&FULL, b"ping"), PACKET);
        assert_eq!(emitted(&GreHeader::new(EtherType::IPV6), b"ping"), b"\0\0\x86\xddping");
        let keyed = GreHeader { key: Some(7), ..GreHeader::new(EtherType::ETHERNET) };
        assert_eq!(emitted(&keyed, b"ping"), b"\x20\0\x65\x58\0\0\0\x07ping");
    }

    #[test]
    fn every_combination_of_fields_comes_back() {
        for header in combinations() {
            for payload in [&b""[..], b"odd", b"even"] {
                let bytes = emitted(&header, payload);
                let packet = GrePacket::parse(&bytes).unwrap();
                assert_eq!((packet.header(), packet.payload()), (header, payload));
                assert_eq!(packet.header_len(), header.header_len());
                assert!(packet.is_checksum_valid());
                assert_eq!(header.checksum, checksum::is_valid(&bytes));
            }
        }
    }

    #[test]
    fn every_flipped_bit_breaks_the_checksum() {
        // But for the flag of the checksum itself.
        for bit in 1..PACKET.len() * 8 {
            let mut bytes = PACKET.to_vec();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            if let Ok(packet) = GrePacket::parse(&bytes) {
                assert!(!packet.is_checksum_valid(), "{bit}");
            }
        }
    }

    #[test]
    fn flags_of_others_are_refused_or_ignored() {
        let with = |bit: usize| {
            let mut bytes = PACKET.to_vec();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            bytes
        };
        for (bit, found) in [(1, 0x4000), (4, 0x0800), (5, 0x0400)] {
            let error = Error::field("GRE", "reserved flags", Expected::Exactly(0), found);
            assert_eq!(GrePacket::parse(&with(bit)), Err(error));
        }
        for bit in 6..13 {
            let bytes = with(bit);
            let packet = GrePacket::parse(&bytes).unwrap();
            assert_eq!((packet.header(), packet.reserved()), (FULL, 0x8000 >> bit));
        }
        for (bit, found) in [(13, 4), (14, 2), (15, 1)] {
            let error = Error::field("GRE", "version", Expected::Exactly(0), found);
            assert_eq!(GrePacket::parse(&with(bit)), Err(error));
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for header in combinations() {
            let bytes = emitted(&header, b"");
            for len in 0..bytes.len() {
                let needed = if len < LEN { LEN } else { bytes.len() };
                let error = Error::truncated("GRE", needed, len);
                assert_eq!(GrePacket::parse(&bytes[..len]), Err(error));
                let mut short = [0xff].repeat(len);
                let error = Error::truncated("GRE", bytes.len(), len);
                assert_eq!(header.emit(&mut short), Err(error));
                assert!(short.iter().all(|byte| *byte == 0xff));
            }
        }
    }
}
