//! Making the kernel's state the wanted one.

mod nexthops;
mod observe;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use overlay_netlink::{Error, Event, IfName, Ifindex, Object, Request, Verb};

use self::nexthops::NexthopIds;
use crate::compare::{Fit, fit};
use crate::kernel::Kernel;
use crate::key::{Key, devices};
use crate::owner::Owner;
use crate::plan::{Plan, Reason, Refused, RefusedReason, Step};
use crate::table::Table;

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
    groups: HashMap<Arc<str>, Group>,
    holders: HashMap<Key, Arc<str>>,
    nexthops: NexthopIds,
    indexes: HashMap<IfName, Ifindex>,
    names: HashMap<Ifindex, IfName>,
    /// Devices that wanted objects hang on.
    uses: HashSet<IfName>,
    /// Entries beside the first one of a key, which the kernel allows in an FDB.
    surplus: Vec<Object<IfName>>,
    complete: bool,
    observed: bool,
    /// Nexthop objects that were there at the first look have been taken over.
    adopted: bool,
}

#[derive(Debug, Default)]
struct Group {
    keys: Vec<Key>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The desired state is not known in full.
    #[error(
        "the desired state is not complete yet: nothing is planned before the first snapshot is in"
    )]
    Desired,
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
            holders: HashMap::new(),
            nexthops: NexthopIds::default(),
            indexes: HashMap::new(),
            names: HashMap::new(),
            uses: HashSet::new(),
            surplus: Vec::new(),
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

    /// Says that the desired state is known in full: from now on, what is in no group is stale.
    pub const fn complete(&mut self) {
        self.complete = true;
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
        let mut keys = Vec::with_capacity(objects.len());
        let mut own = HashSet::with_capacity(objects.len());
        for object in &objects {
            let key = Key::of(object);
            let held_by = match self.holders.get(&key) {
                Some(holder) if &**holder != group => Some(holder.to_string()),
                _ if !own.insert(key.clone()) => Some(group.to_owned()),
                _ => None,
            };
            if let Some(held_by) = held_by {
                let command = object.command(Verb::Add);
                return Err(Conflict { wanted_by: group.to_owned(), held_by, command });
            }
            keys.push(key);
        }

        let name: Arc<str> = group.into();
        let hops = self.nexthops.assign(&name, &mut objects);
        let hops = hops.into_iter().map(|mut nexthop| {
            self.owner.mark(&mut nexthop);
            nexthop
        });
        let objects: Vec<_> = hops.chain(objects).collect();
        let keys: Vec<Key> = objects.iter().map(Key::of).collect();
        let fresh: HashSet<&Key> = keys.iter().collect();
        let old = self.groups.remove(&name).unwrap_or_default();
        for key in old.keys.into_iter().filter(|key| !fresh.contains(key)) {
            self.holders.remove(&key);
            self.table.update(key, |entry| entry.wanted = None);
        }
        for (key, object) in keys.iter().zip(objects) {
            self.holders.insert(key.clone(), Arc::clone(&name));
            self.uses.extend(devices(&object));
            let unchanged =
                self.table.get(key).is_some_and(|entry| entry.wanted.as_ref() == Some(&object));
            if !unchanged {
                self.table.update(key.clone(), |entry| entry.wanted = Some(object));
            }
        }
        self.groups.insert(name, Group { keys });
        Ok(())
    }

    /// Removes a group. Returns whether there was one.
    pub fn remove(&mut self, group: &str) -> bool {
        let Some(old) = self.groups.remove(group) else { return false };
        self.nexthops.release(group);
        for key in old.keys {
            self.holders.remove(&key);
            self.table.update(key, |entry| entry.wanted = None);
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
        if !self.complete {
            return Err(NotReady::Desired);
        }
        if !self.observed {
            return Err(NotReady::Observed);
        }
        let pending = self.table.pending();
        let mut planner = Planner::new(self);
        // Devices first: what hangs on them depends on what becomes of them.
        for key in pending.iter().filter(|key| matches!(key, Key::Link(_))) {
            planner.link(key);
        }
        for key in pending.iter().filter(|key| !matches!(key, Key::Link(_))) {
            planner.object(key);
        }
        planner.replay_recreated();
        Ok(planner.finish())
    }

    /// Carries out a plan and remembers what became of each step.
    ///
    /// # Errors
    /// When the conversation with the kernel breaks; the kernel has to be observed again then, and
    /// [`plan`](Self::plan) insists on it.
    pub fn apply(&mut self, kernel: &mut impl Kernel, plan: Plan) -> Result<Report, Error> {
        let mut report = Report { refused: plan.refused, rounds: 1, ..Report::default() };
        let links = plan.steps.iter().take_while(|step| matches!(step.key, Key::Link(_))).count();
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
            // A device that was made or altered takes what hangs on it along; look again.
            let again = plan.steps.iter().any(|step| matches!(step.key, Key::Link(_)));
            let report = self.apply(kernel, plan)?;
            let settled = report.failed.is_empty();
            total.absorb(report);
            if settled && !again {
                break;
            }
        }
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
        let plan = self.plan()?;
        if plan.steps.iter().any(|step| matches!(step.key, Key::Link(_))) {
            return self.reconcile(kernel);
        }
        let mut report = self.apply(kernel, plan)?;
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
        let mut requests = Vec::with_capacity(steps.len());
        for step in steps {
            let resolved = step
                .request
                .object
                .try_map_dev(&mut |dev: IfName| indexes.get(&dev).copied().ok_or(dev));
            match resolved {
                Ok(object) => {
                    requests.push(Request { verb: step.request.verb, object });
                    sendable.push(step);
                }
                Err(_) if step.request.verb == Verb::Delete => {
                    // It went with its device.
                    self.table.settle(&step.key, None);
                }
                Err(dev) => {
                    let command = step.request.to_string();
                    let error = Error::refused(command, ENODEV);
                    report.failed.push(Failure { request: step.request, error, device: Some(dev) });
                }
            }
        }
        let executed = kernel.execute(&mut requests.into_iter())?;
        report.sends += executed.sends;
        let mut errors = executed.errors.into_iter().peekable();
        for (index, step) in sendable.into_iter().enumerate() {
            let error = errors.next_if(|(at, _)| *at == index).map(|(_, error)| error);
            let verb = step.request.verb;
            match error {
                // What is to go and is not there has gone.
                Some(error) if !(verb == Verb::Delete && error.is_not_found()) => {
                    report.failed.push(Failure { request: step.request, error, device: None });
                }
                _ => {
                    match (step.reason, verb) {
                        (_, Verb::Delete) => report.deleted += 1,
                        (Reason::Missing, _) => report.added += 1,
                        _ => report.changed += 1,
                    }
                    let seen = (verb != Verb::Delete).then_some(step.request.object);
                    // A change of a device names only what changes; it is observed again anyway.
                    if !matches!(step.key, Key::Link(_)) {
                        self.table.settle(&step.key, seen);
                    }
                }
            }
        }
        Ok(())
    }

    fn index_links(&mut self, kernel: &mut impl Kernel) -> Result<(), Error> {
        self.indexes =
            kernel.links()?.into_iter().filter_map(|link| Some((link.name, link.index?))).collect();
        self.names = self.indexes.iter().map(|(name, index)| (*index, *name)).collect();
        Ok(())
    }
}

/// `ENODEV`, which is the same on all architectures of Linux but none that matters here.
const ENODEV: i32 = 19;

/// Decides what to do about each key.
struct Planner<'r> {
    reconciler: &'r Reconciler,
    steps: Vec<Step>,
    refused: Vec<Refused>,
    /// Devices that are somebody else's: what hangs on them is left alone.
    blocked: HashSet<IfName>,
    /// Devices that are made anew: what hangs on them has to be made again.
    recreated: HashSet<IfName>,
    /// Devices that the plan makes.
    made: HashSet<IfName>,
    planned: HashSet<Key>,
    missing: HashSet<IfName>,
}

impl<'r> Planner<'r> {
    fn new(reconciler: &'r Reconciler) -> Self {
        Self {
            reconciler,
            steps: Vec::new(),
            refused: Vec::new(),
            blocked: HashSet::new(),
            recreated: HashSet::new(),
            made: HashSet::new(),
            planned: HashSet::new(),
            missing: HashSet::new(),
        }
    }

    fn step(&mut self, key: &Key, verb: Verb, object: Object<IfName>, reason: Reason) {
        self.steps.push(Step { request: Request { verb, object }, reason, key: key.clone() });
    }

    fn refuse(&mut self, object: &Object<IfName>, reason: RefusedReason) {
        self.refused.push(Refused { command: object.command(Verb::Add), reason });
    }

    fn link(&mut self, key: &Key) {
        let Some(entry) = self.reconciler.table.get(key) else { return };
        match (&entry.wanted, &entry.seen) {
            (Some(wanted), None) => {
                if let Some(parent) = self.absent_device(wanted) {
                    self.refuse(wanted, RefusedReason::NoDevice { name: parent });
                    if let Key::Link(name) = key {
                        self.blocked.insert(*name);
                    }
                    return;
                }
                if let Key::Link(name) = key {
                    self.made.insert(*name);
                }
                self.step(key, Verb::Add, wanted.clone(), Reason::Missing);
            }
            (Some(wanted @ Object::Link(want)), Some(Object::Link(seen))) if entry.foreign => {
                self.blocked.insert(want.name);
                let reason = RefusedReason::ForeignDevice {
                    name: want.name,
                    kind: seen.kind.name().to_owned(),
                    alias: self.reconciler.owner.alias(),
                };
                self.refuse(wanted, reason);
            }
            (Some(wanted @ Object::Link(want)), Some(Object::Link(seen))) => {
                match fit(seen, want) {
                    Fit::Exact => {}
                    Fit::Change(change) => {
                        self.step(key, Verb::Change, Object::Link(change), Reason::Differs);
                    }
                    Fit::Recreate => {
                        if let Some(parent) = self.absent_device(wanted) {
                            self.refuse(wanted, RefusedReason::NoDevice { name: parent });
                            return;
                        }
                        self.recreated.insert(want.name);
                        self.made.insert(want.name);
                        let old = Object::Link(seen.clone());
                        self.step(key, Verb::Delete, old, Reason::Incompatible);
                        self.step(key, Verb::Add, wanted.clone(), Reason::Incompatible);
                    }
                }
            }
            (None, Some(seen)) if !entry.foreign => {
                self.step(key, Verb::Delete, seen.clone(), Reason::Stale);
            }
            _ => {}
        }
    }

    fn object(&mut self, key: &Key) {
        let Some(entry) = self.reconciler.table.get(key) else { return };
        let Some(wanted) = &entry.wanted else {
            if let Some(seen) = entry.seen.as_ref().filter(|_| !entry.foreign) {
                self.step(key, Verb::Delete, seen.clone(), Reason::Stale);
            }
            return;
        };
        if devices(wanted).iter().any(|dev| self.blocked.contains(dev)) {
            return;
        }
        if let Some(dev) = self.absent_device(wanted) {
            // Once per device is enough to say.
            if self.missing.insert(dev) {
                self.refuse(wanted, RefusedReason::NoDevice { name: dev });
            }
            return;
        }
        self.planned.insert(key.clone());
        match &entry.seen {
            Some(seen) if entry.foreign => {
                let present = seen.command(Verb::Add);
                self.refuse(wanted, RefusedReason::ForeignObject { present });
            }
            Some(_) => self.step(key, Verb::Replace, wanted.clone(), Reason::Differs),
            None => self.step(key, verb_for_missing(key), wanted.clone(), Reason::Missing),
        }
    }

    /// A device that the object needs and that neither is there nor is made by this plan.
    fn absent_device(&self, object: &Object<IfName>) -> Option<IfName> {
        let here = |dev: &IfName| {
            self.made.contains(dev)
                || self.reconciler.indexes.contains_key(dev)
                || self
                    .reconciler
                    .table
                    .get(&Key::Link(*dev))
                    .is_some_and(|entry| entry.wanted.is_some() || entry.seen.is_some())
        };
        devices(object).into_iter().find(|dev| !here(dev))
    }

    /// What hung on a device that is made anew is gone with it, though it was seen before.
    fn replay_recreated(&mut self) {
        if self.recreated.is_empty() {
            return;
        }
        let reconciler = self.reconciler;
        let hangs = |object: &Object<IfName>| {
            devices(object).iter().any(|dev| self.recreated.contains(dev))
        };
        let nexthops: HashSet<_> = reconciler
            .table
            .iter()
            .filter_map(|(key, entry)| match key {
                Key::Nexthop(id) if entry.wanted.as_ref().is_some_and(hangs) => Some(*id),
                _ => None,
            })
            .collect();
        let replay: Vec<_> = reconciler
            .table
            .iter()
            .filter(|(key, _)| !matches!(key, Key::Link(_)) && !self.planned.contains(key))
            .filter_map(|(key, entry)| Some((key, entry.wanted.as_ref()?)))
            .filter(|(_, wanted)| hangs(wanted) || nexthops::through(wanted, &nexthops))
            .map(|(key, wanted)| (key.clone(), wanted.clone()))
            .collect();
        for (key, wanted) in replay {
            self.step(&key, Verb::Replace, wanted, Reason::Missing);
        }
        // Stale entries on it are gone too.
        let recreated = &self.recreated;
        self.steps.retain(|step| {
            step.request.verb != Verb::Delete
                || matches!(step.key, Key::Link(_))
                || !devices(&step.request.object).iter().any(|dev| recreated.contains(dev))
        });
    }

    fn finish(mut self) -> Plan {
        for surplus in &self.reconciler.surplus {
            self.steps.push(Step {
                request: Request { verb: Verb::Delete, object: surplus.clone() },
                reason: Reason::Stale,
                key: Key::of(surplus),
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
    /// What was asked.
    pub request: Request<IfName>,
    /// The kernel's refusal.
    pub error: Error,
    /// The device that was missing, if that was the reason.
    pub device: Option<IfName>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        if self.error.is_exists() && matches!(self.request.object, Object::Route(_)) {
            f.write_str(": a route that is not ours is in the way; it was left alone")?;
        }
        Ok(())
    }
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
    /// Steps that failed at the last try. They stay pending.
    pub failed: Vec<Failure>,
    /// What was left alone, and why.
    pub refused: Vec<Refused>,
}

impl Report {
    /// Whether the kernel's state is the desired one.
    #[must_use]
    pub const fn is_converged(&self) -> bool {
        self.failed.is_empty() && self.refused.is_empty()
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
