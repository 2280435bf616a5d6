//! What stands in a key: Flannel's JSON, with members of ours.

use std::sync::Arc;
use std::time::Duration;

use overlay_lease::{Attributes, Configured, Lease, NetworkConfig, NodeId, Revision, Subnets};
use serde_json::{Map, Value};

use crate::rpc::messages::KeyValue;

/// The node's identity.
const NODE: &str = "OverlayNode";
/// The lease's time to live in seconds. etcd knows it, too, but tells it only for one lease at a time.
const TTL: &str = "OverlayTTL";

/// How long Flannel's leases live.
const FLANNELS_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// What is in a lease's key.
pub(crate) fn lease(node: Option<&NodeId>, attributes: &Attributes, ttl: Option<u64>) -> Vec<u8> {
    let mut json = attributes.to_json();
    let ours = [(NODE, node.map(|node| node.as_str().into())), (TTL, ttl.map(Value::from))];
    for (name, value) in ours {
        match value {
            Some(value) => json.insert(name.to_owned(), value),
            None => json.remove(name),
        };
    }
    Value::Object(json).to_string().into_bytes()
}

/// The lease of these subnets, or what is wrong about it.
pub(crate) fn read_lease(subnets: Subnets, kv: &KeyValue) -> Result<Arc<Lease>, String> {
    let mut json: Map<String, Value> =
        serde_json::from_slice(&kv.value).map_err(|error| format!("not a JSON object: {error}"))?;
    let node = match json.remove(NODE) {
        None | Some(Value::Null) => None,
        Some(Value::String(node)) => Some(NodeId::new(node).map_err(|error| error.to_string())?),
        Some(_) => return Err(format!("{NODE}: expected a string")),
    };
    let ttl = match json.remove(TTL) {
        None | Some(Value::Null) => FLANNELS_TTL,
        Some(ttl) => Duration::from_secs(
            ttl.as_u64()
                .filter(|ttl| *ttl > 0)
                .ok_or_else(|| format!("{TTL}: expected seconds"))?,
        ),
    };
    let attributes = Attributes::from_json(json).map_err(|error| error.to_string())?;
    // A key without an etcd lease stays until somebody deletes it, whatever it says about itself.
    let ttl = (kv.lease != 0).then_some(ttl);
    let (created, revision) = (revision(kv.create_revision), revision(kv.mod_revision));
    Ok(Arc::new(Lease::new(subnets, node, attributes, ttl, created, revision)))
}

pub(crate) fn config(config: &NetworkConfig) -> Vec<u8> {
    config.to_json().into_bytes()
}

/// The configuration, or what is wrong about it.
pub(crate) fn read_config(kv: &KeyValue) -> Result<Configured, String> {
    let text = str::from_utf8(&kv.value).map_err(|error| error.to_string())?;
    let config = NetworkConfig::from_json(text).map_err(|error| error.to_string())?;
    Ok(Configured { config: Arc::new(config), revision: revision(kv.mod_revision) })
}

/// The subnets that a key under `tenants/` names.
pub(crate) fn read_subnets(kv: &KeyValue) -> Option<Subnets> {
    str::from_utf8(&kv.value).ok()?.parse().ok()
}

/// etcd counts from 1 and never below.
pub(crate) fn revision(number: i64) -> Revision {
    Revision::new(u64::try_from(number).unwrap_or_default())
}

/// A revision as etcd writes it.
pub(crate) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}

/// The revision of a key that is there. For 0, which etcd takes for that of a key that is not, one that no key has.
pub(crate) fn number_of_existing(revision: Revision) -> i64 {
    match number(revision) {
        0 => -1,
        number => number,
    }
}

/// The longest term that etcd grants: 285 years.
const LONGEST: u64 = 9_000_000_000;

/// Whole seconds, since etcd counts no others: never less than asked for, as far as it can be.
pub(crate) fn seconds(ttl: Duration) -> u64 {
    let part = u64::from(ttl.subsec_nanos() > 0);
    ttl.as_secs().saturating_add(part).clamp(1, LONGEST)
}

#[cfg(test)]
mod tests {
    use overlay_lease::Endpoints;
    use proptest::prelude::*;

    use super::*;

    fn kv(value: &[u8], lease: i64) -> KeyValue {
        let key = b"/p/subnets/10.5.1.0-24".to_vec();
        KeyValue { key, create_revision: 3, mod_revision: 7, value: value.to_vec(), lease }
    }

    fn read(value: &[u8], lease: i64) -> Result<Arc<Lease>, String> {
        read_lease("10.5.1.0/24".parse().unwrap(), &kv(value, lease))
    }

    #[test]
    fn what_is_written_is_read() {
        let node = NodeId::new("a").unwrap();
        let endpoints = Endpoints::at(["192.0.2.1".parse().unwrap()]);
        let attributes = Attributes::new(endpoints, "vxlan");
        let value = lease(Some(&node), &attributes, Some(60));
        let found = read(&value, 42).unwrap();
        assert_eq!((found.node.as_ref(), &found.attributes), (Some(&node), &attributes));
        assert_eq!(found.ttl, Some(Duration::from_secs(60)));
        assert_eq!((found.created, found.revision), (Revision::new(3), Revision::new(7)));
        assert!(read(&value, 0).unwrap().is_reservation());
    }

    #[test]
    fn what_is_no_lease_says_why() {
        for (value, words) in [
            (r#"{"OverlayNode":""}"#, "node"),
            (r#"{"OverlayNode":[]}"#, "OverlayNode"),
            (r#"{"OverlayTTL":0}"#, "OverlayTTL"),
            (r#"{"OverlayTTL":-1}"#, "OverlayTTL"),
            (r#"{"OverlayTTL":"60"}"#, "OverlayTTL"),
            (r#"{"PublicIP":1}"#, "PublicIP"),
            ("null", "JSON"),
        ] {
            let reason = read(value.as_bytes(), 1).unwrap_err();
            assert!(reason.contains(words), "{value}: {reason}");
        }
    }

    #[test]
    fn terms_are_whole_seconds_that_etcd_grants() {
        for (ttl, expected) in [
            (Duration::ZERO, 1),
            (Duration::from_millis(1000), 1),
            (Duration::from_millis(1001), 2),
            (Duration::MAX, LONGEST),
        ] {
            assert_eq!(seconds(ttl), expected, "{ttl:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_strangers_write_is_fatal(value in any::<Vec<u8>>(), text in "[{}\\[\\]\":,0-9a-zA-Z.]{0,40}") {
            let _ = read(&value, 1);
            let _ = read(text.as_bytes(), 0);
            let _ = read_config(&kv(text.as_bytes(), 0));
            let _ = read_subnets(&kv(&value, 0));
        }
    }
}
