//! Deliberate mistakes of stores and nodes, to see that the checker finds them.

use std::time::Duration;

use overlay_lease::{Answer, Attributes, Memory, Operation, Reply, Update};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    None,
    /// The store does not look at what a writer saw.
    NoFence,
    /// The store lets leases go too early.
    EarlyExpiry,
    /// The store never lets leases go.
    NoExpiry,
    /// The store gives subnets that somebody has to somebody else.
    NoExclusion,
    /// The store says that it renewed, and did not.
    RenewsInWordsOnly,
    /// The watch keeps some updates to itself.
    LosesUpdates,
    /// A node takes subnets that somebody has.
    IgnoresTaken,
    /// A node takes a failed write for a done one.
    IgnoresFence,
    /// A node takes no answer for a good one.
    IgnoresSilence,
    /// A node thinks that it holds a lease for longer than it does.
    BelievesTooLong,
    /// A node gives its lease back by a single write.
    RemovesAtOnce,
}

impl Fault {
    /// As which answer a node takes something that it ought to ask the store, if it does.
    pub(crate) fn before_asking(self, operation: Operation) -> Result<Operation, Answer> {
        match operation {
            Operation::Update { lease, attributes, .. }
                if self == Self::RemovesAtOnce && attributes == Attributes::default() =>
            {
                Err(Answer::Lease(lease))
            }
            operation => Ok(operation),
        }
    }

    /// As what a node takes a reply.
    pub(crate) fn at_node(self, reply: Reply) -> Reply {
        match (self, reply) {
            (Self::IgnoresTaken, Ok(Answer::Taken(lease))) => Ok(Answer::Lease(lease)),
            (Self::IgnoresFence, Ok(Answer::Fenced(_))) => Ok(Answer::Done),
            (Self::IgnoresSilence, Err(_)) => Ok(Answer::Done),
            (_, reply) => reply,
        }
    }

    /// Until when a node thinks that it holds a lease.
    pub(crate) fn believes(self, until: Duration) -> Duration {
        match self {
            Self::BelievesTooLong => until.saturating_add(Duration::from_secs(4)),
            _ => until,
        }
    }

    /// How much too early the store lets leases go.
    pub(crate) fn hurry(self) -> Duration {
        match self {
            Self::EarlyExpiry => Duration::from_secs(5),
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn on_watch(self, update: Update) -> Option<Update> {
        match self {
            Self::LosesUpdates if update.revision().get().is_multiple_of(16) => None,
            _ => Some(update),
        }
    }

    /// How the store does what it is asked.
    pub(crate) fn at_store(
        self,
        memory: &mut Memory,
        now: Duration,
        operation: Operation,
    ) -> Reply {
        let reply = match operation.clone() {
            Operation::Renew(lease) if self == Self::RenewsInWordsOnly => {
                Answer::to_write(memory.remaining(now, &lease).map(|_| Answer::Done))
            }
            Operation::Standing(node) => Ok(Answer::Standing(memory.standing(&node))),
            Operation::Tenants => Ok(Answer::Tenants(memory.tenants().collect())),
            Operation::Snapshot => Ok(Answer::Snapshot(memory.snapshot())),
            Operation::Create(claim) => Answer::to_create(memory.create(now, &claim)),
            Operation::Update { lease, attributes, ttl } => {
                Answer::to_write(memory.update(now, &lease, &attributes, ttl).map(Answer::Lease))
            }
            Operation::Renew(lease) => {
                Answer::to_write(memory.renew(now, &lease).map(|()| Answer::Done))
            }
            Operation::Remove(lease) => {
                Answer::to_write(memory.remove(&lease).map(|()| Answer::Done))
            }
        };
        match (self, reply, operation) {
            (Self::NoFence, Ok(Answer::Fenced(Some(current))), operation) => {
                let operation = match operation {
                    Operation::Update { attributes, ttl, .. } => {
                        Operation::Update { lease: current, attributes, ttl }
                    }
                    Operation::Remove(_) => Operation::Remove(current),
                    _ => Operation::Renew(current),
                };
                self.at_store(memory, now, operation)
            }
            (Self::NoExclusion, Ok(Answer::Taken(current)), Operation::Create(claim))
                if current.node != claim.node =>
            {
                match memory.remove(&current) {
                    Ok(()) => Answer::to_create(memory.create(now, &claim)),
                    Err(_) => Ok(Answer::Taken(current)),
                }
            }
            (_, reply, _) => reply,
        }
    }
}
