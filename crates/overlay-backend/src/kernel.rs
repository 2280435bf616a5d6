//! The kernel as the reconciler sees it.

use overlay_netlink::{
    Address, AddressFilter, Batch, Error, Fdb, FdbFilter, Ifindex, Link, LinkFilter, Neighbour,
    NeighbourFilter, Nexthop, NexthopFilter, Protocol, Request, Route, RouteFilter, Rule,
    RuleFilter, Socket,
};

/// What the reconciler reads from and writes to: the kernel through a [`Socket`], or a
/// [`MemoryKernel`](crate::MemoryKernel) in tests.
///
/// Every listing is complete or an error; a failed one is never an empty one.
pub trait Kernel {
    /// All devices.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn links(&mut self) -> Result<Vec<Link>, Error>;

    /// The addresses of a device, or of all devices.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn addresses(&mut self, dev: Option<Ifindex>) -> Result<Vec<Address>, Error>;

    /// The FDB entries of a device.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn fdb(&mut self, dev: Ifindex) -> Result<Vec<Fdb>, Error>;

    /// The neighbours on a device, or on all devices, of both families.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn neighbours(&mut self, dev: Option<Ifindex>) -> Result<Vec<Neighbour>, Error>;

    /// All nexthop objects, whoever made them.
    ///
    /// # Errors
    /// When they cannot be listed; [`is_unsupported`](Error::is_unsupported) on a kernel that has
    /// none.
    fn nexthops(&mut self) -> Result<Vec<Nexthop>, Error>;

    /// The routes made by `protocol`, in all tables, of both families.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn routes(&mut self, protocol: Protocol) -> Result<Vec<Route>, Error>;

    /// The rules made by `protocol`, of both families.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn rules(&mut self, protocol: Protocol) -> Result<Vec<Rule>, Error>;

    /// Carries out requests in order, going on after one that fails.
    ///
    /// # Errors
    /// When the conversation breaks: which requests took effect is then unknown. Refusals of single
    /// requests are in the result.
    fn execute(&mut self, requests: &mut dyn Iterator<Item = Request>) -> Result<Executed, Error>;
}

/// What became of some requests.
#[derive(Debug, Default)]
#[allow(clippy::exhaustive_structs)]
pub struct Executed {
    /// How many there were.
    pub requests: usize,
    /// The failed ones by index, in order.
    pub errors: Vec<(usize, Error)>,
    /// How many system calls it took to send them.
    pub sends: usize,
}

impl Kernel for Socket {
    fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.list(&LinkFilter::default())
    }

    fn addresses(&mut self, dev: Option<Ifindex>) -> Result<Vec<Address>, Error> {
        self.list(&dev.map_or_else(AddressFilter::default, AddressFilter::on))
    }

    fn fdb(&mut self, dev: Ifindex) -> Result<Vec<Fdb>, Error> {
        self.list(&FdbFilter::on(dev))
    }

    fn neighbours(&mut self, dev: Option<Ifindex>) -> Result<Vec<Neighbour>, Error> {
        self.list(&dev.map_or_else(NeighbourFilter::default, NeighbourFilter::on))
    }

    fn nexthops(&mut self) -> Result<Vec<Nexthop>, Error> {
        self.list(&NexthopFilter::default())
    }

    fn routes(&mut self, protocol: Protocol) -> Result<Vec<Route>, Error> {
        self.list(&RouteFilter::made_by(protocol))
    }

    fn rules(&mut self, protocol: Protocol) -> Result<Vec<Rule>, Error> {
        self.list(&RuleFilter::made_by(protocol))
    }

    fn execute(&mut self, requests: &mut dyn Iterator<Item = Request>) -> Result<Executed, Error> {
        let mut batch = Batch::new();
        let mut executed = Executed::default();
        // The batch counts only what could be encoded.
        let mut pushed = Vec::new();
        for (index, Request { verb, object }) in requests.enumerate() {
            executed.requests += 1;
            match batch.push(verb, &object) {
                Ok(_) => pushed.push(index),
                Err(error) => executed.errors.push((index, error)),
            }
        }
        let outcome = Self::execute(self, &mut batch)?;
        executed.sends = outcome.sends();
        executed.errors.extend(outcome.into_errors().map(|(at, error)| (pushed[at], error)));
        executed.errors.sort_by_key(|(index, _)| *index);
        Ok(executed)
    }
}
