//! What happened to a store, and whether it can have happened to one that keeps its promises.
//!
//! A [`Recorder`] around each client writes down every operation with its answer, and when it began and ended, in a
//! common [`Log`]. Many clients may do anything at once, and the store may be away, be killed, be slow: an operation
//! that failed or was dropped may have had its effect or not. [`check()`] then says whether there is a course of events
//! that explains all answers.
//!
//! ```
//! use overlay_lease::MemoryStore;
//! use overlay_lease::history::{Workload, check};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), overlay_lease::history::Violation> {
//! let store = MemoryStore::new();
//! let history = Workload::new(7).run(vec![store.clone(), store]).await;
//! let summary = check(&history)?;
//! assert!(summary.leases > 0 && summary.gone > 0);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::store::{Claim, Standing, Tenant};
use crate::watch::{Change, Snapshot, Update};

mod check;
mod random;
mod record;
#[cfg(test)]
mod tests;
mod workload;

pub(crate) use check::grants;
pub use check::{Rule, Summary, Violation, check};
pub use record::{Log, RecordedWatch, Recorder};
pub use workload::Workload;

/// What clocks of one machine may differ by within the time to live of a lease.
pub(crate) const SKEW: Duration = Duration::from_millis(10);

/// What the clients of one network did and were answered, in the order in which they began to.
#[derive(Clone, Debug, Default)]
#[allow(clippy::exhaustive_structs)]
pub struct History {
    /// The operations.
    pub operations: Vec<Operation>,
    /// Whether others wrote, too, of which nothing is known here. Then leases may come from anywhere and go at any time,
    /// and less can be said.
    pub among_others: bool,
}

/// One operation of one client.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Operation {
    /// Which client.
    pub client: usize,
    /// When it began.
    pub began: Moment,
    /// When it was answered or dropped; `None` if it still waited when the history was taken.
    pub ended: Option<Moment>,
    /// What was asked.
    pub call: Call,
    /// What was answered.
    pub answer: Answer,
}

/// A moment of a history. No two events of a history have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs)]
pub struct Moment {
    /// The time since the history began.
    pub at: Duration,
    /// The number of events before it.
    pub order: u64,
}

/// What was asked of a store or a watch: see the operations of [`Store`](crate::Store) and [`Watch`](crate::Watch).
#[derive(Clone, Debug)]
#[allow(missing_docs, clippy::exhaustive_enums)]
pub enum Call {
    Config,
    Configure { config: NetworkConfig, replaces: Option<Revision> },
    Standing(NodeId),
    Tenants,
    Snapshot,
    Watch { watch: usize, after: Revision },
    Next { watch: usize },
    Create(Claim),
    Update { lease: Arc<Lease>, attributes: Attributes, ttl: Option<Duration> },
    Renew(Arc<Lease>),
    Remove(Arc<Lease>),
    Remaining(Arc<Lease>),
}

/// What was answered.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Answer {
    /// Nothing until now, or nobody waited for it any more.
    None,
    /// The store failed, as this text says.
    Failed(String),
    /// The configuration was read.
    Config(Option<Configured>),
    /// The network was configured.
    Configured(Configured),
    /// It was not, or a lease was not made, since this is the configuration.
    Reconfigured(Option<Configured>),
    /// What a node has.
    Standing(Standing),
    /// Who had what last.
    Tenants(Vec<Tenant>),
    /// Everything there is.
    Snapshot(Snapshot),
    /// What a watch brought.
    Update(Update),
    /// The lease was made or updated.
    Lease(Arc<Lease>),
    /// It was not made, since this one overlaps.
    Taken(Arc<Lease>),
    /// It was not made, since the node has this one.
    Holds(Arc<Lease>),
    /// The lease was renewed or removed, or the watch begun.
    Done,
    /// The remaining time.
    Remaining(Option<Duration>),
    /// The write was refused, since this is what there is.
    Fenced(Option<Arc<Lease>>),
}

/// One operation per line.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operations.iter().try_for_each(|operation| writeln!(f, "{operation}"))
    }
}

/// In one line, without attributes: `[0.001203 .. 0.002514] client 3: create 10.5.1.0/24 ... -> ...`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} .. ", self.began)?;
        match &self.ended {
            Some(ended) => write!(f, "{ended}]")?,
            None => f.write_str("?]")?,
        }
        write!(f, " client {}: {} -> {}", self.client, self.call, self.answer)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.at.as_secs_f64())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Configure { replaces: None, .. } => f.write_str("configure"),
            Self::Configure { replaces: Some(revision), .. } => {
                write!(f, "configure, replacing {revision}")
            }
            Self::Standing(node) => write!(f, "standing of {node}"),
            Self::Tenants => f.write_str("tenants"),
            Self::Snapshot => f.write_str("snapshot"),
            Self::Watch { watch, after } => write!(f, "watch {watch} after {after}"),
            Self::Next { watch } => write!(f, "next of watch {watch}"),
            Self::Create(claim) => {
                write!(f, "create {} for {}", claim.subnets, node(claim.node.as_ref()))?;
                write!(f, " for {} under {}", term(claim.ttl), claim.under)
            }
            Self::Update { lease, ttl, .. } => {
                write!(f, "update {} for {}", brief(lease), term(*ttl))
            }
            Self::Renew(lease) => write!(f, "renew {}", brief(lease)),
            Self::Remove(lease) => write!(f, "remove {}", brief(lease)),
            Self::Remaining(lease) => write!(f, "remaining of {}", brief(lease)),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("?"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Config(config) => write!(f, "configured at {}", at(config.as_ref())),
            Self::Configured(config) => write!(f, "configured at {}", config.revision),
            Self::Reconfigured(config) => {
                write!(f, "refused, configured at {}", at(config.as_ref()))
            }
            Self::Standing(standing) => {
                write!(f, "configured at {}, has ", at(standing.config.as_ref()))?;
                match &standing.lease {
                    Some(lease) => f.write_str(&brief(lease))?,
                    None => f.write_str("nothing")?,
                }
                standing.last.map_or(Ok(()), |last| write!(f, ", had {last}"))
            }
            Self::Tenants(tenants) => {
                f.write_str("tenants")?;
                tenants
                    .iter()
                    .try_for_each(|tenant| write!(f, " {}: {}", tenant.node, tenant.subnets))
            }
            Self::Snapshot(snapshot) => f.write_str(&everything(snapshot)),
            Self::Update(Update::Snapshot(snapshot)) => f.write_str(&everything(snapshot)),
            Self::Update(Update::Changes(changes)) => {
                write!(f, "changes up to {}:", changes.revision)?;
                changes.changes.iter().try_for_each(|change| match change {
                    Change::Config(config) => write!(f, " configured at {};", at(config.as_ref())),
                    Change::Lease(lease) => write!(f, " {};", brief(lease)),
                    Change::Gone(subnets) => write!(f, " {subnets} gone;"),
                })
            }
            Self::Lease(lease) => f.write_str(&brief(lease)),
            Self::Taken(lease) => write!(f, "refused, taken: {}", brief(lease)),
            Self::Holds(lease) => write!(f, "refused, holds {}", brief(lease)),
            Self::Done => f.write_str("done"),
            Self::Remaining(remaining) => f.write_str(&term(*remaining)),
            Self::Fenced(Some(lease)) => write!(f, "refused, there is {}", brief(lease)),
            Self::Fenced(None) => f.write_str("refused, there is none"),
        }
    }
}

fn everything(snapshot: &Snapshot) -> String {
    let leases: Vec<_> = snapshot.leases.iter().map(|lease| brief(lease)).collect();
    format!(
        "at {}: configured at {}; {}",
        snapshot.revision,
        at(snapshot.config.as_ref()),
        leases.join("; ")
    )
}

fn brief(lease: &Lease) -> String {
    let Lease { subnets, created, revision, .. } = lease;
    format!("{subnets} of {} @{created}/{revision}", node(lease.node.as_ref()))
}

fn node(node: Option<&NodeId>) -> &str {
    node.map_or("nobody", NodeId::as_str)
}

fn at(config: Option<&Configured>) -> String {
    config.map_or_else(|| "no revision".into(), |config| config.revision.to_string())
}

fn term(ttl: Option<Duration>) -> String {
    ttl.map_or_else(|| "ever".into(), |ttl| format!("{ttl:?}"))
}

/// What a lease is called by in all its versions: its subnets, and when it was made.
type Name = (Subnets, Revision);
