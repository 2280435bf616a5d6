//! One job and several ways to do it.

use std::time::Duration;

use anyhow::{Context, Result};
use criterion::{Criterion, SamplingMode, Throughput};

use crate::Lab;

type Run = Box<dyn FnMut(&mut Lab) -> Result<Duration>>;

/// One way to do a job.
pub struct Contestant {
    /// What it is called in tables.
    pub name: String,
    run: Run,
}

/// A ratio that is to be reached.
pub struct Claim {
    /// The contestant that is claimed to be fast.
    pub fast: &'static str,
    /// The one that it is compared with.
    pub slow: &'static str,
    /// How many times as fast it is to be.
    pub at_least: f64,
}

/// One job and several ways to do it.
pub struct Contest {
    /// A short name for command lines.
    pub id: &'static str,
    /// What the job is.
    pub title: String,
    /// How many objects one run works on, for rates.
    pub objects: u64,
    /// Those who do it, in the order in which they run.
    pub contestants: Vec<Contestant>,
    /// What the comparison is expected to show.
    pub claims: Vec<Claim>,
    lab: Lab,
}

impl Contest {
    /// A contest without contestants on a host of its own.
    ///
    /// # Errors
    /// When the host cannot be made.
    pub fn new(id: &'static str, title: String, objects: u32) -> Result<Self> {
        let (contestants, claims) = (Vec::new(), Vec::new());
        Ok(Self { id, title, objects: objects.into(), contestants, claims, lab: Lab::new()? })
    }

    /// The same contest with one more contestant. `run` does the job once: it prepares, returns how long the job
    /// itself took, and fails when the job is not done. What it leaves behind is cleaned away.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        run: impl FnMut(&mut Lab) -> Result<Duration> + 'static,
    ) -> Self {
        self.contestants.push(Contestant { name: name.into(), run: Box::new(run) });
        self
    }

    /// The same contest, expected to show that `fast` is at least `at_least` times as fast as `slow`.
    #[must_use]
    pub fn claim(mut self, fast: &'static str, slow: &'static str, at_least: f64) -> Self {
        self.claims.push(Claim { fast, slow, at_least });
        self
    }

    /// Lets one contestant do the job once, on a clean host.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&mut self, contestant: usize) -> Result<Duration> {
        let Contestant { name, run } = &mut self.contestants[contestant];
        let result = run(&mut self.lab).and_then(|time| self.lab.clean().map(|()| time));
        result.with_context(|| format!("{}: {name}", self.title))
    }

    /// Lets all contestants do the job `rounds` times, taking turns, after one turn that does not count. The spread
    /// of each, in order.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn interleave(&mut self, rounds: usize) -> Result<Vec<Spread>> {
        let mut times = vec![Vec::with_capacity(rounds); self.contestants.len()];
        for round in 0..=rounds {
            for (contestant, times) in times.iter_mut().enumerate() {
                let time = self.run(contestant)?;
                if round > 0 || rounds == 0 {
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
pub fn criterion_group(criterion: &mut Criterion, contest: &mut Contest) {
    let mut group = criterion.benchmark_group(contest.id);
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
