//! Leases as rows. What stands in the file may have been written by anybody.

use std::sync::Arc;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use overlay_lease::{
    Attributes, ByFamily, Configured, Lease, NetworkConfig, NodeId, Revision, Subnets,
};
use rusqlite::Row;
use rusqlite::types::FromSql;
use serde_json::{Map, Value};

use crate::fault::Fault;

/// The columns that [`lease`] reads, in the tables `leases` and `changes`.
pub(crate) const LEASE: &str = "ipv4, ipv6, node, attributes, ttl_ms, created, revision";

/// Attributes that are allowed, in bytes; the schema allows as many characters.
const LONGEST: usize = 1 << 20;

/// A term that nobody waits for the end of: 100 years. The schema allows no longer one.
pub(crate) const LONGEST_TTL_MS: i64 = 3_155_760_000_000;

/// Attributes as they are written, and as they will be read.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) json: String,
    pub(crate) attributes: Attributes,
}

impl Written {
    pub(crate) fn new(attributes: &Attributes) -> Result<Self, Fault> {
        let json = Value::Object(attributes.to_json()).to_string();
        if json.len() > LONGEST {
            return Err(Fault::TooLong(json.len(), LONGEST));
        }
        let attributes = read_attributes(&json).map_err(Fault::Unwritable)?;
        Ok(Self { json, attributes })
    }
}

/// A time to live as it is written: more than a part of a millisecond is a whole one.
pub(crate) fn ttl_ms(ttl: Duration) -> i64 {
    let ms = ttl.as_nanos().div_ceil(1_000_000);
    i64::try_from(ms).unwrap_or(i64::MAX).min(LONGEST_TTL_MS)
}

/// A time to live as it is read again.
pub(crate) fn ttl(ms: i64) -> Result<Duration, String> {
    u64::try_from(ms).map(Duration::from_millis).map_err(|_| format!("ttl_ms: {ms} is negative"))
}

/// Reads the columns [`LEASE`].
pub(crate) fn lease(row: &Row<'_>) -> Result<Arc<Lease>, String> {
    let subnets = subnets(row, 0, 1)?;
    let node = cell::<Option<String>>(row, 2)?;
    let node = node.map(NodeId::new).transpose().map_err(|error| error.to_string())?;
    let attributes = read_attributes(&cell::<String>(row, 3)?)?;
    let ttl = cell::<Option<i64>>(row, 4)?.map(ttl).transpose()?;
    let (created, revision) = (revision(row, 5)?, revision(row, 6)?);
    Ok(Arc::new(Lease::new(subnets, node, attributes, ttl, created, revision)))
}

/// Reads the columns `ipv4` and `ipv6`.
pub(crate) fn subnets(row: &Row<'_>, ipv4: usize, ipv6: usize) -> Result<Subnets, String> {
    let v4 = cell::<Option<String>>(row, ipv4)?;
    let v6 = cell::<Option<String>>(row, ipv6)?;
    let subnets = Subnets::new(
        v4.as_deref().map(prefix::<Ipv4Net>).transpose()?,
        v6.as_deref().map(prefix::<Ipv6Net>).transpose()?,
    )
    .map_err(|error| error.to_string())?;
    // They are found by their text, so there is only one way to write them.
    let texts = [v4, v6].into_iter().flatten().collect::<Vec<_>>().join(",");
    if texts == subnets.to_string() {
        Ok(subnets)
    } else {
        Err(format!("{texts}: expected {subnets}"))
    }
}

/// The first and the last address of each family, as the columns `ipv4_first` to `ipv6_last` hold them.
pub(crate) type Bounds = ByFamily<(u32, u32), ([u8; 16], [u8; 16])>;

pub(crate) fn bounds(subnets: &Subnets) -> Bounds {
    ByFamily {
        v4: subnets.v4().map(|v4| (v4.network().to_bits(), v4.broadcast().to_bits())),
        v6: subnets.v6().map(|v6| (v6.network().octets(), v6.broadcast().octets())),
    }
}

/// Reads the columns `ipv4_first` to `ipv6_last`, beginning with the column `first`, and finds out whether they are
/// what follows from `subnets`.
pub(crate) fn check_bounds(row: &Row<'_>, first: usize, subnets: &Subnets) -> Result<(), String> {
    let v4 = Option::zip(cell(row, first)?, cell(row, first + 1)?);
    let v6 = Option::zip(cell(row, first + 2)?, cell(row, first + 3)?);
    if (Bounds { v4, v6 }) == bounds(subnets) {
        Ok(())
    } else {
        Err(format!("{subnets}: the first and the last address are others"))
    }
}

/// Reads a configuration.
pub(crate) fn config(json: &str, revision: Revision) -> Result<Configured, String> {
    let config = NetworkConfig::from_json(json).map_err(|error| error.to_string())?;
    Ok(Configured { config: Arc::new(config), revision })
}

/// Reads a revision.
pub(crate) fn revision(row: &Row<'_>, column: usize) -> Result<Revision, String> {
    let number = cell::<i64>(row, column)?;
    u64::try_from(number).map(Revision::new).map_err(|_| format!("revision {number} is negative"))
}

/// Reads anything.
pub(crate) fn cell<T: FromSql>(row: &Row<'_>, column: usize) -> Result<T, String> {
    row.get(column).map_err(|error| error.to_string())
}

/// A revision as it is written.
pub(crate) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}

fn read_attributes(json: &str) -> Result<Attributes, String> {
    let members: Map<_, _> =
        serde_json::from_str(json).map_err(|error| format!("attributes: {error}"))?;
    Attributes::from_json(members).map_err(|error| format!("attributes: {error}"))
}

fn prefix<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text}: expected a prefix"))
}
