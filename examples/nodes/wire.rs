//! What crosses the underlay while containers talk.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use overlay_lab::{Capture, Host, capture};
use overlay_wire::dissect::{Dissection, Dissector, Kind, Start};
use overlay_wire::icmpv4::Icmpv4Header;
use overlay_wire::icmpv6::Icmpv6Header;
use serde::{Deserialize, Serialize};

/// A capture on a host's `eth0`, in which pings are looked for.
pub struct Echoes(Capture);

/// A packet on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// As tcpdump would print it.
    pub text: String,
    /// Its headers behind the outermost Ethernet header, in the form `IPv4/UDP/VXLAN/Ethernet/IPv4/ICMP`.
    pub headers: String,
}

impl Echoes {
    /// Begins to look at the host's `eth0`.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn watch(host: &Host) -> anyhow::Result<Self> {
        Ok(Self(capture(host, "eth0")?))
    }

    /// An echo request from one address to another and its reply, whatever they are wrapped in.
    ///
    /// # Errors
    ///
    /// When they have not been seen within 2 seconds.
    pub fn seen(&self, src: IpAddr, dst: IpAddr) -> anyhow::Result<[Seen; 2]> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let dissector = Dissector::new(Start::Ethernet);
        let look = |wanted: Echo| {
            let frame = self
                .0
                .wait_for(PATIENCE, |frame| Echo::of(&dissector.dissect(frame)) == Some(wanted))
                .context("see a ping cross the underlay")?;
            let packet = dissector.dissect(&frame.bytes);
            let headers = packet.layers().filter(|layer| layer.kind != Kind::Payload);
            let headers: Vec<_> = headers.skip(1).map(|layer| layer.name()).collect();
            Ok::<_, anyhow::Error>(Seen { text: packet.to_string(), headers: headers.join("/") })
        };
        Ok([look(Echo::Request(src, dst))?, look(Echo::Reply(dst, src))?])
    }
}

/// What the innermost headers of a packet say, if they are those of an echo: source and destination.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Request(IpAddr, IpAddr),
    Reply(IpAddr, IpAddr),
}

impl Echo {
    fn of(packet: &Dissection<'_, '_>) -> Option<Self> {
        let mut addresses = None;
        for layer in packet.layers() {
            match layer.kind {
                Kind::Ipv4(ip) => addresses = Some((ip.src().into(), ip.dst().into())),
                Kind::Ipv6(ip) => addresses = Some((ip.src().into(), ip.dst().into())),
                Kind::Icmpv4(icmp) => {
                    let (src, dst) = addresses?;
                    return match icmp.header() {
                        Icmpv4Header::EchoRequest { .. } => Some(Self::Request(src, dst)),
                        Icmpv4Header::EchoReply { .. } => Some(Self::Reply(src, dst)),
                        _ => None,
                    };
                }
                Kind::Icmpv6(icmp) => {
                    let (src, dst) = addresses?;
                    return match icmp.header() {
                        Icmpv6Header::EchoRequest { .. } => Some(Self::Request(src, dst)),
                        Icmpv6Header::EchoReply { .. } => Some(Self::Reply(src, dst)),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        None
    }
}
