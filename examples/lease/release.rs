//! Gives a lease back.

use std::sync::Arc;

use overlay_lease::{AnyStore, Lease, Store, release};
use serde_json::json;

use crate::acquire::node;
use crate::error::Problem;
use crate::options::Release;
use crate::out::Out;
use crate::table::lease_json;

pub(crate) async fn run(store: &AnyStore, options: &Release, out: &Out) -> anyhow::Result<()> {
    let lease = find(store, options).await?;
    let emptied = lease.is_reservation() && !options.reservation;
    if lease.is_reservation() && options.reservation {
        store.remove(&lease).await?;
    } else {
        release(store, &lease).await?;
    }
    let what = if emptied { "is reserved, and empty" } else { "is free" };
    out.say(format!("{} {what}", lease.subnets))?;
    out.tell(|| json!({"ok": true, "reserved": emptied, "lease": lease_json(&lease)}))
}

async fn find(store: &AnyStore, options: &Release) -> anyhow::Result<Arc<Lease>> {
    if let Some(subnets) = options.subnets {
        let mut leases = store.snapshot().await?.leases.into_iter();
        let found = leases.find(|lease| lease.subnets == subnets);
        return found.ok_or_else(|| Problem::NoLease(subnets.to_string()).into());
    }
    let node = node(options.node.as_ref())?;
    let standing = store.standing(&node).await?;
    standing.lease.ok_or_else(|| Problem::NoLease(node.to_string()).into())
}
