//! What many peers, many changes and full load do.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use overlay_backend::{Backend, BackendData, Peer};
use overlay_lab::throughput;
use overlay_wire::IpVersion;

use crate::fixture::{Site, ip, joined, net, options, paced, reach, site, udp};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 3] = [
    ("100,000 peers cost memory, and no time", many_peers),
    ("10,000 changes a second lose nothing", changes),
    ("a stop under full load is quick", stopped),
];

/// Somewhere behind 192.168.32.0/24, with a subnet of each family.
fn some_peer(number: u32) -> Peer {
    let [_, high, middle, low] = number.to_be_bytes();
    Peer {
        id: format!("peer{number}").as_str().into(),
        subnets: vec![
            net(&format!("{}.{middle}.{low}.0/24", 20 + high)),
            net(&format!("fd01:{high:x}:{middle:x}:{low:x}::/64")),
        ],
        endpoints: vec![ip(&format!("172.{}.{middle}.{low}", 16 + high))],
        data: BackendData::default(),
    }
}

fn many_peers() -> Outcome {
    const PEERS: u32 = 100_000;
    let Site { a, b, .. } = &site()?;
    let (at_a, _at_b) = joined(a, b, &options());
    let peers = at_a.network.backend().peers();
    let lookups = || {
        let start = Instant::now();
        let lookup = peers.lookup();
        let address = b.container_address(IpVersion::V4);
        for _ in 0..10_000 {
            assert!(std::hint::black_box(&lookup).owner(std::hint::black_box(address)).is_some());
        }
        start.elapsed()
    };
    let few = (0..5).map(|_| lookups()).min().expect("some");
    let before = resident();
    let data_path = at_a.network.backend().data_path().expect("a data path");
    (0..PEERS).for_each(|number| data_path.set_peer(&some_peer(number)));
    assert_eq!(peers.len(), PEERS as usize + 1);
    let each = resident().saturating_sub(before) / u64::from(PEERS);
    let many = (0..5).map(|_| lookups()).min().expect("some");
    eprintln!(
        "{PEERS} peers: {each} bytes each; 10,000 lookups {few:?} with one, {many:?} with all"
    );
    assert!(each < 2000, "{each} bytes for a peer");
    assert!(many < few * 10, "{few:?} and {many:?}");
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn changes() -> Outcome {
    const DATAGRAMS: u32 = 5_000;
    let Site { a, b, .. } = &site()?;
    let (at_a, _at_b) = joined(a, b, &options());
    let (here, there) = (a.container_address(IpVersion::V4), b.container_address(IpVersion::V4));
    let (from, to) = (udp(&a.container, here, 4000), udp(&b.container, there, 4000));
    let backend = at_a.network.backend();
    let (data_path, ours) = (backend.data_path().expect("a data path"), b.peer());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Outcome {
        let changer = scope.spawn(|| {
            let start = Instant::now();
            let mut changes = 0_u32;
            while !done.load(Ordering::Relaxed) {
                data_path.set_peer(&some_peer(changes % 1000));
                // The one that is talked to is announced anew as well.
                data_path.set_peer(&ours);
                changes += 2;
                let due = Duration::from_micros(100) * changes;
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
            f64::from(changes) / start.elapsed().as_secs_f64()
        });
        let mut room = [0; 100];
        for number in 0..DATAGRAMS {
            from.send_to(&number.to_be_bytes(), (there, 4000))?;
            if number % 20 == 19 {
                for expected in number - 19..=number {
                    let len = to.recv(&mut room)?;
                    assert_eq!(room[..len], expected.to_be_bytes());
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        let rate = changer.join().expect("no panic");
        assert!(rate > f64::from(paced(2_000)), "{rate} changes a second");
        eprintln!("{rate:.0} changes a second, {DATAGRAMS} datagrams, none lost");
        Ok(())
    })
}

fn stopped() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (mut at_a, at_b) = joined(a, b, &options());
    let address: IpAddr = b.container_address(IpVersion::V4);
    std::thread::scope(|scope| -> Outcome {
        let flow = scope
            .spawn(|| throughput(&a.container, &b.container, address, Duration::from_millis(1500)));
        std::thread::sleep(Duration::from_millis(600));
        // Changes get in as well.
        let start = Instant::now();
        let data_path = at_a.network.backend().data_path().expect("a data path");
        (0..paced(1000)).for_each(|number| data_path.set_peer(&some_peer(number)));
        let changed = start.elapsed();
        let carried = at_b.counters().received.packets;
        let start = Instant::now();
        at_a.forwarder.take().expect("it runs").stop();
        let stopped = start.elapsed();
        assert!(carried > u64::from(paced(1000)), "{carried} packets are no load");
        assert!(changed < Duration::from_secs(1), "{changed:?}");
        assert!(stopped < Duration::from_secs(1), "{stopped:?}");
        let _ = flow.join();
        Ok(())
    })
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib << 10
}
