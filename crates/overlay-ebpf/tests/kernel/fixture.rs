//! Two nodes on one link, each with a TUN device.

use std::net::IpAddr;
use std::process::Command;

use ipnet::IpNet;
use overlay_ebpf::Tunnel;
use overlay_ebpf::tunnel::{AttachOptions, Attached, Remote, TunnelOptions};
use overlay_lab::{Host, connect};
use overlay_netlink::{IfName, Ifindex, Link, LinkFilter};

use crate::Outcome;

pub(crate) const TUN: &str = "tun0";
pub(crate) const UNDERLAY: &str = "eth0";

pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) number: u8,
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

impl Node {
    fn new(number: u8) -> Result<Self, overlay_lab::Error> {
        Ok(Self { host: Host::new(&format!("node{number}"))?, number })
    }

    pub(crate) fn outer(&self, v6: bool) -> IpAddr {
        let n = self.number;
        ip(&if v6 { format!("fd00:32::{n}") } else { format!("192.168.32.{n}") })
    }

    pub(crate) fn inner(&self, v6: bool) -> IpAddr {
        let n = self.number;
        ip(&if v6 { format!("fd00:244:{n}::1") } else { format!("10.244.{n}.1") })
    }

    pub(crate) fn subnets(&self) -> [IpNet; 2] {
        let n = self.number;
        [net(&format!("10.244.{n}.0/24")), net(&format!("fd00:244:{n}::/64"))]
    }

    pub(crate) fn ip(&self, command: &str) {
        self.host.run(|| {
            let words: Vec<_> = command.split_whitespace().collect();
            let output = Command::new(words[0]).args(&words[1..]).output().expect("runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {said}");
        });
    }

    pub(crate) fn ifindex(&self, name: &str) -> Ifindex {
        let mut socket = self.host.socket().expect("a socket");
        let links: Vec<Link> = socket.list(&LinkFilter::default()).expect("links");
        let name = IfName::new(name).expect("a name");
        links.into_iter().find(|link| link.name == name).expect("a link").index.expect("a number")
    }

    pub(crate) fn options(&self) -> TunnelOptions {
        let mut options = TunnelOptions::new(self.ifindex(TUN), self.ifindex(UNDERLAY))
            .name(&format!("node{}", self.number))
            .local(self.outer(false))
            .local(self.outer(true));
        options.subnets = self.subnets().into();
        options
    }

    pub(crate) fn tunnel(&self, options: &TunnelOptions, peer: &Self, v6: bool) -> Tunnel {
        let tunnel = Tunnel::load(options).unwrap_or_else(|error| panic!("{error}"));
        let remote = Remote::new(peer.outer(v6), 1420);
        for subnet in peer.subnets() {
            tunnel.set_peer(subnet, &remote).expect("a peer");
        }
        tunnel
    }

    pub(crate) fn attach(&self, tunnel: &Tunnel, options: AttachOptions) -> Attached {
        self.host.run(|| tunnel.attach(options)).unwrap_or_else(|error| panic!("{error}"))
    }
}

pub(crate) fn site() -> Result<[Node; 2], overlay_lab::Error> {
    let nodes = [Node::new(1)?, Node::new(2)?];
    connect(&nodes[0].host, UNDERLAY, &nodes[1].host, UNDERLAY)?;
    for node in &nodes {
        node.host.addresses(
            UNDERLAY,
            &[
                IpNet::new(node.outer(false), 24).expect("short"),
                IpNet::new(node.outer(true), 64).expect("short"),
            ],
        )?;
        node.host.addresses("lo", &[node.inner(false).into(), node.inner(true).into()])?;
        node.ip(&format!("ip tuntap add {TUN} mode tun"));
        node.ip(&format!("ip link set {TUN} up mtu 1420"));
        node.ip(&format!("ip route add 10.244.0.0/16 dev {TUN} src {}", node.inner(false)));
        node.ip(&format!("ip route add fd00:244::/32 dev {TUN} src {}", node.inner(true)));
    }
    Ok(nodes)
}

pub(crate) fn done() -> Outcome {
    Ok(())
}
