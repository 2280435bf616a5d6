//! VXLAN (RFC 7348), with or without the group policy extension (draft-smith-vxlan-group-policy-05).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |G|R|R|R|I|R|R|R|R|D|R|R|A|R|R|R|        group policy ID        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        VXLAN network identifier (VNI)         |   reserved    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                   inner Ethernet frame ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! G, D, A and the group policy ID belong to the extension; G says that the other three mean something. In a header
//! without the extension all four are reserved. Linux calls it `gbp` and speaks it on devices made with that option.
//!
//! Not every header with the G flag is one of the extension: a receiver that has not agreed on it with the sender
//! ignores the flag, as it does with every reserved bit, and [`VxlanPacket::vni`] and [`VxlanPacket::payload`] do not
//! look at it.

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
const POLICY_FLAGS: usize = 1;
const GROUP: usize = 2;
const VNI: usize = 4;
/// G: there is a group policy.
const FLAG_GROUP: u8 = 0x80;
/// I: the VNI is valid.
const FLAG_VNI: u8 = 0x08;
/// D, in the byte behind the flags.
const DONT_LEARN: u8 = 0x40;
/// A, in the byte behind the flags.
const APPLIED: u8 = 0x08;

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

    /// What the group policy extension says, if its G flag is set.
    #[must_use]
    #[inline]
    pub const fn group_policy(&self) -> Option<GroupPolicy> {
        if field::u8::<FLAGS, LEN>(self.header) & FLAG_GROUP == 0 {
            return None;
        }
        let flags = field::u8::<POLICY_FLAGS, LEN>(self.header);
        Some(GroupPolicy {
            id: field::u16::<GROUP, LEN>(self.header),
            dont_learn: flags & DONT_LEARN != 0,
            applied: flags & APPLIED != 0,
        })
    }

    /// The bits that are reserved and should be 0, where they are in the header: all but the I flag and the VNI, and,
    /// if the G flag is set, all but those of the group policy.
    ///
    /// A receiver that does not know the extension takes the G flag for reserved too; see
    /// [`group_policy`](Self::group_policy).
    #[must_use]
    #[inline]
    pub const fn reserved(&self) -> u64 {
        self.unexplained(self.group_policy().is_some())
    }

    /// The bits that mean nothing to a receiver that understands the group policy extension, or does not.
    pub(crate) const fn unexplained(&self, group_policy: bool) -> u64 {
        let mask = if group_policy { 0x77b7_0000_0000_00ff } else { 0xf7ff_ffff_0000_00ff };
        u64::from_be_bytes(*self.header) & mask
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
        VxlanHeader { vni: self.vni(), group_policy: self.group_policy() }
    }
}

/// What the group policy extension adds to a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupPolicy {
    /// The group that the sender of the inner frame belongs to. What a group is, the operator says.
    pub id: u16,
    /// D: the receiver must not learn from this packet which VTEP the inner source address is behind.
    pub dont_learn: bool,
    /// A: the policy has been applied on the way already and must not be applied again.
    pub applied: bool,
}

/// A VXLAN header as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VxlanHeader {
    /// The network that the frame belongs to.
    pub vni: Vni,
    /// What the group policy extension says; `None`: a header as RFC 7348 has it.
    pub group_policy: Option<GroupPolicy>,
}

impl VxlanHeader {
    /// The header of a frame in this network, as RFC 7348 has it.
    #[must_use]
    pub const fn new(vni: Vni) -> Self {
        Self { vni, group_policy: None }
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
        field::put::<FLAGS, 1, LEN>(&mut bytes, [FLAG_VNI]);
        field::put::<VNI, 3, LEN>(&mut bytes, self.vni.octets());
        if let Some(policy) = self.group_policy {
            let dont_learn = if policy.dont_learn { DONT_LEARN } else { 0 };
            let applied = if policy.applied { APPLIED } else { 0 };
            field::put::<FLAGS, 1, LEN>(&mut bytes, [FLAG_GROUP | FLAG_VNI]);
            field::put::<POLICY_FLAGS, 1, LEN>(&mut bytes, [dont_learn | applied]);
            field::put_u16::<GROUP, LEN>(&mut bytes, policy.id);
        }
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
    const HEADER: VxlanHeader = VxlanHeader::new(Vni::from_octets([0x12, 0x34, 0x56]));

    const WITH_POLICY: &[u8] = b"\x88\x48\x01\x02\x12\x34\x56\0frame";
    const POLICY: GroupPolicy = GroupPolicy { id: 0x0102, dont_learn: true, applied: true };

    #[test]
    fn a_packet_reads_and_writes() {
        let with_policy = VxlanHeader { group_policy: Some(POLICY), ..HEADER };
        for (bytes, header) in [(PACKET, HEADER), (WITH_POLICY, with_policy)] {
            let packet = VxlanPacket::parse(bytes).unwrap();
            assert_eq!((packet.header(), packet.payload()), (header, &b"frame"[..]));
            assert_eq!(packet.reserved(), 0);
            let mut written = *b"\xff\xff\xff\xff\xff\xff\xff\xffframe";
            header.emit(&mut written).unwrap();
            assert_eq!(written, bytes);
        }
    }

    #[test]
    fn each_bit_of_a_policy_has_its_place() {
        let policy = |byte: usize, bit: u8| {
            let mut bytes = WITH_POLICY.to_vec();
            bytes[byte] ^= bit;
            VxlanPacket::parse(&bytes).unwrap().group_policy()
        };
        assert_eq!(policy(0, 0x80), None);
        assert_eq!(policy(1, 0x40), Some(GroupPolicy { dont_learn: false, ..POLICY }));
        assert_eq!(policy(1, 0x08), Some(GroupPolicy { applied: false, ..POLICY }));
        assert_eq!(policy(2, 0x80), Some(GroupPolicy { id: 0x8102, ..POLICY }));
        assert_eq!(policy(3, 0x01), Some(GroupPolicy { id: 0x0103, ..POLICY }));
    }

    #[test]
    fn reserved_bits_are_told_and_change_nothing_else() {
        for bit in 1..LEN * 8 {
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
    fn fewer_bits_are_reserved_with_a_policy() {
        for bit in (0..LEN * 8).filter(|bit| ![0, 4].contains(bit)) {
            let mut bytes = WITH_POLICY.to_vec();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            let reserved = match bit {
                9 | 12 | 16..32 | 32..56 => 0,
                _ => 1_u64 << (63 - bit),
            };
            assert_eq!(VxlanPacket::parse(&bytes).unwrap().reserved(), reserved, "{bit}");
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
