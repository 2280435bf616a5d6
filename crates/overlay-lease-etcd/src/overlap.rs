//! Which keys would be those of overlapping subnets, as ranges of keys.
//!
//! A transaction of etcd can ask whether there is any key in a range. The keys of all subnets that overlap a given one
//! are few ranges, so that nobody has to read all leases to make sure that there is none.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::layout::{SHORTEST_V4, SHORTEST_V6, full};
use crate::rpc::KeyRange;

/// All keys below `directory` of subnets, alone or together with one of IPv6, that overlap `net`.
pub(crate) fn v4(directory: &str, net: Ipv4Net) -> Vec<KeyRange> {
    // Addresses within the net have the octets before this one in common, and may have any after it.
    let varying = usize::from(net.prefix_len().saturating_sub(1) / 8);
    let octet = |address: Ipv4Addr| u32::from(address.octets().get(varying).copied().unwrap_or(0));
    let octets = octet(net.network())..=octet(net.broadcast());
    let common = net.network().octets().into_iter().take(varying);
    let common: String = common.map(|octet| format!("{octet}.")).collect();
    let (behind, end) = if varying == 3 { ("-", ".") } else { (".", "/") };
    let inside = runs(&format!("{directory}{common}"), &OCTETS, &octets, &octets, behind, end);

    let address = u128::from(u32::from(net.network()));
    let around = supernets(address, 32, SHORTEST_V4..net.prefix_len()).into_iter();
    let around = around.flat_map(|(address, lengths)| {
        let address = Ipv4Addr::from(u32::try_from(address).unwrap_or_default());
        with_lengths(&format!("{directory}{address}-"), &LENGTHS_V4, &lengths)
    });
    inside.into_iter().chain(around).collect()
}

/// All keys below `directory` of subnets, their addresses written out [in full](full), that overlap `net`.
pub(crate) fn v6(directory: &str, net: Ipv6Net) -> Vec<KeyRange> {
    let inside = KeyRange::between(
        format!("{directory}{}-", full(net.network())),
        format!("{directory}{}.", full(net.broadcast())),
    );
    let address = u128::from(net.network());
    let around = supernets(address, 128, SHORTEST_V6..net.prefix_len()).into_iter();
    let around = around.flat_map(|(address, lengths)| {
        let beginning = format!("{directory}{}-", full(Ipv6Addr::from(address)));
        with_lengths(&beginning, &LENGTHS_V6, &lengths)
    });
    std::iter::once(inside).chain(around).collect()
}

/// The subnets of these lengths that contain this one and begin elsewhere: where, and with which lengths. Those that
/// begin at the same address are among the keys inside already.
fn supernets(
    address: u128,
    bits: u32,
    lengths: std::ops::Range<u8>,
) -> Vec<(u128, RangeInclusive<u32>)> {
    let mut supernets: Vec<(u128, RangeInclusive<u32>)> = Vec::new();
    for length in lengths.map(u32::from) {
        let mask = u128::MAX.checked_shl(bits.saturating_sub(length)).unwrap_or(0);
        match supernets.last_mut() {
            Some((base, lengths)) if *base == address & mask => {
                *lengths = *lengths.start()..=length;
            }
            _ => supernets.push((address & mask, length..=length)),
        }
    }
    supernets.retain(|(base, _)| *base != address);
    supernets
}

/// The keys that go on with one of these lengths, whatever an ampersand may add.
///
/// A shorter length would leave bits behind it, which no lease has. If somebody wrote such a key by hand, it means a
/// subnet that overlaps as well; so it may be in the ranges, and they are fewer.
fn with_lengths(beginning: &str, all: &[u32], lengths: &RangeInclusive<u32>) -> Vec<KeyRange> {
    // The apostrophe comes after the ampersand and before the digits.
    runs(beginning, all, lengths, &(0..=*lengths.end()), "", "'")
}

static OCTETS: LazyLock<Vec<u32>> = LazyLock::new(|| in_the_order_of_text(255));
static LENGTHS_V4: LazyLock<Vec<u32>> = LazyLock::new(|| in_the_order_of_text(32));
static LENGTHS_V6: LazyLock<Vec<u32>> = LazyLock::new(|| in_the_order_of_text(128));

/// 0, 1, 10, 100, 101, .., 11, 110, .., 2, 20, .. What follows a number in a key comes before the digits.
fn in_the_order_of_text(largest: u32) -> Vec<u32> {
    let mut numbers: Vec<_> = (0..=largest).collect();
    numbers.sort_by_key(u32::to_string);
    numbers
}

/// The keys that go on with one of the `wanted` numbers, in decimal, and with `behind`, of which `end` is the successor:
/// one range for each run of `allowed` numbers that are neighbours as text.
fn runs(
    beginning: &str,
    all: &[u32],
    wanted: &RangeInclusive<u32>,
    allowed: &RangeInclusive<u32>,
    behind: &str,
    end: &str,
) -> Vec<KeyRange> {
    let of_run = |run: &[u32]| {
        let (first, last) = (run.first()?, run.last()?);
        let key = |number: &u32, rest: &str| {
            // As long as it will be from the beginning, since there are many of them. No number has more than 3 digits.
            let mut key = String::with_capacity(beginning.len() + 3 + rest.len());
            key.push_str(beginning);
            // Into memory that is there: it cannot fail.
            let _ = write!(key, "{number}{rest}");
            key
        };
        let range = || KeyRange::between(key(first, behind), key(last, end));
        // What is wanted is allowed.
        let there = allowed.contains(first) && run.iter().any(|number| wanted.contains(number));
        there.then(range)
    };
    let same = |a: &u32, b: &u32| allowed.contains(a) == allowed.contains(b);
    all.chunk_by(same).filter_map(of_run).collect()
}

#[cfg(test)]
mod tests {
    use overlay_lease::{NetworkName, Subnets};
    use proptest::prelude::*;

    use super::*;
    use crate::layout::Layout;

    /// What etcd accepts in one transaction by default.
    const MAX_TXN_OPS: usize = 128;

    fn layout() -> Layout {
        Layout::named("/p", &NetworkName::new("red").unwrap()).unwrap()
    }

    fn among(ranges: &[KeyRange], key: &str) -> bool {
        let key = key.as_bytes().to_vec();
        ranges.iter().any(|range| (&range.key..&range.end).contains(&&key))
    }

    fn v4_net() -> impl Strategy<Value = Ipv4Net> {
        // Few different addresses, so that many overlap.
        let octets =
            prop::array::uniform4(prop_oneof![Just(0), Just(1), Just(10), Just(255), any::<u8>()]);
        (octets, SHORTEST_V4..=32)
            .prop_map(|(octets, length)| Ipv4Net::new(octets.into(), length).unwrap().trunc())
    }

    fn v6_net() -> impl Strategy<Value = Ipv6Net> {
        let groups =
            prop::array::uniform8(prop_oneof![Just(0), Just(0xfd00), Just(1), any::<u16>()]);
        (groups, SHORTEST_V6..=128)
            .prop_map(|(groups, length)| Ipv6Net::new(groups.into(), length).unwrap().trunc())
    }

    /// A net, and another that is within it more often than not.
    fn v4_pair() -> impl Strategy<Value = (Ipv4Net, Ipv4Net)> {
        (v4_net(), v4_net(), any::<bool>()).prop_map(|(a, b, related)| {
            let mask = u32::from(a.netmask());
            let within = u32::from(a.network()) | (u32::from(b.network()) & !mask);
            let b = if related { Ipv4Net::new(within.into(), b.prefix_len()).unwrap() } else { b };
            (a, b.trunc())
        })
    }

    fn v6_pair() -> impl Strategy<Value = (Ipv6Net, Ipv6Net)> {
        (v6_net(), v6_net(), any::<bool>()).prop_map(|(a, b, related)| {
            let mask = u128::from(a.netmask());
            let within = u128::from(a.network()) | (u128::from(b.network()) & !mask);
            let b = if related { Ipv6Net::new(within.into(), b.prefix_len()).unwrap() } else { b };
            (a, b.trunc())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn ipv4_keys_are_in_the_ranges_if_they_overlap((a, b) in v4_pair(), v6 in v6_net()) {
            let overlap = Subnets::from(a).overlap(&b.into());
            for (a, b) in [(a, b), (b, a)] {
                let ranges = v4(&layout().v4(), a);
                prop_assert_eq!(among(&ranges, &layout().lease(&b.into())), overlap);
                prop_assert_eq!(among(&ranges, &layout().lease(&(b, v6).into())), overlap);
                prop_assert!(ranges.len() < MAX_TXN_OPS / 2, "{}: {}", a, ranges.len());
            }
        }

        #[test]
        fn ipv6_keys_are_in_the_ranges_if_they_overlap((a, b) in v6_pair()) {
            let overlap = Subnets::from(a).overlap(&b.into());
            for (a, b) in [(a, b), (b, a)] {
                let ranges = v6(&layout().v6_indices(), a);
                prop_assert_eq!(among(&ranges, &layout().v6_index(b)), overlap);
            }
        }
    }

    #[test]
    fn usual_subnets_take_few_ranges() {
        let v4 = |net: &str| v4(&layout().v4(), net.parse().unwrap()).len();
        assert_eq!((v4("10.5.1.0/24"), v4("10.244.255.0/24"), v4("10.5.128.0/17")), (5, 14, 18));
        let v6 = v6(&layout().v6_indices(), "fd12:3456:789a:e::/64".parse().unwrap()).len();
        assert!(v6 < 20, "{v6}");
    }
}
