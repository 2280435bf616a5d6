//! Why the file or SQLite did not do what was asked.

use std::io;

use overlay_lease::{Skipped, StoreErrorKind};
use rusqlite::ErrorCode;

use crate::schema::FORMAT;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot {0}: {1}")]
    Io(&'static str, io::Error),
    #[error("there is no such file")]
    Missing,
    #[error("the file is gone")]
    Gone,
    #[error("this is no file")]
    NoFile,
    #[error("the file is cut off: it has {0} bytes")]
    Short(u64),
    #[error("the file belongs to another program: its application id is {0:#010x}")]
    Foreign(i32),
    #[error("the file has format {0}, and this program knows format {FORMAT}")]
    Format(i32),
    #[error("the file is damaged: {0}")]
    Damaged(String),
    #[error("the schema is not as it was made: {0}")]
    Schema(String),
    #[error("the file is read-only")]
    ReadOnly,
    #[error("the file is replaced again and again")]
    Restless,
    #[error("the attributes take {0} bytes as JSON, and {1} are allowed")]
    TooLong(usize, usize),
    #[error("the attributes cannot be read again: {0}")]
    Unwritable(String),
    #[error(transparent)]
    Unreadable(#[from] Skipped),
    #[error("the thread that serves the file has ended")]
    Ended,
    #[error("the store was closed")]
    Closed,
}

impl Fault {
    pub(crate) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(
                    ErrorCode::PermissionDenied
                    | ErrorCode::ReadOnly
                    | ErrorCode::CannotOpen
                    | ErrorCode::AuthorizationForStatementDenied
                    | ErrorCode::TooBig
                    | ErrorCode::ConstraintViolation,
                ) => StoreErrorKind::Denied,
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    StoreErrorKind::Corrupt
                }
                Some(_) => StoreErrorKind::Unavailable,
                // It is not SQLite that complains, but what it brought is not what the schema allows.
                None => StoreErrorKind::Corrupt,
            },
            Self::Io(_, error) => match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    StoreErrorKind::Denied
                }
                _ => StoreErrorKind::Unavailable,
            },
            Self::ReadOnly | Self::TooLong(..) | Self::Unwritable(_) => StoreErrorKind::Denied,
            Self::Missing | Self::Gone | Self::Restless | Self::Ended | Self::Closed => {
                StoreErrorKind::Unavailable
            }
            Self::NoFile
            | Self::Short(_)
            | Self::Foreign(_)
            | Self::Format(_)
            | Self::Damaged(_)
            | Self::Schema(_)
            | Self::Unreadable(_) => StoreErrorKind::Corrupt,
        }
    }

    /// Whether another process has the lock.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy))
    }

    /// Whether the connection on which it happened is of no more use.
    pub(crate) fn breaks_connection(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::CannotOpen
                        | ErrorCode::ReadOnly
                )
            ),
            _ => false,
        }
    }
}
