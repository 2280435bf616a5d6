//! Nodes, a store, and a network between them that loses, delays and doubles what it carries.

mod network;
mod nodes;
mod peace;
mod store;
mod trouble;

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
                let now = self.nodes[node].clock.boot_instant(self.now);
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

fn attributes(number: u32) -> Attributes {
    let address = std::net::Ipv4Addr::from(0xc000_0000 + number);
    Attributes::new(Endpoints::at([address.into()]), "vxlan")
}
