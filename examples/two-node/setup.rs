//! The two hosts of the article, with a container each.

use std::net::IpAddr;

use anyhow::Context;
use clap::ValueEnum;
use ipnet::IpNet;
use overlay_lab::{Host, Switch};
use overlay_wire::IpVersion;

/// How the hosts are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Underlay {
    /// In one network, by a switch.
    Switched,
    /// In two networks, by a router.
    Routed,
}

/// A host with a bridge and a container.
pub(crate) struct Vm {
    pub(crate) host: Host,
    pub(crate) container: Host,
    /// 245 or 246: what all the names end in.
    pub(crate) number: u16,
    /// The host's addresses in the underlay, IPv4 first.
    pub(crate) underlay: [IpNet; 2],
    /// The subnets of its containers, IPv4 first.
    pub(crate) subnets: [IpNet; 2],
}

impl Vm {
    fn build(name: &str, number: u16, underlay: [IpNet; 2]) -> anyhow::Result<(Host, Self)> {
        let host = Host::new(name)?;
        host.forwarding(true)?;
        let subnets =
            [format!("172.{number}.0.0/24").parse()?, format!("fd00:{number}::/64").parse()?];
        let bridge = format!("br{number}");
        let gateways = subnets.map(|subnet| nth(subnet, 1));
        host.bridge(&bridge, &gateways)?;
        let container = host.container(
            &format!("ns{number}"),
            &bridge,
            &format!("veth{number}"),
            &subnets.map(|subnet| nth(subnet, 2)),
            &gateways.map(|gateway| gateway.addr()),
        )?;
        Ok((host.clone(), Self { host, container, number, underlay, subnets }))
    }

    pub(crate) fn underlay(&self, version: IpVersion) -> IpAddr {
        pick(self.underlay, version).addr()
    }

    pub(crate) fn subnet(&self, version: IpVersion) -> IpNet {
        pick(self.subnets, version)
    }

    pub(crate) fn container_address(&self, version: IpVersion) -> IpAddr {
        nth(self.subnet(version), 2).addr()
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

/// Both hosts and what connects them.
pub(crate) struct Setup {
    pub(crate) vm1: Vm,
    pub(crate) vm2: Vm,
    underlay: Underlay,
    /// The switch or the router in the middle, which lives as long as the setup.
    _middle: Host,
}

impl Setup {
    pub(crate) fn build(underlay: Underlay) -> anyhow::Result<Self> {
        let far = match underlay {
            Underlay::Switched => 32,
            Underlay::Routed => 33,
        };
        let addresses = |net: u16, number: u16| -> anyhow::Result<[IpNet; 2]> {
            Ok([
                format!("192.168.{net}.{number}/24").parse()?,
                format!("fd00:{net}::{number}/64").parse()?,
            ])
        };
        let (host1, vm1) = Vm::build("vm1", 245, addresses(32, 245)?)?;
        let (host2, vm2) = Vm::build("vm2", 246, addresses(far, 246)?)?;
        let middle = match underlay {
            Underlay::Switched => {
                let switch = Switch::new("switch")?;
                switch.plug(&host1, "eth0", &vm1.underlay)?;
                switch.plug(&host2, "eth0", &vm2.underlay)?;
                switch.host().clone()
            }
            Underlay::Routed => {
                let router = Host::new("router")?;
                router.forwarding(true)?;
                for (vm, device, net) in [(&vm1, "eth1", 32), (&vm2, "eth2", far)] {
                    overlay_lab::connect(&vm.host, "eth0", &router, device)?;
                    let own = addresses(net, 1)?;
                    router.addresses(device, &own)?;
                    vm.host.addresses("eth0", &vm.underlay)?;
                    vm.host.default_routes(&own.map(|address| address.addr()))?;
                }
                router
            }
        };
        Ok(Self { vm1, vm2, underlay, _middle: middle })
    }

    pub(crate) fn vms(&self) -> [&Vm; 2] {
        [&self.vm1, &self.vm2]
    }

    /// Gives containers and what they hang on the MTU of the overlay, as an agent would.
    pub(crate) fn set_container_mtu(&self, mtu: u32) -> anyhow::Result<()> {
        for vm in self.vms() {
            let number = vm.number;
            vm.container.mtu("eth0", mtu).context("set the MTU of a container")?;
            vm.host.mtu(&format!("veth{number}"), mtu)?;
            vm.host.mtu(&format!("br{number}"), mtu)?;
        }
        Ok(())
    }

    pub(crate) fn enter_commands(&self) -> String {
        let hosts = self.vms().map(|vm| [&vm.host, &vm.container]);
        let lines: Vec<_> = hosts
            .iter()
            .flatten()
            .map(|host| format!("{:>6}: {}", host.name(), host.enter_command()))
            .collect();
        lines.join("\n")
    }

    pub(crate) fn picture(&self) -> String {
        let vms = self.vms();
        let mut lines = vec![boxes(["┌", "─", "┐"], ["", ""])];
        let mut line = |texts: [String; 2]| {
            lines.push(boxes(["│", " ", "│"], [texts[0].as_str(), texts[1].as_str()]));
        };
        let both = |f: &dyn Fn(&Vm) -> String| [f(vms[0]), f(vms[1])];
        line(both(&|vm| vm.host.name().to_owned()));
        line(both(&|vm| format!("  ns{}: eth0", vm.number)));
        line(both(&|vm| format!("    {}", vm.container_address(IpVersion::V4))));
        line(both(&|vm| format!("    {}", vm.container_address(IpVersion::V6))));
        line(both(&|vm| format!("  veth{0} in br{0}", vm.number)));
        line(both(&|vm| format!("    {}", nth(vm.subnet(IpVersion::V4), 1))));
        line(both(&|vm| format!("    {}", nth(vm.subnet(IpVersion::V6), 1))));
        line(both(&|_| "  eth0".to_owned()));
        line(both(&|vm| format!("    {}", vm.underlay[0])));
        line(both(&|vm| format!("    {}", vm.underlay[1])));
        lines.push(boxes(["└", "─", "┘"], ["", ""]));
        let middle = match self.underlay {
            Underlay::Switched => "switch",
            Underlay::Routed => "router",
        };
        lines.push(format!("{:14}└───────────── {middle} ──────────────┘", ""));
        lines.join("\n")
    }
}

/// Two boxes side by side: left edge, filling, right edge.
fn boxes([left, fill, right]: [&str; 3], texts: [&str; 2]) -> String {
    const WIDTH: usize = 29;
    texts
        .map(|text| format!("{left}{fill}{text}{}{right}", fill.repeat(WIDTH - 1 - text.len())))
        .join("    ")
}
