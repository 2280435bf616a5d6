//! The loop that keeps the kernel right.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use overlay_netlink::{Error, Groups, Monitor, Namespace, Socket};

use crate::{Backend, Network, ReconcileError, Reconciler, Report, Trigger};

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
    /// The underlay of a network may have changed since it was followed.
    underlay_changed: bool,
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
        Self { socket, monitor, trigger, start: Instant::now(), underlay_changed: false }
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
        self.step_following::<Box<dyn Backend>>(&mut [], reconciler, patience)
    }

    /// As [`step`](Self::step), and follows the underlay of these networks, whose objects `reconciler`
    /// has: when it changes, and at each look at the kernel, each goes by what is
    /// [seen](Network::follow_underlay) before the pass is made. What cannot be seen is in the
    /// [`Report`], and its network goes on with what was seen last.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    ///
    /// # Privileges
    /// As [`step`](Self::step).
    pub fn step_following<B: Backend>(
        &mut self,
        networks: &mut [Network<B>],
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
            let Some(event) = self.monitor.next(Some(wait))? else { continue };
            let owner = reconciler.owner();
            if networks.iter().any(|network| network.is_underlay_news(&event, owner)) {
                self.underlay_changed = true;
                // Which by itself is no reason to look at what is ours.
                self.trigger.wanted(self.start.elapsed());
            }
            if reconciler.is_news(&event) {
                reconciler.forget();
                self.trigger.changed(self.start.elapsed());
            }
        }
        let look = self.trigger.begin(self.start.elapsed());
        let underlay_changed = std::mem::take(&mut self.underlay_changed);
        let mut unseen = Vec::new();
        for network in networks {
            let followed = match look || underlay_changed {
                true => network.follow_underlay(&mut self.socket, reconciler),
                false => network.follow_endpoints(&mut self.socket, reconciler),
            };
            unseen.extend(followed.err());
        }
        let mut result = match look {
            true => reconciler.reconcile(&mut self.socket),
            false => reconciler.push(&mut self.socket),
        };
        if let Ok(report) = &mut result {
            report.unseen = unseen;
        }
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
