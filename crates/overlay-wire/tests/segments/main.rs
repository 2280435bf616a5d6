//! Large packets are segmented as if each segment had been written by itself, and become the same large packets again.

mod packet;

use std::ops::Range;

use overlay_wire::checksum::{self, Checksum};
use overlay_wire::coalesce::{Coalescer, MAX_DATAGRAMS, MAX_FLOWS, Options, Refused, datagrams};
use overlay_wire::ip::{Ecn, IpPacket, IpProtocol};
use overlay_wire::segment::{MAX_HEADER_LEN, Segments, SendLimit, complete_checksum, unfinished};
use overlay_wire::tcp::TcpFlags;
use overlay_wire::virtio_net::{ChecksumState, Gso, GsoKind, VirtioNetHeader};
use overlay_wire::{Expected, IpVersion};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use packet::{Large, segmented};

/// How many packets the coalescers of these tests take.
const PACKETS: usize = 128;

const FLAGS: [TcpFlags; 6] =
    [TcpFlags::FIN, TcpFlags::PSH, TcpFlags::ECE, TcpFlags::CWR, TcpFlags::AE, TcpFlags::URG];

/// Any packet, of which the segments are not too many.
fn large() -> impl Strategy<Value = Large> {
    let ecn = prop_oneof![Just(Ecn::NotEct), Just(Ecn::Ect0), Just(Ecn::Ect1), Just(Ecn::Ce)];
    let options = |words| vec(any::<u8>(), 0..=words).prop_map(|it| it.repeat(4));
    let tcp = (subsequence(&FLAGS[..], 0..3), options(10)).prop_map(|(flags, options)| {
        (flags.into_iter().fold(TcpFlags::ACK, |all, flag| all | flag), options)
    });
    let shape = (any::<bool>(), proptest::option::weighted(0.7, tcp), options(3));
    let numbers = (any::<u32>(), any::<u16>(), any::<u16>(), any::<bool>());
    let class = (0..64_u8, ecn, any::<u8>(), 0..1_u32 << 20);
    let payload = (1..2000_u16, 0..PACKETS, any::<Index>(), any::<u32>());
    (shape, numbers, class, payload).prop_map(|(shape, numbers, class, payload)| {
        let (six, tcp, ip_options) = shape;
        let (sequence, window, identification, dont_fragment) = numbers;
        let (dscp, ecn, ttl, flow_label) = class;
        let (size, count, last, seed) = payload;
        let len = usize::from(size) * count + last.index(size.into());
        Large {
            six,
            port: 40_000,
            tcp,
            sequence,
            window,
            identification,
            dont_fragment,
            dscp,
            ecn,
            ttl,
            flow_label,
            ip_options,
            payload: noise(seed, len.min(65_000)),
            size,
        }
    })
}

fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) << 1 | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What is written: the virtio header, and all pieces together.
type Written = Vec<(VirtioNetHeader, Vec<u8>)>;

fn coalesced(packets: &[Vec<u8>], options: Options) -> Written {
    let mut buffer = packets.concat();
    let mut coalescer = Coalescer::<PACKETS>::new(options);
    for range in ranges(packets) {
        coalescer.push(&buffer, range).unwrap();
    }
    assert_eq!(coalescer.len(), packets.len());
    written(&mut coalescer, &mut buffer)
}

fn ranges(packets: &[Vec<u8>]) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut ranges = Vec::new();
    for packet in packets {
        ranges.push(start..start + packet.len());
        start += packet.len();
    }
    ranges
}

fn written(coalescer: &mut Coalescer<PACKETS>, buffer: &mut [u8]) -> Written {
    let packets: Vec<_> = coalescer
        .finish(buffer)
        .map(|packet| {
            let pieces: Vec<_> = packet.pieces().collect();
            assert_eq!((pieces.len(), packet.pieces().len()), (packet.packets(), pieces.len()));
            assert_eq!(pieces.iter().map(ExactSizeIterator::len).sum::<usize>(), packet.len());
            (packet.header(), pieces)
        })
        .collect();
    let bytes = |pieces: Vec<Range<usize>>| -> Vec<u8> {
        pieces.into_iter().flat_map(|piece| buffer[piece].to_vec()).collect()
    };
    packets.into_iter().map(|(header, pieces)| (header, bytes(pieces))).collect()
}

/// Panics unless another parser finds all lengths and checksums right.
fn assert_valid(bytes: &[u8]) {
    use etherparse::{NetHeaders, TransportHeader};
    let packet = etherparse::PacketHeaders::from_ip_slice(bytes).unwrap();
    let payload = packet.payload.slice();
    let transport = packet.transport.unwrap();
    match packet.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(usize::from(ip.total_len), bytes.len());
            assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
            match transport {
                TransportHeader::Tcp(tcp) => {
                    assert_eq!(tcp.calc_checksum_ipv4(&ip, payload), Ok(tcp.checksum));
                }
                TransportHeader::Udp(udp) => {
                    assert_eq!(udp.calc_checksum_ipv4(&ip, payload), Ok(udp.checksum));
                }
                other => panic!("{other:?}"),
            }
        }
        NetHeaders::Ipv6(ip, _) => {
            assert_eq!(usize::from(ip.payload_length) + 40, bytes.len());
            match transport {
                TransportHeader::Tcp(tcp) => {
                    assert_eq!(tcp.calc_checksum_ipv6(&ip, payload), Ok(tcp.checksum));
                }
                TransportHeader::Udp(udp) => {
                    assert_eq!(udp.calc_checksum_ipv6(&ip, payload), Ok(udp.checksum));
                }
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn each_segment_is_as_if_written_by_itself(large in large()) {
        let (header, packet) = large.build();
        let segments = segmented(&header, &packet);
        for segment in &segments {
            assert_valid(segment);
        }
        prop_assert_eq!(segments, large.segments());
    }

    #[test]
    fn segments_become_the_packet_they_come_from(large in large()) {
        let (header, packet) = large.build();
        let segments = segmented(&header, &packet);
        let is_urgent = large.tcp.as_ref().is_some_and(|(flags, _)| flags.contains(TcpFlags::URG));
        let written = coalesced(&segments, Options::default());
        if segments.len() == 1 || is_urgent || large.is_extended() {
            let alone = segments.into_iter().map(|it| (VirtioNetHeader::default(), it));
            prop_assert_eq!(written, alone.collect::<Vec<_>>());
        } else if large.tcp.is_some() || segments.len() <= MAX_DATAGRAMS {
            prop_assert_eq!(written, vec![(header, packet)]);
        } else {
            // More than one packet, and each gives as many of the segments as it was made of.
            prop_assert_eq!(written.len(), 2);
            prop_assert_eq!(again(&written), segments);
        }
    }

    #[test]
    fn interleaved_flows_are_coalesced_each_on_its_own(
        flows in vec(large(), 1..MAX_FLOWS),
        order in any::<u64>(),
        lost in vec(any::<Index>(), 0..4),
        swapped in vec(any::<Index>(), 0..4),
        udp in any::<bool>(),
    ) {
        // The flows take turns, by their weights.
        let mut flows: Vec<_> = flows
            .into_iter()
            .zip(40_000..)
            .map(|(large, port)| {
                let payload = large.payload[..large.payload.len().min(8000)].to_vec();
                Large { port, payload, ..large }.segments().into_iter()
            })
            .collect();
        let mut state = order | 1;
        let mut packets = Vec::new();
        while !flows.is_empty() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let turn = (state >> 33) as usize % flows.len();
            match flows[turn].next() {
                Some(packet) => packets.push(packet),
                None => drop(flows.remove(turn)),
            }
        }
        packets.truncate(PACKETS);
        for at in lost.iter().take(packets.len() - 1) {
            packets.remove(at.index(packets.len()));
        }
        for at in swapped {
            let (at, len) = (at.index(packets.len()), packets.len());
            packets.swap(at, (at + 1) % len);
        }

        let mut options = Options::default();
        options.udp = udp;
        let again = again(&coalesced(&packets, options));
        prop_assert_eq!(again.len(), packets.len());
        for port in 40_000..40_000 + MAX_FLOWS as u16 {
            let of = |packets: &[Vec<u8>]| -> Vec<_> {
                packets.iter().filter(|it| src_port(it) == port).map(|it| unnumbered(it)).collect()
            };
            prop_assert_eq!(of(&again), of(&packets));
        }
    }

    #[test]
    fn anything_is_segmented_or_refused(
        header in vec(any::<u8>(), 10),
        bytes in vec(any::<u8>(), 0..200),
        large in large(),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        let (right, mut packet) = large.build();
        packet.truncate(2000);
        for (at, byte) in damage {
            let at = at.index(packet.len());
            packet[at] ^= byte;
        }
        let wrong = VirtioNetHeader::parse(&header).map(|(header, _)| header);
        for (header, bytes) in [(Ok(right), &packet), (wrong, &packet), (wrong, &bytes)] {
            let Ok(header) = header else { continue };
            if Segments::new(&header, bytes).is_ok() {
                segmented(&header, bytes);
            }
            let _ = unfinished(bytes, 1000);
            let mut completed = bytes.clone();
            match complete_checksum(&header, &mut completed) {
                Ok(()) => prop_assert!(header.checksum != ChecksumState::Unverified || completed == *bytes),
                Err(_) => prop_assert_eq!(&completed, bytes),
            }
        }
    }

    #[test]
    fn what_is_unfinished_says_so_itself(large in large(), more in 0..100_usize) {
        let (header, packet) = large.build();
        let Some(gso) = header.gso else { return Ok(()) };
        let mtu = usize::from(gso.header_len) + usize::from(gso.size.get());
        let whole = VirtioNetHeader { gso: None, ..header };
        let expected = match gso.kind {
            _ if packet.len() <= mtu => Some(whole),
            GsoKind::Udp => None,
            GsoKind::TcpV4 | GsoKind::TcpV6 => Some(header),
        };
        prop_assert_eq!(unfinished(&packet, mtu), expected);
        prop_assert_eq!(unfinished(&packet, packet.len() + more), Some(whole));
        // What is finished seldom looks as if it were not, and then it makes no difference.
        for segment in large.segments() {
            if let Some(header) = unfinished(&segment, segment.len()) {
                let mut completed = segment.clone();
                complete_checksum(&header, &mut completed).unwrap();
                prop_assert_eq!(completed, segment);
            }
        }
    }

    #[test]
    fn what_is_taken_comes_out_again_or_is_refused(
        large in large(),
        damage in vec((any::<Index>(), any::<u8>()), 1..40),
        size in 0..3000_usize,
        verify in any::<bool>(),
    ) {
        let mut buffer = large.segments().concat();
        buffer.truncate(20_000);
        for (at, byte) in damage {
            let at = at.index(buffer.len());
            buffer[at] ^= byte;
        }
        let mut options = Options::default();
        options.verify = verify;
        let mut coalescer = Coalescer::<PACKETS>::new(options);
        let taken: Vec<Vec<u8>> = datagrams(buffer.len(), size)
            .filter(|range| coalescer.push(&buffer, range.clone()).is_ok())
            .map(|range| buffer[range].to_vec())
            .collect();
        let written = written(&mut coalescer, &mut buffer);
        if verify {
            let mut again: Vec<_> = again(&written).iter().map(|it| unnumbered(it)).collect();
            let mut taken: Vec<_> = taken.iter().map(|it| unnumbered(it)).collect();
            again.sort();
            taken.sort();
            prop_assert_eq!(again, taken);
        }
    }
}

/// What has been written, taken apart again.
fn again(written: &Written) -> Vec<Vec<u8>> {
    written
        .iter()
        .flat_map(|(header, packet)| match header.gso {
            Some(_) => segmented(header, packet),
            None => vec![packet.clone()],
        })
        .collect()
}

fn src_port(packet: &[u8]) -> u16 {
    let upper = IpPacket::parse(packet).unwrap().upper_layer().unwrap().payload;
    u16::from_be_bytes([upper[0], upper[1]])
}

/// An IPv4 packet without what may differ after coalescing, if it must not be fragmented.
fn unnumbered(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// Three segments of TCP or UDP, over either version.
fn simple(six: bool, tcp: bool) -> Large {
    Large {
        six,
        port: 40_000,
        tcp: tcp.then(|| (TcpFlags::ACK, b"\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02".to_vec())),
        sequence: 7,
        window: 512,
        identification: 7,
        dont_fragment: true,
        dscp: 0,
        ecn: Ecn::Ect0,
        ttl: 64,
        flow_label: 5,
        ip_options: vec![],
        payload: noise(1, 250),
        size: 100,
    }
}

fn all_simple() -> [Large; 4] {
    [(false, false), (false, true), (true, false), (true, true)].map(|(six, tcp)| simple(six, tcp))
}

/// How many packets each of those that are written has been made of.
fn sizes(packets: &[Vec<u8>]) -> Vec<usize> {
    let mut coalescer = Coalescer::<PACKETS>::new(Options::default());
    let mut buffer = packets.concat();
    for range in ranges(packets) {
        coalescer.push(&buffer, range).unwrap();
    }
    coalescer.finish(&mut buffer).map(|packet| packet.packets()).collect()
}

/// Makes all checksums of a packet right.
fn complete(packet: &mut [u8], large: &Large) {
    let at = large.ip_len();
    if !large.six {
        packet[10..12].fill(0);
        let sum = checksum::of(&packet[..at]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let (protocol, place) = match large.tcp {
        Some(_) => (IpProtocol::TCP, at + 16),
        None => (IpProtocol::UDP, at + 6),
    };
    packet[place..place + 2].fill(0);
    let addresses = IpPacket::parse(packet).unwrap().pseudo_header();
    let sum = Checksum::new()
        .pseudo_header(&addresses, protocol, (packet.len() - at) as u32)
        .bytes(&packet[at..])
        .finish();
    packet[place..place + 2].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn a_bit_that_differs_keeps_packets_apart() {
    for large in all_simple() {
        let packets = large.segments();
        let (ip_len, is_tcp) = (large.ip_len(), large.tcp.is_some());
        for bit in 0..(packets[0].len() - 100) * 8 {
            let at = bit / 8;
            // The version, IPv4's header length, and lengths, without which it is no packet.
            let first = if large.six { 0..4 } else { 0..8 };
            let length = if large.six { 4..6 } else { 2..4 };
            if first.contains(&bit) || length.contains(&at) {
                continue;
            }
            let mut packets = packets[..2].to_vec();
            packets[1][at] ^= 0x80 >> (bit % 8);
            complete(&mut packets[1], &large);
            let is_checksum = match is_tcp {
                true => ip_len + 16..ip_len + 18,
                false => ip_len + 6..ip_len + 8,
            }
            .contains(&at)
                || !large.six && (10..12).contains(&at);
            let is_late = is_tcp && [(ip_len + 13) * 8 + 4, (ip_len + 13) * 8 + 7].contains(&bit);
            let expected = if is_checksum || is_late { vec![2] } else { vec![1, 1] };
            assert_eq!(sizes(&packets), expected, "bit {bit} of {large:?}");
        }
    }
}

#[test]
fn what_may_not_begin_a_run_does_not() {
    for six in [false, true] {
        for (flag, expected) in [
            (TcpFlags::FIN, [1, 2]),
            (TcpFlags::SYN, [1, 2]),
            (TcpFlags::RST, [1, 2]),
            (TcpFlags::PSH, [1, 2]),
            (TcpFlags::URG, [1, 2]),
            (TcpFlags::AE, [1, 2]),
        ] {
            let large = simple(six, true);
            let mut packets = large.segments();
            let at = large.ip_len() + 12;
            let bits = u16::from_be_bytes([packets[0][at], packets[0][at + 1]]) | flag.bits();
            packets[0][at..at + 2].copy_from_slice(&bits.to_be_bytes());
            complete(&mut packets[0], &large);
            assert_eq!(sizes(&packets), expected, "{flag}");
        }
        // Nor after a packet that ends one.
        let large = simple(six, true);
        let mut packets = large.segments();
        packets[1][large.ip_len() + 13] |= TcpFlags::PSH.bits() as u8;
        complete(&mut packets[1], &large);
        assert_eq!(sizes(&packets), [2, 1]);
        // Without payload, or without checksum.
        let empty = Large { payload: vec![], ..simple(six, true) };
        assert_eq!(sizes(&[empty.segments(), empty.segments()].concat()), [1, 1]);
        let large = simple(six, false);
        for at in 0..3 {
            let mut packets = large.segments();
            packets[at][large.ip_len() + 6..large.ip_len() + 8].fill(0);
            assert_eq!(sizes(&packets), [vec![1, 2], vec![1, 1, 1], vec![2, 1]][at]);
        }
    }
}

#[test]
fn identifications_count_up_or_stay() {
    for (identifications, dont_fragment, expected) in [
        ([7, 8, 9], false, vec![3]),
        ([u16::MAX, 0, 1], false, vec![3]),
        ([7, 7, 7], true, vec![3]),
        ([7, 7, 7], false, vec![1, 1, 1]),
        ([7, 8, 8], true, vec![2, 1]),
        ([7, 7, 8], true, vec![2, 1]),
        ([7, 9, 10], true, vec![1, 2]),
        ([7, 6, 5], true, vec![1, 1, 1]),
    ] {
        for tcp in [false, true] {
            let large = Large { dont_fragment, ..simple(false, tcp) };
            let mut packets = large.segments();
            for (packet, identification) in packets.iter_mut().zip(identifications) {
                packet[4..6].copy_from_slice(&identification.to_be_bytes());
                complete(packet, &large);
            }
            assert_eq!(sizes(&packets), expected, "{identifications:?} {dont_fragment}");
        }
    }
}

#[test]
fn a_damaged_packet_passes_alone_and_unchanged() {
    for large in all_simple() {
        let packets = large.segments();
        for (damaged, expected) in [(0, vec![1, 2]), (1, vec![1, 1, 1]), (2, vec![2, 1])] {
            let mut packets = packets.clone();
            // In the last byte, so that the headers are as they should be.
            *packets[damaged].last_mut().unwrap() ^= 1;
            assert_eq!(sizes(&packets), expected);
            assert_eq!(again(&coalesced(&packets, Options::default())), packets);
            // Whoever does not want them verified gets what he wants: one packet, and right checksums.
            let mut options = Options::default();
            options.verify = false;
            let written = coalesced(&packets, options);
            assert_eq!(written.len(), 1);
            complete(&mut packets[damaged], &large);
            assert_eq!(again(&written), packets);
        }
        if !large.six {
            let mut packets = packets.clone();
            packets[1][10] ^= 1;
            assert_eq!(sizes(&packets), [1, 1, 1]);
        }
    }
}

#[test]
fn one_kind_can_be_left_out() {
    for large in all_simple() {
        let mut options = Options::default();
        match large.tcp {
            Some(_) => options.tcp = false,
            None => options.udp = false,
        }
        let packets = large.segments();
        assert_eq!(coalesced(&packets, options).len(), 3);
        (options.tcp, options.udp) = (!options.tcp, !options.udp);
        assert_eq!(coalesced(&packets, options).len(), 1);
    }
}

#[test]
fn a_packet_is_taken_whole_or_not_at_all() {
    for large in all_simple() {
        let packet = large.segments().remove(0);
        let mut coalescer = Coalescer::<2>::new(Options::default());
        for len in 0..packet.len() {
            let expected = match len {
                0..20 => None,
                20..40 if large.six => None,
                _ => Some(Refused::Truncated { expected: packet.len(), found: len }),
            };
            let refused = coalescer.push(&packet, 0..len).unwrap_err();
            match expected {
                Some(expected) => assert_eq!(refused, expected),
                None => assert!(matches!(refused, Refused::Malformed(_)), "{refused:?}"),
            }
        }
        let longer = [&packet[..], &[0]].concat();
        let (expected, found) = (packet.len(), packet.len() + 1);
        let refused = coalescer.push(&longer, 0..found);
        assert_eq!(refused, Err(Refused::Trailing { expected, found }));
        let malformed = coalescer.push(&packet, 1..packet.len() + 1);
        assert!(matches!(malformed, Err(Refused::Malformed(_))));
        assert!(coalescer.is_empty());

        assert_eq!(coalescer.push(&packet, 0..expected), Ok(()));
        assert_eq!(coalescer.push(&packet, 0..expected), Ok(()));
        assert!(coalescer.is_full());
        assert_eq!(coalescer.push(&packet, 0..expected), Err(Refused::Full));
        coalescer.clear();
        assert_eq!((coalescer.len(), coalescer.finish(&mut []).len()), (0, 0));
        assert_eq!(coalescer.push(&packet, 0..expected), Ok(()));
    }
}

#[test]
fn packets_become_no_longer_than_64_kib() {
    for large in all_simple() {
        let header_len = large.build().1.len() - 250;
        let size = 1400;
        let full = (65_535 - header_len) / size;
        // As much as fits, in a packet that just fits, and one that just does not.
        for (over, expected) in [(0, vec![full + 1]), (1, vec![full, 1])] {
            let len = 65_535 - header_len + over;
            let large = Large { size: size as u16, payload: noise(2, 65_000), ..large.clone() };
            let mut packets = large.segments();
            let last = Large {
                payload: noise(3, len - full * size),
                sequence: large.sequence.wrapping_add((full * size) as u32),
                identification: large.identification + full as u16,
                ..large.clone()
            };
            packets.truncate(full);
            packets.extend(last.segments());
            assert_eq!(sizes(&packets), expected, "{header_len}");
            assert_eq!(again(&coalesced(&packets, Options::default())), packets);
        }
    }
}

#[test]
fn too_many_flows_stay_in_order() {
    let flows: Vec<_> = (0..=MAX_FLOWS as u16)
        .map(|flow| Large { port: 40_000 + flow, ..simple(false, true) }.segments())
        .collect();
    let turns: Vec<_> =
        (0..3).flat_map(|turn| flows.iter().map(move |it| it[turn].clone())).collect();
    assert_eq!(sizes(&turns), [1].repeat(turns.len()));
    assert_eq!(again(&coalesced(&turns, Options::default())), turns);
    let turns: Vec<_> =
        (0..3).flat_map(|turn| flows[1..].iter().map(move |it| it[turn].clone())).collect();
    assert_eq!(sizes(&turns), [3].repeat(MAX_FLOWS));
}

#[test]
fn what_belongs_to_no_flow_is_not_overtaken() {
    let large = simple(false, true);
    let mut packets = large.segments();
    let mut fragment = packets[1].clone();
    fragment[6] = 0x20;
    complete(&mut fragment, &large);
    packets.insert(1, fragment);
    assert_eq!(sizes(&packets), [1, 1, 2]);
    assert_eq!(again(&coalesced(&packets, Options::default())), packets);
}

#[test]
fn what_has_been_finished_is_not_continued() {
    let packets = simple(true, true).segments();
    let mut buffer = packets.concat();
    let mut coalescer = Coalescer::<PACKETS>::new(Options::default());
    let ranges = ranges(&packets);
    coalescer.push(&buffer, ranges[0].clone()).unwrap();
    coalescer.push(&buffer, ranges[1].clone()).unwrap();
    let first = written(&mut coalescer, &mut buffer);
    coalescer.push(&buffer, ranges[2].clone()).unwrap();
    let both = written(&mut coalescer, &mut buffer);
    assert_eq!((first.len(), both.len()), (1, 2));
    assert_eq!(both[0], first[0]);
    assert_eq!(both[1].1, packets[2]);
}

#[test]
fn datagrams_lie_one_behind_the_other() {
    let all = |len, size| datagrams(len, size).collect::<Vec<_>>();
    assert_eq!(all(2500, 1000), [0..1000, 1000..2000, 2000..2500]);
    assert_eq!(all(2000, 1000), [0..1000, 1000..2000]);
    assert!(all(5, 0).into_iter().eq(std::iter::once(0..5)));
    assert!(all(5, usize::MAX).into_iter().eq(std::iter::once(0..5)));
    assert_eq!(all(0, 7), []);
    assert_eq!(all(0, 0), []);
}

#[test]
fn what_is_no_packet_to_be_segmented_is_refused() {
    let field = |header: &VirtioNetHeader, packet: &[u8]| {
        Segments::new(header, packet).map(|it| it.count()).map_err(|error| error.field)
    };
    for large in all_simple() {
        let (header, packet) = large.build();
        assert_eq!(field(&header, &packet), Ok(3));
        for len in 0..packet.len() {
            assert!(Segments::new(&header, &packet[..len]).is_err(), "{len}");
        }
        let longer = [&packet[..], &[0]].concat();
        assert_eq!(field(&header, &longer), Err("length"));

        let ChecksumState::Needed { start, offset } = header.checksum else { unreachable!() };
        for (checksum, expected) in [
            (ChecksumState::Unverified, "flags"),
            (ChecksumState::Valid, "flags"),
            (ChecksumState::Needed { start: start + 1, offset }, "checksum start"),
            (ChecksumState::Needed { start: u16::MAX, offset }, "checksum start"),
            (ChecksumState::Needed { start, offset: offset - 1 }, "checksum offset"),
            (ChecksumState::Needed { start, offset: u16::MAX }, "checksum offset"),
        ] {
            let header = VirtioNetHeader { checksum, ..header };
            assert_eq!(field(&header, &packet), Err(expected));
        }
        let gso = header.gso.unwrap();
        let kinds = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp];
        for kind in kinds.into_iter().filter(|kind| *kind != gso.kind) {
            let header = VirtioNetHeader { gso: Some(Gso { kind, ..gso }), ..header };
            assert_eq!(field(&header, &packet), Err("gso type"));
        }
        let whole = VirtioNetHeader { gso: None, ..header };
        assert_eq!(field(&whole, &packet), Err("gso type"));
    }

    let large = simple(false, true);
    let (header, packet) = large.build();
    let damaged = |at: usize, byte: u8| {
        let mut packet = packet.clone();
        packet[at] = byte;
        field(&header, &packet)
    };
    assert_eq!(damaged(6, 0x20), Err("fragment"));
    assert_eq!(damaged(9, 1), Err("protocol"));
    assert_eq!(damaged(20 + 12, 0x40), Err("data offset"));
    let (header, mut packet) = simple(true, false).build();
    packet[40 + 5] ^= 1;
    assert_eq!(field(&header, &packet), Err("length"));
    // One extension header more than there is room for.
    for (options, expected) in [(206, Ok(3)), (214, Err("length of all headers"))] {
        let large = Large { ip_options: [0].repeat(options), ..simple(true, false) };
        let (header, packet) = large.build();
        assert_eq!(packet.len() - 250 <= MAX_HEADER_LEN, expected.is_ok());
        assert_eq!(field(&header, &packet), expected);
    }
}

#[test]
fn a_checksum_of_0_stays_one_only_in_tcp() {
    for large in all_simple() {
        let place = large.ip_len() + if large.tcp.is_some() { 16 } else { 6 };
        let place = place..place + 2;
        let mut zero = large.clone();
        for (payload, segment) in zero.payload.chunks_mut(100).zip(large.segments()) {
            // A word grows by the checksum, which then is 0.
            let sum = u16::from_be_bytes(segment[place.clone()].try_into().unwrap());
            let word = u16::from_be_bytes([payload[0], payload[1]]);
            let (grown, carry) = word.overflowing_add(sum);
            payload[..2].copy_from_slice(&(grown + u16::from(carry)).to_be_bytes());
        }
        let (header, packet) = zero.build();
        let segments = segmented(&header, &packet);
        let expected: u16 = if large.tcp.is_some() { 0 } else { 0xffff };
        for segment in &segments {
            assert_eq!(segment[place.clone()], expected.to_be_bytes());
        }
        assert_eq!(coalesced(&segments, Options::default()), [(header, packet)]);
    }
}

#[test]
fn an_authentication_header_covers_a_packet_as_it_is() {
    let authentication = b"\x06\x01\0\0\0\0\0\x07\0\0\0\x09";
    for six in [false, true] {
        let large = simple(six, true);
        let (header, packet) = large.build();
        let (ip, rest) = packet.split_at(large.ip_len());
        let mut packet = [ip, authentication, rest].concat();
        let len = packet.len() as u16;
        match six {
            true => {
                packet[6] = 51;
                packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
            }
            false => {
                packet[9] = 51;
                packet[2..4].copy_from_slice(&len.to_be_bytes());
            }
        }
        let error = Segments::new(&header, &packet).unwrap_err();
        assert_eq!((error.field, error.expected), ("protocol", Expected::Not(51)));
        let mut coalescer = Coalescer::<2>::new(Options::default());
        coalescer.push(&packet, 0..packet.len()).unwrap();
        coalescer.push(&packet, 0..packet.len()).unwrap();
        assert_eq!(coalescer.finish(&mut packet).len(), 2);
    }
}

#[test]
fn a_checksum_that_lies_outside_is_not_written() {
    let needed = |start, offset| VirtioNetHeader {
        checksum: ChecksumState::Needed { start, offset },
        gso: None,
    };
    for (start, offset) in
        [(9, 0), (8, 0), (7, 0), (0, 7), (3, 4), (u16::MAX, u16::MAX), (0, u16::MAX)]
    {
        let mut packet = *b"8 bytes.";
        let error = complete_checksum(&needed(start, offset), &mut packet).unwrap_err();
        let found = u64::from(start) + u64::from(offset);
        assert_eq!((error.expected, error.found), (Expected::AtMost(6), found));
        assert_eq!(&packet, b"8 bytes.");
    }
    let mut packet = *b"8 bytes\0\0";
    complete_checksum(&needed(3, 4), &mut packet).unwrap();
    // From an odd offset on, as if the packet began there.
    assert_eq!(packet[7..], checksum::of(b"ytes\0\0").to_be_bytes());
    assert!(checksum::is_valid(&packet[3..]));
    assert!(complete_checksum(&needed(0, 0), &mut []).is_err());
}

#[test]
fn a_send_takes_as_many_segments_as_fit() {
    let [v4, v6] = IpVersion::ALL.map(SendLimit::new);
    assert_eq!((v4.bytes, v6.bytes), (65_507, 65_527));
    assert_eq!(v4.gso_max_size(1472), Some(62_532));
    assert_eq!(v6.gso_max_size(1452), Some(45 * 1400 + 52));
    // Small segments are limited by their number.
    assert_eq!((v4.segments(100), v4.segments(0)), (64, 64));
    assert_eq!(v4.gso_max_size(100), Some(64 * 48 + 52));
    assert_eq!(SendLimit { segments: 128, ..v4 }.gso_max_size(100), Some(128 * 48 + 52));
    // Large ones by their bytes.
    assert_eq!((v4.segments(65_507), v4.segments(65_508)), (1, 1));
    assert_eq!((v4.gso_max_size(65_507), v4.gso_max_size(65_508)), (Some(65_507), None));
    assert_eq!((v4.gso_max_size(52), v4.gso_max_size(53)), (None, Some(64 + 52)));
    for mtu in 53..9000 {
        for limit in [v4, v6, SendLimit { segments: 128, ..v6 }] {
            let payload = limit.gso_max_size(mtu).unwrap() - 52;
            let segments = payload.div_ceil(mtu - 52);
            assert!(segments as usize <= limit.segments);
            assert!((payload + segments * 52) as usize <= limit.bytes);
            // One segment more would not fit.
            let more = segments as usize + 1;
            assert!(more > limit.segments || more * mtu as usize > limit.bytes);
        }
    }
}
