//! What a backend is.

use std::fmt;

use overlay_netlink::{IfName, Object};

use crate::{BackendData, Peer, PeerError};

/// A way to carry the overlay's packets between nodes: a pure function from this node and a peer
/// to kernel objects.
///
/// It asks nothing, writes nothing and remembers nothing. Devices are named, not numbered, because
/// they may not exist yet; marks of ownership are put on by the
/// [`Reconciler`](crate::Reconciler), and routes with a gateway are turned into nexthop objects by
/// it where the kernel has them.
pub trait Backend: fmt::Debug + Send + Sync {
    /// What the backend is called, as in Flannel's `Backend.Type`.
    fn name(&self) -> &'static str;

    /// What this node needs whatever its peers are: devices and their addresses.
    fn node_objects(&self) -> Vec<Object<IfName>>;

    /// What it takes to reach a peer.
    ///
    /// # Errors
    /// [`PeerError`] when this backend cannot reach it.
    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError>;

    /// What this node publishes for its peers.
    fn data(&self) -> BackendData;

    /// The largest packet of the overlay in bytes: the MTU that containers should have.
    fn mtu(&self) -> u32;
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn node_objects(&self) -> Vec<Object<IfName>> {
        (**self).node_objects()
    }

    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        (**self).peer_objects(peer)
    }

    fn data(&self) -> BackendData {
        (**self).data()
    }

    fn mtu(&self) -> u32 {
        (**self).mtu()
    }
}
