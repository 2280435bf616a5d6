//! Everything the lab tells the kernel about devices, addresses and routes.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::host::Host;

fn ip(object: &str, args: &[&str]) -> Result<()> {
    let out = Command::new("ip").args(args).output().map_err(|e| Error::io("ip", object, e))?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    Err(Error::io("ip", format!("{object} {args:?}"), std::io::Error::other(text)))
}

fn path(host: &Host) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), host.as_fd().as_raw_fd())
}

/// Sets `lo` of the calling thread's namespace up.
pub(crate) fn loopback_up(host: &str) -> Result<()> {
    ip(host, &["link", "set", "lo", "up"])
}

pub(crate) fn add_veth(a: &Host, a_name: &str, b: &Host, b_name: &str) -> Result<()> {
    let there = path(b);
    a.try_run(|| {
        ip(
            a.name(),
            &["link", "add", a_name, "type", "veth", "peer", "name", b_name, "netns", &there],
        )
    })?
}

pub(crate) fn add_bridge(host: &Host, name: &str) -> Result<()> {
    host.try_run(|| ip(host.name(), &["link", "add", name, "type", "bridge"]))?
}

pub(crate) fn set_master(host: &Host, port: &str, bridge: &str) -> Result<()> {
    host.try_run(|| ip(host.name(), &["link", "set", port, "master", bridge]))?
}

pub(crate) fn set_up(host: &Host, device: &str, up: bool) -> Result<()> {
    host.try_run(|| ip(host.name(), &["link", "set", device, if up { "up" } else { "down" }]))?
}

pub(crate) fn set_mtu(host: &Host, device: &str, mtu: u32) -> Result<()> {
    host.try_run(|| ip(host.name(), &["link", "set", device, "mtu", &mtu.to_string()]))?
}

pub(crate) fn add_address(host: &Host, device: &str, address: IpNet) -> Result<()> {
    let text = address.to_string();
    let nodad: &[&str] = if address.addr().is_ipv6() { &["nodad"] } else { &[] };
    host.try_run(|| {
        ip(host.name(), &[&["addr", "add", text.as_str(), "dev", device], nodad].concat())
    })?
}

pub(crate) fn add_route(host: &Host, to: IpNet, via: IpAddr) -> Result<()> {
    host.try_run(|| ip(host.name(), &["route", "add", &to.to_string(), "via", &via.to_string()]))?
}

fn running(host: &Host, device: &str) -> Result<bool> {
    let out = host
        .try_run(|| Command::new("ip").args(["link", "show", device]).output())?
        .map_err(|e| Error::io("ip", device, e))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(text.contains("LOWER_UP") && (text.contains("state UP") || text.contains("state UNKNOWN")))
}

pub(crate) fn wait_running(host: &Host, device: &str) -> Result<()> {
    let limit = Duration::from_secs(2);
    let start = Instant::now();
    while !running(host, device)? {
        if start.elapsed() > limit {
            return Err(Error::TimedOut {
                operation: "wait for",
                object: host.object(device),
                after: limit,
            });
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
