//! Packets of every format, made by our own emitters.

use std::net::{Ipv4Addr, Ipv6Addr};

use overlay_wire::arp::ArpHeader;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::dissect::Start;
use overlay_wire::ethernet::{EtherType, EthernetHeader};
use overlay_wire::geneve::{GeneveHeader, GeneveOption, GeneveOptions};
use overlay_wire::gre::GreHeader;
use overlay_wire::gue::GueHeader;
use overlay_wire::icmpv4::{Icmpv4Header, Icmpv4Unreachable};
use overlay_wire::icmpv6::{Icmpv6Header, Icmpv6Unreachable};
use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::ipv6::extension::{FragmentHeader, Ipv6Option, OptionsHeader};
use overlay_wire::ndp::{NeighbourHeader, NeighbourMessage};
use overlay_wire::tcp::{TcpFlags, TcpHeader};
use overlay_wire::udp::UdpHeader;
use overlay_wire::vlan::VlanHeader;
use overlay_wire::vxlan::VxlanHeader;
use overlay_wire::vxlan_gpe::{NextProtocol, VxlanGpeHeader};
use overlay_wire::{IpVersion, MacAddr, Vni};

/// A packet, and how it is to be compared.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    pub(crate) bytes: Vec<u8>,
    /// Bytes on the wire.
    pub(crate) length: usize,
    /// Options for tcpdump.
    pub(crate) options: &'static [&'static str],
    /// What we print where we differ from tcpdump, as the documentation of `dissect` says.
    pub(crate) instead: Option<&'static str>,
}

impl Case {
    fn ip(name: &'static str, bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        Self { name, start: Start::Ip, bytes, length, options: &[], instead: None }
    }

    fn ethernet(name: &'static str, bytes: Vec<u8>) -> Self {
        Self { start: Start::Ethernet, ..Self::ip(name, bytes) }
    }

    fn options(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    fn instead(self, ours: &'static str) -> Self {
        Self { instead: Some(ours), ..self }
    }

    /// As a capture has it that takes only so many bytes.
    fn cut(mut self, len: usize) -> Self {
        self.bytes.truncate(len);
        self
    }

    /// As it is when somebody writes other bytes into it.
    fn patched(mut self, at: usize, bytes: &[u8]) -> Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}

pub(crate) fn cases() -> Vec<Case> {
    [
        link(),
        ip(),
        extensions(),
        udp(),
        tcp(),
        icmpv4(),
        icmpv6(),
        tunnels(),
        gre(),
        geneve(),
        vxlan_gpe(),
        gue(),
        lies(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn link() -> Vec<Case> {
    let packet = v4(IpProtocol(99), b"abc");
    let vlan = |pcp, dei, vid, ether_type, payload: &[u8]| {
        let header = VlanHeader { pcp, dei, vid, ether_type };
        emit(header.header_len(), payload, |packet| header.emit(packet))
    };
    let tagged = vlan(3, false, 5, EtherType::IPV4, &packet);
    let twice = vlan(0, true, 4094, EtherType::VLAN, &tagged);
    let [src, dst] = [1, 2].map(|last| MacAddr([2, 0, 0, 0, 0, last]));
    let request = ArpHeader::request(src, V4[0], V4[1]);
    let known = ArpHeader { target_mac: dst, ..request };
    let reply = request.reply(dst).unwrap();
    let arp = |name, header: ArpHeader| {
        Case::ethernet(name, ethernet(EtherType::ARP, &header.to_bytes()))
    };
    let padded = [ethernet(EtherType::ARP, &request.to_bytes()), vec![0; 18]].concat();
    vec![
        Case::ethernet("a VLAN", ethernet(EtherType::VLAN, &tagged)),
        Case::ethernet("two VLANs", ethernet(EtherType::QINQ, &twice)),
        arp("an ARP request", request),
        arp("an ARP request to somebody", known),
        arp("an ARP reply", reply),
        arp("an ARP announcement", ArpHeader::announcement(src, V4[0])),
        Case::ethernet("an ARP request with padding", padded),
    ]
}

fn ip() -> Vec<Case> {
    let unknown = IpProtocol(99);
    let (first, last) =
        (fragment(0, true, &udp_datagram(1, 2, &[0; 16])), fragment(3, false, &[0; 16]));
    vec![
        Case::ip("an unknown protocol", v4(unknown, b"abc")),
        Case::ip("an unknown protocol in IPv6", v6(unknown, b"abc")),
        Case::ip("nothing in IPv6", v6(IpProtocol::NO_NEXT_HEADER, b"")),
        Case::ip("the first fragment", first),
        Case::ip("the last fragment", last),
        Case::ip("IP in IP", v4(IpProtocol::IPV4, &v4(unknown, b"abc"))),
        Case::ip("IPv6 in IPv4", v4(IpProtocol::IPV6, &v6(unknown, b"abc"))),
        Case::ip("IPv4 in IPv6", v6(IpProtocol::IPV4, &v4(unknown, b"abc"))),
        Case::ip("IPv6 in IPv6", v6(IpProtocol::IPV6, &v6(unknown, b"abc"))),
        Case::ethernet(
            "IPv4 with padding",
            [ethernet(EtherType::IPV4, &v4(unknown, b"abc")), vec![0; 20]].concat(),
        ),
        Case::ethernet("IPv6 on Ethernet", ethernet(EtherType::IPV6, &v6(unknown, b"abc"))),
        Case::ethernet("an unknown EtherType", ethernet(EtherType(0x88cd), b"abc")),
    ]
}

fn extensions() -> Vec<Case> {
    let datagram = udp_datagram(1000, 1001, b"abcd");
    let inner = v4(IpProtocol::UDP, &datagram);
    let options = |next_header, options: &[u8], payload: &[u8]| {
        let header = OptionsHeader { next_header, options };
        emit(header.header_len(), payload, |packet| header.emit(packet))
    };
    let limited = options(IpProtocol::IPV4, &Ipv6Option::tunnel_encapsulation_limit(4), &inner);
    let alert = options(IpProtocol::UDP, &[5, 2, 0, 0], &datagram);
    let unknown = options(IpProtocol(99), &[], b"abc");
    let fragment = |fragment_offset, more_fragments| {
        let header = FragmentHeader {
            next_header: IpProtocol::UDP,
            fragment_offset,
            more_fragments,
            identification: 7,
        };
        emit(header.header_len(), &datagram, |packet| header.emit(packet))
    };
    let authentication = [b"\x11\x04\0\0\0\0\0\x01\0\0\0\x02ABCDEFGHIJKL", &datagram[..]].concat();
    let routing = [&b"\x11\x02\x04\x01\0\0\0\0"[..], &V6[1].octets(), &datagram].concat();
    vec![
        Case::ip("the encapsulation limit", v6(IpProtocol::DESTINATION_OPTIONS, &limited)),
        Case::ip("a router alert", v6(IpProtocol::HOP_BY_HOP, &alert)),
        Case::ip("something behind options", v6(IpProtocol::DESTINATION_OPTIONS, &unknown)),
        Case::ip("an atomic fragment", v6(IpProtocol::FRAGMENT, &fragment(0, false))),
        Case::ip("the first fragment in IPv6", v6(IpProtocol::FRAGMENT, &fragment(0, true))),
        Case::ip("the last fragment in IPv6", v6(IpProtocol::FRAGMENT, &fragment(4, false))),
        Case::ip("authentication", v6(IpProtocol::AUTHENTICATION, &authentication)),
        Case::ip("authentication in IPv4", v4(IpProtocol::AUTHENTICATION, &authentication)),
        Case::ip("a route", v6(IpProtocol::ROUTING, &routing)).instead(
            "IP6 fd00::1 > fd00::2: RT6 (len=2, type=4, segleft=1) 1000 > 1001: UDP, length 4",
        ),
    ]
}

fn tcp() -> Vec<Case> {
    let syn = b"\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\x01\0\0\0\0\x01\x03\x03\x07";
    let stamps = b"\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02";
    let sack = b"\x01\x01\x05\x12\0\0\0\x09\0\0\0\x0b\0\0\0\x0d\0\0\0\x0f";
    let unknown = b"\xfd\x04\x01\x02\xc8\x02\0\0";
    let [fin, push, urgent, ack] = [TcpFlags::FIN, TcpFlags::PSH, TcpFlags::URG, TcpFlags::ACK];
    let ecn = TcpFlags::ECE | TcpFlags::CWR;
    let segments: [(&str, TcpFlags, &[u8], &[u8]); 10] = [
        ("SYN", TcpFlags::SYN, syn, b""),
        ("SYN, ACK", TcpFlags::SYN | ack, syn, b""),
        ("SYN with ECN", TcpFlags::SYN | ecn, b"", b""),
        ("data", push | ack, stamps, b"abc"),
        ("FIN", fin | ack, stamps, b""),
        ("a gap", ack, sack, b""),
        ("RST", TcpFlags::RST, b"", b""),
        ("urgent data", ack | urgent, b"", b"abc"),
        ("no flags", TcpFlags::default(), b"", b""),
        ("unknown options", ack, unknown, b""),
    ];
    let mut cases = Vec::new();
    for (name, flags, options, payload) in segments {
        for version in IpVersion::ALL {
            let segment = tcp_segment(flags, options, payload);
            cases.push(Case::ip(name, ip_packet(version, IpProtocol::TCP, &segment)));
        }
    }
    cases
}

fn icmpv4() -> Vec<Case> {
    let message = |header: Icmpv4Header, payload: &[u8]| {
        let message = emit(header.header_len(), payload, |packet| header.emit(packet));
        Case::ip("ICMP", v4(IpProtocol::ICMP, &message))
    };
    let [identifier, sequence] = [1708, 26];
    let mut cases = vec![
        message(Icmpv4Header::EchoRequest { identifier, sequence }, &[0; 56]),
        message(Icmpv4Header::EchoReply { identifier, sequence }, b""),
        message(Icmpv4Header::Other { kind: 42, code: 0, rest: [0; 4] }, b""),
    ];
    let about_udp = v4(IpProtocol::UDP, &udp_datagram(1000, 9, b"abcd"));
    let about_tcp = v4(IpProtocol::TCP, &tcp_segment(TcpFlags::SYN, b"", b""));
    let about_other = v4(IpProtocol(99), b"abcd");
    for about in [&about_udp, &about_tcp, &about_other] {
        for code in (0..=16).filter(|code| *code != 4).map(Icmpv4Unreachable) {
            cases.push(message(Icmpv4Header::DestinationUnreachable { code }, about));
        }
        for mtu in [0, 1400] {
            cases.push(message(Icmpv4Header::FragmentationNeeded { mtu }, about));
        }
        for code in 0..4 {
            let gateway = Ipv4Addr::new(10, 0, 0, 9);
            cases.push(message(Icmpv4Header::Redirect { code, gateway }, about));
        }
        for code in 0..3 {
            cases.push(message(Icmpv4Header::TimeExceeded { code }, about));
        }
        for code in 0..2 {
            cases.push(message(Icmpv4Header::ParameterProblem { code, pointer: 5 }, about));
        }
    }
    cases
}

fn icmpv6() -> Vec<Case> {
    let addresses = PseudoHeader::V6 { src: V6[0], dst: V6[1] };
    let message = |header: Icmpv6Header, payload: &[u8]| {
        let message = emit(header.header_len(), payload, |packet| header.emit(packet, &addresses));
        Case::ip("ICMPv6", v6(IpProtocol::ICMPV6, &message))
    };
    let neighbour = |message, link_layer| {
        let header = NeighbourHeader { message, target: V6[1], link_layer };
        let message = emit(header.header_len(), b"", |packet| header.emit(packet, &addresses));
        Case::ip("neighbour discovery", v6(IpProtocol::ICMPV6, &message))
    };
    let [identifier, sequence] = [1708, 26];
    let mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
    let advertisement =
        NeighbourMessage::Advertisement { router: false, solicited: true, overrides: true };
    let report = Icmpv6Header::Other { kind: 143, code: 0, rest: [0, 0, 0, 1] };
    let mut cases = vec![
        message(Icmpv6Header::EchoRequest { identifier, sequence }, &[0; 56]),
        message(Icmpv6Header::EchoReply { identifier, sequence }, b""),
        message(report, &[&[4, 0, 0, 0][..], &V6[1].octets()].concat()),
        message(Icmpv6Header::Other { kind: 133, code: 0, rest: [0; 4] }, b""),
        message(Icmpv6Header::Other { kind: 134, code: 0, rest: [0; 4] }, &[0; 8]),
        neighbour(NeighbourMessage::Solicitation, mac),
        neighbour(NeighbourMessage::Solicitation, None),
        neighbour(advertisement, mac),
    ];
    let about_udp = v6(IpProtocol::UDP, &udp_datagram(1000, 9, b"abcd"));
    let about_tcp = v6(IpProtocol::TCP, &tcp_segment(TcpFlags::SYN, b"", b""));
    for about in [&about_udp, &about_tcp] {
        for code in (0..5).map(Icmpv6Unreachable) {
            cases.push(message(Icmpv6Header::DestinationUnreachable { code }, about));
        }
        for code in 0..3 {
            cases.push(message(Icmpv6Header::TimeExceeded { code }, about));
        }
        for code in 0..4 {
            cases.push(message(Icmpv6Header::ParameterProblem { code, pointer: 5 }, about));
        }
        cases.push(message(Icmpv6Header::PacketTooBig { mtu: 1280 }, about));
    }
    cases
}

fn udp() -> Vec<Case> {
    let both = |name, src, dst, payload: &[u8]| {
        let v4 = v4(IpProtocol::UDP, &udp_datagram(src, dst, payload));
        let v6 = v6(IpProtocol::UDP, &udp_datagram(src, dst, payload));
        [Case::ip(name, v4), Case::ip(name, v6)]
    };
    let ours = "IP 10.0.0.1.8285 > 10.0.0.2.8285: IP 10.0.0.1.1000 > 10.0.0.2.1001: UDP, length 4";
    let inner = v4(IpProtocol::UDP, &udp_datagram(1000, 1001, b"abcd"));
    let [flannel, _] = both("IP in UDP", 8285, 8285, &inner);
    [both("UDP", 1000, 1001, b"abcd"), both("empty UDP", 1000, 1001, b"")]
        .into_iter()
        .flatten()
        .chain([flannel.instead(ours)])
        .collect()
}

fn tunnels() -> Vec<Case> {
    let mut cases = Vec::new();
    let inner = [
        ethernet(EtherType::IPV4, &v4(IpProtocol::UDP, &udp_datagram(1000, 1001, b"abcd"))),
        ethernet(EtherType::IPV6, &v6(IpProtocol::UDP, &udp_datagram(1000, 1001, b"abcd"))),
        ethernet(EtherType(0x88cd), b"abcd"),
    ];
    for version in IpVersion::ALL {
        for inner in &inner {
            let carried = vxlan(1, inner);
            let outer = over_udp(version, 4789, &carried);
            cases.push(Case::ip("VXLAN", outer.clone()));
            let ether_type = EtherType::ip(version);
            cases.push(Case::ethernet("VXLAN on Ethernet", ethernet(ether_type, &outer)));
            let nested = vxlan(2, &ethernet(ether_type, &outer));
            cases.push(Case::ip("VXLAN in VXLAN", over_udp(version, 4789, &nested)));
        }
        // The option makes tcpdump take every datagram for VXLAN, so that there is none inside.
        let inner = vxlan(1, &ethernet(EtherType::IPV4, &v4(IpProtocol(99), b"abc")));
        let linux = Case::ip("VXLAN on Linux's port", over_udp(version, 8472, &inner));
        cases.push(linux.options(&["-T", "vxlan"]));
    }
    cases
}

/// What an encapsulation may carry: its EtherType and itself, the last of an EtherType that nobody knows.
fn carried() -> [(EtherType, Vec<u8>); 4] {
    let datagram = udp_datagram(1000, 1001, b"abcd");
    let packet = v4(IpProtocol::UDP, &datagram);
    [
        (EtherType::IPV6, v6(IpProtocol::UDP, &datagram)),
        (EtherType::ETHERNET, ethernet(EtherType::IPV4, &packet)),
        (EtherType::IPV4, packet),
        (EtherType(0x88be), b"abc".to_vec()),
    ]
}

/// As an IP packet, and in an Ethernet frame.
fn both(name: &'static str, version: IpVersion, packet: Vec<u8>) -> [Case; 2] {
    let frame = ethernet(EtherType::ip(version), &packet);
    [Case::ip(name, packet), Case::ethernet(name, frame)]
}

fn gre() -> Vec<Case> {
    let mut cases = Vec::new();
    for (protocol, carried) in carried() {
        for version in IpVersion::ALL {
            for (checksum, key, sequence) in
                [(false, None, None), (false, Some(5), None), (true, Some(0x1234), Some(6))]
            {
                let header = GreHeader { protocol, checksum, key, sequence };
                let packet = emit(header.header_len(), &carried, |packet| header.emit(packet));
                let packet = ip_packet(version, IpProtocol::GRE, &packet);
                cases.extend(both("GRE", version, packet));
            }
        }
    }
    cases
}

fn geneve() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut buffer = [0; 8];
    let option = GeneveOption { class: 0x0102, option_type: 0x81, data: b"data" };
    let some = GeneveOptions::emit(&[option], &mut buffer).unwrap();
    for (protocol, carried) in carried() {
        for version in IpVersion::ALL {
            for (control, options) in [(false, GeneveOptions::NONE), (true, some)] {
                let vni = Vni::new(0x1234).unwrap();
                let header = GeneveHeader { vni, protocol, control, options };
                let packet = emit(header.header_len(), &carried, |packet| header.emit(packet));
                cases.extend(both("Geneve", version, over_udp(version, 6081, &packet)));
            }
        }
    }
    cases
}

fn vxlan_gpe() -> Vec<Case> {
    let mut cases = Vec::new();
    let [(_, v6), (_, frame), (_, v4), _] = carried();
    let carried =
        [(NextProtocol::IPV4, v4), (NextProtocol::IPV6, v6), (NextProtocol::ETHERNET, frame)];
    for (next_protocol, carried) in carried {
        for version in IpVersion::ALL {
            for oam in [false, true] {
                let vni = Vni::new(0x1234).unwrap();
                let header = VxlanGpeHeader { oam, ..VxlanGpeHeader::new(vni, next_protocol) };
                let packet = emit(header.header_len(), &carried, |packet| header.emit(packet));
                cases.extend(both("VXLAN-GPE", version, over_udp(version, 4790, &packet)));
            }
        }
    }
    cases
}

/// tcpdump knows no GUE.
fn gue() -> Vec<Case> {
    let inner = v4(IpProtocol::UDP, &udp_datagram(1000, 1001, b"abcd"));
    let header = GueHeader::new(IpProtocol::IPV4);
    let packet = emit(header.header_len(), &inner, |packet| header.emit(packet));
    vec![
        Case::ip("GUE", over_udp(IpVersion::V4, 6080, &packet)).instead(
            "IP 10.0.0.1.40000 > 10.0.0.2.6080: GUE, proto ipip, length 36: \
             IP 10.0.0.1.1000 > 10.0.0.2.1001: UDP, length 4",
        ),
        Case::ip("GUE, variant 1", over_udp(IpVersion::V6, 6080, &inner)).instead(
            "IP6 fd00::1.40000 > fd00::2.6080: IP 10.0.0.1.1000 > 10.0.0.2.1001: UDP, length 4",
        ),
    ]
}

/// Cut packets, and packets whose lengths are wrong.
fn lies() -> Vec<Case> {
    let whole = || Case::ip("IPv4", v4(IpProtocol::UDP, &udp_datagram(1000, 1001, &[0; 40])));
    let whole6 = || Case::ip("IPv6", v6(IpProtocol::UDP, &udp_datagram(1000, 1001, &[0; 40])));
    let too_short = Case::ip("cut IPv4", vec![0x45; 10]);
    vec![
        whole().cut(30),
        whole6().cut(60),
        whole().patched(2, &[1, 0]),
        whole6().patched(4, &[1, 0]),
        whole().patched(24, &[1, 0]),
        whole6().patched(44, &[1, 0]),
        whole().cut(22).instead(
            "IP 10.0.0.1 > 10.0.0.2: [|udp] (UDP header: expected at least 8 bytes, found 2)",
        ),
        too_short.instead("[|ipv4] (IPv4 header: expected at least 20 bytes, found 10)"),
    ]
}

const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)];

/// A header in front of a payload.
fn emit<E: std::fmt::Debug>(
    header_len: usize,
    payload: &[u8],
    emit: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Vec<u8> {
    let mut packet = [&vec![0xff; header_len], payload].concat();
    emit(&mut packet).unwrap();
    packet
}

fn v4(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Header::new(V4[0], V4[1], protocol);
    emit(header.header_len(), payload, |packet| header.emit(packet))
}

fn v6(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header::new(V6[0], V6[1], protocol);
    emit(header.header_len(), payload, |packet| header.emit(packet))
}

fn ip_packet(version: IpVersion, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    match version {
        IpVersion::V4 => v4(protocol, payload),
        IpVersion::V6 => v6(protocol, payload),
    }
}

fn fragment(fragment_offset: u16, more_fragments: bool, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Header {
        dont_fragment: false,
        fragment_offset,
        more_fragments,
        ..Ipv4Header::new(V4[0], V4[1], IpProtocol::UDP)
    };
    emit(header.header_len(), payload, |packet| header.emit(packet))
}

fn ethernet(ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
    let header = EthernetHeader { dst: mac(2), src: mac(1), ether_type };
    emit(header.header_len(), payload, |frame| header.emit(frame))
}

fn udp_datagram(src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let header = UdpHeader { src_port, dst_port };
    emit(header.header_len(), payload, |packet| header.emit(packet, None))
}

fn tcp_segment(flags: TcpFlags, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = TcpHeader {
        src_port: 40_000,
        dst_port: 40_001,
        sequence: u32::MAX - 1,
        acknowledgment: 0x1234_5678,
        flags,
        window: 502,
        urgent: 3,
        options,
    };
    let addresses = PseudoHeader::V4 { src: V4[0], dst: V4[1] };
    emit(header.header_len(), payload, |packet| header.emit(packet, &addresses))
}

fn over_udp(version: IpVersion, port: u16, payload: &[u8]) -> Vec<u8> {
    ip_packet(version, IpProtocol::UDP, &udp_datagram(40_000, port, payload))
}

fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let header = VxlanHeader::new(Vni::new(vni).unwrap());
    emit(header.header_len(), frame, |packet| header.emit(packet))
}
