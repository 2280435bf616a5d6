//! Neighbour discovery (RFC 4861): solicitations and advertisements, which are to IPv6 what ARP is to IPv4.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |type: 135, 136 |   code = 0    |           checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |R|S|O|                       reserved                          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                                                               +
//! |                   target address (16 bytes)                   |
//! +                                                               +
//! |                                                               |
//! +                                                               +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     type      |  length / 8   | option's data, such as the
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!                      link-layer address (type 1, 2) ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! The flags are those of an advertisement; a solicitation has none.

use core::net::Ipv6Addr;

use crate::checksum::{self, Checksum, PseudoHeader};
use crate::error::{Error, Expected};
use crate::field;
use crate::icmpv6::Icmpv6Packet;
use crate::ip::IpProtocol;
use crate::ipv6::{self, Ipv6Header, Ipv6Packet};
use crate::mac::MacAddr;

/// Bytes of a solicitation or an advertisement without options.
pub const LEN: usize = 24;
/// Bytes of an option with an Ethernet address.
pub const LINK_LAYER_LEN: usize = 8;
/// Bytes of an advertisement with the Ethernet address, its IPv6 header included: what [`reply`] makes.
pub const REPLY_LEN: usize = ipv6::LEN + LEN + LINK_LAYER_LEN;
/// The hop limit that all messages of neighbour discovery have, so that no router can have forwarded them.
pub const HOP_LIMIT: u8 = 255;

/// ICMPv6 type of a router solicitation (section 4.1).
pub const ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type of a router advertisement (section 4.2).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// ICMPv6 type of a neighbour solicitation (section 4.3).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement (section 4.4).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// ICMPv6 type of a redirect (section 4.5).
pub const REDIRECT: u8 = 137;

const NAME: &str = "NDP";
const TYPE: usize = 0;
const CHECKSUM: usize = 2;
const FLAGS: usize = 4;
const TARGET: usize = 8;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDES: u8 = 0x20;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// The group that a node with this address listens to for solicitations: `ff02::1:ff00:0/104` and the address' last 24
/// bits (RFC 4291, section 2.7.1).
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = address.to_bits() & 0x00ff_ffff;
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

/// A neighbour solicitation or advertisement in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourPacket<'a> {
    header: &'a [u8; LEN],
    options: &'a [u8],
    link_layer: Option<MacAddr>,
}

impl<'a> NeighbourPacket<'a> {
    /// The message that `bytes`, an ICMPv6 message, are. [`receive`](Self::receive) checks more.
    ///
    /// # Errors
    /// [`Error`] when it is neither a solicitation nor an advertisement, it is incomplete, or an option's length is
    /// wrong.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, options) = field::split::<LEN>(NAME, bytes)?;
        let kind = field::u8::<TYPE, LEN>(header);
        let is_advertisement = match kind {
            NEIGHBOUR_SOLICITATION => false,
            NEIGHBOUR_ADVERTISEMENT => true,
            _ => {
                let expected = Expected::OneOf(&[135, 136]);
                return Err(Error::field(NAME, "type", expected, kind.into()));
            }
        };
        let mut link_layer = None;
        for option in (NdpOptions { rest: options }) {
            match (option?, is_advertisement) {
                (NdpOption::SourceLinkLayer(mac), false)
                | (NdpOption::TargetLinkLayer(mac), true) => {
                    link_layer = link_layer.or(Some(mac));
                }
                _ => {}
            }
        }
        Ok(Self { header, options, link_layer })
    }

    /// The message in an IPv6 packet, if it passes all checks that a receiver must make: sections 7.1.1 and 7.1.2, and
    /// RFC 6980, section 5, which forbids fragments.
    ///
    /// # Errors
    /// [`Error`] as [`parse`](Self::parse), and when a router may have forwarded the packet, or it is a fragment; when
    /// it is not ICMPv6, or checksum or code are wrong; when the target is a group; when a solicitation without a
    /// source address has a source link-layer address or does not go to a solicited-node group; when an advertisement
    /// to a group is said to be solicited.
    pub fn receive(packet: &Ipv6Packet<'a>) -> Result<Self, Error> {
        let unless = |fine: bool, field, expected, found: u64| {
            if fine { Ok(()) } else { Err(Error::field(NAME, field, expected, found)) }
        };
        let exactly = |field, expected: u8, found: u8| {
            let fine = found == expected;
            unless(fine, field, Expected::Exactly(expected.into()), found.into())
        };
        exactly("hop limit", HOP_LIMIT, packet.hop_limit())?;
        let upper = packet.upper_layer()?;
        exactly("next header", IpProtocol::ICMPV6.0, upper.protocol.0)?;
        exactly("fragment header", 0, upper.fragment.is_some().into())?;
        let (src, dst) = (packet.src(), packet.dst());
        // A group sends nothing (RFC 4291, section 2.7), and must not be answered.
        let first = src.octets()[0];
        unless(first != 0xff, "source address", Expected::Not(0xff), first.into())?;
        let icmp = Icmpv6Packet::parse(upper.payload)?;
        // At most 65,535, as the packet's payload.
        let length = upper.payload.len() as u32;
        // Of a message with its checksum: 0 if that is right.
        let sum = Checksum::new()
            .pseudo_header(&PseudoHeader::V6 { src, dst }, IpProtocol::ICMPV6, length)
            .bytes(upper.payload)
            .finish();
        let right = checksum::update(sum, icmp.checksum(), 0);
        unless(sum == 0, "checksum", Expected::Checksum(right), icmp.checksum().into())?;
        exactly("code", 0, icmp.code())?;

        let message = Self::parse(upper.payload)?;
        let first = message.target().octets()[0];
        unless(first != 0xff, "target address", Expected::Not(0xff), first.into())?;
        if message.is_advertisement() {
            let solicited = message.flags() & SOLICITED != 0;
            exactly("S flag", 0, (dst.is_multicast() && solicited).into())?;
        } else if src.is_unspecified() {
            let addressed = dst == solicited_node(dst);
            unless(addressed, "source address", Expected::Not(0), 0)?;
            let told = message.link_layer.is_some();
            exactly("source link-layer address options", 0, told.into())?;
        }
        Ok(message)
    }

    #[inline]
    const fn is_advertisement(&self) -> bool {
        field::u8::<TYPE, LEN>(self.header) == NEIGHBOUR_ADVERTISEMENT
    }

    #[inline]
    const fn flags(&self) -> u8 {
        field::u8::<FLAGS, LEN>(self.header)
    }

    /// What is said about the target.
    #[must_use]
    #[inline]
    pub const fn message(&self) -> NeighbourMessage {
        if self.is_advertisement() {
            NeighbourMessage::Advertisement {
                router: self.flags() & ROUTER != 0,
                solicited: self.flags() & SOLICITED != 0,
                overrides: self.flags() & OVERRIDES != 0,
            }
        } else {
            NeighbourMessage::Solicitation
        }
    }

    /// The address that is looked for, or advertised.
    #[must_use]
    #[inline]
    pub const fn target(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(field::bytes::<TARGET, 16, LEN>(self.header)))
    }

    /// The Ethernet address in the first option that has the right one: the sender's in a solicitation, the target's in
    /// an advertisement.
    #[must_use]
    #[inline]
    pub const fn link_layer(&self) -> Option<MacAddr> {
        self.link_layer
    }

    /// The options, one after the other; as they have been checked, none of them is an error.
    #[must_use]
    #[inline]
    pub const fn options_iter(&self) -> NdpOptions<'a> {
        NdpOptions { rest: self.options }
    }

    /// The message as a plain value, without other options and reserved bits.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> NeighbourHeader {
        NeighbourHeader {
            message: self.message(),
            target: self.target(),
            link_layer: self.link_layer,
        }
    }
}

/// What a message says about its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighbourMessage {
    /// Who has this address?
    Solicitation,
    /// Somebody has this address.
    Advertisement {
        /// R: it is a router.
        router: bool,
        /// S: this answers a solicitation.
        solicited: bool,
        /// O: what is known of this address is to be replaced.
        overrides: bool,
    },
}

/// A neighbour solicitation or advertisement as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourHeader {
    /// What is said about the target.
    pub message: NeighbourMessage,
    /// The address that is looked for, or advertised.
    pub target: Ipv6Addr,
    /// An Ethernet address for an option: the sender's in a solicitation, the target's in an advertisement.
    pub link_layer: Option<MacAddr>,
}

impl NeighbourHeader {
    /// Bytes of the message with its option.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        match self.link_layer {
            Some(_) => LEN + LINK_LAYER_LEN,
            None => LEN,
        }
    }

    /// Writes the message into the first [`header_len`](Self::header_len) bytes of `packet`, of which the rest are
    /// other options already, with the ICMPv6 checksum.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the message, longer than an IPv6 packet can carry, or no multiple of 8,
    /// as options are. Nothing is written then.
    pub fn emit(&self, packet: &mut [u8], addresses: &PseudoHeader) -> Result<(), Error> {
        let len = packet.len();
        let Ok(length) = u16::try_from(len) else {
            let expected = Expected::AtMost(u16::MAX.into());
            return Err(Error::field(NAME, "length", expected, len as u64));
        };
        if len < self.header_len() {
            return Err(Error::truncated(NAME, self.header_len(), len));
        }
        if !len.is_multiple_of(8) {
            return Err(Error::field(NAME, "length", Expected::MultipleOf(8), len as u64));
        }
        let (header, options) = field::split_mut::<LEN>(NAME, packet)?;
        let (kind, flags, option) = match self.message {
            NeighbourMessage::Solicitation => (NEIGHBOUR_SOLICITATION, 0, SOURCE_LINK_LAYER),
            NeighbourMessage::Advertisement { router, solicited, overrides } => {
                let flag = |set, flag| if set { flag } else { 0 };
                let flags =
                    flag(router, ROUTER) | flag(solicited, SOLICITED) | flag(overrides, OVERRIDES);
                (NEIGHBOUR_ADVERTISEMENT, flags, TARGET_LINK_LAYER)
            }
        };
        field::put::<TYPE, 4, LEN>(header, [kind, 0, 0, 0]);
        field::put::<FLAGS, 4, LEN>(header, [flags, 0, 0, 0]);
        field::put::<TARGET, 16, LEN>(header, self.target.octets());
        if let Some(mac) = self.link_layer {
            let (room, _) = field::split_mut::<LINK_LAYER_LEN>(NAME, options)?;
            field::put::<0, 2, LINK_LAYER_LEN>(room, [option, 1]);
            field::put::<2, 6, LINK_LAYER_LEN>(room, mac.octets());
        }
        let sum = Checksum::new()
            .pseudo_header(addresses, IpProtocol::ICMPV6, length.into())
            .bytes(header)
            .bytes(options)
            .finish();
        field::put_u16::<CHECKSUM, LEN>(header, sum);
        Ok(())
    }
}

/// The answer to the solicitation in an IPv6 packet: a packet that says that the target is at `mac`, and whether it is
/// a router (section 7.2.4).
///
/// It comes from the target. It goes to the sender of the solicitation and is solicited; or, when that is a node that
/// wants to know whether the address is free and has none itself, to all nodes, [`MacAddr::multicast`] of the packet's
/// destination. It overrides what the receiver knows, so it is not for anycast addresses.
///
/// # Errors
/// [`Error`] when the packet is no solicitation that [`NeighbourPacket::receive`] accepts.
pub fn reply(
    solicitation: &Ipv6Packet<'_>,
    mac: MacAddr,
    router: bool,
) -> Result<[u8; REPLY_LEN], Error> {
    let question = NeighbourPacket::receive(solicitation)?;
    if question.is_advertisement() {
        let (expected, found) = (NEIGHBOUR_SOLICITATION.into(), NEIGHBOUR_ADVERTISEMENT.into());
        return Err(Error::field(NAME, "type", Expected::Exactly(expected), found));
    }
    let solicited = !solicitation.src().is_unspecified();
    let src = question.target();
    let dst = if solicited {
        solicitation.src()
    } else {
        // All nodes on the link: RFC 4291, section 2.7.1.
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
    };
    let answer = NeighbourHeader {
        message: NeighbourMessage::Advertisement { router, solicited, overrides: true },
        target: src,
        link_layer: Some(mac),
    };
    let mut packet = [0; REPLY_LEN];
    let header =
        Ipv6Header { hop_limit: HOP_LIMIT, ..Ipv6Header::new(src, dst, IpProtocol::ICMPV6) };
    header.emit(&mut packet)?;
    let (_, message) = field::split_mut::<{ ipv6::LEN }>(NAME, &mut packet)?;
    answer.emit(message, &PseudoHeader::V6 { src, dst })?;
    Ok(packet)
}

/// An option of a message of neighbour discovery (section 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NdpOption<'a> {
    /// The Ethernet address of the sender (section 4.6.1).
    SourceLinkLayer(MacAddr),
    /// The Ethernet address of the target (section 4.6.1).
    TargetLinkLayer(MacAddr),
    /// Any other.
    Other {
        /// The type, as assigned by IANA.
        kind: u8,
        /// The data, without type and length.
        data: &'a [u8],
    },
}

/// The options of a message of neighbour discovery. An error is the last item.
#[derive(Clone, Copy, Debug)]
pub struct NdpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> NdpOptions<'a> {
    #[inline]
    fn advance(&mut self) -> Result<Option<NdpOption<'a>>, Error> {
        let refused = |expected, found| Err(Error::field(NAME, "option length", expected, found));
        let (kind, length) = match *self.rest {
            [] => return Ok(None),
            [_] => return Err(Error::truncated("NDP option", 2, 1)),
            [kind, length, ..] => (kind, length),
        };
        if length == 0 {
            return refused(Expected::AtLeast(1), 0);
        }
        let len = usize::from(length) * 8;
        let Some((option, rest)) = self.rest.split_at_checked(len) else {
            return refused(Expected::AtMost(self.rest.len() as u64 / 8), length.into());
        };
        let (_, data) = field::split::<2>(NAME, option)?;
        self.rest = rest;
        let mac = || match *data {
            [a, b, c, d, e, f] => Ok(MacAddr([a, b, c, d, e, f])),
            _ => Err(Error::field(
                NAME,
                "link-layer address option length",
                Expected::Exactly(1),
                length.into(),
            )),
        };
        Ok(Some(match kind {
            SOURCE_LINK_LAYER => NdpOption::SourceLinkLayer(mac()?),
            TARGET_LINK_LAYER => NdpOption::TargetLinkLayer(mac()?),
            kind => NdpOption::Other { kind, data },
        }))
    }
}

impl<'a> Iterator for NdpOptions<'a> {
    type Item = Result<NdpOption<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance();
        if item.is_err() {
            self.rest = &[];
        }
        item.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const A: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x00aa, 0xbbcc);
    const B: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x1122, 0x3344);
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff22, 0x3344);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const SOLICITATION: NeighbourHeader = NeighbourHeader {
        message: NeighbourMessage::Solicitation,
        target: B,
        link_layer: Some(MAC),
    };
    const ADVERTISEMENT: NeighbourHeader = NeighbourHeader {
        message: NeighbourMessage::Advertisement { router: true, solicited: true, overrides: true },
        target: B,
        link_layer: Some(MAC),
    };

    fn packet(src: Ipv6Addr, dst: Ipv6Addr, header: NeighbourHeader) -> Vec<u8> {
        let mut bytes = [0xff].repeat(ipv6::LEN + header.header_len());
        let ip = Ipv6Header { hop_limit: 255, ..Ipv6Header::new(src, dst, IpProtocol::ICMPV6) };
        ip.emit(&mut bytes).unwrap();
        header.emit(&mut bytes[ipv6::LEN..], &PseudoHeader::V6 { src, dst }).unwrap();
        bytes
    }

    fn receive(bytes: &[u8]) -> Result<NeighbourHeader, Error> {
        NeighbourPacket::receive(&Ipv6Packet::parse(bytes).unwrap()).map(|packet| packet.header())
    }

    #[test]
    fn messages_read_and_write() {
        let bytes = packet(A, GROUP, SOLICITATION);
        let head = b"\x87\0";
        assert_eq!(&bytes[40..42], head);
        assert_eq!(bytes[44..48], [0; 4]);
        assert_eq!(bytes[48..64], B.octets());
        assert_eq!(&bytes[64..], b"\x01\x01\x02\0\0\0\0\x01");
        assert_eq!(receive(&bytes), Ok(SOLICITATION));
        let bytes = packet(B, A, ADVERTISEMENT);
        assert_eq!(&bytes[40..42], b"\x88\0");
        assert_eq!(bytes[44..48], [0xe0, 0, 0, 0]);
        assert_eq!(&bytes[64..], b"\x02\x01\x02\0\0\0\0\x01");
        assert_eq!(receive(&bytes), Ok(ADVERTISEMENT));
        for flags in 0..8 {
            let flag = |at: u32| flags >> at & 1 == 1;
            let message = NeighbourMessage::Advertisement {
                router: flag(0),
                solicited: flag(1),
                overrides: flag(2),
            };
            let header = NeighbourHeader { message, link_layer: None, target: A };
            assert_eq!(receive(&packet(A, B, header)), Ok(header));
        }
    }

    #[test]
    fn a_solicitation_is_answered() {
        let bytes = packet(A, GROUP, SOLICITATION);
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let answer = |bytes: &[u8]| reply(&Ipv6Packet::parse(bytes).unwrap(), mac, true);
        let expected = NeighbourHeader { link_layer: Some(mac), ..ADVERTISEMENT };
        assert_eq!(answer(&bytes).unwrap()[..], packet(B, A, expected));
        let error = Error::field("NDP", "type", Expected::Exactly(135), 136);
        assert_eq!(answer(&packet(B, A, ADVERTISEMENT)), Err(error));
        assert_eq!(answer(&bytes[..]).unwrap().len(), 72);
    }

    #[test]
    fn who_has_no_address_yet_is_answered_by_multicast() {
        let probe = NeighbourHeader { link_layer: None, ..SOLICITATION };
        let bytes = packet(Ipv6Addr::UNSPECIFIED, GROUP, probe);
        let answer = reply(&Ipv6Packet::parse(&bytes).unwrap(), MAC, false).unwrap();
        let message =
            NeighbourMessage::Advertisement { router: false, solicited: false, overrides: true };
        let all = "ff02::1".parse().unwrap();
        assert_eq!(answer[..], packet(B, all, NeighbourHeader { message, ..ADVERTISEMENT }));
    }

    #[test]
    fn what_a_receiver_must_refuse_is_refused() {
        let field = |bytes: &[u8]| receive(bytes).unwrap_err().field;
        let none = Ipv6Addr::UNSPECIFIED;
        let mut forwarded = packet(A, GROUP, SOLICITATION);
        forwarded[7] = 254;
        assert_eq!(field(&forwarded), "hop limit");
        let mut corrupt = packet(A, GROUP, SOLICITATION);
        corrupt[42] ^= 1;
        let was = packet(A, GROUP, SOLICITATION);
        let [right, wrong] =
            [&was, &corrupt].map(|bytes| u16::from_be_bytes([bytes[42], bytes[43]]));
        let error = Error::field("NDP", "checksum", Expected::Checksum(right), wrong.into());
        assert_eq!(receive(&corrupt), Err(error));
        let mut udp = packet(A, GROUP, SOLICITATION);
        udp[6] = 17;
        assert_eq!(field(&udp), "next header");
        let group = NeighbourHeader { target: GROUP, ..SOLICITATION };
        assert_eq!(field(&packet(A, GROUP, group)), "target address");
        assert_eq!(field(&packet(B, GROUP, ADVERTISEMENT)), "S flag");
        let told = "source link-layer address options";
        assert_eq!(field(&packet(none, GROUP, SOLICITATION)), told);
        let probe = NeighbourHeader { link_layer: None, ..SOLICITATION };
        assert_eq!(field(&packet(none, B, probe)), "source address");
        assert_eq!(field(&packet(GROUP, B, SOLICITATION)), "source address");
        assert_eq!(receive(&packet(none, GROUP, probe)), Ok(probe));

        let bytes = packet(A, GROUP, SOLICITATION);
        let fragment = [&[58, 0, 0, 0, 0, 0, 0, 1], &bytes[40..]].concat();
        let mut fragmented = [&bytes[..40], &fragment].concat();
        (fragmented[5], fragmented[6]) = (40, 44);
        assert_eq!(field(&fragmented), "fragment header");
        let mut coded = bytes.clone();
        coded[41] = 1;
        // The checksum again, as the code is part of its sum.
        let old = u16::from_be_bytes([coded[42], coded[43]]);
        let sum = checksum::update(old, 0x8700, 0x8701);
        coded[42..44].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(field(&coded), "code");
    }

    #[test]
    fn truncations_and_lies_about_options_are_errors() {
        let bytes = packet(A, GROUP, SOLICITATION);
        let message = &bytes[40..];
        for len in 0..message.len() {
            let error = match len {
                0..24 => Error::truncated("NDP", 24, len),
                24 => continue,
                25 => Error::truncated("NDP option", 2, 1),
                _ => Error::field("NDP", "option length", Expected::AtMost(0), 1),
            };
            assert_eq!(NeighbourPacket::parse(&message[..len]), Err(error), "{len}");
        }
        let with = |option: &[u8]| {
            let bytes = [&message[..24], option].concat();
            NeighbourPacket::parse(&bytes).map(|packet| packet.link_layer())
        };
        let refused = |field, expected, found| Err(Error::field("NDP", field, expected, found));
        assert_eq!(
            with(&[1, 0, 0, 0, 0, 0, 0, 0]),
            refused("option length", Expected::AtLeast(1), 0)
        );
        let field = "link-layer address option length";
        assert_eq!(with(&[1, 2].repeat(8)), refused(field, Expected::Exactly(1), 2));
        // A nonce (RFC 3971), the target's address where the source's should be, and two of the right ones.
        let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
        assert_eq!(with(&[nonce, [2, 1, 2, 0, 0, 0, 0, 5]].concat()), Ok(None));
        let (first, second) = ([1, 1, 2, 0, 0, 0, 0, 6], [1, 1, 2, 0, 0, 0, 0, 7]);
        let mac = MacAddr([2, 0, 0, 0, 0, 6]);
        assert_eq!(with(&[nonce, first, second].concat()), Ok(Some(mac)));
        let bytes = [&message[..24], &nonce, &first].concat();
        let options: Vec<_> = NeighbourPacket::parse(&bytes).unwrap().options_iter().collect();
        let other = NdpOption::Other { kind: 14, data: &[1, 2, 3, 4, 5, 6] };
        assert_eq!(options, [Ok(other), Ok(NdpOption::SourceLinkLayer(mac))]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_written() {
        let addresses = PseudoHeader::V6 { src: A, dst: B };
        let mut room = [0xff].repeat(65_536);
        for len in 0..32 {
            let error = SOLICITATION.emit(&mut room[..len], &addresses).unwrap_err();
            assert_eq!(error, Error::truncated("NDP", 32, len));
        }
        let error = SOLICITATION.emit(&mut room[..33], &addresses).unwrap_err();
        assert_eq!(error, Error::field("NDP", "length", Expected::MultipleOf(8), 33));
        let error = SOLICITATION.emit(&mut room, &addresses).unwrap_err();
        assert_eq!(error, Error::field("NDP", "length", Expected::AtMost(65_535), 65_536));
        assert!(room.iter().all(|byte| *byte == 0xff));
    }

    #[test]
    fn groups_of_the_rfc() {
        // RFC 4291, section 2.7.1.
        let address = "4037::1:800:200e:8c6c".parse().unwrap();
        assert_eq!(solicited_node(address), "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    }
}
