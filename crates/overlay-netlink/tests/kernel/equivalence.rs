//! What an object prints as does the same as sending it.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use overlay_netlink::{
    Address, Bridge, Df, Encap, EncapLimit, Fdb, Gre, Hop, IfName, Ifindex, Link, LinkKind,
    LinkNamespace, Neighbour, NeighbourFlags, NeighbourState, Nexthop, NexthopId, Protocol,
    Request, Route, RouteKind, Rule, RuleAction, Scope, Socket, Tunnel, TunnelMode, Verb, VethPeer,
    Vxlan, WeightedHop,
};
use overlay_wire::{IpVersion, MacAddr, Vni};

use crate::world::{BRIDGE, FAR, FLOW, UPLINK, VXLAN, bare, dump, furnished, has_iproute2};
use crate::world::{iproute2, shell};
use crate::{Case, Outcome, ensure, fail, ip, mac, name, net};

pub(crate) const CASES: [Case; 13] = [
    ("equivalence::links", links),
    ("equivalence::vxlan_devices", vxlan_devices),
    ("equivalence::tunnel_devices", tunnel_devices),
    ("equivalence::namespaces", namespaces),
    ("equivalence::addresses", addresses),
    ("equivalence::neighbours", neighbours),
    ("equivalence::fdb_entries", fdb_entries),
    ("equivalence::routes_of_ipv4", routes_of_ipv4),
    ("equivalence::routes_of_ipv6", routes_of_ipv6),
    ("equivalence::multipath_and_encap", multipath_and_encap),
    ("equivalence::nexthop_objects", nexthop_objects),
    ("equivalence::rules", rules),
    ("equivalence::every_table_number", every_table_number),
];

use Verb::{Add, Append, Change, Delete, Replace};

/// Sends each request in one namespace, runs what it prints as in another, and compares both after
/// each: by this crate's own listing and by iproute2's. A request that one side refuses, the other
/// must refuse too.
fn compare(
    case: &str,
    make: fn(&str) -> Result<(overlay_lab::Host, Socket), Failed>,
    requests: Vec<Request>,
) -> Outcome {
    if !has_iproute2(case)? {
        return Ok(());
    }
    let (ours, mut our_socket) = make("netlink")?;
    let (theirs, mut their_socket) = make("iproute2")?;
    let mut accepted = 0;
    for request in &requests {
        let command = request.to_string();
        let sent = our_socket.request(request.verb, &request.object);
        let run = shell(&theirs, &command);
        match (&sent, &run) {
            (Ok(()), Ok(_)) => accepted += 1,
            (Err(_), Err(_)) => {}
            (Err(error), Ok(_)) => {
                return fail(format!("only sending failed\n{command}\n{error}\n{request:?}"));
            }
            (Ok(()), Err(error)) => {
                return fail(format!("only the command failed\n{}", error.message().unwrap_or("")));
            }
        }
        let mut last = None;
        eventually(|| {
            let typed = differences(&dump(&mut our_socket)?, &dump(&mut their_socket)?);
            let texts = differences(&iproute2(&ours)?, &iproute2(&theirs)?);
            last = Some(format!("{command}\n{typed}\n{texts}"));
            Ok(typed.is_empty() && texts.is_empty())
        })?
        .then_some(())
        .ok_or_else(|| Failed::from(last.unwrap_or_default()))?;
    }
    ensure(accepted * 2 > requests.len(), || {
        format!("only {accepted} of {} requests were accepted", requests.len())
    })
}

/// Waits for what the kernel does on its own time, such as noticing a carrier.
fn eventually(mut holds: impl FnMut() -> Result<bool, Failed>) -> Result<bool, Failed> {
    // In a virtual machine one look alone takes seconds.
    let patience = if overlay_lab::vm::is_inside() { 60 } else { 3 };
    let deadline = Instant::now() + Duration::from_secs(patience);
    while !holds()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// The lines that only one side has.
fn differences(ours: &[String], theirs: &[String]) -> String {
    let only = |side: &str, these: &[String], those: &[String]| {
        these
            .iter()
            .filter(|line| !those.contains(line))
            .map(|line| format!("only by {side}: {line}\n"))
            .collect::<String>()
    };
    only("netlink", ours, theirs) + &only("iproute2", theirs, ours)
}

fn request(verb: Verb, object: impl Into<overlay_netlink::Object>) -> Request {
    Request::new(verb, object)
}

/// One name, so that a device can be looked up and deleted by all that follows.
fn x() -> IfName {
    name("x")
}

fn links() -> Outcome {
    let mut peer = VethPeer::new(name("y"));
    peer.mtu = Some(1300);
    peer.address = Some(mac(2));
    let cable = Link::new(x(), LinkKind::Veth(Some(Box::new(peer)))).address(mac(1)).mtu(1400).up();
    let mut settings = Bridge::default();
    settings.stp = Some(false);
    settings.forward_delay = Some(400);
    settings.ageing_time = Some(1200);
    settings.vlan_filtering = Some(true);
    settings.mcast_snooping = Some(false);
    let bridge = Link::new(name("br1"), LinkKind::Bridge(settings)).address(mac(3)).up();
    let mut retimed = Bridge::default();
    retimed.ageing_time = Some(30_000);
    let mut renamed = Link::named(name("z"));
    renamed.index = Some(Ifindex(8));
    let mut offload = Link::named(name("z"));
    offload.gso_max_size = Some(32_000);
    let ifb = Link::new(name("ifb7"), LinkKind::Ifb).address(mac(4));
    compare(
        "equivalence::links",
        furnished,
        vec![
            request(Add, cable.clone()),
            request(Add, cable),
            request(Add, bridge.clone()),
            request(Change, Link::named(x()).mtu(1350).address(mac(5))),
            request(Change, Link::named(x()).master(BRIDGE)),
            request(Change, Link::named(x()).master(Ifindex(9))),
            request(Change, Link::named(x()).master(Ifindex(0))),
            request(Change, Link::named(x()).alias("plain")),
            request(Change, Link::named(x()).alias("two words, a 'quote', \"another\" and $HOME")),
            request(Change, Link::named(x()).alias("")),
            request(Change, Link::named(x()).down()),
            request(Change, renamed),
            request(Change, offload),
            request(Change, Link::named(name("z")).up().alias("up")),
            request(Change, Link::new(name("br1"), LinkKind::Bridge(retimed))),
            request(Change, Link::named(name("nobody")).up()),
            request(Add, Link::new(name("owned"), LinkKind::Veth(None)).alias("mine")),
            request(Delete, Link::named(name("owned"))),
            request(Add, ifb.alias("overlay:1")),
            request(Delete, Link::named(name("ifb7"))),
            request(Delete, Link::named(name("z"))),
            request(Delete, Link::named(name("br1"))),
            request(Delete, Link::named(name("br1"))),
        ]
        .into_iter()
        // The other end of a cable without a peer has a MAC address by chance.
        .filter(|request| !request.to_string().contains("owned"))
        .collect(),
    )
}

fn vxlan_devices() -> Outcome {
    let id = Vni::new(0xff_ffff)?;
    let device = |vxlan: Vxlan| Link::new(x(), LinkKind::Vxlan(Box::new(vxlan))).address(mac(1));
    let with = |set: &dyn Fn(&mut Vxlan)| {
        let mut vxlan = Vxlan::new(id);
        vxlan.port = Some(4700);
        set(&mut vxlan);
        device(vxlan)
    };
    let flow = |set: &dyn Fn(&mut Vxlan)| {
        let mut vxlan = Vxlan::external();
        vxlan.port = Some(4701);
        set(&mut vxlan);
        device(vxlan)
    };
    let devices = [
        with(&|_| {}),
        with(&|v| {
            v.dev = Some(UPLINK);
            v.local = Some(ip("10.0.0.1"));
            v.learning = Some(false);
        })
        .mtu(1400)
        .up(),
        with(&|v| {
            v.dev = Some(UPLINK);
            v.local = Some(ip("fd00::1"));
            v.group = Some(ip("fd00::9"));
            v.udp6_zero_csum_tx = Some(true);
            v.udp6_zero_csum_rx = Some(true);
            v.label = Some(0xabcde);
        }),
        with(&|v| {
            v.dev = Some(UPLINK);
            v.group = Some(ip("239.1.2.3"));
        }),
        with(&|v| {
            v.group = Some(ip("10.0.0.9"));
            v.udp_csum = Some(false);
            v.source_ports = Some((32_768, 61_000));
        }),
        with(&|v| {
            v.ageing = Some(77);
            v.limit = Some(1000);
            v.learning = Some(true);
            v.ttl = Some(9);
            v.tos = Some(0x10);
            v.df = Some(Df::Set);
        }),
        with(&|v| {
            v.ttl_inherit = true;
            v.tos = Some(1);
            v.df = Some(Df::Inherit);
        }),
        with(&|v| {
            v.ttl = Some(0);
            v.df = Some(Df::Unset);
        }),
        with(&|v| {
            v.proxy = Some(true);
            v.rsc = Some(true);
            v.l2miss = Some(true);
            v.l3miss = Some(true);
        }),
        with(&|v| {
            v.proxy = Some(false);
            v.rsc = Some(false);
            v.l2miss = Some(false);
            v.l3miss = Some(false);
            v.udp_csum = Some(true);
        }),
        with(&|v| {
            v.rem_csum_tx = Some(true);
            v.rem_csum_rx = Some(true);
        }),
        with(&|v| v.gbp = true),
        flow(&|v| v.gpe = true),
        flow(&|_| {}),
        flow(&|v| v.learning = None),
        flow(&|v| v.learning = Some(true)),
        flow(&|v| v.vnifilter = true),
    ];
    let mut requests = Vec::new();
    for device in devices {
        requests.push(request(Add, device));
        requests.push(request(Delete, Link::named(x())));
    }
    let mut changed = Vxlan::new(id);
    changed.ageing = Some(55);
    changed.learning = Some(false);
    changed.l2miss = Some(true);
    let changed = Link::new(x(), LinkKind::Vxlan(Box::new(changed)));
    requests.push(request(Add, with(&|_| {})));
    requests.push(request(Change, changed));
    requests.push(request(Change, Link::named(x()).up()));
    compare("equivalence::vxlan_devices", furnished, requests)
}

/// Kinds that many kernels have as modules only, and may lack.
fn tunnel_devices() -> Outcome {
    let tunnel = |set: &dyn Fn(&mut Tunnel)| {
        let mut tunnel = Tunnel::new();
        set(&mut tunnel);
        Box::new(tunnel)
    };
    let gre = |ipv6, set: &dyn Fn(&mut Gre)| {
        let mut gre = Gre::new(ipv6);
        set(&mut gre);
        LinkKind::Gre(Box::new(gre))
    };
    let ends = |t: &mut Tunnel| {
        t.local = Some(ip("10.0.0.1"));
        t.remote = Some(ip("10.0.0.9"));
        t.dev = Some(UPLINK);
        t.ttl = Some(64);
    };
    let ends6 = |t: &mut Tunnel| {
        t.local = Some(ip("fd00::1"));
        t.remote = Some(ip("fd00::9"));
        t.dev = Some(UPLINK);
    };
    let kinds = [
        LinkKind::Dummy,
        LinkKind::Ipip(tunnel(&ends)),
        LinkKind::Ipip(tunnel(&|t| {
            t.local = Some(ip("10.0.0.1"));
            t.ttl = Some(0);
            t.tos = Some(1);
            t.pmtudisc = Some(true);
            t.mode = Some(TunnelMode::Ipv4);
        })),
        LinkKind::Ipip(tunnel(&|t| t.external = true)),
        LinkKind::Sit(tunnel(&ends)),
        LinkKind::Sit(tunnel(&|t| {
            ends(t);
            t.mode = Some(TunnelMode::Any);
        })),
        LinkKind::Ip6tnl(tunnel(&|t| {
            ends6(t);
            t.mode = Some(TunnelMode::Any);
            t.encap_limit = Some(EncapLimit::At(3));
        })),
        LinkKind::Ip6tnl(tunnel(&|t| {
            ends6(t);
            t.mode = Some(TunnelMode::Ipv4);
            t.ttl = Some(5);
        })),
        LinkKind::Ip6tnl(tunnel(&|t| {
            ends6(t);
            t.encap_limit = Some(EncapLimit::Off);
        })),
        LinkKind::Ip6tnl(tunnel(&|t| t.external = true)),
        gre(false, &|g| {
            g.local = Some(ip("10.0.0.1"));
            g.remote = Some(ip("10.0.0.9"));
            g.ikey = Some(1);
            g.okey = Some(2);
            g.ttl = Some(9);
        }),
        gre(false, &|g| {
            g.tap = true;
            g.remote = Some(ip("10.0.0.9"));
        }),
        gre(true, &|g| {
            g.local = Some(ip("fd00::1"));
            g.remote = Some(ip("fd00::9"));
        }),
        gre(true, &|g| {
            g.tap = true;
            g.remote = Some(ip("fd00::9"));
        }),
    ];
    let (_probe, mut socket) = bare("probe")?;
    let (mut requests, mut lacking) = (Vec::new(), Vec::new());
    for kind in kinds {
        let kind_name = kind.name().to_owned();
        let mut link = Link::new(x(), kind);
        if matches!(link.kind, LinkKind::Dummy | LinkKind::Gre(_)) && kind_name != "gre" {
            link = link.address(mac(1));
        }
        if lacking.contains(&kind_name) {
            continue;
        }
        match socket.add(&Link::new(x(), LinkKind::Other(kind_name.clone()))) {
            Err(error) if error.is_unsupported() => {
                let why = "the running kernel has no such device; its bytes are tested elsewhere";
                overlay_lab::cannot_run("equivalence::tunnel_devices", &kind_name, why)?;
                lacking.push(kind_name);
                continue;
            }
            Err(_) => {}
            Ok(()) => socket.delete(&Link::named(x()))?,
        }
        requests.push(request(Add, link.up()));
        requests.push(request(Delete, Link::named(x())));
    }
    if requests.is_empty() {
        return Ok(());
    }
    compare("equivalence::tunnel_devices", furnished, requests)
}

/// Devices made in and moved to another namespace, named by descriptor and by process.
fn namespaces() -> Outcome {
    const CASE: &str = "equivalence::namespaces";
    if !has_iproute2(CASE)? {
        return Ok(());
    }
    for by_pid in [false, true] {
        let run = |commands: bool| -> Result<(Vec<String>, Vec<String>), Failed> {
            let (near, mut near_socket) = bare("near")?;
            let (far, mut far_socket) = bare("far")?;
            // A process that does nothing but live in the other namespace.
            let mut sleeper = far.run(|| std::process::Command::new("sleep").arg("60").spawn())?;
            let there = if by_pid {
                LinkNamespace::Pid(sleeper.id())
            } else {
                far.namespace().as_link_namespace()
            };
            let mut peer = VethPeer::new(name("b"));
            peer.namespace = Some(there);
            peer.address = Some(mac(2));
            let cable = LinkKind::Veth(Some(Box::new(peer)));
            let vxlan = LinkKind::Vxlan(Box::new(Vxlan::new(Vni::new(7)?)));
            let bridge = LinkKind::Bridge(Bridge::default());
            let requests = [
                request(Add, Link::new(name("a"), cable).address(mac(1)).up()),
                request(Add, Link::new(name("vx"), vxlan).address(mac(3)).namespace(there)),
                request(Add, Link::new(name("br"), bridge).address(mac(4))),
                request(Change, Link::named(name("a")).namespace(there)),
            ];
            for request in requests {
                if commands {
                    shell(&near, &request.to_string())?;
                } else {
                    near_socket.request(request.verb, &request.object)?;
                }
            }
            sleeper.kill()?;
            sleeper.wait()?;
            Ok((dump(&mut near_socket)?, dump(&mut far_socket)?))
        };
        let (ours, theirs) = (run(false)?, run(true)?);
        for name in ["\"a\"", "\"b\"", "\"vx\""] {
            ensure(ours.1.iter().any(|line| line.contains(name)), || format!("no {name} there"))?;
        }
        let all = differences(&ours.0, &theirs.0) + &differences(&ours.1, &theirs.1);
        ensure(all.is_empty(), || all)?;
    }
    Ok(())
}

fn addresses() -> Outcome {
    let v4 = Address::new(net("192.0.2.1/24"), UPLINK);
    let mut full = Address::new(net("192.0.2.2/25"), UPLINK);
    full.broadcast = Some("192.0.2.127".parse()?);
    full.scope = Scope::LINK;
    full.noprefixroute = true;
    let mut far_end = Address::new(net("192.0.2.9/32"), UPLINK);
    far_end.peer = Some(ip("198.51.100.1"));
    let v6 = Address::new(net("fd00:1::1/64"), UPLINK).nodad();
    let mut quiet = Address::new(net("fd00:2::1/128"), UPLINK).nodad();
    quiet.noprefixroute = true;
    let mut changed = v4.clone();
    changed.noprefixroute = true;
    let loopback = Address::new(net("127.0.0.9/8"), Ifindex(1));
    compare(
        "equivalence::addresses",
        furnished,
        vec![
            request(Add, v4.clone()),
            request(Add, v4.clone()),
            request(Replace, changed),
            request(Add, full),
            request(Add, far_end.clone()),
            request(Add, v6.clone()),
            request(Replace, v6.clone()),
            request(Change, v6.clone()),
            request(Add, quiet),
            request(Add, loopback.clone()),
            request(Change, Address::new(net("fd00:3::1/64"), UPLINK)),
            request(Delete, loopback),
            request(Delete, far_end),
            request(Delete, v4.clone()),
            request(Delete, v4),
            request(Delete, v6.clone()),
            request(Delete, v6),
        ],
    )
}

fn neighbours() -> Outcome {
    let mut requests = Vec::new();
    for address in ["10.0.0.9", "fd00::9"] {
        let at = |last| Neighbour::permanent(ip(address), mac(last), UPLINK);
        let mut stale = at(3);
        stale.state = NeighbourState::STALE;
        let mut router = at(4).protocol(Protocol(79));
        router.flags = NeighbourFlags::ROUTER;
        let mut learned = at(5);
        learned.state = NeighbourState::NOARP;
        learned.flags = NeighbourFlags::EXT_LEARNED;
        requests.extend([
            request(Add, at(1)),
            request(Add, at(2)),
            request(Replace, at(2)),
            request(Change, at(6).protocol(Protocol(80))),
            request(Replace, stale),
            request(Replace, router),
            request(Replace, learned),
            request(Delete, at(1)),
            request(Change, at(1)),
            request(Add, Neighbour::proxy(ip(address), UPLINK)),
            request(Add, Neighbour::proxy(ip(address), FAR).protocol(Protocol(79))),
            request(Delete, Neighbour::proxy(ip(address), UPLINK)),
            request(Delete, Neighbour::proxy(ip(address), UPLINK)),
        ]);
    }
    compare("equivalence::neighbours", furnished, requests)
}

fn fdb_entries() -> Outcome {
    let plain = Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN);
    let zero = |dst| Fdb::remote(MacAddr::ZERO, ip(dst), VXLAN);
    let mut detailed = Fdb::remote(mac(2), ip("10.0.0.9"), VXLAN);
    detailed.port = Some(4444);
    detailed.vni = Some(Vni::new(200)?);
    detailed.via = Some(UPLINK);
    let mut flow = Fdb::remote(mac(3), ip("10.0.0.9"), FLOW);
    flow.src_vni = Some(Vni::new(300)?);
    let mut ageing = Fdb::remote(mac(4), ip("10.0.0.9"), VXLAN);
    ageing.state = NeighbourState::REACHABLE;
    let mut learned = Fdb::remote(mac(5), ip("10.0.0.9"), VXLAN);
    learned.flags = NeighbourFlags::SELF | NeighbourFlags::EXT_LEARNED;
    let mut objects = Fdb::local(mac(6), VXLAN);
    objects.nexthop = Some(NexthopId(2));
    let fdb_member = |id, gateway| {
        let mut nexthop = Nexthop::new(NexthopId(id), Hop::via(ip(gateway)));
        nexthop.fdb = true;
        nexthop
    };
    let mut group = Nexthop::group(NexthopId(2), vec![(NexthopId(1), 1)]);
    group.fdb = true;
    let mut port = Fdb::local(mac(7), FAR);
    port.flags = NeighbourFlags::MASTER;
    port.vlan = Some(1);
    let mut fixed = port.clone();
    fixed.state = NeighbourState::NOARP;
    fixed.lladdr = mac(8);
    fixed.flags = NeighbourFlags::MASTER | NeighbourFlags::STICKY;
    fixed.vlan = None;
    compare(
        "equivalence::fdb_entries",
        furnished,
        vec![
            request(Add, plain.clone()),
            request(Add, plain.clone()),
            request(Replace, Fdb::remote(mac(1), ip("10.0.0.8"), VXLAN)),
            request(Change, Fdb::remote(mac(1), ip("10.0.0.7"), VXLAN)),
            request(Add, zero("10.0.0.9")),
            request(Append, zero("10.0.0.8")),
            request(Append, zero("10.0.0.8")),
            request(Append, zero("10.0.0.7")),
            request(Delete, zero("10.0.0.8")),
            request(Add, Fdb::remote(mac(9), ip("fd00::9"), VXLAN)),
            request(Add, detailed.clone()),
            request(Delete, detailed),
            request(Add, flow.clone()),
            request(Delete, flow),
            request(Add, ageing),
            request(Add, learned),
            request(Add, fdb_member(1, "10.0.0.9")),
            request(Add, group),
            request(Add, objects.clone()),
            request(Delete, objects),
            request(Change, Link::named(name("far")).master(BRIDGE)),
            request(Add, port.clone()),
            request(Add, fixed),
            request(Delete, port),
            request(Delete, plain.clone()),
            request(Delete, Fdb::remote(mac(1), ip("10.0.0.7"), VXLAN)),
            request(Delete, plain),
        ],
    )
}

fn routes_of_ipv4() -> Outcome {
    let to = |prefix| Route::to(net(prefix)).protocol(Protocol(79));
    let via = |gateway| Hop::via(ip(gateway));
    let mut requests = vec![
        request(Add, to("10.1.0.0/24").hop(Hop::onlink(ip("192.0.2.9"), UPLINK))),
        request(Add, to("10.1.0.0/24").hop(via("10.0.0.9"))),
        request(Append, to("10.1.0.0/24").hop(via("10.0.0.9"))),
        request(Replace, to("10.1.0.0/24").hop(via("10.0.0.8"))),
        request(Change, to("10.1.0.0/24").hop(via("10.0.0.7")).mtu(1400)),
        request(Change, to("10.9.0.0/24").hop(via("10.0.0.7"))),
        request(Add, to("10.2.0.0/16").hop(Hop::dev(UPLINK))),
        request(Add, to("10.3.0.0/16").hop(Hop::dev(UPLINK)).metric(77)),
        request(Add, to("10.3.0.0/16").hop(Hop::dev(UPLINK)).metric(78)),
        request(Add, Route::to(net("0.0.0.0/0")).hop(via("10.0.0.9"))),
        request(Add, to("10.5.0.0/16").hop(via("10.0.0.9")).src(ip("10.0.0.1"))),
        request(Add, to("10.6.0.0/16").hop(via("10.0.0.9")).table(100)),
        request(Add, to("10.6.0.0/16").hop(via("10.0.0.9")).table(100_000)),
        // RFC 5549: a gateway of the other family.
        request(Add, to("10.7.0.0/16").hop(via("fd00::9").through(UPLINK))),
        request(Delete, to("10.6.0.0/16").table(100_000)),
        request(Delete, to("10.3.0.0/16").metric(78)),
        request(Delete, to("10.1.0.0/24")),
        request(Delete, to("10.1.0.0/24")),
        request(Delete, to("10.1.0.0/24")),
    ];
    let mut locked = to("10.8.0.0/16").hop(via("10.0.0.9")).mtu(1300);
    locked.mtu_lock = true;
    requests.push(request(Add, locked));
    let mut tos = to("10.8.0.0/16").hop(via("10.0.0.9"));
    tos.tos = 0x10;
    requests.push(request(Add, tos.clone()));
    requests.push(request(Delete, tos));
    let mut unspecified = to("10.10.0.0/16").hop(via("10.0.0.9"));
    unspecified.protocol = Protocol::UNSPEC;
    requests.push(request(Add, unspecified));
    let mut host = to("10.11.0.0/16").hop(via("10.0.0.9"));
    host.scope = Scope::SITE;
    requests.push(request(Add, host));
    for (number, kind) in (20..).zip([
        RouteKind::Blackhole,
        RouteKind::Unreachable,
        RouteKind::Prohibit,
        RouteKind::Throw,
    ]) {
        let prefix = net(&format!("10.{number}.0.0/16"));
        requests.push(request(Add, Route::drop(kind, prefix).metric(5).protocol(Protocol(79))));
        requests.push(request(Replace, Route::drop(RouteKind::Blackhole, prefix).metric(5)));
        requests.push(request(Delete, Route::drop(kind, prefix).metric(5)));
    }
    let mut local = to("10.30.0.1/32").hop(Hop::dev(UPLINK)).table(255);
    local.kind = RouteKind::Local;
    local.scope = Scope::HOST;
    requests.push(request(Add, local.clone()));
    requests.push(request(Delete, local));
    compare("equivalence::routes_of_ipv4", furnished, requests)
}

fn routes_of_ipv6() -> Outcome {
    let to = |prefix| Route::to(net(prefix)).protocol(Protocol(79));
    let via = |gateway| Hop::via(ip(gateway));
    let mut requests = vec![
        request(Add, to("fd01::/64").hop(Hop::onlink(ip("fe80::9"), UPLINK))),
        request(Add, to("fd01::/64").hop(via("fd00::9"))),
        request(Append, to("fd01::/64").hop(via("fd00::8"))),
        request(Replace, to("fd01::/64").hop(via("fd00::7"))),
        request(Change, to("fd01::/64").hop(via("fd00::6")).mtu(1400)),
        request(Add, to("fd02::/64").hop(Hop::dev(UPLINK)).metric(77)),
        request(Add, Route::to(net("::/0")).hop(via("fd00::9"))),
        request(Add, to("fd03::/64").hop(via("fd00::9")).src(ip("fd00::1"))),
        request(Add, to("fd04::/64").hop(via("fd00::9")).table(100_000)),
        request(Delete, to("fd04::/64").table(100_000)),
        request(Delete, to("fd02::/64").metric(77)),
        request(Delete, to("fd01::/64")),
        request(Delete, to("fd01::/64")),
        request(Delete, to("fd01::/64")),
        // The kernel refuses the other family here.
        request(Add, to("fd05::/64").hop(via("10.0.0.9").through(UPLINK))),
    ];
    for kind in
        [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit, RouteKind::Throw]
    {
        requests.push(request(Add, Route::drop(kind, net("fd09::/64")).protocol(Protocol(79))));
        requests.push(request(Delete, Route::drop(kind, net("fd09::/64"))));
    }
    compare("equivalence::routes_of_ipv6", furnished, requests)
}

fn multipath_and_encap() -> Outcome {
    let weighted =
        |gateway, weight| WeightedHop { hop: Hop::via(ip(gateway)).through(UPLINK), weight };
    let mut onlink = weighted("192.0.2.9", 3);
    onlink.hop.onlink = true;
    let wrapped = |id, dst| {
        let mut encap = Encap::new(id, ip(dst));
        encap.ttl = 9;
        encap.tos = 4;
        Hop::dev(FLOW).encap(encap)
    };
    let mut sourced = wrapped(7, "10.0.0.9");
    if let Some(encap) = &mut sourced.encap {
        encap.src = Some(ip("10.0.0.1"));
    }
    let mut routed = wrapped(u64::from(u32::MAX) + 9, "fd00::9");
    routed.gateway = Some(ip("10.0.0.9"));
    routed.onlink = true;
    let to = |prefix| Route::to(net(prefix));
    compare(
        "equivalence::multipath_and_encap",
        furnished,
        vec![
            request(
                Add,
                to("10.1.0.0/24").multipath(vec![
                    weighted("10.0.0.9", 1),
                    weighted("10.0.0.8", 256),
                    onlink,
                ]),
            ),
            request(
                Replace,
                to("10.1.0.0/24").multipath(vec![weighted("10.0.0.7", 2), weighted("fd00::9", 1)]),
            ),
            request(Delete, to("10.1.0.0/24")),
            request(
                Add,
                to("fd01::/64").multipath(vec![weighted("fd00::9", 1), weighted("fd00::8", 5)]),
            ),
            request(
                Replace,
                to("fd01::/64").multipath(vec![weighted("fd00::7", 1), weighted("fd00::6", 1)]),
            ),
            request(Delete, to("fd01::/64")),
            request(Add, to("10.2.0.0/24").hop(wrapped(7, "10.0.0.9"))),
            request(Replace, to("10.2.0.0/24").hop(sourced)),
            request(Add, to("10.3.0.0/24").hop(wrapped(8, "fd00::9"))),
            request(Add, to("10.4.0.0/24").hop(routed)),
            request(Add, to("fd02::/64").hop(wrapped(9, "10.0.0.9"))),
            request(Add, to("fd03::/64").hop(wrapped(9, "fd00::9"))),
            request(
                Add,
                to("10.5.0.0/24").multipath(vec![
                    WeightedHop { hop: wrapped(1, "10.0.0.9"), weight: 1 },
                    WeightedHop { hop: wrapped(2, "10.0.0.8"), weight: 2 },
                ]),
            ),
        ],
    )
}

fn nexthop_objects() -> Outcome {
    let object = |id, hop| Nexthop::new(NexthopId(id), hop);
    let via = |gateway| Hop::via(ip(gateway)).through(UPLINK);
    let wrapped = |dst| Hop::dev(FLOW).encap(Encap::new(5, ip(dst)));
    let group = |id, members: &[(u32, u16)]| {
        Nexthop::group(NexthopId(id), members.iter().map(|(id, w)| (NexthopId(*id), *w)).collect())
    };
    compare(
        "equivalence::nexthop_objects",
        furnished,
        vec![
            request(Add, object(1, via("10.0.0.9")).protocol(Protocol(79))),
            request(Add, object(1, via("10.0.0.9"))),
            request(Replace, object(1, via("10.0.0.8"))),
            request(Change, object(1, via("10.0.0.7"))),
            request(Add, object(2, Hop::onlink(ip("192.0.2.9"), UPLINK))),
            request(Add, object(3, Hop::dev(UPLINK))),
            request(Add, object(4, via("fd00::9"))),
            request(Add, object(5, via("fd00::8"))),
            request(Add, Nexthop::blackhole(NexthopId(6), IpVersion::V4)),
            request(Add, Nexthop::blackhole(NexthopId(7), IpVersion::V6)),
            request(Add, object(8, wrapped("10.0.0.9"))),
            request(Add, object(9, wrapped("fd00::9"))),
            request(Add, group(20, &[(1, 1), (2, 200)])),
            request(Add, group(21, &[(4, 1), (5, 256)]).protocol(Protocol(79))),
            request(Replace, group(20, &[(1, 3)])),
            request(Add, group(22, &[(1, 1), (88, 1)])),
            request(Add, Route::to(net("10.1.0.0/24")).nexthop(NexthopId(20))),
            request(Add, Route::to(net("10.2.0.0/24")).nexthop(NexthopId(4))),
            request(Add, Route::to(net("fd01::/64")).nexthop(NexthopId(21))),
            request(Add, Route::to(net("10.3.0.0/24")).nexthop(NexthopId(6))),
            request(Replace, object(1, via("10.0.0.6"))),
            request(Delete, Route::to(net("10.1.0.0/24"))),
            request(Delete, Route::to(net("fd01::/64"))),
            request(Delete, object(1, via("10.0.0.6"))),
            request(Delete, object(1, via("10.0.0.6"))),
            request(Delete, group(21, &[(4, 1)])),
        ],
    )
}

fn rules() -> Outcome {
    let rule = |version| Rule::lookup(version, 100).priority(1000);
    let v4 = |set: &dyn Fn(&mut Rule)| {
        let mut rule = rule(IpVersion::V4);
        set(&mut rule);
        rule
    };
    let plain = rule(IpVersion::V4).protocol(Protocol(79));
    let mut requests = vec![
        request(Add, plain.clone()),
        request(Add, plain.clone()),
        request(Add, v4(&|r| r.src = Some(net("10.0.0.0/8")))),
        request(Add, v4(&|r| r.dst = Some(net("10.0.0.0/8")))),
        request(Add, v4(&|r| r.iif = Some(name("uplink")))),
        request(Add, v4(&|r| r.oif = Some(name("uplink")))),
        request(Add, v4(&|r| r.fwmark = Some((0x10, 0xff)))),
        request(Add, v4(&|r| r.fwmark = Some((0x11, u32::MAX)))),
        request(Add, v4(&|r| r.tos = 0x10)),
        request(Add, v4(&|r| r.ip_proto = Some(17))),
        request(
            Add,
            v4(&|r| {
                r.invert = true;
                r.fwmark = Some((1, 1));
            }),
        ),
        request(Add, v4(&|r| r.suppress_prefixlength = Some(0))),
        request(Add, v4(&|r| r.action = RuleAction::Lookup(100_000))),
        request(Add, v4(&|r| r.action = RuleAction::Goto(32_766))),
        request(Add, v4(&|r| r.action = RuleAction::Nop)),
        request(Add, v4(&|r| r.action = RuleAction::Blackhole)),
        request(Add, v4(&|r| r.action = RuleAction::Unreachable)),
        request(Add, v4(&|r| r.action = RuleAction::Prohibit)),
        request(Add, v4(&|r| r.priority = None)),
        request(Add, v4(&|r| r.priority = Some(0))),
        request(Delete, plain.clone()),
        request(Delete, plain),
    ];
    let mut v6 = rule(IpVersion::V6).protocol(Protocol(79));
    v6.src = Some(net("fd00::/8"));
    v6.dst = Some(net("fd01::/16"));
    v6.iif = Some(name("lo"));
    requests.push(request(Add, v6.clone()));
    requests.push(request(Delete, v6.clone()));
    requests.push(request(Delete, v6));
    compare("equivalence::rules", furnished, requests)
}

/// 252 in the message's header means "see the attribute"; it is also a table.
fn every_table_number() -> Outcome {
    let mut requests = Vec::new();
    for table in [1, 251, 252, 253, 254, 256, 65_535, u32::MAX] {
        let route = Route::drop(RouteKind::Blackhole, net("10.1.0.0/24")).table(table);
        requests.push(request(Add, route));
        let rule = Rule::lookup(IpVersion::V4, table).priority(table.min(32_000));
        requests.push(request(Add, rule));
    }
    compare("equivalence::every_table_number", bare, requests)
}
