//! Where what was seen comes from.

use std::collections::HashSet;

use super::super::{Call, Moment};
use super::evidence::{ConfigSighting, Evidence, Op, Sighting, Version};
use super::lives::Lives;
use super::{Rule, Violation, grants};
use crate::lease::Revision;

/// Every version of a lease and every configuration was written by an operation that succeeded, or else by one that may
/// have, which began before anybody saw it; and each operation has written one at most.
pub(super) fn check(evidence: &Evidence<'_>, lives: &Lives<'_>) -> Result<(), Violation> {
    if evidence.history.among_others {
        return Ok(());
    }
    let mut spent = HashSet::new();
    for life in &lives.all {
        let mut before: Option<Version> = None;
        for version in &life.versions {
            let Some(sighting) = evidence.versions.get(version) else { continue };
            match sighting.made {
                Some(op) => acknowledged(evidence, op, before, sighting)?,
                None => uncertain(evidence, &mut spent, before, sighting)?,
            }
            before = Some(*version);
        }
    }
    let mut before = None;
    for sighting in evidence.configs.values() {
        if sighting.made.is_none() {
            configured(evidence, &mut spent, before, sighting)?;
        }
        before = Some(sighting.config.revision);
    }
    for (node, subnets, op) in &evidence.tenants {
        let ended = evidence.ended(*op);
        let had = lives.of_node(node).any(|life| life.lease.subnets == *subnets)
            || evidence.uncertain_creations.get(subnets).into_iter().flatten().any(|creation| {
                evidence.began(*creation) < ended && evidence.is_claim_of(*creation, node)
            });
        if !had {
            let what = format!("{node} never had {subnets}");
            return Err(evidence.violation(Rule::Content, what, &[*op]));
        }
    }
    Ok(())
}

/// What an update made follows what it is based on.
fn acknowledged(
    evidence: &Evidence<'_>,
    op: Op,
    before: Option<Version>,
    sighting: &Sighting<'_>,
) -> Result<(), Violation> {
    let seen_before = |began: Moment| sighting.seen.0 < began;
    if seen_before(evidence.began(op)) {
        let what = format!("{} was seen before it was written", sighting.lease.subnets);
        return Err(evidence.violation(Rule::Content, what, &[sighting.seen.1, op]));
    }
    let based_on = match evidence.operation(op).map(|operation| &operation.call) {
        Some(Call::Update { lease, .. }) => Some((lease.subnets, lease.revision)),
        _ => None,
    };
    let other = before.and_then(|before| evidence.versions.get(&before));
    if based_on == before {
        let same = other.is_some_and(|other| {
            other.lease.attributes == sighting.lease.attributes
                && other.lease.ttl == sighting.lease.ttl
        });
        if !same {
            return Ok(());
        }
        let what = format!("{} has a later revision without a change", sighting.lease.subnets);
        return Err(evidence.violation(Rule::Order, what, &[op]));
    }
    let what = format!(
        "{} was written on the basis of {}, when it was at {}",
        sighting.lease.subnets,
        revision(based_on),
        revision(before)
    );
    let other = other.map_or(op, |other| other.seen.1);
    Err(evidence.violation(Rule::Fence, what, &[other, op]))
}

fn revision(version: Option<Version>) -> String {
    version.map_or_else(|| "nothing".into(), |(_, revision)| format!("revision {revision}"))
}

fn uncertain(
    evidence: &Evidence<'_>,
    spent: &mut HashSet<Op>,
    before: Option<Version>,
    sighting: &Sighting<'_>,
) -> Result<(), Violation> {
    let lease = sighting.lease;
    let candidates = match before {
        None => evidence.uncertain_creations.get(&lease.subnets),
        Some(before) => evidence.uncertain_updates.get(&before),
    };
    let wrote = |op: &&Op| {
        let Some(operation) = evidence.operation(**op) else { return false };
        let fits = match &operation.call {
            Call::Create(claim) => {
                lease.created == lease.revision
                    && claim.node == lease.node
                    && claim.attributes == lease.attributes
                    && grants(claim.ttl, lease.ttl)
            }
            Call::Update { attributes, ttl, .. } => {
                *attributes == lease.attributes && grants(*ttl, lease.ttl)
            }
            _ => false,
        };
        fits && operation.began < sighting.seen.0 && !spent.contains(*op)
    };
    match candidates.into_iter().flatten().find(wrote) {
        Some(op) => {
            spent.insert(*op);
            Ok(())
        }
        None => {
            let what = format!("nobody wrote {} of revision {}", lease.subnets, lease.revision);
            Err(evidence.violation(Rule::Content, what, &[sighting.seen.1]))
        }
    }
}

fn configured(
    evidence: &Evidence<'_>,
    spent: &mut HashSet<Op>,
    before: Option<Revision>,
    sighting: &ConfigSighting<'_>,
) -> Result<(), Violation> {
    let wrote = |op: &&Op| {
        let Some(operation) = evidence.operation(**op) else { return false };
        let fits = match &operation.call {
            Call::Configure { config, replaces } => {
                *config == *sighting.config.config && *replaces == before
            }
            _ => false,
        };
        fits && operation.began < sighting.seen.0 && !spent.contains(*op)
    };
    match evidence.uncertain_configurations.iter().find(wrote) {
        Some(op) => {
            spent.insert(*op);
            Ok(())
        }
        None => {
            let what = format!("nobody configured revision {}", sighting.config.revision);
            Err(evidence.violation(Rule::Content, what, &[sighting.seen.1]))
        }
    }
}
