//! What a kernel lists, in a form in which two kernels can be compared.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use overlay_backend::Kernel;
use overlay_netlink::{
    Error, Fdb, IfName, Ifindex, LinkKind, Neighbour, NeighbourFlags, NeighbourState, Object,
    Protocol, Route, RouteKind, table,
};

/// One text per object.
pub(crate) type View = Vec<String>;

/// The numbers of devices by name.
pub(crate) fn numbers(kernel: &mut dyn Kernel) -> Result<BTreeMap<IfName, Ifindex>, Error> {
    let links = kernel.links()?;
    Ok(links.into_iter().filter_map(|link| Some((link.name, link.index?))).collect())
}

pub(crate) fn view(kernel: &mut dyn Kernel) -> Result<View, Error> {
    let mut view = View::new();
    let links = kernel.links()?;
    let names: BTreeMap<Ifindex, IfName> =
        links.iter().filter_map(|link| Some((link.index?, link.name))).collect();
    let name = |dev: Ifindex| names.get(&dev).map_or_else(|| dev.to_string(), ToString::to_string);
    let mut push = |object: Object| {
        // A name that nobody has.
        let gone: IfName = "gone".parse().expect("a device name");
        let named =
            object.try_map_dev(&mut |dev| Ok::<_, ()>(names.get(&dev).copied().unwrap_or(gone)));
        view.push(text(&named.expect("the closure gives no error")));
    };
    let mut peers = Vec::new();
    for mut link in links {
        let Some(dev) = link.index.take() else { continue };
        if let Some(peer) = link.peer.take() {
            peers.push(format!("{} is a half of {}", link.name, name(peer)));
        }
        let is_vxlan = matches!(link.kind, LinkKind::Vxlan(_));
        push(link.into());
        for mut address in kernel.addresses(Some(dev))? {
            // IPv6 makes link-local addresses in its own time.
            address.tentative = false;
            if address.protocol != Protocol(3) {
                push(address.into());
            }
        }
        // Of other devices, and of bridge ports, the kernel lists entries of its own too.
        let of_device = |fdb: &Fdb| is_vxlan && fdb.flags.contains(NeighbourFlags::SELF);
        for fdb in kernel.fdb(dev)?.into_iter().filter(of_device) {
            push(fdb.into());
        }
        // Multicast, and what packets of the kernel's own made it look for.
        let chosen = |neighbour: &Neighbour| {
            let state = neighbour.state;
            !neighbour.dst.is_multicast()
                && (state == NeighbourState::NONE || state == NeighbourState::PERMANENT)
        };
        for neighbour in kernel.neighbours(Some(dev))?.into_iter().filter(chosen) {
            push(neighbour.into());
        }
    }
    for nexthop in kernel.nexthops()? {
        push(nexthop.into());
    }
    for protocol in [0, 2, 3, 4, 80].map(Protocol) {
        for route in kernel.routes(protocol)?.into_iter().filter(counts) {
            push(route.into());
        }
        for rule in kernel.rules(protocol)? {
            push(rule.into());
        }
    }
    view.extend(peers);
    view.sort();
    Ok(view)
}

/// Whether a route is not of those that the kernel keeps for itself.
fn counts(route: &Route) -> bool {
    let link_local = match route.dst.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let own = route.table == table::LOCAL
        || route.kind == RouteKind::Multicast
        || link_local
        || route.dst.addr().is_loopback();
    route.protocol != Protocol::KERNEL || !own
}

fn text(object: &impl Debug) -> String {
    format!("{object:?}")
}
