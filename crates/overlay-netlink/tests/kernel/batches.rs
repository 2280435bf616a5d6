//! Many requests at once.

use std::collections::BTreeSet;

use libtest_mimic::Failed;
use overlay_netlink::{
    Batch, Error, Fdb, FdbFilter, Ifindex, Link, LinkFilter, LinkKind, Neighbour, Nexthop,
    NexthopId, Outcome, Route, RouteFilter, RouteKind, Socket, Verb, VethPeer, WeightedHop,
};
use overlay_wire::MacAddr;
use socket2::SockRef;

use crate::world::{UPLINK, VXLAN, furnished};
use crate::{Case, ensure, ip, mac, name, net, same};

pub(crate) const CASES: [Case; 10] = [
    ("batches::results_by_index_in_large_buffers", in_large_buffers),
    ("batches::results_by_index_in_small_buffers", in_small_buffers),
    ("batches::every_request_may_fail", every_request_may_fail),
    ("batches::larger_than_the_send_buffer", larger_than_the_send_buffer),
    ("batches::lost_replies_are_no_success", lost_replies_are_no_success),
    ("batches::an_empty_batch_sends_nothing", an_empty_batch_sends_nothing),
    ("batches::the_same_batch_again", the_same_batch_again),
    ("batches::a_taken_name_keeps_its_alias", a_taken_name_keeps_its_alias),
    ("batches::devices_with_aliases", devices_with_aliases),
    ("batches::what_netlink_cannot_say_is_not_sent", what_netlink_cannot_say_is_not_sent),
];

fn numbered(number: usize) -> MacAddr {
    MacAddr([2, 1, 0, (number >> 16) as u8, (number >> 8) as u8, number as u8])
}

/// `count` FDB entries, of which those at `bad` ask for what the kernel refuses.
fn entries(count: usize, bad: &BTreeSet<usize>) -> Result<Batch, Failed> {
    let mut batch = Batch::new();
    for number in 0..count {
        let entry = Fdb::remote(numbered(number), ip("10.0.0.9"), VXLAN);
        let verb = if bad.contains(&number) { Verb::Delete } else { Verb::Add };
        same(batch.push(verb, &entry)?, number, "the index")?;
    }
    Ok(batch)
}

fn check(
    socket: &mut Socket,
    outcome: &Outcome,
    count: usize,
    bad: &BTreeSet<usize>,
) -> Result<(), Failed> {
    same(outcome.len(), count, "requests")?;
    let failed: BTreeSet<_> = outcome.errors().map(|(index, _)| index).collect();
    same(&failed, bad, "which requests failed")?;
    for (index, error) in outcome.errors() {
        ensure(error.is_not_found(), || error.to_string())?;
        let command = format!("bridge fdb del {} dev vx0", numbered(index));
        ensure(error.to_string().starts_with(&command), || format!("{error}: not {command}"))?;
    }
    let there: BTreeSet<MacAddr> = socket
        .list::<Fdb>(&FdbFilter::on(VXLAN))?
        .into_iter()
        .filter(|entry| entry.dst.is_some())
        .map(|entry| entry.lladdr)
        .collect();
    let expected = (0..count).filter(|number| !bad.contains(number)).map(numbered).collect();
    ensure(there == expected, || format!("{} entries, not {}", there.len(), expected.len()))
}

/// More errors than replies fit a receive buffer of the usual size, and at both ends.
fn sprinkled(count: usize) -> BTreeSet<usize> {
    (0..count).filter(|number| number % 13 == 0 || number + 1 == count).collect()
}

fn in_large_buffers() -> crate::Outcome {
    let (_host, mut socket) = furnished("a")?;
    let bad = sprinkled(5000);
    ensure(bad.len() > 256, || "too few errors".to_owned())?;
    let outcome = socket.execute(&mut entries(5000, &bad)?)?;
    check(&mut socket, &outcome, 5000, &bad)
}

fn in_small_buffers() -> crate::Outcome {
    let (_host, mut socket) = furnished("a")?;
    socket.set_buffers(1)?;
    let bad = sprinkled(5000);
    let outcome = socket.execute(&mut entries(5000, &bad)?)?;
    ensure(outcome.sends() > 100, || format!("{} sends", outcome.sends()))?;
    check(&mut socket, &outcome, 5000, &bad)
}

fn every_request_may_fail() -> crate::Outcome {
    for buffers in [1, 212_992 / 2, 8 << 20] {
        let (_host, mut socket) = furnished("a")?;
        socket.set_buffers(buffers)?;
        let bad = (0..3000).collect();
        let outcome = socket.execute(&mut entries(3000, &bad)?)?;
        check(&mut socket, &outcome, 3000, &bad)?;
    }
    Ok(())
}

fn larger_than_the_send_buffer() -> crate::Outcome {
    let (_host, mut socket) = furnished("a")?;
    // The kernel doubles it: 212992, its usual default.
    socket.set_buffers(106_496)?;
    let mut batch = Batch::new();
    let hops = |last| {
        (0..100)
            .map(|number| WeightedHop {
                hop: overlay_netlink::Hop::onlink(ip(&format!("10.0.0.{}", 2 + number)), UPLINK),
                weight: last,
            })
            .collect::<Vec<_>>()
    };
    for number in 0..200 {
        let route = Route::to(net(&format!("10.1.{number}.0/24"))).multipath(hops(1));
        batch.push(Verb::Add, &route)?;
    }
    let outcome = socket.execute(&mut batch)?;
    ensure(outcome.is_ok(), || format!("{:?}", outcome.errors().next()))?;
    ensure(outcome.sends() > 1, || "one send".to_owned())?;
    let routes = socket.list::<Route>(&RouteFilter::table(254))?;
    same(routes.iter().filter(|r| r.dst.prefix_len() == 24).count(), 201, "routes")
}

/// The receive buffer shrinks behind the socket's back.
fn lost_replies_are_no_success() -> crate::Outcome {
    let (_host, mut socket) = furnished("a")?;
    SockRef::from(&socket).set_recv_buffer_size(1)?;
    let bad = (0..300).collect();
    let mut batch = entries(300, &bad)?;
    for _ in 0..3 {
        match socket.execute(&mut batch) {
            Err(Error::Overrun { .. }) => {}
            other => return crate::fail(format!("{other:?}")),
        }
        // The next conversation hears nothing of the one before.
        socket.link(&name("uplink"))?;
        let error = socket.delete(&Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN)).unwrap_err();
        ensure(error.is_not_found(), || error.to_string())?;
    }
    socket.set_buffers(8 << 20)?;
    let outcome = socket.execute(&mut batch)?;
    same(outcome.errors().count(), 300, "errors")
}

fn an_empty_batch_sends_nothing() -> crate::Outcome {
    let (_host, mut socket) = furnished("a")?;
    let outcome = socket.execute(&mut Batch::new())?;
    ensure(outcome.is_empty() && outcome.is_ok() && outcome.sends() == 0, || format!("{outcome:?}"))
}

fn the_same_batch_again() -> crate::Outcome {
    let (_host, mut socket) = furnished("a")?;
    let mut batch = entries(100, &BTreeSet::new())?;
    ensure(socket.execute(&mut batch)?.is_ok(), || "the first time".to_owned())?;
    let again = socket.execute(&mut batch)?;
    same(again.errors().filter(|(_, e)| e.is_exists()).count(), 100, "taken")?;
    batch.clear();
    batch.push(Verb::Replace, &Fdb::remote(numbered(0), ip("10.0.0.8"), VXLAN))?;
    let outcome = socket.execute(&mut batch)?;
    same((outcome.len(), outcome.is_ok()), (1, true), "after clear")
}

/// A device is created and given its alias in two messages, and the kernel goes on after an error.
fn a_taken_name_keeps_its_alias() -> crate::Outcome {
    let (_host, mut socket) = furnished("a")?;
    socket.change(&Link::named(name("vx0")).alias("somebody else's"))?;
    let intruder = Link::new(name("vx0"), LinkKind::Veth(None)).alias("mine");
    let error = socket.add(&intruder).unwrap_err();
    ensure(error.is_exists(), || error.to_string())?;
    let alias = socket.link(&name("vx0"))?.alias;
    same(alias.as_deref(), Some("somebody else's"), "the alias")
}

fn devices_with_aliases() -> crate::Outcome {
    let (_host, mut socket) = furnished("a")?;
    let mut batch = Batch::new();
    for number in 0..20 {
        // Every fifth name is taken.
        let own = if number % 5 == 0 { "vx0".to_owned() } else { format!("a{number}") };
        let peer = VethPeer::new(name(&format!("b{number}")));
        let cable = LinkKind::Veth(Some(Box::new(peer)));
        batch.push(Verb::Add, &Link::new(name(&own), cable).alias(format!("alias {number}")))?;
        batch.push(Verb::Delete, &Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN))?;
    }
    let outcome = socket.execute(&mut batch)?;
    let failed: Vec<_> = outcome.errors().map(|(index, _)| index).collect();
    let expected: Vec<_> = (0..40).filter(|index| index % 2 == 1 || index % 10 == 0).collect();
    same(failed, expected, "which requests failed")?;
    let links = socket.list::<Link>(&LinkFilter::default())?;
    same(links.iter().filter(|link| link.alias.is_some()).count(), 16, "aliases")
}

fn what_netlink_cannot_say_is_not_sent() -> crate::Outcome {
    let mut batch = Batch::new();
    let hop = || overlay_netlink::Hop::onlink(ip("10.0.0.9"), UPLINK);
    let heavy =
        |weight| Route::to(net("10.1.0.0/24")).multipath(vec![WeightedHop { hop: hop(), weight }]);
    let many =
        Route::to(net("10.1.0.0/24")).multipath(vec![WeightedHop { hop: hop(), weight: 1 }; 5000]);
    let wide = Nexthop::group(NexthopId(1), vec![(NexthopId(2), 1); 9000]);
    let mut foreign = Route::drop(RouteKind::Blackhole, net("10.1.0.0/24"));
    foreign.src = Some(ip("fd00::1"));
    let refused = [
        batch.push(Verb::Add, &heavy(0)),
        batch.push(Verb::Add, &heavy(257)),
        batch.push(Verb::Add, &Route::to(net("10.1.0.0/24")).multipath(vec![])),
        batch.push(Verb::Add, &many),
        batch.push(Verb::Add, &wide),
        batch.push(Verb::Add, &Nexthop::group(NexthopId(1), vec![])),
        batch.push(Verb::Add, &foreign),
        batch.push(Verb::Append, &Nexthop::group(NexthopId(1), vec![(NexthopId(2), 1)])),
        batch.push(Verb::Append, &Neighbour::permanent(ip("10.0.0.9"), mac(1), UPLINK)),
        batch.push(Verb::Add, &Link::named(name("lo"))),
        batch.push(Verb::Replace, &Link::named(name("lo"))),
        batch.push(Verb::Change, &Link::named(name("lo")).alias("x".repeat(256))),
        batch.push(Verb::Add, &Link::new(name("x"), LinkKind::Other("x".repeat(70_000)))),
    ];
    for (at, result) in refused.into_iter().enumerate() {
        ensure(matches!(result, Err(Error::Invalid { .. })), || format!("{at}: {result:?}"))?;
    }
    same(batch.len(), 0, "requests in the batch")?;
    let entry = Fdb::remote(mac(1), ip("10.0.0.9"), Ifindex(1));
    same(batch.push(Verb::Add, &entry)?, 0, "the first index")
}
