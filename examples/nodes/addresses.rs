//! The addresses of the article.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_wire::IpVersion;

/// The addresses of one node, of both families.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// 245 or 246: what all the names end in.
    pub number: u16,
    /// The host's addresses in the underlay, IPv4 first.
    pub underlay: [IpNet; 2],
    /// The subnets of its containers, IPv4 first.
    pub subnets: [IpNet; 2],
}

impl Addresses {
    /// Those of a number, in network `net` of the underlay.
    ///
    /// # Errors
    ///
    /// When a number is larger than 255.
    pub fn of(number: u16, net: u16) -> anyhow::Result<Self> {
        let subnets =
            [format!("172.{number}.0.0/24").parse()?, format!("fd00:{number}::/64").parse()?];
        Ok(Self { number, underlay: Self::in_underlay(net, number)?, subnets })
    }

    /// The addresses with this number at the end in network `net` of the underlay, IPv4 first.
    ///
    /// # Errors
    ///
    /// When a number is larger than 255.
    pub fn in_underlay(net: u16, number: u16) -> anyhow::Result<[IpNet; 2]> {
        Ok([
            format!("192.168.{net}.{number}/24").parse()?,
            format!("fd00:{net}::{number}/64").parse()?,
        ])
    }

    /// The host's address in the underlay.
    #[must_use]
    pub fn host(&self, version: IpVersion) -> IpAddr {
        pick(self.underlay, version).addr()
    }

    /// The subnet of its containers.
    #[must_use]
    pub fn subnet(&self, version: IpVersion) -> IpNet {
        pick(self.subnets, version)
    }

    /// The bridge's address, with the subnet.
    #[must_use]
    pub fn bridge(&self, version: IpVersion) -> IpNet {
        nth(self.subnet(version), 1)
    }

    /// The container's address, with the subnet.
    #[must_use]
    pub fn container(&self, version: IpVersion) -> IpNet {
        nth(self.subnet(version), 2)
    }
}

fn pick(nets: [IpNet; 2], version: IpVersion) -> IpNet {
    let [v4, v6] = nets;
    match version {
        IpVersion::V4 => v4,
        IpVersion::V6 => v6,
    }
}

/// The address `n` places after the base of a subnet, with the subnet's prefix.
fn nth(subnet: IpNet, n: u8) -> IpNet {
    let address = match subnet.network() {
        IpAddr::V4(base) => IpAddr::from((u32::from(base) + u32::from(n)).to_be_bytes()),
        IpAddr::V6(base) => IpAddr::from((u128::from(base) + u128::from(n)).to_be_bytes()),
    };
    IpNet::new(address, subnet.prefix_len()).unwrap_or(subnet)
}
