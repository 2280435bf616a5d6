use std::hint::black_box;

use overlay_wire::buffer::PacketBuffer;

use super::BATCH;

/// Bytes in front of each packet.
pub(super) const HEADROOM: usize = 128;

/// The buffers of a batch of packets, one after the other in memory.
#[derive(Clone)]
pub(super) struct Ring {
    memory: Vec<u8>,
    stride: usize,
    len: usize,
}

impl Ring {
    /// Buffers of packets of `len` bytes: by number, what each contains.
    pub(super) fn new<E>(
        len: usize,
        mut packet: impl FnMut(u16) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        // Not a multiple of what caches are organised in, or all headers would compete for a few lines.
        let stride = (HEADROOM + len).next_multiple_of(64) + 64;
        let mut memory = vec![0; stride * BATCH as usize];
        for (number, slot) in (0..).zip(memory.chunks_exact_mut(stride)) {
            slot[HEADROOM..HEADROOM + len].copy_from_slice(&packet(number)?);
        }
        Ok(Self { memory, stride, len })
    }

    /// Does something with each buffer, headroom and packet, and a number that varies: the hash of a flow.
    ///
    /// What goes in and what comes out is hidden from the compiler, with as little around it as possible.
    #[inline(always)]
    pub(super) fn each<T>(&mut self, mut work: impl FnMut(&mut [u8], u32) -> T) {
        let end = HEADROOM + self.len;
        let mut hash = 0_u32;
        for slot in self.memory.chunks_exact_mut(self.stride) {
            hash = hash.wrapping_add(0x9e37_79b9);
            black_box(work(black_box(&mut slot[..end]), hash));
        }
    }

    /// The first buffer.
    pub(super) fn first(&mut self) -> &mut [u8] {
        &mut self.memory[..HEADROOM + self.len]
    }

    /// All buffers, `headroom` bytes in front of each packet.
    #[inline(always)]
    pub(super) fn batch(&mut self, headroom: usize) -> [PacketBuffer<'_>; BATCH as usize] {
        let end = HEADROOM + self.len;
        let mut slots = self.memory.chunks_exact_mut(self.stride);
        std::array::from_fn(|_| {
            let slot = slots.next().and_then(|slot| slot.get_mut(..end)).unwrap_or_default();
            PacketBuffer::new(slot, headroom)
        })
    }
}
