//! What was seen, by encapsulation and peers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use overlay_wire::Encapsulation;
use overlay_wire::dissect::{Dissection, Outermost};
use serde::Serialize;

/// How many rows are kept apart, so that a capture of a whole network does not eat the memory.
const MAX_ROWS: usize = 4096;

/// Counts of packets.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// All that were read.
    pub(crate) read: u64,
    /// Those that matched; what follows is about them.
    pub(crate) matched: u64,
    /// Those of which the capture has only the beginning.
    pub(crate) cut: u64,
    /// Those that are not what they say they are.
    pub(crate) malformed: u64,
    /// Frames that the kernel dropped because they came too fast.
    pub(crate) lost: u64,
    rows: BTreeMap<Key, Counts>,
    others: Counts,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    encapsulation: Encapsulation,
    /// Source and destination of the outer header.
    outer: Option<(IpAddr, IpAddr)>,
    key: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    packets: u64,
    bytes: u64,
    overhead: u64,
}

/// A row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) encapsulation: &'static str,
    /// The peers: addresses in the outer header.
    pub(crate) src: Option<IpAddr>,
    pub(crate) dst: Option<IpAddr>,
    /// The VNI, or the key of GRE.
    pub(crate) key: Option<u32>,
    pub(crate) packets: u64,
    /// Bytes on the wire from the outer IP header on; of packets without encapsulation, all bytes.
    pub(crate) bytes: u64,
    /// Those of them that the encapsulation has added.
    pub(crate) overhead_bytes: u64,
    /// Which part of the bytes that is: 0 to 1.
    pub(crate) overhead_share: f64,
}

impl Summary {
    /// Counts a packet that matched.
    pub(crate) fn add(&mut self, packet: &Dissection<'_, '_>, tunnel: Option<&Outermost>) {
        self.matched += 1;
        self.cut += u64::from(packet.is_cut());
        self.malformed += u64::from(is_malformed(packet));
        let (key, counts) = match tunnel {
            None => (
                Key { encapsulation: Encapsulation::Direct, outer: None, key: None },
                Counts { packets: 1, bytes: packet.length() as u64, overhead: 0 },
            ),
            Some(tunnel) => (
                Key {
                    encapsulation: tunnel.encapsulation,
                    outer: Some((tunnel.src, tunnel.dst)),
                    key: tunnel.key,
                },
                Counts {
                    packets: 1,
                    bytes: tunnel.outer_len as u64,
                    overhead: tunnel.overhead() as u64,
                },
            ),
        };
        let is_full = self.rows.len() >= MAX_ROWS;
        let row = match self.rows.get_mut(&key) {
            Some(row) => row,
            None if is_full => &mut self.others,
            None => self.rows.entry(key).or_default(),
        };
        row.packets += counts.packets;
        row.bytes += counts.bytes;
        row.overhead += counts.overhead;
    }

    /// The rows, those with the most bytes first.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |encapsulation, outer: Option<(IpAddr, IpAddr)>, key, counts: &Counts| Row {
            encapsulation,
            src: outer.map(|(src, _)| src),
            dst: outer.map(|(_, dst)| dst),
            key,
            packets: counts.packets,
            bytes: counts.bytes,
            overhead_bytes: counts.overhead,
            overhead_share: match counts.bytes {
                0 => 0.0,
                bytes => counts.overhead as f64 / bytes as f64,
            },
        };
        let mut rows: Vec<_> = self
            .rows
            .iter()
            .map(|(key, counts)| row(key.encapsulation.name(), key.outer, key.key, counts))
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
        if self.others.packets > 0 {
            rows.push(row("others", None, None, &self.others));
        }
        rows
    }
}

/// Whether a packet is not what it says it is. That a capture has cut it is not its fault.
pub(crate) fn is_malformed(packet: &Dissection<'_, '_>) -> bool {
    let lies = packet.layers().any(|layer| layer.missing() > 0 && !layer.in_fragment);
    lies || (!packet.is_cut() && packet.error().is_some())
}

#[cfg(test)]
mod tests {
    use overlay_wire::dissect::{Dissector, Start};

    use super::*;

    /// An empty IPv4 packet in IPv4, from 10.0.0.1 to 10.0.0.2.
    fn packet(src: [u8; 4]) -> Vec<u8> {
        let header = |length, protocol, src: [u8; 4]| {
            let start = [0x45, 0, 0, length, 0, 0, 0, 0, 64, protocol, 0, 0];
            [&start[..], &src, &[10, 0, 0, 2]].concat()
        };
        [header(40, 4, src), header(20, 253, [192, 168, 0, 1])].concat()
    }

    fn add(summary: &mut Summary, bytes: &[u8], length: usize) {
        let packet = Dissector::new(Start::Ip).dissect_cut(bytes, length);
        summary.add(&packet, packet.outermost().as_ref());
    }

    #[test]
    fn packets_are_counted_by_peer() {
        let mut summary = Summary::default();
        let [a, b] = [[10, 0, 0, 1], [10, 0, 0, 3]].map(packet);
        for bytes in [&a, &b, &b] {
            add(&mut summary, bytes, 40);
        }
        add(&mut summary, &a[20..], 20);
        let rows = summary.rows();
        let found: Vec<_> = rows.iter().map(|r| (r.encapsulation, r.packets, r.bytes)).collect();
        assert_eq!(found, [("ip-in-ip", 2, 80), ("ip-in-ip", 1, 40), ("direct", 1, 20)]);
        assert_eq!(rows[0].src, Some([10, 0, 0, 3].into()));
        assert_eq!((rows[0].overhead_bytes, rows[0].overhead_share), (40, 0.5));
        assert_eq!((summary.cut, summary.malformed), (0, 0));
    }

    #[test]
    fn damage_is_told_from_cuts() {
        let mut summary = Summary::default();
        let bytes = packet([10, 0, 0, 1]);
        add(&mut summary, &bytes[..30], 40);
        assert_eq!((summary.cut, summary.malformed), (1, 0));
        add(&mut summary, &bytes[..30], 30);
        assert_eq!((summary.cut, summary.malformed), (1, 1));
    }

    #[test]
    fn the_number_of_rows_is_bounded() {
        let mut summary = Summary::default();
        for n in 0..MAX_ROWS as u32 + 10 {
            add(&mut summary, &packet(n.to_be_bytes()), 40);
        }
        let rows = summary.rows();
        assert_eq!(rows.len(), MAX_ROWS + 1);
        let last = &rows[MAX_ROWS];
        assert_eq!((last.encapsulation, last.packets, last.bytes), ("others", 10, 400));
    }
}
