//! The thread that writes: it commits all that waits in one transaction.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use overlay_lease::NetworkName;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::fault::Fault;
use crate::file::Link;
use crate::queue::Queued;
use crate::read;
use crate::write;

/// How long another process that writes is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Writes that make one transaction at most. It keeps other processes waiting for as long as they take.
const BATCH: usize = 256;

/// A write that waits.
pub(crate) type Write = Box<dyn Operation>;

/// What a [`Writer`] does for somebody.
pub(crate) trait Operation: Send {
    /// Does it within a transaction. With a fault it has done nothing.
    fn perform(&mut self, connection: &Connection, now: i64) -> Result<(), Fault>;

    /// Tells how it went, after the transaction was committed or came to nothing.
    fn answer(self: Box<Self>, outcome: Result<(), Arc<Fault>>);
}

/// An operation as a function, and who waits for what it returns.
pub(crate) struct Asked<F, T> {
    function: Option<F>,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, Arc<Fault>>>,
}

impl<F, T> Asked<F, T> {
    pub(crate) const fn new(function: F, reply: oneshot::Sender<Result<T, Arc<Fault>>>) -> Self {
        Self { function: Some(function), result: None, reply }
    }
}

impl<F, T> Operation for Asked<F, T>
where
    F: FnOnce(&Connection, i64) -> Result<T, Fault> + Send,
    T: Send,
{
    fn perform(&mut self, connection: &Connection, now: i64) -> Result<(), Fault> {
        if let Some(function) = self.function.take() {
            self.result = Some(function(connection, now)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), Arc<Fault>>) {
        let Self { result, reply, .. } = *self;
        let result = outcome.and_then(|()| result.ok_or_else(|| Arc::new(Fault::Ended)));
        // Who asked may have gone.
        let _ = reply.send(result);
    }
}

/// Writes what comes through a queue, for as long as somebody can put something there.
pub(crate) struct Writer {
    pub(crate) link: Link,
    pub(crate) network: NetworkName,
    pub(crate) writes: mpsc::Receiver<Queued<Write>>,
    pub(crate) changed: watch::Sender<u64>,
}

impl Writer {
    pub(crate) fn run(&mut self) {
        while let Ok(first) = self.writes.recv() {
            let waiting = self.writes.try_iter().take(BATCH - 1);
            let mut batch: Vec<_> =
                std::iter::once(first).chain(waiting).map(|write| (write, None)).collect();
            let outcome = self.commit(&mut batch).map_err(Arc::new);
            match &outcome {
                Ok(revision) => drop(
                    self.changed
                        .send_if_modified(|seen| std::mem::replace(seen, *revision) != *revision),
                ),
                Err(fault) => self.link.failed(fault),
            }
            for (write, failed) in batch {
                write.item.answer(match (&outcome, failed) {
                    (Err(fault), _) => Err(fault.clone()),
                    (Ok(_), Some(fault)) => Err(Arc::new(fault)),
                    (Ok(_), None) => Ok(()),
                });
            }
        }
    }

    /// Performs what is in the batch, each as a whole or not at all, and tells the revision after all of it.
    fn commit(&mut self, batch: &mut [(Queued<Write>, Option<Fault>)]) -> Result<u64, Fault> {
        let connection = self.link.connection()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = clock::now_ms();
        write::expire(&transaction, now)?;
        for (write, failed) in batch {
            transaction.prepare_cached("SAVEPOINT operation")?.execute([])?;
            if let Err(fault) = write.item.perform(&transaction, now) {
                // Of some failures SQLite makes an end of the whole transaction.
                if transaction.is_autocommit() {
                    return Err(fault);
                }
                transaction.prepare_cached("ROLLBACK TO operation")?.execute([])?;
                *failed = Some(fault);
            }
            transaction.prepare_cached("RELEASE operation")?.execute([])?;
        }
        let (revision, _) = read::pulse(&transaction, &self.network)?;
        transaction.commit()?;
        Ok(revision)
    }
}
