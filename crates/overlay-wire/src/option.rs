//! Lists of options as IPv4 and TCP headers have them: a byte that says the kind, one that says the length of the whole
//! option, and data; two kinds are a single byte (RFC 791, section 3.1; RFC 9293, section 3.1).

use crate::error::{Error, Expected};

/// The kind that ends a list, a single byte.
pub(crate) const END: u8 = 0;
/// The kind that fills a gap, a single byte.
pub(crate) const NO_OPERATION: u8 = 1;

/// The kind and the data of each option, [`END`] and [`NO_OPERATION`] included; ends after [`END`] and after an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionList<'a> {
    name: &'static str,
    rest: &'a [u8],
}

impl<'a> OptionList<'a> {
    #[inline]
    pub(crate) const fn new(name: &'static str, options: &'a [u8]) -> Self {
        Self { name, rest: options }
    }

    /// The bytes that have not been looked at.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for OptionList<'a> {
    type Item = Result<(u8, &'a [u8]), Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let refused = |expected, found| Error::field(self.name, "option length", expected, found);
        let (item, rest) = match *self.rest {
            [] => return None,
            [END, ..] => (Ok((END, &[][..])), &[][..]),
            [NO_OPERATION, ref rest @ ..] => (Ok((NO_OPERATION, &[][..])), rest),
            [_] => (Err(refused(Expected::AtLeast(2), 0)), &[][..]),
            [kind, len, ref rest @ ..] => {
                match usize::from(len).checked_sub(2).map(|len| rest.split_at_checked(len)) {
                    Some(Some((data, rest))) => (Ok((kind, data)), rest),
                    Some(None) => {
                        let expected = Expected::AtMost(self.rest.len() as u64);
                        (Err(refused(expected, len.into())), &[][..])
                    }
                    None => (Err(refused(Expected::AtLeast(2), len.into())), &[][..]),
                }
            }
        };
        self.rest = rest;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn list(bytes: &[u8]) -> Vec<Result<(u8, &[u8]), Error>> {
        OptionList::new("TCP", bytes).collect()
    }

    #[test]
    fn what_is_behind_the_end_does_not_count() {
        let options = list(b"\x01\x94\x04\0\x05\x02\x02\0\x07\x63");
        let expected =
            [Ok((1, &b""[..])), Ok((0x94, &b"\0\x05"[..])), Ok((2, &b""[..])), Ok((0, &b""[..]))];
        assert_eq!(options, expected);
    }

    #[test]
    fn lies_about_the_length_end_the_list() {
        let error = |expected, found| Err(Error::field("TCP", "option length", expected, found));
        assert_eq!(list(b"\x01\x02"), [Ok((1, &b""[..])), error(Expected::AtLeast(2), 0)]);
        assert_eq!(list(b"\x02\0\x01"), [error(Expected::AtLeast(2), 0)]);
        assert_eq!(list(b"\x02\x01\x01"), [error(Expected::AtLeast(2), 1)]);
        assert_eq!(list(b"\x02\x04\x01"), [error(Expected::AtMost(3), 4)]);
    }
}
