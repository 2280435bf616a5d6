//! Hearing of changes in a program that runs on tokio.

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{Error, Event, Monitor};

/// A [`Monitor`] for programs that run on tokio.
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
#[derive(Debug)]
pub struct AsyncMonitor {
    monitor: AsyncFd<Monitor>,
}

impl AsyncMonitor {
    /// Makes `monitor` asynchronous.
    ///
    /// # Errors
    /// [`Error::Io`] when the runtime refuses the descriptor.
    ///
    /// # Panics
    /// When not called from within a tokio runtime with I/O enabled.
    pub fn new(monitor: Monitor) -> Result<Self, Error> {
        // SAFETY: a `Monitor` owns its socket, gives out the same descriptor every time, and
        // nothing closes or replaces it before the monitor, owned by the `AsyncFd`, is dropped.
        #[allow(unsafe_code)]
        let registered = unsafe { AsyncFd::register_with_interest(monitor, Interest::READABLE) };
        registered
            .map(|monitor| Self { monitor })
            .map_err(|e| Error::io("register a netlink socket with tokio", e.into()))
    }

    /// The next event.
    ///
    /// # Errors
    /// As [`Monitor::next`].
    ///
    /// # Cancel safety
    /// Safe: no event is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.monitor.get_mut().try_next()? {
                return Ok(event);
            }
            let mut ready = self
                .monitor
                .readable_mut()
                .await
                .map_err(|e| Error::io("wait for netlink events", e))?;
            match ready.get_inner_mut().try_next()? {
                Some(event) => return Ok(event),
                None => ready.clear_ready(),
            }
        }
    }
}
