//! Devices: what is set is what is reported, and what moves arrives.

use overlay_netlink::{
    BpfFilter, BpfFilterFilter, Bridge, Clsact, ClsactFilter, Error, Ifindex, Link, LinkFilter,
    LinkKind, LinkNamespace, Tunnel, VethPeer, Vxlan,
};
use overlay_wire::Vni;

use crate::world::{BRIDGE, FAR, UPLINK, bare, furnished};
use crate::{Case, Outcome, ensure, ip, mac, name, same};

pub(crate) const CASES: [Case; 8] = [
    ("links::what_is_set_is_reported", what_is_set_is_reported),
    ("links::in_place_changes", in_place_changes),
    ("links::to_another_namespace", to_another_namespace),
    ("links::numbers_of_another_namespace", numbers_of_another_namespace),
    ("links::a_cable_between_namespaces", a_cable_between_namespaces),
    ("links::loopback_is_a_device", loopback_is_a_device),
    ("links::a_probe_says_what_can_be_made", a_probe_says_what_can_be_made),
    ("links::filters_have_a_place", filters_have_a_place),
];

/// What an adopting reconciler compares: each attribute that was given comes back as given.
fn what_is_set_is_reported() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    let mut vxlan = Vxlan::new(Vni::new(245)?);
    vxlan.dev = Some(UPLINK);
    vxlan.local = Some(ip("10.0.0.1"));
    vxlan.port = Some(8472);
    vxlan.learning = Some(false);
    vxlan.ttl = Some(9);
    vxlan.l2miss = Some(true);
    vxlan.ageing = Some(600);
    vxlan.udp_csum = Some(false);
    let link = Link::new(name("vtep245"), LinkKind::Vxlan(Box::new(vxlan.clone())))
        .mtu(1450)
        .address(mac(45))
        .alias("overlay:245")
        .up();
    socket.add(&link)?;
    let found = socket.link(&name("vtep245"))?;
    same(found.mtu, link.mtu, "MTU")?;
    same(found.address, link.address, "MAC address")?;
    same(found.alias, link.alias, "alias")?;
    same(found.up, Some(true), "up")?;
    let LinkKind::Vxlan(reported) = found.kind else { return crate::fail("no VXLAN device") };
    same(reported.id, vxlan.id, "VNI")?;
    same(reported.dev, vxlan.dev, "underlay device")?;
    same(reported.local, vxlan.local, "local address")?;
    same(reported.group, None, "group")?;
    same(reported.port, vxlan.port, "port")?;
    same(reported.learning, vxlan.learning, "learning")?;
    same(reported.ttl, vxlan.ttl, "TTL")?;
    same(reported.l2miss, vxlan.l2miss, "l2miss")?;
    same(reported.l3miss, Some(false), "l3miss")?;
    same(reported.ageing, vxlan.ageing, "ageing")?;
    same(reported.udp_csum, vxlan.udp_csum, "UDP checksum")
}

fn in_place_changes() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    let index = socket.link(&name("vx0"))?.index;
    socket.change(&Link::named(name("vx0")).mtu(1234).address(mac(77)).down())?;
    let found = socket.link(&name("vx0"))?;
    same(
        (found.mtu, found.address, found.up),
        (Some(1234), Some(mac(77)), Some(false)),
        "changed",
    )?;

    let mut renamed = Link::named(name("vx9"));
    renamed.index = index;
    socket.change(&renamed)?;
    same(socket.link(&name("vx9"))?.index, index, "number of the renamed device")?;
    ensure(socket.link(&name("vx0")).is_err(), || "the old name is still there".to_owned())?;

    socket.change(&Link::named(name("vx9")).master(BRIDGE).up())?;
    let mut ports = LinkFilter::default();
    ports.master = Some(BRIDGE);
    same(socket.list::<Link>(&ports)?.len(), 1, "ports")?;
    socket.change(&Link::named(name("vx9")).master(Ifindex(0)))?;
    same(socket.list::<Link>(&ports)?.len(), 0, "ports")?;

    // By number alone, whatever it is called.
    let mut by_index = socket.link_by_index(FAR)?;
    by_index.kind = LinkKind::Device;
    socket.delete(&by_index)?;
    let error = socket.link_by_index(UPLINK).unwrap_err();
    ensure(error.is_not_found(), || error.to_string())
}

fn to_another_namespace() -> Outcome {
    let (near, mut near_socket) = bare("near")?;
    let (far, mut far_socket) = bare("far")?;
    let bridge = |text| Link::new(name(text), LinkKind::Bridge(Bridge::default()));
    let vxlan = LinkKind::Vxlan(Box::new(Vxlan::new(Vni::new(7)?)));
    let there = far.namespace().as_link_namespace();

    near_socket.add(&Link::new(name("moved"), LinkKind::Veth(None)))?;
    near_socket.change(&Link::named(name("moved")).namespace(there))?;
    near_socket.add(&bridge("born").namespace(there))?;
    near_socket.add(&Link::new(name("vx"), vxlan).namespace(there))?;

    let mut sleeper = far.run(|| std::process::Command::new("sleep").arg("60").spawn())?;
    near_socket.add(&Link::new(name("by-pid"), LinkKind::Veth(None)))?;
    let by_pid = Link::named(name("by-pid")).namespace(LinkNamespace::Pid(sleeper.id()));
    let moved = near_socket.change(&by_pid);
    sleeper.kill()?;
    sleeper.wait()?;
    moved?;

    for text in ["moved", "born", "vx", "by-pid"] {
        far_socket.link(&name(text))?;
        let error = near_socket.link(&name(text)).unwrap_err();
        ensure(error.is_not_found(), || format!("{text} is still here"))?;
    }
    drop(near);
    Ok(())
}

/// A device that was moved still runs over one where it came from, whose number here is nobody's or
/// somebody else's.
fn numbers_of_another_namespace() -> Outcome {
    let (_near, mut near_socket) = furnished("near")?;
    let (far, mut far_socket) = bare("far")?;
    let mut vxlan = Vxlan::new(Vni::new(7)?);
    vxlan.dev = Some(UPLINK);
    let vxlan = LinkKind::Vxlan(Box::new(vxlan));
    near_socket.add(&Link::new(name("vx7"), vxlan))?;
    let here = near_socket.link(&name("vx7"))?;
    same(here.link_netnsid, None, "namespace of the underlay device")?;

    let there = far.namespace().as_link_namespace();
    near_socket.change(&Link::named(name("vx7")).namespace(there))?;
    let links: Vec<Link> = far_socket.list(&LinkFilter::default())?;
    let Some(moved) = links.into_iter().find(|link| link.name == name("vx7")) else {
        return crate::fail("the device is not listed");
    };
    ensure(moved.link_netnsid.is_some(), || "the namespace is not reported".to_owned())?;
    let LinkKind::Vxlan(reported) = moved.kind else { return crate::fail("no VXLAN device") };
    same(reported.id, Some(Vni::new(7)?), "VNI")?;
    same(reported.dev, None, "underlay device")
}

fn a_cable_between_namespaces() -> Outcome {
    let (near, mut near_socket) = bare("near")?;
    let (far, mut far_socket) = bare("far")?;
    let mut peer = VethPeer::new(name("eth0"));
    peer.mtu = Some(1300);
    peer.address = Some(mac(2));
    peer.namespace = Some(far.namespace().as_link_namespace());
    let cable = LinkKind::Veth(Some(Box::new(peer)));
    near_socket.add(&Link::new(name("eth0"), cable).address(mac(1)).mtu(1400).up())?;
    far_socket.change(&Link::named(name("eth0")).up())?;
    near.wait_running("eth0")?;
    let (here, there) = (near_socket.link(&name("eth0"))?, far_socket.link(&name("eth0"))?);
    same((here.mtu, here.address), (Some(1400), Some(mac(1))), "this end")?;
    same((there.mtu, there.address, there.up), (Some(1300), Some(mac(2)), Some(true)), "that end")?;
    same((here.peer, there.peer), (there.index, here.index), "each other")?;
    ensure(here.link_netnsid.is_some(), || "the namespace is not reported".to_owned())?;
    same(here.kind, LinkKind::Veth(None), "kind")?;
    same(here.carrier, Some(true), "carrier")
}

fn loopback_is_a_device() -> Outcome {
    let (_host, mut socket) = bare("a")?;
    let lo = socket.link(&name("lo"))?;
    same((lo.index, lo.kind, lo.up), (Some(Ifindex(1)), LinkKind::Device, Some(true)), "lo")
}

/// What a probe says is what happens, and it leaves nothing.
fn a_probe_says_what_can_be_made() -> Outcome {
    let (_host, mut socket) = bare("a")?;
    let tunnel = || Box::new(Tunnel::<Ifindex>::new());
    let vxlan = Box::new(Vxlan::new(Vni::new(1)?));
    for kind in [
        LinkKind::Bridge(Bridge::default()),
        LinkKind::Veth(None),
        LinkKind::Vxlan(vxlan),
        LinkKind::Ipip(tunnel()),
        LinkKind::Sit(tunnel()),
        LinkKind::Ip6tnl(tunnel()),
        LinkKind::Dummy,
        LinkKind::Other("nonesuch".to_owned()),
    ] {
        let probed = socket.probe(&kind);
        let before = socket.list::<Link>(&LinkFilter::default())?;
        same(socket.probe(&kind).is_ok(), probed.is_ok(), "a second probe")?;
        same(socket.list::<Link>(&LinkFilter::default())?, before, "devices")?;
        let made = socket.add(&Link::new(name("x"), kind.clone()));
        match (probed, made) {
            (Ok(()), Ok(())) => socket.delete(&Link::named(name("x")))?,
            // That there is a tunnel without ends already is no lack.
            (Ok(()), Err(error)) => ensure(error.is_exists(), || error.to_string())?,
            (Err(probed), Err(made)) => {
                ensure(made.is_unsupported() && probed.is_unsupported(), || format!("{made}"))?;
                for error in [&probed, &made] {
                    let missing = matches!(error, Error::MissingKind(_));
                    same(missing, kind.kernel_option().is_some(), kind.name())?;
                }
                if let Some((option, _)) = kind.kernel_option() {
                    ensure(probed.to_string().contains(option), || probed.to_string())?;
                }
            }
            (Err(probed), Ok(())) => return crate::fail(format!("made all the same: {probed}")),
        }
    }
    let none = socket.probe(&LinkKind::<Ifindex>::Device);
    ensure(matches!(none, Err(Error::Invalid { .. })), || format!("{none:?}"))
}

/// A queueing discipline for filters is there once, on its device alone, and goes again.
fn filters_have_a_place() -> Outcome {
    let (_host, mut socket) = furnished("a")?;
    let mut only = ClsactFilter::default();
    only.dev = Some(UPLINK);
    same(socket.list(&only)?, Vec::<Clsact>::new(), "before")?;
    let ours = Clsact::new(UPLINK);
    socket.add(&ours)?;
    let again = socket.add(&ours).expect_err("one is enough");
    ensure(again.is_exists(), || again.to_string())?;
    ensure(again.to_string().contains("tc qdisc add dev"), || again.to_string())?;
    same(socket.list(&only)?, vec![ours.clone()], "one")?;
    same(socket.list(&ClsactFilter::default())?, vec![ours.clone()], "one in all")?;
    same(socket.list(&BpfFilterFilter::on(UPLINK))?, Vec::<BpfFilter>::new(), "filters")?;
    socket.delete(&ours)?;
    same(socket.list(&only)?, Vec::<Clsact>::new(), "after")
}
