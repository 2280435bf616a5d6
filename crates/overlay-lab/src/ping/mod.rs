//! ICMP echo from inside a host, both families.

mod icmp;
mod mtu;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys;
use icmp::{Heard, Kind};

pub use mtu::path_mtu;

/// What to send, and how long to wait for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PingRequest {
    /// Where to.
    pub dst: IpAddr,
    /// How many requests. Default 1.
    pub count: u16,
    /// Time from one request to the next. Default 20 ms.
    pub interval: Duration,
    /// Payload of each request in bytes: the packet is 28 bytes larger for IPv4, 48 for IPv6.
    /// Default 56.
    pub payload: usize,
    /// Forbids fragmentation anywhere, the sending host included. Default false.
    pub dont_fragment: bool,
    /// How long to wait for replies after the last request. Default 1 s.
    pub timeout: Duration,
    /// TTL or hop limit of the requests. Default: the host's.
    pub ttl: Option<u8>,
    /// Source address. Default: the host's choice.
    pub source: Option<IpAddr>,
    /// Device to send by and hear from, needed for link-local addresses. Default: by the routes.
    pub device: Option<String>,
}

impl PingRequest {
    /// One request with the defaults.
    #[must_use]
    pub fn to(dst: impl Into<IpAddr>) -> Self {
        Self {
            dst: dst.into(),
            count: 1,
            interval: Duration::from_millis(20),
            payload: 56,
            dont_fragment: false,
            timeout: Duration::from_secs(1),
            ttl: None,
            source: None,
            device: None,
        }
    }

    /// Sets how many requests are sent.
    #[must_use]
    pub fn count(mut self, count: u16) -> Self {
        self.count = count;
        self
    }

    /// Sets the time from one request to the next.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets the payload size in bytes.
    #[must_use]
    pub fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// Forbids or allows fragmentation.
    #[must_use]
    pub fn dont_fragment(mut self, forbid: bool) -> Self {
        self.dont_fragment = forbid;
        self
    }

    /// Sets how long to wait for replies after the last request.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the TTL or hop limit of the requests, at least 1.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the source address, one of the host's.
    #[must_use]
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the device to send by.
    #[must_use]
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.device = Some(device.into());
        self
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PingReport {
    /// Requests that the host could send.
    pub sent: u32,
    /// Requests that were answered correctly.
    pub received: u32,
    /// Replies beyond the first to a request, as far as they came before the last request was
    /// settled.
    pub duplicates: u32,
    /// The first correct reply to each request, as they came.
    pub replies: Vec<Reply>,
    /// What went wrong otherwise than by silence, as it came.
    pub errors: Vec<PingError>,
}

impl PingReport {
    /// Every request was sent and answered, once, and nothing went wrong.
    #[must_use]
    pub fn perfect(&self) -> bool {
        self.sent > 0
            && self.received == self.sent
            && self.duplicates == 0
            && self.errors.is_empty()
    }
}

/// A correct reply.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// Number of the request, from 0.
    pub seq: u16,
    /// Time from the request to the reply.
    pub rtt: Duration,
    /// TTL or hop limit the reply arrived with.
    pub ttl: u8,
    /// Who replied: `dst`, unless that is a group.
    pub from: IpAddr,
}

/// What went wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The packet is larger than a link on the way and must not be fragmented.
    #[error("request {seq}: too big for a link of MTU {mtu}{}", by(.from))]
    TooBig {
        /// Number of the request.
        seq: u16,
        /// MTU of that link in bytes, 0 if the router did not tell.
        mtu: u32,
        /// The router before it; nobody, when the sending host itself refused (EMSGSIZE).
        from: Option<IpAddr>,
    },
    /// The destination cannot be reached.
    #[error("request {seq}: unreachable (code {code}){}", by(&Some(*from)))]
    Unreachable {
        /// Number of the request.
        seq: u16,
        /// Why, in the codes of the family's ICMP.
        code: u8,
        /// Who said so.
        from: IpAddr,
    },
    /// The packet went through more routers than its TTL or hop limit allows.
    #[error("request {seq}: time exceeded{}", by(&Some(*from)))]
    TimeExceeded {
        /// Number of the request.
        seq: u16,
        /// The router at which it ended.
        from: IpAddr,
    },
    /// Another ICMP error.
    #[error("request {seq}: ICMP type {icmp_type} code {code}{}", by(&Some(*from)))]
    Icmp {
        /// Number of the request.
        seq: u16,
        /// Its type.
        icmp_type: u8,
        /// Its code.
        code: u8,
        /// Who sent it.
        from: IpAddr,
    },
    /// The reply's payload is not what was sent.
    #[error("request {seq}: the reply's payload differs{}", by(&Some(*from)))]
    Corrupt {
        /// Number of the request.
        seq: u16,
        /// Who replied.
        from: IpAddr,
    },
    /// The host could not send the request, for example for want of a route.
    #[error("request {seq}: {}", io::Error::from_raw_os_error(*errno))]
    Send {
        /// Number of the request.
        seq: u16,
        /// What the kernel answered, as an `errno`.
        errno: i32,
    },
}

fn by(from: &Option<IpAddr>) -> String {
    from.map(|from| format!(", says {from}")).unwrap_or_default()
}

/// Sends ICMP echo requests from a host and listens for what comes back.
///
/// It returns as soon as every request is answered, correctly or by an error, or after the timeout.
/// Silence is not an error: see [`PingReport`].
///
/// # Errors
///
/// [`Error::Io`] when the socket cannot be set up as the request wants, for example with a source
/// address that is not the host's. Whatever happens to a single request is in the report.
///
/// # Privileges
///
/// `CAP_NET_RAW` in the user namespace, which [`enter`](crate::enter) gives.
pub fn ping(from: &Host, request: &PingRequest) -> Result<PingReport> {
    let fragmentation =
        if request.dont_fragment { Fragmentation::Forbid } else { Fragmentation::Allow };
    from.try_run(|| run(request, fragmentation))?.map_err(|error| {
        Error::io("ping from", format!("{} to {}", from.name(), request.dst), error)
    })
}

#[derive(Clone, Copy)]
enum Fragmentation {
    Allow,
    /// Forbidden, minding the path MTU the host knows.
    Forbid,
    /// Forbidden, minding only the device's MTU.
    Probe,
}

fn run(request: &PingRequest, fragmentation: Fragmentation) -> io::Result<PingReport> {
    Ping::new(request, fragmentation)?.run()
}

struct Ping<'a> {
    request: &'a PingRequest,
    socket: Socket,
    id: u16,
    /// When each request was sent, until it is settled.
    open: HashMap<u16, Instant>,
    answered: HashSet<u16>,
    report: PingReport,
}

impl<'a> Ping<'a> {
    fn new(request: &'a PingRequest, fragmentation: Fragmentation) -> io::Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let socket = open(request, fragmentation)?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            request,
            socket,
            id,
            open: HashMap::new(),
            answered: HashSet::new(),
            report: PingReport::default(),
        })
    }

    fn run(mut self) -> io::Result<PingReport> {
        let start = Instant::now();
        let mut next = 0_u16;
        let mut end = start + self.request.timeout;
        loop {
            let now = Instant::now();
            let due = start + self.request.interval * u32::from(next);
            if next < self.request.count && due <= now {
                self.send(next)?;
                next += 1;
                end = Instant::now() + self.request.timeout;
                continue;
            }
            let finished = next == self.request.count;
            if finished && (self.open.is_empty() || now >= end) {
                return Ok(self.report);
            }
            let until = if finished { end } else { due };
            sys::wait(
                [(self.socket.as_fd(), PollFlags::IN)],
                Some(until.saturating_duration_since(now)),
            )?;
            self.listen()?;
        }
    }

    fn send(&mut self, seq: u16) -> io::Result<()> {
        let v6 = self.request.dst.is_ipv6();
        let bytes =
            icmp::request(v6, self.id, seq, &icmp::payload(self.id, seq, self.request.payload));
        self.open.insert(seq, Instant::now());
        let Err(error) =
            self.socket.send_to(&bytes, &SockAddr::from(SocketAddr::new(self.request.dst, 0)))
        else {
            self.report.sent += 1;
            return Ok(());
        };
        self.open.remove(&seq);
        let error = match error.raw_os_error() {
            Some(libc::EMSGSIZE) => {
                PingError::TooBig { seq, mtu: self.known_mtu().unwrap_or(0), from: None }
            }
            Some(errno) => PingError::Send { seq, errno },
            None => return Err(error),
        };
        self.report.errors.push(error);
        Ok(())
    }

    /// What the host takes for the path MTU; only a connected socket can tell.
    fn known_mtu(&self) -> io::Result<u32> {
        let dst = self.request.dst;
        let (any, level, name) = match dst {
            IpAddr::V4(_) => ("0.0.0.0:0", libc::IPPROTO_IP, libc::IP_MTU),
            IpAddr::V6(_) => ("[::]:0", libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect((dst, 9))?;
        sys::get_ints::<1>(&socket, level, name).map(|[mtu]| mtu)
    }

    fn listen(&mut self) -> io::Result<()> {
        let v6 = self.request.dst.is_ipv6();
        let mut buffer = vec![0; 65_536];
        loop {
            let message = match sys::receive(&self.socket, &mut buffer) {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(from) = message.from else { continue };
            let packet = &buffer[..message.length];
            if let Some(heard) =
                icmp::read(v6, self.id, self.request.dst, message.hop_limit, packet)
            {
                self.settle(from, heard);
            }
        }
    }

    fn settle(&mut self, from: IpAddr, heard: Heard) {
        let (Heard::Reply { seq, .. } | Heard::Error { seq, .. }) = heard;
        let Some(sent) = self.open.remove(&seq) else {
            if self.answered.contains(&seq) && matches!(heard, Heard::Reply { .. }) {
                self.report.duplicates += 1;
            }
            return;
        };
        let error = match heard {
            Heard::Reply { ttl, payload, .. } => {
                if payload == icmp::payload(self.id, seq, self.request.payload) {
                    self.answered.insert(seq);
                    self.report.received += 1;
                    self.report.replies.push(Reply {
                        seq,
                        rtt: sent.elapsed(),
                        ttl: ttl.unwrap_or(0),
                        from,
                    });
                    return;
                }
                PingError::Corrupt { seq, from }
            }
            Heard::Error { kind, .. } => match kind {
                Kind::TooBig { mtu } => PingError::TooBig { seq, mtu, from: Some(from) },
                Kind::Unreachable { code } => PingError::Unreachable { seq, code, from },
                Kind::TimeExceeded => PingError::TimeExceeded { seq, from },
                Kind::Other { icmp_type, code } => PingError::Icmp { seq, icmp_type, code, from },
            },
        };
        self.report.errors.push(error);
    }
}

fn open(request: &PingRequest, fragmentation: Fragmentation) -> io::Result<Socket> {
    let v6 = request.dst.is_ipv6();
    let (domain, protocol) =
        if v6 { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    // The families number these alike.
    let discover = match fragmentation {
        Fragmentation::Allow => libc::IP_PMTUDISC_DONT,
        Fragmentation::Forbid => libc::IP_PMTUDISC_DO,
        Fragmentation::Probe => libc::IP_PMTUDISC_PROBE,
    };
    if v6 {
        sys::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, discover)?;
        socket.set_recv_hoplimit_v6(true)?;
        if let Some(ttl) = request.ttl {
            socket.set_unicast_hops_v6(ttl.into())?;
            sys::set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, ttl.into())?;
        }
    } else {
        sys::set_int(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, discover)?;
        if let Some(ttl) = request.ttl {
            socket.set_ttl_v4(ttl.into())?;
            sys::set_int(&socket, libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, ttl.into())?;
        }
    }
    if let Some(device) = &request.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(source) = request.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}
