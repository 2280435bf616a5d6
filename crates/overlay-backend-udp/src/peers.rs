//! Who is reached, and which subnet is whose: the one table that every data path looks into.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use ipnet::IpNet;
use overlay_backend::{DataPath, NodeId, Peer};
use overlay_wire::IpVersion;

use crate::PathData;

/// Where the packets for a subnet go, and where those from it come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Remote {
    /// The peer's address in the underlay.
    pub endpoint: IpAddr,
    /// Whether the peer takes packets as they are inside a kernel ([`PathData::fast_path`]).
    pub fast_path: bool,
}

/// The peers of one network, shared by its backend and whoever carries its packets.
///
/// Reading and changing may happen at the same time, at full load: a change takes the lock for the time
/// of one insertion, and a lookup costs one probe per prefix length that is in use, however many peers
/// there are.
#[derive(Debug)]
pub struct Peers {
    underlay: IpVersion,
    table: RwLock<Table>,
    /// What the table is made from, and who else is told. Its lock is taken before the table's.
    known: Mutex<Known>,
}

/// Somebody who keeps a copy of the table where it cannot be looked into: in the kernel.
///
/// It is called while the table is locked for changes, one change after another, in order.
pub trait Mirror: std::fmt::Debug + Send + Sync {
    /// The packets for these subnets go to these remotes from now on.
    fn set(&self, entries: &[(IpNet, Remote)]);

    /// The subnet is nobody's any more.
    fn remove(&self, subnet: IpNet);
}

#[derive(Debug, Default)]
struct Known {
    subnets: HashMap<NodeId, (Remote, Vec<IpNet>)>,
    mirrors: Vec<Arc<dyn Mirror>>,
}

#[derive(Debug, Default)]
struct Table {
    v4: Prefixes<u32>,
    v6: Prefixes<u128>,
    /// How many peers have each endpoint: one, but for a moment in which two change places.
    endpoints: HashMap<IpAddr, usize>,
}

/// A locked view of the table. Changes wait while it lives: take one per batch of packets, and keep it
/// for no system call.
#[derive(Debug)]
pub struct Lookup<'a>(RwLockReadGuard<'a, Table>);

impl Lookup<'_> {
    /// Who has the longest prefix that contains `address`.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<Remote> {
        match address {
            IpAddr::V4(address) => self.0.v4.get(address.to_bits()),
            IpAddr::V6(address) => self.0.v6.get(address.to_bits()),
        }
    }

    /// Whether it is the address of a peer in the underlay.
    #[must_use]
    pub fn is_endpoint(&self, address: IpAddr) -> bool {
        self.0.endpoints.contains_key(&address)
    }
}

impl Peers {
    /// Nobody yet, over an underlay of this family.
    #[must_use]
    pub fn new(underlay: IpVersion) -> Self {
        Self { underlay, table: RwLock::default(), known: Mutex::default() }
    }

    /// To look up addresses.
    #[must_use]
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup(self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many peers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known().subnets.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells `mirror` everything there is, and each change from then on.
    pub fn mirror_to(&self, mirror: Arc<dyn Mirror>) {
        let mut known = self.known();
        mirror.set(&known.entries(|_| true));
        known.mirrors.push(mirror);
    }

    /// Tells all mirrors once more of some peers: what they make of them may have changed.
    pub(crate) fn tell_again(&self, of: impl Fn(&Remote) -> bool) {
        let known = self.known();
        let entries = known.entries(of);
        known.mirrors.iter().for_each(|mirror| mirror.set(&entries));
    }

    /// Tells `mirror` nothing any more.
    pub fn stop_mirroring(&self, mirror: &Arc<dyn Mirror>) {
        self.known().mirrors.retain(|other| !Arc::ptr_eq(other, mirror));
    }

    /// What is locked is whole at any moment, so a panic elsewhere does not spoil it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, id: &NodeId, now: Option<(Remote, Vec<IpNet>)>) {
        let mut known = self.known();
        let before = match &now {
            Some(now) => known.subnets.insert(id.clone(), now.clone()),
            None => known.subnets.remove(id),
        };
        let (remote, subnets) = now.map_or((None, Vec::new()), |(to, nets)| (Some(to), nets));
        let left = before.as_ref().map(|(to, _)| to.endpoint);
        let gone: Vec<IpNet> = before
            .into_iter()
            .flat_map(|(_, subnets)| subnets)
            .filter(|subnet| !subnets.contains(subnet))
            .collect();
        {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            table.change_endpoint(left, remote.map(|to| to.endpoint));
            for subnet in &gone {
                table.remove(*subnet);
            }
            for subnet in &subnets {
                remote.into_iter().for_each(|remote| table.insert(*subnet, remote));
            }
        }
        for mirror in &known.mirrors {
            gone.iter().for_each(|subnet| mirror.remove(*subnet));
            if let Some(remote) = remote {
                let entries: Vec<_> = subnets.iter().map(|subnet| (*subnet, remote)).collect();
                mirror.set(&entries);
            }
        }
    }
}

impl Known {
    fn entries(&self, of: impl Fn(&Remote) -> bool) -> Vec<(IpNet, Remote)> {
        let peers = self.subnets.values().filter(|(remote, _)| of(remote));
        peers.flat_map(|(to, nets)| nets.iter().map(|net| (*net, *to))).collect()
    }
}

impl DataPath for Peers {
    fn set_peer(&self, peer: &Peer) {
        // The backend has refused peers without an endpoint or with data that makes no sense.
        let data = peer.data.get(self.underlay).and_then(|data| PathData::from_json(data).ok());
        let fast_path = data.unwrap_or_default().fast_path;
        let now = peer.endpoint(self.underlay).map(|endpoint| {
            let subnets = peer.subnets.iter().map(IpNet::trunc).collect();
            (Remote { endpoint, fast_path }, subnets)
        });
        self.change(&peer.id, now);
    }

    fn remove_peer(&self, id: &NodeId) {
        self.change(id, None);
    }
}

impl Table {
    fn change_endpoint(&mut self, from: Option<IpAddr>, to: Option<IpAddr>) {
        if let Some(to) = to {
            *self.endpoints.entry(to).or_default() += 1;
        }
        if let Some(Entry::Occupied(mut count)) = from.map(|from| self.endpoints.entry(from)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn insert(&mut self, subnet: IpNet, remote: Remote) {
        match subnet {
            IpNet::V4(net) => self.v4.insert(net.prefix_len(), net.network().to_bits(), remote),
            IpNet::V6(net) => self.v6.insert(net.prefix_len(), net.network().to_bits(), remote),
        }
    }

    fn remove(&mut self, subnet: IpNet) {
        match subnet {
            IpNet::V4(net) => self.v4.remove(net.prefix_len(), net.network().to_bits()),
            IpNet::V6(net) => self.v6.remove(net.prefix_len(), net.network().to_bits()),
        }
    }
}

/// Prefixes of one family, a hash table for each length that is in use, the longest first. Networks
/// divide their addresses into subnets of one length, so a lookup is one probe.
#[derive(Debug)]
struct Prefixes<A> {
    by_len: Vec<(u8, HashMap<A, Remote>)>,
}

impl<A> Default for Prefixes<A> {
    fn default() -> Self {
        Self { by_len: Vec::new() }
    }
}

impl<A: Address> Prefixes<A> {
    fn get(&self, address: A) -> Option<Remote> {
        self.by_len.iter().find_map(|(len, nets)| nets.get(&address.base(*len)).copied())
    }

    fn insert(&mut self, len: u8, base: A, remote: Remote) {
        let at = match self.by_len.binary_search_by(|(other, _)| len.cmp(other)) {
            Ok(at) => at,
            Err(at) => {
                self.by_len.insert(at, (len, HashMap::new()));
                at
            }
        };
        if let Some((_, nets)) = self.by_len.get_mut(at) {
            nets.insert(base, remote);
        }
    }

    fn remove(&mut self, len: u8, base: A) {
        let Ok(at) = self.by_len.binary_search_by(|(other, _)| len.cmp(other)) else { return };
        if let Some((_, nets)) = self.by_len.get_mut(at) {
            nets.remove(&base);
            if nets.is_empty() {
                self.by_len.remove(at);
            }
        }
    }
}

/// The bits of an address, host order.
trait Address: Copy + Eq + Hash {
    /// The first address of the prefix of `len` bits that contains it.
    fn base(self, len: u8) -> Self;
}

impl Address for u32 {
    fn base(self, len: u8) -> Self {
        self & Self::MAX.checked_shl(Self::BITS.saturating_sub(len.into())).unwrap_or(0)
    }
}

impl Address for u128 {
    fn base(self, len: u8) -> Self {
        self & Self::MAX.checked_shl(Self::BITS.saturating_sub(len.into())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlay_backend::BackendData;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn peer(id: &str, endpoint: &str, subnets: &[&str]) -> Peer {
        Peer {
            id: id.into(),
            subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
            endpoints: vec![endpoint.parse().unwrap()],
            data: BackendData::default(),
        }
    }

    fn owner(peers: &Peers, address: &str) -> Option<String> {
        let remote = peers.lookup().owner(address.parse().unwrap());
        remote.map(|remote| remote.endpoint.to_string())
    }

    #[test]
    fn a_peer_has_its_subnets_of_both_families_until_it_goes() {
        let peers = Peers::new(IpVersion::V4);
        peers.set_peer(&peer("vm2", "192.168.32.246", &["172.246.0.0/24", "fd00:246::/64"]));
        for inside in
            ["172.246.0.0", "172.246.0.255", "fd00:246::", "fd00:246::ffff:ffff:ffff:ffff"]
        {
            assert_eq!(owner(&peers, inside).as_deref(), Some("192.168.32.246"), "{inside}");
        }
        for outside in ["172.246.1.0", "172.245.255.255", "fd00:246:0:1::", "::"] {
            assert_eq!(owner(&peers, outside), None, "{outside}");
        }
        peers.remove_peer(&"vm2".into());
        assert_eq!(owner(&peers, "172.246.0.1"), None);
        assert!(peers.is_empty() && peers.lookup().0.v4.by_len.is_empty());
    }

    #[test]
    fn the_longest_prefix_counts() {
        let peers = Peers::new(IpVersion::V4);
        peers.set_peer(&peer("far", "192.0.2.1", &["10.0.0.0/8", "fd00::/16"]));
        peers.set_peer(&peer("near", "192.0.2.2", &["10.1.2.0/24", "10.9.9.9/32", "fd00:1::/128"]));
        for (address, endpoint) in [
            ("10.1.2.3", "192.0.2.2"),
            ("10.1.3.3", "192.0.2.1"),
            ("10.9.9.9", "192.0.2.2"),
            ("10.9.9.8", "192.0.2.1"),
            ("fd00:1::", "192.0.2.2"),
            ("fd00:1::1", "192.0.2.1"),
        ] {
            assert_eq!(owner(&peers, address).as_deref(), Some(endpoint), "{address}");
        }
    }

    #[test]
    fn a_moved_peer_is_reached_at_its_new_address_and_keeps_nothing_it_gave_up() {
        let peers = Peers::new(IpVersion::V4);
        peers.set_peer(&peer("vm2", "192.0.2.1", &["10.0.1.0/24", "10.0.2.0/24"]));
        peers.set_peer(&peer("vm2", "192.0.2.9", &["10.0.2.0/24", "10.0.3.0/24"]));
        assert_eq!(owner(&peers, "10.0.1.1"), None);
        assert_eq!(owner(&peers, "10.0.2.1").as_deref(), Some("192.0.2.9"));
        assert_eq!(owner(&peers, "10.0.3.1").as_deref(), Some("192.0.2.9"));
        let is_endpoint = |address: &str| peers.lookup().is_endpoint(address.parse().unwrap());
        assert!(is_endpoint("192.0.2.9") && !is_endpoint("192.0.2.1"));
        peers.set_peer(&peer("vm3", "192.0.2.9", &["10.0.4.0/24"]));
        peers.remove_peer(&"vm2".into());
        assert!(is_endpoint("192.0.2.9"));
        peers.remove_peer(&"vm3".into());
        assert!(!is_endpoint("192.0.2.9"));
    }

    #[derive(Debug, Default)]
    struct Copy(Mutex<HashMap<IpNet, Remote>>);

    impl Mirror for Copy {
        fn set(&self, entries: &[(IpNet, Remote)]) {
            self.0.lock().unwrap().extend(entries.iter().copied());
        }

        fn remove(&self, subnet: IpNet) {
            self.0.lock().unwrap().remove(&subnet);
        }
    }

    proptest! {
        /// Whatever comes and goes, lookups answer as a search through all subnets would, and a mirror
        /// that joined in the middle has what the table has.
        #[test]
        fn lookups_and_mirrors_agree_with_a_plain_list(
            changes in vec((0_u8..6, vec((any::<u8>(), 0_u8..=32), 0..4), any::<bool>()), 1..40),
            joined in 0_usize..40,
            questions in vec(any::<u8>(), 20),
        ) {
            let peers = Peers::new(IpVersion::V4);
            let copy = Arc::new(Copy::default());
            let mut list: HashMap<u8, (IpAddr, Vec<IpNet>)> = HashMap::new();
            for (at, (id, nets, stays)) in changes.iter().enumerate() {
                if at == joined.min(changes.len() - 1) {
                    peers.mirror_to(copy.clone());
                }
                let name = NodeId::new(id.to_string());
                if !stays {
                    list.remove(id);
                    peers.remove_peer(&name);
                    continue;
                }
                // Each subnet is somebody's alone, as the network in front of the table sees to.
                let taken = |net: &IpNet| list.iter().any(|(other, (_, nets))| other != id && nets.contains(net));
                let mut subnets: Vec<IpNet> = nets
                    .iter()
                    .map(|(octet, len)| IpNet::new([10, 0, *octet, octet.wrapping_mul(7)].into(), *len).unwrap().trunc())
                    .filter(|net| !taken(net))
                    .collect();
                subnets.sort();
                subnets.dedup();
                let endpoint: IpAddr = [192, 0, 2, *id].into();
                list.insert(*id, (endpoint, subnets.clone()));
                peers.set_peer(&Peer { id: name, subnets, endpoints: vec![endpoint], data: BackendData::default() });
            }
            let all: Vec<(IpNet, IpAddr)> =
                list.values().flat_map(|(to, nets)| nets.iter().map(|net| (*net, *to))).collect();
            for octet in questions {
                let address: IpAddr = [10, 0, octet, octet.wrapping_mul(7)].into();
                let expected = all.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
                prop_assert_eq!(
                    peers.lookup().owner(address).map(|remote| remote.endpoint),
                    expected.map(|(_, to)| *to)
                );
            }
            let copied = copy.0.lock().unwrap();
            prop_assert_eq!(copied.len(), all.len());
            for (net, to) in all {
                prop_assert_eq!(copied.get(&net).map(|remote| remote.endpoint), Some(to));
            }
        }
    }
}
