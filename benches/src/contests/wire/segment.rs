use std::hint::black_box;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use anyhow::{Context, Result, ensure};
use overlay_wire::checksum::{self, Checksum, PseudoHeader};
use overlay_wire::coalesce::{Coalescer, Options, datagrams};
use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::segment::{MAX_HEADER_LEN, Segments};
use overlay_wire::tcp::{TcpFlags, TcpHeader};
use overlay_wire::virtio_net::{ChecksumState, Gso, GsoKind, VirtioNetHeader};

use super::super::thousands;
use crate::{Contest, Memory};

/// So many packets of 64 KiB a turn works on: some milliseconds.
const OBJECTS: u32 = 512;
/// Bytes of payload in a segment, and of headers: IPv4, TCP, timestamps.
const SIZE: usize = 1420;
const HEADERS: usize = 52;
/// As many segments as fit into one send.
const PACKETS: usize = 64;

/// Segmenting a packet of TCP of `len` bytes: the headers of all segments, with their checksums.
///
/// # Errors
/// When what is written is wrong.
pub(super) fn segmenting(len: usize) -> Result<Contest<Memory>> {
    let title = format!("Segment {} bytes", thousands(len as u32));
    let (header, packet) = large(len)?;
    let count = Segments::new(&header, &packet)?.count();
    ensure!(count <= PACKETS, "{count} segments");
    let copied = packet.clone();
    let mut headers = vec![[0_u8; MAX_HEADER_LEN]; PACKETS];
    let mut contest = Contest::in_memory("segment", title, OBJECTS);
    contest = contest.repeat("overlay-wire, `Segments`", 1, move || {
        let segments = Segments::new(&header, black_box(&packet)).ok()?;
        let headers = headers.iter_mut().enumerate().take(segments.count());
        headers
            .map(|(index, header)| Some(segments.write(index, header)?.len()))
            .sum::<Option<usize>>()
    });
    Ok(with_floors(contest, copied))
}

/// Coalescing the segments of a packet of TCP of `len` bytes.
///
/// # Errors
/// When they do not become one.
pub(super) fn coalescing(len: usize) -> Result<Contest<Memory>> {
    let segment_len = HEADERS + SIZE;
    let buffer = segments(len)?;
    let count = buffer.len().div_ceil(segment_len);
    let title = format!("Coalesce {count} packets of {} bytes", thousands(segment_len as u32));
    let mut contest = Contest::in_memory("coalesce", title, OBJECTS);
    for (name, verify) in [
        ("overlay-wire, `Coalescer`", true),
        ("overlay-wire, `Coalescer`, nothing verified", false),
    ] {
        let mut options = Options::default();
        options.verify = verify;
        let mut coalescer = Box::new(Coalescer::<PACKETS>::new(options));
        let mut buffer = buffer.clone();
        let first = buffer[..HEADERS].to_vec();
        let mut coalesce = move || {
            // What the last turn has made of it.
            buffer[..HEADERS].copy_from_slice(&first);
            for range in datagrams(buffer.len(), segment_len) {
                if coalescer.push(black_box(&buffer), range).is_err() {
                    return 0;
                }
            }
            let written: usize = coalescer
                .finish(&mut buffer)
                .map(|packet| black_box(packet.header()).header_len() + packet.pieces().count())
                .sum();
            coalescer.clear();
            written
        };
        let (found, expected) = (coalesce(), VirtioNetHeader::default().header_len() + count);
        ensure!(found == expected, "{found} instead of {expected}");
        contest = contest.repeat(name, 1, coalesce);
    }
    Ok(with_floors(contest, buffer))
}

/// What cannot be saved when every byte is to be looked at, and what copying would cost.
fn with_floors(contest: Contest<Memory>, bytes: Vec<u8>) -> Contest<Memory> {
    let (summed, copied) = (bytes.clone(), bytes);
    let mut copy = vec![0; copied.len()];
    let sums = |bytes: &[u8]| bytes.chunks(SIZE).fold(0, |all, part| all ^ checksum::of(part));
    contest.repeat("the checksums alone", 1, move || sums(black_box(&summed))).repeat(
        "a copy, and the checksums",
        1,
        move || {
            copy.copy_from_slice(black_box(&copied));
            sums(black_box(&copy))
        },
    )
}

/// A packet of TCP as a TUN device hands it over.
fn large(len: usize) -> Result<(VirtioNetHeader, Vec<u8>)> {
    let (src, dst) = (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1));
    let addresses = PseudoHeader::V4 { src, dst };
    let mut packet: Vec<u8> = (0..len).map(|at| ((at * 167) >> 3) as u8).collect();
    let tcp = TcpHeader {
        src_port: 40_000,
        dst_port: 443,
        sequence: 1,
        acknowledgment: 1,
        flags: TcpFlags::ACK | TcpFlags::PSH,
        window: 512,
        urgent: 0,
        options: b"\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02",
    };
    tcp.emit(&mut packet[20..], &addresses)?;
    Ipv4Header { dont_fragment: true, ..Ipv4Header::new(src, dst, IpProtocol::TCP) }
        .emit(&mut packet)?;
    let sum = Checksum::new().pseudo_header(&addresses, IpProtocol::TCP, len as u32 - 20).finish();
    packet[36..38].copy_from_slice(&(!sum).to_be_bytes());
    let gso = Gso {
        kind: GsoKind::TcpV4,
        ecn: false,
        header_len: HEADERS as u16,
        size: NonZeroU16::new(SIZE as u16).context("a size")?,
    };
    let checksum = ChecksumState::Needed { start: 20, offset: 16 };
    Ok((VirtioNetHeader { checksum, gso: Some(gso) }, packet))
}

/// Its segments, one behind the other.
fn segments(len: usize) -> Result<Vec<u8>> {
    let (header, packet) = large(len)?;
    let segments = Segments::new(&header, &packet)?;
    let mut bytes = Vec::new();
    let mut headers = [0; MAX_HEADER_LEN];
    for index in 0..segments.count() {
        let payload = segments.write(index, &mut headers).context("a segment")?;
        bytes.extend_from_slice(&headers[..segments.header_len()]);
        bytes.extend_from_slice(payload);
    }
    Ok(bytes)
}
