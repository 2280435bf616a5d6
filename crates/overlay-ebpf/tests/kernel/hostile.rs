//! What must not be delivered is not, whoever sends it.

use std::cell::Cell;

use overlay_ebpf::tunnel::{AttachOptions, Counters, Dscp, Format, Reason};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::{Pair, UDP, ip, pair, udp_packet};
use crate::wire::{expected, framed};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 5] = [
    ("spoofed and foreign packets are dropped and counted", strangers),
    ("packets for others are left alone", others),
    ("truncated and stretched packets are not delivered", cut),
    ("whatever is delivered is a packet of the peer to this node", damaged),
    ("a spoofed packet does not arrive", nothing_arrives),
];

const NEXT: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

fn counted(before: &Counters, after: &Counters) -> Vec<(Reason, u64)> {
    let news = |reason| (reason, after.of(reason) - before.of(reason));
    Reason::ALL.into_iter().map(news).filter(|(_, n)| *n > 0).collect()
}

/// What the second node's program says to an outer packet, and what it counts.
fn judge(pair: &Pair, outer: &[u8]) -> (i32, Vec<(Reason, u64)>) {
    let tunnel = &pair.tunnels[1];
    let before = tunnel.counters().expect("counters");
    let run = tunnel.ingress().test_run(&framed(outer), 1).expect("a run");
    (run.answer, counted(&before, &tunnel.counters().expect("counters")))
}

fn strangers() -> Outcome {
    for format in [UDP, Format::IpInIp] {
        for outer_v6 in [false, true] {
            let pair =
                pair(|node| node.options().format(format), outer_v6, AttachOptions::default())?;
            let [a, b] = &pair.nodes;
            let outside = |inner: &[u8]| expected(&pair, format, outer_v6, Dscp::Zero, inner);
            for v6 in [false, true] {
                let (from, to) = (a.inner(v6), b.inner(v6));
                let other = ip(if v6 { "fd00:244:7::7" } else { "10.244.7.7" });
                let good = outside(&udp_packet(from, to, 0, b"good"));
                assert_eq!(judge(&pair, &good), (REDIRECT, vec![]));
                let nobodys = outside(&udp_packet(other, to, 0, b"nobody's source"));
                assert_eq!(judge(&pair, &nobodys), (DROP, vec![(Reason::Spoofed, 1)]));
                let ours = outside(&udp_packet(to, to, 0, b"our own source"));
                assert_eq!(judge(&pair, &ours), (DROP, vec![(Reason::Spoofed, 1)]));
                let foreign = outside(&udp_packet(from, other, 0, b"somewhere else"));
                assert_eq!(judge(&pair, &foreign), (DROP, vec![(Reason::Foreign, 1)]));
                // The right inner source from the wrong node.
                let mut liar = good.clone();
                let last = if outer_v6 { 23 } else { 15 };
                liar[last] ^= 0x40;
                assert_eq!(judge(&pair, &liar), (DROP, vec![(Reason::Spoofed, 1)]));
            }
        }
    }
    Ok(())
}

fn others() -> Outcome {
    let pair = pair(|node| node.options(), false, AttachOptions::default())?;
    let [a, b] = &pair.nodes;
    let good = expected(
        &pair,
        UDP,
        false,
        Dscp::Zero,
        &udp_packet(a.inner(false), b.inner(false), 0, b"good"),
    );
    let changes: [(&str, usize, u8); 6] = [
        ("another destination", 19, 1),
        ("another port", 23, 1),
        ("another protocol", 9, 1),
        ("more fragments", 6, 0x20),
        ("a later fragment", 7, 1),
        ("options", 0, 3),
    ];
    for (what, at, bits) in changes {
        let mut other = good.clone();
        other[at] ^= bits;
        assert_eq!(judge(&pair, &other), (NEXT, vec![]), "{what}");
    }
    Ok(())
}

/// Every length of the packet except the right one, whatever the headers say about it.
fn cut() -> Outcome {
    for outer_v6 in [false, true] {
        let pair = pair(|node| node.options(), outer_v6, AttachOptions::default())?;
        let [a, b] = &pair.nodes;
        for v6 in [false, true] {
            let inner = udp_packet(a.inner(v6), b.inner(v6), 0, b"sixteen bytes...");
            let good = expected(&pair, UDP, outer_v6, Dscp::Zero, &inner);
            for len in (if outer_v6 { 40 } else { 20 })..good.len() {
                let (answer, _) = judge(&pair, &good[..len]);
                assert_ne!(answer, REDIRECT, "{len} of {} bytes", good.len());
            }
            // Padding, as Ethernet adds it to short packets, is no harm.
            let padded = [&good[..], &[0; 18]].concat();
            assert_eq!(judge(&pair, &padded), (REDIRECT, vec![]));
            // The inner packet says to be longer or shorter than its datagram.
            let at = good.len() - inner.len() + if v6 { 5 } else { 3 };
            for change in [1, 2, 4, 8, 16, 32, 64, 128] {
                let mut lie = good.clone();
                lie[at] ^= change;
                assert_eq!(judge(&pair, &lie), (DROP, vec![(Reason::Malformed, 1)]));
            }
        }
    }
    Ok(())
}

/// Random damage: what is redirected all the same is still from the peer's subnet to this node's, in one piece.
fn damaged() -> Outcome {
    for (format, outer_v6) in [(UDP, false), (UDP, true), (Format::IpInIp, false)] {
        let pair = pair(|node| node.options().format(format), outer_v6, AttachOptions::default())?;
        let [a, b] = &pair.nodes;
        let damage = (
            any::<bool>(),
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            0..40_usize,
        );
        let (delivered, refused) = (Cell::new(0), Cell::new(0));
        let mut runner = TestRunner::new_with_rng(
            Config { cases: 2000, failure_persistence: None, ..Config::default() },
            prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
        );
        runner.run(&damage, |(v6, bytes, cut)| {
            let inner =
                udp_packet(a.inner(v6), b.inner(v6), 0, b"thirty-two bytes of good payload");
            let mut packet = expected(&pair, format, outer_v6, Dscp::Zero, &inner);
            packet.truncate(packet.len() - cut.saturating_sub(20));
            for (at, byte) in bytes {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            // The frame says what the packet was, not what it is now.
            let mut frame = framed(&packet);
            frame[12..14].copy_from_slice(if outer_v6 { &[0x86, 0xdd] } else { &[8, 0] });
            let run = pair.tunnels[1].ingress().test_run(&frame, 1);
            let run = run.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let outcome = if run.answer == REDIRECT { &delivered } else { &refused };
            outcome.set(outcome.get() + 1);
            if run.answer == REDIRECT {
                let inner = &run.packet[14..];
                let [v4_from, v6_from] = a.subnets();
                let [v4_to, v6_to] = b.subnets();
                let (from, to, from_net, to_net, len) = match inner[0] >> 4 {
                    4 => {
                        let address =
                            |at: usize| <[u8; 4]>::try_from(&inner[at..at + 4]).expect("4").into();
                        (address(12), address(16), v4_from, v4_to, 0)
                    }
                    _ => {
                        let address = |at: usize| {
                            <[u8; 16]>::try_from(&inner[at..at + 16]).expect("16").into()
                        };
                        (address(8), address(24), v6_from, v6_to, 40)
                    }
                };
                let from: std::net::IpAddr = from;
                let to: std::net::IpAddr = to;
                let field = if len == 0 { 2 } else { 4 };
                let said = usize::from(u16::from_be_bytes([inner[field], inner[field + 1]])) + len;
                prop_assert!(from_net.contains(&from), "{from}");
                prop_assert!(to_net.contains(&to), "{to}");
                prop_assert!(said <= inner.len(), "{said} of {} bytes", inner.len());
            }
            Ok(())
        })?;
        assert!(delivered.get() > 100 && refused.get() > 100, "{delivered:?} {refused:?}");
    }
    Ok(())
}

/// The same from a real node, over the wire.
fn nothing_arrives() -> Outcome {
    let pair = pair(|node| node.options(), false, AttachOptions::default())?;
    let [a, b] = &pair.nodes;
    let receiver = b.listen(false)?;
    receiver.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
    let sender = a.plain_socket(false)?;
    let spoofed = udp_packet(ip("10.244.9.9"), b.inner(false), 0, b"spoofed");
    let good = udp_packet(a.inner(false), b.inner(false), 0, b"good");
    for packet in [&spoofed, &good, &spoofed] {
        sender.send_to(packet, (b.outer(false), 8285))?;
    }
    let mut buffer = [0; 100];
    assert_eq!(receiver.recv(&mut buffer)?, 4);
    assert!(receiver.recv(&mut buffer).is_err());
    let counters = pair.tunnels[1].counters()?;
    assert_eq!((counters.of(Reason::Spoofed), counters.received.packets), (2, 1));
    Ok(())
}
