//! From async callers to a thread, with a bound on what waits.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::Fault;

/// What may wait for one thread.
const PLACES: usize = 1024;

/// Where callers leave what a thread is to do.
pub(crate) struct Queue<T> {
    places: Arc<Semaphore>,
    /// `None` when it is closed.
    sender: Mutex<Option<mpsc::Sender<Queued<T>>>>,
}

/// Something that waited, and the place it still takes.
pub(crate) struct Queued<T> {
    pub(crate) item: T,
    _place: OwnedSemaphorePermit,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Queued<T>>) {
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(Some(sender));
        (Self { places: Arc::new(Semaphore::new(PLACES)), sender }, receiver)
    }

    /// Waits for a place and takes it.
    pub(crate) async fn put(&self, item: T) -> Result<(), Fault> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| Fault::Closed)?;
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or(Fault::Closed)?;
        sender.send(Queued { item, _place: place }).map_err(|_| Fault::Ended)
    }

    /// Takes in nothing any more. The thread ends after what waits.
    pub(crate) fn close(&self) {
        self.places.close();
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
