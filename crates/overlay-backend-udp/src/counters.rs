//! What was carried and what was not, to be read at any time.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Why a packet was not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DropReason {
    /// To the underlay: the kernel handed over something that is no IP packet, or wants something done with it that cannot
    /// be done.
    Unsendable,
    /// To the underlay: nobody has the destination. The source is told that it is unreachable.
    NoPeer,
    /// To the underlay: the destination is a group or a broadcast address, of which an overlay of subnets knows nothing.
    Group,
    /// To the underlay: longer than the path to the peer takes. The source is told how long it may be.
    TooBig,
    /// To the underlay: there is no way to the peer. The source is told that it is unreachable.
    Unreachable,
    /// To the underlay: the socket's buffer or the queue of the device was full.
    Congested,
    /// To the underlay: the kernel refused to send, as a firewall makes it do.
    Refused,
    /// From the underlay: the socket's buffer was full, since more arrived than could be carried.
    Overrun,
    /// From the underlay: longer than any datagram can be that this node has room for.
    Truncated,
    /// From the underlay: no IP packet, or one whose lengths do not fit those of the datagram.
    Malformed,
    /// From the underlay: the inner source is not behind the peer that sent the datagram.
    Spoofed,
    /// From the underlay: the inner destination is not in a subnet of this node.
    NotHere,
    /// From the underlay: marked as having met congestion, without the consent of the inner packet (RFC 6040, section 4.2).
    Congestion,
    /// From the underlay: the TUN device is down or gone.
    DeviceDown,
    /// From the underlay: the TUN device took it for no packet.
    DeviceRefused,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 15] = [
        Self::Unsendable,
        Self::NoPeer,
        Self::Group,
        Self::TooBig,
        Self::Unreachable,
        Self::Congested,
        Self::Refused,
        Self::Overrun,
        Self::Truncated,
        Self::Malformed,
        Self::Spoofed,
        Self::NotHere,
        Self::Congestion,
        Self::DeviceDown,
        Self::DeviceRefused,
    ];

    /// A word for it, as it prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsendable => "unsendable",
            Self::NoPeer => "no-peer",
            Self::Group => "group",
            Self::TooBig => "too-big",
            Self::Unreachable => "unreachable",
            Self::Congested => "congested",
            Self::Refused => "refused",
            Self::Overrun => "overrun",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Spoofed => "spoofed",
            Self::NotHere => "not-here",
            Self::Congestion => "congestion",
            Self::DeviceDown => "device-down",
            Self::DeviceRefused => "device-refused",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a [`Forwarder`](crate::Forwarder) has carried since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// From the TUN device to peers.
    pub sent: Traffic,
    /// From peers to the TUN device.
    pub received: Traffic,
    /// What was not carried, by reason.
    pub drops: Drops,
    /// ICMP errors told to the sources of packets that were not carried.
    pub answers: u64,
    /// ICMP errors that were not told because there were too many of them at once.
    pub answers_withheld: u64,
    /// How often the TUN device was made, because it was not there or somebody had deleted it.
    pub devices_made: u64,
    /// Addresses of peers to which the path takes less than the underlay device, and how long a packet may be there, its
    /// outer headers included, in bytes. What was learned is forgotten after ten minutes.
    pub path_mtus: Vec<(IpAddr, u32)>,
}

/// What was carried one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Traffic {
    /// Inner packets, each in a datagram of its own.
    pub packets: u64,
    /// Bytes of the inner packets.
    pub bytes: u64,
    /// System calls on the UDP socket that carried them: there are `packets / trains` datagrams in one.
    pub trains: u64,
    /// System calls on the TUN device that carried them: there are `packets / super_packets` segments in one.
    pub super_packets: u64,
    /// System calls on the UDP socket by how many datagrams they carried: 1, 2 to 3, 4 to 7, and so on; the last has 64 and
    /// more.
    pub by_train: [u64; SIZES],
}

/// How many classes of batch sizes there are.
const SIZES: usize = 7;

/// How many packets were not carried, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// For this reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// For any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its number.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().map(|reason| (reason, self.of(reason)))
    }
}

impl Serialize for Drops {
    /// As a map from the names of the reasons.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(DropReason::ALL.len()))?;
        for (reason, count) in self.iter() {
            map.serialize_entry(reason.name(), &count)?;
        }
        map.end()
    }
}

/// A number that one thread raises and any may read.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Raises it. Only by the one thread that it belongs to, so that no other addition can be lost.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one thread counts. Apart from what others count, so that no two write to one line of the cache.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    packets: Count,
    bytes: Count,
    trains: Count,
    by_train: [Count; SIZES],
    pub(crate) super_packets: Count,
    drops: [Count; DropReason::ALL.len()],
    pub(crate) answers: Count,
    pub(crate) answers_withheld: Count,
}

impl Tally {
    /// One system call on the socket carried this many datagrams with this many bytes.
    pub(crate) fn train(&self, packets: usize, bytes: usize) {
        self.packets.add(packets as u64);
        self.bytes.add(bytes as u64);
        self.trains.add(1);
        let class = packets.checked_ilog2().unwrap_or_default() as usize;
        if let Some(count) = self.by_train.get(class.min(SIZES - 1)) {
            count.add(1);
        }
    }

    /// Packets were not carried.
    pub(crate) fn dropped(&self, reason: DropReason, packets: usize) {
        if let Some(count) = self.drops.get(reason as usize) {
            count.add(packets as u64);
        }
    }

    fn traffic(&self) -> Traffic {
        let mut by_train = [0; SIZES];
        by_train.iter_mut().zip(&self.by_train).for_each(|(to, from)| *to = from.get());
        Traffic {
            packets: self.packets.get(),
            bytes: self.bytes.get(),
            trains: self.trains.get(),
            super_packets: self.super_packets.get(),
            by_train,
        }
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.trains += other.trains;
        self.super_packets += other.super_packets;
        self.by_train.iter_mut().zip(other.by_train).for_each(|(sum, more)| *sum += more);
    }
}

/// The tallies of all threads.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) transmit: Vec<Arc<Tally>>,
    pub(crate) receive: Vec<Arc<Tally>>,
}

impl Tallies {
    /// One for each direction of each queue.
    pub(crate) fn new(queues: usize) -> Self {
        let some = || (0..queues).map(|_| Arc::default()).collect();
        Self { transmit: some(), receive: some() }
    }

    /// All of it, added up.
    pub(crate) fn sum(&self) -> Counters {
        let mut sum = Counters::default();
        for tally in &self.transmit {
            sum.sent += tally.traffic();
        }
        for tally in &self.receive {
            sum.received += tally.traffic();
        }
        for tally in self.transmit.iter().chain(&self.receive) {
            let drops = sum.drops.0.iter_mut().zip(&tally.drops);
            drops.for_each(|(sum, count)| *sum += count.get());
            sum.answers += tally.answers.get();
            sum.answers_withheld += tally.answers_withheld.get();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_place_and_a_name_of_its_own() {
        let tally = Tallies::new(2);
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            tally.transmit[number % 2].dropped(reason, number + 1);
        }
        let counters = tally.sum();
        for (number, (reason, count)) in counters.drops.iter().enumerate() {
            assert_eq!((reason, count), (DropReason::ALL[number], number as u64 + 1));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.to_string());
        }
        assert_eq!(counters.drops.total(), 15 * 16 / 2);
        let json = serde_json::to_value(&counters).unwrap();
        assert_eq!(json["drops"]["device-refused"], 15);
    }

    #[test]
    fn trains_are_counted_by_their_size() {
        let tallies = Tallies::new(1);
        for size in [1, 2, 3, 4, 44, 64, 128] {
            tallies.receive[0].train(size, size * 100);
        }
        let received = tallies.sum().received;
        assert_eq!((received.packets, received.trains, received.bytes), (246, 7, 24_600));
        assert_eq!(received.by_train, [1, 2, 1, 0, 0, 1, 2]);
        assert_eq!(tallies.sum().sent, Traffic::default());
    }
}
