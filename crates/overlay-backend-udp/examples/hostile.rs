//! A good flow between two nodes, beside as many hostile datagrams as the machine can send.
//!
//! ```text
//! cargo run --release -p overlay-backend-udp --example hostile -- --minutes 10
//! ```
//!
//! It makes its own hosts and needs no root. It ends with 1 when something was delivered that should not have been, when
//! the good flow stopped, or when memory grew.

use std::error::Error;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use overlay_backend::{BackendData, Network, Node, Owner, Peer, Reconciler, Underlay};
use overlay_backend_udp::{Forwarder, ForwarderOptions, Udp, UdpOptions};
use overlay_lab::{Host, Switch, capture_if};
use overlay_netlink::IfName;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv4::{self, Ipv4Header};
use overlay_wire::ipv6::{self, Ipv6Header};
use overlay_wire::udp::{self, UdpHeader};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const DEVICE: &str = "eth0";
const PORT: u16 = 8285;
/// In every packet that must not be delivered.
const EVIL: &[u8] = b"EVIL";
/// How much the process may grow after the first seconds, in bytes.
const GROWTH: u64 = 4 << 20;

fn main() -> ExitCode {
    match minutes().and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn minutes() -> Result<f64> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(0.2),
        (Some("--minutes"), Some(number), None) => Ok(number.parse()?),
        _ => Err("usage: hostile [--minutes N]".into()),
    }
}

/// What the threads do until it is over.
#[derive(Default)]
struct Run {
    over: AtomicBool,
    hostile: AtomicU64,
    good_sent: AtomicU64,
    good_received: AtomicU64,
}

fn run(minutes: f64) -> Result<bool> {
    overlay_lab::enter()?;
    let switch = Switch::new("switch")?;
    let [a, b, stranger] = [(1, "a"), (2, "b"), (66, "stranger")].map(|(number, name)| {
        let host = Host::new(name)?;
        let addresses =
            [format!("192.168.32.{number}/24").parse()?, format!("fd00:32::{number}/64").parse()?];
        switch.plug(&host, DEVICE, &addresses)?;
        Ok::<_, Box<dyn Error>>(host)
    });
    let (a, b, stranger) = (a?, b?, stranger?);
    // So that what is alike arrives together, in sizes that the sender has chosen.
    let _ = a.feature(DEVICE, "rx-gro", true);
    let (here, _there) = (node(&a, 1)?, node(&b, 2)?);
    let (device, forwarder) = (here.0.as_str(), &here.1);
    let delivered = capture_if(&a, device, |frame| frame.windows(EVIL.len()).any(|it| it == EVIL))?;

    let run = Run::default();
    let start = Instant::now();
    let end = Duration::from_secs_f64(minutes * 60.0);
    let grown = thread::scope(|scope| -> Result<u64> {
        scope.spawn(|| report(attack(&run, &stranger, "192.168.32.66", &from_anywhere())));
        scope.spawn(|| report(attack(&run, &b, "192.168.32.2", &from_the_peer())));
        scope.spawn(|| report(good(&run, &a, &b)));
        let end_of_run = (|| {
            let warm = end.min(Duration::from_secs(5)) / 2;
            thread::sleep(warm);
            let first = resident()?;
            while start.elapsed() < end {
                thread::sleep(Duration::from_secs(10).min(end.saturating_sub(start.elapsed())));
                let now = resident()?;
                println!(
                    "{:>5.0} s  hostile {:>10}  good {}/{}  resident {} KiB",
                    start.elapsed().as_secs_f64(),
                    run.hostile.load(Ordering::Relaxed),
                    run.good_received.load(Ordering::Relaxed),
                    run.good_sent.load(Ordering::Relaxed),
                    now >> 10,
                );
            }
            Ok(resident()?.saturating_sub(first))
        })();
        run.over.store(true, Ordering::Relaxed);
        end_of_run
    })?;

    let counters = forwarder.counters();
    for (reason, count) in counters.drops.iter().filter(|(_, count)| *count > 0) {
        println!("{reason:>15} {count}");
    }
    let evil = delivered.frames().len();
    let (sent, received) = (run.good_sent.into_inner(), run.good_received.into_inner());
    let hostile = run.hostile.into_inner();
    let rate = hostile as f64 / start.elapsed().as_secs_f64();
    println!("{hostile} hostile datagrams ({rate:.0}/s), {evil} delivered");
    println!("{received} of {sent} good datagrams came back; {} KiB more memory", grown >> 10);
    Ok(evil == 0 && received > 0 && received * 2 > sent && grown < GROWTH)
}

fn report(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("{error}");
    }
}

/// A node with a forwarder, the other one as its peer.
fn node(host: &Host, number: u8) -> Result<(IfName, Forwarder)> {
    let subnets = |number: u8| -> Result<_> {
        Ok(vec![
            format!("10.244.{number}.0/24").parse()?,
            format!("fd00:244:{number}::/64").parse()?,
        ])
    };
    let mut socket = host.socket()?;
    let node = Node {
        id: format!("node{number}").as_str().into(),
        subnets: subnets(number)?,
        underlay: Underlay::observe(&mut socket, &IfName::new(DEVICE)?)?,
    };
    let udp = Udp::new(&node, &UdpOptions::default())?;
    let device = udp.device();
    let options = ForwarderOptions::default().namespace(host.namespace().clone());
    let forwarder = Forwarder::start(&udp, &options)?;
    let mut reconciler = Reconciler::new(Owner::default());
    let mut network = Network::new("overlay", node, udp, &mut reconciler)?;
    let other = 3 - number;
    let peer = Peer {
        id: format!("node{other}").as_str().into(),
        subnets: subnets(other)?,
        endpoints: vec![format!("192.168.32.{other}").parse()?],
        data: BackendData::default(),
    };
    network.set_peers([peer], &mut reconciler);
    reconciler.reconcile(&mut socket)?;
    Ok((device, forwarder))
}

/// Datagrams that go there and back, each with its number.
fn good(run: &Run, a: &Host, b: &Host) -> Result<()> {
    let open = |host: &Host, address: &str| -> Result<UdpSocket> {
        let address = SocketAddr::new(address.parse()?, 4000);
        let socket = host.run(|| UdpSocket::bind(address))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(socket)
    };
    let (asker, answerer) = (open(b, "10.244.2.0")?, open(a, "10.244.1.0")?);
    asker.connect(answerer.local_addr()?)?;
    let mut room = [0; 2000];
    while !run.over.load(Ordering::Relaxed) {
        let number = run.good_sent.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        asker.send(&number)?;
        // Late ones are passed over.
        while let Ok((len, from)) = answerer.recv_from(&mut room) {
            answerer.send_to(&room[..len], from)?;
            if room[..len] == number {
                break;
            }
        }
        while let Ok(len) = asker.recv(&mut room) {
            if room[..len] == number {
                run.good_received.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Sends what is hostile, in turn, in bursts and with mutations that leave it hostile.
fn attack(run: &Run, from: &Host, address: &str, templates: &[Vec<u8>]) -> Result<()> {
    let local = SocketAddr::new(address.parse()?, 0);
    let socket = from.run(|| UdpSocket::bind(local))?;
    socket.connect(("192.168.32.1", PORT))?;
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    let mut datagram = Vec::new();
    while !run.over.load(Ordering::Relaxed) {
        datagram.clear();
        datagram.extend(&templates[random() % templates.len()]);
        // What is behind the addresses decides about nothing.
        if let Some(behind) = datagram.get_mut(48..).filter(|behind| !behind.is_empty()) {
            let at = random() % behind.len();
            if !(behind.len() - at.min(behind.len())..).contains(&EVIL.len()) {
                behind[at] = random() as u8;
            }
        }
        for _ in 0..=random() % 40 {
            // Bursts of one length arrive together.
            if socket.send(&datagram).is_ok() {
                run.hostile.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// From an address that is no peer's: even the best packet is not to be delivered.
fn from_anywhere() -> Vec<Vec<u8>> {
    let mut all = from_the_peer();
    all.push(packet("10.244.2.0", "10.244.1.0", 64));
    all.push(packet("10.244.2.0", "10.244.1.0", 1400));
    all.push(packet("10.244.2.0", "10.244.1.0", 60_000));
    all.push(packet("fd00:244:2::", "fd00:244:1::", 1400));
    all
}

/// From the address of the peer, but not what it may send.
fn from_the_peer() -> Vec<Vec<u8>> {
    let good = packet("10.244.2.0", "10.244.1.0", 1000);
    let good6 = packet("fd00:244:2::", "fd00:244:1::", 1000);
    let changed = |packet: &[u8], at: usize, byte: u8| {
        let mut packet = packet.to_vec();
        packet[at] = byte;
        packet
    };
    let mut all = vec![
        // Spoofed.
        packet("10.244.9.1", "10.244.1.0", 100),
        packet("10.244.1.1", "10.244.1.0", 1400),
        packet("127.0.0.1", "10.244.1.0", 100),
        packet("fd00:244:9::1", "fd00:244:1::", 100),
        // To elsewhere.
        packet("10.244.2.0", "192.168.32.1", 100),
        packet("10.244.2.0", "255.255.255.255", 100),
        packet("10.244.2.0", "224.0.0.1", 60_000),
        packet("fd00:244:2::", "ff02::1", 100),
        packet("fd00:244:2::", "fd00:32::1", 1400),
        // The wrong family, no family, a header that does not fit.
        changed(&good, 0, 0x65),
        changed(&good6, 0, 0x45),
        changed(&good, 0, 0x05),
        changed(&good, 0, 0x44),
        changed(&good, 0, 0x4f)[..40].to_vec(),
        // Something behind it, and too long for anybody.
        [&good[..], EVIL].concat(),
        [&good6[..], &[0; 4000]].concat(),
        EVIL.repeat(16_000),
        Vec::new(),
    ];
    // Cut, also so that the pieces of a burst do not end where packets do.
    for len in [1, 7, 19, 20, 21, 27, 28, 39, 40, 500, 1027] {
        all.push(good[..len].to_vec());
        all.push(good6[..len].to_vec());
    }
    all
}

fn packet(src: &str, dst: &str, len: usize) -> Vec<u8> {
    let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (src, dst) = (parse(src), parse(dst));
    let at = if src.is_ipv4() { ipv4::LEN } else { ipv6::LEN };
    let mut packet = vec![0; at + udp::LEN];
    packet.extend(vec![b'x'; len - EVIL.len()]);
    packet.extend(EVIL);
    let addresses = PseudoHeader::new(src, dst).expect("one family");
    let header = UdpHeader { src_port: 4000, dst_port: 4000 };
    header.emit(&mut packet[at..], Some(&addresses)).expect("there is room");
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            Ipv4Header::new(src, dst, IpProtocol::UDP).emit(&mut packet)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            Ipv6Header::new(src, dst, IpProtocol::UDP).emit(&mut packet)
        }
        _ => Ok(()),
    }
    .expect("there is room");
    packet
}

/// Bytes of memory that this process has.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no size")?;
    let kib: u64 = line.split_whitespace().next().ok_or("no number")?.parse()?;
    Ok(kib << 10)
}
