//! How an object names the device that it belongs to.

use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

/// The number of a device in its network namespace, as the kernel assigns it. Zero is no device.
///
/// Prints as `if7`, which iproute2 accepts in place of a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ifindex(pub u32);

impl fmt::Display for Ifindex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "if{}", self.0)
    }
}

impl fmt::Debug for Ifindex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<u32> for Ifindex {
    fn from(index: u32) -> Self {
        Self(index)
    }
}

/// The name of a device: 1 to 15 bytes of UTF-8 without `/`, `:`, white space or control characters,
/// and neither `.` nor `..`. The kernel (`dev_valid_name` in `net/core/dev.c`) forbids a little less;
/// where it reports a name that is not allowed here, the offending characters are replaced by `?`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfName {
    // Zero-padded; the last byte is always zero.
    bytes: [u8; 16],
}

impl IfName {
    /// The most bytes that a name may have: `IFNAMSIZ` less the terminating zero.
    pub const MAX_LEN: usize = 15;

    /// The name `name`.
    ///
    /// # Errors
    /// [`InvalidIfName`] when the kernel would refuse it.
    pub fn new(name: &str) -> Result<Self, InvalidIfName> {
        let refused =
            |c: u8| c == b'/' || c == b':' || c.is_ascii_whitespace() || c.is_ascii_control();
        if name.is_empty()
            || name.len() > Self::MAX_LEN
            || name == "."
            || name == ".."
            || name.bytes().any(refused)
        {
            return Err(InvalidIfName { name: name.to_owned() });
        }
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { bytes })
    }

    /// The name that the kernel reports. The kernel allows more than this type does; a device
    /// with such a name is there all the same, under one like it.
    pub(crate) fn reported(bytes: &[u8]) -> Self {
        let mut allowed = String::new();
        for c in crate::codec::text(bytes).chars() {
            let c = if c.is_ascii_control() || "/: ".contains(c) { '?' } else { c };
            if allowed.len() + c.len_utf8() <= Self::MAX_LEN {
                allowed.push(c);
            }
        }
        Self::new(&allowed).unwrap_or(Self { bytes: *b"?\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.bytes.iter().position(|&b| b == 0).unwrap_or(Self::MAX_LEN);
        // Only ever built from a `&str`, cut at a zero that no `&str` inside can contain.
        std::str::from_utf8(&self.bytes[..len]).unwrap_or_default()
    }
}

impl AsRef<str> for IfName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for IfName {
    type Err = InvalidIfName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl TryFrom<&str> for IfName {
    type Error = InvalidIfName;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

/// The text cannot be the name of a network device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} cannot name a network device: 1 to 15 bytes without '/', ':' or white space are allowed"
)]
#[non_exhaustive]
pub struct InvalidIfName {
    /// What was given.
    pub name: String,
}

/// A reference to a device: an [`Ifindex`], as the kernel has it, or an [`IfName`], as a
/// configuration has it before the device exists.
///
/// Objects are generic over it and default to [`Ifindex`]. `map_dev` of each object turns one form
/// into the other.
pub trait DeviceRef: Copy + Eq + Hash + Ord + fmt::Display + fmt::Debug {
    /// Whether it refers to no device, as [`Ifindex`] 0 does.
    fn is_none(&self) -> bool {
        false
    }
}

impl DeviceRef for Ifindex {
    fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl DeviceRef for IfName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_kernels_rules() {
        for name in ["lo", "vtep245", "a", "123456789012345", "eth0.1", "é"] {
            assert_eq!(IfName::new(name).unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "1234567890123456", "a b", "a/b", "a\tb", "a:b", "a\0"] {
            assert!(IfName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_device_with_a_strange_name_has_a_name() {
        for (reported, name) in [
            (&b"eth0\0"[..], "eth0"),
            (b"", "?"),
            (b".", "?"),
            (b"a\x01b/c", "a?b?c"),
            (b"\xff\xff\xff\xff\xff\xff\xff", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"1234567890123456789", "123456789012345"),
        ] {
            assert_eq!(IfName::reported(reported).as_str(), name);
        }
    }

    #[test]
    fn an_index_prints_as_iproute2_reads_it() {
        assert_eq!(Ifindex(12).to_string(), "if12");
    }
}
