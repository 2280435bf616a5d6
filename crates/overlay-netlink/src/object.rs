//! What all kernel objects have in common.

use std::fmt;

use crate::{Error, Verb};

/// Something the kernel can be told about: it encodes into netlink messages and prints as the
/// iproute2 command that does the same.
///
/// Implemented for [`Link`](crate::Link), [`Address`](crate::Address),
/// [`Neighbour`](crate::Neighbour), [`Fdb`](crate::Fdb), [`Route`](crate::Route),
/// [`Rule`](crate::Rule), [`Nexthop`](crate::Nexthop) and [`Object`](crate::Object); sealed.
pub trait KernelObject: sealed::Encode + fmt::Debug {
    /// The iproute2 command that does `verb` to this object; more than one line where iproute2
    /// needs several commands.
    fn command(&self, verb: Verb) -> String;
}

/// An object that the kernel can list. Sealed.
///
/// What to list is said by the object's filter, its `Filter` type: [`LinkFilter`](crate::LinkFilter)
/// for links, and so on. The default filter lists all.
pub trait Listable: KernelObject + sealed::Decode + Clone {}

pub(crate) mod sealed {
    use super::{Error, Verb};

    pub trait Encode {
        /// Appends the messages that do `verb` to this object and returns how many they are.
        /// An error leaves `buffer` as it was.
        fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error>;
    }

    /// One dump request.
    pub struct Dump {
        pub kind: u16,
        pub header: Vec<u8>,
        /// Attributes that the kernel filters by, each of 32 bits.
        pub attributes: Vec<(u16, u32)>,
        /// A table that does not exist is an empty one.
        pub absent_is_empty: bool,
    }

    pub trait Decode: Sized {
        /// What to list; the default lists all.
        type Filter: std::fmt::Debug + Clone + Default;
        /// What is listed, for error texts.
        const WHAT: &'static str;
        /// The type of the messages that carry one object each.
        const NEW: u16;
        /// The requests that together list what `filter` asks for.
        fn dumps(filter: &Self::Filter) -> Vec<Dump>;
        /// The object in a message body; `None` when it is cut short or of a kind this crate does
        /// not model.
        fn decode(body: &[u8]) -> Option<Self>;
        /// Whether `filter` wants this object: the kernel filters too, but not everywhere.
        fn accepts(filter: &Self::Filter, object: &Self) -> bool;
    }
}
