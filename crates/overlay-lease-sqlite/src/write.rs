//! What is changed in the file, within a transaction of the caller's.
//!
//! The triggers of the schema number the revisions, keep the log and remember the nodes.

use std::sync::Arc;
use std::time::Duration;

use overlay_lease::{
    Attributes, Claim, ConfigureError, Configured, CreateError, Lease, NetworkConfig, NetworkName,
    Revision, Subnets, WriteError,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, named_params};

use crate::fault::Fault;
use crate::read::{self, Network};
use crate::row::{self, Written};

/// If the machine was started anew since, nobody knows for how long it was off: leases live from now on once more. This
/// is the only one with a transaction of its own, and only if there is something to do.
pub(crate) fn begin_life(
    connection: &mut Connection,
    boot_id: &str,
    now: i64,
) -> Result<(), Fault> {
    const ANOTHER: &str = "SELECT count(*) FROM clock WHERE boot_id <> ?1";
    if connection.query_row(ANOTHER, [boot_id], |row| row.get(0)).map(|count: i64| count == 0)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    if transaction.execute("UPDATE clock SET boot_id = ?1 WHERE boot_id <> ?1", [boot_id])? > 0 {
        // A row that the schema does not allow stays as it is.
        transaction.execute(
            "UPDATE leases SET deadline_ms = ?1 + ttl_ms, renewed_at = unixepoch()
             WHERE ttl_ms BETWEEN 0 AND ?2",
            [now, row::LONGEST_TTL_MS],
        )?;
    }
    Ok(transaction.commit()?)
}

/// Removes the leases of all networks that have expired.
pub(crate) fn expire(connection: &Connection, now: i64) -> Result<(), Fault> {
    const WHERE: &str = "SELECT DISTINCT network FROM leases WHERE deadline_ms <= ?1";
    const REMOVE: &str = "DELETE FROM leases WHERE network = ?1 AND deadline_ms <= ?2";
    let mut statement = connection.prepare_cached(WHERE)?;
    let networks = statement.query_map([now], |row| row.get(0))?;
    for network in networks.collect::<Result<Vec<i64>, _>>()? {
        match connection.prepare_cached(REMOVE)?.execute((network, now)) {
            // Somebody tampered with that network. The others go on.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {}
            removed => drop(removed?),
        }
    }
    Ok(())
}

/// See [`overlay_lease::Store::configure`].
pub(crate) fn configure(
    connection: &Connection,
    name: &NetworkName,
    config: &Arc<NetworkConfig>,
    replaces: Option<Revision>,
) -> Result<Result<Configured, ConfigureError>, Fault> {
    let network = read::network(connection, name)?;
    if network.as_ref().and_then(Network::configured_at) != replaces {
        let config = network.map(|network| network.config()).transpose()?.flatten();
        return Ok(Err(ConfigureError::Reconfigured(config)));
    }
    let revision = network.map_or(Revision::ZERO, |network| network.revision).next();
    connection
        .prepare_cached(
            "INSERT INTO networks (name, config, configured, revision) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (name) DO UPDATE SET config = ?2, configured = ?3, revision = ?3",
        )?
        .execute((name.as_str(), config.to_json(), row::number(revision)))?;
    Ok(Ok(Configured { config: config.clone(), revision }))
}

/// See [`overlay_lease::Store::create`]. The attributes are those in `written`.
pub(crate) fn create(
    connection: &Connection,
    name: &NetworkName,
    now: i64,
    claim: &Claim,
    written: Written,
) -> Result<Result<Arc<Lease>, CreateError>, Fault> {
    let network = match read::network(connection, name)? {
        Some(network) if network.configured_at() == Some(claim.under) => network,
        other => {
            let config = other.map(|network| network.config()).transpose()?.flatten();
            return Ok(Err(CreateError::Reconfigured(config)));
        }
    };
    if let Some(node) = &claim.node
        && let Some(lease) = read::of_node(connection, network.id, node)?
        && lease.subnets != claim.subnets
    {
        return Ok(Err(CreateError::Holds(lease)));
    }
    match read::overlapping(connection, network.id, &claim.subnets) {
        Ok(None) => {}
        Ok(Some(lease)) => return Ok(Err(CreateError::Taken(lease))),
        Err(Fault::Unreadable(_)) => return Ok(Err(CreateError::Taken(unreadable(claim.subnets)))),
        Err(fault) => return Err(fault),
    }
    let ttl_ms = claim.ttl.map(row::ttl_ms);
    let revision = network.revision.next();
    let bounds = row::bounds(&claim.subnets);
    connection
        .prepare_cached(
            "INSERT INTO leases (network, ipv4, ipv6, node, attributes, ttl_ms, deadline_ms, created, revision,
                 ipv4_first, ipv4_last, ipv6_first, ipv6_last)
             VALUES (:network, :ipv4, :ipv6, :node, :attributes, :ttl, :now + :ttl, :revision, :revision,
                 :ipv4_first, :ipv4_last, :ipv6_first, :ipv6_last)",
        )?
        .execute(named_params! {
            ":network": network.id,
            ":ipv4": claim.subnets.v4().map(|v4| v4.to_string()),
            ":ipv6": claim.subnets.v6().map(|v6| v6.to_string()),
            ":node": claim.node.as_ref().map(|node| node.as_str()),
            ":attributes": written.json,
            ":ttl": ttl_ms,
            ":now": now,
            ":revision": row::number(revision),
            ":ipv4_first": bounds.v4.map(|(first, _)| first),
            ":ipv4_last": bounds.v4.map(|(_, last)| last),
            ":ipv6_first": bounds.v6.map(|(first, _)| first),
            ":ipv6_last": bounds.v6.map(|(_, last)| last),
        })?;
    let (subnets, node, ttl) = (claim.subnets, claim.node.clone(), term(ttl_ms));
    Ok(Ok(Arc::new(Lease::new(subnets, node, written.attributes, ttl, revision, revision))))
}

/// See [`overlay_lease::Store::update`]. `lease` is the lease as it was seen last.
pub(crate) fn update(
    connection: &Connection,
    name: &NetworkName,
    now: i64,
    lease: &Lease,
    written: Written,
    ttl: Option<Duration>,
) -> Result<Result<Arc<Lease>, WriteError>, Fault> {
    let (network, id) = match fence(connection, name, lease)? {
        Ok(held) => held,
        Err(fenced) => return Ok(Err(fenced)),
    };
    let ttl_ms = ttl.map(row::ttl_ms);
    let current = read::of_subnets(connection, network.id, &lease.subnets);
    if let Ok(Some(current)) = &current
        && current.attributes == written.attributes
        && current.ttl.map(row::ttl_ms) == ttl_ms
    {
        prolong(connection, id, now)?;
        return Ok(Ok(current.clone()));
    }
    let revision = network.revision.next();
    connection
        .prepare_cached(
            "UPDATE leases SET attributes = :attributes, ttl_ms = :ttl, deadline_ms = :now + :ttl,
                 renewed_at = unixepoch(), revision = :revision
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": id,
            ":attributes": written.json,
            ":ttl": ttl_ms,
            ":now": now,
            ":revision": row::number(revision),
        })?;
    let (node, attributes, ttl) = (lease.node.clone(), written.attributes, term(ttl_ms));
    Ok(Ok(Arc::new(Lease::new(lease.subnets, node, attributes, ttl, lease.created, revision))))
}

/// See [`overlay_lease::Store::renew`].
pub(crate) fn renew(
    connection: &Connection,
    name: &NetworkName,
    now: i64,
    lease: &Lease,
) -> Result<Result<(), WriteError>, Fault> {
    match fence(connection, name, lease)? {
        Ok((_, id)) => prolong(connection, id, now).map(Ok),
        Err(fenced) => Ok(Err(fenced)),
    }
}

/// See [`overlay_lease::Store::remove`].
pub(crate) fn remove(
    connection: &Connection,
    name: &NetworkName,
    lease: &Lease,
) -> Result<Result<(), WriteError>, Fault> {
    match fence(connection, name, lease)? {
        Ok((_, id)) => {
            connection.prepare_cached("DELETE FROM leases WHERE id = ?1")?.execute([id])?;
            Ok(Ok(()))
        }
        Err(fenced) => Ok(Err(fenced)),
    }
}

/// See [`overlay_lease::Store::remaining`]. It changes nothing.
pub(crate) fn remaining(
    connection: &Connection,
    name: &NetworkName,
    now: i64,
    lease: &Lease,
) -> Result<Result<Option<Duration>, WriteError>, Fault> {
    let id = match fence(connection, name, lease)? {
        Ok((_, id)) => id,
        Err(fenced) => return Ok(Err(fenced)),
    };
    let mut statement =
        connection.prepare_cached("SELECT deadline_ms FROM leases WHERE id = ?1")?;
    let deadline: Option<i64> = statement.query_row([id], |row| row.get(0))?;
    let remaining = |deadline: i64| u64::try_from(deadline.saturating_sub(now)).unwrap_or(0);
    Ok(Ok(deadline.map(remaining).map(Duration::from_millis)))
}

/// The network and the row of the lease, if it is still what was seen.
fn fence(
    connection: &Connection,
    name: &NetworkName,
    lease: &Lease,
) -> Result<Result<(Network, i64), WriteError>, Fault> {
    let Some(network) = read::network(connection, name)? else {
        return Ok(Err(WriteError::Fenced(None)));
    };
    let mut statement = connection.prepare_cached(
        "SELECT id FROM leases WHERE network = ?1 AND subnets = ?2 AND revision = ?3 AND node IS ?4",
    )?;
    let node = lease.node.as_ref().map(|node| node.as_str());
    let seen = (network.id, lease.subnets.to_string(), row::number(lease.revision), node);
    match statement.query_row(seen, |row| row.get(0)).optional()? {
        Some(id) => Ok(Ok((network, id))),
        None => match read::of_subnets(connection, network.id, &lease.subnets) {
            Ok(other) => Ok(Err(WriteError::Fenced(other))),
            Err(Fault::Unreadable(_)) => {
                Ok(Err(WriteError::Fenced(Some(unreadable(lease.subnets)))))
            }
            Err(fault) => Err(fault),
        },
    }
}

fn prolong(connection: &Connection, id: i64, now: i64) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "UPDATE leases SET deadline_ms = ?2 + ttl_ms, renewed_at = unixepoch()
             WHERE id = ?1 AND ttl_ms IS NOT NULL",
        )?
        .execute((id, now))?;
    Ok(())
}

/// A time to live as it will be read again.
fn term(ttl_ms: Option<i64>) -> Option<Duration> {
    ttl_ms.and_then(|ms| row::ttl(ms).ok())
}

/// What stands for a lease that is in the way and cannot be read: the subnets belong to nobody who could be named.
fn unreadable(subnets: Subnets) -> Arc<Lease> {
    Arc::new(Lease::new(subnets, None, Attributes::default(), None, Revision::ZERO, Revision::ZERO))
}
