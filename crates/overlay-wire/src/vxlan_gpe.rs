//! VXLAN-GPE, the generic protocol extension (draft-ietf-nvo3-vxlan-gpe-13).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |R|R|Ver|I|P|B|O|           reserved            | next protocol |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        VXLAN network identifier (VNI)         |   reserved    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        inner packet, of the kind the next protocol says ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Where VXLAN always carries an Ethernet frame, this can carry an IP packet and save the 14 bytes. Linux speaks it on
//! devices made with the option `gpe`, which accept version 0 with the P flag and without the O flag.

use core::fmt;

use crate::error::{Error, Expected};
use crate::field;
use crate::ip::IpVersion;
use crate::vni::Vni;

/// Bytes of a VXLAN-GPE header.
pub const LEN: usize = 8;
/// The UDP port that IANA assigned.
pub const PORT: u16 = 4790;

const NAME: &str = "VXLAN-GPE";
const FLAGS: usize = 0;
const NEXT_PROTOCOL: usize = 3;
const VNI: usize = 4;

const VERSION: u8 = 0x30;
const FLAG_VNI: u8 = 0x08;
const FLAG_NEXT_PROTOCOL: u8 = 0x04;
const FLAG_BUM: u8 = 0x02;
const FLAG_OAM: u8 = 0x01;

/// What a VXLAN-GPE packet carries: section 3.2 of the draft.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextProtocol(pub u8);

impl NextProtocol {
    /// An IPv4 packet.
    pub const IPV4: Self = Self(1);
    /// An IPv6 packet.
    pub const IPV6: Self = Self(2);
    /// An Ethernet frame.
    pub const ETHERNET: Self = Self(3);
    /// A network service header (RFC 8300).
    pub const NSH: Self = Self(4);

    /// The protocol that says that an IP packet of this version follows.
    #[must_use]
    pub const fn ip(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::IPV4,
            IpVersion::V6 => Self::IPV6,
        }
    }
}

impl fmt::Display for NextProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IPV4 => f.pad("IPv4"),
            Self::IPV6 => f.pad("IPv6"),
            Self::ETHERNET => f.pad("Ethernet"),
            Self::NSH => f.pad("NSH"),
            Self(other) => fmt::Display::fmt(&other, f),
        }
    }
}

impl fmt::Debug for NextProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NextProtocol({self})")
    }
}

/// A VXLAN-GPE packet in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanGpePacket<'a> {
    header: &'a [u8; LEN],
    payload: &'a [u8],
}

impl<'a> VxlanGpePacket<'a> {
    /// The packet that `bytes`, the payload of a UDP datagram, are.
    ///
    /// Reserved bits are ignored; [`reserved`](Self::reserved) tells them.
    ///
    /// # Errors
    /// [`Error`] when there is no complete header, its version is not 0, or its I flag is not set.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = field::split(NAME, bytes)?;
        let flags = field::u8::<FLAGS, LEN>(header);
        if flags & VERSION != 0 {
            let found = (flags & VERSION) >> VERSION.trailing_zeros();
            return Err(Error::field(NAME, "version", Expected::Exactly(0), found.into()));
        }
        if flags & FLAG_VNI == 0 {
            return Err(Error::field(NAME, "I flag", Expected::Exactly(1), 0));
        }
        Ok(Self { header, payload })
    }

    /// The network that the packet belongs to.
    #[must_use]
    #[inline]
    pub const fn vni(&self) -> Vni {
        Vni::from_octets(field::bytes::<VNI, 3, LEN>(self.header))
    }

    /// What the payload is; `None` when the P flag does not say that there is such a field. The header is then one of
    /// plain VXLAN, and the payload an Ethernet frame.
    #[must_use]
    #[inline]
    pub const fn next_protocol(&self) -> Option<NextProtocol> {
        match self.flag(FLAG_NEXT_PROTOCOL) {
            true => Some(NextProtocol(field::u8::<NEXT_PROTOCOL, LEN>(self.header))),
            false => None,
        }
    }

    /// B: the inner frame is broadcast, of an unknown destination, or multicast, and has been replicated by its sender.
    #[must_use]
    #[inline]
    pub const fn bum(&self) -> bool {
        self.flag(FLAG_BUM)
    }

    /// O: operations, administration and maintenance. The payload is for the tunnel's end and not to be forwarded.
    #[must_use]
    #[inline]
    pub const fn oam(&self) -> bool {
        self.flag(FLAG_OAM)
    }

    const fn flag(&self, flag: u8) -> bool {
        field::u8::<FLAGS, LEN>(self.header) & flag != 0
    }

    /// The bits that are reserved and should be 0, where they are in the header; without the P flag, the next protocol
    /// is among them.
    #[must_use]
    #[inline]
    pub const fn reserved(&self) -> u64 {
        let mask = match self.next_protocol() {
            Some(_) => 0xc0ff_ff00_0000_00ff,
            None => 0xc0ff_ffff_0000_00ff,
        };
        u64::from_be_bytes(*self.header) & mask
    }

    /// The inner packet or frame.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value, without the reserved bits.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> VxlanGpeHeader {
        VxlanGpeHeader {
            vni: self.vni(),
            next_protocol: self.next_protocol(),
            bum: self.bum(),
            oam: self.oam(),
        }
    }
}

/// A VXLAN-GPE header as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VxlanGpeHeader {
    /// The network that the packet belongs to.
    pub vni: Vni,
    /// What the payload is; `None`: an Ethernet frame, behind the header of plain VXLAN.
    pub next_protocol: Option<NextProtocol>,
    /// B: the inner frame is broadcast, of an unknown destination, or multicast, and has been replicated by its sender.
    pub bum: bool,
    /// O: operations, administration and maintenance. The payload is for the tunnel's end and not to be forwarded.
    pub oam: bool,
}

impl VxlanGpeHeader {
    /// The header of a packet in this network, with nothing else special.
    #[must_use]
    pub const fn new(vni: Vni, next_protocol: NextProtocol) -> Self {
        Self { vni, next_protocol: Some(next_protocol), bum: false, oam: false }
    }

    /// Bytes of the header: [`LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN
    }

    /// The header's bytes, reserved bits 0.
    #[must_use]
    #[inline]
    pub const fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut flags = FLAG_VNI;
        if let Some(NextProtocol(number)) = self.next_protocol {
            flags |= FLAG_NEXT_PROTOCOL;
            field::put::<NEXT_PROTOCOL, 1, LEN>(&mut bytes, [number]);
        }
        if self.bum {
            flags |= FLAG_BUM;
        }
        if self.oam {
            flags |= FLAG_OAM;
        }
        field::put::<FLAGS, 1, LEN>(&mut bytes, [flags]);
        field::put::<VNI, 3, LEN>(&mut bytes, self.vni.octets());
        bytes
    }

    /// Writes the header into the first [`LEN`] bytes of `packet`; the rest is the inner packet and stays.
    ///
    /// # Errors
    /// [`Error`] when the packet is shorter than the header. Nothing is written then.
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

    const PACKET: &[u8] = b"\x0f\0\0\x01\x12\x34\x56\0packet";
    const HEADER: VxlanGpeHeader = VxlanGpeHeader {
        vni: Vni::from_octets([0x12, 0x34, 0x56]),
        next_protocol: Some(NextProtocol::IPV4),
        bum: true,
        oam: true,
    };

    #[test]
    fn a_packet_reads_and_writes() {
        let plain = VxlanGpeHeader { bum: false, oam: false, ..HEADER };
        let cases = [
            (*b"\x0f\0\0\x01\x12\x34\x56\0packet", HEADER),
            (*b"\x0d\0\0\x01\x12\x34\x56\0packet", VxlanGpeHeader { bum: false, ..HEADER }),
            (*b"\x0e\0\0\x01\x12\x34\x56\0packet", VxlanGpeHeader { oam: false, ..HEADER }),
            (*b"\x08\0\0\0\x12\x34\x56\0packet", VxlanGpeHeader { next_protocol: None, ..plain }),
            (
                *b"\x0c\0\0\x03\x12\x34\x56\0packet",
                VxlanGpeHeader::new(HEADER.vni, NextProtocol::ETHERNET),
            ),
        ];
        for (bytes, header) in cases {
            let packet = VxlanGpePacket::parse(&bytes).unwrap();
            assert_eq!((packet.header(), packet.payload()), (header, &b"packet"[..]));
            assert_eq!(packet.reserved(), 0);
            let mut written = *b"\xff\xff\xff\xff\xff\xff\xff\xffpacket";
            header.emit(&mut written).unwrap();
            assert_eq!(written, bytes);
        }
    }

    #[test]
    fn reserved_bits_are_told_and_change_nothing_else() {
        for bit in [0, 1].into_iter().chain(8..24).chain(56..64) {
            let mut bytes = PACKET.to_vec();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            let packet = VxlanGpePacket::parse(&bytes).unwrap();
            assert_eq!((packet.reserved(), packet.header()), (1 << (63 - bit), HEADER));
        }
        // A next protocol that the flags do not announce is no next protocol.
        let packet = VxlanGpePacket::parse(b"\x08\0\0\x02\0\0\x01\0").unwrap();
        assert_eq!((packet.next_protocol(), packet.reserved()), (None, 2 << 32));
    }

    #[test]
    fn other_versions_and_packets_without_a_vni_are_refused() {
        for (flags, error) in [
            (0x1c, Error::field("VXLAN-GPE", "version", Expected::Exactly(0), 1)),
            (0x2c, Error::field("VXLAN-GPE", "version", Expected::Exactly(0), 2)),
            (0x04, Error::field("VXLAN-GPE", "I flag", Expected::Exactly(1), 0)),
        ] {
            let mut bytes = PACKET.to_vec();
            bytes[0] = flags;
            assert_eq!(VxlanGpePacket::parse(&bytes), Err(error));
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..LEN {
            let error = VxlanGpePacket::parse(&PACKET[..len]).unwrap_err();
            assert_eq!(error, Error::truncated("VXLAN-GPE", 8, len));
            let mut short = PACKET[..len].to_vec();
            assert_eq!(HEADER.emit(&mut short), Err(error));
            assert_eq!(short, PACKET[..len]);
        }
    }

    #[test]
    fn protocols_have_names() {
        assert_eq!(NextProtocol::ip(IpVersion::V6).to_string(), "IPv6");
        assert_eq!(NextProtocol(5).to_string(), "5");
    }
}
