//! What watches brought.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::evidence::{Evidence, Op, Stream};
use super::lives::Lives;
use super::{Rule, Violation};
use crate::family::Subnets;
use crate::lease::Revision;
use crate::watch::{Change, Changes, Update};

/// How long a change may take to arrive while nothing fails.
const PROMPT: Duration = Duration::from_secs(10);

/// What a watch told in detail: all that happened after one revision, up to another.
pub(super) struct Segment {
    after: Revision,
    until: Revision,
    /// The last update.
    last: Op,
    /// The leases that it told to be gone.
    gone: HashSet<usize>,
    pub(super) changes: usize,
}

/// What one watch has told of some subnets.
enum Told {
    There(usize, Revision),
    Gone,
}

/// Reads all watches, and learns from them when leases ended.
pub(super) fn read<'a>(
    evidence: &Evidence<'a>,
    lives: &mut Lives<'a>,
) -> Result<Vec<Segment>, Violation> {
    let written = Written::new(evidence);
    let mut segments = Vec::new();
    for stream in evidence.streams.values() {
        Reader { evidence, lives, written: &written, told: HashMap::new() }
            .read(stream, &mut segments)?;
        prompt(evidence, &written, stream)?;
    }
    Ok(segments)
}

/// Each lease that ended while a watch told everything was told to be gone.
pub(super) fn complete(
    evidence: &Evidence<'_>,
    lives: &Lives<'_>,
    segments: &[Segment],
) -> Result<(), Violation> {
    let mut ended: Vec<_> = lives
        .all
        .iter()
        .enumerate()
        .filter_map(|(index, life)| Some((life.gone?, index, life)))
        .collect();
    ended.sort_by_key(|((gone, _), ..)| *gone);
    for segment in segments {
        let start = ended.partition_point(|((gone, _), ..)| *gone <= segment.after);
        let end = ended.partition_point(|((gone, _), ..)| *gone <= segment.until);
        for ((_, op), index, life) in ended.get(start..end).unwrap_or_default() {
            if segment.after <= life.alive.0 && !segment.gone.contains(index) {
                let what = format!("a watch did not tell that {} is gone", life.lease.subnets);
                let ops = [life.alive.1, *op, segment.last];
                return Err(evidence.violation(Rule::Missed, what, &ops));
            }
        }
    }
    Ok(())
}

/// When what was written, and who knew it first.
struct Written(Vec<(Revision, Op)>);

impl Written {
    fn new(evidence: &Evidence<'_>) -> Self {
        let leases = evidence.versions.values().map(|s| (s.lease.revision, s.seen.1));
        let configs = evidence.configs.values().map(|s| (s.config.revision, s.seen.1));
        let mut all: Vec<_> = leases.chain(configs).collect();
        all.sort_unstable();
        Self(all)
    }

    fn between(&self, after: Revision, until: Revision) -> &[(Revision, Op)] {
        let start = self.0.partition_point(|(revision, _)| *revision <= after);
        let end = self.0.partition_point(|(revision, _)| *revision <= until);
        self.0.get(start..end).unwrap_or_default()
    }
}

struct Reader<'e, 'a> {
    evidence: &'e Evidence<'a>,
    lives: &'e mut Lives<'a>,
    written: &'e Written,
    told: HashMap<Subnets, Told>,
}

impl Reader<'_, '_> {
    fn read(mut self, stream: &Stream<'_>, segments: &mut Vec<Segment>) -> Result<(), Violation> {
        let segment =
            |after, last| Segment { after, until: after, last, gone: HashSet::new(), changes: 0 };
        let mut current = segment(stream.after, stream.began);
        for (op, update) in &stream.updates {
            match update {
                Update::Changes(changes) => {
                    self.changes(*op, current.until, changes, &mut current.gone)?;
                    current.until = changes.revision;
                    current.last = *op;
                    current.changes += changes.changes.len();
                }
                Update::Snapshot(snapshot) => {
                    if snapshot.revision < current.until {
                        let ops = [current.last, *op];
                        let what = "a watch went back";
                        return Err(self.evidence.violation(Rule::Order, what, &ops));
                    }
                    self.told.clear();
                    for lease in &snapshot.leases {
                        if let Some(life) = self.lives.of(lease) {
                            self.told.insert(lease.subnets, Told::There(life, lease.revision));
                        }
                    }
                    segments.push(std::mem::replace(&mut current, segment(snapshot.revision, *op)));
                }
            }
        }
        segments.push(current);
        Ok(())
    }

    fn changes(
        &mut self,
        op: Op,
        after: Revision,
        update: &Changes,
        gone: &mut HashSet<usize>,
    ) -> Result<(), Violation> {
        if update.revision <= after {
            let what = format!("a watch was at revision {after} already");
            return Err(self.evidence.violation(Rule::Order, what, &[op]));
        }
        let mut at = after;
        let mut brought = Vec::new();
        for (index, change) in update.changes.iter().enumerate() {
            match change {
                Change::Gone(subnets) => {
                    let rest = update.changes.get(index..).unwrap_or_default();
                    let next = rest.iter().find_map(revision).unwrap_or(update.revision);
                    gone.extend(self.gone(op, *subnets, at, next)?);
                }
                Change::Config(_) | Change::Lease(_) => {
                    let Some(revision) = revision(change) else { continue };
                    if revision < at || revision > update.revision || revision <= after {
                        let what = format!("a change of revision {revision} comes after {at}");
                        return Err(self.evidence.violation(Rule::Order, what, &[op]));
                    }
                    at = revision;
                    brought.push(revision);
                    self.there(op, change)?;
                }
            }
        }
        let expected = self.written.between(after, update.revision);
        let mut brought = brought.into_iter();
        match expected.iter().find(|(revision, _)| brought.next() != Some(*revision)) {
            Some((revision, first)) => {
                let what = format!("a watch did not bring the change of revision {revision}");
                Err(self.evidence.violation(Rule::Missed, what, &[*first, op]))
            }
            None => match brought.next() {
                Some(revision) => {
                    let what = format!("a watch brought the change of revision {revision} again");
                    Err(self.evidence.violation(Rule::Doubled, what, &[op]))
                }
                None => Ok(()),
            },
        }
    }

    fn there(&mut self, op: Op, change: &Change) -> Result<(), Violation> {
        let Change::Lease(lease) = change else { return Ok(()) };
        let Some(life) = self.lives.of(lease) else { return Ok(()) };
        match self.told.insert(lease.subnets, Told::There(life, lease.revision)) {
            Some(Told::There(_, before)) if before >= lease.revision => {
                let what = format!("a watch brought {} at {before} before", lease.subnets);
                Err(self.evidence.violation(Rule::Doubled, what, &[op]))
            }
            _ => Ok(()),
        }
    }

    /// The lease of these subnets is gone: after the revision `at`, and by the revision `next`.
    fn gone(
        &mut self,
        op: Op,
        subnets: Subnets,
        at: Revision,
        next: Revision,
    ) -> Result<Option<usize>, Violation> {
        let again = |what: &str| {
            let what = format!("{subnets} {what}");
            Err(self.evidence.violation(Rule::Doubled, what, &[op]))
        };
        let index = match self.told.insert(subnets, Told::Gone) {
            Some(Told::There(index, _)) => index,
            Some(Told::Gone) => return again("was gone already"),
            // It may as well be a lease that was made without anybody knowing, so that nothing follows from it.
            None if self.unseen(subnets, op) => return Ok(self.lives.until(&subnets, at)),
            None => match self.lives.until(&subnets, at) {
                Some(index) => index,
                None => return again("was never there"),
            },
        };
        if let Some(life) = self.lives.all.get_mut(index) {
            life.alive_at(at.max(life.created()), op);
            life.gone_at(next, op);
            life.gone_by(self.evidence.ended(op), op);
        }
        Ok(Some(index))
    }

    fn unseen(&self, subnets: Subnets, op: Op) -> bool {
        let ended = self.evidence.ended(op);
        let creations = self.evidence.uncertain_creations.get(&subnets);
        self.evidence.history.among_others
            || creations.into_iter().flatten().any(|op| self.evidence.began(*op) < ended)
    }
}

fn revision(change: &Change) -> Option<Revision> {
    match change {
        Change::Config(config) => config.as_ref().map(|config| config.revision),
        Change::Lease(lease) => Some(lease.revision),
        Change::Gone(_) => None,
    }
}

/// A watch that waits brings what was written before long, unless something fails.
fn prompt(
    evidence: &Evidence<'_>,
    written: &Written,
    stream: &Stream<'_>,
) -> Result<(), Violation> {
    let Some(op) = stream.waits else { return Ok(()) };
    let Some(ended) = evidence.operation(op).and_then(|operation| operation.ended) else {
        return Ok(());
    };
    let began = evidence.began(op);
    let until = stream.updates.last().map_or(stream.after, |(_, update)| update.revision());
    if ended.at.saturating_sub(began.at) < PROMPT || evidence.failed_since(began) {
        return Ok(());
    }
    let missing = written
        .between(until, Revision::new(u64::MAX))
        .iter()
        .find(|(_, first)| ended.at.saturating_sub(evidence.ended(*first).at) >= PROMPT);
    match missing {
        None => Ok(()),
        Some((revision, first)) => {
            let what = format!(
                "a watch did not bring the change of revision {revision} within {PROMPT:?}"
            );
            Err(evidence.violation(Rule::Missed, what, &[*first, op]))
        }
    }
}
