#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use overlay_backend::{Backend, BackendData, Node, Peer, PeerError, Underlay, UnderlayError};
use overlay_netlink::{Hop, IfName, Object, Route};
use overlay_wire::IpVersion;

/// What the backend is called, as in Flannel's `Backend.Type`.
const NAME: &str = "host-gw";

/// The host-gw backend on one node.
#[derive(Clone, Debug)]
pub struct HostGw {
    underlay: Underlay,
    /// The families that this node has subnets of.
    carries: Vec<IpVersion>,
}

impl HostGw {
    /// The backend for `node`.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        let has = |version: &IpVersion| {
            node.subnets.iter().any(|subnet| IpVersion::of(subnet.addr()) == *version)
        };
        Self {
            underlay: node.underlay.clone(),
            carries: IpVersion::ALL.into_iter().filter(has).collect(),
        }
    }
}

impl Backend for HostGw {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Nothing: the underlay device does it all.
    fn node_objects(&self) -> Vec<Object<IfName>> {
        Vec::new()
    }

    /// For each subnet a route by way of the peer's address of the same family.
    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        let dev = self.underlay.dev;
        let mut objects = Vec::new();
        for version in self.carries.iter().copied() {
            if peer.subnets(version).next().is_none() {
                continue;
            }
            let address = peer.endpoint(version).ok_or_else(|| PeerError::NoEndpoint {
                peer: peer.id.clone(),
                version,
                backend: NAME,
            })?;
            if !self.underlay.is_on_link(address) {
                let peer = peer.id.clone();
                return Err(PeerError::NotOnLink { peer, address, dev, backend: NAME });
            }
            for subnet in peer.subnets(version) {
                objects.push(Route::to(subnet).hop(Hop::onlink(address, dev)).into());
            }
        }
        Ok(objects)
    }

    /// Nothing: a peer's address says it all.
    fn data(&self) -> BackendData {
        BackendData::default()
    }

    fn mtu(&self) -> u32 {
        self.underlay.mtu
    }

    fn set_underlay(&mut self, underlay: &Underlay) -> Result<(), UnderlayError> {
        self.underlay = underlay.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlay_netlink::Verb;

    fn node(subnets: &[&str]) -> Node {
        Node {
            id: "vm1".into(),
            subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
            underlay: Underlay {
                dev: IfName::new("eth0").unwrap(),
                mtu: 1500,
                addresses: vec!["192.168.32.245/24".parse().unwrap()],
                on_link: vec!["192.168.32.0/24".parse().unwrap(), "fd00:32::/64".parse().unwrap()],
                routed: Default::default(),
            },
        }
    }

    fn peer(endpoints: &[&str]) -> Peer {
        Peer {
            id: "vm2".into(),
            subnets: vec!["172.246.0.0/24".parse().unwrap(), "fd00:246::/64".parse().unwrap()],
            endpoints: endpoints.iter().map(|address| address.parse().unwrap()).collect(),
            data: BackendData::default(),
        }
    }

    #[test]
    fn a_peer_is_a_route_per_subnet() {
        let backend = HostGw::new(&node(&["172.245.0.0/24", "fd00:245::/64"]));
        let objects = backend.peer_objects(&peer(&["192.168.32.246", "fd00:32::246"])).unwrap();
        let commands: Vec<_> = objects.iter().map(|object| object.command(Verb::Add)).collect();
        assert_eq!(
            commands,
            [
                "ip route add 172.246.0.0/24 via 192.168.32.246 dev eth0 onlink",
                "ip -6 route add fd00:246::/64 via fd00:32::246 dev eth0 onlink",
            ]
        );
    }

    #[test]
    fn a_peer_behind_a_router_is_refused_with_the_reason() {
        for (subnet, address) in
            [("172.245.0.0/24", "192.168.33.246"), ("fd00:245::/64", "fd00:33::246")]
        {
            let error = HostGw::new(&node(&[subnet])).peer_objects(&peer(&[address])).unwrap_err();
            assert!(matches!(error, PeerError::NotOnLink { .. }));
            let text = error.to_string();
            assert!(text.contains(address) && text.contains("not on-link on eth0"), "{text}");
        }
    }

    #[test]
    fn a_family_without_endpoint_is_refused_only_if_this_node_has_it() {
        let dual = HostGw::new(&node(&["172.245.0.0/24", "fd00:245::/64"]));
        let error = dual.peer_objects(&peer(&["192.168.32.246"])).unwrap_err();
        assert!(error.to_string().contains("no IPv6 endpoint"), "{error}");
        let v4 = HostGw::new(&node(&["172.245.0.0/24"]));
        assert_eq!(v4.peer_objects(&peer(&["192.168.32.246"])).unwrap().len(), 1);
    }
}
