//! Whether a history can be that of a store that keeps its promises.
//!
//! Revisions order what was written, so that nothing has to be searched: what was seen of each lease gives bounds on
//! when it was there, by revision and by time, and the bounds have to fit together.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::{Answer, History, Operation};

mod configs;
mod evidence;
mod lives;
mod origins;
mod streams;

use evidence::Evidence;
use lives::Lives;

/// What a store promises, as far as a history shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Leases do not overlap.
    Overlap,
    /// A node has at most one lease.
    SecondLease,
    /// A write succeeds only as long as what it is based on holds.
    Fence,
    /// Nothing is refused without the reason that is given.
    Refusal,
    /// Later writes have later revisions.
    Order,
    /// What is read is what was written.
    Content,
    /// A lease is not gone before its time to live.
    Early,
    /// A lease is gone [soon](crate::LATE) after its time to live.
    Late,
    /// What is read is not older than what was known before.
    Stale,
    /// Snapshots and watches miss nothing.
    Missed,
    /// Nothing comes twice.
    Doubled,
}

/// A promise that the history shows to be broken, and the operations that show it.
#[derive(Clone, Debug)]
pub struct Violation {
    rule: Rule,
    what: String,
    operations: Vec<Operation>,
}

impl Violation {
    fn new(history: &History, rule: Rule, what: impl Into<String>, operations: &[usize]) -> Self {
        let mut operations: Vec<_> =
            operations.iter().filter_map(|index| history.operations.get(*index)).cloned().collect();
        operations.sort_by_key(|operation| operation.began);
        operations.dedup_by_key(|operation| operation.began);
        Self { rule, what: what.into(), operations }
    }

    /// The promise.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// The operations that cannot have gone like this, in the order in which they began.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            Rule::Overlap => "leases overlap",
            Rule::SecondLease => "a node has two leases",
            Rule::Fence => "a write came late and had an effect",
            Rule::Refusal => "refused without reason",
            Rule::Order => "revisions out of order",
            Rule::Content => "not what was written",
            Rule::Early => "gone too early",
            Rule::Late => "gone too late",
            Rule::Stale => "older than what was known",
            Rule::Missed => "something is missing",
            Rule::Doubled => "something comes twice",
        };
        write!(f, "{rule}: {}", self.what)?;
        self.operations.iter().try_for_each(|operation| write!(f, "\n  {operation}"))
    }
}

impl Error for Violation {}

/// What a history that can be is about: something should have happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Operations.
    pub operations: usize,
    /// Operations that failed, or that nobody waited for until they were answered.
    pub uncertain: usize,
    /// Operations that were refused.
    pub refused: usize,
    /// Leases that were made.
    pub leases: usize,
    /// Leases of which it is known that they are gone.
    pub gone: usize,
    /// Leases of those that nobody removed, as far as one knows.
    pub expired: usize,
    /// Changes that watches brought, counted once per watch.
    pub watched: usize,
    /// Snapshots, including those that watches brought.
    pub snapshots: usize,
}

/// Whether a store that keeps its promises can have given these answers.
///
/// It costs about as much as sorting the operations.
///
/// # Errors
///
/// The first [`Violation`] that is found.
pub fn check(history: &History) -> Result<Summary, Violation> {
    let evidence = Evidence::gather(history)?;
    let mut lives = Lives::new(&evidence)?;
    configs::check(&evidence, &lives)?;
    origins::check(&evidence, &lives)?;
    let segments = streams::read(&evidence, &mut lives)?;
    lives.absences(&evidence);
    lives.sweep(&evidence)?;
    let expired = lives.ends(&evidence)?;
    streams::complete(&evidence, &lives, &segments)?;

    let mut summary = Summary {
        operations: history.operations.len(),
        leases: lives.all.len(),
        gone: lives.all.iter().filter(|life| life.gone_by.is_some()).count(),
        expired,
        watched: segments.iter().map(|segment| segment.changes).sum(),
        snapshots: evidence.snapshots.len(),
        ..Summary::default()
    };
    for operation in &history.operations {
        match operation.answer {
            Answer::None | Answer::Failed(_) => summary.uncertain += 1,
            Answer::Taken(_) | Answer::Holds(_) | Answer::Reconfigured(_) | Answer::Fenced(_) => {
                summary.refused += 1;
            }
            _ => {}
        }
    }
    Ok(summary)
}

/// Whether a store may grant `granted` if somebody asks for `asked` as the time to live.
pub(crate) fn grants(asked: Option<Duration>, granted: Option<Duration>) -> bool {
    match (asked, granted) {
        (None, None) => true,
        (Some(asked), Some(granted)) => {
            asked <= granted && granted < asked.saturating_add(Duration::from_secs(1))
        }
        _ => false,
    }
}
