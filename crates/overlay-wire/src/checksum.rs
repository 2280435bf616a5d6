//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! The checksum is the one's complement of the one's complement sum of 16-bit words. IPv4, UDP, TCP, ICMP, GRE and GUE
//! all use it; UDP, TCP and ICMPv6 put a [`PseudoHeader`] of the IP addresses in front.
//!
//! ```
//! use overlay_wire::checksum;
//!
//! // The header of an IPv4 packet, its checksum field zero.
//! let mut header = *b"\x45\0\0\x54\0\0\x40\0\x40\x01\0\0\x0a\0\0\x01\x0a\0\0\x02";
//! let sum = checksum::of(&header);
//! assert_eq!(sum, 0x26a7);
//! header[10..12].copy_from_slice(&sum.to_be_bytes());
//! assert!(checksum::is_valid(&header));
//!
//! // A router takes one off the time to live, 0x4001 becomes 0x3f01, and need not look at the rest.
//! assert_eq!(checksum::update(sum, 0x4001, 0x3f01), 0x27a7);
//! ```

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip::{IpProtocol, MixedVersions};

/// The checksum of some bytes, as a number to be written in network byte order. RFC 1071, section 1.
///
/// An odd last byte counts as if a zero byte followed.
#[must_use]
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    Checksum::new().bytes(bytes).finish()
}

/// Whether bytes that contain their own checksum are as they were when it was computed.
#[must_use]
#[inline]
pub fn is_valid(bytes: &[u8]) -> bool {
    of(bytes) == 0
}

/// The checksum after one of the 16-bit words it covers has changed: RFC 1624, equation 3.
///
/// `HC' = ~(~HC + ~m + m')`
///
/// Not for a UDP checksum of 0, which says that there is none and has to stay; and a result of 0 is sent as 0xffff in
/// UDP.
#[must_use]
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// The checksum after bytes it covers, which begin at an even offset, have been replaced by as many others.
///
/// With slices of different lengths it is as if zeros followed the shorter one.
#[must_use]
#[inline]
pub fn update_bytes(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    // The negation of a sum is its complement.
    let (old, new) = (of(old), !of(new));
    !fold(u64::from(!checksum) + u64::from(old) + u64::from(new))
}

/// A checksum of several parts, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// Not complemented, of words as the machine reads them, and not folded: far from overflowing, since each addition
    /// adds less than 2^49.
    sum: u64,
    /// Whether the number of bytes so far is odd.
    odd: bool,
}

impl Checksum {
    /// The checksum of nothing.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Continues with these bytes behind what is there already, whatever the number of bytes before.
    #[must_use]
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let sum = u64::from(fold(sum(bytes)));
        // Bytes at odd offsets are summed in the other half of the word: RFC 1071, section 2 (B).
        let sum = if self.odd { u64::from((sum as u16).swap_bytes()) } else { sum };
        let odd = self.odd != (bytes.len() % 2 == 1);
        Self { sum: u64::from(fold(self.sum)) + sum, odd }
    }

    /// Continues with a 16-bit word at an even offset.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn word(self, word: u16) -> Self {
        Self { sum: self.sum + word.to_be() as u64, ..self }
    }

    /// Continues with the pseudo-header of a packet of the upper layer that has `length` bytes.
    #[must_use]
    #[inline]
    pub fn pseudo_header(self, header: &PseudoHeader, protocol: IpProtocol, length: u32) -> Self {
        let number = u64::from(u32::from(protocol.0).to_be()) + u64::from(length.to_be());
        let addresses = match header {
            PseudoHeader::V4 { src, dst } => sum(&src.octets()) + sum(&dst.octets()),
            PseudoHeader::V6 { src, dst } => sum(&src.octets()) + sum(&dst.octets()),
        };
        Self { sum: u64::from(fold(self.sum)) + u64::from(fold(number + addresses)), ..self }
    }

    /// The checksum.
    #[must_use]
    #[inline]
    pub const fn finish(self) -> u16 {
        u16::from_be(!fold(self.sum))
    }
}

/// The IP addresses as UDP, TCP and ICMPv6 include them in their checksums.
///
/// ```text
///  IPv4 (RFC 768)                             IPv6 (RFC 8200, section 8.1)
///  +--------+--------+--------+--------+      +--------+--------+--------+--------+
///  |          source address           |      |                                   |
///  +--------+--------+--------+--------+      +     source address (16 bytes)     +
///  |        destination address        |      |                                   |
///  +--------+--------+--------+--------+      +--------+--------+--------+--------+
///  |  zero  |protocol|     length      |      |                                   |
///  +--------+--------+--------+--------+      +  destination address (16 bytes)   +
///                                             |                                   |
///                                             +--------+--------+--------+--------+
///                                             |              length               |
///                                             +--------+--------+--------+--------+
///                                             |           zero           |protocol|
///                                             +--------+--------+--------+--------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PseudoHeader {
    /// Of an IPv4 packet.
    V4 {
        /// Where the packet comes from.
        src: Ipv4Addr,
        /// Where it goes to.
        dst: Ipv4Addr,
    },
    /// Of an IPv6 packet.
    V6 {
        /// Where the packet comes from.
        src: Ipv6Addr,
        /// Where it goes to: with a routing header, the final destination.
        dst: Ipv6Addr,
    },
}

impl PseudoHeader {
    /// The pseudo-header of a packet between two addresses.
    ///
    /// # Errors
    /// [`MixedVersions`] when one is an IPv4 and the other an IPv6 address.
    pub const fn new(src: IpAddr, dst: IpAddr) -> Result<Self, MixedVersions> {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Ok(Self::V4 { src, dst }),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Ok(Self::V6 { src, dst }),
            _ => Err(MixedVersions { src, dst }),
        }
    }
}

/// The sum of 16-bit words in the machine's byte order, in the congruent form of a sum of wider words.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    // Independent lanes of 32-bit words in 64 bits: no carry to wait for, and compilers make vectors of it.
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0_u64; 8];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let mut sum: u64 = lanes.iter().sum();
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let (words, rest) = rest.as_chunks::<2>();
    for word in words {
        sum += u64::from(u16::from_ne_bytes(*word));
    }
    if let [last] = rest {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    sum
}

/// A sum of 16-bit words in 16 bits, with the carries added where they come out.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Straight from RFC 1071, section 4.1.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 1071, section 3: the sum of these words is ddf2.
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn every_length_agrees_with_the_definition() {
        for bytes in [noise(300), [0xff].repeat(300), [0].repeat(300)] {
            for len in 0..bytes.len() {
                assert_eq!(of(&bytes[..len]), reference(&bytes[..len]), "{len}");
            }
        }
    }

    #[test]
    fn a_checksum_in_parts_is_that_of_the_whole() {
        let bytes = noise(67);
        for a in 0..bytes.len() {
            for b in a..bytes.len() {
                let parts =
                    Checksum::new().bytes(&bytes[..a]).bytes(&bytes[a..b]).bytes(&bytes[b..]);
                assert_eq!(parts.finish(), of(&bytes), "{a} {b}");
            }
        }
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        let bytes = [0xff].repeat(1 << 20);
        let sum = (0..64).fold(Checksum::new(), |sum, _| sum.bytes(&bytes));
        assert_eq!(sum.finish(), 0);
    }

    #[test]
    fn an_update_is_as_good_as_a_new_checksum() {
        // RFC 1624, section 4: the case in which the older equation of RFC 1141 gives the other zero.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
        let mut bytes = noise(64);
        for (at, new) in [(0, 0_u16), (2, 0xffff), (10, 0x1234), (62, 1)] {
            let before = of(&bytes);
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            assert_eq!(update(before, old, new), of(&bytes));
            assert_eq!(update_bytes(before, &old.to_be_bytes(), &new.to_be_bytes()), of(&bytes));
        }
    }
}
