//! What is in a store, and what happens there.

use std::future::Future;
use std::sync::Arc;

use crate::config::Configured;
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::store::StoreError;

/// Everything in a network at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Snapshot {
    /// The revision.
    pub revision: Revision,
    /// The network's configuration, if it has one.
    pub config: Option<Configured>,
    /// All leases, in any order.
    pub leases: Vec<Arc<Lease>>,
    /// What stands among them and cannot be read.
    pub skipped: Vec<Skipped>,
}

/// Something in a store that is not what it should be. It is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
#[allow(clippy::exhaustive_structs)]
pub struct Skipped {
    /// Where it stands.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
    /// What it would be, if that can be told.
    pub about: Option<About>,
}

/// What something that cannot be read would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum About {
    /// The network's configuration. That there is none is not said by it.
    Config,
    /// The lease of these subnets. That there is none is not said by it.
    Lease(Subnets),
}

/// What happened in a network, in the order in which it happened.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Changes {
    /// The revision after all of them.
    pub revision: Revision,
    /// What happened. Empty if all that is new is the revision.
    pub changes: Vec<Change>,
    /// What was written and cannot be read.
    pub skipped: Vec<Skipped>,
}

/// One thing that happened in a network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// The network was configured, or its configuration removed.
    Config(Option<Configured>),
    /// A lease was made or changed.
    Lease(Arc<Lease>),
    /// The lease of these subnets was released, or it expired.
    Gone(Subnets),
}

/// What a [`Watch`] brings.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_enums)]
pub enum Update {
    /// What happened since the last update.
    Changes(Changes),
    /// Everything there is: what happened since the last update is no longer known in detail.
    Snapshot(Snapshot),
}

impl Update {
    /// The revision after it.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        match self {
            Self::Changes(changes) => changes.revision,
            Self::Snapshot(snapshot) => snapshot.revision,
        }
    }
}

/// What happens in a network, from some revision on.
///
/// Nothing is missing and nothing comes twice: revisions only grow. A [`View`](crate::View) makes of it what is there.
pub trait Watch: Send {
    /// Waits for the next update.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer: then nobody knows what is happening there, which is something else
    /// than nothing happening. The watch goes on trying with the next call, and continues where it was.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped has taken nothing away: the next one brings the same.
    fn next(&mut self) -> impl Future<Output = Result<Update, StoreError>> + Send;
}
