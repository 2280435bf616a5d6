//! A lease: which subnets a node has, and what it tells its peers about itself.

use std::fmt;
use std::time::Duration;

use crate::attributes::Attributes;
use crate::family::Subnets;
use crate::name::NodeId;

/// A moment in the history of a store: each write has a later one than all writes before it.
///
/// Revisions of one network can be compared with each other, and not counted with: there may be any number of others
/// between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(u64);

impl Revision {
    /// Before the first write.
    pub const ZERO: Self = Self(0);

    /// The revision that the store counts as `number`.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// How the store counts it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Subnets, who has them, and how that node is reached.
///
/// Within a network no two leases overlap, and a node has at most one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Lease {
    /// The subnets, by which the lease is known for as long as it exists.
    pub subnets: Subnets,
    /// The node that holds it. `None` where the store does not say: Flannel's nodes tell no identity, and a reservation
    /// may be there to keep everybody away.
    pub node: Option<NodeId>,
    /// What the node tells its peers, changed in place.
    pub attributes: Attributes,
    /// How long it lives after it was made, updated or renewed last. `None` for a reservation, which stays until it is
    /// removed.
    pub ttl: Option<Duration>,
    /// When it was made. Subnets that were leased again have a later one.
    pub created: Revision,
    /// When it was made or changed last. Renewing is no change.
    pub revision: Revision,
}

impl Lease {
    /// A lease as a store has it.
    #[must_use]
    pub const fn new(
        subnets: Subnets,
        node: Option<NodeId>,
        attributes: Attributes,
        ttl: Option<Duration>,
        created: Revision,
        revision: Revision,
    ) -> Self {
        Self { subnets, node, attributes, ttl, created, revision }
    }

    /// Whether it is `node` that holds it.
    #[must_use]
    pub fn is_of(&self, node: &NodeId) -> bool {
        self.node.as_ref() == Some(node)
    }

    /// Whether it stays without being renewed.
    #[must_use]
    pub const fn is_reservation(&self) -> bool {
        self.ttl.is_none()
    }

    /// Whether peers can reach its node. Not so a reservation that nobody has taken up yet.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        !self.attributes.endpoints.is_empty()
    }
}
