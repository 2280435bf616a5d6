//! The file: how it comes into being, what is looked at before it is trusted, and whether it is still the same.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};

use crate::clock;
use crate::fault::Fault;
use crate::schema;
use crate::write;

/// Statements that are kept ready: more than there are.
const STATEMENTS: usize = 64;

/// How often somebody may put another file in the place of the one that is being opened.
const REPLACEMENTS: usize = 8;

/// What every SQLite file begins with, in bytes.
const HEADER: u64 = 100;

/// A connection to the file, which is opened again when it is another file that stands at the path.
///
/// Nothing here opens an existing file in any other way than through SQLite: closing it would take away all locks that
/// this process has on it.
#[derive(Debug)]
pub(crate) struct Link {
    path: PathBuf,
    /// How long the lock of another process is waited for.
    patience: Duration,
    opened: Option<(Identity, Connection)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Link {
    pub(crate) const fn new(path: PathBuf, patience: Duration) -> Self {
        Self { path, patience, opened: None }
    }

    /// Finds out whether there is a file.
    pub(crate) fn find(&self) -> Result<(), Fault> {
        match metadata(&self.path) {
            Err(Fault::Gone) => Err(Fault::Missing),
            other => other.map(drop),
        }
    }

    /// Makes the file if there is none.
    pub(crate) fn create(&self) -> Result<(), Fault> {
        match metadata(&self.path) {
            Err(Fault::Gone) => create(&self.path),
            other => other.map(drop),
        }
    }

    /// A connection to the file that is at the path now.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection, Fault> {
        let now = identity(&self.path)?;
        let connection = match self.opened.take() {
            Some((then, connection)) if then == now => (then, connection),
            _ => open(&self.path, self.patience)?,
        };
        Ok(&mut self.opened.insert(connection).1)
    }

    /// Takes in that something went wrong: the next one gets another connection if this one is spoiled.
    pub(crate) fn failed(&mut self, fault: &Fault) {
        if fault.breaks_connection() {
            self.opened = None;
        }
    }
}

fn metadata(path: &Path) -> Result<Metadata, Fault> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(metadata),
        Ok(_) => Err(Fault::NoFile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Fault::Gone),
        Err(error) => Err(Fault::Io("look at the file", error)),
    }
}

fn identity(path: &Path) -> Result<Identity, Fault> {
    let metadata = metadata(path)?;
    Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
}

/// Makes the file appear as a whole, under whatever name it is not there yet. Who comes second takes the first one's.
fn create(path: &Path) -> Result<(), Fault> {
    let image = schema::image()?;
    let (draft, mut file) = draft(path)?;
    let written = file.write_all(&image).and_then(|()| file.sync_all());
    drop(file);
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&draft);
    let synced = path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all());
    linked.and(removed).and(synced).map_err(|error| Fault::Io("create the file", error))
}

fn draft(path: &Path) -> Result<(PathBuf, File), Fault> {
    let mut number = std::process::id();
    loop {
        let mut draft = path.as_os_str().to_owned().into_vec();
        draft.extend_from_slice(format!(".new-{number}").as_bytes());
        let draft = PathBuf::from(std::ffi::OsString::from_vec(draft));
        match File::create_new(&draft) {
            Ok(file) => return Ok((draft, file)),
            // Processes of other containers may have our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                number = number.wrapping_add(1);
            }
            Err(error) => return Err(Fault::Io("create the file", error)),
        }
    }
}

fn open(path: &Path, patience: Duration) -> Result<(Identity, Connection), Fault> {
    for _ in 0..REPLACEMENTS {
        let before = identity(path)?;
        examine(path)?;
        let connection = connect(path, patience)?;
        if identity(path)? == before {
            return Ok((before, connection));
        }
    }
    Err(Fault::Restless)
}

/// Looks whether the file is one of ours, and leaves no trace: no lock, no recovery, no file beside it.
fn examine(path: &Path) -> Result<(), Fault> {
    let length = metadata(path)?.len();
    if length < HEADER {
        return Err(Fault::Short(length));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(immutable(path), flags)?;
    // While changes are carried from the log into the file, it may be shorter than it says. This lets SQLite accept that.
    connection.pragma_update(None, "writable_schema", true)?;
    // A new file has its id from the beginning, so it does not stand in the write-ahead log only.
    match pragma(&connection, "application_id")? {
        schema::APPLICATION_ID => check_format(&connection),
        other => Err(Fault::Foreign(other)),
    }
}

fn connect(path: &Path, patience: Duration) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait(patience)))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    if connection.is_readonly(MAIN_DB)? {
        return Err(Fault::ReadOnly);
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    check_format(&connection)?;
    schema::check(&connection)?;
    check_pages(&connection)?;
    let boot_id = clock::boot_id().map_err(|error| Fault::Io("read the boot id", error))?;
    write::begin_life(&mut connection, &boot_id, clock::now_ms())?;
    Ok(connection)
}

/// Finds out whether the file is whole. Rows that the schema does not allow do no harm: each is skipped when it is read.
fn check_pages(connection: &Connection) -> Result<(), Fault> {
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    connection.pragma_update(None, "ignore_check_constraints", false)?;
    if found == "ok" { Ok(()) } else { Err(Fault::Damaged(found)) }
}

fn check_format(connection: &Connection) -> Result<(), Fault> {
    match pragma(connection, "user_version")? {
        schema::FORMAT => Ok(()),
        other => Err(Fault::Format(other)),
    }
}

fn pragma(connection: &Connection, name: &str) -> Result<i32, Fault> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

/// The file as a URI that tells SQLite to believe that nobody writes it.
fn immutable(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_') {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri + "?immutable=1"
}

/// SQLite's own handler waits for up to 100 ms between two tries, and then a process that writes all the time leaves
/// others no chance.
fn wait(patience: Duration) -> impl FnMut(i32) -> bool + Send + 'static {
    let mut since = Instant::now();
    move |tries| {
        if tries == 0 {
            since = Instant::now();
        }
        let pause = Duration::from_micros(100) * u32::try_from(tries).unwrap_or(0).clamp(1, 10);
        thread::sleep(pause);
        since.elapsed() < patience
    }
}
