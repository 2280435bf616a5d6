//! IP in IP: an IP header in front of an IP packet, in all four combinations.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      outer IPv4 header (20 bytes), protocol 4 or 41           |
//! |   or outer IPv6 header (40 bytes), next header 4, 41 or 60    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   with next header 60: tunnel encapsulation limit (8 bytes)   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      inner IPv4 packet ... (4), or inner IPv6 packet ... (41)
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-
//! ```
//!
//! | inner | outer | specification | Linux device | outer protocol or next header |
//! |---|---|---|---|---|
//! | IPv4 | IPv4 | RFC 2003 | `ipip` | [`IPV4`](IpProtocol::IPV4), 4 |
//! | IPv6 | IPv4 | RFC 4213 | `sit` | [`IPV6`](IpProtocol::IPV6), 41 |
//! | IPv4 | IPv6 | RFC 2473 | `ip6tnl`, mode `ipip6` | [`IPV4`](IpProtocol::IPV4), 4 |
//! | IPv6 | IPv6 | RFC 2473 | `ip6tnl`, mode `ip6ip6` | [`IPV6`](IpProtocol::IPV6), 41 |
//!
//! There is no header of its own: the outer packet is one of [`ipv4`](crate::ipv4) or [`ipv6`](crate::ipv6), and its
//! payload an [`IpPacket`](crate::ip::IpPacket). [`IpProtocol::ip`] gives the number for an inner version.
//!
//! # Tunnel encapsulation limit
//!
//! RFC 2473, section 4.1.1, lets the entry of a tunnel over IPv6 say how many more times the packet may be encapsulated.
//! It does so in an extension header of destination options, 8 bytes that count as overhead:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  next header  | hdr ext len 0 | option type 4 | opt data len 1|
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     limit     |    PadN 1     | opt data len 1|       0       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Linux' `ip6tnl` and `ip6gre` send it, with limit 4, unless the device was made with `encaplimit none`. `sit` and
//! `ipip` never do, IPv4 has no such option.

use crate::ip::IpProtocol;

/// Bytes of the extension header with a tunnel encapsulation limit.
pub const ENCAPSULATION_LIMIT_LEN: usize = 8;
/// The limit that Linux sends unless told otherwise.
pub const LINUX_ENCAPSULATION_LIMIT: u8 = 4;

/// The destination options header with a tunnel encapsulation limit, to stand between an outer IPv6 header, whose next
/// header is then [`DESTINATION_OPTIONS`](IpProtocol::DESTINATION_OPTIONS), and what `next_header` says.
///
/// `limit` is how many more headers may be put in front of the packet: 0, none.
#[must_use]
#[inline]
pub const fn encapsulation_limit(
    next_header: IpProtocol,
    limit: u8,
) -> [u8; ENCAPSULATION_LIMIT_LEN] {
    const TUNNEL_ENCAPSULATION_LIMIT: u8 = 4;
    const PAD_N: u8 = 1;
    [next_header.0, 0, TUNNEL_ENCAPSULATION_LIMIT, 1, limit, PAD_N, 1, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_linux_sends_it() {
        let bytes = encapsulation_limit(IpProtocol::IPV6, LINUX_ENCAPSULATION_LIMIT);
        assert_eq!(&bytes, b"\x29\0\x04\x01\x04\x01\x01\0");
    }
}
