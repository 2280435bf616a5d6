//! Packets cross the overlay.

use overlay_backend::Backend;
use overlay_lab::{PingRequest, path_mtu, ping};
use overlay_wire::IpVersion;

use crate::fixture::{Site, has_iproute2, ip, name, options, over, reach, routed_site, site};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 8] = [
    ("IPv4 over IPv4", || carried(IpVersion::V4, &[IpVersion::V4])),
    ("IPv6 over IPv4", || carried(IpVersion::V4, &[IpVersion::V6])),
    ("IPv4 over IPv6", || carried(IpVersion::V6, &[IpVersion::V4])),
    ("IPv6 over IPv6", || carried(IpVersion::V6, &[IpVersion::V6])),
    ("both families over either", both),
    ("the overlay crosses a router", across_a_router),
    ("the MTU of the device is what passes", mtu),
    ("a node set up by hand with iproute2 joins", by_hand),
];

fn carried(underlay: IpVersion, overlay: &[IpVersion]) -> Outcome {
    let Site { a, b, .. } = &site()?;
    let options = over(underlay);
    let only = |mut nets: Vec<ipnet::IpNet>| {
        nets.retain(|net| overlay.contains(&IpVersion::of(net.addr())));
        nets
    };
    for (here, there) in [(a, b), (b, a)] {
        let mut node = here.node();
        node.subnets = only(node.subnets);
        let mut peer = there.peer(&options);
        peer.subnets = only(peer.subnets);
        let report = here.program_of(node, &options).with_peers([peer]).converge();
        // Device, address, FDB entry, neighbour, nexthop object and route.
        assert_eq!((report.added, report.changed, report.deleted), (6, 0, 0), "{report:?}");
    }
    reach(a, b, overlay);
    Ok(())
}

fn both() -> Outcome {
    for underlay in IpVersion::ALL {
        let Site { a, b, .. } = &site()?;
        let options = over(underlay);
        a.program(&options).with_peers([b.peer(&options)]).converge();
        b.program(&options).with_peers([a.peer(&options)]).converge();
        reach(a, b, &IpVersion::ALL);
    }
    Ok(())
}

fn across_a_router() -> Outcome {
    let site = routed_site()?;
    let (a, b) = (&site.a, &site.b);
    for underlay in IpVersion::ALL {
        let options = over(underlay);
        a.program(&options).with_peers([b.peer(&options)]).converge();
        b.program(&options).with_peers([a.peer(&options)]).converge();
        reach(a, b, &IpVersion::ALL);
    }
    Ok(())
}

fn mtu() -> Outcome {
    for underlay in IpVersion::ALL {
        let Site { a, b, .. } = &site()?;
        let options = over(underlay);
        let mut program = a.program(&options).with_peers([b.peer(&options)]);
        program.converge();
        b.program(&options).with_peers([a.peer(&options)]).converge();
        for address in b.inside() {
            assert_eq!(path_mtu(&a.container, address)?, program.network.backend().mtu());
        }
    }
    Ok(())
}

/// The commands are those of a well-known walk through Flannel's backends, with the forgotten `up`.
fn by_hand() -> Outcome {
    if !has_iproute2("a node set up by hand")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    let options = options();
    let theirs = a.peer(&options).data.v4.expect("data for IPv4");
    let mac = theirs["VtepMAC"].as_str().expect("a MAC address").to_owned();
    for line in [
        "ip link add vtep2 type vxlan id 1 local 192.168.32.2 dev eth0 dstport 8472 nolearning",
        "ip addr add 10.244.2.0/32 dev vtep2",
        "ip link set vtep2 mtu 1450",
        "ip link set vtep2 up",
        "ip route add 10.244.1.0/24 via 10.244.1.0 dev vtep2 onlink",
        &format!("ip neigh add 10.244.1.0 dev vtep2 lladdr {mac}"),
        &format!("bridge fdb add {mac} dev vtep2 dst 192.168.32.1"),
    ] {
        b.ip(line);
    }
    let mut peer = b.peer(&options);
    let mac = b.host.mac("vtep2")?.expect("a MAC address");
    peer.data.v4 = Some(format!(r#"{{"VtepMAC":"{mac}"}}"#).parse().expect("JSON"));
    let mut program = a.program(&options).with_peers([peer]);
    program.converge();
    reach(a, b, &[IpVersion::V4]);
    assert_eq!(program.network.backend().device(), name("vxlan.1"));
    assert!(ping(&a.container, &PingRequest::to(ip("10.244.2.1")))?.perfect());
    Ok(())
}
