//! What a backend is.

use std::fmt;

use overlay_netlink::{IfName, Object};
use overlay_wire::IpVersion;

use crate::{BackendData, NodeId, Peer, PeerError, Underlay, UnderlayError};

/// A way to carry the overlay's packets between nodes: a pure function from this node and a peer
/// to kernel objects.
///
/// It asks nothing, writes nothing and remembers nothing; what has to remember is its
/// [data path](Self::data_path), which most backends do not have. Devices are named, not numbered, because
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

    /// The largest packet of the overlay in bytes, whichever peer it goes to: the MTU that containers
    /// should have.
    fn mtu(&self) -> u32;

    /// The largest packet in bytes, of this IP version, to the containers of a peer that this backend
    /// reaches. [`mtu`](Self::mtu) unless overridden.
    fn peer_mtu(&self, peer: &Peer, version: IpVersion) -> u32 {
        let _ = (peer, version);
        self.mtu()
    }

    /// Goes by this underlay from now on: what the other methods return follows from it. A backend
    /// for which nothing does passes it over, as here.
    ///
    /// # Errors
    /// [`UnderlayError`] when it cannot do with it; it goes on as before then.
    fn set_underlay(&mut self, underlay: &Underlay) -> Result<(), UnderlayError> {
        let _ = underlay;
        Ok(())
    }

    /// What has to know the peers besides the kernel, for backends whose packets the kernel does not carry
    /// by itself. `None` unless overridden.
    fn data_path(&self) -> Option<&dyn DataPath> {
        None
    }
}

/// Who carries packets where the kernel's own objects do not say it all: a forwarder in user space, a
/// program in the kernel.
///
/// [`Network`](crate::Network) tells it of the same peers for which it hands objects to the
/// [`Reconciler`](crate::Reconciler), at the same moment and after the same checks. It remembers, and
/// that is all: neither call waits for the network or for other peers.
pub trait DataPath: fmt::Debug + Send + Sync {
    /// A peer is reached, or what it announces has changed. Its subnets overlap no other peer's.
    fn set_peer(&self, peer: &Peer);

    /// A peer is no longer reached.
    fn remove_peer(&self, id: &NodeId);
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

    fn peer_mtu(&self, peer: &Peer, version: IpVersion) -> u32 {
        (**self).peer_mtu(peer, version)
    }

    fn set_underlay(&mut self, underlay: &Underlay) -> Result<(), UnderlayError> {
        (**self).set_underlay(underlay)
    }

    fn data_path(&self) -> Option<&dyn DataPath> {
        (**self).data_path()
    }
}
