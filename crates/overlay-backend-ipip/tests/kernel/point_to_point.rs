//! A tunnel for each peer.

use overlay_backend::PeerError;
use overlay_backend_ipip::{IpIpOptions, PointToPoint};
use overlay_netlink::LinkKind;
use overlay_wire::IpVersion::{self, V4, V6};

use crate::fixture::{Site, Spot, ip, link, name, net, reach, site};
use crate::traffic::only;
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 4] = [
    ("a tunnel of its own with a transfer network", transfer),
    ("a tunnel of its own carries every pair of families", every_pair),
    ("a node set up by hand with iproute2 joins", by_hand),
    ("a peer without a tunnel is refused", no_tunnel),
];

/// A device called `tunN`, in the manner of a well-known walk through Flannel's backends.
fn tunnel(spot: &Spot) -> PointToPoint {
    PointToPoint::new(name(&format!("tun{}", spot.number)))
}

fn join(a: &Spot, b: &Spot, options: &IpIpOptions, tunnels: [PointToPoint; 2]) {
    for ((here, there), tunnel) in [(a, b), (b, a)].into_iter().zip(tunnels) {
        let options = options.clone().point_to_point(there.peer().id, tunnel);
        here.program(&options, there.peer()).converge();
        let report = here.program(&options, there.peer()).converge();
        assert_eq!(report.writes(), 0, "{report:?}");
    }
}

fn transfer() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let [near, far] = [net("10.99.0.1/30"), net("10.99.0.2/30")];
    let [near6, far6] = [net("fd00:99::1/126"), net("fd00:99::2/126")];
    let tunnels = [
        tunnel(a).transfer(near, far.addr()).transfer(near6, far6.addr()),
        tunnel(b).transfer(far, near.addr()).transfer(far6, near6.addr()),
    ];
    join(a, b, &IpIpOptions::default(), tunnels);
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn every_pair() -> Outcome {
    for (outer, mtu) in [(V4, 1480), (V6, 1460)] {
        for inner in [&[V4][..], &[V6], &[V4, V6]] {
            let Site { a, b, .. } = &site()?;
            let options = only(V4, outer).carries(inner);
            join(a, b, &options, [tunnel(a), tunnel(b)]);
            reach(a, b, inner);
            let link = link(&a.host, "tun1").expect("a device");
            assert_eq!(link.mtu, Some(mtu));
            match (&link.kind, outer, inner) {
                (LinkKind::Ipip(_), V4, [V4])
                | (LinkKind::Sit(_), V4, _)
                | (LinkKind::Ip6tnl(_), V6, _) => {}
                _ => panic!("{link:?}"),
            }
        }
    }
    Ok(())
}

fn by_hand() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let tunnel = tunnel(a).transfer(net("172.245.1.1/30"), ip("172.245.1.2"));
    let options = only(V4, V4).point_to_point(b.peer().id, tunnel);
    a.program(&options, b.peer()).converge();
    for line in [
        "ip tunnel add tun2 mode ipip local 192.168.32.2 remote 192.168.32.1",
        "ip addr add 172.245.1.2/30 dev tun2",
        "ip link set tun2 up",
        "ip route add 10.244.1.0/24 via 172.245.1.1 dev tun2",
    ] {
        b.ip(line);
    }
    reach(a, b, &[V4]);
    Ok(())
}

fn no_tunnel() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let options = IpIpOptions::default().point_to_point("somebody", tunnel(a));
    let program = a.program(&options, b.peer());
    assert!(matches!(&program.refused[..], [PeerError::NoTunnel { .. }]), "{:?}", program.refused);
    Ok(())
}
