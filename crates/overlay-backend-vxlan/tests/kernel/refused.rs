//! What cannot be is refused with the reason, and nothing is changed.

use overlay_backend::{BackendData, Network, Peer, PeerError, Reconciler, RefusedReason, Underlay};
use overlay_backend_vxlan::Vxlan;
use overlay_netlink::Socket;
use overlay_wire::{IpVersion, Vni};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::fixture::{Site, Spot, has_iproute2, ip, name, net, options, reach, site};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 7] = [
    ("peers that cannot be", peers),
    ("a node that cannot be", node),
    ("a VNI of more than 24 bits", large_vni),
    ("an underlay that does not exist", no_underlay),
    ("an underlay that vanishes takes the overlay along, and brings it back", underlay_vanishes),
    ("an underlay that is renamed", underlay_renamed),
    ("no privilege", unprivileged),
];

fn peers() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let good = b.peer(&options());
    let mut program = a.program(&options()).with_peers([good.clone()]);
    program.converge();
    let before = a.host.settled()?;

    let bad = |alter: &dyn Fn(&mut Peer)| {
        let mut peer = Peer { id: "bad".into(), ..good.clone() };
        peer.subnets = vec![net("10.244.3.0/24"), net("fd00:244:3::/64")];
        peer.endpoints = vec![ip("192.168.32.3")];
        peer.data = data(r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:03"}"#);
        alter(&mut peer);
        peer
    };
    let subnet = |text: &'static str| bad(&move |peer| peer.subnets.push(net(text)));
    let endpoint = |text: &'static str| bad(&move |peer| peer.endpoints = vec![ip(text)]);
    let published = |text: &'static str| bad(&move |peer| peer.data = data(text));
    for (peer, said) in [
        (subnet("10.244.2.128/25"), "overlaps 10.244.2.0/24 of vm2"),
        (subnet("fd00:244::/32"), "overlaps fd00:244:"),
        (subnet("10.244.1.0/28"), "overlaps 10.244.1.0/24 of vm1"),
        (subnet("10.244.3.0/25"), "overlaps 10.244.3.0/24 of bad"),
        (subnet("192.168.0.0/16"), "of the underlay"),
        (subnet("192.168.32.64/26"), "of the underlay"),
        (subnet("fd00:32::/32"), "of the underlay"),
        (subnet("0.0.0.0/0"), "default route"),
        (subnet("::/0"), "default route"),
        (subnet("127.1.0.0/16"), "loopback"),
        (subnet("224.0.0.0/24"), "multicast"),
        (subnet("ff02::/64"), "multicast"),
        (subnet("169.254.7.0/24"), "link-local"),
        (subnet("fe80::/64"), "link-local"),
        (subnet("0.1.0.0/16"), "no destination"),
        (subnet("126.0.0.0/7"), "loopback"),
        (subnet("255.255.255.0/24"), "broadcast"),
        (subnet("fe00::/7"), "link-local"),
        (subnet("::1/128"), "loopback"),
        (subnet("::ffff:10.0.0.0/112"), "stands for IPv4"),
        (endpoint("192.168.32.1"), "is an address of this node (vm1)"),
        (endpoint("192.168.32.2"), "is that of vm2"),
        (endpoint("10.244.3.7"), "inside 10.244.3.0/24 of bad"),
        (endpoint("10.244.2.7"), "inside 10.244.2.0/24 of vm2"),
        (endpoint("fd00:32::3"), "no IPv4 endpoint"),
        (endpoint("224.0.0.1"), "cannot be an endpoint"),
        (endpoint("127.0.0.1"), "cannot be an endpoint"),
        (endpoint("0.0.0.0"), "cannot be an endpoint"),
        (endpoint("255.255.255.255"), "cannot be an endpoint"),
        (published(r#"{"VNI":1}"#), "VtepMAC"),
        (published(r#"{"VNI":1,"VtepMAC":"02:00:00:00:03"}"#), "does not understand"),
        (published(r#"{"VNI":2,"VtepMAC":"02:00:00:00:00:03"}"#), "VNI 2"),
        (published(r#"{"VNI":16777216,"VtepMAC":"02:00:00:00:00:03"}"#), "16777215"),
        (published(r#"{"VNI":1,"VtepMAC":"00:00:00:00:00:00"}"#), "one station"),
        (published(r#"["\u0000"]"#), "does not understand"),
        (bad(&|peer| peer.data = BackendData::default()), "there is none"),
        (bad(&|peer| peer.data = good.data.clone()), "wants what overlay/vm2 has"),
    ] {
        let error =
            program.network.upsert_peer(peer.clone(), &mut program.reconciler).expect_err(said);
        let text = error.to_string();
        assert!(text.contains(said) && text.contains("bad"), "{said}: {text}");
        // Nor does a snapshot with it get further than the good peer.
        let refused = program.network.set_peers([peer, good.clone()], &mut program.reconciler);
        assert!(refused.len() == 1, "{refused:?}");
        let report = program.reconcile();
        assert_eq!((report.writes(), report.sends), (0, 0), "{text}: {report:?}");
    }
    let after = a.host.settled()?;
    assert_eq!(before, after, "{}", before.difference(&after));

    // A peer that goes bad stays as it was.
    let mut gone_bad = good.clone();
    gone_bad.subnets.push(net("0.0.0.0/0"));
    let refused = program.network.set_peers([gone_bad], &mut program.reconciler);
    assert!(matches!(refused[..], [PeerError::Unroutable { .. }]), "{refused:?}");
    assert_eq!(program.reconcile().writes(), 0);
    Ok(())
}

fn data(text: &str) -> BackendData {
    BackendData::of(IpVersion::V4, text.parse().expect("JSON"))
}

fn node() -> Outcome {
    let Site { a, .. } = &site()?;
    for (subnet, said) in [
        ("10.244.1.128/25", "overlaps"),
        ("192.168.0.0/16", "of the underlay"),
        ("0.0.0.0/0", "default route"),
        ("127.0.0.0/8", "loopback"),
    ] {
        let mut node = a.node();
        node.subnets.push(net(subnet));
        let mut reconciler = Reconciler::new(overlay_backend::Owner::default());
        let backend = Vxlan::new(&node, &options())?;
        let error = Network::new("overlay", node, backend, &mut reconciler).expect_err(said);
        assert!(error.to_string().contains(said), "{error}");
    }
    Ok(())
}

fn large_vni() -> Outcome {
    let error = Vni::new(1 << 24).expect_err("more than 24 bits").to_string();
    assert!(error.contains("16777216") && error.contains("16777215"), "{error}");
    let Site { a, b, .. } = &site()?;
    let mut options = options();
    options.vni = Vni::MAX;
    for (here, there) in [(a, b), (b, a)] {
        here.program(&options).with_peers([there.peer(&options)]).converge();
    }
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn no_underlay() -> Outcome {
    let Site { a, .. } = &site()?;
    let error = Underlay::observe(&mut a.host.socket()?, &name("eth9")).expect_err("no eth9");
    let text = error.to_string();
    assert!(text.contains("eth9 does not exist") && text.contains("eth0"), "{text}");

    let mut node = a.node();
    node.underlay.dev = name("eth9");
    let before = a.host.settled()?;
    let mut program = a.program_of(node, &options()).with_peers(crate::fixture::some_peers(3));
    let report = program.reconcile();
    assert_no_device(&report, "eth9");
    let after = a.host.settled()?;
    assert_eq!(before, after, "{}", before.difference(&after));
    Ok(())
}

/// One message says it, and nothing was tried.
fn assert_no_device(report: &overlay_backend::Report, device: &str) {
    assert_eq!((report.writes(), report.failed.len()), (0, 0), "{report:?}");
    let [refused] = &report.refused[..] else { panic!("{report:?}") };
    assert!(
        matches!(refused.reason, RefusedReason::NoDevice { name: dev } if dev == name(device)),
        "{refused}"
    );
    assert!(refused.to_string().contains(&format!("{device} does not exist")), "{refused}");
}

fn started(a: &Spot, b: &Spot) -> crate::fixture::Program {
    b.program(&options()).with_peers([a.peer(&options())]).converge();
    let mut program = a.program(&options()).with_peers([b.peer(&options())]);
    program.converge();
    program
}

fn underlay_vanishes() -> Outcome {
    if !has_iproute2("an underlay that vanishes")? {
        return Ok(());
    }
    let site = site()?;
    let (a, b) = (&site.a, &site.b);
    let kept = started(a, b).keep();
    a.ip("ip link del eth0");
    let report = kept.next(|report| !report.is_converged()).expect("a refusal");
    assert_no_device(&report, "eth0");
    site.plug(a)?;
    let report = kept.next(|report| report.is_converged());
    assert!(report.is_ok(), "{report:?}");
    kept.stop().converge();
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn underlay_renamed() -> Outcome {
    if !has_iproute2("an underlay that is renamed")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    let kept = started(a, b).keep();
    a.ip("ip link set eth0 down");
    a.ip("ip link set eth0 name wan0 up");
    let report = kept.next(|report| !report.is_converged()).expect("a refusal");
    assert_no_device(&report, "eth0");
    // The kernel minds numbers and not names: what is there goes on working.
    reach(a, b, &IpVersion::ALL);
    a.ip("ip link set wan0 down");
    a.ip("ip link set wan0 name eth0 up");
    let report = kept.next(|report| report.is_converged());
    assert!(report.is_ok(), "{report:?}");
    kept.stop().converge();
    Ok(())
}

fn unprivileged() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let before = a.host.settled()?;
    let mut program = a.program(&options()).with_peers([b.peer(&options())]);
    let report = a.host.run(|| {
        // Of this thread only.
        let mut sets = capabilities(None)?;
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets)?;
        let mut socket = Socket::open()?;
        let report = program.reconciler.reconcile(&mut socket)?;
        Ok::<_, libtest_mimic::Failed>(report)
    })?;
    assert_eq!(report.writes(), 0, "{report:?}");
    let [failure] = &report.failed[..] else { panic!("{report:?}") };
    assert!(failure.error.is_permission(), "{failure}");
    let text = failure.to_string();
    assert!(text.contains("vxlan.1") && text.contains("CAP_NET_ADMIN"), "{text}");
    let after = a.host.settled()?;
    assert_eq!(before, after, "{}", before.difference(&after));
    Ok(())
}
