//! One overlay network on this node: a backend and the peers that it reaches.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlay_netlink::{Change, Event, Scope, Socket};
use overlay_wire::IpVersion;

use crate::{Backend, Node, NodeId, Owner, Peer, PeerError, Reconciler, Underlay, UnderlayError};

/// One overlay network on this node.
///
/// It checks what peers announce, asks the backend for the objects that it takes, and hands them to
/// the [`Reconciler`], where each peer is a group of its own. Several networks may share one
/// reconciler.
#[derive(Debug)]
pub struct Network<B> {
    name: String,
    node: Node,
    backend: B,
    peers: HashMap<NodeId, Peer>,
    /// Who has which subnet, by its first address. They never overlap.
    subnets: BTreeMap<IpAddr, (IpNet, NodeId)>,
    endpoints: BTreeMap<IpAddr, NodeId>,
    /// The endpoints to which the kernel was not asked the way yet.
    unasked: BTreeSet<IpAddr>,
    /// Those who announce what cannot be.
    refused: BTreeMap<NodeId, (Peer, PeerError)>,
}

impl<B: Backend> Network<B> {
    /// The network called `name` with `backend` on `node`, no peers yet. Sets what the node itself
    /// needs in `reconciler`.
    ///
    /// # Errors
    /// [`PeerError`] when the node's own subnets overlap each other or the underlay, when the name is
    /// empty, has a slash or is in use, or when something else in the reconciler wants the same
    /// objects. Nothing is changed then.
    pub fn new(
        name: impl Into<String>,
        node: Node,
        backend: B,
        reconciler: &mut Reconciler,
    ) -> Result<Self, PeerError> {
        let mut network = Self {
            name: name.into(),
            node,
            backend,
            peers: HashMap::new(),
            subnets: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            unasked: BTreeSet::new(),
            refused: BTreeMap::new(),
        };
        let taken = reconciler.contains(&network.name);
        if network.name.contains('/') || network.name.is_empty() || taken {
            return Err(PeerError::NetworkName { name: network.name });
        }
        let (id, subnets) = (network.node.id.clone(), network.node.subnets.clone());
        network.check_subnets(&id, &subnets)?;
        for subnet in &subnets {
            network.subnets.insert(subnet.network(), (subnet.trunc(), id.clone()));
        }
        reconciler.set(&network.own_group(), network.backend.node_objects())?;
        reconciler.expect(&network.name);
        Ok(network)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This node.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Its backend.
    #[must_use]
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The peers that are reached.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// The largest packet in bytes that reaches the containers of a peer, of this IP version; `None`
    /// when the peer is not reached. At least [`Backend::mtu`].
    #[must_use]
    pub fn peer_mtu(&self, id: &NodeId, version: IpVersion) -> Option<u32> {
        Some(self.backend.peer_mtu(self.peers.get(id)?, version))
    }

    /// Reaches a peer, or follows what it announces anew. The peer that is this node itself, as
    /// snapshots of a store contain it, is passed over.
    ///
    /// # Errors
    /// [`PeerError`] when what the peer announces cannot be: nothing is changed, and what it
    /// announced before stays in force.
    pub fn upsert_peer(
        &mut self,
        peer: Peer,
        reconciler: &mut Reconciler,
    ) -> Result<(), PeerError> {
        let id = peer.id.clone();
        match self.try_upsert(peer, reconciler) {
            Ok(()) => {
                self.refused.remove(&id);
                self.retry_refused(reconciler);
                Ok(())
            }
            Err((peer, error)) => {
                self.refused.insert(id, (*peer, error.clone()));
                Err(error)
            }
        }
    }

    /// The peers that announce what cannot be, each with the reason. They are tried again whenever
    /// another peer or the underlay changes, or a peer goes.
    pub fn refused(&self) -> impl Iterator<Item = (&Peer, &PeerError)> {
        self.refused.values().map(|(peer, error)| (peer, error))
    }

    /// Tries again what was refused: what was in the way may be gone.
    fn retry_refused(&mut self, reconciler: &mut Reconciler) {
        let waiting = std::mem::take(&mut self.refused);
        let waiting = waiting.into_values().map(|(peer, _)| peer).collect();
        self.refused = self.upsert_together(waiting, reconciler);
    }

    /// Reaches these peers, who may take from one another: those refused at first are all given up
    /// before they are tried again. Returns those who stay refused; what they announced before is in
    /// force again if it still can be.
    fn upsert_together(
        &mut self,
        peers: Vec<Peer>,
        reconciler: &mut Reconciler,
    ) -> BTreeMap<NodeId, (Peer, PeerError)> {
        let mut first: Vec<Peer> = Vec::new();
        for peer in peers {
            first.extend(self.try_upsert(peer, reconciler).err().map(|(peer, _)| *peer));
        }
        let before: Vec<Peer> =
            first.iter().filter_map(|peer| self.peers.get(&peer.id).cloned()).collect();
        for peer in &before {
            self.give_up(&peer.id, reconciler);
        }
        let mut refused = BTreeMap::new();
        for peer in first {
            if let Err((peer, error)) = self.try_upsert(peer, reconciler) {
                refused.insert(peer.id.clone(), (*peer, error));
            }
        }
        for peer in before.into_iter().filter(|peer| refused.contains_key(&peer.id)) {
            // Somebody else may have what it had.
            let _ = self.try_upsert(peer, reconciler);
        }
        refused
    }

    /// As [`upsert_peer`](Self::upsert_peer), but gives a refused peer back.
    fn try_upsert(
        &mut self,
        peer: Peer,
        reconciler: &mut Reconciler,
    ) -> Result<(), (Box<Peer>, PeerError)> {
        if peer.id == self.node.id || self.peers.get(&peer.id) == Some(&peer) {
            return Ok(());
        }
        let reached = self
            .check_subnets(&peer.id, &peer.subnets)
            .and_then(|()| self.check_endpoints(&peer))
            .and_then(|()| self.backend.peer_objects(&peer))
            .and_then(|objects| Ok(reconciler.set(&self.group(&peer.id), objects)?));
        if let Err(error) = reached {
            return Err((Box::new(peer), error));
        }
        self.drop_index(&peer.id);
        for subnet in &peer.subnets {
            self.subnets.insert(subnet.network(), (subnet.trunc(), peer.id.clone()));
        }
        for endpoint in &peer.endpoints {
            if self.endpoints.insert(*endpoint, peer.id.clone()).is_none() {
                self.unasked.insert(*endpoint);
            }
        }
        if let Some(data_path) = self.backend.data_path() {
            data_path.set_peer(&peer);
        }
        self.peers.insert(peer.id.clone(), peer);
        Ok(())
    }

    /// No longer reaches a peer. Returns whether it was reached.
    pub fn remove_peer(&mut self, id: &NodeId, reconciler: &mut Reconciler) -> bool {
        self.refused.remove(id);
        let was_reached = self.give_up(id, reconciler);
        self.retry_refused(reconciler);
        was_reached
    }

    fn give_up(&mut self, id: &NodeId, reconciler: &mut Reconciler) -> bool {
        self.drop_index(id);
        reconciler.remove(&self.group(id));
        let was_reached = self.peers.remove(id).is_some();
        if let Some(data_path) = self.backend.data_path().filter(|_| was_reached) {
            data_path.remove_peer(id);
        }
        was_reached
    }

    /// Reaches these peers and no others: a full snapshot. Before the first one the reconciler plans
    /// nothing, for this network or any other that shares it.
    ///
    /// Peers that are not among them go first, and peers may take subnets and addresses from one
    /// another. Returns why peers are refused; what such a peer announced before stays in force as
    /// far as nobody else has it now.
    pub fn set_peers(
        &mut self,
        peers: impl IntoIterator<Item = Peer>,
        reconciler: &mut Reconciler,
    ) -> Vec<PeerError> {
        let peers: Vec<Peer> = peers.into_iter().collect();
        if !self.peers.is_empty() {
            let present: HashSet<&NodeId> = peers.iter().map(|peer| &peer.id).collect();
            let gone: Vec<NodeId> =
                self.peers.keys().filter(|id| !present.contains(id)).cloned().collect();
            for id in gone {
                self.give_up(&id, reconciler);
            }
        }
        let more = peers.len().saturating_sub(self.peers.len());
        self.peers.reserve(more);
        reconciler.reserve(more);
        self.refused = self.upsert_together(peers, reconciler);
        reconciler.complete(&self.name);
        self.refused.values().map(|(_, error)| error.clone()).collect()
    }

    /// Goes by this underlay from now on: asks the backend anew what it takes to reach each peer.
    /// What does not change by that is not touched, and what does is replaced.
    ///
    /// What a peer has that the backend cannot reach any more stays as it is: it is
    /// [out of reach](Self::out_of_reach), which may pass.
    ///
    /// # Errors
    /// [`UnderlayError`] when the backend cannot go by it; nothing is changed then.
    pub fn set_underlay(
        &mut self,
        underlay: Underlay,
        reconciler: &mut Reconciler,
    ) -> Result<(), UnderlayError> {
        self.backend.set_underlay(&underlay)?;
        self.node.underlay = underlay;
        // Who owns them has not changed.
        let _ = reconciler.set(&self.own_group(), self.backend.node_objects());
        for peer in self.peers.values() {
            if let Ok(objects) = self.backend.peer_objects(peer) {
                if let Some(data_path) = self.backend.data_path() {
                    data_path.set_peer(peer);
                }
                // Nor has it here.
                let _ = reconciler.set(&self.group(&peer.id), objects);
            }
        }
        self.retry_refused(reconciler);
        Ok(())
    }

    /// The peers that the backend could reach when they came, and cannot in the underlay as it is now,
    /// each with the reason. Asks the backend about all peers.
    pub fn out_of_reach(&self) -> impl Iterator<Item = (&Peer, PeerError)> {
        self.peers.values().filter_map(|peer| Some((peer, self.backend.peer_objects(peer).err()?)))
    }

    /// Looks at the underlay again, asks the kernel the way to each peer, and
    /// [goes by](Self::set_underlay) what it says. Returns whether that is news; then the reconciler
    /// has something to bring to the kernel.
    ///
    /// [`Keeper::step_following`](crate::Keeper::step_following) calls it when it may be news.
    ///
    /// # Errors
    /// [`UnderlayError`] when it cannot be seen or the backend cannot go by it. Nothing is changed
    /// then: what was seen last stays in force.
    pub fn follow_underlay(
        &mut self,
        socket: &mut Socket,
        reconciler: &mut Reconciler,
    ) -> Result<bool, UnderlayError> {
        let endpoints = self.endpoints.keys().chain(self.refused_endpoints()).copied();
        let now = self.node.underlay.observe_again(socket, endpoints)?;
        self.unasked.clear();
        self.go_by(now, reconciler)
    }

    /// As [`follow_underlay`](Self::follow_underlay), but asks only the way to endpoints that came
    /// since the last time. Costs nothing if none did.
    ///
    /// # Errors
    /// As [`follow_underlay`](Self::follow_underlay).
    pub fn follow_endpoints(
        &mut self,
        socket: &mut Socket,
        reconciler: &mut Reconciler,
    ) -> Result<bool, UnderlayError> {
        if self.unasked.is_empty() {
            return Ok(false);
        }
        let mut now = self.node.underlay.clone();
        now.ask(socket, self.unasked.iter().copied())?;
        self.unasked.clear();
        self.go_by(now, reconciler)
    }

    fn go_by(&mut self, now: Underlay, reconciler: &mut Reconciler) -> Result<bool, UnderlayError> {
        let is_news = now != self.node.underlay;
        if is_news {
            self.set_underlay(now, reconciler)?;
        }
        Ok(is_news)
    }

    /// Whether an event of a monitor may change how the underlay reaches a peer, or what
    /// [`Underlay`] says of the device. What `owner` did is no news.
    #[must_use]
    pub fn is_underlay_news(&self, event: &Event, owner: Owner) -> bool {
        let underlay = &self.node.underlay;
        match event {
            // The kernel does not tell of IPv4 routes that go with a device.
            Event::Link(change, link) => {
                let goes = *change == Change::Gone || link.up == Some(false);
                link.name == underlay.dev || goes && !underlay.routed.is_empty()
            }
            Event::Route(_, route) => self.has_endpoint_in(&route.dst),
            // Nor of those that go with an address or a nexthop object.
            Event::Address(_, address) => {
                address.scope != Scope::LINK && address.protocol != owner.protocol()
            }
            Event::Nexthop(_, nexthop) => nexthop.protocol != owner.protocol(),
            Event::Rule(_, rule) => rule.protocol != owner.protocol(),
            Event::Overrun => true,
            _ => false,
        }
    }

    fn has_endpoint_in(&self, net: &IpNet) -> bool {
        let mut known = self.endpoints.range(net.network()..=net.broadcast());
        known.next().is_some() || self.refused_endpoints().any(|address| net.contains(address))
    }

    fn refused_endpoints(&self) -> impl Iterator<Item = &IpAddr> {
        self.refused.values().flat_map(|(peer, _)| &peer.endpoints)
    }

    /// Wants nothing any more: the next pass removes all objects of this network.
    pub fn clear(mut self, reconciler: &mut Reconciler) {
        for id in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.give_up(&id, reconciler);
        }
        reconciler.remove(&self.own_group());
        reconciler.complete(&self.name);
    }

    /// The name of the network; those of its peers follow behind a slash, which it cannot contain.
    fn own_group(&self) -> String {
        self.name.clone()
    }

    fn group(&self, id: &NodeId) -> String {
        format!("{}/{id}", self.name)
    }

    fn drop_index(&mut self, id: &NodeId) {
        let Some(peer) = self.peers.get(id) else { return };
        for subnet in &peer.subnets {
            self.subnets.remove(&subnet.network());
        }
        for endpoint in &peer.endpoints {
            self.endpoints.remove(endpoint);
            self.unasked.remove(endpoint);
        }
    }

    fn check_subnets(&self, peer: &NodeId, subnets: &[IpNet]) -> Result<(), PeerError> {
        for (at, subnet) in subnets.iter().enumerate() {
            if let Some(reason) = unroutable(subnet) {
                return Err(PeerError::Unroutable { peer: peer.clone(), subnet: *subnet, reason });
            }
            // A default route without a gateway, as point-to-point links have, claims nothing.
            let on_link = self.node.underlay.on_link.iter().filter(|net| net.prefix_len() > 0);
            let mut underlay = self.node.underlay.addresses.iter().chain(on_link);
            if let Some(underlay) = underlay.find(|net| overlap(net, subnet)) {
                return Err(PeerError::Underlay {
                    peer: peer.clone(),
                    subnet: *subnet,
                    underlay: underlay.trunc(),
                });
            }
            let among_own = subnets[..at]
                .iter()
                .find(|other| overlap(other, subnet))
                .map(|other| (*other, peer.clone()));
            if let Some((other, holder)) = among_own.or_else(|| self.holder(subnet, peer)) {
                let peer = peer.clone();
                return Err(PeerError::Overlap { peer, subnet: *subnet, other, holder });
            }
        }
        Ok(())
    }

    /// Who else has a subnet that overlaps this one.
    fn holder(&self, subnet: &IpNet, except: &NodeId) -> Option<(IpNet, NodeId)> {
        // The subnets do not overlap each other, so only the last one that starts before the end
        // of this one, and those in between, can reach into it.
        self.subnets
            .range(..=subnet.broadcast())
            .rev()
            .take_while(|(first, (net, _))| **first >= subnet.network() || overlap(net, subnet))
            .find(|(_, (net, holder))| holder != except && overlap(net, subnet))
            .map(|(_, (net, holder))| (*net, holder.clone()))
    }

    fn check_endpoints(&self, peer: &Peer) -> Result<(), PeerError> {
        for address in &peer.endpoints {
            if let Some(reason) = unsendable(*address) {
                let (peer, address) = (peer.id.clone(), *address);
                return Err(PeerError::BadEndpoint { peer, address, reason });
            }
            if self.node.underlay.has_address(*address) {
                return Err(PeerError::OwnAddress {
                    peer: peer.id.clone(),
                    address: *address,
                    node: self.node.id.clone(),
                });
            }
            if let Some(holder) = self.endpoints.get(address).filter(|id| **id != peer.id) {
                return Err(PeerError::SharedAddress {
                    peer: peer.id.clone(),
                    address: *address,
                    holder: holder.clone(),
                });
            }
            // Behind a router an endpoint may be in no prefix of the underlay; no subnet may swallow
            // it all the same.
            let swallowed_by = peer
                .subnets
                .iter()
                .find(|subnet| subnet.contains(address))
                .map(|subnet| (*subnet, peer.id.clone()))
                .or_else(|| self.holder(&IpNet::from(*address), &peer.id));
            if let Some((subnet, holder)) = swallowed_by {
                let (peer, address) = (peer.id.clone(), *address);
                return Err(PeerError::EndpointInside { peer, address, subnet, holder });
            }
        }
        for subnet in &peer.subnets {
            let mut inside = self.endpoints.range(subnet.network()..=subnet.broadcast());
            if let Some((address, _)) = inside.find(|(_, holder)| **holder != peer.id) {
                let underlay = IpNet::from(*address);
                return Err(PeerError::Underlay {
                    peer: peer.id.clone(),
                    subnet: *subnet,
                    underlay,
                });
            }
        }
        Ok(())
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Why packets cannot be routed to a subnet, if so. The kernel takes such routes without a word and
/// drops the packets as martians.
fn unroutable(subnet: &IpNet) -> Option<&'static str> {
    if subnet.prefix_len() == 0 {
        return Some("it is the default route");
    }
    // The prefix, its length, and what it is for: RFC 6890.
    let special: &[(IpAddr, u8, &str)] = match subnet {
        IpNet::V4(_) => &[
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8, "0.0.0.0/8 is no destination"),
            (IpAddr::V4(Ipv4Addr::LOCALHOST), 8, "127.0.0.0/8 is loopback"),
            (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16, "169.254.0.0/16 is link-local"),
            (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4, "224.0.0.0/4 is multicast"),
            (IpAddr::V4(Ipv4Addr::BROADCAST), 32, "255.255.255.255 is broadcast"),
        ],
        IpNet::V6(_) => &[
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, "it contains the unspecified address"),
            (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, "it contains ::1, which is loopback"),
            (IpAddr::V6(V4_MAPPED), 96, "::ffff:0:0/96 stands for IPv4"),
            (IpAddr::V6(LINK_LOCAL), 10, "fe80::/10 is link-local"),
            (IpAddr::V6(MULTICAST), 8, "ff00::/8 is multicast"),
        ],
    };
    special.iter().find_map(|(address, len, reason)| {
        let special = IpNet::new(*address, *len).ok()?;
        overlap(&special, subnet).then_some(*reason)
    })
}

const V4_MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
const MULTICAST: Ipv6Addr = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);

/// Why packets cannot be sent to an address, if so.
fn unsendable(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("it is unspecified"),
        _ if address.is_loopback() => Some("it is loopback"),
        _ if address.is_multicast() => Some("it is multicast"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("it is broadcast"),
        _ => None,
    }
}
