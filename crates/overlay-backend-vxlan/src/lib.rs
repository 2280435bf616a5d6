#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod data;

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_backend::{
    Backend, BackendData, Node, NodeId, Peer, PeerError, Underlay, UnderlayError,
};
use overlay_netlink::{
    Address, Fdb, Hop, IfName, Link, LinkKind, Neighbour, Object, Route, Vxlan as VxlanLink,
};
use overlay_wire::{Encapsulation, IpVersion, MacAddr, Vni};
use sha2::{Digest, Sha256};

pub use crate::data::VtepData;

/// What the backend is called, as in Flannel's `Backend.Type`.
const NAME: &str = "vxlan";

/// How a VXLAN network is set up. Equal on all nodes but for the names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VxlanOptions {
    /// The network identifier: 1 unless set.
    pub vni: Vni,
    /// The UDP destination port: 8472 unless set, as the Linux kernel and Flannel have it. IANA's
    /// number is 4789.
    pub port: u16,
    /// The family of the underlay: IPv4 unless set.
    pub underlay: IpVersion,
    /// The families of the overlay that this device carries: both unless set. Flannel's dual stack is
    /// two devices, each carrying the family of its underlay.
    pub carries: Vec<IpVersion>,
    /// The name of the device: `vxlan.VNI`, or `vxlan6.VNI` over IPv6, unless set.
    pub device: Option<IfName>,
    /// The MAC address of the device: derived from the node's identity unless set.
    pub mac: Option<MacAddr>,
}

impl VxlanOptions {
    /// The UDP port of the Linux kernel and of Flannel.
    pub const LINUX_PORT: u16 = 8472;
    /// The UDP port that IANA assigned (RFC 7348, section 5).
    pub const IANA_PORT: u16 = 4789;

    /// The same network with this identifier.
    #[must_use]
    pub const fn vni(mut self, vni: Vni) -> Self {
        self.vni = vni;
        self
    }

    /// The same network on this UDP destination port.
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

    /// The same network, carrying these families of the overlay.
    #[must_use]
    pub fn carries(mut self, carries: impl Into<Vec<IpVersion>>) -> Self {
        self.carries = carries.into();
        self
    }

    /// The same network with a device of this name.
    #[must_use]
    pub const fn device(mut self, device: IfName) -> Self {
        self.device = Some(device);
        self
    }

    /// The same network with this MAC address on the device.
    #[must_use]
    pub const fn mac(mut self, mac: MacAddr) -> Self {
        self.mac = Some(mac);
        self
    }
}

impl Default for VxlanOptions {
    fn default() -> Self {
        Self {
            vni: Vni::new(1).unwrap_or(Vni::MAX),
            port: Self::LINUX_PORT,
            underlay: IpVersion::V4,
            carries: IpVersion::ALL.to_vec(),
            device: None,
            mac: None,
        }
    }
}

/// The VXLAN backend on one node.
#[derive(Clone, Debug)]
pub struct Vxlan {
    device: IfName,
    parent: IfName,
    vni: Vni,
    port: u16,
    underlay: IpVersion,
    local: IpAddr,
    mac: MacAddr,
    mtu: u32,
    /// This VTEP's addresses in the overlay, one of each family that it carries.
    addresses: Vec<IpNet>,
}

impl Vxlan {
    /// The backend for `node`.
    ///
    /// # Errors
    /// [`UnderlayError::NoAddress`] when the underlay device has no address of the wanted family,
    /// [`UnderlayError::MtuTooSmall`] when its MTU leaves no room for the families that are carried.
    pub fn new(node: &Node, options: &VxlanOptions) -> Result<Self, UnderlayError> {
        let VxlanOptions { vni, port, underlay, .. } = *options;
        let addresses: Vec<IpNet> = options
            .carries
            .iter()
            .filter_map(|version| vtep_address(&node.subnets, *version))
            .map(IpNet::from)
            .collect();
        let (local, mtu) = place(&node.underlay, underlay, &addresses)?;
        Ok(Self {
            device: options.device.unwrap_or_else(|| default_name(vni, underlay)),
            parent: node.underlay.dev,
            vni,
            port,
            underlay,
            local,
            mac: options.mac.unwrap_or_else(|| derived_mac(&node.id, vni, underlay)),
            mtu,
            addresses,
        })
    }

    /// The name of the device.
    #[must_use]
    pub const fn device(&self) -> IfName {
        self.device
    }

    /// The MAC address of this VTEP.
    #[must_use]
    pub const fn mac(&self) -> MacAddr {
        self.mac
    }

    fn carries(&self, version: IpVersion) -> bool {
        self.addresses.iter().any(|net| IpVersion::of(net.addr()) == version)
    }

    /// What a peer says of its VTEP.
    fn vtep_of(&self, peer: &Peer) -> Result<MacAddr, PeerError> {
        let bad =
            |reason: String| PeerError::BadData { peer: peer.id.clone(), backend: NAME, reason };
        let data = peer
            .data
            .get(self.underlay)
            .ok_or_else(|| bad(format!("there is none for an {} underlay", self.underlay)))?;
        let data = VtepData::from_json(data).map_err(|error| bad(error.to_string()))?;
        if let Some(vni) = data.vni.filter(|vni| *vni != self.vni) {
            return Err(bad(format!("it is in VNI {vni}, this node is in VNI {}", self.vni)));
        }
        if !data.vtep_mac.is_unicast() {
            return Err(bad(format!("{} is not the address of one station", data.vtep_mac)));
        }
        if data.vtep_mac == self.mac {
            return Err(bad(format!("its VTEP has the MAC address of this node's, {}", self.mac)));
        }
        Ok(data.vtep_mac)
    }
}

impl Backend for Vxlan {
    fn name(&self) -> &'static str {
        NAME
    }

    /// The device, and a `/32` or `/128` on it: the base address of the node's first subnet of each
    /// family, which no container can have.
    fn node_objects(&self) -> Vec<Object<IfName>> {
        let mut vxlan = VxlanLink::new(self.vni);
        vxlan.dev = Some(self.parent);
        vxlan.local = Some(self.local);
        vxlan.port = Some(self.port);
        vxlan.learning = Some(false);
        let link = Link::new(self.device, LinkKind::Vxlan(Box::new(vxlan)))
            .mtu(self.mtu)
            .address(self.mac)
            .up();
        let addresses =
            self.addresses.iter().map(|net| Address::new(*net, self.device).nodad().into());
        [link.into()].into_iter().chain(addresses).collect()
    }

    /// An FDB entry for the peer's VTEP; for each family a neighbour, whose address is the base of
    /// the peer's first subnet for IPv4 and the VTEP's link-local address for IPv6; and for each
    /// subnet a route by way of that neighbour.
    fn peer_objects(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        let dev = self.device;
        let endpoint = peer.endpoint(self.underlay).ok_or_else(|| PeerError::NoEndpoint {
            peer: peer.id.clone(),
            version: self.underlay,
            backend: NAME,
        })?;
        let mac = self.vtep_of(peer)?;
        let mut objects = vec![Fdb::remote(mac, endpoint, dev).into()];
        for version in IpVersion::ALL.into_iter().filter(|version| self.carries(*version)) {
            let Some(base) = vtep_address(&peer.subnets, version) else { continue };
            let gateway = match version {
                IpVersion::V4 => base,
                // The base address will not do: where a wider route covers it the kernel refuses
                // it as a gateway on this device, `onlink` or not.
                IpVersion::V6 => mac.link_local().into(),
            };
            objects.push(Neighbour::permanent(gateway, mac, dev).into());
            for subnet in peer.subnets(version) {
                objects.push(Route::to(subnet).hop(Hop::onlink(gateway, dev)).into());
            }
        }
        Ok(objects)
    }

    fn data(&self) -> BackendData {
        let data = VtepData { vni: Some(self.vni), vtep_mac: self.mac };
        BackendData::of(self.underlay, data.to_json())
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    /// The device is given the address and the MTU that follow from it, in place.
    fn set_underlay(&mut self, underlay: &Underlay) -> Result<(), UnderlayError> {
        let (local, mtu) = place(underlay, self.underlay, &self.addresses)?;
        (self.parent, self.local, self.mtu) = (underlay.dev, local, mtu);
        Ok(())
    }
}

/// The address in an underlay that tunnels of this family begin at, and their MTU with room for what
/// the addresses of the overlay say that they carry.
fn place(
    underlay: &Underlay,
    version: IpVersion,
    addresses: &[IpNet],
) -> Result<(IpAddr, u32), UnderlayError> {
    let Underlay { dev, mtu: outer, .. } = *underlay;
    let local = underlay.address(version).ok_or(UnderlayError::NoAddress { dev, version })?;
    let carried = addresses.iter().map(|net| IpVersion::of(net.addr()).min_mtu());
    let least = carried.max().unwrap_or_else(|| IpVersion::V4.min_mtu());
    let mtu = Encapsulation::Vxlan
        .inner_mtu(outer, version)
        .filter(|mtu| *mtu >= least)
        .ok_or(UnderlayError::MtuTooSmall { dev, mtu: outer, backend: NAME })?;
    Ok((local, mtu))
}

/// The address of a node's VTEP in the overlay: the base of its first subnet of the family.
fn vtep_address(subnets: &[IpNet], version: IpVersion) -> Option<IpAddr> {
    subnets.iter().map(IpNet::network).find(|base| IpVersion::of(*base) == version)
}

fn default_name(vni: Vni, underlay: IpVersion) -> IfName {
    let name = match underlay {
        IpVersion::V4 => format!("vxlan.{vni}"),
        IpVersion::V6 => format!("vxlan6.{vni}"),
    };
    // At most "vxlan6.16777215", 15 bytes.
    IfName::new(&name).expect("a name of 15 bytes without forbidden characters")
}

/// The same node always has the same address in the same network: peers need not be told of a
/// restart.
fn derived_mac(node: &NodeId, vni: Vni, underlay: IpVersion) -> MacAddr {
    let digest = Sha256::new()
        .chain_update(node.as_str())
        .chain_update([0])
        .chain_update(vni.get().to_be_bytes())
        .chain_update(underlay.header_len().to_be_bytes())
        .finalize();
    let [a, b, c, d, e, f, ..] = digest.as_slice() else { return MacAddr::local_from([0; 6]) };
    MacAddr::local_from([*a, *b, *c, *d, *e, *f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlay_netlink::Verb;

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

    fn options() -> VxlanOptions {
        let device = IfName::new("vtep245").unwrap();
        let mac = "52:3a:8c:c9:08:e8".parse().unwrap();
        VxlanOptions::default().device(device).mac(mac)
    }

    fn peer(data: &str) -> Peer {
        Peer {
            id: "vm2".into(),
            subnets: vec!["172.246.0.0/24".parse().unwrap(), "fd00:246::/64".parse().unwrap()],
            endpoints: vec!["192.168.32.246".parse().unwrap()],
            data: BackendData::of(IpVersion::V4, serde_json::from_str(data).unwrap()),
        }
    }

    fn commands(objects: &[Object<IfName>]) -> Vec<String> {
        objects.iter().map(|object| object.command(Verb::Add)).collect()
    }

    #[test]
    fn a_node_is_the_articles_device() {
        let vxlan =
            Vxlan::new(&node(&["172.245.0.0/24", "fd00:245::/64"], 1500), &options()).unwrap();
        assert_eq!(
            commands(&vxlan.node_objects()),
            [
                "ip link add dev vtep245 mtu 1450 address 52:3a:8c:c9:08:e8 up type vxlan id 1 \
                 local 192.168.32.245 dev eth0 dstport 8472 nolearning",
                "ip addr add 172.245.0.0/32 dev vtep245",
                "ip addr add fd00:245::/128 dev vtep245 nodad",
            ]
        );
    }

    #[test]
    fn a_peer_is_three_objects_per_family() {
        let vxlan =
            Vxlan::new(&node(&["172.245.0.0/24", "fd00:245::/64"], 1500), &options()).unwrap();
        let peer = peer(r#"{"VNI":1,"VtepMAC":"02:38:4a:12:3b:43"}"#);
        assert_eq!(
            commands(&vxlan.peer_objects(&peer).unwrap()),
            [
                "bridge fdb add 02:38:4a:12:3b:43 dev vtep245 dst 192.168.32.246 self permanent",
                "ip neigh add 172.246.0.0 lladdr 02:38:4a:12:3b:43 dev vtep245 nud permanent",
                "ip route add 172.246.0.0/24 via 172.246.0.0 dev vtep245 onlink",
                "ip neigh add fe80::38:4aff:fe12:3b43 lladdr 02:38:4a:12:3b:43 dev vtep245 nud permanent",
                "ip -6 route add fd00:246::/64 via fe80::38:4aff:fe12:3b43 dev vtep245 onlink",
            ]
        );
    }

    #[test]
    fn families_that_this_node_lacks_are_left_out() {
        let vxlan = Vxlan::new(&node(&["172.245.0.0/24"], 1500), &options()).unwrap();
        let objects = vxlan.peer_objects(&peer(r#"{"VtepMAC":"02:38:4a:12:3b:43"}"#)).unwrap();
        assert_eq!(objects.len(), 3);
    }

    #[test]
    fn the_mtu_follows_the_underlays_family() {
        let options = options();
        let node = node(&["172.245.0.0/24"], 1500);
        assert_eq!(Vxlan::new(&node, &options).unwrap().mtu(), 1450);
        let options = options.underlay(IpVersion::V6);
        assert_eq!(Vxlan::new(&node, &options).unwrap().mtu(), 1430);
    }

    #[test]
    fn the_device_follows_the_underlay() {
        let node = node(&["172.245.0.0/24", "fd00:245::/64"], 1500);
        let mut vxlan = Vxlan::new(&node, &options()).unwrap();
        let mut underlay = node.underlay;
        underlay.mtu = 9000;
        underlay.addresses = vec!["192.168.32.7/24".parse().unwrap()];
        vxlan.set_underlay(&underlay).unwrap();
        let device = commands(&vxlan.node_objects()).swap_remove(0);
        assert!(device.contains("mtu 8950") && device.contains("local 192.168.32.7"), "{device}");
        let smaller = Underlay { mtu: 1300, ..underlay.clone() };
        let error = vxlan.set_underlay(&smaller).unwrap_err().to_string();
        assert!(error.contains("MTU of 1300 bytes"), "{error}");
        let without = Underlay { addresses: Vec::new(), ..underlay };
        let error = vxlan.set_underlay(&without).unwrap_err().to_string();
        assert!(error.contains("no IPv4 address"), "{error}");
        assert_eq!(commands(&vxlan.node_objects()).swap_remove(0), device);
    }

    #[test]
    fn an_mtu_without_room_for_ipv6_is_refused() {
        let error = Vxlan::new(&node(&["fd00:245::/64"], 1300), &options()).unwrap_err();
        assert!(error.to_string().contains("MTU of 1300 bytes"), "{error}");
        assert!(Vxlan::new(&node(&["172.245.0.0/24"], 1300), &options()).is_ok());
    }

    #[test]
    fn the_mac_is_stable_and_differs_between_nodes_and_networks() {
        let vni = |n| Vni::new(n).unwrap();
        let mac = |id: &str, n, version| derived_mac(&id.into(), vni(n), version);
        assert_eq!(mac("vm1", 1, IpVersion::V4), mac("vm1", 1, IpVersion::V4));
        assert_ne!(mac("vm1", 1, IpVersion::V4), mac("vm2", 1, IpVersion::V4));
        assert_ne!(mac("vm1", 1, IpVersion::V4), mac("vm1", 2, IpVersion::V4));
        assert_ne!(mac("vm1", 1, IpVersion::V4), mac("vm1", 1, IpVersion::V6));
        // Published: a change would cost every node its address.
        assert_eq!(mac("vm1", 1, IpVersion::V4).to_string(), "8a:65:32:0c:80:ba");
    }

    #[test]
    fn data_that_makes_no_sense_is_refused() {
        let vxlan = Vxlan::new(&node(&["172.245.0.0/24"], 1500), &options()).unwrap();
        for (data, reason) in [
            (r#"{"VNI":1}"#, "VtepMAC"),
            (r#"{"VNI":2,"VtepMAC":"02:38:4a:12:3b:43"}"#, "VNI 2"),
            (r#"{"VNI":16777216,"VtepMAC":"02:38:4a:12:3b:43"}"#, "16777215"),
            (r#"{"VNI":1,"VtepMAC":"ff:ff:ff:ff:ff:ff"}"#, "one station"),
            (r#"{"VNI":1,"VtepMAC":"52:3a:8c:c9:08:e8"}"#, "this node's"),
            (r#"[]"#, "data"),
        ] {
            let error = vxlan.peer_objects(&peer(data)).unwrap_err().to_string();
            assert!(error.contains(reason), "{data}: {error}");
        }
        let mut no_endpoint = peer(r#"{"VtepMAC":"02:38:4a:12:3b:43"}"#);
        no_endpoint.endpoints = vec!["fd00:32::246".parse().unwrap()];
        let error = vxlan.peer_objects(&no_endpoint).unwrap_err().to_string();
        assert!(error.contains("no IPv4 endpoint"), "{error}");
    }

    #[test]
    fn what_is_published_is_flannels_json() {
        let vxlan = Vxlan::new(&node(&["172.245.0.0/24"], 1500), &options()).unwrap();
        let json = serde_json::to_string(&vxlan.data().v4.unwrap()).unwrap();
        assert_eq!(json, r#"{"VNI":1,"VtepMAC":"52:3a:8c:c9:08:e8"}"#);
    }
}
