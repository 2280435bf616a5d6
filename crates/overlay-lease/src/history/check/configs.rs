//! Configurations, and what depends on them.

use super::super::Call;
use super::evidence::Evidence;
use super::lives::Lives;
use super::{Rule, Violation};
use crate::lease::Revision;

/// Each configuration replaces the one before it, is current until the next, and leases are made under it.
pub(super) fn check(evidence: &Evidence<'_>, lives: &Lives<'_>) -> Result<(), Violation> {
    // Others may also remove a configuration, without a trace.
    if evidence.history.among_others {
        return Ok(());
    }
    let first = evidence.configs.values().next();
    if let (Some(first), Some((_, op))) =
        (first, evidence.unconfigured.iter().max_by_key(|(at, _)| *at))
        && evidence.unconfigured.iter().any(|(at, _)| *at >= first.config.revision)
    {
        let what = format!("the network was configured at revision {}", first.config.revision);
        return Err(evidence.violation(Rule::Stale, what, &[first.seen.1, *op]));
    }
    let mut before = None;
    for sighting in evidence.configs.values() {
        if let Some((op, replaces)) = sighting.made.filter(|(_, replaces)| *replaces != before) {
            let what = format!("{replaces:?} was replaced, and {before:?} was there");
            return Err(evidence.violation(Rule::Fence, what, &[op]));
        }
        before = Some(sighting.config.revision);
    }
    let all: Vec<_> = evidence.configs.values().collect();
    for pair in all.windows(2) {
        if let [one, next] = pair
            && one.current.0 >= next.config.revision
        {
            let what = format!("the network was configured at revision {}", next.config.revision);
            return Err(evidence.violation(Rule::Stale, what, &[next.seen.1, one.current.1]));
        }
    }
    for life in &lives.all {
        let made = life.versions.first().and_then(|version| evidence.versions.get(version)?.made);
        let Some(op) = made else { continue };
        let Some(Call::Create(claim)) = evidence.operation(op).map(|o| &o.call) else { continue };
        let current = evidence.configs.range(..life.created()).next_back().map(|(at, _)| *at);
        if current != Some(claim.under) {
            let current = current.unwrap_or(Revision::ZERO);
            let what = format!("{} was made under configuration {current}", claim.subnets);
            return Err(evidence.violation(Rule::Fence, what, &[op]));
        }
    }
    Ok(())
}
