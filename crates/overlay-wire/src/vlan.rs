//! VLAN tags (IEEE 802.1Q-2018, clause 9; stacked, IEEE 802.1ad: QinQ).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | PCP |D|        VLAN ID        |           EtherType           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          payload ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! The standard counts the EtherType in front as part of the tag. Here it belongs to the header in front, as every
//! EtherType does, so that a tag is what follows an EtherType of [`EtherType::VLAN`] or [`EtherType::QINQ`], in an
//! Ethernet header or in another tag.
//!
//! ```
//! use overlay_wire::ethernet::{EtherType, EthernetFrame};
//! use overlay_wire::vlan::VlanPacket;
//!
//! let frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xa8\0\x0a\x81\0\0\x14\x08\0payload";
//! let frame = EthernetFrame::parse(frame)?;
//! assert_eq!(frame.ether_type(), EtherType::QINQ);
//! let outer = VlanPacket::parse(frame.payload())?;
//! assert_eq!((outer.vid(), outer.ether_type()), (10, EtherType::VLAN));
//! let inner = VlanPacket::parse(outer.payload())?;
//! assert_eq!((inner.vid(), inner.ether_type()), (20, EtherType::IPV4));
//! # Ok::<(), overlay_wire::Error>(())
//! ```

use crate::error::{Error, Expected};
use crate::ethernet::EtherType;
use crate::field;

/// Bytes of a tag behind its EtherType, the next EtherType included.
pub const LEN: usize = 4;
/// The largest VLAN ID, 2^12 - 1. It is reserved, and so is 0: no VLAN, only a priority.
pub const MAX_VID: u16 = 0x0fff;

const NAME: &str = "VLAN";
const TCI: usize = 0;
const ETHER_TYPE: usize = 2;

const PCP_SHIFT: u16 = 13;
const MAX_PCP: u8 = 7;
const DEI: u16 = 0x1000;

/// What follows an EtherType of 802.1Q or 802.1ad, in bytes that have been checked. No accessor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanPacket<'a> {
    header: &'a [u8; LEN],
    payload: &'a [u8],
}

impl<'a> VlanPacket<'a> {
    /// The tag at the beginning of `bytes`, with the payload behind it.
    ///
    /// # Errors
    /// [`Error`] when there are fewer than [`LEN`] bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (header, payload) = field::split(NAME, bytes)?;
        Ok(Self { header, payload })
    }

    /// Priority code point: 0 to 7.
    #[must_use]
    #[inline]
    pub const fn pcp(&self) -> u8 {
        (field::u16::<TCI, LEN>(self.header) >> PCP_SHIFT) as u8
    }

    /// Drop eligible indicator: whether this frame goes first when there are too many.
    #[must_use]
    #[inline]
    pub const fn dei(&self) -> bool {
        field::u16::<TCI, LEN>(self.header) & DEI != 0
    }

    /// VLAN ID: 0 to [`MAX_VID`].
    #[must_use]
    #[inline]
    pub const fn vid(&self) -> u16 {
        field::u16::<TCI, LEN>(self.header) & MAX_VID
    }

    /// What the payload is.
    #[must_use]
    #[inline]
    pub const fn ether_type(&self) -> EtherType {
        EtherType(field::u16::<ETHER_TYPE, LEN>(self.header))
    }

    /// Everything behind the tag, padding included.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The tag as a plain value.
    #[must_use]
    #[inline]
    pub const fn header(&self) -> VlanHeader {
        VlanHeader {
            pcp: self.pcp(),
            dei: self.dei(),
            vid: self.vid(),
            ether_type: self.ether_type(),
        }
    }
}

/// A VLAN tag as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanHeader {
    /// Priority code point: 0 to 7.
    pub pcp: u8,
    /// Drop eligible indicator: whether this frame goes first when there are too many.
    pub dei: bool,
    /// VLAN ID: 0 to [`MAX_VID`].
    pub vid: u16,
    /// What the payload is.
    pub ether_type: EtherType,
}

impl VlanHeader {
    /// Bytes of the tag: [`LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN
    }

    /// Writes the tag into the first [`LEN`] bytes of `packet`; the rest is the payload and stays.
    ///
    /// # Errors
    /// [`Error`] when the packet is shorter than the tag, or a field does not fit. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        if self.pcp > MAX_PCP {
            let expected = Expected::AtMost(MAX_PCP.into());
            return Err(Error::field(NAME, "PCP", expected, self.pcp.into()));
        }
        if self.vid > MAX_VID {
            let expected = Expected::AtMost(MAX_VID.into());
            return Err(Error::field(NAME, "VLAN ID", expected, self.vid.into()));
        }
        let (header, _) = field::split_mut::<LEN>(NAME, packet)?;
        let dei = if self.dei { DEI } else { 0 };
        field::put_u16::<TCI, LEN>(header, u16::from(self.pcp) << PCP_SHIFT | dei | self.vid);
        field::put_u16::<ETHER_TYPE, LEN>(header, self.ether_type.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: &[u8] = b"\xb1\x23\x86\xddpayload";
    const HEADER: VlanHeader =
        VlanHeader { pcp: 5, dei: true, vid: 0x123, ether_type: EtherType::IPV6 };

    #[test]
    fn a_tag_reads_and_writes() {
        let packet = VlanPacket::parse(PACKET).unwrap();
        assert_eq!((packet.header(), packet.payload()), (HEADER, &b"payload"[..]));
        let mut bytes = *b"\xff\xff\xff\xffpayload";
        HEADER.emit(&mut bytes).unwrap();
        assert_eq!(bytes, PACKET);
    }

    #[test]
    fn every_tag_is_itself_again() {
        for tci in 0..=u16::MAX {
            let [a, b] = tci.to_be_bytes();
            let bytes = [a, b, 0x08, 0x06];
            let mut emitted = [0xff; LEN];
            VlanPacket::parse(&bytes).unwrap().header().emit(&mut emitted).unwrap();
            assert_eq!(emitted, bytes);
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..LEN {
            let error = VlanPacket::parse(&PACKET[..len]).unwrap_err();
            assert_eq!(error, Error::truncated("VLAN", 4, len));
            let mut short = PACKET[..len].to_vec();
            assert_eq!(HEADER.emit(&mut short), Err(error));
            assert_eq!(short, PACKET[..len]);
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_and_nothing_written() {
        for (header, field) in [
            (VlanHeader { vid: 4096, ..HEADER }, "VLAN ID"),
            (VlanHeader { pcp: 8, ..HEADER }, "PCP"),
        ] {
            let mut bytes = [0xff; 6];
            assert_eq!(header.emit(&mut bytes).unwrap_err().field, field);
            assert_eq!(bytes, [0xff; 6]);
        }
    }
}
