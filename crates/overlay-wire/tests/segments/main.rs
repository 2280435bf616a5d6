//! Large packets are segmented as if each segment had been written by itself, and become the same large packets again.

mod packet;

use std::ops::Range;

use overlay_wire::coalesce::{Coalescer, Options};
use overlay_wire::ip::Ecn;
use overlay_wire::tcp::TcpFlags;
use overlay_wire::virtio_net::VirtioNetHeader;
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
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

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
        } else {
            prop_assert_eq!(written, vec![(header, packet)]);
        }
    }
}
