//! A packet in the middle of a buffer, with room in front for headers to come.

/// A packet with headroom: some bytes of a buffer, around which there are others that are free.
///
/// Encapsulating takes from the headroom, decapsulating adds to it. No byte of the packet moves.
///
/// ```text
///  |<------------- buffer -------------->|
///  |  headroom  |  packet  |  tailroom   |
/// ```
#[derive(Debug)]
pub struct PacketBuffer<'a> {
    bytes: &'a mut [u8],
    /// `start <= end <= bytes.len()`
    start: usize,
    end: usize,
}

impl<'a> PacketBuffer<'a> {
    /// The packet that fills a buffer from offset `headroom` to its end. With a shorter buffer the packet is empty.
    #[must_use]
    #[inline]
    pub const fn new(bytes: &'a mut [u8], headroom: usize) -> Self {
        let end = bytes.len();
        let start = if headroom < end { headroom } else { end };
        Self { bytes, start, end }
    }

    /// The packet cut after `len` bytes, what follows becomes tailroom. A shorter packet stays as it is.
    #[must_use]
    #[inline]
    pub const fn truncated(self, len: usize) -> Self {
        let end = if len < self.len() { self.start + len } else { self.end };
        Self { end, ..self }
    }

    /// The packet.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.get().unwrap_or_default()
    }

    /// The packet, to be changed.
    #[must_use]
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// The packet, for as long as the buffer lives.
    #[must_use]
    #[inline]
    pub fn into_slice(self) -> &'a mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Bytes of the packet.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the packet has no bytes.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes in front of the packet.
    #[must_use]
    #[inline]
    pub const fn headroom(&self) -> usize {
        self.start
    }

    /// Bytes behind the packet.
    #[must_use]
    #[inline]
    pub const fn tailroom(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// The `N` bytes that end `gap` bytes before the packet, if the headroom has so many.
    #[inline(always)]
    pub(crate) fn before<const N: usize>(&mut self, gap: usize) -> Option<&mut [u8; N]> {
        let end = self.start.checked_sub(gap)?;
        self.bytes.get_mut(..end)?.last_chunk_mut()
    }

    /// The packet with `len` bytes in front of it; at most the headroom.
    #[inline]
    pub(crate) fn with_front(&mut self, len: usize) -> &mut [u8] {
        let start = self.start.saturating_sub(len);
        self.bytes.get_mut(start..self.end).unwrap_or_default()
    }

    /// The packet begins `len` bytes earlier: they have become its header. At most the headroom.
    #[inline]
    pub(crate) const fn grow_front(&mut self, len: usize) {
        self.start = self.start.saturating_sub(len);
    }

    /// The packet. There always is one; without it, nobody has to go on with an empty one.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<&[u8]> {
        self.bytes.get(self.start..self.end)
    }

    /// Takes the first `header_len` bytes away, and leaves the next `len`. Returns both; if the packet has not so many, it
    /// stays as it is, and they are empty.
    #[inline(always)]
    pub(crate) fn strip(&mut self, header_len: usize, len: usize) -> (&[u8], &[u8]) {
        let packet = self.bytes.get(self.start..self.end);
        let parts = packet.and_then(|packet| packet.split_at_checked(header_len));
        let parts = parts.and_then(|(header, rest)| Some((header, rest.get(..len)?)));
        if parts.is_some() {
            self.start += header_len;
            self.end = self.start + len;
        }
        parts.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_grows_and_shrinks_in_its_buffer() {
        let mut bytes = *b"....packet**";
        let mut packet = PacketBuffer::new(&mut bytes, 4).truncated(6);
        assert_eq!((packet.headroom(), packet.len(), packet.tailroom()), (4, 6, 2));
        assert_eq!(packet.as_slice(), b"packet");
        packet.grow_front(3);
        assert_eq!(packet.as_slice(), b"...packet");
        assert_eq!(packet.strip(5, 3), (&b"...pa"[..], &b"cke"[..]));
        assert_eq!(packet.as_slice(), b"cke");
        assert_eq!(packet.with_front(2), b"packe");
        assert_eq!(packet.before(1).copied(), Some(*b"...p"));
        assert_eq!(packet.before::<10>(0), None);
    }

    #[test]
    fn nothing_reaches_outside() {
        let mut bytes = *b"packet";
        let mut packet = PacketBuffer::new(&mut bytes, 100);
        assert!(packet.is_empty());
        packet.grow_front(100);
        assert_eq!(packet.as_slice(), b"packet");
        for (start, len) in [(0, 7), (6, 1), (7, 0), (usize::MAX, usize::MAX)] {
            assert_eq!(packet.strip(start, len), (&[][..], &[][..]));
            assert_eq!((packet.as_slice(), packet.headroom()), (&b"packet"[..], 0));
        }
        assert_eq!(PacketBuffer::new(&mut [], 0).truncated(1).len(), 0);
    }
}
