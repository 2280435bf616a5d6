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
/// How long it is waited for flows that are ready before it looks at the clock.
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
/// One thread sends them all and another one receives them, so that on machines with few processors there are some left for
/// what carries the flows.
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
        client.set_nonblocking(true).map_err(failed("connect a flow from"))?;
        clients.push(client);
        servers.push(accept(&listener).map_err(failed("accept a flow from"))?);
    }

    let done = AtomicBool::new(false);
    let carried: io::Result<Carried> = thread::scope(|scope| {
        let sender = scope.spawn(|| send(clients, &done));
        let measured = measure(&servers, duration);
        done.store(true, Ordering::Relaxed);
        // The sender's error is the reason for the receiver's, when both have one.
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(measured)
    });
    let Carried { bytes, elapsed } = carried.map_err(failed("measure a flow from"))?;
    if bytes == 0 {
        return Err(Error::TimedOut { operation: "measure a flow from", object, after: elapsed });
    }
    Ok(Throughput { bytes, elapsed, congestion })
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
            socket.set_nonblocking(true)?;
            Ok(socket)
        }
        [false] => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn send(sockets: Vec<Socket>, done: &AtomicBool) -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    while !done.load(Ordering::Relaxed) {
        for mut socket in ready(&sockets, PollFlags::OUT)? {
            match socket.write(&chunk) {
                Ok(_) => {}
                Err(error) if waiting(&error) => {}
                Err(_) if done.load(Ordering::Relaxed) => break,
                Err(error) => return Err(error),
            }
        }
    }
    // What is still queued need not arrive.
    sockets.iter().try_for_each(|socket| socket.set_linger(Some(Duration::ZERO)))
}

struct Carried {
    bytes: u64,
    elapsed: Duration,
}

fn measure(sockets: &[Socket], duration: Duration) -> io::Result<Carried> {
    let mut chunk = vec![0; CHUNK];
    let warm = Instant::now() + (duration / 4).min(Duration::from_millis(500));
    while Instant::now() < warm {
        read(sockets, &mut chunk)?;
    }
    let start = Instant::now();
    let mut bytes = 0;
    loop {
        bytes += read(sockets, &mut chunk)?;
        let elapsed = start.elapsed();
        if elapsed >= duration {
            return Ok(Carried { bytes, elapsed });
        }
    }
}

/// Once from each flow that has something, or has it within a [`TICK`].
fn read(sockets: &[Socket], chunk: &mut [u8]) -> io::Result<u64> {
    let mut bytes = 0;
    for mut socket in ready(sockets, PollFlags::IN)? {
        match socket.read(chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => bytes += length as u64,
            Err(error) if waiting(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// The sockets that are ready for something, or become so within a [`TICK`].
fn ready(sockets: &[Socket], wanted: PollFlags) -> io::Result<impl Iterator<Item = &Socket>> {
    let ready = sys::wait_for(sockets.iter().map(|socket| (socket.as_fd(), wanted)), Some(TICK))?;
    Ok(sockets.iter().zip(ready).filter_map(|(socket, is_ready)| is_ready.then_some(socket)))
}

fn waiting(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
