//! The routes of all tables, of both families, as a trie of prefixes would answer for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_netlink::{NexthopId, Route, Via};

/// The kernel's key of a route: table, destination, TOS, metric.
pub(super) type Key = (u32, IpNet, u8, u32);

#[derive(Clone, Debug, Default)]
pub(super) struct Fib {
    /// Several routes may share a key; the kernel's order of them. Each hop of an IPv6 route with
    /// several is a route of its own, as in the kernel.
    routes: BTreeMap<Key, Vec<Route>>,
    /// How many keys there are of each table, family (IPv6?) and prefix length.
    lengths: BTreeMap<(u32, bool, u8), usize>,
    /// The keys of the routes that use a nexthop object.
    users: BTreeMap<NexthopId, BTreeSet<Key>>,
}

pub(super) fn key(route: &Route) -> Key {
    (route.table, route.dst, route.tos, route.metric)
}

fn length(key: &Key) -> (u32, bool, u8) {
    (key.0, key.1.addr().is_ipv6(), key.1.prefix_len())
}

impl Fib {
    /// The routes with this key.
    pub(super) fn at(&self, key: &Key) -> &[Route] {
        self.routes.get(key).map_or(&[], Vec::as_slice)
    }

    /// Lets `change` alter the routes with this key.
    pub(super) fn update<R>(&mut self, key: Key, change: impl FnOnce(&mut Vec<Route>) -> R) -> R {
        let mut routes = self.routes.remove(&key).unwrap_or_default();
        let before = !routes.is_empty();
        let nexthops = |routes: &[Route]| -> BTreeSet<NexthopId> {
            routes
                .iter()
                .filter_map(|route| match route.via {
                    Via::Nexthop(id) => Some(id),
                    _ => None,
                })
                .collect()
        };
        let old = nexthops(&routes);
        let result = change(&mut routes);
        let new = nexthops(&routes);
        for id in old.difference(&new) {
            if let Some(users) = self.users.get_mut(id) {
                users.remove(&key);
                if users.is_empty() {
                    self.users.remove(id);
                }
            }
        }
        for id in new.difference(&old) {
            self.users.entry(*id).or_default().insert(key);
        }
        match (before, !routes.is_empty()) {
            (false, true) => *self.lengths.entry(length(&key)).or_default() += 1,
            (true, false) => {
                if let Some(count) = self.lengths.get_mut(&length(&key)) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&length(&key));
                    }
                }
            }
            _ => {}
        }
        if !routes.is_empty() {
            self.routes.insert(key, routes);
        }
        result
    }

    /// Lets `change` alter the routes of each key that has one `concerned`.
    pub(super) fn update_where(
        &mut self,
        concerned: impl Fn(&Route) -> bool,
        mut change: impl FnMut(&mut Vec<Route>),
    ) {
        let keys: Vec<Key> = self
            .routes
            .iter()
            .filter(|(_, routes)| routes.iter().any(&concerned))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.update(key, &mut change);
        }
    }

    /// Removes all routes that use a nexthop object.
    pub(super) fn remove_users(&mut self, id: NexthopId) {
        for key in self.users.get(&id).cloned().unwrap_or_default() {
            self.update(key, |routes| routes.retain(|route| route.via != Via::Nexthop(id)));
        }
    }

    /// One route that uses a nexthop object, of each family.
    pub(super) fn users(&self, id: NexthopId) -> impl Iterator<Item = &Route> {
        self.users
            .get(&id)
            .into_iter()
            .flatten()
            .flat_map(|key| self.at(key))
            .filter(move |route| route.via == Via::Nexthop(id))
    }

    /// Whether anything is in a table.
    pub(super) fn has_table(&self, table: u32, ipv6: bool) -> bool {
        self.lengths.range((table, ipv6, 0)..=(table, ipv6, u8::MAX)).next().is_some()
    }

    /// The routes of a table that an address matches: for each prefix, longest first, all of them
    /// by ascending metric.
    pub(super) fn matching(
        &self,
        table: u32,
        address: IpAddr,
    ) -> impl Iterator<Item = Vec<&Route>> {
        let ipv6 = address.is_ipv6();
        self.lengths
            .range((table, ipv6, 0)..=(table, ipv6, u8::MAX))
            .rev()
            .filter_map(move |((.., len), _)| IpNet::new(address, *len).ok())
            .map(move |net| {
                let net = net.trunc();
                self.to(table, net).filter(|route| route.tos == 0).collect::<Vec<_>>()
            })
            .filter(|routes| !routes.is_empty())
    }

    /// The routes of a table to exactly this prefix, by TOS and metric.
    pub(super) fn to(&self, table: u32, net: IpNet) -> impl Iterator<Item = &Route> {
        self.routes
            .range((table, net, 0, 0)..=(table, net, u8::MAX, u32::MAX))
            .flat_map(|(_, routes)| routes)
    }

    /// The routes, those of one key together.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[Route]> {
        self.routes.values().map(Vec::as_slice)
    }
}
