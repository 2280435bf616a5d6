//! From async callers to a thread, with a bound on what waits.

use std::sync::{Arc, mpsc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What may wait for one thread.
const PLACES: usize = 1024;

/// Where callers leave what a thread is to do.
pub(crate) struct Queue<T> {
    places: Arc<Semaphore>,
    sender: mpsc::Sender<Queued<T>>,
}

/// Something that waited, and the place it still takes.
pub(crate) struct Queued<T> {
    pub(crate) item: T,
    _place: OwnedSemaphorePermit,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Queued<T>>) {
        let (sender, receiver) = mpsc::channel();
        (Self { places: Arc::new(Semaphore::new(PLACES)), sender }, receiver)
    }

    /// Waits for a place and takes it. `false` if there is no thread any more.
    pub(crate) async fn put(&self, item: T) -> bool {
        match self.places.clone().acquire_owned().await {
            Ok(place) => self.sender.send(Queued { item, _place: place }).is_ok(),
            Err(_) => false,
        }
    }
}
