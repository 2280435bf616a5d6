//! What a node tells its peers, and Flannel's way of writing it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use crate::family::{ByFamily, Endpoint, Endpoints};

/// What a node tells its peers beside its subnets. All of it may change while the lease stays.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Attributes {
    /// Where the node is reached. Nothing, as long as a reservation is not taken up.
    pub endpoints: Endpoints,
    /// The kind of its backend, as in the network's configuration: `vxlan`, `host-gw`, `ipip`, `udp`.
    pub backend: Option<String>,
    /// What its backend wants peers to know, by the family of the underlay, and opaque here: such as
    /// `{"VNI":1,"VtepMAC":"0a:58:0a:05:01:00"}`.
    pub data: ByFamily<Value, Value>,
    /// Anything else, by name. Peers that do not know a name pass over it.
    pub others: BTreeMap<String, Value>,
}

/// JSON that does not describe a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{member}: expected {expected}, found {found}")]
#[non_exhaustive]
pub struct InvalidAttributes {
    /// The member.
    pub member: &'static str,
    /// What would be right.
    pub expected: &'static str,
    /// What is there, shortened.
    pub found: String,
}

const PUBLIC_IP: &str = "PublicIP";
const PUBLIC_IPV6: &str = "PublicIPv6";
const BIND_IP: &str = "BindIP";
const BIND_IPV6: &str = "BindIPv6";
const BACKEND_TYPE: &str = "BackendType";
const BACKEND_DATA: &str = "BackendData";
const BACKEND_V6_DATA: &str = "BackendV6Data";

impl Attributes {
    /// Reached at `endpoints`, by a backend of the kind `backend`.
    #[must_use]
    pub fn new(endpoints: Endpoints, backend: impl Into<String>) -> Self {
        Self { endpoints, backend: Some(backend.into()), ..Self::default() }
    }

    /// As Flannel writes the value of a lease: an object with `PublicIP`, `PublicIPv6`, `BackendType`, `BackendData` and
    /// `BackendV6Data`, each only where there is something to say, except that `PublicIP` is always there and
    /// `0.0.0.0` without IPv4. Ours are `BindIP` and `BindIPv6`, where they are not the public ones, and
    /// [others](Self::others).
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut json: Map<_, _> = self.others.clone().into_iter().collect();
        let v4 = self.endpoints.v4.unwrap_or(Endpoint::at(Ipv4Addr::UNSPECIFIED));
        let v6 = self.endpoints.v6;
        let members = [
            (PUBLIC_IP, Some(v4.advertised.to_string().into())),
            (BIND_IP, (v4.bind != v4.advertised).then(|| v4.bind.to_string().into())),
            (PUBLIC_IPV6, v6.map(|v6| v6.advertised.to_string().into())),
            (
                BIND_IPV6,
                v6.filter(|v6| v6.bind != v6.advertised).map(|v6| v6.bind.to_string().into()),
            ),
            (BACKEND_TYPE, self.backend.clone().map(Value::from)),
            (BACKEND_DATA, self.data.v4.clone()),
            (BACKEND_V6_DATA, self.data.v6.clone()),
        ];
        for (name, value) in members {
            match value {
                Some(value) => json.insert(name.to_owned(), value),
                None => json.remove(name),
            };
        }
        json
    }

    /// Reads what [`to_json`](Self::to_json) or Flannel wrote. Members that are missing or `null` say nothing, and
    /// members with other names are [others](Self::others).
    ///
    /// # Errors
    ///
    /// [`InvalidAttributes`] if a member is not of its kind.
    pub fn from_json(mut json: Map<String, Value>) -> Result<Self, InvalidAttributes> {
        let v4 = address(&mut json, PUBLIC_IP, "an IPv4 address")?
            .filter(|v4: &Ipv4Addr| !v4.is_unspecified());
        let v6 = address(&mut json, PUBLIC_IPV6, "an IPv6 address")?
            .filter(|v6: &Ipv6Addr| !v6.is_unspecified());
        let v4_bind = address(&mut json, BIND_IP, "an IPv4 address")?;
        let v6_bind = address(&mut json, BIND_IPV6, "an IPv6 address")?;
        let backend = match json.remove(BACKEND_TYPE) {
            None | Some(Value::Null) => None,
            Some(Value::String(kind)) => Some(kind).filter(|kind| !kind.is_empty()),
            Some(other) => return Err(invalid(BACKEND_TYPE, "a string", &other)),
        };
        let data = ByFamily {
            v4: json.remove(BACKEND_DATA).filter(|data| !data.is_null()),
            v6: json.remove(BACKEND_V6_DATA).filter(|data| !data.is_null()),
        };
        let endpoints = ByFamily {
            v4: v4.map(|v4| Endpoint { advertised: v4, bind: v4_bind.unwrap_or(v4) }),
            v6: v6.map(|v6| Endpoint { advertised: v6, bind: v6_bind.unwrap_or(v6) }),
        };
        Ok(Self { endpoints, backend, data, others: json.into_iter().collect() })
    }
}

fn address<A: std::str::FromStr>(
    json: &mut Map<String, Value>,
    member: &'static str,
    expected: &'static str,
) -> Result<Option<A>, InvalidAttributes> {
    match json.remove(member) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_str().and_then(|text| text.parse().ok()) {
            Some(address) => Ok(Some(address)),
            None => Err(invalid(member, expected, &value)),
        },
    }
}

fn invalid(member: &'static str, expected: &'static str, found: &Value) -> InvalidAttributes {
    const ENOUGH: usize = 100;
    InvalidAttributes { member, expected, found: found.to_string().chars().take(ENOUGH).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Attributes, InvalidAttributes> {
        let Value::Object(json) = value else { panic!("no object: {value}") };
        Attributes::from_json(json)
    }

    #[test]
    fn what_flannel_writes_is_read() {
        let attributes = read(json!({
            "PublicIP": "192.168.32.246",
            "PublicIPv6": null,
            "BackendType": "vxlan",
            "BackendData": {"VNI": 1, "VtepMAC": "0a:58:0a:05:01:00"},
        }))
        .unwrap();
        assert_eq!(attributes.endpoints, Endpoints::at(["192.168.32.246".parse().unwrap()]));
        assert_eq!(attributes.backend.as_deref(), Some("vxlan"));
        assert_eq!(attributes.data.v4, Some(json!({"VNI": 1, "VtepMAC": "0a:58:0a:05:01:00"})));
        assert!(attributes.others.is_empty());
        // Its udp backend tells the address only.
        let udp = read(json!({"PublicIP": "192.168.32.246"})).unwrap();
        assert_eq!((udp.backend, udp.data), (None, ByFamily::NONE));
        // Without IPv4 its address is still there.
        assert!(read(json!({"PublicIP": "0.0.0.0"})).unwrap().endpoints.is_empty());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut attributes = Attributes::new(
            ByFamily {
                v4: Some(Endpoint {
                    advertised: [203, 0, 113, 7].into(),
                    bind: [10, 0, 0, 7].into(),
                }),
                v6: Some(Endpoint::at("2001:db8::7".parse().unwrap())),
            },
            "vxlan",
        );
        attributes.data.v6 = Some(json!({"VNI": 1}));
        attributes.others.insert("Rack".into(), json!(12));
        let json = attributes.to_json();
        assert_eq!(
            Value::from(json.clone()),
            json!({
                "PublicIP": "203.0.113.7",
                "BindIP": "10.0.0.7",
                "PublicIPv6": "2001:db8::7",
                "BackendType": "vxlan",
                "BackendV6Data": {"VNI": 1},
                "Rack": 12,
            })
        );
        assert_eq!(Attributes::from_json(json), Ok(attributes));
        assert_eq!(Value::from(Attributes::default().to_json()), json!({"PublicIP": "0.0.0.0"}));
    }

    #[test]
    fn what_is_no_node_is_named() {
        for (value, member) in [
            (json!({"PublicIP": "300.1.1.1"}), "PublicIP"),
            (json!({"PublicIP": 7}), "PublicIP"),
            (json!({"PublicIPv6": "10.0.0.1"}), "PublicIPv6"),
            (json!({"PublicIP": "10.0.0.1", "BindIP": "::1"}), "BindIP"),
            (json!({"BackendType": 7}), "BackendType"),
        ] {
            assert_eq!(read(value).unwrap_err().member, member);
        }
        let long = read(json!({"PublicIP": "x".repeat(1000)})).unwrap_err();
        assert_eq!(long.found.len(), 100);
    }
}
