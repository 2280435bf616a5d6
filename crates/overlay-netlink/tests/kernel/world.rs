//! Namespaces with devices, everything in them, and iproute2 as the second opinion.

use std::fmt::Debug;
use std::process::Command;

use libtest_mimic::Failed;
use overlay_lab::Host;
use overlay_netlink::{
    Address, Bridge, Fdb, Ifindex, Link, LinkKind, Listable, Neighbour, Nexthop, Route, Rule,
    Socket, VethPeer, Vxlan,
};
use overlay_wire::Vni;
use serde_json::Value;

use crate::{mac, name, net};

/// The devices of [`furnished`], which have these numbers because they are made in this order.
pub(crate) const UPLINK: Ifindex = Ifindex(3);
pub(crate) const FAR: Ifindex = Ifindex(2);
pub(crate) const BRIDGE: Ifindex = Ifindex(4);
pub(crate) const VXLAN: Ifindex = Ifindex(5);
pub(crate) const FLOW: Ifindex = Ifindex(6);

/// A namespace without link-local addresses, which come when they like.
pub(crate) fn bare(name: &str) -> Result<(Host, Socket), Failed> {
    let host = Host::new(name)?;
    host.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)?;
    let socket = host.socket()?;
    Ok((host, socket))
}

/// A namespace with a cable, a bridge, a VXLAN device and a flow-based VXLAN device, all up, and
/// addresses 10.0.0.1/24 and fd00::1/64 on the cable.
pub(crate) fn furnished(host: &str) -> Result<(Host, Socket), Failed> {
    let (host, mut socket) = bare(host)?;
    let mut peer = VethPeer::new(name("far"));
    peer.address = Some(mac(0xfa));
    let cable = LinkKind::Veth(Some(Box::new(peer)));
    let mut vxlan = Vxlan::new(Vni::new(100)?);
    vxlan.port = Some(4789);
    let mut flow = Vxlan::external();
    flow.port = Some(4790);
    for link in [
        Link::new(name("uplink"), cable).address(mac(0x0a)),
        Link::new(name("br0"), LinkKind::Bridge(Bridge::default())).address(mac(0xb0)),
        Link::new(name("vx0"), LinkKind::Vxlan(Box::new(vxlan))).address(mac(0xc0)),
        Link::new(name("flow"), LinkKind::Vxlan(Box::new(flow))).address(mac(0xc1)),
    ] {
        socket.add(&link.up())?;
    }
    socket.change(&Link::named(name("far")).up())?;
    for (text, index) in [("far", FAR), ("uplink", UPLINK), ("flow", FLOW)] {
        crate::same(socket.link(&name(text))?.index, Some(index), text)?;
    }
    for address in ["10.0.0.1/24", "fd00::1/64"] {
        socket.add(&Address::new(net(address), UPLINK).nodad())?;
    }
    host.wait_running("uplink")?;
    Ok((host, socket))
}

/// Everything of one kind, in an order that does not depend on hash seeds.
pub(crate) fn all<T: Listable + Debug>(
    socket: &mut Socket,
    filter: &T::Filter,
) -> Result<Vec<T>, Failed> {
    let mut objects: Vec<T> = socket.list(filter)?;
    objects.sort_by_cached_key(|object| format!("{object:?}"));
    Ok(objects)
}

/// Everything in a namespace as this crate sees it, one object per line.
pub(crate) fn dump(socket: &mut Socket) -> Result<Vec<String>, Failed> {
    fn lines<T: Listable + Debug>(
        socket: &mut Socket,
        lines: &mut Vec<String>,
    ) -> Result<(), Failed> {
        let objects = all::<T>(socket, &T::Filter::default())?;
        lines.extend(objects.iter().map(|object| format!("{object:?}")));
        Ok(())
    }
    let mut found = Vec::new();
    lines::<Link>(socket, &mut found)?;
    lines::<Address>(socket, &mut found)?;
    lines::<Neighbour>(socket, &mut found)?;
    lines::<Fdb>(socket, &mut found)?;
    lines::<Route>(socket, &mut found)?;
    lines::<Rule>(socket, &mut found)?;
    lines::<Nexthop>(socket, &mut found)?;
    // Groups that the kernel itself reports to, some time.
    found.retain(|line| !line.contains("dst: 224.0.0.") && !line.contains("dst: ff02::"));
    Ok(found)
}

/// Everything in a namespace as iproute2 sees it, without what depends on the time.
pub(crate) fn iproute2(host: &Host) -> Result<Vec<String>, Failed> {
    const SHOWS: &str = "ip -d -j link
        ip -d -j addr
        ip -d -j neigh
        ip -d -j neigh show proxy
        ip -d -j -6 neigh show proxy
        ip -d -j route show table all
        ip -d -j -6 route show table all
        ip -d -j rule
        ip -d -j -6 rule
        ip -d -j nexthop
        bridge -d -j fdb";
    let output = shell(host, SHOWS)?;
    let mut lines = Vec::new();
    for document in output.lines().filter(|line| !line.trim().is_empty()) {
        let mut document: Value = serde_json::from_str(document)?;
        forget_times(&mut document);
        let entries = document.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut texts: Vec<_> = entries.iter().map(Value::to_string).collect();
        texts.sort();
        lines.extend(texts);
    }
    Ok(lines)
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Tunnels over IPv6 have a permanent address by chance.
            let by_chance = ["expires", "used", "permaddr"];
            fields.retain(|key, _| !key.ends_with("timer") && !by_chance.contains(&key.as_str()));
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_times),
        _ => {}
    }
}

/// Runs commands in a host; the first that fails is the last.
pub(crate) fn shell(host: &Host, script: &str) -> Result<String, Failed> {
    let output = host.run(|| Command::new("sh").args(["-ec", script]).output())?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    crate::fail(format!("{script}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Whether iproute2 is there; otherwise says so, or fails where it is required.
pub(crate) fn has_iproute2(case: &str) -> Result<bool, Failed> {
    let found = Command::new("ip").arg("-V").output().is_ok()
        && Command::new("bridge").arg("-V").output().is_ok();
    if !found {
        overlay_lab::cannot_run(case, "iproute2", "no `ip` and `bridge` in the PATH")?;
    }
    Ok(found)
}
