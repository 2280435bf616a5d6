//! Cables and hubs between machines: one datagram per Ethernet frame.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};

use super::error::VmError;
use crate::sys::Bell;

/// One end of a cable, to be plugged into a machine by [`VmOptions::nic`](super::VmOptions::nic).
#[derive(Debug)]
pub struct Plug(pub(super) OwnedFd);

/// A cable between two machines. It loses nothing as long as both run: a sender waits.
///
/// # Errors
///
/// [`VmError::Io`] if there are too many open files.
pub fn cable() -> Result<(Plug, Plug), VmError> {
    let (one, other) = UnixDatagram::pair().map_err(|error| VmError::io("make a cable", error))?;
    Ok((Plug(one.into()), Plug(other.into())))
}

/// Joins any number of machines: what comes in at one port goes out at all others, or is lost where a machine does not
/// take it in time. Unplugged when it is dropped.
#[derive(Debug)]
pub struct Hub {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// A hub, and a plug for each of its ports.
    ///
    /// # Errors
    ///
    /// [`VmError::Io`] if there are too many open files or threads.
    pub fn new<const PORTS: usize>() -> Result<(Self, [Plug; PORTS]), VmError> {
        let failed = |error| VmError::io("make a hub", error);
        let mut ports = Vec::with_capacity(PORTS);
        let mut plugs = Vec::with_capacity(PORTS);
        for _ in 0..PORTS {
            let (port, plug) = UnixDatagram::pair().map_err(failed)?;
            port.set_nonblocking(true).map_err(failed)?;
            ports.push(port);
            plugs.push(Plug(plug.into()));
        }
        let plugs = plugs.try_into().expect("as many as there are ports");
        let bell = Arc::new(Bell::new().map_err(failed)?);
        let heard = Arc::clone(&bell);
        let work = move || forward(ports, &heard);
        let thread = thread::Builder::new().name("hub".to_owned()).spawn(work).map_err(failed)?;
        Ok((Self { bell, thread: Some(thread) }, plugs))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Larger than any frame that the emulator sends.
const LARGEST: usize = 1 << 17;

fn forward(mut ports: Vec<UnixDatagram>, bell: &Bell) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let mut polls: Vec<_> = std::iter::once(bell.as_fd())
            .chain(ports.iter().map(AsFd::as_fd))
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        match poll(&mut polls, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let mut ready = polls.iter().map(|poll| !poll.revents().is_empty());
        if ready.next() == Some(true) {
            return;
        }
        let ready: Vec<_> = ready.collect();
        let mut gone = Vec::new();
        for (from, port) in ports.iter().enumerate().filter(|(at, _)| ready.get(*at) == Some(&true))
        {
            match port.recv(&mut buffer) {
                Ok(length) => {
                    let others = ports.iter().enumerate().filter(|(to, _)| *to != from);
                    // A full queue loses the frame, as in any switch.
                    others
                        .for_each(|(_, to)| drop(buffer.get(..length).map(|frame| to.send(frame))));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => gone.push(from),
            }
        }
        // A machine that has ended would be reported again and again.
        let mut at = 0..;
        ports.retain(|_| !at.next().is_some_and(|at| gone.contains(&at)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn open(plug: Plug) -> UnixDatagram {
        let socket = UnixDatagram::from(plug.0);
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    #[test]
    fn a_hub_hands_a_frame_to_all_others_and_goes_on_without_one_of_them() {
        let (hub, plugs) = Hub::new::<3>().unwrap();
        let [a, b, c] = plugs.map(open);
        let mut buffer = [0; 16];
        a.send(b"one").unwrap();
        for other in [&b, &c] {
            assert_eq!((other.recv(&mut buffer).unwrap(), &buffer[..3]), (3, &b"one"[..]));
        }
        drop(b);
        c.send(b"two").unwrap();
        assert_eq!((a.recv(&mut buffer).unwrap(), &buffer[..3]), (3, &b"two"[..]));
        a.set_nonblocking(true).unwrap();
        assert_eq!(a.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock, "an echo");
        drop(hub);
        assert!(a.send(b"three").is_err(), "nobody is there any more");
    }
}
