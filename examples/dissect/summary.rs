//! What was seen, by encapsulation and peers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::AddAssign;

use overlay_wire::Encapsulation;
use overlay_wire::dissect::{Dissection, Kind, Outermost};
use overlay_wire::ipv6::extension::Extension;
use serde::Serialize;

/// How many rows are kept apart, so that a capture of a whole network does not eat the memory.
const MAX_ROWS: usize = 4096;

/// Counts of packets.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// All that were read.
    pub(crate) read: u64,
    /// Those of interfaces whose link type is not supported.
    pub(crate) skipped: u64,
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
    #[serde(flatten)]
    pub(crate) amount: Amount,
}

/// How much there was.
#[derive(Debug, Serialize)]
pub(crate) struct Amount {
    pub(crate) packets: u64,
    /// Bytes on the wire from the outermost IP header on; of frames without IP, from behind the Ethernet header.
    pub(crate) bytes: u64,
    /// Those of them that the encapsulation has added.
    pub(crate) overhead_bytes: u64,
    /// Which part of the bytes that is: 0 to 1.
    pub(crate) overhead_share: f64,
}

impl From<Counts> for Amount {
    fn from(Counts { packets, bytes, overhead }: Counts) -> Self {
        let overhead_share = match bytes {
            0 => 0.0,
            bytes => overhead as f64 / bytes as f64,
        };
        Self { packets, bytes, overhead_bytes: overhead, overhead_share }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.overhead += other.overhead;
    }
}

impl Summary {
    /// Counts a packet that matched.
    pub(crate) fn add(&mut self, packet: &Dissection<'_, '_>, tunnel: Option<&Outermost>) {
        self.matched += 1;
        self.cut += u64::from(packet.is_cut());
        self.malformed += u64::from(fault(packet).is_some());
        let (key, counts) = match tunnel {
            None => (
                Key { encapsulation: Encapsulation::Direct, outer: None, key: None },
                Counts { packets: 1, bytes: network_len(packet) as u64, overhead: 0 },
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
        *row += counts;
    }

    /// The rows, those with the most bytes first.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |encapsulation, outer: Option<(IpAddr, IpAddr)>, key, counts: &Counts| Row {
            encapsulation,
            src: outer.map(|(src, _)| src),
            dst: outer.map(|(_, dst)| dst),
            key,
            amount: Amount::from(*counts),
        };
        let mut rows: Vec<_> = self
            .rows
            .iter()
            .map(|(key, counts)| row(key.encapsulation.name(), key.outer, key.key, counts))
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.amount.bytes));
        if self.others.packets > 0 {
            rows.push(row("others", None, None, &self.others));
        }
        rows
    }

    /// All rows together.
    pub(crate) fn total(&self) -> Amount {
        let mut total = self.others;
        for counts in self.rows.values() {
            total += *counts;
        }
        Amount::from(total)
    }
}

/// Bytes on the wire of an IP packet, or else of what is behind the link layer.
fn network_len(packet: &Dissection<'_, '_>) -> usize {
    let mut len = packet.length();
    for layer in packet.layers() {
        match layer.kind {
            Kind::Ethernet(_) | Kind::Vlan(_) => len = layer.length - layer.header_len,
            _ => return layer.unpadded_len(),
        }
    }
    len
}

/// In what a packet is not what it says it is. That a capture has cut it is not its fault.
pub(crate) fn fault(packet: &Dissection<'_, '_>) -> Option<String> {
    packet.layers().find_map(|layer| {
        if layer.missing() > 0 && !layer.in_fragment {
            return Some(format!("{}: {} bytes missing", layer.name(), layer.missing()));
        }
        let error = match layer.kind {
            Kind::Malformed(error) if !packet.is_cut() => Some(error),
            Kind::Tcp(packet) => packet.options_iter().find_map(Result::err),
            Kind::Extension(
                Extension::HopByHop(options) | Extension::DestinationOptions(options),
            ) => options.iter().find_map(Result::err),
            _ => None,
        };
        error.map(|error| error.to_string())
    })
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
        let found: Vec<_> =
            rows.iter().map(|r| (r.encapsulation, r.amount.packets, r.amount.bytes)).collect();
        assert_eq!(found, [("ip-in-ip", 2, 80), ("ip-in-ip", 1, 40), ("direct", 1, 20)]);
        assert_eq!(rows[0].src, Some([10, 0, 0, 3].into()));
        assert_eq!((rows[0].amount.overhead_bytes, rows[0].amount.overhead_share), (40, 0.5));
        assert_eq!((summary.cut, summary.malformed), (0, 0));
        let total = summary.total();
        assert_eq!((total.packets, total.bytes, total.overhead_bytes), (4, 140, 60));
    }

    #[test]
    fn bytes_count_from_the_ip_header_on() {
        let packet = &packet([10, 0, 0, 1])[20..];
        let frame = |ether_type: &[u8], behind: &[u8]| {
            [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], ether_type, behind].concat()
        };
        let len = |bytes: &[u8], length| {
            network_len(&Dissector::new(Start::Ethernet).dissect_cut(bytes, length))
        };
        // Padding up to the shortest frame.
        assert_eq!(len(&frame(&[8, 0], &[packet, &[0; 26]].concat()), 60), 20);
        assert_eq!(len(&frame(&[0x81, 0, 0, 7, 8, 0], packet), 38), 20);
        assert_eq!(len(&frame(&[0x88, 0xcc], &[0; 30]), 44), 30);
        // The same frame, of which the capture has the header alone.
        assert_eq!(len(&frame(&[0x88, 0xcc], &[]), 44), 30);
        assert_eq!(len(&[2, 0], 44), 44);
    }

    #[test]
    fn a_fault_says_what_is_wrong() {
        let of =
            |bytes: &[u8], length| fault(&Dissector::new(Start::Ip).dissect_cut(bytes, length));
        let bytes = packet([10, 0, 0, 1]);
        assert_eq!(of(&bytes, 40), None);
        assert_eq!(of(&bytes[..39], 39).unwrap(), "IPv4: 1 bytes missing");
        assert_eq!(of(&bytes[..39], 40), None);
        // A TCP segment with an option of length 0.
        let mut tcp =
            [&bytes[..20], &[0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0x60], &[0; 11]].concat();
        (tcp[3], tcp[9], tcp[40]) = (44, 6, 9);
        let error = of(&tcp, 44).unwrap();
        assert!(error.starts_with("TCP option length: "), "{error}");
        tcp[41] = 4;
        assert_eq!(of(&tcp, 44), None);
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
        assert_eq!(
            (last.encapsulation, last.amount.packets, last.amount.bytes),
            ("others", 10, 400)
        );
    }
}
