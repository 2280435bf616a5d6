//! The virtio network header: what stands in front of a packet whose checksum or segmentation is left to somebody else
//! (virtio 1.2, section 5.1.6; `struct virtio_net_hdr` of linux/virtio_net.h).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     flags     |   gso type    |         header length         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           gso size            |        checksum start         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        checksum offset        |  packet ...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! A TUN device that has been opened with `IFF_VNET_HDR` puts one in front of every packet, and so does a packet socket
//! with `PACKET_VNET_HDR`. Numbers are in the byte order of the machine, not of the network, as both have them unless
//! they are told otherwise.

use core::num::NonZeroU16;

use crate::error::{Error, Expected};
use crate::field;

/// Bytes of the header.
pub const LEN: usize = 10;

pub(crate) const NAME: &str = "virtio-net";
const FLAGS: usize = 0;
const GSO_TYPE: usize = 1;
const HEADER_LEN: usize = 2;
const GSO_SIZE: usize = 4;
const CSUM_START: usize = 6;
const CSUM_OFFSET: usize = 8;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_ECN: u8 = 0x80;

/// The header as a plain value. The [default](Default) is that of a packet about which there is nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct VirtioNetHeader {
    /// What is known about the checksum of the upper layer.
    pub checksum: ChecksumState,
    /// How the packet is to be segmented; `None` when it is not.
    pub gso: Option<Gso>,
}

/// What is known about the checksum of a packet's upper layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ChecksumState {
    /// Nothing: it is in its place, and may be wrong.
    #[default]
    Unverified,
    /// It is right, whatever is in its place (`VIRTIO_NET_HDR_F_DATA_VALID`).
    Valid,
    /// It has yet to be computed (`VIRTIO_NET_HDR_F_NEEDS_CSUM`): in its place is the sum of the pseudo-header, folded
    /// but not complemented.
    Needed {
        /// Where in the packet the bytes begin that it covers, to the packet's end.
        start: u16,
        /// Where it has its place, counted from `start`.
        offset: u16,
    },
}

/// How a packet is to be segmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gso {
    /// What becomes of each segment.
    pub kind: GsoKind,
    /// Whether the first segment has the flag CWR, which the others must not have (`VIRTIO_NET_HDR_GSO_ECN`).
    pub ecn: bool,
    /// Bytes of all headers. A hint that may be wrong.
    pub header_len: u16,
    /// Bytes of payload in each segment but the last, which may have fewer.
    pub size: NonZeroU16,
}

/// What a packet is segmented into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GsoKind {
    /// TCP segments over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
    TcpV4 = 1,
    /// TCP segments over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
    TcpV6 = 4,
    /// UDP datagrams over either (`VIRTIO_NET_HDR_GSO_UDP_L4`, Linux 6.2).
    Udp = 5,
}

impl GsoKind {
    const NUMBERS: &[u64] =
        &[GSO_NONE as u64, Self::TcpV4 as u64, Self::TcpV6 as u64, Self::Udp as u64];

    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::TcpV4,
            4 => Self::TcpV6,
            5 => Self::Udp,
            _ => return None,
        })
    }
}

impl VirtioNetHeader {
    /// Bytes of the header: [`LEN`].
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        LEN
    }

    /// The header at the beginning of `bytes`, and the packet behind it.
    ///
    /// Flags that are not known do not count, nor do the fields of what is not asked for.
    ///
    /// # Errors
    /// [`Error`] when the header is incomplete, or wants a segmentation that is not known or has a size of 0.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (header, packet) = field::split::<LEN>(NAME, bytes)?;
        let flags = field::u8::<FLAGS, LEN>(header);
        let checksum = if flags & NEEDS_CSUM != 0 {
            let (start, offset) = (get::<CSUM_START>(header), get::<CSUM_OFFSET>(header));
            ChecksumState::Needed { start, offset }
        } else if flags & DATA_VALID != 0 {
            ChecksumState::Valid
        } else {
            ChecksumState::Unverified
        };
        let number = field::u8::<GSO_TYPE, LEN>(header);
        let gso = match GsoKind::of(number & !GSO_ECN) {
            None if number == GSO_NONE => None,
            None => {
                let expected = Expected::OneOf(GsoKind::NUMBERS);
                return Err(Error::field(NAME, "gso type", expected, number.into()));
            }
            Some(kind) => {
                let Some(size) = NonZeroU16::new(get::<GSO_SIZE>(header)) else {
                    return Err(Error::field(NAME, "gso size", Expected::AtLeast(1), 0));
                };
                let ecn = number & GSO_ECN != 0;
                Some(Gso { kind, ecn, header_len: get::<HEADER_LEN>(header), size })
            }
        };
        Ok((Self { checksum, gso }, packet))
    }

    /// The header as bytes.
    #[must_use]
    #[inline]
    pub const fn to_bytes(&self) -> [u8; LEN] {
        let mut header = [0; LEN];
        match self.checksum {
            ChecksumState::Unverified => {}
            ChecksumState::Valid => field::put::<FLAGS, 1, LEN>(&mut header, [DATA_VALID]),
            ChecksumState::Needed { start, offset } => {
                field::put::<FLAGS, 1, LEN>(&mut header, [NEEDS_CSUM]);
                field::put::<CSUM_START, 2, LEN>(&mut header, start.to_ne_bytes());
                field::put::<CSUM_OFFSET, 2, LEN>(&mut header, offset.to_ne_bytes());
            }
        }
        if let Some(gso) = self.gso {
            let ecn = if gso.ecn { GSO_ECN } else { 0 };
            field::put::<GSO_TYPE, 1, LEN>(&mut header, [gso.kind as u8 | ecn]);
            field::put::<HEADER_LEN, 2, LEN>(&mut header, gso.header_len.to_ne_bytes());
            field::put::<GSO_SIZE, 2, LEN>(&mut header, gso.size.get().to_ne_bytes());
        }
        header
    }

    /// Writes the header into the first [`LEN`] bytes of `packet`; the rest is the packet, and stays.
    ///
    /// # Errors
    /// [`Error`] when `packet` is shorter than the header. Nothing is written then.
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) -> Result<(), Error> {
        let (header, _) = field::split_mut::<LEN>(NAME, packet)?;
        *header = self.to_bytes();
        Ok(())
    }
}

/// The number at offset `AT`, in the machine's byte order.
#[inline(always)]
const fn get<const AT: usize>(header: &[u8; LEN]) -> u16 {
    u16::from_ne_bytes(field::bytes::<AT, 2, LEN>(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(flags: u8, gso_type: u8, numbers: [u16; 4]) -> [u8; LEN] {
        let mut bytes = [flags, gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
        for (to, number) in bytes[2..].chunks_mut(2).zip(numbers) {
            to.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_header_reads_and_writes() {
        let needed = |start, offset| ChecksumState::Needed { start, offset };
        let gso = |kind, ecn, header_len, size| {
            Some(Gso { kind, ecn, header_len, size: NonZeroU16::new(size).unwrap() })
        };
        for (bytes, checksum, gso) in [
            (bytes(0, 0, [0; 4]), ChecksumState::Unverified, None),
            (bytes(2, 0, [0; 4]), ChecksumState::Valid, None),
            (bytes(1, 0, [0, 0, 20, 6]), needed(20, 6), None),
            (bytes(1, 1, [52, 1420, 20, 16]), needed(20, 16), gso(GsoKind::TcpV4, false, 52, 1420)),
            (
                bytes(1, 0x84, [72, 1400, 40, 16]),
                needed(40, 16),
                gso(GsoKind::TcpV6, true, 72, 1400),
            ),
            (bytes(1, 5, [28, 1, 20, 6]), needed(20, 6), gso(GsoKind::Udp, false, 28, 1)),
        ] {
            let header = VirtioNetHeader { checksum, gso };
            let framed = [&bytes[..], b"packet"].concat();
            assert_eq!(VirtioNetHeader::parse(&framed), Ok((header, &b"packet"[..])));
            let mut emitted = [0xa5; LEN + 1];
            header.emit(&mut emitted).unwrap();
            assert_eq!((&emitted[..LEN], emitted[LEN]), (&bytes[..], 0xa5));
            assert_eq!(header.to_bytes(), bytes);
        }
    }

    #[test]
    fn what_is_not_asked_for_does_not_count() {
        let (header, _) = VirtioNetHeader::parse(&bytes(0xfc, 0, [1, 2, 3, 4])).unwrap();
        assert_eq!(header, VirtioNetHeader::default());
        // Who needs a checksum cannot have a valid one.
        let (header, _) = VirtioNetHeader::parse(&bytes(3, 0, [1, 2, 3, 4])).unwrap();
        assert_eq!(header.checksum, ChecksumState::Needed { start: 3, offset: 4 });
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        // Fragmentation of UDP, which Linux gave up, UDP tunnels, and ECN with nothing to segment.
        for number in [2, 3, 6, 0x21, 0x45, 0x80, 0x83] {
            let error = VirtioNetHeader::parse(&bytes(1, number, [40, 1, 20, 16])).unwrap_err();
            let expected = Expected::OneOf(&[0, 1, 4, 5]);
            assert_eq!(error, Error::field(NAME, "gso type", expected, number.into()));
        }
        let error = VirtioNetHeader::parse(&bytes(1, 1, [40, 0, 20, 16])).unwrap_err();
        assert_eq!(error, Error::field(NAME, "gso size", Expected::AtLeast(1), 0));
        for len in 0..LEN {
            let error = Error::truncated(NAME, LEN, len);
            assert_eq!(VirtioNetHeader::parse(&bytes(0, 0, [0; 4])[..len]), Err(error));
            assert_eq!(VirtioNetHeader::default().emit(&mut [0; LEN][..len]), Err(error));
        }
    }
}
