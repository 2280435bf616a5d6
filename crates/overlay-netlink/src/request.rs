//! A change of the kernel's state as a plain value.

use std::fmt;

use crate::object::{KernelObject, sealed};
use crate::{Address, DeviceRef, Error, Fdb, Ifindex, Link, Neighbour, Nexthop, Route, Rule};

/// What to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Create it; fails with EEXIST when there is one with the same key.
    Add,
    /// Create it, or put it in the place of the one with the same key without a gap.
    Replace,
    /// Create it behind those with the same key: another remote of an FDB entry, another route of
    /// the same destination.
    Append,
    /// Alter one that exists; fails with ENOENT when there is none.
    Change,
    /// Remove it; fails with a [`not found`](Error::is_not_found) error when there is none.
    Delete,
}

impl Verb {
    /// `NLM_F_REQUEST` and the modifiers that go with the verb.
    pub(crate) const fn flags(self) -> u16 {
        use netlink_packet_core::{
            NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
        };
        NLM_F_REQUEST
            | match self {
                Self::Add => NLM_F_CREATE | NLM_F_EXCL,
                Self::Replace => NLM_F_CREATE | NLM_F_REPLACE,
                Self::Append => NLM_F_CREATE | NLM_F_APPEND,
                Self::Change => NLM_F_REPLACE,
                Self::Delete => 0,
            }
    }

    /// iproute2's word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Change => "change",
            Self::Delete => "del",
        }
    }
}

/// Any kernel object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Object<D = Ifindex> {
    /// A device.
    Link(Box<Link<D>>),
    /// An address of a device.
    Address(Address<D>),
    /// An entry of a forwarding database.
    Fdb(Fdb<D>),
    /// A neighbour.
    Neighbour(Neighbour<D>),
    /// A nexthop object.
    Nexthop(Nexthop<D>),
    /// A route.
    Route(Route<D>),
    /// A policy routing rule.
    Rule(Box<Rule>),
}

impl<D: DeviceRef> Object<D> {
    /// The same object with its devices named another way.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Object<E>, X> {
        Ok(match self {
            Self::Link(o) => Object::Link(Box::new(o.try_map_dev(f)?)),
            Self::Address(o) => Object::Address(o.try_map_dev(f)?),
            Self::Fdb(o) => Object::Fdb(o.try_map_dev(f)?),
            Self::Neighbour(o) => Object::Neighbour(o.try_map_dev(f)?),
            Self::Nexthop(o) => Object::Nexthop(o.try_map_dev(f)?),
            Self::Route(o) => Object::Route(o.try_map_dev(f)?),
            Self::Rule(o) => Object::Rule(o.clone()),
        })
    }

    /// The iproute2 command that does `verb` to this object.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        match self {
            Self::Link(o) => o.command(verb),
            Self::Address(o) => o.command(verb),
            Self::Fdb(o) => o.command(verb),
            Self::Neighbour(o) => o.command(verb),
            Self::Nexthop(o) => o.command(verb),
            Self::Route(o) => o.command(verb),
            Self::Rule(o) => o.command(verb),
        }
    }
}

impl KernelObject for Object {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl sealed::Encode for Object {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        match self {
            Self::Link(o) => o.encode(verb, buffer),
            Self::Address(o) => o.encode(verb, buffer),
            Self::Fdb(o) => o.encode(verb, buffer),
            Self::Neighbour(o) => o.encode(verb, buffer),
            Self::Nexthop(o) => o.encode(verb, buffer),
            Self::Route(o) => o.encode(verb, buffer),
            Self::Rule(o) => o.encode(verb, buffer),
        }
    }
}

macro_rules! from_object {
    ($($kind:ident),*) => {$(
        impl<D> From<$kind<D>> for Object<D> {
            fn from(object: $kind<D>) -> Self {
                Self::$kind(object)
            }
        }
    )*};
}

from_object!(Address, Fdb, Neighbour, Nexthop, Route);

impl<D> From<Link<D>> for Object<D> {
    fn from(link: Link<D>) -> Self {
        Self::Link(Box::new(link))
    }
}

impl<D> From<Rule> for Object<D> {
    fn from(rule: Rule) -> Self {
        Self::Rule(Box::new(rule))
    }
}

/// A verb and the object it is done to. Prints as the iproute2 command that does the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct Request<D = Ifindex> {
    /// What to do.
    pub verb: Verb,
    /// To what.
    pub object: Object<D>,
}

impl<D> Request<D> {
    /// `verb` done to `object`.
    pub fn new(verb: Verb, object: impl Into<Object<D>>) -> Self {
        Self { verb, object: object.into() }
    }
}

impl<D: DeviceRef> fmt::Display for Request<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object.command(self.verb))
    }
}
