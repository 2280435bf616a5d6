//! What each answer says by itself.

use std::collections::{BTreeMap, HashMap};

use super::super::{Answer, Call, History, Moment, Operation};
use super::{Rule, Violation, grants};
use crate::attributes::Attributes;
use crate::config::Configured;
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::store::{Claim, Standing, Tenant};
use crate::watch::{Change, Snapshot, Update};

/// An operation, by its index.
pub(super) type Op = usize;

/// A lease as it was from one revision on.
pub(super) type Version = (Subnets, Revision);

/// All that was answered.
pub(super) struct Evidence<'a> {
    pub(super) history: &'a History,
    /// When a store failed for the last time.
    last_failure: Option<Moment>,
    /// When what revision was known to somebody.
    known: Vec<(Moment, Revision)>,
    pub(super) versions: HashMap<Version, Sighting<'a>>,
    pub(super) configs: BTreeMap<Revision, ConfigSighting<'a>>,
    /// That the network was not configured at this revision or a later one.
    pub(super) unconfigured: Vec<(Revision, Op)>,
    pub(super) snapshots: Vec<(Op, &'a Snapshot)>,
    pub(super) streams: BTreeMap<usize, Stream<'a>>,
    /// Removals that succeeded, and those that may have.
    pub(super) removals: HashMap<Version, Vec<Op>>,
    pub(super) uncertain_removals: HashMap<Version, Vec<Op>>,
    pub(super) uncertain_renewals: HashMap<Version, Vec<Op>>,
    pub(super) uncertain_updates: HashMap<Version, Vec<Op>>,
    pub(super) uncertain_creations: HashMap<Subnets, Vec<Op>>,
    pub(super) uncertain_configurations: Vec<Op>,
    /// That there was no lease of these subnets, or of this node.
    pub(super) absent: Vec<(Absent<'a>, Op)>,
    /// That this node had these subnets at some time.
    pub(super) tenants: Vec<(&'a NodeId, Subnets, Op)>,
    /// Writes that succeeded based on this version, until all versions are known.
    based: Vec<(Op, &'a Lease)>,
}

#[derive(Clone, Copy)]
pub(super) enum Absent<'a> {
    Subnets(Subnets),
    Node(&'a NodeId),
}

/// What is known of one version of a lease.
pub(super) struct Sighting<'a> {
    pub(super) lease: &'a Lease,
    /// When it was known first.
    pub(super) seen: (Moment, Op),
    /// The latest revision at which it was still the current one.
    pub(super) current: (Revision, Op),
    /// The last operation that began when it still was.
    pub(super) witness: Option<(Moment, Op)>,
    /// Which operation made it.
    pub(super) made: Option<Op>,
    /// When the last that made it or renewed it began, and when the last of them ended.
    pub(super) refreshed: Option<(Moment, Op)>,
    pub(super) refreshed_until: Option<Moment>,
}

/// What is known of one configuration.
pub(super) struct ConfigSighting<'a> {
    pub(super) config: &'a Configured,
    pub(super) seen: (Moment, Op),
    pub(super) current: (Revision, Op),
    /// Which operation made it, and what it replaced.
    pub(super) made: Option<(Op, Option<Revision>)>,
}

/// What a watch brought.
pub(super) struct Stream<'a> {
    pub(super) after: Revision,
    pub(super) began: Op,
    pub(super) updates: Vec<(Op, &'a Update)>,
    /// The last wait, if nothing came of it.
    pub(super) waits: Option<Op>,
}

impl<'a> Evidence<'a> {
    pub(super) fn gather(history: &'a History) -> Result<Self, Violation> {
        let mut evidence = Self {
            history,
            last_failure: None,
            known: known(history),
            versions: HashMap::new(),
            configs: BTreeMap::new(),
            unconfigured: Vec::new(),
            snapshots: Vec::new(),
            streams: BTreeMap::new(),
            removals: HashMap::new(),
            uncertain_removals: HashMap::new(),
            uncertain_renewals: HashMap::new(),
            uncertain_updates: HashMap::new(),
            uncertain_creations: HashMap::new(),
            uncertain_configurations: Vec::new(),
            absent: Vec::new(),
            tenants: Vec::new(),
            based: Vec::new(),
        };
        for (op, operation) in history.operations.iter().enumerate() {
            if matches!(operation.answer, Answer::Failed(_)) {
                evidence.last_failure = evidence.last_failure.max(operation.ended);
            }
            evidence.take(op, operation)?;
        }
        evidence.bases()?;
        Ok(evidence)
    }

    pub(super) fn operation(&self, op: Op) -> Option<&'a Operation> {
        self.history.operations.get(op)
    }

    pub(super) fn began(&self, op: Op) -> Moment {
        self.operation(op).map(|operation| operation.began).unwrap_or_default()
    }

    /// When the operation ended; that it has not yet counts as later than anything else.
    pub(super) fn ended(&self, op: Op) -> Moment {
        const NEVER: Moment = Moment { at: std::time::Duration::MAX, order: u64::MAX };
        self.operation(op).and_then(|operation| operation.ended).unwrap_or(NEVER)
    }

    pub(super) fn violation(&self, rule: Rule, what: impl Into<String>, ops: &[Op]) -> Violation {
        Violation::new(self.history, rule, what, ops)
    }

    /// The latest revision that was known before the operation began. What it saw is not older.
    pub(super) fn floor(&self, op: Op) -> Revision {
        let began = self.began(op);
        let before = self.known.partition_point(|(moment, _)| *moment < began);
        before.checked_sub(1).and_then(|last| self.known.get(last)).map_or(Revision::ZERO, |k| k.1)
    }

    /// Whether the operation changes something.
    pub(super) fn is_write(&self, op: Op) -> bool {
        self.operation(op).is_some_and(|operation| {
            matches!(
                (&operation.call, &operation.answer),
                (Call::Update { .. }, Answer::Lease(_))
                    | (Call::Renew(_) | Call::Remove(_), Answer::Done)
            )
        })
    }

    /// Whether the operation claims something for this node.
    pub(super) fn is_claim_of(&self, op: Op, node: &NodeId) -> bool {
        match self.operation(op).map(|operation| &operation.call) {
            Some(Call::Create(claim)) => claim.node.as_ref() == Some(node),
            _ => false,
        }
    }

    /// Whether a store failed at this moment or later.
    pub(super) fn failed_since(&self, moment: Moment) -> bool {
        self.last_failure.is_some_and(|last| last >= moment)
    }

    fn take(&mut self, op: Op, operation: &'a Operation) -> Result<(), Violation> {
        match (&operation.call, &operation.answer) {
            (call, Answer::None | Answer::Failed(_)) => self.uncertain(op, call),
            (Call::Config, Answer::Config(config)) => {
                self.config(op, config.as_ref(), self.floor(op))?;
            }
            (Call::Configure { config, replaces }, Answer::Configured(configured)) => {
                self.check(*configured.config == *config, Rule::Content, op, "configured")?;
                self.later(op, configured.revision)?;
                self.config(op, Some(configured), configured.revision)?;
                self.configuration_made(op, configured.revision, *replaces)?;
            }
            (Call::Configure { replaces, .. }, Answer::Reconfigured(now)) => {
                let other = now.as_ref().map(|now| now.revision) != *replaces;
                self.check(other, Rule::Refusal, op, "this is the configuration to replace")?;
                self.config(op, now.as_ref(), self.floor(op))?;
            }
            (Call::Standing(node), Answer::Standing(standing)) => {
                self.standing(op, node, standing)?;
            }
            (Call::Tenants, Answer::Tenants(tenants)) => self.all_tenants(op, tenants)?,
            (Call::Snapshot, Answer::Snapshot(snapshot)) => {
                let current = snapshot.revision >= self.floor(op);
                self.check(current, Rule::Stale, op, "a later revision was known")?;
                self.snapshot(op, snapshot, true)?;
            }
            (Call::Watch { watch, after }, Answer::Done) => {
                let stream = Stream { after: *after, began: op, updates: Vec::new(), waits: None };
                self.streams.insert(*watch, stream);
            }
            (Call::Next { watch }, Answer::Update(update)) => self.update(op, *watch, update)?,
            (Call::Create(claim), answer) => self.claim(op, claim, answer)?,
            (Call::Update { lease, attributes, ttl }, Answer::Lease(now)) => {
                self.updated(op, lease, attributes, *ttl, now)?;
            }
            (Call::Renew(lease), Answer::Done) => self.based.push((op, lease)),
            (Call::Remove(lease), Answer::Done) => {
                self.based.push((op, lease));
                self.removals.entry((lease.subnets, lease.revision)).or_default().push(op);
            }
            (Call::Remaining(lease), Answer::Remaining(remaining)) => {
                self.based.push((op, lease));
                let most = lease.ttl.map(|ttl| ttl.saturating_add(super::super::SKEW));
                let fits = remaining.is_some() == most.is_some() && *remaining <= most;
                self.check(fits, Rule::Content, op, "it lives for another time")?;
            }
            (
                Call::Update { lease, .. }
                | Call::Renew(lease)
                | Call::Remove(lease)
                | Call::Remaining(lease),
                Answer::Fenced(now),
            ) => self.fenced(op, lease, now.as_deref())?,
            _ => return Err(self.violation(Rule::Content, "no answer to this question", &[op])),
        }
        Ok(())
    }

    fn check(&self, holds: bool, rule: Rule, op: Op, what: &str) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(self.violation(rule, what, &[op])) }
    }

    /// What is written has a later revision than all that was known before.
    fn later(&self, op: Op, revision: Revision) -> Result<(), Violation> {
        self.check(revision > self.floor(op), Rule::Order, op, "a later revision was known")
    }

    fn uncertain(&mut self, op: Op, call: &'a Call) {
        let version = |lease: &Lease| (lease.subnets, lease.revision);
        match call {
            Call::Configure { .. } => self.uncertain_configurations.push(op),
            Call::Create(claim) => {
                self.uncertain_creations.entry(claim.subnets).or_default().push(op);
            }
            Call::Update { lease, .. } => {
                self.uncertain_updates.entry(version(lease)).or_default().push(op);
            }
            Call::Remove(lease) => {
                self.uncertain_removals.entry(version(lease)).or_default().push(op);
            }
            Call::Next { watch } => {
                let unanswered = matches!(
                    self.operation(op).map(|operation| &operation.answer),
                    Some(Answer::None)
                );
                if let Some(stream) = self.streams.get_mut(watch) {
                    stream.waits = unanswered.then_some(op);
                }
            }
            Call::Renew(lease) => {
                self.uncertain_renewals.entry(version(lease)).or_default().push(op);
            }
            Call::Config
            | Call::Standing(_)
            | Call::Tenants
            | Call::Snapshot
            | Call::Watch { .. }
            | Call::Remaining(_) => {}
        }
    }

    fn config(
        &mut self,
        op: Op,
        config: Option<&'a Configured>,
        at: Revision,
    ) -> Result<(), Violation> {
        let Some(config) = config else {
            self.unconfigured.push((at, op));
            return Ok(());
        };
        let seen = (self.ended(op), op);
        let current = (at.max(config.revision), op);
        let sighting = self.configs.entry(config.revision).or_insert(ConfigSighting {
            config,
            seen,
            current,
            made: None,
        });
        let (first, same) = (sighting.seen.1, sighting.config == config);
        sighting.seen = sighting.seen.min(seen);
        sighting.current = sighting.current.max(current);
        if same {
            return Ok(());
        }
        let what = format!("two configurations at revision {}", config.revision);
        Err(self.violation(Rule::Content, what, &[first, op]))
    }

    fn configuration_made(
        &mut self,
        op: Op,
        revision: Revision,
        replaces: Option<Revision>,
    ) -> Result<(), Violation> {
        let Some(sighting) = self.configs.get_mut(&revision) else { return Ok(()) };
        let before = sighting.made;
        // Of two who may be told the same, the one who knew more is the one who did it.
        sighting.made = before.filter(|(_, known)| *known > replaces).or(Some((op, replaces)));
        match before {
            Some((other, _)) if !self.ask_the_same(other, op) => {
                let what = format!("configured twice at revision {revision}");
                Err(self.violation(Rule::Order, what, &[other, op]))
            }
            _ => Ok(()),
        }
    }

    fn standing(
        &mut self,
        op: Op,
        node: &'a NodeId,
        standing: &'a Standing,
    ) -> Result<(), Violation> {
        self.config(op, standing.config.as_ref(), self.floor(op))?;
        self.tenants.extend(standing.last.map(|last| (node, last, op)));
        match &standing.lease {
            None => self.absent.push((Absent::Node(node), op)),
            Some(lease) => {
                self.check(lease.is_of(node), Rule::Content, op, "the lease of another node")?;
                self.current(op, lease, self.floor(op))?;
            }
        }
        Ok(())
    }

    fn all_tenants(&mut self, op: Op, tenants: &'a [Tenant]) -> Result<(), Violation> {
        let mut nodes: Vec<_> = tenants.iter().map(|tenant| &tenant.node).collect();
        nodes.sort_unstable();
        let distinct = nodes.windows(2).all(|pair| pair.first() != pair.last());
        self.tenants.extend(tenants.iter().map(|tenant| (&tenant.node, tenant.subnets, op)));
        self.check(distinct, Rule::Doubled, op, "a node is tenant twice")
    }

    fn snapshot(
        &mut self,
        op: Op,
        snapshot: &'a Snapshot,
        asked_now: bool,
    ) -> Result<(), Violation> {
        let revision = snapshot.revision;
        self.config(op, snapshot.config.as_ref(), revision)?;
        for lease in &snapshot.leases {
            let past = lease.revision <= revision;
            self.check(past, Rule::Order, op, "a lease is of a later revision")?;
            if asked_now {
                self.current(op, lease, revision)?;
            } else {
                self.sight(op, lease, revision)?;
            }
        }
        self.snapshots.push((op, snapshot));
        Ok(())
    }

    fn update(&mut self, op: Op, watch: usize, update: &'a Update) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&watch) else {
            return Err(self.violation(Rule::Content, "a watch that never began", &[op]));
        };
        stream.updates.push((op, update));
        stream.waits = None;
        match update {
            Update::Snapshot(snapshot) => self.snapshot(op, snapshot, false),
            Update::Changes(changes) => {
                changes.changes.iter().try_for_each(|change| match change {
                    Change::Config(config) => match config {
                        Some(config) => self.config(op, Some(config), config.revision),
                        // Only others can have removed it.
                        None => self.check(
                            self.history.among_others,
                            Rule::Content,
                            op,
                            "nobody removes configurations",
                        ),
                    },
                    Change::Lease(lease) => self.sight(op, lease, lease.revision),
                    Change::Gone(_) => Ok(()),
                })
            }
        }
    }

    fn claim(&mut self, op: Op, claim: &'a Claim, answer: &'a Answer) -> Result<(), Violation> {
        match answer {
            Answer::Lease(lease) => {
                let as_claimed = lease.subnets == claim.subnets
                    && lease.node == claim.node
                    && lease.attributes == claim.attributes
                    && grants(claim.ttl, lease.ttl)
                    && lease.created == lease.revision;
                self.check(as_claimed, Rule::Content, op, "not as claimed")?;
                self.later(op, lease.revision)?;
                self.sight(op, lease, lease.revision)?;
                self.made(op, lease)
            }
            Answer::Taken(lease) => {
                let overlap = lease.subnets.overlap(&claim.subnets);
                self.check(overlap, Rule::Refusal, op, "that lease does not overlap")?;
                self.current(op, lease, self.floor(op))
            }
            Answer::Holds(lease) => {
                let same = lease.node == claim.node && lease.node.is_some();
                self.check(same, Rule::Refusal, op, "that lease is of another node")?;
                self.current(op, lease, self.floor(op))
            }
            Answer::Reconfigured(now) => {
                let other = now.as_ref().is_none_or(|now| now.revision != claim.under);
                self.check(other, Rule::Refusal, op, "it was chosen under this configuration")?;
                self.config(op, now.as_ref(), self.floor(op))
            }
            _ => Err(self.violation(Rule::Content, "no answer to this question", &[op])),
        }
    }

    fn updated(
        &mut self,
        op: Op,
        lease: &'a Lease,
        attributes: &Attributes,
        ttl: Option<std::time::Duration>,
        now: &'a Lease,
    ) -> Result<(), Violation> {
        let same =
            now.subnets == lease.subnets && now.node == lease.node && now.created == lease.created;
        self.check(same, Rule::Fence, op, "another lease was updated")?;
        let as_asked = now.attributes == *attributes && grants(ttl, now.ttl);
        self.check(as_asked, Rule::Content, op, "not as asked for")?;
        self.based.push((op, lease));
        if now.revision == lease.revision {
            return self.current(op, now, self.floor(op));
        }
        self.later(op, now.revision)?;
        self.sight(op, now, now.revision)?;
        self.made(op, now)
    }

    fn fenced(
        &mut self,
        op: Op,
        lease: &'a Lease,
        now: Option<&'a Lease>,
    ) -> Result<(), Violation> {
        let Some(now) = now else {
            self.absent.push((Absent::Subnets(lease.subnets), op));
            return Ok(());
        };
        let other =
            (now.subnets, now.revision, &now.node) != (lease.subnets, lease.revision, &lease.node);
        self.check(other, Rule::Refusal, op, "this is the lease that it is based on")?;
        self.current(op, now, self.floor(op))
    }

    /// The lease was there when somebody asked, at the revision `at` or a later one.
    fn current(&mut self, op: Op, lease: &'a Lease, at: Revision) -> Result<(), Violation> {
        self.sight(op, lease, at)?;
        let began = self.began(op);
        if let Some(sighting) = self.versions.get_mut(&(lease.subnets, lease.revision)) {
            sighting.witness = sighting.witness.max(Some((began, op)));
        }
        Ok(())
    }

    /// The lease was there at the revision `at` or a later one.
    fn sight(&mut self, op: Op, lease: &'a Lease, at: Revision) -> Result<(), Violation> {
        let seen = (self.ended(op), op);
        let current = (at.max(lease.revision), op);
        let sighting = self.versions.entry((lease.subnets, lease.revision)).or_insert(Sighting {
            lease,
            seen,
            current,
            witness: None,
            made: None,
            refreshed: None,
            refreshed_until: None,
        });
        let (first, same) =
            (sighting.seen.1, std::ptr::eq(sighting.lease, lease) || sighting.lease == lease);
        sighting.seen = sighting.seen.min(seen);
        sighting.current = sighting.current.max(current);
        if same {
            return Ok(());
        }
        let what = format!("{} differs at revision {}", lease.subnets, lease.revision);
        Err(self.violation(Rule::Content, what, &[first, op]))
    }

    fn made(&mut self, op: Op, lease: &Lease) -> Result<(), Violation> {
        let (began, ended) = (self.began(op), self.ended(op));
        let Some(sighting) = self.versions.get_mut(&(lease.subnets, lease.revision)) else {
            return Ok(());
        };
        sighting.refreshed = sighting.refreshed.max(Some((began, op)));
        sighting.refreshed_until = sighting.refreshed_until.max(Some(ended));
        match sighting.made.replace(op) {
            Some(other) if !self.ask_the_same(other, op) => {
                let what = format!("written twice at revision {}", lease.revision);
                Err(self.violation(Rule::Fence, what, &[other, op]))
            }
            _ => Ok(()),
        }
    }

    /// Whether both want the same to be written. If they do so at the same moment, it may have been done for both: a
    /// store that has lost an answer sees what it was to write, and cannot see who wrote it. That it was the same moment
    /// follows from the revision, which neither knew before.
    fn ask_the_same(&self, one: Op, another: Op) -> bool {
        match (self.operation(one).map(|o| &o.call), self.operation(another).map(|o| &o.call)) {
            (Some(Call::Create(this)), Some(Call::Create(that))) => this == that,
            (
                Some(Call::Update { lease: this, attributes, ttl }),
                Some(Call::Update { lease: that, attributes: others, ttl: theirs }),
            ) => this == that && attributes == others && ttl == theirs,
            (
                Some(Call::Configure { config, replaces }),
                Some(Call::Configure { config: other, replaces: instead_of }),
                // Who has lost the answer finds the configuration that it wanted, whatever that one replaced.
            ) => config == other && (replaces == instead_of || self.overlap(one, another)),
            _ => false,
        }
    }

    /// Whether neither had ended when the other began.
    fn overlap(&self, one: Op, other: Op) -> bool {
        self.began(one) <= self.ended(other) && self.began(other) <= self.ended(one)
    }

    /// What succeeded is based on something that was there, and makes it live on if it is not a removal.
    fn bases(&mut self) -> Result<(), Violation> {
        for (op, lease) in std::mem::take(&mut self.based) {
            let (floor, began, ended) = (self.floor(op), self.began(op), self.ended(op));
            let removal = matches!(self.operation(op).map(|o| &o.call), Some(Call::Remove(_)));
            let renewal = self.is_write(op) && !removal;
            let Some(sighting) = self
                .versions
                .get_mut(&(lease.subnets, lease.revision))
                .filter(|sighting| sighting.lease.node == lease.node)
            else {
                let what = format!("there never was {} like this", lease.subnets);
                return Err(self.violation(Rule::Fence, what, &[op]));
            };
            sighting.current = sighting.current.max((floor, op));
            sighting.witness = sighting.witness.max(Some((began, op)));
            if renewal {
                sighting.refreshed = sighting.refreshed.max(Some((began, op)));
                sighting.refreshed_until = sighting.refreshed_until.max(Some(ended));
            }
        }
        Ok(())
    }
}

fn known(history: &History) -> Vec<(Moment, Revision)> {
    let mut known: Vec<_> = history
        .operations
        .iter()
        .filter_map(|operation| Some((operation.ended?, revision(&operation.answer)?)))
        .collect();
    known.sort_unstable();
    let mut latest = Revision::ZERO;
    for (_, revision) in &mut known {
        latest = latest.max(*revision);
        *revision = latest;
    }
    known
}

/// The latest revision of which the answer tells.
fn revision(answer: &Answer) -> Option<Revision> {
    match answer {
        Answer::None
        | Answer::Failed(_)
        | Answer::Tenants(_)
        | Answer::Done
        | Answer::Remaining(_) => None,
        Answer::Config(config) | Answer::Reconfigured(config) => {
            config.as_ref().map(|config| config.revision)
        }
        Answer::Configured(config) => Some(config.revision),
        Answer::Standing(standing) => {
            let config = standing.config.as_ref().map(|config| config.revision);
            config.max(standing.lease.as_ref().map(|lease| lease.revision))
        }
        Answer::Snapshot(snapshot) => Some(snapshot.revision),
        Answer::Update(update) => Some(update.revision()),
        Answer::Lease(lease) | Answer::Taken(lease) | Answer::Holds(lease) => Some(lease.revision),
        Answer::Fenced(lease) => lease.as_ref().map(|lease| lease.revision),
    }
}
