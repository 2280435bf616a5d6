//! The two hosts of the article and what connects them.

use clap::ValueEnum;
use overlay_examples::{Addresses, Machine};
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

/// Both hosts and what connects them.
pub(crate) struct Setup {
    pub(crate) vm1: Machine,
    pub(crate) vm2: Machine,
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
        let vm1 = Machine::build(Host::new("vm1")?, Addresses::of(245, 32)?)?;
        let vm2 = Machine::build(Host::new("vm2")?, Addresses::of(246, far)?)?;
        let middle = match underlay {
            Underlay::Switched => {
                let switch = Switch::new("switch")?;
                switch.plug(&vm1.host, "eth0", &vm1.addresses.underlay)?;
                switch.plug(&vm2.host, "eth0", &vm2.addresses.underlay)?;
                switch.host().clone()
            }
            Underlay::Routed => {
                let router = Host::new("router")?;
                router.forwarding(true)?;
                for (vm, device, net) in [(&vm1, "eth1", 32), (&vm2, "eth2", far)] {
                    overlay_lab::connect(&vm.host, "eth0", &router, device)?;
                    let own = Addresses::in_underlay(net, 1)?;
                    router.addresses(device, &own)?;
                    vm.host.addresses("eth0", &vm.addresses.underlay)?;
                    vm.host.default_routes(&own.map(|address| address.addr()))?;
                }
                router
            }
        };
        Ok(Self { vm1, vm2, underlay, _middle: middle })
    }

    pub(crate) fn vms(&self) -> [&Machine; 2] {
        [&self.vm1, &self.vm2]
    }

    pub(crate) fn set_container_mtu(&self, mtu: u32) -> anyhow::Result<()> {
        self.vms().into_iter().try_for_each(|vm| vm.set_container_mtu(mtu))
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
        let both = |f: &dyn Fn(&Machine) -> String| [f(vms[0]), f(vms[1])];
        line(both(&|vm| vm.host.name().to_owned()));
        line(both(&|vm| format!("  ns{}: eth0", vm.addresses.number)));
        line(both(&|vm| format!("    {}", vm.addresses.container(IpVersion::V4).addr())));
        line(both(&|vm| format!("    {}", vm.addresses.container(IpVersion::V6).addr())));
        line(both(&|vm| format!("  veth{0} in br{0}", vm.addresses.number)));
        line(both(&|vm| format!("    {}", vm.addresses.bridge(IpVersion::V4))));
        line(both(&|vm| format!("    {}", vm.addresses.bridge(IpVersion::V6))));
        line(both(&|_| "  eth0".to_owned()));
        line(both(&|vm| format!("    {}", vm.addresses.underlay[0])));
        line(both(&|vm| format!("    {}", vm.addresses.underlay[1])));
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
