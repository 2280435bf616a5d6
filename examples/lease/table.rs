//! Tables for people, objects for machines.

use std::sync::Arc;
use std::time::Duration;

use overlay_lease::{Configured, Lease, NodeId, Snapshot};
use serde_json::{Value, json};

/// Rows below a heading, each column as wide as its widest cell.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// When a lease goes if nobody renews it.
pub(crate) enum Expiry {
    Never,
    In(Duration),
    Unknown,
}

/// A network's leases. The expiries are in their order; none where nobody asked.
pub(crate) fn leases(snapshot: &Snapshot, expiries: &[Expiry]) -> String {
    let row = |(at, lease): (usize, &Arc<Lease>)| {
        [
            lease.subnets.to_string(),
            node(lease),
            addresses(lease),
            lease.attributes.backend.clone().unwrap_or_else(|| "-".into()),
            expiry(lease, expiries.get(at)),
            lease.revision.to_string(),
        ]
    };
    let heading = ["subnets", "node", "address", "backend", "expires", "revision"];
    table(heading, snapshot.leases.iter().enumerate().map(row).collect())
}

/// A lease in a line.
pub(crate) fn line(lease: &Lease) -> String {
    let backend = lease.attributes.backend.as_deref().unwrap_or("-");
    format!("{} of {} at {} by {backend}", lease.subnets, node(lease), addresses(lease))
}

pub(crate) fn lease_json(lease: &Lease) -> Value {
    json!({
        "subnets": lease.subnets.iter().map(|subnet| subnet.to_string()).collect::<Vec<_>>(),
        "node": lease.node.as_ref().map(NodeId::as_str),
        "attributes": lease.attributes.to_json(),
        "ttl_seconds": lease.ttl.map(|ttl| ttl.as_secs_f64()),
        "created": lease.created.get(),
        "revision": lease.revision.get(),
    })
}

pub(crate) fn config_json(config: Option<&Configured>) -> Value {
    // It has been written by the same program, so it is JSON.
    config.map_or(Value::Null, |config| {
        serde_json::from_str(&config.config.to_json()).unwrap_or_default()
    })
}

fn node(lease: &Lease) -> String {
    match &lease.node {
        Some(node) => node.to_string(),
        None if lease.is_in_use() => "(untold)".into(),
        None => "(nobody)".into(),
    }
}

fn addresses(lease: &Lease) -> String {
    let all: Vec<_> =
        lease.attributes.endpoints.advertised().map(|address| address.to_string()).collect();
    if all.is_empty() { "-".into() } else { all.join(",") }
}

/// As long as nobody asked, it is how long the lease lives after it was renewed.
fn expiry(lease: &Lease, expiry: Option<&Expiry>) -> String {
    match (lease.ttl, expiry) {
        (None, _) | (_, Some(Expiry::Never)) => "never".into(),
        (_, Some(Expiry::In(remaining))) => format!("in {}", rough(*remaining)),
        (Some(ttl), None) => format!("within {}", rough(ttl)),
        (_, Some(Expiry::Unknown)) => "unknown".into(),
    }
}

/// Two units at most: `23 h 59 min`.
pub(crate) fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, large_unit, small: u64, small_unit| match small {
        0 => format!("{large} {large_unit}"),
        small => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..172_800 => two(seconds / 3_600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let text = table(["a", "b"], vec![["xyz".into(), "1".into()], ["ü".into(), "22".into()]]);
        assert_eq!(text, "a    b\nxyz  1\nü    22");
    }

    #[test]
    fn times_are_rough() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (86_399, "23 h 59 min"),
            (86_400, "24 h"),
            (180_000, "2 d 2 h"),
        ] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }
}
