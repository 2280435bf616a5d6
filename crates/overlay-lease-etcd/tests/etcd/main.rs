//! The store on a real etcd, which each test starts for itself.

mod access;
mod conformance;
mod cost;
mod faults;
mod history;
mod interop;
mod proxy;
mod server;
mod store;

use std::future::Future;
use std::time::Duration;

use overlay_lease::{
    Attributes, Claim, Configured, Endpoints, NetworkConfig, NodeId, Store, Subnets, Update, Watch,
};

use crate::server::Etcd;

/// How long anything may take that is going to happen.
const PATIENCE: Duration = Duration::from_secs(40);

/// What comes of it, unless it takes too long.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

const IPV4: &str = r#"{"Network":"10.5.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

async fn configured(store: &impl Store, json: &str) -> Configured {
    let config = NetworkConfig::from_json(json).unwrap();
    store.configure(&config, None).await.unwrap()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn subnets(text: &str) -> Subnets {
    text.parse().unwrap()
}

fn attributes(address: &str) -> Attributes {
    Attributes::new(Endpoints::at([address.parse().unwrap()]), "vxlan")
}

fn claim(subnets: &str, node: &str, under: &Configured) -> Claim {
    Claim {
        subnets: subnets.parse().unwrap(),
        node: Some(self::node(node)),
        attributes: attributes("192.0.2.1"),
        ttl: Some(Duration::from_secs(60)),
        under: under.revision,
    }
}

/// Waits until etcd has this many etcd leases.
async fn only(etcd: &Etcd, number: usize) {
    let waits = async {
        while !etcd.ctl(&["lease", "list"]).starts_with(&format!("found {number} leases")) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    soon(waits).await;
}

/// The next update that tells of changes, and these as text.
async fn changes(watch: &mut impl Watch) -> Vec<String> {
    match soon(watch.next()).await.unwrap() {
        Update::Changes(changes) => changes.changes.iter().map(told).collect(),
        Update::Snapshot(snapshot) => panic!("{snapshot:?}"),
    }
}

fn told(change: &overlay_lease::Change) -> String {
    match change {
        overlay_lease::Change::Config(Some(_)) => "configured".into(),
        overlay_lease::Change::Config(None) => "not configured".into(),
        overlay_lease::Change::Lease(lease) => {
            let addresses: Vec<_> =
                lease.attributes.endpoints.advertised().map(|ip| ip.to_string()).collect();
            format!("{} at {}", lease.subnets, addresses.join(","))
        }
        overlay_lease::Change::Gone(subnets) => format!("{subnets} gone"),
        other => format!("{other:?}"),
    }
}
