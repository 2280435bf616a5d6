//! What a tunnel is made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use overlay_netlink::Ifindex;
use overlay_wire::MacAddr;

use super::abi;
use crate::error::Error;

/// Flannel's port of its udp backend.
pub const DEFAULT_PORT: u16 = 8285;

/// What stands between the outer IP header and the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// A UDP header, to this port: the format of Flannel's udp backend, and of FOU.
    Udp {
        /// The port of all nodes.
        port: u16,
    },
    /// Nothing (RFC 2003, RFC 4213, RFC 2473).
    IpInIp,
}

/// What outer UDP headers name as their source port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourcePort {
    /// The tunnel's port, so that ICMP errors find the socket that is bound to it.
    #[default]
    Fixed,
    /// A port from 49152 on that follows from the inner flow, so that routers and network cards spread flows.
    FlowHash,
}

/// What outer headers say in the field for differentiated services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dscp {
    /// 0.
    #[default]
    Zero,
    /// What the inner header says (the uniform model of RFC 2983).
    Inherit,
}

/// On which device packets arrive that were in outer headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arrival {
    /// On the tunnel's device, where captures, firewalls and reverse path filters expect them.
    #[default]
    Device,
    /// On the underlay device, which saves each packet a queue, and lets GRO work behind XDP. A strict reverse path filter
    /// (`rp_filter` 1, RFC 3704) drops them there, since the way back leads through the tunnel's device.
    Underlay,
}

/// What a [`Tunnel`](super::Tunnel) is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelOptions {
    /// Names the maps and programs, and marks clsact filters as this tunnel's.
    pub name: String,
    /// The device that carries inner packets: a TUN device, or an Ethernet device.
    pub device: Ifindex,
    /// The hardware address of that device where it has Ethernet headers, as a bridge has; none on a TUN device.
    pub device_address: Option<MacAddr>,
    /// The underlay device, which carries outer packets: an Ethernet device.
    pub underlay: Ifindex,
    /// This node's addresses in the underlay, at most one of each version.
    pub local: Vec<IpAddr>,
    /// This node's subnets: where inner packets may go that arrive.
    pub subnets: Vec<IpNet>,
    /// What the packets look like.
    pub format: Format,
    /// The source port of outer UDP headers.
    pub source_port: SourcePort,
    /// The differentiated services of outer headers.
    pub dscp: Dscp,
    /// Where inner packets arrive.
    pub arrival: Arrival,
    /// The time to live, or hop limit, of outer headers.
    pub ttl: u8,
    /// The most prefixes of peers of each version.
    pub capacity: u32,
}

impl TunnelOptions {
    /// A tunnel in Flannel's format on a TUN device, with everything else as usual.
    #[must_use]
    pub fn new(device: Ifindex, underlay: Ifindex) -> Self {
        Self {
            name: "overlay".to_owned(),
            device,
            device_address: None,
            underlay,
            local: Vec::new(),
            subnets: Vec::new(),
            format: Format::Udp { port: DEFAULT_PORT },
            source_port: SourcePort::Fixed,
            dscp: Dscp::Zero,
            arrival: Arrival::Device,
            ttl: 64,
            capacity: 1 << 20,
        }
    }

    /// With another name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// With a device that has Ethernet headers, and this hardware address.
    #[must_use]
    pub const fn device_address(mut self, address: MacAddr) -> Self {
        self.device_address = Some(address);
        self
    }

    /// With an address of this node.
    #[must_use]
    pub fn local(mut self, address: IpAddr) -> Self {
        self.local.push(address);
        self
    }

    /// With a subnet of this node.
    #[must_use]
    pub fn subnet(mut self, subnet: IpNet) -> Self {
        self.subnets.push(subnet);
        self
    }

    /// In another format.
    #[must_use]
    pub const fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// With other source ports.
    #[must_use]
    pub const fn source_port(mut self, source_port: SourcePort) -> Self {
        self.source_port = source_port;
        self
    }

    /// With other differentiated services.
    #[must_use]
    pub const fn dscp(mut self, dscp: Dscp) -> Self {
        self.dscp = dscp;
        self
    }

    /// With inner packets that arrive there.
    #[must_use]
    pub const fn arrival(mut self, arrival: Arrival) -> Self {
        self.arrival = arrival;
        self
    }
}

/// The most subnets of one version: each is a few instructions.
const MAX_SUBNETS: usize = 64;

/// Options that do not contradict themselves, sorted by version.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) device: Ifindex,
    pub(super) device_address: Option<MacAddr>,
    pub(super) underlay: Ifindex,
    pub(super) local_v4: Option<Ipv4Addr>,
    pub(super) local_v6: Option<Ipv6Addr>,
    pub(super) subnets_v4: Vec<Ipv4Net>,
    pub(super) subnets_v6: Vec<Ipv6Net>,
    pub(super) format: Format,
    pub(super) source_port: SourcePort,
    pub(super) dscp: Dscp,
    pub(super) arrival: Arrival,
    pub(super) ttl: u8,
}

impl Plan {
    /// Bytes in front of the inner packets that the device carries.
    pub(super) const fn link_len(&self) -> i16 {
        match self.device_address {
            Some(_) => abi::ETHERNET,
            None => 0,
        }
    }

    pub(super) fn new(options: &TunnelOptions) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Options { tunnel: options.name.clone(), reason };
        let mut plan = Self {
            device: options.device,
            device_address: options.device_address,
            underlay: options.underlay,
            local_v4: None,
            local_v6: None,
            subnets_v4: Vec::new(),
            subnets_v6: Vec::new(),
            format: options.format,
            source_port: options.source_port,
            dscp: options.dscp,
            arrival: options.arrival,
            ttl: options.ttl,
        };
        for address in &options.local {
            let before = match address {
                IpAddr::V4(v4) => plan.local_v4.replace(*v4).map(IpAddr::V4),
                IpAddr::V6(v6) => plan.local_v6.replace(*v6).map(IpAddr::V6),
            };
            if let Some(before) = before {
                return Err(refuse(format!("two addresses of one version: {before}, {address}")));
            }
        }
        for subnet in &options.subnets {
            match subnet {
                IpNet::V4(net) => plan.subnets_v4.push(net.trunc()),
                IpNet::V6(net) => plan.subnets_v6.push(net.trunc()),
            }
        }
        if plan.local_v4.is_none() && plan.local_v6.is_none() {
            return Err(refuse("no address of this node".to_owned()));
        }
        if plan.subnets_v4.len().max(plan.subnets_v6.len()) > MAX_SUBNETS {
            return Err(refuse(format!("more than {MAX_SUBNETS} subnets of one version")));
        }
        if plan.format == (Format::Udp { port: 0 }) {
            return Err(refuse("port 0".to_owned()));
        }
        if plan.ttl == 0 {
            return Err(refuse("a time to live of 0".to_owned()));
        }
        Ok(plan)
    }
}
