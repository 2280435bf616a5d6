//! Numbers for nexthop objects.
//!
//! Every route by way of a gateway on a device gets a nexthop object, one for each gateway that a
//! group uses. To the kernel a thousand routes with a thousand gateways on one device are one long
//! chain; as nexthop objects they are not. And a group whose gateway changes keeps its number, so
//! that one message moves all its routes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use overlay_netlink::{Hop, IfName, Nexthop, NexthopId, NexthopTarget, Object, Via};
use overlay_wire::IpVersion;

/// Numbers are taken from 2^30 to 2^31 - 1: far from those that people, routing daemons and the
/// kernel itself count up from 1.
const FIRST: u32 = 1 << 30;
const COUNT: u32 = 1 << 30;

/// The numbers in use.
#[derive(Debug)]
pub(super) struct NexthopIds {
    enabled: bool,
    /// By group: the family of the gateway and the number, in the order of first use.
    groups: HashMap<Arc<str>, Vec<(IpVersion, NexthopId)>>,
    taken: HashSet<NexthopId>,
}

impl Default for NexthopIds {
    fn default() -> Self {
        Self { enabled: true, groups: HashMap::new(), taken: HashSet::new() }
    }
}

impl NexthopIds {
    pub(super) fn disable(&mut self) {
        self.enabled = false;
    }

    pub(super) const fn enabled(&self) -> bool {
        self.enabled
    }

    /// Makes room for the numbers of so many more groups.
    pub(super) fn reserve(&mut self, groups: usize) {
        if self.enabled {
            self.groups.reserve(groups);
            self.taken.reserve(groups);
        }
    }

    /// Makes the routes among `objects` refer to nexthop objects and returns those.
    pub(super) fn assign(
        &mut self,
        group: &Arc<str>,
        objects: &mut [Object<IfName>],
    ) -> Vec<Object<IfName>> {
        if !self.enabled {
            return Vec::new();
        }
        let old = self.groups.remove(group).unwrap_or_default();
        for (_, id) in &old {
            self.taken.remove(id);
        }
        let mut unused = old;
        let mut used: Vec<(IpVersion, NexthopId)> = Vec::new();
        let mut hops: Vec<(Hop<IfName>, NexthopId)> = Vec::new();
        for object in objects {
            let Object::Route(route) = object else { continue };
            let Via::Hop(hop) = &route.via else { continue };
            let (Some(gateway), Some(_)) = (hop.gateway, hop.dev) else { continue };
            let id = match hops.iter().find(|(known, _)| known == hop) {
                Some((_, id)) => *id,
                None => {
                    let version = IpVersion::of(gateway);
                    let id = match unused.iter().position(|(v, _)| *v == version) {
                        Some(at) => unused.remove(at).1,
                        None => self.free(group, version, used.len()),
                    };
                    self.taken.insert(id);
                    used.push((version, id));
                    hops.push((hop.clone(), id));
                    id
                }
            };
            route.via = Via::Nexthop(id);
        }
        if !used.is_empty() {
            self.groups.insert(Arc::clone(group), used);
        }
        hops.into_iter().map(|(hop, id)| Nexthop::new(id, hop).into()).collect()
    }

    /// Gives up the numbers of a group.
    pub(super) fn release(&mut self, group: &str) {
        for (_, id) in self.groups.remove(group).unwrap_or_default() {
            self.taken.remove(&id);
        }
    }

    /// Puts other numbers in the place of those that turned out to be somebody else's, or that the
    /// kernel holds under different ones: all at once.
    pub(super) fn renumber(&mut self, to: &HashMap<NexthopId, NexthopId>) {
        for old in to.keys() {
            self.taken.remove(old);
        }
        self.taken.extend(to.values());
        for (_, id) in self.groups.values_mut().flatten() {
            *id = to.get(id).copied().unwrap_or(*id);
        }
    }

    /// A number that is not taken and not in `avoid`.
    pub(super) fn other(&self, group: &str, avoid: &HashSet<NexthopId>) -> NexthopId {
        self.probe(group, IpVersion::V4, usize::MAX, |id| avoid.contains(&id))
    }

    fn free(&self, group: &str, version: IpVersion, ordinal: usize) -> NexthopId {
        self.probe(group, version, ordinal, |_| false)
    }

    /// The first free number from a place that depends only on who asks, so that a restart finds
    /// the same one.
    fn probe(
        &self,
        group: &str,
        version: IpVersion,
        ordinal: usize,
        refused: impl Fn(NexthopId) -> bool,
    ) -> NexthopId {
        let ordinal = (ordinal as u64).to_le_bytes();
        let bytes = group.bytes().chain([version.address_bits()]).chain(ordinal);
        let start = (fnv1a(bytes) % u64::from(COUNT)) as u32;
        (0..COUNT)
            .map(|step| NexthopId(FIRST + (start.wrapping_add(step)) % COUNT))
            .find(|id| !self.taken.contains(id) && !refused(*id))
            // There is no room for 2^30 objects in any kernel.
            .unwrap_or(NexthopId(FIRST))
    }
}

/// The 64-bit FNV-1a hash: the same in every build, as numbers that outlive the program must be.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The hop of a nexthop object.
pub(super) fn hop_of(object: &Object<IfName>) -> Option<&Hop<IfName>> {
    match object {
        Object::Nexthop(nexthop) => match &nexthop.target {
            NexthopTarget::Hop(hop) => Some(hop),
            _ => None,
        },
        _ => None,
    }
}
