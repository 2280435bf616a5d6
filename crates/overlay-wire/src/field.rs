//! Fields of headers, by their offset. That a field lies inside its header is proven when the code is compiled.

use crate::error::Error;

/// The `LEN` bytes at offset `AT`.
#[inline(always)]
pub(crate) const fn bytes<const AT: usize, const LEN: usize, const N: usize>(
    header: &[u8; N],
) -> [u8; LEN] {
    const { assert!(AT + LEN <= N, "the field lies outside of its header") };
    let mut field = [0; LEN];
    let mut at = 0;
    while at < LEN {
        field[at] = header[AT + at];
        at += 1;
    }
    field
}

/// The byte at offset `AT`.
#[inline(always)]
pub(crate) const fn u8<const AT: usize, const N: usize>(header: &[u8; N]) -> u8 {
    const { assert!(AT < N, "the field lies outside of its header") };
    header[AT]
}

/// The number in network byte order in two bytes at offset `AT`.
#[inline(always)]
pub(crate) const fn u16<const AT: usize, const N: usize>(header: &[u8; N]) -> u16 {
    u16::from_be_bytes(bytes::<AT, 2, N>(header))
}

/// The number in network byte order in four bytes at offset `AT`.
#[inline(always)]
pub(crate) const fn u32<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    u32::from_be_bytes(bytes::<AT, 4, N>(header))
}

/// Writes bytes at offset `AT`.
#[inline(always)]
pub(crate) const fn put<const AT: usize, const LEN: usize, const N: usize>(
    header: &mut [u8; N],
    field: [u8; LEN],
) {
    const { assert!(AT + LEN <= N, "the field lies outside of its header") };
    let mut at = 0;
    while at < LEN {
        header[AT + at] = field[at];
        at += 1;
    }
}

/// Writes a number in network byte order into two bytes at offset `AT`.
#[inline(always)]
pub(crate) const fn put_u16<const AT: usize, const N: usize>(header: &mut [u8; N], field: u16) {
    put::<AT, 2, N>(header, field.to_be_bytes());
}

/// Writes a number in network byte order into four bytes at offset `AT`.
#[inline(always)]
pub(crate) const fn put_u32<const AT: usize, const N: usize>(header: &mut [u8; N], field: u32) {
    put::<AT, 4, N>(header, field.to_be_bytes());
}

/// Splits bytes into a header and what is behind it.
#[inline(always)]
pub(crate) fn split<'a, const N: usize>(
    name: &'static str,
    bytes: &'a [u8],
) -> Result<(&'a [u8; N], &'a [u8]), Error> {
    bytes.split_first_chunk().ok_or_else(|| Error::truncated(name, N, bytes.len()))
}

/// Splits bytes into the room for a header and what is behind it.
#[inline(always)]
pub(crate) fn split_mut<'a, const N: usize>(
    name: &'static str,
    bytes: &'a mut [u8],
) -> Result<(&'a mut [u8; N], &'a mut [u8]), Error> {
    let len = bytes.len();
    bytes.split_first_chunk_mut().ok_or_else(|| Error::truncated(name, N, len))
}

/// The first `len` of these bytes, or all if they are fewer.
#[inline(always)]
pub(crate) fn at_most(bytes: &[u8], len: usize) -> &[u8] {
    bytes.get(..len).unwrap_or(bytes)
}
