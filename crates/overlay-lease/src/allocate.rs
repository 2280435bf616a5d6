//! Which subnets a node gets.

use std::num::NonZeroU32;

use crate::config::NetworkConfig;
use crate::family::{Family, Subnets};
use crate::hash::spread;
use crate::lease::Lease;
use crate::name::NodeId;
use crate::occupancy::{Run, Use, little_used};
use crate::pool::{Pool, Prefix};
use crate::store::Tenant;

/// Which of the free subnets a node gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// Those that it had last, if they are free. Else as with [`LongestFree`](Self::LongestFree).
    #[default]
    Sticky,
    /// One of those that have been free for the longest time: of the first quarter, in which those that nobody is known to
    /// have had come before all others, and those that were freed at the same time count as one. So nodes that choose at
    /// the same moment rarely choose the same.
    LongestFree,
}

/// There is no free subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no {family} subnet is free: the network has {subnets}, {pool}, and there are {leases} leases of them, \
     {reservations} of these without a term"
)]
#[non_exhaustive]
pub struct Exhausted {
    /// The family.
    pub family: Family,
    /// How many subnets the network has.
    pub subnets: u128,
    /// Which these are, as text.
    pub pool: String,
    /// How many leases have one or more of them.
    pub leases: usize,
    /// How many of these are reservations.
    pub reservations: usize,
}

/// Subnets for a node to try one after the other without knowing which are free.
///
/// They are the same whenever and wherever one asks. Each node begins somewhere else in the pool and takes its own way
/// through it, so that nodes that come at the same time rarely meet. No subnet comes twice, and the last one comes when the
/// pool, or the smaller one of two, was walked through.
pub fn guesses(
    config: &NetworkConfig,
    node: &NodeId,
) -> impl Iterator<Item = Subnets> + Send + use<> {
    let mut v4 = config.pools().v4.map(|pool| walk(pool, node));
    let mut v6 = config.pools().v6.map(|pool| walk(pool, node));
    std::iter::from_fn(move || {
        let v4 = v4.as_mut().map(Iterator::next);
        let v6 = v6.as_mut().map(Iterator::next);
        match (v4, v6) {
            (Some(None), _) | (_, Some(None)) => None,
            (v4, v6) => Subnets::new(v4.flatten(), v6.flatten()).ok(),
        }
    })
}

/// Chooses subnets for a node, one from each pool of the network.
///
/// What it chooses overlaps none of the leases, of whatever length they are and whosoever they are: a lease that the node
/// is about to give up must not be among them. Either family is chosen for itself: if only one of the subnets that the node
/// had last is free, it gets that one again.
///
/// Among equally good subnets it is the node's name that decides, always in the same way. Nothing is written by this:
/// others may be choosing the same at the same time, and the store decides who gets it. Then one chooses again, with the
/// lease that was in the way among the leases.
///
/// # Errors
///
/// [`Exhausted`] if all subnets of a pool are taken.
pub fn allocate<'l>(
    config: &NetworkConfig,
    node: &NodeId,
    leases: impl IntoIterator<Item = &'l Lease>,
    tenants: &[Tenant],
    policy: Policy,
) -> Result<Subnets, Exhausted> {
    allocate_of(QUARTER, config, node, leases, tenants, policy)
}

/// What [`allocate`] says at first.
pub(crate) const QUARTER: NonZeroU32 = NonZeroU32::new(4).expect("it is 4");

/// What to look through when others have been faster: a quarter may be no more than there are of them.
pub(crate) const ALL: NonZeroU32 = NonZeroU32::MIN;

/// As [`allocate`], but out of another part of the free subnets than the first quarter: one in `share`.
pub(crate) fn allocate_of<'l>(
    share: NonZeroU32,
    config: &NetworkConfig,
    node: &NodeId,
    leases: impl IntoIterator<Item = &'l Lease>,
    tenants: &[Tenant],
    policy: Policy,
) -> Result<Subnets, Exhausted> {
    // Leases lie scattered in memory. Read in a loop that does nothing else, many are fetched at once.
    let taken: Vec<_> =
        leases.into_iter().map(|lease| (lease.subnets, lease.is_reservation())).collect();
    let v4 = config.pools().v4.map(|pool| choose(&pool, share, node, &taken, tenants, policy));
    let v6 = config.pools().v6.map(|pool| choose(&pool, share, node, &taken, tenants, policy));
    let (v4, v6) = (v4.transpose()?, v6.transpose()?);
    Ok(Subnets::new(v4, v6).expect("a configuration has at least one pool"))
}

/// Chooses a subnet of one family. Of those taken it is told which are reservations.
fn choose<N: Prefix>(
    pool: &Pool<N>,
    share: NonZeroU32,
    node: &NodeId,
    taken: &[(Subnets, bool)],
    tenants: &[Tenant],
    policy: Policy,
) -> Result<N, Exhausted> {
    if policy == Policy::Sticky
        && let Some(subnet) = last(node, tenants)
        && pool.contains(subnet)
        && !taken.iter().any(|(taken, _)| N::of(taken).is_some_and(|taken| overlap(taken, subnet)))
    {
        return Ok(subnet);
    }
    // Of pools with 2^63 subnets or more, only every 2nd, 4th, 8th ... is given away: the others are never missed.
    let last_index = pool.count() - 1;
    let shift = (u128::BITS - last_index.leading_zeros()).saturating_sub(63);
    let number = |index: u128| (index >> shift) as u64;
    let run = |subnets: &Subnets, usage| {
        let (first, last) = pool.overlapped_by(N::of(subnets)?)?;
        Some(Run { first: number(first), last: number(last), usage })
    };
    let mut runs = Vec::with_capacity(taken.len() + tenants.len());
    runs.extend(taken.iter().filter_map(|(subnets, _)| run(subnets, Use::Taken)));
    let leases = runs.len();
    runs.extend(tenants.iter().filter_map(|past| run(&past.subnets, Use::Past(past.since))));
    let random = spread(node, &format!("choice {}", N::FAMILY));
    let chosen = little_used(number(last_index), &mut runs, share, random);
    chosen.and_then(|number| pool.nth(u128::from(number) << shift)).ok_or_else(|| {
        let reserved = taken
            .iter()
            .filter(|(subnets, reserved)| *reserved && run(subnets, Use::Taken).is_some());
        Exhausted {
            family: N::FAMILY,
            subnets: pool.count(),
            pool: pool.to_string(),
            leases,
            reservations: reserved.count(),
        }
    })
}

/// What the node had last.
fn last<N: Prefix>(node: &NodeId, tenants: &[Tenant]) -> Option<N> {
    let own = tenants.iter().filter(|tenant| tenant.node == *node);
    let own = own.filter_map(|tenant| Some((tenant.since, N::of(&tenant.subnets)?)));
    own.max().map(|(_, subnet)| subnet)
}

fn overlap<N: Prefix>(a: N, b: N) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

/// All subnets, with a step between them that has no factor in common with their number, so that none is left out.
fn walk<N: Prefix>(pool: Pool<N>, node: &NodeId) -> impl Iterator<Item = N> + use<N> {
    let count = pool.count();
    let mut step = spread(node, &format!("step {}", N::FAMILY)) % count + 1;
    while gcd(step, count) != 1 {
        step = step % count + 1;
    }
    let mut index = spread(node, &format!("first {}", N::FAMILY)) % count;
    let mut left = count;
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let subnet = pool.nth(index);
        index = (index + step) % count;
        subnet
    })
}

const fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::Attributes;
    use crate::lease::Revision;
    use crate::memory::Memory;
    use crate::pool::sealed::Bits;
    use crate::store::Claim;

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    fn config(json: &str) -> NetworkConfig {
        NetworkConfig::from_json(json).unwrap()
    }

    fn dual() -> NetworkConfig {
        config(
            r#"{"Network": "10.5.0.0/24", "SubnetLen": 28, "EnableIPv6": true,
                "IPv6Network": "fd00::/60", "IPv6SubnetLen": 63}"#,
        )
    }

    fn node(name: impl ToString) -> NodeId {
        NodeId::new(name.to_string()).unwrap()
    }

    fn lease(subnets: &str, ttl: Option<Duration>) -> Lease {
        let revision = Revision::new(1);
        Lease::new(subnets.parse().unwrap(), None, Attributes::default(), ttl, revision, revision)
    }

    fn tenant(name: &str, subnets: &str, since: u64) -> Tenant {
        let subnets = subnets.parse().unwrap();
        Tenant { node: node(name), subnets, since: Revision::new(since) }
    }

    #[test]
    fn guesses_stay_the_same() {
        let guess = |config: &NetworkConfig, name| {
            let guesses = guesses(config, &node(name)).take(3);
            guesses.map(|guess| guess.to_string()).collect::<Vec<_>>()
        };
        let v4 = config(r#"{"Network":"10.5.0.0/16"}"#);
        let first = |name| guess(&v4, name);
        // By another program, after the documentation of the hash.
        assert_eq!(first("node-1"), ["10.5.219.0/24", "10.5.70.0/24", "10.5.176.0/24"]);
        assert_eq!(first("node-2"), ["10.5.133.0/24", "10.5.170.0/24", "10.5.207.0/24"]);
        assert_eq!(
            guess(&dual(), "node-1").get(..2),
            Some(
                &["10.5.0.144/28,fd00:0:0:2::/63", "10.5.0.160/28,fd00:0:0:4::/63"]
                    .map(String::from)[..]
            )
        );
    }

    #[test]
    fn guesses_end_with_the_smaller_pool() {
        let all: Vec<_> = guesses(&dual(), &node("a")).collect();
        assert_eq!(all.len(), 7);
        assert!(all.iter().all(|guess| dual().admits(guess).is_ok()));
        assert_eq!(all.iter().map(Subnets::v4).collect::<BTreeSet<_>>().len(), 7);
        assert_eq!(all.iter().map(Subnets::v6).collect::<BTreeSet<_>>().len(), 7);
        let one =
            config(r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.7.0","SubnetMax":"10.5.7.0"}"#);
        let all: Vec<_> = guesses(&one, &node("a")).collect();
        assert_eq!(all, ["10.5.7.0/24".parse().unwrap()]);
    }

    #[test]
    fn first_guesses_are_spread_over_the_pool() {
        let config = config(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}"#);
        let pool = config.pools().v6.unwrap();
        let mut eighths = [0; 8];
        let mut seen = BTreeSet::new();
        for name in 0..800 {
            let guess = guesses(&config, &node(format!("node-{name}"))).next().unwrap();
            let index = pool.index(guess.v6().unwrap()).unwrap();
            eighths[(index * 8 / pool.count()) as usize] += 1;
            seen.insert(index);
        }
        // 100 are expected in each, with a standard deviation of 9; and less than 5 that meet.
        assert!(eighths.iter().all(|number| (60..140).contains(number)), "{eighths:?}");
        assert!(seen.len() > 780, "{}", seen.len());
    }

    proptest! {
        #[test]
        fn guesses_walk_through_the_pool_once(
            prefix in 20..=28_u8, more in 2..=8_u8, name in "[a-z]{1,8}", skip in 0..64_u128,
        ) {
            let network = Ipv4Net::at(0x0a05_0000, prefix);
            let pool = Pool::with_subnet_len(network, (prefix + more).min(30)).unwrap();
            let first = pool.nth(skip % pool.count()).unwrap();
            let pool = pool.starting_at(first.network()).unwrap();
            let walked: Vec<_> = walk(pool, &node(name)).collect();
            prop_assert_eq!(walked.len() as u128, pool.count());
            prop_assert!(walked.iter().all(|subnet| pool.contains(*subnet)));
            prop_assert_eq!(walked.iter().collect::<BTreeSet<_>>().len(), walked.len());
        }
    }

    #[test]
    fn a_node_gets_again_what_it_had_last() {
        let tenants = [
            tenant("a", "10.5.0.16/28,fd00:0:0:2::/63", 1),
            tenant("b", "10.5.0.32/28,fd00:0:0:4::/63", 2),
        ];
        let get = |leases: &[Lease], policy| {
            allocate(&dual(), &node("a"), leases, &tenants, policy).unwrap()
        };
        assert_eq!(get(&[], Policy::Sticky), tenants[0].subnets);
        assert!(!get(&[], Policy::LongestFree).overlap(&tenants[0].subnets));
        // Each family for itself.
        let half = get(&[lease("10.5.0.16/28", MINUTE)], Policy::Sticky);
        assert_eq!(half.v6(), tenants[0].subnets.v6());
        assert!(half.v4() != tenants[0].subnets.v4() && half.v4() != tenants[1].subnets.v4());
    }

    #[test]
    fn only_enabled_families_are_leased() {
        let v4 = config(r#"{"Network":"10.5.0.0/16"}"#);
        let v6 = config(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}"#);
        for (config, families) in [(v4, (true, false)), (v6, (false, true)), (dual(), (true, true))]
        {
            let subnets = allocate(&config, &node("a"), &[], &[], Policy::default()).unwrap();
            assert_eq!((subnets.v4().is_some(), subnets.v6().is_some()), families);
            assert_eq!(config.admits(&subnets), Ok(()));
        }
    }

    #[test]
    fn reservations_are_respected_and_counted() {
        let reserved = [
            lease("10.5.0.128/25", None),
            lease("10.5.0.64/26,fd00:1::/64", None),
            lease("10.6.0.0/16", None),
        ];
        let mut leases = vec![lease("10.5.0.16/28", MINUTE), lease("10.5.0.32/29", MINUTE)];
        leases.extend(reserved);
        let get = |leases: &[Lease]| allocate(&dual(), &node("a"), leases, &[], Policy::default());
        assert_eq!(get(&leases).unwrap().v4(), Some("10.5.0.48/28".parse().unwrap()));
        leases.push(lease("10.5.0.48/28", MINUTE));
        assert_eq!(
            get(&leases).unwrap_err().to_string(),
            "no IPv4 subnet is free: the network has 15, 10.5.0.16/28 to 10.5.0.240/28 in 10.5.0.0/24, \
             and there are 5 leases of them, 2 of these without a term"
        );
    }

    #[test]
    fn huge_pools_take_no_more_time() {
        for len in [48, 64, 100, 126] {
            let json = format!(
                r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"8000::/1","IPv6SubnetLen":{len}}}"#
            );
            let config = config(&json);
            // Everything but the last quarter is reserved.
            let leases = [lease("8000::/2", None), lease("c000::/3", None)];
            let read = Cell::new(0);
            let counted = leases.iter().inspect(|_| read.set(read.get() + 1));
            let subnets = allocate(&config, &node("a"), counted, &[], Policy::default()).unwrap();
            assert_eq!(read.get(), leases.len());
            assert!(config.admits(&subnets).is_ok());
            assert!(!leases.iter().any(|lease| lease.subnets.overlap(&subnets)));
            let taken = lease("e000::/3", MINUTE);
            let all = leases.iter().chain([&taken]);
            let error = allocate(&config, &node("a"), all, &[], Policy::default()).unwrap_err();
            assert_eq!((error.leases, error.reservations), (3, 2));
            assert!(
                guesses(&config, &node("a")).take(100).all(|guess| config.admits(&guess).is_ok())
            );
        }
    }

    /// A pool that is full to nine tenths, where nodes come and go, some of them for the second time.
    #[test]
    fn reuse_is_fair_at_ninety_percent() {
        let config = config(r#"{"Network":"10.5.0.0/16","SubnetLen":22}"#);
        let pool = config.pools().v4.unwrap();
        let mut memory = Memory::new();
        let under = memory.configure(&config, None).unwrap().revision;
        let mut present: Vec<NodeId> = Vec::new();
        let mut absent: Vec<NodeId> = Vec::new();
        // When a subnet was given back.
        let mut free: BTreeMap<_, _> =
            (0..pool.count()).map(|n| (Subnets::from(pool.nth(n).unwrap()), 0)).collect();
        let mut reused = 0;
        for step in 0..1000_u64 {
            let random = spread(&node(step), "step");
            if present.len() as u128 * 10 >= pool.count() * 9 {
                let leaver = present.swap_remove((random % present.len() as u128) as usize);
                let lease = memory.standing(&leaver).lease.unwrap();
                memory.remove(&lease).unwrap();
                free.insert(lease.subnets, step);
                absent.push(leaver);
            }
            let comer = match step % 3 {
                0 if !absent.is_empty() => {
                    absent.swap_remove(((random >> 64) % absent.len() as u128) as usize)
                }
                _ => node(format!("node-{step}")),
            };
            let last = memory.standing(&comer).last;
            let tenants: Vec<_> = memory.tenants().collect();
            let leases = memory.snapshot().leases;
            let leases = leases.iter().map(|lease| &**lease);
            let subnets = allocate(&config, &comer, leases, &tenants, Policy::Sticky).unwrap();
            match last.filter(|last| free.contains_key(last)) {
                Some(last) => assert_eq!(subnets, last),
                None => {
                    let mut since: Vec<_> = free.values().copied().collect();
                    since.sort_unstable();
                    let quarter = since[since.len().div_ceil(4) - 1];
                    assert!(free[&subnets] <= quarter, "others were free for longer");
                    reused += u32::from(free[&subnets] > 0);
                }
            }
            free.remove(&subnets);
            let attributes = Attributes::default();
            let claim = Claim { subnets, node: Some(comer.clone()), attributes, ttl: None, under };
            memory.create(Duration::ZERO, &claim).unwrap();
            present.push(comer);
        }
        assert!(reused > 500, "{reused}");
    }

    /// Prefixes in and around the pools of [`dual`], of every length that overlaps them in another way.
    fn any_subnets() -> impl Strategy<Value = Subnets> {
        let v4 = (0..=0xff_u128, prop_oneof![4 => Just(28), 1 => 24..=32_u8])
            .prop_map(|(bits, len)| Ipv4Net::at(0x0a05_0000 | bits, len));
        let v6 = (0..=0xf_u128, prop_oneof![4 => Just(63), 1 => 60..=66_u8])
            .prop_map(|(bits, len)| Ipv6Net::at(0xfd00 << 112 | bits << 64, len));
        (prop::option::of(v4), prop::option::weighted(0.3, v6))
            .prop_filter_map("none", |(v4, v6)| Subnets::new(v4, v6).ok())
    }

    fn any_lease() -> impl Strategy<Value = Lease> {
        (any_subnets(), any::<bool>()).prop_map(|(subnets, reserved)| {
            lease(&subnets.to_string(), if reserved { None } else { MINUTE })
        })
    }

    fn any_tenant() -> impl Strategy<Value = Tenant> {
        (0..20_u8, any_subnets(), 0..50_u64).prop_map(|(name, subnets, since)| {
            tenant(&name.to_string(), &subnets.to_string(), since)
        })
    }

    /// What can be chosen, found by looking at each subnet.
    fn good<N: Prefix>(
        pool: &Pool<N>,
        leases: &[Lease],
        tenants: &[Tenant],
        sticky: Option<&NodeId>,
    ) -> Vec<N> {
        let overlaps = |subnet, other: &Subnets| N::of(other).is_some_and(|n| overlap(n, subnet));
        let all = (0..pool.count()).filter_map(|index| pool.nth(index));
        let free: Vec<N> = all
            .filter(|subnet| !leases.iter().any(|lease| overlaps(*subnet, &lease.subnets)))
            .collect();
        let own = tenants.iter().filter(|tenant| sticky == Some(&tenant.node));
        let own = own.filter(|tenant| N::of(&tenant.subnets).is_some());
        let last = own.max_by_key(|tenant| tenant.since).and_then(|last| N::of(&last.subnets));
        if let Some(last) = last.filter(|last| free.contains(last)) {
            return vec![last];
        }
        let last_use = |subnet: &N| {
            let users = tenants.iter().filter(|tenant| overlaps(*subnet, &tenant.subnets));
            users.map(|tenant| tenant.since).max()
        };
        let mut uses: Vec<_> = free.iter().map(last_use).collect();
        uses.sort_unstable();
        let quarter = uses.get(uses.len().div_ceil(4).saturating_sub(1)).copied();
        free.iter().filter(|n| Some(last_use(n)) <= quarter).copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn what_is_chosen_is_the_best_there_is(
            leases in prop::collection::vec(any_lease(), 0..20),
            mut tenants in prop::collection::vec(any_tenant(), 0..30),
            sticky: bool,
        ) {
            let (config, node) = (dual(), node(7));
            tenants.sort_by_key(|tenant| tenant.since);
            tenants.dedup_by_key(|tenant| tenant.since);
            let policy = if sticky { Policy::Sticky } else { Policy::LongestFree };
            let sticky = sticky.then_some(&node);
            let v4 = good(&config.pools().v4.unwrap(), &leases, &tenants, sticky);
            let v6 = good(&config.pools().v6.unwrap(), &leases, &tenants, sticky);
            match allocate(&config, &node, &leases, &tenants, policy) {
                Ok(chosen) => {
                    prop_assert!(v4.contains(&chosen.v4().unwrap()));
                    prop_assert!(v6.contains(&chosen.v6().unwrap()));
                }
                Err(Exhausted { family: Family::V4, .. }) => prop_assert!(v4.is_empty()),
                Err(error) => {
                    prop_assert!(!v4.is_empty() && v6.is_empty());
                    prop_assert!(error.leases >= error.reservations);
                }
            }
        }
    }
}
