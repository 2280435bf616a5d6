//! The kernel's devices for IP in IP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlay_netlink::{EncapLimit, IfName, LinkKind, Tunnel, TunnelMode};
use overlay_wire::IpVersion;

/// A kind of device that carries packets of the overlay for all peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Carrier {
    /// IPv4 in IPv4.
    Ipip,
    /// IPv6 in IPv4.
    Sit,
    /// Either in IPv6.
    Ip6tnl,
}

impl Carrier {
    /// What carries packets of family `inner` over an underlay of family `outer`.
    pub(crate) const fn of(inner: IpVersion, outer: IpVersion) -> Self {
        match (inner, outer) {
            (IpVersion::V4, IpVersion::V4) => Self::Ipip,
            (IpVersion::V6, IpVersion::V4) => Self::Sit,
            (_, IpVersion::V6) => Self::Ip6tnl,
        }
    }

    /// The name of its device unless somebody wants another.
    pub(crate) fn default_name(self) -> IfName {
        let name = match self {
            Self::Ipip => "overlay.ipip",
            Self::Sit => "overlay.sit",
            Self::Ip6tnl => "overlay.ip6tnl",
        };
        IfName::new(name).expect("at most 14 bytes, and none that is forbidden")
    }

    /// Its kind, as the kernel is asked for it.
    pub(crate) fn kind(self) -> LinkKind<IfName> {
        let tunnel = Box::new(Tunnel::new());
        match self {
            Self::Ipip => LinkKind::Ipip(tunnel),
            Self::Sit => LinkKind::Sit(tunnel),
            Self::Ip6tnl => LinkKind::Ip6tnl(tunnel),
        }
    }

    /// The device with this near end.
    pub(crate) fn multipoint(self, local: IpAddr) -> LinkKind<IfName> {
        match self {
            Self::Ipip => ipip(local, None),
            Self::Sit => sit(local, None, TunnelMode::Ipv6),
            Self::Ip6tnl => {
                let mut tunnel = inheriting();
                tunnel.mode = Some(TunnelMode::Any);
                // The kernel takes no gateway on this device that another device has the link of.
                tunnel.external = true;
                LinkKind::Ip6tnl(Box::new(tunnel))
            }
        }
    }
}

/// The device between two ends that carries packets of these families.
pub(crate) fn point_to_point(
    local: IpAddr,
    remote: IpAddr,
    carried: &[IpVersion],
) -> LinkKind<IfName> {
    match (IpVersion::of(local), carried) {
        (IpVersion::V4, [IpVersion::V4]) => ipip(local, Some(remote)),
        (IpVersion::V4, [IpVersion::V6]) => sit(local, Some(remote), TunnelMode::Ipv6),
        (IpVersion::V4, _) => sit(local, Some(remote), TunnelMode::Any),
        (IpVersion::V6, _) => {
            let mut tunnel = inheriting();
            tunnel.mode = Some(TunnelMode::Any);
            (tunnel.local, tunnel.remote) = (Some(local), Some(remote));
            // Eight bytes of every packet against loops that the inner hop limit ends anyway.
            tunnel.encap_limit = Some(EncapLimit::Off);
            LinkKind::Ip6tnl(Box::new(tunnel))
        }
    }
}

fn ipip(local: IpAddr, remote: Option<IpAddr>) -> LinkKind<IfName> {
    let mut tunnel = inheriting();
    (tunnel.local, tunnel.remote) = (Some(local), remote);
    // Don't Fragment is then the inner packet's.
    tunnel.pmtudisc = Some(false);
    LinkKind::Ipip(Box::new(tunnel))
}

fn sit(local: IpAddr, remote: Option<IpAddr>, mode: TunnelMode) -> LinkKind<IfName> {
    let mut tunnel = inheriting();
    (tunnel.local, tunnel.remote) = (Some(local), remote);
    tunnel.mode = Some(mode);
    // IPv6 packets are not for routers to cut, so their sources are to hear of the path's MTU.
    tunnel.pmtudisc = Some(true);
    LinkKind::Sit(Box::new(tunnel))
}

/// A tunnel whose packets live as long as those inside.
fn inheriting() -> Tunnel<IfName> {
    let mut tunnel = Tunnel::new();
    tunnel.ttl = Some(0);
    tunnel
}

/// The gateway by which a `sit` device sends to `endpoint`: the IPv4-compatible address (RFC 4291, section 2.5.5.1).
pub(crate) const fn v4_compatible(endpoint: Ipv4Addr) -> IpAddr {
    let [a, b, c, d] = endpoint.octets();
    IpAddr::V6(Ipv6Addr::new(
        0,
        0,
        0,
        0,
        0,
        0,
        u16::from_be_bytes([a, b]),
        u16::from_be_bytes([c, d]),
    ))
}
