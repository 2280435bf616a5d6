//! What is sent is what would be read.

use proptest::prelude::*;

use super::strategies::{address, fdb, link, neighbour, nexthop, route, rule};
use super::{check, encode, there_and_back};
use crate::codec::HEADER_LEN;
use crate::object::sealed::Decode;
use crate::{Link, Verb};

const CASES: u32 = 512;

#[test]
fn addresses() {
    check(CASES, address(), |x| assert_eq!(there_and_back(&x, Verb::Replace), x));
}

#[test]
fn neighbours() {
    check(CASES, neighbour(), |x| assert_eq!(there_and_back(&x, Verb::Replace), x));
}

#[test]
fn fdb_entries() {
    check(CASES, fdb(), |x| assert_eq!(there_and_back(&x, Verb::Append), x));
}

#[test]
fn routes() {
    check(CASES, route(), |x| assert_eq!(there_and_back(&x, Verb::Replace), x));
}

#[test]
fn rules() {
    check(CASES, rule(), |x| assert_eq!(there_and_back(&x, Verb::Add), x));
}

#[test]
fn nexthop_objects() {
    check(CASES, nexthop(), |x| assert_eq!(there_and_back(&x, Verb::Replace), x));
}

/// Also the kinds that the running kernel may lack.
#[test]
fn links() {
    check(2 * CASES, link(), |x| {
        let mut back = there_and_back(&x, Verb::Change);
        // What a request does not say reads as zero.
        back.carrier = None;
        back.index = back.index.filter(|index| index.0 != 0);
        assert_eq!(back, x);
    });
}

#[test]
fn an_alias_follows_the_device() {
    check(64, link(), |x| {
        let bytes = encode(&x, Verb::Add).unwrap();
        let first = crate::codec::u32_at(&bytes, 0).unwrap() as usize;
        assert_eq!(first < bytes.len(), x.alias.is_some());
        if let Some(body) = bytes.get(first + HEADER_LEN..) {
            let second = Link::decode(body).unwrap();
            assert_eq!((second.name, second.alias), (x.name, x.alias));
        }
    });
}

/// The object that a delete request names is the one that was added.
#[test]
fn deletes_keep_the_key() {
    check(CASES, (fdb(), neighbour(), route(), rule(), address(), nexthop()), |objects| {
        let (fdb, neighbour, route, rule, address, nexthop) = objects;
        let back = there_and_back(&fdb, Verb::Delete);
        assert_eq!((back.dev, back.lladdr, back.dst), (fdb.dev, fdb.lladdr, fdb.dst));
        let back = there_and_back(&neighbour, Verb::Delete);
        assert_eq!(
            (back.dev, back.dst, back.flags),
            (neighbour.dev, neighbour.dst, neighbour.flags)
        );
        let back = there_and_back(&route, Verb::Delete);
        assert_eq!(
            (back.dst, back.table, back.tos, back.metric, back.protocol),
            (route.dst, route.table, route.tos, route.metric, route.protocol)
        );
        assert_eq!(there_and_back(&rule, Verb::Delete), rule);
        let back = there_and_back(&address, Verb::Delete);
        assert_eq!((back.dev, back.net, back.peer), (address.dev, address.net, address.peer));
        assert_eq!(there_and_back(&nexthop, Verb::Delete).id, nexthop.id);
    });
}

/// Each object prints as one command per message, without an empty word.
#[test]
fn commands_are_lines_of_words() {
    let verbs = prop::sample::select(vec![Verb::Add, Verb::Change, Verb::Delete]);
    check(
        CASES,
        (link(), route(), rule(), nexthop(), verbs),
        |(link, route, rule, nexthop, verb)| {
            let mut link = link;
            link.alias = None;
            for command in
                [link.command(verb), route.command(verb), rule.command(verb), nexthop.command(verb)]
            {
                assert!(command.starts_with("ip ") && !command.contains("  "), "{command:?}");
                assert_eq!(command.trim(), command);
            }
        },
    );
}
