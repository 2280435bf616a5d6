use overlay_wire::checksum::Checksum;
use overlay_wire::coalesce::{Coalescer, Options};
use overlay_wire::ip::{IpPacket, IpProtocol};
use overlay_wire::ipv6::extension::Extension;
use overlay_wire::segment::{MAX_HEADER_LEN, Segments, complete_checksum};
use overlay_wire::tcp::{TcpFlags, TcpPacket};
use overlay_wire::udp::UdpPacket;
use overlay_wire::virtio_net::{ChecksumState, VirtioNetHeader};

/// Any packet behind any virtio header: refused, or segments that are right and become the packet again.
pub fn segment(input: &[u8]) {
    let (header, packet) = match VirtioNetHeader::parse(input) {
        Ok(parsed) => parsed,
        Err(why) => return super::prints(why, 128),
    };
    assert_eq!(VirtioNetHeader::parse(&header.to_bytes()), Ok((header, &[][..])));
    let mut completed = packet.to_vec();
    if let Err(why) = complete_checksum(&header, &mut completed) {
        super::prints(why, 128);
        assert_eq!(completed, packet, "written though refused");
    }
    if let Err(why) = Segments::new(&header, packet) {
        return super::prints(why, 128);
    }
    // Whatever stands in its place, it is taken for the sum of the pseudo-header; let it be that.
    let ChecksumState::Needed { start, offset } = header.checksum else {
        panic!("segmented without a checksum to compute");
    };
    let place = usize::from(start + offset);
    let mut packet = packet.to_vec();
    let partial = partial_checksum(&packet, start.into());
    packet[place..place + 2].copy_from_slice(&partial.to_be_bytes());

    let segments = segmented(&header, &packet);
    let mut payload = Vec::new();
    for (at, bytes) in segments.iter().enumerate() {
        payload.extend_from_slice(right(bytes, at == 0, at + 1 == segments.len()));
    }
    assert!(packet.ends_with(&payload));

    let mut buffer = segments.concat();
    let mut coalescer = Box::new(Coalescer::<4096>::new(Options::default()));
    let mut end = 0;
    for bytes in segments.iter().take(4096) {
        coalescer.push(&buffer, end..end + bytes.len()).expect("a packet of our own");
        end += bytes.len();
    }
    let written: Vec<_> = coalescer
        .finish(&mut buffer)
        .map(|packet| (packet.header(), packet.pieces().collect::<Vec<_>>()))
        .collect();
    let again = written.into_iter().flat_map(|(header, pieces)| {
        let packet: Vec<u8> = pieces.into_iter().flat_map(|it| buffer[it].to_vec()).collect();
        if header.gso.is_some() { segmented(&header, &packet) } else { vec![packet] }
    });
    assert!(again.eq(segments.into_iter().take(4096)), "coalesced into something else");
}

/// All segments, each in one piece.
pub(super) fn segmented(header: &VirtioNetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let segments = Segments::new(header, packet).expect("a packet to be segmented");
    let mut headers = [0xa5; MAX_HEADER_LEN];
    let (len, count) = (segments.header_len(), segments.count());
    assert_eq!(segments.write(0, &mut headers[..len - 1]), None);
    assert_eq!(segments.write(count, &mut headers), None);
    assert!(headers.iter().all(|byte| *byte == 0xa5), "written though refused");
    (0..count)
        .map(|index| {
            let payload = segments.write(index, &mut headers).expect("a segment");
            assert!(headers[len..].iter().all(|byte| *byte == 0xa5), "written behind the header");
            let bytes = [&headers[..len], payload].concat();
            let is_last = index + 1 == count;
            assert!(bytes.len() == segments.segment_len() || is_last);
            bytes
        })
        .collect()
}

/// The sum of the pseudo-header of the packet, whose upper layer begins at `at`.
fn partial_checksum(packet: &[u8], at: usize) -> u16 {
    let ip = IpPacket::parse(packet).expect("a packet");
    let protocol = ip.upper_layer().expect("an upper layer").protocol;
    let len = (packet.len() - at) as u32;
    !Checksum::new().pseudo_header(&ip.pseudo_header(), protocol, len).finish()
}

/// Checks lengths, checksums and flags of a segment, and returns its payload.
fn right(bytes: &[u8], is_first: bool, is_last: bool) -> &[u8] {
    let ip = IpPacket::parse(bytes).expect("a segment is a packet");
    let upper = ip.upper_layer().expect("a segment has an upper layer");
    assert_eq!(upper.header_len + upper.payload.len(), bytes.len());
    match &ip {
        IpPacket::V4(packet) => assert!(packet.is_checksum_valid()),
        IpPacket::V6(packet) => {
            let is_fragment = |it| matches!(it, Ok(Extension::Fragment(_)));
            assert!(!packet.extensions().any(is_fragment));
        }
    }
    let addresses = ip.pseudo_header();
    match upper.protocol {
        IpProtocol::TCP => {
            let tcp = TcpPacket::parse(upper.payload).expect("a segment of TCP");
            assert!(tcp.is_checksum_valid(&addresses));
            let has = |flag| tcp.flags().contains(flag);
            assert!(is_first || !has(TcpFlags::CWR));
            assert!(is_last || !has(TcpFlags::FIN) && !has(TcpFlags::PSH));
            tcp.payload()
        }
        _ => {
            let udp = UdpPacket::parse(upper.payload).expect("a datagram");
            assert!(udp.checksum() != 0 && udp.is_checksum_valid(&addresses));
            udp.payload()
        }
    }
}
