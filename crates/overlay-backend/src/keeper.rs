//! The loop that keeps the kernel right.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use overlay_netlink::{Error, Groups, Monitor, Namespace, Socket};

use crate::{ReconcileError, Reconciler, Report, Trigger};

/// A socket, a monitor and a [`Trigger`]: reconciles at the start, whenever the kernel's state is
/// changed by somebody else, after failures, and once in a while in any case.
///
/// A thin shell. Programs with a loop of their own use [`Monitor`], [`Trigger`] and
/// [`Reconciler`] directly.
#[derive(Debug)]
pub struct Keeper {
    socket: Socket,
    monitor: Monitor,
    trigger: Trigger,
    start: Instant,
}

impl Keeper {
    /// Opens socket and monitor in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn open() -> Result<Self, Error> {
        // Before anything is listed, so that no change goes unheard.
        let monitor = Monitor::open(Groups::ALL)?;
        Ok(Self::from_parts(Socket::open()?, monitor, Trigger::new(Duration::ZERO)))
    }

    /// Opens socket and monitor in another network namespace.
    ///
    /// # Errors
    /// When it cannot be entered, or the operating system gives none.
    ///
    /// # Privileges
    /// As [`Namespace::run`].
    pub fn open_in(namespace: &Namespace) -> Result<Self, Error> {
        namespace.run(Self::open)?
    }

    /// Takes a socket, a monitor of [`Groups::ALL`] in the same network namespace, and a trigger
    /// whose time is counted from now.
    #[must_use]
    pub fn from_parts(socket: Socket, monitor: Monitor, trigger: Trigger) -> Self {
        Self { socket, monitor, trigger, start: Instant::now() }
    }

    /// How long until a pass is due if nothing happens: how long to wait at most until the next
    /// [`step`](Self::step), for a loop that waits by itself until this is readable.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.trigger.wait(self.start.elapsed())
    }

    /// The socket.
    pub const fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Says that the desired state changed: the next [`step`](Self::step) brings it to the kernel.
    pub fn changed(&mut self) {
        self.trigger.wanted(self.start.elapsed());
    }

    /// Waits until a pass is due, but no longer than `patience`, and makes it. `Ok(None)` when none
    /// was due.
    ///
    /// # Errors
    /// When the pass could not be made. The next step tries again after a while.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    pub fn step(
        &mut self,
        reconciler: &mut Reconciler,
        patience: Duration,
    ) -> Result<Option<Report>, ReconcileError> {
        let deadline = self.start.elapsed() + patience;
        loop {
            let now = self.start.elapsed();
            if self.trigger.is_due(now) {
                break;
            }
            if now >= deadline {
                return Ok(None);
            }
            let wait = self.trigger.wait(now).min(deadline - now);
            if let Some(event) = self.monitor.next(Some(wait))?
                && reconciler.is_news(&event)
            {
                reconciler.forget();
                self.trigger.changed(self.start.elapsed());
            }
        }
        let result = match self.trigger.begin(self.start.elapsed()) {
            true => reconciler.reconcile(&mut self.socket),
            false => reconciler.push(&mut self.socket),
        };
        let converged = result.as_ref().is_ok_and(Report::is_converged);
        let progress = result.as_ref().is_ok_and(|report| report.writes() > 0);
        self.trigger.passed(self.start.elapsed(), converged, progress);
        result.map(Some)
    }
}

impl AsFd for Keeper {
    /// The monitor's: readable when there is an event to hear.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}
