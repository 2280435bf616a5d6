//! ISATAP's mapping of IPv4 addresses to IPv6 interface identifiers (RFC 5214, section 6.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                        prefix (8 bytes)                       +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0 0 0 0 0 0 u 0 0 0 0 0 0 0 0 0|             5efe              |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                     IPv4 address (4 bytes)                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! The packets are [IPv6 in IPv4](crate::ip_in_ip), `sit`. What ISATAP adds is that the IPv4 address to send a packet
//! to is found in the IPv6 address of the next hop, so that one device reaches every node of a site without a list.
//!
//! ```
//! use overlay_wire::isatap;
//!
//! let address = isatap::address("fe80::".parse()?, "192.0.2.1".parse()?);
//! assert_eq!(address.to_string(), "fe80::5efe:c000:201");
//! assert_eq!(isatap::embedded(address), Some("192.0.2.1".parse()?));
//! # Ok::<(), core::net::AddrParseError>(())
//! ```

use core::net::{Ipv4Addr, Ipv6Addr};

/// The upper half of an identifier whose IPv4 address is not unique in the world.
const LOCAL: u32 = 0x0000_5efe;
/// The u bit, set in the identifier of an address that is unique in the world.
const UNIVERSAL: u32 = 0x0200_0000;

/// The interface identifier of a node with this IPv4 address: `0000:5efe` or `0200:5efe`, and the address.
///
/// The u bit is set for the addresses for which Linux sets it: all but those of RFC 1918, of this host (0.0.0.0/8 and
/// 127.0.0.0/8), link-local ones, multicast and broadcast, and those for documentation (192.0.2.0/24), benchmarks
/// (198.18.0.0/15) and 6to4 relays (192.88.99.0/24).
#[must_use]
pub const fn interface_id(v4: Ipv4Addr) -> u64 {
    let upper = if is_universal(v4) { UNIVERSAL | LOCAL } else { LOCAL };
    (upper as u64) << 32 | v4.to_bits() as u64
}

/// The IPv6 address of a node with this IPv4 address, in the network of which `prefix` has the first 64 bits.
#[must_use]
pub const fn address(prefix: Ipv6Addr, v4: Ipv4Addr) -> Ipv6Addr {
    let network = prefix.to_bits() & !(u64::MAX as u128);
    Ipv6Addr::from_bits(network | interface_id(v4) as u128)
}

/// The IPv4 address in an IPv6 address of this form, with the u bit or without.
#[must_use]
pub const fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let identifier = v6.to_bits() as u64;
    match (identifier >> 32) as u32 | UNIVERSAL {
        upper if upper == UNIVERSAL | LOCAL => Some(Ipv4Addr::from_bits(identifier as u32)),
        _ => None,
    }
}

const fn is_universal(v4: Ipv4Addr) -> bool {
    !matches!(
        v4.octets(),
        [0 | 10 | 127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [192, 0, 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [224..=239, ..]
            | [255, 255, 255, 255]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_contain_addresses() {
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6);
        for (v4, expected) in [
            ([10, 0, 0, 1], "2001:db8:1:2:0:5efe:a00:1"),
            ([192, 168, 1, 2], "2001:db8:1:2:0:5efe:c0a8:102"),
            ([172, 32, 0, 1], "2001:db8:1:2:200:5efe:ac20:1"),
            ([8, 8, 8, 8], "2001:db8:1:2:200:5efe:808:808"),
        ] {
            let address = address(prefix, v4.into());
            assert_eq!(address, expected.parse::<Ipv6Addr>().unwrap());
            assert_eq!(embedded(address), Some(v4.into()));
        }
    }

    #[test]
    fn only_unique_addresses_have_the_u_bit() {
        let universal = |v4: [u8; 4]| interface_id(v4.into()) >> 32 == 0x0200_5efe;
        for v4 in [
            [0, 1, 2, 3],
            [10, 255, 0, 1],
            [127, 0, 0, 1],
            [169, 254, 1, 1],
            [172, 16, 0, 1],
            [172, 31, 255, 255],
            [192, 0, 2, 1],
            [192, 88, 99, 1],
            [192, 168, 0, 1],
            [198, 18, 0, 1],
            [198, 19, 0, 1],
            [224, 0, 0, 1],
            [239, 1, 1, 1],
            [255, 255, 255, 255],
        ] {
            assert!(!universal(v4), "{v4:?}");
        }
        for v4 in [[1, 1, 1, 1], [11, 0, 0, 1], [172, 15, 0, 1], [192, 0, 3, 1], [198, 20, 0, 1]] {
            assert!(universal(v4), "{v4:?}");
        }
    }

    #[test]
    fn other_addresses_contain_none() {
        for other in ["::", "fe80::1:5efe:a00:1", "fe80::5eff:a00:1", "fe80::100:5efe:a00:1"] {
            assert_eq!(embedded(other.parse().unwrap()), None, "{other}");
        }
    }
}
