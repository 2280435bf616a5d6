//! Writes the first inputs of the targets for `overlay-wire` into `corpus/`, each under a name that says what it is.
//!
//!     cargo run -p overlay-fuzz --example seeds
//!
//! The inputs are committed; this says where they come from, and writes those of a new format.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::path::Path;

use overlay_wire::arp::ArpHeader;
use overlay_wire::checksum::{Checksum, PseudoHeader};
use overlay_wire::ethernet::{EtherType, EthernetHeader};
use overlay_wire::geneve::{self, GeneveHeader, GeneveOption, GeneveOptions};
use overlay_wire::gre::GreHeader;
use overlay_wire::gue::{self, GueContent, GueHeader};
use overlay_wire::icmp::{self, IcmpError};
use overlay_wire::icmpv4::Icmpv4Header;
use overlay_wire::icmpv6::Icmpv6Header;
use overlay_wire::ip::{Ecn, IpPacket, IpProtocol};
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::ipv6::extension::{FragmentHeader, Ipv6Option, OptionsHeader};
use overlay_wire::ndp::{self, NeighbourHeader, NeighbourMessage};
use overlay_wire::segment::{MAX_HEADER_LEN, Segments};
use overlay_wire::tcp::{TcpFlags, TcpHeader};
use overlay_wire::udp::UdpHeader;
use overlay_wire::virtio_net::{ChecksumState, Gso, GsoKind, VirtioNetHeader};
use overlay_wire::vlan::VlanHeader;
use overlay_wire::vxlan::{self, GroupPolicy, VxlanHeader};
use overlay_wire::vxlan_gpe::{self, NextProtocol, VxlanGpeHeader};
use overlay_wire::{Error as Malformed, MacAddr, Vni, ip_in_ip, ip_in_udp, isatap};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
const V6: (Ipv6Addr, Ipv6Addr) =
    (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

const MACS: (MacAddr, MacAddr) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
const ADDRESSES: [PseudoHeader; 2] =
    [PseudoHeader::V4 { src: V4.0, dst: V4.1 }, PseudoHeader::V6 { src: V6.0, dst: V6.1 }];
/// An authentication header in front of UDP, with a check value of four bytes that authenticates nothing.
const AUTHENTICATION: &[u8; 16] = b"\x11\x02\0\0\0\0\x01\0\0\0\0\x05abcd";

fn main() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for Seed { targets, name, bytes } in seeds()? {
        for target in targets {
            let dir = corpus.join(target);
            fs::create_dir_all(&dir)?;
            fs::write(dir.join(name), &bytes)?;
        }
    }
    Ok(())
}

struct Seed {
    targets: &'static [&'static str],
    name: &'static str,
    bytes: Vec<u8>,
}

fn seeds() -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for part in [
        link,
        ipv4_packets,
        ipv6_packets,
        transport,
        icmp_messages,
        tunnels,
        round_trips,
        segments,
        dissections,
        checksums,
    ] {
        seeds.extend(part()?);
    }
    Ok(seeds)
}

fn seed(targets: &'static [&'static str], name: &'static str, bytes: Vec<u8>) -> Seed {
    Seed { targets, name, bytes }
}

fn link() -> Result<Vec<Seed>> {
    const LINK: &[&str] = &["ethernet", "etherparse_link"];
    let tag = VlanHeader { pcp: 5, dei: true, vid: 100, ether_type: EtherType::IPV4 };
    let tagged = with(tag.header_len(), &udp_in_ipv4()?, |bytes| tag.emit(bytes))?;
    let request = ArpHeader::request(MACS.0, V4.0, V4.1);
    let reply = request.reply(MACS.1).ok_or("a request without an answer")?;
    Ok(vec![
        seed(LINK, "ipv4", ethernet(EtherType::IPV4, &udp_in_ipv4()?)?),
        seed(LINK, "ipv6", ethernet(EtherType::IPV6, &udp_in_ipv6()?)?),
        seed(LINK, "vlan", ethernet(EtherType::VLAN, &tagged)?),
        seed(LINK, "vlan-tag", tagged),
        seed(LINK, "arp", ethernet(EtherType::ARP, &request.to_bytes())?),
        seed(LINK, "arp-request", request.to_bytes().to_vec()),
        seed(LINK, "arp-reply", reply.to_bytes().to_vec()),
        seed(LINK, "arp-announcement", ArpHeader::announcement(MACS.0, V4.0).to_bytes().to_vec()),
        seed(LINK, "empty", ethernet(EtherType(0x88cc), b"")?),
    ])
}

fn ipv4_packets() -> Result<Vec<Seed>> {
    const IPV4: &[&str] = &["ipv4", "etherparse_ip"];
    const TUNNEL: &[&str] = &["ipv4", "ip_in_ip", "etherparse_ip"];
    let udp = udp_in_ipv4()?;
    let plain = |protocol| Ipv4Header::new(V4.0, V4.1, protocol);
    let with_options = Ipv4Header { options: b"\x94\x04\0\0", ..plain(IpProtocol(2)) };
    let fragment = Ipv4Header {
        dont_fragment: false,
        more_fragments: true,
        fragment_offset: 185,
        identification: 0x1234,
        dscp: 46,
        ecn: Ecn::Ce,
        ..plain(IpProtocol::UDP)
    };
    let authenticated = [&AUTHENTICATION[..], b"ping"].concat();
    Ok(vec![
        seed(IPV4, "padded", [&udp[..], &[0; 6]].concat()),
        seed(IPV4, "options", ipv4(with_options, b"igmp")?),
        seed(IPV4, "fragment", ipv4(fragment, b"12345678")?),
        seed(IPV4, "authentication", ipv4(plain(IpProtocol::AUTHENTICATION), &authenticated)?),
        seed(TUNNEL, "ipv4-in-ipv4", ipv4(plain(IpProtocol::IPV4), &udp)?),
        seed(TUNNEL, "ipv6-in-ipv4", ipv4(plain(IpProtocol::IPV6), &udp_in_ipv6()?)?),
        seed(TUNNEL, "udp-in-ipv4", udp),
    ])
}

fn ipv6_packets() -> Result<Vec<Seed>> {
    const IPV6: &[&str] = &["ipv6", "etherparse_ip"];
    const TUNNEL: &[&str] = &["ipv6", "ip_in_ip", "etherparse_ip"];
    let udp = udp_in_ipv6()?;
    let plain = |protocol| Ipv6Header::new(V6.0, V6.1, protocol);
    let labelled = Ipv6Header {
        dscp: 46,
        ecn: Ecn::Ect0,
        flow_label: 0xabcde,
        ..plain(IpProtocol::NO_NEXT_HEADER)
    };
    let limit = &Ipv6Option::tunnel_encapsulation_limit(ip_in_ip::LINUX_ENCAPSULATION_LIMIT);
    let limit = OptionsHeader { next_header: IpProtocol::IPV6, options: limit };
    let limited = with(limit.header_len(), &udp, |bytes| limit.emit(bytes))?;

    let fragment = |fragment_offset, more_fragments| FragmentHeader {
        next_header: IpProtocol::UDP,
        fragment_offset,
        more_fragments,
        identification: 7,
    };
    let (first, last) = (fragment(0, true), fragment(1, false));
    let first = with(first.header_len(), b"12345678", |bytes| first.emit(bytes))?;
    let last = with(last.header_len(), b"1234", |bytes| last.emit(bytes))?;

    let ports = udp_datagram(None, b"ping")?;
    let authenticated = [&AUTHENTICATION[..], &ports].concat();
    let routed =
        [&[IpProtocol::AUTHENTICATION.0, 0, 4, 0, 0, 0, 0, 0], &authenticated[..]].concat();
    let alert = OptionsHeader { next_header: IpProtocol::ROUTING, options: b"\x05\x02\0\0" };
    let chain = with(alert.header_len(), &routed, |bytes| alert.emit(bytes))?;
    let option = &Ipv6Option::tunnel_encapsulation_limit(1);
    let options = OptionsHeader { next_header: IpProtocol::UDP, options: option };
    let options = with(options.header_len(), &ports, |bytes| options.emit(bytes))?;
    let isatap = Ipv6Header {
        src: isatap::address(V6.0, V4.0),
        dst: isatap::address(V6.0, V4.1),
        ..plain(IpProtocol::NO_NEXT_HEADER)
    };
    Ok(vec![
        seed(IPV6, "labelled", ipv6(labelled, b"")?),
        seed(IPV6, "first-fragment", ipv6(plain(IpProtocol::FRAGMENT), &first)?),
        seed(IPV6, "last-fragment", ipv6(plain(IpProtocol::FRAGMENT), &last)?),
        seed(IPV6, "chain", ipv6(plain(IpProtocol::HOP_BY_HOP), &chain)?),
        seed(IPV6, "options", ipv6(plain(IpProtocol::DESTINATION_OPTIONS), &options)?),
        seed(TUNNEL, "ipv6-in-ipv6", ipv6(plain(IpProtocol::IPV6), &udp)?),
        seed(TUNNEL, "ipv4-in-ipv6", ipv6(plain(IpProtocol::IPV4), &udp_in_ipv4()?)?),
        seed(TUNNEL, "limited", ipv6(plain(IpProtocol::DESTINATION_OPTIONS), &limited)?),
        seed(TUNNEL, "udp-in-ipv6", udp),
        seed(
            &["ip_in_ip"],
            "isatap",
            isatap.src.octets().into_iter().chain([10, 0, 0, 1]).collect(),
        ),
        seed(TUNNEL, "isatap-packet", ipv6(isatap, b"")?),
    ])
}

fn transport() -> Result<Vec<Seed>> {
    const UDP: &[&str] = &["udp", "etherparse_transport"];
    const TCP: &[&str] = &["tcp", "etherparse_transport"];
    let [v4, v6] = &ADDRESSES;
    let syn = TcpHeader {
        src_port: 40_000,
        dst_port: 80,
        sequence: 0x0102_0304,
        acknowledgment: 0,
        flags: TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR,
        window: 64_240,
        urgent: 0,
        options: b"\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\x01\0\0\0\0\x01\x03\x03\x07",
    };
    let sack = TcpHeader {
        flags: TcpFlags::ACK,
        acknowledgment: 77,
        options: b"\x01\x01\x05\x0a\0\0\0\x10\0\0\0\x20",
        ..syn
    };
    let data = TcpHeader { flags: TcpFlags::ACK | TcpFlags::PSH, options: b"", ..sack };
    let odd = TcpHeader { options: b"\x01\x02\x04\x05\xb4\0\0\0", flags: TcpFlags::SYN, ..syn };
    let tcp = |header: TcpHeader<'_>, addresses, payload: &[u8]| {
        with(header.header_len(), payload, |bytes| header.emit(bytes, addresses))
    };
    Ok(vec![
        seed(UDP, "without-checksum", udp_datagram(None, b"ping")?),
        seed(UDP, "checksum-ipv4", udp_datagram(Some(v4), b"ping")?),
        seed(UDP, "checksum-ipv6", udp_datagram(Some(v6), b"odd")?),
        seed(UDP, "all-ones-checksum", udp_datagram(Some(v4), &all_ones(v4)?)?),
        seed(UDP, "jumbo-length", b"\x9c\x40\x12\xb5\0\0\0\0jumbo".to_vec()),
        seed(TCP, "syn", tcp(syn, v4, b"")?),
        seed(TCP, "syn-odd", tcp(odd, v6, b"")?),
        seed(TCP, "sack", tcp(sack, v6, b"")?),
        seed(TCP, "data", tcp(data, v4, b"GET / HTTP/1.1")?),
    ])
}

fn icmp_messages() -> Result<Vec<Seed>> {
    const ICMP: &[&str] = &["icmp", "etherparse_transport"];
    const WHOLE: &[&str] = &["icmp"];
    let addresses = &ADDRESSES[1];
    let v4 = |header: Icmpv4Header, payload: &[u8]| {
        with(header.header_len(), payload, |bytes| header.emit(bytes))
    };
    let v6 = |header: Icmpv6Header, payload: &[u8]| {
        with(header.header_len(), payload, |bytes| header.emit(bytes, addresses))
    };
    let neighbour = |message, addresses: &PseudoHeader| {
        let header = NeighbourHeader { message, target: V6.1, link_layer: Some(MACS.0) };
        with(header.header_len(), b"", |bytes| header.emit(bytes, addresses))
    };
    let (udp4, udp6) = (udp_in_ipv4()?, udp_in_ipv6()?);
    let echo = Icmpv4Header::EchoRequest { identifier: 1708, sequence: 26 };
    let advertisement =
        NeighbourMessage::Advertisement { router: false, solicited: true, overrides: true };
    let group = ndp::solicited_node(V6.1);
    let asking = PseudoHeader::V6 { src: V6.0, dst: group };
    let solicitation = neighbour(NeighbourMessage::Solicitation, &asking)?;
    let header = Ipv6Header { hop_limit: 255, ..Ipv6Header::new(V6.0, group, IpProtocol::ICMPV6) };
    let solicitation_packet = ipv6(header, &solicitation)?;
    Ok(vec![
        seed(ICMP, "echo", v4(echo, b"0123456789")?),
        seed(ICMP, "redirect", v4(Icmpv4Header::Redirect { code: 1, gateway: V4.1 }, &udp4)?),
        seed(
            ICMP,
            "fragmentation-needed",
            v4(Icmpv4Header::FragmentationNeeded { mtu: 1450 }, &udp4)?,
        ),
        seed(ICMP, "echo6", v6(Icmpv6Header::EchoReply { identifier: 1, sequence: 2 }, b"ping")?),
        seed(ICMP, "too-big6", v6(Icmpv6Header::PacketTooBig { mtu: 1430 }, &udp6)?),
        seed(
            ICMP,
            "parameter-problem6",
            v6(Icmpv6Header::ParameterProblem { code: 1, pointer: 6 }, &udp6)?,
        ),
        seed(ICMP, "solicitation", solicitation),
        seed(ICMP, "advertisement", neighbour(advertisement, addresses)?),
        seed(WHOLE, "solicitation-packet", solicitation_packet),
        seed(WHOLE, "about-ipv4", udp4.clone()),
        seed(WHOLE, "about-ipv6", udp6.clone()),
        seed(WHOLE, "about-an-error", about(&udp4)?),
    ])
}

/// The error that is sent about a packet.
fn about(original: &[u8]) -> Result<Vec<u8>> {
    let mut room = [0; icmp::MAX_LEN];
    let len = IcmpError::TimeExceeded.emit(original, V4.1.into(), &mut room)?;
    Ok(room[..len].to_vec())
}

fn tunnels() -> Result<Vec<Seed>> {
    let (inner4, inner6) = (udp_in_ipv4()?, udp_in_ipv6()?);
    let frame = ethernet(EtherType::IPV4, &inner4)?;
    let vni = Vni::new(0x12_3456)?;

    let policy = GroupPolicy { id: 100, dont_learn: true, applied: true };
    let group_policy = VxlanHeader { vni, group_policy: Some(policy) };
    let group_policy = with(vxlan::LEN, &frame, |bytes| group_policy.emit(bytes))?;
    let gpe =
        VxlanGpeHeader { oam: true, bum: true, ..VxlanGpeHeader::new(vni, NextProtocol::IPV6) };
    let gpe = with(gpe.header_len(), &inner6, |bytes| gpe.emit(bytes))?;

    let gre = |header: GreHeader, payload: &[u8]| {
        with(header.header_len(), payload, |bytes| header.emit(bytes))
    };
    let everything = GreHeader {
        checksum: true,
        key: Some(7),
        sequence: Some(1),
        ..GreHeader::new(EtherType::ETHERNET)
    };
    let gue = |header: GueHeader<'_>, payload: &[u8]| {
        with(header.header_len(), payload, |bytes| header.emit(bytes))
    };
    let control = GueHeader { content: GueContent::Control(1), flags: 0x8000, extensions: b"1234" };

    let options = [
        GeneveOption { class: 0x0102, option_type: 0x80, data: b"12345678" },
        GeneveOption { class: 0x0103, option_type: 1, data: b"" },
    ];
    let mut room = [0; 32];
    let options = GeneveOptions::emit(&options, &mut room)?;
    let geneve = |header: GeneveHeader<'_>, payload: &[u8]| {
        with(header.header_len(), payload, |bytes| header.emit(bytes))
    };
    let optional = GeneveHeader { options, ..GeneveHeader::new(vni, EtherType::IPV6) };
    Ok(vec![
        seed(&["vxlan"], "plain", vxlan(&frame)?),
        seed(&["vxlan"], "group-policy", group_policy),
        seed(&["vxlan"], "gpe", gpe),
        seed(&["gre"], "plain", gre(GreHeader::new(EtherType::IPV4), &inner4)?),
        seed(&["gre"], "everything", gre(everything, &frame)?),
        seed(&["gue"], "ipv4", gue(GueHeader::new(IpProtocol::IPV4), &inner4)?),
        seed(&["gue"], "control", gue(control, b"")?),
        seed(&["gue"], "fou-ipv4", inner4),
        seed(&["gue"], "fou-ipv6", inner6.clone()),
        seed(&["geneve"], "plain", geneve(GeneveHeader::new(vni, EtherType::ETHERNET), &frame)?),
        seed(&["geneve"], "options", geneve(optional, &inner6)?),
    ])
}

/// 16 bytes choose the tunnel, as `overlay_fuzz::encapsulate` reads them; a packet or frame follows.
fn round_trips() -> Result<Vec<Seed>> {
    const ROUND: &[&str] = &["encapsulate"];
    let (inner4, inner6) = (udp_in_ipv4()?, udp_in_ipv6()?);
    let frame = ethernet(EtherType::IPV4, &inner4)?;
    let frame6 = ethernet(EtherType::IPV6, &inner6)?;
    let round =
        |choices: [u8; 8], inner: &[u8]| [&choices[..], &[1, 0, 0, 0, 0, 40, 0, 0], inner].concat();
    Ok(vec![
        seed(ROUND, "vxlan", round([0, 0, 0, 0x08, 0, 64, 0, 0], &frame)),
        seed(ROUND, "vxlan-in-ipv6", round([0x8c, 0, 0, 0x48, 0, 64, 0, 0], &frame6)),
        seed(ROUND, "vxlan-group-policy", round([7, 0, 0x80, 0x01, 0, 64, 0, 0], &frame)),
        seed(ROUND, "ipip", round([1, 0, 0, 0x3e, 0, 64, 0, 0], &inner4)),
        seed(ROUND, "ip6ip6", round([0x8d, 0, 0, 0x3e, 0, 64, 0, 0], &inner6)),
        seed(ROUND, "ip-in-udp", round([2, 0, 0, 0xc0, 99, 64, 0, 0], &inner4)),
        seed(ROUND, "gpe", round([3, 0, 0, 0x18, 0, 64, 0, 0], &inner6)),
        seed(ROUND, "gpe-ethernet", round([3, 0x80, 0, 0x18, 0, 64, 0, 0], &frame)),
        seed(ROUND, "gre", round([4, 0, 0x80, 0x0a, 0x80, 64, 0, 0], &inner4)),
        seed(ROUND, "gretap-in-ipv6", round([0x84, 0x80, 0, 0, 0, 64, 0, 0], &frame6)),
        seed(ROUND, "gue", round([5, 0, 0, 0x40, 0, 64, 0, 0], &inner4)),
        seed(ROUND, "geneve", round([6, 0x80, 0, 0, 0, 64, 0, 0], &frame)),
    ])
}

/// A virtio header and a packet to be segmented; and its segments, each behind its length.
fn segments() -> Result<Vec<Seed>> {
    const SEGMENT: &[&str] = &["segment"];
    const COALESCE: &[&str] = &["coalesce"];
    let timestamps = b"\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02";
    let all = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::CWR;
    let tcp = TcpHeader {
        src_port: 40_000,
        dst_port: 443,
        sequence: u32::MAX - 10,
        acknowledgment: 77,
        flags: all,
        window: 512,
        urgent: 0,
        options: timestamps,
    };
    let payload = b"one, two, three, four, five, six, seven";
    let mut seeds = Vec::new();
    let mut add = |name: &'static str, ip_len: usize, kind, packet: Vec<u8>| -> Result<()> {
        let offset = if kind == GsoKind::Udp { 6 } else { 16 };
        let size = NonZeroU16::new(12).ok_or("no size")?;
        let header_len = (packet.len() - payload.len()) as u16;
        let header = VirtioNetHeader {
            checksum: ChecksumState::Needed { start: ip_len as u16, offset },
            gso: Some(Gso { kind, ecn: kind != GsoKind::Udp, header_len, size }),
        };
        let mut packet = packet;
        let place = ip_len + usize::from(offset);
        let ip = IpPacket::parse(&packet)?;
        let protocol = ip.upper_layer()?.protocol;
        let len = (packet.len() - ip_len) as u32;
        let sum = !Checksum::new().pseudo_header(&ip.pseudo_header(), protocol, len).finish();
        packet[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        seeds.push(seed(SEGMENT, name, [&header.to_bytes()[..], &packet].concat()));
        let segments = Segments::new(&header, &packet)?;
        let mut bytes = vec![0];
        for index in 0..segments.count() {
            let mut headers = [0; MAX_HEADER_LEN];
            let payload = segments.write(index, &mut headers).ok_or("no such segment")?;
            let segment = [&headers[..segments.header_len()], payload].concat();
            bytes.extend((segment.len() as u16).to_be_bytes());
            bytes.extend(segment);
        }
        seeds.push(seed(COALESCE, name, bytes));
        Ok(())
    };
    for (name, addresses, kind) in [
        ("tcp-ipv4", &ADDRESSES[0], GsoKind::TcpV4),
        ("tcp-ipv6", &ADDRESSES[1], GsoKind::TcpV6),
        ("udp-ipv4", &ADDRESSES[0], GsoKind::Udp),
        ("udp-ipv6", &ADDRESSES[1], GsoKind::Udp),
    ] {
        let (protocol, upper) = match kind {
            GsoKind::Udp => (IpProtocol::UDP, udp_datagram(Some(addresses), payload)?),
            _ => {
                let bytes = with(tcp.header_len(), payload, |bytes| tcp.emit(bytes, addresses))?;
                (IpProtocol::TCP, bytes)
            }
        };
        let (len, packet) = match addresses {
            PseudoHeader::V4 { .. } => (20, ipv4(Ipv4Header::new(V4.0, V4.1, protocol), &upper)?),
            PseudoHeader::V6 { .. } => (40, ipv6(Ipv6Header::new(V6.0, V6.1, protocol), &upper)?),
        };
        add(name, len, kind, packet)?;
    }
    Ok(seeds)
}

/// Two bytes say what the packet begins with.
fn dissections() -> Result<Vec<Seed>> {
    const DISSECT: &[&str] = &["dissect"];
    let begins =
        |ether_type: EtherType, packet: &[u8]| [&ether_type.0.to_be_bytes()[..], packet].concat();
    let (frame, packet) = (EtherType(0), EtherType(1));
    let mut seeds = Vec::new();
    for Seed { targets, name, bytes } in
        link()?.into_iter().chain(ipv4_packets()?).chain(ipv6_packets()?)
    {
        let ether_type = match targets[0] {
            "ipv4" => EtherType::IPV4,
            "ipv6" => EtherType::IPV6,
            _ => frame,
        };
        seeds.push(Seed { targets: DISSECT, name, bytes: begins(ether_type, &bytes) });
    }
    for (name, port, payload) in over_udp()? {
        let header = UdpHeader { src_port: 50_000, dst_port: port };
        let datagram = with(header.header_len(), &payload, |bytes| header.emit(bytes, None))?;
        let packet = ipv4(Ipv4Header::new(V4.0, V4.1, IpProtocol::UDP), &datagram)?;
        let bytes = begins(frame, &ethernet(EtherType::IPV4, &packet)?);
        seeds.push(Seed { targets: DISSECT, name, bytes });
    }
    for Seed { name, bytes, .. } in transport()?.into_iter().filter(|seed| seed.targets[0] == "tcp")
    {
        let packet = ipv4(Ipv4Header::new(V4.0, V4.1, IpProtocol::TCP), &bytes)?;
        seeds.push(Seed { targets: DISSECT, name, bytes: begins(EtherType::IPV4, &packet) });
    }
    for Seed { targets, name, bytes } in icmp_messages()? {
        let whole = targets.len() == 1;
        let bytes = match name {
            _ if whole => begins(packet, &bytes),
            "echo" | "redirect" | "fragmentation-needed" => begins(
                EtherType::IPV4,
                &ipv4(Ipv4Header::new(V4.0, V4.1, IpProtocol::ICMP), &bytes)?,
            ),
            _ => begins(
                EtherType::IPV6,
                &ipv6(Ipv6Header::new(V6.0, V6.1, IpProtocol::ICMPV6), &bytes)?,
            ),
        };
        seeds.push(Seed { targets: DISSECT, name, bytes });
    }
    Ok(seeds)
}

/// Tunnels by the port they are found at.
fn over_udp() -> Result<Vec<(&'static str, u16, Vec<u8>)>> {
    let payload = |target: &str, name: &str| -> Result<Vec<u8>> {
        let seeds = tunnels()?;
        let seed = seeds.into_iter().find(|seed| seed.targets == [target] && seed.name == name);
        Ok(seed.ok_or("no such seed")?.bytes)
    };
    Ok(vec![
        ("vxlan", vxlan::PORT, payload("vxlan", "plain")?),
        ("vxlan-group-policy", vxlan::LINUX_PORT, payload("vxlan", "group-policy")?),
        ("vxlan-gpe", vxlan_gpe::PORT, payload("vxlan", "gpe")?),
        ("geneve", geneve::PORT, payload("geneve", "options")?),
        ("gue", gue::PORT, payload("gue", "ipv4")?),
        ("ip-in-udp", ip_in_udp::FLANNEL_PORT, payload("gue", "fou-ipv6")?),
    ])
}

fn checksums() -> Result<Vec<Seed>> {
    const CHECKSUM: &[&str] = &["checksum"];
    let (packet, large) = (udp_in_ipv4()?, udp_in_ipv6()?.repeat(3));
    Ok(vec![
        seed(CHECKSUM, "ipv4", [&[10, 20, 128, 200], &packet[..]].concat()),
        seed(CHECKSUM, "zeros", vec![0; 40]),
        seed(CHECKSUM, "ones", vec![0xff; 75]),
        seed(CHECKSUM, "vector", [&[1, 100, 30, 255], &large[..]].concat()),
    ])
}

fn udp_in_ipv4() -> Result<Vec<u8>> {
    let datagram = udp_datagram(Some(&ADDRESSES[0]), b"ping")?;
    ipv4(Ipv4Header::new(V4.0, V4.1, IpProtocol::UDP), &datagram)
}

fn udp_in_ipv6() -> Result<Vec<u8>> {
    let datagram = udp_datagram(Some(&ADDRESSES[1]), b"odd")?;
    ipv6(Ipv6Header::new(V6.0, V6.1, IpProtocol::UDP), &datagram)
}

fn ethernet(ether_type: EtherType, payload: &[u8]) -> Result<Vec<u8>> {
    let header = EthernetHeader { dst: MACS.1, src: MACS.0, ether_type };
    with(header.header_len(), payload, |bytes| header.emit(bytes))
}

fn ipv4(header: Ipv4Header<'_>, payload: &[u8]) -> Result<Vec<u8>> {
    with(header.header_len(), payload, |bytes| header.emit(bytes))
}

fn ipv6(header: Ipv6Header, payload: &[u8]) -> Result<Vec<u8>> {
    with(header.header_len(), payload, |bytes| header.emit(bytes))
}

fn udp_datagram(addresses: Option<&PseudoHeader>, payload: &[u8]) -> Result<Vec<u8>> {
    let header = UdpHeader { src_port: 40_000, dst_port: vxlan::PORT };
    with(header.header_len(), payload, |bytes| header.emit(bytes, addresses))
}

fn vxlan(frame: &[u8]) -> Result<Vec<u8>> {
    let header = VxlanHeader::new(Vni::new(0x12_3456)?);
    with(header.header_len(), frame, |bytes| header.emit(bytes))
}

/// A payload whose datagram has the checksum 0, which is sent as all ones: the checksum of one of zeros.
fn all_ones(addresses: &PseudoHeader) -> Result<[u8; 2]> {
    let zeros = udp_datagram(Some(addresses), &[0, 0])?;
    Ok([zeros[6], zeros[7]])
}

/// A payload with a header in front.
fn with(
    header_len: usize,
    payload: &[u8],
    emit: impl FnOnce(&mut [u8]) -> std::result::Result<(), Malformed>,
) -> Result<Vec<u8>> {
    let mut packet = vec![0; header_len];
    packet.extend_from_slice(payload);
    emit(&mut packet)?;
    Ok(packet)
}
