//! tcpdump and tshark read what the crate writes: every encapsulation, over IPv4 and IPv6.
//!
//! Each packet remembers what was put into it. All are written to one file, which each program reads once and has to find
//! the same in, without a complaint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use overlay_wire::arp::{self, ArpHeader};
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ethernet::{self, EtherType, EthernetHeader};
use overlay_wire::geneve::{self, GeneveHeader, GeneveOption, GeneveOptions};
use overlay_wire::gre::GreHeader;
use overlay_wire::gue::{self, GueHeader};
use overlay_wire::icmp::{self, IcmpError};
use overlay_wire::icmpv4::{self, Icmpv4Header};
use overlay_wire::icmpv6::Icmpv6Header;
use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::ipv6::extension::{FragmentHeader, Ipv6Option, OptionsHeader};
use overlay_wire::ndp::{self, NeighbourHeader, NeighbourMessage};
use overlay_wire::tcp::{TcpFlags, TcpHeader};
use overlay_wire::udp::UdpHeader;
use overlay_wire::vlan::{self, VlanHeader};
use overlay_wire::vxlan::{self, GroupPolicy, VxlanHeader};
use overlay_wire::vxlan_gpe::{self, NextProtocol, VxlanGpeHeader};
use overlay_wire::{Error, IpVersion, MacAddr, Vni, ip_in_ip, ip_in_udp};

const VNI: Vni = Vni::from_octets([0x12, 0x34, 0x56]);
const MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];

/// A complete frame, and what a reader should find in it.
struct Packet {
    name: String,
    bytes: Vec<u8>,
    /// By the name that tshark gives a field: its values, the outermost first.
    fields: BTreeMap<&'static str, VecDeque<String>>,
    /// What tcpdump should print, somewhere in what it prints about the packet.
    printed: Vec<String>,
    /// Whether there is a datagram over IPv6 without a checksum. RFC 6935 allows that to tunnels, tcpdump to nobody.
    unchecked_over_ipv6: bool,
}

/// What a reader finds wrong, in small letters.
const COMPLAINTS: [&str; 10] = [
    "bad ",
    "malformed",
    "truncated",
    "invalid",
    "incorrect",
    "illegal",
    "wrong",
    "[|",
    "expert info (warning",
    "expert info (error",
];

impl Packet {
    fn data(name: &str) -> Self {
        Self { bytes: b"overlay".to_vec(), ..Self::empty(name) }
    }

    fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            bytes: Vec::new(),
            fields: BTreeMap::new(),
            printed: Vec::new(),
            unchecked_over_ipv6: false,
        }
    }

    /// The packet with a header in front.
    fn under(mut self, len: usize, emit: impl FnOnce(&mut [u8]) -> Result<(), Error>) -> Self {
        self.bytes.splice(..0, std::iter::repeat_n(0xff, len));
        emit(&mut self.bytes).expect("a header that fits");
        self
    }

    fn field(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.entry(name).or_default().push_front(value.to_string());
        self
    }

    fn prints(mut self, text: impl Into<String>) -> Self {
        self.printed.push(text.into());
        self
    }

    fn udp(self, port: u16, ends: Ends, checksum: bool) -> Self {
        self.udp_header(port, ends, checksum).ip(IpProtocol::UDP, ends)
    }

    fn udp_header(mut self, port: u16, ends: Ends, checksum: bool) -> Self {
        self.unchecked_over_ipv6 |= !checksum && ends.version() == IpVersion::V6;
        let header = UdpHeader { src_port: 50_000, dst_port: port };
        let addresses = ends.pseudo_header();
        self.under(header.header_len(), |bytes| header.emit(bytes, checksum.then_some(&addresses)))
            .field("udp.srcport", header.src_port)
            .field("udp.dstport", header.dst_port)
            .field("udp.checksum.status", if checksum { CHECKSUM_GOOD } else { CHECKSUM_ABSENT })
    }

    fn ip(self, protocol: IpProtocol, ends: Ends) -> Self {
        self.ip_with_hop_limit(protocol, ends, 64)
    }

    fn ip_with_hop_limit(self, protocol: IpProtocol, ends: Ends, hop_limit: u8) -> Self {
        match ends {
            Ends::V4(src, dst) => {
                let ttl = hop_limit;
                let header = Ipv4Header { ttl, ..Ipv4Header::new(src, dst, protocol) };
                self.under(header.header_len(), |bytes| header.emit(bytes))
                    .field("ip.src", src)
                    .field("ip.dst", dst)
                    .field("ip.proto", protocol.0)
                    .field("ip.checksum.status", CHECKSUM_GOOD)
            }
            Ends::V6(src, dst) => {
                let header = Ipv6Header { hop_limit, ..Ipv6Header::new(src, dst, protocol) };
                self.under(header.header_len(), |bytes| header.emit(bytes))
                    .field("ipv6.src", src)
                    .field("ipv6.dst", dst)
                    .field("ipv6.nxt", protocol.0)
            }
        }
    }

    fn ethernet(self, ether_type: EtherType) -> Self {
        let header = EthernetHeader { dst: MACS[1], src: MACS[0], ether_type };
        self.under(ethernet::LEN, |bytes| header.emit(bytes))
            .field("eth.src", header.src)
            .field("eth.dst", header.dst)
            .field("eth.type", format!("{:#06x}", ether_type.0))
    }
}

const CHECKSUM_GOOD: u8 = 1;
const CHECKSUM_ABSENT: u8 = 3;

/// Source and destination.
#[derive(Clone, Copy)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    fn outer(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::V4([192, 0, 2, 1].into(), [192, 0, 2, 2].into()),
            IpVersion::V6 => Self::V6(
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
            ),
        }
    }

    fn inner(version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => Self::V4([10, 1, 0, 1].into(), [10, 2, 0, 1].into()),
            IpVersion::V6 => Self::V6(
                Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1),
            ),
        }
    }

    fn version(self) -> IpVersion {
        match self {
            Self::V4(..) => IpVersion::V4,
            Self::V6(..) => IpVersion::V6,
        }
    }

    fn pseudo_header(self) -> PseudoHeader {
        match self {
            Self::V4(src, dst) => PseudoHeader::V4 { src, dst },
            Self::V6(src, dst) => PseudoHeader::V6 { src, dst },
        }
    }

    fn addresses(self) -> (IpAddr, IpAddr) {
        match self {
            Self::V4(src, dst) => (src.into(), dst.into()),
            Self::V6(src, dst) => (src.into(), dst.into()),
        }
    }

    /// As tcpdump prints a datagram between them.
    fn printed(self) -> String {
        let (src, dst) = self.addresses();
        format!("{src}.50000 > {dst}.9: [udp sum ok] UDP, length 7")
    }
}

/// An inner packet of either version.
fn inner_ip(name: &str, version: IpVersion) -> Packet {
    Packet::data(&format!("{name} of {version}")).udp(9, Ends::inner(version), true)
}

/// An inner frame with a packet of either version.
fn inner_frame(name: &str, version: IpVersion) -> Packet {
    inner_ip(name, version).ethernet(EtherType::ip(version))
}

fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    for inner in IpVersion::ALL {
        packets.push(inner_frame("plain", inner).prints(Ends::inner(inner).printed()));
        packets.extend(echoes(inner));
        packets.extend(icmp_errors(inner));
        packets.extend(tcp(inner));
        packets.extend(vlan(inner));
        for outer in IpVersion::ALL {
            let ends = Ends::outer(outer);
            for packet in [ip_in_ip(inner, ends), gre(inner, ends)].into_iter().flatten() {
                let packet = packet.prints(Ends::inner(inner).printed());
                packets.push(packet.ethernet(EtherType::ip(outer)));
            }
            for checksum in [true, false] {
                let encapsulated = [
                    vxlan(inner, ends, checksum),
                    vxlan_gpe(inner, ends, checksum),
                    geneve(inner, ends, checksum),
                ];
                for packet in encapsulated.into_iter().flatten() {
                    let packet = packet.prints(Ends::inner(inner).printed());
                    packets.push(packet.ethernet(EtherType::ip(outer)));
                }
                // tcpdump sees nothing but a datagram in these.
                for packet in in_udp(inner, ends, checksum) {
                    packets.push(packet.ethernet(EtherType::ip(outer)));
                }
            }
        }
    }
    packets.extend(arp());
    packets.extend(ndp());
    packets.extend([router_alert(), atomic_fragment()]);
    packets
}

fn arp() -> Vec<Packet> {
    let [asks, answers] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 2)];
    let request = ArpHeader::request(MACS[0], asks, answers);
    let reply = request.reply(MACS[1]).expect("an answer");
    [
        (request, format!("Request who-has {answers} tell {asks}")),
        (reply, format!("Reply {answers} is-at {}", MACS[1])),
    ]
    .into_iter()
    .map(|(header, printed)| {
        Packet::empty("ARP")
            .under(arp::LEN, |bytes| header.emit(bytes))
            .field("arp.opcode", header.operation.0)
            .field("arp.src.hw_mac", header.sender_mac)
            .field("arp.src.proto_ipv4", header.sender_ip)
            .field("arp.dst.hw_mac", header.target_mac)
            .field("arp.dst.proto_ipv4", header.target_ip)
            .prints(printed)
            .ethernet(EtherType::ARP)
    })
    .collect()
}

fn ndp() -> Vec<Packet> {
    let Ends::V6(asks, answers) = Ends::inner(IpVersion::V6) else { return Vec::new() };
    let advertisement = |router, solicited, overrides| NeighbourMessage::Advertisement {
        router,
        solicited,
        overrides,
    };
    [
        (NeighbourMessage::Solicitation, asks, ndp::solicited_node(answers)),
        (advertisement(true, false, false), answers, asks),
        (advertisement(false, true, false), answers, asks),
        (advertisement(false, false, true), answers, asks),
    ]
    .into_iter()
    .flat_map(|it| [(it, None), (it, Some(MACS[0]))])
    .map(|((message, src, dst), link_layer)| {
        let header = NeighbourHeader { message, target: answers, link_layer };
        let (ends, addresses) = (Ends::V6(src, dst), PseudoHeader::V6 { src, dst });
        let mut packet = Packet::empty(&format!("{header:?}"))
            .under(header.header_len(), |bytes| header.emit(bytes, &addresses))
            .field("icmpv6.checksum.status", CHECKSUM_GOOD)
            .field("icmpv6.code", 0);
        packet = match message {
            NeighbourMessage::Solicitation => packet
                .field("icmpv6.type", ndp::NEIGHBOUR_SOLICITATION)
                .field("icmpv6.nd.ns.target_address", answers)
                .prints(format!("neighbor solicitation, length {}", header.header_len()))
                .prints(format!("who has {answers}")),
            NeighbourMessage::Advertisement { router, solicited, overrides } => packet
                .field("icmpv6.type", ndp::NEIGHBOUR_ADVERTISEMENT)
                .field("icmpv6.nd.na.target_address", answers)
                .field("icmpv6.nd.na.flag.r", u8::from(router))
                .field("icmpv6.nd.na.flag.s", u8::from(solicited))
                .field("icmpv6.nd.na.flag.o", u8::from(overrides))
                .prints(format!("tgt is {answers}")),
        };
        if let Some(mac) = link_layer {
            packet = packet.field("icmpv6.opt.linkaddr", mac);
        }
        packet.ip_with_hop_limit(IpProtocol::ICMPV6, ends, ndp::HOP_LIMIT).ethernet(EtherType::IPV6)
    })
    .collect()
}

fn echoes(version: IpVersion) -> Vec<Packet> {
    let (identifier, sequence) = (0x0102, 26);
    let ends = Ends::inner(version);
    let packet = |name, kind: u8, emit: &dyn Fn(&mut [u8]) -> Result<(), Error>| {
        let packet = Packet::data(&format!("{name} of {version}"))
            .under(icmpv4::LEN, emit)
            .prints(format!("{name}, id {identifier}, seq {sequence}"));
        match version {
            IpVersion::V4 => packet
                .field("icmp.type", kind)
                .field("icmp.code", 0)
                .field("icmp.checksum.status", CHECKSUM_GOOD)
                .field("icmp.ident", identifier)
                .field("icmp.seq", sequence)
                .ip(IpProtocol::ICMP, ends),
            IpVersion::V6 => packet
                .field("icmpv6.type", kind)
                .field("icmpv6.code", 0)
                .field("icmpv6.checksum.status", CHECKSUM_GOOD)
                .field("icmpv6.echo.identifier", format!("{identifier:#06x}"))
                .field("icmpv6.echo.sequence_number", sequence)
                .ip(IpProtocol::ICMPV6, ends),
        }
        .ethernet(EtherType::ip(version))
    };
    match version {
        IpVersion::V4 => vec![
            packet("echo request", 8, &|it| {
                Icmpv4Header::EchoRequest { identifier, sequence }.emit(it)
            }),
            packet("echo reply", 0, &|it| {
                Icmpv4Header::EchoReply { identifier, sequence }.emit(it)
            }),
        ],
        IpVersion::V6 => {
            let addresses = ends.pseudo_header();
            vec![
                packet("echo request", 128, &|it| {
                    Icmpv6Header::EchoRequest { identifier, sequence }.emit(it, &addresses)
                }),
                packet("echo reply", 129, &|it| {
                    Icmpv6Header::EchoReply { identifier, sequence }.emit(it, &addresses)
                }),
            ]
        }
    }
}

/// The errors that a router sends, each about a datagram.
fn icmp_errors(version: IpVersion) -> Vec<Packet> {
    let (router, _) = Ends::outer(version).addresses();
    let (source, _) = Ends::inner(version).addresses();
    [
        (IcmpError::TimeExceeded, (11, 0), (3, 0)),
        (IcmpError::NetworkUnreachable, (3, 0), (1, 0)),
        (IcmpError::HostUnreachable, (3, 1), (1, 3)),
        (IcmpError::PortUnreachable, (3, 3), (1, 4)),
        (IcmpError::Prohibited, (3, 13), (1, 1)),
        (IcmpError::PacketTooBig { mtu: 1450 }, (3, 4), (2, 0)),
    ]
    .into_iter()
    .map(|(error, (v4_type, v4_code), (v6_type, v6_code))| {
        let mut packet = inner_ip(&format!("{error:?}"), version);
        let mut bytes = [0xff; icmp::MAX_LEN];
        let len = error.emit(&packet.bytes, router, &mut bytes).expect("an error that may be sent");
        packet.bytes = bytes[..len].to_vec();
        let too_big = matches!(error, IcmpError::PacketTooBig { .. });
        match version {
            IpVersion::V4 => {
                if too_big {
                    packet = packet.field("icmp.mtu", 1450);
                }
                packet
                    .field("icmp.type", v4_type)
                    .field("icmp.code", v4_code)
                    .field("icmp.checksum.status", CHECKSUM_GOOD)
                    .field("ip.src", router)
                    .field("ip.dst", source)
                    .field("ip.proto", IpProtocol::ICMP.0)
                    .field("ip.checksum.status", CHECKSUM_GOOD)
            }
            IpVersion::V6 => {
                if too_big {
                    packet = packet.field("icmpv6.mtu", 1450);
                }
                packet
                    .field("icmpv6.type", v6_type)
                    .field("icmpv6.code", v6_code)
                    .field("icmpv6.checksum.status", CHECKSUM_GOOD)
                    .field("ipv6.src", router)
                    .field("ipv6.dst", source)
                    .field("ipv6.nxt", IpProtocol::ICMPV6.0)
            }
        }
        .prints(format!("{router} > {source}: "))
        .ethernet(EtherType::ip(version))
    })
    .collect()
}

fn tcp(version: IpVersion) -> Vec<Packet> {
    let ends = Ends::inner(version);
    // MSS 1,410, SACK permitted, timestamps, no operation, window scale 7; and a SACK of one block.
    let syn = b"\x02\x04\x05\x82\x04\x02\x08\x0a\0\0\0\x07\0\0\0\0\x01\x03\x03\x07";
    let sack = b"\x01\x01\x05\x0a\x05\x06\x08\x10\x05\x06\x08\x20";
    [
        (TcpFlags::SYN, &syn[..], "[S]", "options [mss 1410,sackOK,TS val 7 ecr 0,nop,wscale 7]"),
        (TcpFlags::PSH | TcpFlags::ACK, &[], "[P.]", "length 7"),
        (TcpFlags::ACK | TcpFlags::ECE, sack, "[.E]", "sack 1 {"),
    ]
    .into_iter()
    .map(|(flags, options, letters, printed)| {
        let header = TcpHeader {
            src_port: 50_000,
            dst_port: 80,
            sequence: 0x0102_0304,
            acknowledgment: if flags.contains(TcpFlags::ACK) { 0x0506_0708 } else { 0 },
            flags,
            window: 65_000,
            urgent: 0,
            options,
        };
        let mut packet = Packet::data(&format!("{header:?}"))
            .under(header.header_len(), |bytes| header.emit(bytes, &ends.pseudo_header()))
            .field("tcp.srcport", header.src_port)
            .field("tcp.dstport", header.dst_port)
            .field("tcp.seq_raw", header.sequence)
            .field("tcp.ack_raw", header.acknowledgment)
            .field("tcp.flags", format!("{:#06x}", flags.bits()))
            .field("tcp.window_size_value", header.window)
            .field("tcp.checksum.status", CHECKSUM_GOOD)
            .prints(format!("Flags {letters}, cksum "))
            .prints("(correct)")
            .prints(printed);
        if flags == TcpFlags::SYN {
            packet = packet
                .field("tcp.options.mss_val", 1410)
                .field("tcp.options.timestamp.tsval", 7)
                .field("tcp.options.wscale.shift", 7);
        }
        packet.ip(IpProtocol::TCP, ends).ethernet(EtherType::ip(version))
    })
    .collect()
}

fn vlan(version: IpVersion) -> Vec<Packet> {
    let tag = |packet: Packet, header: VlanHeader, [vid, pcp, dei]: [&'static str; 3]| {
        packet
            .under(vlan::LEN, |bytes| header.emit(bytes))
            .field(vid, header.vid)
            .field(pcp, header.pcp)
            .field(dei, u8::from(header.dei))
            .prints(format!("vlan {}, p {}", header.vid, header.pcp))
    };
    let ether_type = EtherType::ip(version);
    let inner = |name| {
        let header = VlanHeader { pcp: 3, dei: false, vid: 5, ether_type };
        tag(inner_ip(name, version), header, ["vlan.id", "vlan.priority", "vlan.dei"])
            .field("vlan.etype", format!("{:#06x}", ether_type.0))
    };
    let header = VlanHeader { pcp: 7, dei: true, vid: 4094, ether_type: EtherType::VLAN };
    let names = ["ieee8021ad.id", "ieee8021ad.priority", "ieee8021ad.dei"];
    let outer = tag(inner("two tags"), header, names);
    let packets = [inner("a tag").ethernet(EtherType::VLAN), outer.ethernet(EtherType::QINQ)];
    packets.map(|packet| packet.prints(Ends::inner(version).printed())).into()
}

/// A packet with IPv4 options.
fn router_alert() -> Packet {
    let Ends::V4(src, dst) = Ends::inner(IpVersion::V4) else { unreachable!("IPv4 is IPv4") };
    let header =
        Ipv4Header { options: b"\x94\x04\0\0", ..Ipv4Header::new(src, dst, IpProtocol::UDP) };
    let ends = Ends::V4(src, dst);
    Packet::data("a router alert")
        .udp_header(9, ends, true)
        .under(header.header_len(), |bytes| header.emit(bytes))
        .field("ip.src", src)
        .field("ip.dst", dst)
        .field("ip.proto", IpProtocol::UDP.0)
        .field("ip.checksum.status", CHECKSUM_GOOD)
        .field("ip.opt.ra", 0)
        .prints("options (RA)")
        .prints(ends.printed())
        .ethernet(EtherType::IPV4)
}

/// A fragment that is a whole packet: RFC 6946.
fn atomic_fragment() -> Packet {
    let ends = Ends::inner(IpVersion::V6);
    let header = FragmentHeader {
        next_header: IpProtocol::UDP,
        fragment_offset: 0,
        more_fragments: false,
        identification: 0x0102_0304,
    };
    Packet::data("an atomic fragment")
        .udp_header(9, ends, true)
        .under(header.header_len(), |bytes| header.emit(bytes))
        .field("ipv6.fraghdr.nxt", header.next_header.0)
        .field("ipv6.fraghdr.ident", format!("{:#010x}", header.identification))
        .prints("frag (0x01020304:0|15)")
        .ip(IpProtocol::FRAGMENT, ends)
        .ethernet(EtherType::IPV6)
}

fn ip_in_ip(inner: IpVersion, outer: Ends) -> Vec<Packet> {
    let protocol = IpProtocol::ip(inner);
    let mut packets = vec![inner_ip("IP in IP", inner).ip(protocol, outer)];
    if outer.version() == IpVersion::V6 {
        let limit = ip_in_ip::LINUX_ENCAPSULATION_LIMIT;
        let options = &Ipv6Option::tunnel_encapsulation_limit(limit);
        let header = OptionsHeader { next_header: protocol, options };
        let packet = inner_ip("IP in IP with a limit", inner)
            .under(ip_in_ip::ENCAPSULATION_LIMIT_LEN, |bytes| header.emit(bytes))
            .field("ipv6.dstopts.nxt", protocol.0)
            .field("ipv6.opt.tel", limit)
            .ip(IpProtocol::DESTINATION_OPTIONS, outer);
        packets.push(packet);
    }
    packets
}

fn gre(inner: IpVersion, outer: Ends) -> Vec<Packet> {
    let mut packets = Vec::new();
    for bits in 0..16 {
        let bridged = bits & 8 != 0;
        let header = GreHeader {
            protocol: if bridged { EtherType::ETHERNET } else { EtherType::ip(inner) },
            checksum: bits & 1 != 0,
            key: (bits & 2 != 0).then_some(0xdead_beef),
            sequence: (bits & 4 != 0).then_some(0x0102_0304),
        };
        let name = format!("{header:?}");
        let packet = if bridged { inner_frame(&name, inner) } else { inner_ip(&name, inner) };
        let mut packet = packet
            .under(header.header_len(), |bytes| header.emit(bytes))
            .field("gre.proto", format!("{:#06x}", header.protocol.0));
        if header.checksum {
            packet = packet.field("gre.checksum.status", CHECKSUM_GOOD);
        }
        if let Some(key) = header.key {
            packet =
                packet.field("gre.key", format!("{key:#010x}")).prints(format!("key={key:#x}"));
        }
        if let Some(sequence) = header.sequence {
            packet =
                packet.field("gre.sequence_number", sequence).prints(format!("seq {sequence}"));
        }
        packets.push(packet.ip(IpProtocol::GRE, outer));
    }
    packets
}

fn vxlan(inner: IpVersion, outer: Ends, checksum: bool) -> Vec<Packet> {
    let policy = |id, dont_learn, applied| Some(GroupPolicy { id, dont_learn, applied });
    [None, policy(0x0102, false, false), policy(0xffff, true, false), policy(1, false, true)]
        .into_iter()
        .map(|group_policy| {
            let header = VxlanHeader { vni: VNI, group_policy };
            let flag = |on: bool| u8::from(on);
            let GroupPolicy { id, dont_learn, applied } =
                group_policy.unwrap_or(GroupPolicy { id: 0, dont_learn: false, applied: false });
            inner_frame(&format!("{header:?}"), inner)
                .under(vxlan::LEN, |bytes| header.emit(bytes))
                .field("vxlan.vni", VNI)
                .field("vxlan.flag_g", flag(group_policy.is_some()))
                .field("vxlan.flag_d", flag(dont_learn))
                .field("vxlan.flag_a", flag(applied))
                .field("vxlan.gbp", id)
                .prints(format!("vni {VNI}"))
                .udp(vxlan::PORT, outer, checksum)
        })
        .collect()
}

fn vxlan_gpe(inner: IpVersion, outer: Ends, checksum: bool) -> Vec<Packet> {
    let ip = VxlanGpeHeader::new(VNI, NextProtocol::ip(inner));
    let frame = VxlanGpeHeader::new(VNI, NextProtocol::ETHERNET);
    [(ip, inner_ip("GPE", inner)), (frame, inner_frame("GPE", inner))]
        .into_iter()
        .map(|(header, packet)| {
            packet
                .under(vxlan_gpe::LEN, |bytes| header.emit(bytes))
                .field("vxlan.vni", VNI)
                .field("vxlan.next_proto", header.next_protocol.expect("a protocol").0)
                .prints(format!("vni {VNI}"))
                .udp(vxlan_gpe::PORT, outer, checksum)
        })
        .collect()
}

fn geneve(inner: IpVersion, outer: Ends, checksum: bool) -> Vec<Packet> {
    let option = |class, option_type, data| GeneveOption { class, option_type, data };
    let long = [0x5a; geneve::MAX_OPTION_DATA];
    let sets = [
        vec![],
        vec![option(0x0102, 0x01, b"four")],
        vec![option(0x0102, 0x81, b"critical"), option(0xffff, 0x7f, b"")],
        vec![option(0x0102, 0x01, &long), option(0x0102, 0x02, &long[..120])],
    ];
    sets.iter()
        .map(|set| {
            let mut buffer = [0xff; geneve::MAX_OPTIONS];
            let options = GeneveOptions::emit(set, &mut buffer).expect("options that fit");
            let header = GeneveHeader { options, ..GeneveHeader::new(VNI, EtherType::ETHERNET) };
            let mut packet = inner_frame(&format!("{header:?}"), inner)
                .under(header.header_len(), |bytes| header.emit(bytes))
                .field("geneve.vni", format!("{:#08x}", VNI.get()))
                .field("geneve.proto_type", "0x6558")
                .field("geneve.flags.critical", u8::from(options.any_critical()))
                .prints(format!("vni {:#x}", VNI.get()));
            for option in set.iter().rev() {
                packet = packet
                    .field("geneve.option.class", format!("{:#06x}", option.class))
                    .field("geneve.option.type", format!("{:#04x}", option.option_type))
                    .field("geneve.option.length", geneve::OPTION_LEN + option.data.len());
            }
            // Of all options, before that of each.
            packet.field("geneve.option.length", options.as_bytes().len()).udp(
                geneve::PORT,
                outer,
                checksum,
            )
        })
        .collect()
}

fn in_udp(inner: IpVersion, outer: Ends, checksum: bool) -> Vec<Packet> {
    let plain = GueHeader::new(IpProtocol::ip(inner));
    let extended = GueHeader { extensions: b"extension fields", ..plain };
    let gue = [plain, extended].map(|header| {
        inner_ip(&format!("{header:?}"), inner)
            .under(header.header_len(), |bytes| header.emit(bytes))
            .udp(gue::PORT, outer, checksum)
    });
    let bare = [("Flannel's udp", ip_in_udp::FLANNEL_PORT), ("GUE, variant 1", gue::PORT)]
        .map(|(name, port)| inner_ip(name, inner).udp(port, outer, checksum));
    gue.into_iter().chain(bare).collect()
}

/// The same packets with a wrong last byte, which the innermost checksum covers. ARP has none.
fn broken_packets() -> Vec<Packet> {
    let mut packets = packets();
    packets.retain(|packet| !packet.fields.contains_key("arp.opcode"));
    for packet in &mut packets {
        *packet.bytes.last_mut().expect("a packet") ^= 0x01;
    }
    packets
}

#[test]
fn tcpdump_reads_every_packet() -> Result<(), String> {
    if !is_there("tcpdump") {
        return overlay_lab::cannot_run("tcpdump reads every packet", "tcpdump", "no such program");
    }
    for (packet, text) in printed_by_tcpdump("tcpdump", &packets()) {
        let (without, complaint) = ("[bad udp cksum 0x0000 ->", packet.unchecked_over_ipv6);
        assert_eq!(text.matches(without).count(), usize::from(complaint), "{}", packet.name);
        assert_eq!(complaints(&text.replace(without, "")), NONE, "{}: {text}", packet.name);
        for expected in &packet.printed {
            assert!(text.contains(expected), "{}: no {expected:?} in {text}", packet.name);
        }
    }
    for (packet, text) in printed_by_tcpdump("tcpdump-broken", &broken_packets()) {
        // It sees no more than the outer datagram of some, and takes fragments as they are.
        let is_fragment = packet.fields.contains_key("ipv6.fraghdr.ident");
        if !packet.printed.is_empty() && !packet.unchecked_over_ipv6 && !is_fragment {
            assert_ne!(complaints(&text), NONE, "{}: {text}", packet.name);
        }
    }
    Ok(())
}

/// What tcpdump prints about each of the packets.
fn printed_by_tcpdump<'p>(name: &str, packets: &'p [Packet]) -> Vec<(&'p Packet, String)> {
    let text =
        Pcap::write(name, packets).read_by(tcpdump().args(["-nn", "-vvv", "-e", "-tt", "-r", "-"]));
    let mut rest = text.as_str();
    let mut printed = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        // The time of a packet is its number; what is about it ends where what is about the next begins.
        assert!(rest.starts_with(&format!("{number}.000000 ")), "{}: {rest}", packet.name);
        let end = rest.find(&format!("\n{}.000000 ", number + 1)).map_or(rest.len(), |at| at + 1);
        let (text, next) = rest.split_at(end);
        printed.push((packet, text.to_owned()));
        rest = next;
    }
    assert_eq!(rest, "");
    printed
}

#[test]
fn tshark_finds_every_field() -> Result<(), String> {
    if !is_there("tshark") {
        return overlay_lab::cannot_run("tshark finds every field", "tshark", "no such program");
    }
    let packets = packets();
    let file = Pcap::write("tshark", &packets);
    let names: BTreeSet<_> = packets.iter().flat_map(|packet| packet.fields.keys()).collect();
    let mut command = file.tshark();
    command.args(["-T", "fields", "-E", "separator=;", "-E", "occurrence=a", "-E", "aggregator=,"]);
    for name in &names {
        command.args(["-e", name]);
    }
    let text = file.read_by(&mut command);
    assert_eq!(text.lines().count(), packets.len());
    for (packet, line) in packets.iter().zip(text.lines()) {
        let found: Vec<_> = names.iter().zip(line.split(';')).collect();
        let expected: Vec<_> = names
            .iter()
            .map(|name| packet.fields.get(**name).cloned().unwrap_or_default())
            .map(|values| Vec::from(values).join(","))
            .collect();
        let expected: Vec<_> = names.iter().zip(expected.iter().map(String::as_str)).collect();
        assert_eq!(found, expected, "{}", packet.name);
    }
    Ok(())
}

#[test]
fn tshark_has_no_complaint() -> Result<(), String> {
    if !is_there("tshark") {
        return overlay_lab::cannot_run("tshark has no complaint", "tshark", "no such program");
    }
    for (packet, tree) in trees_of_tshark("tshark-tree", &packets()) {
        assert_eq!(complaints(&tree), NONE, "{}: {tree}", packet.name);
    }
    for (packet, tree) in trees_of_tshark("tshark-broken", &broken_packets()) {
        assert_ne!(complaints(&tree), NONE, "{}: {tree}", packet.name);
    }
    Ok(())
}

/// What tshark prints about each of the packets.
fn trees_of_tshark<'p>(name: &str, packets: &'p [Packet]) -> Vec<(&'p Packet, String)> {
    let file = Pcap::write(name, packets);
    let text = file.read_by(file.tshark().arg("-V"));
    let trees: Vec<_> = text.split("\nFrame ").map(str::to_owned).collect();
    assert_eq!(trees.len(), packets.len());
    packets.iter().zip(trees).collect()
}

const NONE: [&str; 0] = [];

fn complaints(text: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase();
    COMPLAINTS.into_iter().filter(|complaint| lower.contains(complaint)).collect()
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Run by user 0, tcpdump becomes a user that a user namespace may not have. One namespace deeper it is run by nobody.
fn tcpdump() -> Command {
    let deeper = Command::new("unshare").args(["--user", "true"]).stderr(Stdio::null()).status();
    if deeper.is_ok_and(|status| status.success()) {
        let mut command = Command::new("unshare");
        command.args(["--user", "tcpdump"]);
        return command;
    }
    Command::new("tcpdump")
}

/// tshark has no dissector for GUE. This one knows as much as is needed to hand the inner packet to one that it has.
const GUE_DISSECTOR: &str = r#"
local gue = Proto("gue", "Generic UDP Encapsulation")
function gue.dissector(buffer, pinfo, tree)
  local skipped = 0
  if buffer(0, 1):bitfield(0, 2) == 0 then
    assert(buffer(0, 1):bitfield(2, 1) == 0, "a control message")
    local by_protocol = DissectorTable.get("ip.proto")
    skipped = 4 + 4 * buffer(0, 1):bitfield(3, 5)
    by_protocol:try(buffer(1, 1):uint(), buffer(skipped):tvb(), pinfo, tree)
  else
    Dissector.get("ip"):call(buffer, pinfo, tree)
  end
end
DissectorTable.get("udp.port"):add(6080, gue)
"#;

/// A file of packets, which ends with the value.
struct Pcap {
    path: PathBuf,
    dissector: PathBuf,
}

impl Pcap {
    fn write(name: &str, packets: &[Packet]) -> Self {
        let path =
            std::env::temp_dir().join(format!("overlay-wire-{}-{name}.pcap", std::process::id()));
        let mut file =
            Vec::from(*b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0");
        for (number, Packet { bytes, .. }) in packets.iter().enumerate() {
            let length = bytes.len() as u32;
            for word in [number as u32, 0, length, length] {
                file.extend(word.to_le_bytes());
            }
            file.extend(bytes);
        }
        std::fs::write(&path, file).expect("a file for packets");
        let dissector = path.with_extension("lua");
        std::fs::write(&dissector, GUE_DISSECTOR).expect("a file for a dissector");
        Self { path, dissector }
    }

    fn tshark(&self) -> Command {
        let mut command = Command::new("tshark");
        command
            .args(["-n", "-r", "-", "-X"])
            .arg(format!("lua_script:{}", self.dissector.display()));
        for preference in [
            "ip.check_checksum:TRUE",
            "udp.check_checksum:TRUE",
            "tcp.check_checksum:TRUE",
            // These are no conversations.
            "tcp.analyze_sequence_numbers:FALSE",
            "udp.ignore_ipv6_zero_checksum:TRUE",
        ] {
            command.args(["-o", preference]);
        }
        command.args(["-d", &format!("udp.port=={},ip", ip_in_udp::FLANNEL_PORT)]);
        command
    }

    fn read_by(&self, command: &mut Command) -> String {
        let input = File::open(&self.path).expect("the file just written");
        let output = command.stdin(input).output().expect("a program that is there");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
        assert!(!errors.to_lowercase().contains("lua"), "{command:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Pcap {
    fn drop(&mut self) {
        let remove = |path: &Path| drop(std::fs::remove_file(path));
        remove(&self.path);
        remove(&self.dissector);
    }
}
