//! What stands in the stores of `overlay-lease`, where anybody may write.

use overlay_lease::{Attributes, NetworkConfig, NodeId, Policy, Prefix, allocate, guesses};
use serde_json::{Map, Value};

/// Any text as the configuration of a network. What is accepted is written and read again, and has subnets, which both
/// ways of choosing find; what is refused is so in a few words.
pub fn network_config(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let config = match NetworkConfig::from_json(text) {
        Ok(config) => config,
        Err(error) => return assert!(error.to_string().chars().count() < 500, "{error}"),
    };
    assert_eq!(NetworkConfig::from_json(&config.to_json()).as_ref(), Ok(&config));
    assert!(!config.pools().is_empty());
    config.pools().v4.iter().for_each(pool);
    config.pools().v6.iter().for_each(pool);

    let node = NodeId::new("node-1").expect("letters");
    for guess in guesses(&config, &node).take(10) {
        assert_eq!(config.admits(&guess), Ok(()));
    }
    let chosen = allocate(&config, &node, [], &[], Policy::default()).expect("nothing is taken");
    assert_eq!(config.admits(&chosen), Ok(()));
}

fn pool<N: Prefix>(pool: &overlay_lease::Pool<N>) {
    let last = pool.count().checked_sub(1).expect("there is a subnet");
    assert_eq!(pool.nth(0), Some(pool.first()));
    assert_eq!(pool.nth(last), Some(pool.last()));
    assert_eq!(pool.index(pool.last()), Some(last));
    assert_eq!(pool.nth(pool.count()), None);
}

/// Any JSON object as what a node tells its peers. What is accepted is written and read again.
pub fn lease_attributes(input: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Map<String, Value>>(input) else { return };
    match Attributes::from_json(json) {
        Ok(attributes) => {
            assert_eq!(Attributes::from_json(attributes.to_json()).as_ref(), Ok(&attributes));
        }
        Err(error) => assert!(error.to_string().chars().count() < 500, "{error}"),
    }
}
