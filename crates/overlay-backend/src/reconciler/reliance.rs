//! What packets need on the way that they take now.
//!
//! A route that could not be led another way goes on leading the old one, and nobody wants any more
//! what lies there. It has to stay until the route has left.

use std::collections::HashSet;
use std::net::IpAddr;

use overlay_netlink::{Fdb, Hop, IfName, Neighbour, NexthopId, Object, Route, Via};
use overlay_wire::MacAddr;

use super::nexthops::hop_of;
use crate::key::Key;
use crate::table::{Slot, Table};

/// The objects behind some routes and nexthop objects as they are in the kernel.
#[derive(Debug, Default)]
pub(super) struct Reliance {
    devices: HashSet<IfName>,
    nexthops: HashSet<NexthopId>,
    neighbours: HashSet<(IfName, IpAddr)>,
    remotes: HashSet<(IfName, MacAddr)>,
}

impl Reliance {
    /// Behind what is seen in these places.
    pub(super) fn of(table: &Table, places: impl Iterator<Item = Slot>) -> Self {
        let mut this = Self::default();
        for object in places.filter_map(|slot| table.at(slot)?.seen.as_deref()) {
            this.add(table, object);
        }
        this
    }

    /// Whether one of them relies on this object.
    pub(super) fn covers(&self, object: &Object<IfName>) -> bool {
        match object {
            Object::Link(link) => self.devices.contains(&link.name),
            // The last address of a device takes the routes over it along.
            Object::Address(address) => self.devices.contains(&address.dev),
            Object::Nexthop(nexthop) => self.nexthops.contains(&nexthop.id),
            Object::Neighbour(Neighbour { dev, dst, .. }) => {
                self.neighbours.contains(&(*dev, *dst))
            }
            Object::Fdb(Fdb { dev, lladdr, .. }) => self.remotes.contains(&(*dev, *lladdr)),
            _ => false,
        }
    }

    fn add(&mut self, table: &Table, object: &Object<IfName>) {
        match object {
            Object::Route(Route { via: Via::Nexthop(id), .. }) => {
                self.nexthops.insert(*id);
                if let Some(nexthop) = table.get(&Key::Nexthop(*id)).and_then(|e| e.seen.as_deref())
                {
                    self.add(table, nexthop);
                }
            }
            Object::Route(Route { via: Via::Hop(hop), .. }) => self.add_hop(table, hop),
            Object::Nexthop(_) => {
                hop_of(object).into_iter().for_each(|hop| self.add_hop(table, hop));
            }
            _ => {}
        }
    }

    fn add_hop(&mut self, table: &Table, hop: &Hop<IfName>) {
        let Some(dev) = hop.dev else { return };
        self.devices.insert(dev);
        let Some(gateway) = hop.gateway else { return };
        self.neighbours.insert((dev, gateway));
        let seen = table.get(&Key::Neighbour(dev, gateway, false)).and_then(|e| e.seen.as_deref());
        if let Some(Object::Neighbour(Neighbour { lladdr: Some(lladdr), .. })) = seen {
            self.remotes.insert((dev, *lladdr));
        }
    }
}
