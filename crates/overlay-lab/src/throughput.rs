//! What TCP flows carry.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a blocked send or receive waits before it looks at the clock.
const TICK: Duration = Duration::from_millis(50);
const CHUNK: usize = 256 << 10;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Throughput {
    /// Bytes that the receiver's program read in the time measured.
    pub bytes: u64,
    /// The time measured, without the warm-up.
    pub elapsed: Duration,
    /// The congestion control algorithm: `cubic`, or `reno` where the kernel has no `cubic`.
    pub congestion: &'static str,
}

impl Throughput {
    /// Bits per second.
    #[must_use]
    pub fn bits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64()
    }
}

/// Measures what one TCP flow carries from a host to an address of another, for a duration after a
/// warm-up of a quarter of it (at most half a second).
///
/// The congestion control is set before the connection is made, because one that paces, such as
/// BBR, leaves its pacing on when it is replaced later, and then everything looks equally slow.
/// Socket buffers are left to the kernel, which lets them grow further than a program may ask for.
///
/// It takes at most 4 seconds longer than the duration, whatever the path does.
///
/// # Errors
///
/// [`Error::TimedOut`] when no connection is made within 3 seconds or no byte arrives in the time
/// measured; [`Error::Io`] when the connection is refused or broken, or `address` is not one of the
/// receiver's.
pub fn throughput(
    from: &Host,
    to: &Host,
    address: impl Into<IpAddr>,
    duration: Duration,
) -> Result<Throughput> {
    throughput_of(1, from, to, address, duration)
}

/// Measures what so many TCP flows carry together; otherwise as [`throughput`].
///
/// # Errors
///
/// As for [`throughput`], for any of the flows.
pub fn throughput_of(
    flows: usize,
    from: &Host,
    to: &Host,
    address: impl Into<IpAddr>,
    duration: Duration,
) -> Result<Throughput> {
    let address = address.into();
    let object = format!("{} to {} at {address}", from.name(), to.name());
    let failed = |operation| {
        let object = object.clone();
        move |error: io::Error| match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                Error::TimedOut { operation, object, after: CONNECT }
            }
            _ => Error::io(operation, object, error),
        }
    };
    let (listener, congestion) =
        to.try_run(|| listen(address))?.map_err(failed("listen for a flow from"))?;
    let target = listener.local_addr().map_err(failed("listen for a flow from"))?;
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..flows.max(1) {
        let client = from.try_run(|| open(address))?.map_err(failed("open a flow from"))?.0;
        client.connect_timeout(&target, CONNECT).map_err(failed("connect a flow from"))?;
        clients.push(client);
        servers.push(accept(&listener).map_err(failed("accept a flow from"))?);
    }

    let done = AtomicBool::new(false);
    let carried: io::Result<Vec<(u64, Duration)>> = thread::scope(|scope| {
        let senders: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(|| send(client, &done))).collect();
        let receivers: Vec<_> =
            servers.iter().map(|server| scope.spawn(move || measure(server, duration))).collect();
        let measured: Vec<_> = receivers.into_iter().map(joined).collect();
        done.store(true, Ordering::Relaxed);
        // The sender's error is the reason for the receiver's, when both have one.
        let sent: Vec<_> = senders.into_iter().map(joined).collect();
        sent.into_iter().zip(measured).map(|(sent, measured)| sent.and(measured)).collect()
    });
    let carried = carried.map_err(failed("measure a flow from"))?;
    let bytes = carried.iter().map(|(bytes, _)| bytes).sum();
    let elapsed = carried.iter().map(|(_, elapsed)| *elapsed).max().unwrap_or_default();
    if bytes == 0 {
        return Err(Error::TimedOut { operation: "measure a flow from", object, after: elapsed });
    }
    Ok(Throughput { bytes, elapsed, congestion })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn open(address: IpAddr) -> io::Result<(Socket, &'static str)> {
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(address, 0)),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    let congestion = match socket.set_tcp_congestion(b"cubic") {
        Ok(()) => "cubic",
        Err(_) => {
            socket.set_tcp_congestion(b"reno")?;
            "reno"
        }
    };
    socket.set_read_timeout(Some(TICK))?;
    socket.set_write_timeout(Some(TICK))?;
    Ok((socket, congestion))
}

fn listen(address: IpAddr) -> io::Result<(Socket, &'static str)> {
    let (socket, congestion) = open(address)?;
    socket.bind(&SocketAddr::new(address, 0).into())?;
    socket.listen(1)?;
    Ok((socket, congestion))
}

fn accept(listener: &Socket) -> io::Result<Socket> {
    match sys::wait([(listener.as_fd(), PollFlags::IN)], Some(CONNECT))? {
        [true] => {
            let (socket, _) = listener.accept()?;
            socket.set_read_timeout(Some(TICK))?;
            Ok(socket)
        }
        [false] => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn send(mut socket: Socket, done: &AtomicBool) -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    while !done.load(Ordering::Relaxed) {
        match socket.write(&chunk) {
            Ok(_) => {}
            Err(error) if waiting(&error) => {}
            Err(_) if done.load(Ordering::Relaxed) => break,
            Err(error) => return Err(error),
        }
    }
    // What is still queued need not arrive.
    socket.set_linger(Some(Duration::ZERO))
}

fn measure(mut socket: &Socket, duration: Duration) -> io::Result<(u64, Duration)> {
    let mut chunk = vec![0; CHUNK];
    let warm = Instant::now() + (duration / 4).min(Duration::from_millis(500));
    while Instant::now() < warm {
        read(&mut socket, &mut chunk)?;
    }
    let start = Instant::now();
    let mut bytes = 0;
    loop {
        bytes += read(&mut socket, &mut chunk)?;
        let elapsed = start.elapsed();
        if elapsed >= duration {
            return Ok((bytes, elapsed));
        }
    }
}

fn read(socket: &mut &Socket, chunk: &mut [u8]) -> io::Result<u64> {
    match socket.read(chunk) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => Ok(length as u64),
        Err(error) if waiting(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

fn waiting(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
