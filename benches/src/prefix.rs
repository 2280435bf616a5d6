//! The routes that all contestants get.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use overlay_netlink::{Hop, Ifindex, Nexthop, NexthopId, Route};

use crate::Lab;

/// Prefixes of 24 bits, one after the other from 10.0.1.0/24 on.
#[derive(Clone, Copy, Debug)]
pub struct Prefixes(pub u32);

impl Prefixes {
    /// The prefix at `index`.
    #[must_use]
    pub fn at(index: u32) -> Ipv4Net {
        let base = Ipv4Addr::from(0x0a00_0100 + (index << 8));
        Ipv4Net::new(base, 24).unwrap_or_default()
    }

    /// An address on the link of `eth0`, another one for each index.
    #[must_use]
    pub fn gateway(index: u32) -> Ipv4Addr {
        Ipv4Addr::from(0xac10_0002 + index)
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Ipv4Net> {
        (0..self.0).map(Self::at)
    }

    /// A route for each, by way of what `hop` makes of its index.
    pub fn routes(self, hop: impl Fn(u32) -> Hop) -> Vec<Route> {
        let route = |index| Self::route(index).hop(hop(index));
        (0..self.0).map(route).collect()
    }

    /// A route for each, by way of a nexthop object.
    pub fn routes_by(self, id: impl Fn(u32) -> NexthopId) -> Vec<Route> {
        (0..self.0).map(|index| Self::route(index).nexthop(id(index))).collect()
    }

    fn route(index: u32) -> Route {
        Route::to(IpNet::V4(Self::at(index))).protocol(Lab::PROTOCOL)
    }

    /// The lines of an `ip -batch` file that do `verb` to a route for each, in the order of `indices`. `gateway` makes
    /// its gateway of an index.
    pub fn lines(
        indices: impl Iterator<Item = u32>,
        verb: &str,
        gateway: Option<&dyn Fn(u32) -> Ipv4Addr>,
    ) -> String {
        let mut lines = String::new();
        for index in indices {
            let _ = write!(lines, "route {verb} {}", Self::at(index));
            if let Some(gateway) = gateway {
                let _ = write!(lines, " via {} dev {}", gateway(index), Lab::UPLINK);
            }
            let _ = writeln!(lines, " proto static");
        }
        lines
    }
}

/// The nexthop object `id` by way of a gateway on `dev`.
pub(crate) fn nexthop(id: NexthopId, gateway: Ipv4Addr, dev: Ifindex) -> Nexthop {
    let mut hop = Hop::via(IpAddr::V4(gateway));
    hop.dev = Some(dev);
    Nexthop::new(id, hop).protocol(Lab::PROTOCOL)
}
