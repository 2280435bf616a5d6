//! Networks, nodes and subnets that the tests are about.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::json;

use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::family::{Endpoints, Subnets};
use crate::name::{NetworkName, NodeId};
use crate::store::Claim;

/// The network in which a test plays if it needs one only.
pub(crate) fn red() -> NetworkName {
    network("red")
}

/// Another network.
pub(crate) fn blue() -> NetworkName {
    network("blue")
}

fn network(name: &str) -> NetworkName {
    NetworkName::new(name).expect("a few lower-case letters are a name")
}

/// A network of both families, with a /24 and a /64 for each node.
pub(crate) fn config() -> NetworkConfig {
    let text = r#"{
        "Network": "10.5.0.0/16", "SubnetLen": 24,
        "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "IPv6SubnetLen": 64,
        "Backend": {"Type": "vxlan", "VNI": 1}
    }"#;
    NetworkConfig::from_json(text)
        .expect("two networks that are cut into subnets are a configuration")
}

/// The node with this number.
pub(crate) fn node(number: usize) -> NodeId {
    NodeId::new(format!("node-{number}")).expect("letters, a dash and a number are a name")
}

/// The IPv4 subnet with this number.
pub(crate) fn v4(number: u8) -> Ipv4Net {
    v4_of_length(number, 24)
}

/// The IPv4 subnet of `length` that begins where the one with this number does.
pub(crate) fn v4_of_length(number: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, 5, number, 0), length)
        .expect("the lengths in use are at most 32")
}

/// The IPv6 subnet with this number.
pub(crate) fn v6(number: u8) -> Ipv6Net {
    v6_of_length(number, 64)
}

/// The IPv6 subnet of `length` that begins where the one with this number does.
pub(crate) fn v6_of_length(number: u8, length: u8) -> Ipv6Net {
    Ipv6Net::new(Ipv6Addr::new(0xfd00, 5, 0, number.into(), 0, 0, 0, 0), length)
        .expect("the lengths in use are at most 128")
}

/// The subnets of both families with this number.
pub(crate) fn dual(number: u8) -> Subnets {
    (v4(number), v6(number)).into()
}

/// What the node with this number tells its peers at first.
pub(crate) fn attributes(number: usize) -> Attributes {
    let [.., high, low] = number.to_be_bytes();
    let address = Ipv4Addr::new(192, 0, high, low);
    let mut attributes = Attributes::new(Endpoints::at([address.into()]), "vxlan");
    attributes.data.v4 =
        Some(json!({"VNI": 1, "VtepMAC": format!("0a:58:c0:00:{high:02x}:{low:02x}")}));
    attributes
}

/// A time to live that no test outlasts.
pub(crate) const LONG: Option<Duration> = Some(Duration::from_secs(600));

/// Those subnets for the node with this number.
pub(crate) fn claim(
    subnets: impl Into<Subnets>,
    number: usize,
    ttl: Option<Duration>,
    under: &Configured,
) -> Claim {
    Claim {
        subnets: subnets.into(),
        node: Some(node(number)),
        attributes: attributes(number),
        ttl,
        under: under.revision,
    }
}
