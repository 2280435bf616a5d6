//! How threads wait, and how they are told to end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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

    /// Waits until there is something to read from one of these, for a while, or for the end.
    pub(crate) fn wait_for_either(&self, one: &impl AsFd, other: &impl AsFd, time: Duration) {
        let mut fds = [
            PollFd::new(one, PollFlags::IN),
            PollFd::new(other, PollFlags::IN),
            PollFd::new(&self.event, PollFlags::IN),
        ];
        let time = Timespec::try_from(time).ok();
        let _ = poll(&mut fds, time.as_ref());
    }

    /// Waits for a while, or for the end.
    pub(crate) fn pause(&self, time: Duration) {
        let mut fds = [PollFd::new(&self.event, PollFlags::IN)];
        let time = Timespec::try_from(time).ok();
        let _ = poll(&mut fds, time.as_ref());
    }
}

/// Rung any number of times, and readable until it is silenced.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn ring(&self) {
        // Where it would overflow, it has been rung.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn silence(&self) {
        // Where nobody has rung, it is silent.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_bell_wakes_who_waits_until_it_is_silenced() {
        let (stop, bell) = (Stop::new().unwrap(), Bell::new().unwrap());
        let (silent, _other) = rustix::pipe::pipe().unwrap();
        let wait = |time| {
            let start = Instant::now();
            stop.wait_for_either(&bell, &silent, time);
            start.elapsed()
        };
        let short = Duration::from_millis(30);
        assert!(wait(short) >= short);
        bell.ring();
        bell.ring();
        assert!(wait(Duration::from_secs(60)) < Duration::from_secs(30));
        bell.silence();
        assert!(wait(short) >= short);
    }

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
