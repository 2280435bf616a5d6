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
use overlay_wire::checksum::{self, Checksum, PseudoHeader};
use overlay_wire::ethernet::{self, EtherType, EthernetFrame, EthernetHeader};
use overlay_wire::ip::{IpPacket, IpProtocol};
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::udp::{UdpHeader, UdpPacket};
use overlay_wire::vxlan::{self, GroupPolicy, VxlanHeader, VxlanPacket};
use overlay_wire::vxlan_gpe::{self, NextProtocol, VxlanGpeHeader, VxlanGpePacket};
use overlay_wire::{Error, IpVersion, MacAddr, Vni};
use socket2::{Domain, Protocol, Socket, Type};

type Outcome = Result<(), Failed>;
type Case = (&'static str, fn(&str) -> Outcome);

const CASES: [Case; 4] = [
    ("the kernel answers our frames", answers),
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
const SRC_PORT: u16 = 50_000;
const IDENT: [u8; 2] = [0x17, 0x08];
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
    let payload = under(frame, vxlan::LEN, |it| vxlan.emit(it))?;

    let answer = exchange(ours, version, checksum, vxlan::PORT, payload)?;
    let packet = VxlanPacket::parse(&answer)?;
    assert_eq!((packet.header(), packet.reserved()), (vxlan, 0));
    let frame = EthernetFrame::parse(packet.payload())?;
    assert_eq!(frame.header(), EthernetHeader { dst: OUR_MAC, src: THEIR_MAC, ether_type });
    assert_echo_reply(inner_version, frame.payload())
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
                let payload = under(echo, vxlan_gpe::LEN, |it| header.emit(it))?;
                let answer = exchange(&ours, version, checksum, vxlan_gpe::PORT, payload)?;
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
                let frame = EthernetFrame::parse(packet.payload())?;
                assert!([OUR_MAC, THEIR_MAC].contains(&frame.src()));
                match frame.ether_type() {
                    EtherType::ARP => kinds.push(None),
                    EtherType::IPV4 | EtherType::IPV6 => {
                        let (protocol, message) = icmp(frame.payload())?;
                        kinds.push(Some((protocol, message[0])));
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
            for kind in [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
                assert_ne!(count(Some((IpProtocol::ICMPV6, kind))), 0, "{kind} in {kinds:?}");
            }
        }
    }
    Ok(())
}

/// Request and reply.
const ECHO_V4: [u8; 2] = [8, 0];
const ECHO_V6: [u8; 2] = [128, 129];
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

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

/// Sends what a datagram to this port should carry and returns what the kernel's answer carries.
fn exchange(
    ours: &Host,
    version: IpVersion,
    checksum: bool,
    port: u16,
    payload: Vec<u8>,
) -> Result<Vec<u8>, Failed> {
    let [us, them] = outer(version);
    let addresses = PseudoHeader::new(us, them)?;
    let udp = UdpHeader { src_port: SRC_PORT, dst_port: port };
    let datagram =
        under(payload, udp.header_len(), |it| udp.emit(it, checksum.then_some(&addresses)))?;
    let packet = ip_packet(us, them, IpProtocol::UDP, datagram)?;

    let answers = capture(ours, "eth0")?;
    ours.run(|| send(them, &packet))?;
    let is_answer = move |frame: &[u8]| {
        let Ok(Some((packet, udp))) = outer_udp(frame) else { return false };
        // It also sends what it has to say about its own addresses and groups.
        let is_echo = udp.payload().ends_with(DATA);
        is_echo && (packet.src(), packet.dst(), udp.dst_port()) == (them, us, port)
    };
    let answer = answers.wait_for(Duration::from_secs(5), is_answer)?.bytes;
    let Some(payload) = self::datagram(&answer, port, checksum)? else {
        return Err("no datagram".into());
    };
    Ok(payload.to_vec())
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
    let (protocol, payload) = payload(&packet);
    if protocol != IpProtocol::UDP {
        return Ok(None);
    }
    let udp = UdpPacket::parse(payload)?;
    let addresses = PseudoHeader::new(packet.src(), packet.dst())?;
    assert!(udp.is_checksum_valid(&addresses), "{udp:?}");
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

fn payload<'a>(packet: &IpPacket<'a>) -> (IpProtocol, &'a [u8]) {
    match packet {
        IpPacket::V4(packet) => {
            assert!(packet.is_checksum_valid(), "{packet:?}");
            (packet.protocol(), packet.payload())
        }
        IpPacket::V6(packet) => match packet.next_header() {
            // What the kernel puts in front of a report of multicast listeners.
            IpProtocol::HOP_BY_HOP => {
                let rest = packet.payload();
                (IpProtocol(rest[0]), &rest[8 + 8 * usize::from(rest[1])..])
            }
            next_header => (next_header, packet.payload()),
        },
    }
}

/// The ICMP message in an IP packet, with all checksums checked.
fn icmp(packet: &[u8]) -> Result<(IpProtocol, &[u8]), Failed> {
    let packet = IpPacket::parse(packet)?;
    let (protocol, message) = payload(&packet);
    let is_valid = match packet.version() {
        IpVersion::V4 => protocol == IpProtocol::ICMP && checksum::is_valid(message),
        IpVersion::V6 => {
            let addresses = PseudoHeader::new(packet.src(), packet.dst())?;
            protocol == IpProtocol::ICMPV6 && icmpv6_checksum(&addresses, message) == 0
        }
    };
    assert!(is_valid, "{packet:?}");
    Ok((protocol, message))
}

fn icmpv6_checksum(addresses: &PseudoHeader, message: &[u8]) -> u16 {
    Checksum::new()
        .pseudo_header(addresses, IpProtocol::ICMPV6, message.len() as u32)
        .bytes(message)
        .finish()
}

/// An IP packet with an echo request from our address inside to theirs.
fn echo_request(version: IpVersion) -> Result<Vec<u8>, Failed> {
    let [from, to] = inner(version);
    let (protocol, kind) = match version {
        IpVersion::V4 => (IpProtocol::ICMP, ECHO_V4[0]),
        IpVersion::V6 => (IpProtocol::ICMPV6, ECHO_V6[0]),
    };
    let mut message = [&[kind, 0, 0, 0], &IDENT[..], &[0, 26], DATA].concat();
    let sum = match version {
        IpVersion::V4 => checksum::of(&message),
        IpVersion::V6 => icmpv6_checksum(&PseudoHeader::new(from, to)?, &message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip_packet(from, to, protocol, message)
}

fn assert_echo_reply(version: IpVersion, packet: &[u8]) -> Outcome {
    let [us, them] = inner(version);
    let (_, message) = icmp(packet)?;
    let packet = IpPacket::parse(packet)?;
    assert_eq!((packet.src(), packet.dst()), (them, us));
    let kind = if version == IpVersion::V4 { ECHO_V4[1] } else { ECHO_V6[1] };
    assert_eq!(message[..2], [kind, 0]);
    assert_eq!(message[4..], [&IDENT[..], &[0, 26], DATA].concat());
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
