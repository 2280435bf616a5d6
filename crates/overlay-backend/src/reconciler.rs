//! Making the kernel's state the wanted one.

mod nexthops;
mod observe;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use overlay_netlink::{
    Error, Event, IfName, Ifindex, Link, LinkKind, Neighbour, NexthopId, Object, Request, Route,
    Verb, Via,
};

use self::nexthops::NexthopIds;
use crate::compare::{Fit, fit};
use crate::kernel::Kernel;
use crate::key::{Key, any_device};
use crate::owner::Owner;
use crate::plan::{Plan, Reason, Refused, RefusedReason, Step};
use crate::table::{Entry, Slot, Table};

/// How often a pass over the kernel may change something before the rest is left to the next one.
/// Two are enough unless somebody else is busy in the same place.
const ROUNDS: usize = 4;

/// Keeps the kernel's state equal to a desired one.
///
/// Desired objects come in groups, one for each who wants some: this node, each peer. A group is
/// replaced or removed as a whole, at a cost that depends on the group and not on how many others
/// there are.
///
/// * Nothing is planned before the desired state is [complete](Self::complete) and the kernel was
///   [observed](Self::observe) once: an unknown state is never an empty one.
/// * What carries the [`Owner`]'s mark and is in no group is stale and goes; what does not carry it is
///   never touched.
/// * What is already right is never touched.
#[derive(Debug)]
pub struct Reconciler {
    owner: Owner,
    table: Table,
    groups: HashMap<Arc<str>, Vec<Slot>>,
    nexthops: NexthopIds,
    indexes: HashMap<IfName, Ifindex>,
    names: HashMap<Ifindex, IfName>,
    /// Devices that wanted objects hang on.
    uses: HashSet<IfName>,
    /// Entries beside the first one of a key, which the kernel allows in an FDB.
    surplus: Vec<Arc<Object<IfName>>>,
    /// Whose part of the desired state is not known in full yet.
    expected: BTreeSet<String>,
    /// At least one part is.
    complete: bool,
    observed: bool,
    /// Nexthop objects that were there at the first look have been taken over.
    adopted: bool,
}

/// Two groups want the same kernel object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted_by} wants what {held_by} has: {command}")]
#[non_exhaustive]
pub struct Conflict {
    /// The group that was refused.
    pub wanted_by: String,
    /// The group that has it.
    pub held_by: String,
    /// The command that would have made the object.
    pub command: String,
}

/// Planning is not possible yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The desired state is not known in full.
    #[error(
        "no snapshot from {waiting_for} yet: nothing is planned before all that is wanted is known"
    )]
    Desired {
        /// Who has not brought theirs.
        waiting_for: String,
    },
    /// The kernel's state is not known.
    #[error(
        "the kernel has not been observed yet: nothing is planned before the first listing is in"
    )]
    Observed,
}

impl Reconciler {
    /// A reconciler without desired state, for the objects of `owner`.
    #[must_use]
    pub fn new(owner: Owner) -> Self {
        Self {
            owner,
            table: Table::default(),
            groups: HashMap::new(),
            nexthops: NexthopIds::default(),
            indexes: HashMap::new(),
            names: HashMap::new(),
            uses: HashSet::new(),
            surplus: Vec::new(),
            expected: BTreeSet::new(),
            complete: false,
            observed: false,
            adopted: false,
        }
    }

    /// The same reconciler, but with each route naming its gateway itself, as on kernels without
    /// nexthop objects. Call it before the first group is set.
    #[must_use]
    pub fn without_nexthop_objects(mut self) -> Self {
        self.nexthops.disable();
        self
    }

    /// Whose objects these are.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        self.owner
    }

    /// Says that `source` will bring part of the desired state: nothing is planned before that part
    /// is [complete](Self::complete).
    pub fn expect(&mut self, source: impl Into<String>) {
        self.expected.insert(source.into());
    }

    /// Says that what `source` brings is known in full. Once that holds for every source that is
    /// expected, what is in no group is stale.
    pub fn complete(&mut self, source: &str) {
        self.expected.remove(source);
        self.complete = true;
    }

    /// Whether the desired state is known in full.
    fn is_complete(&self) -> bool {
        self.complete && self.expected.is_empty()
    }

    /// Replaces what `group` wants.
    ///
    /// # Errors
    /// [`Conflict`] when another group has one of the objects' keys, or two of the objects have the
    /// same; nothing is changed then.
    pub fn set(&mut self, group: &str, mut objects: Vec<Object<IfName>>) -> Result<(), Conflict> {
        for object in &mut objects {
            self.owner.mark(object);
        }
        self.table.begin_claim();
        let mut slots = Vec::with_capacity(objects.len() + 2);
        for object in &objects {
            let slot = self.table.slot(Key::of(object));
            let first = self.table.claim(slot);
            let holder = self.table.at(slot).and_then(|entry| entry.holder.as_deref());
            if !first || holder.is_some_and(|holder| holder != group) {
                return Err(Conflict {
                    wanted_by: group.to_owned(),
                    held_by: holder.unwrap_or(group).to_owned(),
                    command: object.command(Verb::Add),
                });
            }
            slots.push(slot);
        }

        let name: Arc<str> = group.into();
        for mut nexthop in self.nexthops.assign(&name, &mut objects) {
            self.owner.mark(&mut nexthop);
            let slot = self.table.slot(Key::of(&nexthop));
            self.table.claim(slot);
            slots.push(slot);
            objects.push(nexthop);
        }
        let mut used = None;
        for (slot, object) in slots.iter().zip(objects) {
            let uses = &mut self.uses;
            any_device(&object, &mut |dev| {
                // Mostly one device has all of them.
                if used.replace(dev) != Some(dev) {
                    uses.insert(dev);
                }
                false
            });
            self.table.want(*slot, &name, object);
        }
        for slot in self.groups.insert(name, slots).unwrap_or_default() {
            if !self.table.is_claimed(slot) {
                self.table.unwant(slot);
            }
        }
        Ok(())
    }

    /// Makes room for so many more groups of a few objects each.
    pub(crate) fn reserve(&mut self, groups: usize) {
        self.groups.reserve(groups);
        self.nexthops.reserve(groups);
        self.table.reserve(3 * groups);
    }

    /// Removes a group. Returns whether there was one.
    pub fn remove(&mut self, group: &str) -> bool {
        let Some(old) = self.groups.remove(group) else { return false };
        self.nexthops.release(group);
        for slot in old {
            self.table.unwant(slot);
        }
        true
    }

    /// Whether a group of this name is set.
    #[must_use]
    pub fn contains(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// Whether an event of a monitor tells anything new: an echo of what this reconciler did itself
    /// and what concerns nobody here does not.
    #[must_use]
    pub fn is_news(&self, event: &Event) -> bool {
        observe::is_news(self, event)
    }

    /// Says that the kernel may have changed in unknown ways: planning needs a new
    /// [`observe`](Self::observe).
    pub const fn forget(&mut self) {
        self.observed = false;
    }

    /// Reads what the kernel holds.
    ///
    /// # Errors
    /// When it cannot be read; what was known before stays known.
    pub fn observe(&mut self, kernel: &mut impl Kernel) -> Result<(), Error> {
        observe::observe(self, kernel)
    }

    /// What is to be done to turn the kernel's state, as last observed, into the desired one.
    ///
    /// # Errors
    /// [`NotReady`] before either is known.
    pub fn plan(&mut self) -> Result<Plan, NotReady> {
        self.plan_is_possible()?;
        let pending = self.table.pending();
        Ok(self.plan_for(&pending))
    }

    fn plan_is_possible(&self) -> Result<(), NotReady> {
        if let Some(source) = self.expected.first() {
            return Err(NotReady::Desired { waiting_for: source.clone() });
        }
        if !self.complete {
            return Err(NotReady::Desired { waiting_for: "anybody".to_owned() });
        }
        if !self.observed {
            return Err(NotReady::Observed);
        }
        Ok(())
    }

    /// What is to be done about these places.
    fn plan_for(&self, pending: &[Slot]) -> Plan {
        let mut planner = Planner::new(self);
        // Devices first: what hangs on them depends on what becomes of them.
        let is_link = |slot: &&Slot| {
            self.table.at(**slot).is_some_and(|entry| matches!(entry.key, Key::Link(_)))
        };
        for slot in pending.iter().filter(is_link) {
            planner.link(*slot);
        }
        for slot in pending.iter().filter(|slot| !is_link(slot)) {
            planner.object(*slot);
        }
        planner.replay_lost();
        planner.finish()
    }

    /// Carries out a plan and remembers what became of each step.
    ///
    /// After steps that make the kernel take other objects along (a device, or an address that goes)
    /// the kernel has to be observed again before the next [`plan`](Self::plan).
    ///
    /// # Errors
    /// When the conversation with the kernel breaks; the kernel has to be observed again then, and
    /// [`plan`](Self::plan) insists on it.
    pub fn apply(&mut self, kernel: &mut impl Kernel, plan: Plan) -> Result<Report, Error> {
        // What the kernel takes along with a device or an address is known only after a new look.
        let again = plan.steps.iter().any(Step::has_consequences);
        let mut report = Report { refused: plan.refused, rounds: 1, ..Report::default() };
        let links = plan.steps.iter().take_while(|step| step.is_link()).count();
        let mut steps = plan.steps;
        let rest = steps.split_off(links);
        for (part, has_links) in [(steps, true), (rest, false)] {
            if part.is_empty() {
                continue;
            }
            let executed = self.execute(kernel, part, &mut report);
            if executed.is_ok() && has_links {
                self.index_links(kernel)?;
            }
            if executed.is_err() {
                self.observed = false;
            }
            executed?;
        }
        if again {
            self.observed = false;
        }
        Ok(report)
    }

    /// Observes, plans and applies until nothing is left to do or nothing more can be done.
    ///
    /// # Errors
    /// When the kernel cannot be observed or the conversation with it breaks; and [`NotReady`]
    /// before the desired state is complete. Refusals of single objects are in the [`Report`].
    pub fn reconcile(&mut self, kernel: &mut impl Kernel) -> Result<Report, ReconcileError> {
        let mut total = Report::default();
        for _ in 0..ROUNDS {
            self.observe(kernel)?;
            let plan = self.plan()?;
            if plan.is_empty() {
                total.refused = plan.refused;
                total.failed.clear();
                return Ok(total);
            }
            // What the kernel took along with a device or an address has to come again: look.
            let again = plan.steps.iter().any(Step::has_consequences);
            let report = self.apply(kernel, plan)?;
            let done = match &report.failed[..] {
                [] => !again,
                // What fails while nothing changes only fails again, unless what was listed is gone.
                failed => report.writes() == 0 && !failed.iter().any(|f| f.error.is_not_found()),
            };
            total.absorb(report);
            if done {
                return Ok(total);
            }
        }
        total.unsettled = true;
        Ok(total)
    }

    /// Brings what changed in the desired state to the kernel without listing the kernel anew, if
    /// the last observation still holds; else as [`reconcile`](Self::reconcile). The cost depends on
    /// the change alone.
    ///
    /// # Errors
    /// As [`reconcile`](Self::reconcile).
    pub fn push(&mut self, kernel: &mut impl Kernel) -> Result<Report, ReconcileError> {
        if !self.observed {
            return self.reconcile(kernel);
        }
        self.plan_is_possible()?;
        // What was refused before would be refused again; it waits for the next look.
        let pending = self.table.pending();
        let (stuck, fresh): (Vec<Slot>, Vec<Slot>) =
            pending.into_iter().partition(|slot| self.table.is_stuck(*slot));
        let plan = self.plan_for(&fresh);
        if plan.steps.iter().any(Step::has_consequences) {
            return self.reconcile(kernel);
        }
        let mut report = self.apply(kernel, plan)?;
        report.unsettled = !stuck.is_empty();
        if !report.failed.is_empty() {
            // Something is not as it was thought to be.
            let again = self.reconcile(kernel)?;
            report.absorb(again);
        }
        Ok(report)
    }

    fn execute(
        &mut self,
        kernel: &mut impl Kernel,
        steps: Vec<Step>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let indexes = &self.indexes;
        // A device that is not there fails its steps before they are sent.
        let mut sendable = Vec::with_capacity(steps.len());
        for step in steps {
            let mut absent = None;
            let mut is_absent = |dev| {
                absent = (!indexes.contains_key(&dev)).then_some(dev);
                absent.is_some()
            };
            match step.verb {
                // What the nexthop object of a route that goes is now wanted for does not matter.
                Verb::Delete => any_device(&step.object, &mut is_absent),
                _ => hangs(&self.table, &step.object, &mut is_absent),
            };
            match absent {
                None => sendable.push(step),
                // It went with its device.
                Some(_) if step.verb == Verb::Delete => note(&mut self.table, &step, None),
                // Once per device is enough to say.
                Some(dev) if report.failed.iter().any(|failure| failure.is_of(dev)) => {}
                Some(dev) => {
                    let error = Error::refused(step.to_string(), ENODEV);
                    report.failed.push(Failure { step, error, device: Some(dev) });
                }
            }
        }
        let executed = kernel.execute(&mut sendable.iter().filter_map(|step| {
            let object = step
                .object
                .try_map_dev(&mut |dev: IfName| indexes.get(&dev).copied().ok_or(()))
                .ok()?;
            Some(Request { verb: step.verb, object })
        }))?;
        report.sends += executed.sends;
        let without_nexthop: HashSet<NexthopId> = executed
            .errors
            .iter()
            .filter_map(|(index, _)| match &*sendable.get(*index)?.object {
                Object::Nexthop(nexthop) => Some(nexthop.id),
                _ => None,
            })
            .collect();
        let mut errors = executed.errors.into_iter().peekable();
        for (index, step) in sendable.into_iter().enumerate() {
            let error = errors.next_if(|(at, _)| *at == index).map(|(_, error)| error);
            match error {
                // The refusal of the nexthop object says it.
                Some(_) if is_through(&step.object, &without_nexthop) => {}
                // What is to go and is not there has gone.
                Some(error) if !(step.verb == Verb::Delete && error.is_not_found()) => {
                    self.table.refuse(&Key::of(&step.object));
                    report.failed.push(Failure { step, error, device: None });
                }
                _ => {
                    match (step.reason, step.verb) {
                        (_, Verb::Delete) => report.deleted += 1,
                        (Reason::Missing, _) => report.added += 1,
                        _ => report.changed += 1,
                    }
                    if step.slot.is_none() {
                        self.surplus.retain(|surplus| !Arc::ptr_eq(surplus, &step.object));
                    }
                    // A change of a device names only what changes; it is observed again anyway.
                    if !step.is_link() {
                        let seen = (step.verb != Verb::Delete).then(|| Arc::clone(&step.object));
                        note(&mut self.table, &step, seen);
                    }
                }
            }
        }
        Ok(())
    }

    fn index_links(&mut self, kernel: &mut impl Kernel) -> Result<(), Error> {
        // A device of somebody else's by the name of one of ours is not the one that is meant.
        let is_meant = |link: &Link| {
            let wanted = self.table.get(&Key::Link(link.name)).map(|entry| &entry.wanted);
            !matches!(wanted, Some(Some(_))) || self.owner.owns_link(link)
        };
        self.indexes = kernel
            .links()?
            .into_iter()
            .filter(is_meant)
            .filter_map(|link| Some((link.name, link.index?)))
            .collect();
        self.names = self.indexes.iter().map(|(name, index)| (*index, *name)).collect();
        Ok(())
    }
}

/// Whether it is a route by way of one of these nexthop objects.
fn is_through(object: &Object<IfName>, nexthops: &HashSet<NexthopId>) -> bool {
    matches!(object, Object::Route(Route { via: Via::Nexthop(id), .. }) if nexthops.contains(id))
}

fn note(table: &mut Table, step: &Step, seen: Option<Arc<Object<IfName>>>) {
    // A surplus entry says nothing of the one that counts.
    if step.slot.is_some() {
        table.settle(&Key::of(&step.object), seen);
    }
}

/// As [`any_device`]; a route by way of a nexthop object hangs on the devices of that.
fn hangs(table: &Table, object: &Object<IfName>, f: &mut impl FnMut(IfName) -> bool) -> bool {
    let through = match object {
        Object::Route(Route { via: Via::Nexthop(id), .. }) => table.get(&Key::Nexthop(*id)),
        _ => None,
    };
    any_device(object, f)
        || through
            .and_then(|entry| entry.wanted.as_deref())
            .is_some_and(|nexthop| any_device(nexthop, f))
}

/// `ENODEV`, 19 on every architecture of Linux.
const ENODEV: i32 = 19;
/// Likewise.
const EINVAL: i32 = 22;

/// Decides what to do about each key.
struct Planner<'r> {
    reconciler: &'r Reconciler,
    steps: Vec<Step>,
    refused: Vec<Refused>,
    /// Devices that cannot be had: what hangs on them is left alone.
    blocked: HashSet<IfName>,
    /// Devices that are given another MAC address: their neighbours are forgotten by the kernel.
    readdressed: HashSet<IfName>,
    /// Devices that are missing and not ours to make.
    missing: HashSet<IfName>,
}

impl<'r> Planner<'r> {
    fn new(reconciler: &'r Reconciler) -> Self {
        Self {
            reconciler,
            steps: Vec::new(),
            refused: Vec::new(),
            blocked: HashSet::new(),
            readdressed: HashSet::new(),
            missing: HashSet::new(),
        }
    }

    fn step(&mut self, slot: Slot, verb: Verb, object: &Arc<Object<IfName>>, reason: Reason) {
        self.steps.push(Step { verb, object: Arc::clone(object), reason, slot: Some(slot) });
    }

    fn refuse(&mut self, object: &Object<IfName>, reason: RefusedReason) {
        self.refused.push(Refused { command: object.command(Verb::Add), reason });
    }

    fn link(&mut self, slot: Slot) {
        let Some(entry) = self.reconciler.table.at(slot) else { return };
        let Some(wanted) = &entry.wanted else {
            if let Some(seen) = entry.seen.as_ref().filter(|_| !entry.foreign) {
                self.step(slot, Verb::Delete, seen, Reason::Stale);
            }
            return;
        };
        let Object::Link(want) = &**wanted else { return };
        let seen = entry.seen.as_ref().and_then(|seen| match &**seen {
            Object::Link(link) => Some((seen, link)),
            _ => None,
        });
        if let Some((_, seen)) = seen.filter(|_| entry.foreign) {
            self.blocked.insert(want.name);
            let reason = RefusedReason::ForeignDevice {
                name: want.name,
                kind: seen.kind.name().to_owned(),
                alias: self.reconciler.owner.alias(),
            };
            self.refuse(wanted, reason);
            return;
        }
        let fit = seen.map(|(_, link)| fit(link, want));
        if let (None | Some(Fit::Recreate), Some(parent)) = (&fit, self.absent_device(wanted)) {
            self.blocked.insert(want.name);
            self.refuse(wanted, RefusedReason::NoDevice { name: parent });
            return;
        }
        match (fit, seen) {
            (Some(Fit::Exact), _) => {}
            (Some(Fit::Change(change)), _) => {
                if change.address.is_some() {
                    self.readdressed.insert(want.name);
                }
                let change = Arc::new(Object::Link(change));
                match self.absent_device(&change) {
                    Some(name) => self.refuse(wanted, RefusedReason::NoDevice { name }),
                    None => self.step(slot, Verb::Change, &change, Reason::Differs),
                }
            }
            (Some(Fit::Recreate), Some((old, _))) => {
                self.step(slot, Verb::Delete, old, Reason::Incompatible);
                self.step(slot, Verb::Add, wanted, Reason::Incompatible);
            }
            _ => self.step(slot, Verb::Add, wanted, Reason::Missing),
        }
    }

    fn object(&mut self, slot: Slot) {
        let Some(entry) = self.reconciler.table.at(slot) else { return };
        let Some(wanted) = &entry.wanted else {
            if let Some(seen) = entry.seen.as_ref().filter(|_| !entry.foreign) {
                self.step(slot, Verb::Delete, seen, Reason::Stale);
            }
            return;
        };
        let blocked = &mut |dev| self.blocked.contains(&dev);
        if !self.blocked.is_empty() && hangs(&self.reconciler.table, wanted, blocked) {
            return;
        }
        if let Some(dev) = self.absent_device(wanted) {
            // Once per device is enough to say.
            if self.missing.insert(dev) {
                self.refuse(wanted, RefusedReason::NoDevice { name: dev });
            }
            return;
        }
        match &entry.seen {
            Some(seen) if entry.foreign => {
                let present = seen.command(Verb::Add);
                self.refuse(wanted, RefusedReason::ForeignObject { present });
            }
            Some(_) => self.step(slot, Verb::Replace, wanted, Reason::Differs),
            None => self.step(slot, verb_for_missing(&entry.key), wanted, Reason::Missing),
        }
    }

    /// A device that the object needs and that neither is there nor is wanted.
    fn absent_device(&self, object: &Object<IfName>) -> Option<IfName> {
        let mut absent = None;
        hangs(&self.reconciler.table, object, &mut |dev| {
            let known = self.reconciler.indexes.contains_key(&dev)
                || self
                    .reconciler
                    .table
                    .get(&Key::Link(dev))
                    .is_some_and(|entry| entry.wanted.is_some());
            absent = (!known).then_some(dev);
            absent.is_some()
        });
        absent
    }

    /// What hangs on a device that this plan removes goes with it, though it was seen before.
    fn replay_lost(&mut self) {
        let removed: HashSet<IfName> = self
            .steps
            .iter()
            .filter(|step| step.verb == Verb::Delete)
            .filter_map(|step| match &*step.object {
                Object::Link(link) => Some(link.name),
                _ => None,
            })
            .collect();
        if removed.is_empty() && self.readdressed.is_empty() {
            return;
        }
        let table = &self.reconciler.table;
        let seen = || table.iter().filter_map(|(slot, e)| Some((slot, e, e.seen.as_deref()?)));
        let on_removed =
            |object: &Object<IfName>| any_device(object, &mut |dev| removed.contains(&dev));
        let nexthops: HashSet<NexthopId> = seen()
            .filter_map(|(.., object)| match object {
                Object::Nexthop(nexthop) if on_removed(object) => Some(nexthop.id),
                _ => None,
            })
            .collect();
        let is_lost = |object: &Object<IfName>| match object {
            Object::Link(_) => false,
            Object::Neighbour(Neighbour { dev, .. }) if self.readdressed.contains(dev) => true,
            Object::Route(Route { via: Via::Nexthop(id), .. }) => nexthops.contains(id),
            object => on_removed(object),
        };
        let lost: Vec<(Slot, &Entry)> =
            seen().filter(|(.., object)| is_lost(object)).map(|(slot, e, _)| (slot, e)).collect();
        let slots: HashSet<Slot> = lost.iter().map(|(slot, _)| *slot).collect();
        self.steps.retain(|step| step.slot.is_none_or(|slot| !slots.contains(&slot)));
        for (slot, entry) in lost {
            if let Some(wanted) = &entry.wanted
                && !hangs(table, wanted, &mut |dev| self.blocked.contains(&dev))
            {
                self.step(slot, verb_for_missing(&entry.key), wanted, Reason::Missing);
            }
        }
    }

    fn finish(mut self) -> Plan {
        for surplus in &self.reconciler.surplus {
            self.steps.push(Step {
                verb: Verb::Delete,
                object: Arc::clone(surplus),
                reason: Reason::Stale,
                slot: None,
            });
        }
        Plan::ordered(self.steps, self.refused)
    }
}

/// Where somebody else's object could be in the way unseen, it must not be overwritten; where only
/// the kernel's own short-lived entry could be, it may.
const fn verb_for_missing(key: &Key) -> Verb {
    match key {
        Key::Nexthop(_) | Key::Route { .. } | Key::Rule(_) | Key::Link(_) => Verb::Add,
        Key::Address(..) | Key::Fdb(..) | Key::Neighbour(..) => Verb::Replace,
    }
}

/// A step that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// The kernel's refusal.
    pub error: Error,
    /// The device that was missing, if that was the reason.
    pub device: Option<IfName>,
}

impl Failure {
    /// Whether it says all that there is to say of what hangs on `dev` and cannot be had.
    fn is_of(&self, dev: IfName) -> bool {
        self.device == Some(dev)
            || matches!(&*self.step.object, Object::Link(link) if link.name == dev)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let hint = match &*self.step.object {
            Object::Link(link) if is_tunnel(&link.kind) && self.error.is_exists() => {
                ": another tunnel that is not ours has the same ends; it was left alone"
            }
            Object::Route(_) if self.error.is_exists() => {
                ": a route that is not ours is in the way; it was left alone"
            }
            // For IPv6 the kernel looks where the gateway is even if told that it is on the link.
            Object::Nexthop(_) | Object::Route(_) if self.error.errno() == Some(EINVAL) => {
                ": a route that is not ours may lead to the gateway through another device"
            }
            _ => "",
        };
        f.write_str(hint)?;
        Ok(())
    }
}

/// Whether the kernel tells devices of the kind apart by their ends.
const fn is_tunnel(kind: &LinkKind<IfName>) -> bool {
    matches!(kind, LinkKind::Ipip(_) | LinkKind::Sit(_) | LinkKind::Ip6tnl(_))
}

/// What a pass did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Objects made.
    pub added: usize,
    /// Objects altered.
    pub changed: usize,
    /// Objects removed.
    pub deleted: usize,
    /// System calls that carried changes.
    pub sends: usize,
    /// How often the kernel was changed.
    pub rounds: usize,
    /// There may be more to do than this says: the kernel kept changing, or something that was
    /// refused earlier was not tried again.
    pub unsettled: bool,
    /// Steps that failed at the last try. They stay pending.
    pub failed: Vec<Failure>,
    /// What was left alone, and why.
    pub refused: Vec<Refused>,
}

impl Report {
    /// Whether the kernel's state is the desired one.
    #[must_use]
    pub const fn is_converged(&self) -> bool {
        self.failed.is_empty() && self.refused.is_empty() && !self.unsettled
    }

    /// How many objects were made, altered and removed.
    #[must_use]
    pub const fn writes(&self) -> usize {
        self.added + self.changed + self.deleted
    }

    fn absorb(&mut self, later: Self) {
        self.added += later.added;
        self.changed += later.changed;
        self.deleted += later.deleted;
        self.sends += later.sends;
        self.rounds += later.rounds;
        self.unsettled = later.unsettled;
        self.failed = later.failed;
        self.refused = later.refused;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} added, {} changed, {} deleted", self.added, self.changed, self.deleted)?;
        if !self.failed.is_empty() {
            write!(f, ", {} failed", self.failed.len())?;
        }
        if !self.refused.is_empty() {
            write!(f, ", {} refused", self.refused.len())?;
        }
        Ok(())
    }
}

/// Why a pass could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// The desired state is not known yet.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The kernel could not be observed, or the conversation with it broke.
    #[error(transparent)]
    Netlink(#[from] Error),
}
