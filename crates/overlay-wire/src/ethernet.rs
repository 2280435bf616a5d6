//! Ethernet II frames (IEEE 802.3-2018, section 3; RFC 894 and RFC 2464 for IP on them).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      destination address                      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               |                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//! |                        source address                         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           EtherType           |            payload ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! Neither preamble nor frame check sequence: what a packet socket or a TAP device gives and takes. Short payloads may
//! be followed by padding, which the frame itself cannot tell from payload; the length fields inside do.

use core::fmt;

use crate::error::Error;
use crate::field;
use crate::ip::IpVersion;
use crate::mac::MacAddr;

/// Bytes of an Ethernet header.
pub const LEN: usize = 14;

const NAME: &str = "Ethernet";
const DST: usize = 0;
const SRC: usize = 6;
const ETHER_TYPE: usize = 12;

/// What an Ethernet frame carries. Numbers as assigned by the IEEE, see RFC 9542, appendix B.
///
/// Prints as tcpdump does: a name where there is one, else `0x` and four digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EtherType(pub u16);

impl EtherType {
    /// An IPv4 packet.
    pub const IPV4: Self = Self(0x0800);
    /// ARP (RFC 826).
    pub const ARP: Self = Self(0x0806);
    /// An Ethernet frame: transparent Ethernet bridging, in GRE and Geneve (RFC 1701).
    pub const ETHERNET: Self = Self(0x6558);
    /// A VLAN tag (IEEE 802.1Q).
    pub const VLAN: Self = Self(0x8100);
    /// An IPv6 packet.
    pub const IPV6: Self = Self(0x86dd);
    /// An outer VLAN tag, with another one behind it (IEEE 802.1ad, QinQ).
    pub const QINQ: Self = Self(0x88a8);
    /// MPLS, unicast (RFC 3032).
    pub const MPLS: Self = Self(0x8847);

    /// The type that says that an IP packet of this version follows.
    #[must_use]
    pub const fn ip(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::IPV4,
            IpVersion::V6 => Self::IPV6,
        }
    }

    /// Whether this is a type at all. Numbers below 0x0600 are the length of an IEEE 802.3 frame.
    #[must_use]
    pub const fn is_type(self) -> bool {
        self.0 >= 0x0600
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IPV4 => f.pad("IPv4"),
            Self::ARP => f.pad("ARP"),
            Self::ETHERNET => f.pad("TEB"),
            Self::VLAN => f.pad("802.1Q"),
            Self::IPV6 => f.pad("IPv6"),
            Self::QINQ => f.pad("802.1Q-QinQ"),
            Self::MPLS => f.pad("MPLS unicast"),
            Self(other) => write!(f, "{other:#06x}"),
        }
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtherType({:#06x})", self.0)
    }
}

/// An Ethernet frame in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetFrame<'a> {
    header: &'a [u8; LEN],
    payload: &'a [u8],
}

impl<'a> EthernetFrame<'a> {
    /// The frame that `bytes` are, from the destination address on.
    ///
    /// # Errors
    /// [`Error`] when there are fewer than [`LEN`] bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = field::split(NAME, bytes)?;
        Ok(Self { header, payload })
    }

    /// The station the frame is for.
    #[must_use]
    #[inline]
    pub const fn dst(&self) -> MacAddr {
        MacAddr(field::bytes::<DST, 6, LEN>(self.header))
    }

    /// The station that sent the frame.
    #[must_use]
    #[inline]
    pub const fn src(&self) -> MacAddr {
        MacAddr(field::bytes::<SRC, 6, LEN>(self.header))
    }

    /// What the payload is.
    #[must_use]
    #[inline]
    pub const fn ether_type(&self) -> EtherType {
        EtherType(field::u16::<ETHER_TYPE, LEN>(self.header))
    }

    /// Everything behind the header, padding included.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> EthernetHeader {
        EthernetHeader { dst: self.dst(), src: self.src(), ether_type: self.ether_type() }
    }
}

/// The header of an Ethernet frame as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EthernetHeader {
    /// The station the frame is for.
    pub dst: MacAddr,
    /// The station that sends the frame.
    pub src: MacAddr,
    /// What the payload is.
    pub ether_type: EtherType,
}

impl EthernetHeader {
    /// Bytes of the header: [`LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN
    }

    /// The header's bytes.
    #[must_use]
    #[inline]
    pub const fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        field::put::<DST, 6, LEN>(&mut bytes, self.dst.octets());
        field::put::<SRC, 6, LEN>(&mut bytes, self.src.octets());
        field::put_u16::<ETHER_TYPE, LEN>(&mut bytes, self.ether_type.0);
        bytes
    }

    /// Writes the header into the first [`LEN`] bytes of `frame`; the rest is the payload and stays.
    ///
    /// # Errors
    /// [`Error`] when the frame is shorter than the header. Nothing is written then.
    #[inline]
    pub fn emit(&self, frame: &mut [u8]) -> Result<(), Error> {
        let (header, _) = field::split_mut(NAME, frame)?;
        *header = self.to_bytes();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const FRAME: &[u8] = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x06payload";
    const HEADER: EthernetHeader = EthernetHeader {
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        ether_type: EtherType::ARP,
    };

    #[test]
    fn a_frame_reads_and_writes() {
        let frame = EthernetFrame::parse(FRAME).unwrap();
        assert_eq!(frame.header(), HEADER);
        assert_eq!(frame.payload(), b"payload");
        let mut bytes = [0xff; 21];
        bytes[LEN..].copy_from_slice(b"payload");
        HEADER.emit(&mut bytes).unwrap();
        assert_eq!(bytes, FRAME);
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..LEN {
            let error = EthernetFrame::parse(&FRAME[..len]).unwrap_err();
            assert_eq!(error, Error::truncated("Ethernet", 14, len));
            let mut short = FRAME[..len].to_vec();
            assert_eq!(HEADER.emit(&mut short), Err(error));
            assert_eq!(short, FRAME[..len]);
        }
    }

    #[test]
    fn types_print_as_tcpdump_names_them() {
        assert_eq!(EtherType::IPV4.to_string(), "IPv4");
        assert_eq!(EtherType(0x88cc).to_string(), "0x88cc");
        assert!(!EtherType(1500).is_type());
    }
}
