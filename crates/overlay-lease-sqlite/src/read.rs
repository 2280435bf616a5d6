//! What is asked of the file.

use std::sync::Arc;

use overlay_lease::{
    About, Change, Changes, Configured, Lease, NetworkName, NodeId, Revision, Skipped, Snapshot,
    Standing, Subnets, Tenant, Update,
};
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql};

use crate::fault::Fault;
use crate::row::{self, LEASE};
use crate::schema::LOG;

/// A network as it stands in the file.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) id: i64,
    pub(crate) revision: Revision,
    /// As JSON, and when it was written.
    config: Option<(String, Revision)>,
}

impl Network {
    pub(crate) fn configured_at(&self) -> Option<Revision> {
        self.config.as_ref().map(|(_, revision)| *revision)
    }

    pub(crate) fn config(&self) -> Result<Option<Configured>, Skipped> {
        let read = |(json, revision): &(String, Revision)| {
            row::config(json, *revision).map_err(|reason| {
                let key = format!("networks row {}", self.id);
                Skipped { key, reason, about: Some(About::Config) }
            })
        };
        self.config.as_ref().map(read).transpose()
    }
}

/// The network, if it is in the file.
pub(crate) fn network(
    connection: &Connection,
    name: &NetworkName,
) -> Result<Option<Network>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT id, revision, config, configured FROM networks WHERE name = ?1")?;
    let read = |row: &Row<'_>| -> Result<Network, String> {
        let config: Option<String> = row::cell(row, 2)?;
        let configured = row::revision(row, 3)?;
        Ok(Network {
            id: row::cell(row, 0)?,
            revision: row::revision(row, 1)?,
            config: config.map(|json| (json, configured)),
        })
    };
    let found = statement.query_row([name.as_str()], |row| Ok(read(row))).optional()?;
    let unreadable = |reason| Skipped { key: format!("network {name}"), reason, about: None };
    Ok(found.transpose().map_err(unreadable)?)
}

/// The revision of the network, and when the next lease of any network expires.
pub(crate) fn pulse(
    connection: &Connection,
    name: &NetworkName,
) -> Result<(u64, Option<i64>), Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT revision FROM networks WHERE name = ?1),
                (SELECT min(deadline_ms) FROM leases WHERE deadline_ms IS NOT NULL)",
    )?;
    let (revision, deadline): (Option<i64>, _) =
        statement.query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((revision.and_then(|revision| u64::try_from(revision).ok()).unwrap_or(0), deadline))
}

/// See [`overlay_lease::Store::config`].
pub(crate) fn config(
    connection: &Connection,
    name: &NetworkName,
) -> Result<Option<Configured>, Fault> {
    match network(connection, name)? {
        Some(network) => Ok(network.config()?),
        None => Ok(None),
    }
}

/// See [`overlay_lease::Store::standing`].
pub(crate) fn standing(
    connection: &Connection,
    name: &NetworkName,
    node: &NodeId,
) -> Result<Standing, Fault> {
    let may_guess = true;
    let Some(network) = network(connection, name)? else {
        return Ok(Standing { may_guess, ..Standing::default() });
    };
    Ok(Standing {
        config: network.config()?,
        lease: of_node(connection, network.id, node)?,
        last: last(connection, network.id, node)?,
        may_guess,
    })
}

/// The lease of a node.
pub(crate) fn of_node(
    connection: &Connection,
    network: i64,
    node: &NodeId,
) -> Result<Option<Arc<Lease>>, Fault> {
    let sql = format!("SELECT {LEASE}, id FROM leases WHERE network = ?1 AND node = ?2");
    one(connection, &sql, (network, node.as_str()))
}

/// The lease of exactly these subnets.
pub(crate) fn of_subnets(
    connection: &Connection,
    network: i64,
    subnets: &Subnets,
) -> Result<Option<Arc<Lease>>, Fault> {
    let sql = format!("SELECT {LEASE}, id FROM leases WHERE network = ?1 AND subnets = ?2");
    one(connection, &sql, (network, subnets.to_string()))
}

/// A lease that has addresses in common with the subnets.
///
/// Leases do not overlap each other, so that only the last one that begins before their end can.
pub(crate) fn overlapping(
    connection: &Connection,
    network: i64,
    subnets: &Subnets,
) -> Result<Option<Arc<Lease>>, Fault> {
    let bounds = row::bounds(subnets);
    if let Some((first, last)) = bounds.v4
        && let Some(lease) = overlapping_in("ipv4", connection, network, first, last)?
    {
        return Ok(Some(lease));
    }
    match bounds.v6 {
        Some((first, last)) => overlapping_in("ipv6", connection, network, first, last),
        None => Ok(None),
    }
}

fn overlapping_in(
    family: &'static str,
    connection: &Connection,
    network: i64,
    first: impl ToSql,
    last: impl ToSql,
) -> Result<Option<Arc<Lease>>, Fault> {
    let sql = format!(
        "SELECT {LEASE}, id FROM (
             SELECT * FROM leases WHERE network = ?1 AND {family}_first <= ?3
             ORDER BY {family}_first DESC LIMIT 1
         ) WHERE {family}_last >= ?2"
    );
    one(connection, &sql, (network, first, last))
}

/// See [`overlay_lease::Store::tenants`]. A row that cannot be read tells nothing.
pub(crate) fn tenants(connection: &Connection, name: &NetworkName) -> Result<Vec<Tenant>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT node, ipv4, ipv6, since FROM nodes
         WHERE network = (SELECT id FROM networks WHERE name = ?1)",
    )?;
    let read = |row: &Row<'_>| -> Result<Tenant, String> {
        let node = NodeId::new(row::cell::<String>(row, 0)?).map_err(|error| error.to_string())?;
        Ok(Tenant { node, subnets: row::subnets(row, 1, 2)?, since: row::revision(row, 3)? })
    };
    let tenants = statement.query_map([name.as_str()], |row| Ok(read(row).ok()))?;
    Ok(tenants.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?)
}

/// See [`overlay_lease::Store::snapshot`].
pub(crate) fn snapshot(connection: &Connection, name: &NetworkName) -> Result<Snapshot, Fault> {
    match network(connection, name)? {
        Some(network) => snapshot_of(connection, &network),
        None => Ok(Snapshot::default()),
    }
}

/// What happened after the revision `after`; `None` if nothing did.
pub(crate) fn since(
    connection: &Connection,
    name: &NetworkName,
    after: Revision,
) -> Result<Option<Update>, Fault> {
    let Some(network) = network(connection, name)? else {
        return Ok((after > Revision::ZERO).then(|| Update::Snapshot(Snapshot::default())));
    };
    if network.revision == after {
        return Ok(None);
    }
    let logged = network.revision.get().checked_sub(after.get()).is_some_and(|count| count <= LOG);
    let changes = if logged { changes(connection, &network, after)? } else { None };
    Ok(Some(match changes {
        Some(changes) => Update::Changes(changes),
        None => Update::Snapshot(snapshot_of(connection, &network)?),
    }))
}

/// The changes after the revision `after`, if all of them are there and can be read.
fn changes(
    connection: &Connection,
    network: &Network,
    after: Revision,
) -> Result<Option<Changes>, Fault> {
    let sql = format!(
        "SELECT {LEASE}, what, config FROM changes WHERE network = ?1 AND revision > ?2 ORDER BY revision"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((network.id, row::number(after)))?;
    let (mut revision, mut changes) = (after, Vec::new());
    while let Some(row) = rows.next()? {
        match change(row) {
            // Each revision is one change.
            Ok((at, change)) if at == revision.next() => {
                revision = at;
                changes.push(change);
            }
            _ => return Ok(None),
        }
    }
    let complete = revision == network.revision;
    Ok(complete.then_some(Changes { revision, changes, skipped: Vec::new() }))
}

fn change(row: &Row<'_>) -> Result<(Revision, Change), String> {
    let revision = row::revision(row, 6)?;
    let change = match row::cell::<String>(row, 7)?.as_str() {
        "config" => {
            let json: Option<String> = row::cell(row, 8)?;
            Change::Config(json.map(|json| row::config(&json, revision)).transpose()?)
        }
        "lease" => Change::Lease(row::lease(row)?),
        "gone" => Change::Gone(row::subnets(row, 0, 1)?),
        other => return Err(format!("what: {other}")),
    };
    Ok((revision, change))
}

fn snapshot_of(connection: &Connection, network: &Network) -> Result<Snapshot, Fault> {
    let sql = format!(
        "SELECT {LEASE}, id, ipv4_first, ipv4_last, ipv6_first, ipv6_last FROM leases WHERE network = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([network.id])?;
    let (config, mut skipped) = match network.config() {
        Ok(config) => (config, Vec::new()),
        Err(unreadable) => (None, vec![unreadable]),
    };
    let mut leases = Vec::new();
    while let Some(row) = rows.next()? {
        let lease = row::lease(row).and_then(|lease| {
            row::check_bounds(row, 8, &lease.subnets)?;
            Ok(lease)
        });
        match lease {
            Ok(lease) => leases.push(lease),
            Err(reason) => skipped.push(unreadable(row, reason)),
        }
    }
    Ok(Snapshot { revision: network.revision, config, leases, skipped })
}

/// The subnets that a node had last. A row that cannot be read tells nothing.
fn last(connection: &Connection, network: i64, node: &NodeId) -> Result<Option<Subnets>, Fault> {
    let mut statement = connection
        .prepare_cached("SELECT ipv4, ipv6 FROM nodes WHERE network = ?1 AND node = ?2")?;
    let last = statement
        .query_row((network, node.as_str()), |row| Ok(row::subnets(row, 0, 1).ok()))
        .optional()?;
    Ok(last.flatten())
}

fn one(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<Option<Arc<Lease>>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row<'_>| row::lease(row).map_err(|reason| unreadable(row, reason));
    let lease = statement.query_row(parameters, |row| Ok(read(row))).optional()?;
    Ok(lease.transpose()?)
}

/// The column `id` follows [`LEASE`]. The subnets are often still there to be read.
fn unreadable(row: &Row<'_>, reason: String) -> Skipped {
    let key = match row.get::<_, i64>(7) {
        Ok(id) => format!("leases row {id}"),
        Err(_) => "leases".into(),
    };
    Skipped { key, reason, about: row::subnets(row, 0, 1).ok().map(About::Lease) }
}
