//! From when to when each lease was there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::super::{Moment, Name, SKEW};
use super::evidence::{Absent, Evidence, Op, Sighting, Version};
use super::{Rule, Violation};
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::store::LATE;

/// All leases there ever were.
pub(super) struct Lives<'a> {
    pub(super) all: Vec<Life<'a>>,
    by_name: HashMap<Name, usize>,
    /// In the order in which they were made.
    by_subnets: HashMap<Subnets, Vec<usize>>,
    by_node: HashMap<&'a NodeId, Vec<usize>>,
}

/// One lease, from when it was made to when it was gone.
pub(super) struct Life<'a> {
    pub(super) lease: &'a Lease,
    /// In order.
    pub(super) versions: Vec<Version>,
    /// When it was known first.
    pub(super) seen: (Moment, Op),
    /// The latest revision at which it was there.
    pub(super) alive: (Revision, Op),
    /// The last operation that began when it was there.
    pub(super) witness: Option<(Moment, Op)>,
    /// The first revision at which it was gone.
    pub(super) gone: Option<(Revision, Op)>,
    /// When the first operation ended that knows it gone.
    pub(super) gone_by: Option<(Moment, Op)>,
}

impl<'a> Life<'a> {
    pub(super) const fn created(&self) -> Revision {
        self.lease.created
    }

    pub(super) fn alive_at(&mut self, revision: Revision, op: Op) {
        self.alive = self.alive.max((revision, op));
    }

    pub(super) fn gone_at(&mut self, revision: Revision, op: Op) {
        let earlier = self.gone.is_none_or(|(known, _)| revision < known);
        if earlier {
            self.gone = Some((revision, op));
        }
    }

    pub(super) fn gone_by(&mut self, moment: Moment, op: Op) {
        let earlier = self.gone_by.is_none_or(|(known, _)| moment < known);
        if earlier {
            self.gone_by = Some((moment, op));
        }
    }

    fn new(evidence: &Evidence<'a>, versions: &[Version]) -> Result<Option<Self>, Violation> {
        let mut life: Option<Self> = None;
        for version in versions {
            let Some(sighting) = evidence.versions.get(version) else { continue };
            let Some(life) = &mut life else {
                life = Some(Self {
                    lease: sighting.lease,
                    versions: vec![*version],
                    seen: sighting.seen,
                    alive: sighting.current,
                    witness: sighting.witness,
                    gone: None,
                    gone_by: None,
                });
                continue;
            };
            life.follow(evidence, *version, sighting)?;
        }
        Ok(life)
    }

    /// Takes in the next version.
    fn follow(
        &mut self,
        evidence: &Evidence<'_>,
        version: Version,
        next: &Sighting<'_>,
    ) -> Result<(), Violation> {
        let (alive, revision) = (self.alive, next.lease.revision);
        if self.lease.node != next.lease.node {
            let what = format!("{} changed hands in place", self.lease.subnets);
            return Err(evidence.violation(Rule::Content, what, &[self.seen.1, next.seen.1]));
        }
        if alive.0 >= revision {
            let rule = if evidence.is_write(alive.1) { Rule::Fence } else { Rule::Stale };
            let what = format!("{} was changed at revision {revision}", self.lease.subnets);
            return Err(evidence.violation(rule, what, &[next.seen.1, alive.1]));
        }
        self.versions.push(version);
        self.seen = self.seen.min(next.seen);
        self.alive = next.current;
        self.witness = self.witness.max(next.witness);
        Ok(())
    }
}

impl<'a> Lives<'a> {
    pub(super) fn new(evidence: &Evidence<'a>) -> Result<Self, Violation> {
        let mut versions: Vec<_> =
            evidence.versions.iter().map(|(version, sighting)| (*version, sighting)).collect();
        versions.sort_unstable_by_key(|(version, _)| *version);
        let mut all = Vec::new();
        for group in versions
            .chunk_by(|(a, one), (b, other)| a.0 == b.0 && one.lease.created == other.lease.created)
        {
            let group: Vec<_> = group.iter().map(|(version, _)| *version).collect();
            all.extend(Life::new(evidence, &group)?);
        }
        all.sort_by_key(|life| (life.created(), life.lease.subnets));
        let mut lives = Self {
            all,
            by_name: HashMap::new(),
            by_subnets: HashMap::new(),
            by_node: HashMap::new(),
        };
        for (index, life) in lives.all.iter().enumerate() {
            let name = (life.lease.subnets, life.created());
            let twice = lives.by_name.insert(name, index);
            let after = life.versions.first().is_some_and(|first| first.1 < life.created());
            if twice.is_some() || after {
                let what = format!("{} was made between its versions", name.0);
                return Err(evidence.violation(Rule::Order, what, &[life.seen.1]));
            }
            lives.by_subnets.entry(name.0).or_default().push(index);
            if let Some(node) = &life.lease.node {
                lives.by_node.entry(node).or_default().push(index);
            }
        }
        Ok(lives)
    }

    pub(super) fn of(&self, lease: &Lease) -> Option<usize> {
        self.by_name.get(&(lease.subnets, lease.created)).copied()
    }

    /// The last lease of these subnets that was made until `revision`.
    pub(super) fn until(&self, subnets: &Subnets, revision: Revision) -> Option<usize> {
        let lives = self.by_subnets.get(subnets)?;
        lives
            .iter()
            .copied()
            .rfind(|index| self.all.get(*index).is_some_and(|life| life.created() <= revision))
    }

    pub(super) fn of_node(&self, node: &NodeId) -> impl Iterator<Item = &Life<'a>> {
        let lives = self.by_node.get(node).into_iter().flatten();
        lives.filter_map(|index| self.all.get(*index))
    }

    /// What was known before somebody learned that there is none is gone.
    pub(super) fn absences(&mut self, evidence: &Evidence<'a>) {
        for (absent, op) in &evidence.absent {
            let lives = match absent {
                Absent::Subnets(subnets) => self.by_subnets.get(subnets),
                Absent::Node(node) => self.by_node.get(node),
            };
            let (began, ended) = (evidence.began(*op), evidence.ended(*op));
            let known = |index: &usize| self.all.get(*index).is_some_and(|l| l.seen.0 < began);
            let last = lives.and_then(|lives| lives.iter().copied().rfind(known));
            if let Some(life) = last.and_then(|index| self.all.get_mut(index)) {
                life.gone_by(ended, *op);
            }
        }
    }

    /// Goes through all revisions: who comes where another still is, and who is missing.
    pub(super) fn sweep(&mut self, evidence: &Evidence<'a>) -> Result<(), Violation> {
        let mut snapshots = evidence.snapshots.clone();
        snapshots.sort_by_key(|(_, snapshot)| snapshot.revision);
        let mut snapshots = snapshots.into_iter().peekable();
        let mut there = There::default();
        for index in 0..self.all.len() {
            let created = self.all.get(index).map(Life::created).unwrap_or_default();
            while let Some((op, snapshot)) =
                snapshots.next_if(|(_, snapshot)| snapshot.revision < created)
            {
                self.compare(evidence, &mut there, op, snapshot)?;
            }
            self.arrive(evidence, &mut there, index)?;
        }
        snapshots.try_for_each(|(op, snapshot)| self.compare(evidence, &mut there, op, snapshot))
    }

    fn arrive(
        &mut self,
        evidence: &Evidence<'a>,
        there: &mut There<'a>,
        index: usize,
    ) -> Result<(), Violation> {
        let Some(newcomer) = self.all.get(index) else { return Ok(()) };
        let (lease, created, seen) = (newcomer.lease, newcomer.created(), newcomer.seen);
        while let Some((before, rule)) = there.before(lease) {
            let Some(life) = self.all.get_mut(before) else { break };
            if life.alive.0 >= created {
                let what = format!(
                    "{} of {} is there at revision {}, {} of {} came at revision {created}",
                    life.lease.subnets,
                    super::super::node(life.lease.node.as_ref()),
                    life.alive.0,
                    lease.subnets,
                    super::super::node(lease.node.as_ref()),
                );
                let ops = [life.seen.1, life.alive.1, seen.1];
                return Err(evidence.violation(rule, what, &ops));
            }
            life.gone_at(created, seen.1);
            life.gone_by(seen.0, seen.1);
            there.remove(before, life.lease);
        }
        there.insert(index, lease);
        Ok(())
    }

    fn compare(
        &mut self,
        evidence: &Evidence<'a>,
        there: &mut There<'a>,
        op: Op,
        snapshot: &crate::watch::Snapshot,
    ) -> Result<(), Violation> {
        let present: BTreeSet<_> =
            snapshot.leases.iter().filter_map(|lease| self.of(lease)).collect();
        if present.len() < snapshot.leases.len() {
            return Err(evidence.violation(Rule::Doubled, "a lease stands there twice", &[op]));
        }
        let absent: Vec<_> = there.all.difference(&present).copied().collect();
        for index in absent {
            let Some(life) = self.all.get_mut(index) else { continue };
            if life.alive.0 >= snapshot.revision {
                let what = format!("{} is there, and not in a snapshot", life.lease.subnets);
                return Err(evidence.violation(Rule::Missed, what, &[op, life.alive.1]));
            }
            life.gone_at(snapshot.revision, op);
            life.gone_by(evidence.ended(op), op);
            there.remove(index, life.lease);
        }
        Ok(())
    }

    /// How each lease ended. Returns how many ended by themselves.
    pub(super) fn ends(&mut self, evidence: &Evidence<'a>) -> Result<usize, Violation> {
        for life in &mut self.all {
            let removals = life.versions.iter().filter_map(|v| evidence.removals.get(v));
            let mut removals: Vec<_> = removals.flatten().copied().collect();
            removals.sort_by_key(|op| evidence.ended(*op));
            let Some(first) = removals.first().copied() else { continue };
            // Those who remove it at the same moment may all be told that it is gone.
            let late = |op: &&Op| evidence.began(**op) > evidence.ended(first);
            if let Some(late) = removals.iter().find(late) {
                let what = format!("{} was removed twice", life.lease.subnets);
                return Err(evidence.violation(Rule::Fence, what, &[first, *late]));
            }
            life.gone_by(evidence.ended(first), first);
        }
        let mut expired = 0;
        for life in &self.all {
            let alive_later = |op, gone| {
                let rule = if evidence.is_write(op) { Rule::Fence } else { Rule::Stale };
                let what = format!("{} was gone before", life.lease.subnets);
                Err(evidence.violation(rule, what, &[gone, op]))
            };
            if let Some((_, gone)) = life.gone.filter(|(gone, _)| life.alive.0 >= *gone) {
                return alive_later(life.alive.1, gone);
            }
            if let Some(((_, gone), (_, op))) =
                life.gone_by.zip(life.witness).filter(|(gone, witness)| witness.0 > gone.0)
            {
                return alive_later(op, gone);
            }
            if let Some(gone) = life.gone_by
                && !life.was_removed(evidence, gone.0)
            {
                expired += 1;
                life.not_early(evidence, gone)?;
            }
            life.not_late(evidence)?;
        }
        Ok(expired)
    }
}

impl Life<'_> {
    /// Whether it was removed, or may have been, by an operation that began before.
    fn was_removed(&self, evidence: &Evidence<'_>, before: Moment) -> bool {
        let removals = |version: &Version| {
            let certain = evidence.removals.get(version).into_iter();
            certain.chain(evidence.uncertain_removals.get(version)).flatten()
        };
        self.versions.iter().flat_map(removals).any(|op| evidence.began(*op) < before)
    }

    fn not_early(&self, evidence: &Evidence<'_>, gone: (Moment, Op)) -> Result<(), Violation> {
        let last = self.versions.last().and_then(|version| evidence.versions.get(version));
        let Some(last) = last.filter(|_| !evidence.history.among_others) else { return Ok(()) };
        let Some((refreshed, op)) = last.refreshed else { return Ok(()) };
        let mut least = last.lease.ttl.map(|ttl| refreshed.at.saturating_add(ttl));
        let version = (last.lease.subnets, last.lease.revision);
        // Who may have changed its time to live without anybody having seen it.
        for op in evidence.uncertain_updates.get(&version).into_iter().flatten() {
            let Some(operation) = evidence.operation(*op).filter(|o| o.began < gone.0) else {
                continue;
            };
            if let super::super::Call::Update { ttl: Some(ttl), .. } = &operation.call {
                let end = operation.began.at.saturating_add(*ttl);
                least = Some(least.map_or(end, |least| least.min(end)));
            }
        }
        let early = match least {
            None => Some("a reservation is gone".to_owned()),
            Some(least) if gone.0.at.saturating_add(SKEW) < least => {
                Some(format!("{:?} before its time", least.saturating_sub(gone.0.at)))
            }
            Some(_) => None,
        };
        match early {
            None => Ok(()),
            Some(early) => {
                let what = format!("{}: {early}", self.lease.subnets);
                Err(evidence.violation(Rule::Early, what, &[op, gone.1]))
            }
        }
    }

    /// A store that failed may have had other things to do than to let leases expire.
    fn not_late(&self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        let may_live_on = self.versions.iter().any(|version| {
            evidence.uncertain_renewals.contains_key(version)
                || evidence.uncertain_updates.contains_key(version)
        });
        if evidence.history.among_others || may_live_on || evidence.failed_since(Moment::default())
        {
            return Ok(());
        }
        let mut most = Some(Duration::ZERO);
        for sighting in self.versions.iter().filter_map(|v| evidence.versions.get(v)) {
            let end = sighting
                .refreshed_until
                .zip(sighting.lease.ttl)
                .map(|(refreshed, ttl)| refreshed.at.saturating_add(ttl));
            most = most.zip(end).map(|(most, end)| most.max(end));
        }
        let late = |(witness, _): &(Moment, Op)| {
            most.is_some_and(|most| witness.at > most.saturating_add(LATE).saturating_add(SKEW))
        };
        match self.witness.filter(late) {
            None => Ok(()),
            Some((_, op)) => {
                let what = format!("{} is still there", self.lease.subnets);
                Err(evidence.violation(Rule::Late, what, &[self.seen.1, op]))
            }
        }
    }
}

/// Which leases may be there at one revision. They overlap nowhere.
#[derive(Default)]
struct There<'a> {
    all: BTreeSet<usize>,
    v4: BTreeMap<Ipv4Addr, (usize, Subnets)>,
    v6: BTreeMap<Ipv6Addr, (usize, Subnets)>,
    nodes: HashMap<&'a NodeId, usize>,
}

impl<'a> There<'a> {
    /// One that must be gone when this one comes, and why.
    fn before(&self, lease: &Lease) -> Option<(usize, Rule)> {
        let Lease { subnets, node, .. } = lease;
        let v4 = subnets.v4().and_then(|v4| self.v4.range(..=v4.broadcast()).next_back());
        let v6 = subnets.v6().and_then(|v6| self.v6.range(..=v6.broadcast()).next_back());
        let near = v4.map(|(_, near)| near).into_iter().chain(v6.map(|(_, near)| near));
        let overlap =
            near.filter(|(_, near)| near.overlap(subnets)).map(|(index, _)| *index).next();
        overlap.map(|index| (index, Rule::Overlap)).or_else(|| {
            let index = self.nodes.get(node.as_ref()?)?;
            Some((*index, Rule::SecondLease))
        })
    }

    fn insert(&mut self, index: usize, lease: &'a Lease) {
        self.all.insert(index);
        if let Some(v4) = lease.subnets.v4() {
            self.v4.insert(v4.network(), (index, lease.subnets));
        }
        if let Some(v6) = lease.subnets.v6() {
            self.v6.insert(v6.network(), (index, lease.subnets));
        }
        if let Some(node) = &lease.node {
            self.nodes.insert(node, index);
        }
    }

    fn remove(&mut self, index: usize, lease: &Lease) {
        self.all.remove(&index);
        if let Some(v4) = lease.subnets.v4() {
            self.v4.remove(&v4.network());
        }
        if let Some(v6) = lease.subnets.v6() {
            self.v6.remove(&v6.network());
        }
        if let Some(node) = &lease.node {
            self.nodes.remove(node);
        }
    }
}
