//! ICMPv6 (RFC 4443).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     type      |     code      |           checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  echo: identifier             |  echo: sequence number        |
//! |  packet too big: MTU                                          |
//! |  parameter problem: pointer                                   |
//! |  unreachable, time exceeded: 0                                |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   echo: data; errors: the beginning of the packet they are about ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! [`ndp`](crate::ndp) reads and writes the messages of neighbour discovery, [`icmp`](crate::icmp) builds the errors.

use crate::checksum::{Checksum, PseudoHeader};
use crate::error::{Error, Expected};
use crate::field;
use crate::ip::IpProtocol;

/// Bytes of an ICMPv6 header, with the four bytes behind the checksum that all messages of RFC 4443 have.
pub const LEN: usize = 8;

const NAME: &str = "ICMPv6";
const TYPE: usize = 0;
const CODE: usize = 1;
const CHECKSUM: usize = 2;
const REST: usize = 4;

const DESTINATION_UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// Whether messages of this type are errors: those below 128 (RFC 4443, section 2.1).
#[must_use]
#[inline]
pub const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// An ICMPv6 message in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmpv6Packet<'a> {
    header: &'a [u8; LEN],
    payload: &'a [u8],
}

impl<'a> Icmpv6Packet<'a> {
    /// The message that `bytes` are. Nothing in it says where it ends: that is where the IP packet does.
    ///
    /// # Errors
    /// [`Error`] when there are fewer than [`LEN`] bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = field::split(NAME, bytes)?;
        Ok(Self { header, payload })
    }

    /// The type, as assigned by IANA.
    #[must_use]
    #[inline]
    pub const fn kind(&self) -> u8 {
        field::u8::<TYPE, LEN>(self.header)
    }

    /// The code: what the type means in particular.
    #[must_use]
    #[inline]
    pub const fn code(&self) -> u8 {
        field::u8::<CODE, LEN>(self.header)
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
        let Ok(length) = u32::try_from(LEN + self.payload.len()) else {
            return false;
        };
        Checksum::new()
            .pseudo_header(addresses, IpProtocol::ICMPV6, length)
            .bytes(self.header)
            .bytes(self.payload)
            .finish()
            == 0
    }

    /// Whether this is an error. The payload of those that have a name here is the beginning of the packet that they
    /// are about, for [`Ipv6Packet::parse_cut`](crate::ipv6::Ipv6Packet::parse_cut) to read.
    #[must_use]
    #[inline]
    pub const fn is_error(&self) -> bool {
        is_error(self.kind())
    }

    /// The bytes behind the first [`LEN`]: of an echo its data, of an error the beginning of the packet it is about.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value, without the bytes that its type does not use.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> Icmpv6Header {
        let rest = field::bytes::<REST, 4, LEN>(self.header);
        let [a, b, c, d] = rest;
        let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let number = u32::from_be_bytes(rest);
        match (self.kind(), self.code()) {
            (DESTINATION_UNREACHABLE, code) => {
                Icmpv6Header::DestinationUnreachable { code: Icmpv6Unreachable(code) }
            }
            (PACKET_TOO_BIG, 0) => Icmpv6Header::PacketTooBig { mtu: number },
            (TIME_EXCEEDED, code) => Icmpv6Header::TimeExceeded { code },
            (PARAMETER_PROBLEM, code) => Icmpv6Header::ParameterProblem { code, pointer: number },
            (ECHO_REQUEST, 0) => Icmpv6Header::EchoRequest { identifier: first, sequence: second },
            (ECHO_REPLY, 0) => Icmpv6Header::EchoReply { identifier: first, sequence: second },
            (kind, code) => Icmpv6Header::Other { kind, code, rest },
        }
    }
}

/// Why a destination is unreachable (RFC 4443, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Icmpv6Unreachable(pub u8);

impl Icmpv6Unreachable {
    /// No route leads there.
    pub const NO_ROUTE: Self = Self(0);
    /// A filter does not let the packet pass.
    pub const PROHIBITED: Self = Self(1);
    /// The destination is outside of the source address' scope.
    pub const BEYOND_SCOPE: Self = Self(2);
    /// The host does not answer on its link, or any other reason.
    pub const ADDRESS: Self = Self(3);
    /// Nothing listens on the port.
    pub const PORT: Self = Self(4);
    /// A filter does not let packets from that source pass.
    pub const SOURCE_POLICY: Self = Self(5);
    /// The route there says that packets are to be refused.
    pub const REJECT_ROUTE: Self = Self(6);
}

/// The header of an ICMPv6 message as a plain value. The checksum follows from it, the payload and the IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Icmpv6Header {
    /// The packet cannot be delivered.
    DestinationUnreachable {
        /// Why.
        code: Icmpv6Unreachable,
    },
    /// The packet does not fit into the next link.
    PacketTooBig {
        /// The MTU of the next link.
        mtu: u32,
    },
    /// The packet has been on the way for too long.
    TimeExceeded {
        /// Where: 0 in transit, 1 while it waited for its other fragments.
        code: u8,
    },
    /// A header of the packet is wrong.
    ParameterProblem {
        /// What: 0 a field, 1 a next header, 2 an option.
        code: u8,
        /// Which byte of the packet.
        pointer: u32,
    },
    /// A request that the data be sent back.
    EchoRequest {
        /// Which program asks.
        identifier: u16,
        /// Which request of this program it is.
        sequence: u16,
    },
    /// The answer to an echo request.
    EchoReply {
        /// The request's.
        identifier: u16,
        /// The request's.
        sequence: u16,
    },
    /// Any other, or one whose code is not 0 where it should be.
    Other {
        /// The type, as assigned by IANA.
        kind: u8,
        /// The code.
        code: u8,
        /// The four bytes behind the checksum.
        rest: [u8; 4],
    },
}

impl Icmpv6Header {
    /// Bytes of the header: [`LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN
    }

    /// Writes the header into the first [`LEN`] bytes of `packet`, of which the rest is the payload already, with the
    /// checksum.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the header or longer than an IPv6 packet can carry. Nothing is written
    /// then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8], addresses: &PseudoHeader) -> Result<(), Error> {
        let Ok(length) = u16::try_from(packet.len()) else {
            let expected = Expected::AtMost(u16::MAX.into());
            return Err(Error::field(NAME, "length", expected, packet.len() as u64));
        };
        let (header, payload) = field::split_mut::<LEN>(NAME, packet)?;
        let (kind, code, rest) = self.fields();
        field::put::<TYPE, 2, LEN>(header, [kind, code]);
        field::put_u16::<CHECKSUM, LEN>(header, 0);
        field::put::<REST, 4, LEN>(header, rest);
        let sum = Checksum::new()
            .pseudo_header(addresses, IpProtocol::ICMPV6, length.into())
            .bytes(header)
            .bytes(payload)
            .finish();
        field::put_u16::<CHECKSUM, LEN>(header, sum);
        Ok(())
    }

    /// Type, code, and the four bytes behind the checksum.
    const fn fields(&self) -> (u8, u8, [u8; 4]) {
        const fn echo(identifier: u16, sequence: u16) -> [u8; 4] {
            ((identifier as u32) << 16 | sequence as u32).to_be_bytes()
        }
        match *self {
            Self::DestinationUnreachable { code } => (DESTINATION_UNREACHABLE, code.0, [0; 4]),
            Self::PacketTooBig { mtu } => (PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Self::TimeExceeded { code } => (TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer } => {
                (PARAMETER_PROBLEM, code, pointer.to_be_bytes())
            }
            Self::EchoRequest { identifier, sequence } => {
                (ECHO_REQUEST, 0, echo(identifier, sequence))
            }
            Self::EchoReply { identifier, sequence } => (ECHO_REPLY, 0, echo(identifier, sequence)),
            Self::Other { kind, code, rest } => (kind, code, rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;
    use std::vec::Vec;

    const ADDRESSES: PseudoHeader = PseudoHeader::V6 {
        src: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        dst: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
    };
    // An echo request; the sum of its words is 1ca96, that of addresses, protocol and length 1fa4a.
    const PACKET: &[u8] = b"\x80\0\x3b\x1c\x06\xac\0\x1apinge";
    const HEADER: Icmpv6Header = Icmpv6Header::EchoRequest { identifier: 1708, sequence: 26 };

    fn emitted(header: Icmpv6Header, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let mut packet = [&[0xff; LEN], payload].concat();
        header.emit(&mut packet, &ADDRESSES).map(|()| packet)
    }

    #[test]
    fn a_message_reads_and_writes() {
        let packet = Icmpv6Packet::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (HEADER, &b"pinge"[..]));
        assert_eq!(emitted(HEADER, b"pinge").unwrap(), PACKET);
        assert!(packet.is_checksum_valid(&ADDRESSES) && !packet.is_error());
    }

    #[test]
    fn every_type_is_told() {
        let code = Icmpv6Unreachable::PORT;
        for (bytes, header) in [
            (b"\x01\x04\0\0\0\0", Icmpv6Header::DestinationUnreachable { code }),
            (b"\x02\0\0\0\x05\xaa", Icmpv6Header::PacketTooBig { mtu: 1450 }),
            (
                b"\x02\x01\0\0\x05\xaa",
                Icmpv6Header::Other { kind: 2, code: 1, rest: [0, 0, 5, 0xaa] },
            ),
            (b"\x03\0\0\0\0\0", Icmpv6Header::TimeExceeded { code: 0 }),
            (b"\x04\x01\0\0\0\x28", Icmpv6Header::ParameterProblem { code: 1, pointer: 40 }),
            (
                b"\x81\0\x01\x02\x03\x04",
                Icmpv6Header::EchoReply { identifier: 0x102, sequence: 0x304 },
            ),
            (b"\x85\0\0\0\0\0", Icmpv6Header::Other { kind: 133, code: 0, rest: [0; 4] }),
        ] {
            let message = emitted(header, b"\xff\xff").unwrap();
            let [kind, code, a, b, c, d] = *bytes;
            assert_eq!([message[0], message[1]], [kind, code]);
            assert_eq!(message[4..], [a, b, c, d, 0xff, 0xff]);
            let packet = Icmpv6Packet::parse(&message).unwrap();
            assert_eq!((packet.header(), packet.is_error()), (header, kind < 128));
            assert!(packet.is_checksum_valid(&ADDRESSES));
        }
    }

    #[test]
    fn a_flipped_bit_breaks_the_checksum() {
        for bit in 0..PACKET.len() * 8 {
            let mut bytes = PACKET.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!Icmpv6Packet::parse(&bytes).unwrap().is_checksum_valid(&ADDRESSES), "{bit}");
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_is_refused() {
        for len in 0..LEN {
            let error = Error::truncated("ICMPv6", 8, len);
            assert_eq!(Icmpv6Packet::parse(&PACKET[..len]), Err(error));
            let mut short = [0xff; LEN];
            assert_eq!(HEADER.emit(&mut short[..len], &ADDRESSES), Err(error));
            assert_eq!(short, [0xff; LEN]);
        }
        let error = Error::field("ICMPv6", "length", Expected::AtMost(65_535), 65_536);
        assert_eq!(emitted(HEADER, &[0; 65_528]), Err(error));
    }
}
