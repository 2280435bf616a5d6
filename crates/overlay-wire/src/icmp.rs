//! The ICMP errors that an overlay sends: about a packet that it cannot forward, in the packet's own version of IP.
//!
//! ```text
//!  the error                                  20 or 40 bytes    8 bytes
//! +-----------------------------------------+-----------------+-----------------------------------------------+
//! | IP header: from us to the source        | ICMP header     | the packet it is about, from its IP header on |
//! +-----------------------------------------+-----------------+-----------------------------------------------+
//! ```
//!
//! ```
//! use overlay_wire::icmp::{IcmpError, MAX_LEN};
//! use overlay_wire::icmpv4::{Icmpv4Header, Icmpv4Packet};
//! use overlay_wire::ip::IpProtocol;
//! use overlay_wire::ipv4::{Ipv4Header, Ipv4Packet};
//!
//! let (host, there, gateway) = ([10, 0, 0, 2].into(), [10, 1, 0, 2].into(), [10, 0, 0, 1]);
//! let mut packet = [0; 1500];
//! Ipv4Header::new(host, there, IpProtocol::UDP).emit(&mut packet)?;
//!
//! let mut room = [0; MAX_LEN];
//! let len = IcmpError::PacketTooBig { mtu: 1450 }.emit(&packet, gateway.into(), &mut room)?;
//! let error = Ipv4Packet::parse(&room[..len])?;
//! assert_eq!((error.dst(), len), (host, 576));
//! let message = Icmpv4Packet::parse(error.payload())?;
//! assert_eq!(message.header(), Icmpv4Header::FragmentationNeeded { mtu: 1450 });
//! assert_eq!(message.payload(), &packet[..548]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! What must not be answered is not: RFC 1122, section 3.2.2 and RFC 1812, section 4.3.2.7 for IPv4, RFC 4443, section
//! 2.4 for IPv6. Two of the rules need what is not in the packet, and are the caller's: no error about a packet that
//! came as a link-layer broadcast or multicast, or went to the broadcast address of a subnet; and a limit on the rate
//! (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::PseudoHeader;
use crate::error::Error;
use crate::field;
use crate::icmpv4::{self, Icmpv4Header, Icmpv4Unreachable};
use crate::icmpv6::{self, Icmpv6Header, Icmpv6Unreachable};
use crate::ip::{IpPacket, IpProtocol, MixedVersions};
use crate::ipv4::{self, Ipv4Header, Ipv4Packet};
use crate::ipv6::{self, Ipv6Header, Ipv6Packet};
use crate::ndp;

/// Bytes of the longest error about an IPv4 packet (RFC 1812, section 4.3.2.3).
pub const MAX_LEN_V4: usize = 576;
/// Bytes of the longest error about an IPv6 packet: the smallest MTU that IPv6 allows (RFC 4443, section 2.4 (c)).
pub const MAX_LEN_V6: usize = 1280;
/// Bytes of the longest error: how much room is always enough.
pub const MAX_LEN: usize = MAX_LEN_V6;

/// Precedence 6, internetwork control, for packets on which the network depends (RFC 1812, section 4.3.2.5).
const DSCP: u8 = 48;

/// What happened to a packet that is to be told to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IcmpError {
    /// Its time to live or hop limit ran out on the way (RFC 792; RFC 4443, section 3.3).
    TimeExceeded,
    /// There is no way to the network of its destination: IPv6 says no route (RFC 792; RFC 4443, section 3.1).
    NetworkUnreachable,
    /// The destination does not answer, though there is a way to its network: IPv6 says address unreachable.
    HostUnreachable,
    /// Nothing listens on the port.
    PortUnreachable,
    /// A filter does not let it pass (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1).
    Prohibited,
    /// It does not fit: IPv4 says fragmentation needed (RFC 1191, section 4; RFC 4443, section 3.2).
    ///
    /// For an IPv4 packet that may be fragmented, this is not the right answer.
    PacketTooBig {
        /// How long a packet may be: for a tunnel, its inner MTU. In IPv4, at most 65,535 is told.
        mtu: u32,
    },
}

impl IcmpError {
    /// Writes the error about the packet that `original` begins with into the front of `packet`, as a complete IP
    /// packet from `src`; returns how many bytes it has, at most [`MAX_LEN`].
    ///
    /// As much of the original is quoted as fits into [`MAX_LEN_V4`] or [`MAX_LEN_V6`] in all, so `original` should be
    /// as it was received, and may be cut. The time to live is 64. The DSCP is 48, class selector 6, as RFC 1812 has it
    /// for IPv4. An IPv4 error may not be fragmented, so that it needs no identification (RFC 6864).
    ///
    /// # Errors
    /// [`Withheld`] when no error may be sent about this packet, or none can be. Nothing is written then.
    pub fn emit(&self, original: &[u8], src: IpAddr, packet: &mut [u8]) -> Result<usize, Withheld> {
        match (IpPacket::parse_cut(original)?, src) {
            (IpPacket::V4(about), IpAddr::V4(src)) => self.emit_v4(original, &about, src, packet),
            (IpPacket::V6(about), IpAddr::V6(src)) => self.emit_v6(original, &about, src, packet),
            (about, src) => Err(MixedVersions { src, dst: about.src() }.into()),
        }
    }

    fn emit_v4(
        &self,
        original: &[u8],
        about: &Ipv4Packet<'_>,
        src: Ipv4Addr,
        packet: &mut [u8],
    ) -> Result<usize, Withheld> {
        may_answer_v4(about)?;
        let unreachable = |code| Icmpv4Header::DestinationUnreachable { code };
        let message = match *self {
            Self::TimeExceeded => Icmpv4Header::TimeExceeded { code: 0 },
            Self::NetworkUnreachable => unreachable(Icmpv4Unreachable::NETWORK),
            Self::HostUnreachable => unreachable(Icmpv4Unreachable::HOST),
            Self::PortUnreachable => unreachable(Icmpv4Unreachable::PORT),
            Self::Prohibited => unreachable(Icmpv4Unreachable::PROHIBITED),
            Self::PacketTooBig { mtu } => {
                Icmpv4Header::FragmentationNeeded { mtu: u16::try_from(mtu).unwrap_or(u16::MAX) }
            }
        };
        let original = field::at_most(original, about.total_length().into());
        let packet = quote::<{ ipv4::LEN + icmpv4::LEN }>(original, MAX_LEN_V4, packet)?;
        let (_, icmp) = field::split_mut::<{ ipv4::LEN }>("IPv4", packet)?;
        message.emit(icmp)?;
        let header = Ipv4Header::new(src, about.src(), IpProtocol::ICMP);
        Ipv4Header { dscp: DSCP, ..header }.emit(packet)?;
        Ok(packet.len())
    }

    fn emit_v6(
        &self,
        original: &[u8],
        about: &Ipv6Packet<'_>,
        src: Ipv6Addr,
        packet: &mut [u8],
    ) -> Result<usize, Withheld> {
        let is_too_big = matches!(self, Self::PacketTooBig { .. });
        may_answer_v6(about, is_too_big)?;
        let unreachable = |code| Icmpv6Header::DestinationUnreachable { code };
        let message = match *self {
            Self::TimeExceeded => Icmpv6Header::TimeExceeded { code: 0 },
            Self::NetworkUnreachable => unreachable(Icmpv6Unreachable::NO_ROUTE),
            Self::HostUnreachable => unreachable(Icmpv6Unreachable::ADDRESS),
            Self::PortUnreachable => unreachable(Icmpv6Unreachable::PORT),
            Self::Prohibited => unreachable(Icmpv6Unreachable::PROHIBITED),
            Self::PacketTooBig { mtu } => Icmpv6Header::PacketTooBig { mtu },
        };
        let len = ipv6::LEN + usize::from(about.payload_length());
        let original = field::at_most(original, len);
        let packet = quote::<{ ipv6::LEN + icmpv6::LEN }>(original, MAX_LEN_V6, packet)?;
        let dst = about.src();
        let (_, icmp) = field::split_mut::<{ ipv6::LEN }>("IPv6", packet)?;
        message.emit(icmp, &PseudoHeader::V6 { src, dst })?;
        let header = Ipv6Header::new(src, dst, IpProtocol::ICMPV6);
        Ipv6Header { dscp: DSCP, ..header }.emit(packet)?;
        Ok(packet.len())
    }
}

/// RFC 1122, section 3.2.2 and RFC 1812, section 4.3.2.7.
fn may_answer_v4(about: &Ipv4Packet<'_>) -> Result<(), Withheld> {
    let (src, dst) = (about.src(), about.dst());
    if dst.is_broadcast() || dst.is_multicast() {
        return Err(Withheld::Destination(dst.into()));
    }
    // The networks 0 and 127, the groups, and class E with the broadcast address.
    if matches!(src.octets()[0], 0 | 127 | 224..) {
        return Err(Withheld::Source(src.into()));
    }
    let upper = about.upper_layer()?;
    if !upper.has_header() {
        return Err(Withheld::LaterFragment);
    }
    // Of an ICMP message without a type nobody knows what it is.
    if upper.protocol == IpProtocol::ICMP
        && upper.payload.first().is_none_or(|kind| icmpv4::is_error(*kind))
    {
        return Err(Withheld::AboutError);
    }
    Ok(())
}

/// RFC 4443, section 2.4 (e).
fn may_answer_v6(about: &Ipv6Packet<'_>, is_too_big: bool) -> Result<(), Withheld> {
    let (src, dst) = (about.src(), about.dst());
    // Else the path MTU to a group could not be found.
    if dst.is_multicast() && !is_too_big {
        return Err(Withheld::Destination(dst.into()));
    }
    if src.is_unspecified() || src.is_multicast() {
        return Err(Withheld::Source(src.into()));
    }
    let upper = about.upper_layer()?;
    if upper.protocol != IpProtocol::ICMPV6 {
        return Ok(());
    }
    // Whether a later fragment of an ICMPv6 message belongs to an error is not known.
    if !upper.has_header() {
        return Err(Withheld::LaterFragment);
    }
    let is_error = |kind: &u8| icmpv6::is_error(*kind) || *kind == ndp::REDIRECT;
    if upper.payload.first().is_none_or(is_error) {
        return Err(Withheld::AboutError);
    }
    Ok(())
}

/// The front of `packet` as long as the error will be, with the quotation behind the first `HEADERS` bytes.
fn quote<'a, const HEADERS: usize>(
    original: &[u8],
    max_len: usize,
    packet: &'a mut [u8],
) -> Result<&'a mut [u8], Withheld> {
    let original = field::at_most(original, max_len - HEADERS);
    let (needed, found) = (HEADERS + original.len(), packet.len());
    let Some(packet) = packet.get_mut(..needed) else {
        return Err(Withheld::NoRoom { needed, found });
    };
    let (_, quotation) = field::split_mut::<HEADERS>("ICMP error", packet)?;
    quotation.copy_from_slice(original);
    Ok(packet)
}

/// Why no ICMP error is to be sent about a packet, or none can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Withheld {
    /// The packet is no IP packet that could be answered.
    #[error("the packet is malformed: {0}")]
    Malformed(#[from] Error),
    /// The packet is of another version than the address that the error should come from.
    #[error(transparent)]
    MixedVersions(#[from] MixedVersions),
    /// The packet is an ICMP error or a redirect itself, or an ICMP message cut in front of its type.
    #[error("the packet is an ICMP error or redirect itself")]
    AboutError,
    /// The packet is a fragment but not the first one. In IPv6, only those of ICMPv6 messages are not answered.
    #[error("the packet is not the first fragment")]
    LaterFragment,
    /// The packet went to many: to a group, or to the broadcast address.
    #[error("the packet went to {0}, which is not a single host")]
    Destination(IpAddr),
    /// The packet does not come from a single host that could be told.
    #[error("the packet came from {0}, which is not a single host")]
    Source(IpAddr),
    /// There is not enough room for the error.
    #[error("the error needs {needed} bytes, there are {found}")]
    NoRoom {
        /// Bytes of the error.
        needed: usize,
        /// Bytes that there are.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icmpv4::Icmpv4Packet;
    use crate::icmpv6::Icmpv6Packet;
    use std::vec::Vec;

    const US_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
    const US_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2);
    const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 2, 0, 0, 0, 2);
    const TOO_BIG: IcmpError = IcmpError::PacketTooBig { mtu: 1450 };
    const ALL: [IcmpError; 6] = [
        IcmpError::TimeExceeded,
        IcmpError::NetworkUnreachable,
        IcmpError::HostUnreachable,
        IcmpError::PortUnreachable,
        IcmpError::Prohibited,
        TOO_BIG,
    ];

    fn v4(header: Ipv4Header<'_>, payload: &[u8]) -> Vec<u8> {
        let mut packet = [&[0xff].repeat(header.header_len()), payload].concat();
        header.emit(&mut packet).unwrap();
        packet
    }

    fn v6(header: Ipv6Header, payload: &[u8]) -> Vec<u8> {
        let mut packet = [&[0xff; 40], payload].concat();
        header.emit(&mut packet).unwrap();
        packet
    }

    fn header_v4(protocol: IpProtocol) -> Ipv4Header<'static> {
        Ipv4Header::new(HOST_V4, PEER_V4, protocol)
    }

    fn header_v6(protocol: IpProtocol) -> Ipv6Header {
        Ipv6Header::new(HOST_V6, PEER_V6, protocol)
    }

    fn emitted(
        error: IcmpError,
        original: &[u8],
        src: impl Into<IpAddr>,
    ) -> Result<Vec<u8>, Withheld> {
        let mut room = [0xff].repeat(MAX_LEN);
        match error.emit(original, src.into(), &mut room) {
            Ok(len) => {
                assert!(room[len..].iter().all(|byte| *byte == 0xff));
                room.truncate(len);
                Ok(room)
            }
            Err(withheld) => {
                assert!(room.iter().all(|byte| *byte == 0xff));
                Err(withheld)
            }
        }
    }

    #[test]
    fn errors_quote_what_fits() {
        for len in [0, 1, 7, 8, 100, 519, 520, 521, 1191, 1192, 1193, 1460, 9000] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let original =
                v4(Ipv4Header { options: &[1; 8], ..header_v4(IpProtocol::UDP) }, &payload);
            // Padding of the frame is not part of the packet.
            let padded = [&original[..], &[0; 26]].concat();
            let error = emitted(TOO_BIG, &padded, US_V4).unwrap();
            let packet = Ipv4Packet::parse(&error).unwrap();
            assert!(packet.is_checksum_valid());
            let header = Ipv4Header::new(US_V4, HOST_V4, IpProtocol::ICMP);
            assert_eq!(packet.header(), Ipv4Header { dscp: 48, ..header });
            let message = Icmpv4Packet::parse(packet.payload()).unwrap();
            assert!(message.is_checksum_valid());
            assert_eq!(message.header(), Icmpv4Header::FragmentationNeeded { mtu: 1450 });
            assert_eq!(message.payload(), &original[..original.len().min(548)]);

            let original = v6(header_v6(IpProtocol::UDP), &payload);
            let padded = [&original[..], &[0; 26]].concat();
            let error = emitted(TOO_BIG, &padded, US_V6).unwrap();
            let packet = Ipv6Packet::parse(&error).unwrap();
            let header = Ipv6Header::new(US_V6, HOST_V6, IpProtocol::ICMPV6);
            assert_eq!(packet.header(), Ipv6Header { dscp: 48, ..header });
            let message = Icmpv6Packet::parse(packet.payload()).unwrap();
            assert!(message.is_checksum_valid(&PseudoHeader::V6 { src: US_V6, dst: HOST_V6 }));
            assert_eq!(message.header(), Icmpv6Header::PacketTooBig { mtu: 1450 });
            assert_eq!(message.payload(), &original[..original.len().min(1232)]);
        }
    }

    #[test]
    fn every_kind_has_its_type_and_code() {
        let (a, b) = (v4(header_v4(IpProtocol::UDP), b""), v6(header_v6(IpProtocol::UDP), b""));
        let v4 = ALL.map(|kind| {
            let error = emitted(kind, &a, US_V4).unwrap();
            (error[20], error[21])
        });
        assert_eq!(v4, [(11, 0), (3, 0), (3, 1), (3, 3), (3, 13), (3, 4)]);
        let v6 = ALL.map(|kind| {
            let error = emitted(kind, &b, US_V6).unwrap();
            (error[40], error[41])
        });
        assert_eq!(v6, [(3, 0), (1, 0), (1, 3), (1, 4), (1, 1), (2, 0)]);
        let huge = emitted(IcmpError::PacketTooBig { mtu: 1 << 20 }, &a, US_V4).unwrap();
        assert_eq!(huge[24..28], [0, 0, 0xff, 0xff]);
    }

    #[test]
    fn errors_are_not_answered_and_questions_are() {
        for kind in ALL {
            for icmp in 0..=255 {
                let error = emitted(kind, &v4(header_v4(IpProtocol::ICMP), &[icmp, 0]), US_V4);
                let silent = matches!(icmp, 3 | 4 | 5 | 11 | 12);
                assert_eq!(error.is_err(), silent, "{icmp}");
                assert!(!silent || error == Err(Withheld::AboutError));
                let error = emitted(kind, &v6(header_v6(IpProtocol::ICMPV6), &[icmp, 0]), US_V6);
                let silent = icmp < 128 || icmp == 137;
                assert_eq!(error.is_err(), silent, "{icmp}");
                assert!(!silent || error == Err(Withheld::AboutError));
            }
            // Cut in front of the type.
            let original = v4(header_v4(IpProtocol::ICMP), &[8]);
            assert_eq!(emitted(kind, &original[..20], US_V4), Err(Withheld::AboutError));
            let original = v6(header_v6(IpProtocol::ICMPV6), &[128]);
            assert_eq!(emitted(kind, &original[..40], US_V6), Err(Withheld::AboutError));
        }
    }

    #[test]
    fn an_error_behind_extension_headers_is_one() {
        let payload = [58, 0, 1, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let original = v6(header_v6(IpProtocol::DESTINATION_OPTIONS), &payload);
        assert_eq!(emitted(TOO_BIG, &original, US_V6), Err(Withheld::AboutError));
        let truncated = v6(header_v6(IpProtocol::DESTINATION_OPTIONS), &payload[..7]);
        let error = Error::truncated("IPv6 options", 8, 7);
        assert_eq!(emitted(TOO_BIG, &truncated, US_V6), Err(Withheld::Malformed(error)));
    }

    #[test]
    fn later_fragments_are_not_answered() {
        let fragment = |fragment_offset, more_fragments| {
            v4(Ipv4Header { fragment_offset, more_fragments, ..header_v4(IpProtocol::UDP) }, b"")
        };
        assert!(emitted(TOO_BIG, &fragment(0, true), US_V4).is_ok());
        for original in [fragment(1, true), fragment(8191, false)] {
            assert_eq!(emitted(TOO_BIG, &original, US_V4), Err(Withheld::LaterFragment));
        }
        let fragment = |next, offset: u8| {
            let payload = [next, 0, 0, offset << 3, 0, 0, 0, 1, 128];
            v6(header_v6(IpProtocol::FRAGMENT), &payload)
        };
        assert!(emitted(TOO_BIG, &fragment(58, 0), US_V6).is_ok());
        assert!(emitted(TOO_BIG, &fragment(17, 1), US_V6).is_ok());
        assert_eq!(emitted(TOO_BIG, &fragment(58, 1), US_V6), Err(Withheld::LaterFragment));
    }

    #[test]
    fn only_what_one_host_sent_to_one_host_is_answered() {
        for src in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"]
        {
            let src = src.parse().unwrap();
            let original = v4(Ipv4Header { src, ..header_v4(IpProtocol::UDP) }, b"");
            assert_eq!(emitted(TOO_BIG, &original, US_V4), Err(Withheld::Source(src.into())));
        }
        for dst in ["224.0.0.1", "239.255.255.255", "255.255.255.255"] {
            let dst = dst.parse().unwrap();
            let original = v4(Ipv4Header { dst, ..header_v4(IpProtocol::UDP) }, b"");
            assert_eq!(emitted(TOO_BIG, &original, US_V4), Err(Withheld::Destination(dst.into())));
        }
        for src in [Ipv6Addr::UNSPECIFIED, "ff02::1".parse().unwrap()] {
            let original = v6(Ipv6Header { src, ..header_v6(IpProtocol::UDP) }, b"");
            assert_eq!(emitted(TOO_BIG, &original, US_V6), Err(Withheld::Source(src.into())));
        }
        let dst = "ff0e::1".parse().unwrap();
        let original = v6(Ipv6Header { dst, ..header_v6(IpProtocol::UDP) }, b"");
        for kind in ALL {
            let expected = Err(Withheld::Destination(dst.into()));
            let error = emitted(kind, &original, US_V6);
            assert!(if kind == TOO_BIG { error.is_ok() } else { error == expected });
        }
    }

    #[test]
    fn what_cannot_be_done_says_why() {
        let original = v4(header_v4(IpProtocol::UDP), b"datagram");
        let mut room = [0xff; 56];
        for len in 0..56 {
            let error = TOO_BIG.emit(&original, US_V4.into(), &mut room[..len]);
            assert_eq!(error, Err(Withheld::NoRoom { needed: 56, found: len }));
        }
        assert_eq!(room, [0xff; 56]);
        assert_eq!(TOO_BIG.emit(&original, US_V4.into(), &mut room), Ok(56));
        let mixed = MixedVersions { src: US_V6.into(), dst: HOST_V4.into() };
        assert_eq!(emitted(TOO_BIG, &original, US_V6), Err(Withheld::MixedVersions(mixed)));
        let error = Error::truncated("IPv4", 20, 19);
        assert_eq!(emitted(TOO_BIG, &original[..19], US_V4), Err(Withheld::Malformed(error)));
    }
}
