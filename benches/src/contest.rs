//! One job and several ways to do it.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use criterion::{Criterion, SamplingMode, Throughput};

use crate::paths::Paths;
use crate::stores::Stores;
use crate::{Lab, smoke};

type Run<P> = Box<dyn FnMut(&mut P) -> Result<Duration>>;

/// Where a contest takes place.
pub trait Place {
    /// How many turns each contestant takes in one round.
    const TURNS: usize;
    /// Whether a turn works on many objects that have nothing to do with each other, so that the time of one of them is
    /// what tables show.
    const EACH: bool;

    /// Takes away what a contestant has left behind.
    ///
    /// # Errors
    /// When that cannot be done.
    fn clean(&mut self) -> Result<()>;
}

impl Place for Lab {
    const TURNS: usize = 1;
    const EACH: bool = false;

    fn clean(&mut self) -> Result<()> {
        Self::clean(self)
    }
}

/// Nothing but memory. Turns are short and many, so that whatever else the machine does hits all contestants alike.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// How many objects are worked on in a turn.
    objects: u64,
}

impl Place for Memory {
    const TURNS: usize = 31;
    const EACH: bool = true;

    fn clean(&mut self) -> Result<()> {
        Ok(())
    }
}

/// One way to do a job.
pub struct Contestant<P = Lab> {
    /// What it is called in tables.
    pub name: String,
    run: Run<P>,
}

/// A ratio that is to be reached.
pub struct Claim {
    /// The contestant that is claimed to be fast.
    pub fast: &'static str,
    /// The one that it is compared with.
    pub slow: &'static str,
    /// How they are to compare.
    pub goal: Goal,
}

/// How two contestants are to compare.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// The one is at least this many times as fast as the other.
    AtLeast(f64),
    /// The one takes at most this many times as long as the other, which cannot be beaten.
    Within(f64),
}

impl Goal {
    /// What there is to say of a contestant that takes `fast` seconds, beside one that takes `slow`: the ratio that the
    /// goal is about, and whether the goal is reached.
    #[must_use]
    pub fn judge(self, fast: f64, slow: f64) -> (f64, bool) {
        match self {
            Self::AtLeast(goal) => (slow / fast, slow / fast >= goal),
            Self::Within(goal) => (fast / slow, fast / slow <= goal),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, "{goal}x"),
            Self::Within(goal) => write!(f, "at most {goal}x the time"),
        }
    }
}

/// One job and several ways to do it.
pub struct Contest<P = Lab> {
    /// A short name for command lines.
    pub id: &'static str,
    /// What the job is.
    pub title: String,
    /// How many objects one run works on, for rates.
    pub objects: u64,
    /// Those who do it, in the order in which they run.
    pub contestants: Vec<Contestant<P>>,
    /// What the comparison is expected to show.
    pub claims: Vec<Claim>,
    place: P,
}

impl Contest<Lab> {
    /// A contest without contestants on a host of its own.
    ///
    /// # Errors
    /// When the host cannot be made.
    pub fn new(id: &'static str, title: String, objects: u32) -> Result<Self> {
        Ok(Self::at(id, title, objects, Lab::new()?))
    }
}

impl Contest<Memory> {
    /// A contest without contestants that needs nothing but memory, with `objects` of them worked on in each turn.
    #[must_use]
    pub fn in_memory(id: &'static str, title: String, objects: u32) -> Self {
        let objects = if smoke() { 1 } else { objects };
        Self::at(id, title, objects, Memory { objects: objects.into() })
    }

    /// The same contest with so many objects worked on in each turn.
    #[must_use]
    pub fn with_objects(mut self, objects: u32) -> Self {
        (self.objects, self.place.objects) = (objects.into(), objects.into());
        self
    }

    /// The same contest with one more contestant. `run` does the job for `batch` objects; in a turn it is called as often
    /// as it takes to get through all of them.
    #[must_use]
    pub fn repeat<T>(
        self,
        name: impl Into<String>,
        batch: u32,
        mut run: impl FnMut() -> T + 'static,
    ) -> Self {
        self.with(name, move |memory| {
            let calls = memory.objects.div_ceil(batch.into());
            let start = Instant::now();
            for _ in 0..calls {
                black_box(run());
            }
            Ok(start.elapsed())
        })
    }
}

impl Contest<Stores> {
    /// A contest without contestants between stores of leases.
    #[must_use]
    pub fn in_stores(id: &'static str, title: String, objects: u32, stores: Stores) -> Self {
        Self::at(id, title, objects, stores)
    }
}

impl Contest<Paths> {
    /// A contest without contestants between pairs of hosts.
    #[must_use]
    pub const fn between_hosts(id: &'static str, title: String, objects: u64) -> Self {
        Self { id, title, objects, contestants: Vec::new(), claims: Vec::new(), place: Paths }
    }
}

impl<P: Place> Contest<P> {
    fn at(id: &'static str, title: String, objects: u32, place: P) -> Self {
        let (contestants, claims) = (Vec::new(), Vec::new());
        Self { id, title, objects: objects.into(), contestants, claims, place }
    }

    /// The same contest with one more contestant. `run` does the job once: it prepares, returns how long the job
    /// itself took, and fails when the job is not done. What it leaves behind is cleaned away.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        run: impl FnMut(&mut P) -> Result<Duration> + 'static,
    ) -> Self {
        self.contestants.push(Contestant { name: name.into(), run: Box::new(run) });
        self
    }

    /// The same contest, expected to show that `fast` is at least `at_least` times as fast as `slow`.
    #[must_use]
    pub fn claim(self, fast: &'static str, slow: &'static str, at_least: f64) -> Self {
        self.expect(fast, slow, Goal::AtLeast(at_least))
    }

    /// The same contest, expected to show that `fast` takes at most `factor` times as long as `floor`, which does what
    /// nobody can do without.
    #[must_use]
    pub fn within(self, fast: &'static str, floor: &'static str, factor: f64) -> Self {
        self.expect(fast, floor, Goal::Within(factor))
    }

    fn expect(mut self, fast: &'static str, slow: &'static str, goal: Goal) -> Self {
        self.claims.push(Claim { fast, slow, goal });
        self
    }

    /// Lets one contestant do the job once, on a clean host.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&mut self, contestant: usize) -> Result<Duration> {
        let Contestant { name, run } = &mut self.contestants[contestant];
        let result = run(&mut self.place).and_then(|time| self.place.clean().map(|()| time));
        result.with_context(|| format!("{}: {name}", self.title))
    }

    /// Lets all contestants do the job `rounds` times, taking turns, after one turn that does not count. The spread
    /// of each, in order.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn interleave(&mut self, rounds: usize) -> Result<Vec<Spread>> {
        let turns = rounds * P::TURNS;
        let mut times = vec![Vec::with_capacity(turns); self.contestants.len()];
        for turn in 0..=turns {
            for (contestant, times) in times.iter_mut().enumerate() {
                let time = self.run(contestant)?;
                if turn > 0 || turns == 0 {
                    times.push(time);
                }
            }
        }
        Ok(times.into_iter().map(Spread::of).collect())
    }
}

/// The least, the middle and the greatest of some times.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The least.
    pub min: Duration,
    /// The median.
    pub median: Duration,
    /// The greatest.
    pub max: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        Self { min: at(0), median: at(times.len() / 2), max: at(times.len().saturating_sub(1)) }
    }
}

/// Registers a contest with criterion, a benchmark for each contestant.
///
/// # Panics
/// When a contestant fails.
pub fn criterion_group<P: Place>(criterion: &mut Criterion, contest: &mut Contest<P>) {
    // Contests in memory come in several sizes under one id.
    let name = if P::EACH { &contest.title } else { contest.id };
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(1))
        .throughput(Throughput::Elements(contest.objects));
    for contestant in 0..contest.contestants.len() {
        let name = contest.contestants[contestant].name.clone();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                // A sample is one run, whatever criterion expects: preparing a run takes longer than the run.
                let iterations = u32::try_from(iterations).unwrap_or(u32::MAX);
                contest.run(contestant).unwrap_or_else(|error| panic!("{error:?}")) * iterations
            });
        });
    }
    group.finish();
}
