//! Shows what is in a network.

use overlay_lease::{AnyStore, Snapshot, Store, WriteError};
use serde_json::{Value, json};

use crate::options::Show;
use crate::out::Out;
use crate::table::{Expiry, config_json, lease_json, leases};

pub(crate) async fn run(store: &AnyStore, show: &Show, out: &Out) -> anyhow::Result<()> {
    let mut snapshot = store.snapshot().await?;
    snapshot.leases.sort_by_key(|lease| lease.subnets);
    let expiries = if show.expiry { expiries(store, &snapshot).await? } else { Vec::new() };
    out.say(match &snapshot.config {
        Some(config) => config.config.to_json(),
        None => "The network is not configured.".into(),
    })?;
    out.say(leases(&snapshot, &expiries))?;
    for skipped in &snapshot.skipped {
        out.say(format!("cannot read {skipped}"))?;
    }
    out.tell(|| object(&snapshot, &expiries))
}

/// When each lease goes, in their order.
async fn expiries(store: &AnyStore, snapshot: &Snapshot) -> anyhow::Result<Vec<Expiry>> {
    let mut expiries = Vec::new();
    for lease in &snapshot.leases {
        expiries.push(match store.remaining(lease).await {
            Ok(Some(remaining)) => Expiry::In(remaining),
            Ok(None) => Expiry::Never,
            // It has changed meanwhile.
            Err(WriteError::Fenced(_)) => Expiry::Unknown,
            Err(error) => return Err(error.into()),
        });
    }
    Ok(expiries)
}

pub(crate) fn object(snapshot: &Snapshot, expiries: &[Expiry]) -> Value {
    let leases = snapshot.leases.iter().enumerate().map(|(at, lease)| {
        let mut object = lease_json(lease);
        if let Some(Expiry::In(remaining)) = expiries.get(at) {
            object["expires_in_seconds"] = remaining.as_secs_f64().into();
        }
        object
    });
    json!({
        "ok": true,
        "revision": snapshot.revision.get(),
        "config": config_json(snapshot.config.as_ref()),
        "leases": leases.collect::<Vec<_>>(),
        "skipped": snapshot.skipped.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
