//! Nodes, a store, and a network between them that loses, delays and doubles what it carries.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use overlay_lease::history::{Answer as Answered, Call, History, Moment};
use overlay_lease::{
    Answer, Attributes, Claim, Difference, Endpoints, Following, Knowledge, Lease, Memory, NodeId,
    Operation, Reply, Request, Revision, Snapshot, Status, Step, StoreError, StoreErrorKind,
    Subnets, Tenure, Update, guesses,
};

use crate::checker::{Cause, Checked, Checker, Counts, Rule, Violation};
use crate::fault::Fault;
use crate::random::{Clock, Random};
use crate::recorder::Recorder;
use crate::scenario::{Scenario, Trouble};

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// A hash of all that happened.
    pub(crate) digest: u64,
    pub(crate) events: u64,
    pub(crate) counts: Counts,
    /// What the store was asked and answered, if it was recorded.
    pub(crate) history: History,
}

pub(crate) struct World {
    scenario: Scenario,
    fault: Fault,
    random: Random,
    now: Duration,
    queue: Queue,
    events: u64,
    digest: u64,
    nodes: Vec<Node>,
    numbers: HashMap<NodeId, usize>,
    server: Server,
    checker: Checker,
    recorder: Recorder,
    /// When trouble ends.
    peace: Duration,
    publications: u32,
}

struct Node {
    id: NodeId,
    clock: Clock,
    /// Counts the processes that were started; what was meant for an earlier one is of no interest to a later one.
    life: u32,
    running: bool,
    /// Until then the process does nothing.
    paused: Duration,
    /// Until then nothing reaches the store, or nothing comes back.
    mute: Duration,
    deaf: Duration,
    tenure: Tenure,
    attributes: Attributes,
    /// The subnets that it had last, if it has a disk.
    remembers: Option<Option<Subnets>>,
    following: Following,
    seen: Option<Revision>,
    looks: bool,
    /// When it is woken next.
    alarm: Option<Duration>,
    follow_alarm: Option<Duration>,
    /// What it waits for to follow the network.
    inquiry: u64,
    watch: u64,
    /// What comes while it is paused.
    inbox: Vec<Event>,
}

struct Server {
    memory: Memory,
    clock: Clock,
    revision: Revision,
    /// Until then it is away, or does nothing.
    away: Duration,
    stalled: Duration,
    expiry: Option<Duration>,
    watchers: Vec<Watcher>,
    opened: u64,
}

/// What the store knows of who watches: one per node.
#[derive(Clone, Copy, Debug, Default)]
struct Watcher {
    number: u64,
    after: Revision,
    open: bool,
    pending: bool,
}

enum Event {
    Start { node: usize },
    Wake { node: usize, life: u32 },
    Resume { node: usize },
    Ask { node: usize, life: u32, number: u64, operation: Box<Operation>, sent: Moment },
    Reply { node: usize, life: u32, number: u64, reply: Box<Reply>, record: usize },
    Follow { node: usize, life: u32 },
    Read { node: usize, life: u32, inquiry: u64 },
    Open { node: usize, life: u32, inquiry: u64, after: Revision },
    Listed { node: usize, life: u32, inquiry: u64, snapshot: Box<Snapshot> },
    Opened { node: usize, life: u32, inquiry: u64, watch: u64 },
    NoAnswer { node: usize, life: u32, inquiry: u64 },
    Notice { node: usize, watch: u64 },
    Again { node: usize, life: u32, update: Box<Update> },
    Broken { node: usize, watch: u64 },
    Expire,
    Trouble(Trouble),
    Peace,
    Look,
}

impl Event {
    const fn node(&self) -> Option<usize> {
        match self {
            Self::Start { node }
            | Self::Wake { node, .. }
            | Self::Resume { node }
            | Self::Ask { node, .. }
            | Self::Reply { node, .. }
            | Self::Follow { node, .. }
            | Self::Read { node, .. }
            | Self::Open { node, .. }
            | Self::Listed { node, .. }
            | Self::Opened { node, .. }
            | Self::NoAnswer { node, .. }
            | Self::Notice { node, .. }
            | Self::Again { node, .. }
            | Self::Broken { node, .. } => Some(*node),
            Self::Expire | Self::Trouble(_) | Self::Peace | Self::Look => None,
        }
    }

    const fn kind(&self) -> u64 {
        match self {
            Self::Start { .. } => 1,
            Self::Wake { .. } => 2,
            Self::Ask { .. } => 3,
            Self::Reply { .. } => 4,
            Self::Follow { .. } => 5,
            Self::Read { .. } => 6,
            Self::Open { .. } => 7,
            Self::Listed { .. } => 8,
            Self::Opened { .. } => 9,
            Self::NoAnswer { .. } => 10,
            Self::Notice { .. } => 11,
            Self::Again { .. } => 12,
            Self::Broken { .. } => 13,
            Self::Expire => 14,
            Self::Trouble(_) => 15,
            Self::Peace => 16,
            Self::Look => 17,
            Self::Resume { .. } => 18,
        }
    }
}

/// Events in the order of their time, and of their making.
#[derive(Default)]
struct Queue {
    order: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    made: u64,
}

impl Queue {
    fn push(&mut self, at: Duration, event: Event) {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.events.push(None);
                self.events.len() - 1
            }
        };
        self.events[place] = Some(event);
        self.made += 1;
        self.order.push(Reverse((at, self.made, place)));
    }

    fn pop(&mut self) -> Option<(Duration, Event)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (at, event))
    }
}

/// How long it may take until all is well, once nothing goes wrong any more.
const RECOVERY: Duration = Duration::from_secs(120);
const INQUIRY: Duration = Duration::from_secs(10);

fn unavailable(operation: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "simulated", operation, "no connection")
}

impl World {
    pub(crate) fn new(seed: u64, scenario: Scenario, fault: Fault) -> Self {
        let mut random = Random::new(seed);
        let peace = scenario.start + scenario.trouble;
        let ids: Vec<_> = (0..scenario.nodes)
            .map(|number| NodeId::new(format!("node-{number}")).expect("a name"))
            .collect();
        let numbers = ids.iter().cloned().zip(0..).collect();
        let clock = |random: &mut Random| {
            let spread = scenario.clocks;
            let faster = random.below(2 * spread + 1) as i64 - spread as i64;
            Clock::new(random.up_to(Duration::from_secs(1_000_000)), faster)
        };
        let server = Server {
            memory: Memory::new(),
            clock: clock(&mut random),
            revision: Revision::ZERO,
            away: Duration::ZERO,
            stalled: Duration::ZERO,
            expiry: None,
            watchers: vec![Watcher::default(); scenario.nodes],
            opened: 0,
        };
        let mut queue = Queue::default();
        let nodes = ids.into_iter().enumerate().map(|(number, id)| {
            let attributes = attributes(number as u32);
            let request = Request::new(id.clone(), attributes.clone(), scenario.ttl);
            queue.push(random.up_to(scenario.start), Event::Start { node: number });
            Node {
                id,
                clock: clock(&mut random),
                life: 0,
                running: false,
                paused: Duration::ZERO,
                mute: Duration::ZERO,
                deaf: Duration::ZERO,
                tenure: Tenure::new(request, 0),
                attributes,
                remembers: random.chance(500_000).then_some(None),
                following: Following::new(0),
                seen: None,
                looks: random.chance(scenario.look),
                alarm: None,
                follow_alarm: None,
                inquiry: 0,
                watch: 0,
                inbox: Vec::new(),
            }
        });
        let nodes = nodes.collect();
        for (trouble, times) in &scenario.troubles {
            for _ in 0..*times {
                queue.push(random.up_to(peace), Event::Trouble(*trouble));
            }
        }
        queue.push(peace, Event::Peace);
        let checker = Checker::new(scenario.nodes);
        let publications = scenario.nodes as u32;
        Self {
            scenario,
            fault,
            random,
            now: Duration::ZERO,
            queue,
            events: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            nodes,
            numbers,
            server,
            checker,
            recorder: Recorder::default(),
            peace,
            publications,
        }
    }

    /// Writes down what the store is asked, from now on.
    pub(crate) fn recorded(mut self) -> Self {
        self.recorder.start();
        self
    }

    pub(crate) fn run(mut self) -> Result<Outcome, Violation> {
        self.configure(0)?;
        self.settle()?;
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.checker.time(at);
            self.events += 1;
            for word in [at.as_nanos() as u64, event.kind(), event.node().unwrap_or(0) as u64] {
                self.digest =
                    (self.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
            }
            if matches!(event, Event::Look) {
                if let Err(why) = self.all_is_well() {
                    if at < self.peace + self.scenario.ttl * 2 + RECOVERY {
                        self.queue.push(at + Duration::from_secs(1), Event::Look);
                        continue;
                    }
                    return Err(self.checker.broken(Rule::Peace, why));
                }
                return Ok(Outcome {
                    digest: self.digest,
                    events: self.events,
                    counts: self.checker.counts,
                    history: self.recorder.finish(),
                });
            }
            self.happens(event)?;
        }
        Err(self.checker.broken(Rule::Peace, "nothing happens any more".into()))
    }

    fn happens(&mut self, event: Event) -> Checked {
        if let Event::Wake { node, .. }
        | Event::Follow { node, .. }
        | Event::Reply { node, .. }
        | Event::Listed { node, .. }
        | Event::Opened { node, .. }
        | Event::NoAnswer { node, .. }
        | Event::Again { node, .. }
        | Event::Broken { node, .. } = &event
            && let node = &mut self.nodes[*node]
            && node.paused > self.now
        {
            node.inbox.push(event);
            return Ok(());
        }
        match event {
            Event::Start { node } => self.start(node),
            Event::Resume { node } => self.resume(node),
            Event::Wake { node, life } => {
                let Node { running, life: current, alarm, .. } = &mut self.nodes[node];
                if !*running || life != *current || alarm.is_none_or(|alarm| alarm > self.now) {
                    return Ok(());
                }
                *alarm = None;
                self.tend(node)
            }
            Event::Ask { node, life, number, operation, sent } => {
                self.asked(node, life, number, *operation, sent)
            }
            Event::Reply { node, life, number, reply, record } => {
                self.recorder.answered(self.now, record, &reply);
                if !self.is_current(node, life) {
                    return Ok(());
                }
                let now = self.nodes[node].clock.instant(self.now);
                let reply = self.fault.at_node(*reply);
                self.nodes[node].tenure.answer(now, number, reply);
                self.tend(node)
            }
            Event::Follow { node, life } => {
                let due = self.nodes[node].follow_alarm.is_some_and(|alarm| alarm <= self.now);
                if self.is_current(node, life) && due {
                    self.nodes[node].follow_alarm = None;
                    self.nodes[node].following.rested();
                    self.follow(node);
                }
                Ok(())
            }
            Event::Read { node, life, inquiry } => {
                if self.reaches_store(node) {
                    let snapshot = Box::new(self.server.memory.snapshot());
                    let answer = || Answered::Snapshot((*snapshot).clone());
                    self.recorder.instant_with(self.now, node, Call::Snapshot, answer);
                    self.send_to_node(node, Event::Listed { node, life, inquiry, snapshot });
                }
                Ok(())
            }
            Event::Open { node, life, inquiry, after } => {
                // A watch that nobody waits for any more has no connection.
                let wanted = self.is_current(node, life) && self.nodes[node].inquiry == inquiry;
                if wanted && self.reaches_store(node) {
                    self.server.opened += 1;
                    let watch = self.server.opened;
                    // What is said before the node knows that it is listened to waits in its socket.
                    let pending = true;
                    let call = Call::Watch { watch: watch as usize, after };
                    self.recorder.instant(self.now, node, call, Answered::Done);
                    self.server.watchers[node] =
                        Watcher { number: watch, after, open: true, pending };
                    self.send_to_node(node, Event::Opened { node, life, inquiry, watch });
                }
                Ok(())
            }
            Event::Listed { node, life, inquiry, snapshot } => {
                self.learn(node, life, inquiry, |following, now| following.read(now, Ok(*snapshot)))
            }
            Event::Opened { node, life, inquiry, watch } => {
                self.learn(node, life, inquiry, |following, now| following.watched(now, Ok(())))?;
                if self.is_current(node, life) && self.nodes[node].inquiry == inquiry + 1 {
                    self.nodes[node].watch = watch;
                    let watcher = self.server.watchers[node];
                    if watcher.number == watch && watcher.open {
                        self.server.watchers[node].pending = false;
                        self.notify(node);
                    } else {
                        self.queue.push(self.now, Event::Broken { node, watch });
                    }
                }
                Ok(())
            }
            Event::NoAnswer { node, life, inquiry } => {
                self.learn(node, life, inquiry, |following, now| match following.step() {
                    Step::Read => following.read(now, Err(unavailable("list the leases"))),
                    _ => following.watched(now, Err(unavailable("watch the leases"))),
                })
            }
            Event::Notice { node, watch } => self.notice(node, watch),
            Event::Again { node, life, update } => {
                if self.is_current(node, life) && self.nodes[node].following.step() == Step::Listen
                {
                    self.hear(node, *update)?;
                }
                Ok(())
            }
            Event::Broken { node, watch } => {
                let listens = self.nodes[node].following.step() == Step::Listen;
                if self.nodes[node].running && listens && self.nodes[node].watch == watch {
                    let now = self.nodes[node].clock.instant(self.now);
                    let error = Err(unavailable("watch the leases"));
                    self.nodes[node].following.heard(now, error);
                    self.follow(node);
                }
                Ok(())
            }
            Event::Expire => {
                self.server.expiry = None;
                if !self.is_away() {
                    self.expire()?;
                }
                self.await_expiry();
                Ok(())
            }
            Event::Trouble(trouble) => self.trouble(trouble),
            Event::Peace => self.make_peace(),
            Event::Look => Ok(()),
        }
    }

    fn is_current(&self, node: usize, life: u32) -> bool {
        self.nodes[node].running && self.nodes[node].life == life
    }
}

/// The nodes.
impl World {
    fn start(&mut self, number: usize) -> Checked {
        if self.nodes[number].running {
            return Ok(());
        }
        let (keeper_seed, follower_seed) = (self.random.next(), self.random.next());
        let node = &mut self.nodes[number];
        node.life += 1;
        node.running = true;
        node.paused = Duration::ZERO;
        let mut request = Request::new(node.id.clone(), node.attributes.clone(), self.scenario.ttl);
        request.last = node.remembers.flatten();
        node.tenure = Tenure::new(request, keeper_seed);
        node.following = Following::new(follower_seed);
        node.seen = None;
        node.alarm = None;
        node.follow_alarm = None;
        node.watch = 0;
        node.inbox.clear();
        self.follow(number);
        self.tend(number)
    }

    fn end(&mut self, number: usize) -> Checked {
        self.nodes[number].running = false;
        self.server.watchers[number].open = false;
        self.checker.believe(number, None)
    }

    /// Lets the node's keeper do what it has to do now.
    fn tend(&mut self, number: usize) -> Checked {
        let node = &mut self.nodes[number];
        let now = node.clock.instant(self.now);
        while let Some(question) = node.tenure.question(now) {
            match self.fault.before_asking(question.operation) {
                Ok(operation) => {
                    let life = node.life;
                    let operation = Box::new(operation);
                    let sent = self.recorder.moment(self.now);
                    let number_asked = question.number;
                    let ask =
                        Event::Ask { node: number, life, number: number_asked, operation, sent };
                    self.send_to_store(number, ask);
                    break;
                }
                Err(answer) => node.tenure.answer(now, question.number, Ok(answer)),
            }
        }
        let node = &mut self.nodes[number];
        let mut stopped = false;
        if node.tenure.take_changed() {
            let status = node.tenure.status();
            stopped = matches!(status, Status::Stopped { .. });
            let holds = status.holds(now).map(|lease| lease.subnets);
            let until = match &status {
                Status::Held { until, .. } | Status::Unconfirmed { until, .. } => *until,
                _ => None,
            };
            let until = until.map_or(Duration::MAX, |until| node.clock.when_instant(until));
            if let (Some(remembers), Some(subnets)) = (&mut node.remembers, holds) {
                *remembers = Some(subnets);
            }
            let until = self.fault.believes(until);
            self.checker.believe(number, holds.map(|subnets| (subnets, until)))?;
        }
        if stopped {
            self.end(number)?;
            let after = self.random.up_to(self.scenario.ttl);
            self.queue.push(self.now + after, Event::Start { node: number });
            return Ok(());
        }
        let node = &mut self.nodes[number];
        if let Some(wake) = node.tenure.wake() {
            let alarm = node.clock.when_instant(wake).max(self.now);
            if node.alarm != Some(alarm) {
                node.alarm = Some(alarm);
                self.queue.push(alarm, Event::Wake { node: number, life: node.life });
            }
        }
        Ok(())
    }

    /// Lets the node's follower do what it has to do now.
    fn follow(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let life = node.life;
        node.inquiry += 1;
        let inquiry = node.inquiry;
        let ask = match node.following.step() {
            Step::Read => Event::Read { node: number, life, inquiry },
            Step::Watch(after) => Event::Open { node: number, life, inquiry, after },
            Step::Listen => return,
            Step::Rest(until) => {
                let alarm = node.clock.when_instant(until).max(self.now);
                node.follow_alarm = Some(alarm);
                self.queue.push(alarm, Event::Follow { node: number, life });
                return;
            }
        };
        let patience = self.now + INQUIRY;
        self.queue.push(patience, Event::NoAnswer { node: number, life, inquiry });
        self.send_to_store(number, ask);
    }

    fn learn<T>(
        &mut self,
        number: usize,
        life: u32,
        inquiry: u64,
        outcome: impl FnOnce(&mut Following, std::time::Instant) -> T,
    ) -> Checked {
        let node = &mut self.nodes[number];
        let waits = matches!(node.following.step(), Step::Read | Step::Watch(_));
        if !node.running || node.life != life || node.inquiry != inquiry || !waits {
            return Ok(());
        }
        let now = node.clock.instant(self.now);
        outcome(&mut node.following, now);
        self.goes_forward(number)?;
        self.follow(number);
        Ok(())
    }

    fn hear(&mut self, number: usize, update: Update) -> Checked {
        let node = &mut self.nodes[number];
        let now = node.clock.instant(self.now);
        let news = node.following.heard(now, Ok(update));
        self.goes_forward(number)?;
        let node = &mut self.nodes[number];
        let concerns_me = |difference: &Difference| match difference {
            Difference::Config { .. } => true,
            Difference::Changed { to: lease, .. } | Difference::Removed(lease) => {
                lease.is_of(&node.id)
            }
            _ => false,
        };
        if node.looks && news.is_some_and(|news| news.differences.iter().any(concerns_me)) {
            node.tenure.look(now);
            return self.tend(number);
        }
        Ok(())
    }

    fn goes_forward(&mut self, number: usize) -> Checked {
        let node = &mut self.nodes[number];
        let revision = node.following.view().revision();
        if revision < node.seen {
            let what = format!("node {number} saw {:?}, and then {revision:?}", node.seen);
            return Err(self.checker.broken(Rule::ViewForward, what));
        }
        node.seen = revision;
        Ok(())
    }
}

/// What is between the nodes and the store.
impl World {
    fn delay(&mut self) -> Duration {
        if self.now < self.peace && self.random.chance(self.scenario.late) {
            return self.random.up_to(self.scenario.latest);
        }
        self.random.between(self.scenario.latency.0, self.scenario.latency.1)
    }

    fn is_lost(&mut self) -> bool {
        self.now < self.peace && self.random.chance(self.scenario.lost)
    }

    fn send_to_store(&mut self, node: usize, event: Event) {
        if self.is_lost() || self.nodes[node].mute > self.now {
            // Where a connection is gone, what was sent may be sent again when it is back.
            if self.random.chance(900_000) || self.now >= self.peace {
                return;
            }
            let after = self.nodes[node].mute.max(self.now);
            let delay = self.random.up_to(self.scenario.latest);
            self.queue.push(after + delay, event);
            return;
        }
        if let Event::Ask { node, life, number, operation, .. } = &event
            && self.now < self.peace
            && self.random.chance(self.scenario.doubled)
        {
            let sent = self.recorder.moment(self.now);
            let (node, life, number) = (*node, *life, *number);
            let again = Event::Ask { node, life, number, operation: operation.clone(), sent };
            let delay = self.random.up_to(self.scenario.latest);
            self.queue.push(self.now + delay, again);
        }
        let delay = self.delay();
        self.queue.push(self.now + delay, event);
    }

    fn send_to_node(&mut self, node: usize, event: Event) {
        if self.is_lost() || self.nodes[node].mute.max(self.nodes[node].deaf) > self.now {
            return;
        }
        let delay = self.delay();
        self.queue.push(self.now + delay, event);
    }

    fn reaches_store(&self, node: usize) -> bool {
        !self.is_away() && self.nodes[node].mute <= self.now
    }

    fn is_away(&self) -> bool {
        self.server.away > self.now
    }
}

/// The store.
impl World {
    fn store_now(&self) -> Duration {
        self.server.clock.reads(self.now)
    }

    fn asked(
        &mut self,
        node: usize,
        life: u32,
        number: u64,
        operation: Operation,
        sent: Moment,
    ) -> Checked {
        if !self.is_away() && self.server.stalled > self.now {
            let at = self.server.stalled + self.random.up_to(Duration::from_millis(50));
            let operation = Box::new(operation);
            self.queue.push(at, Event::Ask { node, life, number, operation, sent });
            return Ok(());
        }
        let record = self.recorder.asked(node, sent, &operation);
        let reply = if self.is_away() {
            Err(unavailable("ask"))
        } else {
            self.expire()?;
            let reply = self.does(operation)?;
            self.await_expiry();
            reply
        };
        let reply = Box::new(reply);
        self.send_to_node(node, Event::Reply { node, life, number, reply, record });
        Ok(())
    }

    /// Does what is asked, and has the checker look at it.
    fn does(&mut self, operation: Operation) -> Result<Reply, Violation> {
        let now = self.store_now();
        let cause = match &operation {
            Operation::Create(_) => Cause::Create,
            Operation::Update { lease, .. }
            | Operation::Renew(lease)
            | Operation::Remove(lease) => Cause::Write(lease.clone()),
            _ => Cause::Expiry,
        };
        let renewed = match &operation {
            Operation::Renew(lease) => Some(lease.clone()),
            _ => None,
        };
        let reply = self.fault.at_store(&mut self.server.memory, now, operation);
        match &reply {
            Ok(Answer::Fenced(_)) => self.checker.counts.fenced += 1,
            Ok(Answer::Taken(_)) => self.checker.counts.taken += 1,
            _ => {}
        }
        self.record(&cause)?;
        if let (Some(saw), Ok(Answer::Done)) = (&renewed, &reply) {
            self.checker.renewed(saw, now)?;
        }
        if let (Cause::Write(saw), Ok(Answer::Lease(lease))) = (&cause, &reply)
            && lease.revision == saw.revision
        {
            self.checker.renewed(saw, now)?;
        }
        Ok(reply)
    }

    /// Shows the checker what has changed in the store, and tells those who watch.
    fn record(&mut self, cause: &Cause) -> Checked {
        let Some(update) = self.server.memory.since(self.server.revision) else { return Ok(()) };
        let now = self.store_now();
        self.server.revision = update.revision();
        match update {
            Update::Changes(changes) => {
                let first = changes.revision.get() + 1 - changes.changes.len() as u64;
                for (revision, change) in (first..).map(Revision::new).zip(changes.changes) {
                    let numbers = &self.numbers;
                    let number = |lease: &Lease| lease.node.as_ref().map(|node| numbers[node]);
                    self.checker.wrote(revision, change, cause, now, number)?;
                }
            }
            Update::Snapshot(_) => {
                let what = "the store forgot what happened a moment ago".into();
                return Err(self.checker.broken(Rule::ViewForward, what));
            }
        }
        for node in 0..self.nodes.len() {
            self.notify(node);
        }
        Ok(())
    }

    fn expire(&mut self) -> Checked {
        let due = self.store_now().saturating_sub(self.scenario.lazy);
        if self.fault == Fault::NoExpiry {
            return Ok(());
        }
        self.server.memory.expire(due + self.fault.hurry());
        self.record(&Cause::Expiry)
    }

    fn await_expiry(&mut self) {
        let Some(next) = self.server.memory.next_expiry() else { return };
        if self.fault == Fault::NoExpiry {
            return;
        }
        let at = self.server.clock.when(next + self.scenario.lazy).max(self.now);
        let at = at.max(self.server.away).max(self.server.stalled);
        if self.server.expiry.is_none_or(|expiry| at < expiry) {
            self.server.expiry = Some(at);
            self.queue.push(at, Event::Expire);
        }
    }

    /// Has the watch of a node look in a moment, if there is anything to see.
    fn notify(&mut self, node: usize) {
        let watcher = &mut self.server.watchers[node];
        if watcher.open && !watcher.pending && watcher.after != self.server.revision {
            watcher.pending = true;
            let watch = watcher.number;
            let delay = self.random.up_to(self.scenario.watching);
            self.queue.push(self.now + delay, Event::Notice { node, watch });
        }
    }

    fn notice(&mut self, node: usize, watch: u64) -> Checked {
        let watcher = self.server.watchers[node];
        if !watcher.open || watcher.number != watch || self.nodes[node].watch != watch {
            return Ok(());
        }
        let stalled = self.server.stalled;
        if stalled > self.now || self.nodes[node].paused > self.now {
            let at = stalled.max(self.nodes[node].paused);
            self.queue.push(at, Event::Notice { node, watch });
            return Ok(());
        }
        let cut = self.is_away() || self.nodes[node].mute.max(self.nodes[node].deaf) > self.now;
        if cut || self.is_lost() {
            self.server.watchers[node].open = false;
            let after = self.random.up_to(Duration::from_secs(5));
            self.queue.push(self.now + after, Event::Broken { node, watch });
            return Ok(());
        }
        self.server.watchers[node].pending = false;
        let Some(update) = self.server.memory.since(watcher.after) else { return Ok(()) };
        self.server.watchers[node].after = update.revision();
        let call = Call::Next { watch: watch as usize };
        let answer = || Answered::Update(update.clone());
        self.recorder.instant_with(self.now, node, call, answer);
        if self.now < self.peace && self.random.chance(self.scenario.doubled) {
            let delay = self.random.up_to(self.scenario.latest);
            let (life, update) = (self.nodes[node].life, Box::new(update.clone()));
            self.queue.push(self.now + delay, Event::Again { node, life, update });
        }
        match self.fault.on_watch(update) {
            Some(update) => self.hear(node, update),
            None => Ok(()),
        }
    }
}

/// What goes wrong.
impl World {
    fn trouble(&mut self, trouble: Trouble) -> Checked {
        if !self.is_away() && self.server.stalled <= self.now {
            self.checker.nothing_overdue(self.store_now())?;
        }
        let len = self.nodes.len();
        let node = self.random.index(len);
        let while_ = self.random.up_to(self.scenario.ttl * 3 / 2);
        let until = (self.now + while_).min(self.peace);
        match trouble {
            Trouble::Partition | Trouble::Deaf => {
                let count = 1 + self.random.index(len / 4);
                for number in (node..node + count).map(|number| number % len) {
                    let cut = &mut self.nodes[number];
                    match trouble {
                        Trouble::Deaf => cut.deaf = cut.deaf.max(until),
                        _ => cut.mute = cut.mute.max(until),
                    }
                    self.cut_watch(number);
                }
            }
            Trouble::Crash if self.nodes[node].running => {
                self.end(node)?;
                self.queue.push(until, Event::Start { node });
            }
            Trouble::Pause => {
                self.nodes[node].paused = until;
                self.queue.push(until, Event::Resume { node });
            }
            Trouble::Leave if self.nodes[node].running && self.nodes[node].paused <= self.now => {
                self.nodes[node].tenure.stop(true);
                self.tend(node)?;
                // Often enough somebody has no patience.
                if self.nodes[node].running && self.random.chance(500_000) {
                    self.end(node)?;
                    let after = self.random.up_to(Duration::from_secs(1));
                    self.queue.push(self.now + after, Event::Start { node });
                }
            }
            Trouble::Crash | Trouble::Leave => {}
            Trouble::Outage => {
                self.server.away = self.server.away.max(until);
                for node in 0..len {
                    self.cut_watch(node);
                }
                self.server.expiry = None;
                self.await_expiry();
            }
            Trouble::Stall => {
                self.server.stalled = self.server.stalled.max(until);
                self.server.expiry = None;
                self.await_expiry();
            }
            Trouble::Compaction => self.server.memory.compact(),
            Trouble::Reconfiguration => {
                let config = self.random.index(self.scenario.configs.len());
                self.configure(config)?;
            }
            Trouble::Publication => self.publish(node)?,
            Trouble::Reservation => self.reserve(node)?,
        }
        Ok(())
    }

    fn cut_watch(&mut self, node: usize) {
        let watcher = &mut self.server.watchers[node];
        if watcher.open {
            watcher.open = false;
            let watch = watcher.number;
            let after = self.random.up_to(Duration::from_secs(5));
            self.queue.push(self.now + after, Event::Broken { node, watch });
        }
    }

    fn configure(&mut self, config: usize) -> Checked {
        let replaces = self.server.memory.config().map(|config| config.revision);
        let config = &self.scenario.configs[config];
        match self.server.memory.configure(config, replaces) {
            Ok(configured) => {
                let call = Call::Configure { config: config.clone(), replaces };
                let answer = Answered::Configured(configured);
                self.recorder.instant(self.now, self.nodes.len(), call, answer);
            }
            Err(error) => return Err(self.checker.broken(Rule::Fence, error.to_string())),
        }
        self.record(&Cause::Expiry)
    }

    /// Some nodes have had a lease for long.
    fn settle(&mut self) -> Checked {
        let Some(config) = self.checker.config.clone() else { return Ok(()) };
        for number in 0..self.nodes.len() {
            if !self.random.chance(self.scenario.settled) {
                continue;
            }
            let node = &self.nodes[number];
            let claim = |subnets| Claim {
                subnets,
                node: Some(node.id.clone()),
                attributes: node.attributes.clone(),
                ttl: Some(self.scenario.ttl),
                under: config.revision,
            };
            let claims: Vec<_> = guesses(&config.config, &node.id).take(3).map(claim).collect();
            for claim in claims {
                if let Ok(Answer::Lease(_)) = self.does_for_operator(Operation::Create(claim))? {
                    break;
                }
            }
        }
        self.await_expiry();
        Ok(())
    }

    fn publish(&mut self, number: usize) -> Checked {
        let node = &mut self.nodes[number];
        if node.paused > self.now {
            return Ok(());
        }
        self.publications += 1;
        node.attributes = attributes(self.publications);
        if node.running {
            node.tenure.publish(node.attributes.clone());
            self.tend(number)?;
        }
        Ok(())
    }

    fn reserve(&mut self, number: usize) -> Checked {
        if self.is_away() {
            return Ok(());
        }
        self.expire()?;
        let operation = match self.checker.lease_of(number) {
            Some(lease) => Operation::Update {
                lease: lease.clone(),
                attributes: lease.attributes.clone(),
                ttl: None,
            },
            None => {
                let Some(config) = self.checker.config.clone() else { return Ok(()) };
                let pools = config.config.pools();
                let at = u128::from(self.random.below(64));
                let v4 = pools.v4.as_ref().and_then(|pool| pool.nth(at));
                let v6 = pools.v6.as_ref().and_then(|pool| pool.nth(at));
                let Ok(subnets) = Subnets::new(v4, v6) else { return Ok(()) };
                let (attributes, under) = (Attributes::default(), config.revision);
                Operation::Create(Claim { subnets, node: None, attributes, ttl: None, under })
            }
        };
        self.does_for_operator(operation).map(|_| ())
    }

    fn does_for_operator(&mut self, operation: Operation) -> Result<Reply, Violation> {
        let sent = self.recorder.moment(self.now);
        let record = self.recorder.asked(self.nodes.len(), sent, &operation);
        let reply = self.does(operation)?;
        self.recorder.answered(self.now, record, &reply);
        Ok(reply)
    }

    /// From now on nothing goes wrong any more.
    fn make_peace(&mut self) -> Checked {
        self.server.away = Duration::ZERO;
        self.server.stalled = Duration::ZERO;
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            node.mute = Duration::ZERO;
            node.deaf = Duration::ZERO;
            self.resume(number)?;
            self.start(number)?;
        }
        self.await_expiry();
        self.queue.push(self.now + Duration::from_secs(1), Event::Look);
        Ok(())
    }

    fn resume(&mut self, number: usize) -> Checked {
        let node = &mut self.nodes[number];
        if node.paused > self.now && self.now < self.peace {
            return Ok(());
        }
        node.paused = Duration::ZERO;
        for event in std::mem::take(&mut node.inbox) {
            self.happens(event)?;
        }
        Ok(())
    }
}

/// How it has to be in the end.
impl World {
    fn all_is_well(&mut self) -> Result<(), String> {
        let snapshot = self.server.memory.snapshot();
        for (number, node) in self.nodes.iter().enumerate() {
            if !node.running {
                return Err(format!("node {number} does not run"));
            }
            let status = node.tenure.status();
            let Status::Held { lease, contested: false, .. } = &status else {
                return Err(format!("node {number} holds no lease: {status:?}"));
            };
            let stored = self.checker.lease_of(number);
            if stored.is_none_or(|stored| stored.subnets != lease.subnets) {
                return Err(format!("node {number} holds {lease:?}, the store has {stored:?}"));
            }
            if stored.is_some_and(|stored| stored.attributes != node.attributes) {
                return Err(format!(
                    "node {number} does not tell {:?}: {stored:?}",
                    node.attributes
                ));
            }
            let config = snapshot.config.as_ref();
            if config.is_none_or(|config| config.config.admits(&lease.subnets).is_err()) {
                return Err(format!("node {number} has {}, which no longer fits", lease.subnets));
            }
            let view = node.following.view();
            if view.knowledge() != Knowledge::Current || view.revision() != Some(snapshot.revision)
            {
                let step = node.following.step();
                let (revision, watcher) = (view.revision(), self.server.watchers[number]);
                return Err(format!(
                    "node {number} sees {revision:?} and does {step:?} with watch {}: {watcher:?}",
                    node.watch
                ));
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let view = node.following.view();
            let same = |a: &Arc<Lease>, b: &Arc<Lease>| Arc::ptr_eq(a, b) || a == b;
            if view.leases().len() != snapshot.leases.len()
                || view.config() != snapshot.config.as_ref()
                || !view.leases().zip(&snapshot.leases).all(|(a, b)| same(a, b))
            {
                return Err(format!("node {number} does not see what is there"));
            }
        }
        if !self.checker.has_exactly(&snapshot.leases) {
            return Err("the store does not have what it said".into());
        }
        let now = self.store_now();
        self.checker.nothing_overdue(now).map_err(|violation| violation.what)
    }
}

fn attributes(number: u32) -> Attributes {
    let address = std::net::Ipv4Addr::from(0xc000_0000 + number);
    Attributes::new(Endpoints::at([address.into()]), "vxlan")
}
