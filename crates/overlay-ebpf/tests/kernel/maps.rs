//! Maps and programs by themselves.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_ebpf::asm::{Assembler, Reg, Size};
use overlay_ebpf::map::{Map, MapKind, PerCpuArray};
use overlay_ebpf::program::{Program, ProgramKind};
use overlay_ebpf::tunnel::Remote;
use overlay_ebpf::{Error, Tunnel};

use crate::fixture::{net, site};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 5] = [
    ("entries come, change and go", entries),
    ("the longest prefix is found", longest),
    ("a full map says so", full),
    ("the verifier's words are in the error", verifier),
    ("100,000 peers are loaded in seconds", many),
];

fn entries() -> Outcome {
    for kind in [MapKind::Hash, MapKind::LpmTrie] {
        let map = Map::<8, 4>::create(kind, "entries", 10_000)?;
        let key = |i: u32| {
            let mut key = [0; 8];
            key[..4].copy_from_slice(&32_u32.to_ne_bytes());
            key[4..].copy_from_slice(&i.to_be_bytes());
            key
        };
        let all: Vec<_> = (0..9000_u32).map(|i| (key(i), i.to_ne_bytes())).collect();
        map.update_all(&all)?;
        map.update(&key(3), &[7; 4])?;
        assert_eq!(map.lookup(&key(3))?, Some([7; 4]));
        assert_eq!(map.lookup(&key(8999))?, Some(8999_u32.to_ne_bytes()));
        assert_eq!(map.lookup(&key(9000))?, None);
        assert!(map.delete(&key(3))?);
        assert!(!map.delete(&key(3))?);
        assert_eq!(map.lookup(&key(3))?, None);
    }
    let array = PerCpuArray::<12>::create("per_cpu", 2)?;
    assert!(array.lookup(1)?.iter().all(|value| *value == [0; 12]));
    assert!(array.lookup(2).is_err());
    Ok(())
}

fn longest() -> Outcome {
    let map = Map::<8, 1>::create(MapKind::LpmTrie, "longest", 10)?;
    let key = |len: u32, address: [u8; 4]| {
        let mut key = [0; 8];
        key[..4].copy_from_slice(&len.to_ne_bytes());
        key[4..].copy_from_slice(&address);
        key
    };
    map.update(&key(8, [10, 0, 0, 0]), &[1])?;
    map.update(&key(24, [10, 1, 2, 0]), &[2])?;
    assert_eq!(map.lookup(&key(32, [10, 1, 2, 3]))?, Some([2]));
    assert_eq!(map.lookup(&key(32, [10, 1, 3, 3]))?, Some([1]));
    assert_eq!(map.lookup(&key(32, [11, 1, 3, 3]))?, None);
    Ok(())
}

fn full() -> Outcome {
    let map = Map::<4, 4>::create(MapKind::Hash, "small", 1)?;
    map.update(&[1; 4], &[1; 4])?;
    let error = map.update(&[2; 4], &[2; 4]).expect_err("no room");
    assert!(matches!(error, Error::Map { operation: "update", .. }), "{error}");
    assert!(error.to_string().contains("small"), "{error}");
    Ok(())
}

fn verifier() -> Outcome {
    let mut asm = Assembler::new();
    asm.load(Size::Word, Reg::R0, Reg::R2, 0);
    asm.exit();
    let error = Program::assemble(ProgramKind::Classifier, "bad", asm).expect_err("R2 is nothing");
    let Error::Load { program, log, .. } = &error else { panic!("{error}") };
    assert_eq!(program, "bad");
    assert!(log.as_str().contains("R2 !read_ok"), "{log}");
    assert!(error.to_string().contains("R2 !read_ok"), "{error}");
    assert!(!error.is_permission());
    Ok(())
}

fn many() -> Outcome {
    const PEERS: u32 = 100_000;
    let [a, b] = &site()?;
    let tunnel = Tunnel::load(&a.options())?;
    let peers: Vec<(IpNet, Remote)> = (0..PEERS)
        .map(|i| {
            let base = IpAddr::from(Ipv4Addr::from(0x0b00_0000 + (i << 8)));
            (IpNet::new(base, 24).expect("short"), b.remote(i % 2 == 1))
        })
        .collect();
    let start = Instant::now();
    tunnel.set_peers(peers.iter().map(|(prefix, remote)| (*prefix, remote)))?;
    let elapsed = start.elapsed();
    println!("{PEERS} peers in {elapsed:?}");
    assert!(elapsed < Duration::from_secs(10));
    for (prefix, _) in [peers[0], peers[50_000], peers[99_999]] {
        assert!(tunnel.remove_peer(prefix)?);
    }
    assert!(!tunnel.remove_peer(net("10.99.0.0/24"))?);
    Ok(())
}
