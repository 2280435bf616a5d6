//! Another parser reads our bytes, and finds what was meant.

use std::net::IpAddr;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteLwEnCapType, RouteMetric, RouteVia,
};
use netlink_packet_route::rule::RuleAttribute;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use overlay_wire::IpVersion;

use super::strategies::{address, fdb, link, neighbour, route, rule};
use super::{check, encode};
use crate::object::sealed::Encode;
use crate::{Hop, LinkKind, Protocol, RuleAction, Verb, Via};

const CASES: u32 = 512;

fn read(object: &impl Encode, verb: Verb) -> RouteNetlinkMessage {
    let bytes = encode(object, verb).expect("it can be said");
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).expect("the oracle");
    match message.payload {
        NetlinkPayload::InnerMessage(message) => message,
        other => panic!("{other:?}"),
    }
}

/// The value of the one attribute that `pick` takes.
fn one<A: std::fmt::Debug, T>(attributes: &[A], pick: impl Fn(&A) -> Option<T>) -> Option<T> {
    let mut found: Vec<T> = attributes.iter().filter_map(pick).collect();
    assert!(found.len() < 2, "said twice: {attributes:?}");
    found.pop()
}

macro_rules! value {
    ($attributes:expr, $variant:path) => {
        one($attributes, |attribute| match attribute {
            $variant(value) => Some(value.clone()),
            _ => None,
        })
    };
}

fn family(version: IpVersion) -> AddressFamily {
    match version {
        IpVersion::V4 => AddressFamily::Inet,
        IpVersion::V6 => AddressFamily::Inet6,
    }
}

#[test]
fn addresses() {
    check(CASES, address(), |x| {
        let RouteNetlinkMessage::NewAddress(read) = read(&x, Verb::Add) else { panic!() };
        assert_eq!(read.header.index, x.dev.0);
        assert_eq!(read.header.prefix_len, x.net.prefix_len());
        assert_eq!(read.header.family, family(IpVersion::of(x.net.addr())));
        assert_eq!(u8::from(read.header.scope), x.scope.0);
        let said = &read.attributes[..];
        assert_eq!(value!(said, AddressAttribute::Local), Some(x.net.addr()));
        let far = x.peer.unwrap_or_else(|| x.net.addr());
        assert_eq!(value!(said, AddressAttribute::Address), Some(far));
        assert_eq!(value!(said, AddressAttribute::Broadcast), x.broadcast);
        let flags = value!(said, AddressAttribute::Flags).map_or(0, |flags| flags.bits());
        assert_eq!(flags & 0x02 != 0, x.nodad);
        assert_eq!(flags & 0x200 != 0, x.noprefixroute);
        let protocol = value!(said, AddressAttribute::Protocol).map_or(0, u8::from);
        assert_eq!(Protocol(protocol), x.protocol);
    });
}

fn plain(address: NeighbourAddress) -> IpAddr {
    match address {
        NeighbourAddress::Inet(v4) => v4.into(),
        NeighbourAddress::Inet6(v6) => v6.into(),
        // This is how it leaves addresses of FDB entries.
        NeighbourAddress::Other(bytes) => crate::codec::ip(&bytes).expect("4 or 16 bytes"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn neighbours() {
    check(CASES, neighbour(), |x| {
        let RouteNetlinkMessage::NewNeighbour(read) = read(&x, Verb::Replace) else { panic!() };
        assert_eq!(read.header.ifindex, x.dev.0);
        assert_eq!(u16::from(read.header.state), x.state.0);
        assert_eq!(read.header.flags.bits(), x.flags.0);
        let said = &read.attributes[..];
        assert_eq!(value!(said, NeighbourAttribute::Destination).map(plain), Some(x.dst));
        let lladdr = x.lladdr.map(|mac| mac.octets().to_vec());
        assert_eq!(value!(said, NeighbourAttribute::LinkLayerAddress), lladdr);
        let protocol = value!(said, NeighbourAttribute::Protocol).map_or(0, u8::from);
        assert_eq!(Protocol(protocol), x.protocol);
    });
}

#[test]
fn fdb_entries() {
    check(CASES, fdb(), |x| {
        let RouteNetlinkMessage::NewNeighbour(read) = read(&x, Verb::Append) else { panic!() };
        assert_eq!(read.header.family, AddressFamily::Bridge);
        assert_eq!(read.header.ifindex, x.dev.0);
        assert_eq!(u16::from(read.header.state), x.state.0);
        assert_eq!(read.header.flags.bits(), x.flags.0);
        let said = &read.attributes[..];
        let lladdr = value!(said, NeighbourAttribute::LinkLayerAddress);
        assert_eq!(lladdr, Some(x.lladdr.octets().to_vec()));
        assert_eq!(value!(said, NeighbourAttribute::Destination).map(plain), x.dst);
        assert_eq!(value!(said, NeighbourAttribute::Port), x.port);
        assert_eq!(value!(said, NeighbourAttribute::Vni), x.vni.map(|vni| vni.get()));
        assert_eq!(value!(said, NeighbourAttribute::SourceVni), x.src_vni.map(|vni| vni.get()));
        assert_eq!(value!(said, NeighbourAttribute::IfIndex), x.via.map(|dev| dev.0));
        assert_eq!(value!(said, NeighbourAttribute::Vlan), x.vlan);
    });
}

fn route_address(address: RouteAddress) -> IpAddr {
    match address {
        RouteAddress::Inet(v4) => v4.into(),
        RouteAddress::Inet6(v6) => v6.into(),
        other => panic!("{other:?}"),
    }
}

fn gateway(said: &[RouteAttribute]) -> Option<IpAddr> {
    let same = value!(said, RouteAttribute::Gateway).map(route_address);
    let other = value!(said, RouteAttribute::Via).map(|via| match via {
        RouteVia::Inet(v4) => IpAddr::from(v4),
        RouteVia::Inet6(v6) => v6.into(),
        other => panic!("{other:?}"),
    });
    assert!(same.is_none() || other.is_none());
    same.or(other)
}

fn same_hop(said: &[RouteAttribute], hop: &Hop) {
    assert_eq!(gateway(said), hop.gateway);
    let encap = value!(said, RouteAttribute::EncapType);
    let expected = hop.encap.as_ref().map(|encap| match encap.dst {
        IpAddr::V4(_) => RouteLwEnCapType::Ip,
        IpAddr::V6(_) => RouteLwEnCapType::Ip6,
    });
    assert_eq!(encap, expected);
    assert_eq!(value!(said, RouteAttribute::Encap).is_some(), expected.is_some());
}

#[test]
fn routes() {
    check(CASES, route(), |x| {
        let RouteNetlinkMessage::NewRoute(read) = read(&x, Verb::Replace) else { panic!() };
        let header = &read.header;
        assert_eq!(header.address_family, family(x.version()));
        assert_eq!(header.destination_prefix_length, x.dst.prefix_len());
        assert_eq!((header.tos, u8::from(header.scope)), (x.tos, x.scope.0));
        assert_eq!(Protocol(header.protocol.into()), x.protocol);
        let said = &read.attributes[..];
        let dst = value!(said, RouteAttribute::Destination).map(route_address);
        assert_eq!(dst, Some(x.dst.addr()));
        let table = value!(said, RouteAttribute::Table).unwrap_or_else(|| header.table.into());
        assert_eq!(table, x.table);
        assert_eq!(value!(said, RouteAttribute::Priority).unwrap_or(0), x.metric);
        assert_eq!(value!(said, RouteAttribute::PrefSource).map(route_address), x.src);
        let metrics = value!(said, RouteAttribute::Metrics).unwrap_or_default();
        assert_eq!(value!(&metrics, RouteMetric::Mtu), x.mtu);
        assert_eq!(value!(&metrics, RouteMetric::Lock), x.mtu_lock.then_some(1 << 2));
        match &x.via {
            Via::None => assert_eq!(gateway(said), None),
            Via::Nexthop(id) => assert_eq!(value!(said, RouteAttribute::NhId), Some(id.0)),
            Via::Hop(hop) => {
                same_hop(said, hop);
                assert_eq!(value!(said, RouteAttribute::Oif), hop.dev.map(|dev| dev.0));
                assert_eq!(header.flags.bits() & 4 != 0, hop.onlink);
            }
            Via::Multipath(hops) => {
                let read = value!(said, RouteAttribute::MultiPath).expect("several hops");
                assert_eq!(read.len(), hops.len());
                for (read, meant) in read.iter().zip(hops) {
                    assert_eq!(u16::from(read.hops) + 1, meant.weight);
                    assert_eq!(read.interface_index, meant.hop.dev.map_or(0, |dev| dev.0));
                    assert_eq!(read.flags.bits() & 4 != 0, meant.hop.onlink);
                    same_hop(&read.attributes, &meant.hop);
                }
            }
        }
    });
}

#[test]
fn rules() {
    check(CASES, rule(), |x| {
        let RouteNetlinkMessage::NewRule(read) = read(&x, Verb::Add) else { panic!() };
        assert_eq!(read.header.family, family(x.family));
        assert_eq!((read.header.tos, read.header.flags.bits() & 2 != 0), (x.tos, x.invert));
        let said = &read.attributes[..];
        assert_eq!(value!(said, RuleAttribute::Source), x.src.map(|net| net.addr()));
        assert_eq!(value!(said, RuleAttribute::Destination), x.dst.map(|net| net.addr()));
        assert_eq!(read.header.src_len, x.src.map_or(0, |net| net.prefix_len()));
        assert_eq!(read.header.dst_len, x.dst.map_or(0, |net| net.prefix_len()));
        assert_eq!(value!(said, RuleAttribute::Priority), x.priority);
        assert_eq!(value!(said, RuleAttribute::Iifname), x.iif.map(|name| name.to_string()));
        assert_eq!(value!(said, RuleAttribute::Oifname), x.oif.map(|name| name.to_string()));
        assert_eq!(value!(said, RuleAttribute::FwMark), x.fwmark.map(|(mark, _)| mark));
        assert_eq!(value!(said, RuleAttribute::FwMask), x.fwmark.map(|(_, mask)| mask));
        let suppress = value!(said, RuleAttribute::SuppressPrefixLen);
        assert_eq!(suppress, x.suppress_prefixlength);
        let protocol = value!(said, RuleAttribute::Protocol).map_or(0, u8::from);
        assert_eq!(Protocol(protocol), x.protocol);
        match x.action {
            RuleAction::Lookup(table) => {
                assert_eq!(value!(said, RuleAttribute::Table), Some(table));
            }
            RuleAction::Goto(priority) => {
                assert_eq!(value!(said, RuleAttribute::Goto), Some(priority));
            }
            _ => {}
        }
    });
}

/// The bytes are made with the same crate, from attributes that are chosen here.
#[test]
fn links() {
    check(CASES, link(), |x| {
        let RouteNetlinkMessage::NewLink(read) = read(&x, Verb::Add) else { panic!() };
        assert_eq!(read.header.flags.contains(LinkFlags::Up), x.up == Some(true));
        assert_eq!(read.header.flags.contains(LinkFlags::Noarp), x.arp == Some(false));
        assert!(read.header.change_mask.contains(LinkFlags::Up | LinkFlags::Noarp));
        let said = &read.attributes[..];
        assert_eq!(value!(said, LinkAttribute::IfName), Some(x.name.to_string()));
        assert_eq!(value!(said, LinkAttribute::Mtu), x.mtu);
        assert_eq!(value!(said, LinkAttribute::Controller), x.master.map(|dev| dev.0));
        assert_eq!(value!(said, LinkAttribute::GsoMaxSize), x.gso_max_size);
        let info = value!(said, LinkAttribute::LinkInfo).expect("a kind");
        assert_eq!(value!(&info, LinkInfo::Kind), Some(InfoKind::from(x.kind.name())));
        match (&x.kind, value!(&info, LinkInfo::Data)) {
            (LinkKind::Vxlan(vxlan), Some(InfoData::Vxlan(data))) => {
                assert_eq!(value!(&data, InfoVxlan::Id), vxlan.id.map(|id| id.get()));
                assert_eq!(value!(&data, InfoVxlan::Port), vxlan.port);
                assert_eq!(value!(&data, InfoVxlan::Label), vxlan.label);
                assert_eq!(value!(&data, InfoVxlan::PortRange), vxlan.source_ports);
                assert_eq!(value!(&data, InfoVxlan::Link), vxlan.dev.map(|dev| dev.0));
                assert_eq!(value!(&data, InfoVxlan::UDPCsum), vxlan.udp_csum);
            }
            (LinkKind::Ipip(_) | LinkKind::Sit(_) | LinkKind::Ip6tnl(_), Some(data)) => {
                assert!(matches!(data, InfoData::IpTunnel(_)), "{data:?}");
            }
            (LinkKind::Gre(gre), Some(data)) => match (gre.ipv6, gre.tap) {
                (false, false) => assert!(matches!(data, InfoData::GreTun(_)), "{data:?}"),
                (false, true) => assert!(matches!(data, InfoData::GreTap(_)), "{data:?}"),
                (true, false) => assert!(matches!(data, InfoData::GreTun6(_)), "{data:?}"),
                (true, true) => assert!(matches!(data, InfoData::GreTap6(_)), "{data:?}"),
            },
            _ => {}
        }
    });
}
