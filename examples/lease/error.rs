//! What can go wrong, and what to do about it.

use std::error::Error;

use overlay_lease::{
    AcquireError, ConfigureError, Configured, CreateError, Family, ReserveError, StoreError,
    StoreErrorKind, WriteError,
};
use serde_json::{Value, json};

/// What this program itself finds wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the network is configured in another way: {}", .0.config.to_json())]
    Configured(Configured),
    #[error("the network is not configured")]
    NotConfigured,
    #[error(transparent)]
    NoFile(StoreError),
    #[error("no address was found that peers could send to")]
    NoAddress,
    #[error("more than one {0} address: peers send to one of each family")]
    Addresses(Family),
    #[error("{0}: there is no such lease")]
    NoLease(String),
}

/// What went wrong, and why, and why that.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some say what their cause says.
        let why = error.to_string();
        if !text.ends_with(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

/// What went wrong and what to do about it, for machines.
pub(crate) fn object(error: &anyhow::Error) -> Value {
    json!({"ok": false, "error": format!("{error:#}"), "hint": hint(error)})
}

/// What to do about it.
pub(crate) fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        let problem = cause.downcast_ref().map(|problem| match problem {
            Problem::Configured(_) => "init --replace changes it; leases stay as they are",
            Problem::NotConfigured => NOT_CONFIGURED,
            Problem::NoFile(_) => "init makes the file; --store says where it is",
            Problem::NoAddress => "name one with --address",
            Problem::Addresses(_) => "name one IPv4 address, one IPv6 address, or one of both",
            Problem::NoLease(_) => "show lists them all",
        });
        let acquire = || match cause.downcast_ref()? {
            AcquireError::NotConfigured { .. } => Some(NOT_CONFIGURED),
            AcquireError::Exhausted { .. } => {
                Some("release what is not used, or init --replace with a larger network")
            }
            AcquireError::Store { source, .. } => Some(store(source)),
            _ => None,
        };
        let reserve = || match cause.downcast_ref()? {
            ReserveError::NotConfigured { .. } => Some(NOT_CONFIGURED),
            ReserveError::Leased { .. } => Some("release that first"),
            ReserveError::NotInPool { .. } => Some("show prints the network's configuration"),
            ReserveError::Store { source, .. } => Some(store(source)),
            _ => None,
        };
        let stored = || {
            let direct = cause.downcast_ref::<StoreError>();
            let write = cause.downcast_ref().and_then(|error| match error {
                WriteError::Store(error) => Some(error),
                _ => None,
            });
            let create = cause.downcast_ref().and_then(|error| match error {
                CreateError::Store(error) => Some(error),
                _ => None,
            });
            let configure = cause.downcast_ref().and_then(|error| match error {
                ConfigureError::Store(error) => Some(error),
                _ => None,
            });
            direct.or(write).or(create).or(configure).map(store)
        };
        problem.or_else(acquire).or_else(reserve).or_else(stored)
    })
}

const NOT_CONFIGURED: &str = "init says what the network is made of";

fn store(error: &StoreError) -> &'static str {
    match error.kind() {
        StoreErrorKind::Unavailable => {
            "is the store running, and can it be reached from here? --store says where it is"
        }
        StoreErrorKind::Denied => "does this user have access? for etcd see --ca, --cert, --user",
        _ => "look at what is there with the store's own tools",
    }
}
