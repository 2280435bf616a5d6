//! Putting packets into tunnels, in place: headers prepared once per peer are written in front of the packet.
//!
//! A [`Template`] is made of what the peers agreed on, the [`Tunnel`], and of what the outer header shall look like,
//! the [`Outer`]. For each packet it copies its prepared bytes into the packet's headroom and patches what varies:
//! lengths, identification, checksums, the source port that tells flows apart, and whatever the outer header takes from
//! the inner one. The packet itself does not move and nothing is allocated.
//!
//! What is usual is written by code that is compiled into the caller's: frames in VXLAN, VXLAN-GPE, or Geneve without
//! options, over IPv4 and Ethernet, with don't fragment set, a fixed time to live, and no UDP checksum.
//!
//! ```
//! use overlay_wire::buffer::PacketBuffer;
//! use overlay_wire::encapsulate::{Outer, Template, Tunnel};
//! use overlay_wire::vxlan::{self, VxlanHeader};
//! use overlay_wire::{IpVersion, Vni};
//!
//! let outer = Outer::new("192.168.32.245".parse()?, "192.168.32.246".parse()?);
//! let header = VxlanHeader::new(Vni::new(1)?);
//! let mut template = Template::new(&outer, &Tunnel::Vxlan { port: vxlan::LINUX_PORT, header })?;
//! assert_eq!(template.header_len(), 20 + 8 + 8);
//!
//! let mut buffer = [0; 64 + 100];
//! let mut packet = PacketBuffer::new(&mut buffer, 64); // an Ethernet frame of 100 bytes
//! template.encapsulate(&mut packet)?;
//! assert_eq!(packet.len(), 136); // an IPv4 packet, ready to be sent
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod usual;

use core::net::IpAddr;

use crate::buffer::PacketBuffer;
use crate::checksum::{self, Checksum, PseudoHeader};
use crate::error::{Error, Expected};
use crate::ethernet::{self, EtherType, EthernetHeader};
use crate::field;
use crate::flow::{FlowHash, Inner, Ports};
use crate::framing::Framing;
use crate::geneve::{self, GeneveHeader, GeneveOptions};
use crate::gre::{self, GreHeader};
use crate::gue::{self, GueHeader};
use crate::ip::{IpProtocol, IpVersion, MixedVersions};
use crate::ipv4::{self, Ipv4Header};
use crate::ipv6::{self, Ipv6Header};
use crate::mac::MacAddr;
use crate::udp::{self, UdpHeader};
use crate::vni::Vni;
use crate::vxlan::{self, VxlanHeader};
use crate::vxlan_gpe::{self, NextProtocol, VxlanGpeHeader};

use self::usual::Usual;

/// What two peers have agreed on about what is between the outer IP header and the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tunnel<'a> {
    /// Nothing: IP-in-IP of whichever versions (RFC 2003, RFC 4213, RFC 2473).
    IpInIp,
    /// UDP: Flannel's udp backend, and FOU of IP packets.
    IpInUdp {
        /// The destination port.
        port: u16,
    },
    /// UDP and VXLAN (RFC 7348), which carries Ethernet frames.
    Vxlan {
        /// The destination port.
        port: u16,
        /// The header.
        header: VxlanHeader,
    },
    /// UDP and VXLAN-GPE.
    VxlanGpe {
        /// The destination port.
        port: u16,
        /// The network.
        vni: Vni,
        /// What it carries.
        carries: Framing,
    },
    /// GRE (RFC 2784, RFC 2890).
    Gre {
        /// What it carries.
        carries: Framing,
        /// Whether there is a checksum of header and packet, which costs reading the whole packet.
        checksum: bool,
        /// Which of several tunnels between two addresses this is.
        key: Option<u32>,
        /// Whether the packets are numbered, from 0 on. A tunnel has one template then: clones of it go on counting by
        /// themselves.
        sequence: bool,
    },
    /// UDP and GUE, variant 0.
    Gue {
        /// The destination port.
        port: u16,
        /// What it carries.
        carries: Framing,
    },
    /// UDP and Geneve (RFC 8926).
    Geneve {
        /// The destination port.
        port: u16,
        /// The network.
        vni: Vni,
        /// What it carries.
        carries: Framing,
        /// The same options in every packet, at most [`MAX_GENEVE_OPTIONS`] bytes.
        options: GeneveOptions<'a>,
    },
}

/// Bytes of Geneve options that a [`Template`] has room for.
pub const MAX_GENEVE_OPTIONS: usize = 64;

impl Tunnel<'_> {
    /// What it carries.
    #[must_use]
    pub const fn carries(&self) -> Framing {
        match *self {
            Self::IpInIp | Self::IpInUdp { .. } => Framing::Ip,
            Self::Vxlan { .. } => Framing::Ethernet,
            Self::VxlanGpe { carries, .. }
            | Self::Gre { carries, .. }
            | Self::Gue { carries, .. }
            | Self::Geneve { carries, .. } => carries,
        }
    }
}

/// The outer headers of packets to one peer, and how what varies in them follows from the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Outer {
    /// The Ethernet header in front, for whoever writes frames; `None` to begin with the IP header.
    pub link: Option<Link>,
    /// Our address.
    pub src: IpAddr,
    /// The peer's address.
    pub dst: IpAddr,
    /// Time to live.
    pub ttl: Ttl,
    /// Differentiated services code point.
    pub dscp: Dscp,
    /// Explicit congestion notification.
    pub ecn: EcnMode,
    /// Whether routers of the underlay must not fragment, in IPv4.
    pub dont_fragment: DontFragment,
    /// The identification of the first packet that may be fragmented, in IPv4; the next ones count from there.
    /// Templates and clones of templates for one peer have to begin far apart, or fragments of different packets are
    /// taken for those of one.
    pub identification: u16,
    /// The flow label, in IPv6.
    pub flow_label: FlowLabel,
    /// The source port, of tunnels over UDP.
    pub src_port: SrcPort,
    /// The checksum, of tunnels over UDP.
    pub udp_checksum: UdpChecksum,
}

impl Outer {
    /// Outer headers as they are usual:
    /// a time to live of 64; DSCP 0; ECN as RFC 6040 has it; never fragmented; flow label and source port from the
    /// inner flow; no UDP checksum over IPv4, where the inner packet has its own, and one over IPv6, where only tunnels
    /// may do without (RFC 6935).
    #[must_use]
    pub const fn new(src: IpAddr, dst: IpAddr) -> Self {
        Self {
            link: None,
            src,
            dst,
            ttl: Ttl::Fixed(64),
            dscp: Dscp::Fixed(0),
            ecn: EcnMode::Normal,
            dont_fragment: DontFragment::Set,
            identification: 0,
            flow_label: FlowLabel::Entropy,
            src_port: SrcPort::Entropy(Ports::DYNAMIC),
            udp_checksum: match dst {
                IpAddr::V4(_) => UdpChecksum::Zero,
                IpAddr::V6(_) => UdpChecksum::Compute,
            },
        }
    }
}

/// The addresses of an outer Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Our address on the underlay.
    pub src: MacAddr,
    /// The address of the peer, or of the router on the way.
    pub dst: MacAddr,
}

/// The outer time to live or hop limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// This one, not 0: RFC 2003, section 3.1.
    Fixed(u8),
    /// That of the inner packet, so that the underlay's routers show in traceroute; 64 without inner IP.
    Inherit,
}

/// The outer differentiated services code point (RFC 2983).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dscp {
    /// This one, 0 to 63: the pipe model.
    Fixed(u8),
    /// That of the inner packet: the uniform model. 0 without inner IP.
    Inherit,
}

/// The outer congestion notification (RFC 6040, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EcnMode {
    /// That of the inner packet. Whoever decapsulates must understand it.
    Normal,
    /// None, for peers that do not understand it.
    Compatibility,
}

/// The outer don't fragment flag, as iproute2's `df` option of VXLAN devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DontFragment {
    /// Set.
    Set,
    /// Not set. The packets are identified by numbers that count from [`Outer::identification`] on (RFC 6864).
    Unset,
    /// That of the inner packet, which is set in all IPv6 packets, and not set without inner IP.
    Inherit,
}

/// The outer flow label, with which the underlay's routers tell flows apart (RFC 6438).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowLabel {
    /// This one, 20 bits.
    Fixed(u32),
    /// One that follows from the inner flow.
    Entropy,
}

/// The source port, with which the underlay's routers tell flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrcPort {
    /// This one, as Flannel's udp backend has it.
    Fixed(u16),
    /// The one of these that follows from the inner flow (RFC 7348, section 5).
    Entropy(Ports),
}

/// The outer UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UdpChecksum {
    /// 0: none. Over IPv6 both ends must have agreed on it (RFC 6935, RFC 6936).
    Zero,
    /// Computed, which costs reading the whole packet.
    Compute,
}

/// A template cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTemplate {
    /// The outer addresses are of different versions.
    #[error("outer addresses: {0}")]
    Addresses(#[from] MixedVersions),
    /// A value does not fit its field.
    #[error(transparent)]
    Field(#[from] Error),
}

/// A packet cannot be encapsulated. It has not been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is too little room in front of it.
    #[error("headroom: expected at least {needed} bytes, found {found}")]
    Headroom {
        /// Bytes of the headers.
        needed: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// It is shorter than the header that it has to begin with: of Ethernet, or of its version of IP.
    #[error("inner packet: expected at least {needed} bytes, found {found}")]
    TooShort {
        /// Bytes of the header.
        needed: usize,
        /// Bytes of the packet.
        found: usize,
    },
    /// With the headers it would be longer than an IP packet can be.
    #[error("inner packet: expected at most {limit} bytes, found {found}")]
    TooLong {
        /// Bytes that can be carried.
        limit: usize,
        /// Bytes of the packet.
        found: usize,
    },
    /// The tunnel carries IP packets, and this is none.
    #[error("inner packet: expected IP version 4 or 6, found {version}")]
    NotIp {
        /// Its first four bits.
        version: u8,
    },
}

/// Headers prepared for the packets to one peer.
#[derive(Clone, Debug)]
pub struct Template {
    /// All headers but Geneve's options, with zeros where they vary.
    headers: [u8; MAX_HEADERS],
    /// Writes them.
    write: Write,
    /// What writes them faster, if they are as usual.
    usual: Option<Usual>,
    carries: Framing,
    /// Bytes of all headers.
    header_len: usize,
    /// Bytes of the Ethernet header, if there is one.
    link_len: usize,
    /// Bytes of the longest inner packet.
    max_inner_len: usize,
    /// Of the words of the IPv4 header that are written as they are, not complemented.
    sum: u32,
    /// Of the next IPv4 packet that may be fragmented.
    identification: u16,
    policy: Policy,
    shim: Shim,
    udp_checksum: Option<PseudoHeader>,
    options: [u8; MAX_GENEVE_OPTIONS],
    options_len: usize,
}

/// What varies in the outer headers, and from what it follows.
#[derive(Clone, Copy, Debug)]
struct Policy {
    /// Traffic class, time to live and don't fragment flag, packed as [`Inner::shared`].
    shared: Field,
    flow_label: Field,
    ports: Ports,
}

/// Bits that are always the same, and which of the inner packet's bits are added.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    own: u32,
    inherited: u32,
}

impl Field {
    const fn own(own: u32) -> Self {
        Self { own, inherited: 0 }
    }

    const fn inherited(inherited: u32) -> Self {
        Self { own: 0, inherited }
    }

    const fn and(self, other: Self) -> Self {
        Self { own: self.own | other.own, inherited: self.inherited | other.inherited }
    }

    #[inline(always)]
    const fn with(self, inner: u32) -> u32 {
        self.own | inner & self.inherited
    }
}

impl Policy {
    fn new(outer: &Outer) -> Result<Self, Error> {
        let at_most = |header, field, limit: u32, found: u32| {
            Error::field(header, field, Expected::AtMost(limit.into()), found.into())
        };
        let dscp = match outer.dscp {
            Dscp::Fixed(dscp) if dscp > 63 => {
                return Err(at_most("IP", "DSCP", 63, dscp.into()));
            }
            Dscp::Fixed(dscp) => Field::own(Inner::share(dscp << 2, 0, 0)),
            Dscp::Inherit => Field::inherited(Inner::share(!0b11, 0, 0)),
        };
        let ecn = match outer.ecn {
            EcnMode::Normal => Field::inherited(Inner::share(0b11, 0, 0)),
            EcnMode::Compatibility => Field::default(),
        };
        let ttl = match outer.ttl {
            Ttl::Fixed(0) => {
                return Err(Error::field("IP", "TTL", Expected::AtLeast(1), 0));
            }
            Ttl::Fixed(ttl) => Field::own(Inner::share(0, ttl, 0)),
            Ttl::Inherit => Field::inherited(Inner::share(0, u8::MAX, 0)),
        };
        let flags = match outer.dont_fragment {
            DontFragment::Set => Field::own(Inner::share(0, 0, ipv4::DONT_FRAGMENT)),
            DontFragment::Unset => Field::default(),
            DontFragment::Inherit => Field::inherited(Inner::share(0, 0, ipv4::DONT_FRAGMENT)),
        };
        let flow_label = match outer.flow_label {
            FlowLabel::Fixed(label) if label > ipv6::FLOW_LABEL => {
                return Err(at_most("IPv6", "flow label", ipv6::FLOW_LABEL, label));
            }
            FlowLabel::Fixed(label) => Field::own(label),
            FlowLabel::Entropy => Field::inherited(ipv6::FLOW_LABEL),
        };
        let ports = match outer.src_port {
            SrcPort::Fixed(port) => Ports::only(port),
            SrcPort::Entropy(ports) => ports,
        };
        Ok(Self { shared: dscp.and(ecn).and(ttl).and(flags), flow_label, ports })
    }

    /// Writes what is always the same. Returns the sum of the words that are left as they are now, not complemented.
    fn prepare_ipv4(&self, header: &mut [u8; ipv4::LEN]) -> u32 {
        let [class, ttl, ..] = self.shared.own.to_be_bytes();
        field::put::<1, 1, _>(header, [class]);
        field::put::<8, 1, _>(header, [ttl]);
        let words =
            header.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
        words.skip(6).sum()
    }
}

/// [`Template::write_as`] for some headers.
type Write = fn(&mut Template, &mut PacketBuffer<'_>, Inner) -> Result<(), Refused>;

/// Bytes of the longest headers without Geneve's options.
const MAX_HEADERS: usize = ethernet::LEN + ipv6::LEN + MAX_SHIM;
/// Bytes of the longest that is between the outer IP header and the inner packet, without Geneve's options.
const MAX_SHIM: usize = 16;

const _: () = {
    assert!(udp::LEN + vxlan::LEN <= MAX_SHIM);
    assert!(udp::LEN + vxlan_gpe::LEN <= MAX_SHIM);
    assert!(udp::LEN + geneve::LEN <= MAX_SHIM);
    assert!(udp::LEN + gue::LEN <= MAX_SHIM);
    assert!(gre::LEN + 3 * gre::FIELD_LEN <= MAX_SHIM);
};

/// What varies between the outer IP header and the inner packet.
#[derive(Clone, Copy, Debug)]
enum Shim {
    None,
    Gre {
        checksum: bool,
        /// The number of the next packet.
        sequence: Option<u32>,
    },
    /// With what says which version of IP follows, if anything does.
    Udp(Next),
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Nothing,
    VxlanGpe,
    Gue,
    Geneve,
}

/// The kinds of [`Shim`], as constants that functions can be made for.
const NONE: u8 = 0;
const GRE: u8 = 1;
const UDP: u8 = 2;
/// UDP of which only port and length vary.
const PLAIN_UDP: u8 = 3;

impl Template {
    /// The headers for a peer.
    ///
    /// # Errors
    /// [`InvalidTemplate`] when the addresses are of different versions, or a value does not fit its field.
    pub fn new(outer: &Outer, tunnel: &Tunnel<'_>) -> Result<Self, InvalidTemplate> {
        let addresses = PseudoHeader::new(outer.src, outer.dst)?;
        let version = IpVersion::of(outer.dst);
        let policy = Policy::new(outer)?;
        let shim = PreparedShim::new(tunnel)?;
        let udp_checksum = match outer.udp_checksum {
            UdpChecksum::Zero => None,
            UdpChecksum::Compute => Some(addresses),
        };

        let kind = match shim.kind {
            Shim::None => NONE,
            Shim::Gre { .. } => GRE,
            Shim::Udp(Next::Nothing) if udp_checksum.is_none() => PLAIN_UDP,
            Shim::Udp(_) => UDP,
        };

        let mut headers = [0; MAX_HEADERS];
        let link_len = if outer.link.is_some() { ethernet::LEN } else { 0 };
        let (link, rest) = headers.split_at_mut(link_len);
        if let Some(Link { src, dst }) = outer.link {
            EthernetHeader { dst, src, ether_type: EtherType::ip(version) }.emit(link)?;
        }
        let (sum, rest) = match addresses {
            PseudoHeader::V4 { src, dst } => {
                let (header, rest) = field::split_mut::<{ ipv4::LEN }>("IPv4", rest)?;
                Ipv4Header::new(src, dst, shim.protocol).emit(header)?;
                (policy.prepare_ipv4(header), rest)
            }
            PseudoHeader::V6 { src, dst } => {
                let (header, rest) = field::split_mut::<{ ipv6::LEN }>("IPv6", rest)?;
                Ipv6Header::new(src, dst, shim.protocol).emit(header)?;
                (0, rest)
            }
        };
        *field::split_mut("shim", rest)?.0 = shim.bytes;

        let ip_len = version.header_len() as usize;
        let shim_len = shim.len + shim.options_len;
        // The total length of IPv4 counts its header, the payload length of IPv6 does not.
        let counted_len = match version {
            IpVersion::V4 => ip_len + shim_len,
            IpVersion::V6 => shim_len,
        };
        let mut template = Self {
            headers,
            write: writer(link_len, version, kind, shim.len),
            usual: None,
            carries: tunnel.carries(),
            header_len: link_len + ip_len + shim_len,
            link_len,
            max_inner_len: usize::from(u16::MAX) - counted_len,
            sum,
            identification: outer.identification,
            policy,
            shim: shim.kind,
            udp_checksum,
            options: shim.options,
            options_len: shim.options_len,
        };
        template.usual = Usual::new(&template);
        Ok(template)
    }

    /// Bytes of all headers: the headroom that a packet needs, and what it grows by.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// What the tunnel carries.
    #[must_use]
    #[inline]
    pub const fn carries(&self) -> Framing {
        self.carries
    }

    /// The largest inner IP packet, in bytes, that fits an underlay whose MTU is `outer_mtu` bytes: exactly, with GRE's
    /// optional fields and Geneve's options. `None` when nothing is left.
    #[must_use]
    pub const fn inner_mtu(&self, outer_mtu: u32) -> Option<u32> {
        let inner_link_len = match self.carries {
            Framing::Ethernet => ethernet::LEN,
            Framing::Ip => 0,
        };
        let overhead = self.header_len - self.link_len + inner_link_len;
        match outer_mtu.checked_sub(overhead as u32) {
            None | Some(0) => None,
            mtu => mtu,
        }
    }

    /// Puts the headers in front of a packet.
    ///
    /// # Errors
    /// [`Refused`] when there is too little headroom, the packet is too long, or it is not what the tunnel carries. The
    /// packet is as it was then.
    #[inline(always)]
    pub fn encapsulate(&mut self, packet: &mut PacketBuffer<'_>) -> Result<(), Refused> {
        if let Some(usual) = &self.usual
            && usual.write(packet)
        {
            return Ok(());
        }
        self.encapsulate_any(packet)
    }

    #[inline(never)]
    fn encapsulate_any(&mut self, packet: &mut PacketBuffer<'_>) -> Result<(), Refused> {
        let inner = Inner::of(self.carries, packet.as_slice());
        (self.write)(self, packet, inner)
    }

    /// Puts the headers in front of a packet whose flow is known already, from a device or an earlier look.
    ///
    /// Without a checksum to compute, with fixed DSCP, time to live and don't fragment flag, and with ECN in
    /// compatibility mode, the packet is not read at all then, except for the version of IP packets.
    ///
    /// # Errors
    /// As [`encapsulate`](Self::encapsulate).
    #[inline(always)]
    pub fn encapsulate_flow(
        &mut self,
        packet: &mut PacketBuffer<'_>,
        hash: FlowHash,
    ) -> Result<(), Refused> {
        if let Some(usual) = &self.usual
            && usual.write_flow(packet, hash)
        {
            return Ok(());
        }
        self.encapsulate_any_flow(packet, hash)
    }

    #[inline(never)]
    fn encapsulate_any_flow(
        &mut self,
        packet: &mut PacketBuffer<'_>,
        hash: FlowHash,
    ) -> Result<(), Refused> {
        let inner = match self.policy.shared.inherited {
            0 => Inner::UNKNOWN,
            _ => Inner::of(self.carries, packet.as_slice()),
        };
        (self.write)(self, packet, Inner { hash, ..inner })
    }

    /// Puts the headers in front of each of many packets. Those for which that is not possible stay as they were;
    /// `refused` is told which, by their index, and why.
    #[inline]
    pub fn encapsulate_batch(
        &mut self,
        packets: &mut [PacketBuffer<'_>],
        mut refused: impl FnMut(usize, Refused),
    ) {
        for (index, packet) in packets.iter_mut().enumerate() {
            if let Err(why) = self.encapsulate(packet) {
                refused(index, why);
            }
        }
    }

    /// Why a packet is refused.
    #[cold]
    #[inline(never)]
    fn refusal(&self, packet: &PacketBuffer<'_>) -> Refused {
        let (headroom, len) = (packet.headroom(), packet.len());
        if headroom < self.header_len {
            Refused::Headroom { needed: self.header_len, found: headroom }
        } else if len > self.max_inner_len {
            Refused::TooLong { limit: self.max_inner_len, found: len }
        } else {
            let (needed, version) = match (self.carries, packet.as_slice().first()) {
                (Framing::Ethernet, _) => (ethernet::LEN, 0),
                (Framing::Ip, Some(first)) if first >> 4 == 6 => (ipv6::LEN, 6),
                (Framing::Ip, Some(first)) if first >> 4 != 4 => (0, first >> 4),
                (Framing::Ip, _) => (ipv4::LEN, 4),
            };
            match len < needed {
                true => Refused::TooShort { needed, found: len },
                false => Refused::NotIp { version },
            }
        }
    }

    /// Puts the headers in front of a packet in one piece, of which all lengths and offsets but that of Geneve's
    /// options are known when this is compiled.
    fn write_as<
        const LINK: usize,
        const IP: usize,
        const SHIM: usize,
        const N: usize,
        const KIND: u8,
    >(
        &mut self,
        packet: &mut PacketBuffer<'_>,
        inner: Inner,
    ) -> Result<(), Refused> {
        const { assert!(LINK + IP + SHIM == N && N <= MAX_HEADERS) };
        let payload_len = packet.len();
        if packet.headroom() < self.header_len || payload_len > self.max_inner_len {
            return Err(self.refusal(packet));
        }
        let carried = match self.carries {
            Framing::Ethernet if payload_len >= ethernet::LEN => None,
            Framing::Ip => match packet.as_slice().first().map(|first| first >> 4) {
                Some(4) if payload_len >= ipv4::LEN => Some(IpVersion::V4),
                Some(6) if payload_len >= ipv6::LEN => Some(IpVersion::V6),
                _ => return Err(self.refusal(packet)),
            },
            Framing::Ethernet => return Err(self.refusal(packet)),
        };
        let options_len = if KIND == UDP { self.options_len } else { 0 };
        if options_len > 0 {
            self.write_options(packet);
        }
        let (Some(headers), Some(prepared)) =
            (packet.before::<N>(options_len), self.headers.first_chunk())
        else {
            return Err(self.refusal(packet));
        };
        // What varies is patched where it is: a copy patched elsewhere would have to be read again right after narrow
        // writes, for which processors wait.
        *headers = *prepared;
        let (_, headers) = headers.split_at_mut(LINK);
        let (ip, shim) = headers.split_at_mut(IP);
        let len = SHIM + options_len + payload_len;
        let protocol = match (KIND, carried) {
            (NONE, Some(version)) => IpProtocol::ip(version),
            (GRE, _) => IpProtocol::GRE,
            _ => IpProtocol::UDP,
        };
        if let (ipv4::LEN, Some(header)) = (IP, ip.first_chunk_mut()) {
            self.patch_ipv4(header, protocol, len, inner);
        } else if let Some(header) = ip.first_chunk_mut() {
            self.patch_ipv6(header, protocol, len, inner);
        }
        if matches!(KIND, UDP | PLAIN_UDP) {
            put(shim, 0, inner.hash.port(self.policy.ports).to_be_bytes());
            put(shim, 4, (len as u16).to_be_bytes());
        }
        match KIND {
            GRE => self.patch_gre::<SHIM>(packet.with_front(SHIM), carried),
            UDP => self.patch_udp(packet.with_front(SHIM + options_len), carried),
            _ => {}
        }
        packet.grow_front(self.header_len);
        Ok(())
    }

    #[inline(always)]
    fn patch_ipv4(
        &mut self,
        header: &mut [u8; ipv4::LEN],
        protocol: IpProtocol,
        len: usize,
        inner: Inner,
    ) {
        let shared = self.policy.shared.with(inner.shared);
        let (class, ttl, flags) = (shared >> 24, shared >> 16 & 0xff, shared & 0xffff);
        let total_length = (ipv4::LEN + len) as u32;
        let mut identification = 0;
        if flags == 0 {
            identification = u32::from(self.identification);
            self.identification = self.identification.wrapping_add(1);
        }
        // As the five words of 16 bits that they are, and the sum of all.
        let class = 0x4500 | class;
        let ttl = ttl << 8 | u32::from(protocol.0);
        let sum = self.sum + class + total_length + identification + flags + ttl;
        // Wide writes: as many narrow ones would take as many turns.
        let first = u64::from(class << 16 | total_length) << 32;
        let second = u64::from(identification << 16 | flags);
        field::put::<0, 8, _>(header, (first | second).to_be_bytes());
        field::put_u32::<8, _>(header, ttl << 16 | u32::from(complement(sum)));
    }

    #[inline(always)]
    fn patch_ipv6(
        &self,
        header: &mut [u8; ipv6::LEN],
        protocol: IpProtocol,
        len: usize,
        inner: Inner,
    ) {
        let shared = self.policy.shared.with(inner.shared);
        let (class, ttl) = (shared >> 24, shared >> 16 & 0xff);
        let first = 6 << 28 | class << 20 | self.policy.flow_label.with(inner.hash.label());
        let second = (len as u32) << 16 | u32::from(protocol.0) << 8 | ttl;
        let both = u64::from(first) << 32 | u64::from(second);
        field::put::<0, 8, _>(header, both.to_be_bytes());
    }

    /// Patches the header at the beginning of `bytes`, of which the rest is the inner packet.
    fn patch_gre<const SHIM: usize>(&mut self, bytes: &mut [u8], carried: Option<IpVersion>) {
        let Shim::Gre { checksum, sequence } = &mut self.shim else { return };
        if let Some(version) = carried {
            put(bytes, 2, EtherType::ip(version).0.to_be_bytes());
        }
        if let Some(sequence) = sequence {
            put(bytes, SHIM - gre::FIELD_LEN, sequence.to_be_bytes());
            *sequence = sequence.wrapping_add(1);
        }
        if *checksum {
            put(bytes, gre::LEN, checksum::of(bytes).to_be_bytes());
        }
    }

    /// Patches what follows the ports and the length of a whole datagram.
    fn patch_udp(&self, datagram: &mut [u8], carried: Option<IpVersion>) {
        if let (Some(version), Shim::Udp(next)) = (carried, self.shim) {
            match next {
                Next::Nothing => {}
                Next::VxlanGpe => put(datagram, udp::LEN + 3, [NextProtocol::ip(version).0]),
                Next::Gue => put(datagram, udp::LEN + 1, [IpProtocol::ip(version).0]),
                Next::Geneve => {
                    put(datagram, udp::LEN + 2, EtherType::ip(version).0.to_be_bytes());
                }
            }
        }
        if let Some(addresses) = &self.udp_checksum {
            let sum = Checksum::new()
                .pseudo_header(addresses, IpProtocol::UDP, datagram.len() as u32)
                .bytes(datagram)
                .finish();
            // 0 would mean that there is none.
            put(datagram, 6, if sum == 0 { 0xffff } else { sum }.to_be_bytes());
        }
    }

    /// Writes Geneve's options right before the packet.
    fn write_options(&self, packet: &mut PacketBuffer<'_>) {
        let len = self.options_len;
        let room = packet.with_front(len).get_mut(..len);
        if let (Some(room), Some(options)) = (room, self.options.get(..len)) {
            room.copy_from_slice(options);
        }
    }
}

/// The function that writes these headers.
fn writer(link_len: usize, version: IpVersion, kind: u8, shim_len: usize) -> Write {
    macro_rules! write_as {
        ($link:expr, $ip:expr) => {
            match (kind, shim_len) {
                (NONE, _) => write_as!($link, $ip, 0, NONE),
                (GRE, 4) => write_as!($link, $ip, 4, GRE),
                (GRE, 8) => write_as!($link, $ip, 8, GRE),
                (GRE, 12) => write_as!($link, $ip, 12, GRE),
                (GRE, _) => write_as!($link, $ip, 16, GRE),
                (PLAIN_UDP, 8) => write_as!($link, $ip, 8, PLAIN_UDP),
                (PLAIN_UDP, _) => write_as!($link, $ip, 16, PLAIN_UDP),
                (_, 8) => write_as!($link, $ip, 8, UDP),
                (_, 12) => write_as!($link, $ip, 12, UDP),
                (_, _) => write_as!($link, $ip, 16, UDP),
            }
        };
        ($link:expr, $ip:expr, $shim:expr, $kind:expr) => {
            Template::write_as::<{ $link }, { $ip }, { $shim }, { $link + $ip + $shim }, { $kind }>
        };
    }
    match (link_len, version) {
        (0, IpVersion::V4) => write_as!(0, ipv4::LEN),
        (0, IpVersion::V6) => write_as!(0, ipv6::LEN),
        (_, IpVersion::V4) => write_as!(ethernet::LEN, ipv4::LEN),
        (_, IpVersion::V6) => write_as!(ethernet::LEN, ipv6::LEN),
    }
}

/// The checksum that belongs to a sum of a few 16-bit words.
#[inline(always)]
const fn complement(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum + (sum >> 16)) as u16)
}

/// Writes a field at an offset, unless it lies outside.
#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    if let Some(slot) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *slot = field;
    }
}

/// What is between the outer IP header and the inner packet.
struct PreparedShim {
    kind: Shim,
    /// What the outer IP header calls it.
    protocol: IpProtocol,
    /// Without Geneve's options, and with zeros where it varies.
    bytes: [u8; MAX_SHIM],
    len: usize,
    options: [u8; MAX_GENEVE_OPTIONS],
    options_len: usize,
}

impl PreparedShim {
    fn new(tunnel: &Tunnel<'_>) -> Result<Self, Error> {
        let ether_type = match tunnel.carries() {
            Framing::Ethernet => EtherType::ETHERNET,
            Framing::Ip => EtherType::IPV4,
        };
        match *tunnel {
            Tunnel::IpInIp => {
                Ok(Self::without_options(Shim::None, IpProtocol::IPV4, [0; MAX_SHIM], 0))
            }
            Tunnel::IpInUdp { port } => Self::udp(port, Next::Nothing, &[]),
            Tunnel::Vxlan { port, header } => Self::udp(port, Next::Nothing, &header.to_bytes()),
            Tunnel::VxlanGpe { port, vni, carries } => {
                let next = match carries {
                    Framing::Ethernet => NextProtocol::ETHERNET,
                    Framing::Ip => NextProtocol::IPV4,
                };
                Self::udp(port, Next::VxlanGpe, &VxlanGpeHeader::new(vni, next).to_bytes())
            }
            Tunnel::Gue { port, carries } => {
                let protocol = match carries {
                    Framing::Ethernet => IpProtocol::ETHERNET,
                    Framing::Ip => IpProtocol::IPV4,
                };
                let mut bytes = [0; gue::LEN];
                GueHeader::new(protocol).emit(&mut bytes)?;
                Self::udp(port, Next::Gue, &bytes)
            }
            Tunnel::Geneve { port, vni, options: given, .. } => {
                let header = GeneveHeader { options: given, ..GeneveHeader::new(vni, ether_type) };
                let mut shim = Self::udp(port, Next::Geneve, &header.fixed_bytes())?;
                let given = given.as_bytes();
                let Some(options) = shim.options.get_mut(..given.len()) else {
                    let expected = Expected::AtMost(MAX_GENEVE_OPTIONS as u64);
                    let found = given.len() as u64;
                    return Err(Error::field("Geneve", "options length", expected, found));
                };
                options.copy_from_slice(given);
                Ok(Self { options_len: given.len(), ..shim })
            }
            Tunnel::Gre { checksum, key, sequence, .. } => {
                let sequence = sequence.then_some(0);
                let header = GreHeader { protocol: ether_type, checksum, key, sequence };
                let mut bytes = [0; MAX_SHIM];
                header.emit(&mut bytes)?;
                if checksum {
                    put(&mut bytes, gre::LEN, [0, 0]);
                }
                let kind = Shim::Gre { checksum, sequence };
                Ok(Self::without_options(kind, IpProtocol::GRE, bytes, header.header_len()))
            }
        }
    }

    /// UDP and what follows it, at most 8 bytes.
    fn udp(port: u16, next: Next, header: &[u8]) -> Result<Self, Error> {
        let mut bytes = [0; MAX_SHIM];
        let len = udp::LEN + header.len();
        let Some(room) = bytes.get_mut(udp::LEN..len) else {
            return Err(Error::truncated("UDP", len, MAX_SHIM));
        };
        room.copy_from_slice(header);
        UdpHeader { src_port: 0, dst_port: port }.emit(&mut bytes, None)?;
        put(&mut bytes, 4, [0, 0]);
        Ok(Self::without_options(Shim::Udp(next), IpProtocol::UDP, bytes, len))
    }

    const fn without_options(
        kind: Shim,
        protocol: IpProtocol,
        bytes: [u8; MAX_SHIM],
        len: usize,
    ) -> Self {
        Self { kind, protocol, bytes, len, options: [0; MAX_GENEVE_OPTIONS], options_len: 0 }
    }
}
