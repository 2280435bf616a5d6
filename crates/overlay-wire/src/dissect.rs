//! From bytes to layers to text: what tcpdump(8) does, without memory of its own.
//!
//! A [`Dissector`] says where packets begin and which UDP ports mean what. [`Dissector::dissect`] looks at nothing yet;
//! [`Dissection::layers`] walks from header to header, through encapsulations nested to any depth below a bound.
//!
//! ```
//! use overlay_wire::dissect::{Dissector, Kind, Start};
//!
//! // An echo request, carried by IP-in-IP.
//! let packet = b"\x45\0\0\x30\0\0\x40\0\x40\x04\x66\xa1\xc0\xa8\x20\xf6\xc0\xa8\x20\xf5\
//!     \x45\0\0\x1c\0\0\x40\0\x40\x01\xe1\xed\xac\xf6\0\x02\xac\xf5\0\x02\
//!     \x08\0\xf1\x39\x06\xac\0\x1a";
//! let packet = Dissector::new(Start::Ip).dissect(packet);
//! assert_eq!(
//!     packet.to_string(),
//!     "IP 192.168.32.246 > 192.168.32.245: IP 172.246.0.2 > 172.245.0.2: \
//!      ICMP echo request, id 1708, seq 26, length 8"
//! );
//! assert!(matches!(packet.layers().next().unwrap().kind, Kind::Ipv4(_)));
//!
//! let outermost = packet.outermost().unwrap();
//! assert_eq!((outermost.overhead(), outermost.inner_len), (20, 28));
//! ```
//!
//! # As tcpdump prints it
//!
//! [`Display`](fmt::Display) prints one line, that of `tcpdump -n -t -S`, and [`Dissector::link_level`] that of
//! `tcpdump -n -t -S -e`. These are the differences:
//!
//! * Everything is on one line. Where tcpdump breaks it, behind a VXLAN header, there is a colon.
//! * Headers that are cut or lie print as `[|udp]`, by the name of the header, and why; tcpdump's words for it vary.
//!   For a length beyond the end of the packet the words are tcpdump's.
//! * Which port means what is for the [`Dissector`] to say: 8472 is Linux's VXLAN, 6080 GUE, 8285 IP in UDP.
//!   Only destination ports count, because encapsulations draw source ports from the whole range.
//! * Applications (DNS, HTTP) are not looked into, nor is what is neither IP nor ARP: `ethertype Unknown (0x88cc)`. No
//!   bytes are dumped.
//! * Of routing headers and of rare options, ICMP messages and ARP operations there is less, by number.
//! * Packets that ICMP errors are about are no layers; what tcpdump tells of them is told, and the tree tells more.
//! * Numbers of TCP are those in the header, not relative to the first ones.
//!
//! `{:#}` prints a tree instead: a line per layer, deeper ones indented, with the fields and whether checksums hold.

use core::fmt;

use crate::arp::{self, ArpPacket};
use crate::checksum::{self, PseudoHeader};
use crate::error::Error;
use crate::ethernet::{self, EtherType, EthernetFrame};
use crate::field;
use crate::framing::Framing;
use crate::geneve::{self, GenevePacket};
use crate::gre::GrePacket;
use crate::gue::{self, GueContent, GuePacket};
use crate::icmpv4::{self, Icmpv4Packet};
use crate::icmpv6::{self, Icmpv6Packet};
use crate::ip::{self, IpProtocol, IpVersion};
use crate::ip_in_udp;
use crate::ipv4::Ipv4Packet;
use crate::ipv6::extension::Extension;
use crate::ipv6::{self, Ipv6Packet};
use crate::tcp::TcpPacket;
use crate::udp::{self, UdpPacket};
use crate::vlan::{self, VlanPacket};
use crate::vxlan::{self, VxlanPacket};
use crate::vxlan_gpe::{self, NextProtocol, VxlanGpePacket};

mod line;
mod outermost;
mod tree;

pub use outermost::Outermost;

/// Where the bytes of a packet begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With an Ethernet header.
    Ethernet,
    /// With an IP header of either version.
    Ip,
    /// With what this type says, without a link-layer header: "cooked" captures tell the type beside the packet.
    EtherType(EtherType),
}

impl From<Framing> for Start {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Ethernet => Self::Ethernet,
            Framing::Ip => Self::Ip,
        }
    }
}

/// What a UDP datagram may carry of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UdpPayload {
    /// An Ethernet frame behind a VXLAN header (RFC 7348).
    Vxlan,
    /// A frame or a packet behind a VXLAN-GPE header (draft-ietf-nvo3-vxlan-gpe-13).
    VxlanGpe,
    /// A frame or a packet behind a Geneve header (RFC 8926).
    Geneve,
    /// A packet behind a GUE header, or an IP packet alone (draft-ietf-intarea-gue-09).
    Gue,
    /// An IP packet and nothing else, as Flannel's udp backend and FOU send it.
    Ip,
}

/// The destination ports that mean something unless a [`Dissector`] is told otherwise.
pub const PORTS: &[(u16, UdpPayload)] = &[
    (vxlan::PORT, UdpPayload::Vxlan),
    (vxlan::LINUX_PORT, UdpPayload::Vxlan),
    (vxlan_gpe::PORT, UdpPayload::VxlanGpe),
    (geneve::PORT, UdpPayload::Geneve),
    (gue::PORT, UdpPayload::Gue),
    (ip_in_udp::FLANNEL_PORT, UdpPayload::Ip),
];

/// How many layers are looked at unless a [`Dissector`] is told otherwise: seven VXLAN tunnels in each other.
pub const MAX_LAYERS: usize = 32;

/// How to read packets.
#[derive(Clone, Copy, Debug)]
pub struct Dissector<'p> {
    start: Start,
    ports: &'p [(u16, UdpPayload)],
    max_layers: usize,
    link_level: bool,
}

impl Dissector<'static> {
    /// Reads packets that begin with this header, with the usual [`PORTS`] and no more than [`MAX_LAYERS`] layers.
    #[must_use]
    pub const fn new(start: Start) -> Self {
        Self { start, ports: PORTS, max_layers: MAX_LAYERS, link_level: false }
    }
}

impl<'p> Dissector<'p> {
    /// With these destination ports in place of [`PORTS`]. The first that matches counts.
    #[must_use]
    pub const fn ports<'q>(self, ports: &'q [(u16, UdpPayload)]) -> Dissector<'q> {
        let Self { start, max_layers, link_level, ports: _ } = self;
        Dissector { start, ports, max_layers, link_level }
    }

    /// Looks at this many layers; behind them is [`Kind::TooDeep`].
    #[must_use]
    pub const fn max_layers(self, max_layers: usize) -> Self {
        Self { max_layers, ..self }
    }

    /// Prints Ethernet headers in the line, too, as `tcpdump -e` does.
    #[must_use]
    pub const fn link_level(self, link_level: bool) -> Self {
        Self { link_level, ..self }
    }

    /// A whole packet, to be looked at.
    #[must_use]
    pub const fn dissect<'a>(&self, bytes: &'a [u8]) -> Dissection<'a, 'p> {
        self.dissect_cut(bytes, bytes.len())
    }

    /// The beginning of a packet that had `length` bytes on the wire, to be looked at.
    #[must_use]
    pub const fn dissect_cut<'a>(&self, bytes: &'a [u8], length: usize) -> Dissection<'a, 'p> {
        let length = if length < bytes.len() { bytes.len() } else { length };
        Dissection { dissector: *self, bytes, length }
    }
}

/// A packet, to be looked at layer by layer or to be printed.
#[derive(Clone, Copy, Debug)]
pub struct Dissection<'a, 'p> {
    dissector: Dissector<'p>,
    bytes: &'a [u8],
    length: usize,
}

impl<'a, 'p> Dissection<'a, 'p> {
    /// The bytes that are looked at.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes the packet had on the wire.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Whether there were more bytes on the wire than there are here.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.length > self.bytes.len()
    }

    /// The layers, the outermost first.
    #[must_use]
    pub const fn layers(&self) -> Layers<'a, 'p> {
        Layers {
            ports: self.dissector.ports,
            left: self.dissector.max_layers,
            next: match self.dissector.start {
                Start::Ethernet => Next::Ethernet,
                Start::Ip => Next::Ip,
                Start::EtherType(ether_type) => Next::of_ether_type(ether_type),
            },
            bytes: self.bytes,
            offset: 0,
            total: self.length,
            addresses: None,
            in_fragment: false,
        }
    }

    /// The first layer that cannot be read, if there is one.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        self.layers().find_map(|layer| match layer.kind {
            Kind::Malformed(error) => Some(error),
            _ => None,
        })
    }

    /// The outermost encapsulation, if there is one.
    #[must_use]
    pub fn outermost(&self) -> Option<Outermost> {
        Outermost::of(self.layers())
    }
}

impl fmt::Display for Dissection<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            tree::write(f, self.layers())
        } else {
            line::write(f, self.layers(), self.dissector.link_level)
        }
    }
}

/// A header in a packet, or what is behind the last one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Layer<'a> {
    /// Where in the packet it begins, in bytes.
    pub offset: usize,
    /// Bytes of its header; 0 when this is no header.
    pub header_len: usize,
    /// Bytes of header and payload as the layers around it say. [`bytes`](Self::bytes) may be fewer, in a packet that
    /// is cut, or because this layer has its own idea of its length.
    pub length: usize,
    /// Its header and its payload, as far as they are there.
    pub bytes: &'a [u8],
    /// Whether a header in front of it says that this is the first fragment of a packet, in which case lengths exceed
    /// what is there.
    pub in_fragment: bool,
    /// What it is.
    pub kind: Kind<'a>,
    addresses: Option<PseudoHeader>,
}

/// What a [`Layer`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind<'a> {
    /// An Ethernet frame.
    Ethernet(EthernetFrame<'a>),
    /// A VLAN tag.
    Vlan(VlanPacket<'a>),
    /// An ARP packet.
    Arp(ArpPacket<'a>),
    /// An IPv4 packet.
    Ipv4(Ipv4Packet<'a>),
    /// An IPv6 packet.
    Ipv6(Ipv6Packet<'a>),
    /// An extension header of IPv6.
    Extension(Extension<'a>),
    /// A UDP datagram.
    Udp(UdpPacket<'a>),
    /// A TCP segment.
    Tcp(TcpPacket<'a>),
    /// An ICMP message.
    Icmpv4(Icmpv4Packet<'a>),
    /// An ICMPv6 message, neighbour discovery among them. [`NeighbourPacket`](crate::ndp::NeighbourPacket) reads that
    /// from the layer's bytes.
    Icmpv6(Icmpv6Packet<'a>),
    /// A VXLAN packet.
    Vxlan(VxlanPacket<'a>),
    /// A VXLAN-GPE packet.
    VxlanGpe(VxlanGpePacket<'a>),
    /// A Geneve packet.
    Geneve(GenevePacket<'a>),
    /// A GRE packet.
    Gre(GrePacket<'a>),
    /// A GUE packet of variant 0; variant 1 has no header.
    Gue(GuePacket<'a>),
    /// Bytes that are not looked into.
    Payload,
    /// Bytes that are not the header that should be here.
    Malformed(Error),
    /// More layers than the [`Dissector`] looks at.
    TooDeep,
}

impl Layer<'_> {
    /// Its usual name: `IPv4`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ethernet(_) => "Ethernet",
            Kind::Vlan(_) => "VLAN",
            Kind::Arp(_) => "ARP",
            Kind::Ipv4(_) => "IPv4",
            Kind::Ipv6(_) => "IPv6",
            Kind::Extension(Extension::HopByHop(_)) => "hop-by-hop options",
            Kind::Extension(Extension::Routing(_)) => "routing header",
            Kind::Extension(Extension::Fragment(_)) => "fragment header",
            Kind::Extension(Extension::Authentication(_)) => "authentication header",
            Kind::Extension(Extension::DestinationOptions(_)) => "destination options",
            Kind::Udp(_) => "UDP",
            Kind::Tcp(_) => "TCP",
            Kind::Icmpv4(_) => "ICMP",
            Kind::Icmpv6(_) => "ICMPv6",
            Kind::Vxlan(_) => "VXLAN",
            Kind::VxlanGpe(_) => "VXLAN-GPE",
            Kind::Geneve(_) => "Geneve",
            Kind::Gre(_) => "GRE",
            Kind::Gue(_) => "GUE",
            Kind::Payload => "payload",
            Kind::Malformed(error) => error.header,
            Kind::TooDeep => "too deep",
        }
    }

    /// How many bytes it should have beyond what the layers around it leave: more than 0 when its length is wrong, or
    /// in the first fragment of a packet.
    #[must_use]
    pub const fn missing(&self) -> usize {
        match self.claimed_len() {
            Some(claimed) => claimed.saturating_sub(self.length),
            None => 0,
        }
    }

    /// Bytes of header and payload without the padding behind them, as this layer says, or as the layers around it say if
    /// that is less.
    #[must_use]
    pub const fn unpadded_len(&self) -> usize {
        match self.claimed_len() {
            Some(claimed) if claimed < self.length => claimed,
            _ => self.length,
        }
    }

    /// Bytes of header and payload as its header says, if that says so.
    const fn claimed_len(&self) -> Option<usize> {
        match self.kind {
            Kind::Ipv4(packet) => Some(packet.total_length() as usize),
            Kind::Ipv6(packet) => Some(ipv6::LEN + packet.payload_length() as usize),
            Kind::Udp(packet) => Some(packet.length() as usize),
            _ => None,
        }
    }

    /// Its checksum, if it has one.
    #[must_use]
    pub fn checksum(&self) -> Option<ChecksumState> {
        match self.kind {
            Kind::Ipv4(packet) => {
                let header = field::at_most(self.bytes, self.header_len);
                Some(ChecksumState::of(packet.checksum(), checksum::of(header)))
            }
            Kind::Udp(packet) if packet.checksum() == 0 => Some(ChecksumState::None),
            Kind::Udp(packet) => {
                let length = packet.length().into();
                Some(self.with_addresses(packet.checksum(), length, IpProtocol::UDP))
            }
            Kind::Tcp(packet) => {
                Some(self.with_addresses(packet.checksum(), self.length, IpProtocol::TCP))
            }
            Kind::Icmpv4(packet) => Some(self.over_all(packet.checksum())),
            Kind::Icmpv6(packet) => {
                Some(self.with_addresses(packet.checksum(), self.length, IpProtocol::ICMPV6))
            }
            Kind::Gre(packet) => Some(self.over_all(packet.checksum()?)),
            _ => None,
        }
    }

    /// A checksum over the first `length` bytes and the pseudo-header.
    fn with_addresses(&self, found: u16, length: usize, protocol: IpProtocol) -> ChecksumState {
        let (Some(addresses), Some(bytes), Ok(length), false) =
            (&self.addresses, self.bytes.get(..length), u32::try_from(length), self.in_fragment)
        else {
            return ChecksumState::Unknown(found);
        };
        let pseudo = checksum::Checksum::new().pseudo_header(addresses, protocol, length);
        match ChecksumState::of(found, pseudo.bytes(bytes).finish()) {
            ChecksumState::Wrong { .. } if found == !pseudo.finish() => {
                ChecksumState::Offloaded(found)
            }
            state => state,
        }
    }

    /// A checksum over all bytes.
    fn over_all(&self, found: u16) -> ChecksumState {
        if self.bytes.len() < self.length || self.in_fragment {
            return ChecksumState::Unknown(found);
        }
        ChecksumState::of(found, checksum::of(self.bytes))
    }
}

/// Whether a checksum holds. Prints as the number and a remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChecksumState {
    /// The sender did not compute one.
    None,
    /// It is right.
    Correct(u16),
    /// It is wrong.
    Wrong {
        /// What it is.
        found: u16,
        /// What it should be.
        expected: u16,
    },
    /// It covers the pseudo-header only: the kernel left the rest to the network card.
    Offloaded(u16),
    /// Not all of what it covers is there.
    Unknown(u16),
}

impl ChecksumState {
    /// From the checksum there is, and that of everything it covers, itself included.
    const fn of(found: u16, over_all: u16) -> Self {
        if over_all == 0 {
            return Self::Correct(found);
        }
        // Taking the field out of the sum leaves what it should have been made from.
        Self::Wrong { found, expected: checksum::update(over_all, found, 0) }
    }
}

impl fmt::Display for ChecksumState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Correct(found) => write!(f, "{found:#06x} (correct)"),
            Self::Wrong { found, expected } => {
                write!(f, "{found:#06x} (wrong, expected {expected:#06x})")
            }
            Self::Offloaded(found) => write!(f, "{found:#06x} (left to the network card)"),
            Self::Unknown(found) => write!(f, "{found:#06x} (cannot be checked)"),
        }
    }
}

/// The layers of a packet, the outermost first. Each step costs what one header costs.
#[derive(Clone, Debug)]
pub struct Layers<'a, 'p> {
    ports: &'p [(u16, UdpPayload)],
    left: usize,
    next: Next,
    /// What has not been looked at, and where in the packet that begins.
    bytes: &'a [u8],
    offset: usize,
    /// How many bytes that should be.
    total: usize,
    /// Of the IP header in front.
    addresses: Option<PseudoHeader>,
    in_fragment: bool,
}

/// What should be next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Nothing,
    Payload,
    Ethernet,
    Vlan,
    Arp,
    Ip,
    Ipv4,
    Ipv6,
    Extension(IpProtocol),
    Udp,
    Tcp,
    Icmpv4,
    Icmpv6,
    Vxlan,
    VxlanGpe,
    Geneve,
    Gre,
    Gue,
}

impl Next {
    const fn of_ether_type(ether_type: EtherType) -> Self {
        match ether_type {
            EtherType::IPV4 => Self::Ipv4,
            EtherType::IPV6 => Self::Ipv6,
            EtherType::ARP => Self::Arp,
            EtherType::VLAN | EtherType::QINQ => Self::Vlan,
            EtherType::ETHERNET => Self::Ethernet,
            _ => Self::Payload,
        }
    }

    const fn of_ip_protocol(protocol: IpProtocol) -> Self {
        match protocol {
            IpProtocol::IPV4 => Self::Ipv4,
            IpProtocol::IPV6 => Self::Ipv6,
            IpProtocol::UDP => Self::Udp,
            IpProtocol::TCP => Self::Tcp,
            IpProtocol::ICMP => Self::Icmpv4,
            IpProtocol::ICMPV6 => Self::Icmpv6,
            IpProtocol::GRE => Self::Gre,
            IpProtocol::ETHERNET => Self::Ethernet,
            IpProtocol::HOP_BY_HOP
            | IpProtocol::ROUTING
            | IpProtocol::FRAGMENT
            | IpProtocol::AUTHENTICATION
            | IpProtocol::DESTINATION_OPTIONS => Self::Extension(protocol),
            IpProtocol::NO_NEXT_HEADER => Self::Nothing,
            _ => Self::Payload,
        }
    }
}

/// A header that has been read: what it is, its bytes, the payload and what that should be.
struct Read<'a> {
    kind: Kind<'a>,
    header_len: usize,
    payload: &'a [u8],
    /// Bytes that the payload should have.
    payload_len: usize,
    next: Next,
}

impl<'a> Iterator for Layers<'a, '_> {
    type Item = Layer<'a>;

    fn next(&mut self) -> Option<Layer<'a>> {
        let next = core::mem::replace(&mut self.next, Next::Nothing);
        if let Next::Nothing = next {
            return None;
        }
        let mut layer = Layer {
            offset: self.offset,
            header_len: 0,
            length: self.total,
            bytes: self.bytes,
            in_fragment: self.in_fragment,
            kind: Kind::Payload,
            addresses: self.addresses,
        };
        if let Next::Payload = next {
            return (!self.bytes.is_empty()).then_some(layer);
        }
        let Some(left) = self.left.checked_sub(1) else {
            layer.kind = Kind::TooDeep;
            return Some(layer);
        };
        self.left = left;
        match self.read(next) {
            Ok(read) => {
                layer.kind = read.kind;
                layer.header_len = read.header_len;
                layer.bytes = field::at_most(self.bytes, read.header_len + read.payload.len());
                self.bytes = read.payload;
                self.offset += read.header_len;
                self.total = read.payload_len;
                self.next = read.next;
            }
            Err(error) => layer.kind = Kind::Malformed(error),
        }
        Some(layer)
    }
}

impl<'a> Layers<'a, '_> {
    fn read(&mut self, next: Next) -> Result<Read<'a>, Error> {
        match next {
            Next::Nothing | Next::Payload => {
                Ok(self.fixed(Kind::Payload, 0, self.bytes, Next::Nothing))
            }
            Next::Ethernet => self.ethernet(),
            Next::Ip => match ip::ip_version(self.bytes)? {
                IpVersion::V4 => self.ipv4(),
                IpVersion::V6 => self.ipv6(),
            },
            Next::Ipv4 => self.ipv4(),
            Next::Ipv6 => self.ipv6(),
            Next::Vlan => self.vlan(),
            Next::Arp => {
                let packet = ArpPacket::parse(self.bytes)?;
                Ok(self.fixed(Kind::Arp(packet), arp::LEN, &[], Next::Nothing))
            }
            Next::Extension(protocol) => self.extension(protocol),
            Next::Udp => self.udp(),
            Next::Tcp => {
                let packet = TcpPacket::parse(self.bytes)?;
                let header_len = packet.header_len();
                Ok(self.fixed(Kind::Tcp(packet), header_len, packet.payload(), Next::Payload))
            }
            Next::Icmpv4 => {
                let packet = Icmpv4Packet::parse(self.bytes)?;
                Ok(self.fixed(Kind::Icmpv4(packet), icmpv4::LEN, packet.payload(), Next::Payload))
            }
            Next::Icmpv6 => {
                let packet = Icmpv6Packet::parse(self.bytes)?;
                Ok(self.fixed(Kind::Icmpv6(packet), icmpv6::LEN, packet.payload(), Next::Payload))
            }
            Next::Vxlan => self.vxlan(),
            Next::VxlanGpe => self.vxlan_gpe(),
            Next::Geneve => self.geneve(),
            Next::Gre => self.gre(),
            // Variant 1 is an IP packet, the variant the first two bits of its version.
            Next::Gue if self.bytes.first().is_some_and(|first| first >> 6 == 1) => {
                self.read(Next::Ip)
            }
            Next::Gue => self.gue(),
        }
    }

    fn ethernet(&self) -> Result<Read<'a>, Error> {
        let frame = EthernetFrame::parse(self.bytes)?;
        Ok(Read {
            kind: Kind::Ethernet(frame),
            header_len: ethernet::LEN,
            payload: frame.payload(),
            payload_len: self.total.saturating_sub(ethernet::LEN),
            next: Next::of_ether_type(frame.ether_type()),
        })
    }

    fn vlan(&self) -> Result<Read<'a>, Error> {
        let packet = VlanPacket::parse(self.bytes)?;
        let next = Next::of_ether_type(packet.ether_type());
        Ok(self.fixed(Kind::Vlan(packet), vlan::LEN, packet.payload(), next))
    }

    fn ipv4(&mut self) -> Result<Read<'a>, Error> {
        let packet = Ipv4Packet::parse_cut(self.bytes)?;
        self.addresses = Some(PseudoHeader::V4 { src: packet.src(), dst: packet.dst() });
        self.in_fragment |= packet.is_fragment();
        Ok(Read {
            kind: Kind::Ipv4(packet),
            header_len: packet.header_len(),
            payload: packet.payload(),
            payload_len: usize::from(packet.total_length()).saturating_sub(packet.header_len()),
            next: match packet.fragment_offset() {
                0 => Next::of_ip_protocol(packet.protocol()),
                _ => Next::Payload,
            },
        })
    }

    fn ipv6(&mut self) -> Result<Read<'a>, Error> {
        let packet = Ipv6Packet::parse_cut(self.bytes)?;
        self.addresses = Some(PseudoHeader::V6 { src: packet.src(), dst: packet.dst() });
        Ok(Read {
            kind: Kind::Ipv6(packet),
            header_len: ipv6::LEN,
            payload: packet.payload(),
            payload_len: packet.payload_length().into(),
            next: Next::of_ip_protocol(packet.next_header()),
        })
    }

    fn extension(&mut self, protocol: IpProtocol) -> Result<Read<'a>, Error> {
        let Some(extension) = Extension::parse(protocol, self.bytes)? else {
            return Ok(self.fixed(Kind::Payload, 0, self.bytes, Next::Nothing));
        };
        let mut next = Next::of_ip_protocol(extension.next_header());
        match extension {
            // The checksums further on are made with the address at the end of the route.
            Extension::Routing(packet) if packet.segments_left() > 0 => self.addresses = None,
            Extension::Fragment(packet) => {
                self.in_fragment |= packet.more_fragments() || packet.fragment_offset() > 0;
                if packet.fragment_offset() > 0 {
                    next = Next::Payload;
                }
            }
            _ => {}
        }
        let payload = extension.payload();
        let header_len = self.bytes.len().saturating_sub(payload.len());
        Ok(self.fixed(Kind::Extension(extension), header_len, payload, next))
    }

    fn udp(&self) -> Result<Read<'a>, Error> {
        let packet = UdpPacket::parse_cut(self.bytes)?;
        let carried = self.ports.iter().find(|(port, _)| *port == packet.dst_port());
        Ok(Read {
            kind: Kind::Udp(packet),
            header_len: udp::LEN,
            payload: packet.payload(),
            payload_len: usize::from(packet.length()).saturating_sub(udp::LEN),
            next: match carried {
                // Whose length is wrong is not what it seems.
                _ if usize::from(packet.length()) > self.total && !self.in_fragment => {
                    Next::Payload
                }
                Some((_, UdpPayload::Vxlan)) => Next::Vxlan,
                Some((_, UdpPayload::VxlanGpe)) => Next::VxlanGpe,
                Some((_, UdpPayload::Geneve)) => Next::Geneve,
                Some((_, UdpPayload::Gue)) => Next::Gue,
                Some((_, UdpPayload::Ip)) => Next::Ip,
                None => Next::Payload,
            },
        })
    }

    fn vxlan(&self) -> Result<Read<'a>, Error> {
        let packet = VxlanPacket::parse(self.bytes)?;
        Ok(self.fixed(Kind::Vxlan(packet), vxlan::LEN, packet.payload(), Next::Ethernet))
    }

    fn vxlan_gpe(&self) -> Result<Read<'a>, Error> {
        let packet = VxlanGpePacket::parse(self.bytes)?;
        let next = match packet.next_protocol() {
            None | Some(NextProtocol::ETHERNET) => Next::Ethernet,
            Some(NextProtocol::IPV4) => Next::Ipv4,
            Some(NextProtocol::IPV6) => Next::Ipv6,
            Some(_) => Next::Payload,
        };
        Ok(self.fixed(Kind::VxlanGpe(packet), vxlan_gpe::LEN, packet.payload(), next))
    }

    fn geneve(&self) -> Result<Read<'a>, Error> {
        let packet = GenevePacket::parse(self.bytes)?;
        let next = Next::of_ether_type(packet.protocol());
        Ok(self.fixed(Kind::Geneve(packet), packet.header_len(), packet.payload(), next))
    }

    fn gre(&self) -> Result<Read<'a>, Error> {
        let packet = GrePacket::parse(self.bytes)?;
        let next = Next::of_ether_type(packet.protocol());
        Ok(self.fixed(Kind::Gre(packet), packet.header_len(), packet.payload(), next))
    }

    fn gue(&self) -> Result<Read<'a>, Error> {
        let packet = GuePacket::parse(self.bytes)?;
        let next = match packet.content() {
            GueContent::Data(protocol) => Next::of_ip_protocol(protocol),
            GueContent::Control(_) => Next::Payload,
        };
        Ok(self.fixed(Kind::Gue(packet), packet.header_len(), packet.payload(), next))
    }

    /// A header that says nothing about the length of its payload.
    const fn fixed(
        &self,
        kind: Kind<'a>,
        header_len: usize,
        payload: &'a [u8],
        next: Next,
    ) -> Read<'a> {
        let payload_len = self.total.saturating_sub(header_len);
        Read { kind, header_len, payload, payload_len, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, vec};

    use crate::overhead::Encapsulation;

    /// IPv4 of a protocol, from 10.0.0.1 to 10.0.0.2.
    fn v4(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let [src, dst] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let header = crate::ipv4::Ipv4Header::new(src, dst, protocol);
        let mut packet = [&vec![0; header.header_len()], payload].concat();
        header.emit(&mut packet).unwrap();
        packet
    }

    /// UDP over IPv4, with a checksum.
    fn datagram(dst_port: u16, payload: &[u8]) -> Vec<u8> {
        let header = udp::UdpHeader { src_port: 40_000, dst_port };
        let mut packet = [&[0; udp::LEN], payload].concat();
        let [src, dst] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        header.emit(&mut packet, Some(&PseudoHeader::V4 { src, dst })).unwrap();
        v4(IpProtocol::UDP, &packet)
    }

    /// A packet inside VXLAN.
    fn vxlan(inner: &[u8]) -> Vec<u8> {
        let frame = [&b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0"[..], inner].concat();
        datagram(4789, &[b"\x08\0\0\0\0\0\x01\0", &frame[..]].concat())
    }

    fn line(bytes: &[u8]) -> String {
        Dissector::new(Start::Ip).dissect(bytes).to_string()
    }

    #[test]
    fn the_tree_shows_fields_and_checksums() {
        let mut packet = vxlan(&datagram(9, b"ping"));
        // The inner checksum covers the pseudo-header only, as before a network card with offloads.
        let inner = packet.len() - 12;
        packet[inner + 6..inner + 8].copy_from_slice(&[0x14, 0x20]);
        let expected = "\
IPv4 0+20: 10.0.0.1 > 10.0.0.2, protocol udp, ttl 64, id 0, DF, length 82, checksum 0x2699 (correct)
  UDP 20+8: 40000 > 4789, length 62, checksum 0x3b97 (wrong, expected 0x9830)
    VXLAN 28+8: vni 1
      Ethernet 36+14: 02:00:00:00:00:01 > 02:00:00:00:00:02, type IPv4
        IPv4 50+20: 10.0.0.1 > 10.0.0.2, protocol udp, ttl 64, id 0, DF, length 32, checksum 0x26cb (correct)
          UDP 70+8: 40000 > 9, length 12, checksum 0x1420 (left to the network card)
            payload: 4 bytes from 78";
        let packet = Dissector::new(Start::Ip).dissect(&packet);
        assert_eq!(format!("{packet:#}"), expected);
    }

    #[test]
    fn a_tunnel_is_measured() {
        let inner = datagram(9, b"ping");
        let bytes = vxlan(&inner);
        let outermost = Dissector::new(Start::Ip).dissect(&bytes).outermost().unwrap();
        assert_eq!((outermost.encapsulation, outermost.key), (Encapsulation::Vxlan, Some(1)));
        assert_eq!((outermost.outer_len, outermost.inner_len), (bytes.len(), inner.len()));
        assert_eq!(outermost.overhead(), Encapsulation::Vxlan.overhead(IpVersion::V4) as usize);
        assert_eq!(outermost.inner, Some(([10, 0, 0, 1].into(), [10, 0, 0, 2].into())));

        // The outermost counts.
        let nested = v4(IpProtocol::IPV4, &bytes);
        let outermost = Dissector::new(Start::Ip).dissect(&nested).outermost().unwrap();
        assert_eq!(outermost.encapsulation, Encapsulation::IpInIp);
        assert_eq!((outermost.overhead(), outermost.inner_len), (20, bytes.len()));

        let flannel = datagram(8285, &inner);
        let outermost = Dissector::new(Start::Ip).dissect(&flannel).outermost().unwrap();
        assert_eq!((outermost.encapsulation, outermost.overhead()), (Encapsulation::IpInUdp, 28));

        assert_eq!(Dissector::new(Start::Ip).dissect(&inner).outermost(), None);
    }

    #[test]
    fn padding_is_no_part_of_a_tunnel() {
        let packet = v4(IpProtocol::IPV4, &v4(IpProtocol(99), b""));
        let frame = [&b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0"[..], &packet, &[0; 6]].concat();
        let outermost =
            Dissector::new(Framing::Ethernet.into()).dissect(&frame).outermost().unwrap();
        assert_eq!((outermost.outer_len, outermost.inner_len), (40, 20));
    }

    #[test]
    fn lengths_beyond_the_packet_do_not_hide_the_overhead() {
        let inner = datagram(9, b"ping");
        // GUE: no extensions, an IPv4 packet.
        let gue = datagram(gue::PORT, &[b"\0\x04\0\0", &inner[..]].concat());
        let vxlan = vxlan(&inner);
        for (packet, start, overhead) in [(&gue, Start::Ip, 32), (&vxlan, Framing::Ip.into(), 50)] {
            // From behind the last header of the encapsulation on.
            for len in overhead..packet.len() {
                let whole = Dissector::new(start).dissect(&packet[..len]).outermost().unwrap();
                assert_eq!((whole.overhead(), whole.outer_len), (overhead, len));
            }
        }
    }

    #[test]
    fn depth_is_bounded() {
        let mut packet = v4(IpProtocol(99), b"");
        for _ in 0..1000 {
            packet = v4(IpProtocol::IPV4, &packet);
        }
        let all = Dissector::new(Start::Ip).dissect(&packet);
        assert_eq!(all.layers().count(), MAX_LAYERS + 1);
        let text = all.to_string();
        assert!(text.ends_with("IP 10.0.0.1 > 10.0.0.2: ... (too many layers)"), "{text}");
        assert_eq!(text.matches("IP 10").count(), MAX_LAYERS);
        let none = Dissector::new(Start::Ip).max_layers(0).dissect(&packet);
        assert_eq!(none.to_string(), "... (too many layers)");
    }

    #[test]
    fn ports_mean_what_they_are_told_to_mean() {
        let inner = v4(IpProtocol(99), b"");
        let packet = datagram(1234, &inner);
        assert_eq!(line(&packet), "IP 10.0.0.1.40000 > 10.0.0.2.1234: UDP, length 20");
        let ports = [(1234, UdpPayload::Ip)];
        let told = Dissector::new(Start::Ip).ports(&ports);
        assert_eq!(
            told.dissect(&packet).to_string(),
            "IP 10.0.0.1.40000 > 10.0.0.2.1234: IP 10.0.0.1 > 10.0.0.2: ip-proto-99 0"
        );
        let usual = vxlan(&inner);
        assert!(told.dissect(&usual).to_string().ends_with("4789: UDP, length 42"));
    }

    #[test]
    fn a_packet_cut_anywhere_prints_as_much_as_there_is() {
        let packet = vxlan(&vxlan(&datagram(9, b"ping")));
        let whole = line(&packet);
        for len in 0..packet.len() {
            let cut = Dissector::new(Start::Ip).dissect_cut(&packet[..len], packet.len());
            assert!(cut.is_cut());
            let text = cut.to_string();
            assert!(text == whole || text.contains("[|"), "{len}: {text}");
            assert_eq!(text.contains("[|"), cut.error().is_some(), "{len}: {text}");
            let tree = format!("{cut:#}");
            assert_eq!(tree.lines().count(), cut.layers().count(), "{len}: {tree}");
            // What is not there cannot be wrong.
            assert!(!tree.contains("wrong") && !tree.contains("missing"), "{len}: {tree}");
        }
    }
}
