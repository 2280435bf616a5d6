use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_wire::MacAddr;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::icmp::{self, IcmpError};
use overlay_wire::icmpv4::Icmpv4Packet;
use overlay_wire::icmpv6::Icmpv6Packet;
use overlay_wire::ip::IpPacket;
use overlay_wire::ipv6::Ipv6Packet;
use overlay_wire::ndp::{self, NeighbourPacket};

use super::{ADDRESSES, emitted};

/// ICMP messages of both versions, neighbour discovery, and errors about any packet.
pub fn icmp(input: &[u8]) {
    v4(input);
    v6(input);
    neighbour(input);
    error(input);
    reply(input);
}

fn v4(input: &[u8]) {
    let Ok(packet) = Icmpv4Packet::parse(input) else { return };
    let header = packet.header();
    let written = emitted(header.header_len(), packet.payload(), |bytes| header.emit(bytes));
    let read = Icmpv4Packet::parse(&written).expect("what was written can be read");
    assert_eq!((read.header(), read.payload()), (header, packet.payload()));
    assert!(read.is_checksum_valid());
    assert_eq!(
        (read.kind(), read.code(), read.is_error()),
        (packet.kind(), packet.code(), packet.is_error())
    );
}

fn v6(input: &[u8]) {
    let Ok(packet) = Icmpv6Packet::parse(input) else { return };
    let header = packet.header();
    let addresses = &ADDRESSES[1];
    let emit = |bytes: &mut [u8]| header.emit(bytes, addresses);
    let written = emitted(header.header_len(), packet.payload(), emit);
    let read = Icmpv6Packet::parse(&written).expect("what was written can be read");
    assert_eq!((read.header(), read.payload()), (header, packet.payload()));
    assert!(read.is_checksum_valid(addresses));
    assert_eq!(
        (read.kind(), read.code(), read.is_error()),
        (packet.kind(), packet.code(), packet.is_error())
    );
}

fn neighbour(input: &[u8]) {
    let Ok(packet) = NeighbourPacket::parse(input) else { return };
    assert!(packet.options_iter().all(|option| option.is_ok()));
    let header = packet.header();
    let addresses = &ADDRESSES[1];
    let written = emitted(header.header_len(), &[], |bytes| header.emit(bytes, addresses));
    let read = NeighbourPacket::parse(&written).expect("what was written can be read");
    assert_eq!(read.header(), header);
    assert!(Icmpv6Packet::parse(&written).is_ok_and(|packet| packet.is_checksum_valid(addresses)));
}

/// An error about the input: a packet that is right, quotes the input, is not too long, and about which there is no error.
fn error(input: &[u8]) {
    const UNTOUCHED: [u8; icmp::MAX_LEN] = [0xa5; icmp::MAX_LEN];
    const ERRORS: [IcmpError; 6] = [
        IcmpError::TimeExceeded,
        IcmpError::NetworkUnreachable,
        IcmpError::HostUnreachable,
        IcmpError::PortUnreachable,
        IcmpError::Prohibited,
        IcmpError::PacketTooBig { mtu: 1450 },
    ];
    let sources: [IpAddr; 2] =
        [Ipv4Addr::new(10, 0, 0, 3).into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3).into()];
    for (error, src) in ERRORS.iter().flat_map(|error| sources.map(|src| (error, src))) {
        let mut room = UNTOUCHED;
        let Ok(len) = error.emit(input, src, &mut room) else {
            assert!(room == UNTOUCHED, "written though withheld");
            continue;
        };
        let packet = IpPacket::parse(&room[..len]).expect("an IP packet");
        let about = IpPacket::parse_cut(input).expect("an error about a packet");
        assert_eq!((packet.src(), packet.dst()), (src, about.src()));
        let quoted = match packet {
            IpPacket::V4(packet) => {
                assert!(packet.is_checksum_valid() && len <= icmp::MAX_LEN_V4);
                let message = Icmpv4Packet::parse(packet.payload()).expect("an ICMP message");
                assert!(message.is_checksum_valid() && message.is_error());
                message.payload()
            }
            IpPacket::V6(packet) => {
                assert!(len <= icmp::MAX_LEN_V6);
                let addresses = PseudoHeader::V6 { src: packet.src(), dst: packet.dst() };
                let message = Icmpv6Packet::parse(packet.payload()).expect("an ICMPv6 message");
                assert!(message.is_checksum_valid(&addresses) && message.is_error());
                message.payload()
            }
        };
        assert!(input.starts_with(quoted) && !quoted.is_empty());
        assert!(room[len..] == UNTOUCHED[len..], "written behind the end");
        let mut again = [0; icmp::MAX_LEN];
        assert!(error.emit(&room[..len], src, &mut again).is_err(), "an error about an error");
    }
}

/// The answer to a solicitation is an advertisement that its receiver accepts.
fn reply(input: &[u8]) {
    let Ok(question) = Ipv6Packet::parse(input) else { return };
    let Ok(answer) = ndp::reply(&question, MacAddr([2, 0, 0, 0, 0, 9]), true) else { return };
    let packet = Ipv6Packet::parse(&answer).expect("an IPv6 packet");
    let advertisement = NeighbourPacket::receive(&packet).expect("an advertisement");
    let asked = NeighbourPacket::receive(&question).expect("a solicitation");
    assert_eq!(advertisement.target(), asked.target());
    assert_eq!(advertisement.link_layer(), Some(MacAddr([2, 0, 0, 0, 0, 9])));
}
