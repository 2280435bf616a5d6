//! Nodes: this one and its peers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use overlay_wire::IpVersion;

use crate::Underlay;

/// The identity of a node: a name that stays the same when its addresses change.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The node called `name`.
    #[must_use]
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<&str> for NodeId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for NodeId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

/// This node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Node {
    /// Its identity.
    pub id: NodeId,
    /// The subnets of the overlay that live here, of either family.
    pub subnets: Vec<IpNet>,
    /// Its place in the underlay.
    pub underlay: Underlay,
}

/// Another node: what it publishes of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Peer {
    /// Its identity.
    pub id: NodeId,
    /// The subnets of the overlay that live there, of either family.
    pub subnets: Vec<IpNet>,
    /// Its addresses in the underlay: of each family the first one counts.
    pub endpoints: Vec<IpAddr>,
    /// What its backend needs others to know.
    pub data: BackendData,
}

impl Peer {
    /// Its address in an underlay of this family.
    #[must_use]
    pub fn endpoint(&self, version: IpVersion) -> Option<IpAddr> {
        self.endpoints.iter().copied().find(|address| IpVersion::of(*address) == version)
    }

    /// Its subnets of this family, in order.
    pub fn subnets(&self, version: IpVersion) -> impl Iterator<Item = IpNet> {
        self.subnets.iter().copied().filter(move |net| IpVersion::of(net.addr()) == version)
    }
}

/// What a backend publishes for its peers, opaque to everybody else: JSON as Flannel has it in
/// `BackendData` (for an IPv4 underlay) and `BackendV6Data` (for an IPv6 underlay).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs)]
pub struct BackendData {
    /// For peers that reach this node over IPv4.
    pub v4: Option<serde_json::Value>,
    /// For peers that reach this node over IPv6.
    pub v6: Option<serde_json::Value>,
}

impl BackendData {
    /// The part for an underlay of this family.
    #[must_use]
    pub const fn get(&self, version: IpVersion) -> Option<&serde_json::Value> {
        match version {
            IpVersion::V4 => self.v4.as_ref(),
            IpVersion::V6 => self.v6.as_ref(),
        }
    }

    /// Data for an underlay of one family.
    #[must_use]
    pub const fn of(version: IpVersion, data: serde_json::Value) -> Self {
        match version {
            IpVersion::V4 => Self { v4: Some(data), v6: None },
            IpVersion::V6 => Self { v4: None, v6: Some(data) },
        }
    }
}

/// Why a peer is refused. Nothing was changed for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// A subnet overlaps one that somebody else has.
    #[error("subnet {subnet} of {peer} overlaps {other} of {holder}")]
    Overlap {
        /// The peer.
        peer: NodeId,
        /// Its subnet.
        subnet: IpNet,
        /// The subnet that is there already.
        other: IpNet,
        /// Whose that is.
        holder: NodeId,
    },
    /// A subnet overlaps the underlay: routing it into the overlay would cut the overlay off from
    /// what carries it.
    #[error(
        "subnet {subnet} of {peer} overlaps {underlay} of the underlay, which carries the overlay"
    )]
    Underlay {
        /// The peer.
        peer: NodeId,
        /// Its subnet.
        subnet: IpNet,
        /// The prefix or address in the underlay.
        underlay: IpNet,
    },
    /// A subnet is none that packets can be routed to.
    #[error("subnet {subnet} of {peer} cannot be routed: {reason}")]
    Unroutable {
        /// The peer.
        peer: NodeId,
        /// Its subnet.
        subnet: IpNet,
        /// Why not.
        reason: &'static str,
    },
    /// The peer says that it has an address of this node's.
    #[error("{peer} has the endpoint {address}, which is an address of this node ({node})")]
    OwnAddress {
        /// The peer.
        peer: NodeId,
        /// The address.
        address: IpAddr,
        /// This node.
        node: NodeId,
    },
    /// The address is none that packets can be sent to.
    #[error("{peer} has the endpoint {address}, which cannot be an endpoint: {reason}")]
    BadEndpoint {
        /// The peer.
        peer: NodeId,
        /// The address.
        address: IpAddr,
        /// Why not.
        reason: &'static str,
    },
    /// The address is in a subnet of the overlay, so that what carries the overlay would be sent
    /// into it.
    #[error("{peer} has the endpoint {address}, which is inside {subnet} of {holder}")]
    EndpointInside {
        /// The peer.
        peer: NodeId,
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
        /// Whose that is.
        holder: NodeId,
    },
    /// Another peer has the same address.
    #[error("{peer} has the endpoint {address}, which is that of {holder}")]
    SharedAddress {
        /// The peer.
        peer: NodeId,
        /// The address.
        address: IpAddr,
        /// The other peer.
        holder: NodeId,
    },
    /// The peer has no address of the family that the backend needs.
    #[error("{peer} has no {version} endpoint, and {backend} needs one here")]
    NoEndpoint {
        /// The peer.
        peer: NodeId,
        /// The family.
        version: IpVersion,
        /// The backend.
        backend: &'static str,
    },
    /// The peer is behind a router, and the backend cannot cross one.
    #[error(
        "{peer} at {address} is not on-link on {dev}: {backend} hands packets straight to the peer \
         and needs it in the same layer-2 network; a tunnel such as vxlan crosses routers"
    )]
    NotOnLink {
        /// The peer.
        peer: NodeId,
        /// Its address.
        address: IpAddr,
        /// The underlay device.
        dev: overlay_netlink::IfName,
        /// The backend.
        backend: &'static str,
    },
    /// The backend has a tunnel for each peer, and none for this one.
    #[error("{peer} has no tunnel, and {backend} is told of one for each peer")]
    NoTunnel {
        /// The peer.
        peer: NodeId,
        /// The backend.
        backend: &'static str,
    },
    /// What the peer publishes is not what the backend understands.
    #[error("{peer} publishes data that {backend} does not understand: {reason}")]
    BadData {
        /// The peer.
        peer: NodeId,
        /// The backend.
        backend: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The name of a network is empty, has a slash, or is that of another one.
    #[error("{name:?} cannot name a network here: it is empty, has a '/', or is in use")]
    NetworkName {
        /// The name.
        name: String,
    },
    /// The peer needs a kernel object that somebody else has.
    #[error(transparent)]
    Conflict(#[from] crate::Conflict),
}
