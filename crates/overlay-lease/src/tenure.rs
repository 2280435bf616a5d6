//! Getting and keeping a lease, as a state machine.

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{AcquireError, Request};
use crate::attempt::{Attempt, Progress, Release, Reservation};
use crate::attributes::Attributes;
use crate::backoff::Jitter;
use crate::clock::BootInstant;
use crate::family::Subnets;
use crate::lease::Lease;
use crate::operation::{Answer, Operation, Reply};
use crate::store::{StoreError, StoreErrorKind};

/// How a node gets a lease and keeps it: what to ask the store, and when, and what to make of the answers.
///
/// It does no I/O and reads no clock: [`Keeper`](crate::Keeper) runs it, for programs with a loop of their own it is here.
/// Moments are arguments, and randomness comes from a seed. There is at most one question at a time; one that is not
/// answered in time counts as failed, and an answer to it that comes later is passed over.
///
/// A lease counts as held from the moment that the question was *sent* which made, changed or renewed it, for its time to
/// live less [a hundredth](Self::SKEW). So the store never takes it for gone before its node does, however long
/// answers take and however long the machine sleeps, as long as the clocks of both run equally fast to within that
/// hundredth. Who has slept lets time [`pass`](Self::pass) before believing anything, and asks
/// [`Status::holds`] rather than remembering what was held.
#[derive(Debug)]
pub struct Tenure {
    request: Request,
    jitter: Jitter,
    phase: Phase,
    held: Option<Held>,
    /// The lease that was held last before the present one.
    lost: Option<Arc<Lease>>,
    moved_from: Option<Subnets>,
    successor: Option<Arc<Lease>>,
    /// Whether the store has to be told the attributes.
    unpublished: bool,
    contest: Contest,
    failures: u32,
    error: Option<Arc<AcquireError>>,
    flight: Option<Flight>,
    asked: u64,
    /// What to ask at once.
    next: Option<Operation>,
    /// When there is something to ask if there is nothing now; if not even that, now.
    due: Option<BootInstant>,
    changed: bool,
}

/// A question to the store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Question {
    /// Which one it is, to be given with the answer.
    pub number: u64,
    /// What is asked.
    pub operation: Operation,
}

/// How it stands with the lease of a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// There is none, yet or any more. What is forwarded may go on being forwarded, but the subnets that the node had may
    /// be those of another one at any time.
    Acquiring {
        /// The lease that the node had.
        lost: Option<Arc<Lease>>,
        /// Whose the subnets are that the node had.
        successor: Option<Arc<Lease>>,
        /// How many attempts have failed in a row.
        failures: u32,
        /// Why the last one did.
        error: Option<Arc<AcquireError>>,
    },
    /// The node has this lease.
    Held {
        /// The lease.
        lease: Arc<Lease>,
        /// Until when, unless it is renewed. `None` for a reservation.
        until: Option<BootInstant>,
        /// The subnets that the node had before, if these are others.
        moved_from: Option<Subnets>,
        /// The lease as another process writes it again and again, which uses the node's identity as well: what it tells
        /// peers says who that is. One of the two needs another identity.
        contested: Option<Arc<Lease>>,
    },
    /// The node has this lease, but cannot renew it.
    Unconfirmed {
        /// The lease.
        lease: Arc<Lease>,
        /// Until when it is the node's nevertheless. `None` for a reservation.
        until: Option<BootInstant>,
        /// When it was confirmed last.
        since: BootInstant,
        /// Why it cannot be renewed.
        error: Arc<AcquireError>,
    },
    /// The node had this lease, and could not renew it in time. It tries to get it again. Until it knows better, what is
    /// forwarded may go on being forwarded, but the subnets may be those of another node at any time.
    Expired {
        /// The lease.
        lease: Arc<Lease>,
        /// Since when.
        since: BootInstant,
        /// Why it could not be renewed, unless nobody tried, since the program did not run.
        error: Option<Arc<AcquireError>>,
    },
    /// The lease is being given back, as far as there is one.
    Releasing,
    /// It is over: the node no longer tends its lease.
    Stopped {
        /// Why the lease could not be released, if it was to be. Then it goes when its time is over.
        error: Option<Arc<AcquireError>>,
    },
}

#[derive(Debug)]
enum Phase {
    Seeking(Option<Attempt>),
    /// The next question is whether the lease is still there.
    Renewing,
    /// The next question is whether the lease still fits.
    Looking,
    /// The lease no longer fits. The next question belongs to the search for another one.
    Leaving,
    Releasing(Option<Release>),
    Stopped,
}

#[derive(Clone, Debug)]
struct Held {
    lease: Arc<Lease>,
    confirmed: BootInstant,
    until: Option<BootInstant>,
    expired: bool,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    purpose: &'static str,
    sent: BootInstant,
    patience: Duration,
    /// Whether it tells the store the attributes as they are to be.
    publishes: bool,
}

/// Another process writes into our lease.
#[derive(Debug, Default)]
struct Contest {
    /// How often it did, one time soon after another.
    rounds: u32,
    /// What it made of it.
    theirs: Option<Arc<Lease>>,
    /// When to write what is ours again.
    answer: Option<BootInstant>,
    /// When it has given up, if nothing is heard of it until then.
    over: Option<BootInstant>,
}

/// How soon what can be tried again at once is tried again for the first time.
const SOON: Duration = Duration::from_millis(100);
/// How soon what somebody has to see to is tried again for the first time.
const LATER: Duration = Duration::from_secs(1);
/// What waits grow to while there is no lease.
const SEEK: Duration = Duration::from_secs(10);
/// How long to wait for an answer, and what waits grow to while there is a lease, if that is long-lived.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a lease goes unconfirmed, and the configuration unread, if the lease is long-lived.
const ROUND: Duration = Duration::from_secs(60);
/// Over how long nodes spread what all of them have to do because of one event.
const SPREAD: Duration = Duration::from_secs(1);
/// The first wait before another process is contradicted for a second time, and what such waits grow to.
const CONTEST: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// After this many failures a release is given up.
const RELEASES: u32 = 4;

impl Tenure {
    /// One part in so many of its time to live is how much earlier than its end a lease counts as held no longer.
    pub const SKEW: u32 = 100;

    /// The node of `request` has nothing yet. Nodes that start at the same moment need different seeds.
    #[must_use]
    pub fn new(mut request: Request, seed: u64) -> Self {
        request.ttl = request.term();
        Self {
            request,
            jitter: Jitter::new(seed),
            phase: Phase::Seeking(None),
            held: None,
            lost: None,
            moved_from: None,
            successor: None,
            unpublished: false,
            contest: Contest::default(),
            failures: 0,
            error: None,
            flight: None,
            asked: 0,
            next: None,
            due: None,
            changed: true,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let error = self.error.clone();
        match self.phase {
            Phase::Stopped => return Status::Stopped { error },
            Phase::Releasing(_) => return Status::Releasing,
            _ => {}
        }
        let Some(Held { lease, confirmed, until, expired }) = self.held.clone() else {
            let (lost, successor) = (self.lost.clone(), self.successor.clone());
            return Status::Acquiring { lost, successor, failures: self.failures, error };
        };
        match (until.filter(|_| expired), error) {
            (Some(since), error) => Status::Expired { lease, since, error },
            (None, Some(error)) => Status::Unconfirmed { lease, until, since: confirmed, error },
            (None, None) => {
                let contested = self.contest.theirs.clone().filter(|_| self.contest.rounds > 1);
                Status::Held { lease, until, moved_from: self.moved_from, contested }
            }
        }
    }

    /// Whether [`status`](Self::status) has something new to say since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When [`question`](Self::question) has to be called again if nothing else happens.
    #[must_use]
    pub fn wake(&self) -> Option<BootInstant> {
        let next = match (&self.flight, &self.phase) {
            (Some(flight), _) => Some(flight.sent + flight.patience),
            (None, Phase::Stopped) => None,
            (None, _) => self.due,
        };
        let expiry = self.held.as_ref().filter(|held| !held.expired).and_then(|held| held.until);
        next.into_iter().chain(expiry).min()
    }

    /// Whether the question of this number is still of interest.
    #[must_use]
    pub fn awaits(&self, number: u64) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.number == number)
    }

    /// Lets time pass up to `now`, and tells what to ask the store then, if there is anything.
    pub fn question(&mut self, now: BootInstant) -> Option<Question> {
        self.pass(now);
        if self.flight.is_some() || matches!(self.phase, Phase::Stopped) {
            return None;
        }
        let operation = match self.next.take() {
            Some(next) => next,
            None if self.due.is_some_and(|due| now < due) => return None,
            None => self.begin(now),
        };
        Some(self.send(now, operation))
    }

    /// Lets time pass up to `now`: an answer that did not come in time will not come, and a lease that was not renewed in
    /// time is no longer held.
    pub fn pass(&mut self, now: BootInstant) {
        if let Some(flight) = self.flight.take_if(|flight| flight.sent + flight.patience <= now) {
            let error = StoreError::unanswered(flight.purpose, flight.patience);
            self.conclude(now, &flight, Err(error));
        }
        if let Some(held) = &mut self.held
            && !held.expired
            && held.until.is_some_and(|until| until <= now)
        {
            held.expired = true;
            self.changed = true;
        }
    }

    /// Takes in what the store said at the moment `now` to the question of this number, if that is still of interest.
    pub fn answer(&mut self, now: BootInstant, number: u64, reply: Reply) {
        self.pass(now);
        if let Some(flight) = self.flight.take_if(|flight| flight.number == number) {
            self.conclude(now, &flight, reply);
        }
    }

    /// The node tells its peers something else from now on.
    pub fn publish(&mut self, attributes: Attributes) {
        if self.request.attributes != attributes {
            self.request.attributes = attributes;
            self.unpublished = true;
            if self.contest.rounds == 0 {
                self.contest.answer = None;
            }
            if matches!(self.phase, Phase::Renewing) {
                self.due = self.contest.answer;
            }
        }
    }

    /// Something may have happened to the lease or to the network's configuration: looks soon rather than when it is due.
    pub fn look(&mut self, now: BootInstant) {
        if self.flight.is_none() && matches!(self.phase, Phase::Renewing | Phase::Seeking(None)) {
            let soon = now + self.jitter.between(Duration::ZERO, SPREAD);
            self.due = self.due.map(|due| due.min(soon));
        }
    }

    /// Tends the lease no longer. If it is to be `release`d, there is something to ask until [`Status::Stopped`].
    pub fn stop(&mut self, release: bool) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        if let Some(held) = self.held.take() {
            self.lost = Some(held.lease);
        }
        self.phase = if release { Phase::Releasing(None) } else { Phase::Stopped };
        self.flight = None;
        self.next = None;
        self.due = None;
        self.error = None;
        self.failures = 0;
        self.changed = true;
    }

    /// The first question of what is due now.
    fn begin(&mut self, now: BootInstant) -> Operation {
        match (&self.phase, &self.held) {
            (Phase::Renewing, Some(held)) => {
                let lease = held.lease.clone();
                if self.unpublished && self.contest.answer.is_none_or(|answer| answer <= now) {
                    let (attributes, ttl) = (self.request.attributes.clone(), self.ttl_of(&lease));
                    return Operation::Update { lease, attributes, ttl };
                }
                Operation::Renew(lease)
            }
            (Phase::Releasing(_), _) => match &self.lost {
                Some(lease) => {
                    let (release, first) = Release::of(lease.clone(), Reservation::Keep);
                    self.phase = Phase::Releasing(Some(release));
                    first
                }
                None => Operation::Standing(self.request.node.clone()),
            },
            (Phase::Looking, Some(_)) => Operation::Standing(self.request.node.clone()),
            _ => {
                self.lose(None);
                let had = self.lost.as_ref().map(|lost| lost.subnets).or(self.request.last);
                let (attempt, first) = Attempt::begin(&self.request, had);
                self.phase = Phase::Seeking(Some(attempt));
                first
            }
        }
    }

    fn send(&mut self, now: BootInstant, operation: Operation) -> Question {
        let publishes = match &operation {
            Operation::Create(_) => true,
            Operation::Update { attributes, .. } => *attributes == self.request.attributes,
            _ => false,
        };
        if publishes {
            self.unpublished = false;
        }
        let patience = match self.phase {
            Phase::Renewing | Phase::Looking => self.patience(),
            _ => PATIENCE,
        };
        self.asked += 1;
        let number = self.asked;
        let purpose = operation.purpose();
        self.flight = Some(Flight { number, purpose, sent: now, patience, publishes });
        Question { number, operation }
    }

    /// What comes of the question in `flight`.
    fn conclude(&mut self, now: BootInstant, flight: &Flight, reply: Reply) {
        match &mut self.phase {
            Phase::Seeking(Some(attempt)) => {
                let progress = match reply {
                    Ok(answer) => attempt.answer(&self.request, answer),
                    Err(source) => Progress::Failed(self.request.failed(source)),
                };
                let successor = attempt.successor().cloned();
                match progress {
                    Progress::Ask(next) => self.next = Some(next),
                    Progress::Got(lease) => self.got(now, flight.sent, lease),
                    Progress::Failed(error) => {
                        self.successor = successor.or_else(|| self.successor.take());
                        self.not_yet(now, error);
                    }
                }
            }
            Phase::Renewing => self.renewed(now, flight, reply),
            Phase::Looking => self.looked(now, reply),
            Phase::Releasing(_) => self.released(now, reply),
            Phase::Seeking(None) | Phase::Leaving | Phase::Stopped => {}
        }
    }

    fn got(&mut self, now: BootInstant, sent: BootInstant, lease: Arc<Lease>) {
        if let Some(lost) = self.lost.take().filter(|lost| lost.subnets != lease.subnets) {
            self.moved_from = Some(lost.subnets);
        }
        self.successor = None;
        self.held = Some(Held::since(sent, lease));
        self.confirmed(now);
        self.phase = Phase::Renewing;
        self.rest(now);
    }

    fn not_yet(&mut self, now: BootInstant, error: AcquireError) {
        self.failures = self.failures.saturating_add(1);
        let first = if error.may_pass() { SOON } else { LATER };
        self.due = Some(now + self.jitter.backoff(self.failures, first, SEEK));
        self.phase = Phase::Seeking(None);
        self.error = Some(Arc::new(error));
        self.changed = true;
    }

    fn renewed(&mut self, now: BootInstant, flight: &Flight, reply: Reply) {
        let Some(held) = &mut self.held else { return };
        match reply {
            Ok(Answer::Done) => *held = Held::since(flight.sent, held.lease.clone()),
            Ok(Answer::Lease(lease)) => *held = Held::since(flight.sent, lease),
            Ok(Answer::Fenced(current)) => {
                self.unpublished |= flight.publishes;
                return self.fenced(now, current);
            }
            Ok(_) => {
                return self.unconfirmed(now, flight, StoreError::misunderstood(flight.purpose));
            }
            Err(error) => return self.unconfirmed(now, flight, error),
        }
        self.confirmed(now);
        self.phase = Phase::Looking;
        self.due = None;
    }

    /// The lease is held, and nothing is wrong with it.
    fn confirmed(&mut self, now: BootInstant) {
        if self.contest.over.is_some_and(|over| over <= now) {
            self.contest = Contest::default();
        }
        self.failures = 0;
        self.error = None;
        self.changed = true;
    }

    fn unconfirmed(&mut self, now: BootInstant, flight: &Flight, error: StoreError) {
        self.unpublished |= flight.publishes;
        if flight.publishes && error.kind() != StoreErrorKind::Unavailable {
            // What the store does not take must not cost the lease: that is renewed as it is meanwhile.
            self.contest.answer = Some(now + self.round());
        }
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + self.jitter.backoff(self.failures, SOON, self.patience()));
        self.error = Some(Arc::new(self.request.failed(error)));
        self.changed = true;
    }

    /// The lease is not as it was: it is `current`.
    fn fenced(&mut self, now: BootInstant, current: Option<Arc<Lease>>) {
        let Some(held) = &mut self.held else { return };
        // It never went away, and does not go earlier than if nobody had changed it.
        let still = |lease: &Arc<Lease>| {
            let lasts = lease.ttl.is_none() || lease.ttl == held.lease.ttl;
            lease.node == held.lease.node && lease.created == held.lease.created && lasts
        };
        match current {
            Some(lease) if still(&lease) => {
                if lease.is_reservation() {
                    held.until = None;
                }
                // What we asked for when no answer came is no surprise.
                let ours = lease.attributes == self.request.attributes;
                held.lease = lease;
                self.unpublished = !ours;
                if !ours {
                    self.contest.theirs = Some(held.lease.clone());
                    self.contest.rounds = self.contest.rounds.saturating_add(1);
                    let again = self.contest.rounds - 1;
                    let wait = match again {
                        0 => Duration::ZERO,
                        again => self.jitter.backoff(again, CONTEST.0, CONTEST.1),
                    };
                    self.contest.answer = Some(now + wait);
                    self.contest.over = Some(now + wait + 4 * self.round());
                }
                self.failures = self.failures.saturating_add(1);
                let wait = match self.failures {
                    1 => Duration::ZERO,
                    failures => self.jitter.backoff(failures, SOON, self.patience()),
                };
                self.due = Some(now + wait);
                self.changed = true;
            }
            current => {
                self.lose(current);
                self.due = None;
            }
        }
    }

    /// There is no lease any more; if somebody else has got the subnets, it is `successor`.
    fn lose(&mut self, successor: Option<Arc<Lease>>) {
        if let Some(held) = self.held.take() {
            self.successor = successor.filter(|lease| lease.node != held.lease.node);
            self.lost = Some(held.lease);
            self.contest = Contest::default();
            self.failures = 0;
            self.error = None;
            self.changed = true;
        }
        self.phase = Phase::Seeking(None);
    }

    fn looked(&mut self, now: BootInstant, reply: Reply) {
        let outside = match (reply, &self.held) {
            (Ok(Answer::Standing(standing)), Some(held)) => standing
                .config
                .is_some_and(|config| config.config.admits(&held.lease.subnets).is_err()),
            // It was confirmed a moment ago, and there is another round soon.
            _ => false,
        };
        if outside {
            self.phase = Phase::Leaving;
            self.due = Some(now + self.jitter.between(Duration::ZERO, SPREAD));
        } else {
            self.phase = Phase::Renewing;
            self.rest(now);
        }
    }

    /// Until the next round, or until there is something to write.
    fn rest(&mut self, now: BootInstant) {
        let round = self.round();
        let next = now + self.jitter.between(round / 4 * 3, round);
        self.due = match (self.unpublished, self.contest.answer) {
            (false, _) => Some(next),
            (true, Some(answer)) => Some(answer.min(next)),
            (true, None) => None,
        };
    }

    fn released(&mut self, now: BootInstant, reply: Reply) {
        let Phase::Releasing(release) = &mut self.phase else { return };
        let ours = |lease: &Arc<Lease>| {
            lease.attributes == self.request.attributes || lease.attributes == Attributes::default()
        };
        match (release, reply) {
            (None, Ok(Answer::Standing(standing))) => match standing.lease.filter(ours) {
                Some(lease) => {
                    self.lost = Some(lease);
                    return;
                }
                None => self.phase = Phase::Stopped,
            },
            (Some(release), Ok(answer @ (Answer::Lease(_) | Answer::Done))) => {
                self.next = release.answer(&answer);
                if self.next.is_some() {
                    return;
                }
                self.phase = Phase::Stopped;
            }
            (_, reply) => {
                // It is another one by now, or it is unknown which one: look.
                self.lost = None;
                self.error = reply.err().map(|error| Arc::new(self.request.failed(error)));
                self.failures += 1;
                self.phase = match self.failures {
                    RELEASES.. => Phase::Stopped,
                    _ => Phase::Releasing(None),
                };
                self.due = Some(now + self.jitter.backoff(self.failures, SOON, LATER));
                self.changed = true;
                return;
            }
        }
        self.error = None;
        self.changed = true;
    }

    fn ttl_of(&self, lease: &Lease) -> Option<Duration> {
        lease.ttl.map(|_| self.request.ttl)
    }

    /// How long a lease goes unconfirmed.
    fn round(&self) -> Duration {
        (self.request.ttl / 3).min(ROUND)
    }

    /// How long to wait for an answer as long as there is a lease to lose.
    fn patience(&self) -> Duration {
        (self.request.ttl / 6).min(PATIENCE)
    }
}

impl Held {
    /// This lease, by a question that was sent at the moment `sent`.
    fn since(sent: BootInstant, lease: Arc<Lease>) -> Self {
        let until = lease.ttl.and_then(|ttl| sent.checked_add(ttl - ttl / Tenure::SKEW));
        Self { lease, confirmed: sent, until, expired: false }
    }
}

impl Status {
    /// The lease that the node has or had, whichever is known.
    #[must_use]
    pub const fn lease(&self) -> Option<&Arc<Lease>> {
        match self {
            Self::Held { lease, .. }
            | Self::Unconfirmed { lease, .. }
            | Self::Expired { lease, .. } => Some(lease),
            Self::Acquiring { lost, .. } => lost.as_ref(),
            Self::Releasing | Self::Stopped { .. } => None,
        }
    }

    /// The lease that is the node's and nobody else's at the moment `now`.
    #[must_use]
    pub fn holds(&self, now: BootInstant) -> Option<&Arc<Lease>> {
        match self {
            Self::Held { lease, until, .. } | Self::Unconfirmed { lease, until, .. } => {
                Some(lease).filter(|_| until.is_none_or(|until| now < until))
            }
            _ => None,
        }
    }
}
