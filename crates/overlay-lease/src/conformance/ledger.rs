//! What was written, and whether a watch brings it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Broken;
use super::client::{Client, PATIENCE, check, succeeds};
use crate::config::Configured;
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::store::Store;
use crate::watch::{Change, Changes, Snapshot, Update, Watch};

/// How long nothing may come to count as nothing.
const QUIET: Duration = Duration::from_millis(500);

/// All that was written in a network since it was new, in order.
#[derive(Default)]
pub(super) struct Ledger {
    /// The revision only where the store tells it to those who write.
    written: Vec<(Option<Revision>, Change)>,
}

/// What is there: the configuration, and the leases.
type State<'a> = (Option<&'a Configured>, BTreeMap<Subnets, &'a Lease>);

impl Ledger {
    pub(super) fn config(&mut self, config: &Configured) {
        self.written.push((Some(config.revision), Change::Config(Some(config.clone()))));
    }

    pub(super) fn lease(&mut self, lease: &Arc<Lease>) {
        self.written.push((Some(lease.revision), Change::Lease(lease.clone())));
    }

    pub(super) fn gone(&mut self, subnets: Subnets) {
        self.written.push((None, Change::Gone(subnets)));
    }

    /// Where one stands who has seen everything.
    pub(super) fn end(&self) -> usize {
        self.written.len()
    }

    /// Where one stands after the first that were written, and the revision there if it is known.
    pub(super) fn known(&self) -> impl Iterator<Item = (usize, Revision)> {
        let revisions = self.written.iter().enumerate();
        revisions.filter_map(|(position, (revision, _))| Some((position + 1, (*revision)?)))
    }

    fn state(&self, position: usize) -> State<'_> {
        let mut state: State<'_> = (None, BTreeMap::new());
        for (_, change) in self.written.iter().take(position) {
            match change {
                Change::Config(config) => state.0 = config.as_ref(),
                Change::Lease(lease) => drop(state.1.insert(lease.subnets, lease)),
                Change::Gone(subnets) => drop(state.1.remove(subnets)),
            }
        }
        state
    }

    /// Whether `revision` can be the one after the first `position` that were written.
    fn fits(&self, position: usize, revision: Revision) -> bool {
        let known = |(revision, _): &(Option<Revision>, Change)| *revision;
        let before = self.written.iter().take(position).filter_map(known).next_back();
        let after = self.written.iter().skip(position).find_map(known);
        before.is_none_or(|before| before <= revision) && after.is_none_or(|after| revision < after)
    }
}

/// A watch, and how far it has come.
pub(super) struct Follower<W> {
    watch: W,
    revision: Revision,
    position: usize,
}

impl<W: Watch> Follower<W> {
    /// Watches what is written after `after`, which is where the first `position` were written.
    pub(super) async fn new<S: Store<Watch = W>>(
        client: &Client<S>,
        after: Revision,
        position: usize,
    ) -> Result<Self, Broken> {
        let step = format!("watching from revision {after} on");
        let watch = succeeds(step, client.store.watch(after)).await?;
        Ok(Self { watch, revision: after, position })
    }

    /// The revision of the last update.
    pub(super) const fn revision(&self) -> Revision {
        self.revision
    }

    /// Where it stands.
    pub(super) const fn position(&self) -> usize {
        self.position
    }

    /// Expects all that was written.
    pub(super) async fn catch_up(&mut self, ledger: &Ledger) -> Result<(), Broken> {
        while self.position < ledger.end() {
            self.step(ledger).await?;
        }
        Ok(())
    }

    /// Expects one update.
    pub(super) async fn step(&mut self, ledger: &Ledger) -> Result<(), Broken> {
        let step = self.waiting();
        let next = tokio::time::timeout(PATIENCE, self.watch.next()).await;
        let Ok(update) = next else {
            let missing = ledger.written.get(self.position);
            return Err(Broken::new(
                step,
                format!("{missing:?}"),
                format!("nothing within {PATIENCE:?}"),
            ));
        };
        let update =
            update.map_err(|error| Broken::new(&step, "an update", format!("failure: {error}")))?;
        self.take(ledger, update)
    }

    /// Expects that nothing comes.
    pub(super) async fn silent(&mut self) -> Result<(), Broken> {
        match tokio::time::timeout(QUIET, self.watch.next()).await {
            Err(_) => Ok(()),
            Ok(update) => Err(Broken::new(
                self.waiting(),
                format!("nothing within {QUIET:?}"),
                format!("{update:?}"),
            )),
        }
    }

    /// Waits for `wait`, takes what comes until then, and drops the wait.
    pub(super) async fn glance(&mut self, ledger: &Ledger, wait: Duration) -> Result<(), Broken> {
        match tokio::time::timeout(wait, self.watch.next()).await {
            Err(_) => Ok(()),
            Ok(Ok(update)) => self.take(ledger, update),
            Ok(Err(error)) => Err(Broken::new(self.waiting(), "an update", error)),
        }
    }

    fn take(&mut self, ledger: &Ledger, update: Update) -> Result<(), Broken> {
        let revision = update.revision();
        self.position = match &update {
            Update::Changes(changes) => self.after_changes(ledger, changes)?,
            Update::Snapshot(snapshot) => self.after_snapshot(ledger, snapshot)?,
        };
        self.revision = revision;
        Ok(())
    }

    fn after_changes(&self, ledger: &Ledger, update: &Changes) -> Result<usize, Broken> {
        let step = self.waiting();
        check(
            update.revision > self.revision,
            &step,
            format_args!("a later revision than {}", self.revision),
            format_args!("{update:?}"),
        )?;
        let position = self.position + update.changes.len();
        let expected: Vec<_> =
            ledger.written.iter().skip(self.position).take(update.changes.len()).collect();
        let same = expected.iter().map(|(_, change)| change).eq(update.changes.iter());
        check(same, &step, format_args!("{expected:?}"), format_args!("{update:?}"))?;
        let later = expected.iter().filter_map(|(revision, _)| *revision);
        check(
            later.min().is_none_or(|revision| self.revision < revision),
            &step,
            format_args!("only what was written after revision {}", self.revision),
            format_args!("{update:?}"),
        )?;
        check(
            ledger.fits(position, update.revision),
            &step,
            format_args!(
                "all that was written until revision {}: next is {:?}",
                update.revision,
                ledger.written.get(position)
            ),
            format_args!("{update:?}"),
        )?;
        Ok(position)
    }

    fn after_snapshot(&self, ledger: &Ledger, update: &Snapshot) -> Result<usize, Broken> {
        let leases: BTreeMap<_, _> =
            update.leases.iter().map(|lease| (lease.subnets, &**lease)).collect();
        let state = (update.config.as_ref(), leases);
        let found = update.revision >= self.revision && state.1.len() == update.leases.len();
        let mut positions = (self.position..=ledger.end()).filter(|_| found);
        positions
            .find(|at| ledger.fits(*at, update.revision) && ledger.state(*at) == state)
            .ok_or_else(|| {
                Broken::new(
                    self.waiting(),
                    format!("what was there at revision {}", update.revision),
                    format!("{update:?}"),
                )
            })
    }

    fn waiting(&self) -> String {
        format!("watching what comes after revision {}", self.revision)
    }
}
