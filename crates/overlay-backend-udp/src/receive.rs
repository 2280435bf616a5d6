//! From peers to the TUN device.

use std::io::IoSlice;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use overlay_wire::coalesce::{Coalesced, Coalescer, Options, datagrams};
use overlay_wire::ip::{Ecn, IpPacket};
use overlay_wire::segment::unfinished;
use overlay_wire::{ipv4, ipv6};
use rustix::io::Errno;

use crate::Lookup;
use crate::counters::{DropReason, Tally};
use crate::forwarder::Shared;
use crate::socket::{Datagrams, MAX_SEGMENTS};
use crate::tun::{Queue, TunLevel};

/// More than a receive can return.
const BUFFER: usize = 2 * 65_536;

/// Carries what one socket receives, until it is told to stop.
pub(crate) fn run(shared: &Shared, index: usize) {
    let (Some(queue), Some(socket), Some(tally)) = (
        shared.device.queues().get(index),
        shared.sockets.get(index),
        shared.tallies.receive.get(index),
    ) else {
        return;
    };
    let mut options = Options::default();
    options.udp = shared.device.level() == TunLevel::TcpAndUdp;
    let mut coalescer = Box::new(Coalescer::new(options));
    let mut buffer = vec![0; BUFFER];
    let (mut failures, mut overruns) = (0, 0);
    while !shared.stop.is_told() {
        match socket.receive(&mut buffer) {
            Ok(datagrams) => {
                failures = 0;
                if let Some(now) = datagrams.overruns {
                    let more = now.wrapping_sub(std::mem::replace(&mut overruns, now));
                    tally.dropped(DropReason::Overrun, more as usize);
                }
                take(shared, queue, tally, &mut coalescer, &mut buffer, datagrams);
            }
            Err(Errno::AGAIN) => {
                failures = 0;
                if shared.stop.wait_for(socket) {
                    shared.hear(socket);
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => {
                // What the underlay reports is an error of the next call, and then gone.
                shared.hear(socket);
                failures += 1;
                if failures > 100 {
                    shared.stop.pause(Duration::from_millis(10));
                }
            }
        }
    }
}

/// Hands over to the kernel what of the datagrams is to be delivered here.
fn take(
    shared: &Shared,
    queue: &Queue,
    tally: &Tally,
    coalescer: &mut Coalescer<MAX_SEGMENTS>,
    buffer: &mut [u8],
    received: Datagrams,
) {
    if received.is_cut {
        return tally.dropped(DropReason::Truncated, 1);
    }
    if received.len == 0 {
        return tally.dropped(DropReason::Malformed, 1);
    }
    let mut ranges = datagrams(received.len, received.each);
    let (mut packets, mut bytes) = (0, 0);
    while ranges.len() > 0 {
        // Changes of the table wait for no system call.
        let mut judge = Judge::new(shared.peers.lookup(), &shared.subnets, received.source);
        for range in ranges.by_ref().take(MAX_SEGMENTS) {
            let Some(packet) = buffer.get_mut(range.clone()) else { break };
            let judged = judge
                .judge(packet, received.ecn)
                .and_then(|()| coalescer.push(buffer, range).map_err(|_| DropReason::Malformed));
            if let Err(reason) = judged {
                tally.dropped(reason, 1);
            }
        }
        drop(judge);
        for packet in coalescer.finish(buffer) {
            match write(queue, shared.mtu, buffer, &packet) {
                Ok(()) => {
                    tally.super_packets.add(1);
                    packets += packet.packets();
                    bytes += bytes_before(&packet);
                }
                Err(reason) => tally.dropped(reason, packet.packets()),
            }
        }
        coalescer.clear();
    }
    if packets > 0 {
        tally.train(packets, bytes);
    }
}

/// One packet, or several that have become one, in one system call.
///
/// A peer that believes that there are programs here, as there may have been a moment ago, sends what is not finished; on the
/// same machine that is how it arrives.
fn write(
    queue: &Queue,
    mtu: usize,
    buffer: &[u8],
    packet: &Coalesced<'_>,
) -> Result<(), DropReason> {
    let header = packet.header().to_bytes();
    let mut payloads = packet.pieces().map(|piece| buffer.get(piece).unwrap_or_default());
    let result = if packet.packets() == 1 {
        let alone = payloads.next().unwrap_or_default();
        let header = unfinished(alone, mtu).map_or(header, |header| header.to_bytes());
        queue.write(&[IoSlice::new(&header), IoSlice::new(alone)])
    } else {
        let mut pieces = [IoSlice::new(&header); MAX_SEGMENTS + 1];
        let behind = pieces.iter_mut().skip(1);
        behind.zip(payloads).for_each(|(to, payload)| *to = IoSlice::new(payload));
        queue.write(pieces.get(..=packet.packets()).unwrap_or_default())
    };
    result.map_err(|errno| match errno {
        Errno::IO | Errno::BADFD | Errno::NODEV | Errno::NXIO => DropReason::DeviceDown,
        _ => DropReason::DeviceRefused,
    })
}

/// Bytes of the packets that have become one, each with its headers.
fn bytes_before(packet: &Coalesced<'_>) -> usize {
    let header_len = packet.header().gso.map_or(0, |gso| gso.header_len.into());
    packet.len() + packet.packets().saturating_sub(1) * header_len
}

/// Says which packets are to be delivered here, of those in datagrams from one peer.
struct Judge<'a> {
    lookup: Lookup<'a>,
    subnets: &'a [IpNet],
    outer: IpAddr,
    /// The inner addresses of the last packet that was right: the next one usually has the same.
    last: Option<(IpAddr, IpAddr)>,
}

impl<'a> Judge<'a> {
    const fn new(lookup: Lookup<'a>, subnets: &'a [IpNet], outer: IpAddr) -> Self {
        Self { lookup, subnets, outer, last: None }
    }

    /// Whether a packet is to be delivered; if so, what its outer header said about congestion is in it.
    fn judge(&mut self, bytes: &mut [u8], outer: Ecn) -> Result<(), DropReason> {
        let packet = IpPacket::parse_cut(bytes).map_err(|_| DropReason::Malformed)?;
        let (src, dst) = (packet.src(), packet.dst());
        if self.last != Some((src, dst)) {
            // Also what is from this node itself, or from nobody, has no business to come from there.
            if self.lookup.owner(src).is_none_or(|remote| remote.endpoint != self.outer) {
                return Err(DropReason::Spoofed);
            }
            if !self.subnets.iter().any(|subnet| subnet.contains(&dst)) {
                return Err(DropReason::NotHere);
            }
            self.last = Some((src, dst));
        }
        let inner = packet.ecn();
        let is_v4 = matches!(packet, IpPacket::V4(_));
        let ecn = inner.decapsulated(outer).ok_or(DropReason::Congestion)?;
        if ecn != inner {
            let set = if is_v4 { ipv4::set_ecn(bytes, ecn) } else { ipv6::set_ecn(bytes, ecn) };
            set.map_err(|_| DropReason::Malformed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Peers;
    use overlay_backend::{BackendData, DataPath, Peer};
    use overlay_wire::IpVersion;
    use overlay_wire::ip::IpProtocol;
    use overlay_wire::ipv4::Ipv4Header;
    use proptest::prelude::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn peers() -> Peers {
        let peers = Peers::new(IpVersion::V4);
        peers.set_peer(&Peer {
            id: "vm2".into(),
            subnets: vec!["10.0.2.0/24".parse().unwrap(), "fd00:2::/64".parse().unwrap()],
            endpoints: vec![PEER],
            data: BackendData::default(),
        });
        peers
    }

    fn subnets() -> [IpNet; 2] {
        ["10.0.1.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()]
    }

    fn packet(ecn: Ecn) -> Vec<u8> {
        let mut packet = vec![0; 40];
        let (src, dst) = ([10, 0, 2, 7].into(), [10, 0, 1, 7].into());
        let header = Ipv4Header { ecn, ..Ipv4Header::new(src, dst, IpProtocol::UDP) };
        header.emit(&mut packet).unwrap();
        packet
    }

    #[test]
    fn marks_of_routers_come_in_where_they_may() {
        let (peers, subnets) = (peers(), subnets());
        let mut judge = Judge::new(peers.lookup(), &subnets, PEER);
        for (inner, outer, expected) in [
            (Ecn::NotEct, Ecn::NotEct, Ok(Ecn::NotEct)),
            (Ecn::NotEct, Ecn::Ect0, Ok(Ecn::NotEct)),
            (Ecn::NotEct, Ecn::Ce, Err(DropReason::Congestion)),
            (Ecn::Ect0, Ecn::Ce, Ok(Ecn::Ce)),
            (Ecn::Ect0, Ecn::Ect1, Ok(Ecn::Ect1)),
            (Ecn::Ce, Ecn::NotEct, Ok(Ecn::Ce)),
        ] {
            let mut bytes = packet(inner);
            let judged = judge.judge(&mut bytes, outer).map(|()| {
                let IpPacket::V4(packet) = IpPacket::parse(&bytes).unwrap() else { panic!() };
                assert!(packet.is_checksum_valid());
                packet.ecn()
            });
            assert_eq!(judged, expected, "{inner:?} in {outer:?}");
        }
    }

    proptest! {
        /// Whatever comes, and in whichever order: what is let in is from the peer's subnets, and to ours.
        #[test]
        fn only_what_belongs_here_comes_in(
            packets in proptest::collection::vec(
                (
                    prop_oneof![Just([10_u8, 0, 2, 7]), Just([10, 0, 2, 8]), any::<[u8; 4]>()],
                    prop_oneof![Just([10_u8, 0, 1, 7]), Just([10, 0, 2, 7]), any::<[u8; 4]>()],
                    any::<bool>(),
                ),
                1..20,
            ),
            noise in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let (peers, subnets) = (peers(), subnets());
            for (outer, is_peer) in [(PEER, true), (IpAddr::from([192, 0, 2, 3]), false)] {
                let mut judge = Judge::new(peers.lookup(), &subnets, outer);
                for (src, dst, is_whole) in &packets {
                    let mut bytes = vec![0; 40];
                    let header = Ipv4Header::new((*src).into(), (*dst).into(), IpProtocol::UDP);
                    header.emit(&mut bytes).unwrap();
                    bytes.truncate(if *is_whole { 40 } else { 19 });
                    let belongs = src.starts_with(&[10, 0, 2]) && dst.starts_with(&[10, 0, 1]);
                    let judged = judge.judge(&mut bytes, Ecn::NotEct);
                    prop_assert_eq!(judged.is_ok(), is_peer && belongs && *is_whole);
                }
                let mut noise = noise.clone();
                let judged = judge.judge(&mut noise, Ecn::Ce);
                prop_assert!(judged.is_err() || is_peer);
            }
        }
    }
}
