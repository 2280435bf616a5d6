//! A plan does what the commands do that it prints as.

use overlay_backend::Owner;
use overlay_lab::Snapshot;
use overlay_netlink::{Object, Protocol};
use overlay_wire::IpVersion;

use crate::fixture::{Program, foreign, has_iproute2, ip, net, over, run, site, some_peer};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 2] = [
    ("a printed plan does the same by iproute2, over IPv4", || printed(IpVersion::V4)),
    ("a printed plan does the same by iproute2, over IPv6", || printed(IpVersion::V6)),
];

/// What is ours or hangs on what is ours, but for device numbers, which differ from host to host, and
/// the mark on addresses, which not every iproute2 can set.
fn ours(snapshot: &Snapshot) -> Snapshot {
    let theirs = foreign(snapshot);
    snapshot.only(|object| !theirs.objects().contains(object)).map(|mut object| {
        match &mut object {
            Object::Link(link) => link.index = None,
            Object::Address(address) if address.protocol == Owner::DEFAULT_PROTOCOL => {
                address.protocol = Protocol::UNSPEC;
            }
            _ => {}
        }
        object
    })
}

fn printed(underlay: IpVersion) -> Outcome {
    if !has_iproute2("a printed plan")? {
        return Ok(());
    }
    // Two hosts that are alike, each on a switch of its own.
    let sites = [site()?, site()?];
    let [by_netlink, by_hand] = sites.each_ref().map(|site| &site.a);
    let options = over(underlay);
    let peer = |number| {
        let mut peer = some_peer(number);
        peer.endpoints.push(ip(&format!("fd00:16::{number:x}")));
        peer.data.v6.clone_from(&peer.data.v4);
        peer
    };
    let [mut first, mut second] = [by_netlink, by_hand].map(|spot| spot.program(&options));
    let step = |first: &mut Program, second: &mut Program| -> Outcome {
        first.converge();
        second.reconciler.observe(&mut second.socket)?;
        let plan = second.reconciler.plan()?;
        assert!(!plan.is_empty() && plan.refused.is_empty(), "{plan:?}");
        for line in plan.to_string().lines() {
            run(&by_hand.host, line).map_err(|error| format!("{line}: {error}\n{plan}"))?;
        }
        // Nothing is left to do.
        let report = second.reconcile();
        assert_eq!(report.writes(), 0, "{report:?}\n{plan}");
        let [applied, executed] =
            [by_netlink, by_hand].map(|spot| ours(&spot.host.settled().expect("a snapshot")));
        assert!(applied == executed, "{plan}\n{}", applied.difference(&executed));
        Ok(())
    };
    for program in [&mut first, &mut second] {
        program.set_peers((0..5).map(peer));
    }
    step(&mut first, &mut second)?;

    // Some go, one moves, one gets another subnet; the device gets another MTU.
    for (program, spot) in [(&mut first, by_netlink), (&mut second, by_hand)] {
        let mut node = spot.node();
        node.underlay.mtu = 1400;
        *program = spot.program_of(node, &options);
        let mut fewer: Vec<_> = (0..3).map(peer).collect();
        fewer[0].endpoints = peer(900).endpoints;
        fewer[1].subnets[0] = net("10.77.0.0/24");
        program.set_peers(fewer);
    }
    step(&mut first, &mut second)?;

    for program in [&mut first, &mut second] {
        program.network.set_peers([], &mut program.reconciler);
    }
    step(&mut first, &mut second)
}
