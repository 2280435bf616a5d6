//! What crosses the underlay while containers talk.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use overlay_lab::{PingRequest, capture, ping};
use overlay_wire::IpVersion;
use overlay_wire::dissect::{Dissection, Dissector, Kind, Start};
use overlay_wire::icmpv4::Icmpv4Header;
use overlay_wire::icmpv6::Icmpv6Header;

use crate::setup::Setup;

/// An echo request from container to container and its reply as the underlay sees them, a line each.
pub(crate) fn echo_on_the_wire(setup: &Setup, version: IpVersion) -> anyhow::Result<Vec<String>> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let [vm1, vm2] = setup.vms();
    let [src, dst] = [vm1.container_address(version), vm2.container_address(version)];
    let seen = capture(&vm1.host, "eth0")?;
    ping(&vm1.container, &PingRequest::to(dst).count(1).timeout(PATIENCE))?;
    let dissector = Dissector::new(Start::Ethernet);
    [Echo::Request(src, dst), Echo::Reply(dst, src)]
        .into_iter()
        .map(|wanted| {
            let frame = seen
                .wait_for(PATIENCE, |frame| Echo::of(&dissector.dissect(frame)) == Some(wanted))
                .context("see a ping cross the underlay")?;
            Ok(dissector.dissect(&frame.bytes).to_string())
        })
        .collect()
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
