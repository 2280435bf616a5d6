//! What a store of leases has to do.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::watch::{Snapshot, Watch};

/// The leases of one network, shared by all its nodes.
///
/// A store keeps four promises, which the conformance suite checks:
///
/// * Leases do not overlap, and a node has at most one.
/// * A write has its effect as a whole or not at all, and only as long as what it was based on still holds: each names
///   the revision that the writer saw. Whoever comes late changes nothing. If two want to write exactly the same at the
///   same moment, it may be written once for both.
/// * A lease that is not renewed for its time to live is gone: within [`LATE`] after that, even if nobody asks. It is
///   never gone before.
/// * A watch brings every change once and in order, or a snapshot in place of those it cannot bring.
///
/// Nobody holds anything by asking: an answer tells how it was. When an operation fails with a [`StoreError`], its
/// effect may have happened nevertheless; look before repeating it.
///
/// Every operation may be dropped while it waits, and then its effect may have happened, too.
pub trait Store: Send + Sync {
    /// How it tells what happens.
    type Watch: Watch;

    /// The network's configuration; `None` if it has none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    fn config(&self) -> impl Future<Output = Result<Option<Configured>, StoreError>> + Send;

    /// Configures the network, which must still have the configuration of the revision `replaces`, or none.
    /// Leases stay as they are, even those that no longer fit.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] if it has another, or the store does not answer.
    fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> impl Future<Output = Result<Configured, ConfigureError>> + Send;

    /// All that `node` has to know to get a lease: one question, however many leases there are.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    fn standing(&self, node: &NodeId) -> impl Future<Output = Result<Standing, StoreError>> + Send;

    /// Which subnets a node had last, for as many nodes as the store remembers. This decides who gets what, not whether
    /// it is free.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    fn tenants(&self) -> impl Future<Output = Result<Vec<Tenant>, StoreError>> + Send;

    /// Everything there is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;

    /// What happens after the revision `after`. Where the store no longer knows that in detail, the first update is a
    /// snapshot.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    fn watch(
        &self,
        after: Revision,
    ) -> impl Future<Output = Result<Self::Watch, StoreError>> + Send;

    /// Makes a lease.
    ///
    /// # Errors
    ///
    /// [`CreateError`] if somebody has the subnets or some of their addresses, the node has others, the network's
    /// configuration is another one, or the store does not answer.
    fn create(&self, claim: &Claim)
    -> impl Future<Output = Result<Arc<Lease>, CreateError>> + Send;

    /// Changes what the node tells its peers and how long the lease lives, from now on. `lease` is the lease as it was
    /// seen last. If nothing changes, nobody is woken, and the revision stays.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if there is no longer this lease at this revision, or the store does not answer.
    fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<Arc<Lease>, WriteError>> + Send;

    /// Makes the lease live for its time to live from now on. This wakes nobody. `lease` is the lease as it was seen
    /// last; a reservation is left as it is.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if there is no longer this lease at this revision, or the store does not answer.
    fn renew(&self, lease: &Lease) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Removes the lease, even a reservation. `lease` is the lease as it was seen last.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if there is no longer this lease at this revision, or the store does not answer.
    fn remove(&self, lease: &Lease) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// How long the lease lives from now on if nobody renews it; `None` for a reservation. `lease` is the lease as it was
    /// seen last.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if there is no longer this lease at this revision, or the store does not answer.
    fn remaining(
        &self,
        lease: &Lease,
    ) -> impl Future<Output = Result<Option<Duration>, WriteError>> + Send;
}

/// How much later than its time to live a lease may go.
pub const LATE: Duration = Duration::from_secs(5);

/// What a node has to know to get a lease.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Standing {
    /// The network's configuration, if it has one.
    pub config: Option<Configured>,
    /// The lease that the node has.
    pub lease: Option<Arc<Lease>>,
    /// The subnets that it had last, if the store remembers.
    pub last: Option<Subnets>,
    /// Whether [`Store::create`] notices every overlap, so that subnets may be tried without having read all leases.
    /// If not, only those of the snapshot are to be relied on, and leases that were made since under the same
    /// configuration.
    pub may_guess: bool,
}

/// Who had which subnets last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Tenant {
    /// The node.
    pub node: NodeId,
    /// The subnets.
    pub subnets: Subnets,
    /// When it got them.
    pub since: Revision,
}

/// Subnets that somebody wants to have.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Claim {
    /// The subnets. Their lengths and their place are those of the configuration: the store does not check this.
    pub subnets: Subnets,
    /// Who is to have them. `None` to keep everybody away.
    pub node: Option<NodeId>,
    /// What it tells its peers.
    pub attributes: Attributes,
    /// How long the lease lives without being renewed, at least 1 second; stores may take less than 1 second more, and
    /// some do not count parts of a second. `None` makes a reservation.
    pub ttl: Option<Duration>,
    /// The revision of the configuration under which the subnets were chosen.
    pub under: Revision,
}

/// A store did not answer, or not in a way that can be understood.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    store: String,
    operation: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

/// What a [`StoreError`] means for those who might try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It is away, busy, or too slow. Trying again is right.
    Unavailable,
    /// It does not let us: wrong password, no permission, read-only. Somebody has to change that.
    Denied,
    /// It holds or says what it should not. Somebody has to look.
    Corrupt,
}

impl StoreError {
    /// `operation` failed on `store` because of `source`. The store's name is one that may be logged: without secrets.
    pub fn new(
        kind: StoreErrorKind,
        store: impl Into<String>,
        operation: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, store: store.into(), operation, source: source.into() }
    }

    /// What it means for those who might try again.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    /// What was tried, as in "list the leases".
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            StoreErrorKind::Unavailable => "cannot",
            StoreErrorKind::Denied => "not allowed to",
            StoreErrorKind::Corrupt => "found something wrong when trying to",
        };
        write!(f, "{}: {what} {}: {}", self.store, self.operation, self.source)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// A lease was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Somebody has the subnets, or some of their addresses.
    #[error("taken by {}", holder(.0))]
    Taken(Arc<Lease>),
    /// The node has other subnets.
    #[error("{} already holds {}", holder(.0), .0.subnets)]
    Holds(Arc<Lease>),
    /// The network is configured in another way than when the subnets were chosen, or no longer.
    #[error("the network was configured anew")]
    Reconfigured(Option<Configured>),
    /// The store did not answer. The lease may have been made nevertheless.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A lease was not changed, renewed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// There is no longer this lease at this revision, but another, or none.
    #[error("{}", fenced(.0.as_deref()))]
    Fenced(Option<Arc<Lease>>),
    /// The store did not answer. The effect may have happened nevertheless.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A network was not configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigureError {
    /// It has another configuration than expected.
    #[error("{}", reconfigured(.0.as_ref()))]
    Reconfigured(Option<Configured>),
    /// The store did not answer. The effect may have happened nevertheless.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn holder(lease: &Lease) -> &str {
    lease.node.as_ref().map_or("a node without identity", NodeId::as_str)
}

fn fenced(now: Option<&Lease>) -> String {
    match now {
        Some(now) => {
            format!(
                "the lease of {} has changed: {} holds it since revision {}",
                now.subnets,
                holder(now),
                now.revision
            )
        }
        None => "there is no such lease any more".into(),
    }
}

fn reconfigured(now: Option<&Configured>) -> String {
    match now {
        Some(now) => format!("the network was configured at revision {}", now.revision),
        None => "the network is not configured".into(),
    }
}
