//! IPv6 (RFC 8200).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |version|   DSCP    |ECN|              flow label               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        payload length         |  next header  |   hop limit   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                                                               +
//! |                   source address (16 bytes)                   |
//! +                                                               +
//! |                                                               |
//! +                                                               +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                                                               +
//! |                destination address (16 bytes)                 |
//! +                                                               +
//! |                                                               |
//! +                                                               +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             extension headers and payload ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```

pub mod extension;

use core::net::Ipv6Addr;

use crate::error::{Error, Expected};
use crate::field;
use crate::ip::{Ecn, Fragment, IpProtocol, UpperLayer};

use extension::{Extension, Extensions};

/// Bytes of an IPv6 header without extension headers.
pub const LEN: usize = 40;

const NAME: &str = "IPv6";
const VERSION_CLASS_LABEL: usize = 0;
pub(crate) const PAYLOAD_LENGTH: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SRC: usize = 8;
const DST: usize = 24;

pub(crate) const FLOW_LABEL: u32 = 0x000f_ffff;

/// An IPv6 packet in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Packet<'a> {
    header: &'a [u8; LEN],
    payload: &'a [u8],
}

impl<'a> Ipv6Packet<'a> {
    /// The packet at the beginning of `bytes`; what is behind its end, such as an Ethernet frame's padding, is ignored.
    ///
    /// Extension headers are not looked at.
    ///
    /// # Errors
    /// [`Error`] when the version is not 6, the header is incomplete, or the payload is longer than what there is.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let packet = Self::parse_cut(bytes)?;
        if packet.payload.len() < usize::from(packet.payload_length()) {
            let expected = Expected::AtMost(packet.payload.len() as u64);
            let found = packet.payload_length().into();
            return Err(Error::field(NAME, "payload length", expected, found));
        }
        Ok(packet)
    }

    /// The packet of which `bytes` are the beginning: one that an ICMPv6 error quotes, or a capture has cut.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), except that the payload may be shorter than the header says.
    #[inline]
    pub fn parse_cut(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = field::split(NAME, bytes)?;
        let version = field::u8::<VERSION_CLASS_LABEL, LEN>(header) >> 4;
        if version != 6 {
            return Err(Error::field(NAME, "version", Expected::Exactly(6), version.into()));
        }
        let payload_len = field::u16::<PAYLOAD_LENGTH, LEN>(header).into();
        Ok(Self { header, payload: field::at_most(rest, payload_len) })
    }

    /// The traffic class: DSCP and ECN.
    #[must_use]
    #[inline]
    const fn traffic_class(&self) -> u8 {
        (field::u16::<VERSION_CLASS_LABEL, LEN>(self.header) >> 4) as u8
    }

    /// Differentiated services code point: 0 to 63.
    #[must_use]
    #[inline]
    pub const fn dscp(&self) -> u8 {
        self.traffic_class() >> 2
    }

    /// Explicit congestion notification.
    #[must_use]
    #[inline]
    pub const fn ecn(&self) -> Ecn {
        Ecn::of(self.traffic_class())
    }

    /// What the packets of a flow have in common: 20 bits (RFC 6437).
    #[must_use]
    #[inline]
    pub const fn flow_label(&self) -> u32 {
        field::u32::<VERSION_CLASS_LABEL, LEN>(self.header) & FLOW_LABEL
    }

    /// Bytes behind this header, as it says.
    #[must_use]
    #[inline]
    pub const fn payload_length(&self) -> u16 {
        field::u16::<PAYLOAD_LENGTH, LEN>(self.header)
    }

    /// What follows this header: an extension header, or the payload.
    #[must_use]
    #[inline]
    pub const fn next_header(&self) -> IpProtocol {
        IpProtocol(field::u8::<NEXT_HEADER, LEN>(self.header))
    }

    /// How many more routers may forward the packet.
    #[must_use]
    #[inline]
    pub const fn hop_limit(&self) -> u8 {
        field::u8::<HOP_LIMIT, LEN>(self.header)
    }

    /// The address of the sender.
    #[must_use]
    #[inline]
    pub const fn src(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(field::bytes::<SRC, 16, LEN>(self.header)))
    }

    /// The address of the receiver.
    #[must_use]
    #[inline]
    pub const fn dst(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(field::bytes::<DST, 16, LEN>(self.header)))
    }

    /// The bytes behind this header, extension headers included, as many as the payload length says.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The extension headers, one after the other.
    #[must_use]
    #[inline]
    pub const fn extensions(&self) -> Extensions<'a> {
        Extensions::new(self.next_header(), self.payload)
    }

    /// What the packet carries behind all extension headers (RFC 8200, section 4).
    ///
    /// # Errors
    /// [`Error`] when an extension header is incomplete or at the wrong place, or there are too many.
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer<'a>, Error> {
        let mut extensions = self.extensions();
        let mut fragment = None;
        for extension in extensions.by_ref() {
            if let Extension::Fragment(header) = extension? {
                let inner = Fragment {
                    offset: header.fragment_offset(),
                    more: header.more_fragments(),
                    identification: header.identification(),
                };
                // The first fragment of a packet stays one, whatever fragment headers are in it.
                let is_part = |outer: &Fragment| outer.more && inner.offset == 0;
                fragment = fragment.filter(is_part).or(Some(inner));
            }
        }
        let payload = extensions.payload();
        Ok(UpperLayer {
            protocol: extensions.next_header(),
            payload,
            header_len: LEN + self.payload.len() - payload.len(),
            fragment,
        })
    }

    /// The header as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> Ipv6Header {
        Ipv6Header {
            src: self.src(),
            dst: self.dst(),
            next_header: self.next_header(),
            hop_limit: self.hop_limit(),
            dscp: self.dscp(),
            ecn: self.ecn(),
            flow_label: self.flow_label(),
        }
    }
}

/// The header of an IPv6 packet as a plain value. The payload length follows from the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv6Header {
    /// The address of the sender.
    pub src: Ipv6Addr,
    /// The address of the receiver.
    pub dst: Ipv6Addr,
    /// What follows this header.
    pub next_header: IpProtocol,
    /// How many more routers may forward the packet.
    pub hop_limit: u8,
    /// Differentiated services code point: 0 to 63.
    pub dscp: u8,
    /// Explicit congestion notification.
    pub ecn: Ecn,
    /// What the packets of a flow have in common: 20 bits (RFC 6437).
    pub flow_label: u32,
}

impl Ipv6Header {
    /// The header of a packet with a hop limit of 64 and nothing else special.
    #[must_use]
    pub const fn new(src: Ipv6Addr, dst: Ipv6Addr, next_header: IpProtocol) -> Self {
        Self { src, dst, next_header, hop_limit: 64, dscp: 0, ecn: Ecn::NotEct, flow_label: 0 }
    }

    /// Bytes of the header: [`LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN
    }

    /// Writes the header into the first [`LEN`] bytes of `packet`, of which the rest is the payload, with the payload
    /// length that follows.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the header or longer than an IPv6 packet can be, or a field does not
    /// fit. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        let at_most = |field, limit: u64, found: u64| {
            Error::field(NAME, field, Expected::AtMost(limit), found)
        };
        let (header, payload) = field::split_mut::<LEN>(NAME, packet)?;
        let payload_length = u16::try_from(payload.len())
            .map_err(|_| at_most("payload length", u16::MAX.into(), payload.len() as u64))?;
        if self.dscp > 63 {
            return Err(at_most("DSCP", 63, self.dscp.into()));
        }
        if self.flow_label > FLOW_LABEL {
            return Err(at_most("flow label", FLOW_LABEL.into(), self.flow_label.into()));
        }
        let traffic_class = u32::from(self.dscp << 2 | self.ecn as u8);
        let first = 6 << 28 | traffic_class << 20 | self.flow_label;
        field::put_u32::<VERSION_CLASS_LABEL, LEN>(header, first);
        field::put_u16::<PAYLOAD_LENGTH, LEN>(header, payload_length);
        field::put::<NEXT_HEADER, 1, LEN>(header, [self.next_header.0]);
        field::put::<HOP_LIMIT, 1, LEN>(header, [self.hop_limit]);
        field::put::<SRC, 16, LEN>(header, self.src.octets());
        field::put::<DST, 16, LEN>(header, self.dst.octets());
        Ok(())
    }
}

/// Takes one off the hop limit of the packet that begins with `header`, as a router does. Returns what is left.
///
/// # Errors
/// [`Error`] when there is no complete IPv6 header, or the hop limit is 0 already. Nothing is changed then.
#[inline]
pub fn decrement_hop_limit(header: &mut [u8]) -> Result<u8, Error> {
    let (header, _) = field::split_mut::<LEN>(NAME, header)?;
    let Some(left) = field::u8::<HOP_LIMIT, LEN>(header).checked_sub(1) else {
        return Err(Error::field(NAME, "hop limit", Expected::AtLeast(1), 0));
    };
    field::put::<HOP_LIMIT, 1, LEN>(header, [left]);
    Ok(left)
}

/// Changes the congestion notification of the packet that begins with `header`.
///
/// # Errors
/// [`Error`] when there is no complete IPv6 header.
#[inline]
pub fn set_ecn(header: &mut [u8], ecn: Ecn) -> Result<(), Error> {
    let (header, _) = field::split_mut::<LEN>(NAME, header)?;
    let old = field::u16::<VERSION_CLASS_LABEL, LEN>(header);
    field::put_u16::<VERSION_CLASS_LABEL, LEN>(header, old & !0x30 | (ecn as u16) << 4);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn header() -> Ipv6Header {
        let src = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
        let dst = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
        Ipv6Header {
            dscp: 46,
            ecn: Ecn::Ect1,
            flow_label: 0x12345,
            ..Ipv6Header::new(src, dst, IpProtocol::ICMPV6)
        }
    }

    fn packet() -> Vec<u8> {
        let src = b"\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01";
        let dst = b"\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02";
        [b"\x6b\x91\x23\x45\0\x04\x3a\x40", &src[..], &dst[..], b"ping"].concat()
    }

    #[test]
    fn a_packet_reads_and_writes() {
        let bytes = packet();
        let packet = Ipv6Packet::parse(&bytes).unwrap();
        assert_eq!((packet.header(), packet.payload()), (header(), &b"ping"[..]));
        let mut emitted = [&[0xff; LEN], &b"ping"[..]].concat();
        header().emit(&mut emitted).unwrap();
        assert_eq!(emitted, bytes);
        let padded = [&bytes[..], &[0; 6]].concat();
        assert_eq!(Ipv6Packet::parse(&padded).unwrap().payload(), b"ping");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = packet();
        for len in 0..bytes.len() {
            let expected = match len {
                0..LEN => Error::truncated("IPv6", 40, len),
                _ => Error::field("IPv6", "payload length", Expected::AtMost(len as u64 - 40), 4),
            };
            assert_eq!(Ipv6Packet::parse(&bytes[..len]), Err(expected));
        }
        assert_eq!(Ipv6Packet::parse_cut(&bytes[..42]).unwrap().payload(), b"pi");
        let error = Ipv6Packet::parse(&[0x45; 60]).unwrap_err();
        assert_eq!(error, Error::field("IPv6", "version", Expected::Exactly(6), 4));
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        let refused =
            |header: Ipv6Header, len| header.emit(&mut [0].repeat(len)).unwrap_err().field;
        assert_eq!(refused(Ipv6Header { dscp: 64, ..header() }, 40), "DSCP");
        assert_eq!(refused(Ipv6Header { flow_label: 1 << 20, ..header() }, 40), "flow label");
        assert_eq!(refused(header(), 40 + 65_536), "payload length");
        assert_eq!(refused(header(), 39), "header");
    }

    #[test]
    fn changes_in_place_change_nothing_else() {
        let mut bytes = packet();
        assert_eq!(decrement_hop_limit(&mut bytes), Ok(63));
        set_ecn(&mut bytes, Ecn::Ce).unwrap();
        let changed = Ipv6Packet::parse(&bytes).unwrap().header();
        assert_eq!(changed, Ipv6Header { hop_limit: 63, ecn: Ecn::Ce, ..header() });
        bytes[HOP_LIMIT] = 0;
        assert!(decrement_hop_limit(&mut bytes).is_err());
    }
}
