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
//! RFC 2473, section 4.1.1, lets the entry of a tunnel over IPv6 say how many more times the packet may be
//! encapsulated. It does so in an extension header of destination options, 8 bytes that count as overhead:
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
//! `ipip` never do, IPv4 has no such option. It is written with an
//! [`OptionsHeader`](crate::ipv6::extension::OptionsHeader):
//!
//! ```
//! use overlay_wire::ip::IpProtocol;
//! use overlay_wire::ip_in_ip;
//! use overlay_wire::ipv6::extension::{Ipv6Option, OptionsHeader};
//!
//! let options = &Ipv6Option::tunnel_encapsulation_limit(ip_in_ip::LINUX_ENCAPSULATION_LIMIT);
//! let header = OptionsHeader { next_header: IpProtocol::IPV6, options };
//! assert_eq!(header.header_len(), ip_in_ip::ENCAPSULATION_LIMIT_LEN);
//! ```

#[cfg(doc)]
use crate::ip::IpProtocol;

/// Bytes of the extension header with a tunnel encapsulation limit.
pub const ENCAPSULATION_LIMIT_LEN: usize = 8;
/// The limit that Linux sends unless told otherwise.
pub const LINUX_ENCAPSULATION_LIMIT: u8 = 4;
