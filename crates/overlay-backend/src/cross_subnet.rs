//! Two backends as one: straight to peers on the same link, through a tunnel to the others.

use ipnet::IpNet;
use overlay_netlink::{IfName, Object};
use overlay_wire::IpVersion;

use crate::{Backend, BackendData, DataPath, NodeId, Peer, PeerError, Underlay, UnderlayError};

/// To which peers a tunnel leads, as Calico names it (`ipipMode`, `vxlanMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TunnelMode {
    /// To all.
    Always,
    /// To those that cannot be reached directly. Flannel calls it `DirectRouting`.
    #[default]
    CrossSubnet,
    /// To none: peers that cannot be reached directly are refused.
    Never,
}

/// A backend made of two: `direct` hands packets straight to peers on the same link, `tunnel` crosses
/// routers. Which of them a peer gets is decided for each IP version of the overlay by itself: direct
/// if that backend can reach it, the tunnel otherwise.
///
/// A direct backend knows by [`Underlay::is_on_link`]; when the underlay changes,
/// [`Network::set_underlay`](crate::Network::set_underlay) lets it decide anew, and the peers for
/// which that makes a difference change over: what the new way needs is there before the route takes
/// it, and what the old way needed goes after that. Nodes change over one after another. Until both
/// have, a peer's packets come the one way and go back the other; so in every mode but
/// [`Never`](TunnelMode::Never) the tunnel's device is there, and its
/// [data path](Backend::data_path) knows all peers, those that are reached directly included.
///
/// A strict reverse path filter (`rp_filter` 1) drops what comes another way than the answer would
/// go. Set it to 2 or 0 on the underlay's device and the tunnel's.
///
/// # MTU
/// [`mtu`](Backend::mtu) fits every peer: the tunnel's, unless there is none. Nobody has to care for
/// more, but [`peer_mtu`](Backend::peer_mtu) says how much a peer takes. Routes carry no `mtu` of their
/// own: each has that of the device that it leads to, also after that has changed. So containers may
/// be given the underlay's MTU as well; towards peers behind the tunnel, the node then tells
/// them its MTU by ICMP when they first send too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossSubnet<D, T> {
    mode: TunnelMode,
    direct: D,
    tunnel: T,
}

impl<D: Backend, T: Backend> CrossSubnet<D, T> {
    /// Reaches peers by `direct` or by `tunnel`, as `mode` says.
    #[must_use]
    pub const fn new(mode: TunnelMode, direct: D, tunnel: T) -> Self {
        Self { mode, direct, tunnel }
    }

    /// To which peers the tunnel leads.
    #[must_use]
    pub const fn mode(&self) -> TunnelMode {
        self.mode
    }

    /// The backend that reaches peers on the same link.
    #[must_use]
    pub const fn direct(&self) -> &D {
        &self.direct
    }

    /// The backend that reaches peers behind routers.
    #[must_use]
    pub const fn tunnel(&self) -> &T {
        &self.tunnel
    }

    /// Whether packets of this IP version go to the peer without a tunnel.
    #[must_use]
    pub fn is_direct(&self, peer: &Peer, version: IpVersion) -> bool {
        self.directly(&part(peer, peer.subnets(version).collect())).is_some()
    }

    /// What it takes to reach these subnets directly, if that is to be and can be.
    fn directly(&self, part: &Peer) -> Option<Vec<Object<IfName>>> {
        (self.mode != TunnelMode::Always).then(|| self.direct.peer_objects(part).ok())?
    }

    /// What speaks for both.
    fn main(&self) -> &dyn Backend {
        if self.mode == TunnelMode::Never { &self.direct } else { &self.tunnel }
    }

    fn data_paths(&self) -> impl Iterator<Item = &dyn DataPath> {
        let direct = self.direct.data_path().filter(|_| self.mode != TunnelMode::Always);
        let tunnel = self.tunnel.data_path().filter(|_| self.mode != TunnelMode::Never);
        direct.into_iter().chain(tunnel)
    }
}

/// The peer as if it had these subnets only.
fn part(peer: &Peer, subnets: Vec<IpNet>) -> Peer {
    Peer { subnets, ..peer.clone() }
}

impl<D: Backend, T: Backend> Backend for CrossSubnet<D, T> {
    /// The tunnel's, by which Flannel's nodes know it; the direct backend's if there is no tunnel.
    fn name(&self) -> &'static str {
        self.main().name()
    }

    fn node_objects(&self) -> Vec<Object<IfName>> {
        match self.mode {
            TunnelMode::Always => self.tunnel.node_objects(),
            TunnelMode::CrossSubnet => {
                let mut objects = self.direct.node_objects();
                objects.extend(self.tunnel.node_objects());
                objects
            }
            TunnelMode::Never => self.direct.node_objects(),
        }
    }

    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        match self.mode {
            TunnelMode::Always => return self.tunnel.peer_objects(peer),
            TunnelMode::CrossSubnet => {}
            TunnelMode::Never => return self.direct.peer_objects(peer),
        }
        let mut objects = Vec::new();
        let mut tunnelled = Vec::new();
        for version in IpVersion::ALL {
            let part = part(peer, peer.subnets(version).collect());
            match self.directly(&part) {
                Some(direct) => objects.extend(direct),
                None => tunnelled.extend(part.subnets),
            }
        }
        if !tunnelled.is_empty() {
            objects.extend(self.tunnel.peer_objects(&part(peer, tunnelled))?);
        }
        Ok(objects)
    }

    /// Both backends'; where both have something to say, the tunnel's.
    fn data(&self) -> BackendData {
        let main = self.main().data();
        if self.mode != TunnelMode::CrossSubnet {
            return main;
        }
        let direct = self.direct.data();
        BackendData { v4: main.v4.or(direct.v4), v6: main.v6.or(direct.v6) }
    }

    fn mtu(&self) -> u32 {
        self.main().mtu()
    }

    /// The direct backend's for a peer that is reached directly.
    fn peer_mtu(&self, peer: &Peer, version: IpVersion) -> u32 {
        match self.mode {
            TunnelMode::CrossSubnet if self.is_direct(peer, version) => {
                self.direct.peer_mtu(peer, version)
            }
            TunnelMode::CrossSubnet => self.tunnel.peer_mtu(peer, version),
            _ => self.main().peer_mtu(peer, version),
        }
    }

    /// First the tunnel's, which has more to ask of an underlay.
    fn set_underlay(&mut self, underlay: &Underlay) -> Result<(), UnderlayError> {
        self.tunnel.set_underlay(underlay)?;
        self.direct.set_underlay(underlay)
    }

    fn data_path(&self) -> Option<&dyn DataPath> {
        self.data_paths().next().map(|_| self as &dyn DataPath)
    }
}

impl<D: Backend, T: Backend> DataPath for CrossSubnet<D, T> {
    fn set_peer(&self, peer: &Peer) {
        self.data_paths().for_each(|path| path.set_peer(peer));
    }

    fn remove_peer(&self, id: &NodeId) {
        self.data_paths().for_each(|path| path.remove_peer(id));
    }
}
