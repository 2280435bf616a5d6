//! What many peers cost.

use std::time::Instant;

use overlay_backend::{Owner, Reconciler};

use crate::fixture::{Program, Site, ip, options, site, some_peer, some_peers};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 3] = [
    ("a thousand peers leave in few system calls, and then none", thousand),
    ("with a thousand peers a lost device costs as many", thousand_lost),
    ("among ten thousand peers one costs what one costs", one_of_many),
];

/// An FDB entry, and per family a neighbour, a nexthop object and a route.
const PER_PEER: usize = 7;

fn thousand() -> Outcome {
    let Site { a, .. } = &site()?;
    let only_v4 = |count| {
        some_peers(count).map(|mut peer| {
            peer.subnets.truncate(1);
            peer
        })
    };
    let reconciler = Reconciler::new(Owner::default()).without_nexthop_objects();
    let mut program = Program::new(reconciler, a.node(), &options(), &a.host).with_peers([]);
    program.converge();
    // FDB entry, neighbour and route of each.
    program.set_peers(only_v4(1000));
    let report = program.push();
    assert_eq!((report.added, report.writes()), (3000, 3000), "{report}");
    assert!(report.sends <= 8, "{} sends", report.sends);
    let again = program.converge();
    assert_eq!((again.writes(), again.sends), (0, 0));
    Ok(())
}

fn thousand_lost() -> Outcome {
    let Site { a, .. } = &site()?;
    let mut program = a.program(&options()).with_peers(some_peers(1000));
    let report = program.converge();
    assert_eq!(report.writes(), 1000 * PER_PEER + 3, "{report}");
    assert!(report.sends <= 20, "{} sends", report.sends);
    let link = overlay_netlink::Link::named(crate::fixture::name("vxlan.1"));
    program.socket.delete(&link)?;
    let report = program.converge();
    assert_eq!(report.writes(), 1000 * PER_PEER + 3, "{report}");
    Ok(())
}

fn one_of_many() -> Outcome {
    let Site { a, .. } = &site()?;
    let mut program = a.program(&options()).with_peers(some_peers(10_000));
    let report = program.reconcile();
    assert!(report.is_converged() && report.writes() == 10_000 * PER_PEER + 3, "{report}");

    let start = Instant::now();
    let one = some_peer(10_001);
    program.network.upsert_peer(one.clone(), &mut program.reconciler)?;
    let report = program.push();
    assert_eq!(
        (report.added, report.writes(), report.sends),
        (PER_PEER, PER_PEER, 1),
        "{report:?}"
    );

    let mut moved = one.clone();
    moved.endpoints = vec![ip("172.16.99.99")];
    program.network.upsert_peer(moved, &mut program.reconciler)?;
    let report = program.push();
    assert_eq!((report.changed, report.writes(), report.sends), (1, 1, 1), "{report:?}");

    assert!(program.network.remove_peer(&one.id, &mut program.reconciler));
    let report = program.push();
    assert_eq!(
        (report.deleted, report.writes(), report.sends),
        (PER_PEER, PER_PEER, 1),
        "{report:?}"
    );
    let took = start.elapsed();
    // Listing everything once takes longer than this.
    assert!(took.as_millis() < 200, "{took:?}");

    let report = program.reconcile();
    assert_eq!((report.writes(), report.sends), (0, 0), "{report:?}");
    Ok(())
}
