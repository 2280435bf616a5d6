//! Everything one network namespace holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use overlay_netlink::{
    Address, IfName, Ifindex, Link, Neighbour, Nexthop, NexthopId, Object, Request, Rule,
};
use overlay_wire::MacAddr;

use super::fdb::{Entry, FdbKey};
use super::fib::Fib;
use super::refusal::{ENODEV, Refusal};

/// The number of the loopback device.
pub(super) const LOOPBACK: Ifindex = Ifindex(1);

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) devices: BTreeMap<Ifindex, Device>,
    pub(super) names: BTreeMap<IfName, Ifindex>,
    pub(super) next_index: u32,
    pub(super) next_mac: u32,
    pub(super) next_serial: u64,
    pub(super) fdb: BTreeMap<FdbKey, Entry>,
    pub(super) neighbours: BTreeMap<NeighbourKey, Neighbour>,
    pub(super) nexthops: BTreeMap<NexthopId, Nexthop>,
    /// Those of the nexthops that are groups.
    pub(super) groups: BTreeSet<NexthopId>,
    pub(super) fib: Fib,
    /// By family and priority.
    pub(super) rules: Vec<Rule>,
    pub(super) absent_kinds: BTreeSet<String>,
    pub(super) has_nexthops: bool,
}

/// A device with all that is bound to it alone.
#[derive(Clone, Debug)]
pub(super) struct Device {
    /// As the kernel reports it.
    pub(super) link: Link,
    /// Somebody chose the MAC address. A bridge else takes one from its ports.
    pub(super) mac_chosen: bool,
    /// Somebody chose the MTU. A bridge else takes the least of its ports'.
    pub(super) mtu_chosen: bool,
    /// Whether IPv6 works on it. It leaves devices alone that cannot carry its smallest packet, but
    /// does not notice when a VXLAN device shrinks by moving to another underlay device.
    pub(super) has_ipv6: bool,
    /// In the order in which the kernel lists them.
    pub(super) addresses: Vec<HeldAddress>,
}

/// An address with what is not reported of it.
#[derive(Clone, Debug)]
pub(super) struct HeldAddress {
    pub(super) address: Address,
    /// IPv4: another address of the same prefix came first, and takes this one with it.
    pub(super) secondary: bool,
    /// Of two devices with the same address the local table prefers the one that had it first.
    pub(super) serial: u64,
}

/// Device, whether it is a proxy entry, address.
pub(super) type NeighbourKey = (Ifindex, bool, IpAddr);

impl Device {
    pub(super) fn is_up(&self) -> bool {
        self.link.up == Some(true)
    }

    pub(super) fn has_carrier(&self) -> bool {
        self.link.carrier == Some(true)
    }

    pub(super) fn mtu(&self) -> u32 {
        self.link.mtu.unwrap_or_default()
    }
}

impl State {
    /// Carries out one request.
    pub(super) fn apply(&mut self, request: &Request) -> Result<(), Refusal> {
        let verb = request.verb;
        match &request.object {
            Object::Link(link) => self.link(verb, link),
            Object::Address(address) => self.address(verb, address),
            Object::Fdb(fdb) => self.fdb(verb, fdb),
            Object::Neighbour(neighbour) => self.neighbour(verb, neighbour),
            Object::Nexthop(nexthop) => self.nexthop(verb, nexthop),
            Object::Route(route) => self.route(verb, route),
            Object::Rule(rule) => self.rule(verb, rule),
        }
    }

    /// The device that a listing is about, or all.
    pub(super) fn chosen(&self, dev: Option<Ifindex>) -> Vec<Ifindex> {
        dev.map_or_else(|| self.devices.keys().copied().collect(), |dev| vec![dev])
    }

    pub(super) fn device(&self, index: Ifindex) -> Result<&Device, Refusal> {
        self.devices.get(&index).ok_or(ENODEV)
    }

    pub(super) fn device_mut(&mut self, index: Ifindex) -> Result<&mut Device, Refusal> {
        self.devices.get_mut(&index).ok_or(ENODEV)
    }

    /// The next MAC address nobody has chosen.
    pub(super) fn generate_mac(&mut self) -> MacAddr {
        self.next_mac += 1;
        let [a, b, c, d] = self.next_mac.to_be_bytes();
        MacAddr::local_from([0xfe, 0x4d, a, b, c, d])
    }
}
