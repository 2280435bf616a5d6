//! Cables, switches, bridges and containers.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use overlay_netlink::Bridge;

use crate::error::Result;
use crate::host::Host;
use crate::links;
use crate::wire::{Wire, WireConfig};

/// Joins two hosts by a cable: a veth pair, both ends up and running.
///
/// # Errors
///
/// When one of the hosts has a device of that name already.
pub fn connect(a: &Host, a_device: &str, b: &Host, b_device: &str) -> Result<()> {
    links::add_veth(a, a_device, b, b_device)?;
    a.wait_running(a_device)?;
    b.wait_running(b_device)
}

/// An Ethernet switch: a bridge in a host of its own, into which hosts are plugged.
#[derive(Clone, Debug)]
pub struct Switch {
    host: Host,
    ports: Arc<AtomicU32>,
}

/// The switch's one bridge.
const BRIDGE: &str = "br0";

impl Switch {
    /// Makes a switch without ports. The name is for people.
    ///
    /// # Errors
    ///
    /// As [`Host::new`].
    pub fn new(name: &str) -> Result<Self> {
        let host = Host::new(name)?;
        // The switch is not a host on the network it carries.
        host.sysctl("net.ipv6.conf.default.disable_ipv6", 1)?;
        let mut bridge = Bridge::default();
        // Without a querier it would guess who wants which group.
        bridge.mcast_snooping = Some(false);
        links::add_bridge(&host, BRIDGE, bridge)?;
        Ok(Self { host, ports: Arc::default() })
    }

    /// Gives a host a device on the switch, with addresses, up and running. Returns the name of the
    /// switch's port, `p0` for the first.
    ///
    /// # Errors
    ///
    /// When the host has a device of that name already.
    pub fn plug(&self, host: &Host, device: &str, addresses: &[IpNet]) -> Result<String> {
        let port = self.next_port();
        links::add_veth(host, device, &self.host, &port)?;
        links::set_master(&self.host, &port, BRIDGE)?;
        host.addresses(device, addresses)?;
        host.wait_running(device)?;
        self.host.wait_running(&port)?;
        self.host.wait_running(BRIDGE)?;
        Ok(port)
    }

    /// Gives a host a device on the switch by a cable that loses and delays.
    ///
    /// # Errors
    ///
    /// As [`Wire::new`].
    pub fn plug_wire(
        &self,
        host: &Host,
        device: &str,
        addresses: &[IpNet],
        config: WireConfig,
        seed: u64,
    ) -> Result<Wire> {
        let port = self.next_port();
        let wire = Wire::new(host, device, &self.host, &port, config, seed)?;
        links::set_master(&self.host, &port, BRIDGE)?;
        host.addresses(device, addresses)?;
        self.host.wait_running(BRIDGE)?;
        Ok(wire)
    }

    fn next_port(&self) -> String {
        format!("p{}", self.ports.fetch_add(1, Ordering::Relaxed))
    }

    /// The host with the bridge `br0`: to capture, to set a port down, to change an MTU.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
}

impl Host {
    /// Adds a bridge with addresses and sets it up.
    ///
    /// It runs once it has a port that does. Its MTU is that of its smallest port until it is set.
    ///
    /// # Errors
    ///
    /// When the host has a device of that name already.
    pub fn bridge(&self, name: &str, addresses: &[IpNet]) -> Result<()> {
        links::add_bridge(self, name, Bridge::default())?;
        self.addresses(name, addresses)
    }

    /// Makes a container: a host whose `eth0`, with the addresses and default routes given, is
    /// plugged into a bridge of this host. `port` is the name of this host's end.
    ///
    /// # Errors
    ///
    /// When there is no such bridge, this host has a device of that name already, or a gateway is
    /// not on a network of the container.
    pub fn container(
        &self,
        name: &str,
        bridge: &str,
        port: &str,
        addresses: &[IpNet],
        gateways: &[IpAddr],
    ) -> Result<Self> {
        const DEVICE: &str = "eth0";
        let container = Self::new(name)?;
        links::add_veth(&container, DEVICE, self, port)?;
        links::set_master(self, port, bridge)?;
        container.addresses(DEVICE, addresses)?;
        container.default_routes(gateways)?;
        container.wait_running(DEVICE)?;
        self.wait_running(port)?;
        self.wait_running(bridge)?;
        Ok(container)
    }
}
