//! The kernel objects of the backend.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipnet::IpNet;
use overlay_backend::{Backend, BackendData, DataPath, Node, Peer, PeerError, UnderlayError};
use overlay_netlink::{Address, Hop, IfName, Link, LinkKind, Object, Route};
use overlay_wire::ip_in_udp::FLANNEL_PORT;
use overlay_wire::segment::SendLimit;
use overlay_wire::{Encapsulation, IpVersion};

use crate::{PathData, Peers};

/// What the backend is called, as in Flannel's `Backend.Type`.
pub(crate) const NAME: &str = "udp";

/// How a udp network is set up. Equal on all nodes but for the name of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpOptions {
    /// The UDP port, of every node: 8285 unless set, as Flannel has it.
    pub port: u16,
    /// The family of the underlay: IPv4 unless set.
    pub underlay: IpVersion,
    /// The name of the TUN device: `udp.PORT`, or `udp6.PORT` over IPv6, unless set.
    pub device: Option<IfName>,
}

impl UdpOptions {
    /// The same network on this UDP port.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The same network over an underlay of this family.
    #[must_use]
    pub const fn underlay(mut self, underlay: IpVersion) -> Self {
        self.underlay = underlay;
        self
    }

    /// The same network with a TUN device of this name.
    #[must_use]
    pub const fn device(mut self, device: IfName) -> Self {
        self.device = Some(device);
        self
    }
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self { port: FLANNEL_PORT, underlay: IpVersion::V4, device: None }
    }
}

/// The udp backend on one node: its kernel objects, and the table of its peers.
///
/// It carries no packet by itself: that is for the `Forwarder`, which looks into the same table.
#[derive(Clone, Debug)]
pub struct Udp {
    device: IfName,
    parent: IfName,
    port: u16,
    local: IpAddr,
    mtu: u32,
    /// This node's addresses on the device, one of each family that it has subnets of.
    addresses: Vec<IpNet>,
    /// The subnets that live here.
    subnets: Vec<IpNet>,
    peers: Arc<Peers>,
    fast_path: Arc<AtomicBool>,
}

impl Udp {
    /// The backend for `node`.
    ///
    /// # Errors
    /// [`UnderlayError::NoAddress`] when the underlay device has no address of the wanted family,
    /// [`UnderlayError::MtuTooSmall`] when its MTU leaves no room for the families that the node has subnets of.
    pub fn new(node: &Node, options: &UdpOptions) -> Result<Self, UnderlayError> {
        let UdpOptions { port, underlay, device } = *options;
        let dev = node.underlay.dev;
        let local = node
            .underlay
            .address(underlay)
            .ok_or(UnderlayError::NoAddress { dev, version: underlay })?;
        let base = |version: IpVersion| {
            let mut bases = node.subnets.iter().map(IpNet::network);
            bases.find(|base| IpVersion::of(*base) == version).map(IpNet::from)
        };
        let addresses: Vec<IpNet> = IpVersion::ALL.into_iter().filter_map(base).collect();
        let least = addresses.iter().map(|net| IpVersion::of(net.addr()).min_mtu()).max();
        let mtu = Encapsulation::IpInUdp
            .inner_mtu(node.underlay.mtu, underlay)
            .filter(|mtu| *mtu >= least.unwrap_or_else(|| IpVersion::V4.min_mtu()))
            .ok_or(UnderlayError::MtuTooSmall { dev, mtu: node.underlay.mtu, backend: NAME })?;
        Ok(Self {
            device: device.unwrap_or_else(|| default_name(port, underlay)),
            parent: dev,
            port,
            local,
            mtu,
            addresses,
            subnets: node.subnets.iter().map(IpNet::trunc).collect(),
            peers: Arc::new(Peers::new(underlay)),
            fast_path: Arc::default(),
        })
    }

    /// The name of the TUN device.
    #[must_use]
    pub const fn device(&self) -> IfName {
        self.device
    }

    /// The underlay device.
    #[must_use]
    pub const fn parent(&self) -> IfName {
        self.parent
    }

    /// The UDP port, this node's and every peer's.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// This node's address in the underlay.
    #[must_use]
    pub const fn local(&self) -> IpAddr {
        self.local
    }

    /// The subnets that live on this node.
    #[must_use]
    pub fn subnets(&self) -> &[IpNet] {
        &self.subnets
    }

    /// The table of the peers, which [`Network`](overlay_backend::Network) keeps and whoever carries packets looks into.
    #[must_use]
    pub const fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Says whether a program in the kernel takes packets out of their datagrams, which is part of what
    /// this node [publishes](Backend::data). Returns whether that is news, to be published anew.
    pub(crate) fn set_fast_path(&self, works: bool) -> bool {
        self.fast_path.swap(works, Ordering::Relaxed) != works
    }
}

impl Backend for Udp {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The TUN device, which whoever carries the packets creates and netlink can only adjust; and a `/32` or `/128` on it:
    /// the base address of the node's first subnet of each family, which no container can have.
    fn node_objects(&self) -> Vec<Object<IfName>> {
        let mut link = Link::new(self.device, LinkKind::Tun).mtu(self.mtu).up();
        // So that the segments of what is read at once can be sent at once.
        link.gso_max_size = SendLimit::new(IpVersion::of(self.local)).gso_max_size(self.mtu);
        let addresses =
            self.addresses.iter().map(|net| Address::new(*net, self.device).nodad().into());
        [link.into()].into_iter().chain(addresses).collect()
    }

    /// A route into the device for each subnet of a family that this node has subnets of.
    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        let underlay = IpVersion::of(self.local);
        if peer.endpoint(underlay).is_none() {
            let peer = peer.id.clone();
            return Err(PeerError::NoEndpoint { peer, version: underlay, backend: NAME });
        }
        if let Some(Err(error)) = peer.data.get(underlay).map(PathData::from_json) {
            let (peer, reason) = (peer.id.clone(), error.to_string());
            return Err(PeerError::BadData { peer, backend: NAME, reason });
        }
        let carried = self.addresses.iter().map(|net| IpVersion::of(net.addr()));
        let routes = carried.flat_map(|version| peer.subnets(version));
        Ok(routes.map(|subnet| Route::to(subnet).hop(Hop::dev(self.device)).into()).collect())
    }

    /// Whether packets may come as they are inside a kernel. It changes when the data path does.
    fn data(&self) -> BackendData {
        let data = PathData { fast_path: self.fast_path.load(Ordering::Relaxed) };
        BackendData::of(IpVersion::of(self.local), data.to_json())
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn data_path(&self) -> Option<&dyn DataPath> {
        Some(&*self.peers)
    }
}

fn default_name(port: u16, underlay: IpVersion) -> IfName {
    let name = match underlay {
        IpVersion::V4 => format!("udp.{port}"),
        IpVersion::V6 => format!("udp6.{port}"),
    };
    // At most "udp6.65535", 10 bytes.
    IfName::new(&name).expect("a name of 10 bytes without forbidden characters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlay_backend::Underlay;
    use overlay_netlink::Verb;
    use serde_json::json;

    fn node(subnets: &[&str], mtu: u32) -> Node {
        Node {
            id: "vm1".into(),
            subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
            underlay: Underlay {
                dev: IfName::new("eth0").unwrap(),
                mtu,
                addresses: vec![
                    "192.168.32.245/24".parse().unwrap(),
                    "fd00:32::245/64".parse().unwrap(),
                ],
                on_link: Vec::new(),
                routed: Default::default(),
            },
        }
    }

    fn peer(data: serde_json::Value) -> Peer {
        Peer {
            id: "vm2".into(),
            subnets: vec!["172.246.0.0/24".parse().unwrap(), "fd00:246::/64".parse().unwrap()],
            endpoints: vec!["192.168.32.246".parse().unwrap()],
            data: BackendData::of(IpVersion::V4, data),
        }
    }

    fn commands(objects: &[Object<IfName>]) -> Vec<String> {
        objects.iter().map(|object| object.command(Verb::Add)).collect()
    }

    #[test]
    fn a_node_is_a_device_with_the_base_addresses() {
        let node = node(&["172.245.0.0/24", "fd00:245::/64"], 1500);
        let udp = Udp::new(&node, &UdpOptions::default()).unwrap();
        assert_eq!(udp.mtu(), 1472);
        let commands = commands(&udp.node_objects());
        assert_eq!(
            commands[0],
            "ip tuntap add dev udp.8285 mode tun\n\
             ip link set dev udp.8285 mtu 1472 gso_max_size 62532 up"
        );
        assert_eq!(
            commands[1..],
            [
                "ip addr add 172.245.0.0/32 dev udp.8285",
                "ip addr add fd00:245::/128 dev udp.8285 nodad"
            ]
        );
    }

    #[test]
    fn a_peer_is_a_route_per_subnet() {
        let udp = Udp::new(&node(&["172.245.0.0/24"], 1500), &UdpOptions::default()).unwrap();
        let objects = udp.peer_objects(&peer(json!(null))).unwrap();
        assert_eq!(commands(&objects), ["ip route add 172.246.0.0/24 dev udp.8285"]);
        let dual = node(&["172.245.0.0/24", "fd00:245::/64"], 1500);
        let dual = Udp::new(&dual, &UdpOptions::default()).unwrap();
        assert_eq!(dual.peer_objects(&peer(json!({ "FastPath": true }))).unwrap().len(), 2);
    }

    #[test]
    fn the_mtu_follows_the_underlays_family_and_leaves_room() {
        let v6 = UdpOptions::default().underlay(IpVersion::V6);
        assert_eq!(Udp::new(&node(&["172.245.0.0/24"], 1500), &v6).unwrap().mtu(), 1452);
        let error = Udp::new(&node(&["fd00:245::/64"], 1300), &v6).unwrap_err();
        assert!(error.to_string().contains("MTU of 1300 bytes"), "{error}");
    }

    #[test]
    fn peers_that_cannot_be_reached_are_refused() {
        let udp = Udp::new(&node(&["172.245.0.0/24"], 1500), &UdpOptions::default()).unwrap();
        let error = udp.peer_objects(&peer(json!("x"))).unwrap_err().to_string();
        assert!(error.contains("does not understand"), "{error}");
        let elsewhere =
            Peer { endpoints: vec!["fd00:32::246".parse().unwrap()], ..peer(json!({})) };
        let error = udp.peer_objects(&elsewhere).unwrap_err().to_string();
        assert!(error.contains("no IPv4 endpoint"), "{error}");
    }

    #[test]
    fn what_is_published_follows_the_data_path() {
        let udp = Udp::new(&node(&["172.245.0.0/24"], 1500), &UdpOptions::default()).unwrap();
        assert_eq!(udp.data().v4, Some(json!({ "FastPath": false })));
        assert!(udp.set_fast_path(true) && !udp.set_fast_path(true));
        assert_eq!(udp.clone().data().v4, Some(json!({ "FastPath": true })));
    }
}
