//! Peers of a VXLAN overlay.

use std::fmt::Write;
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;
use overlay_backend::{BackendData, Node, NodeId, Peer, Underlay};
use overlay_backend_vxlan::VtepData;
use overlay_netlink::{Fdb, Hop, IfName, Ifindex, Neighbour, Nexthop, NexthopId, Route, Verb};
use overlay_wire::{IpVersion, MacAddr};

use crate::{Lab, Prefixes};

/// The node itself: 10.0.0.0/24 behind [`Lab::ADDRESS`].
///
/// # Panics
/// Never.
#[must_use]
pub fn node() -> Node {
    let address: IpNet = Lab::ADDRESS.parse().expect("a network");
    Node {
        id: "node".into(),
        subnets: vec!["10.0.0.0/24".parse().expect("a network")],
        underlay: Underlay {
            dev: IfName::new(Lab::UPLINK).expect("a name"),
            mtu: 1500,
            addresses: vec![address],
            on_link: vec![address.trunc()],
            routed: Default::default(),
        },
    }
}

/// The peer number `index`: one subnet, one endpoint, its VTEP's MAC address as JSON.
#[must_use]
pub fn peer(index: u32) -> Peer {
    Peer {
        id: NodeId::new(format!("node-{index}")),
        subnets: vec![IpNet::V4(Prefixes::at(index))],
        endpoints: vec![IpAddr::V4(Prefixes::gateway(index))],
        data: BackendData::of(
            IpVersion::V4,
            VtepData { vni: None, vtep_mac: mac(index) }.to_json(),
        ),
    }
}

/// The first `count` peers.
#[must_use]
pub fn peers(count: u32) -> Vec<Peer> {
    (0..count).map(peer).collect()
}

fn mac(index: u32) -> MacAddr {
    let [a, b, c, d] = index.to_be_bytes();
    MacAddr([2, 1, a, b, c, d])
}

/// What one peer takes on the VXLAN device `dev`.
pub(crate) struct Objects {
    pub(crate) fdb: Fdb,
    pub(crate) neighbour: Neighbour,
    pub(crate) nexthop: Nexthop,
    /// By way of the nexthop object.
    pub(crate) route: Route,
    /// By way of the same gateway, spelled out.
    pub(crate) plain_route: Route,
}

impl Objects {
    pub(crate) fn of(index: u32, dev: Ifindex) -> Self {
        let subnet = IpNet::V4(Prefixes::at(index));
        let gateway = subnet.network();
        let id = NexthopId(1 + index);
        let route = Route::to(subnet).protocol(Lab::PROTOCOL);
        Self {
            fdb: Fdb::remote(mac(index), IpAddr::V4(Prefixes::gateway(index)), dev),
            neighbour: Neighbour::permanent(gateway, mac(index), dev).protocol(Lab::PROTOCOL),
            nexthop: Nexthop::new(id, Hop::onlink(gateway, dev)).protocol(Lab::PROTOCOL),
            route: route.clone().nexthop(id),
            plain_route: route.hop(Hop::onlink(gateway, dev)),
        }
    }
}

/// The lines of a `bridge -batch` and of an `ip -batch` file that add the classic three objects for each peer.
pub(crate) fn classic_lines(count: u32) -> Result<(String, String)> {
    let (mut bridge, mut ip) = (String::new(), String::new());
    for index in 0..count {
        let objects = Objects::of(index, Ifindex(0));
        let name = IfName::new(Lab::VXLAN)?;
        let named = &mut |_| Ok::<_, std::convert::Infallible>(name);
        let fdb = objects.fdb.try_map_dev(named)?.command(Verb::Add);
        let neighbour = objects.neighbour.try_map_dev(named)?.command(Verb::Add);
        let route = objects.plain_route.try_map_dev(named)?.command(Verb::Add);
        writeln!(bridge, "{}", fdb.trim_start_matches("bridge "))?;
        writeln!(ip, "{}", neighbour.trim_start_matches("ip "))?;
        writeln!(ip, "{}", route.trim_start_matches("ip "))?;
    }
    Ok((bridge, ip))
}
