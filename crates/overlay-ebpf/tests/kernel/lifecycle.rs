//! Attaching, detaching, and what is left behind.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use overlay_ebpf::attach::{Attachment, FILTER_PRIORITY, Hook, Method, sweep};
use overlay_ebpf::probe::{Mixtures, Support};
use overlay_ebpf::tunnel::{AttachOptions, Format, TunnelOptions, Xdp};
use overlay_ebpf::{Error, Tunnel};
use overlay_lab::{PingRequest, ping};
use overlay_netlink::{
    BpfFilter, BpfFilterFilter, Clsact, ClsactFilter, Ifindex, TrafficFilter, TrafficHook,
};

use crate::fixture::{Node, Pair, TUN, UNDERLAY, pair, site};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 7] = [
    ("what is detached is as if it had never been", detached),
    ("a filter that a crash left behind is swept away", crashed),
    ("filters and queueing disciplines of others stay", foreign),
    ("XDP programs of others stay", foreign_xdp),
    ("options that contradict themselves are refused", refused),
    ("a device that is not there is an error with its number", no_device),
    ("what works here is known before", probed),
];

fn detached() -> Outcome {
    for options in [
        AttachOptions::new(),
        AttachOptions::new().method(Method::Clsact),
        AttachOptions::new().xdp(Xdp::Native),
    ] {
        let Pair { nodes: [a, b], tunnels, attached } =
            pair(|node| node.options(), false, options)?;
        let there = PingRequest::to(b.inner(false));
        assert!(ping(&a.host, &there)?.perfect());
        drop(attached);
        assert!(ping(&a.host, &there).is_ok_and(|report| report.received == 0));
        for device in [TUN, UNDERLAY] {
            assert_eq!(filters(&a, device), []);
            assert!(!has_clsact(&a, device), "{device}");
        }
        let _attached = [a.attach(&tunnels[0], options), b.attach(&tunnels[1], options)];
        assert!(ping(&a.host, &there)?.perfect());
    }
    Ok(())
}

fn crashed() -> Outcome {
    let Pair { nodes: [a, b], tunnels, attached: [ours, _theirs] } =
        pair(|node| node.options(), false, AttachOptions::new().method(Method::Clsact))?;
    assert!(!ours.attachments().iter().any(Attachment::ends_with_process));
    // What is never dropped is what a crash leaves.
    std::mem::forget(ours);
    let left = filters(&a, UNDERLAY);
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].priority, left[0].name.as_str()), (FILTER_PRIORITY, "overlay/node1"));

    let successor = a.tunnel(&a.options(), &b, false);
    let attached = a.attach(&successor, AttachOptions::new());
    assert_eq!(filters(&a, UNDERLAY), []);
    assert!(ping(&a.host, &PingRequest::to(b.inner(false)))?.perfect());
    assert_eq!(tunnels[0].counters()?.sent.packets, 0);
    assert!(successor.counters()?.sent.packets > 0);
    drop(attached);
    Ok(())
}

fn foreign() -> Outcome {
    let [a, b] = &site()?;
    let tunnel = a.tunnel(&a.options(), b, false);
    let (device, mut socket) = (a.ifindex(UNDERLAY), a.host.socket()?);
    socket.add(&Clsact::new(device))?;
    let mut theirs = Vec::new();
    // Another's name under our priority, ours under another priority, and neither.
    for (handle, priority, name) in
        [(1, FILTER_PRIORITY, "theirs"), (2, 7, "overlay/node1"), (3, 9, "x")]
    {
        let mut filter = BpfFilter::new(device, TrafficHook::Ingress, priority);
        filter.handle = handle;
        filter.name = name.to_owned();
        filter.program = Some(tunnel.ingress().as_fd().as_raw_fd());
        socket.add(&filter)?;
        theirs.push((priority, name.to_owned()));
    }
    theirs.sort();
    let seen = |node: &Node| {
        let filters = filters(node, UNDERLAY).into_iter();
        let mut seen: Vec<_> = filters.map(|f| (f.priority, f.name)).collect();
        seen.sort();
        seen
    };
    assert_eq!(seen(a), theirs);
    let attached = a.attach(&tunnel, AttachOptions::new().method(Method::Clsact));
    assert_eq!(seen(a).len(), theirs.len() + 1);
    drop(attached);
    assert_eq!(seen(a), theirs);
    assert_eq!(a.host.run(|| sweep(device, "node1"))?, 0);
    assert_eq!(seen(a), theirs);
    assert!(has_clsact(a, UNDERLAY));
    other_kinds(b, a)
}

/// A queueing discipline that was made for our filter stays when somebody has hung another kind of filter on it.
fn other_kinds(node: &Node, peer: &Node) -> Outcome {
    let tunnel = node.tunnel(&node.options(), peer, false);
    let attached = node.attach(&tunnel, AttachOptions::new().method(Method::Clsact));
    let words = format!("filter add dev {UNDERLAY} ingress pref 5 u32 match u32 0 0");
    let added = node.host.run(|| Command::new("tc").args(words.split(' ')).output());
    match added {
        Ok(output) if output.status.success() => {}
        other => {
            let why = format!("tc {words}: {other:?}");
            return Ok(overlay_lab::cannot_run("filters of other kinds", "u32", &why)?);
        }
    }
    drop(attached);
    let mut socket = node.host.socket()?;
    let which = BpfFilterFilter::on(node.ifindex(UNDERLAY));
    let left: Vec<TrafficFilter> = socket.list(&which)?;
    let theirs = |filter: &&TrafficFilter| filter.kind == "u32" && filter.priority == 5;
    let theirs = left.iter().find(theirs).ok_or("the filter of somebody else is gone")?;
    socket.delete(theirs)?;
    assert_eq!(socket.list::<TrafficFilter>(&which)?, []);
    assert!(socket.add(theirs).is_err(), "a filter of any kind cannot be made");
    Ok(())
}

fn foreign_xdp() -> Outcome {
    let [a, b] = &site()?;
    let options = AttachOptions::new().xdp(Xdp::Native);
    let [first, second] = [(); 2].map(|()| a.tunnel(&a.options(), b, false));
    let attached = a.attach(&first, options);
    let error = a.host.run(|| second.attach(options)).expect_err("there is one already");
    assert!(matches!(&error, Error::Attach { hook: Hook::XdpNative, .. }), "{error}");
    assert_eq!(error.errno(), Some(libc::EBUSY), "{error}");
    drop(attached);
    let _attached = a.attach(&second, options);
    Ok(())
}

fn refused() -> Outcome {
    let options = || TunnelOptions::new(Ifindex(1), Ifindex(1));
    let local = |text: &str| text.parse().expect("an address");
    for (options, reason) in [
        (options(), "no address"),
        (options().local(local("192.0.2.1")).local(local("192.0.2.2")), "two addresses"),
        (options().local(local("192.0.2.1")).format(Format::Udp { port: 0 }), "port 0"),
    ] {
        let error = Tunnel::load(&options).expect_err("refused");
        assert!(matches!(error, Error::Options { .. }));
        assert!(error.to_string().contains(reason), "{error}");
    }
    Ok(())
}

fn no_device() -> Outcome {
    let [a, b] = &site()?;
    let mut options = a.options();
    options.underlay = Ifindex(123_456);
    let tunnel = a.tunnel(&options, b, false);
    let error = a.host.run(|| tunnel.attach(AttachOptions::new())).expect_err("no such device");
    assert_eq!(error.errno(), Some(libc::ENODEV));
    assert!(error.to_string().contains("ingress of if123456"), "{error}");
    Ok(())
}

fn probed() -> Outcome {
    let [a, _] = &site()?;
    let device = a.ifindex(UNDERLAY);
    a.host.run(|| -> Outcome {
        for hook in [Hook::Ingress, Hook::Egress] {
            assert!(Support::of(hook, Method::Auto, device)?.works());
            assert!(Support::of(hook, Method::Clsact, device)?.works());
        }
        for hook in [Hook::XdpNative, Hook::XdpGeneric] {
            assert!(Support::of(hook, Method::Auto, device)?.works());
        }
        assert!(Support::of(Hook::Ingress, Method::Auto, Ifindex(123_456)).is_err());
        Ok(())
    })?;
    assert!(!has_clsact(a, UNDERLAY));
    println!("{:?}", Mixtures::probe()?);
    Ok(())
}

fn filters(node: &Node, device: &str) -> Vec<BpfFilter> {
    let filter = BpfFilterFilter::on(node.ifindex(device));
    node.host.socket().expect("a socket").list(&filter).expect("filters")
}

fn has_clsact(node: &Node, device: &str) -> bool {
    let mut filter = ClsactFilter::default();
    filter.dev = Some(node.ifindex(device));
    let found: Vec<Clsact> =
        node.host.socket().expect("a socket").list(&filter).expect("queueing disciplines");
    !found.is_empty()
}
