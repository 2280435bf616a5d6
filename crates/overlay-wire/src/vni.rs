//! VXLAN network identifiers.

use core::fmt;
use core::str::FromStr;

/// A VXLAN network identifier: 24 bits, 0 to 16,777,215 (RFC 7348, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vni(u32);

impl Vni {
    /// The largest identifier, 2^24 - 1.
    pub const MAX: Self = Self(0x00ff_ffff);

    /// The identifier `value`.
    ///
    /// # Errors
    /// [`InvalidVni`] when `value` needs more than 24 bits.
    pub const fn new(value: u32) -> Result<Self, InvalidVni> {
        if value <= Self::MAX.0 { Ok(Self(value)) } else { Err(InvalidVni { value: value as u64 }) }
    }

    /// The identifier in three bytes, in network byte order.
    #[must_use]
    #[inline]
    pub const fn from_octets([a, b, c]: [u8; 3]) -> Self {
        Self(u32::from_be_bytes([0, a, b, c]))
    }

    /// Three bytes in network byte order, as headers contain it.
    #[must_use]
    #[inline]
    pub const fn octets(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = InvalidVni;

    fn try_from(value: u32) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Vni {
    type Err = InvalidVni;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value: u64 = text.parse().map_err(|_| InvalidVni { value: u64::MAX })?;
        u32::try_from(value).ok().and_then(|v| Self::new(v).ok()).ok_or(InvalidVni { value })
    }
}

/// The number does not fit in the 24 bits of a VXLAN header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("not a VNI: expected a number from 0 to 16777215{}", Found(*value))]
pub struct InvalidVni {
    /// What was given; `u64::MAX` for text that is no number.
    pub value: u64,
}

struct Found(u64);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { Ok(()) } else { write!(f, ", found {}", self.0) }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Vni {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Vni {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <u64 as serde::Deserialize>::deserialize(deserializer)?;
        u32::try_from(value)
            .map_err(|_| InvalidVni { value })
            .and_then(Self::new)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_range_is_24_bits() {
        assert_eq!(Vni::new(0).unwrap().get(), 0);
        assert_eq!(Vni::new(0xff_ffff), Ok(Vni::MAX));
        let error = Vni::new(1 << 24).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not a VNI: expected a number from 0 to 16777215, found 16777216"
        );
    }

    #[test]
    fn text_parses() {
        assert_eq!("4096".parse(), Vni::new(4096));
        assert!("16777216".parse::<Vni>().is_err());
        assert_eq!(
            "-1".parse::<Vni>().unwrap_err().to_string(),
            "not a VNI: expected a number from 0 to 16777215"
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_is_a_number_in_range() {
        assert_eq!(serde_json::to_string(&Vni::new(1).unwrap()).unwrap(), "1");
        assert!(serde_json::from_str::<Vni>("16777216").is_err());
        assert!(serde_json::from_str::<Vni>("99999999999").is_err());
    }
}
