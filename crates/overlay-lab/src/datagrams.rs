//! What datagrams cost: how many get through, and how long one takes there and back.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::host::Host;

/// How long a receiver waits before it looks at the clock.
const TICK: Duration = Duration::from_millis(50);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many datagrams got through.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PacketRate {
    /// Those that the sender handed to its kernel in the time measured.
    pub sent: u64,
    /// Those that the receiver read in the time measured.
    pub received: u64,
    /// The time measured, without the warm-up.
    pub elapsed: Duration,
}

impl PacketRate {
    /// Datagrams that arrive in a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.received as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends datagrams of `size` bytes of payload from a host to an address of another as fast as one blocking socket
/// allows, for a duration after a warm-up of a quarter of it (at most half a second), and counts those that arrive.
///
/// # Errors
///
/// [`Error::TimedOut`] when none arrives; [`Error::Io`] when a socket cannot be used, or `address` is not one of the
/// receiver's.
pub fn packet_rate(
    from: &Host,
    to: &Host,
    address: impl Into<IpAddr>,
    size: usize,
    duration: Duration,
) -> Result<PacketRate> {
    let address = address.into();
    let object = format!("{} to {} at {address}", from.name(), to.name());
    let failed = |operation| {
        let object = object.clone();
        move |error| Error::io(operation, object, error)
    };
    let receiver = to.try_run(|| open(address))?.map_err(failed("listen for datagrams from"))?;
    let target = receiver.local_addr().map_err(failed("listen for datagrams from"))?;
    let sender = from.try_run(|| connect(target))?.map_err(failed("send datagrams from"))?;

    let done = AtomicBool::new(false);
    let rate = thread::scope(|scope| {
        let sending = scope.spawn(|| send(&sender, size, duration, &done));
        let received = receive(&receiver, size, duration);
        done.store(true, Ordering::Relaxed);
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let ((received, elapsed), sent) = (received?, sent?);
        Ok(PacketRate { sent, received, elapsed })
    })
    .map_err(failed("count datagrams from"))?;
    if rate.received == 0 {
        let operation = "count datagrams from";
        return Err(Error::TimedOut { operation, object, after: rate.elapsed });
    }
    Ok(rate)
}

/// How long a datagram of one byte takes from one host to an address of another and back, one at a time: the median over
/// a duration.
///
/// # Errors
///
/// [`Error::TimedOut`] when one is not answered within a second; [`Error::Io`] as for [`packet_rate`].
pub fn round_trip(
    from: &Host,
    to: &Host,
    address: impl Into<IpAddr>,
    duration: Duration,
) -> Result<Duration> {
    let address = address.into();
    let object = format!("{} to {} at {address}", from.name(), to.name());
    let operation = "measure round trips from";
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::TimedOut { operation, object: object.clone(), after: PATIENCE }
        }
        _ => Error::io(operation, object.clone(), error),
    };
    let server = to.try_run(|| open(address))?.map_err(failed)?;
    let target = server.local_addr().map_err(failed)?;
    let client = from.try_run(|| connect(target))?.map_err(failed)?;
    client.set_read_timeout(Some(PATIENCE)).map_err(failed)?;

    let done = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&server, &done));
        let times = ask(&client, duration);
        done.store(true, Ordering::Relaxed);
        let answered = answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        answered.and(times)
    });
    let mut times = times.map_err(failed)?;
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

fn open(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket)
}

fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0; 16].into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket)
}

fn warm_up(duration: Duration) -> Duration {
    (duration / 4).min(Duration::from_millis(500))
}

/// Datagrams handed over after the warm-up.
fn send(socket: &UdpSocket, size: usize, duration: Duration, done: &AtomicBool) -> io::Result<u64> {
    let payload = vec![0x5a; size];
    let warm = Instant::now() + warm_up(duration);
    let mut before = 0;
    let mut sent = 0;
    while !done.load(Ordering::Relaxed) {
        // Looking at the clock takes as long as a tenth of a send.
        for _ in 0..64 {
            match socket.send(&payload) {
                Ok(_) => sent += 1,
                // A full queue, and errors that came back for earlier ones.
                Err(error) if error.raw_os_error().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        if Instant::now() < warm {
            before = sent;
        }
    }
    Ok(sent - before)
}

fn receive(socket: &UdpSocket, size: usize, duration: Duration) -> io::Result<(u64, Duration)> {
    let mut buffer = vec![0; size.max(1)];
    let warm = Instant::now() + warm_up(duration);
    while Instant::now() < warm {
        some(socket, &mut buffer)?;
    }
    let start = Instant::now();
    let mut received = 0;
    loop {
        received += some(socket, &mut buffer)?;
        let elapsed = start.elapsed();
        if elapsed >= duration {
            return Ok((received, elapsed));
        }
    }
}

/// Reads up to 64, until one does not come.
fn some(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<u64> {
    for read in 0..64 {
        match socket.recv(buffer) {
            Ok(_) => {}
            Err(error) if waiting(&error) => return Ok(read),
            Err(error) => return Err(error),
        }
    }
    Ok(64)
}

fn answer(socket: &UdpSocket, done: &AtomicBool) -> io::Result<()> {
    let mut byte = [0];
    while !done.load(Ordering::Relaxed) {
        match socket.recv_from(&mut byte) {
            Ok((length, from)) => drop(socket.send_to(&byte[..length], from)?),
            Err(error) if waiting(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn ask(socket: &UdpSocket, duration: Duration) -> io::Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut byte = [0];
    let mut now = Instant::now();
    let end = now + duration;
    while now < end {
        socket.send(&byte)?;
        socket.recv(&mut byte)?;
        let then = Instant::now();
        times.push(then - now);
        now = then;
    }
    Ok(times)
}

fn waiting(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
