//! No bytes make a reader panic.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::strategies::{address, fdb, link, neighbour, nexthop, route, rule};
use super::{check, encode};
use crate::fuzzing::netlink_messages;
use crate::{Object, Verb};

#[test]
fn arbitrary_bytes() {
    check(2048, vec(any::<u8>(), 0..200), |bytes| netlink_messages(&bytes));
}

#[test]
fn objects_cut_and_damaged() {
    let object = prop_oneof![
        address().prop_map(Object::from),
        neighbour().prop_map(Object::from),
        fdb().prop_map(Object::from),
        route().prop_map(Object::from),
        rule().prop_map(Object::from),
        nexthop().prop_map(Object::from),
        link().prop_map(Object::from),
    ];
    let verb = prop::sample::select(vec![Verb::Add, Verb::Change, Verb::Delete]);
    let damage = vec((any::<Index>(), any::<u8>()), 0..6);
    check(4096, (object, verb, damage, any::<Index>()), |(object, verb, damage, end)| {
        let Ok(mut bytes) = encode(&object, verb) else { return };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        netlink_messages(&bytes);
        netlink_messages(&bytes[..end.index(bytes.len())]);
    });
}
