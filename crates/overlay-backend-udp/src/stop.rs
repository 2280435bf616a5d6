//! How threads wait, and how they are told to end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Told once, and heard by every thread that waits.
#[derive(Debug)]
pub(crate) struct Stop {
    told: AtomicBool,
    /// Readable from then on.
    event: OwnedFd,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { told: AtomicBool::new(false), event })
    }

    pub(crate) fn tell(&self) {
        self.told.store(true, Ordering::Release);
        // It cannot overflow: nobody else adds to it.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// Waits until there is something to read, or an error to look at, which is what it returns; or the end.
    pub(crate) fn wait_for(&self, readable: &impl AsFd) -> bool {
        let mut fds =
            [PollFd::new(readable, PollFlags::IN), PollFd::new(&self.event, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        fds.first().is_some_and(|fd| fd.revents().contains(PollFlags::ERR))
    }

    /// Waits for a while, or for the end.
    pub(crate) fn pause(&self, time: Duration) {
        let mut fds = [PollFd::new(&self.event, PollFlags::IN)];
        let time = Timespec::try_from(time).ok();
        let _ = poll(&mut fds, time.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn the_end_ends_every_wait() {
        let stop = Stop::new().unwrap();
        let (silent, _other) = rustix::pipe::pipe().unwrap();
        let start = Instant::now();
        stop.pause(Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30) && !stop.is_told());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| stop.wait_for(&silent));
                scope.spawn(|| stop.pause(Duration::from_secs(60)));
            }
            stop.tell();
        });
        assert!(stop.is_told() && start.elapsed() < Duration::from_secs(30));
    }
}
