//! Hearing of changes as they happen.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use netlink_packet_core::NLMSG_OVERRUN;
use overlay_wire::{MacAddr, Vni};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::codec::{self, rtm};
use crate::neighbour::{NDMSG_LEN, nda};
use crate::object::sealed::Decode;
use crate::socket::{BUFFER_SIZE, Cut, Messages, RECEIVE_SIZE, connect, receive, set_buffers};
use crate::{
    Address, Error, Fdb, Ifindex, Link, Namespace, Neighbour, NeighbourState, Nexthop, Route, Rule,
};

/// What to hear of: a set of multicast groups (`RTNLGRP_*` in `linux/rtnetlink.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Groups(u64);

impl Groups {
    /// Devices.
    pub const LINK: Self = Self(1 << 1);
    /// Neighbours, FDB entries, and the kernel's questions for either.
    pub const NEIGHBOUR: Self = Self(1 << 3);
    /// Addresses of both families.
    pub const ADDRESS: Self = Self(1 << 5 | 1 << 9);
    /// Routes of both families.
    pub const ROUTE: Self = Self(1 << 7 | 1 << 11);
    /// Policy routing rules of both families.
    pub const RULE: Self = Self(1 << 8 | 1 << 19);
    /// Nexthop objects (Linux 5.3 and later; nothing on older kernels).
    pub const NEXTHOP: Self = Self(1 << 32);
    /// All of these.
    pub const ALL: Self = Self(
        Self::LINK.0
            | Self::NEIGHBOUR.0
            | Self::ADDRESS.0
            | Self::ROUTE.0
            | Self::RULE.0
            | Self::NEXTHOP.0,
    );

    fn numbers(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |bit| self.0 & (1 << bit) != 0)
    }
}

impl BitOr for Groups {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whether an object is there or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It was made or altered; the object is as it is now.
    New,
    /// It was removed; the object is as it was.
    Gone,
}

/// The kernel asks who has an address: user space may answer by making the entry.
///
/// VXLAN devices with `l2miss` or `l3miss` send these, and devices with `app_solicit` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Miss {
    /// Which VTEP has this MAC address?
    L2 {
        /// The device that asks.
        dev: Ifindex,
        /// The MAC address.
        lladdr: MacAddr,
        /// The network it is in, where the kernel says so.
        vni: Option<Vni>,
    },
    /// Which MAC address has this IP address?
    L3 {
        /// The device that asks.
        dev: Ifindex,
        /// The IP address.
        dst: IpAddr,
        /// How sure the kernel is of it so far.
        state: NeighbourState,
    },
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// To a device.
    Link(Change, Box<Link>),
    /// To an address.
    Address(Change, Address),
    /// To a neighbour.
    Neighbour(Change, Neighbour),
    /// To an FDB entry.
    Fdb(Change, Fdb),
    /// To a route.
    Route(Change, Route),
    /// To a rule.
    Rule(Change, Box<Rule>),
    /// To a nexthop object.
    Nexthop(Change, Nexthop),
    /// The kernel asks for an address.
    Miss(Miss),
    /// Events came faster than they were read, and some are lost: list again whatever depends on
    /// them. The monitor goes on.
    Overrun,
    /// A message of this type, which this version does not know or cannot read.
    Unknown(u16),
}

/// A blocking socket that hears of changes.
///
/// Open it before the first listing: whatever changes after the listing then shows as an event.
pub struct Monitor {
    socket: netlink_sys::Socket,
    buffer: Box<[u8]>,
    events: VecDeque<Event>,
}

impl Monitor {
    /// Opens a monitor in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Io`] when the operating system gives none.
    ///
    /// # Privileges
    /// None.
    pub fn open(groups: Groups) -> Result<Self, Error> {
        let socket = connect()?;
        socket
            .set_non_blocking(true)
            .map_err(|e| Error::io("set a netlink socket's options", e))?;
        set_buffers(&socket, BUFFER_SIZE)?;
        for group in groups.numbers() {
            match socket.add_membership(group) {
                Ok(()) => {}
                // An older kernel has no nexthop objects and so no such group.
                Err(error)
                    if Groups(1 << group) == Groups::NEXTHOP
                        && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
                Err(error) => return Err(Error::io("join a netlink multicast group", error)),
            }
        }
        Ok(Self {
            socket,
            buffer: vec![0; RECEIVE_SIZE].into_boxed_slice(),
            events: VecDeque::new(),
        })
    }

    /// Opens a monitor in another network namespace.
    ///
    /// # Errors
    /// [`Error::Namespace`] when it cannot be entered; else as [`open`](Self::open).
    ///
    /// # Privileges
    /// As [`Namespace::run`].
    pub fn open_in(namespace: &Namespace, groups: Groups) -> Result<Self, Error> {
        namespace.run(|| Self::open(groups))?
    }

    /// The next event, waited for at most `timeout`, or for ever if that is `None`. `Ok(None)` when
    /// the time is up.
    ///
    /// # Errors
    /// [`Error::Io`] when the socket itself fails. An overrun is an event, not an error.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let left = match deadline {
                None => None,
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) => Some(Timespec::try_from(left).unwrap_or_default()),
                    None => return Ok(None),
                },
            };
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::io("wait for netlink events", errno.into())),
            }
        }
    }

    /// The next event that is already there.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>, Error> {
        const WHAT: &str = "hear of changes";
        while self.events.is_empty() {
            match receive(&self.socket, &mut self.buffer, WHAT) {
                Ok(len) => {
                    self.events.extend(read_events(&self.buffer[..len]));
                }
                Err(Error::Timeout { .. }) => return Ok(None),
                // A datagram too large to be read is as lost as one that was dropped.
                Err(Error::Overrun { .. } | Error::Malformed { .. }) => {
                    self.events.push_back(Event::Overrun);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.events.pop_front())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("waiting", &self.events.len()).finish_non_exhaustive()
    }
}

/// The events in a datagram.
pub(crate) fn read_events(datagram: &[u8]) -> impl Iterator<Item = Event> {
    Messages::new(datagram).filter_map(|message| match message {
        Ok(message) if message.kind < NLMSG_OVERRUN => None,
        Ok(message) if message.kind > NLMSG_OVERRUN => Some(read_event(message.kind, message.body)),
        // Behind a message that is cut short there may be others.
        Ok(_) | Err(Cut) => Some(Event::Overrun),
    })
}

/// The event in one message.
fn read_event(kind: u16, body: &[u8]) -> Event {
    let bridge = codec::u8_at(body, 0) == Some(codec::AF_BRIDGE);
    let new = |is_new| if is_new { Change::New } else { Change::Gone };
    let event =
        match kind {
            rtm::NEWLINK | rtm::DELLINK => Link::decode(body)
                .map(|link| Event::Link(new(kind == rtm::NEWLINK), Box::new(link))),
            rtm::NEWADDR | rtm::DELADDR => Address::decode(body)
                .map(|address| Event::Address(new(kind == rtm::NEWADDR), address)),
            rtm::NEWNEIGH | rtm::DELNEIGH if bridge => {
                Fdb::decode(body).map(|fdb| Event::Fdb(new(kind == rtm::NEWNEIGH), fdb))
            }
            rtm::NEWNEIGH | rtm::DELNEIGH => Neighbour::decode(body)
                .map(|neighbour| Event::Neighbour(new(kind == rtm::NEWNEIGH), neighbour)),
            rtm::NEWROUTE | rtm::DELROUTE => {
                Route::decode(body).map(|route| Event::Route(new(kind == rtm::NEWROUTE), route))
            }
            rtm::NEWRULE | rtm::DELRULE => Rule::decode(body)
                .map(|rule| Event::Rule(new(kind == rtm::NEWRULE), Box::new(rule))),
            rtm::NEWNEXTHOP | rtm::DELNEXTHOP => Nexthop::decode(body)
                .map(|nexthop| Event::Nexthop(new(kind == rtm::NEWNEXTHOP), nexthop)),
            rtm::GETNEIGH => read_miss(body).map(Event::Miss),
            _ => None,
        };
    event.unwrap_or(Event::Unknown(kind))
}

fn read_miss(body: &[u8]) -> Option<Miss> {
    let dev = Ifindex(codec::u32_at(body, 4)?);
    let state = NeighbourState(codec::u16_at(body, 8)?);
    let (mut lladdr, mut dst, mut vni) = (None, None, None);
    for (kind, value) in codec::attributes(body.get(NDMSG_LEN..)?) {
        match kind {
            nda::LLADDR => lladdr = codec::mac(value),
            nda::DST => dst = codec::ip(value),
            nda::VNI => {
                vni = codec::u32_at(value, 0).filter(|v| *v != 0).and_then(|v| Vni::new(v).ok())
            }
            _ => {}
        }
    }
    match (dst, lladdr) {
        (Some(dst), _) => Some(Miss::L3 { dev, dst, state }),
        (None, Some(lladdr)) => Some(Miss::L2 { dev, lladdr, vni }),
        (None, None) => None,
    }
}
