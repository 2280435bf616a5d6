//! Everything at one moment, to be compared.

use overlay_netlink::{Address, Fdb, Link, Neighbour, Nexthop, Route, Rule};

use super::state::State;

/// Everything a [`MemoryKernel`](crate::MemoryKernel) holds, in an order of its own: two kernels
/// with the same contents give equal values, whatever their history, except where the kernel's
/// order means something (addresses of a device, remotes of an FDB entry, routes of one key).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// By number.
    pub links: Vec<Link>,
    /// By device.
    pub addresses: Vec<Address>,
    /// By device and MAC address.
    pub fdb: Vec<Fdb>,
    /// By device and address, with the proxy entries, which listings leave out.
    pub neighbours: Vec<Neighbour>,
    /// By number.
    pub nexthops: Vec<Nexthop>,
    /// By table, destination, TOS and metric, whoever made them.
    pub routes: Vec<Route>,
    /// By family and priority.
    pub rules: Vec<Rule>,
}

impl Snapshot {
    pub(super) fn of(state: &State) -> Self {
        let devices = || state.devices.keys().copied();
        Self {
            links: state.devices.values().map(|device| device.link.clone()).collect(),
            addresses: devices()
                .flat_map(|d| state.list_addresses(d).unwrap_or_default())
                .collect(),
            fdb: devices().flat_map(|dev| state.list_fdb(dev)).collect(),
            neighbours: state.neighbours.values().cloned().collect(),
            nexthops: state.nexthops.values().cloned().collect(),
            routes: state.list_routes().collect(),
            rules: state.rules.clone(),
        }
    }
}
