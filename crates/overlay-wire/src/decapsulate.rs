//! Taking packets out of tunnels, in place, under a policy that says what is accepted.
//!
//! A [`Decapsulator`] made of a [`Policy`] checks every header from the outside in: versions, lengths, checksums,
//! addresses, port, network, reserved bits, congestion notification. What passes all of it is left in the
//! [`PacketBuffer`], without its outer headers; the result says what they told. What does not is [`Rejected`], which
//! says why, and stays as it was.
//!
//! What is usual is checked by code that is compiled into the caller's: frames of VXLAN over IPv4, without IP options, VLAN
//! tags and a UDP checksum to verify.
//!
//! ```
//! use overlay_wire::buffer::PacketBuffer;
//! use overlay_wire::decapsulate::{Accept, Decapsulator, Policy, Rejected};
//! use overlay_wire::encapsulate::{Outer, Template, Tunnel};
//! use overlay_wire::vxlan::{self, VxlanHeader};
//! use overlay_wire::{Framing, Vni};
//!
//! let outer = Outer::new("192.168.32.245".parse()?, "192.168.32.246".parse()?);
//! let header = VxlanHeader::new(Vni::new(1)?);
//! let mut template = Template::new(&outer, &Tunnel::Vxlan { port: vxlan::PORT, header })?;
//! let mut buffer = [0; 64 + 60];
//! let mut packet = PacketBuffer::new(&mut buffer, 64);
//! template.encapsulate(&mut packet)?;
//!
//! let accept = Accept::Vxlan { port: vxlan::PORT, vni: Some(Vni::new(1)?), group_policy: false };
//! let decapsulator = Decapsulator::new(&Policy::new(Framing::Ip, accept));
//! let learned = decapsulator.decapsulate(&mut packet)?;
//! assert_eq!((learned.src(), learned.inner().len()), (outer.src, 60));
//!
//! // It has been taken out already: a frame is no IP packet.
//! assert!(matches!(decapsulator.decapsulate(&mut packet), Err(Rejected::Malformed(_))));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod usual;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use crate::buffer::PacketBuffer;
use crate::encapsulate::Tunnel;
use crate::error::Error;
use crate::ethernet::{self, EtherType, EthernetFrame};
use crate::framing::Framing;
use crate::geneve::{GeneveOptions, GenevePacket};
use crate::gre::GrePacket;
use crate::gue::{Gue, GueContent};
use crate::ip::{self, Ecn, IpPacket, IpProtocol, IpVersion};
use crate::ipv4::Ipv4Packet;
use crate::ipv6::extension::{Extension, Ipv6Option};
use crate::ipv6::{self, Ipv6Packet};
use crate::mac::MacAddr;
use crate::udp::{self, UdpPacket};
use crate::vlan::{self, VlanPacket};
use crate::vni::Vni;
use crate::vxlan::{self, GroupPolicy, VxlanPacket};
use crate::vxlan_gpe::{self, NextProtocol, VxlanGpePacket};

use self::usual::{Open, Usual};

/// Which tunnel's packets are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Accept {
    /// IP-in-IP of both inner versions.
    IpInIp,
    /// IP packets in UDP.
    IpInUdp {
        /// The destination port.
        port: u16,
    },
    /// VXLAN.
    Vxlan {
        /// The destination port.
        port: u16,
        /// The network; `None` for any.
        vni: Option<Vni>,
        /// Whether the group policy extension has been agreed on. If not, its bits are reserved bits.
        group_policy: bool,
    },
    /// VXLAN-GPE with an Ethernet frame or an IP packet in it.
    VxlanGpe {
        /// The destination port.
        port: u16,
        /// The network; `None` for any.
        vni: Option<Vni>,
    },
    /// GRE with an Ethernet frame or an IP packet in it. A checksum is verified if there is one.
    Gre {
        /// The key.
        key: GreKey,
    },
    /// GUE with an Ethernet frame or an IP packet in it: variant 0 without extension fields, and variant 1, which is an
    /// IP packet alone.
    Gue {
        /// The destination port.
        port: u16,
    },
    /// Geneve with an Ethernet frame or an IP packet in it.
    Geneve {
        /// The destination port.
        port: u16,
        /// The network; `None` for any.
        vni: Option<Vni>,
        /// Whether packets with options that must be understood are accepted: the caller looks at them (RFC 8926,
        /// section 3.5).
        critical_options: bool,
    },
}

/// The packets that a peer with this tunnel sends, and no others. Geneve options that must be understood are accepted if
/// the tunnel has such.
impl From<&Tunnel<'_>> for Accept {
    fn from(tunnel: &Tunnel<'_>) -> Self {
        match *tunnel {
            Tunnel::IpInIp => Self::IpInIp,
            Tunnel::IpInUdp { port } => Self::IpInUdp { port },
            Tunnel::Vxlan { port, header } => Self::Vxlan {
                port,
                vni: Some(header.vni),
                group_policy: header.group_policy.is_some(),
            },
            Tunnel::VxlanGpe { port, vni, .. } => Self::VxlanGpe { port, vni: Some(vni) },
            Tunnel::Gre { key, .. } => Self::Gre { key: key.map_or(GreKey::None, GreKey::Is) },
            Tunnel::Gue { port, .. } => Self::Gue { port },
            Tunnel::Geneve { port, vni, options, .. } => {
                Self::Geneve { port, vni: Some(vni), critical_options: options.any_critical() }
            }
        }
    }
}

/// Which GRE keys are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GreKey {
    /// Any, and none.
    Any,
    /// None.
    None,
    /// This one.
    Is(u32),
}

impl GreKey {
    const fn accepts(self, key: Option<u32>) -> bool {
        match (self, key) {
            (Self::Any, _) | (Self::None, None) => true,
            (Self::Is(expected), Some(found)) => expected == found,
            _ => false,
        }
    }
}

impl fmt::Display for GreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::None => f.write_str("none"),
            Self::Is(key) => write!(f, "{key}"),
        }
    }
}

/// What is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Policy {
    /// What the outer packets begin with. In front of IP, up to two VLAN tags are looked through.
    pub framing: Framing,
    /// The tunnel.
    pub accept: Accept,
    /// The destination address; `None` for any.
    pub local: Option<IpAddr>,
    /// The source address; `None` for any. IP-in-IP has nothing else that says who may send (RFC 2003, section 4).
    pub remote: Option<IpAddr>,
    /// Whether the checksum of the outer IPv4 header is verified, which a device may have done already.
    pub verify_ip_checksum: bool,
    /// What is done about the outer UDP checksum.
    pub udp_checksum: UdpChecksumRule,
    /// What is done about reserved bits that are set.
    pub reserved: Reserved,
    /// What is done about the outer congestion notification.
    pub ecn: EcnRule,
}

/// What is done about an outer UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UdpChecksumRule {
    /// It is not looked at: a device has verified it.
    Ignore,
    /// It is verified if there is one. Over IPv6 this is the choice that RFC 6936 leaves to those who know that their
    /// tunnel does without.
    IfPresent,
    /// It is verified if there is one, and over IPv6 there must be one (RFC 8200, section 8.1).
    RequireOverIpv6,
    /// It is verified, and there must be one.
    Require,
}

/// What is done about reserved bits of the tunnel's header that are set: those that `reserved()` of its view tells. Not
/// those beside GRE's checksum, and not those of Geneve's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reserved {
    /// They are ignored, as RFC 7348 and others ask of receivers.
    Ignore,
    /// The packet is rejected, as Linux does with VXLAN.
    Reject,
}

/// What is done about the outer congestion notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EcnRule {
    /// It is combined with the inner one (RFC 6040, section 4.2): congestion in the underlay is told to the inner
    /// receiver, or the packet is rejected when that would not understand it.
    Combine,
    /// It is ignored. Congestion in the underlay goes unnoticed.
    Ignore,
}

/// What the outer headers of an accepted packet tell. They are in the headroom now, and read when they are asked for.
#[derive(Clone, Copy)]
pub struct Decapsulated<'p> {
    headers: &'p [u8],
    inner: &'p [u8],
    shape: Shape,
}

/// Where the outer headers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Bytes of all outer headers.
    header_len: usize,
    /// Where the IP header begins.
    ip_at: u16,
    /// Where that begins which is behind the IP header, and behind UDP if there is UDP.
    shim_at: u16,
    shim: Shim,
    vni: Option<Vni>,
    carries: Framing,
}

/// What is in front of the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shim {
    Ip,
    Udp,
    Vxlan,
    /// With a group policy that has been agreed on.
    VxlanGroup,
    VxlanGpe,
    Gre,
    Gue,
    Geneve,
}

impl<'p> Decapsulated<'p> {
    /// Leaves the inner packet.
    #[inline(always)]
    fn new(packet: &'p mut PacketBuffer<'_>, shape: Shape, inner_len: usize) -> Self {
        let (headers, inner) = packet.strip(shape.header_len, inner_len);
        Self { headers, inner, shape }
    }

    /// The outer headers, beginning with what the outer packet began with.
    #[must_use]
    #[inline]
    pub const fn headers(&self) -> &'p [u8] {
        self.headers
    }

    /// The inner packet: what is left in the [`PacketBuffer`].
    #[must_use]
    #[inline]
    pub const fn inner(&self) -> &'p [u8] {
        self.inner
    }

    /// Whether the inner packet is an Ethernet frame or an IP packet.
    #[must_use]
    #[inline]
    pub const fn carries(&self) -> Framing {
        self.shape.carries
    }

    /// Where it came from: the peer.
    #[must_use]
    #[inline]
    pub fn src(&self) -> IpAddr {
        self.addresses().0
    }

    /// Where it went to.
    #[must_use]
    #[inline]
    pub fn dst(&self) -> IpAddr {
        self.addresses().1
    }

    /// The outer congestion notification.
    #[must_use]
    #[inline]
    pub fn ecn(&self) -> Ecn {
        let ip = self.from(self.shape.ip_at);
        match ip.first_chunk() {
            Some([first, class]) if first >> 4 == 6 => Ecn::of(class >> 4),
            Some([_, class]) => Ecn::of(*class),
            None => Ecn::NotEct,
        }
    }

    /// The source port, of tunnels over UDP.
    #[must_use]
    #[inline]
    pub fn src_port(&self) -> Option<u16> {
        match self.shape.shim {
            Shim::Ip | Shim::Gre => None,
            _ => {
                let udp = self.from(self.shape.shim_at.checked_sub(udp::LEN as u16)?);
                udp.first_chunk().map(|port| u16::from_be_bytes(*port))
            }
        }
    }

    /// The network, of VXLAN, VXLAN-GPE and Geneve.
    #[must_use]
    #[inline]
    pub const fn vni(&self) -> Option<Vni> {
        self.shape.vni
    }

    /// VXLAN's group policy extension, if it has been agreed on.
    #[must_use]
    #[inline]
    pub fn group_policy(&self) -> Option<GroupPolicy> {
        match self.shape.shim {
            Shim::VxlanGroup => {
                VxlanPacket::parse(self.from(self.shape.shim_at)).ok()?.group_policy()
            }
            _ => None,
        }
    }

    /// The key, of GRE.
    #[must_use]
    #[inline]
    pub fn key(&self) -> Option<u32> {
        self.gre()?.key()
    }

    /// The sequence number, of GRE.
    #[must_use]
    #[inline]
    pub fn sequence(&self) -> Option<u32> {
        self.gre()?.sequence()
    }

    /// The options, of Geneve.
    #[must_use]
    #[inline]
    pub fn geneve_options(&self) -> Option<GeneveOptions<'p>> {
        match self.shape.shim {
            Shim::Geneve => {
                Some(GenevePacket::parse(self.from(self.shape.shim_at)).ok()?.options())
            }
            _ => None,
        }
    }

    /// The sender of an inner Ethernet frame, which is behind [`src`](Self::src); `None` when it is no station's
    /// address.
    #[must_use]
    #[inline]
    pub fn inner_src(&self) -> Option<MacAddr> {
        match self.shape.carries {
            Framing::Ethernet => {
                let frame = EthernetFrame::parse(self.inner()).ok()?;
                Some(frame.src()).filter(|mac| mac.is_unicast())
            }
            Framing::Ip => None,
        }
    }

    /// The headers from an offset on.
    fn from(&self, at: u16) -> &'p [u8] {
        self.headers().get(usize::from(at)..).unwrap_or_default()
    }

    fn gre(&self) -> Option<GrePacket<'p>> {
        match self.shape.shim {
            Shim::Gre => GrePacket::parse(self.from(self.shape.shim_at)).ok(),
            _ => None,
        }
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        // The headers have been checked: it is one of the two.
        let ip = self.from(self.shape.ip_at);
        match (Ipv6Packet::parse_cut(ip), Ipv4Packet::parse_cut(ip)) {
            (Ok(packet), _) => (packet.src().into(), packet.dst().into()),
            (_, Ok(packet)) => (packet.src().into(), packet.dst().into()),
            _ => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()),
        }
    }
}

impl fmt::Debug for Decapsulated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decapsulated")
            .field("src", &self.src())
            .field("dst", &self.dst())
            .field("src_port", &self.src_port())
            .field("vni", &self.vni())
            .field("group_policy", &self.group_policy())
            .field("key", &self.key())
            .field("sequence", &self.sequence())
            .field("geneve_options", &self.geneve_options())
            .field("ecn", &self.ecn())
            .field("carries", &self.carries())
            .field("inner_src", &self.inner_src())
            .field("headers", &self.headers().len())
            .field("inner", &self.inner().len())
            .finish()
    }
}

/// Why a packet was not accepted. It has not been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// A header, also of the inner packet, is not what it should be.
    #[error(transparent)]
    Malformed(#[from] Error),
    /// The outer frame carries neither IPv4 nor IPv6.
    #[error("EtherType: expected IP, found {0}")]
    EtherType(EtherType),
    /// The destination is another one.
    #[error("destination: expected {expected}, found {found}")]
    Destination {
        /// The policy's.
        expected: IpAddr,
        /// The packet's.
        found: IpAddr,
    },
    /// The source is another one.
    #[error("source: expected {expected}, found {found}")]
    Source {
        /// The policy's.
        expected: IpAddr,
        /// The packet's.
        found: IpAddr,
    },
    /// It is a fragment, which has to be put together with the others before.
    #[error("a fragment: reassemble it before decapsulating")]
    Fragment,
    /// The outer IP packet carries something else.
    #[error("protocol: found {0}, which is not the tunnel's")]
    Protocol(IpProtocol),
    /// The destination port is another one.
    #[error("destination port: expected {expected}, found {found}")]
    Port {
        /// The policy's.
        expected: u16,
        /// The packet's.
        found: u16,
    },
    /// A checksum is wrong.
    #[error("{0}: wrong checksum")]
    Checksum(&'static str),
    /// There is no UDP checksum, and there must be one.
    #[error("UDP: no checksum")]
    NoChecksum,
    /// The network is another one.
    #[error("VNI: expected {expected}, found {found}")]
    Vni {
        /// The policy's.
        expected: Vni,
        /// The packet's.
        found: Vni,
    },
    /// The GRE key is another one.
    #[error("GRE key: expected {expected}, found {found}")]
    Key {
        /// The policy's.
        expected: GreKey,
        /// The packet's.
        found: GreKey,
    },
    /// Reserved bits are set.
    #[error("reserved bits: expected 0, found {0:#x}")]
    Reserved(u64),
    /// It is no data but a message to the tunnel's end.
    #[error("a control message")]
    Control,
    /// It has options or extension fields that must be understood.
    #[error("options that must be understood")]
    Options,
    /// The tunnel's header says that it carries neither Ethernet nor IP.
    #[error("payload type: expected Ethernet or IP, found {0:#x}")]
    PayloadType(u16),
    /// The underlay was congested, and the inner packet cannot tell it (RFC 6040, section 4.2).
    #[error("ECN: congestion experienced by a packet that does not understand it")]
    Congestion,
}

/// How many VLAN tags are looked through.
const MAX_TAGS: usize = 2;

impl Policy {
    /// The strictest policy that peers who follow the RFCs can live with, from and to any address: all checksums are
    /// verified where there are some, over IPv6 UDP must have one, reserved bits are ignored, congestion notification
    /// is combined. VXLAN may do without a UDP checksum over IPv6, too, as RFC 7348, section 5 asks of receivers.
    #[must_use]
    pub const fn new(framing: Framing, accept: Accept) -> Self {
        Self {
            framing,
            accept,
            local: None,
            remote: None,
            verify_ip_checksum: true,
            udp_checksum: match accept {
                Accept::Vxlan { .. } => UdpChecksumRule::IfPresent,
                _ => UdpChecksumRule::RequireOverIpv6,
            },
            reserved: Reserved::Ignore,
            ecn: EcnRule::Combine,
        }
    }
}

/// A policy made ready to look at packets.
#[derive(Clone, Debug)]
pub struct Decapsulator {
    policy: Policy,
    usual: Usual,
    /// Whether the policy is one about VXLAN in frames, which are looked at before anything is called.
    is_vxlan: bool,
    open: Open,
}

impl Decapsulator {
    /// What accepts what the policy accepts.
    #[must_use]
    pub const fn new(policy: &Policy) -> Self {
        Self {
            policy: *policy,
            usual: Usual::new(policy),
            is_vxlan: matches!(
                (policy.framing, policy.accept),
                (Framing::Ethernet, Accept::Vxlan { .. })
            ),
            open: usual::open(policy),
        }
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes the inner packet out of an outer one.
    ///
    /// # Errors
    /// [`Rejected`] when the policy does not accept it. The packet is as it was then.
    // Always: what the caller does not ask for is not even computed then.
    #[inline(always)]
    pub fn decapsulate<'p>(
        &self,
        packet: &'p mut PacketBuffer<'_>,
    ) -> Result<Decapsulated<'p>, Rejected> {
        if self.is_vxlan
            && let Some((shape, inner_len)) =
                self.usual.over_ipv4::<{ ethernet::LEN }, { usual::VXLAN }>(packet)
        {
            return Ok(Decapsulated::new(packet, shape, inner_len));
        }
        (self.open)(self, packet)
    }

    /// Takes the inner packets out of many outer ones and hands each result to `each`, with the packet's index.
    #[inline]
    pub fn decapsulate_batch(
        &self,
        packets: &mut [PacketBuffer<'_>],
        mut each: impl FnMut(usize, Result<Decapsulated<'_>, Rejected>),
    ) {
        for (index, packet) in packets.iter_mut().enumerate() {
            each(index, self.decapsulate(packet));
        }
    }

    /// The complete check.
    fn any<'p>(&self, packet: &'p mut PacketBuffer<'_>) -> Result<Decapsulated<'p>, Rejected> {
        let bytes = packet.as_slice();
        let (ip, link_len) = match self.policy.framing {
            Framing::Ip => (IpPacket::parse(bytes)?, 0),
            Framing::Ethernet => outer_ip(bytes)?,
        };
        let (inner, shape) = self.open(&ip, link_len)?;
        if shape.carries == Framing::Ethernet {
            EthernetFrame::parse(inner)?;
        }
        let inner_len = inner.len();
        // What else could the outer notification change?
        let new_ecn = match (self.policy.ecn, ip.ecn()) {
            (EcnRule::Combine, outer @ (Ecn::Ce | Ecn::Ect1)) => {
                combine(outer, shape.carries, inner)?
            }
            _ => None,
        };
        if let Some((at, ecn)) = new_ecn
            && let Some(header) = packet.as_mut_slice().get_mut(shape.header_len + at..)
        {
            ip::set_ecn(header, ecn)?;
        }
        Ok(Decapsulated::new(packet, shape, inner_len))
    }

    /// Checks the outer headers. Returns the inner packet and where they are.
    #[inline(always)]
    fn open<'p>(&self, ip: &IpPacket<'p>, link_len: usize) -> Result<(&'p [u8], Shape), Rejected> {
        if self.policy.verify_ip_checksum
            && let IpPacket::V4(packet) = ip
            && !packet.is_checksum_valid()
        {
            return Err(Rejected::Checksum("IPv4"));
        }
        let (src, dst) = (ip.src(), ip.dst());
        if let Some(expected) = self.policy.local.filter(|local| *local != dst) {
            return Err(Rejected::Destination { expected, found: dst });
        }
        if let Some(expected) = self.policy.remote.filter(|remote| *remote != src) {
            return Err(Rejected::Source { expected, found: src });
        }
        let (protocol, payload, ip_len) = upper_layer(ip)?;
        let header_len = link_len + ip_len;
        let mut shape = Shape {
            header_len,
            ip_at: link_len as u16,
            // An IP packet is not longer than 16 bits can say.
            shim_at: header_len as u16,
            shim: Shim::Ip,
            vni: None,
            carries: Framing::Ip,
        };
        let inner = match self.policy.accept {
            Accept::IpInIp => match protocol {
                IpProtocol::IPV4 | IpProtocol::IPV6 => inner_ip(protocol, payload)?,
                other => return Err(Rejected::Protocol(other)),
            },
            Accept::IpInUdp { port } => {
                let datagram = self.udp(ip, protocol, payload, port, &mut shape)?;
                IpPacket::parse(datagram)?;
                datagram
            }
            Accept::Vxlan { port, vni, group_policy } => {
                let datagram = self.udp(ip, protocol, payload, port, &mut shape)?;
                let packet = VxlanPacket::parse(datagram)?;
                let found = packet.group_policy().filter(|_| group_policy);
                self.reserved(packet.unexplained(found.is_some()))?;
                network(vni, packet.vni())?;
                shape.header_len += vxlan::LEN;
                shape.shim = if found.is_some() { Shim::VxlanGroup } else { Shim::Vxlan };
                shape.vni = Some(packet.vni());
                shape.carries = Framing::Ethernet;
                packet.payload()
            }
            Accept::VxlanGpe { port, vni } => {
                let datagram = self.udp(ip, protocol, payload, port, &mut shape)?;
                let packet = VxlanGpePacket::parse(datagram)?;
                self.reserved(packet.reserved())?;
                network(vni, packet.vni())?;
                if packet.oam() {
                    return Err(Rejected::Control);
                }
                shape.header_len += vxlan_gpe::LEN;
                shape.shim = Shim::VxlanGpe;
                shape.vni = Some(packet.vni());
                match packet.next_protocol() {
                    // Without the P flag it is as VXLAN.
                    Some(NextProtocol::ETHERNET) | None => {
                        shape.carries = Framing::Ethernet;
                        packet.payload()
                    }
                    Some(NextProtocol::IPV4) => inner_ip(IpProtocol::IPV4, packet.payload())?,
                    Some(NextProtocol::IPV6) => inner_ip(IpProtocol::IPV6, packet.payload())?,
                    Some(other) => return Err(Rejected::PayloadType(other.0.into())),
                }
            }
            Accept::Gre { key } => {
                if protocol != IpProtocol::GRE {
                    return Err(Rejected::Protocol(protocol));
                }
                let packet = GrePacket::parse(payload)?;
                if !packet.is_checksum_valid() {
                    return Err(Rejected::Checksum("GRE"));
                }
                self.reserved(packet.reserved().into())?;
                if !key.accepts(packet.key()) {
                    let found = packet.key().map_or(GreKey::None, GreKey::Is);
                    return Err(Rejected::Key { expected: key, found });
                }
                shape.header_len += packet.header_len();
                shape.shim = Shim::Gre;
                inner_of(packet.protocol(), packet.payload(), &mut shape)?
            }
            Accept::Gue { port } => {
                let datagram = self.udp(ip, protocol, payload, port, &mut shape)?;
                shape.shim = Shim::Gue;
                let packet = match Gue::parse(datagram)? {
                    Gue::Variant0(packet) => packet,
                    Gue::Variant1(_) => return Ok((datagram, shape)),
                };
                if packet.flags() != 0 || !packet.extensions().is_empty() {
                    return Err(Rejected::Options);
                }
                shape.header_len += packet.header_len();
                match packet.content() {
                    GueContent::Control(_) => return Err(Rejected::Control),
                    GueContent::Data(IpProtocol::ETHERNET) => {
                        shape.carries = Framing::Ethernet;
                        packet.payload()
                    }
                    GueContent::Data(protocol @ (IpProtocol::IPV4 | IpProtocol::IPV6)) => {
                        inner_ip(protocol, packet.payload())?
                    }
                    GueContent::Data(other) => return Err(Rejected::PayloadType(other.0.into())),
                }
            }
            Accept::Geneve { port, vni, critical_options } => {
                let datagram = self.udp(ip, protocol, payload, port, &mut shape)?;
                let packet = GenevePacket::parse(datagram)?;
                self.reserved(packet.reserved())?;
                network(vni, packet.vni())?;
                if packet.control() {
                    return Err(Rejected::Control);
                }
                if packet.critical() && !critical_options {
                    return Err(Rejected::Options);
                }
                shape.header_len += packet.header_len();
                shape.shim = Shim::Geneve;
                shape.vni = Some(packet.vni());
                inner_of(packet.protocol(), packet.payload(), &mut shape)?
            }
        };
        Ok((inner, shape))
    }

    /// Checks the UDP header. Returns what the datagram carries.
    #[inline(always)]
    fn udp<'p>(
        &self,
        ip: &IpPacket<'p>,
        protocol: IpProtocol,
        payload: &'p [u8],
        port: u16,
        shape: &mut Shape,
    ) -> Result<&'p [u8], Rejected> {
        if protocol != IpProtocol::UDP {
            return Err(Rejected::Protocol(protocol));
        }
        let packet = UdpPacket::parse(payload)?;
        if packet.dst_port() != port {
            return Err(Rejected::Port { expected: port, found: packet.dst_port() });
        }
        match (self.policy.udp_checksum, packet.checksum()) {
            (UdpChecksumRule::Ignore, _) | (UdpChecksumRule::IfPresent, 0) => {}
            (UdpChecksumRule::RequireOverIpv6, 0) if ip.version() == IpVersion::V4 => {}
            (_, 0) => return Err(Rejected::NoChecksum),
            _ if packet.is_checksum_valid(&ip.pseudo_header()) => {}
            _ => return Err(Rejected::Checksum("UDP")),
        }
        shape.header_len += udp::LEN;
        shape.shim_at = shape.header_len as u16;
        shape.shim = Shim::Udp;
        Ok(packet.payload())
    }

    #[inline(always)]
    const fn reserved(&self, bits: u64) -> Result<(), Rejected> {
        match self.policy.reserved {
            Reserved::Reject if bits != 0 => Err(Rejected::Reserved(bits)),
            _ => Ok(()),
        }
    }
}

/// The IP packet in a frame, and how many bytes are in front of it.
#[inline(always)]
fn outer_ip(bytes: &[u8]) -> Result<(IpPacket<'_>, usize), Rejected> {
    let frame = EthernetFrame::parse(bytes)?;
    let (mut ether_type, mut payload) = (frame.ether_type(), frame.payload());
    let mut len = ethernet::LEN;
    for _ in 0..MAX_TAGS {
        if !matches!(ether_type, EtherType::VLAN | EtherType::QINQ) {
            break;
        }
        let tag = VlanPacket::parse(payload)?;
        (ether_type, payload) = (tag.ether_type(), tag.payload());
        len += vlan::LEN;
    }
    let packet = match ether_type {
        EtherType::IPV4 => IpPacket::V4(Ipv4Packet::parse(payload)?),
        EtherType::IPV6 => IpPacket::V6(Ipv6Packet::parse(payload)?),
        other => return Err(Rejected::EtherType(other)),
    };
    Ok((packet, len))
}

/// What the outer IP packet carries, and how many bytes its headers have.
#[inline(always)]
fn upper_layer<'p>(ip: &IpPacket<'p>) -> Result<(IpProtocol, &'p [u8], usize), Rejected> {
    match ip {
        IpPacket::V4(packet) if packet.is_fragment() => Err(Rejected::Fragment),
        IpPacket::V4(packet) => Ok((packet.protocol(), packet.payload(), packet.header_len())),
        IpPacket::V6(packet)
            if matches!(packet.next_header(), IpProtocol::UDP | IpProtocol::GRE) =>
        {
            Ok((packet.next_header(), packet.payload(), ipv6::LEN))
        }
        IpPacket::V6(packet) => {
            for extension in packet.extensions() {
                obey(&extension?)?;
            }
            let upper = packet.upper_layer()?;
            if !upper.is_whole() {
                return Err(Rejected::Fragment);
            }
            Ok((upper.protocol, upper.payload, upper.header_len))
        }
    }
}

/// Whether an extension header lets the packet pass. The ends of tunnels are nodes like others (RFC 8200, section 4).
fn obey(extension: &Extension<'_>) -> Result<(), Rejected> {
    match extension {
        Extension::HopByHop(packet) | Extension::DestinationOptions(packet) => {
            for option in packet.iter() {
                // The two high bits say whether those who do not know it may go on.
                if let Ipv6Option::Other { kind, .. } = option?
                    && kind & 0xc0 != 0
                {
                    return Err(Rejected::Options);
                }
            }
            Ok(())
        }
        Extension::Routing(packet) if packet.segments_left() > 0 => {
            Err(Rejected::Protocol(IpProtocol::ROUTING))
        }
        Extension::Authentication(_) => Err(Rejected::Protocol(IpProtocol::AUTHENTICATION)),
        Extension::Routing(_) | Extension::Fragment(_) => Ok(()),
    }
}

/// Checks the network.
#[inline(always)]
fn network(expected: Option<Vni>, found: Vni) -> Result<(), Rejected> {
    match expected {
        Some(expected) if expected != found => Err(Rejected::Vni { expected, found }),
        _ => Ok(()),
    }
}

/// An inner packet that the header in front calls by an EtherType.
#[inline(always)]
fn inner_of<'p>(
    ether_type: EtherType,
    payload: &'p [u8],
    shape: &mut Shape,
) -> Result<&'p [u8], Rejected> {
    match ether_type {
        EtherType::ETHERNET => {
            shape.carries = Framing::Ethernet;
            Ok(payload)
        }
        EtherType::IPV4 => inner_ip(IpProtocol::IPV4, payload),
        EtherType::IPV6 => inner_ip(IpProtocol::IPV6, payload),
        other => Err(Rejected::PayloadType(other.0)),
    }
}

/// An inner packet that the header in front says to be of a version of IP: what it says itself is checked.
#[inline(always)]
fn inner_ip(protocol: IpProtocol, payload: &[u8]) -> Result<&[u8], Rejected> {
    match protocol {
        IpProtocol::IPV4 => drop(Ipv4Packet::parse(payload)?),
        _ => drop(Ipv6Packet::parse(payload)?),
    }
    Ok(payload)
}

/// The inner notification that an outer one of [`Ecn::Ce`] or [`Ecn::Ect1`] makes necessary, and the offset of the IP
/// header that it belongs into. `None` when nothing changes, also without inner IP.
#[cold]
fn combine(outer: Ecn, carries: Framing, inner: &[u8]) -> Result<Option<(usize, Ecn)>, Rejected> {
    let (ip, at) = match carries {
        Framing::Ip => (IpPacket::parse(inner)?, 0),
        Framing::Ethernet => match outer_ip(inner) {
            Ok(found) => found,
            Err(Rejected::EtherType(_)) => return Ok(None),
            Err(why) => return Err(why),
        },
    };
    let old = ip.ecn();
    match old.decapsulated(outer) {
        None => Err(Rejected::Congestion),
        Some(new) if new == old => Ok(None),
        Some(new) => Ok(Some((at, new))),
    }
}
