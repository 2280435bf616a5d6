//! Bytes of netlink messages, beside netlink-packet-route. No kernel, no system call.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use overlay_netlink::{
    Address, Batch, Fdb, Hop, IfName, Ifindex, Link, LinkKind, Listable, Neighbour, Nexthop,
    NexthopId, Protocol, Route, Rule, Verb, Vxlan,
};
use overlay_wire::{IpVersion, MacAddr, Vni};
use rtnetlink::packet_core::{Emitable, Parseable};
use rtnetlink::packet_route::route::RouteMessage;

/// Something to do many times.
pub struct Routine {
    /// What it is.
    pub name: String,
    /// Does it once.
    pub run: Box<dyn FnMut()>,
}

impl Routine {
    fn new(name: String, run: impl FnMut() + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Encodes and decodes an object of each kind, and a route the other way.
///
/// # Errors
/// When the two ways disagree.
pub fn routines() -> Result<Vec<Routine>> {
    let dev = Ifindex(7);
    let owner = Protocol(79);
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let subnet: IpNet = "10.1.0.0/24".parse()?;
    let gateway = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 0));
    let subnet6: IpNet = "fd00:1::/64".parse()?;
    let gateway6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0));
    let mut vxlan = Vxlan::new(Vni::new(1)?);
    vxlan.local = Some(gateway);
    vxlan.port = Some(8472);
    vxlan.learning = Some(false);
    let link = Link::new(IfName::new("vxlan.1")?, LinkKind::Vxlan(Box::new(vxlan)));
    let route = Route::to(subnet).hop(Hop::onlink(gateway, dev)).protocol(owner);
    let route6 = Route::to(subnet6).hop(Hop::onlink(gateway6, dev)).protocol(owner);
    let through = Route::to(subnet).nexthop(NexthopId(1)).protocol(owner);
    let nexthop = Nexthop::new(NexthopId(1), Hop::onlink(gateway, dev)).protocol(owner);

    let mut routines = Vec::new();
    peer(&mut routines, &route)?;
    object(&mut routines, "route", route)?;
    object(&mut routines, "IPv6 route", route6)?;
    object(&mut routines, "route by nexthop object", through)?;
    object(&mut routines, "nexthop object", nexthop)?;
    object(&mut routines, "neighbour", Neighbour::permanent(gateway, mac, dev).protocol(owner))?;
    object(&mut routines, "FDB entry", Fdb::remote(mac, gateway, dev))?;
    object(&mut routines, "address", Address::new(subnet, dev))?;
    object(&mut routines, "rule", Rule::lookup(IpVersion::V4, 100))?;
    object(&mut routines, "VXLAN device", link)?;
    Ok(routines)
}

/// Encodes into a batch that has grown, decodes what was encoded.
fn object<T: Listable + 'static>(routines: &mut Vec<Routine>, name: &str, object: T) -> Result<()> {
    let bytes = encoded(&object)?;
    ensure!(T::decode(&bytes[HEADER..]).is_some(), "{name} cannot be read");
    let mut batch = Batch::new();
    routines.push(Routine::new(format!("encode {name}"), move || {
        batch.clear();
        let _ = black_box(batch.push(Verb::Add, black_box(&object)));
    }));
    routines.push(Routine::new(format!("decode {name}"), move || {
        black_box(T::decode(black_box(&bytes[HEADER..])));
    }));
    Ok(())
}

/// The message that adds an object. What is sealed has methods all the same for who has only the bound.
fn encoded<T: Listable>(object: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    object.encode(Verb::Add, &mut bytes)?;
    Ok(bytes)
}

/// The same route in netlink-packet-route, header excluded.
fn peer(routines: &mut Vec<Routine>, route: &Route) -> Result<()> {
    let bytes = encoded(route)?;
    let message = RouteMessage::parse(&bytes[HEADER..])?;
    let mut buffer = vec![0; message.buffer_len()];
    message.emit(&mut buffer);
    ensure!(RouteMessage::parse(&buffer[..])? == message, "the peer reads what it writes");
    ensure!(buffer.len() == bytes.len() - HEADER, "both write as much");
    routines.push(Routine::new("encode route, netlink-packet-route".to_owned(), move || {
        black_box(&message).emit(black_box(&mut buffer[..]));
    }));
    routines.push(Routine::new("decode route, netlink-packet-route".to_owned(), move || {
        let _ = black_box(RouteMessage::parse(black_box(&bytes[HEADER..])));
    }));
    Ok(())
}
