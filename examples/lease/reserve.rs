//! Sets subnets aside.

use overlay_lease::{AnyStore, NodeId, reserve};
use serde_json::json;

use crate::options::Reserve;
use crate::out::Out;
use crate::table::lease_json;

pub(crate) async fn run(store: &AnyStore, options: &Reserve, out: &Out) -> anyhow::Result<()> {
    let lease = reserve(store, options.subnets, options.node.clone()).await?;
    let whom = options.node.as_ref().map_or("nobody", NodeId::as_str);
    out.say(format!("{} is reserved for {whom}", lease.subnets))?;
    out.tell(|| json!({"ok": true, "lease": lease_json(&lease)}))
}
