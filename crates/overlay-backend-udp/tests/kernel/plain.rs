//! A second implementation of the format: a plain socket, one packet per datagram, and no offloads.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use overlay_backend::{BackendData, Peer};
use overlay_lab::{Host, PingRequest, ping, throughput};
use overlay_netlink::{Hop, Link, Route};
use overlay_wire::IpVersion;

use crate::fixture::{ETH0, PORT, Site, TUN, ip, name, net, over, paced, plug, site, subnets, udp};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 3] = [
    ("a plain socket reaches and is reached over IPv4", || interoperates(IpVersion::V4)),
    ("a plain socket reaches and is reached over IPv6", || interoperates(IpVersion::V6)),
    ("datagrams that come in fragments are put together", fragments),
];

/// A node with an own implementation: what it reads from a TUN device it sends, what it receives it writes.
struct Plain {
    host: Host,
    version: IpVersion,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

const NUMBER: u8 = 3;

impl Plain {
    fn new(site: &Site, version: IpVersion, mtu: u32) -> Result<Self, Box<dyn std::error::Error>> {
        let host = Host::new("plain")?;
        plug(&site.switch, &host, NUMBER)?;
        let tun = host.tun(TUN)?;
        host.mtu(TUN, mtu)?;
        host.set_up(TUN)?;
        host.addresses(TUN, &[net("10.244.3.2/32"), net("fd00:244:3::2/128")])?;
        let mut netlink = host.socket()?;
        for subnet in subnets(1) {
            let route = Route::to(subnet)
                .hop(Hop::dev(netlink.link(&name(TUN)).expect("a link").index.expect("a number")));
            netlink.add(&route).expect("a route");
        }
        let socket = udp(&host, underlay(NUMBER, version), PORT);
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let to = SocketAddr::new(underlay(1, version), PORT);
        let stop = Arc::new(AtomicBool::new(false));
        let threads = Self::carry(tun, socket, to, &stop)?;
        Ok(Self { host, version, stop, threads })
    }

    fn carry(
        tun: File,
        socket: UdpSocket,
        to: SocketAddr,
        stop: &Arc<AtomicBool>,
    ) -> std::io::Result<Vec<JoinHandle<()>>> {
        let (mut from_tun, mut to_tun) = (tun.try_clone()?, tun);
        let receiver = socket.try_clone()?;
        let stopped = Arc::clone(stop);
        let outward = std::thread::spawn(move || {
            let mut packet = [0; 65_536];
            // Ends when the device is deleted.
            while let Ok(len) = from_tun.read(&mut packet) {
                let _ = socket.send_to(&packet[..len], to);
            }
        });
        let inward = std::thread::spawn(move || {
            let mut packet = [0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(len) = receiver.recv(&mut packet) {
                    let _ = to_tun.write(&packet[..len]);
                }
            }
        });
        Ok(vec![outward, inward])
    }

    fn peer(&self) -> Peer {
        Peer {
            id: "plain".into(),
            subnets: subnets(NUMBER),
            endpoints: vec![underlay(NUMBER, self.version)],
            data: BackendData::default(),
        }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Ok(mut netlink) = self.host.socket() {
            let _ = netlink.delete(&Link::named(name(TUN)));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn underlay(number: u8, version: IpVersion) -> IpAddr {
    match version {
        IpVersion::V4 => ip(&format!("192.168.32.{number}")),
        IpVersion::V6 => ip(&format!("fd00:32::{number}")),
    }
}

fn inside(version: IpVersion) -> IpAddr {
    match version {
        IpVersion::V4 => ip("10.244.3.2"),
        IpVersion::V6 => ip("fd00:244:3::2"),
    }
}

fn interoperates(underlay: IpVersion) -> Outcome {
    let site = site()?;
    let plain = Plain::new(&site, underlay, 1500 - 28 - 20 * u32::from(underlay == IpVersion::V6))?;
    let a = &site.a;
    let program = a.program(&over(underlay)).with_peers([plain.peer()]);
    for version in IpVersion::ALL {
        let (here, there) = (a.container_address(version), inside(version));
        for (from, to) in [(&a.container, there), (&plain.host, here)] {
            for payload in [0, 1, 56, 1000, 1372, 1424, 4000, 20_000] {
                let request = PingRequest::to(to).count(2).payload(payload);
                // The first one may be lost to finding out the path MTU.
                ping(from, &request)?;
                let report = ping(from, &request)?;
                assert!(report.perfect(), "{payload} bytes to {to}: {report:?}");
            }
        }
        let there_socket = udp(&plain.host, there, 4000);
        let here_socket = udp(&a.container, here, 4000);
        let mut room = [0; 4096];
        for len in (0..1400_usize).step_by(13) {
            let sent: Vec<u8> = (0..len).map(|at| (at + len) as u8).collect();
            here_socket.send_to(&sent, (there, 4000))?;
            let received = there_socket.recv(&mut room)?;
            assert_eq!(room[..received], sent);
            there_socket.send_to(&sent, (here, 4000))?;
            let received = here_socket.recv(&mut room)?;
            assert_eq!(room[..received], sent);
        }
        let time = Duration::from_millis(300);
        for (from, to, address) in
            [(&a.container, &plain.host, there), (&plain.host, &a.container, here)]
        {
            let flow = throughput(from, to, address, time)?;
            assert!(
                flow.bits_per_second() > f64::from(paced(5_000_000)),
                "{flow:?} from {}",
                from.name()
            );
        }
    }
    let counters = program.counters();
    assert_eq!(counters.drops.of(overlay_backend_udp::DropReason::Malformed), 0, "{counters:?}");
    assert_eq!(counters.drops.of(overlay_backend_udp::DropReason::Spoofed), 0, "{counters:?}");
    Ok(())
}

/// The plain node's device is set up too large, so that the kernel cuts its datagrams.
fn fragments() -> Outcome {
    for underlay in IpVersion::ALL {
        let site = site()?;
        let plain = Plain::new(&site, underlay, 9000)?;
        // No path MTU discovery: datagrams are cut.
        plain.host.sysctl("net.ipv4.ip_no_pmtu_disc", 1)?;
        site.a.host.mtu(ETH0, 1500)?;
        let program = site.a.program(&over(underlay)).with_peers([plain.peer()]);
        let (here, there) = (site.a.container_address(IpVersion::V4), inside(IpVersion::V4));
        let (from, to) = (udp(&plain.host, there, 4000), udp(&site.a.container, here, 4000));
        if underlay == IpVersion::V6 {
            // The first one is lost to finding out that it is to be cut.
            from.send_to(&[0; 8000], (here, 4000))?;
        }
        let sent: Vec<u8> = (0..8000_usize).map(|at| at as u8).collect();
        from.send_to(&sent, (here, 4000))?;
        let mut room = [0; 9000];
        // The one of zeros may come first.
        let arrived = (0..2).any(|_| to.recv(&mut room).is_ok_and(|len| room[..len] == sent));
        assert!(arrived, "nothing arrived over {underlay}: {:?}", program.counters());
    }
    Ok(())
}
