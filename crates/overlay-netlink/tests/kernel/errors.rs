//! What a refusal says.

use std::sync::Mutex;

use overlay_netlink::{
    Address, Fdb, Ifindex, Link, LinkKind, Nexthop, NexthopId, Route, Rule, Socket,
};
use overlay_wire::IpVersion;

use crate::world::{UPLINK, VXLAN, furnished};
use crate::{Case, Outcome, ensure, ip, mac, name, net, same, whole};

pub(crate) const CASES: [Case; 4] = [
    ("errors::the_kernels_words", the_kernels_words),
    ("errors::without_privilege", without_privilege),
    ("errors::not_found", not_found),
    ("errors::exists", exists),
];

/// A socket of the namespace that the program was started in, where it has no privilege once it is
/// in its own user namespace.
static OUTSIDE: Mutex<Option<Socket>> = Mutex::new(None);

pub(crate) fn open_outside() {
    *OUTSIDE.lock().expect("no panic") = Socket::open().ok();
}

fn the_kernels_words() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    let error = socket.add(&Link::new(name("x"), LinkKind::Other("nonesuch".to_owned())));
    let error = error.unwrap_err();
    ensure(error.is_unsupported(), || format!("{error:?}"))?;
    same(
        whole(&error),
        "ip link add dev x type nonesuch: Operation not supported (os error 95): Unknown device type"
            .to_owned(),
        "the text",
    )?;
    // A device is shown by its name, although the message has its number.
    let mut strange = Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN);
    strange.nexthop = Some(NexthopId(1));
    let error = socket.add(&strange).unwrap_err();
    let text = whole(&error);
    ensure(text.starts_with("bridge fdb add 02:00:00:00:00:01 dev vx0 dst 10.0.0.9"), || {
        text.clone()
    })?;
    ensure(matches!(&error, overlay_netlink::Error::Kernel(e) if e.message.is_some()), || text)
}

/// The request is one that could do no harm even if it were let through.
fn without_privilege() -> Outcome {
    let mut outside = OUTSIDE.lock().expect("no panic");
    let Some(socket) = outside.as_mut() else {
        return Ok(overlay_lab::cannot_run("errors::without_privilege", "outside", "no socket")?);
    };
    if std::fs::read_to_string("/proc/self/setgroups")?.trim() != "deny" {
        let why = "user namespaces are forbidden, and root may do everything";
        return Ok(overlay_lab::cannot_run("errors::without_privilege", "userns", why)?);
    }
    // To look needs no privilege.
    socket.link(&name("lo"))?;
    let error = socket.delete(&Link::named(name("overlay-absent"))).unwrap_err();
    ensure(error.is_permission() && !error.is_not_found(), || format!("{error:?}"))?;
    same(
        whole(&error),
        "ip link del dev overlay-absent: Operation not permitted (os error 1): CAP_NET_ADMIN is \
         needed in the user namespace that owns this network namespace"
            .to_owned(),
        "the text",
    )
}

fn not_found() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    let errors = [
        socket.link(&name("nobody")).map(drop),
        socket.link_by_index(Ifindex(9999)).map(drop),
        socket.delete(&Link::named(name("nobody"))),
        socket.delete(&Address::new(net("10.9.9.9/32"), UPLINK)),
        socket.delete(&Address::new(net("fd00::99/64"), UPLINK)),
        socket.delete(&overlay_netlink::Neighbour::permanent(ip("10.0.0.99"), mac(1), UPLINK)),
        socket.delete(&Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN)),
        socket.delete(&Route::to(net("10.99.0.0/16"))),
        socket.delete(&Route::to(net("fd99::/64"))),
        socket.delete(&Route::to(net("10.99.0.0/16")).table(4242)),
        socket.delete(&Rule::lookup(IpVersion::V4, 4242)),
        socket.delete(&Nexthop::blackhole(NexthopId(99), IpVersion::V4)),
        socket.add(&Fdb::remote(mac(1), ip("10.0.0.9"), Ifindex(9999))),
    ];
    for (at, result) in errors.into_iter().enumerate() {
        let error = result.unwrap_err();
        ensure(error.is_not_found() && !error.is_exists(), || format!("{at}: {error}"))?;
    }
    Ok(())
}

fn exists() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    let bridge = LinkKind::Bridge(overlay_netlink::Bridge::default());
    let entry = Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN);
    let neighbour = overlay_netlink::Neighbour::permanent(ip("10.0.0.9"), mac(1), UPLINK);
    let route = Route::drop(overlay_netlink::RouteKind::Blackhole, net("10.9.0.0/16"));
    let rule = Rule::lookup(IpVersion::V4, 100).priority(7);
    let nexthop = Nexthop::blackhole(NexthopId(9), IpVersion::V4);
    socket.add(&entry)?;
    socket.add(&neighbour)?;
    socket.add(&route)?;
    socket.add(&rule)?;
    socket.add(&nexthop)?;
    let errors = [
        socket.add(&Link::new(name("br0"), bridge)),
        socket.add(&Address::new(net("10.0.0.1/24"), UPLINK)),
        socket.add(&Address::new(net("fd00::1/64"), UPLINK)),
        socket.add(&entry),
        socket.add(&neighbour),
        socket.add(&route),
        socket.add(&rule),
        socket.add(&nexthop),
    ];
    for (at, result) in errors.into_iter().enumerate() {
        let error = result.unwrap_err();
        ensure(error.is_exists() && !error.is_not_found(), || format!("{at}: {error}"))?;
    }
    Ok(())
}
