//! What a network is made of.

use std::fmt;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Map, Value};

use crate::family::{ByFamily, Subnets};
use crate::lease::Revision;
use crate::pool::sealed::Address;
use crate::pool::{Pool, Prefix, address};

/// The configuration of a network: which subnets there are to lease, and by what kind of backend nodes reach each other.
///
/// It is written as Flannel's `net-conf.json`: an object with the members `Network`, `SubnetLen`, `SubnetMin`, `SubnetMax`,
/// the same beginning with `IPv6`, `EnableIPv4`, `EnableIPv6` and `Backend`. What Flannel accepts from etcd is accepted
/// here and means the same, except that it has to be of use: at least one family is enabled, there is a subnet to lease,
/// the backend has a type, and no member is there twice in different spellings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    pools: ByFamily<Pool<Ipv4Net>, Pool<Ipv6Net>>,
    backend: BackendConfig,
    others: Map<String, Value>,
}

/// What kind of backend the nodes of a network have, and how it is set up.
///
/// The options are opaque here. There may be keys among them, so that `Debug` tells only what they are called.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendConfig {
    kind: String,
    options: Map<String, Value>,
}

/// A configuration that no network can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{member}: expected {expected}, found {found}")]
#[non_exhaustive]
pub struct InvalidConfig {
    /// The member that is wrong, as it is called in JSON; `configuration` if it is all of it.
    pub member: &'static str,
    /// What would be right.
    pub expected: String,
    /// What is there, shortened.
    pub found: String,
}

/// Subnets that a configuration does not have to lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotInPool {
    /// A subnet is none of those that are leased.
    #[error("{subnet}: expected one of {pool}")]
    Outside {
        /// The subnet.
        subnet: IpNet,
        /// Those that are leased.
        pool: String,
    },
    /// A subnet is of a family that is not enabled.
    #[error("{subnet}: the network has no subnets of this family")]
    Disabled {
        /// The subnet.
        subnet: IpNet,
    },
    /// There is no subnet of a family that is enabled.
    #[error("expected also one of {pool}")]
    Missing {
        /// Those that are leased.
        pool: String,
    },
}

/// A configuration as a store has it.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Configured {
    /// The configuration.
    pub config: Arc<NetworkConfig>,
    /// When it was written.
    pub revision: Revision,
}

const CONFIGURATION: &str = "configuration";
const ENABLE_IPV4: &str = "EnableIPv4";
const ENABLE_IPV6: &str = "EnableIPv6";
const BACKEND: &str = "Backend";
const TYPE: &str = "Type";
const BACKEND_TYPE: &str = "Backend.Type";

impl NetworkConfig {
    /// Subnets from these pools, one or both.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if there is no pool.
    pub fn new(
        pools: ByFamily<Pool<Ipv4Net>, Pool<Ipv6Net>>,
        backend: BackendConfig,
    ) -> Result<Self, InvalidConfig> {
        if pools.is_empty() {
            return Err(invalid(ENABLE_IPV4, "true, if EnableIPv6 is not", "false"));
        }
        Ok(Self { pools, backend, others: Map::new() })
    }

    /// Reads what [`to_json`](Self::to_json) or somebody who configures Flannel wrote.
    ///
    /// As with Flannel, the case of the letters of member names is of no importance, what is missing or `null` has its
    /// usual value, and an address of zeros counts as missing. Missing `SubnetLen`, `SubnetMin` and `SubnetMax` are those
    /// of [`Pool::new`], a missing `Backend` is `{"Type":"udp"}`. The members of a family that is not enabled, and all
    /// others, are kept as they are.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], with the member that is wrong.
    pub fn from_json(text: &str) -> Result<Self, InvalidConfig> {
        let expected = r#"a JSON object, as {"Network":"10.5.0.0/16"}"#;
        let mut json = match serde_json::from_str(text) {
            Ok(Value::Object(json)) => json,
            Ok(other) => return Err(invalid(CONFIGURATION, expected, kind_of(&other))),
            Err(error) => return Err(invalid(CONFIGURATION, expected, &error.to_string())),
        };
        let enabled = |json: &mut _, member| read(json, member, "true or false", Value::as_bool);
        let v4 = enabled(&mut json, ENABLE_IPV4)?.unwrap_or(true);
        let v6 = enabled(&mut json, ENABLE_IPV6)?.unwrap_or(false);
        let pools = ByFamily {
            v4: if v4 { Some(read_pool(&mut json)?) } else { None },
            v6: if v6 { Some(read_pool(&mut json)?) } else { None },
        };
        let backend = match take(&mut json, BACKEND, BACKEND)? {
            None => BackendConfig { kind: "udp".into(), options: Map::new() },
            Some(Value::Object(backend)) => BackendConfig::from_json(backend)?,
            Some(other) => {
                let expected = r#"an object, as {"Type":"vxlan"}"#;
                return Err(invalid(BACKEND, expected, kind_of(&other)));
            }
        };
        Ok(Self { others: json, ..Self::new(pools, backend)? })
    }

    /// As Flannel's `net-conf.json`, in one line. Nothing is left to its defaults, which were not always the same.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = self.others.clone();
        json.insert(ENABLE_IPV4.into(), self.pools.v4.is_some().into());
        json.insert(ENABLE_IPV6.into(), self.pools.v6.is_some().into());
        if let Some(pool) = &self.pools.v4 {
            write_pool(&mut json, pool);
        }
        if let Some(pool) = &self.pools.v6 {
            write_pool(&mut json, pool);
        }
        let mut backend = self.backend.options.clone();
        backend.insert(TYPE.into(), self.backend.kind.clone().into());
        json.insert(BACKEND.into(), backend.into());
        Value::Object(json).to_string()
    }

    /// The subnets to lease: of one family or of both.
    #[must_use]
    pub const fn pools(&self) -> &ByFamily<Pool<Ipv4Net>, Pool<Ipv6Net>> {
        &self.pools
    }

    /// The backend.
    #[must_use]
    pub const fn backend(&self) -> &BackendConfig {
        &self.backend
    }

    /// What the JSON says beside what this type knows, such as `EnableNFTables`, by name.
    #[must_use]
    pub const fn others(&self) -> &Map<String, Value> {
        &self.others
    }

    /// Whether these are subnets that a node may get: one of each pool.
    ///
    /// # Errors
    ///
    /// [`NotInPool`] if they are not.
    pub fn admits(&self, subnets: &Subnets) -> Result<(), NotInPool> {
        admits(self.pools.v4.as_ref(), subnets.v4())?;
        admits(self.pools.v6.as_ref(), subnets.v6())
    }
}

impl BackendConfig {
    /// A backend of this kind, such as `vxlan`, `host-gw`, `ipip` or `udp`, in lower case, whatever case it is given in.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] if the kind is empty, or there is an option called `Type`.
    pub fn new(
        kind: impl Into<String>,
        options: Map<String, Value>,
    ) -> Result<Self, InvalidConfig> {
        let mut kind = kind.into();
        kind.make_ascii_lowercase();
        if kind.is_empty() {
            return Err(invalid(BACKEND_TYPE, KIND, r#""""#));
        }
        if options.keys().any(|name| name.eq_ignore_ascii_case(TYPE)) {
            return Err(invalid(BACKEND_TYPE, "to be there once", "it among the options, too"));
        }
        Ok(Self { kind, options })
    }

    fn from_json(mut json: Map<String, Value>) -> Result<Self, InvalidConfig> {
        match take(&mut json, TYPE, BACKEND_TYPE)? {
            None => Err(invalid(BACKEND_TYPE, KIND, "nothing")),
            Some(Value::String(kind)) => Self::new(kind, json),
            Some(other) => Err(invalid(BACKEND_TYPE, KIND, kind_of(&other))),
        }
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The options, by name.
    #[must_use]
    pub const fn options(&self) -> &Map<String, Value> {
        &self.options
    }
}

const KIND: &str = "the name of a backend, as vxlan";

impl fmt::Debug for BackendConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.options.keys().collect();
        f.debug_struct("BackendConfig").field("kind", &self.kind).field("options", &names).finish()
    }
}

fn admits<N: Prefix + Into<IpNet>>(
    pool: Option<&Pool<N>>,
    subnet: Option<N>,
) -> Result<(), NotInPool> {
    match (pool, subnet) {
        (None, None) => Ok(()),
        (Some(pool), Some(subnet)) if pool.contains(subnet) => Ok(()),
        (Some(pool), Some(subnet)) => {
            Err(NotInPool::Outside { subnet: subnet.into(), pool: pool.to_string() })
        }
        (None, Some(subnet)) => Err(NotInPool::Disabled { subnet: subnet.into() }),
        (Some(pool), None) => Err(NotInPool::Missing { pool: pool.to_string() }),
    }
}

fn read_pool<N: Prefix>(json: &mut Map<String, Value>) -> Result<Pool<N>, InvalidConfig> {
    let members = N::MEMBERS;
    let prefix = format!("an {} prefix, as {}", N::FAMILY, N::EXAMPLE);
    let network = read(json, members.network, &prefix, |value| parse_prefix(value.as_str()?))?
        .ok_or_else(|| invalid(members.network, &prefix, "nothing"))?;
    let subnet_len = read(json, members.subnet_len, "a number of bits", |value| {
        value.as_u64().and_then(|len| u8::try_from(len).ok())
    })?;
    let mut pool = match subnet_len {
        None | Some(0) => Pool::new(network)?,
        Some(len) => Pool::with_subnet_len(network, len)?,
    };
    if let Some(first) = read_address::<N>(json, members.subnet_min)? {
        pool = pool.starting_at(first)?;
    }
    if let Some(last) = read_address::<N>(json, members.subnet_max)? {
        pool = pool.ending_at(last)?;
    }
    Ok(pool)
}

fn write_pool<N: Prefix>(json: &mut Map<String, Value>, pool: &Pool<N>) {
    let members = N::MEMBERS;
    json.insert(members.network.into(), pool.network().to_string().into());
    json.insert(members.subnet_len.into(), pool.subnet_len().into());
    json.insert(members.subnet_min.into(), address(pool.first()).to_string().into());
    json.insert(members.subnet_max.into(), address(pool.last()).to_string().into());
}

fn read_address<N: Prefix>(
    json: &mut Map<String, Value>,
    member: &'static str,
) -> Result<Option<N::Address>, InvalidConfig> {
    let expected = format!("an {} address", N::FAMILY);
    let address = read(json, member, &expected, |value| value.as_str()?.parse().ok())?;
    Ok(address.filter(|address: &N::Address| address.bits() != 0))
}

/// The parser of the prefix types reads numbers with leading zeros, about which opinions differ.
fn parse_prefix<N: Prefix>(text: &str) -> Option<N> {
    let (address, len) = text.split_once('/')?;
    let address: N::Address = address.parse().ok()?;
    let digits = (1..=3).contains(&len.len()) && len.bytes().all(|b| b.is_ascii_digit());
    let len = len.parse().ok().filter(|len| digits && *len <= N::WIDTH)?;
    Some(N::at(address.bits(), len))
}

/// Takes out a member that may be missing.
fn read<T>(
    json: &mut Map<String, Value>,
    member: &'static str,
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, InvalidConfig> {
    match take(json, member, member)? {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(invalid(member, expected, &scalar(&value))),
        },
    }
}

/// Takes out the member `name`, however it is spelled. Which of several Flannel takes depends on their order in the text.
fn take(
    json: &mut Map<String, Value>,
    name: &str,
    member: &'static str,
) -> Result<Option<Value>, InvalidConfig> {
    let same = |spelling: &&String| spelling.eq_ignore_ascii_case(name);
    let spellings: Vec<_> = json.keys().filter(same).cloned().collect();
    match spellings.as_slice() {
        [] => Ok(None),
        [spelling] => Ok(json.remove(spelling)),
        several => Err(invalid(member, "it once", &several.join(" and "))),
    }
}

fn invalid(member: &'static str, expected: &str, found: &str) -> InvalidConfig {
    const ENOUGH: usize = 100;
    let found = found.chars().take(ENOUGH).collect();
    InvalidConfig { member, expected: expected.to_owned(), found }
}

/// The value, unless it is one of many values.
fn scalar(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind_of(value).to_owned(),
        _ => value.to_string(),
    }
}

/// What a value is, without telling what is in it.
const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::pool::tests::any_pool;

    fn read_value(value: &Value) -> Result<NetworkConfig, InvalidConfig> {
        NetworkConfig::from_json(&value.to_string())
    }

    #[test]
    fn what_flannel_is_configured_with_is_read() {
        let config = NetworkConfig::from_json(
            r#"{
                "Network": "10.0.0.0/8", "SubnetLen": 20,
                "SubnetMin": "10.10.0.0", "SubnetMax": "10.99.0.0",
                "EnableNFTables": true,
                "Backend": {"Type": "VXLAN", "VNI": 7, "DirectRouting": true}
            }"#,
        )
        .unwrap();
        let pool = config.pools().v4.unwrap();
        assert_eq!(pool.to_string(), "10.10.0.0/20 to 10.99.0.0/20 in 10.0.0.0/8");
        assert_eq!(config.pools().v6, None);
        assert_eq!(config.backend().kind(), "vxlan");
        assert_eq!(
            Value::Object(config.backend().options().clone()),
            json!({"VNI": 7, "DirectRouting": true})
        );
        assert_eq!(Value::Object(config.others().clone()), json!({"EnableNFTables": true}));
        assert_eq!(
            serde_json::from_str::<Value>(&config.to_json()).unwrap(),
            json!({
                "EnableIPv4": true, "EnableIPv6": false, "EnableNFTables": true,
                "Network": "10.0.0.0/8", "SubnetLen": 20,
                "SubnetMin": "10.10.0.0", "SubnetMax": "10.99.0.0",
                "Backend": {"Type": "vxlan", "VNI": 7, "DirectRouting": true},
            })
        );
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let config = NetworkConfig::from_json(r#"{"Network":"10.5.0.0/16"}"#).unwrap();
        assert_eq!(config.pools().v4, Some(Pool::new("10.5.0.0/16".parse().unwrap()).unwrap()));
        assert_eq!((config.backend().kind(), config.backend().options()), ("udp", &Map::new()));
        let zeros = json!({
            "Network": "10.5.0.0/16", "SubnetLen": 0, "SubnetMin": "0.0.0.0", "SubnetMax": null,
            "EnableIPv4": null,
        });
        assert_eq!(read_value(&zeros).unwrap(), config);
        let built = NetworkConfig::new(
            ByFamily { v4: config.pools().v4, v6: None },
            BackendConfig::new("UDP", Map::new()).unwrap(),
        );
        assert_eq!(built, Ok(config));
    }

    #[test]
    fn the_case_of_names_is_of_no_importance() {
        let config = read_value(&json!({
            "network": "10.5.0.0/16", "SUBNETLEN": 26, "enableipv6": true, "ipv6network": "fd00::/56",
            "backend": {"type": "host-gw"},
        }))
        .unwrap();
        assert_eq!(config.pools().v4.unwrap().subnet_len(), 26);
        assert_eq!(config.pools().v6.unwrap().count(), 255);
        assert_eq!(config.backend().kind(), "host-gw");
        assert!(config.others().is_empty());
    }

    #[test]
    fn a_family_that_is_not_enabled_is_kept_and_not_looked_at() {
        let v6_only = json!({
            "EnableIPv4": false, "Network": "nowhere", "EnableIPv6": true,
            "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan"},
        });
        let config = read_value(&v6_only).unwrap();
        assert!(config.pools().v4.is_none() && config.pools().v6.is_some());
        assert_eq!(config.others().get("Network"), Some(&json!("nowhere")));
        assert_eq!(NetworkConfig::from_json(&config.to_json()), Ok(config));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, error) in [
            (
                json!([]),
                r#"configuration: expected a JSON object, as {"Network":"10.5.0.0/16"}, found an array"#,
            ),
            (json!({}), "Network: expected an IPv4 prefix, as 10.5.0.0/16, found nothing"),
            (
                json!({"Network": "10.5.0.0"}),
                r#"Network: expected an IPv4 prefix, as 10.5.0.0/16, found "10.5.0.0""#,
            ),
            (
                json!({"Network": "010.5.0.0/16"}),
                r#"Network: expected an IPv4 prefix, as 10.5.0.0/16, found "010.5.0.0/16""#,
            ),
            (
                json!({"Network": "10.5.0.0/+16"}),
                r#"Network: expected an IPv4 prefix, as 10.5.0.0/16, found "10.5.0.0/+16""#,
            ),
            (
                json!({"Network": "fd00::/48"}),
                r#"Network: expected an IPv4 prefix, as 10.5.0.0/16, found "fd00::/48""#,
            ),
            (
                json!({"Network": "0.0.0.0/0"}),
                "Network: expected a prefix of /1 to /28, with room for four subnets of four addresses, found 0.0.0.0/0",
            ),
            (
                json!({"Network": "10.5.0.0/16", "network": "10.6.0.0/16"}),
                "Network: expected it once, found Network and network",
            ),
            (
                json!({"Network": "10.5.0.0/16", "SubnetLen": "24"}),
                r#"SubnetLen: expected a number of bits, found "24""#,
            ),
            (
                json!({"Network": "10.5.0.0/16", "SubnetLen": 280}),
                "SubnetLen: expected a number of bits, found 280",
            ),
            (
                json!({"Network": "10.5.0.0/16", "SubnetLen": 17}),
                "SubnetLen: expected 18 to 30, with room for four subnets in 10.5.0.0/16 and for four addresses in each, found 17",
            ),
            (
                json!({"Network": "10.5.0.0/16", "SubnetMin": "10.6.0.0"}),
                "SubnetMin: expected where a /24 of 10.5.0.0/16 begins, from 10.5.0.0 to 10.5.255.0, as 10.5.255.0, found 10.6.0.0",
            ),
            (
                json!({"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.8.0"}),
                "SubnetMax: expected where a /24 of 10.5.0.0/16 begins, from 10.5.9.0 to 10.5.255.0, as 10.5.9.0, found 10.5.8.0",
            ),
            (
                json!({"Network": "10.5.0.0/16", "SubnetMin": {"a": 1}}),
                "SubnetMin: expected an IPv4 address, found an object",
            ),
            (json!({"EnableIPv4": "yes"}), r#"EnableIPv4: expected true or false, found "yes""#),
            (
                json!({"EnableIPv4": false}),
                "EnableIPv4: expected true, if EnableIPv6 is not, found false",
            ),
            (
                json!({"EnableIPv4": false, "EnableIPv6": true}),
                "IPv6Network: expected an IPv6 prefix, as fd00:5::/48, found nothing",
            ),
            (
                json!({"Network": "10.5.0.0/16", "Backend": null}),
                r#"Backend: expected an object, as {"Type":"vxlan"}, found null"#,
            ),
            (
                json!({"Network": "10.5.0.0/16", "Backend": "{\"PSK\":\"secret\"}"}),
                r#"Backend: expected an object, as {"Type":"vxlan"}, found a string"#,
            ),
            (
                json!({"Network": "10.5.0.0/16", "Backend": {}}),
                "Backend.Type: expected the name of a backend, as vxlan, found nothing",
            ),
            (
                json!({"Network": "10.5.0.0/16", "Backend": {"Type": ""}}),
                r#"Backend.Type: expected the name of a backend, as vxlan, found """#,
            ),
            (
                json!({"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "type": "udp"}}),
                "Backend.Type: expected it once, found Type and type",
            ),
        ] {
            assert_eq!(read_value(&value).unwrap_err().to_string(), error, "{value}");
        }
        let broken = NetworkConfig::from_json("{\"Network\": ").unwrap_err();
        assert_eq!(
            broken.to_string(),
            r#"configuration: expected a JSON object, as {"Network":"10.5.0.0/16"}, found EOF while parsing a value at line 1 column 12"#
        );
    }

    #[test]
    fn any_amount_of_json_is_read() {
        let mut large: Map<String, Value> =
            (0..20_000).map(|n| (format!("x{n}"), json!("x".repeat(100)))).collect();
        large.insert("Network".into(), json!("10.5.0.0/16"));
        let large = Value::Object(large).to_string();
        assert_eq!(NetworkConfig::from_json(&large).unwrap().others().len(), 20_000);
        let long = json!({"Network": "x".repeat(1_000_000)});
        assert_eq!(read_value(&long).unwrap_err().found.len(), 100);
        assert!(NetworkConfig::from_json(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn keys_are_not_told() {
        let config = read_value(&json!({
            "Network": "10.5.0.0/16", "Backend": {"Type": "wireguard", "PSK": "secret"},
        }))
        .unwrap();
        let debug = format!("{config:?}");
        assert!(debug.contains("PSK") && !debug.contains("secret"), "{debug}");
        assert!(config.to_json().contains("secret"));
    }

    #[test]
    fn a_node_gets_one_subnet_of_each_pool() {
        let both = read_value(&json!({
            "Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/48",
        }))
        .unwrap();
        for (subnets, error) in [
            ("10.5.1.0/24,fd00:0:0:1::/64", None),
            (
                "10.5.1.0/24",
                Some("expected also one of fd00:0:0:1::/64 to fd00:0:0:ffff::/64 in fd00::/48"),
            ),
            (
                "10.5.0.0/24,fd00:0:0:1::/64",
                Some("10.5.0.0/24: expected one of 10.5.1.0/24 to 10.5.255.0/24 in 10.5.0.0/16"),
            ),
            (
                "10.5.1.0/25,fd00:0:0:1::/64",
                Some("10.5.1.0/25: expected one of 10.5.1.0/24 to 10.5.255.0/24 in 10.5.0.0/16"),
            ),
        ] {
            let found = both.admits(&subnets.parse().unwrap()).err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), error, "{subnets}");
        }
        let v4 = NetworkConfig::from_json(r#"{"Network":"10.5.0.0/16"}"#).unwrap();
        assert_eq!(
            v4.admits(&"10.5.1.0/24,fd00::/64".parse().unwrap()).unwrap_err().to_string(),
            "fd00::/64: the network has no subnets of this family"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_config() -> impl Strategy<Value = NetworkConfig> {
        let pools = (any_pool(), any_pool(), 0..3).prop_map(|(v4, v6, enabled)| ByFamily {
            v4: (enabled != 1).then_some(v4),
            v6: (enabled != 0).then_some(v6),
        });
        let options = prop::collection::btree_map("[A-SU-Z]{1,9}", any_json(), 0..4);
        let others = prop::collection::btree_map("[A-Z]{1,4}", any_json(), 0..4);
        (pools, "[a-z-]{1,9}", options, others).prop_map(|(pools, kind, options, others)| {
            let backend = BackendConfig::new(kind, options.into_iter().collect()).unwrap();
            let config = NetworkConfig::new(pools, backend).unwrap();
            NetworkConfig { others: others.into_iter().collect(), ..config }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(config in any_config()) {
            prop_assert_eq!(NetworkConfig::from_json(&config.to_json()), Ok(config));
        }

        #[test]
        fn what_is_read_has_a_subnet_in_the_network(
            bits: u32, len in 0..=32_u8, subnet_len in 0..=32_u8, min: u32, max: u32,
        ) {
            let within = u32::MAX.checked_shr(len.into()).unwrap_or(0);
            let near = |other: u32| Ipv4Addr::from((bits & !within) | (other & within & !0xff));
            let json = json!({
                "Network": format!("{}/{len}", Ipv4Addr::from(bits)), "SubnetLen": subnet_len,
                "SubnetMin": near(min).to_string(), "SubnetMax": near(max).to_string(),
            });
            if let Some(pool) = read_value(&json).ok().and_then(|config| config.pools.v4) {
                let network = pool.network();
                prop_assert!(network.contains(&pool.first()) && network.contains(&pool.last()));
                prop_assert!(pool.count() >= 1 && pool.first() <= pool.last());
            }
        }
    }
}
