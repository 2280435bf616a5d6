//! VXLAN (RFC 7348).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |R|R|R|R|I|R|R|R|                   reserved                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        VXLAN network identifier (VNI)         |   reserved    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                   inner Ethernet frame ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```

use crate::error::{Error, Expected};
use crate::field;
use crate::vni::Vni;

/// Bytes of a VXLAN header.
pub const LEN: usize = 8;
/// The UDP port that IANA assigned.
pub const PORT: u16 = 4789;
/// The UDP port that Linux uses unless told otherwise, and so Flannel on Linux.
pub const LINUX_PORT: u16 = 8472;

const NAME: &str = "VXLAN";
const FLAGS: usize = 0;
const VNI: usize = 4;
/// The bit that says that the VNI is valid.
const FLAG_VNI: u8 = 0x08;

/// A VXLAN packet in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanPacket<'a> {
    header: &'a [u8; LEN],
    payload: &'a [u8],
}

impl<'a> VxlanPacket<'a> {
    /// The packet that `bytes`, the payload of a UDP datagram, are.
    ///
    /// Reserved bits are ignored, as RFC 7348 asks of receivers; [`reserved`](Self::reserved) tells them.
    ///
    /// # Errors
    /// [`Error`] when there is no complete header, or its I flag is not set.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = field::split(NAME, bytes)?;
        if field::u8::<FLAGS, LEN>(header) & FLAG_VNI == 0 {
            return Err(Error::field(NAME, "I flag", Expected::Exactly(1), 0));
        }
        Ok(Self { header, payload })
    }

    /// The network that the frame belongs to.
    #[must_use]
    #[inline]
    pub const fn vni(&self) -> Vni {
        Vni::from_octets(field::bytes::<VNI, 3, LEN>(self.header))
    }

    /// The bits that are reserved and should be 0, where they are in the header: all but the I flag and the VNI.
    #[must_use]
    #[inline]
    pub const fn reserved(&self) -> u64 {
        u64::from_be_bytes(*self.header) & 0xf7ff_ffff_0000_00ff
    }

    /// The inner Ethernet frame.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The header as a plain value, without the reserved bits.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> VxlanHeader {
        VxlanHeader { vni: self.vni() }
    }
}

/// A VXLAN header as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VxlanHeader {
    /// The network that the frame belongs to.
    pub vni: Vni,
}

impl VxlanHeader {
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
        field::put::<FLAGS, 1, LEN>(&mut bytes, [FLAG_VNI]);
        field::put::<VNI, 3, LEN>(&mut bytes, self.vni.octets());
        bytes
    }

    /// Writes the header into the first [`LEN`] bytes of `packet`; the rest is the inner frame and stays.
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

    const PACKET: &[u8] = b"\x08\0\0\0\x12\x34\x56\0frame";
    const HEADER: VxlanHeader = VxlanHeader { vni: Vni::from_octets([0x12, 0x34, 0x56]) };

    #[test]
    fn a_packet_reads_and_writes() {
        let packet = VxlanPacket::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (HEADER, &b"frame"[..]));
        assert_eq!(packet.reserved(), 0);
        let mut bytes = *b"\xff\xff\xff\xff\xff\xff\xff\xffframe";
        HEADER.emit(&mut bytes).unwrap();
        assert_eq!(bytes, PACKET);
    }

    #[test]
    fn reserved_bits_are_told_and_change_nothing_else() {
        for bit in 0..LEN * 8 {
            let mut bytes = PACKET.to_vec();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            let reserved = 1_u64 << (63 - bit);
            match (bit, VxlanPacket::parse(&bytes)) {
                (4, result) => assert_eq!(
                    result,
                    Err(Error::field("VXLAN", "I flag", Expected::Exactly(1), 0))
                ),
                (32..56, result) => assert_eq!(result.unwrap().reserved(), 0),
                (_, result) => {
                    let packet = result.unwrap();
                    assert_eq!((packet.reserved(), packet.header()), (reserved, HEADER));
                }
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..LEN {
            let error = VxlanPacket::parse(&PACKET[..len]).unwrap_err();
            assert_eq!(error, Error::truncated("VXLAN", 8, len));
            let mut short = PACKET[..len].to_vec();
            assert_eq!(HEADER.emit(&mut short), Err(error));
            assert_eq!(short, PACKET[..len]);
        }
    }
}
