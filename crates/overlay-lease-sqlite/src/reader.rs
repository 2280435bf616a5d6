//! The thread that reads, and that looks now and then for what other processes wrote and for what has expired.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use overlay_lease::NetworkName;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::clock;
use crate::fault::Fault;
use crate::file::Link;
use crate::queue::Queued;
use crate::read;
use crate::write;

/// How long another process that writes is waited for. A reader writes only what has expired.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// How late it may be written, in milliseconds.
const GRACE: i64 = 4_000;

/// Between two looks while somebody watches.
const WATCHED: Duration = Duration::from_millis(50);

/// Between two looks while nobody does, or while looking fails.
const UNWATCHED: Duration = Duration::from_secs(1);

/// A question that waits.
pub(crate) type Query = Box<dyn FnOnce(&mut Reader) + Send>;

/// Answers what comes through a queue, for as long as somebody can put something there.
pub(crate) struct Reader {
    pub(crate) link: Link,
    pub(crate) network: NetworkName,
    pub(crate) changed: watch::Sender<u64>,
    next: Instant,
}

impl Reader {
    pub(crate) fn new(link: Link, network: NetworkName, changed: watch::Sender<u64>) -> Self {
        Self { link, network, changed, next: Instant::now() }
    }

    pub(crate) fn run(mut self, queries: &mpsc::Receiver<Queued<Query>>) {
        loop {
            let pause = self.next.saturating_duration_since(Instant::now());
            match queries.recv_timeout(pause) {
                Ok(query) => (query.item)(&mut self),
                Err(mpsc::RecvTimeoutError::Timeout) => self.look_around(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Answers from one state of the file, in which nothing has expired for long.
    pub(crate) fn answer<T>(
        &mut self,
        query: impl FnOnce(&Connection, i64) -> Result<T, Fault>,
    ) -> Result<T, Arc<Fault>> {
        let answer = self.look().and_then(|()| {
            let transaction = self.link.connection()?.transaction()?;
            query(&transaction, clock::now_ms())
        });
        answer.map_err(|fault| {
            self.link.failed(&fault);
            Arc::new(fault)
        })
    }

    fn look_around(&mut self) {
        if let Err(fault) = self.look() {
            self.link.failed(&fault);
            self.next = Instant::now() + UNWATCHED;
            // Those who watch ask, and hear what is wrong.
            self.changed.send_modify(|_| ());
        }
    }

    /// Removes what has expired, wakes those who watch if there is something new, and tells when to look again.
    fn look(&mut self) -> Result<(), Fault> {
        let connection = self.link.connection()?;
        let (mut revision, mut deadline) = read::pulse(connection, &self.network)?;
        let now = clock::now_ms();
        if let Some(expired) = deadline.filter(|deadline| *deadline <= now) {
            match write::expire(connection, now) {
                Err(fault) if fault.is_busy() && now < expired.saturating_add(GRACE) => {}
                other => other?,
            }
            (revision, deadline) = read::pulse(connection, &self.network)?;
        }
        self.changed.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        let pause = if self.changed.receiver_count() > 0 { WATCHED } else { UNWATCHED };
        // What is over and still there cannot be removed, and is no reason to hurry.
        let expiry = deadline
            .filter(|deadline| *deadline > now)
            .map(|deadline| u64::try_from(deadline.saturating_sub(now)).unwrap_or(0));
        self.next =
            Instant::now() + expiry.map_or(pause, |ms| pause.min(Duration::from_millis(ms)));
        Ok(())
    }
}
