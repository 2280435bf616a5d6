//! Bytes of netlink messages, beside netlink-packet-route. No kernel, no system call.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use ipnet::IpNet;
use overlay_netlink::{
    Address, Batch, Fdb, Hop, IfName, Ifindex, Link, LinkKind, Listable, Neighbour, Nexthop,
    NexthopId, Protocol, Route, Rule, Verb, Vxlan,
};
use overlay_wire::{IpVersion, MacAddr, Vni};
use rtnetlink::packet_core::{Emitable, Parseable};
use rtnetlink::packet_route::route::RouteMessage;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let dev = Ifindex(7);
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let gateway = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 0));
    let subnet: IpNet = "10.1.0.0/24".parse()?;
    let subnet6: IpNet = "fd00:1::/64".parse()?;
    let gateway6 = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0));
    let mut vxlan = Vxlan::new(Vni::new(1)?);
    vxlan.local = Some(gateway);
    vxlan.port = Some(8472);
    vxlan.learning = Some(false);
    let link = Link::new(IfName::new("vxlan.1")?, LinkKind::Vxlan(Box::new(vxlan)));
    let plain = Route::to(subnet).hop(Hop::onlink(gateway, dev)).protocol(Protocol(79));

    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    object(&mut group, "route", &plain);
    object(
        &mut group,
        "IPv6 route",
        &Route::to(subnet6).hop(Hop::onlink(gateway6, dev)).protocol(Protocol(79)),
    );
    object(
        &mut group,
        "route by nexthop object",
        &Route::to(subnet).nexthop(NexthopId(1)).protocol(Protocol(79)),
    );
    object(&mut group, "nexthop object", &Nexthop::new(NexthopId(1), Hop::onlink(gateway, dev)));
    object(
        &mut group,
        "neighbour",
        &Neighbour::permanent(gateway, mac, dev).protocol(Protocol(79)),
    );
    object(&mut group, "FDB entry", &Fdb::remote(mac, gateway, dev));
    object(&mut group, "address", &Address::new(subnet, dev));
    object(&mut group, "rule", &Rule::lookup(IpVersion::V4, 100));
    object(&mut group, "VXLAN device", &link);
    peer(&mut group, &plain);
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Encodes into a batch that has grown, decodes what was encoded.
fn object<T: Listable>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, object: &T) {
    let mut batch = Batch::new();
    group.bench_function(format!("encode {name}"), |bencher| {
        bencher.iter(|| {
            batch.clear();
            batch.push(Verb::Add, black_box(object))
        });
    });
    let bytes = encoded(object);
    group.bench_function(format!("decode {name}"), |bencher| {
        bencher.iter(|| T::decode(black_box(&bytes[HEADER..])));
    });
}

/// The message that adds an object. What is sealed has methods all the same for who has only the bound.
fn encoded<T: Listable>(object: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.encode(Verb::Add, &mut bytes).expect("it can be said");
    bytes
}

/// The same route in netlink-packet-route, header excluded.
fn peer(group: &mut BenchmarkGroup<'_, WallTime>, route: &Route) {
    let bytes = encoded(route);
    let message = RouteMessage::parse(&bytes[HEADER..]).expect("a route");
    let mut buffer = vec![0; message.buffer_len()];
    group.bench_function("encode route, netlink-packet-route", |bencher| {
        bencher.iter(|| black_box(&message).emit(black_box(&mut buffer)));
    });
    assert_eq!(buffer, bytes[HEADER..], "both write the same");
    group.bench_function("decode route, netlink-packet-route", |bencher| {
        bencher.iter(|| RouteMessage::parse(black_box(&bytes[HEADER..])));
    });
}
