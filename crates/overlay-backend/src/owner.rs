//! Whose objects are whose.

use std::fmt;

use overlay_netlink::{Link, Object, Protocol};

/// The mark that says which kernel objects are ours: exact, readable from the kernel alone, and the
/// same after a restart.
///
/// Routes, neighbours, rules, nexthop objects and addresses carry the protocol number; devices carry
/// an alias made from it; FDB entries, which the kernel lets nobody mark, belong to whom their
/// device belongs to. Two programs on one host need two numbers.
///
/// A device whose alias somebody changes is no longer ours: it is left as it is and reported, until the
/// alias is set again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    protocol: Protocol,
}

impl Owner {
    /// The number unless another is chosen: 79, which nobody in iproute2's `rt_protos` uses.
    pub const DEFAULT_PROTOCOL: Protocol = Protocol(79);

    /// The owner marked by `protocol`.
    ///
    /// # Errors
    /// [`ReservedProtocol`] for 0 to 4, which stand for the kernel and for administrators.
    pub const fn new(protocol: Protocol) -> Result<Self, ReservedProtocol> {
        if protocol.0 > Protocol::STATIC.0 {
            Ok(Self { protocol })
        } else {
            Err(ReservedProtocol { protocol })
        }
    }

    /// The protocol number.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        self.protocol
    }

    /// The alias of the owner's devices.
    #[must_use]
    pub fn alias(self) -> String {
        format!("overlay/{}", self.protocol.0)
    }

    /// Puts the mark on an object.
    pub(crate) fn mark<D>(self, object: &mut Object<D>) {
        match object {
            Object::Link(link) => link.alias = Some(self.alias()),
            Object::Address(address) => address.protocol = self.protocol,
            Object::Neighbour(neighbour) => neighbour.protocol = self.protocol,
            Object::Nexthop(nexthop) => nexthop.protocol = self.protocol,
            Object::Route(route) => route.protocol = self.protocol,
            Object::Rule(rule) => rule.protocol = self.protocol,
            // The kernel has no mark for these; they belong to whom their device belongs to.
            Object::Fdb(_) => {}
        }
    }

    /// Whether a device carries the mark.
    pub(crate) fn owns_link<D>(self, link: &Link<D>) -> bool {
        link.alias.as_ref().is_some_and(|alias| *alias == self.alias())
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self { protocol: Self::DEFAULT_PROTOCOL }
    }
}

/// The protocol number stands for somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReservedProtocol {
    /// The number.
    pub protocol: Protocol,
}

impl fmt::Display for ReservedProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {} cannot mark an owner: choose 5 to 255", self.protocol.0)
    }
}

impl std::error::Error for ReservedProtocol {}
