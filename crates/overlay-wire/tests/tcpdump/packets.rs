//! Packets of every format, made by our own emitters.

use std::net::{Ipv4Addr, Ipv6Addr};

use overlay_wire::dissect::Start;
use overlay_wire::ethernet::{EtherType, EthernetHeader};
use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::udp::UdpHeader;
use overlay_wire::vxlan::VxlanHeader;
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
    [ip(), udp(), tunnels(), lies()].into_iter().flatten().collect()
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

fn over_udp(version: IpVersion, port: u16, payload: &[u8]) -> Vec<u8> {
    let datagram = udp_datagram(40_000, port, payload);
    match version {
        IpVersion::V4 => v4(IpProtocol::UDP, &datagram),
        IpVersion::V6 => v6(IpProtocol::UDP, &datagram),
    }
}

fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let header = VxlanHeader { vni: Vni::new(vni).unwrap() };
    emit(header.header_len(), frame, |packet| header.emit(packet))
}
