//! What becomes of the TUN device.

use std::num::NonZeroU16;
use std::time::Duration;

use overlay_backend::{Backend, Owner};
use overlay_backend_udp::{ForwardError, Forwarder};
use overlay_lab::{PingRequest, ping};
use overlay_netlink::{Bridge, Link, LinkKind};
use overlay_wire::IpVersion;

use crate::fixture::{
    ETH0, Site, Spot, TUN, joined, name, options, over, paced, reach, site, within,
};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 10] = [
    ("a deleted device is made again and repaired", deleted),
    ("a device that goes down and up carries again", flapped),
    ("a restart keeps the device, its routes, and the kernel's state", restarted),
    ("a device of somebody else is left alone", foreign),
    ("somebody else's device in place of a deleted one is left alone, until it is gone", replaced),
    ("a device of ours that cannot be used is made anew", unfit),
    ("a second forwarder of one network is refused, whatever its queues", second),
    ("several queues carry", queues),
    ("without a device the reconciler says what it misses, and goes on once there is one", missing),
    ("removing leaves nothing", removed),
];

fn pings(from: &Spot, to: &Spot) -> bool {
    let request =
        PingRequest::to(to.container_address(IpVersion::V4)).timeout(Duration::from_millis(100));
    ping(&from.container, &request).expect("a ping").perfect()
}

fn deleted() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (at_a, _at_b) = joined(a, b, &options());
    let made = at_a.counters().devices_made;
    assert_eq!(made, 1);
    let kept = at_a.keep();
    for round in 1..=3 {
        let before = a.link(TUN).and_then(|link| link.index);
        a.host.socket()?.delete(&Link::named(name(TUN)))?;
        let back = within(Duration::from_secs(10), || pings(a, b));
        assert!(back.is_some(), "{:?}", kept.counters());
        assert_ne!(a.link(TUN).and_then(|link| link.index), before);
        assert_eq!(kept.counters().devices_made, made + round);
    }
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn flapped() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (at_a, _at_b) = joined(a, b, &options());
    let kept = at_a.keep();
    for device in [TUN, ETH0] {
        a.host.set_down(device)?;
        std::thread::sleep(Duration::from_millis(50));
        a.host.set_up(device)?;
        assert!(within(Duration::from_secs(10), || pings(a, b)).is_some(), "{device}");
    }
    assert_eq!(kept.counters().devices_made, 1);
    Ok(())
}

fn restarted() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (mut at_a, _at_b) = joined(a, b, &options());
    let before = a.host.settled()?;
    let index = a.link(TUN).and_then(|link| link.index);
    for _ in 0..3 {
        let counters = at_a.forwarder.take().expect("it runs").stop();
        assert_eq!(counters.devices_made, u64::from(counters.devices_made > 0));
        assert!(!pings(a, b));
        drop(at_a);
        let mut again = a.program(&options());
        assert_eq!(again.counters().devices_made, 0);
        again.set_peers([b.peer()]);
        let report = again.reconcile();
        assert_eq!((report.writes(), report.is_converged()), (0, true), "{report:?}");
        // The kernel takes a moment to see that the device has a carrier again.
        within(Duration::from_secs(10), || pings(a, b)).expect("it carries again");
        reach(a, b, &IpVersion::ALL);
        at_a = again;
    }
    assert_eq!(a.link(TUN).and_then(|link| link.index), index);
    let after = a.host.settled()?;
    assert_eq!(before.difference(&after), "");
    Ok(())
}

fn foreign() -> Outcome {
    let Site { a, .. } = &site()?;
    let _tun = a.host.tun(TUN)?;
    let before = a.host.settled()?;
    let program = a.program_at_rest(&options());
    let error = Forwarder::start(program.network.backend(), &a.forwarder_options());
    assert!(matches!(error, Err(ForwardError::Foreign { .. })), "{error:?}");
    assert_eq!(before.difference(&a.host.settled()?), "");
    Ok(())
}

fn replaced() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (at_a, _at_b) = joined(a, b, &options());
    // The forwarder is faster than whoever deletes the device and then makes another one.
    let mut netlink = a.host.socket()?;
    let mut renamed = Link::named(name("aside"));
    renamed.index = a.link(TUN).and_then(|link| link.index);
    a.host.set_down(TUN)?;
    netlink.change(&renamed)?;
    netlink.add(&Link::new(name(TUN), LinkKind::Bridge(Bridge::default())))?;
    netlink.delete(&Link::named(name("aside")))?;
    let trouble = || at_a.forwarder().trouble();
    within(Duration::from_secs(10), || trouble().is_some()).expect("it is said");
    assert!(trouble().is_some_and(|why| why.contains("somebody else's")), "{:?}", trouble());
    let there = a.link(TUN).map(|link| link.kind);
    assert!(matches!(there, Some(LinkKind::Bridge(_))), "{there:?}");
    netlink.delete(&Link::named(name(TUN)))?;
    let kept = at_a.keep();
    assert!(within(Duration::from_secs(10), || pings(a, b)).is_some(), "{:?}", kept.counters());
    let program = kept.program.lock().expect("no panic");
    assert_eq!(program.forwarder().trouble(), None);
    Ok(())
}

fn unfit() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let _at_b = b.program(&options()).with_peers([a.peer()]);
    let tun = a.host.tun(TUN)?;
    a.host.socket()?.change(&Link::named(name(TUN)).alias(Owner::default().alias()))?;
    let at_a = a.program(&options()).with_peers([b.peer()]);
    assert_eq!(at_a.counters().devices_made, 1);
    reach(a, b, &IpVersion::ALL);
    drop(tun);
    reach(a, b, &IpVersion::ALL);
    Ok(())
}

fn second() -> Outcome {
    let Site { a, b, .. } = &site()?;
    for queues in [1, 3] {
        let how = a.forwarder_options().queues(NonZeroU16::new(queues).expect("some"));
        let first = a.program_with(&options(), &how).with_peers([b.peer()]);
        let other = a.program_at_rest(&options());
        let error = Forwarder::start(other.network.backend(), &how);
        match error {
            Err(ForwardError::Socket { operation: "bind", source, .. }) => {
                assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
            }
            other => panic!("{other:?}"),
        }
        drop(first);
    }
    Ok(())
}

fn queues() -> Outcome {
    for underlay in IpVersion::ALL {
        let Site { a, b, .. } = &site()?;
        let many = NonZeroU16::new(4).expect("some");
        let start = |here: &Spot, there: &Spot| {
            let how = here.forwarder_options().queues(many);
            here.program_with(&over(underlay), &how).with_peers([there.peer()])
        };
        let (at_a, at_b) = (start(a, b), start(b, a));
        assert_eq!(at_a.forwarder().levels().queues, 4);
        reach(a, b, &IpVersion::ALL);
        let address = b.container_address(IpVersion::V4);
        let time = Duration::from_millis(300);
        let flow = overlay_lab::throughput(&a.container, &b.container, address, time)?;
        assert!(
            flow.bits_per_second() > f64::from(paced(10_000_000)),
            "{flow:?} {:?} {:?}",
            at_a.counters(),
            at_b.counters()
        );
    }
    Ok(())
}

fn missing() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let mut at_a = a.program_at_rest(&options());
    at_a.set_peers([b.peer()]);
    let report = at_a.reconcile();
    let failures: Vec<String> = report.failed.iter().map(ToString::to_string).collect();
    assert!(
        failures.iter().any(|failure| failure.contains(TUN) && failure.contains("netlink")),
        "{failures:?}"
    );
    at_a.start(&a.forwarder_options());
    at_a.converge();
    let _at_b = b.program(&options()).with_peers([a.peer()]);
    reach(a, b, &IpVersion::ALL);
    let link = a.link(TUN).expect("a device");
    let backend = at_a.network.backend();
    assert_eq!((link.mtu, link.gso_max_size), (Some(backend.mtu()), Some(62_532)));
    Ok(())
}

fn removed() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let before = a.host.settled()?;
    let mut at_a = a.program(&options()).with_peers([b.peer()]);
    at_a.forwarder.take().expect("it runs").remove()?;
    assert_eq!(a.link(TUN), None);
    assert_eq!(before.difference(&a.host.settled()?), "");
    Ok(())
}
