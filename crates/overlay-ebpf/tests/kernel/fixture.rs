//! Two nodes on one link, each with a TUN device.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use overlay_ebpf::Tunnel;
use overlay_ebpf::tunnel::{AttachOptions, Attached, DEFAULT_PORT, Format, Remote, TunnelOptions};
use overlay_lab::{Host, connect};
use overlay_netlink::{IfName, Ifindex, Link, LinkFilter};
use overlay_wire::checksum::{Checksum, PseudoHeader};
use overlay_wire::{checksum, ip::IpProtocol};
use socket2::{Domain, Socket, Type};

pub(crate) const TUN: &str = "tun0";
pub(crate) const UNDERLAY: &str = "eth0";
pub(crate) const UDP: Format = Format::Udp { port: DEFAULT_PORT };

/// What fits into 1500 bytes with the largest headers there are here.
pub(crate) const INNER_MTU: u16 = 1500 - 48;

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

fn name(text: &str) -> IfName {
    IfName::new(text).expect("a name")
}

fn run(host: &Host, command: &str) {
    host.run(|| {
        let words: Vec<_> = command.split_whitespace().collect();
        let output = Command::new(words[0]).args(&words[1..]).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}");
    });
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
        run(&self.host, command);
    }

    pub(crate) fn ifindex(&self, name: &str) -> Ifindex {
        let mut socket = self.host.socket().expect("a socket");
        let links: Vec<Link> = socket.list(&LinkFilter::default()).expect("links");
        let name = self::name(name);
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

    /// The same with a bridge without ports in place of the TUN device.
    pub(crate) fn ethernet_options(&self) -> TunnelOptions {
        self.ip(&format!("ip link del {TUN}"));
        self.ip(&format!("ip link add {TUN} type bridge"));
        self.ip(&format!("ip link set {TUN} arp off up mtu {INNER_MTU}"));
        self.routes();
        let link = self.host.socket().expect("a socket").link(&name(TUN)).expect("a link");
        self.options().device_address(link.address.expect("an Ethernet device"))
    }

    fn routes(&self) {
        self.ip(&format!("ip route add 10.244.0.0/16 dev {TUN} src {}", self.inner(false)));
        self.ip(&format!("ip route add fd00:244::/32 dev {TUN} src {}", self.inner(true)));
    }

    pub(crate) fn tunnel(&self, options: &TunnelOptions, peer: &Self, v6: bool) -> Tunnel {
        let tunnel = Tunnel::load(options).unwrap_or_else(|error| panic!("{error}"));
        for subnet in peer.subnets() {
            tunnel.set_peer(subnet, &peer.remote(v6)).expect("a peer");
        }
        tunnel
    }

    /// This node as the other sees it.
    pub(crate) fn remote(&self, v6: bool) -> Remote {
        Remote::new(self.outer(v6), INNER_MTU)
    }

    pub(crate) fn attach(&self, tunnel: &Tunnel, options: AttachOptions) -> Attached {
        self.host.run(|| tunnel.attach(options)).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Node {
    /// Sends an inner packet as it is, by way of the routing table.
    pub(crate) fn send_raw(&self, packet: &[u8]) {
        let to = match packet[0] >> 4 {
            4 => IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).expect("4 bytes")),
            _ => IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).expect("16 bytes")),
        };
        const WITH_HEADER: i32 = 255;
        let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        self.host.run(|| {
            let socket =
                Socket::new(domain, Type::RAW, Some(WITH_HEADER.into())).expect("a socket");
            socket.send_to(packet, &SocketAddr::new(to, 0).into()).expect("a packet");
        });
    }

    /// A host behind this node, in its subnets, by way of `port0`.
    pub(crate) fn container(&self) -> Result<Host, overlay_lab::Error> {
        let container = Host::new("container")?;
        connect(&self.host, "port0", &container, "eth0")?;
        self.host.forwarding(true)?;
        for v6 in [false, true] {
            let len = if v6 { 128 } else { 32 };
            let (to, gateway) = (self.contained(v6), self.gateway(v6));
            self.host.addresses("port0", &[gateway.into()])?;
            self.ip(&format!("ip route add {to}/{len} dev port0"));
            container.addresses("eth0", &[to.into()])?;
            run(&container, &format!("ip route add {gateway} dev eth0"));
            run(&container, &format!("ip route add default via {gateway} dev eth0"));
        }
        Ok(container)
    }

    /// The container's address.
    pub(crate) fn contained(&self, v6: bool) -> IpAddr {
        let n = self.number;
        ip(&if v6 { format!("fd00:244:{n}::2") } else { format!("10.244.{n}.2") })
    }

    fn gateway(&self, v6: bool) -> IpAddr {
        let n = self.number;
        ip(&if v6 { format!("fd00:244:{n}::3") } else { format!("10.244.{n}.3") })
    }

    /// A socket that speaks the format of the tunnel without any program.
    pub(crate) fn plain_socket(&self, v6: bool) -> std::io::Result<UdpSocket> {
        let socket = self.host.run(|| UdpSocket::bind((self.outer(v6), DEFAULT_PORT)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        if v6 {
            crate::sys::allow_no_checksum(&socket)?;
        }
        Ok(socket)
    }

    /// Receives the payloads of packets of [`udp_packet`].
    pub(crate) fn listen(&self, v6: bool) -> std::io::Result<UdpSocket> {
        let socket = self.host.run(|| UdpSocket::bind((self.inner(v6), INNER_PORT)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }
}

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The ports of inner datagrams.
const INNER_PORT: u16 = 9000;

/// An inner packet: a datagram, complete with checksums.
pub(crate) fn udp_packet(from: IpAddr, to: IpAddr, class: u8, payload: &[u8]) -> Vec<u8> {
    let udp_len = (8 + payload.len()) as u16;
    let mut udp =
        [INNER_PORT.to_be_bytes(), INNER_PORT.to_be_bytes(), udp_len.to_be_bytes(), [0; 2]]
            .concat();
    udp.extend_from_slice(payload);
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = (20 + udp_len).to_be_bytes();
            let mut header =
                vec![0x45, class, total[0], total[1], 0x12, 0x34, 0x40, 0, 64, 17, 0, 0];
            header.extend(from.octets().into_iter().chain(to.octets()));
            let checksum = checksum::of(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let len = udp_len.to_be_bytes();
            let mut header = vec![0x60 | class >> 4, class << 4, 0, 0, len[0], len[1], 17, 64];
            header.extend(from.octets().into_iter().chain(to.octets()));
            header
        }
        _ => panic!("two versions"),
    };
    let pseudo = PseudoHeader::new(from, to).expect("one version");
    let sum = Checksum::new()
        .pseudo_header(&pseudo, IpProtocol::UDP, udp_len.into())
        .bytes(&udp)
        .finish();
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

/// Two nodes that have each other as peers.
pub(crate) struct Pair {
    pub(crate) nodes: [Node; 2],
    pub(crate) tunnels: [Tunnel; 2],
    pub(crate) attached: [Attached; 2],
}

pub(crate) fn pair(
    options: impl Fn(&Node) -> TunnelOptions,
    v6: bool,
    attach: AttachOptions,
) -> Result<Pair, overlay_lab::Error> {
    pair_of(&options, &options, v6, attach)
}

pub(crate) fn pair_of(
    a: impl Fn(&Node) -> TunnelOptions,
    b: impl Fn(&Node) -> TunnelOptions,
    v6: bool,
    attach: AttachOptions,
) -> Result<Pair, overlay_lab::Error> {
    let nodes = site()?;
    let tunnels = [
        nodes[0].tunnel(&a(&nodes[0]), &nodes[1], v6),
        nodes[1].tunnel(&b(&nodes[1]), &nodes[0], v6),
    ];
    let attached = [nodes[0].attach(&tunnels[0], attach), nodes[1].attach(&tunnels[1], attach)];
    Ok(Pair { nodes, tunnels, attached })
}

/// Without tunnels yet.
pub(crate) fn site() -> Result<[Node; 2], overlay_lab::Error> {
    let nodes = [Node::new(1)?, Node::new(2)?];
    connect(&nodes[0].host, UNDERLAY, &nodes[1].host, UNDERLAY)?;
    for node in &nodes {
        let outer = [(false, 24), (true, 64)]
            .map(|(v6, len)| IpNet::new(node.outer(v6), len).expect("not too long"));
        node.host.addresses(UNDERLAY, &outer)?;
        node.host.addresses("lo", &[node.inner(false).into(), node.inner(true).into()])?;
        node.ip(&format!("ip tuntap add {TUN} mode tun"));
        node.ip(&format!("ip link set {TUN} up mtu {INNER_MTU}"));
        node.routes();
    }
    Ok(nodes)
}
