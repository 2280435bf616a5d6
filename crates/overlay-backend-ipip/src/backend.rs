//! The kernel objects of the backend.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use overlay_backend::{Backend, BackendData, Node, Peer, PeerError, UnderlayError};
use overlay_netlink::{Address, Encap, Hop, IfName, Link, LinkKind, Object, Route};
use overlay_wire::{Encapsulation, IpVersion};

use crate::device::{self, Carrier};
use crate::options::{Form, IpIpOptions, PointToPoint};

/// What the backend is called, as in Flannel's `Backend.Type`.
const NAME: &str = "ipip";

/// The backend on one node.
#[derive(Clone, Debug)]
pub struct IpIp {
    /// This node's addresses in the underlay, one of each family that may carry packets, with the MTU that this leaves.
    ends: Vec<(IpAddr, u32)>,
    /// This node's addresses in the overlay, one of each family that is carried.
    addresses: Vec<IpNet>,
    /// The names of the devices that are for all peers.
    names: BTreeMap<Carrier, IfName>,
    form: Form,
}

impl IpIp {
    /// The backend for `node`.
    ///
    /// # Errors
    /// [`UnderlayError::NoAddress`] when the underlay device has no address of a wanted family,
    /// [`UnderlayError::MtuTooSmall`] when its MTU leaves no room for the families that are carried.
    pub fn new(node: &Node, options: &IpIpOptions) -> Result<Self, UnderlayError> {
        let underlay = &node.underlay;
        let dev = underlay.dev;
        let addresses: Vec<IpNet> = options
            .carries
            .iter()
            .filter_map(|version| base_address(&node.subnets, *version))
            .map(IpNet::from)
            .collect();
        let least = addresses.iter().map(|net| IpVersion::of(net.addr()).min_mtu()).max();
        let least = least.unwrap_or_else(|| IpVersion::V4.min_mtu());
        let mut ends = Vec::new();
        for version in options.underlays.iter().copied() {
            let Some(local) = underlay.address(version) else { continue };
            let mtu = Encapsulation::IpInIp
                .inner_mtu(underlay.mtu, version)
                .filter(|mtu| *mtu >= least)
                .ok_or(UnderlayError::MtuTooSmall { dev, mtu: underlay.mtu, backend: NAME })?;
            ends.push((local, mtu));
        }
        if ends.is_empty() {
            let version = options.underlays.first().copied().unwrap_or(IpVersion::V4);
            return Err(UnderlayError::NoAddress { dev, version });
        }
        let names = [
            (Carrier::Ipip, options.ipip),
            (Carrier::Sit, options.sit),
            (Carrier::Ip6tnl, options.ip6tnl),
        ]
        .map(|(carrier, name)| (carrier, name.unwrap_or_else(|| carrier.default_name())));
        Ok(Self { ends, addresses, names: names.into(), form: options.form.clone() })
    }

    /// This node's end in an underlay of this family, if it has one.
    fn end(&self, version: IpVersion) -> Option<(IpAddr, u32)> {
        self.ends.iter().copied().find(|(local, _)| IpVersion::of(*local) == version)
    }

    /// The families of the overlay that are carried.
    fn carried(&self) -> impl Iterator<Item = IpVersion> {
        self.addresses.iter().map(|net| IpVersion::of(net.addr()))
    }

    fn name(&self, carrier: Carrier) -> IfName {
        self.names.get(&carrier).copied().unwrap_or_else(|| carrier.default_name())
    }

    /// Both ends of the tunnel that carries packets of family `inner` to a peer: over the same family if both have it.
    fn ends_to(&self, peer: &Peer, inner: IpVersion) -> Result<Ends, PeerError> {
        let outer = std::iter::once(inner).chain(IpVersion::ALL);
        let mut ends = outer.filter_map(|outer| {
            let (local, mtu) = self.end(outer)?;
            Some(Ends { local, remote: peer.endpoint(outer)?, mtu })
        });
        ends.next().ok_or_else(|| PeerError::NoEndpoint {
            peer: peer.id.clone(),
            version: self
                .end(inner)
                .or(self.ends.first().copied())
                .map_or(inner, |(local, _)| IpVersion::of(local)),
            backend: NAME,
        })
    }

    /// The routes to a peer over the devices that are for all peers.
    fn multipoint(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        let mut objects = Vec::new();
        for inner in self.carried() {
            if peer.subnets(inner).next().is_none() {
                continue;
            }
            let Ends { local, remote, .. } = self.ends_to(peer, inner)?;
            let carrier = Carrier::of(inner, IpVersion::of(remote));
            let dev = self.name(carrier);
            let hop = match (carrier, remote) {
                (Carrier::Sit, IpAddr::V4(remote)) => {
                    Hop::onlink(device::v4_compatible(remote), dev)
                }
                (Carrier::Ip6tnl, _) => {
                    let mut encap = Encap::new(0, remote);
                    encap.src = Some(local);
                    Hop::dev(dev).encap(encap)
                }
                _ => Hop::onlink(remote, dev),
            };
            for subnet in peer.subnets(inner) {
                if carrier == Carrier::Sit && overlaps_6to4(&subnet) {
                    return Err(PeerError::Unroutable {
                        peer: peer.id.clone(),
                        subnet,
                        reason: "2002::/16 is 6to4, which sit devices send elsewhere",
                    });
                }
                objects.push(Route::to(subnet).hop(hop.clone()).into());
            }
        }
        Ok(objects)
    }

    /// The tunnel to a peer alone, and the routes by way of its far end.
    fn point_to_point(
        &self,
        peer: &Peer,
        tunnel: &PointToPoint,
    ) -> Result<Vec<Object<IfName>>, PeerError> {
        let carried: Vec<IpVersion> =
            self.carried().filter(|inner| peer.subnets(*inner).next().is_some()).collect();
        let Some(first) = carried.first().copied() else { return Ok(Vec::new()) };
        let Ends { local, remote, mtu } = self.ends_to(peer, first)?;
        let dev = tunnel.device;
        let mut objects = vec![link(dev, device::point_to_point(local, remote, &carried), mtu)];
        objects.extend(tunnel.addresses.iter().map(|net| Address::new(*net, dev).nodad().into()));
        for inner in carried {
            let hop = match tunnel.gateway(inner) {
                Some(gateway) => Hop::via(gateway).through(dev),
                None => Hop::dev(dev),
            };
            objects.extend(
                peer.subnets(inner).map(|subnet| Route::to(subnet).hop(hop.clone()).into()),
            );
        }
        Ok(objects)
    }
}

impl Backend for IpIp {
    fn name(&self) -> &'static str {
        NAME
    }

    /// In multipoint form the devices that peers may be reached by, and on each a `/32` or `/128` of each family that it
    /// carries: the base address of the node's first subnet, which no container can have.
    fn node_objects(&self) -> Vec<Object<IfName>> {
        if self.form != Form::Multipoint {
            return Vec::new();
        }
        let mut devices = BTreeMap::new();
        let mut addresses = Vec::new();
        for (local, mtu) in self.ends.iter().copied() {
            for net in &self.addresses {
                let carrier = Carrier::of(IpVersion::of(net.addr()), IpVersion::of(local));
                let dev = self.name(carrier);
                devices.entry(carrier).or_insert_with(|| link(dev, carrier.multipoint(local), mtu));
                addresses.push(Address::new(*net, dev).nodad().into());
            }
        }
        devices.into_values().chain(addresses).collect()
    }

    /// In multipoint form a route per subnet, onto the device for its family and the peer's. In point-to-point form a
    /// device with its addresses, and a route per subnet by way of the other end.
    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        match &self.form {
            Form::Multipoint => self.multipoint(peer),
            Form::PointToPoint(tunnels) => {
                let tunnel = tunnels
                    .get(&peer.id)
                    .ok_or_else(|| PeerError::NoTunnel { peer: peer.id.clone(), backend: NAME })?;
                self.point_to_point(peer, tunnel)
            }
        }
    }

    /// Nothing: a peer's address says it all.
    fn data(&self) -> BackendData {
        BackendData::default()
    }

    /// What passes to every peer: with an underlay of both families that is 40 bytes less than its MTU, without IPv6 it
    /// is 20.
    fn mtu(&self) -> u32 {
        self.ends.iter().map(|(_, mtu)| *mtu).min().unwrap_or_default()
    }
}

/// A tunnel's ends in the underlay.
struct Ends {
    local: IpAddr,
    remote: IpAddr,
    /// The largest packet inside, in bytes.
    mtu: u32,
}

fn link(name: IfName, kind: LinkKind<IfName>, mtu: u32) -> Object<IfName> {
    Link::new(name, kind).mtu(mtu).up().into()
}

/// The base address of the first of the subnets of a family.
fn base_address(subnets: &[IpNet], version: IpVersion) -> Option<IpAddr> {
    subnets.iter().map(IpNet::network).find(|base| IpVersion::of(*base) == version)
}

/// Whether packets to it are among those that a `sit` device sends to the IPv4 address inside the destination.
fn overlaps_6to4(subnet: &IpNet) -> bool {
    let IpNet::V6(subnet) = subnet else { return false };
    Ipv6Net::new(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16)
        .is_ok_and(|prefix| prefix.contains(subnet) || subnet.contains(&prefix))
}
