//! A node of the article, with a container.

use anyhow::Context;
use overlay_lab::Host;
use overlay_wire::IpVersion;

use crate::Addresses;

/// A host with a bridge and a container.
pub struct Machine {
    /// The host.
    pub host: Host,
    /// Its container.
    pub container: Host,
    /// The addresses of both.
    pub addresses: Addresses,
}

impl Machine {
    /// Makes the bridge and the container on a host. Its `eth0` is made elsewhere.
    ///
    /// # Errors
    ///
    /// When the host has devices of these names, or the kernel lacks bridges or veths.
    pub fn build(host: Host, addresses: Addresses) -> anyhow::Result<Self> {
        host.forwarding(true)?;
        let number = addresses.number;
        let bridge = format!("br{number}");
        let gateways = IpVersion::ALL.map(|version| addresses.bridge(version));
        host.bridge(&bridge, &gateways)?;
        let container = host.container(
            &format!("ns{number}"),
            &bridge,
            &format!("veth{number}"),
            &IpVersion::ALL.map(|version| addresses.container(version)),
            &gateways.map(|gateway| gateway.addr()),
        )?;
        Ok(Self { host, container, addresses })
    }

    /// Gives the container and what it hangs on the MTU of the overlay, as an agent would.
    ///
    /// # Errors
    ///
    /// When the MTU is outside what the devices can do.
    pub fn set_container_mtu(&self, mtu: u32) -> anyhow::Result<()> {
        let number = self.addresses.number;
        self.container.mtu("eth0", mtu).context("set the MTU of a container")?;
        self.host.mtu(&format!("veth{number}"), mtu)?;
        Ok(self.host.mtu(&format!("br{number}"), mtu)?)
    }
}
