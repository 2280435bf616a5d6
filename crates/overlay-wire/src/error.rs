//! What is wrong with bytes that claim to be a header, or with a value that is to become one.

use core::fmt;

/// Bytes are not the header they should be, or a value does not fit the header it should become.
///
/// Prints as one sentence: `IPv4 version: expected 4, found 6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{header} {field}: expected {expected}, found {found}")]
#[non_exhaustive]
pub struct Error {
    /// The header, by its usual name: `VXLAN`.
    pub header: &'static str,
    /// The field, by the name that the header's specification gives it; `header` when the header as a whole does not
    /// fit into the bytes there are.
    pub field: &'static str,
    /// What would have been right.
    pub expected: Expected,
    /// What is there instead: the field as a number, or how many bytes there are.
    pub found: u64,
}

/// What an [`Error`] would have accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// This number.
    Exactly(u64),
    /// One of these numbers.
    OneOf(&'static [u64]),
    /// This number or more.
    AtLeast(u64),
    /// This number or less.
    AtMost(u64),
    /// A multiple of this number.
    MultipleOf(u64),
    /// Any number but this one.
    Not(u64),
    /// This many bytes or more.
    Bytes(usize),
    /// A checksum over the bytes that were covered: this value in its field.
    Checksum(u16),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::OneOf(values) => {
                for (at, value) in values.iter().enumerate() {
                    match at {
                        0 => {}
                        _ if at + 1 == values.len() => f.write_str(" or ")?,
                        _ => f.write_str(", ")?,
                    }
                    write!(f, "{value}")?;
                }
                Ok(())
            }
            Self::AtLeast(value) => write!(f, "at least {value}"),
            Self::AtMost(value) => write!(f, "at most {value}"),
            Self::MultipleOf(value) => write!(f, "a multiple of {value}"),
            Self::Not(value) => write!(f, "anything but {value}"),
            Self::Bytes(count) => write!(f, "at least {count} bytes"),
            Self::Checksum(value) => write!(f, "the checksum {value}"),
        }
    }
}

impl Error {
    /// An error about one field. Cold, so that the way of good packets stays straight.
    #[cold]
    pub(crate) const fn field(
        header: &'static str,
        field: &'static str,
        expected: Expected,
        found: u64,
    ) -> Self {
        Self { header, field, expected, found }
    }

    /// There are fewer bytes than the header has.
    #[cold]
    pub(crate) const fn truncated(header: &'static str, needed: usize, found: usize) -> Self {
        Self { header, field: "header", expected: Expected::Bytes(needed), found: found as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn errors_are_sentences() {
        let error = Error::truncated("VXLAN", 8, 5);
        assert_eq!(error.to_string(), "VXLAN header: expected at least 8 bytes, found 5");
        let error = Error::field("IPv4", "version", Expected::Exactly(4), 6);
        assert_eq!(error.to_string(), "IPv4 version: expected 4, found 6");
        let error = Error::field("IP", "version", Expected::OneOf(&[4, 6]), 0);
        assert_eq!(error.to_string(), "IP version: expected 4 or 6, found 0");
    }
}
