//! ARP (RFC 826), as it finds the Ethernet address of an IPv4 address; probes and announcements (RFC 5227).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |       hardware type = 1       |    protocol type = 0x0800     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |hardware len=6 |protocol len=4 |           operation           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    sender hardware address                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               | sender protocol address ...   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               | target hardware address ...   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    target protocol address                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::fmt;
use core::net::Ipv4Addr;

use crate::error::{Error, Expected};
use crate::ethernet::EtherType;
use crate::field;
use crate::mac::MacAddr;

/// Bytes of an ARP packet for Ethernet and IPv4.
pub const LEN: usize = 28;

const NAME: &str = "ARP";
const HARDWARE_TYPE: usize = 0;
const PROTOCOL_TYPE: usize = 2;
const HARDWARE_LEN: usize = 4;
const PROTOCOL_LEN: usize = 5;
const OPERATION: usize = 6;
const SENDER_MAC: usize = 8;
const SENDER_IP: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET_IP: usize = 24;

const ETHERNET: u16 = 1;

/// What an ARP packet wants or says. Numbers as assigned by IANA (RFC 5494).
///
/// Prints as tcpdump does for those that have a name here, else as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArpOperation(pub u16);

impl ArpOperation {
    /// Who has the target's protocol address?
    pub const REQUEST: Self = Self(1);
    /// The sender has it.
    pub const REPLY: Self = Self(2);
}

impl fmt::Display for ArpOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::REQUEST => f.pad("Request"),
            Self::REPLY => f.pad("Reply"),
            Self(other) => fmt::Display::fmt(&other, f),
        }
    }
}

impl fmt::Debug for ArpOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArpOperation({self})")
    }
}

/// An ARP packet in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket<'a> {
    header: &'a [u8; LEN],
}

impl<'a> ArpPacket<'a> {
    /// The packet at the beginning of `bytes`; what is behind it, such as an Ethernet frame's padding, is ignored.
    ///
    /// # Errors
    /// [`Error`] when there are fewer than [`LEN`] bytes, or the types and lengths of the addresses are not those of
    /// Ethernet and IPv4.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, _) = field::split::<LEN>(NAME, bytes)?;
        let fields = [
            ("hardware type", ETHERNET, field::u16::<HARDWARE_TYPE, LEN>(header)),
            ("protocol type", EtherType::IPV4.0, field::u16::<PROTOCOL_TYPE, LEN>(header)),
            ("hardware address length", 6, field::u8::<HARDWARE_LEN, LEN>(header).into()),
            ("protocol address length", 4, field::u8::<PROTOCOL_LEN, LEN>(header).into()),
        ];
        for (name, expected, found) in fields {
            if found != expected {
                let expected = Expected::Exactly(expected.into());
                return Err(Error::field(NAME, name, expected, found.into()));
            }
        }
        Ok(Self { header })
    }

    /// What the packet wants or says.
    #[must_use]
    #[inline]
    pub const fn operation(&self) -> ArpOperation {
        ArpOperation(field::u16::<OPERATION, LEN>(self.header))
    }

    /// The Ethernet address of the sender.
    #[must_use]
    #[inline]
    pub const fn sender_mac(&self) -> MacAddr {
        MacAddr(field::bytes::<SENDER_MAC, 6, LEN>(self.header))
    }

    /// The IPv4 address of the sender; `0.0.0.0` in a probe.
    #[must_use]
    #[inline]
    pub const fn sender_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(field::u32::<SENDER_IP, LEN>(self.header))
    }

    /// The Ethernet address of the target; without meaning in a request.
    #[must_use]
    #[inline]
    pub const fn target_mac(&self) -> MacAddr {
        MacAddr(field::bytes::<TARGET_MAC, 6, LEN>(self.header))
    }

    /// The IPv4 address of the target: in a request, the one that is looked for.
    #[must_use]
    #[inline]
    pub const fn target_ip(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(field::u32::<TARGET_IP, LEN>(self.header))
    }

    /// The packet as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> ArpHeader {
        ArpHeader {
            operation: self.operation(),
            sender_mac: self.sender_mac(),
            sender_ip: self.sender_ip(),
            target_mac: self.target_mac(),
            target_ip: self.target_ip(),
        }
    }
}

/// An ARP packet as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArpHeader {
    /// What the packet wants or says.
    pub operation: ArpOperation,
    /// The Ethernet address of the sender.
    pub sender_mac: MacAddr,
    /// The IPv4 address of the sender; `0.0.0.0` in a probe.
    pub sender_ip: Ipv4Addr,
    /// The Ethernet address of the target; [`MacAddr::ZERO`] in a request.
    pub target_mac: MacAddr,
    /// The IPv4 address of the target: in a request, the one that is looked for.
    pub target_ip: Ipv4Addr,
}

impl ArpHeader {
    /// The question who has an address.
    #[must_use]
    pub const fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        let (operation, target_mac) = (ArpOperation::REQUEST, MacAddr::ZERO);
        Self { operation, sender_mac, sender_ip, target_mac, target_ip }
    }

    /// The announcement that an address is here, to be broadcast: a gratuitous request (RFC 5227, section 2.3).
    #[must_use]
    pub const fn announcement(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self::request(mac, ip, ip)
    }

    /// The answer that the station `mac` has the address that this request asks for; `None` if this is no request.
    ///
    /// Goes to [`target_mac`](Self::target_mac) of the answer. Whether a gratuitous request or a probe shall be
    /// answered is for the caller to decide: the answer says that the address is in use.
    #[must_use]
    pub fn reply(&self, mac: MacAddr) -> Option<Self> {
        (self.operation == ArpOperation::REQUEST).then_some(Self {
            operation: ArpOperation::REPLY,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        })
    }

    /// Whether the sender tells of itself, and asks nobody: a request or reply about its own address.
    #[must_use]
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip
    }

    /// Whether the sender asks if an address is free that it wants to take (RFC 5227, section 2.1.1).
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.operation == ArpOperation::REQUEST
            && self.sender_ip.is_unspecified()
            && !self.target_ip.is_unspecified()
    }

    /// Bytes of the packet: [`LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN
    }

    /// The packet's bytes.
    #[must_use]
    #[inline]
    pub const fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        field::put_u16::<HARDWARE_TYPE, LEN>(&mut bytes, ETHERNET);
        field::put_u16::<PROTOCOL_TYPE, LEN>(&mut bytes, EtherType::IPV4.0);
        field::put::<HARDWARE_LEN, 1, LEN>(&mut bytes, [6]);
        field::put::<PROTOCOL_LEN, 1, LEN>(&mut bytes, [4]);
        field::put_u16::<OPERATION, LEN>(&mut bytes, self.operation.0);
        field::put::<SENDER_MAC, 6, LEN>(&mut bytes, self.sender_mac.octets());
        field::put::<SENDER_IP, 4, LEN>(&mut bytes, self.sender_ip.octets());
        field::put::<TARGET_MAC, 6, LEN>(&mut bytes, self.target_mac.octets());
        field::put::<TARGET_IP, 4, LEN>(&mut bytes, self.target_ip.octets());
        bytes
    }

    /// Writes the packet into the first [`LEN`] bytes of `packet`; the rest stays.
    ///
    /// # Errors
    /// [`Error`] when `packet` is too short. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        let (header, _) = field::split_mut(NAME, packet)?;
        *header = self.to_bytes();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const PACKET: &[u8] =
        b"\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01\x0a\0\0\x01\0\0\0\0\0\0\x0a\0\0\x02";
    const HEADER: ArpHeader = ArpHeader::request(
        MacAddr([2, 0, 0, 0, 0, 1]),
        Ipv4Addr::new(10, 0, 0, 1),
        Ipv4Addr::new(10, 0, 0, 2),
    );

    #[test]
    fn a_packet_reads_and_writes() {
        let padded = [PACKET, &[0xff; 18]].concat();
        assert_eq!(ArpPacket::parse(&padded).unwrap().header(), HEADER);
        let mut bytes = [0xff; 46];
        HEADER.emit(&mut bytes).unwrap();
        assert_eq!(bytes, padded[..]);
    }

    #[test]
    fn a_reply_turns_the_request_round() {
        let mac = MacAddr([2, 0, 0, 0, 0, 2]);
        let reply = HEADER.reply(mac).unwrap();
        assert_eq!(
            reply.to_bytes(),
            *b"\0\x01\x08\0\x06\x04\0\x02\x02\0\0\0\0\x02\x0a\0\0\x02\x02\0\0\0\0\x01\x0a\0\0\x01"
        );
        assert_eq!(reply.reply(mac), None);
        assert_eq!(ArpHeader { operation: ArpOperation(3), ..HEADER }.reply(mac), None);
    }

    #[test]
    fn announcements_and_probes_are_told_from_requests() {
        let announcement = ArpHeader::announcement(HEADER.sender_mac, HEADER.sender_ip);
        let nobody = Ipv4Addr::UNSPECIFIED;
        let probe = ArpHeader { sender_ip: nobody, ..HEADER };
        let said = |header: ArpHeader| (header.is_gratuitous(), header.is_probe());
        assert_eq!(said(HEADER), (false, false));
        assert_eq!(said(announcement), (true, false));
        assert_eq!(said(probe), (false, true));
        assert_eq!(said(ArpHeader { target_ip: nobody, ..probe }), (true, false));
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..LEN {
            let error = ArpPacket::parse(&PACKET[..len]).unwrap_err();
            assert_eq!(error, Error::truncated("ARP", 28, len));
            let mut short = PACKET[..len].to_vec();
            assert_eq!(HEADER.emit(&mut short), Err(error));
            assert_eq!(short, PACKET[..len]);
        }
    }

    #[test]
    fn other_kinds_of_addresses_are_refused() {
        for (at, byte, field, expected, found) in [
            (1, 6, "hardware type", 1, 6),
            (3, 6, "protocol type", 0x0800, 0x0806),
            (4, 8, "hardware address length", 6, 8),
            (5, 16, "protocol address length", 4, 16),
        ] {
            let mut bytes = PACKET.to_vec();
            bytes[at] = byte;
            let error = Error::field("ARP", field, Expected::Exactly(expected), found);
            assert_eq!(ArpPacket::parse(&bytes), Err(error));
        }
    }

    #[test]
    fn unknown_operations_are_numbers() {
        assert_eq!(ArpOperation::REPLY.to_string(), "Reply");
        assert_eq!(ArpOperation(25).to_string(), "25");
        let mut bytes = PACKET.to_vec();
        bytes[OPERATION + 1] = 25;
        assert_eq!(ArpPacket::parse(&bytes).unwrap().operation(), ArpOperation(25));
    }
}
