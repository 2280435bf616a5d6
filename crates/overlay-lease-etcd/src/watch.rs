//! What happens in a network, over lost connections and compactions.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use overlay_lease::{Change, Changes, Revision, StoreError, Update, Watch};
use tokio::time::{Instant, sleep_until};

use crate::RequestError;
use crate::layout::Place;
use crate::network::Network;
use crate::rpc::messages::{Event, EventType, KeyValue};
use crate::rpc::{Watched, Watcher};
use crate::value::{self, number, revision};

const OPERATION: &str = "watch the leases";

/// The time to wait after the first failure, and the most to wait after many. They are drawn from the half below to the
/// half above, so that not everybody comes back at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(4));

/// A watch on an [`EtcdStore`](crate::EtcdStore): one stream, opened again where it broke off.
///
/// After an error, the next call waits a little before it tries again: 100 ms at first, up to 6 s after many errors.
pub struct EtcdWatch {
    network: Arc<Network>,
    after: Revision,
    state: State,
    failures: u32,
    retry_at: Option<Instant>,
}

enum State {
    Open(Box<Watcher>),
    /// To be opened where it was.
    Closed,
    /// What happened since is no longer known in detail.
    Lost,
}

impl EtcdWatch {
    pub(crate) async fn open(network: Arc<Network>, after: Revision) -> Result<Self, StoreError> {
        let state = State::Closed;
        let mut watch = Self { network, after, state, failures: 0, retry_at: None };
        match watch.connect().await {
            Ok(()) => Ok(watch),
            Err(error) => Err(watch.network.error(OPERATION, error)),
        }
    }

    async fn connect(&mut self) -> Result<(), RequestError> {
        let keys = self.network.layout.watched();
        let from = number(self.after).saturating_add(1);
        let watcher = match self.network.client.watch(&keys, from).await {
            Err(RequestError::Compacted { .. }) => {
                self.state = State::Lost;
                return Ok(());
            }
            watcher => watcher?,
        };
        // A member may lag behind. If all of etcd does, it was set back to a backup, and would be silent until its
        // revision has grown to where ours is.
        let set_back =
            revision(watcher.at) < self.after && self.network.revision().await? < self.after;
        self.state = if set_back { State::Lost } else { State::Open(Box::new(watcher)) };
        Ok(())
    }

    async fn advance(&mut self) -> Result<Update, StoreError> {
        loop {
            match &mut self.state {
                State::Closed => {
                    let connected = self.connect().await;
                    connected.map_err(|error| self.network.error(OPERATION, error))?;
                }
                State::Lost => {
                    let snapshot = self.network.snapshot().await?;
                    self.after = snapshot.revision;
                    self.state = State::Closed;
                    return Ok(Update::Snapshot(snapshot));
                }
                State::Open(watcher) => match watcher.next().await {
                    Ok(Watched::Compacted) => self.state = State::Lost,
                    Ok(Watched::Events { revision, events }) => {
                        if let Some(changes) = self.changes(revision, events) {
                            return Ok(Update::Changes(changes));
                        }
                    }
                    Err(error) => {
                        self.state = State::Closed;
                        return Err(self.network.error(OPERATION, error));
                    }
                },
            }
        }
    }

    /// What is new and concerns this network.
    fn changes(&mut self, at: i64, events: Vec<Event>) -> Option<Changes> {
        // Events are complete up to the last of them. What etcd's own revision is by then, others may have made.
        let last = events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        let revision = revision(last.max().unwrap_or(at));
        if revision <= self.after {
            return None;
        }
        let alive = events.is_empty();
        let mut changes = Changes { revision, ..Changes::default() };
        for event in events {
            if let Some(kv) = event.kv.as_ref().filter(|kv| kv.mod_revision > number(self.after)) {
                self.change(kv, event.r#type == i32::from(EventType::Delete), &mut changes);
            }
        }
        self.after = revision;
        let new = alive || !changes.changes.is_empty() || !changes.skipped.is_empty();
        new.then_some(changes)
    }

    fn change(&self, kv: &KeyValue, deleted: bool, changes: &mut Changes) {
        let change = match self.network.layout.place(&kv.key) {
            Place::Config if deleted => Ok(Change::Config(None)),
            Place::Config => value::read_config(kv).map(|config| Change::Config(Some(config))),
            Place::Lease(subnets) if deleted => Ok(Change::Gone(subnets)),
            Place::Lease(subnets) => value::read_lease(subnets, kv).map(Change::Lease),
            Place::Stray(_) if deleted => return,
            Place::Stray(reason) => Err(reason),
            Place::Elsewhere => return,
        };
        match change {
            Ok(change) => changes.changes.push(change),
            Err(reason) => changes.skipped.push(self.network.skipped(kv, reason)),
        }
    }
}

impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Update, StoreError> {
        if let Some(at) = self.retry_at {
            sleep_until(at).await;
            self.retry_at = None;
        }
        let result = self.advance().await;
        match &result {
            Ok(_) => self.failures = 0,
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                self.retry_at = Some(Instant::now() + backoff(self.failures, random()));
            }
        }
        result
    }
}

impl fmt::Debug for EtcdWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdWatch")
            .field("network", &self.network)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

/// How long to wait after so many failures in a row, with a share of randomness from 0 to 1.
fn backoff(failures: u32, random: f64) -> Duration {
    let (first, most) = BACKOFF;
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(doubled).min(most).mul_f64(0.5 + random)
}

/// From 0 to 1. What the standard library seeds its hash maps with is good enough to spread load.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_become_rarer_and_differ_from_node_to_node() {
        let ms = |failures, random| backoff(failures, random).as_millis();
        assert_eq!((ms(1, 0.0), ms(1, 0.5), ms(1, 1.0)), (50, 100, 150));
        assert_eq!((ms(2, 0.5), ms(5, 0.5), ms(6, 0.5), ms(7, 0.5)), (200, 1600, 3200, 4000));
        assert_eq!((ms(100, 0.0), ms(u32::MAX, 1.0)), (2000, 6000));
        let drawn: Vec<_> = (0..100).map(|_| random()).collect();
        assert!(drawn.iter().all(|random| (0.0..=1.0).contains(random)), "{drawn:?}");
        assert!(
            drawn.iter().any(|random| *random < 0.4) && drawn.iter().any(|random| *random > 0.6)
        );
    }
}
