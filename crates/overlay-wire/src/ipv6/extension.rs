//! IPv6 extension headers (RFC 8200, section 4; RFC 4302 for the authentication header).
//!
//! ```text
//!  Hop-by-hop and destination options (sections 4.3 and 4.6)
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  next header  |length / 8 - 1 | options: type, length, data ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!
//!  Routing (section 4.4)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  next header  |length / 8 - 1 | routing type  | segments left |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                data, as the routing type says ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//!
//!  Fragment (section 4.5)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  next header  |   reserved    |     fragment offset     |Res|M|
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        identification                         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!
//!  Authentication (RFC 4302, section 2)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  next header  |length / 4 - 2 |           reserved            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                security parameters index (SPI)                |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        sequence number                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                integrity check value (ICV) ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! An encapsulating security payload (RFC 4303) ends the chain, because what is behind it is encrypted; no next header
//! (section 4.7) ends it too.

use crate::error::{Error, Expected};
use crate::field;
use crate::ip::IpProtocol;

/// How many extension headers a packet may have here. RFC 8504, section 5.3 lets a host set such a limit.
pub const MAX_EXTENSIONS: usize = 16;
/// Bytes of a fragment header.
pub const FRAGMENT_LEN: usize = 8;
/// Bytes of options that fit into an options header, padding included.
pub const MAX_OPTIONS: usize = 256 * 8 - OPTIONS;

const NEXT_HEADER: usize = 0;
const LENGTH: usize = 1;
/// Where the options of an options header begin.
const OPTIONS: usize = 2;

/// An extension header, and all that is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extension<'a> {
    /// Options for every router on the way; only the first extension header can be this one.
    HopByHop(OptionsPacket<'a>),
    /// Nodes to visit.
    Routing(RoutingPacket<'a>),
    /// Says that this is a fragment of a packet.
    Fragment(FragmentPacket<'a>),
    /// Proves who sent the packet.
    Authentication(AuthenticationPacket<'a>),
    /// Options for the destination.
    DestinationOptions(OptionsPacket<'a>),
}

impl<'a> Extension<'a> {
    /// The extension header at the beginning of `bytes`, which the header in front calls `protocol`; `None` if that is
    /// no extension header behind which the chain can go on.
    ///
    /// # Errors
    /// [`Error`] when the extension header is incomplete, or its length is less than it must have.
    #[inline]
    pub fn parse(protocol: IpProtocol, bytes: &'a [u8]) -> Result<Option<Self>, Error> {
        Ok(Some(match protocol {
            IpProtocol::HOP_BY_HOP => Self::HopByHop(OptionsPacket::parse(bytes)?),
            IpProtocol::ROUTING => Self::Routing(RoutingPacket::parse(bytes)?),
            IpProtocol::FRAGMENT => Self::Fragment(FragmentPacket::parse(bytes)?),
            IpProtocol::AUTHENTICATION => Self::Authentication(AuthenticationPacket::parse(bytes)?),
            IpProtocol::DESTINATION_OPTIONS => {
                Self::DestinationOptions(OptionsPacket::parse(bytes)?)
            }
            _ => return Ok(None),
        }))
    }

    /// What follows.
    #[must_use]
    #[inline]
    pub const fn next_header(&self) -> IpProtocol {
        match self {
            Self::HopByHop(packet) | Self::DestinationOptions(packet) => packet.next_header(),
            Self::Routing(packet) => packet.next_header(),
            Self::Fragment(packet) => packet.next_header(),
            Self::Authentication(packet) => packet.next_header(),
        }
    }

    /// Everything behind this extension header.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        match self {
            Self::HopByHop(packet) | Self::DestinationOptions(packet) => packet.payload(),
            Self::Routing(packet) => packet.payload(),
            Self::Fragment(packet) => packet.payload(),
            Self::Authentication(packet) => packet.payload(),
        }
    }
}

/// The extension headers of a packet, one after the other, at most [`MAX_EXTENSIONS`]. An error is the last item.
///
/// Behind the header of a fragment that is not the first one there is a part of the payload, so that the chain ends.
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    next: IpProtocol,
    payload: &'a [u8],
    seen: usize,
    ended: bool,
}

impl<'a> Extensions<'a> {
    /// The chain that begins with `next` at the beginning of `payload`.
    #[inline]
    pub(super) const fn new(next: IpProtocol, payload: &'a [u8]) -> Self {
        Self { next, payload, seen: 0, ended: false }
    }

    /// What follows the extension headers that have been seen: after the last of them, the upper layer.
    #[must_use]
    #[inline]
    pub const fn next_header(&self) -> IpProtocol {
        self.next
    }

    /// The bytes behind the extension headers that have been seen.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    #[inline]
    fn advance(&mut self) -> Result<Option<Extension<'a>>, Error> {
        let Some(extension) = Extension::parse(self.next, self.payload)? else {
            return Ok(None);
        };
        if self.seen > 0 && matches!(extension, Extension::HopByHop(_)) {
            let (expected, found) = (Expected::Exactly(0), self.seen as u64);
            return Err(Error::field("IPv6 hop-by-hop options", "position", expected, found));
        }
        if self.seen == MAX_EXTENSIONS {
            let expected = Expected::AtMost(MAX_EXTENSIONS as u64);
            let found = MAX_EXTENSIONS as u64 + 1;
            return Err(Error::field("IPv6", "extension headers", expected, found));
        }
        self.seen += 1;
        self.next = extension.next_header();
        self.payload = extension.payload();
        if let Extension::Fragment(fragment) = extension {
            self.ended = fragment.fragment_offset() != 0;
        }
        Ok(Some(extension))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.advance();
        self.ended |= !matches!(item, Ok(Some(_)));
        item.transpose()
    }
}

/// An extension header of which the second byte says how long it is, and what is behind it.
#[inline]
fn split<'a>(
    name: &'static str,
    bytes: &'a [u8],
    len: impl Fn(usize) -> usize,
) -> Result<(&'a [u8], &'a [u8]), Error> {
    let (first, _) = field::split::<2>(name, bytes)?;
    let len = len(field::u8::<LENGTH, 2>(first).into());
    bytes.split_at_checked(len).ok_or_else(|| Error::truncated(name, len, bytes.len()))
}

/// Bytes of the extension headers whose length field counts units of 8 bytes without the first one.
const fn in_words(length: usize) -> usize {
    (length + 1) * 8
}

/// Hop-by-hop or destination options, in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionsPacket<'a> {
    first: &'a [u8; OPTIONS],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> OptionsPacket<'a> {
    const NAME: &'static str = "IPv6 options";

    /// The options header at the beginning of `bytes`, and all that is behind it. Single options are not looked at.
    ///
    /// # Errors
    /// [`Error`] when the header is incomplete.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = split(Self::NAME, bytes, in_words)?;
        let (first, options) = field::split(Self::NAME, header)?;
        Ok(Self { first, options, payload })
    }

    /// What follows.
    #[must_use]
    #[inline]
    pub const fn next_header(&self) -> IpProtocol {
        IpProtocol(field::u8::<NEXT_HEADER, OPTIONS>(self.first))
    }

    /// The options, padding included: 6 to [`MAX_OPTIONS`] bytes.
    #[must_use]
    #[inline]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The options, one after the other, without padding.
    #[must_use]
    #[inline]
    pub const fn iter(&self) -> OptionsIter<'a> {
        OptionsIter { rest: self.options }
    }

    /// Bytes of the header.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        OPTIONS + self.options.len()
    }

    /// Everything behind the header.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> OptionsHeader<'a> {
        OptionsHeader { next_header: self.next_header(), options: self.options }
    }
}

impl<'a> IntoIterator for OptionsPacket<'a> {
    type Item = Result<Ipv6Option<'a>, Error>;
    type IntoIter = OptionsIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Hop-by-hop or destination options as a plain value. The length follows from the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OptionsHeader<'a> {
    /// What follows.
    pub next_header: IpProtocol,
    /// Options, with the padding between them that their alignment needs, at most [`MAX_OPTIONS`] bytes. What is
    /// missing at the end for the header to be a multiple of 8 bytes is added when it is written.
    pub options: &'a [u8],
}

impl OptionsHeader<'_> {
    /// Bytes of the header, padding included.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        (OPTIONS + self.options.len()).next_multiple_of(8)
    }

    /// Writes the header into the first [`header_len`](Self::header_len) bytes of `packet`; the rest is what follows,
    /// and stays.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the header, or there are too many options. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        const NAME: &str = OptionsPacket::NAME;
        if self.options.len() > MAX_OPTIONS {
            let expected = Expected::AtMost(MAX_OPTIONS as u64);
            let found = self.options.len() as u64;
            return Err(Error::field(NAME, "options length", expected, found));
        }
        let (header_len, len) = (self.header_len(), packet.len());
        let Some(header) = packet.get_mut(..header_len) else {
            return Err(Error::truncated(NAME, header_len, len));
        };
        let (first, rest) = field::split_mut::<OPTIONS>(NAME, header)?;
        let Some((options, padding)) = rest.split_at_mut_checked(self.options.len()) else {
            return Err(Error::truncated(NAME, header_len, len));
        };
        // At most 255: the options have been checked.
        *first = [self.next_header.0, (header_len / 8 - 1) as u8];
        options.copy_from_slice(self.options);
        padding.fill(0);
        // A single byte of padding is Pad1, which is all zero.
        if let [kind, pad_len, pad @ ..] = padding {
            (*kind, *pad_len) = (PAD_N, pad.len() as u8);
        }
        Ok(())
    }
}

const PAD_1: u8 = 0;
const PAD_N: u8 = 1;
const TUNNEL_ENCAPSULATION_LIMIT: u8 = 4;

/// An option in hop-by-hop or destination options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ipv6Option<'a> {
    /// How many more tunnels the packet may enter (RFC 2473, section 4.1.1).
    TunnelEncapsulationLimit(u8),
    /// Any other.
    Other {
        /// The type. Its two high bits say what a node that does not know it does with the packet: 00 go on, 01 drop
        /// it, 10 and 11 drop it and say so (RFC 8200, section 4.2).
        kind: u8,
        /// The data, without type and length.
        data: &'a [u8],
    },
}

impl Ipv6Option<'_> {
    /// The bytes of the option that limits how many more tunnels the packet may enter (RFC 2473, section 4.1.1).
    ///
    /// Linux puts one into every packet that enters an IPv6 tunnel, with a limit of 4, unless told otherwise:
    ///
    /// ```
    /// use overlay_wire::ip::IpProtocol;
    /// use overlay_wire::ipv6::extension::{Ipv6Option, OptionsHeader};
    ///
    /// let options = &Ipv6Option::tunnel_encapsulation_limit(4);
    /// let mut header = [0; 8];
    /// OptionsHeader { next_header: IpProtocol::IPV6, options }.emit(&mut header)?;
    /// assert_eq!(header, [41, 0, 4, 1, 4, 1, 1, 0]);
    /// # Ok::<(), overlay_wire::Error>(())
    /// ```
    #[must_use]
    #[inline]
    pub const fn tunnel_encapsulation_limit(limit: u8) -> [u8; 3] {
        [TUNNEL_ENCAPSULATION_LIMIT, 1, limit]
    }
}

/// The options in hop-by-hop or destination options, without padding. An error is the last item.
#[derive(Clone, Copy, Debug)]
pub struct OptionsIter<'a> {
    rest: &'a [u8],
}

impl<'a> OptionsIter<'a> {
    #[inline]
    fn advance(&mut self) -> Result<Option<Ipv6Option<'a>>, Error> {
        const NAME: &str = OptionsPacket::NAME;
        loop {
            let (kind, len, rest) = match *self.rest {
                [] => return Ok(None),
                [PAD_1, ref rest @ ..] => {
                    self.rest = rest;
                    continue;
                }
                [_] => return Err(Error::truncated("IPv6 option", 2, 1)),
                [kind, len, ref rest @ ..] => (kind, len, rest),
            };
            let Some((data, rest)) = rest.split_at_checked(len.into()) else {
                let expected = Expected::AtMost(rest.len() as u64);
                return Err(Error::field(NAME, "option length", expected, len.into()));
            };
            self.rest = rest;
            return Ok(Some(match (kind, data) {
                (PAD_N, _) => continue,
                (TUNNEL_ENCAPSULATION_LIMIT, &[limit]) => {
                    Ipv6Option::TunnelEncapsulationLimit(limit)
                }
                (TUNNEL_ENCAPSULATION_LIMIT, _) => {
                    let field = "tunnel encapsulation limit length";
                    return Err(Error::field(NAME, field, Expected::Exactly(1), len.into()));
                }
                _ => Ipv6Option::Other { kind, data },
            }));
        }
    }
}

impl<'a> Iterator for OptionsIter<'a> {
    type Item = Result<Ipv6Option<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance();
        if item.is_err() {
            self.rest = &[];
        }
        item.transpose()
    }
}

/// Bytes of a routing header in front of its data.
const ROUTING_LEN: usize = 4;
const ROUTING_TYPE: usize = 2;
const SEGMENTS_LEFT: usize = 3;

/// A routing header in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutingPacket<'a> {
    first: &'a [u8; ROUTING_LEN],
    data: &'a [u8],
    payload: &'a [u8],
}

impl<'a> RoutingPacket<'a> {
    const NAME: &'static str = "IPv6 routing";

    /// The routing header at the beginning of `bytes`, and all that is behind it.
    ///
    /// # Errors
    /// [`Error`] when the header is incomplete.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = split(Self::NAME, bytes, in_words)?;
        let (first, data) = field::split(Self::NAME, header)?;
        Ok(Self { first, data, payload })
    }

    /// What follows.
    #[must_use]
    #[inline]
    pub const fn next_header(&self) -> IpProtocol {
        IpProtocol(field::u8::<NEXT_HEADER, ROUTING_LEN>(self.first))
    }

    /// What the data is: 4 for segment routing (RFC 8754); 0 must not be used any more (RFC 5095).
    #[must_use]
    #[inline]
    pub const fn routing_type(&self) -> u8 {
        field::u8::<ROUTING_TYPE, ROUTING_LEN>(self.first)
    }

    /// How many of the nodes are still to be visited.
    #[must_use]
    #[inline]
    pub const fn segments_left(&self) -> u8 {
        field::u8::<SEGMENTS_LEFT, ROUTING_LEN>(self.first)
    }

    /// What is behind the segments left in the header.
    #[must_use]
    #[inline]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Everything behind the header.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

const FRAGMENT: usize = 2;
const IDENTIFICATION: usize = 4;
const MORE_FRAGMENTS: u16 = 1;
const OFFSET_SHIFT: u16 = 3;
const MAX_OFFSET: u16 = 0x1fff;

/// A fragment header in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentPacket<'a> {
    header: &'a [u8; FRAGMENT_LEN],
    payload: &'a [u8],
}

impl<'a> FragmentPacket<'a> {
    const NAME: &'static str = "IPv6 fragment";

    /// The fragment header at the beginning of `bytes`, and all that is behind it.
    ///
    /// # Errors
    /// [`Error`] when the header is incomplete.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = field::split(Self::NAME, bytes)?;
        Ok(Self { header, payload })
    }

    /// What follows, in the first fragment; in all of them, how the part of the packet begins that is fragmented.
    #[must_use]
    #[inline]
    pub const fn next_header(&self) -> IpProtocol {
        IpProtocol(field::u8::<NEXT_HEADER, FRAGMENT_LEN>(self.header))
    }

    /// Where in the part of the packet that is fragmented this fragment begins, in units of 8 bytes.
    #[must_use]
    #[inline]
    pub const fn fragment_offset(&self) -> u16 {
        field::u16::<FRAGMENT, FRAGMENT_LEN>(self.header) >> OFFSET_SHIFT
    }

    /// Whether this is not the last fragment.
    #[must_use]
    #[inline]
    pub const fn more_fragments(&self) -> bool {
        field::u16::<FRAGMENT, FRAGMENT_LEN>(self.header) & MORE_FRAGMENTS != 0
    }

    /// What the fragments of a packet have in common.
    #[must_use]
    #[inline]
    pub const fn identification(&self) -> u32 {
        field::u32::<IDENTIFICATION, FRAGMENT_LEN>(self.header)
    }

    /// Everything behind the header.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> FragmentHeader {
        FragmentHeader {
            next_header: self.next_header(),
            fragment_offset: self.fragment_offset(),
            more_fragments: self.more_fragments(),
            identification: self.identification(),
        }
    }
}

/// A fragment header as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentHeader {
    /// How the part of the packet begins that is fragmented.
    pub next_header: IpProtocol,
    /// Where in that part this fragment begins, in units of 8 bytes: 0 to 8191.
    pub fragment_offset: u16,
    /// Whether this is not the last fragment.
    pub more_fragments: bool,
    /// What the fragments of a packet have in common.
    pub identification: u32,
}

impl FragmentHeader {
    /// Bytes of the header: [`FRAGMENT_LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        FRAGMENT_LEN
    }

    /// Writes the header into the first [`FRAGMENT_LEN`] bytes of `packet`; the rest is the fragment, and stays.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the header, or the offset does not fit. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        const NAME: &str = FragmentPacket::NAME;
        if self.fragment_offset > MAX_OFFSET {
            let expected = Expected::AtMost(MAX_OFFSET.into());
            let found = self.fragment_offset.into();
            return Err(Error::field(NAME, "fragment offset", expected, found));
        }
        let (header, _) = field::split_mut::<FRAGMENT_LEN>(NAME, packet)?;
        let more = if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        let fragment = self.fragment_offset << OFFSET_SHIFT | more;
        field::put::<NEXT_HEADER, 2, FRAGMENT_LEN>(header, [self.next_header.0, 0]);
        field::put_u16::<FRAGMENT, FRAGMENT_LEN>(header, fragment);
        field::put_u32::<IDENTIFICATION, FRAGMENT_LEN>(header, self.identification);
        Ok(())
    }
}

/// Bytes of an authentication header in front of its integrity check value.
const AUTHENTICATION_LEN: usize = 12;
const SPI: usize = 4;
const SEQUENCE: usize = 8;

/// An authentication header in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticationPacket<'a> {
    first: &'a [u8; AUTHENTICATION_LEN],
    icv: &'a [u8],
    payload: &'a [u8],
}

impl<'a> AuthenticationPacket<'a> {
    const NAME: &'static str = "authentication header";

    /// The authentication header at the beginning of `bytes`, and all that is behind it. Nothing is authenticated.
    ///
    /// # Errors
    /// [`Error`] when the header is incomplete, or its length is less than that of its fixed part.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = split(Self::NAME, bytes, |length| (length + 2) * 4)?;
        let Some((first, icv)) = header.split_first_chunk() else {
            let found = (header.len() / 4).saturating_sub(2) as u64;
            return Err(Error::field(Self::NAME, "length", Expected::AtLeast(1), found));
        };
        Ok(Self { first, icv, payload })
    }

    /// What follows.
    #[must_use]
    #[inline]
    pub const fn next_header(&self) -> IpProtocol {
        IpProtocol(field::u8::<NEXT_HEADER, AUTHENTICATION_LEN>(self.first))
    }

    /// Security parameters index: which security association the packet belongs to.
    #[must_use]
    #[inline]
    pub const fn spi(&self) -> u32 {
        field::u32::<SPI, AUTHENTICATION_LEN>(self.first)
    }

    /// Which packet of the security association this is.
    #[must_use]
    #[inline]
    pub const fn sequence(&self) -> u32 {
        field::u32::<SEQUENCE, AUTHENTICATION_LEN>(self.first)
    }

    /// Integrity check value.
    #[must_use]
    #[inline]
    pub const fn icv(&self) -> &'a [u8] {
        self.icv
    }

    /// Everything behind the header.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const HOP_BY_HOP: &[u8] = b"\x3c\0\x05\x02\0\0\x01\0";
    const DESTINATION: &[u8] = b"\x2b\x01\x04\x01\x04\x01\x01\0\0\0\x3e\x02\xab\xcd\x01\0";
    const ROUTING: &[u8] = b"\x33\0\x04\x02data";
    const AUTHENTICATION: &[u8] = b"\x2c\x02\0\0\0\0\0\x07\0\0\0\x09ICV!";
    const FIRST: &[u8] = b"\x11\0\0\x01\x12\x34\x56\x78";
    const LATER: &[u8] = b"\x3c\0\x05\xa8\x12\x34\x56\x78";

    fn walk(next: u8, bytes: &[u8]) -> (Vec<Result<Extension<'_>, Error>>, IpProtocol, &[u8]) {
        let mut chain = Extensions::new(IpProtocol(next), bytes);
        let items: Vec<_> = chain.by_ref().take(20).collect();
        assert!(items.len() < 20 && chain.next().is_none());
        (items, chain.next_header(), chain.payload())
    }

    #[test]
    fn a_chain_is_walked_to_the_upper_layer() {
        let bytes = [HOP_BY_HOP, DESTINATION, ROUTING, AUTHENTICATION, FIRST, b"datagram"].concat();
        let (items, next, payload) = walk(0, &bytes);
        assert_eq!((next, payload), (IpProtocol::UDP, &b"datagram"[..]));
        let [
            Ok(Extension::HopByHop(hop)),
            Ok(Extension::DestinationOptions(destination)),
            Ok(Extension::Routing(routing)),
            Ok(Extension::Authentication(authentication)),
            Ok(Extension::Fragment(fragment)),
        ] = items[..]
        else {
            panic!("{items:?}")
        };
        let alert = Ipv6Option::Other { kind: 5, data: &[0, 0] };
        assert_eq!(hop.iter().collect::<Vec<_>>(), [Ok(alert)]);
        let options = [
            Ok(Ipv6Option::TunnelEncapsulationLimit(4)),
            Ok(Ipv6Option::Other { kind: 0x3e, data: &[0xab, 0xcd] }),
        ];
        assert_eq!(destination.into_iter().collect::<Vec<_>>(), options);
        let routing = (routing.routing_type(), routing.segments_left(), routing.data());
        assert_eq!(routing, (4, 2, &b"data"[..]));
        let authentication =
            (authentication.spi(), authentication.sequence(), authentication.icv());
        assert_eq!(authentication, (7, 9, &b"ICV!"[..]));
        let (identification, more_fragments) = (0x1234_5678, true);
        let next_header = IpProtocol::UDP;
        let header =
            FragmentHeader { next_header, fragment_offset: 0, more_fragments, identification };
        assert_eq!(fragment.header(), header);
    }

    #[test]
    fn a_later_fragment_ends_the_chain() {
        let bytes = [LATER, DESTINATION].concat();
        let (items, next, payload) = walk(44, &bytes);
        assert_eq!(items.len(), 1);
        assert_eq!((next, payload), (IpProtocol::DESTINATION_OPTIONS, DESTINATION));
        for end in [50, 59, 6, 17, 58, 253] {
            assert_eq!(walk(end, DESTINATION), (Vec::new(), IpProtocol(end), DESTINATION));
        }
    }

    #[test]
    fn every_truncation_of_an_extension_is_an_error() {
        for (next, bytes) in
            [(0, HOP_BY_HOP), (60, DESTINATION), (43, ROUTING), (51, AUTHENTICATION), (44, FIRST)]
        {
            for len in 0..bytes.len() {
                let (items, ..) = walk(next, &bytes[..len]);
                let [Err(error)] = items[..] else { panic!("{items:?}") };
                assert_eq!((error.field, error.found), ("header", len as u64));
            }
        }
        let error = AuthenticationPacket::parse(&[0; 12]).unwrap_err();
        let expected = Expected::AtLeast(1);
        assert_eq!(error, Error::field("authentication header", "length", expected, 0));
    }

    #[test]
    fn a_chain_is_bounded_and_hop_by_hop_options_come_first() {
        let again = b"\x3c\0\x01\x04\0\0\0\0".repeat(17);
        let (items, ..) = walk(60, &again);
        let error = Error::field("IPv6", "extension headers", Expected::AtMost(16), 17);
        assert_eq!((items.len(), items[16]), (17, Err(error)));
        let late = [b"\0\0\x01\x04\0\0\0\0", HOP_BY_HOP].concat();
        let (items, ..) = walk(60, &late);
        let error = Error::field("IPv6 hop-by-hop options", "position", Expected::Exactly(0), 1);
        assert_eq!((items.len(), items[1]), (2, Err(error)));
    }

    #[test]
    fn lies_about_options_are_found_out() {
        let options = |bytes: &[u8; 8]| {
            OptionsPacket::parse(bytes).unwrap().iter().collect::<Result<Vec<_>, _>>().map(|_| ())
        };
        let error =
            |field, expected, found| Err(Error::field("IPv6 options", field, expected, found));
        assert_eq!(options(b"\x11\0\0\0\0\0\0\0"), Ok(()));
        assert_eq!(
            options(b"\x11\0\x05\x05\0\0\0\0"),
            error("option length", Expected::AtMost(4), 5)
        );
        assert_eq!(
            options(b"\x11\0\x04\x02\0\0\0\0"),
            error("tunnel encapsulation limit length", Expected::Exactly(1), 2)
        );
        assert_eq!(
            options(b"\x11\0\x01\x03\0\0\0\x05"),
            Err(Error::truncated("IPv6 option", 2, 1))
        );
    }

    #[test]
    fn options_are_padded_to_whole_words() {
        for len in 0..=MAX_OPTIONS {
            let mut options = [0xff].repeat(len);
            // Filled with options of up to 255 bytes of data, so that the walk below sees just them.
            let mut expected = 0;
            for option in options.chunks_mut(250) {
                match option {
                    [kind, len, data @ ..] => {
                        (*kind, *len) = (0x1e, data.len() as u8);
                        expected += 1;
                    }
                    [pad] => *pad = PAD_1,
                    [] => {}
                }
            }
            let header = OptionsHeader { next_header: IpProtocol::TCP, options: &options };
            let mut bytes = [&[0xff].repeat(header.header_len()), &b"rest"[..]].concat();
            header.emit(&mut bytes).unwrap();
            let packet = OptionsPacket::parse(&bytes).unwrap();
            assert_eq!((packet.next_header(), packet.payload()), (IpProtocol::TCP, &b"rest"[..]));
            assert!(packet.header_len() < len + 10);
            let all: Result<Vec<_>, _> = packet.iter().collect();
            assert_eq!(all.unwrap().len(), expected, "{len}");
            let mut again = [0xff].repeat(bytes.len() - 4);
            packet.header().emit(&mut again).unwrap();
            assert_eq!(again, bytes[..again.len()]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_written() {
        let header = OptionsHeader { next_header: IpProtocol::TCP, options: &[0; 2047] };
        let mut bytes = [0xff].repeat(2056);
        assert_eq!(header.emit(&mut bytes).unwrap_err().field, "options length");
        let header = OptionsHeader { options: &[4, 1, 4], ..header };
        assert_eq!(header.emit(&mut bytes[..7]), Err(Error::truncated("IPv6 options", 8, 7)));
        let fragment = FragmentPacket::parse(LATER).unwrap().header();
        assert_eq!(fragment.emit(&mut bytes[..7]), Err(Error::truncated("IPv6 fragment", 8, 7)));
        let too_far = FragmentHeader { fragment_offset: 8192, ..fragment };
        assert_eq!(too_far.emit(&mut bytes).unwrap_err().field, "fragment offset");
        assert!(bytes.iter().all(|byte| *byte == 0xff));
        fragment.emit(&mut bytes).unwrap();
        assert_eq!(&bytes[..8], LATER);
    }
}
