//! The fast path beside the forwarder's threads, on the running kernel, for root.

#[path = "../kernel/fixture.rs"]
mod fixture;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fixture::{
    ETH0, PORT, Program, Site, Spot, TUN, ip, joined, name, net, options, over, paced, plug, reach,
    routed_site, site, udp, within,
};
use libtest_mimic::{Arguments, Failed, Trial};
use overlay_backend::{Backend, BackendData, Peer};
use overlay_backend_udp::{FastPath, FastPathState, UdpOptions};
use overlay_ebpf::probe::Mixtures;
use overlay_lab::vm::{self, VmOptions};
use overlay_lab::{Host, PingRequest, path_mtu, ping, throughput};
use overlay_netlink::{Ifindex, Link, Route, RouteKind};
use overlay_wire::IpVersion;

type Outcome = Result<(), Failed>;
type Case = (&'static str, fn() -> Outcome);

const CASES: [Case; 13] = [
    ("programs carry what threads need not see", programs_carry),
    ("a node without programs and one with them understand each other", mixed),
    ("a node that has lost its programs copes with what is sent to them", believed),
    ("a plain socket and a node with programs understand each other", plain),
    ("a liar gets nothing through", liar),
    ("a device that is deleted gets its programs again", deleted),
    ("an underlay device that comes back gets its programs again", replugged),
    ("the routing table decides about peers on the link, too", routed_away),
    ("a smaller MTU of the underlay device is followed", smaller_underlay),
    ("threads take over when the programs go", taken_over),
    ("a smaller MTU on the way is told to containers", smaller_mtu),
    ("peers come, move and go", peers),
    ("the fast path is off where it is not wanted", off),
];

fn main() {
    vm::init_if_asked(&[]);
    let arguments = Arguments::from_args();
    let missing = match overlay_lab::enter_as_root() {
        Err(error) => Some(error.to_string()),
        Ok(()) => unusable(),
    };
    let mut trials: Vec<_> = match missing {
        None => CASES.into_iter().map(|(name, case)| Trial::test(name, case)).collect(),
        Some(why) => vec![Trial::test("the fast path", move || {
            Ok(overlay_lab::cannot_run("the fast path of the udp backend", "bpf", &why)?)
        })],
    };
    if !vm::is_inside() {
        trials.push(Trial::test("another_kernel", another_kernel));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The same cases on the distribution's kernel, where everybody is root.
fn another_kernel() -> Outcome {
    let options = VmOptions::new("debian")
        .cpus(2)
        .modules(["bridge", "cls_bpf", "dummy", "sch_ingress", "tun", "veth"])
        .programs(["sh", "sleep", "ip"]);
    const REQUIRED: &str = "bpf,iproute2,tun";
    let patience = Duration::from_secs(400);
    Ok(vm::run_tests_inside("another_kernel", options, &[], REQUIRED, patience)?)
}

/// Why programs cannot be attached here.
fn unusable() -> Option<String> {
    let site = site().ok()?;
    let program = site.a.program(&options());
    match program.forwarder().fast_path() {
        FastPathState::Unavailable { reason } => Some(reason),
        _ => None,
    }
}

const BOTH: [IpVersion; 2] = IpVersion::ALL;

/// A node as its program describes it.
fn announced(spot: &Spot, program: &Program) -> Peer {
    Peer { data: program.network.backend().data(), ..spot.peer() }
}

/// Two nodes whose peers know that they have programs, if they have.
fn introduced(a: &Spot, b: &Spot, options: &UdpOptions, paths: [FastPath; 2]) -> [Program; 2] {
    let [pa, pb] = [(a, paths[0]), (b, paths[1])]
        .map(|(spot, path)| spot.program_with(options, &spot.forwarder_options().fast_path(path)));
    let (from_a, from_b) = (announced(a, &pa), announced(b, &pb));
    [pa.with_peers([from_b]), pb.with_peers([from_a])]
}

fn is_attached(program: &Program) -> bool {
    program.forwarder().fast_path() == FastPathState::Attached
}

fn carried_by_threads(program: &Program) -> u64 {
    let counters = program.counters();
    counters.sent.packets + counters.received.packets
}

fn programs_carry() -> Outcome {
    let mixtures = Mixtures::probe()?;
    for underlay in BOTH {
        let Site { a, b, switch: _switch } = site()?;
        let [pa, pb] = introduced(&a, &b, &over(underlay), [FastPath::Required; 2]);
        assert!(is_attached(&pa) && is_attached(&pb));
        // Before Linux 6.3 programs cannot take a packet out of one of the other version, which is left to threads.
        let carried = if mixtures.decapsulate { &BOTH[..] } else { &[underlay] };
        reach(&a, &b, carried);
        for to in carried.iter().map(|version| b.container_address(*version)) {
            let carried = throughput(&a.host, &b.container, to, Duration::from_millis(300))?;
            assert!(carried.bytes > u64::from(paced(100_000)), "{carried:?}");
        }
        for program in [&pa, &pb] {
            let fast = program.forwarder().fast_counters().ok_or("no counters")?;
            assert_eq!(carried_by_threads(program), 0, "over {underlay}: {fast:?}");
            assert!(fast.sent.packets > 10 && fast.received.packets > 10, "{fast:?}");
        }
        reach(&a, &b, &BOTH);
        let by_threads = carried_by_threads(&pa) + carried_by_threads(&pb);
        assert_eq!(by_threads == 0, mixtures.decapsulate, "over {underlay}: {by_threads}");
    }
    Ok(())
}

fn mixed() -> Outcome {
    for underlay in BOTH {
        let Site { a, b, switch: _switch } = site()?;
        let paths = [FastPath::Required, FastPath::Off];
        let [pa, pb] = introduced(&a, &b, &over(underlay), paths);
        reach(&a, &b, &BOTH);
        for (from, to) in [(&a, &b), (&b, &a)] {
            for address in to.inside() {
                let time = Duration::from_millis(200);
                let carried = throughput(&from.container, &to.container, address, time)?;
                assert!(carried.bytes > u64::from(paced(100_000)), "over {underlay}: {carried:?}");
            }
        }
        // What comes is taken by the program unless it is several datagrams in one, as threads send them; what goes out is
        // sent as a plain socket can bear it.
        assert!(pa.counters().sent.packets > 0 && pb.counters().received.packets > 0);
        let fast = pa.forwarder().fast_counters().ok_or("no counters")?;
        assert!(fast.received.packets > 0 && fast.sent.packets == 0, "{fast:?}");
    }
    Ok(())
}

fn believed() -> Outcome {
    for underlay in BOTH {
        let Site { a, b, switch: _switch } = site()?;
        let paths = [FastPath::Required, FastPath::Off];
        let [mut pa, _pb] = introduced(&a, &b, &over(underlay), paths);
        // What the other node had published before it lost its programs.
        let data = BackendData::of(underlay, serde_json::json!({ "FastPath": true }));
        pa.set_peers([Peer { data, ..b.peer() }]);
        pa.converge();
        reach(&a, &b, &BOTH);
        for address in b.inside() {
            let time = Duration::from_millis(300);
            let carried = throughput(&a.container, &b.container, address, time)?;
            assert!(carried.bytes > u64::from(paced(100_000)), "over {underlay}: {carried:?}");
        }
        let fast = pa.forwarder().fast_counters().ok_or("no counters")?;
        assert!(fast.sent.packets > 100, "{fast:?}");
    }
    Ok(())
}

/// The number of the node that is a plain socket.
const PLAIN: u8 = 9;

/// A host with nothing but a socket, and a node with programs that knows it as a peer.
fn plain_peer(site: &Site) -> Result<(Host, Program), Failed> {
    let host = Host::new("plain")?;
    plug(&site.switch, &host, PLAIN)?;
    let peer = Peer {
        id: "plain".into(),
        subnets: fixture::subnets(PLAIN),
        endpoints: vec![ip("192.168.32.9"), ip("fd00:32::9")],
        data: BackendData::default(),
    };
    let how = site.a.forwarder_options().fast_path(FastPath::Required);
    Ok((host, site.a.program_with(&options(), &how).with_peers([peer])))
}

fn plain() -> Outcome {
    let site = site()?;
    let (host, program) = plain_peer(&site)?;
    let socket = udp(&host, ip("192.168.32.9"), PORT);
    let inner = udp(&site.a.container, ip("10.244.1.2"), 7000);
    // Out: each datagram is a whole packet with a right checksum, whatever its size.
    for size in [0_usize, 1, 100, 1400, 1444] {
        inner.send_to(&vec![0x5a; size], "10.244.9.2:7")?;
        let mut buffer = [0; 2000];
        let (len, from) = socket.recv_from(&mut buffer)?;
        assert_eq!(from, SocketAddr::new(ip("192.168.32.1"), PORT));
        let parsed = overlay_wire::ipv4::Ipv4Packet::parse(&buffer[..len])?;
        assert_eq!(parsed.payload().len(), 8 + size);
        // And in: what comes back swaps the ends.
        let mut answer = buffer[..len].to_vec();
        let (source, destination): (Vec<u8>, Vec<u8>) =
            (answer[12..16].to_vec(), answer[16..20].to_vec());
        answer[12..16].copy_from_slice(&destination);
        answer[16..20].copy_from_slice(&source);
        let (sport, dport) = (answer[20..22].to_vec(), answer[22..24].to_vec());
        answer[20..22].copy_from_slice(&dport);
        answer[22..24].copy_from_slice(&sport);
        socket.send_to(&answer, from)?;
        let mut received = [0; 2000];
        let (len, from) = inner.recv_from(&mut received)?;
        assert_eq!((len, from), (size, SocketAddr::new(ip("10.244.9.2"), 7)));
    }
    let fast = program.forwarder().fast_counters().ok_or("no counters")?;
    // Hosts talk of themselves, too, at any time.
    assert!(fast.received.packets >= 5, "{fast:?}");
    assert!(program.counters().sent.packets >= 5);
    Ok(())
}

fn liar() -> Outcome {
    let site = site()?;
    let (host, program) = plain_peer(&site)?;
    let socket = udp(&host, ip("192.168.32.9"), PORT);
    let target: SocketAddr = (site.a.outside(IpVersion::V4), PORT).into();
    let inner = udp(&site.a.container, ip("10.244.1.2"), 7000);
    inner.set_read_timeout(Some(Duration::from_millis(300)))?;
    for (source, destination) in [
        // Somebody else's address, and an address of nobody.
        ("10.244.2.2", "10.244.1.2"),
        ("10.9.9.9", "10.244.1.2"),
        ("10.244.1.5", "10.244.1.2"),
        // Its own, but to where this node would have to route it.
        ("10.244.9.2", "10.244.2.2"),
        ("10.244.9.2", "192.168.32.1"),
        ("10.244.9.2", "127.0.0.1"),
    ] {
        socket.send_to(&packet(source, destination)?, target)?;
        let mut buffer = [0; 100];
        let received = inner.recv_from(&mut buffer);
        assert!(received.is_err(), "{source} to {destination}: {received:?}");
    }
    socket.send_to(&packet("10.244.9.2", "10.244.1.2")?, target)?;
    assert_eq!(inner.recv_from(&mut [0; 100])?.1.ip(), ip("10.244.9.2"));
    let dropped: u64 = {
        let fast = program.forwarder().fast_counters().ok_or("no counters")?;
        let by_program: u64 = fast.reasons().filter(|(why, _)| why.is_drop()).map(|(_, n)| n).sum();
        by_program + program.counters().drops.iter().map(|(_, n)| n).sum::<u64>()
    };
    assert!(dropped >= 6, "{dropped} were counted");
    Ok(())
}

/// A UDP datagram to port 7000.
fn packet(source: &str, destination: &str) -> Result<Vec<u8>, Failed> {
    use overlay_wire::ip::IpProtocol;
    use overlay_wire::ipv4::Ipv4Header;
    use overlay_wire::udp::UdpHeader;
    let mut bytes = vec![0; 20 + 8 + 4];
    let header = Ipv4Header::new(source.parse()?, destination.parse()?, IpProtocol::UDP);
    header.emit(&mut bytes)?;
    UdpHeader { src_port: 7, dst_port: 7000 }.emit(&mut bytes[20..], None)?;
    Ok(bytes)
}

fn deleted() -> Outcome {
    let Site { a, b, switch: _switch } = site()?;
    let [pa, _pb] = introduced(&a, &b, &options(), [FastPath::Required; 2]);
    reach(&a, &b, &BOTH);
    let kept = pa.keep();
    a.host.socket()?.delete(&Link::named(name(TUN)))?;
    let to = b.inside()[0];
    let answers = || {
        let request = PingRequest::to(to).count(1).timeout(Duration::from_millis(200));
        ping(&a.container, &request).is_ok_and(|report| report.perfect())
    };
    assert!(within(Duration::from_secs(10), answers).is_some(), "{to} stays away");
    assert!(kept.counters().devices_made > 1);
    let program = kept.program.lock().map_err(|_| "poisoned")?;
    let attached = || is_attached(&program);
    assert!(within(Duration::from_secs(5), attached).is_some(), "{:?}", program.forwarder());
    drop(program);
    reach(&a, &b, &BOTH);
    Ok(())
}

fn answers(spot: &Spot, to: IpAddr) -> bool {
    let request = PingRequest::to(to).count(1).timeout(Duration::from_millis(200));
    ping(&spot.container, &request).is_ok_and(|report| report.perfect())
}

fn replugged() -> Outcome {
    let Site { a, b, switch } = site()?;
    let [pa, _pb] = introduced(&a, &b, &options(), [FastPath::Required; 2]);
    let to = b.inside()[0];
    assert!(within(Duration::from_secs(5), || answers(&a, to)).is_some());
    a.host.socket()?.delete(&Link::named(name(ETH0)))?;
    let gone = || !is_attached(&pa);
    assert!(within(Duration::from_secs(5), gone).is_some(), "the programs stay");
    plug(&switch, &a.host, a.number)?;
    let back = || is_attached(&pa) && answers(&a, to);
    assert!(within(Duration::from_secs(10), back).is_some(), "{:?}", pa.forwarder().fast_path());
    Ok(())
}

fn routed_away() -> Outcome {
    let Site { a, b, switch: _switch } = site()?;
    let [pa, _pb] = introduced(&a, &b, &options(), [FastPath::Required; 2]);
    let to = b.inside()[0];
    assert!(within(Duration::from_secs(5), || answers(&a, to)).is_some());
    let mut away = Route::<Ifindex>::to(net("192.168.32.2/32"));
    away.kind = RouteKind::Unreachable;
    a.host.socket()?.add(&away)?;
    assert!(within(Duration::from_secs(5), || !answers(&a, to)).is_some(), "it is still sent to");
    a.host.socket()?.delete(&away)?;
    assert!(within(Duration::from_secs(5), || answers(&a, to)).is_some(), "it stays away");
    assert!(is_attached(&pa));
    Ok(())
}

fn smaller_underlay() -> Outcome {
    let Site { a, b, switch: _switch } = site()?;
    let [_pa, _pb] = introduced(&a, &b, &options(), [FastPath::Required; 2]);
    let to = b.inside()[0];
    reach(&a, &b, &BOTH);
    // Only what is cut to size meets the limit: super-packets cross a veth whole.
    for feature in
        ["tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-tcp-segmentation"]
    {
        a.host.feature(ETH0, feature, false)?;
    }
    a.host.mtu(ETH0, 1400)?;
    let time = Duration::from_millis(400);
    let carried = || {
        throughput(&a.container, &b.container, to, time)
            .is_ok_and(|it| it.bytes > u64::from(paced(100_000)))
    };
    assert!(within(Duration::from_secs(10), carried).is_some(), "TCP gets nothing through");
    Ok(())
}

fn taken_over() -> Outcome {
    let Site { a, b, switch: _switch } = site()?;
    let [mut pa, mut pb] = introduced(&a, &b, &options(), [FastPath::Required; 2]);
    let to = b.inside()[0];
    // The next forwarder does without programs; device and routes stay, and the other node hears of it.
    pa.forwarder.take().map(overlay_backend_udp::Forwarder::stop);
    assert!(a.link(TUN).is_some(), "the device outlives the forwarder");
    pa.start(&a.forwarder_options().fast_path(FastPath::Off));
    pb.set_peers([announced(&a, &pa)]);
    let carried = throughput(&a.container, &b.container, to, Duration::from_millis(200))?;
    assert!(carried.bytes > u64::from(paced(100_000)));
    assert!(pa.counters().sent.packets > 0 && pa.counters().received.packets > 0);
    assert_eq!(pa.reconcile().writes(), 0, "nothing had to be repaired");
    reach(&a, &b, &BOTH);
    Ok(())
}

fn smaller_mtu() -> Outcome {
    let routed = routed_site()?;
    let (a, b) = (&routed.a, &routed.b);
    let [pa, _pb] = introduced(a, b, &options(), [FastPath::Required; 2]);
    reach(a, b, &BOTH);
    let to = b.inside()[0];
    assert_eq!(path_mtu(&a.container, to)?, 1472);
    routed.router.mtu("p2", 1400)?;
    b.host.mtu(ETH0, 1400)?;
    let mut seen = 0;
    let learned = || {
        seen = path_mtu(&a.container, to).unwrap_or_default();
        seen == 1400 - 28
    };
    assert!(within(Duration::from_secs(10), learned).is_some(), "the path MTU is {seen}");
    assert_eq!(pa.counters().path_mtus, [(ip("192.168.32.2"), 1400)]);
    assert!(pa.counters().answers > 0);
    let carried = throughput(&a.container, &b.container, to, Duration::from_millis(500))?;
    assert!(carried.bytes > u64::from(paced(100_000)), "{carried:?}");
    assert!(is_attached(&pa));
    Ok(())
}

fn peers() -> Outcome {
    let Site { a, b, switch } = site()?;
    let [mut pa, _pb] = introduced(&a, &b, &options(), [FastPath::Required; 2]);
    let to = b.inside()[0];
    let reachable = |count| {
        let request = PingRequest::to(to).count(count).timeout(Duration::from_millis(300));
        ping(&a.container, &request).is_ok_and(|report| report.received > 0)
    };
    assert!(reachable(3));
    pa.set_peers([]);
    pa.converge();
    assert!(!reachable(1));
    // The same node at another address.
    b.host.addresses(ETH0, &[net("192.168.32.77/24")])?;
    let moved = |peer: Peer, to: IpAddr| Peer { endpoints: vec![to], ..peer };
    let data = BackendData::of(IpVersion::V4, serde_json::json!({ "FastPath": true }));
    let peer = Peer { data, ..b.peer() };
    pa.set_peers([moved(peer.clone(), ip("192.168.32.77"))]);
    pa.converge();
    // That is where it goes to, and where nobody expects it.
    assert!(!reachable(1));
    pa.set_peers([moved(peer, ip("192.168.32.2"))]);
    assert!(reachable(3));
    drop(switch);
    Ok(())
}

fn off() -> Outcome {
    let Site { a, b, switch: _switch } = site()?;
    let (pa, pb) = joined(&a, &b, &options());
    // Both have programs, but neither has told the other: nothing unfinished is sent.
    reach(&a, &b, &BOTH);
    assert!(is_attached(&pa) && pb.counters().sent.packets > 0);
    drop((pa, pb));
    let [pa, _pb] = introduced(&a, &b, &options(), [FastPath::Off; 2]);
    assert_eq!(pa.forwarder().fast_path(), FastPathState::Off);
    assert!(pa.forwarder().fast_counters().is_none());
    reach(&a, &b, &BOTH);
    Ok(())
}
