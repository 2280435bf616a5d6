//! Following what is in a network, whatever happens to the store.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff::{Jitter, seed};
use crate::lease::Revision;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::view::{Difference, Knowledge, View};
use crate::watch::{Skipped, Snapshot, Update, Watch};

/// Follows what is in a network: reads everything once, and then what happens, whatever happens to the store.
///
/// What is known stays known when the store is away; when it is back, what happened in between is told like everything
/// else. Nothing makes it give up.
pub struct Follower<S: Store> {
    store: Arc<S>,
    following: Following,
    watch: Option<S::Watch>,
    /// The question that the store was asked last, until it is answered: also while nobody waits.
    asked: Option<Asked<S::Watch>>,
}

type Asked<W> = Pin<Box<dyn Future<Output = Answered<W>> + Send>>;

enum Answered<W> {
    Read(Result<Snapshot, StoreError>),
    Watch(Result<W, StoreError>),
}

/// What a [`Follower`] has learned.
#[derive(Debug)]
#[non_exhaustive]
pub struct News {
    /// How much is known of the network.
    pub knowledge: Knowledge,
    /// What changed there, in order.
    pub differences: Vec<Difference>,
    /// What stands there that cannot be read, unless it was told before.
    pub skipped: Vec<Skipped>,
    /// Why no more is known.
    pub error: Option<StoreError>,
}

impl<S: Store + 'static> Follower<S> {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(store: S) -> Self {
        let following = Following::new(seed());
        Self { store: Arc::new(store), following, watch: None, asked: None }
    }

    /// What is known.
    #[must_use]
    pub const fn view(&self) -> &View {
        self.following.view()
    }

    /// Waits until something changed in the network, or in how much is known of it.
    ///
    /// This needs the timer of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped has taken nothing away: the next one tells the same, and goes on waiting for what the store
    /// was asked.
    pub async fn next(&mut self) -> News {
        loop {
            let news = match self.following.step() {
                Step::Rest(until) => {
                    tokio::time::sleep_until(until.into()).await;
                    self.following.rested();
                    continue;
                }
                step @ (Step::Read | Step::Watch(_)) => {
                    let asked = match &mut self.asked {
                        Some(asked) => asked,
                        None => self.asked.insert(ask(self.store.clone(), step)),
                    };
                    let answered = asked.await;
                    self.asked = None;
                    match answered {
                        Answered::Read(snapshot) => self.following.read(now(), snapshot),
                        Answered::Watch(Ok(watch)) => {
                            self.watch = Some(watch);
                            self.following.watched(now(), Ok(()))
                        }
                        Answered::Watch(Err(error)) => self.following.watched(now(), Err(error)),
                    }
                }
                Step::Listen => match &mut self.watch {
                    Some(watch) => {
                        let update = watch.next().await;
                        self.following.heard(now(), update)
                    }
                    None => {
                        self.following.interrupted();
                        continue;
                    }
                },
            };
            if let Some(news) = news {
                return news;
            }
        }
    }
}

impl<S: Store> fmt::Debug for Follower<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("following", &self.following).finish_non_exhaustive()
    }
}

fn ask<S: Store + 'static>(store: Arc<S>, step: Step) -> Asked<S::Watch> {
    match step {
        Step::Watch(after) => Box::pin(async move {
            Answered::Watch(in_time("watch the leases", store.watch(after)).await)
        }),
        _ => Box::pin(
            async move { Answered::Read(in_time("list the leases", store.snapshot()).await) },
        ),
    }
}

/// How to follow a network: what to do next, and what to make of the outcome.
///
/// It does no I/O and reads no clock: [`Follower`] runs it, for programs with a loop of their own it is here.
#[derive(Clone, Debug)]
pub struct Following {
    view: View,
    step: Step,
    then: Step,
    jitter: Jitter,
    failures: u32,
    /// What was told to be unreadable, and why.
    skipped: BTreeMap<String, String>,
    told: Option<String>,
}

/// What [`Following`] has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Step {
    /// [`Store::snapshot`], and tell [`Following::read`].
    Read,
    /// [`Store::watch`] from this revision on, and tell [`Following::watched`].
    Watch(Revision),
    /// [`Watch::next`], and tell [`Following::heard`].
    Listen,
    /// Wait until then, and tell [`Following::rested`].
    Rest(Instant),
}

/// How many unreadable keys are told between two snapshots.
const REMEMBERED: usize = 10_000;

/// How soon to try again for the first time, and what waits grow to.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

impl Following {
    /// Knows nothing yet. Nodes that start at the same moment need different seeds.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            view: View::new(),
            step: Step::Read,
            then: Step::Read,
            jitter: Jitter::new(seed),
            failures: 0,
            skipped: BTreeMap::new(),
            told: None,
        }
    }

    /// What is known.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// What to do next.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }

    /// The wait is over.
    pub fn rested(&mut self) {
        if let Step::Rest(_) = self.step {
            self.step = self.then;
        }
    }

    /// The watch is no more.
    pub fn interrupted(&mut self) {
        self.step = self.view.revision().map_or(Step::Read, Step::Watch);
    }

    /// Everything was read, or not.
    pub fn read(&mut self, now: Instant, outcome: Result<Snapshot, StoreError>) -> Option<News> {
        match outcome {
            Ok(snapshot) => {
                let before = self.view.knowledge();
                let skipped = snapshot.skipped.clone();
                self.step = Step::Watch(snapshot.revision);
                let differences = self.view.replace(snapshot);
                let skipped = self.skip_only(skipped);
                self.news(before, differences, skipped)
            }
            Err(error) => self.failed(now, error),
        }
    }

    /// A watch was opened, or not.
    pub fn watched(&mut self, now: Instant, outcome: Result<(), StoreError>) -> Option<News> {
        match outcome {
            Ok(()) => {
                let before = self.view.knowledge();
                self.view.found();
                self.step = Step::Listen;
                self.news(before, Vec::new(), Vec::new())
            }
            Err(error) => self.failed(now, error),
        }
    }

    /// The watch brought something, or not.
    pub fn heard(&mut self, now: Instant, outcome: Result<Update, StoreError>) -> Option<News> {
        match outcome {
            // What is known never was, or is no longer: a snapshot that was asked for says what is.
            Ok(Update::Snapshot(snapshot)) if self.view.revision() > Some(snapshot.revision) => {
                self.failed(now, StoreError::set_back(self.view.revision(), snapshot.revision))
            }
            Ok(mut update) => {
                let before = self.view.knowledge();
                let skipped = match &mut update {
                    Update::Snapshot(snapshot) => {
                        let skipped = snapshot.skipped.clone();
                        self.skip_only(skipped)
                    }
                    Update::Changes(changes) => {
                        let skipped = std::mem::take(&mut changes.skipped);
                        self.skip(skipped)
                    }
                };
                let differences = self.view.apply(update);
                self.failures = 0;
                self.news(before, differences, skipped)
            }
            Err(error) => self.failed(now, error),
        }
    }

    fn failed(&mut self, now: Instant, error: StoreError) -> Option<News> {
        let before = self.view.knowledge();
        self.view.lost();
        self.failures = self.failures.saturating_add(1);
        self.then = match (error.kind(), self.view.revision()) {
            // Where the watch was is no place that the store knows: it was set back, perhaps.
            (StoreErrorKind::Corrupt, _) | (_, None) => Step::Read,
            (_, Some(revision)) => Step::Watch(revision),
        };
        self.step = Step::Rest(now + self.jitter.backoff(self.failures, WAITS.0, WAITS.1));
        let text = error.to_string();
        let again = self.told.replace(text.clone()).is_some_and(|told| told == text);
        let knowledge = self.view.knowledge();
        (knowledge != before || !again).then(|| News {
            knowledge,
            differences: Vec::new(),
            skipped: Vec::new(),
            error: Some(error),
        })
    }

    fn news(
        &mut self,
        before: Knowledge,
        differences: Vec<Difference>,
        skipped: Vec<Skipped>,
    ) -> Option<News> {
        self.told = None;
        let knowledge = self.view.knowledge();
        let nothing = knowledge == before && differences.is_empty() && skipped.is_empty();
        (!nothing).then_some(News { knowledge, differences, skipped, error: None })
    }

    /// These and no others cannot be read. Returns those that were not told before.
    fn skip_only(&mut self, skipped: Vec<Skipped>) -> Vec<Skipped> {
        let before = std::mem::take(&mut self.skipped);
        let new = |skipped: &Skipped| before.get(&skipped.key) != Some(&skipped.reason);
        let pairs = skipped.iter().map(|skipped| (skipped.key.clone(), skipped.reason.clone()));
        self.skipped = pairs.collect();
        skipped.into_iter().filter(new).collect()
    }

    /// These cannot be read, either. Returns those that were not told before.
    fn skip(&mut self, skipped: Vec<Skipped>) -> Vec<Skipped> {
        let mut new = |skipped: &Skipped| {
            // Whoever writes nonsense under ever new keys is to fill no memory. A snapshot begins anew.
            if self.skipped.len() >= REMEMBERED && !self.skipped.contains_key(&skipped.key) {
                return false;
            }
            self.skipped.insert(skipped.key.clone(), skipped.reason.clone()).as_ref()
                != Some(&skipped.reason)
        };
        skipped.into_iter().filter(|skipped| new(skipped)).collect()
    }
}

/// How long to wait for a list or for the begin of a watch.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(
    purpose: &'static str,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(PATIENCE, operation).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::unanswered(purpose, PATIENCE)),
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
