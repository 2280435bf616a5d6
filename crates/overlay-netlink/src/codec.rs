//! Bytes of rtnetlink messages: writing them into one growing buffer, reading attributes in place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{Emitable, NLA_ALIGNTO, NLA_F_NESTED, NLA_HEADER_SIZE, NLA_TYPE_MASK};
use overlay_wire::{IpVersion, MacAddr};

use crate::Error;

pub(crate) const AF_UNSPEC: u8 = 0;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_BRIDGE: u8 = 7;
pub(crate) const AF_INET6: u8 = 10;

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER_LEN: usize = 16;

/// Message types (`linux/rtnetlink.h`).
pub(crate) mod rtm {
    pub(crate) const NEWLINK: u16 = 16;
    pub(crate) const DELLINK: u16 = 17;
    pub(crate) const GETLINK: u16 = 18;
    pub(crate) const SETLINK: u16 = 19;
    pub(crate) const NEWADDR: u16 = 20;
    pub(crate) const DELADDR: u16 = 21;
    pub(crate) const GETADDR: u16 = 22;
    pub(crate) const NEWROUTE: u16 = 24;
    pub(crate) const DELROUTE: u16 = 25;
    pub(crate) const GETROUTE: u16 = 26;
    pub(crate) const NEWNEIGH: u16 = 28;
    pub(crate) const DELNEIGH: u16 = 29;
    pub(crate) const GETNEIGH: u16 = 30;
    pub(crate) const NEWRULE: u16 = 32;
    pub(crate) const DELRULE: u16 = 33;
    pub(crate) const GETRULE: u16 = 34;
    pub(crate) const NEWQDISC: u16 = 36;
    pub(crate) const DELQDISC: u16 = 37;
    pub(crate) const GETQDISC: u16 = 38;
    pub(crate) const NEWTFILTER: u16 = 44;
    pub(crate) const DELTFILTER: u16 = 45;
    pub(crate) const GETTFILTER: u16 = 46;
    pub(crate) const NEWNEXTHOP: u16 = 104;
    pub(crate) const DELNEXTHOP: u16 = 105;
    pub(crate) const GETNEXTHOP: u16 = 106;
}

pub(crate) const fn family_of(version: IpVersion) -> u8 {
    match version {
        IpVersion::V4 => AF_INET,
        IpVersion::V6 => AF_INET6,
    }
}

pub(crate) const fn version_of(family: u8) -> Option<IpVersion> {
    match family {
        AF_INET => Some(IpVersion::V4),
        AF_INET6 => Some(IpVersion::V6),
        _ => None,
    }
}

/// The one version that is wanted, or both.
pub(crate) fn versions(wanted: Option<IpVersion>) -> impl Iterator<Item = IpVersion> {
    IpVersion::ALL.into_iter().filter(move |version| wanted.is_none_or(|w| w == *version))
}

pub(crate) const fn net_version(net: &IpNet) -> IpVersion {
    match net {
        IpNet::V4(_) => IpVersion::V4,
        IpNet::V6(_) => IpVersion::V6,
    }
}

/// Writes one netlink message at the end of a buffer that may hold others.
pub(crate) struct Encoder<'b> {
    buffer: &'b mut Vec<u8>,
    start: usize,
    /// Whether an attribute is longer than its length field can say.
    too_long: bool,
}

impl<'b> Encoder<'b> {
    /// Starts a message of type `kind`. The sequence number is filled in when the batch is sent.
    pub(crate) fn begin(buffer: &'b mut Vec<u8>, kind: u16, flags: u16) -> Self {
        let start = buffer.len();
        let mut header = [0; HEADER_LEN];
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&flags.to_ne_bytes());
        buffer.extend_from_slice(&header);
        Self { buffer, start, too_long: false }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        let len = NLA_HEADER_SIZE + value.len();
        let length = self.length(len);
        self.put(&length);
        self.put(&kind.to_ne_bytes());
        self.put(value);
        self.put(&[0; 3][..len.next_multiple_of(NLA_ALIGNTO) - len]);
    }

    pub(crate) fn attr_u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    pub(crate) fn attr_u16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub(crate) fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// A zero-terminated string.
    pub(crate) fn attr_str(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    pub(crate) fn attr_ip(&mut self, kind: u16, value: IpAddr) {
        match value {
            IpAddr::V4(v4) => self.attr(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attr(kind, &v6.octets()),
        }
    }

    pub(crate) fn attr_mac(&mut self, kind: u16, value: MacAddr) {
        self.attr(kind, &value.octets());
    }

    /// An attribute whose value is what `content` writes.
    pub(crate) fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let at = self.buffer.len();
        self.put(&[0; NLA_HEADER_SIZE]);
        content(self);
        let length = self.length(self.buffer.len() - at);
        self.buffer[at..at + 2].copy_from_slice(&length);
        self.buffer[at + 2..at + 4].copy_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
    }

    /// Something that knows its own bytes.
    pub(crate) fn emit(&mut self, part: &impl Emitable) {
        let at = self.buffer.len();
        self.buffer.resize(at + part.buffer_len(), 0);
        part.emit(&mut self.buffer[at..]);
    }

    fn length(&mut self, len: usize) -> [u8; 2] {
        self.too_long |= u16::try_from(len).is_err();
        (len as u16).to_ne_bytes()
    }

    /// Completes the message, or takes it back when one of its attributes is too long. `object`
    /// is for the error.
    pub(crate) fn try_finish(self, object: impl FnOnce() -> String) -> Result<(), Error> {
        if self.too_long {
            self.buffer.truncate(self.start);
            let reason = "an attribute is longer than the 65535 bytes that netlink allows";
            return Err(Error::Invalid { object: object(), reason });
        }
        self.finish();
        Ok(())
    }

    /// Completes a message whose attributes are all short.
    pub(crate) fn finish(self) {
        debug_assert!(!self.too_long);
        let len = (self.buffer.len() - self.start) as u32;
        self.buffer[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }
}

/// The attributes in `bytes`, as type and value. Stops at the first one that is malformed: the
/// kernel's own parser does the same, and what came before it is still worth having.
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

pub(crate) const fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = u16_at(self.rest, 0)? as usize;
        let kind = u16_at(self.rest, 2)? & NLA_TYPE_MASK;
        let value = self.rest.get(NLA_HEADER_SIZE..len)?;
        self.rest = self.rest.get(len.next_multiple_of(NLA_ALIGNTO)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// An IPv4 or IPv6 address by its length.
pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk::<16>()?))),
        _ => None,
    }
}

pub(crate) fn mac(bytes: &[u8]) -> Option<MacAddr> {
    <[u8; 6]>::try_from(bytes).ok().map(MacAddr)
}

/// A zero-terminated string; bytes that are not UTF-8 are replaced.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The prefix `0.0.0.0/0` or `::/0`.
pub(crate) fn default_net(version: IpVersion) -> IpNet {
    match version {
        IpVersion::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
        IpVersion::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::NlasIterator;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut buffer = vec![0xa5; 3];
        let mut message = Encoder::begin(&mut buffer, 24, 1);
        message.attr_u8(7, 9);
        message.nest(8, |inner| inner.attr_str(1, "ab"));
        message.finish();
        let message = &buffer[3..];
        assert_eq!(u32_at(message, 0), Some(message.len() as u32));
        assert_eq!(message.len() % 4, 0);
        let found: Vec<_> = attributes(&message[HEADER_LEN..]).collect();
        assert_eq!(found[0], (7, &[9][..]));
        assert_eq!(found[1].0, 8);
        assert_eq!(attributes(found[1].1).collect::<Vec<_>>(), [(1, &b"ab\0"[..])]);
        // The independent parser sees the same.
        let oracle: Vec<_> =
            NlasIterator::new(&message[HEADER_LEN..]).map(|n| n.unwrap()).collect();
        assert_eq!(oracle.len(), 2);
        assert_eq!((oracle[0].kind(), oracle[0].value()), (7, &[9][..]));
        assert!(oracle[1].nested_flag());
    }

    #[test]
    fn an_attribute_that_is_too_long_takes_the_message_back() {
        for (len, fits) in [(65_531, true), (65_532, false)] {
            let mut buffer = vec![0xa5; 3];
            let mut message = Encoder::begin(&mut buffer, 24, 1);
            message.attr(7, &vec![0; len]);
            let finished = message.try_finish(|| "x".to_owned());
            assert_eq!(finished.is_ok(), fits);
            assert_eq!(buffer.len() > 3, fits);

            let mut message = Encoder::begin(&mut buffer, 24, 1);
            message.nest(8, |inner| inner.attr(7, &vec![0; len - 7]));
            assert_eq!(message.try_finish(String::new).is_ok(), fits);
        }
    }

    #[test]
    fn malformed_attributes_end_the_iteration() {
        for bytes in [&[][..], &[4], &[3, 0, 1, 0], &[0, 0, 0, 0], &[9, 0, 1, 0, 1, 2, 3, 4]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
        let good_then_cut = [5, 0, 1, 0, 0xff, 0, 0, 0, 200, 0, 2, 0];
        assert_eq!(attributes(&good_then_cut).collect::<Vec<_>>(), [(1, &[0xff][..])]);
    }
}
