//! How a network of IP in IP is set up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_backend::{Node, NodeId};
use overlay_netlink::{IfName, Socket};
use overlay_wire::IpVersion;

use crate::device::Carrier;

/// How a network of IP in IP is set up. Families are equal on all nodes, the rest is each node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpIpOptions {
    /// The families of the underlay that may carry packets: both unless set, each where the underlay device has an
    /// address of it.
    pub underlays: Vec<IpVersion>,
    /// The families of the overlay that are carried: both unless set, each where the node has a subnet of it.
    pub carries: Vec<IpVersion>,
    /// Which tunnels there are: one for all peers unless set.
    pub form: Form,
    /// The name of the device for IPv4 in IPv4: `overlay.ipip` unless set.
    pub ipip: Option<IfName>,
    /// The name of the device for IPv6 in IPv4: `overlay.sit` unless set.
    pub sit: Option<IfName>,
    /// The name of the device for either in IPv6: `overlay.ip6tnl` unless set.
    pub ip6tnl: Option<IfName>,
    /// The name of the device whose packets programs take over: `overlay.ebpf` unless set.
    pub ebpf: Option<IfName>,
}

impl IpIpOptions {
    /// The same network over underlays of these families.
    #[must_use]
    pub fn underlays(mut self, underlays: impl Into<Vec<IpVersion>>) -> Self {
        self.underlays = underlays.into();
        self
    }

    /// The same network, carrying these families of the overlay.
    #[must_use]
    pub fn carries(mut self, carries: impl Into<Vec<IpVersion>>) -> Self {
        self.carries = carries.into();
        self
    }

    /// The same network with a device of this name for IPv4 in IPv4.
    #[must_use]
    pub const fn ipip(mut self, name: IfName) -> Self {
        self.ipip = Some(name);
        self
    }

    /// The same network with a device of this name for IPv6 in IPv4.
    #[must_use]
    pub const fn sit(mut self, name: IfName) -> Self {
        self.sit = Some(name);
        self
    }

    /// The same network with a device of this name for either family in IPv6.
    #[must_use]
    pub const fn ip6tnl(mut self, name: IfName) -> Self {
        self.ip6tnl = Some(name);
        self
    }

    /// The same network with a device of this name for packets that programs take over.
    #[must_use]
    pub const fn ebpf(mut self, name: IfName) -> Self {
        self.ebpf = Some(name);
        self
    }

    /// The same network carried by [`Programs`](crate::Programs), for kernels without devices for it.
    #[must_use]
    pub fn programs(mut self) -> Self {
        self.form = Form::Programs;
        self
    }

    /// The same network by the kernel's devices where it has all that this node calls for, and by
    /// [`Programs`](crate::Programs) otherwise. Tunnels to single peers stay what they are. The kernel loads the modules that it
    /// is asked for, with which come their fallback devices.
    ///
    /// # Errors
    /// [`overlay_netlink::Error`] when the kernel cannot be asked.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN`.
    pub fn suited_to(
        self,
        node: &Node,
        socket: &mut Socket,
    ) -> Result<Self, overlay_netlink::Error> {
        if self.form != Form::Multipoint {
            return Ok(self);
        }
        let has = |inner: &IpVersion| {
            node.subnets.iter().any(|subnet| IpVersion::of(subnet.addr()) == *inner)
        };
        for inner in self.carries.iter().copied().filter(has) {
            let outer = self.underlays.iter().copied();
            for outer in outer.filter(|outer| node.underlay.address(*outer).is_some()) {
                match socket.probe(&Carrier::of(inner, outer).kind()) {
                    Ok(()) => {}
                    Err(overlay_netlink::Error::MissingKind { .. }) => return Ok(self.programs()),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(self)
    }

    /// The same network with a tunnel to `peer` alone, and with no tunnel that is for all peers. Call it once for each
    /// peer.
    #[must_use]
    pub fn point_to_point(mut self, peer: impl Into<NodeId>, tunnel: PointToPoint) -> Self {
        let mut tunnels = match self.form {
            Form::PointToPoint(tunnels) => tunnels,
            Form::Multipoint | Form::Programs => BTreeMap::new(),
        };
        tunnels.insert(peer.into(), tunnel);
        self.form = Form::PointToPoint(tunnels);
        self
    }
}

impl Default for IpIpOptions {
    fn default() -> Self {
        Self {
            underlays: IpVersion::ALL.to_vec(),
            carries: IpVersion::ALL.to_vec(),
            form: Form::Multipoint,
            ipip: None,
            sit: None,
            ip6tnl: None,
            ebpf: None,
        }
    }
}

/// Which tunnels there are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// One device for all peers: the routes say who is at the far end.
    Multipoint,
    /// One device for all peers, made of a bridge without ports whose packets [`Programs`](crate::Programs) take over.
    Programs,
    /// A device for each peer, as written here. A peer that is not here is refused.
    PointToPoint(BTreeMap<NodeId, PointToPoint>),
}

/// A tunnel to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PointToPoint {
    /// The name of its device.
    pub device: IfName,
    /// This end's addresses on it, each with the prefix of the transfer network.
    pub addresses: Vec<IpNet>,
    /// The other end's addresses in the transfer networks: the gateways of the peer's subnets. Subnets of a family
    /// without one are routed into the device.
    pub gateways: Vec<IpAddr>,
}

impl PointToPoint {
    /// A tunnel without a transfer network.
    #[must_use]
    pub const fn new(device: IfName) -> Self {
        Self { device, addresses: Vec::new(), gateways: Vec::new() }
    }

    /// The same tunnel with a transfer network: this end's address with the prefix, and the other end's.
    #[must_use]
    pub fn transfer(mut self, address: impl Into<IpNet>, gateway: impl Into<IpAddr>) -> Self {
        self.addresses.push(address.into());
        self.gateways.push(gateway.into());
        self
    }

    /// The other end's address of this family.
    pub(crate) fn gateway(&self, version: IpVersion) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|gateway| IpVersion::of(*gateway) == version)
    }
}
