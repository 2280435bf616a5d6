//! One attempt of a node to get a lease.

use std::mem;
use std::sync::Arc;

use crate::acquire::{AcquireError, Request};
use crate::allocate::{ALL, Exhausted, Policy, QUARTER, allocate_of, guesses};
use crate::attributes::Attributes;
use crate::config::Configured;
use crate::family::Subnets;
use crate::lease::Lease;
use crate::operation::{Answer, Operation};
use crate::store::{Claim, Standing, StoreError, Tenant};

/// The way of a node to a lease: what it asks, one question after another.
///
/// A lease that the node has is taken over as it is, as long as it fits the network's configuration; otherwise it is
/// given back first. A new one is tried for, in this order: the subnets that the node had, a few guesses, and what the
/// allocator says about a list of all leases. Whatever comes in between is met by looking again.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    step: Step,
    had: Option<Subnets>,
    /// Who has what the node had.
    successor: Option<Arc<Lease>>,
    asked: u32,
    /// What was asked last.
    purpose: &'static str,
}

#[derive(Clone, Debug)]
enum Step {
    Standing,
    Adopt(Arc<Lease>),
    GiveBack(Release, Search),
    Snapshot(Search),
    Tenants(Search, Vec<Arc<Lease>>),
    Create(Search, Subnets),
}

/// Where to look for free subnets.
#[derive(Clone, Debug)]
struct Search {
    config: Configured,
    may_guess: bool,
    /// What to try before anything else, the last one first.
    preferred: Vec<Subnets>,
    guessed: usize,
    listed: Option<Listed>,
}

#[derive(Clone, Debug)]
struct Listed {
    leases: Vec<Arc<Lease>>,
    tenants: Vec<Tenant>,
    /// Whether somebody was faster since.
    overtaken: bool,
}

/// What comes of an answer.
#[derive(Debug)]
pub(crate) enum Progress {
    Ask(Operation),
    Got(Arc<Lease>),
    Failed(AcquireError),
}

/// Where the network is nearly empty, nearly all guesses hit; where it is nearly full, a list is cheaper than many.
const GUESSES: usize = 4;

/// After this many questions it is better to step back for a while.
const QUESTIONS: u32 = 32;

impl Attempt {
    /// An attempt of a node that remembers to have `had` these subnets, and its first question.
    pub(crate) fn begin(request: &Request, had: Option<Subnets>) -> (Self, Operation) {
        let first = Operation::Standing(request.node.clone());
        let purpose = first.purpose();
        (Self { step: Step::Standing, had, successor: None, asked: 1, purpose }, first)
    }

    /// Who has the subnets that the node had, if that is why it cannot have them.
    pub(crate) const fn successor(&self) -> Option<&Arc<Lease>> {
        self.successor.as_ref()
    }

    /// Takes in what the store said to the last question.
    pub(crate) fn answer(&mut self, request: &Request, answer: Answer) -> Progress {
        match (mem::replace(&mut self.step, Step::Standing), answer) {
            (Step::Standing, Answer::Standing(standing)) => self.stand(request, standing),
            (Step::Adopt(lease), Answer::Done) => Progress::Got(lease),
            (Step::Adopt(_) | Step::Create(..), Answer::Lease(lease)) => Progress::Got(lease),
            (Step::GiveBack(mut release, search), answer @ (Answer::Lease(_) | Answer::Done)) => {
                match release.answer(&answer) {
                    Some(next) => self.ask(request, Step::GiveBack(release, search), next),
                    None => self.search(request, search),
                }
            }
            (Step::Snapshot(search), Answer::Snapshot(snapshot)) => match snapshot.config {
                Some(config) => {
                    let step = Step::Tenants(Search { config, ..search }, snapshot.leases);
                    self.ask(request, step, Operation::Tenants)
                }
                None => not_configured(request),
            },
            (Step::Tenants(search, leases), Answer::Tenants(tenants)) => {
                let listed = Some(Listed { leases, tenants, overtaken: false });
                self.search(request, Search { listed, ..search })
            }
            (Step::Create(mut search, subnets), Answer::Taken(lease))
                if !lease.is_of(&request.node) =>
            {
                if self.had == Some(subnets) {
                    self.successor = Some(lease.clone());
                }
                if let Some(listed) = &mut search.listed {
                    listed.leases.push(lease);
                    listed.overtaken = true;
                }
                self.search(request, search)
            }
            // Something has changed since the question before: a look tells what.
            (
                Step::Adopt(_) | Step::GiveBack(..) | Step::Create(..),
                Answer::Taken(_) | Answer::Holds(_) | Answer::Reconfigured(_) | Answer::Fenced(_),
            ) => self.ask(request, Step::Standing, Operation::Standing(request.node.clone())),
            _ => Progress::Failed(request.failed(StoreError::misunderstood(self.purpose))),
        }
    }

    fn stand(&mut self, request: &Request, standing: Standing) -> Progress {
        let Standing { config, lease, last, may_guess } = standing;
        let Some(config) = config else {
            return match lease {
                Some(lease) => self.adopt(request, lease),
                None => not_configured(request),
            };
        };
        let last = last.filter(|_| request.policy == Policy::Sticky);
        let preferred = last.into_iter().chain(self.had).collect();
        let search = Search { config, may_guess, preferred, guessed: 0, listed: None };
        match lease {
            Some(lease) if search.config.config.admits(&lease.subnets).is_ok() => {
                self.adopt(request, lease)
            }
            Some(lease) => {
                let (release, first) = Release::of(lease, Reservation::Remove);
                self.ask(request, Step::GiveBack(release, search), first)
            }
            None => self.search(request, search),
        }
    }

    /// Takes over a lease that the node has. A reservation stays one.
    fn adopt(&mut self, request: &Request, lease: Arc<Lease>) -> Progress {
        let ttl = lease.ttl.map(|_| request.term());
        let operation = if lease.attributes == request.attributes && lease.ttl == ttl {
            Operation::Renew(lease.clone())
        } else {
            Operation::Update { lease: lease.clone(), attributes: request.attributes.clone(), ttl }
        };
        self.ask(request, Step::Adopt(lease), operation)
    }

    fn search(&mut self, request: &Request, mut search: Search) -> Progress {
        if let Some(subnets) = search.preferred().or_else(|| search.guess(request)) {
            return self.create(request, search, subnets);
        }
        match search.allocate(request) {
            None => self.ask(request, Step::Snapshot(search), Operation::Snapshot),
            Some(Ok(subnets)) => self.create(request, search, subnets),
            Some(Err(source)) => {
                Progress::Failed(AcquireError::Exhausted { node: request.node.clone(), source })
            }
        }
    }

    fn create(&mut self, request: &Request, search: Search, subnets: Subnets) -> Progress {
        let claim = Claim {
            subnets,
            node: Some(request.node.clone()),
            attributes: request.attributes.clone(),
            ttl: Some(request.term()),
            under: search.config.revision,
        };
        self.ask(request, Step::Create(search, subnets), Operation::Create(claim))
    }

    fn ask(&mut self, request: &Request, step: Step, operation: Operation) -> Progress {
        if self.asked == QUESTIONS {
            return Progress::Failed(AcquireError::Overtaken {
                node: request.node.clone(),
                questions: self.asked,
            });
        }
        self.asked += 1;
        self.step = step;
        self.purpose = operation.purpose();
        Progress::Ask(operation)
    }
}

impl Search {
    fn preferred(&mut self) -> Option<Subnets> {
        if !self.may_guess && self.listed.is_none() {
            return None;
        }
        while let Some(subnets) = self.preferred.pop() {
            let mut listed = self.listed.iter().flat_map(|listed| &listed.leases);
            if self.config.config.admits(&subnets).is_ok()
                && listed.all(|lease| !lease.subnets.overlap(&subnets))
            {
                return Some(subnets);
            }
        }
        None
    }

    fn guess(&mut self, request: &Request) -> Option<Subnets> {
        let useful = self.may_guess && self.listed.is_none() && request.policy == Policy::Sticky;
        if !useful || self.guessed == GUESSES {
            return None;
        }
        self.guessed += 1;
        guesses(&self.config.config, &request.node).nth(self.guessed - 1)
    }

    /// What is best according to the list, if there is one.
    fn allocate(&self, request: &Request) -> Option<Result<Subnets, Exhausted>> {
        let Listed { leases, tenants, overtaken } = self.listed.as_ref()?;
        let share = if *overtaken { ALL } else { QUARTER };
        let leases = leases.iter().map(|lease| &**lease);
        let (config, node) = (&self.config.config, &request.node);
        Some(allocate_of(share, config, node, leases, tenants, request.policy))
    }
}

fn not_configured(request: &Request) -> Progress {
    Progress::Failed(AcquireError::NotConfigured { node: request.node.clone() })
}

/// Giving back a lease, in two writes: it is emptied of what it tells peers, and then removed.
///
/// The first one changes the revision. If the node's next process takes the lease over in between, it has to fill it
/// again, and so a removal that arrives late finds another revision. With a single write, which may arrive long after
/// the process that sent it has gone, the lease would be taken from under a node that rightly relies on it.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    removing: bool,
    reservation: Reservation,
}

/// What happens to a reservation that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// It stays reserved.
    Keep,
    /// It goes, too.
    Remove,
}

impl Release {
    pub(crate) fn of(lease: Arc<Lease>, reservation: Reservation) -> (Self, Operation) {
        let ttl = lease.ttl;
        let empty = Operation::Update { lease, attributes: Attributes::default(), ttl };
        (Self { removing: false, reservation }, empty)
    }

    /// The next question, if there is one. Unless `answer` is that something was written, there is nothing left to do.
    pub(crate) fn answer(&mut self, answer: &Answer) -> Option<Operation> {
        match answer {
            Answer::Lease(emptied) if !self.removing => {
                let stays = emptied.is_reservation() && self.reservation == Reservation::Keep;
                self.removing = true;
                (!stays).then(|| Operation::Remove(emptied.clone()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::NetworkConfig;
    use crate::memory::Memory;
    use crate::name::NodeId;

    fn node(name: String) -> NodeId {
        NodeId::new(name).unwrap()
    }

    /// What the store says.
    fn answer(memory: &mut Memory, operation: &Operation, may_guess: bool) -> Answer {
        match operation {
            Operation::Standing(node) => {
                Answer::Standing(Standing { may_guess, ..memory.standing(node) })
            }
            Operation::Snapshot => Answer::Snapshot(memory.snapshot()),
            Operation::Tenants => Answer::Tenants(memory.tenants().collect()),
            Operation::Create(claim) => {
                Answer::to_create(memory.create(Duration::ZERO, claim)).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_that_start_at_once_rarely_want_the_same() {
        const NODES: usize = 200;
        for (len, most) in [(24, 3.0), (26, 1.5)] {
            let mut memory = Memory::new();
            let json = format!(r#"{{"Network":"10.5.0.0/16","SubnetLen":{len}}}"#);
            let config = NetworkConfig::from_json(&json).unwrap();
            let under = memory.configure(&config, None).unwrap().revision;
            let pool = config.pools().v4.unwrap();
            for number in 0..pool.count() {
                let (subnets, node) = (pool.nth(number).unwrap(), node(format!("old-{number}")));
                let (node, attributes) = (Some(node), Attributes::default());
                let claim = Claim { subnets: subnets.into(), node, attributes, ttl: None, under };
                let lease = memory.create(Duration::ZERO, &claim).unwrap();
                memory.remove(&lease).unwrap();
            }
            for may_guess in [true, false] {
                let mut memory = memory.clone();
                let start = |number| {
                    let (name, attributes) = (node(format!("new-{number}")), Attributes::default());
                    let request = Request::new(name, attributes, Duration::from_secs(60));
                    let (attempt, first) = Attempt::begin(&request, None);
                    (request, attempt, first)
                };
                let mut waiting: Vec<_> = (0..NODES).map(start).collect();
                let mut tries = 0;
                // All of them ask, and then all of them are answered, and ask again.
                while !waiting.is_empty() {
                    waiting.retain_mut(|(request, attempt, operation)| {
                        tries += usize::from(matches!(operation, Operation::Create(_)));
                        match attempt.answer(request, answer(&mut memory, operation, may_guess)) {
                            Progress::Ask(next) => *operation = next,
                            Progress::Got(_) => return false,
                            Progress::Failed(error) => panic!("{error}"),
                        }
                        true
                    });
                }
                assert_eq!(memory.snapshot().leases.len(), NODES);
                let each = tries as f64 / NODES as f64;
                assert!((1.0..most).contains(&each), "/{len}, may guess {may_guess}: {each} tries");
            }
        }
    }
}
