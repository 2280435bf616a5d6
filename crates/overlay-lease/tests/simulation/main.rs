//! 500 nodes and a store, with everything going wrong between them that can: a simulation that a seed repeats.
//!
//! Time is simulated, and what runs is what runs in [`overlay_lease::Keeper`] and [`overlay_lease::Follower`]. Each seed
//! is another scenario; `OVERLAY_SEED` names one to repeat, `OVERLAY_SEEDS` how many there are to be.

mod checker;
mod fault;
mod random;
mod recorder;
mod scenario;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use checker::{Rule, Violation};
use fault::Fault;
use overlay_lease::history::check;
use random::Random;
use scenario::{Scenario, Trouble};
use world::{Outcome, World};

fn run(seed: u64, fault: Fault) -> Result<Outcome, Violation> {
    let mut scenario = Scenario::random(&mut Random::new(!seed));
    if fault == Fault::RemovesAtOnce {
        // It takes a rare coincidence.
        scenario.troubles = vec![(Trouble::Leave, 300)];
        scenario.late = 100_000;
    }
    World::new(seed, scenario, fault).run()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn whatever_happens_the_promises_hold() {
    let seeds = match (variable("OVERLAY_SEED"), variable("OVERLAY_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(2000),
    };
    let start = Instant::now();
    let count = seeds.end - seeds.start;
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    let events = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        break;
                    }
                    match run(seed, Fault::None) {
                        Ok(outcome) => {
                            events.fetch_add(outcome.events, Ordering::Relaxed);
                            if count == 1 {
                                println!("{outcome:?}");
                            }
                        }
                        Err(violation) => failed.lock().unwrap().push((seed, violation)),
                    }
                }
            });
        }
    });
    println!("{count} seeds, {events:?} events, {:?}", start.elapsed());
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(seed, _)| *seed);
    for (seed, violation) in &failed {
        println!(
            "OVERLAY_SEED={seed} cargo test -p overlay-lease --all-features --test simulation whatever: \
             {violation}"
        );
    }
    if count == 1 {
        println!("{:#?}", Scenario::random(&mut Random::new(!seeds.start)));
    }
    assert!(failed.is_empty(), "{} of {count} seeds failed", failed.len());
}

/// The checker that knows only what clients see has nothing to object, either.
#[test]
fn the_histories_are_those_of_a_store_that_keeps_its_promises() {
    for seed in 0..12 {
        let mut scenario = Scenario::random(&mut Random::new(!seed));
        // It takes all clocks for one, and a store that does nothing for one that is late.
        scenario.clocks = 0;
        scenario.lazy = Duration::ZERO;
        scenario
            .troubles
            .retain(|(trouble, _)| !matches!(trouble, Trouble::Outage | Trouble::Stall));
        let outcome = World::new(seed, scenario, Fault::None).recorded().run();
        let outcome = outcome.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        match check(&outcome.history) {
            Ok(summary) => {
                assert!(summary.operations > 5000 && summary.leases >= 500, "{summary:?}");
                assert!(summary.watched > 1000, "{summary:?}");
            }
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
}

#[test]
fn a_seed_repeats_everything() {
    for seed in [3, 7] {
        let once = run(seed, Fault::None).unwrap_or_else(|violation| panic!("{violation}"));
        let twice = run(seed, Fault::None).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!((once.digest, once.events), (twice.digest, twice.events));
        assert!(once.events > 10_000 && once.counts.created >= 500, "{once:?}");
    }
    let other = run(4, Fault::None).unwrap_or_else(|violation| panic!("{violation}"));
    let one = run(3, Fault::None).unwrap_or_else(|violation| panic!("{violation}"));
    assert_ne!(one.digest, other.digest);
}

/// A checker that finds nothing would be no reason to believe anything.
#[test]
fn mistakes_of_stores_and_nodes_are_found() {
    const ENOUGH: u64 = 40;
    let faults = [
        (Fault::NoFence, &[Rule::Fence][..]),
        (Fault::EarlyExpiry, &[Rule::Term]),
        (Fault::NoExpiry, &[Rule::Term, Rule::Peace]),
        (Fault::NoExclusion, &[Rule::OneLease, Rule::Fence, Rule::NoLostLease]),
        (Fault::RenewsInWordsOnly, &[Rule::Term]),
        (Fault::LosesUpdates, &[Rule::Peace]),
        (Fault::IgnoresTaken, &[Rule::OneHolder, Rule::NoLostLease]),
        (Fault::IgnoresFence, &[Rule::NoLostLease, Rule::OneHolder]),
        (Fault::IgnoresSilence, &[Rule::NoLostLease, Rule::OneHolder]),
        (Fault::BelievesTooLong, &[Rule::NoLostLease, Rule::OneHolder]),
        (Fault::RemovesAtOnce, &[Rule::NoLostLease, Rule::OneHolder]),
    ];
    for (fault, rules) in faults {
        let found = (0..ENOUGH).find_map(|seed| run(seed, fault).err().map(|found| (seed, found)));
        let Some((seed, violation)) = found else { panic!("{fault:?} is not found") };
        println!("{fault:?} with seed {seed}: {violation}");
        assert!(rules.contains(&violation.rule), "{fault:?}: {violation}");
    }
}
