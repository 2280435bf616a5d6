//! The host that is configured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use overlay_lab::{Host, connect};
use overlay_netlink::{
    Batch, Fdb, FdbFilter, IfName, Ifindex, Link, LinkFilter, LinkKind, Neighbour, NeighbourFilter,
    NeighbourState, Nexthop, NexthopFilter, Object, Protocol, Route, RouteFilter, Socket, Verb,
    Vxlan, scattered,
};
use overlay_wire::{IpVersion, Vni};

/// A host with one cable: `eth0`, 172.16.0.1/12.
pub struct Lab {
    /// The host.
    pub host: Host,
    /// A socket in it.
    pub socket: Socket,
    /// The number of its `eth0`.
    pub uplink: Ifindex,
    /// Somebody has to be at the other end, or the device does not run.
    _neighbour: Host,
}

impl Lab {
    /// The address of `eth0`, with the prefix of its link.
    pub const ADDRESS: &str = "172.16.0.1/12";
    /// The uplink.
    pub const UPLINK: &str = "eth0";
    /// The VXLAN device of [`vxlan`](Self::vxlan).
    pub const VXLAN: &str = "vx0";
    /// Who makes the routes.
    pub const PROTOCOL: Protocol = Protocol::STATIC;

    /// Makes one.
    ///
    /// # Errors
    /// When the program cannot make namespaces, most likely for want of [`overlay_lab::enter`].
    pub fn new() -> Result<Self> {
        let (host, neighbour) = (Host::new("bench")?, Host::new("neighbour")?);
        connect(&host, Self::UPLINK, &neighbour, Self::UPLINK)?;
        host.addresses(Self::UPLINK, &[Self::ADDRESS.parse()?])?;
        let mut socket = host.socket()?;
        let uplink =
            socket.link(&IfName::new(Self::UPLINK)?)?.index.context("eth0 has no number")?;
        Ok(Self { host, socket, uplink, _neighbour: neighbour })
    }

    /// Adds a VXLAN device and returns its number.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn vxlan(&mut self) -> Result<Ifindex> {
        let mut vxlan = Vxlan::new(Vni::new(1)?);
        vxlan.port = Some(8472);
        vxlan.learning = Some(false);
        vxlan.local = Some(Self::ADDRESS.parse::<ipnet::IpNet>()?.addr());
        let name = IfName::new(Self::VXLAN)?;
        self.socket.add(&Link::new(name, LinkKind::Vxlan(Box::new(vxlan))).up())?;
        self.socket.link(&name)?.index.context("vx0 has no number")
    }

    /// Does `verb` to all of `objects` and returns how long that took, encoding included.
    ///
    /// # Errors
    /// That of the first request that fails.
    pub fn execute<'o, O>(
        &mut self,
        verb: Verb,
        objects: impl IntoIterator<Item = &'o O>,
    ) -> Result<Duration>
    where
        O: overlay_netlink::KernelObject + 'o,
    {
        let start = Instant::now();
        let mut batch = Batch::new();
        for object in objects {
            batch.push(verb, object)?;
        }
        let outcome = self.socket.execute(&mut batch)?;
        let time = start.elapsed();
        outcome.into_result()?;
        Ok(time)
    }

    /// The IPv4 routes that were not there in the beginning, in order of their prefixes.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let filter = RouteFilter::table(overlay_netlink::table::MAIN).family(IpVersion::V4);
        let mut routes: Vec<Route> = self.socket.list(&filter)?;
        routes.retain(|route| route.protocol != Protocol::KERNEL);
        routes.sort_by_key(|route| route.dst);
        Ok(routes)
    }

    /// Fails unless these are the routes that are there, in order of their prefixes.
    ///
    /// # Errors
    /// When they are not.
    pub fn expect_routes(&mut self, expected: &[Route]) -> Result<()> {
        let routes = self.routes()?;
        ensure!(routes.len() == expected.len(), "{} routes, not {}", routes.len(), expected.len());
        let wrong = routes.iter().zip(expected).find(|(route, expected)| route != expected);
        ensure!(wrong.is_none(), "not as it should be: {wrong:?}");
        Ok(())
    }

    /// Fails unless `dev` has as many remotes and permanent neighbours and there are as many routes.
    ///
    /// # Errors
    /// When they are not as many.
    pub fn expect_peers(&mut self, dev: Ifindex, count: usize) -> Result<()> {
        let fdb: Vec<Fdb> = self.socket.list(&FdbFilter::on(dev))?;
        let neighbours: Vec<Neighbour> = self.socket.list(&NeighbourFilter::on(dev))?;
        let found = [
            fdb.iter().filter(|entry| entry.dst.is_some()).count(),
            neighbours.iter().filter(|n| n.state.contains(NeighbourState::PERMANENT)).count(),
            self.routes()?.len(),
        ];
        ensure!(found == [count; 3], "{found:?} FDB entries, neighbours and routes, not {count}");
        Ok(())
    }

    /// Takes everything away that was not there in the beginning.
    ///
    /// # Errors
    /// When it cannot.
    pub fn clean(&mut self) -> Result<()> {
        let links: Vec<Link> = self.socket.list(&LinkFilter::default())?;
        for link in links.iter().filter(|link| matches!(link.kind, LinkKind::Vxlan(_))) {
            self.socket.delete(&Link::named(link.name))?;
        }
        let routes: Vec<Object> = self.routes()?.into_iter().map(Object::from).collect();
        self.execute(Verb::Delete, scattered(routes.len()).map(|index| &routes[index]))?;
        let nexthops: Vec<Nexthop> = self.socket.list(&NexthopFilter::default())?;
        self.execute(Verb::Delete, &nexthops)?;
        // What was deleted is freed a little later, by whichever processor has time.
        std::thread::sleep(Duration::from_millis(if crate::smoke() { 0 } else { 100 }));
        Ok(())
    }
}
