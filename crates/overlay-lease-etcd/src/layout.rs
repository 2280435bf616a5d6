//! Which key says what.
//!
//! Below the prefix, or the prefix and the network's name, Flannel has
//!
//! ```text
//! config                                  the network's configuration
//! subnets/10.5.1.0-24                     a lease
//! subnets/10.5.1.0-24&fd00:5:1::-64       a lease of both families
//! ```
//!
//! and reads everything that begins with `subnets`, slash or not. Ours are
//!
//! ```text
//! ipv6-subnets/fd00:5:1::-64              a lease of IPv6 alone, for which Flannel has no form
//! tenants/ipv6/fd00:0005:0001:..-64       the subnets of the lease with these addresses, as mortal as the lease
//! tenants/nodes/NODE                      the subnets that a node has, or had last; it stays
//! ```
//!
//! What everybody watches lies between `config` and the end of
//! `subnets/`; what is under `tenants/` comes after that, so that it wakes nobody.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use overlay_lease::{NetworkName, NodeId, Subnets};

use crate::OptionsError;
use crate::rpc::KeyRange;

/// The largest subnets that a lease may have here. Looking for larger ones would make each transaction dearer, and nobody
/// gives a node as much.
pub(crate) const SHORTEST_V4: u8 = 8;
pub(crate) const SHORTEST_V6: u8 = 32;

/// The keys of one network.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: String,
}

/// What a key is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Config,
    Lease(Subnets),
    /// It stands where only leases should, and is none.
    Stray(String),
    /// It belongs to another network, or to nobody here.
    Elsewhere,
}

impl Layout {
    /// The network that has no name.
    pub(crate) fn unnamed(prefix: &str) -> Self {
        Self { root: prefix.to_owned() }
    }

    pub(crate) fn named(prefix: &str, network: &NetworkName) -> Result<Self, OptionsError> {
        let name = network.as_str();
        // Flannel takes whatever begins with `subnets` for leases of the network that has no name.
        if matches!(name, "config" | "ipv6-subnets" | "tenants") || name.starts_with("subnets") {
            return Err(OptionsError::Network { network: network.clone() });
        }
        Ok(Self { root: format!("{prefix}/{name}") })
    }

    pub(crate) fn config(&self) -> String {
        format!("{}/config", self.root)
    }

    pub(crate) fn lease(&self, subnets: &Subnets) -> String {
        let text = lease_name(subnets);
        let directory = if subnets.v4().is_some() { self.v4() } else { self.v6() };
        directory + &text
    }

    /// Where leases are that have IPv4.
    pub(crate) fn v4(&self) -> String {
        format!("{}/subnets/", self.root)
    }

    /// Where leases are that have not.
    pub(crate) fn v6(&self) -> String {
        format!("{}/ipv6-subnets/", self.root)
    }

    pub(crate) fn node(&self, node: &NodeId) -> String {
        self.nodes() + node.as_str()
    }

    pub(crate) fn nodes(&self) -> String {
        format!("{}/tenants/nodes/", self.root)
    }

    pub(crate) fn v6_index(&self, net: Ipv6Net) -> String {
        format!("{}{}-{}", self.v6_indices(), full(net.network()), net.prefix_len())
    }

    pub(crate) fn v6_indices(&self) -> String {
        format!("{}/tenants/ipv6/", self.root)
    }

    /// All keys that peers have to know about. Networks with names are in between, if this one has none.
    pub(crate) fn watched(&self) -> KeyRange {
        KeyRange::between(self.config(), KeyRange::prefix(self.v4()).end)
    }

    pub(crate) fn place(&self, key: &[u8]) -> Place {
        let Ok(key) = str::from_utf8(key) else {
            return match self.is_among_leases(key) {
                true => Place::Stray("not UTF-8".into()),
                false => Place::Elsewhere,
            };
        };
        if key == self.config() {
            return Place::Config;
        }
        if let Some(name) = key.strip_prefix(&self.v4()) {
            return parse_v4(name).map_or_else(Place::Stray, Place::Lease);
        }
        if let Some(name) = key.strip_prefix(&self.v6()) {
            return parse_v6(name)
                .and_then(|net| canonical(net.into(), name))
                .map_or_else(Place::Stray, Place::Lease);
        }
        Place::Elsewhere
    }

    fn is_among_leases(&self, key: &[u8]) -> bool {
        key.starts_with(self.v4().as_bytes()) || key.starts_with(self.v6().as_bytes())
    }
}

/// An address of which the order as text is the order as number.
pub(crate) fn full(address: Ipv6Addr) -> String {
    let groups: Vec<_> = address.segments().iter().map(|group| format!("{group:04x}")).collect();
    groups.join(":")
}

fn lease_name(subnets: &Subnets) -> String {
    let v4 = subnets.v4().map(|net| format!("{}-{}", net.network(), net.prefix_len()));
    let v6 = subnets.v6().map(|net| format!("{}-{}", net.network(), net.prefix_len()));
    let parts: Vec<_> = v4.into_iter().chain(v6).collect();
    parts.join("&")
}

fn parse_v4(name: &str) -> Result<Subnets, String> {
    let (v4, v6) = match name.split_once('&') {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (name, None),
    };
    let expected = || format!("expected subnets as in 10.5.1.0-24&fd00:5:1::-64, found {name}");
    let (address, length) = v4.split_once('-').ok_or_else(expected)?;
    let address: Ipv4Addr = address.parse().map_err(|_| expected())?;
    let length = length.parse().map_err(|_| expected())?;
    let v4 = Ipv4Net::new(address, length).map_err(|_| expected())?;
    let subnets = match v6 {
        Some(v6) => (v4, parse_v6(v6)?).into(),
        None => v4.into(),
    };
    canonical(subnets, name)
}

fn parse_v6(name: &str) -> Result<Ipv6Net, String> {
    let expected = || format!("expected a subnet as in fd00:5:1::-64, found {name}");
    let (address, length) = name.split_once('-').ok_or_else(expected)?;
    let address: Ipv6Addr = address.parse().map_err(|_| expected())?;
    let length = length.parse().map_err(|_| expected())?;
    Ipv6Net::new(address, length).map_err(|_| expected())
}

/// What is wrong with subnets that no lease can have here.
pub(crate) fn too_large(subnets: &Subnets) -> Option<String> {
    let too_large = subnets.v4().is_some_and(|net| net.prefix_len() < SHORTEST_V4)
        || subnets.v6().is_some_and(|net| net.prefix_len() < SHORTEST_V6);
    too_large.then(|| {
        format!("expected subnets of at least /{SHORTEST_V4} and /{SHORTEST_V6}, found {subnets}")
    })
}

/// One lease has one key: what could be written in another way as well is not believed.
fn canonical(subnets: Subnets, name: &str) -> Result<Subnets, String> {
    if let Some(problem) = too_large(&subnets) {
        return Err(problem);
    }
    let right = lease_name(&subnets);
    if right == name { Ok(subnets) } else { Err(format!("expected {right}, found {name}")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout() -> Layout {
        Layout::unnamed("/coreos.com/network")
    }

    #[test]
    fn keys_are_flannels() {
        for (subnets, key) in [
            ("10.5.1.0/24", "subnets/10.5.1.0-24"),
            ("10.99.84.0/24,fd99:99:0:e::/64", "subnets/10.99.84.0-24&fd99:99:0:e::-64"),
            ("fd99:99:0:e::/64", "ipv6-subnets/fd99:99:0:e::-64"),
        ] {
            let key = format!("/coreos.com/network/{key}");
            let subnets: Subnets = subnets.parse().unwrap();
            assert_eq!(layout().lease(&subnets), key);
            assert_eq!(layout().place(key.as_bytes()), Place::Lease(subnets));
        }
    }

    #[test]
    fn what_is_no_lease_is_told_why() {
        for name in [
            "",
            "10.5.1.0",
            "10.5.1.0-33",
            "10.5.1.0-024",
            "10.5.1.7-24",
            "010.5.1.0-24",
            "10.5.1.0-24&",
            "10.5.1.0-24&fd00::1-64",
            "10.5.1.0-24&FD00::-64",
            "10.5.1.0-24&10.6.0.0-24",
            "x10.5.1.0-24",
            "10.0.0.0-7",
            "10.5.1.0-24&fd00::-31",
            "10.5.1.0-24/x",
        ] {
            let place = layout().place(format!("/coreos.com/network/subnets/{name}").as_bytes());
            assert!(matches!(place, Place::Stray(_)), "{name}: {place:?}");
        }
        let place = layout().place(b"/coreos.com/network/subnets/\xff");
        assert!(matches!(place, Place::Stray(_)), "{place:?}");
        let place = layout().place(b"/coreos.com/network/ipv6-subnets/10.5.1.0-24");
        assert!(matches!(place, Place::Stray(_)), "{place:?}");
    }

    proptest! {
        #[test]
        fn no_name_is_fatal_and_none_is_believed_that_would_be_written_otherwise(
            name in "[0-9.&:a-f/-]{0,30}",
            bytes in any::<Vec<u8>>(),
        ) {
            for directory in ["subnets/", "ipv6-subnets/"] {
                let key = format!("/coreos.com/network/{directory}{name}");
                if let Place::Lease(subnets) = layout().place(key.as_bytes()) {
                    prop_assert_eq!(layout().lease(&subnets), key.clone());
                }
                layout().place(&[key.as_bytes(), &bytes].concat());
            }
        }
    }

    #[test]
    fn other_networks_are_elsewhere() {
        let red = Layout::named("/coreos.com/network", &"red".parse().unwrap()).unwrap();
        assert_eq!(red.place(b"/coreos.com/network/red/config"), Place::Config);
        for key in [
            "/coreos.com/network/red/config",
            "/coreos.com/network/red/subnets/10.5.1.0-24",
            "/coreos.com/network/tenants/nodes/a",
            "/coreos.com/network/confi",
        ] {
            assert_eq!(layout().place(key.as_bytes()), Place::Elsewhere, "{key}");
        }
        for name in ["config", "subnets", "subnets2", "ipv6-subnets", "tenants"] {
            let named = Layout::named("/p", &name.parse().unwrap());
            assert!(matches!(named, Err(OptionsError::Network { .. })), "{name}");
        }
    }

    #[test]
    fn everybody_watches_leases_and_configuration_and_nothing_of_tenants() {
        let (layout, node) = (layout(), NodeId::new("a").unwrap());
        let KeyRange { key, end } = layout.watched();
        let within = |other: String| (&key..&end).contains(&&other.into_bytes());
        assert!(within(layout.config()));
        assert!(within(layout.lease(&"10.5.1.0/24".parse().unwrap())));
        assert!(within(layout.lease(&"fd00::/64".parse().unwrap())));
        assert!(!within(layout.node(&node)));
        assert!(!within(layout.v6_index("fd00::/64".parse().unwrap())));
    }
}
