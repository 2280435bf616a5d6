//! What nodes and networks are called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The identity of a node: it stays the same when the node's addresses change, and no two nodes share one.
///
/// 1 to 253 printable ASCII characters other than space and `/`, so that it fits into a key, a column and a log line:
/// a host name, a machine id, a UUID.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

/// The name of one of several networks side by side.
///
/// 1 to 63 characters: lower-case letters, digits, `.`, `_` and `-`, beginning with a letter or a digit, so that it
/// fits into a key, a file name and a device's alias.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkName(Arc<str>);

/// A name that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?}: expected {expected}")]
#[non_exhaustive]
pub struct InvalidName {
    /// What it was to name: `node` or `network`.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// What would be right.
    pub expected: &'static str,
}

impl NodeId {
    /// The node called `name`.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] if it is empty, too long, or has other characters than the type allows.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let fits = (1..=253).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if fits {
            return Ok(Self(name.into()));
        }
        Err(InvalidName {
            what: "node",
            name,
            expected: "1 to 253 printable ASCII characters other than space and /",
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NetworkName {
    /// The network called `name`.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] if it is empty, too long, or has other characters than the type allows.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = (1..=63).contains(&name.len())
            && name.bytes().next().is_some_and(letter)
            && name.bytes().all(|b| letter(b) || matches!(b, b'.' | b'_' | b'-'));
        if fits {
            return Ok(Self(name.into()));
        }
        Err(InvalidName {
            what: "network",
            name,
            expected: "1 to 63 lower-case letters, digits, '.', '_' and '-', beginning with a letter or a digit",
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! reads_and_prints {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }
    };
}

reads_and_prints!(NodeId);
reads_and_prints!(NetworkName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_printed() {
        let longest = "n".repeat(253);
        for name in ["a", "node-1.example.org", "4c4c4544-0044", "[::1]", longest.as_str()] {
            assert_eq!(name.parse::<NodeId>().unwrap().to_string(), name);
        }
        for name in ["red", "0", "a.b_c-d", "n".repeat(63).as_str()] {
            assert_eq!(name.parse::<NetworkName>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn what_does_not_fit_into_a_key_is_no_name() {
        for name in ["", "a b", "a/b", "ü", "a\n", "n".repeat(254).as_str()] {
            assert_eq!(NodeId::new(name).unwrap_err().name, name);
        }
        for name in ["", "Red", "-red", ".", "a/b", "a b", "n".repeat(64).as_str()] {
            assert_eq!(NetworkName::new(name).unwrap_err().what, "network");
        }
    }
}
