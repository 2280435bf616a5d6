//! Turning a request's bytes back into the command they stand for, for error texts.
//!
//! Errors are rare and batches are long: nothing is kept per request, the bytes say it all.

use std::convert::Infallible;
use std::fmt;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use crate::codec::{self, HEADER_LEN, rtm};
use crate::object::sealed::Decode;
use crate::{
    Address, BpfFilter, Clsact, DeviceRef, Fdb, IfName, Ifindex, Link, LinkKind, Neighbour,
    Nexthop, Object, Route, Rule, Verb,
};

/// A device by its name, or by its number where the name is not known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Shown {
    Name(IfName),
    Index(Ifindex),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Index(index) => index.fmt(f),
        }
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl DeviceRef for Shown {
    fn is_none(&self) -> bool {
        matches!(self, Self::Index(index) if index.is_none())
    }
}

/// The iproute2 command that a request stands for.
pub(crate) fn describe(message: &[u8], mut name: impl FnMut(Ifindex) -> Option<IfName>) -> String {
    let kind = codec::u16_at(message, 4).unwrap_or_default();
    let flags = codec::u16_at(message, 6).unwrap_or_default();
    let body = message.get(HEADER_LEN..).unwrap_or_default();
    let verb = verb(kind, flags);
    let mut show = |dev: Ifindex| {
        let name = if dev.is_none() { None } else { name(dev) };
        Ok::<_, Infallible>(name.map_or(Shown::Index(dev), Shown::Name))
    };
    let command = match kind {
        rtm::NEWQDISC | rtm::DELQDISC => {
            Clsact::decode(body).map(|o| o.try_map_dev(&mut show).map(|o| o.command(verb)))
        }
        rtm::NEWTFILTER | rtm::DELTFILTER => {
            BpfFilter::decode(body).map(|o| o.try_map_dev(&mut show).map(|o| o.command(verb)))
        }
        _ => decode(kind, body).map(|o| o.try_map_dev(&mut show).map(|o| o.command(verb))),
    };
    match command {
        Some(Ok(command)) => command,
        Some(Err(never)) => match never {},
        None => format!("netlink request of type {kind}"),
    }
}

/// The kind of the device that a request is to make.
pub(crate) fn link_kind(message: &[u8]) -> Option<LinkKind> {
    if codec::u16_at(message, 4) != Some(rtm::NEWLINK) {
        return None;
    }
    Link::decode(message.get(HEADER_LEN..)?).map(|link| link.kind)
}

fn decode(kind: u16, body: &[u8]) -> Option<Object> {
    let bridge = codec::u8_at(body, 0)? == codec::AF_BRIDGE;
    Some(match kind {
        rtm::NEWLINK | rtm::SETLINK | rtm::DELLINK => Link::decode(body)?.into(),
        rtm::NEWADDR | rtm::DELADDR => Address::decode(body)?.into(),
        rtm::NEWNEIGH | rtm::DELNEIGH if bridge => Fdb::decode(body)?.into(),
        rtm::NEWNEIGH | rtm::DELNEIGH => Neighbour::decode(body)?.into(),
        rtm::NEWNEXTHOP | rtm::DELNEXTHOP => Nexthop::decode(body)?.into(),
        rtm::NEWROUTE | rtm::DELROUTE => Route::decode(body)?.into(),
        rtm::NEWRULE | rtm::DELRULE => Rule::decode(body)?.into(),
        _ => return None,
    })
}

fn verb(kind: u16, flags: u16) -> Verb {
    const DELETES: [u16; 8] = [
        rtm::DELLINK,
        rtm::DELADDR,
        rtm::DELNEIGH,
        rtm::DELNEXTHOP,
        rtm::DELROUTE,
        rtm::DELRULE,
        rtm::DELQDISC,
        rtm::DELTFILTER,
    ];
    match flags {
        _ if DELETES.contains(&kind) => Verb::Delete,
        _ if flags & NLM_F_APPEND != 0 => Verb::Append,
        _ if flags & NLM_F_EXCL != 0 => Verb::Add,
        _ if flags & (NLM_F_CREATE | NLM_F_REPLACE) == NLM_F_CREATE | NLM_F_REPLACE => {
            Verb::Replace
        }
        _ => Verb::Change,
    }
}
