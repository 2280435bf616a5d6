//! Ethernet addresses.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

/// An Ethernet (EUI-48) address, six bytes in the order in which they are transmitted.
///
/// Prints and parses as six pairs of hexadecimal digits with colons, as iproute2 writes it.
/// IEEE 802-2014, section 8.2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `00:00:00:00:00:00`: no address; in a VXLAN forwarding database, the default entry.
    pub const ZERO: Self = Self([0; 6]);
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// A unicast, locally administered address made of the first six bytes of a digest: the same
    /// seed always gives the same address, which no vendor can have assigned.
    ///
    /// Sets the U/L bit and clears the I/G bit of the first byte.
    #[must_use]
    pub const fn local_from(seed: [u8; 6]) -> Self {
        let [first, b, c, d, e, f] = seed;
        Self([(first & 0xfc) | 0x02, b, c, d, e, f])
    }

    /// The IPv6 link-local address that a device with this address gives itself: `fe80::/64` and
    /// the modified EUI-64 (RFC 4291, appendix A).
    #[must_use]
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let words = [
            u16::from_be_bytes([a ^ 0x02, b]),
            u16::from_be_bytes([c, 0xff]),
            u16::from_be_bytes([0xfe, d]),
            u16::from_be_bytes([e, f]),
        ];
        Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
    }

    /// The Ethernet group to which packets to an IP group go; `None` if this is no group.
    ///
    /// `01:00:5e` and the last 23 bits of an IPv4 address (RFC 1112, section 6.4), `33:33` and the last 32 bits of an
    /// IPv6 address (RFC 2464, section 7).
    #[must_use]
    pub const fn multicast(group: IpAddr) -> Option<Self> {
        match group {
            IpAddr::V4(group) if group.is_multicast() => {
                let [_, b, c, d] = group.octets();
                Some(Self([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
            }
            IpAddr::V6(group) if group.is_multicast() => {
                let [a, b, c, d] = (group.to_bits() as u32).to_be_bytes();
                Some(Self([0x33, 0x33, a, b, c, d]))
            }
            _ => None,
        }
    }

    /// The six bytes, in the order in which they are transmitted.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether this names one station: neither a group address nor all zero.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 0x01 == 0 && !self.is_zero()
    }

    /// Whether the address is locally administered (the U/L bit of the first byte).
    #[must_use]
    pub const fn is_local(self) -> bool {
        self.0[0] & 0x02 != 0
    }

    /// Whether all six bytes are zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a | b | c | d | e | f == 0
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six colon-separated pairs of hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: expected six pairs of hexadecimal digits such as 02:38:4a:12:3b:43")]
#[non_exhaustive]
pub struct ParseMacAddrError;

impl FromStr for MacAddr {
    type Err = ParseMacAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().ok_or(ParseMacAddrError)?;
            // `from_str_radix` would accept a sign.
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacAddrError);
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| ParseMacAddrError)?;
        }
        if pairs.next().is_some() {
            return Err(ParseMacAddrError);
        }
        Ok(Self(octets))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = MacAddr;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MAC address such as \"02:38:4a:12:3b:43\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MacAddr, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_round_trips() {
        let mac = MacAddr([0x02, 0x38, 0x4a, 0x12, 0x3b, 0x43]);
        assert_eq!(mac.to_string(), "02:38:4a:12:3b:43");
        assert_eq!("02:38:4A:12:3b:43".parse(), Ok(mac));
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            "02",
            "02:38:4a:12:3b",
            "02:38:4a:12:3b:43:00",
            "+2:38:4a:12:3b:43",
            "0238.4a12.3b43",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacAddrError), "{text}");
        }
    }

    #[test]
    fn a_derived_address_is_local_unicast() {
        for first in 0..=255 {
            let mac = MacAddr::local_from([first, 1, 2, 3, 4, 5]);
            assert!(mac.is_local() && mac.is_unicast());
        }
        assert!(!MacAddr::ZERO.is_unicast());
        assert!(!MacAddr::BROADCAST.is_unicast());
    }

    #[test]
    fn the_link_local_address_is_the_kernels() {
        // As Linux shows it for 52:54:00:ce:51:a5 in the article's listing.
        let mac: MacAddr = "52:54:00:ce:51:a5".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::5054:ff:fece:51a5");
    }

    #[test]
    fn groups_have_the_addresses_of_the_rfcs() {
        let group = |ip: &str| MacAddr::multicast(ip.parse().unwrap()).map(|mac| mac.to_string());
        assert_eq!(group("224.0.0.1").unwrap(), "01:00:5e:00:00:01");
        assert_eq!(group("239.255.129.2").unwrap(), "01:00:5e:7f:81:02");
        assert_eq!(group("ff02::1:ff22:3344").unwrap(), "33:33:ff:22:33:44");
        for single in ["10.0.0.1", "255.255.255.255", "fe80::1", "::"] {
            assert_eq!(group(single), None, "{single}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_is_text() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let json = serde_json::to_string(&mac).unwrap();
        assert_eq!(json, "\"02:00:00:00:00:01\"");
        assert_eq!(serde_json::from_str::<MacAddr>(&json).unwrap(), mac);
        assert!(serde_json::from_str::<MacAddr>("\"02:00\"").is_err());
    }
}
