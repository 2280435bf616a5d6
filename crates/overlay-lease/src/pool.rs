//! The subnets of one family that a network has to lease.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::InvalidConfig;
use crate::family::Family;
use sealed::Address;

/// The subnets that are leased: a range of equally long ones within a network.
///
/// What is allowed is what Flannel allows with etcd: there is room for at least four subnets of at least four addresses
/// each. Unless it is asked for, the first subnet is left out, because its first address is that of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool<N> {
    network: N,
    first: N,
    last: N,
}

/// A prefix of either family: [`Ipv4Net`], [`Ipv6Net`], and nothing else.
pub trait Prefix: sealed::Bits + Ord + fmt::Debug + fmt::Display {
    /// The family.
    const FAMILY: Family;
    /// An address of the family.
    type Address: Address;
}

impl<N: Prefix> Pool<N> {
    /// The subnets of `network` that have the usual length: /24, or /64 with IPv6; if there are less than four of them,
    /// 2 bits more than the network. Host bits of the network are cleared.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the network is too small, or is everything there is.
    pub fn new(network: N) -> Result<Self, InvalidConfig> {
        let usual = N::USUAL_LEN.max(network.len().saturating_add(FOUR));
        Self::with_subnet_len(network, usual)
    }

    /// The subnets of `network` that have a prefix of `subnet_len` bits. Host bits of the network are cleared.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the network is too small, or is everything there is, or `subnet_len` leaves no room for four
    /// subnets or for four addresses in each of them.
    pub fn with_subnet_len(network: N, subnet_len: u8) -> Result<Self, InvalidConfig> {
        let (shortest, longest) = (network.len().saturating_add(FOUR), N::WIDTH - FOUR);
        if network.len() == 0 || shortest > longest {
            return Err(InvalidConfig {
                member: N::MEMBERS.network,
                expected: format!(
                    "a prefix of /1 to /{}, with room for four subnets of four addresses",
                    longest - FOUR
                ),
                found: network.to_string(),
            });
        }
        let network = N::at(network.bits(), network.len());
        if !(shortest..=longest).contains(&subnet_len) {
            return Err(InvalidConfig {
                member: N::MEMBERS.subnet_len,
                expected: format!(
                    "{shortest} to {longest}, with room for four subnets in {network} and for four addresses in each"
                ),
                found: subnet_len.to_string(),
            });
        }
        let second = network.bits() + (1 << (N::WIDTH - subnet_len));
        Ok(Self {
            network,
            first: N::at(second, subnet_len),
            last: N::at(network.end(), subnet_len),
        })
    }

    /// The same, from the subnet on that begins with the address `first`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the network has no subnet that begins there, or it is behind the last one, or the address is
    /// the unspecified one, which in Flannel's configuration stands for the usual first subnet.
    pub fn starting_at(self, first: N::Address) -> Result<Self, InvalidConfig> {
        match self.beginning_with(first) {
            Some(subnet) if first.bits() != 0 && subnet <= self.last => {
                Ok(Self { first: subnet, ..self })
            }
            _ => {
                let from = N::at(self.network.bits(), self.subnet_len());
                Err(self.no_subnet(N::MEMBERS.subnet_min, first, from, self.last))
            }
        }
    }

    /// The same, up to and with the subnet that begins with the address `last`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the network has no subnet that begins there, or it is before the first one.
    pub fn ending_at(self, last: N::Address) -> Result<Self, InvalidConfig> {
        match self.beginning_with(last) {
            Some(subnet) if subnet >= self.first => Ok(Self { last: subnet, ..self }),
            _ => {
                let to = N::at(self.network.end(), self.subnet_len());
                Err(self.no_subnet(N::MEMBERS.subnet_max, last, self.first, to))
            }
        }
    }

    /// What is divided into subnets.
    #[must_use]
    pub const fn network(&self) -> N {
        self.network
    }

    /// How many bits the prefix of each subnet has.
    #[must_use]
    pub fn subnet_len(&self) -> u8 {
        self.first.len()
    }

    /// The first subnet.
    #[must_use]
    pub const fn first(&self) -> N {
        self.first
    }

    /// The last subnet.
    #[must_use]
    pub const fn last(&self) -> N {
        self.last
    }

    /// How many subnets there are: at least 1, and at most 2^125.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.index_at(self.last.bits()) + 1
    }

    /// The subnet that has `index` others before it; `None` if there are not that many.
    #[must_use]
    pub fn nth(&self, index: u128) -> Option<N> {
        (index < self.count()).then(|| {
            let offset = index << (N::WIDTH - self.subnet_len());
            N::at(self.first.bits() + offset, self.subnet_len())
        })
    }

    /// How many others are before `subnet`; `None` if it is not one of them.
    #[must_use]
    pub fn index(&self, subnet: N) -> Option<u128> {
        self.contains(subnet).then(|| self.index_at(subnet.bits()))
    }

    /// Whether `subnet` is one of them.
    #[must_use]
    pub fn contains(&self, subnet: N) -> bool {
        let right_length = subnet.len() == self.subnet_len() && subnet.bits() == subnet.start();
        right_length && (self.first.bits()..=self.last.bits()).contains(&subnet.bits())
    }

    /// The indexes of the first and of the last subnet that has addresses in common with `other`, which
    /// has no host bits; `None` if none has.
    pub(crate) fn overlapped_by(&self, other: N) -> Option<(u128, u128)> {
        let start = other.bits().max(self.first.bits());
        let end = other.end().min(self.last.end());
        (start <= end).then(|| (self.index_at(start), self.index_at(end)))
    }

    /// The index of the subnet with this address, which is not before the first subnet.
    fn index_at(&self, bits: u128) -> u128 {
        (bits - self.first.bits()) >> (N::WIDTH - self.subnet_len())
    }

    /// The subnet of the network that begins with this address, whether it is leased or not.
    fn beginning_with(&self, address: N::Address) -> Option<N> {
        let subnet = N::at(address.bits(), self.subnet_len());
        let within = N::at(address.bits(), self.network.len()) == self.network;
        (within && subnet.bits() == address.bits()).then_some(subnet)
    }

    fn no_subnet(&self, member: &'static str, found: N::Address, from: N, to: N) -> InvalidConfig {
        InvalidConfig {
            member,
            expected: format!(
                "where a /{} of {} begins, from {} to {}, as {}",
                self.subnet_len(),
                self.network,
                address(from),
                address(to),
                address(N::at(found.bits(), self.subnet_len()).clamp(from, to))
            ),
            found: found.to_string(),
        }
    }
}

/// `10.5.1.0/24 to 10.5.255.0/24 in 10.5.0.0/16`.
impl<N: Prefix> fmt::Display for Pool<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} in {}", self.first, self.last, self.network)
    }
}

/// The first address of a subnet.
pub(crate) fn address<N: Prefix>(subnet: N) -> N::Address {
    N::Address::from_bits(subnet.bits())
}

/// As many bits as it takes to number four.
const FOUR: u8 = 2;

impl Prefix for Ipv4Net {
    const FAMILY: Family = Family::V4;
    type Address = Ipv4Addr;
}

impl Prefix for Ipv6Net {
    const FAMILY: Family = Family::V6;
    type Address = Ipv6Addr;
}

pub(crate) mod sealed {
    use std::fmt;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::str::FromStr;

    use ipnet::{Ipv4Net, Ipv6Net};

    use crate::family::Subnets;

    /// What the members of the configuration are called that describe a pool.
    #[derive(Clone, Copy, Debug)]
    pub struct Members {
        pub network: &'static str,
        pub subnet_len: &'static str,
        pub subnet_min: &'static str,
        pub subnet_max: &'static str,
    }

    /// An address as a number.
    pub trait Address: Copy + fmt::Display + FromStr {
        fn bits(self) -> u128;
        /// Of what does not fit, the lowest bits.
        fn from_bits(bits: u128) -> Self;
    }

    /// A prefix as numbers.
    pub trait Bits: Copy + Eq {
        const WIDTH: u8;
        const USUAL_LEN: u8;
        const EXAMPLE: &str;
        const MEMBERS: Members;
        fn bits(self) -> u128;
        fn len(self) -> u8;
        /// That of its family.
        fn of(subnets: &Subnets) -> Option<Self>;
        /// Host bits are cleared, lengths beyond the width cut.
        fn at(bits: u128, len: u8) -> Self;

        /// The first address.
        fn start(self) -> u128 {
            self.bits() & !self.host_mask()
        }

        /// The last address.
        fn end(self) -> u128 {
            self.bits() | self.host_mask()
        }

        fn host_mask(self) -> u128 {
            let host_bits = u32::from(Self::WIDTH - self.len());
            1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1)
        }
    }

    impl Address for Ipv4Addr {
        fn bits(self) -> u128 {
            u32::from(self).into()
        }

        fn from_bits(bits: u128) -> Self {
            Self::from(bits as u32)
        }
    }

    impl Address for Ipv6Addr {
        fn bits(self) -> u128 {
            self.into()
        }

        fn from_bits(bits: u128) -> Self {
            Self::from(bits)
        }
    }

    macro_rules! bits {
        ($net:ident, $address:ident, $of:ident, $width:literal, $usual:literal, $example:literal, $members:expr) => {
            impl Bits for $net {
                const WIDTH: u8 = $width;
                const USUAL_LEN: u8 = $usual;
                const EXAMPLE: &str = $example;
                const MEMBERS: Members = $members;

                fn of(subnets: &Subnets) -> Option<Self> {
                    subnets.$of()
                }

                fn bits(self) -> u128 {
                    self.addr().bits()
                }

                fn len(self) -> u8 {
                    self.prefix_len()
                }

                fn at(bits: u128, len: u8) -> Self {
                    // The length fits, the only thing asserted.
                    Self::new_assert(<$address as Address>::from_bits(bits), len.min($width))
                        .trunc()
                }
            }
        };
    }

    bits!(
        Ipv4Net,
        Ipv4Addr,
        v4,
        32,
        24,
        "10.5.0.0/16",
        Members {
            network: "Network",
            subnet_len: "SubnetLen",
            subnet_min: "SubnetMin",
            subnet_max: "SubnetMax",
        }
    );
    bits!(
        Ipv6Net,
        Ipv6Addr,
        v6,
        128,
        64,
        "fd00:5::/48",
        Members {
            network: "IPv6Network",
            subnet_len: "IPv6SubnetLen",
            subnet_min: "IPv6SubnetMin",
            subnet_max: "IPv6SubnetMax",
        }
    );
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any pool there can be.
    pub(crate) fn any_pool<N: Prefix>() -> impl Strategy<Value = Pool<N>> {
        (any::<u128>(), 1..=N::WIDTH - 2 * FOUR, any::<u8>(), any::<u128>(), any::<u128>())
            .prop_map(|(bits, len, more, a, b)| {
                let subnet_len = len + FOUR + more % (N::WIDTH - 2 * FOUR - len + 1);
                let pool = Pool::with_subnet_len(N::at(bits, len), subnet_len).unwrap();
                let (a, b) = (a % pool.count(), b % pool.count());
                let [first, last] = [a.min(b), a.max(b)].map(|index| pool.nth(index).unwrap());
                pool.starting_at(address(first)).unwrap().ending_at(address(last)).unwrap()
            })
    }

    fn v4(network: &str) -> Result<Pool<Ipv4Net>, InvalidConfig> {
        Pool::new(network.parse().unwrap())
    }

    fn v6(network: &str) -> Result<Pool<Ipv6Net>, InvalidConfig> {
        Pool::new(network.parse().unwrap())
    }

    #[test]
    fn the_usual_pool_is_that_of_flannel() {
        for (network, pool, count) in [
            ("10.5.0.0/16", "10.5.1.0/24 to 10.5.255.0/24 in 10.5.0.0/16", 255),
            ("10.5.7.7/22", "10.5.5.0/24 to 10.5.7.0/24 in 10.5.4.0/22", 3),
            ("10.5.0.0/23", "10.5.0.128/25 to 10.5.1.128/25 in 10.5.0.0/23", 3),
            ("10.5.0.0/28", "10.5.0.4/30 to 10.5.0.12/30 in 10.5.0.0/28", 3),
            ("128.0.0.0/1", "128.0.1.0/24 to 255.255.255.0/24 in 128.0.0.0/1", (1 << 23) - 1),
        ] {
            let found = v4(network).unwrap();
            assert_eq!((found.to_string().as_str(), found.count()), (pool, count));
        }
        for (network, pool, count) in [
            ("fd00::/48", "fd00:0:0:1::/64 to fd00:0:0:ffff::/64 in fd00::/48", (1 << 16) - 1),
            ("fd00::/62", "fd00:0:0:1::/64 to fd00:0:0:3::/64 in fd00::/62", 3),
            ("fd00::/63", "fd00::8000:0:0:0/65 to fd00:0:0:1:8000::/65 in fd00::/63", 3),
            ("fd00::/124", "fd00::4/126 to fd00::c/126 in fd00::/124", 3),
            ("8000::/1", "8000:0:0:1::/64 to ffff:ffff:ffff:ffff::/64 in 8000::/1", (1 << 63) - 1),
        ] {
            let found = v6(network).unwrap();
            assert_eq!((found.to_string().as_str(), found.count()), (pool, count));
        }
    }

    #[test]
    fn what_is_too_small_or_too_large_is_refused() {
        for (network, member) in [("0.0.0.0/0", "Network"), ("10.0.0.0/29", "Network")] {
            assert_eq!(v4(network).unwrap_err().member, member);
        }
        for network in ["::/0", "fd00::/125", "fd00::1/128"] {
            assert_eq!(v6(network).unwrap_err().member, "IPv6Network");
        }
        let network: Ipv4Net = "10.5.0.0/16".parse().unwrap();
        for (subnet_len, fits) in [(0, false), (17, false), (18, true), (30, true), (31, false)] {
            assert_eq!(Pool::with_subnet_len(network, subnet_len).is_ok(), fits, "{subnet_len}");
        }
        assert!(Pool::with_subnet_len(network, 255).is_err());
        let widest: Ipv6Net = "8000::/1".parse().unwrap();
        assert_eq!(Pool::with_subnet_len(widest, 126).unwrap().count(), (1 << 125) - 1);
        assert!(Pool::with_subnet_len(widest, 127).is_err());
    }

    #[test]
    fn a_range_begins_and_ends_with_subnets_of_the_network() {
        let pool = v4("10.5.0.0/16").unwrap();
        let first = |address: [u8; 4]| pool.starting_at(address.into()).map(|pool| pool.count());
        assert_eq!(first([10, 5, 0, 0]), Ok(256));
        assert_eq!(first([10, 5, 255, 0]), Ok(1));
        let last = |address: [u8; 4]| pool.ending_at(address.into()).map(|pool| pool.count());
        assert_eq!(last([10, 5, 1, 0]), Ok(1));
        for wrong in [[10, 4, 255, 0], [10, 6, 0, 0], [10, 5, 1, 1]] {
            assert_eq!(first(wrong).unwrap_err().member, "SubnetMin");
            assert_eq!(last(wrong).unwrap_err().member, "SubnetMax");
        }
        assert!(last([10, 5, 0, 0]).is_err(), "before the first");
        let narrow = pool.ending_at([10, 5, 16, 0].into()).unwrap();
        assert_eq!(
            narrow.starting_at([10, 5, 17, 9].into()).unwrap_err().to_string(),
            "SubnetMin: expected where a /24 of 10.5.0.0/16 begins, from 10.5.0.0 to 10.5.16.0, \
             as 10.5.16.0, found 10.5.17.9"
        );
        let zeros = v4("0.0.0.0/8").unwrap();
        assert!(zeros.starting_at(Ipv4Addr::UNSPECIFIED).is_err(), "stands for 0.0.1.0");
    }

    #[test]
    fn what_overlaps_is_found_by_index() {
        let pool = v4("10.5.0.0/16").unwrap();
        for (other, overlapped) in [
            ("10.5.1.0/24", Some((0, 0))),
            ("10.5.3.64/26", Some((2, 2))),
            ("10.5.2.0/23", Some((1, 2))),
            ("10.0.0.0/8", Some((0, 254))),
            ("0.0.0.0/0", Some((0, 254))),
            ("10.5.0.0/24", None),
            ("10.6.0.0/16", None),
        ] {
            assert_eq!(pool.overlapped_by(other.parse().unwrap()), overlapped, "{other}");
        }
        let pool = v6("fd00::/16").unwrap();
        assert_eq!(pool.overlapped_by("::/0".parse().unwrap()), Some((0, pool.count() - 1)));
    }

    proptest! {
        #[test]
        fn every_subnet_of_ipv4_has_an_index(pool in any_pool::<Ipv4Net>(), at: u128, other: u128) {
            indexes(&pool, at, other)?;
        }

        #[test]
        fn every_subnet_of_ipv6_has_an_index(pool in any_pool::<Ipv6Net>(), at: u128, other: u128) {
            indexes(&pool, at, other)?;
        }
    }

    fn indexes<N: Prefix>(pool: &Pool<N>, at: u128, other: u128) -> Result<(), TestCaseError> {
        let index = at % pool.count();
        let Some(subnet) = pool.nth(index) else {
            return Err(TestCaseError::fail("no such subnet"));
        };
        prop_assert_eq!(pool.index(subnet), Some(index));
        prop_assert_eq!(pool.overlapped_by(subnet), Some((index, index)));
        prop_assert!(pool.contains(subnet));
        prop_assert_eq!(N::at(subnet.bits(), pool.network().len()), pool.network());
        prop_assert!((index == 0) == (subnet == pool.first()));
        prop_assert_eq!(pool.nth(pool.count() - 1), Some(pool.last()));
        prop_assert_eq!(pool.nth(pool.count()), None);
        prop_assert!(!pool.contains(N::at(subnet.bits(), subnet.len() + 1)));
        let other = N::at(pool.network().bits() ^ (other >> pool.network().len()), subnet.len());
        let within = pool.first() <= other && other <= pool.last();
        prop_assert_eq!(pool.index(other).is_some(), within);
        Ok(())
    }
}
