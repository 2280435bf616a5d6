//! IPv4 (RFC 791; RFC 2474 and RFC 3168 for the traffic class, RFC 6864 for the identification).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |version|  IHL  |   DSCP    |ECN|         total length          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        identification         |R|D|M|     fragment offset     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      TTL      |   protocol    |        header checksum        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        source address                         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      destination address                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |            options, 0 to 40 bytes, in whole words ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          payload ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```

use core::net::Ipv4Addr;

use crate::checksum::{self, Checksum};
use crate::error::{Error, Expected};
use crate::field;
use crate::ip::{Ecn, Fragment, IpProtocol, UpperLayer};
use crate::ipv6::extension::AuthenticationPacket;
use crate::option::{self, OptionList};

/// Bytes of an IPv4 header without options.
pub const LEN: usize = 20;
/// Bytes of options that fit into a header.
pub const MAX_OPTIONS: usize = 40;

const NAME: &str = "IPv4";
const VERSION_IHL: usize = 0;
const TRAFFIC_CLASS: usize = 1;
pub(crate) const TOTAL_LENGTH: usize = 2;
pub(crate) const IDENTIFICATION: usize = 4;
pub(crate) const FRAGMENT: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
pub(crate) const CHECKSUM: usize = 10;
const SRC: usize = 12;
const DST: usize = 16;

pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// An IPv4 packet in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Packet<'a> {
    header: &'a [u8; LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4Packet<'a> {
    /// The packet at the beginning of `bytes`; what is behind its end, such as an Ethernet frame's padding, is ignored.
    ///
    /// The checksum is not looked at: [`is_checksum_valid`](Self::is_checksum_valid) does that.
    ///
    /// # Errors
    /// [`Error`] when the version is not 4, the header is incomplete or says it is, or the total length is less than
    /// the header or more than there is.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let packet = Self::parse_cut(bytes)?;
        if usize::from(packet.total_length()) > bytes.len() {
            let expected = Expected::AtMost(bytes.len() as u64);
            let found = packet.total_length().into();
            return Err(Error::field(NAME, "total length", expected, found));
        }
        Ok(packet)
    }

    /// The packet of which `bytes` are the beginning: one that an ICMP error quotes, or a capture has cut.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), except that the payload may be shorter than the total length says.
    #[inline]
    pub fn parse_cut(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) = field::split(NAME, bytes)?;
        let first = field::u8::<VERSION_IHL, LEN>(header);
        let (version, ihl) = (first >> 4, first & 0x0f);
        if version != 4 {
            return Err(Error::field(NAME, "version", Expected::Exactly(4), version.into()));
        }
        let header_len = usize::from(ihl) * 4;
        let Some(options_len) = header_len.checked_sub(LEN) else {
            return Err(Error::field(NAME, "IHL", Expected::AtLeast(5), ihl.into()));
        };
        let Some((options, rest)) = rest.split_at_checked(options_len) else {
            return Err(Error::truncated(NAME, header_len, bytes.len()));
        };
        let total_length = usize::from(field::u16::<TOTAL_LENGTH, LEN>(header));
        let Some(payload_len) = total_length.checked_sub(header_len) else {
            let expected = Expected::AtLeast(header_len as u64);
            return Err(Error::field(NAME, "total length", expected, total_length as u64));
        };
        Ok(Self { header, options, payload: field::at_most(rest, payload_len) })
    }

    /// Differentiated services code point: 0 to 63.
    #[must_use]
    #[inline]
    pub const fn dscp(&self) -> u8 {
        field::u8::<TRAFFIC_CLASS, LEN>(self.header) >> 2
    }

    /// Explicit congestion notification.
    #[must_use]
    #[inline]
    pub const fn ecn(&self) -> Ecn {
        Ecn::of(field::u8::<TRAFFIC_CLASS, LEN>(self.header))
    }

    /// Bytes of header and payload, as the header says.
    #[must_use]
    #[inline]
    pub const fn total_length(&self) -> u16 {
        field::u16::<TOTAL_LENGTH, LEN>(self.header)
    }

    /// What the fragments of a packet have in common; without meaning in a packet that is not and may not be
    /// fragmented (RFC 6864).
    #[must_use]
    #[inline]
    pub const fn identification(&self) -> u16 {
        field::u16::<IDENTIFICATION, LEN>(self.header)
    }

    /// Whether routers must not fragment the packet.
    #[must_use]
    #[inline]
    pub const fn dont_fragment(&self) -> bool {
        field::u16::<FRAGMENT, LEN>(self.header) & DONT_FRAGMENT != 0
    }

    /// Whether this is a fragment but not the last one.
    #[must_use]
    #[inline]
    pub const fn more_fragments(&self) -> bool {
        field::u16::<FRAGMENT, LEN>(self.header) & MORE_FRAGMENTS != 0
    }

    /// Where in the whole packet's payload this fragment's begins, in units of 8 bytes.
    #[must_use]
    #[inline]
    pub const fn fragment_offset(&self) -> u16 {
        field::u16::<FRAGMENT, LEN>(self.header) & FRAGMENT_OFFSET
    }

    /// Whether this is a fragment of a packet.
    #[must_use]
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        field::u16::<FRAGMENT, LEN>(self.header) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Time to live: how many more routers may forward the packet.
    #[must_use]
    #[inline]
    pub const fn ttl(&self) -> u8 {
        field::u8::<TTL, LEN>(self.header)
    }

    /// What the payload is.
    #[must_use]
    #[inline]
    pub const fn protocol(&self) -> IpProtocol {
        IpProtocol(field::u8::<PROTOCOL, LEN>(self.header))
    }

    /// The checksum of the header.
    #[must_use]
    #[inline]
    pub const fn checksum(&self) -> u16 {
        field::u16::<CHECKSUM, LEN>(self.header)
    }

    /// Whether the checksum of the header is right.
    #[must_use]
    #[inline]
    pub fn is_checksum_valid(&self) -> bool {
        Checksum::new().bytes(self.header).bytes(self.options).finish() == 0
    }

    /// The address of the sender.
    #[must_use]
    #[inline]
    pub const fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(field::u32::<SRC, LEN>(self.header))
    }

    /// The address of the receiver.
    #[must_use]
    #[inline]
    pub const fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(field::u32::<DST, LEN>(self.header))
    }

    /// The options, 0 to 40 bytes, padding included.
    #[must_use]
    #[inline]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The options, one after the other.
    #[must_use]
    #[inline]
    pub const fn options_iter(&self) -> Ipv4Options<'a> {
        Ipv4Options(OptionList::new(NAME, self.options))
    }

    /// Bytes of the header with its options: 20 to 60.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN + self.options.len()
    }

    /// The bytes behind the header, as many as the total length says.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// What the packet carries, behind an authentication header if there is one (RFC 4302, section 3.1.1).
    ///
    /// # Errors
    /// [`Error`] when the authentication header is incomplete.
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer<'a>, Error> {
        let fragment = self.is_fragment().then(|| Fragment {
            offset: self.fragment_offset(),
            more: self.more_fragments(),
            identification: self.identification().into(),
        });
        let (mut protocol, mut payload) = (self.protocol(), self.payload);
        if protocol == IpProtocol::AUTHENTICATION && self.fragment_offset() == 0 {
            let authentication = AuthenticationPacket::parse(payload)?;
            (protocol, payload) = (authentication.next_header(), authentication.payload());
        }
        let header_len = self.header_len() + self.payload.len() - payload.len();
        Ok(UpperLayer { protocol, payload, header_len, fragment })
    }

    /// The header as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> Ipv4Header<'a> {
        Ipv4Header {
            src: self.src(),
            dst: self.dst(),
            protocol: self.protocol(),
            ttl: self.ttl(),
            dscp: self.dscp(),
            ecn: self.ecn(),
            identification: self.identification(),
            dont_fragment: self.dont_fragment(),
            more_fragments: self.more_fragments(),
            fragment_offset: self.fragment_offset(),
            options: self.options,
        }
    }
}

/// An option in an IPv4 header (RFC 791, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Option<'a> {
    /// Which option: copied flag, class and number in one, as assigned by IANA.
    pub kind: u8,
    /// The data, without kind and length; none in [`END`](Self::END) and [`NO_OPERATION`](Self::NO_OPERATION).
    pub data: &'a [u8],
}

impl Ipv4Option<'_> {
    /// End of the list, a single byte.
    pub const END: u8 = option::END;
    /// No operation, a single byte that fills a gap.
    pub const NO_OPERATION: u8 = option::NO_OPERATION;
    /// Router alert (RFC 2113).
    pub const ROUTER_ALERT: u8 = 148;

    /// Whether the option is copied into every fragment.
    #[must_use]
    pub const fn is_copied(&self) -> bool {
        self.kind & 0x80 != 0
    }
}

/// The options of an IPv4 header, padding included. The last item is the end of the list, if that is marked, or an
/// error: a length that is less than 2, or more than there is.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Options<'a>(OptionList<'a>);

impl<'a> Iterator for Ipv4Options<'a> {
    type Item = Result<Ipv4Option<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(kind, data)| Ipv4Option { kind, data }))
    }
}

/// The header of an IPv4 packet as a plain value. Lengths and checksum follow from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Header<'a> {
    /// The address of the sender.
    pub src: Ipv4Addr,
    /// The address of the receiver.
    pub dst: Ipv4Addr,
    /// What the payload is.
    pub protocol: IpProtocol,
    /// Time to live: how many more routers may forward the packet.
    pub ttl: u8,
    /// Differentiated services code point: 0 to 63.
    pub dscp: u8,
    /// Explicit congestion notification.
    pub ecn: Ecn,
    /// What the fragments of a packet have in common.
    pub identification: u16,
    /// Whether routers must not fragment the packet.
    pub dont_fragment: bool,
    /// Whether this is a fragment but not the last one.
    pub more_fragments: bool,
    /// Where in the whole packet's payload this fragment's begins, in units of 8 bytes: 0 to 8191.
    pub fragment_offset: u16,
    /// Options, padded to a multiple of 4 bytes, at most [`MAX_OPTIONS`].
    pub options: &'a [u8],
}

impl Ipv4Header<'static> {
    /// The header of a whole packet that may not be fragmented, with a time to live of 64 and nothing else special.
    #[must_use]
    pub const fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: IpProtocol) -> Self {
        Self {
            src,
            dst,
            protocol,
            ttl: 64,
            dscp: 0,
            ecn: Ecn::NotEct,
            identification: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            options: &[],
        }
    }
}

impl Ipv4Header<'_> {
    /// Bytes of the header with its options.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN + self.options.len()
    }

    /// Writes the header into the first [`header_len`](Self::header_len) bytes of `packet`, of which the rest is the
    /// payload, with the lengths and the checksum that follow.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the header or longer than an IPv4 packet can be, or a field does not
    /// fit. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        let at_most = |field, limit: usize, found: usize| {
            Error::field(NAME, field, Expected::AtMost(limit as u64), found as u64)
        };
        let len = packet.len();
        let total_length =
            u16::try_from(len).map_err(|_| at_most("total length", u16::MAX.into(), len))?;
        if self.options.len() > MAX_OPTIONS {
            return Err(at_most("options length", MAX_OPTIONS, self.options.len()));
        }
        if !self.options.len().is_multiple_of(4) {
            let found = self.options.len() as u64;
            return Err(Error::field(NAME, "options length", Expected::MultipleOf(4), found));
        }
        if self.dscp > 63 {
            return Err(at_most("DSCP", 63, self.dscp.into()));
        }
        if self.fragment_offset > FRAGMENT_OFFSET {
            let (limit, found) = (FRAGMENT_OFFSET.into(), self.fragment_offset.into());
            return Err(at_most("fragment offset", limit, found));
        }
        let (header, rest) = field::split_mut::<LEN>(NAME, packet)?;
        let Some(options) = rest.get_mut(..self.options.len()) else {
            return Err(Error::truncated(NAME, self.header_len(), len));
        };

        // At most 15: the options have been checked.
        let ihl = (self.header_len() / 4) as u8;
        field::put::<VERSION_IHL, 1, LEN>(header, [0x40 | ihl]);
        field::put::<TRAFFIC_CLASS, 1, LEN>(header, [self.dscp << 2 | self.ecn as u8]);
        field::put_u16::<TOTAL_LENGTH, LEN>(header, total_length);
        field::put_u16::<IDENTIFICATION, LEN>(header, self.identification);
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 }
            | if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        field::put_u16::<FRAGMENT, LEN>(header, flags | self.fragment_offset);
        field::put::<TTL, 1, LEN>(header, [self.ttl]);
        field::put::<PROTOCOL, 1, LEN>(header, [self.protocol.0]);
        field::put_u16::<CHECKSUM, LEN>(header, 0);
        field::put::<SRC, 4, LEN>(header, self.src.octets());
        field::put::<DST, 4, LEN>(header, self.dst.octets());
        options.copy_from_slice(self.options);
        let sum = Checksum::new().bytes(header).bytes(options).finish();
        field::put_u16::<CHECKSUM, LEN>(header, sum);
        Ok(())
    }
}

/// Takes one off the time to live of the packet that begins with `header`, as a router does, and corrects its checksum
/// (RFC 1624). Returns what is left.
///
/// # Errors
/// [`Error`] when there is no complete IPv4 header, or the time to live is 0 already. Nothing is changed then.
#[inline]
pub fn decrement_ttl(header: &mut [u8]) -> Result<u8, Error> {
    let (header, _) = field::split_mut::<LEN>(NAME, header)?;
    let old = field::u16::<TTL, LEN>(header);
    let Some(ttl) = field::u8::<TTL, LEN>(header).checked_sub(1) else {
        return Err(Error::field(NAME, "TTL", Expected::AtLeast(1), 0));
    };
    field::put::<TTL, 1, LEN>(header, [ttl]);
    let new = field::u16::<TTL, LEN>(header);
    let sum = checksum::update(field::u16::<CHECKSUM, LEN>(header), old, new);
    field::put_u16::<CHECKSUM, LEN>(header, sum);
    Ok(ttl)
}

/// Changes the congestion notification of the packet that begins with `header`, and corrects its checksum (RFC 1624).
///
/// # Errors
/// [`Error`] when there is no complete IPv4 header.
#[inline]
pub fn set_ecn(header: &mut [u8], ecn: Ecn) -> Result<(), Error> {
    let (header, _) = field::split_mut::<LEN>(NAME, header)?;
    let old = field::u16::<VERSION_IHL, LEN>(header);
    let new = old & !0b11 | ecn as u16;
    field::put_u16::<VERSION_IHL, LEN>(header, new);
    let sum = checksum::update(field::u16::<CHECKSUM, LEN>(header), old, new);
    field::put_u16::<CHECKSUM, LEN>(header, sum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    // An echo request's header: 10.0.0.1 to 10.0.0.2, computed by hand.
    const PACKET: &[u8] =
        b"\x45\x02\0\x18\x12\x34\x40\0\x40\x01\x14\xad\x0a\0\0\x01\x0a\0\0\x02ping";

    fn header() -> Ipv4Header<'static> {
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        Ipv4Header {
            identification: 0x1234,
            ecn: Ecn::Ect0,
            ..Ipv4Header::new(src, dst, IpProtocol::ICMP)
        }
    }

    fn emitted(header: &Ipv4Header<'_>, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let mut packet = [&[0xff].repeat(header.header_len()), payload].concat();
        header.emit(&mut packet).map(|()| packet)
    }

    #[test]
    fn a_packet_reads_and_writes() {
        let packet = Ipv4Packet::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (header(), &b"ping"[..]));
        assert!(packet.is_checksum_valid());
        assert_eq!(emitted(&header(), b"ping").unwrap(), PACKET);
    }

    #[test]
    fn options_are_carried() {
        let options = b"\x94\x04\0\0";
        let header = Ipv4Header { options, dscp: 46, fragment_offset: 8191, ..header() };
        let bytes = emitted(&header, b"payload").unwrap();
        let packet = Ipv4Packet::parse(&bytes).unwrap();
        assert_eq!((packet.header(), packet.payload()), (header, &b"payload"[..]));
        assert!(packet.is_checksum_valid() && packet.is_fragment());
        assert_eq!((packet.header_len(), packet.total_length()), (24, 31));
    }

    #[test]
    fn options_are_told_apart() {
        let options = b"\x01\x94\x04\0\0\x07\x03\x04\0\xff\xff\xff";
        let bytes = emitted(&Ipv4Header { options, ..header() }, b"").unwrap();
        let listed: Result<Vec<_>, _> = Ipv4Packet::parse(&bytes).unwrap().options_iter().collect();
        let expected = [(1, &b""[..]), (148, b"\0\0"), (7, b"\x04"), (0, b"")]
            .map(|(kind, data)| Ipv4Option { kind, data });
        assert_eq!(listed.unwrap(), expected);
        assert_eq!(expected.map(|option| option.is_copied()), [false, true, false, false]);
        for (options, limit, found) in [
            (b"\x94\x05\0\0", Expected::AtMost(4), 5),
            (b"\x01\x94\x01\0", Expected::AtLeast(2), 1),
        ] {
            let bytes = emitted(&Ipv4Header { options, ..header() }, b"").unwrap();
            let listed = Ipv4Packet::parse(&bytes).unwrap().options_iter();
            let error = Error::field("IPv4", "option length", limit, found);
            assert_eq!(listed.last(), Some(Err(error)));
        }
    }

    #[test]
    fn padding_is_not_payload() {
        let padded = [PACKET, &[0; 26]].concat();
        assert_eq!(Ipv4Packet::parse(&padded), Ipv4Packet::parse(PACKET));
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..PACKET.len() {
            let expected = match len {
                0..LEN => Error::truncated("IPv4", 20, len),
                _ => Error::field("IPv4", "total length", Expected::AtMost(len as u64), 24),
            };
            assert_eq!(Ipv4Packet::parse(&PACKET[..len]), Err(expected));
        }
        assert_eq!(Ipv4Packet::parse_cut(&PACKET[..22]).unwrap().payload(), b"pi");
    }

    #[test]
    fn lies_are_found_out() {
        let lie = |at: usize, byte: u8| {
            let mut bytes = PACKET.to_vec();
            bytes[at] = byte;
            Ipv4Packet::parse(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(lie(0, 0x65), Error::field("IPv4", "version", Expected::Exactly(4), 6));
        assert_eq!(lie(0, 0x44), Error::field("IPv4", "IHL", Expected::AtLeast(5), 4));
        assert_eq!(lie(0, 0x4f), Error::truncated("IPv4", 60, 24));
        assert_eq!(lie(3, 19), Error::field("IPv4", "total length", Expected::AtLeast(20), 19));
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        let refused = |header: Ipv4Header<'_>| emitted(&header, b"").unwrap_err().field;
        assert_eq!(refused(Ipv4Header { dscp: 64, ..header() }), "DSCP");
        assert_eq!(refused(Ipv4Header { fragment_offset: 8192, ..header() }), "fragment offset");
        assert_eq!(refused(Ipv4Header { options: &[1; 3], ..header() }), "options length");
        assert_eq!(refused(Ipv4Header { options: &[1; 44], ..header() }), "options length");
        assert_eq!(emitted(&header(), &[0; 65_516]).unwrap_err().field, "total length");
        for len in 0..LEN {
            let error = header().emit(&mut [0; LEN][..len]).unwrap_err();
            assert_eq!(error, Error::truncated("IPv4", 20, len));
        }
    }

    #[test]
    fn changes_in_place_keep_the_checksum_right() {
        let mut bytes = PACKET.to_vec();
        for left in (0..64).rev() {
            assert_eq!(decrement_ttl(&mut bytes), Ok(left));
            assert!(Ipv4Packet::parse(&bytes).unwrap().is_checksum_valid());
        }
        let dead = bytes.clone();
        assert!(decrement_ttl(&mut bytes).is_err());
        assert_eq!(bytes, dead);
        for ecn in [Ecn::Ce, Ecn::NotEct, Ecn::Ect1, Ecn::Ect0] {
            set_ecn(&mut bytes, ecn).unwrap();
            let packet = Ipv4Packet::parse(&bytes).unwrap();
            assert_eq!(packet.ecn(), ecn);
            assert!(packet.is_checksum_valid());
        }
    }
}
