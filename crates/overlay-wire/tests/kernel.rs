//! The kernel's own VXLAN devices take our frames, and we take theirs.
//!
//! For the other encapsulations there is no such test: a device of kind `gre`, `geneve`, `ipip`, `sit` or `ip6tnl`, and a
//! FOU port, need modules that the small kernels of virtual machines do without. `readers.rs` judges those formats.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_lab::{Host, PingRequest, cannot_run, capture, connect, ping};
use overlay_wire::arp::{ArpHeader, ArpPacket};
use overlay_wire::buffer::PacketBuffer;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::decapsulate::{Accept, Decapsulator, Policy, Reserved, UdpChecksumRule};
use overlay_wire::encapsulate::{Outer, Template, Tunnel, UdpChecksum};
use overlay_wire::ethernet::{self, EtherType, EthernetFrame, EthernetHeader};
use overlay_wire::icmpv4::{self, Icmpv4Header, Icmpv4Packet};
use overlay_wire::icmpv6::{Icmpv6Header, Icmpv6Packet};
use overlay_wire::ip::{IpPacket, IpProtocol, UpperLayer};
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::{Ipv6Header, Ipv6Packet};
use overlay_wire::ndp::{self, NeighbourHeader, NeighbourMessage, NeighbourPacket};
use overlay_wire::udp::UdpPacket;
use overlay_wire::vxlan::{self, GroupPolicy, VxlanHeader, VxlanPacket};
use overlay_wire::vxlan_gpe::{self, NextProtocol, VxlanGpeHeader, VxlanGpePacket};
use overlay_wire::{Error, Framing, IpVersion, MacAddr, Vni};
use socket2::{Domain, Protocol, Socket, Type};

type Outcome = Result<(), Failed>;
type Case = (&'static str, fn(&str) -> Outcome);

const CASES: [Case; 5] = [
    ("the kernel answers our frames", answers),
    ("the kernel tells us where its addresses are", resolution),
    ("the kernel understands and sends group policies", group_policies),
    ("the kernel answers our packets in VXLAN-GPE", answers_in_gpe),
    ("we understand what two kernels send each other", two_kernels),
];

fn main() {
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let trials = CASES.map(|(name, case)| Trial::test(name, move || case(name))).into();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

const VNI: Vni = Vni::from_octets([0x12, 0x34, 0x56]);
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THEIR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const IDENTIFIER: u16 = 1708;
const SEQUENCE: u16 = 26;
const DATA: &[u8] = b"an odd number of bytes.";

/// Two hosts on one cable, the first one ours.
fn hosts() -> overlay_lab::Result<[Host; 2]> {
    let hosts = [Host::new("ours")?, Host::new("theirs")?];
    connect(&hosts[0], "eth0", &hosts[1], "eth0")?;
    for (host, number) in hosts.iter().zip(1..) {
        // So that the kernel computes the checksums that a network card would.
        host.feature("eth0", "tx-checksum-ip-generic", false)?;
        let nets = [format!("192.0.2.{number}/24"), format!("2001:db8::{number}/64")];
        host.addresses("eth0", &nets.map(|net| net.parse().expect("a network")))?;
    }
    Ok(hosts)
}

/// The underlay's addresses, ours first.
fn outer(version: IpVersion) -> [IpAddr; 2] {
    match version {
        IpVersion::V4 => [1, 2].map(|number| Ipv4Addr::new(192, 0, 2, number).into()),
        IpVersion::V6 => [1, 2].map(|n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into()),
    }
}

/// The overlay's addresses, ours first.
fn inner(version: IpVersion) -> [IpAddr; 2] {
    match version {
        IpVersion::V4 => [1, 2].map(|number| Ipv4Addr::new(10, 9, 0, number).into()),
        IpVersion::V6 => [1, 2].map(|n| Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, n).into()),
    }
}

fn answers(case: &str) -> Outcome {
    for version in IpVersion::ALL {
        for checksum in [true, false] {
            let [ours, theirs] = hosts()?;
            if !add_vtep(case, &theirs, version, checksum, "")? {
                return Ok(());
            }
            for inner in IpVersion::ALL {
                echo_by_vxlan(&ours, version, checksum, inner, None)?;
            }
        }
    }
    Ok(())
}

fn group_policies(case: &str) -> Outcome {
    let policy = |id, dont_learn, applied| GroupPolicy { id, dont_learn, applied };
    for version in IpVersion::ALL {
        let [ours, theirs] = hosts()?;
        if !add_vtep(case, &theirs, version, true, "gbp")? {
            return Ok(());
        }
        // The kernel keeps the policy of what it receives in the packet's mark, sends a packet's mark as its policy,
        // and answers with the mark it was asked with.
        theirs.sysctl("net.ipv4.fwmark_reflect", 1)?;
        theirs.sysctl("net.ipv6.fwmark_reflect", 1)?;
        let policies =
            [policy(1, false, false), policy(0xfedc, true, false), policy(7, false, true)];
        for policy in policies.map(Some).into_iter().chain([None]) {
            for inner in IpVersion::ALL {
                echo_by_vxlan(&ours, version, true, inner, policy)?;
            }
        }
    }
    Ok(())
}

/// Asks for an echo and checks all of the answer.
fn echo_by_vxlan(
    ours: &Host,
    version: IpVersion,
    checksum: bool,
    inner_version: IpVersion,
    group_policy: Option<GroupPolicy>,
) -> Outcome {
    let ether_type = EtherType::ip(inner_version);
    let vxlan = VxlanHeader { vni: VNI, group_policy };
    let ethernet = EthernetHeader { dst: THEIR_MAC, src: OUR_MAC, ether_type };
    let frame = under(echo_request(inner_version)?, ethernet::LEN, |it| ethernet.emit(it))?;
    let answer = exchange_frames(ours, version, checksum, vxlan, frame, is_echo)?;
    let frame = EthernetFrame::parse(&answer)?;
    assert_eq!(frame.header(), EthernetHeader { dst: OUR_MAC, src: THEIR_MAC, ether_type });
    assert_echo_reply(inner_version, frame.payload())
}

fn resolution(case: &str) -> Outcome {
    for version in IpVersion::ALL {
        let [ours, theirs] = hosts()?;
        if !add_vtep(case, &theirs, version, true, "")? {
            return Ok(());
        }
        let exchange = |dst, ether_type, packet: Vec<u8>, is_answer: fn(&[u8]) -> bool| {
            let ethernet = EthernetHeader { dst, src: OUR_MAC, ether_type };
            let frame = under(packet, ethernet::LEN, |it| ethernet.emit(it))?;
            exchange_frames(&ours, version, true, VxlanHeader::new(VNI), frame, is_answer)
        };

        let [IpAddr::V4(us), IpAddr::V4(them)] = inner(IpVersion::V4) else { unreachable!() };
        let request = ArpHeader::request(OUR_MAC, us, them);
        let packet = request.to_bytes().to_vec();
        let answer = exchange(MacAddr::BROADCAST, EtherType::ARP, packet, is_arp)?;
        let frame = EthernetFrame::parse(&answer)?;
        assert_eq!((frame.dst(), frame.src()), (OUR_MAC, THEIR_MAC));
        let reply = ArpPacket::parse(frame.payload())?.header();
        assert_eq!(Some(reply), request.reply(THEIR_MAC));

        let [IpAddr::V6(us), IpAddr::V6(them)] = inner(IpVersion::V6) else { unreachable!() };
        let group = ndp::solicited_node(them);
        let station = MacAddr::multicast(group.into()).expect("a group");
        let addresses = PseudoHeader::V6 { src: us, dst: group };
        let solicitation = NeighbourHeader {
            message: NeighbourMessage::Solicitation,
            target: them,
            link_layer: Some(OUR_MAC),
        };
        let message =
            under(vec![], solicitation.header_len(), |it| solicitation.emit(it, &addresses))?;
        let header = Ipv6Header::new(us, group, IpProtocol::ICMPV6);
        let header = Ipv6Header { hop_limit: ndp::HOP_LIMIT, ..header };
        let packet = under(message, header.header_len(), |it| header.emit(it))?;
        let answer = exchange(station, EtherType::IPV6, packet, is_neighbour)?;
        let frame = EthernetFrame::parse(&answer)?;
        assert_eq!((frame.dst(), frame.src()), (OUR_MAC, THEIR_MAC));
        let packet = Ipv6Packet::parse(frame.payload())?;
        assert_eq!((packet.src(), packet.dst()), (them, us));
        let advertisement = NeighbourHeader {
            message: NeighbourMessage::Advertisement {
                router: false,
                solicited: true,
                overrides: true,
            },
            target: them,
            link_layer: Some(THEIR_MAC),
        };
        assert_eq!(NeighbourPacket::receive(&packet)?.header(), advertisement);
    }
    Ok(())
}

fn answers_in_gpe(case: &str) -> Outcome {
    for version in IpVersion::ALL {
        for checksum in [true, false] {
            let [ours, theirs] = hosts()?;
            let add = "ip link add v0 type vxlan gpe external dstport 4790 udp6zerocsumrx";
            if !is_done(case, &theirs, "vxlan", add)? {
                return Ok(());
            }
            let [us, _] = outer(version);
            let ip = if version == IpVersion::V4 { "ip" } else { "ip6" };
            let csum = if checksum { "csum" } else { "" };
            theirs.set_up("v0")?;
            for inner_version in IpVersion::ALL {
                let [from, to] = inner(inner_version);
                theirs.addresses("v0", &[to.into()])?;
                let add = format!("ip route add {from} encap {ip} id {VNI} dst {us} {csum} dev v0");
                if !is_done(case, &theirs, "lwtunnel", &add)? {
                    return Ok(());
                }
                let header = VxlanGpeHeader::new(VNI, NextProtocol::ip(inner_version));
                let echo = echo_request(inner_version)?;
                let (port, carries) = (vxlan_gpe::PORT, Framing::Ip);
                let tunnel = Tunnel::VxlanGpe { port, vni: VNI, carries };
                let answer = exchange(&ours, version, checksum, &tunnel, &echo, is_echo)?;
                let packet = VxlanGpePacket::parse(&answer)?;
                assert_eq!((packet.header(), packet.reserved()), (header, 0));
                assert_echo_reply(inner_version, packet.payload())?;
            }
        }
    }
    Ok(())
}

fn two_kernels(case: &str) -> Outcome {
    const PINGS: u16 = 3;
    for version in IpVersion::ALL {
        for checksum in [true, false] {
            let hosts = hosts()?;
            let [us, them] = outer(version);
            for (number, host, [local, remote]) in
                [(0, &hosts[0], [us, them]), (1, &hosts[1], [them, us])]
            {
                let mac = [OUR_MAC, THEIR_MAC][number];
                if !is_done(case, host, "vxlan", &add_vxlan(mac, [local, remote], checksum, ""))? {
                    return Ok(());
                }
                host.addresses("v0", &IpVersion::ALL.map(|version| in_overlay(version, number)))?;
                host.set_up("v0")?;
            }
            let seen = capture(&hosts[0], "eth0")?;
            for version in IpVersion::ALL {
                let report = ping(&hosts[0], &PingRequest::to(inner(version)[1]).count(PINGS))?;
                assert!(report.perfect(), "{report:?}");
            }
            let mut kinds = Vec::new();
            for frame in seen.frames() {
                let Some(payload) = datagram(&frame.bytes, vxlan::PORT, checksum)? else {
                    continue;
                };
                let packet = VxlanPacket::parse(payload)?;
                assert_eq!((packet.header(), packet.reserved()), (VxlanHeader::new(VNI), 0));
                let accept =
                    Accept::Vxlan { port: vxlan::PORT, vni: Some(VNI), group_policy: false };
                let mut bytes = frame.bytes.clone();
                let mut taken = PacketBuffer::new(&mut bytes, 0);
                let policy = Policy::new(Framing::Ethernet, accept);
                Decapsulator::new(&policy).decapsulate(&mut taken)?;
                assert_eq!(taken.as_slice(), packet.payload());
                let frame = EthernetFrame::parse(packet.payload())?;
                assert!([OUR_MAC, THEIR_MAC].contains(&frame.src()));
                match frame.ether_type() {
                    EtherType::ARP => {
                        ArpPacket::parse(frame.payload())?;
                        kinds.push(None);
                    }
                    EtherType::IPV4 | EtherType::IPV6 => {
                        let packet = IpPacket::parse(frame.payload())?;
                        let (protocol, kind) = icmp(&packet)?;
                        if let (IpPacket::V6(packet), true) = (packet, NEIGHBOUR.contains(&kind)) {
                            NeighbourPacket::receive(&packet)?;
                        }
                        kinds.push(Some((protocol, kind)));
                    }
                    other => return Err(format!("an inner frame of type {other}").into()),
                }
            }
            let count = |kind| kinds.iter().filter(|it| **it == kind).count();
            for (protocol, echo) in [(IpProtocol::ICMP, ECHO_V4), (IpProtocol::ICMPV6, ECHO_V6)] {
                for kind in echo {
                    assert_eq!(count(Some((protocol, kind))), PINGS.into(), "{kinds:?}");
                }
            }
            assert!(count(None) >= 2, "an ARP request and reply in {kinds:?}");
            for kind in NEIGHBOUR {
                assert_ne!(count(Some((IpProtocol::ICMPV6, kind))), 0, "{kind} in {kinds:?}");
            }
        }
    }
    Ok(())
}

/// Request and reply.
const ECHO_V4: [u8; 2] = [8, 0];
const ECHO_V6: [u8; 2] = [128, 129];
const NEIGHBOUR: [u8; 2] = [ndp::NEIGHBOUR_SOLICITATION, ndp::NEIGHBOUR_ADVERTISEMENT];

/// Makes the VTEP `v0` of the host that is not ours, which knows our addresses inside.
fn add_vtep(
    case: &str,
    theirs: &Host,
    version: IpVersion,
    checksum: bool,
    more: &str,
) -> Result<bool, Failed> {
    let [us, them] = outer(version);
    if !is_done(case, theirs, "vxlan", &add_vxlan(THEIR_MAC, [them, us], checksum, more))? {
        return Ok(false);
    }
    theirs.addresses("v0", &IpVersion::ALL.map(|version| in_overlay(version, 1)))?;
    theirs.set_up("v0")?;
    for version in IpVersion::ALL {
        let [address, _] = inner(version);
        let line = format!("ip neigh add {address} lladdr {OUR_MAC} dev v0 nud permanent");
        ip(theirs, &line)?;
    }
    Ok(true)
}

fn add_vxlan(mac: MacAddr, [local, remote]: [IpAddr; 2], checksum: bool, more: &str) -> String {
    let checksums = match checksum {
        true => "udpcsum noudp6zerocsumtx noudp6zerocsumrx",
        false => "noudpcsum udp6zerocsumtx udp6zerocsumrx",
    };
    format!(
        "ip link add v0 address {mac} type vxlan id {VNI} local {local} remote {remote} \
         dstport {} nolearning {checksums} {more}",
        vxlan::PORT
    )
}

fn in_overlay(version: IpVersion, number: usize) -> ipnet::IpNet {
    let prefix_len = if version == IpVersion::V4 { 24 } else { 64 };
    ipnet::IpNet::new(inner(version)[number], prefix_len).expect("a prefix length")
}

/// Whether the kernel did what iproute2 was told; says so if not.
fn is_done(case: &str, host: &Host, need: &str, line: &str) -> Result<bool, String> {
    if let Err(why) = ip(host, "ip -Version") {
        return cannot_run(case, "iproute2", &why).map(|()| false);
    }
    match ip(host, line) {
        Ok(()) => Ok(true),
        Err(why) => cannot_run(case, need, &why).map(|()| false),
    }
}

fn ip(host: &Host, line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    // Ordinary users of Debian do not have it.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = host
        .run(|| Command::new(words[0]).args(&words[1..]).env("PATH", path).output())
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Sends a frame in VXLAN and returns the frame in the kernel's answer.
fn exchange_frames(
    ours: &Host,
    version: IpVersion,
    checksum: bool,
    vxlan: VxlanHeader,
    frame: Vec<u8>,
    is_answer: fn(&[u8]) -> bool,
) -> Result<Vec<u8>, Failed> {
    let tunnel = Tunnel::Vxlan { port: vxlan::PORT, header: vxlan };
    let answer = exchange(ours, version, checksum, &tunnel, &frame, is_answer)?;
    let packet = VxlanPacket::parse(&answer)?;
    assert_eq!((packet.header(), packet.reserved()), (vxlan, 0));
    Ok(packet.payload().to_vec())
}

/// Sends a packet through the tunnel and returns what the datagram of the kernel's answer carries.
fn exchange(
    ours: &Host,
    version: IpVersion,
    checksum: bool,
    tunnel: &Tunnel<'_>,
    inner: &[u8],
    is_answer: fn(&[u8]) -> bool,
) -> Result<Vec<u8>, Failed> {
    let [us, them] = outer(version);
    let mut outer = Outer::new(us, them);
    outer.udp_checksum = if checksum { UdpChecksum::Compute } else { UdpChecksum::Zero };
    let mut template = Template::new(&outer, tunnel)?;
    let mut bytes = [&[0; 64], inner].concat();
    let mut packet = PacketBuffer::new(&mut bytes, 64);
    template.encapsulate(&mut packet)?;

    let (Tunnel::Vxlan { port, .. } | Tunnel::VxlanGpe { port, .. }) = *tunnel else {
        return Err("the kernel has no such tunnel".into());
    };
    let answers = capture(ours, "eth0")?;
    ours.run(|| send(them, packet.as_slice()))?;
    let is_answer = |frame: &[u8]| {
        let Ok(Some((packet, udp))) = outer_udp(frame) else { return false };
        let ends = (packet.src(), packet.dst(), udp.dst_port());
        ends == (them, us, port) && is_answer(udp.payload())
    };
    let answer = answers.wait_for(Duration::from_secs(5), is_answer)?.bytes;
    let Some(payload) = datagram(&answer, port, checksum)? else {
        return Err("no datagram".into());
    };

    let mut policy = Policy::new(Framing::Ethernet, tunnel.into());
    (policy.local, policy.remote) = (Some(us), Some(them));
    policy.reserved = Reserved::Reject;
    policy.udp_checksum =
        if checksum { UdpChecksumRule::Require } else { UdpChecksumRule::IfPresent };
    let mut frame = answer.clone();
    let mut packet = PacketBuffer::new(&mut frame, 0);
    let learned = Decapsulator::new(&policy).decapsulate(&mut packet)?;
    assert_eq!(learned.vni(), Some(VNI));
    assert!(payload.ends_with(learned.inner()), "{learned:?}");
    let stations = (learned.carries() == Framing::Ethernet).then_some(THEIR_MAC);
    assert_eq!(learned.inner_src(), stations);
    Ok(payload.to_vec())
}

// The kernel also sends what it has to say about its own addresses and groups.

fn is_echo(payload: &[u8]) -> bool {
    payload.ends_with(DATA)
}

fn is_arp(payload: &[u8]) -> bool {
    inner_frame(payload).is_some_and(|frame| frame.ether_type() == EtherType::ARP)
}

fn is_neighbour(payload: &[u8]) -> bool {
    inner_frame(payload)
        .and_then(|frame| Ipv6Packet::parse(frame.payload()).ok())
        .is_some_and(|packet| NeighbourPacket::receive(&packet).is_ok())
}

fn inner_frame(payload: &[u8]) -> Option<EthernetFrame<'_>> {
    EthernetFrame::parse(VxlanPacket::parse(payload).ok()?.payload()).ok()
}

/// Sends an IP packet, header and all.
fn send(to: IpAddr, packet: &[u8]) -> io::Result<usize> {
    let domain = Domain::for_address(SocketAddr::new(to, 0));
    const IPPROTO_RAW: i32 = 255;
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
    socket.send_to(packet, &SocketAddr::new(to, 0).into())
}

/// The datagram of a frame and the packet it is in, if it has one, with all checksums checked.
fn outer_udp(frame: &[u8]) -> Result<Option<(IpPacket<'_>, UdpPacket<'_>)>, Failed> {
    let frame = EthernetFrame::parse(frame)?;
    if ![EtherType::IPV4, EtherType::IPV6].contains(&frame.ether_type()) {
        return Ok(None);
    }
    let packet = IpPacket::parse(frame.payload())?;
    let upper = upper_layer(&packet)?;
    if upper.protocol != IpProtocol::UDP {
        return Ok(None);
    }
    let udp = UdpPacket::parse(upper.payload)?;
    assert!(udp.is_checksum_valid(&packet.pseudo_header()), "{udp:?}");
    Ok(Some((packet, udp)))
}

/// What a frame's datagram to this port carries; `None` if it has none.
fn datagram(frame: &[u8], port: u16, checksum: bool) -> Result<Option<&[u8]>, Failed> {
    match outer_udp(frame)? {
        Some((_, udp)) if udp.dst_port() == port => {
            assert_eq!(udp.checksum() != 0, checksum, "{udp:?}");
            Ok(Some(udp.payload()))
        }
        _ => Ok(None),
    }
}

/// What a whole IP packet carries, with its checksum checked.
fn upper_layer<'a>(packet: &IpPacket<'a>) -> Result<UpperLayer<'a>, Error> {
    if let IpPacket::V4(packet) = packet {
        assert!(packet.is_checksum_valid(), "{packet:?}");
    }
    let upper = packet.upper_layer()?;
    assert!(upper.is_whole(), "{packet:?}");
    Ok(upper)
}

/// Protocol and type of the ICMP message in an IP packet, with all checksums checked.
fn icmp(packet: &IpPacket<'_>) -> Result<(IpProtocol, u8), Failed> {
    let upper = upper_layer(packet)?;
    let (is_valid, kind) = match upper.protocol {
        IpProtocol::ICMP => {
            let message = Icmpv4Packet::parse(upper.payload)?;
            (message.is_checksum_valid(), message.kind())
        }
        IpProtocol::ICMPV6 => {
            let message = Icmpv6Packet::parse(upper.payload)?;
            (message.is_checksum_valid(&packet.pseudo_header()), message.kind())
        }
        other => return Err(format!("a packet of protocol {other}").into()),
    };
    assert!(is_valid, "{packet:?}");
    Ok((upper.protocol, kind))
}

/// An IP packet with an echo request from our address inside to theirs.
fn echo_request(version: IpVersion) -> Result<Vec<u8>, Failed> {
    let [from, to] = inner(version);
    let addresses = PseudoHeader::new(from, to)?;
    let (identifier, sequence) = (IDENTIFIER, SEQUENCE);
    let message = under(DATA.to_vec(), icmpv4::LEN, |it| match version {
        IpVersion::V4 => Icmpv4Header::EchoRequest { identifier, sequence }.emit(it),
        IpVersion::V6 => Icmpv6Header::EchoRequest { identifier, sequence }.emit(it, &addresses),
    })?;
    let protocol = match version {
        IpVersion::V4 => IpProtocol::ICMP,
        IpVersion::V6 => IpProtocol::ICMPV6,
    };
    ip_packet(from, to, protocol, message)
}

fn assert_echo_reply(version: IpVersion, packet: &[u8]) -> Outcome {
    let [us, them] = inner(version);
    let packet = IpPacket::parse(packet)?;
    assert_eq!((packet.src(), packet.dst()), (them, us));
    icmp(&packet)?;
    let message = upper_layer(&packet)?.payload;
    let (identifier, sequence) = (IDENTIFIER, SEQUENCE);
    let data = match version {
        IpVersion::V4 => {
            let message = Icmpv4Packet::parse(message)?;
            assert_eq!(message.header(), Icmpv4Header::EchoReply { identifier, sequence });
            message.payload()
        }
        IpVersion::V6 => {
            let message = Icmpv6Packet::parse(message)?;
            assert_eq!(message.header(), Icmpv6Header::EchoReply { identifier, sequence });
            message.payload()
        }
    };
    assert_eq!(data, DATA);
    Ok(())
}

fn ip_packet(
    src: IpAddr,
    dst: IpAddr,
    protocol: IpProtocol,
    payload: Vec<u8>,
) -> Result<Vec<u8>, Failed> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4Header::new(src, dst, protocol);
            under(payload, header.header_len(), |it| header.emit(it))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header::new(src, dst, protocol);
            under(payload, header.header_len(), |it| header.emit(it))
        }
        _ => Err("addresses of different versions".into()),
    }
}

/// A payload with a header in front.
fn under(
    mut payload: Vec<u8>,
    len: usize,
    emit: impl FnOnce(&mut [u8]) -> Result<(), Error>,
) -> Result<Vec<u8>, Failed> {
    payload.splice(..0, std::iter::repeat_n(0xff, len));
    emit(&mut payload)?;
    Ok(payload)
}
