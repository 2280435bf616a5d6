//! Getting a lease, and giving it back.

use std::sync::Arc;
use std::time::Duration;

use crate::allocate::{Exhausted, Policy};
use crate::attempt::{Attempt, Progress, Release, Reservation};
use crate::attributes::Attributes;
use crate::backoff::{Jitter, seed};
use crate::config::{Configured, NotInPool};
use crate::family::Subnets;
use crate::lease::Lease;
use crate::name::NodeId;
use crate::operation::Answer;
use crate::store::{Claim, CreateError, Store, StoreError, StoreErrorKind, WriteError};

/// What a node wants to have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The node.
    pub node: NodeId,
    /// What it tells its peers.
    pub attributes: Attributes,
    /// How long the lease is to live without being renewed: for as long a failure of the store nobody else gets the
    /// subnets, and for as long they are of no use after the node has gone. Counted in whole seconds, at least 1.
    pub ttl: Duration,
    /// Which free subnets are best.
    pub policy: Policy,
    /// The subnets to try first, if the node knows by itself which ones it had.
    pub last: Option<Subnets>,
}

impl Request {
    /// A lease for `node`, of the usual policy.
    #[must_use]
    pub fn new(node: NodeId, attributes: Attributes, ttl: Duration) -> Self {
        Self { node, attributes, ttl, policy: Policy::Sticky, last: None }
    }

    /// The time to live in whole seconds, at least 1: what all stores can count.
    pub(crate) fn term(&self) -> Duration {
        let more = u64::from(self.ttl.subsec_nanos() > 0);
        Duration::from_secs(self.ttl.as_secs().saturating_add(more).max(1))
    }

    /// The store did not answer.
    pub(crate) fn failed(&self, source: StoreError) -> AcquireError {
        AcquireError::Store { node: self.node.clone(), source }
    }
}

/// A node got no lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// There is no network yet, or no longer.
    #[error("no lease for {node}: the network is not configured")]
    NotConfigured {
        /// The node.
        node: NodeId,
    },
    /// All subnets are leased.
    #[error("no lease for {node}")]
    Exhausted {
        /// The node.
        node: NodeId,
        /// How many there are.
        source: Exhausted,
    },
    /// Others were faster again and again.
    #[error("no lease for {node}: others were faster, {questions} questions long")]
    Overtaken {
        /// The node.
        node: NodeId,
        /// How many questions the store was asked.
        questions: u32,
    },
    /// The store does not answer. If it was a lease that was asked for, it may be there nevertheless, and is taken over
    /// next time.
    #[error("no lease for {node}")]
    Store {
        /// The node.
        node: NodeId,
        /// What it does instead.
        source: StoreError,
    },
}

impl AcquireError {
    /// Whether it may be over in a moment without anybody doing anything about it.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Overtaken { .. } => true,
            Self::Store { source, .. } => source.kind() == StoreErrorKind::Unavailable,
            _ => false,
        }
    }
}

/// Gets a lease for the node of `request`: the one that it has, if it has one, with what it tells peers changed in place.
///
/// What the node has stays what it is; a reservation is taken up and stays one. If it no longer fits the network's
/// configuration, it is removed, even if it is a reservation, and replaced by an ordinary lease. Otherwise the subnets
/// that the node had last are its first choice.
///
/// This tries a few times, for a minute at most. [`Keeper`](crate::Keeper) tries for as long as it takes, and keeps the
/// lease.
///
/// # Errors
///
/// [`AcquireError`] if the node got none.
///
/// # Cancel safety
///
/// If the future is dropped, the node may have got a lease nevertheless. It goes when its time is over.
pub async fn acquire<S: Store>(store: &S, request: &Request) -> Result<Arc<Lease>, AcquireError> {
    let mut jitter = Jitter::new(seed());
    let mut failures = 0;
    loop {
        match attempt(store, request).await {
            Err(error) if error.may_pass() && failures < RETRIES => failures += 1,
            outcome => return outcome,
        }
        tokio::time::sleep(jitter.backoff(failures, SOON, LONGEST)).await;
    }
}

const RETRIES: u32 = 5;
const SOON: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

async fn attempt<S: Store>(store: &S, request: &Request) -> Result<Arc<Lease>, AcquireError> {
    let (mut attempt, mut operation) = Attempt::begin(request, request.last);
    loop {
        let answer = operation.ask_within(PATIENCE, store).await;
        match attempt.answer(request, answer.map_err(|source| request.failed(source))?) {
            Progress::Ask(next) => operation = next,
            Progress::Got(lease) => return Ok(lease),
            Progress::Failed(error) => return Err(error),
        }
    }
}

/// Gives back a lease, which is as it was seen last. A reservation stays, but tells peers nothing any more; to remove it,
/// there is [`Store::remove`].
///
/// This takes two writes: peers first see that the node cannot be reached any more, and then that the lease is gone. A
/// single one, on its way for long, could take the lease from under the node's next process.
///
/// # Errors
///
/// [`WriteError`] if somebody has changed the lease since, or the store does not answer. It is no error if it is gone.
///
/// # Cancel safety
///
/// If the future is dropped, the lease may be as it was, empty, or gone.
pub async fn release<S: Store>(store: &S, lease: &Lease) -> Result<(), WriteError> {
    let (mut release, first) = Release::of(Arc::new(lease.clone()), Reservation::Keep);
    let mut next = Some(first);
    while let Some(operation) = next {
        match operation.ask_within(PATIENCE, store).await? {
            Answer::Fenced(Some(current)) => return Err(WriteError::Fenced(Some(current))),
            answer => next = release.answer(&answer),
        }
    }
    Ok(())
}

/// Subnets were not reserved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// There is no network.
    #[error("{subnets} cannot be reserved: the network is not configured")]
    NotConfigured {
        /// The subnets.
        subnets: Subnets,
    },
    /// The network does not lease such subnets.
    #[error("{subnets} cannot be reserved")]
    NotInPool {
        /// The subnets.
        subnets: Subnets,
        /// Why not.
        source: NotInPool,
    },
    /// They have been leased, or there is another reservation, or the node has other subnets.
    #[error("{subnets} cannot be reserved: {} has {}", holder(.by), .by.subnets)]
    Leased {
        /// The subnets.
        subnets: Subnets,
        /// The lease that excludes it.
        by: Arc<Lease>,
    },
    /// The network or the lease changed again and again.
    #[error("{subnets} cannot be reserved: others were faster each time")]
    Overtaken {
        /// The subnets.
        subnets: Subnets,
    },
    /// The store does not answer. The reservation may be there nevertheless.
    #[error("{subnets} cannot be reserved")]
    Store {
        /// The subnets.
        subnets: Subnets,
        /// What it does instead.
        source: StoreError,
    },
}

/// Reserves subnets for `node`, or, without a node, keeps everybody away from them. A lease of exactly these subnets that
/// the node has becomes a reservation.
///
/// # Errors
///
/// [`ReserveError`] if they are not reserved.
///
/// # Cancel safety
///
/// If the future is dropped, they may be reserved nevertheless.
pub async fn reserve<S: Store>(
    store: &S,
    subnets: Subnets,
    node: Option<NodeId>,
) -> Result<Arc<Lease>, ReserveError> {
    let failed = |source| ReserveError::Store { subnets, source };
    for _ in 0..RETRIES {
        let snapshot = store.snapshot().await.map_err(failed)?;
        let Some(Configured { config, revision: under }) = snapshot.config else {
            return Err(ReserveError::NotConfigured { subnets });
        };
        config.admits(&subnets).map_err(|source| ReserveError::NotInPool { subnets, source })?;
        let excludes = |lease: &Arc<Lease>| {
            lease.subnets.overlap(&subnets) || (node.is_some() && lease.node == node)
        };
        let outcome = match snapshot.leases.into_iter().find(excludes) {
            Some(held) if held.subnets != subnets || held.node != node => {
                return Err(ReserveError::Leased { subnets, by: held });
            }
            Some(held) => store.update(&held, &held.attributes, None).await,
            None => {
                let (node, attributes) = (node.clone(), Attributes::default());
                let claim = Claim { subnets, node, attributes, ttl: None, under };
                store.create(&claim).await.map_err(|error| match error {
                    CreateError::Store(error) => WriteError::Store(error),
                    _ => WriteError::Fenced(None),
                })
            }
        };
        match outcome {
            Ok(lease) => return Ok(lease),
            Err(WriteError::Store(source)) => return Err(failed(source)),
            Err(WriteError::Fenced(_)) => {}
        }
    }
    Err(ReserveError::Overtaken { subnets })
}

fn holder(lease: &Lease) -> &str {
    lease.node.as_ref().map_or("nobody in particular", NodeId::as_str)
}
