//! A program that starts anew finds what is there, keeps what is right, and puts right the rest.

use std::thread;
use std::time::Duration;

use overlay_backend::{Network, Owner, Peer, Reconciler};
use overlay_backend_vxlan::{Vxlan, VxlanOptions};
use overlay_lab::{PingReport, PingRequest, ping};
use overlay_netlink::{Object, Via};
use overlay_wire::IpVersion;

use crate::fixture::{Program, Site, Spot, VTEP, link, net, options, reach, site, some_peers, vni};
use crate::repair::litter;
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 11] = [
    ("a restart writes nothing and loses nothing", same_again),
    ("a restart with another MTU changes the device in place and loses nothing", another_mtu),
    ("peers that went while the program was stopped are removed", peers_went),
    ("a subnet that changed while the program was stopped is followed", own_subnet_changed),
    ("the order of peers does not matter", another_order),
    ("nexthop objects are taken over under the numbers that they have", adopted_numbers),
    ("nexthop objects are taken over after a look before the peers are known", adopted_later),
    ("another VNI or port makes the device anew, with all peers", another_device),
    ("nexthop objects go and come without a loss", with_and_without_nexthops),
    ("nothing is written before the peers are known", incomplete),
    ("clearing leaves nothing of ours and all of others", cleared),
];

/// Pings for about a second while `work` is done, which must take less.
fn while_pinging(from: &Spot, to: &Spot, work: impl FnOnce()) -> Vec<PingReport> {
    thread::scope(|scope| {
        let pings: Vec<_> = to
            .inside()
            .into_iter()
            .map(|address| {
                let request =
                    PingRequest::to(address).count(100).interval(Duration::from_millis(10));
                scope.spawn(move || ping(&from.container, &request).expect("a ping"))
            })
            .collect();
        thread::sleep(Duration::from_millis(200));
        work();
        assert!(pings.iter().all(|ping| !ping.is_finished()), "it took too long to tell");
        pings.into_iter().map(|ping| ping.join().expect("no panic")).collect()
    })
}

fn assert_no_loss(reports: &[PingReport]) {
    assert!(reports.iter().all(PingReport::perfect), "{reports:?}");
}

fn start(here: &Spot, there: &Spot) -> Program {
    here.program(&options()).with_peers([there.peer(&options())])
}

fn started_site() -> overlay_lab::Result<Site> {
    let site = site()?;
    start(&site.a, &site.b).converge();
    start(&site.b, &site.a).converge();
    reach(&site.a, &site.b, &IpVersion::ALL);
    Ok(site)
}

fn same_again() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let before = a.host.settled()?;
    let reports = while_pinging(a, b, || {
        for _ in 0..3 {
            let report = start(a, b).converge();
            assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
        }
    });
    assert_no_loss(&reports);
    let after = a.host.settled()?;
    assert_eq!(before, after, "{}", before.difference(&after));
    Ok(())
}

fn another_mtu() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let index = link(&a.host, VTEP).and_then(|link| link.index);
    let mut node = a.node();
    node.underlay.mtu = 1400;
    let reports = while_pinging(a, b, || {
        let mut program = a.program_of(node, &options()).with_peers([b.peer(&options())]);
        let report = program.converge();
        assert_eq!((report.added, report.changed, report.deleted), (0, 1, 0), "{report:?}");
    });
    assert_no_loss(&reports);
    let after = link(&a.host, VTEP).expect("a device");
    assert_eq!((after.mtu, after.index), (Some(1350), index));
    Ok(())
}

fn peers_went() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let before = a.host.settled()?;
    let with = some_peers(20).chain([b.peer(&options())]);
    a.program(&options()).with_peers(with).converge();
    let report = start(a, b).converge();
    // Per peer and family a neighbour, a nexthop object and a route; and an FDB entry.
    assert_eq!((report.added, report.changed, report.deleted), (0, 0, 20 * 7), "{report:?}");
    let after = a.host.settled()?;
    assert_eq!(before, after, "{}", before.difference(&after));
    Ok(())
}

fn own_subnet_changed() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let mut node = a.node();
    node.subnets = vec![net("10.245.1.0/24"), net("fd00:245:1::/64")];
    let mut program = a.program_of(node, &options()).with_peers([b.peer(&options())]);
    let report = program.converge();
    assert_eq!((report.added, report.changed, report.deleted), (2, 0, 2), "{report:?}");
    let addresses: Vec<_> = a
        .host
        .settled()?
        .objects()
        .iter()
        .filter_map(|object| match object {
            Object::Address(o) if o.protocol == Owner::DEFAULT_PROTOCOL => Some(o.net),
            _ => None,
        })
        .collect();
    assert_eq!(addresses, [net("10.245.1.0/32"), net("fd00:245:1::/128")]);
    Ok(())
}

fn another_order() -> Outcome {
    let Site { a, .. } = &site()?;
    let peers: Vec<Peer> = some_peers(50).collect();
    a.program(&options()).with_peers(peers.clone()).converge();
    let report = a.program(&options()).with_peers(peers.into_iter().rev()).converge();
    assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
    Ok(())
}

/// A network of another name asks for other numbers.
fn renamed(spot: &Spot, reconciler: &mut Reconciler) -> Network<Vxlan> {
    let node = spot.node();
    let backend = Vxlan::new(&node, &options()).expect("a backend");
    Network::new("other", node, backend, reconciler).expect("a network")
}

fn adopted_numbers() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let mut reconciler = Reconciler::new(Owner::default());
    let mut network = renamed(a, &mut reconciler);
    network.set_peers([b.peer(&options())], &mut reconciler);
    let report = reconciler.reconcile(&mut a.host.socket()?)?;
    assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
    Ok(())
}

fn adopted_later() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let mut reconciler = Reconciler::new(Owner::default());
    reconciler.observe(&mut a.host.socket()?)?;
    let mut network = renamed(a, &mut reconciler);
    network.set_peers([b.peer(&options())], &mut reconciler);
    let report = reconciler.reconcile(&mut a.host.socket()?)?;
    assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
    Ok(())
}

fn another_device() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let port = VxlanOptions::IANA_PORT;
    for (number, port) in [(1, port), (2, port), (2, VxlanOptions::LINUX_PORT)] {
        let mut options = options();
        (options.vni, options.port) = (vni(number), port);
        for (here, there) in [(a, b), (b, a)] {
            let report = here.program(&options).with_peers([there.peer(&options)]).converge();
            // The MAC address is derived from the VNI.
            assert!(report.writes() >= 9, "{report:?}");
        }
        reach(a, b, &IpVersion::ALL);
    }
    Ok(())
}

fn with_and_without_nexthops() -> Outcome {
    let Site { a, b, .. } = &started_site()?;
    let with = a.host.settled()?;
    let is_nexthop = |object: &Object<_>| match object {
        Object::Nexthop(_) => true,
        Object::Route(route) => matches!(route.via, Via::Nexthop(_)),
        _ => false,
    };
    let reports = while_pinging(a, b, || {
        for _ in 0..2 {
            let reconciler = Reconciler::new(Owner::default()).without_nexthop_objects();
            let report = Program::new(reconciler, a.node(), &options(), &a.host)
                .with_peers([b.peer(&options())])
                .converge();
            assert_eq!((report.added, report.changed, report.deleted), (0, 2, 2), "{report:?}");
            let now = a.host.snapshot().expect("a snapshot");
            assert_eq!(now.only(is_nexthop), overlay_lab::Snapshot::default());

            let report = start(a, b).converge();
            assert_eq!((report.added, report.changed, report.deleted), (2, 2, 0), "{report:?}");
        }
    });
    assert_no_loss(&reports);
    let after = a.host.settled()?;
    assert_eq!(with, after, "{}", with.difference(&after));
    Ok(())
}

fn incomplete() -> Outcome {
    let Site { a, .. } = &started_site()?;
    let before = a.host.settled()?;
    let mut program = a.program(&options());
    let error = program.reconciler.reconcile(&mut program.socket).expect_err("no peers yet");
    assert!(error.to_string().contains("not complete"), "{error}");
    let after = a.host.settled()?;
    assert_eq!(before, after, "{}", before.difference(&after));
    Ok(())
}

fn cleared() -> Outcome {
    if !crate::fixture::has_iproute2("clearing")? {
        return Ok(());
    }
    let Site { a, b, .. } = &site()?;
    litter(a);
    let before = a.host.settled()?;
    let mut program = start(a, b);
    program.converge();
    program.set_peers(some_peers(10).chain([b.peer(&options())]));
    program.push();
    let Program { network, mut reconciler, mut socket, .. } = program;
    network.clear(&mut reconciler);
    let report = reconciler.reconcile(&mut socket)?;
    assert!(report.is_converged(), "{report:?}");
    let after = a.host.settled()?;
    assert_eq!(before, after, "{}", before.difference(&after));
    Ok(())
}
