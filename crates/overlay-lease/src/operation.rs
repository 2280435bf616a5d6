//! What a node asks a store, as values.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::attributes::Attributes;
use crate::config::Configured;
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::store::{
    Claim, CreateError, Standing, Store, StoreError, StoreErrorKind, Tenant, WriteError,
};
use crate::watch::Snapshot;

/// What a node asks a [`Store`] to get and to keep a lease.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_enums)]
pub enum Operation {
    /// [`Store::standing`].
    Standing(NodeId),
    /// [`Store::tenants`].
    Tenants,
    /// [`Store::snapshot`].
    Snapshot,
    /// [`Store::create`].
    Create(Claim),
    /// [`Store::update`].
    Update {
        /// The lease as it was seen last.
        lease: Arc<Lease>,
        /// What its node is to tell its peers.
        attributes: Attributes,
        /// How long it is to live.
        ttl: Option<Duration>,
    },
    /// [`Store::renew`].
    Renew(Arc<Lease>),
    /// [`Store::remove`].
    Remove(Arc<Lease>),
}

/// What a store says to an [`Operation`] if it answers.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_enums)]
pub enum Answer {
    /// To [`Operation::Standing`].
    Standing(Standing),
    /// To [`Operation::Tenants`].
    Tenants(Vec<Tenant>),
    /// To [`Operation::Snapshot`].
    Snapshot(Snapshot),
    /// To [`Operation::Create`] and [`Operation::Update`]: the lease as it is now.
    Lease(Arc<Lease>),
    /// To [`Operation::Renew`] and [`Operation::Remove`].
    Done,
    /// [`CreateError::Taken`].
    Taken(Arc<Lease>),
    /// [`CreateError::Holds`].
    Holds(Arc<Lease>),
    /// [`CreateError::Reconfigured`].
    Reconfigured(Option<Configured>),
    /// [`WriteError::Fenced`].
    Fenced(Option<Arc<Lease>>),
}

/// An answer, or that there was none.
pub type Reply = Result<Answer, StoreError>;

impl Operation {
    /// Asks `store`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it does not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the effect may have happened, or may yet happen.
    pub async fn ask<S: Store>(self, store: &S) -> Reply {
        match self {
            Self::Standing(node) => store.standing(&node).await.map(Answer::Standing),
            Self::Tenants => store.tenants().await.map(Answer::Tenants),
            Self::Snapshot => store.snapshot().await.map(Answer::Snapshot),
            Self::Create(claim) => Answer::to_create(store.create(&claim).await),
            Self::Update { lease, attributes, ttl } => {
                Answer::to_write(store.update(&lease, &attributes, ttl).await.map(Answer::Lease))
            }
            Self::Renew(lease) => {
                Answer::to_write(store.renew(&lease).await.map(|()| Answer::Done))
            }
            Self::Remove(lease) => {
                Answer::to_write(store.remove(&lease).await.map(|()| Answer::Done))
            }
        }
    }

    /// Asks `store`, but waits for the answer no longer than this.
    pub(crate) async fn ask_within<S: Store>(self, patience: Duration, store: &S) -> Reply {
        let purpose = self.purpose();
        // Pinned here, since it is large and would be moved to the timer.
        match tokio::time::timeout(patience, pin!(self.ask(store))).await {
            Ok(reply) => reply,
            Err(_) => Err(StoreError::unanswered(purpose, patience)),
        }
    }

    /// What it is for, as in [`StoreError::operation`].
    pub(crate) const fn purpose(&self) -> &'static str {
        match self {
            Self::Standing(_) => "read the standing of a node",
            Self::Tenants => "list the tenants",
            Self::Snapshot => "list the leases",
            Self::Create(_) => "create a lease",
            Self::Update { .. } => "update a lease",
            Self::Renew(_) => "renew a lease",
            Self::Remove(_) => "remove a lease",
        }
    }
}

impl Answer {
    /// What the outcome of [`Store::create`] says.
    ///
    /// # Errors
    ///
    /// [`CreateError::Store`].
    pub fn to_create(outcome: Result<Arc<Lease>, CreateError>) -> Reply {
        match outcome {
            Ok(lease) => Ok(Self::Lease(lease)),
            Err(CreateError::Taken(lease)) => Ok(Self::Taken(lease)),
            Err(CreateError::Holds(lease)) => Ok(Self::Holds(lease)),
            Err(CreateError::Reconfigured(config)) => Ok(Self::Reconfigured(config)),
            Err(CreateError::Store(error)) => Err(error),
        }
    }

    /// What the outcome of [`Store::update`], [`Store::renew`] or [`Store::remove`] says.
    ///
    /// # Errors
    ///
    /// [`WriteError::Store`].
    pub fn to_write(outcome: Result<Self, WriteError>) -> Reply {
        match outcome {
            Ok(answer) => Ok(answer),
            Err(WriteError::Fenced(lease)) => Ok(Self::Fenced(lease)),
            Err(WriteError::Store(error)) => Err(error),
        }
    }
}

impl StoreError {
    /// No answer came in time.
    pub(crate) fn unanswered(purpose: &'static str, patience: Duration) -> Self {
        let source = format!("no answer within {patience:?}");
        Self::new(StoreErrorKind::Unavailable, "the store", purpose, source)
    }

    /// An answer came, but to another question.
    pub(crate) fn misunderstood(purpose: &'static str) -> Self {
        Self::new(StoreErrorKind::Corrupt, "the store", purpose, "it answered another question")
    }

    /// The store was at the revision `from`, and now it is at `to`.
    pub(crate) fn set_back(from: Option<Revision>, to: Revision) -> Self {
        let from = from.unwrap_or_default();
        let problem = format!("it went back from revision {from} to {to}");
        Self::new(StoreErrorKind::Corrupt, "the store", "watch the leases", problem)
    }
}
