//! A kernel that costs nothing, to see what the reconciler costs.

use overlay_backend::{Executed, Kernel};
use overlay_netlink::{
    Address, Error, Fdb, Ifindex, Link, Neighbour, Nexthop, Protocol, Request, Route, Rule,
};

/// A kernel that has the devices it is given and nothing else, and does what it is told without remembering it.
#[derive(Clone, Debug, Default)]
pub struct Still {
    /// Its devices.
    pub links: Vec<Link>,
    /// How many requests it was given.
    pub requests: usize,
}

impl Kernel for Still {
    fn links(&mut self) -> Result<Vec<Link>, Error> {
        Ok(self.links.clone())
    }

    fn addresses(&mut self, _: Ifindex) -> Result<Vec<Address>, Error> {
        Ok(Vec::new())
    }

    fn fdb(&mut self, _: Ifindex) -> Result<Vec<Fdb>, Error> {
        Ok(Vec::new())
    }

    fn neighbours(&mut self, _: Ifindex) -> Result<Vec<Neighbour>, Error> {
        Ok(Vec::new())
    }

    fn nexthops(&mut self) -> Result<Vec<Nexthop>, Error> {
        Ok(Vec::new())
    }

    fn routes(&mut self, _: Protocol) -> Result<Vec<Route>, Error> {
        Ok(Vec::new())
    }

    fn rules(&mut self, _: Protocol) -> Result<Vec<Rule>, Error> {
        Ok(Vec::new())
    }

    fn execute(&mut self, requests: &mut dyn Iterator<Item = Request>) -> Result<Executed, Error> {
        let count = requests.count();
        self.requests += count;
        Ok(Executed { requests: count, ..Executed::default() })
    }
}
