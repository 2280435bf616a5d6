//! Nodes that reach each other directly where they can and through a tunnel where a router is between, on
//! the running kernel, as any user: host-gw with VXLAN, and host-gw with udp.

mod fixture;

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_backend::{BackendData, Owner, Peer, Reconciler, TunnelMode, Underlay};
use overlay_lab::{Host, Snapshot, path_mtu};
use overlay_netlink::{Address, Verb};
use overlay_wire::IpVersion;

use fixture::{
    ETH0, HERE, Kept, Program, Site, Spot, THERE, Tunnel, has_iproute2, ip, name, net, reach,
    routers, without_loss,
};

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn(Tunnel) -> Outcome);

/// For each tunnel.
const CASES: [Case; 8] = [
    ("a mixed cluster, each peer with the MTU of its way", mixed),
    ("nodes change over when routes come and go, and lose nothing", change_over),
    ("so they do where routes name their gateways themselves", change_over_without_nexthops),
    ("a single address by way of a router goes through the tunnel", single_address),
    ("a rule sends an address to the router and takes it back", rule),
    ("routes that go with a nexthop object are noticed", nexthop_object),
    ("the underlay flaps", flap),
    ("modes follow one another, and the last leaves nothing", modes),
];

fn main() {
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let of = |tunnel: Tunnel| {
        CASES.map(|(name, case)| {
            Trial::test(format!("{tunnel:?}: {name}"), move || {
                if has_iproute2(name)? { case(tunnel) } else { Ok(()) }
            })
        })
    };
    let mut trials: Vec<Trial> = Tunnel::ALL.into_iter().flat_map(of).collect();
    trials.push(Trial::test("the MTU of the underlay reaches the tunnel", mtu_follows));
    trials.push(Trial::test("a thousand peers change over in one pass", thousand));
    trials.push(Trial::test(
        "of a device without MAC addresses only the far end is on the link",
        far_end,
    ));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A site whose nodes have found their ways: vm1 and vm2 directly, vm3 through the tunnel.
fn started(tunnel: Tunnel) -> overlay_lab::Result<(Site, Vec<Kept>)> {
    started_with(tunnel, || Reconciler::new(Owner::default()))
}

fn started_with(
    tunnel: Tunnel,
    reconciler: impl Fn() -> Reconciler,
) -> overlay_lab::Result<(Site, Vec<Kept>)> {
    let site = Site::new()?;
    let kept = site.start_with(TunnelMode::CrossSubnet, tunnel, reconciler);
    let Site { a, b, c, .. } = &site;
    let device = tunnel.device();
    for (from, to, way) in
        [(a, b, ETH0), (b, a, ETH0), (a, c, device), (c, a, device), (b, c, device)]
    {
        from.wait_for(to, [way, way]);
    }
    reach(&site.spots());
    Ok((site, kept))
}

fn assert_same(before: &Snapshot, after: &Snapshot) {
    assert!(before == after, "{}", before.difference(after));
}

fn mixed(tunnel: Tunnel) -> Outcome {
    let (site, kept) = started(tunnel)?;
    let Site { a, b, c, .. } = &site;
    let said = |to: &Spot| {
        let program = kept[0].program();
        let id = format!("vm{}", to.number).into();
        IpVersion::ALL.map(|version| program.network.peer_mtu(&id, version))
    };
    for (to, mtu) in [(b, 1500), (c, tunnel.mtu())] {
        assert_eq!(said(to), [Some(mtu); 2], "vm{}", to.number);
        for address in to.inside() {
            // What the container sends too much it is told of: its device takes 1500.
            assert_eq!(path_mtu(&a.container, address)?, mtu, "{address}");
        }
    }
    Ok(())
}

fn change_over(tunnel: Tunnel) -> Outcome {
    changes_over(started(tunnel)?, tunnel)
}

fn change_over_without_nexthops(tunnel: Tunnel) -> Outcome {
    let plain = || Reconciler::new(Owner::default()).without_nexthop_objects();
    changes_over(started_with(tunnel, plain)?, tunnel)
}

fn changes_over((site, kept): (Site, Vec<Kept>), tunnel: Tunnel) -> Outcome {
    let Site { a, b, c, .. } = &site;
    let device = tunnel.device();
    let all: Vec<Snapshot> =
        site.spots().map(|spot| spot.host.settled()).into_iter().collect::<Result<_, _>>()?;
    let answered = without_loss(a, c, || {
        for _ in 0..2 {
            // One after the other, so that for a while packets go one way and come back another.
            for (spot, to, segment) in [(a, c, THERE), (c, a, HERE)] {
                spot.neighbours("add", segment);
                spot.wait_for(to, [ETH0; 2]);
                thread::sleep(Duration::from_millis(200));
            }
            assert_eq!(path_mtu(&a.container, c.inside()[0]).expect("a path"), 1500);
            // Nobody else's way changes.
            assert_eq!(
                (a.ways(b), b.ways(c)),
                ([ETH0; 2].map(String::from), [device; 2].map(String::from))
            );
            for (spot, to, segment) in [(a, c, THERE), (c, a, HERE)] {
                spot.neighbours("del", segment);
                spot.wait_for(to, [device; 2]);
                thread::sleep(Duration::from_millis(200));
            }
        }
    });
    // Four streams over more than two seconds.
    assert!(answered > 800, "{answered}");
    assert_eq!(kept.iter().map(Kept::spoofed).sum::<u64>(), 0);
    reach(&site.spots());
    for (spot, before) in site.spots().iter().zip(&all) {
        assert_same(before, &spot.host.settled()?);
    }
    Ok(())
}

fn single_address(tunnel: Tunnel) -> Outcome {
    let (site, _kept) = started(tunnel)?;
    let Site { a, b, .. } = &site;
    let [router, router6] = routers(HERE).map(|net| net.addr());
    without_loss(a, b, || {
        // The address stays within the prefix of the link; only the kernel knows better.
        a.ip(&format!("ip route add 192.168.32.2/32 via {router}"));
        a.wait_for(b, [tunnel.device(), ETH0]);
        a.ip(&format!("ip -6 route add fd00:32::2/128 via {router6}"));
        a.wait_for(b, [tunnel.device(); 2]);
        a.ip("ip route del 192.168.32.2/32");
        a.wait_for(b, [ETH0, tunnel.device()]);
        a.ip("ip -6 route del fd00:32::2/128");
        a.wait_for(b, [ETH0; 2]);
    });
    Ok(())
}

fn rule(tunnel: Tunnel) -> Outcome {
    let (site, _kept) = started(tunnel)?;
    let Site { a, b, .. } = &site;
    let [router, _] = routers(HERE).map(|net| net.addr());
    a.ip(&format!("ip route add default via {router} table 100"));
    without_loss(a, b, || {
        a.ip("ip rule add to 192.168.32.2 lookup 100 pref 100");
        a.wait_for(b, [tunnel.device(), ETH0]);
        a.ip("ip rule del to 192.168.32.2 lookup 100 pref 100");
        a.wait_for(b, [ETH0; 2]);
    });
    Ok(())
}

fn nexthop_object(tunnel: Tunnel) -> Outcome {
    let (site, _kept) = started(tunnel)?;
    let Site { a, c, .. } = &site;
    without_loss(a, c, || {
        a.ip("ip nexthop add id 9 dev eth0");
        a.ip("ip route add 192.168.33.0/24 nhid 9");
        a.wait_for(c, [ETH0, tunnel.device()]);
        // The kernel takes the route along and says nothing of it.
        a.ip("ip nexthop del id 9");
        a.wait_for(c, [tunnel.device(); 2]);
    });
    Ok(())
}

fn flap(tunnel: Tunnel) -> Outcome {
    let (site, kept) = started(tunnel)?;
    let a = &site.a;
    let before = a.host.settled()?;
    a.host.set_down(ETH0)?;
    let deadline = Instant::now() + Duration::from_secs(3);
    while kept[0].program().unseen == 0 {
        assert!(Instant::now() < deadline, "that the underlay is down was not said");
        thread::sleep(Duration::from_millis(5));
    }
    a.host.set_up(ETH0)?;
    // What the kernel forgot of the underlay is the host's own to repair.
    let [_, outside] = a.outside();
    a.ip(&format!("ip addr add {outside} dev {ETH0} nodad"));
    a.host.default_routes(&routers(HERE).map(|net| net.addr()))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while a.host.snapshot()? != before {
        let now = a.host.snapshot()?;
        assert!(Instant::now() < deadline, "{}", before.difference(&now));
        thread::sleep(Duration::from_millis(10));
    }
    reach(&site.spots());
    Ok(())
}

fn modes(tunnel: Tunnel) -> Outcome {
    let site = Site::new()?;
    let Site { a, b, c, .. } = &site;
    let before: Vec<Snapshot> =
        site.spots().map(|spot| spot.host.settled()).into_iter().collect::<Result<_, _>>()?;
    // A route for the mode that has no other way.
    a.neighbours("add", THERE);
    b.neighbours("add", THERE);
    c.neighbours("add", HERE);
    let mut kept = site.start(TunnelMode::Always, tunnel);
    a.wait_for(b, [tunnel.device(); 2]);
    reach(&site.spots());
    for mode in [TunnelMode::CrossSubnet, TunnelMode::Never] {
        let restart = || {
            kept.drain(..).for_each(|kept| drop(kept.stop()));
            kept = site.start(mode, tunnel);
            site.spots().iter().for_each(|spot| {
                site.spots()
                    .iter()
                    .filter(|to| to.number != spot.number)
                    .for_each(|to| spot.wait_for(to, [ETH0; 2]));
            });
        };
        // A forwarder in user space carries nothing while its program restarts.
        match (tunnel, mode) {
            (Tunnel::Udp, TunnelMode::CrossSubnet) => {
                let mut restart = restart;
                restart();
            }
            _ => drop(without_loss(a, b, restart)),
        }
        reach(&site.spots());
        let has_device = a.host.socket()?.link(&name(tunnel.device())).is_ok();
        assert_eq!(has_device, mode != TunnelMode::Never, "{mode:?}");
    }
    kept.into_iter().for_each(Kept::clear);
    a.neighbours("del", THERE);
    b.neighbours("del", THERE);
    c.neighbours("del", HERE);
    for (spot, before) in site.spots().iter().zip(&before) {
        assert_same(before, &spot.host.settled()?);
    }
    Ok(())
}

fn mtu_follows() -> Outcome {
    let (site, kept) = started(Tunnel::Vxlan)?;
    let Site { a, b, c, .. } = &site;
    let mtu = |spot: &Spot| {
        let mut socket = spot.host.socket().expect("a socket");
        socket.link(&name(Tunnel::Vxlan.device())).expect("a device").mtu
    };
    without_loss(a, c, || {
        a.host.mtu(ETH0, 1400).expect("an MTU");
        let deadline = Instant::now() + Duration::from_secs(3);
        while mtu(a) != Some(1350) {
            assert!(Instant::now() < deadline, "{:?}", mtu(a));
            thread::sleep(Duration::from_millis(5));
        }
    });
    for (to, mtu) in [(b, 1400), (c, 1350)] {
        let id = format!("vm{}", to.number).into();
        let said = kept[0].program().network.peer_mtu(&id, IpVersion::V4);
        assert_eq!(said, Some(mtu));
    }
    Ok(())
}

fn thousand() -> Outcome {
    const PEERS: usize = 1000;
    let site = Site::new()?;
    let a = &site.a;
    let mut program =
        Program::new(a, TunnelMode::CrossSubnet, Tunnel::Vxlan, Reconciler::new(Owner::default()));
    let peers = (0..PEERS).map(|n| {
        let [high, low] = [(n / 250) as u8, (n % 250 + 1) as u8];
        let data = serde_json::json!({ "VtepMAC": format!("02:00:00:00:{high:02x}:{low:02x}") });
        Peer {
            id: format!("peer{n}").into(),
            subnets: vec![net(&format!("10.{}.{low}.0/24", 100 + high))],
            endpoints: vec![ip(&format!("172.20.{high}.{low}"))],
            data: BackendData::of(IpVersion::V4, data),
        }
    });
    let peers: Vec<Peer> = peers.collect();
    let Program { reconciler, network, keeper, .. } = &mut program;
    assert_eq!(network.set_peers(peers, reconciler), []);
    assert!(reconciler.reconcile(keeper.socket())?.is_converged());
    for (verb, direct) in [("add", PEERS), ("del", 0)] {
        a.ip(&format!("ip route {verb} 172.20.0.0/16 dev {ETH0}"));
        let start = Instant::now();
        assert!(network.follow_underlay(keeper.socket(), reconciler)?);
        let report = reconciler.push(keeper.socket())?;
        assert!(report.is_converged(), "{report:?}");
        // Each moves by one message; its neighbour and its FDB entry come or go.
        assert_eq!((report.changed, report.writes()), (PEERS, 3 * PEERS), "{report}");
        let is_direct = |peer: &&Peer| network.backend().is_direct(peer, IpVersion::V4);
        assert_eq!(network.peers().filter(is_direct).count(), direct);
        assert!(!network.follow_underlay(keeper.socket(), reconciler)?);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    Ok(())
}

fn far_end() -> Outcome {
    let host = Host::new("vm1")?;
    let _reader = host.tun("tun0")?;
    let mut socket = host.socket()?;
    let dev = socket.link(&name("tun0"))?.index.expect("a number");
    let mut address = Address::new(net("10.9.0.1/32"), dev);
    address.peer = Some(ip("10.9.0.2"));
    socket.request(Verb::Add, &address)?;
    host.set_up("tun0")?;
    host.addresses("tun0", &[net("10.8.0.1/24")])?;
    let underlay = Underlay::observe(&mut socket, &name("tun0"))?;
    let on_link = |address| underlay.is_on_link(ip(address));
    assert!(on_link("10.9.0.2"), "{underlay:?}");
    // Nothing says who of them is at the other end.
    assert!(!on_link("10.8.0.2") && !on_link("10.9.0.3"), "{underlay:?}");
    Ok(())
}
