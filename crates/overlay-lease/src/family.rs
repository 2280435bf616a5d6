//! What exists once per address family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// `IPv4` or `IPv6`.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Something of IPv4, something of IPv6, both, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs)]
pub struct ByFamily<V4, V6> {
    /// That of IPv4.
    pub v4: Option<V4>,
    /// That of IPv6.
    pub v6: Option<V6>,
}

impl<V4, V6> ByFamily<V4, V6> {
    /// Nothing of either.
    pub const NONE: Self = Self { v4: None, v6: None };

    /// Whether there is nothing of either.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

impl<V4, V6> Default for ByFamily<V4, V6> {
    fn default() -> Self {
        Self::NONE
    }
}

/// Where a node is reached in the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs)]
pub struct Endpoint<A> {
    /// The address to which peers send. Behind address translation the node does not have it itself.
    pub advertised: A,
    /// The address that the node itself has, to bind to and to send from.
    pub bind: A,
}

impl<A: Copy> Endpoint<A> {
    /// Reached at the address that the node has.
    #[must_use]
    pub const fn at(address: A) -> Self {
        Self { advertised: address, bind: address }
    }
}

/// Where a node is reached over either family.
pub type Endpoints = ByFamily<Endpoint<Ipv4Addr>, Endpoint<Ipv6Addr>>;

impl Endpoints {
    /// Reached at these addresses, which the node has: the first of either family counts.
    pub fn at(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut endpoints = Self::NONE;
        for address in addresses {
            match address {
                IpAddr::V4(v4) if endpoints.v4.is_none() => endpoints.v4 = Some(Endpoint::at(v4)),
                IpAddr::V6(v6) if endpoints.v6.is_none() => endpoints.v6 = Some(Endpoint::at(v6)),
                _ => {}
            }
        }
        endpoints
    }

    /// The advertised addresses, IPv4 first.
    pub fn advertised(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.map(|endpoint| IpAddr::V4(endpoint.advertised));
        v4.into_iter().chain(self.v6.map(|endpoint| IpAddr::V6(endpoint.advertised)))
    }
}

/// The subnets of one lease: of one family or of both, without host bits. They are what a lease is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnets {
    by_family: ByFamily<Ipv4Net, Ipv6Net>,
}

/// A lease without any subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("subnets: expected one of either family or of both, found none")]
#[allow(clippy::exhaustive_structs)]
pub struct NoSubnet;

impl Subnets {
    /// These. Host bits are cleared.
    ///
    /// # Errors
    ///
    /// [`NoSubnet`] if there is neither.
    pub fn new(v4: Option<Ipv4Net>, v6: Option<Ipv6Net>) -> Result<Self, NoSubnet> {
        if v4.is_none() && v6.is_none() {
            return Err(NoSubnet);
        }
        Ok(Self {
            by_family: ByFamily { v4: v4.map(|net| net.trunc()), v6: v6.map(|net| net.trunc()) },
        })
    }

    /// That of IPv4.
    #[must_use]
    pub const fn v4(&self) -> Option<Ipv4Net> {
        self.by_family.v4
    }

    /// That of IPv6.
    #[must_use]
    pub const fn v6(&self) -> Option<Ipv6Net> {
        self.by_family.v6
    }

    /// All, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> + use<> {
        self.v4().map(IpNet::V4).into_iter().chain(self.v6().map(IpNet::V6))
    }

    /// Whether they have addresses in common.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> bool {
        let v4 = self.v4().zip(other.v4()).is_some_and(|(a, b)| a.contains(&b) || b.contains(&a));
        let v6 = self.v6().zip(other.v6()).is_some_and(|(a, b)| a.contains(&b) || b.contains(&a));
        v4 || v6
    }
}

impl From<Ipv4Net> for Subnets {
    fn from(v4: Ipv4Net) -> Self {
        Self { by_family: ByFamily { v4: Some(v4.trunc()), v6: None } }
    }
}

impl From<Ipv6Net> for Subnets {
    fn from(v6: Ipv6Net) -> Self {
        Self { by_family: ByFamily { v4: None, v6: Some(v6.trunc()) } }
    }
}

impl From<(Ipv4Net, Ipv6Net)> for Subnets {
    fn from((v4, v6): (Ipv4Net, Ipv6Net)) -> Self {
        Self { by_family: ByFamily { v4: Some(v4.trunc()), v6: Some(v6.trunc()) } }
    }
}

/// Separated by a comma: `10.5.1.0/24,fd00:5:1::/64`.
impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.v4(), self.v6()) {
            (Some(v4), Some(v6)) => format!("{v4},{v6}"),
            (Some(v4), None) => v4.to_string(),
            (None, v6) => v6.map(|v6| v6.to_string()).unwrap_or_default(),
        };
        f.pad(&text)
    }
}

impl fmt::Debug for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that names no subnets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "subnets {0:?}: expected a prefix, or one of each family separated by a comma, as in 10.5.1.0/24,fd00:5:1::/64"
)]
#[allow(clippy::exhaustive_structs)]
pub struct InvalidSubnets(pub String);

impl FromStr for Subnets {
    type Err = InvalidSubnets;

    fn from_str(text: &str) -> Result<Self, InvalidSubnets> {
        let invalid = || InvalidSubnets(text.to_owned());
        let mut by_family = ByFamily::NONE;
        for part in text.split(',') {
            let taken = match prefix(part.trim()).ok_or_else(invalid)? {
                IpNet::V4(v4) => by_family.v4.replace(v4.trunc()).is_some(),
                IpNet::V6(v6) => by_family.v6.replace(v6.trunc()).is_some(),
            };
            if taken {
                return Err(invalid());
            }
        }
        Ok(Self { by_family })
    }
}

/// Reads a prefix. Numbers have no leading zeros, which some take for octal, and which Flannel and its Go do not take.
fn prefix(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let number: u8 = length.parse().ok()?;
    let net = IpNet::new(address.parse().ok()?, number).ok()?;
    (number.to_string() == length).then_some(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(text: &str) -> Subnets {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_read_and_printed_without_host_bits() {
        for (text, printed) in [
            ("10.5.1.7/24", "10.5.1.0/24"),
            ("fd00::1/64", "fd00::/64"),
            ("fd00::/64,10.5.1.0/24", "10.5.1.0/24,fd00::/64"),
            ("10.5.1.0/24, fd00::/64", "10.5.1.0/24,fd00::/64"),
        ] {
            assert_eq!(subnets(text).to_string(), printed);
        }
        for text in [
            "",
            "10.5.1.0",
            "10.5.1.0/33",
            "10.5.1.0/024",
            "010.5.1.0/24",
            "10.5.01.0/24",
            "10.5.1.0/+24",
            "fd00::/064",
            "10.5.1.0/24,10.5.2.0/24",
            "10.5.1.0/24,",
        ] {
            assert_eq!(text.parse::<Subnets>().unwrap_err(), InvalidSubnets(text.to_owned()));
        }
        assert_eq!(Subnets::new(None, None), Err(NoSubnet));
    }

    #[test]
    fn one_family_in_common_is_an_overlap() {
        let both = subnets("10.5.1.0/24,fd00:0:0:1::/64");
        for other in [
            "10.5.1.0/24",
            "10.5.0.0/16",
            "10.5.1.128/25",
            "fd00::/48",
            "10.6.0.0/24,fd00:0:0:1::/64",
        ] {
            assert!(both.overlap(&subnets(other)) && subnets(other).overlap(&both), "{other}");
        }
        for other in ["10.5.2.0/24", "fd00:0:0:2::/64", "10.6.0.0/24,fd01::/64"] {
            assert!(!both.overlap(&subnets(other)) && !subnets(other).overlap(&both), "{other}");
        }
    }
}
