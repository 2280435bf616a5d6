//! What must not be delivered is not, and is counted by its reason.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use overlay_backend_udp::DropReason;
use overlay_lab::{Host, PingRequest, capture, ping};
use overlay_wire::IpVersion;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv4::{self, Ipv4Header};
use overlay_wire::ipv6::{self, Ipv6Header};
use overlay_wire::udp::{self, UdpHeader};

use crate::fixture::{
    ETH0, PORT, Program, Site, Spot, ip, joined, over, plug, reach, site, within,
};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 3] = [
    ("what a peer may not send is dropped and counted over IPv4", || refused(IpVersion::V4)),
    ("what a peer may not send is dropped and counted over IPv6", || refused(IpVersion::V6)),
    ("a good flow goes on beside a flood of nonsense", flood),
];

/// An inner packet, to be sent by hand.
pub(crate) struct Inner<'a> {
    src: IpAddr,
    dst: IpAddr,
    payload: &'a [u8],
    ecn: u8,
}

impl<'a> Inner<'a> {
    pub(crate) fn udp(src: IpAddr, dst: IpAddr, payload: &'a [u8]) -> Self {
        Self { src, dst, payload, ecn: 0 }
    }

    pub(crate) fn ecn(mut self, ecn: u8) -> Self {
        self.ecn = ecn;
        self
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        let addresses = PseudoHeader::new(self.src, self.dst).expect("one family");
        let ip_len = if self.src.is_ipv4() { ipv4::LEN } else { ipv6::LEN };
        let mut packet = vec![0; ip_len + udp::LEN];
        packet.extend(self.payload);
        let udp = UdpHeader { src_port: 4000, dst_port: 4000 };
        udp.emit(&mut packet[ip_len..], Some(&addresses)).expect("room");
        let ecn = overlay_wire::ip::Ecn::of(self.ecn);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header { ecn, ..Ipv4Header::new(src, dst, IpProtocol::UDP) };
                header.emit(&mut packet).expect("room");
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header { ecn, ..Ipv6Header::new(src, dst, IpProtocol::UDP) };
                header.emit(&mut packet).expect("room");
            }
            _ => unreachable!("the addresses are of one family"),
        }
        packet
    }
}

/// A stranger on the underlay, and the peer's own address with another program behind it.
struct Attack {
    stranger: UdpSocket,
    to: (IpAddr, u16),
}

fn attack(site: &Site, underlay: IpVersion) -> overlay_lab::Result<(Host, Attack)> {
    let host = Host::new("stranger")?;
    plug(&site.switch, &host, 66)?;
    let address = match underlay {
        IpVersion::V4 => ip("192.168.32.66"),
        IpVersion::V6 => ip("fd00:32::66"),
    };
    let stranger = crate::fixture::udp(&host, address, PORT);
    Ok((host, Attack { stranger, to: (site.a.outside(underlay), PORT) }))
}

/// The peer's part is played by hand, so that it can misbehave.
fn refused(underlay: IpVersion) -> Outcome {
    let site = site()?;
    let (a, b) = (&site.a, &site.b);
    let (_stranger, attack) = attack(&site, underlay)?;
    let program = a.program(&over(underlay)).with_peers([b.peer()]);
    let peer = crate::fixture::udp(&b.host, b.outside(underlay), PORT);
    let delivered = capture(&a.container, ETH0)?;

    let [here4, here6] = a.inside();
    let [there4, there6] = b.inside();
    let good4 = Inner::udp(there4, here4, b"good 4").packet();
    let good6 = Inner::udp(there6, here6, b"good 6").packet();
    let with = |packet: &[u8], at: usize, byte: u8| {
        let mut packet = packet.to_vec();
        packet[at] = byte;
        packet
    };
    let bad = |src: IpAddr, dst: IpAddr| Inner::udp(src, dst, b"bad").packet();
    let cases: Vec<(DropReason, &UdpSocket, Vec<u8>)> = vec![
        (DropReason::Spoofed, &attack.stranger, good4.clone()),
        (DropReason::Spoofed, &attack.stranger, good6.clone()),
        (DropReason::Spoofed, &peer, bad(ip("10.244.3.2"), here4)),
        (DropReason::Spoofed, &peer, bad(ip("fd00:244:3::2"), here6)),
        (DropReason::Spoofed, &peer, bad(here4, ip("10.244.1.1"))),
        (DropReason::Spoofed, &peer, bad(ip("127.0.0.1"), here4)),
        (DropReason::Spoofed, &peer, bad(ip("fe80::1"), here6)),
        (DropReason::NotHere, &peer, bad(there4, ip("192.168.32.1"))),
        (DropReason::NotHere, &peer, bad(there4, ip("10.244.3.2"))),
        (DropReason::NotHere, &peer, bad(there4, ip("127.0.0.1"))),
        (DropReason::NotHere, &peer, bad(there4, ip("224.0.0.1"))),
        (DropReason::NotHere, &peer, bad(there4, ip("255.255.255.255"))),
        (DropReason::NotHere, &peer, bad(there6, ip("ff02::1"))),
        (DropReason::NotHere, &peer, bad(there6, ip("fd00:32::1"))),
        (DropReason::Malformed, &peer, Vec::new()),
        (DropReason::Malformed, &peer, vec![0x45]),
        (DropReason::Malformed, &peer, vec![0; 100]),
        (DropReason::Malformed, &peer, with(&good4, 0, 0x44)),
        (DropReason::Malformed, &peer, with(&good4, 0, 0x55)),
        (DropReason::Malformed, &peer, good4[..good4.len() - 1].to_vec()),
        (DropReason::Malformed, &peer, [&good4[..], b"behind"].concat()),
        (DropReason::Malformed, &peer, good6[..39].to_vec()),
        (DropReason::Malformed, &peer, good6[..good6.len() - 1].to_vec()),
        (DropReason::Malformed, &peer, [&good6[..], &[0]].concat()),
        // The family of the other.
        (DropReason::Malformed, &peer, with(&good4, 0, 0x65)),
        (DropReason::Malformed, &peer, with(&good6, 0, 0x45)),
    ];
    let mut expected = program.counters().drops;
    for (reason, socket, datagram) in cases {
        let before = expected.of(reason);
        socket.send_to(&datagram, attack.to)?;
        let counted = || program.counters().drops.of(reason) == before + 1;
        let what = || format!("{reason} of {datagram:02x?}: {:?}", program.counters().drops);
        within(Duration::from_secs(10), counted).unwrap_or_else(|| panic!("{}", what()));
        expected = program.counters().drops;
    }
    // Long ones that are good are delivered, and one that says it is longer is not.
    let long = Inner::udp(there4, here4, &[b'x'; 60_000]).packet();
    peer.send_to(&long, attack.to)?;
    let has = |frame: &[u8], text: &[u8]| frame.windows(text.len()).any(|it| it == text);
    for (datagram, text) in [(&good4, b"good 4"), (&good6, b"good 6")] {
        peer.send_to(datagram, attack.to)?;
        delivered.wait_for(Duration::from_secs(2), |frame| has(frame, text))?;
    }
    assert!(delivered.frames().iter().all(|frame| !has(&frame.bytes, b"bad")));
    let all = || program.counters().received.packets == 3;
    within(Duration::from_secs(10), all).expect("three have been delivered, and no more");
    Ok(())
}

fn flood() -> Outcome {
    let site = site()?;
    let (a, b) = (&site.a, &site.b);
    let (_stranger, attack) = attack(&site, IpVersion::V4)?;
    let (at_a, _at_b) = joined(a, b, &over(IpVersion::V4));
    std::thread::scope(|scope| -> Outcome {
        let attacker = scope.spawn(|| nonsense(&attack, a, Duration::from_secs(2)));
        let request = PingRequest::to(b.container_address(IpVersion::V4))
            .count(80)
            .interval(Duration::from_millis(20));
        let report = ping(&a.container, &request)?;
        let sent = attacker.join().expect("the attacker has ended");
        let (asked, answered) = (report.sent, report.received);
        // Some are lost with the others where they wait for the program.
        assert!(answered * 2 >= asked, "{answered} of {asked} beside {sent} datagrams");
        Ok(())
    })?;
    settled(&at_a);
    let counters = at_a.counters();
    assert!(counters.drops.of(DropReason::Malformed) > 100, "{counters:?}");
    assert!(counters.drops.of(DropReason::Spoofed) > 100, "{counters:?}");
    // Pings and their replies, and nothing else.
    assert!(counters.received.packets <= 80 + 10, "{counters:?}");
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

/// Sends datagrams that are nothing, almost something, or somebody else's; returns how many.
fn nonsense(attack: &Attack, a: &Spot, time: Duration) -> u64 {
    let start = std::time::Instant::now();
    let good =
        Inner::udp(ip("10.244.2.2"), a.container_address(IpVersion::V4), &[7; 1000]).packet();
    let (mut state, mut sent) = (1_u64, 0);
    while start.elapsed() < time {
        // A linear congruence is random enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (state >> 33) as usize;
        let mut datagram = good.clone();
        match random % 4 {
            0 => datagram.truncate(random / 4 % good.len()),
            1 => datagram[random / 4 % 20] = (random >> 8) as u8,
            2 => datagram = vec![random as u8; random / 4 % 4000],
            _ => {}
        }
        sent += u64::from(attack.stranger.send_to(&datagram, attack.to).is_ok());
    }
    sent
}

/// Waits until nothing arrives any more.
fn settled(program: &Program) {
    let mut before = program.counters().drops.total();
    let quiet = || {
        std::thread::sleep(Duration::from_millis(50));
        let now = program.counters().drops.total();
        std::mem::replace(&mut before, now) == now
    };
    within(Duration::from_secs(5), quiet).expect("the flood ends");
}
