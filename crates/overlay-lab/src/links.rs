//! Everything the lab tells the kernel about devices, addresses and routes.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_netlink::{
    Address, Bridge, Hop, IfName, Link, LinkKind, Route, RouteFilter, Socket, VethPeer, table,
};
use overlay_wire::MacAddr;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys;

/// Sets `lo` of the calling thread's namespace up and returns the socket that did it, which stays in that namespace.
pub(crate) fn loopback_up(host: &str) -> Result<Socket> {
    let failed = |error| Error::netlink("set up", format!("lo of {host}"), error);
    let mut socket = Socket::open().map_err(failed)?;
    let lo: Link = Link::named(name("lo")?).up();
    socket.change(&lo).map_err(failed)?;
    Ok(socket)
}

/// Makes a veth pair, both ends up.
pub(crate) fn add_veth(a: &Host, a_device: &str, b: &Host, b_device: &str) -> Result<()> {
    let mut peer = VethPeer::new(name(b_device)?);
    peer.namespace = Some(b.namespace().as_link_namespace());
    let link: Link = Link::new(name(a_device)?, LinkKind::Veth(Some(Box::new(peer)))).up();
    let object = format!("{} to {}", a.object(a_device), b.object(b_device));
    a.tell(|socket| socket.add(&link)).map_err(|error| Error::netlink("connect", object, error))?;
    // Not in the same request: the kernel would set it up before it has an other end.
    set_up(b, b_device, true)
}

/// Makes a bridge, up.
pub(crate) fn add_bridge(host: &Host, device: &str, bridge: Bridge) -> Result<()> {
    let link: Link = Link::new(name(device)?, LinkKind::Bridge(bridge)).up();
    host.tell(|socket| socket.add(&link))
        .map_err(|error| Error::netlink("add bridge", host.object(device), error))
}

pub(crate) fn set_master(host: &Host, port: &str, bridge: &str) -> Result<()> {
    let (port_name, bridge_name) = (name(port)?, name(bridge)?);
    host.tell(|socket| {
        let mut link: Link = Link::named(port_name);
        link.master = socket.link(&bridge_name)?.index;
        socket.change(&link)
    })
    .map_err(|error| Error::netlink("plug", format!("{port} into {}", host.object(bridge)), error))
}

pub(crate) fn set_up(host: &Host, device: &str, up: bool) -> Result<()> {
    let link: Link = Link::named(name(device)?);
    let link = if up { link.up() } else { link.down() };
    let operation = if up { "set up" } else { "set down" };
    host.tell(|socket| socket.change(&link))
        .map_err(|error| Error::netlink(operation, host.object(device), error))
}

pub(crate) fn set_mtu(host: &Host, device: &str, mtu: u32) -> Result<()> {
    let link: Link = Link::named(name(device)?).mtu(mtu);
    host.tell(|socket| socket.change(&link))
        .map_err(|error| Error::netlink("set the MTU of", host.object(device), error))
}

pub(crate) fn mac(host: &Host, device: &str) -> Result<Option<MacAddr>> {
    let device_name = name(device)?;
    host.tell(|socket| socket.link(&device_name))
        .map(|link| link.address)
        .map_err(|error| Error::netlink("read the MAC address of", host.object(device), error))
}

/// Adds an address that others can reach when this returns, if the device is up.
pub(crate) fn add_address(host: &Host, device: &str, address: IpNet) -> Result<()> {
    let device_name = name(device)?;
    let object = || format!("{address} to {}", host.object(device));
    let failed = |error| Error::netlink("add address", object(), error);
    let (index, up) = host
        .tell(|socket| {
            let link = socket.link(&device_name)?;
            let index = link.index.unwrap_or_default();
            socket.add(&Address::new(address, index).nodad())?;
            Ok((index, link.up == Some(true)))
        })
        .map_err(failed)?;
    // The kernel begins to answer neighbour solicitations for an IPv6 address a moment later, on a
    // thread of its own; the last thing that thread does is to make the local route.
    let mut filter = RouteFilter::table(table::LOCAL);
    filter.dev = Some(index);
    let own = IpNet::from(address.addr());
    let ready = || {
        let routes: Vec<Route> = host.tell(|socket| socket.list(&filter)).map_err(failed)?;
        Ok(routes.iter().any(|route| route.dst == own))
    };
    if up && address.addr().is_ipv6() { wait_until(ready, object) } else { Ok(()) }
}

pub(crate) fn add_route(host: &Host, to: IpNet, via: IpAddr) -> Result<()> {
    let route: Route = Route::to(to).hop(Hop::via(via));
    host.tell(|socket| socket.add(&route)).map_err(|error| {
        Error::netlink("add route", format!("{to} via {via} to {}", host.name()), error)
    })
}

/// Waits until a device can send.
pub(crate) fn wait_running(host: &Host, device: &str) -> Result<()> {
    let device_name = name(device)?;
    let failed = |error| Error::io("wait for", host.object(device), error);
    let running = || host.try_run(|| sys::running(device))?.map_err(failed);
    wait_until(running, || host.object(device))?;
    // The kernel marks the device running just before it lets it send, and answers this after both.
    host.tell(|socket| socket.link(&device_name))
        .map(drop)
        .map_err(|error| Error::netlink("wait for", host.object(device), error))
}

fn wait_until(
    mut ready: impl FnMut() -> Result<bool>,
    object: impl FnOnce() -> String,
) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);
    let start = Instant::now();
    while !ready()? {
        if start.elapsed() > LIMIT {
            return Err(Error::TimedOut { operation: "wait for", object: object(), after: LIMIT });
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn name(device: &str) -> Result<IfName> {
    Ok(IfName::new(device)?)
}
