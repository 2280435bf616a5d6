//! What is in the file.

use std::collections::BTreeMap;

use rusqlite::{Connection, MAIN_DB};

use crate::fault::Fault;

/// `ovly`: what tells the file from those of other programs.
pub(crate) const APPLICATION_ID: i32 = 0x6f76_6c79;

/// The format of the file. Another schema gets another number.
pub(crate) const FORMAT: i32 = 1;

/// Changes that are remembered in detail for each network; the schema says so, too.
pub(crate) const LOG: u64 = 10_000;

const SCHEMA: &str = include_str!("schema.sql");

/// The bytes of a new file.
pub(crate) fn image() -> Result<Vec<u8>, Fault> {
    let mut connection = empty()?;
    let mut image = connection.serialize(MAIN_DB)?.to_vec();
    // The file format's versions for writing and reading: 2 means a write-ahead log (SQLite file format, 1.3.3).
    if let Some(versions) = image.get_mut(18..20) {
        versions.fill(2);
    }
    Ok(image)
}

/// Finds out whether the schema is what [`image`] makes. More indexes and views do no harm; triggers would.
pub(crate) fn check(connection: &Connection) -> Result<(), Fault> {
    let expected = objects(&empty()?)?;
    let found = objects(connection)?;
    for (name, object) in &expected {
        if found.get(name) != Some(object) {
            return Err(Fault::Schema(name.clone()));
        }
    }
    let foreign = |(name, object): (&String, &Object)| {
        (object.kind == "trigger" && !expected.contains_key(name)).then(|| name.clone())
    };
    found.iter().find_map(foreign).map_or(Ok(()), |name| Err(Fault::Schema(name)))
}

fn empty() -> Result<Connection, Fault> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(SCHEMA)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    Ok(connection)
}

#[derive(PartialEq)]
struct Object {
    kind: String,
    sql: Option<String>,
}

fn objects(connection: &Connection) -> Result<BTreeMap<String, Object>, Fault> {
    let mut statement = connection.prepare("SELECT name, type, sql FROM sqlite_schema")?;
    let objects = statement
        .query_map([], |row| Ok((row.get(0)?, Object { kind: row.get(1)?, sql: row.get(2)? })))?;
    Ok(objects.collect::<rusqlite::Result<_>>()?)
}
