//! The kernel objects of the backend.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use overlay_backend::{
    Backend, BackendData, DataPath, Node, NodeId, Peer, PeerError, Underlay, UnderlayError,
};
use overlay_netlink::{Address, Bridge, Encap, Hop, IfName, Link, LinkKind, Object, Route};
use overlay_wire::{Encapsulation, IpVersion};

use crate::device::{self, Carrier};
use crate::options::{Form, IpIpOptions, PointToPoint};
use crate::table::{Entry, Table};

/// What the backend is called, as in Flannel's `Backend.Type`.
const NAME: &str = "ipip";

/// The backend on one node.
#[derive(Clone, Debug)]
pub struct IpIp {
    /// This node's addresses in the underlay, one of each family that may carry packets, with the MTU that this leaves.
    ends: Vec<(IpAddr, u32)>,
    /// The families of the underlay that may carry packets.
    underlays: Vec<IpVersion>,
    /// This node's addresses in the overlay, one of each family that is carried.
    addresses: Vec<IpNet>,
    /// The names of the devices that are for all peers.
    names: BTreeMap<Carrier, IfName>,
    form: Form,
    /// The underlay device.
    parent: IfName,
    /// The subnets that live here.
    subnets: Vec<IpNet>,
    programs: IfName,
    /// The peers, for programs.
    table: Arc<Table>,
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
        let ends = ends(underlay, &options.underlays, &addresses)?;
        let names = [
            (Carrier::Ipip, options.ipip),
            (Carrier::Sit, options.sit),
            (Carrier::Ip6tnl, options.ip6tnl),
        ]
        .map(|(carrier, name)| (carrier, name.unwrap_or_else(|| carrier.default_name())));
        Ok(Self {
            ends,
            underlays: options.underlays.clone(),
            addresses,
            names: names.into(),
            form: options.form.clone(),
            parent: dev,
            subnets: node.subnets.iter().map(IpNet::trunc).collect(),
            programs: options.ebpf.unwrap_or_else(programs_name),
            table: Arc::default(),
        })
    }

    /// Whether it was set up for [`Programs`](crate::Programs).
    #[must_use]
    pub fn is_by_programs(&self) -> bool {
        self.form == Form::Programs
    }

    pub(crate) const fn programs_device(&self) -> IfName {
        self.programs
    }

    pub(crate) const fn parent(&self) -> IfName {
        self.parent
    }

    pub(crate) fn locals(&self) -> impl Iterator<Item = IpAddr> {
        self.ends.iter().map(|(local, _)| *local)
    }

    pub(crate) fn subnets(&self) -> &[IpNet] {
        &self.subnets
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// This node's end in an underlay of this family, if it has one.
    fn end(&self, version: IpVersion) -> Option<(IpAddr, u32)> {
        self.ends.iter().copied().find(|(local, _)| IpVersion::of(*local) == version)
    }

    /// The families of the overlay that are carried.
    fn carried(&self) -> impl Iterator<Item = IpVersion> {
        self.addresses.iter().map(|net| IpVersion::of(net.addr()))
    }

    fn device(&self, carrier: Carrier) -> IfName {
        self.names.get(&carrier).copied().unwrap_or_else(|| carrier.default_name())
    }

    /// Both ends of the tunnel that carries packets of family `inner` to a peer: over the same family if both have it.
    fn ends_to(&self, peer: &Peer, inner: IpVersion) -> Result<Ends, PeerError> {
        let outer = std::iter::once(inner).chain(IpVersion::ALL);
        let mut ends = outer.filter_map(|outer| {
            let (local, mtu) = self.end(outer)?;
            Some(Ends { local, remote: peer.endpoint(outer)?, mtu })
        });
        ends.next().ok_or_else(|| {
            let here = |version: &IpVersion| self.end(*version).is_some();
            let version = std::iter::once(inner).chain(IpVersion::ALL).find(here).unwrap_or(inner);
            PeerError::NoEndpoint { peer: peer.id.clone(), version, backend: NAME }
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
            let dev = self.device(carrier);
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

    /// The routes to a peer over the device whose packets programs take over.
    fn by_programs(&self, peer: &Peer) -> Result<Vec<Object<IfName>>, PeerError> {
        let routes = self.entries(peer)?.into_iter().map(|entry| {
            let route = Route::to(entry.subnet).hop(Hop::dev(self.programs));
            Object::from(route)
        });
        Ok(routes.collect())
    }

    /// What programs have to know of a peer.
    fn entries(&self, peer: &Peer) -> Result<Vec<Entry>, PeerError> {
        let mut entries = Vec::new();
        for inner in self.carried() {
            if peer.subnets(inner).next().is_none() {
                continue;
            }
            let Ends { remote, mtu, .. } = self.ends_to(peer, inner)?;
            let entry = |subnet| Entry { subnet, endpoint: remote, mtu };
            entries.extend(peer.subnets(inner).map(entry));
        }
        Ok(entries)
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
        match self.form {
            Form::Multipoint => {}
            Form::Programs => {
                let bridge = LinkKind::Bridge(Bridge::default());
                let link = Link::new(self.programs, bridge).mtu(self.mtu()).arp(false).up();
                let address = |net: &IpNet| Address::new(*net, self.programs).nodad().into();
                return [link.into()]
                    .into_iter()
                    .chain(self.addresses.iter().map(address))
                    .collect();
            }
            Form::PointToPoint(_) => return Vec::new(),
        }
        let mut devices = BTreeMap::new();
        let mut addresses = Vec::new();
        for (local, mtu) in self.ends.iter().copied() {
            for net in &self.addresses {
                let carrier = Carrier::of(IpVersion::of(net.addr()), IpVersion::of(local));
                let dev = self.device(carrier);
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
            Form::Programs => self.by_programs(peer),
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

    /// That of the tunnel to the peer's address. Programs have one device for all peers.
    fn peer_mtu(&self, peer: &Peer, version: IpVersion) -> u32 {
        let tunnel = self.ends_to(peer, version).ok().filter(|_| !self.is_by_programs());
        tunnel.map_or_else(|| self.mtu(), |ends| ends.mtu)
    }

    /// [`Programs`](crate::Programs) go by the addresses that they were started with: start them again when those change.
    fn set_underlay(&mut self, underlay: &Underlay) -> Result<(), UnderlayError> {
        self.ends = ends(underlay, &self.underlays, &self.addresses)?;
        self.parent = underlay.dev;
        Ok(())
    }

    fn data_path(&self) -> Option<&dyn DataPath> {
        self.is_by_programs().then_some(self)
    }
}

impl DataPath for IpIp {
    fn set_peer(&self, peer: &Peer) {
        // One that cannot be reached has no objects either.
        self.table.set(&peer.id, self.entries(peer).unwrap_or_default());
    }

    fn remove_peer(&self, id: &NodeId) {
        self.table.remove(id);
    }
}

fn programs_name() -> IfName {
    IfName::new("overlay.ebpf").expect("at most 14 bytes, and none that is forbidden")
}

/// The addresses in an underlay that tunnels begin at, one of each of the families, with the MTU that each leaves to packets of
/// the overlay's addresses.
fn ends(
    underlay: &Underlay,
    versions: &[IpVersion],
    addresses: &[IpNet],
) -> Result<Vec<(IpAddr, u32)>, UnderlayError> {
    let dev = underlay.dev;
    let least = addresses.iter().map(|net| IpVersion::of(net.addr()).min_mtu()).max();
    let least = least.unwrap_or_else(|| IpVersion::V4.min_mtu());
    let mut ends = Vec::new();
    for version in versions.iter().copied() {
        let Some(local) = underlay.address(version) else { continue };
        let mtu = Encapsulation::IpInIp
            .inner_mtu(underlay.mtu, version)
            .filter(|mtu| *mtu >= least)
            .ok_or(UnderlayError::MtuTooSmall { dev, mtu: underlay.mtu, backend: NAME })?;
        ends.push((local, mtu));
    }
    if ends.is_empty() {
        let version = versions.first().copied().unwrap_or(IpVersion::V4);
        return Err(UnderlayError::NoAddress { dev, version });
    }
    Ok(ends)
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

#[cfg(test)]
mod tests {
    use super::*;
    use overlay_backend::{MemoryKernel, Network, Owner, Reconciler, Underlay};
    use overlay_netlink::{Error, Verb};

    const BOTH: [&str; 2] = ["192.168.32.245/24", "fd00:32::245/64"];
    const PEER: [&str; 2] = ["192.168.32.246", "fd00:32::246"];

    fn node(subnets: &[&str], addresses: &[&str]) -> Node {
        Node {
            id: "vm1".into(),
            subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
            underlay: Underlay {
                dev: IfName::new("eth0").unwrap(),
                mtu: 1500,
                addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
                on_link: Vec::new(),
                routed: Default::default(),
            },
        }
    }

    fn dual(addresses: &[&str]) -> Node {
        node(&["172.245.0.0/24", "fd00:245::/64"], addresses)
    }

    fn peer(endpoints: &[&str]) -> Peer {
        Peer {
            id: "vm2".into(),
            subnets: vec!["172.246.0.0/24".parse().unwrap(), "fd00:246::/64".parse().unwrap()],
            endpoints: endpoints.iter().map(|address| address.parse().unwrap()).collect(),
            data: BackendData::default(),
        }
    }

    fn backend(node: &Node) -> IpIp {
        IpIp::new(node, &IpIpOptions::default()).unwrap()
    }

    fn commands(objects: &[Object<IfName>]) -> Vec<String> {
        objects.iter().map(|object| object.command(Verb::Add)).collect()
    }

    #[test]
    fn ipv4_in_ipv4_is_one_device_and_a_route_by_way_of_the_peer() {
        let backend = backend(&node(&["172.245.0.0/24"], &BOTH[..1]));
        assert_eq!(
            commands(&backend.node_objects()),
            [
                "ip link add dev overlay.ipip mtu 1480 up type ipip mode ipip local 192.168.32.245 \
                 ttl inherit nopmtudisc",
                "ip addr add 172.245.0.0/32 dev overlay.ipip",
            ]
        );
        assert_eq!(
            commands(&backend.peer_objects(&peer(&PEER)).unwrap()),
            ["ip route add 172.246.0.0/24 via 192.168.32.246 dev overlay.ipip onlink"]
        );
        assert_eq!((backend.name(), backend.mtu()), ("ipip", 1480));
    }

    #[test]
    fn ipv6_in_ipv4_goes_by_way_of_the_ipv4_compatible_address() {
        let backend = backend(&node(&["fd00:245::/64"], &BOTH[..1]));
        assert_eq!(
            commands(&backend.node_objects()),
            [
                "ip link add dev overlay.sit mtu 1480 up type sit mode ip6ip local 192.168.32.245 \
                 ttl inherit pmtudisc",
                "ip addr add fd00:245::/128 dev overlay.sit nodad",
            ]
        );
        assert_eq!(
            commands(&backend.peer_objects(&peer(&PEER)).unwrap()),
            ["ip -6 route add fd00:246::/64 via ::c0a8:20f6 dev overlay.sit onlink"]
        );
    }

    #[test]
    fn over_ipv6_one_device_carries_both_and_the_routes_say_to_whom() {
        let backend = backend(&dual(&BOTH[1..]));
        assert_eq!(
            commands(&backend.node_objects()),
            [
                "ip link add dev overlay.ip6tnl mtu 1460 up type ip6tnl mode any ttl inherit external \
                 encaplimit 0",
                "ip addr add 172.245.0.0/32 dev overlay.ip6tnl",
                "ip addr add fd00:245::/128 dev overlay.ip6tnl nodad",
            ]
        );
        assert_eq!(
            commands(&backend.peer_objects(&peer(&PEER)).unwrap()),
            [
                "ip route add 172.246.0.0/24 encap ip6 id 0 dst fd00:32::246 src fd00:32::245 dev \
                 overlay.ip6tnl scope global",
                "ip -6 route add fd00:246::/64 encap ip6 id 0 dst fd00:32::246 src fd00:32::245 dev \
                 overlay.ip6tnl",
            ]
        );
        assert_eq!(backend.mtu(), 1460);
    }

    #[test]
    fn each_family_takes_its_own_where_both_ends_have_it_and_the_other_otherwise() {
        let devices = |here: &[&str], there: &[&str]| -> Vec<String> {
            let objects = backend(&dual(here)).peer_objects(&peer(there)).unwrap();
            let dev = |object: &Object<IfName>| match object {
                Object::Route(Route { via: overlay_netlink::Via::Hop(hop), .. }) => {
                    hop.dev.unwrap().to_string()
                }
                _ => panic!("{object:?}"),
            };
            objects.iter().map(dev).collect()
        };
        assert_eq!(devices(&BOTH, &PEER), ["overlay.ipip", "overlay.ip6tnl"]);
        assert_eq!(devices(&BOTH, &PEER[..1]), ["overlay.ipip", "overlay.sit"]);
        assert_eq!(devices(&BOTH, &PEER[1..]), ["overlay.ip6tnl", "overlay.ip6tnl"]);
        assert_eq!(devices(&BOTH[..1], &PEER), ["overlay.ipip", "overlay.sit"]);
        assert_eq!(devices(&BOTH[1..], &PEER), ["overlay.ip6tnl", "overlay.ip6tnl"]);
        let error = backend(&dual(&BOTH[..1])).peer_objects(&peer(&PEER[1..])).unwrap_err();
        assert!(error.to_string().contains("no IPv4 endpoint"), "{error}");
    }

    #[test]
    fn all_devices_together_have_every_address_of_a_family_that_they_carry() {
        let commands = commands(&backend(&dual(&BOTH)).node_objects());
        let devices = commands.iter().filter(|line| line.starts_with("ip link")).count();
        assert_eq!((devices, commands.len()), (3, 7), "{commands:#?}");
        assert_eq!(backend(&dual(&BOTH)).mtu(), 1460);
    }

    #[test]
    fn a_tunnel_of_its_own_is_that_of_the_article() {
        let tun245 = PointToPoint::new(IfName::new("tun245").unwrap()).transfer(
            "172.245.1.1/30".parse::<IpNet>().unwrap(),
            "172.245.1.2".parse::<IpAddr>().unwrap(),
        );
        let options = IpIpOptions::default().point_to_point("vm2", tun245);
        let backend = IpIp::new(&node(&["172.245.0.0/24"], &BOTH), &options).unwrap();
        assert_eq!(commands(&backend.node_objects()), [""; 0]);
        assert_eq!(
            commands(&backend.peer_objects(&peer(&PEER)).unwrap()),
            [
                "ip link add dev tun245 mtu 1480 up type ipip mode ipip remote 192.168.32.246 \
                 local 192.168.32.245 ttl inherit nopmtudisc",
                "ip addr add 172.245.1.1/30 dev tun245",
                "ip route add 172.246.0.0/24 via 172.245.1.2 dev tun245",
            ]
        );
        let other = Peer { id: "vm3".into(), ..peer(&PEER) };
        let error = backend.peer_objects(&other).unwrap_err();
        assert!(matches!(error, PeerError::NoTunnel { .. }), "{error}");
    }

    #[test]
    fn a_tunnel_of_its_own_is_of_the_kind_that_carries_what_the_peer_has() {
        let link = |subnets: &[&str], addresses: &[&str]| {
            let tunnel = PointToPoint::new(IfName::new("tun245").unwrap());
            let options = IpIpOptions::default().point_to_point("vm2", tunnel);
            let backend = IpIp::new(&node(subnets, addresses), &options).unwrap();
            let objects = commands(&backend.peer_objects(&peer(&PEER)).unwrap());
            let (_, kind) = objects[0].split_once(" type ").unwrap();
            kind.split_once(" remote ").unwrap().0.to_owned()
        };
        let (v4, v6) = ("172.245.0.0/24", "fd00:245::/64");
        assert_eq!(link(&[v4], &BOTH), "ipip mode ipip");
        assert_eq!(link(&[v6], &BOTH[..1]), "sit mode ip6ip");
        assert_eq!(link(&[v4, v6], &BOTH), "sit mode any");
        assert_eq!(link(&[v6], &BOTH), "ip6tnl mode any");
        assert_eq!(link(&[v4], &BOTH[1..]), "ip6tnl mode any");
    }

    #[test]
    fn an_underlay_that_will_not_do_is_refused() {
        let error = |node: &Node| {
            IpIp::new(node, &IpIpOptions::default()).map(drop).unwrap_err().to_string()
        };
        assert!(error(&dual(&[])).contains("no IPv4 address"));
        let mut narrow = dual(&BOTH);
        narrow.underlay.mtu = 1300;
        assert!(error(&narrow).contains("MTU of 1300 bytes"));
        narrow.subnets.truncate(1);
        assert!(IpIp::new(&narrow, &IpIpOptions::default()).is_ok());
    }

    #[test]
    fn what_sit_devices_send_elsewhere_is_refused() {
        let sixto4 = Peer { subnets: vec!["2002:a00:1::/48".parse().unwrap()], ..peer(&PEER) };
        let error = backend(&dual(&BOTH[..1])).peer_objects(&sixto4).unwrap_err();
        assert!(error.to_string().contains("6to4"), "{error}");
        assert!(backend(&dual(&BOTH)).peer_objects(&sixto4).is_ok());
    }

    #[test]
    fn a_kernel_without_the_device_says_what_it_lacks() {
        let node = node(&["172.245.0.0/24"], &BOTH[..1]);
        let mut reconciler = Reconciler::new(Owner::default());
        let backend = backend(&node);
        let mut network = Network::new("overlay", node, backend, &mut reconciler).unwrap();
        assert!(network.set_peers([peer(&PEER)], &mut reconciler).is_empty());
        let mut kernel = MemoryKernel::new().without_kind("ipip");
        let report = reconciler.reconcile(&mut kernel).unwrap();
        let [failure] = &report.failed[..] else { panic!("{report:?}") };
        assert!(matches!(failure.error, Error::MissingKind(_)), "{failure}");
        let text = failure.to_string();
        assert!(text.contains("CONFIG_NET_IPIP") && text.contains("ipip.ko"), "{text}");
    }

    #[test]
    fn by_programs_a_peer_is_a_route_into_a_bridge() {
        let options = IpIpOptions::default().programs();
        let ipip = IpIp::new(&dual(&BOTH), &options).unwrap();
        assert_eq!(
            commands(&ipip.node_objects()),
            [
                "ip link add dev overlay.ebpf mtu 1460 arp off up type bridge",
                "ip addr add 172.245.0.0/32 dev overlay.ebpf",
                "ip addr add fd00:245::/128 dev overlay.ebpf nodad",
            ]
        );
        assert_eq!(
            commands(&ipip.peer_objects(&peer(&PEER)).unwrap()),
            [
                "ip route add 172.246.0.0/24 dev overlay.ebpf",
                "ip -6 route add fd00:246::/64 dev overlay.ebpf",
            ]
        );
        assert!(ipip.data_path().is_some());
        let by_devices = IpIp::new(&dual(&BOTH), &IpIpOptions::default()).unwrap();
        assert!(by_devices.data_path().is_none());
    }

    #[test]
    fn each_way_to_a_peer_has_its_mtu() {
        let ipip = IpIp::new(&dual(&BOTH), &IpIpOptions::default()).unwrap();
        let mtu = |ipip: &IpIp, to: &[&str]| {
            IpVersion::ALL.map(|version| ipip.peer_mtu(&peer(to), version))
        };
        assert_eq!(mtu(&ipip, &PEER), [1480, 1460]);
        assert_eq!(mtu(&ipip, &PEER[..1]), [1480, 1480]);
        assert_eq!(mtu(&ipip, &PEER[1..]), [1460, 1460]);
        let programs = IpIp::new(&dual(&BOTH), &IpIpOptions::default().programs()).unwrap();
        assert_eq!(mtu(&programs, &PEER), [1460, 1460]);
    }

    #[test]
    fn it_goes_by_another_underlay() {
        let mut ipip = IpIp::new(&dual(&BOTH), &IpIpOptions::default()).unwrap();
        let mut underlay = dual(&["192.168.32.250/24"]).underlay;
        underlay.mtu = 9000;
        ipip.set_underlay(&underlay).unwrap();
        assert_eq!(ipip.mtu(), 8980);
        let device = ipip.node_objects().remove(0).command(Verb::Add);
        assert!(device.contains("mtu 8980") && device.contains("local 192.168.32.250"), "{device}");
        let before = ipip.mtu();
        underlay.addresses.clear();
        assert!(matches!(ipip.set_underlay(&underlay), Err(UnderlayError::NoAddress { .. })));
        assert_eq!(ipip.mtu(), before);
    }
}
