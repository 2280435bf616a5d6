//! Every truncation and every flipped bit of sample packets: an error, or a packet of which everything can be asked.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_wire::MacAddr;
use overlay_wire::arp::{ArpHeader, ArpPacket};
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ethernet::{EtherType, EthernetFrame, EthernetHeader};
use overlay_wire::icmp::{IcmpError, MAX_LEN};
use overlay_wire::icmpv4::{Icmpv4Header, Icmpv4Packet};
use overlay_wire::icmpv6::{Icmpv6Header, Icmpv6Packet};
use overlay_wire::ip::{IpPacket, IpProtocol};
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::ipv6::extension::{Extension, FragmentHeader, OptionsHeader};
use overlay_wire::ndp::{self, NeighbourHeader, NeighbourMessage, NeighbourPacket};
use overlay_wire::tcp::{self, TcpFlags, TcpHeader, TcpPacket};
use overlay_wire::udp::{UdpHeader, UdpPacket};
use overlay_wire::vlan::{VlanHeader, VlanPacket};

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const SRC_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DST_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SRC_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const DST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const V4: PseudoHeader = PseudoHeader::V4 { src: SRC_V4, dst: DST_V4 };
const V6: PseudoHeader = PseudoHeader::V6 { src: SRC_V6, dst: DST_V6 };
const TCP_OPTIONS: &[u8] =
    b"\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\x01\0\0\0\x02\x01\x03\x03\x07\x05\x0a\0\0\0\x01\0\0\0\x02\xc8\x02";

#[test]
fn samples_are_read_without_an_error() {
    for (name, sample) in samples() {
        assert_eq!(ask(&sample), Ok(()), "{name}");
    }
}

#[test]
fn every_truncation_is_an_error_or_a_packet() {
    for (name, sample) in samples() {
        let accepted = (0..sample.len()).filter(|len| ask(&sample[..*len]).is_ok()).count();
        // No header is complete where its packet is not, so that the lengths find out.
        assert_eq!(accepted, 0, "{name}");
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_a_packet() {
    let (mut accepted, mut refused) = (0, 0);
    for (_, sample) in samples() {
        for bit in 0..sample.len() * 8 {
            let mut bytes = sample.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            for len in [sample.len(), sample.len() * 3 / 4, sample.len() / 2] {
                match ask(&bytes[..len]) {
                    Ok(()) => accepted += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
}

fn in_front(len: usize, payload: &[u8], emit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut packet = [&[0xff].repeat(len), payload].concat();
    emit(&mut packet);
    packet
}

fn frame(ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let header = EthernetHeader { dst: B, src: A, ether_type };
    in_front(14, payload, |packet| header.emit(packet).unwrap())
}

fn v4(protocol: IpProtocol, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Header { options, ..Ipv4Header::new(SRC_V4, DST_V4, protocol) };
    let emit = |packet: &mut [u8]| header.emit(packet).unwrap();
    frame(EtherType::IPV4, &in_front(header.header_len(), payload, emit))
}

fn v6(next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header::new(SRC_V6, DST_V6, next_header);
    let header = Ipv6Header { hop_limit: 255, ..header };
    let emit = |packet: &mut [u8]| header.emit(packet).unwrap();
    frame(EtherType::IPV6, &in_front(40, payload, emit))
}

fn tcp(addresses: &PseudoHeader) -> Vec<u8> {
    let header = TcpHeader {
        src_port: 40000,
        dst_port: 443,
        sequence: 1,
        acknowledgment: 0,
        flags: TcpFlags::SYN,
        window: 64240,
        urgent: 0,
        options: TCP_OPTIONS,
    };
    let emit = |packet: &mut [u8]| header.emit(packet, addresses).unwrap();
    in_front(header.header_len(), b"data", emit)
}

fn extensions() -> Vec<u8> {
    let udp = UdpHeader { src_port: 1, dst_port: 2 };
    let udp = in_front(8, b"datagram", |packet| udp.emit(packet, Some(&V6)).unwrap());
    let fragment = FragmentHeader {
        next_header: IpProtocol::UDP,
        fragment_offset: 0,
        more_fragments: false,
        identification: 7,
    };
    let fragment = in_front(8, &udp, |packet| fragment.emit(packet).unwrap());
    let options = |next_header, options, payload: &[u8]| {
        let header = OptionsHeader { next_header, options };
        in_front(header.header_len(), payload, |packet| header.emit(packet).unwrap())
    };
    let destination = options(IpProtocol::FRAGMENT, b"\x04\x01\x04\x1e\x02\0\0", &fragment);
    let authentication = [b"\x3c\x02\0\0\0\0\0\x07\0\0\0\x09ICV!", &destination[..]].concat();
    let routing = [b"\x33\0\xfd\0data", &authentication[..]].concat();
    options(IpProtocol::ROUTING, b"\x05\x02\0\0", &routing)
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let udp = UdpHeader { src_port: 1, dst_port: 2 };
    let datagram = |addresses| in_front(8, b"datagram", |p| udp.emit(p, Some(addresses)).unwrap());
    let echo = Icmpv4Header::EchoRequest { identifier: 1, sequence: 2 };
    let echo_v6 = Icmpv6Header::EchoRequest { identifier: 1, sequence: 2 };
    let solicitation = NeighbourHeader {
        message: NeighbourMessage::Solicitation,
        target: DST_V6,
        link_layer: Some(A),
    };
    let tag = |vid, ether_type, payload: &[u8]| {
        let header = VlanHeader { pcp: 1, dei: false, vid, ether_type };
        in_front(4, payload, |packet| header.emit(packet).unwrap())
    };
    let arp = ArpHeader::request(A, SRC_V4, DST_V4).to_bytes();
    let tagged = tag(1, EtherType::VLAN, &tag(2, EtherType::ARP, &arp));
    let in_v4 = v4(IpProtocol::UDP, &[], &datagram(&V4));
    let in_v6 = v6(IpProtocol::UDP, &datagram(&V6));
    let mut room = [0; MAX_LEN];
    let mut error = |about: &[u8], src: IpAddr, ether_type| {
        let kind = IcmpError::PacketTooBig { mtu: 1400 };
        let len = kind.emit(&about[14..], src, &mut room).unwrap();
        frame(ether_type, &room[..len])
    };
    vec![
        ("ARP", frame(EtherType::ARP, &arp)),
        ("QinQ", frame(EtherType::QINQ, &tagged)),
        ("UDP", in_v4.clone()),
        ("TCP", v4(IpProtocol::TCP, b"\x94\x04\0\0\x01\x01\x01\0", &tcp(&V4))),
        ("ICMP", v4(IpProtocol::ICMP, &[], &in_front(8, b"ping", |p| echo.emit(p).unwrap()))),
        ("fragmentation needed", error(&in_v4, DST_V4.into(), EtherType::IPV4)),
        ("UDP in IPv6", in_v6.clone()),
        ("TCP in IPv6", v6(IpProtocol::TCP, &tcp(&V6))),
        ("extensions", v6(IpProtocol::HOP_BY_HOP, &extensions())),
        (
            "ICMPv6",
            v6(IpProtocol::ICMPV6, &in_front(8, b"ping", |p| echo_v6.emit(p, &V6).unwrap())),
        ),
        ("packet too big", error(&in_v6, DST_V6.into(), EtherType::IPV6)),
        (
            "neighbour solicitation",
            v6(IpProtocol::ICMPV6, &in_front(32, &[], |p| solicitation.emit(p, &V6).unwrap())),
        ),
    ]
}

/// Asks everything, as deep as packets go.
fn ask(bytes: &[u8]) -> Result<(), overlay_wire::Error> {
    let frame = EthernetFrame::parse(bytes)?;
    black_box(frame.header());
    let (mut ether_type, mut payload) = (frame.ether_type(), frame.payload());
    while [EtherType::VLAN, EtherType::QINQ].contains(&ether_type) {
        let packet = VlanPacket::parse(payload)?;
        black_box(packet.header());
        (ether_type, payload) = (packet.ether_type(), packet.payload());
    }
    match ether_type {
        EtherType::ARP => {
            let header = ArpPacket::parse(payload)?.header();
            black_box((header.reply(A), header.is_gratuitous(), header.is_probe()));
        }
        EtherType::IPV4 | EtherType::IPV6 => {
            if let Ok(packet) = IpPacket::parse_cut(payload) {
                // Whatever it says of the cut packet: it may not panic.
                black_box(ask_ip(&packet)).ok();
            }
            answer(payload);
            ask_ip(&IpPacket::parse(payload)?)?;
        }
        _ => {}
    }
    Ok(())
}

/// Writes what is to be sent because of a packet.
fn answer(packet: &[u8]) {
    let mut room = [0; MAX_LEN];
    for src in [IpAddr::V4(DST_V4), IpAddr::V6(DST_V6)] {
        for kind in [IcmpError::TimeExceeded, IcmpError::PacketTooBig { mtu: 1400 }] {
            if let Ok(len) = kind.emit(packet, src, &mut room) {
                assert!(IpPacket::parse(&room[..len]).is_ok());
            }
        }
    }
    if let Ok(IpPacket::V6(packet)) = IpPacket::parse_cut(packet)
        && let Ok(answer) = ndp::reply(&packet, A, false)
    {
        assert!(IpPacket::parse(&answer).is_ok());
    }
}

fn ask_ip(packet: &IpPacket<'_>) -> Result<(), overlay_wire::Error> {
    black_box((packet.version(), packet.src(), packet.dst(), packet.ttl()));
    black_box((packet.dscp(), packet.ecn(), packet.payload()));
    match packet {
        IpPacket::V4(packet) => {
            black_box((packet.header(), packet.is_checksum_valid()));
            ask_each(packet.options_iter())?;
        }
        IpPacket::V6(packet) => {
            black_box(packet.header());
            for extension in packet.extensions() {
                ask_extension(&extension?)?;
            }
        }
    }
    let upper = packet.upper_layer()?;
    if !upper.has_header() {
        return Ok(());
    }
    let addresses = packet.pseudo_header();
    match upper.protocol {
        IpProtocol::UDP => {
            black_box(UdpPacket::parse_cut(upper.payload)?.is_checksum_valid(&addresses));
            let packet = UdpPacket::parse(upper.payload)?;
            black_box((packet.header(), packet.is_checksum_valid(&addresses)));
        }
        IpProtocol::TCP => ask_tcp(upper.payload, &addresses)?,
        IpProtocol::ICMP => {
            let packet = Icmpv4Packet::parse(upper.payload)?;
            black_box((packet.header(), packet.is_checksum_valid()));
            if packet.is_error() {
                ask_ip(&IpPacket::parse_cut(packet.payload())?)?;
            }
        }
        IpProtocol::ICMPV6 => {
            let packet = Icmpv6Packet::parse(upper.payload)?;
            black_box((packet.header(), packet.is_checksum_valid(&addresses)));
            if packet.is_error() {
                ask_ip(&IpPacket::parse_cut(packet.payload())?)?;
            }
            if packet.kind() == ndp::NEIGHBOUR_SOLICITATION {
                let packet = NeighbourPacket::parse(upper.payload)?;
                black_box((packet.header(), packet.options_iter().count()));
            }
        }
        _ => {}
    }
    Ok(())
}

fn ask_extension(extension: &Extension<'_>) -> Result<(), overlay_wire::Error> {
    match extension {
        Extension::HopByHop(packet) | Extension::DestinationOptions(packet) => {
            black_box((packet.header(), packet.header_len()));
            ask_each(packet.iter())?;
        }
        Extension::Routing(packet) => {
            black_box((packet.routing_type(), packet.segments_left(), packet.data()));
        }
        Extension::Fragment(packet) => {
            black_box(packet.header());
        }
        Extension::Authentication(packet) => {
            black_box((packet.spi(), packet.sequence(), packet.icv()));
        }
        _ => {}
    }
    Ok(())
}

fn ask_tcp(segment: &[u8], addresses: &PseudoHeader) -> Result<(), overlay_wire::Error> {
    let packet = TcpPacket::parse(segment)?;
    black_box((packet.header(), packet.reserved(), packet.is_checksum_valid(addresses)));
    let right = packet.is_checksum_valid(addresses);
    ask_each(packet.options_iter())?;
    let mut clamped = segment.to_vec();
    tcp::clamp_mss(&mut clamped, 1000)?;
    assert_eq!(TcpPacket::parse(&clamped)?.is_checksum_valid(addresses), right);
    Ok(())
}

fn ask_each<T>(
    mut options: impl Iterator<Item = Result<T, overlay_wire::Error>>,
) -> Result<(), overlay_wire::Error> {
    options.try_for_each(|option| {
        black_box(option?);
        Ok(())
    })
}
