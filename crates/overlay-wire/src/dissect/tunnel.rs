//! The outermost encapsulation of a packet, and what it costs.

use core::net::IpAddr;

use super::{Kind, Layer, Layers};
use crate::ethernet::EtherType;
use crate::overhead::Encapsulation;

/// The outermost encapsulation of a packet: who carries what for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tunnel {
    /// What it is.
    pub encapsulation: Encapsulation,
    /// The end that encapsulated the packet: the source address of the outer IP header.
    pub src: IpAddr,
    /// The end that is to unpack it: the destination address of the outer IP header.
    pub dst: IpAddr,
    /// The number that tells networks of the same ends apart, where there is one: the VNI of VXLAN and Geneve, the key
    /// of GRE.
    pub key: Option<u32>,
    /// Bytes on the wire from the outer IP header on.
    pub outer_len: usize,
    /// Bytes of the inner IP packet; of what an inner Ethernet frame carries, or the encapsulation itself, if that is
    /// no IP packet.
    pub inner_len: usize,
    /// Source and destination of the inner IP packet, if it is one.
    pub inner: Option<(IpAddr, IpAddr)>,
}

impl Tunnel {
    /// Bytes that the encapsulation has added: what [`Encapsulation::overhead`] says, options and extensions included.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        self.outer_len.saturating_sub(self.inner_len)
    }

    pub(super) fn of(layers: Layers<'_, '_>) -> Option<Self> {
        let mut outer: Option<(IpAddr, IpAddr, usize)> = None;
        let mut tunnel: Option<Self> = None;
        let mut through_udp = false;
        for layer in layers {
            if let Some(tunnel) = &mut tunnel {
                // Behind the encapsulation: Ethernet and its tags, until there is what they carry.
                match layer.kind {
                    Kind::Ethernet(_) | Kind::Vlan(_) => tunnel.inner_len = payload_len(&layer),
                    _ => {
                        tunnel.inner = addresses(&layer);
                        tunnel.inner_len = ip_len(&layer);
                        return Some(*tunnel);
                    }
                }
                continue;
            }
            let (encapsulation, key) = match (layer.kind, outer) {
                (Kind::Ipv4(_) | Kind::Ipv6(_), None) => {
                    outer = addresses(&layer).map(|(src, dst)| (src, dst, ip_len(&layer)));
                    continue;
                }
                (Kind::Udp(_), _) => {
                    through_udp = true;
                    continue;
                }
                (Kind::Ipv4(_) | Kind::Ipv6(_), Some(_)) if through_udp => {
                    (Encapsulation::IpInUdp, None)
                }
                (Kind::Ipv4(_) | Kind::Ipv6(_), Some(_)) => (Encapsulation::IpInIp, None),
                (Kind::Vxlan(packet), _) => (Encapsulation::Vxlan, Some(packet.vni().get())),
                (Kind::VxlanGpe(packet), _) => (Encapsulation::VxlanGpe, Some(packet.vni().get())),
                (Kind::Geneve(packet), _) => (Encapsulation::Geneve, Some(packet.vni().get())),
                (Kind::Gre(packet), _) if packet.protocol() == EtherType::ETHERNET => {
                    (Encapsulation::GreTap, packet.key())
                }
                (Kind::Gre(packet), _) => (Encapsulation::Gre, packet.key()),
                (Kind::Gue(_), _) => (Encapsulation::Gue, None),
                _ => continue,
            };
            let (src, dst, outer_len) = outer?;
            let is_ip = matches!(layer.kind, Kind::Ipv4(_) | Kind::Ipv6(_));
            let inner_len = if is_ip { ip_len(&layer) } else { payload_len(&layer) };
            let inner = addresses(&layer).filter(|_| is_ip);
            let found = Self { encapsulation, src, dst, key, outer_len, inner_len, inner };
            if is_ip {
                return Some(found);
            }
            tunnel = Some(found);
        }
        tunnel
    }
}

const fn payload_len(layer: &Layer<'_>) -> usize {
    layer.length.saturating_sub(layer.header_len)
}

/// Bytes of an IP packet, without the padding behind it.
fn ip_len(layer: &Layer<'_>) -> usize {
    let claimed = match layer.kind {
        Kind::Ipv4(packet) => packet.total_length().into(),
        Kind::Ipv6(packet) => crate::ipv6::LEN + usize::from(packet.payload_length()),
        _ => layer.length,
    };
    claimed.min(layer.length)
}

const fn addresses(layer: &Layer<'_>) -> Option<(IpAddr, IpAddr)> {
    match layer.kind {
        Kind::Ipv4(packet) => Some((IpAddr::V4(packet.src()), IpAddr::V4(packet.dst()))),
        Kind::Ipv6(packet) => Some((IpAddr::V6(packet.src()), IpAddr::V6(packet.dst()))),
        _ => None,
    }
}
