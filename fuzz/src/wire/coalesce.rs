use std::ops::Range;

use overlay_wire::coalesce::{Coalescer, MAX_LEN, Options, Refused};
use overlay_wire::ip::{IpPacket, IpProtocol};

use super::segment::segmented;

/// Any packets: each is refused or written, alone or with others, and what is written gives the same packets again.
///
/// The first byte of the input chooses the options; then come the packets, each behind its length in two bytes.
pub fn coalesce(input: &[u8]) {
    const PACKETS: usize = 32;
    let Some((choice, mut rest)) = input.split_first() else { return };
    let mut options = Options::default();
    (options.tcp, options.udp) = (choice & 1 == 0, choice & 2 == 0);
    options.verify = choice & 4 == 0;

    let (mut buffer, mut ranges) = (Vec::new(), Vec::new());
    while let Some((len, bytes)) = rest.split_first_chunk::<2>() {
        let (packet, others) = bytes.split_at(bytes.len().min(u16::from_be_bytes(*len).into()));
        ranges.push(buffer.len()..buffer.len() + packet.len());
        buffer.extend_from_slice(packet);
        rest = others;
    }
    let before = buffer.clone();
    let mut coalescer = Coalescer::<PACKETS>::new(options);
    let mut taken = Vec::new();
    for range in ranges {
        match coalescer.push(&buffer, range.clone()) {
            Ok(()) => taken.push(range),
            Err(why) => {
                super::prints(why, 128);
                assert_eq!(coalescer.is_full(), why == Refused::Full);
            }
        }
    }
    let written: Vec<(_, Vec<Range<usize>>)> = coalescer
        .finish(&mut buffer)
        .map(|packet| {
            assert!(packet.packets() == 1 || packet.len() <= MAX_LEN);
            (packet.header(), packet.pieces().collect())
        })
        .collect();

    let mut seen = Vec::new();
    for (header, pieces) in written {
        // Each piece ends where its packet does.
        let whole = |piece: &Range<usize>| {
            taken.iter().find(|range| range.end == piece.end).expect("a piece of a packet").clone()
        };
        let originals: Vec<Range<usize>> = pieces.iter().map(whole).collect();
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| buffer[piece].to_vec()).collect();
        match originals.as_slice() {
            [alone] => assert_eq!(bytes, before[alone.clone()], "alone, but changed"),
            _ => {
                let segments = segmented(&header, &bytes);
                assert_eq!(segments.len(), originals.len());
                for (segment, original) in segments.iter().zip(&originals) {
                    let original = &before[original.clone()];
                    assert_eq!(
                        comparable(segment, options.verify),
                        comparable(original, options.verify)
                    );
                }
            }
        }
        seen.extend(originals);
    }
    seen.sort_by_key(|range| range.start);
    assert_eq!(seen, taken, "a packet is missing, or there twice");
}

/// A packet without what coalescing may change: the identification if the packet must not be fragmented, and checksums
/// that nobody has verified.
fn comparable(packet: &[u8], verified: bool) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    let ip = IpPacket::parse(packet).expect("a packet");
    if let IpPacket::V4(ip) = ip {
        if ip.dont_fragment() {
            bytes[4..6].fill(0);
        }
        if ip.dont_fragment() || !verified {
            bytes[10..12].fill(0);
        }
    }
    if !verified {
        let upper = ip.upper_layer().expect("an upper layer");
        let at = upper.header_len + if upper.protocol == IpProtocol::TCP { 16 } else { 6 };
        bytes[at..at + 2].fill(0);
    }
    bytes
}
