//! Everything the lab tells the kernel about devices, addresses and routes.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_netlink::{Address, Bridge, Hop, IfName, Link, LinkKind, Route, Socket, VethPeer};

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
    peer.up = true;
    let link: Link = Link::new(name(a_device)?, LinkKind::Veth(Some(Box::new(peer)))).up();
    let object = format!("{} to {}", a.object(a_device), b.object(b_device));
    a.tell(|socket| socket.add(&link)).map_err(|error| Error::netlink("connect", object, error))
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

pub(crate) fn add_address(host: &Host, device: &str, address: IpNet) -> Result<()> {
    let device_name = name(device)?;
    host.tell(|socket| {
        let index = socket.link(&device_name)?.index.unwrap_or_default();
        socket.add(&Address::new(address, index).nodad())
    })
    .map_err(|error| {
        Error::netlink("add address", format!("{address} to {}", host.object(device)), error)
    })
}

pub(crate) fn add_route(host: &Host, to: IpNet, via: IpAddr) -> Result<()> {
    let route: Route = Route::to(to).hop(Hop::via(via));
    host.tell(|socket| socket.add(&route)).map_err(|error| {
        Error::netlink("add route", format!("{to} via {via} to {}", host.name()), error)
    })
}

/// Waits until a device can send.
pub(crate) fn wait_running(host: &Host, device: &str) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(2);
    let device_name = name(device)?;
    let start = Instant::now();
    let failed = |error| Error::io("wait for", host.object(device), error);
    while !host.try_run(|| sys::running(device))?.map_err(failed)? {
        if start.elapsed() > LIMIT {
            return Err(Error::TimedOut {
                operation: "wait for",
                object: host.object(device),
                after: LIMIT,
            });
        }
        thread::sleep(Duration::from_millis(1));
    }
    // The kernel marks the device running just before it lets it send, and answers this after both.
    host.tell(|socket| socket.link(&device_name))
        .map(drop)
        .map_err(|error| Error::netlink("wait for", host.object(device), error))
}

fn name(device: &str) -> Result<IfName> {
    Ok(IfName::new(device)?)
}
