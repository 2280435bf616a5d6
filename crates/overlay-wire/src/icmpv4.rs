//! ICMP for IPv4 (RFC 792; RFC 1191 for the MTU, RFC 1812, section 5.2.7.1 for more codes).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     type      |     code      |           checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  echo: identifier             |  echo: sequence number        |
//! |  fragmentation needed: 0      |  fragmentation needed: MTU    |
//! |  redirect: gateway address                                    |
//! |  parameter problem: pointer, 0                                |
//! |  unreachable, time exceeded: 0                                |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   echo: data; errors: the beginning of the packet they are about ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! [`icmp`](crate::icmp) builds the errors.

use core::net::Ipv4Addr;

use crate::checksum::Checksum;
use crate::error::Error;
use crate::field;

/// Bytes of an ICMP header.
pub const LEN: usize = 8;

const NAME: &str = "ICMP";
const TYPE: usize = 0;
const CODE: usize = 1;
const CHECKSUM: usize = 2;
const REST: usize = 4;

const ECHO_REPLY: u8 = 0;
const DESTINATION_UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// Whether messages of this type are errors, about which no error may be sent, and which quote the packet they are
/// about: unreachable, source quench (RFC 6633: no longer used), redirect, time exceeded, parameter problem (RFC 1122,
/// section 3.2.2).
#[must_use]
#[inline]
pub const fn is_error(kind: u8) -> bool {
    matches!(
        kind,
        DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
    )
}

/// An ICMP message in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmpv4Packet<'a> {
    header: &'a [u8; LEN],
    payload: &'a [u8],
}

impl<'a> Icmpv4Packet<'a> {
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
    pub fn is_checksum_valid(&self) -> bool {
        Checksum::new().bytes(self.header).bytes(self.payload).finish() == 0
    }

    /// Whether this is an error, as [`is_error`] says. Its payload is the beginning of the packet that it is about,
    /// for [`Ipv4Packet::parse_cut`](crate::ipv4::Ipv4Packet::parse_cut) to read.
    #[must_use]
    #[inline]
    pub const fn is_error(&self) -> bool {
        is_error(self.kind())
    }

    /// The bytes behind the header: of an echo its data, of an error the beginning of the packet that it is about.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value, without the bytes that its type does not use.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> Icmpv4Header {
        let rest = field::bytes::<REST, 4, LEN>(self.header);
        let [a, b, c, d] = rest;
        let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        match (self.kind(), self.code()) {
            (ECHO_REPLY, 0) => Icmpv4Header::EchoReply { identifier: first, sequence: second },
            (ECHO_REQUEST, 0) => Icmpv4Header::EchoRequest { identifier: first, sequence: second },
            (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED) => {
                Icmpv4Header::FragmentationNeeded { mtu: second }
            }
            (DESTINATION_UNREACHABLE, code) => {
                Icmpv4Header::DestinationUnreachable { code: Icmpv4Unreachable(code) }
            }
            (REDIRECT, code) => Icmpv4Header::Redirect { code, gateway: Ipv4Addr::new(a, b, c, d) },
            (TIME_EXCEEDED, code) => Icmpv4Header::TimeExceeded { code },
            (PARAMETER_PROBLEM, code) => Icmpv4Header::ParameterProblem { code, pointer: a },
            (kind, code) => Icmpv4Header::Other { kind, code, rest },
        }
    }
}

/// Why a destination is unreachable. Numbers as assigned by IANA (RFC 792; RFC 1812, section 5.2.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Icmpv4Unreachable(pub u8);

const FRAGMENTATION_NEEDED: u8 = 4;

impl Icmpv4Unreachable {
    /// No route leads there.
    pub const NETWORK: Self = Self(0);
    /// The host does not answer on its link.
    pub const HOST: Self = Self(1);
    /// The host does not know the protocol.
    pub const PROTOCOL: Self = Self(2);
    /// Nothing listens on the port.
    pub const PORT: Self = Self(3);
    /// The packet is too big and may not be fragmented: [`Icmpv4Header::FragmentationNeeded`].
    pub const FRAGMENTATION_NEEDED: Self = Self(FRAGMENTATION_NEEDED);
    /// The source route failed.
    pub const SOURCE_ROUTE_FAILED: Self = Self(5);
    /// A filter does not let packets to that network pass.
    pub const NETWORK_PROHIBITED: Self = Self(9);
    /// A filter does not let packets to that host pass.
    pub const HOST_PROHIBITED: Self = Self(10);
    /// A filter does not let the packet pass.
    pub const PROHIBITED: Self = Self(13);
}

/// The header of an ICMP message as a plain value. The checksum follows from it and the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Icmpv4Header {
    /// The answer to an echo request.
    EchoReply {
        /// The request's.
        identifier: u16,
        /// The request's.
        sequence: u16,
    },
    /// The packet cannot be delivered. Not for [`Icmpv4Unreachable::FRAGMENTATION_NEEDED`], which has an MTU.
    DestinationUnreachable {
        /// Why.
        code: Icmpv4Unreachable,
    },
    /// The packet does not fit into the next link and may not be fragmented.
    FragmentationNeeded {
        /// The MTU of the next link; 0 from routers older than RFC 1191.
        mtu: u16,
    },
    /// There is a better first hop.
    Redirect {
        /// For which packets: 0 those to the network, 1 to the host, 2 and 3 the same with this type of service.
        code: u8,
        /// The better first hop.
        gateway: Ipv4Addr,
    },
    /// A request that the data be sent back.
    EchoRequest {
        /// Which program asks.
        identifier: u16,
        /// Which request of this program it is.
        sequence: u16,
    },
    /// The packet has been on the way for too long.
    TimeExceeded {
        /// Where: 0 in transit, 1 while it waited for its other fragments.
        code: u8,
    },
    /// The header of the packet is wrong.
    ParameterProblem {
        /// What: 0 the byte that the pointer points to, 1 a missing option, 2 a length.
        code: u8,
        /// Which byte.
        pointer: u8,
    },
    /// Any other, or an echo whose code is not 0.
    Other {
        /// The type, as assigned by IANA.
        kind: u8,
        /// The code.
        code: u8,
        /// The rest of the header.
        rest: [u8; 4],
    },
}

impl Icmpv4Header {
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
    /// [`Error`] when `packet` is shorter than the header. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        let (header, payload) = field::split_mut::<LEN>(NAME, packet)?;
        let (kind, code, rest) = self.fields();
        field::put::<TYPE, 2, LEN>(header, [kind, code]);
        field::put_u16::<CHECKSUM, LEN>(header, 0);
        field::put::<REST, 4, LEN>(header, rest);
        let sum = Checksum::new().bytes(header).bytes(payload).finish();
        field::put_u16::<CHECKSUM, LEN>(header, sum);
        Ok(())
    }

    /// Type, code, and the rest of the header.
    const fn fields(&self) -> (u8, u8, [u8; 4]) {
        match *self {
            Self::EchoReply { identifier, sequence } => (ECHO_REPLY, 0, pair(identifier, sequence)),
            Self::DestinationUnreachable { code } => (DESTINATION_UNREACHABLE, code.0, [0; 4]),
            Self::FragmentationNeeded { mtu } => {
                (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, pair(0, mtu))
            }
            Self::Redirect { code, gateway } => (REDIRECT, code, gateway.octets()),
            Self::EchoRequest { identifier, sequence } => {
                (ECHO_REQUEST, 0, pair(identifier, sequence))
            }
            Self::TimeExceeded { code } => (TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer } => {
                (PARAMETER_PROBLEM, code, [pointer, 0, 0, 0])
            }
            Self::Other { kind, code, rest } => (kind, code, rest),
        }
    }
}

/// Two numbers in network byte order, one behind the other.
const fn pair(first: u16, second: u16) -> [u8; 4] {
    ((first as u32) << 16 | second as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    // An echo request; the sum of its words is 15296.
    const PACKET: &[u8] = b"\x08\0\xad\x68\x06\xac\0\x1apinge";
    const HEADER: Icmpv4Header = Icmpv4Header::EchoRequest { identifier: 1708, sequence: 26 };

    #[test]
    fn a_message_reads_and_writes() {
        let packet = Icmpv4Packet::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (HEADER, &b"pinge"[..]));
        assert!(packet.is_checksum_valid() && !packet.is_error());
        let mut bytes = *b"\xff\xff\xff\xff\xff\xff\xff\xffpinge";
        HEADER.emit(&mut bytes).unwrap();
        assert_eq!(bytes, PACKET);
    }

    #[test]
    fn every_type_is_told() {
        let gateway = Ipv4Addr::new(1, 2, 3, 4);
        let code = Icmpv4Unreachable::PORT;
        for (bytes, header, is_error) in [
            (
                b"\0\0\x01\x02\x03\x04",
                Icmpv4Header::EchoReply { identifier: 0x102, sequence: 0x304 },
                false,
            ),
            (b"\x03\x03\0\0\0\0", Icmpv4Header::DestinationUnreachable { code }, true),
            (b"\x03\x04\0\0\x05\xaa", Icmpv4Header::FragmentationNeeded { mtu: 1450 }, true),
            (
                b"\x04\0\0\0\0\x01",
                Icmpv4Header::Other { kind: 4, code: 0, rest: [0, 0, 0, 1] },
                true,
            ),
            (b"\x05\x01\x01\x02\x03\x04", Icmpv4Header::Redirect { code: 1, gateway }, true),
            (
                b"\x08\x01\0\0\0\x07",
                Icmpv4Header::Other { kind: 8, code: 1, rest: [0, 0, 0, 7] },
                false,
            ),
            (b"\x0b\x01\0\0\0\0", Icmpv4Header::TimeExceeded { code: 1 }, true),
            (b"\x0c\x02\x14\0\0\0", Icmpv4Header::ParameterProblem { code: 2, pointer: 20 }, true),
        ] {
            let mut message = [0xff; 10];
            header.emit(&mut message).unwrap();
            let [kind, code, a, b, c, d] = *bytes;
            assert_eq!([message[0], message[1]], [kind, code]);
            assert_eq!(message[4..], [a, b, c, d, 0xff, 0xff]);
            let packet = Icmpv4Packet::parse(&message).unwrap();
            assert_eq!((packet.header(), packet.is_error()), (header, is_error));
            assert!(packet.is_checksum_valid());
        }
    }

    #[test]
    fn a_flipped_bit_breaks_the_checksum() {
        for bit in 0..PACKET.len() * 8 {
            let mut bytes = PACKET.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!Icmpv4Packet::parse(&bytes).unwrap().is_checksum_valid(), "{bit}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..LEN {
            let error = Error::truncated("ICMP", 8, len);
            assert_eq!(Icmpv4Packet::parse(&PACKET[..len]), Err(error));
            let mut short = [0xff; LEN];
            assert_eq!(HEADER.emit(&mut short[..len]), Err(error));
            assert_eq!(short, [0xff; LEN]);
        }
    }
}
