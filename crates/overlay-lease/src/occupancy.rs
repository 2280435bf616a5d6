//! Which subnets of a pool are taken, were in use once, or never.

use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use crate::lease::Revision;

/// The use of a subnet. The less, the better it is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// Nobody is known to have had it.
    Never,
    /// Somebody had it, last at this revision.
    Past(Revision),
    /// Somebody has it.
    Taken,
}

/// A range of subnets of one use, by their indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) usage: Use,
}

/// One of the subnets 0 to `last` that are free, out of that part of them which was used least: one in `share`, rounded
/// up, and all that were used as little as the last of these. The runs, which may overlap and are all within, tell the
/// uses; what none tells of was never in use. All are equally likely if `random` is. `None` if all are taken.
///
/// The work depends on how many runs there are, not on how many subnets.
pub(crate) fn little_used(
    last: u64,
    runs: &mut [Run],
    share: NonZeroU32,
    random: u128,
) -> Option<u64> {
    match table(last, runs) {
        Some(uses) => {
            let single =
                |(index, usage): (u64, &Use)| Run { first: index, last: index, usage: *usage };
            choose((0..).zip(&uses).map(single), share, random)
        }
        None => {
            runs.sort_unstable_by_key(|run| run.first);
            choose(Sweep::new(last, runs), share, random)
        }
    }
}

/// A subnet of the part that was used least, from disjoint runs.
fn choose(runs: impl Iterator<Item = Run>, share: NonZeroU32, random: u128) -> Option<u64> {
    let number = |run: &Run| u128::from(run.last - run.first) + 1;
    let mut free: Vec<_> = runs.filter(|run| run.usage != Use::Taken).collect();
    free.sort_unstable_by_key(|run| (run.usage, run.first));
    let enough = free.iter().map(number).sum::<u128>().div_ceil(share.get().into());
    let mut best = 0;
    let mut most = Use::Never;
    let good = free.iter().take_while(|run| {
        let better = best < enough || run.usage == most;
        if better {
            best += number(run);
            most = run.usage;
        }
        better
    });
    let good = good.count();
    let mut chosen = random.checked_rem(best)?;
    for run in free.iter().take(good) {
        match chosen.checked_sub(number(run)) {
            Some(behind) => chosen = behind,
            // Less than the number of subnets in the run, so that it fits.
            None => return Some(run.first + chosen as u64),
        }
    }
    None
}

/// The use of every single subnet; `None` if that is much more to write down than the runs are.
fn table(last: u64, runs: &[Run]) -> Option<Vec<Use>> {
    const ENOUGH: u64 = 1 << 16;
    let enough = ENOUGH + 4 * runs.len() as u64;
    let written = runs.iter().map(|run| run.last - run.first + 1);
    if written.fold(last, u64::saturating_add) > enough {
        return None;
    }
    let mut uses = vec![Use::Never; usize::try_from(last).ok()? + 1];
    for run in runs {
        let range = usize::try_from(run.first).ok()?..=usize::try_from(run.last).ok()?;
        for usage in uses.get_mut(range).into_iter().flatten() {
            *usage = run.usage.max(*usage);
        }
    }
    Some(uses)
}

/// Goes through runs that overlap, in the order in which they begin, and makes of them runs that do not, in order and
/// without gaps, at most one more than twice as many: where there are several, the greatest use counts.
struct Sweep<'r> {
    next: Option<u64>,
    last: u64,
    coming: &'r [Run],
    /// The greatest use first, with where it ends. What is hidden below may have ended before.
    present: BinaryHeap<(Use, u64)>,
}

impl<'r> Sweep<'r> {
    fn new(last: u64, runs: &'r [Run]) -> Self {
        Self { next: Some(0), last, coming: runs, present: BinaryHeap::new() }
    }
}

impl Iterator for Sweep<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let first = self.next?;
        while let Some((run, rest)) = self.coming.split_first()
            && run.first <= first
        {
            self.present.push((run.usage, run.last));
            self.coming = rest;
        }
        while self.present.peek().is_some_and(|(_, last)| *last < first) {
            self.present.pop();
        }
        let unchanged = self.coming.first().map_or(self.last, |run| run.first - 1);
        let (usage, last) = self.present.peek().copied().unwrap_or((Use::Never, unchanged));
        let last = last.min(unchanged);
        self.next = (last < self.last).then(|| last + 1);
        Some(Run { first, last, usage })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COUNT: u64 = 40;

    fn any_use() -> impl Strategy<Value = Use> {
        prop_oneof![
            (0..5_u64).prop_map(|revision| Use::Past(Revision::new(revision))),
            Just(Use::Taken)
        ]
    }

    fn any_runs() -> impl Strategy<Value = Vec<Run>> {
        let run =
            (0..COUNT, 0..COUNT, 0..10_u64, any_use()).prop_map(|(first, last, len, usage)| {
                // Most are short, so that something stays free.
                Run { first, last: last.clamp(first, (first + len / 3).min(COUNT - 1)), usage }
            });
        prop::collection::vec(run, 0..100)
    }

    fn by_definition(runs: &[Run]) -> Vec<Use> {
        let greatest = |index: u64| {
            let there = runs.iter().filter(|run| run.first <= index && index <= run.last);
            there.map(|run| run.usage).max().unwrap_or(Use::Never)
        };
        (0..COUNT).map(greatest).collect()
    }

    proptest! {
        #[test]
        fn table_and_sweep_are_the_same(mut runs in any_runs()) {
            let uses = by_definition(&runs);
            prop_assert_eq!(table(COUNT - 1, &runs), Some(uses.clone()));
            runs.sort_unstable_by_key(|run| run.first);
            let swept: Vec<_> = Sweep::new(COUNT - 1, &runs).collect();
            prop_assert!(swept.len() <= 2 * runs.len() + 1);
            let mut next = 0;
            for run in swept {
                prop_assert_eq!(run.first, next);
                for usage in &uses[run.first as usize..=run.last as usize] {
                    prop_assert_eq!(run.usage, *usage);
                }
                next = run.last + 1;
            }
            prop_assert_eq!(next, COUNT);
        }

        #[test]
        fn each_of_those_used_least_is_chosen_by_one_number(
            mut runs in any_runs(), share in 1..6_u32, random: u128,
        ) {
            let uses = by_definition(&runs);
            let usage = |index: &u64| uses[*index as usize];
            let mut free: Vec<_> = (0..COUNT).filter(|index| usage(index) != Use::Taken).collect();
            free.sort_by_key(usage);
            let last = free.len().div_ceil(share as usize).checked_sub(1);
            let most = last.map(|last| usage(&free[last]));
            free.retain(|index| Some(usage(index)) <= most);
            let expected = most.map(|_| free[(random % free.len() as u128) as usize]);
            let share = NonZeroU32::new(share).unwrap();
            prop_assert_eq!(little_used(COUNT - 1, &mut runs, share, random), expected);
            runs.sort_unstable_by_key(|run| run.first);
            prop_assert_eq!(choose(Sweep::new(COUNT - 1, &runs), share, random), expected);
        }
    }

    #[test]
    fn the_work_depends_on_the_runs_alone() {
        const LAST: u64 = (1 << 63) - 1;
        let least_used =
            |last, runs: &mut [Run], random| little_used(last, runs, NonZeroU32::MAX, random);
        // Far more subnets than anybody can look at: every second thousand is taken.
        let taken = |n: u64| Run { first: 2000 * n, last: 2000 * n + 999, usage: Use::Taken };
        let runs: Vec<_> = (0..100).map(taken).collect();
        assert_eq!(table(LAST, &runs), None);
        assert_eq!(Sweep::new(LAST, &runs).count(), 2 * runs.len());
        for random in [0, 1, u128::MAX, 12_345] {
            let index = least_used(LAST, &mut runs.clone(), random).unwrap();
            assert!(!runs.iter().any(|run| (run.first..=run.last).contains(&index)));
        }
        // Far more runs that cover everything than anybody can write down.
        let everything = Run { first: 0, last: 50_000, usage: Use::Past(Revision::new(7)) };
        let mut runs = vec![everything; 100_000];
        assert_eq!(table(50_000, &runs), None);
        assert_eq!(Sweep::new(50_000, &runs).count(), 1);
        assert_eq!(least_used(50_000, &mut runs, 77), Some(77));
        let all = Run { first: 0, last: LAST, usage: Use::Taken };
        assert_eq!(least_used(LAST, &mut [all], 1), None);
        assert_eq!(least_used(LAST, &mut [], 1), Some(1));
    }
}
