//! A tunnel whose peers are reached as the routing table has it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use overlay_netlink::{Change, Event, IfName, Ifindex, Monitor, Route, RouteQuery, Socket, Via};
use overlay_wire::MacAddr;

use super::{Remote, Tunnel, TunnelOptions};
use crate::error::Error;

/// A tunnel between devices known by their names, which asks the kernel how its peers are reached.
#[derive(Debug)]
pub struct Routed {
    tunnel: Tunnel,
    device: Found,
    underlay: Found,
    netlink: Mutex<Socket>,
    /// The other devices that peers are reached by.
    elsewhere: Mutex<HashSet<Ifindex>>,
}

/// A device as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    name: IfName,
    index: Ifindex,
    address: Option<MacAddr>,
}

impl Found {
    fn look(netlink: &mut Socket, name: IfName) -> Result<Self, Error> {
        let link = netlink.link(&name)?;
        Ok(Self { name, index: link.index.unwrap_or_default(), address: link.address })
    }

    fn is_still_there(&self, netlink: &mut Socket) -> bool {
        Self::look(netlink, self.name).is_ok_and(|now| now == *self)
    }
}

impl Routed {
    /// Loads a tunnel for two devices in the calling thread's network namespace. `complete` adds to the options what is not
    /// known of those.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`] when one of the devices is not there, [`Error::NoEthernet`] when the underlay device has no
    /// Ethernet headers, and what [`Tunnel::load`] returns.
    ///
    /// # Privileges
    ///
    /// As [`Tunnel::load`].
    pub fn load(
        device: IfName,
        underlay: IfName,
        complete: impl FnOnce(TunnelOptions) -> TunnelOptions,
    ) -> Result<Self, Error> {
        let mut netlink = Socket::open()?;
        let device = Found::look(&mut netlink, device)?;
        let underlay = Found::look(&mut netlink, underlay)?;
        if underlay.address.is_none() {
            return Err(Error::NoEthernet { device: underlay.name });
        }
        let mut options = TunnelOptions::new(device.index, underlay.index);
        options.device_address = device.address;
        let tunnel = Tunnel::load(&complete(options))?;
        Ok(Self {
            tunnel,
            device,
            underlay,
            netlink: Mutex::new(netlink),
            elsewhere: Mutex::default(),
        })
    }

    /// The tunnel.
    #[must_use]
    pub const fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// Whether the devices are still those that the programs were made for.
    #[must_use]
    pub fn holds(&self) -> bool {
        let mut netlink = self.netlink();
        self.device.is_still_there(&mut netlink) && self.underlay.is_still_there(&mut netlink)
    }

    /// The MTU of the underlay device in bytes, if that is there.
    #[must_use]
    pub fn underlay_mtu(&self) -> Option<u32> {
        self.netlink().link(&self.underlay.name).ok()?.mtu
    }

    /// A peer with this endpoint, which takes inner packets of so many bytes. One that is reached by another device than
    /// the underlay's, or not at all, is left to [user space](Remote::fast).
    #[must_use]
    pub fn remote(&self, endpoint: IpAddr, mtu: u16) -> Remote {
        let remote = Remote::new(endpoint, mtu);
        let route = self.netlink().route(&RouteQuery::to(endpoint));
        match route.as_ref().map(|route| &route.via) {
            Ok(Via::Hop(hop)) if hop.dev == Some(self.underlay.index) => {
                remote.via(hop.gateway.unwrap_or(endpoint))
            }
            Ok(Via::Hop(hop)) => {
                self.elsewhere().extend(hop.dev);
                remote.fast(false)
            }
            _ => remote.fast(false),
        }
    }

    /// Takes all that `monitor` has heard, and returns whether peers may be reached in another way since. Routes of the
    /// overlay itself come by the thousand, and lead into the tunnel's device: they are none of those. The monitor is to hear
    /// of routes, rules and links.
    pub fn routes_changed(&self, monitor: &mut Monitor) -> bool {
        let mut changed = false;
        loop {
            match monitor.try_next() {
                Ok(Some(Event::Route(_, route))) => {
                    changed |= leads_to(&route) != Some(self.device.index);
                }
                // Routes that go with a device are not told of.
                Ok(Some(Event::Link(change, link))) => {
                    let is_out = change == Change::Gone || link.up == Some(false);
                    let index = link.index.unwrap_or_default();
                    changed |= is_out && self.elsewhere().contains(&index);
                }
                Ok(Some(_)) => changed = true,
                Ok(None) | Err(_) => return changed,
            }
        }
    }

    /// Whatever became of who held it, what is in it is right.
    fn elsewhere(&self) -> MutexGuard<'_, HashSet<Ifindex>> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is locked answers one question after the other, whatever became of who asked before.
    fn netlink(&self) -> MutexGuard<'_, Socket> {
        self.netlink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device that a route leads to, if it is one.
fn leads_to(route: &Route) -> Option<Ifindex> {
    match &route.via {
        Via::Hop(hop) => hop.dev,
        _ => None,
    }
}
