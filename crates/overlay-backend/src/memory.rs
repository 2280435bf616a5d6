//! A kernel in memory.

mod address;
mod failure;
mod fdb;
mod fib;
mod link;
mod neighbour;
mod nexthop;
mod refusal;
mod route;
mod rule;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod vxlan;

use std::collections::{BTreeMap, BTreeSet};

use overlay_netlink::{
    Address, Batch, Error, Fdb, IfName, Ifindex, KernelError, Link, MissingKind, Neighbour,
    Nexthop, Object, Protocol, Request, Route, Rule,
};

use self::failure::What;
pub use self::failure::{Fault, Listing};
use self::refusal::{ENODEV, EOPNOTSUPP, Refusal};
pub use self::snapshot::Snapshot;
use self::state::State;
use crate::{Executed, Kernel};

/// A [`Kernel`] in memory, for tests without privileges: a network namespace in which only
/// `lo` is, and is up.
///
/// It keeps the keys, refuses what Linux refuses with the same errno, and loses what Linux loses
/// when a device goes down, changes its MAC address or is deleted; tests run the same requests on
/// Linux 6.18 and compare. What a test wants to happen behind the back of the code under test is
/// done by [`apply`](Self::apply), [`flap`](Self::flap) and [`inject`](Self::inject).
///
/// Not in it: packets, time (duplicate address detection is over at once, nothing ages), other
/// namespaces (a device that is moved to one is gone), the contents of the local table, what IPv6
/// and bridges do for multicast, and tunnels other than VXLAN beyond creation and deletion.
///
/// ```
/// use overlay_backend::{Kernel, MemoryKernel};
/// use overlay_netlink::{Link, LinkKind, Request, Verb, Vxlan};
/// use overlay_wire::Vni;
///
/// let mut kernel = MemoryKernel::new();
/// let vxlan = Vxlan::new(Vni::new(1).unwrap());
/// let link = Link::new("vtep".parse().unwrap(), LinkKind::Vxlan(Box::new(vxlan)));
/// let add = Request::new(Verb::Add, link);
/// let executed = kernel.execute(&mut [add.clone(), add].into_iter()).unwrap();
/// let [(1, error)] = &executed.errors[..] else { panic!() };
/// assert!(error.is_exists());
/// assert_eq!(kernel.links().unwrap().len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct MemoryKernel {
    state: State,
    failures: Vec<Fault>,
    counters: Counters,
}

/// How often a [`MemoryKernel`] was asked for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Calls of [`Kernel::execute`].
    pub executions: usize,
    /// Requests in them.
    pub requests: usize,
    /// Those of the requests that had no effect.
    pub refused: usize,
    /// Listings.
    pub listings: usize,
}

impl Counters {
    /// The requests that had an effect.
    #[must_use]
    pub const fn writes(&self) -> usize {
        self.requests - self.refused
    }
}

impl Default for MemoryKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryKernel {
    /// A namespace with `lo`.
    #[must_use]
    pub fn new() -> Self {
        let mut state = State {
            devices: BTreeMap::new(),
            names: BTreeMap::new(),
            next_index: 1,
            next_mac: 0,
            next_serial: 0,
            fdb: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            nexthops: BTreeMap::new(),
            groups: BTreeSet::new(),
            fib: fib::Fib::default(),
            rules: Vec::new(),
            absent_kinds: BTreeSet::new(),
            has_nexthops: true,
        };
        state.add_loopback();
        state.add_default_rules();
        Self { state, failures: Vec::new(), counters: Counters::default() }
    }

    /// The same, but as a kernel that lacks a kind of device, by its name: `vxlan`, `ipip`.
    #[must_use]
    pub fn without_kind(mut self, kind: &str) -> Self {
        self.state.absent_kinds.insert(kind.to_owned());
        self
    }

    /// The same, but as a kernel that has no nexthop objects (before Linux 5.3).
    #[must_use]
    pub const fn without_nexthops(mut self) -> Self {
        self.state.has_nexthops = false;
        self
    }

    /// Carries out a request for somebody else: no failure strikes it and it is not counted.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn apply(&mut self, request: &Request) -> Result<(), Error> {
        Batch::new().push(request.verb, &request.object)?;
        self.state.apply(request).map_err(|refusal| self.refused(request, refusal))
    }

    /// The number of a device.
    #[must_use]
    pub fn ifindex(&self, name: &str) -> Option<Ifindex> {
        self.state.names.get(&IfName::new(name).ok()?).copied()
    }

    /// Sets a device up or down, with all that the kernel does then.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be up.
    pub fn set_up(&mut self, name: &str, up: bool) -> Result<(), Error> {
        let refused =
            |refusal: Refusal| Error::refused(format!("ip link set dev {name}"), refusal.errno);
        let index = self.ifindex(name).ok_or_else(|| refused(ENODEV))?;
        if up {
            self.state.set_link_up(index).map_err(refused)
        } else {
            self.state.set_link_down(index);
            Ok(())
        }
    }

    /// Sets a device down and up again.
    ///
    /// # Errors
    /// As [`set_up`](Self::set_up).
    pub fn flap(&mut self, name: &str) -> Result<(), Error> {
        self.set_up(name, false)?;
        self.set_up(name, true)
    }

    /// Everything there is.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.state)
    }

    /// Lets something go wrong. Of several failures that could strike, the first injected does.
    pub fn inject(&mut self, failure: Fault) {
        self.failures.push(failure);
    }

    /// How many failures have not struck yet.
    #[must_use]
    pub const fn failures_left(&self) -> usize {
        self.failures.len()
    }

    /// How often it was asked for something since it was made or
    /// [`reset_counters`](Self::reset_counters).
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Counts from zero again.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    fn refused(&self, request: &Request, refusal: Refusal) -> Error {
        let mut name =
            |dev: Ifindex| self.state.devices.get(&dev).map(|device| device.link.name).ok_or(());
        let command = match request.object.try_map_dev(&mut name) {
            Ok(object) => object.command(request.verb),
            Err(()) => request.to_string(),
        };
        if let Object::Link(link) = &request.object
            && self.state.absent_kinds.contains(link.kind.name())
            && refusal.errno == EOPNOTSUPP.errno
            && let Some(missing) = MissingKind::of(&link.kind, command.clone())
        {
            return Error::from(Box::new(missing));
        }
        let mut error = KernelError::new(command, refusal.errno);
        error.message = refusal.message.map(str::to_owned);
        Error::from(Box::new(error))
    }

    /// Takes the first failure that strikes. All are asked, since all count.
    fn strike(&mut self, mut strikes: impl FnMut(&mut Fault) -> bool) -> Option<What> {
        let mut first = None;
        for (at, failure) in self.failures.iter_mut().enumerate() {
            if strikes(failure) && first.is_none() {
                first = Some(at);
            }
        }
        first.map(|at| self.failures.remove(at).what)
    }

    fn meanwhile(&mut self, requests: &[Request]) {
        for request in requests {
            // Whether somebody else gets what they want is their affair.
            let _ = self.state.apply(request);
        }
    }

    /// Lets a failure strike a listing, before and after it is taken.
    fn list<T>(
        &mut self,
        listing: Listing,
        list: impl FnOnce(&State) -> Result<T, Refusal>,
    ) -> Result<T, Error> {
        self.counters.listings += 1;
        let what = self.strike(|failure| failure.strikes_listing(listing));
        if let Some(error) = what.as_ref().and_then(|what| what.of_listing(listing)) {
            return Err(error);
        }
        let listed = list(&self.state)
            .map_err(|refusal| Error::refused(format!("list {}", listing.name()), refusal.errno));
        if let Some(What::Meanwhile(requests)) = what {
            self.meanwhile(&requests);
        }
        listed
    }
}

impl Kernel for MemoryKernel {
    fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.list(Listing::Links, |state| {
            Ok(state.devices.values().map(|device| device.link.clone()).collect())
        })
    }

    fn addresses(&mut self, dev: Option<Ifindex>) -> Result<Vec<Address>, Error> {
        self.list(Listing::Addresses, |state| {
            let of = |dev| state.list_addresses(dev);
            let lists: Result<Vec<_>, _> = state.chosen(dev).into_iter().map(of).collect();
            Ok(lists?.concat())
        })
    }

    fn fdb(&mut self, dev: Ifindex) -> Result<Vec<Fdb>, Error> {
        self.list(Listing::Fdb, |state| Ok(state.list_fdb(dev)))
    }

    fn neighbours(&mut self, dev: Option<Ifindex>) -> Result<Vec<Neighbour>, Error> {
        self.list(Listing::Neighbours, |state| {
            Ok(state.chosen(dev).into_iter().flat_map(|dev| state.list_neighbours(dev)).collect())
        })
    }

    fn nexthops(&mut self) -> Result<Vec<Nexthop>, Error> {
        self.list(Listing::Nexthops, |state| match state.has_nexthops {
            true => Ok(state.nexthops.values().cloned().collect()),
            false => Err(EOPNOTSUPP),
        })
    }

    fn routes(&mut self, protocol: Protocol) -> Result<Vec<Route>, Error> {
        self.list(Listing::Routes, |state| {
            let all = state.list_routes().filter(|route| route.protocol == protocol);
            let (ipv4, ipv6): (Vec<_>, Vec<_>) = all.partition(|route| route.dst.addr().is_ipv4());
            Ok([ipv4, ipv6].concat())
        })
    }

    fn rules(&mut self, protocol: Protocol) -> Result<Vec<Rule>, Error> {
        self.list(Listing::Rules, |state| {
            Ok(state.rules.iter().filter(|rule| rule.protocol == protocol).cloned().collect())
        })
    }

    fn execute(&mut self, requests: &mut dyn Iterator<Item = Request>) -> Result<Executed, Error> {
        const OPERATION: &str = "change the configuration";
        self.counters.executions += 1;
        let mut executed = Executed::default();
        let mut encoder = Batch::new();
        let mut answers_lost = false;
        for (index, request) in requests.enumerate() {
            executed.requests += 1;
            self.counters.requests += 1;
            // What netlink cannot say is known before anything is sent.
            encoder.clear();
            if let Err(error) = encoder.push(request.verb, &request.object) {
                self.counters.refused += 1;
                executed.errors.push((index, error));
                continue;
            }
            executed.sends = 1;
            let result = match self.strike(|failure| failure.strikes_request(&request)) {
                Some(What::Refuse(errno)) => Err(Refusal { errno, message: None }),
                Some(What::TimeOut | What::Interrupt) => {
                    self.counters.refused += 1;
                    return Err(Error::Timeout { operation: OPERATION });
                }
                Some(What::LoseAnswers) => {
                    answers_lost = true;
                    self.state.apply(&request)
                }
                Some(What::Meanwhile(others)) => {
                    self.meanwhile(&others);
                    self.state.apply(&request)
                }
                None => self.state.apply(&request),
            };
            if let Err(refusal) = result {
                self.counters.refused += 1;
                executed.errors.push((index, self.refused(&request, refusal)));
            }
        }
        if answers_lost {
            return Err(Error::Overrun { operation: OPERATION });
        }
        Ok(executed)
    }
}
