//! One direction of a wire.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use socket2::Socket;

use super::{Counters, WireConfig};
use crate::sys;

/// Bytes of `struct virtio_net_hdr` before each frame.
const OFFLOAD: usize = 10;
/// Largest frame with its offload header.
const LARGEST: usize = 1 << 17;
/// Frames taken before the other direction has its turn.
const TURN: u32 = 64;

pub(super) struct Lane {
    queue: VecDeque<(Instant, Vec<u8>)>,
    chance: Chance,
    buffer: Vec<u8>,
    /// The outgoing socket had no room.
    pub(super) blocked: bool,
}

impl Lane {
    pub(super) fn new(seed: u64) -> Self {
        let chance = Chance::new(seed);
        Self { queue: VecDeque::new(), chance, buffer: vec![0; LARGEST], blocked: false }
    }

    /// When there is something to do without anybody sending.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.front().filter(|_| !self.blocked).map(|(due, _)| *due)
    }

    /// Takes the frames that have come, as many as make a turn.
    pub(super) fn take(
        &mut self,
        from: &Socket,
        to: &Socket,
        config: &WireConfig,
        counters: &Counters,
    ) {
        for _ in 0..TURN {
            let message = match sys::receive(from, &mut self.buffer) {
                Ok(message) => message,
                Err(error) if goes_on(&error) => continue,
                Err(_) => return,
            };
            if message.truncated || message.length < OFFLOAD {
                count(&counters.dropped);
            } else if self.chance.is(config.loss) {
                count(&counters.lost);
            } else if self.queue.len() >= config.queue {
                count(&counters.dropped);
            } else {
                self.put(&message, to, config, counters);
            }
        }
    }

    fn put(
        &mut self,
        message: &sys::Message,
        to: &Socket,
        config: &WireConfig,
        counters: &Counters,
    ) {
        let bytes = &self.buffer[..message.length];
        let at_once = message.vlan.is_none() && config.delay.is_zero() && self.queue.is_empty();
        if at_once && send(to, bytes, counters).is_ok() {
            return;
        }
        self.queue.push_back((Instant::now() + config.delay, whole(message, bytes)));
    }

    /// Sends what has been on the wire for its time.
    pub(super) fn release(&mut self, to: &Socket, counters: &Counters) {
        self.blocked = false;
        let now = Instant::now();
        while let Some((due, frame)) = self.queue.front() {
            if *due > now {
                return;
            }
            if send(to, frame, counters).is_err() {
                self.blocked = true;
                return;
            }
            self.queue.pop_front();
        }
    }
}

/// The frame with its offload header; a VLAN tag is put back, and the place of the checksum moves
/// with it.
fn whole(message: &sys::Message, bytes: &[u8]) -> Vec<u8> {
    const TAG: usize = 4;
    const ADDRESSES: usize = OFFLOAD + 12;
    let (Some([protocol, tag]), Some((head, rest))) =
        (message.vlan, bytes.split_at_checked(ADDRESSES))
    else {
        return bytes.to_vec();
    };
    let mut frame = [head, &protocol.to_be_bytes(), &tag.to_be_bytes(), rest].concat();
    // flags, gso_type, then 16 bits each: hdr_len, gso_size, csum_start, csum_offset
    for at in [2, 6] {
        let old = u16::from_ne_bytes([frame[at], frame[at + 1]]);
        if old != 0 {
            frame[at..at + 2].copy_from_slice(&(old + TAG as u16).to_ne_bytes());
        }
    }
    frame
}

/// The outgoing socket has no room.
struct Full;

fn send(to: &Socket, frame: &[u8], counters: &Counters) -> Result<(), Full> {
    loop {
        match sys::send(to, frame) {
            Ok(_) => count(&counters.forwarded),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Full),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Among others: the device is down, or the other end takes no more.
            Err(_) => count(&counters.dropped),
        }
        return Ok(());
    }
}

/// A device that goes down says so once, and may come up again.
fn goes_on(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENETDOWN) || error.kind() == ErrorKind::Interrupted
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Chance that is the same for the same seed: xorshift64*.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        // The state must not be zero, and similar seeds should not begin alike.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    fn is(&mut self, probability: f64) -> bool {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        // 53 bits are what a double holds.
        (bits as f64) < probability * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_fair_and_repeatable() {
        for (probability, expected) in [(0.0, 0), (0.1, 10_000), (0.5, 50_000), (1.0, 100_000)] {
            let draw = |seed| {
                let mut chance = Chance::new(seed);
                (0..100_000).filter(|_| chance.is(probability)).count()
            };
            assert_eq!(draw(7), draw(7));
            for seed in [0, 1, 2, u64::MAX] {
                assert!(draw(seed).abs_diff(expected) < 800, "{probability}: {}", draw(seed));
            }
        }
    }

    #[test]
    fn a_tag_is_put_back_and_the_checksum_moves() {
        let mut buffer = vec![1, 0, 54, 0, 0, 0, 34, 0, 16, 0];
        buffer.extend([0xaa; 12]);
        buffer.extend([8, 0, 0x45]);
        let message = sys::Message {
            length: buffer.len(),
            vlan: Some([0x8100, 5]),
            ..sys::Message::default()
        };
        let frame = whole(&message, &buffer);
        if cfg!(target_endian = "little") {
            assert_eq!(frame[..10], [1, 0, 58, 0, 0, 0, 38, 0, 16, 0]);
        }
        assert_eq!(frame[22..], [0x81, 0, 0, 5, 8, 0, 0x45]);
    }
}
