//! What a host's kernel holds, to compare it with what it holds later or elsewhere.

use std::collections::HashMap;
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use overlay_netlink::{
    Address, Error as NetlinkError, Fdb, IfName, Ifindex, Link, Listable, Neighbour,
    NeighbourState, Nexthop, Object, Route, Rule, Socket,
};

use crate::error::{Error, Result};
use crate::host::Host;

/// All that a host's kernel holds of its own accord or because it was told to: devices, addresses,
/// permanent FDB entries and neighbours, nexthop objects, routes and rules. What it learns and
/// forgets by itself is left out, and so is whether a device has a carrier.
///
/// Devices are named, so that snapshots of different hosts compare; two devices that followed each
/// other under one name differ by their [index](Link::index).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// In the order of their texts.
    objects: Vec<Object<IfName>>,
}

impl Snapshot {
    /// What is there.
    #[must_use]
    pub fn objects(&self) -> &[Object<IfName>] {
        &self.objects
    }

    /// The part of it that `keep` holds for.
    #[must_use]
    pub fn only(&self, mut keep: impl FnMut(&Object<IfName>) -> bool) -> Self {
        Self { objects: self.objects.iter().filter(|object| keep(object)).cloned().collect() }
    }

    /// The same with each object altered, for example for fields that may differ.
    #[must_use]
    pub fn map(&self, alter: impl FnMut(Object<IfName>) -> Object<IfName>) -> Self {
        Self::sorted(self.objects.iter().cloned().map(alter).collect())
    }

    /// What is only here, marked `-`, and what is only in `later`, marked `+`, one per line. Empty
    /// when they are equal.
    #[must_use]
    pub fn difference(&self, later: &Self) -> String {
        let mut text = String::new();
        let mut beside = |mark: char, here: &Self, there: &Self| {
            for object in here.objects.iter().filter(|object| !there.objects.contains(object)) {
                let _ = writeln!(text, "{mark} {object:?}");
            }
        };
        beside('-', self, later);
        beside('+', later, self);
        if text.is_empty() && self != later {
            text.push_str("the same objects, but not as often\n");
        }
        text
    }

    fn sorted(mut objects: Vec<Object<IfName>>) -> Self {
        objects.sort_by_cached_key(|object| format!("{object:?}"));
        Self { objects }
    }
}

impl Host {
    /// What the host's kernel holds now.
    ///
    /// # Errors
    ///
    /// When it cannot be listed.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.tell(take)
            .map_err(|error| Error::netlink("list what is in", self.name().to_owned(), error))
    }

    /// What the host's kernel holds once it has finished what it does by itself, such as giving a
    /// new device its link-local address.
    ///
    /// # Errors
    ///
    /// When it cannot be listed; [`Error::TimedOut`] when it does not come to rest within 5 seconds.
    pub fn settled(&self) -> Result<Snapshot> {
        const LIMIT: Duration = Duration::from_secs(5);
        const REST: Duration = Duration::from_millis(100);
        let start = Instant::now();
        let mut snapshot = self.snapshot()?;
        let mut since = Instant::now();
        while since.elapsed() < REST {
            if start.elapsed() > LIMIT {
                let object = self.name().to_owned();
                return Err(Error::TimedOut {
                    operation: "wait for rest in",
                    object,
                    after: LIMIT,
                });
            }
            thread::sleep(REST / 10);
            let next = self.snapshot()?;
            if next != snapshot {
                (snapshot, since) = (next, Instant::now());
            }
        }
        Ok(snapshot)
    }
}

fn take(socket: &mut Socket) -> Result<Snapshot, NetlinkError> {
    let links: Vec<Link> = all(socket)?;
    let names: HashMap<Ifindex, IfName> =
        links.iter().filter_map(|link| Some((link.index?, link.name))).collect();
    let mut objects: Vec<Object> = links
        .into_iter()
        .map(|mut link| {
            link.carrier = None;
            link.into()
        })
        .collect();
    objects.extend(all::<Address>(socket)?.into_iter().map(Object::from));
    let fdb = all::<Fdb>(socket)?.into_iter();
    objects.extend(fdb.filter(|fdb| lasts(fdb.state)).map(Object::from));
    let neighbours = all::<Neighbour>(socket)?.into_iter();
    objects.extend(neighbours.filter(|neighbour| lasts(neighbour.state)).map(Object::from));
    objects.extend(all::<Nexthop>(socket)?.into_iter().map(Object::from));
    objects.extend(all::<Route>(socket)?.into_iter().map(Object::from));
    objects.extend(all::<Rule>(socket)?.into_iter().map(Object::from));
    // A device that went between two listings, or one in another namespace.
    let nameless = |dev: Ifindex| IfName::new(&format!("if{}", dev.0));
    let named = objects.iter().map(|object| {
        object.try_map_dev(&mut |dev| names.get(&dev).copied().map_or_else(|| nameless(dev), Ok))
    });
    Ok(Snapshot::sorted(named.filter_map(Result::ok).collect()))
}

fn all<T: Listable>(socket: &mut Socket) -> Result<Vec<T>, NetlinkError> {
    socket.list(&T::Filter::default())
}

fn lasts(state: NeighbourState) -> bool {
    state.contains(NeighbourState::PERMANENT)
}
