//! The UDP socket: trains of datagrams to one peer and from one peer, and what the underlay reports.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use overlay_wire::IpVersion;
use overlay_wire::ip::Ecn;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::ForwardError;
use crate::control::{Control, RawAddress, ip_of, messages};
use crate::options::Buffers;
use crate::sys;

/// How many segments the kernel takes in one send: `UDP_MAX_SEGMENTS` since Linux 6.9, and before.
pub(crate) const MAX_SEGMENTS: usize = 128;
const MAX_SEGMENTS_ONCE: usize = 64;

/// How long a send waits for room in the send buffer. In this time a device of 100 Mbit/s sends a quarter of a megabyte, and
/// no longer does one peer without a neighbour entry hold up the others.
const SEND_TIMEOUT: Duration = Duration::from_millis(20);

/// A UDP socket of the underlay.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
    /// How many segments a send may have: 1 once the kernel or a device has refused to segment.
    max_segments: AtomicUsize,
    coalesces: AtomicBool,
}

/// Whether several sockets have the address and share what arrives by sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Nobody else may have the address.
    Alone,
    /// Nobody else had the address, others may join.
    First,
    /// Another socket of this process has the address.
    Joined,
}

/// What a receive returned: datagrams of equal length but the last, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagrams {
    /// Bytes of all of them.
    pub(crate) len: usize,
    /// Bytes of each but the last.
    pub(crate) each: usize,
    /// Who sent them.
    pub(crate) source: IpAddr,
    /// What the outer headers say about congestion.
    pub(crate) ecn: Ecn,
    /// Whether the end is missing.
    pub(crate) is_cut: bool,
    /// How many the kernel had thrown away by then because the buffer was full. It begins anew after 2^32, and is not told
    /// as long as there are none.
    pub(crate) overruns: Option<u32>,
}

/// What the error queue told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The kernel knows that no datagram, its headers included, may be longer than `mtu` on the way there.
    PathMtu { to: IpAddr, mtu: u32 },
    /// Anything else: a send that follows may be refused because of it.
    Other,
}

impl UdpSocket {
    /// Opens the socket in the network namespace of the calling thread.
    pub(crate) fn open(
        local: SocketAddr,
        sharing: Sharing,
        buffers: Buffers,
    ) -> Result<Self, ForwardError> {
        let fail = |operation| {
            move |errno: Errno| ForwardError::Socket { local, operation, source: errno.into() }
        };
        let family = match local {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(fail("open"))?;
        if sharing == Sharing::Joined {
            sockopt::set_socket_reuseport(&fd, true).map_err(fail("share the port"))?;
        }
        let set = |level, name, value| sys::set_option(fd.as_fd(), level, name, value);
        match IpVersion::of(local.ip()) {
            IpVersion::V4 => {
                // With DF set, and never longer than the path takes.
                set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
                    .and_then(|()| set(libc::IPPROTO_IP, libc::IP_RECVERR, 1))
                    .and_then(|()| set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1))
            }
            IpVersion::V6 => sockopt::set_ipv6_v6only(&fd, true)
                .and_then(|()| {
                    set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
                })
                .and_then(|()| set(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1))
                .and_then(|()| set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1))
                // Programs in a peer's kernel send without a checksum, as RFC 6935 allows tunnels.
                .and_then(|()| set(libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1)),
        }
        .map_err(fail("prepare"))?;
        sockopt::set_socket_timeout(&fd, Timeout::Send, Some(SEND_TIMEOUT))
            .map_err(fail("limit the time of a send"))?;
        set_buffers(&fd, buffers);
        set(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1).map_err(fail("count overruns"))?;
        let coalesces = set(libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        rustix::net::bind(&fd, &local).map_err(fail("bind"))?;
        if sharing == Sharing::First {
            // Not before: whoever else has the address, it shall be an error.
            sockopt::set_socket_reuseport(&fd, true).map_err(fail("share the port"))?;
        }
        Ok(Self {
            fd,
            local,
            max_segments: AtomicUsize::new(MAX_SEGMENTS),
            coalesces: AtomicBool::new(coalesces),
        })
    }

    /// How many segments one [`send`](Self::send) may have, as far as is known.
    pub(crate) fn max_segments(&self) -> usize {
        self.max_segments.load(Ordering::Relaxed)
    }

    /// Whether the kernel hands over several datagrams at once.
    pub(crate) fn coalesces(&self) -> bool {
        self.coalesces.load(Ordering::Relaxed)
    }

    /// Remembers that a send of several segments was refused with `errno`, though one segment was not.
    pub(crate) fn step_down(&self, errno: Errno) {
        let now = match errno {
            Errno::INVAL if self.max_segments() > MAX_SEGMENTS_ONCE => MAX_SEGMENTS_ONCE,
            _ => 1,
        };
        self.max_segments.store(now, Ordering::Relaxed);
    }

    /// Sends `payload` to a peer: as one datagram, or as datagrams of `each` bytes and the rest.
    pub(crate) fn send(
        &self,
        to: IpAddr,
        ecn: Ecn,
        payload: &[IoSlice<'_>],
        each: Option<u16>,
    ) -> Result<(), Errno> {
        let mut control = Control::new();
        if let Some(each) = each {
            control = control.with(libc::SOL_UDP, libc::UDP_SEGMENT, &each.to_ne_bytes());
        }
        if ecn != Ecn::NotEct {
            let value = i32::from(ecn as u8).to_ne_bytes();
            control = match self.version() {
                IpVersion::V4 => control.with(libc::IPPROTO_IP, libc::IP_TOS, &value),
                IpVersion::V6 => control.with(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value),
            };
        }
        let to = RawAddress::new(SocketAddr::new(to, self.local.port()));
        sys::send_message(self.fd.as_fd(), to.as_bytes(), payload, control.as_bytes()).map(drop)
    }

    /// Sends one datagram that the kernel may cut into fragments. Not while another thread sends.
    pub(crate) fn send_fragmented(
        &self,
        to: IpAddr,
        ecn: Ecn,
        payload: &[IoSlice<'_>],
    ) -> Result<(), Errno> {
        self.discover(libc::IP_PMTUDISC_DONT, libc::IPV6_PMTUDISC_DONT)?;
        let sent = self.send(to, ecn, payload, None);
        self.discover(libc::IP_PMTUDISC_DO, libc::IPV6_PMTUDISC_DO)?;
        sent
    }

    fn discover(&self, v4: i32, v6: i32) -> Result<(), Errno> {
        let fd = self.fd.as_fd();
        match self.version() {
            IpVersion::V4 => sys::set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4),
            IpVersion::V6 => sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6),
        }
    }

    /// What has arrived, without waiting.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Datagrams, Errno> {
        let mut control = [0; 128];
        let message = sys::receive_message(self.fd.as_fd(), buffer, &mut control, 0)?;
        let source = ip_of(&message.address).ok_or(Errno::AFNOSUPPORT)?;
        let mut datagrams = Datagrams {
            len: message.len,
            each: message.len,
            source,
            ecn: Ecn::NotEct,
            is_cut: message.is_cut,
            overruns: None,
        };
        for (level, kind, data) in messages(control.get(..message.control_len).unwrap_or_default())
        {
            match (level, kind, data) {
                (libc::SOL_UDP, libc::UDP_GRO, [a, b, c, d]) => {
                    let each = i32::from_ne_bytes([*a, *b, *c, *d]);
                    datagrams.each = usize::try_from(each).unwrap_or(message.len);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, [a, b, c, d]) => {
                    datagrams.overruns = Some(u32::from_ne_bytes([*a, *b, *c, *d]));
                }
                (libc::IPPROTO_IP, libc::IP_TOS, [tos]) => datagrams.ecn = Ecn::of(*tos),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, [a, b, c, d]) => {
                    let class = i32::from_ne_bytes([*a, *b, *c, *d]);
                    datagrams.ecn = Ecn::of(class.to_le_bytes()[0]);
                }
                _ => {}
            }
        }
        Ok(datagrams)
    }

    /// The next report of the underlay, if there is one.
    pub(crate) fn report(&self) -> Option<Report> {
        let mut control = [0; 256];
        let fd = self.fd.as_fd();
        let message = sys::receive_message(fd, &mut [], &mut control, libc::MSG_ERRQUEUE).ok()?;
        let to = ip_of(&message.address);
        let mut control = messages(control.get(..message.control_len).unwrap_or_default());
        let error = control.find_map(|(level, kind, data)| {
            let is_error = (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
                || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
            extended_error(data).filter(|_| is_error)
        });
        Some(match (to, error) {
            // Of what this socket sends, the kernel says it itself; of what programs send by its port, routers do. Those are
            // believed as far as the kernel believes them.
            (Some(to), Some((libc::EMSGSIZE, origin, mtu))) if is_of_the_path(origin) => {
                Report::PathMtu { to, mtu: mtu.max(least_path_mtu(to)) }
            }
            _ => Report::Other,
        })
    }

    fn version(&self) -> IpVersion {
        IpVersion::of(self.local.ip())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Errno, origin and information of a `struct sock_extended_err` (linux/errqueue.h).
fn extended_error(data: &[u8]) -> Option<(i32, u8, u32)> {
    let (errno, rest) = data.split_first_chunk()?;
    let (origin, rest) = rest.split_first()?;
    let info = rest.get(3..)?.first_chunk()?;
    Some((i32::from_ne_bytes(*errno), *origin, u32::from_ne_bytes(*info)))
}

/// Makes the buffers as large as wanted, or as the machine allows.
fn set_buffers(fd: &OwnedFd, buffers: Buffers) {
    // Beyond the limit of the machine only a real root may go; less is not an error.
    if sockopt::set_socket_recv_buffer_size_force(fd, buffers.receive).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(fd, buffers.receive);
    }
    if sockopt::set_socket_send_buffer_size_force(fd, buffers.send).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(fd, buffers.send);
    }
}

const fn is_of_the_path(origin: u8) -> bool {
    matches!(origin, libc::SO_EE_ORIGIN_LOCAL | libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6)
}

/// The smallest path MTU that Linux believes in (`net.ipv4.route.min_pmtu`; RFC 8200, section 5).
const fn least_path_mtu(to: IpAddr) -> u32 {
    match to {
        IpAddr::V4(_) => 552,
        IpAddr::V6(_) => 1280,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::departure::{Departure, Verdict};
    use overlay_wire::segment::SendLimit;
    use std::net::Ipv4Addr;
    use std::time::Instant;

    const BUFFERS: Buffers = Buffers { receive: 1 << 20, send: 1 << 20 };

    /// A socket on an address of the loopback device that no other test has.
    fn socket(last: u8, port: u16, sharing: Sharing) -> Result<UdpSocket, ForwardError> {
        let address = Ipv4Addr::new(127, 82, 85, last);
        UdpSocket::open(SocketAddr::new(address.into(), port), sharing, BUFFERS)
    }

    /// The datagrams that arrive until `count` are there.
    fn received(socket: &UdpSocket, count: usize) -> Vec<(Vec<u8>, Ecn)> {
        let (start, mut all) = (Instant::now(), Vec::new());
        let mut buffer = vec![0; 1 << 17];
        while all.len() < count && start.elapsed() < Duration::from_secs(5) {
            match socket.receive(&mut buffer) {
                Ok(train) => {
                    assert!(!train.is_cut && train.each > 0);
                    let datagrams = buffer[..train.len].chunks(train.each);
                    all.extend(datagrams.map(|datagram| (datagram.to_vec(), train.ecn)));
                }
                Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
                Err(errno) => panic!("{errno}"),
            }
        }
        all
    }

    /// Sends a train.
    fn send(from: &UdpSocket, to: &UdpSocket, datagrams: &[Vec<u8>], ecn: Ecn) {
        let pieces: Vec<IoSlice<'_>> = datagrams.iter().map(|it| IoSlice::new(it)).collect();
        let each = u16::try_from(datagrams[0].len()).unwrap();
        from.send(to.local.ip(), ecn, &pieces, Some(each)).unwrap();
    }

    #[test]
    fn trains_arrive_as_they_were_sent() {
        let (a, b) =
            (socket(1, 8285, Sharing::Alone).unwrap(), socket(2, 8285, Sharing::Alone).unwrap());
        for (count, ecn) in [(2, Ecn::NotEct), (44, Ecn::Ect0), (64, Ecn::Ce)] {
            let mut sent: Vec<Vec<u8>> = (0..count).map(|number| vec![number; 1000]).collect();
            sent[usize::from(count) - 1].truncate(10);
            send(&a, &b, &sent, ecn);
            let received = received(&b, count.into());
            assert!(received.iter().all(|(_, mark)| *mark == ecn), "{ecn:?}");
            let datagrams: Vec<Vec<u8>> = received.into_iter().map(|(it, _)| it).collect();
            assert_eq!(datagrams, sent);
        }
    }

    #[test]
    fn more_than_the_kernel_takes_is_refused_and_remembered() {
        let (a, b) =
            (socket(3, 8285, Sharing::Alone).unwrap(), socket(4, 8285, Sharing::Alone).unwrap());
        let many = vec![IoSlice::new(b"segment"); 129];
        let refused = a.send(b.local.ip(), Ecn::NotEct, &many, Some(7));
        assert_eq!(refused, Err(Errno::INVAL));
        a.step_down(Errno::INVAL);
        assert_eq!(a.max_segments(), SendLimit::new(IpVersion::V4).segments);
        a.step_down(Errno::INVAL);
        assert_eq!(a.max_segments(), 1);
        let device = socket(5, 8285, Sharing::Alone).unwrap();
        device.step_down(Errno::IO);
        assert_eq!(device.max_segments(), 1);
    }

    /// Without a checksum there is no segmentation, so this is a kernel that refuses it.
    #[test]
    fn a_refused_train_arrives_all_the_same() {
        let open = |last| socket(last, 8285, Sharing::Alone).unwrap();
        let (a, b) = (open(12), open(13));
        sys::set_option(a.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
        let sent: Vec<Vec<u8>> = (0..100).map(|number| vec![number; 100]).collect();
        let pieces: Vec<IoSlice<'_>> = sent.iter().map(|it| IoSlice::new(it)).collect();
        for _ in 0..2 {
            let mut departure = Departure::new(100, 100, 100);
            while let Some(part) = departure.part(a.max_segments(), usize::MAX) {
                let pieces = &pieces[part.first..][..part.count];
                let each = (part.count > 1).then_some(100);
                match departure.tried(part, a.send(b.local.ip(), Ecn::NotEct, pieces, each)) {
                    Verdict::LeftAlone(refusal) => a.step_down(refusal),
                    Verdict::Left | Verdict::Again => {}
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(a.max_segments(), 1);
            let arrived = received(&b, 100).into_iter().map(|(it, _)| it);
            assert!(arrived.eq(sent.iter().cloned()));
        }
    }

    #[test]
    fn what_is_too_long_for_the_path_says_how_long_it_may_be() {
        let (a, b) =
            (socket(6, 8285, Sharing::Alone).unwrap(), socket(7, 8285, Sharing::Alone).unwrap());
        // The path to itself takes 65,536 bytes, and a datagram with DF is no longer than this with its headers.
        let long = vec![1; 65_507];
        a.send(b.local.ip(), Ecn::NotEct, &[IoSlice::new(&long)], None).unwrap();
        assert_eq!(received(&b, 1), [(long, Ecn::NotEct)]);
        assert_eq!(a.report(), None);
        let longer = vec![1; 65_508];
        let refused = a.send(b.local.ip(), Ecn::NotEct, &[IoSlice::new(&longer)], None);
        assert_eq!(refused, Err(Errno::MSGSIZE));
    }

    #[test]
    fn an_error_from_elsewhere_is_reported_and_then_over() {
        let a = socket(8, 8285, Sharing::Alone).unwrap();
        let nobody = Ipv4Addr::new(127, 82, 85, 99).into();
        a.send(nobody, Ecn::NotEct, &[IoSlice::new(b"?")], None).unwrap();
        let start = Instant::now();
        let mut report = None;
        while report.is_none() && start.elapsed() < Duration::from_secs(5) {
            report = a.report();
        }
        assert_eq!(report, Some(Report::Other));
        let mut buffer = [0; 10];
        // Whether the error itself has gone with its report or not, it does not stay.
        let _ = a.receive(&mut buffer);
        assert_eq!(a.receive(&mut buffer), Err(Errno::AGAIN));
    }

    #[test]
    fn what_was_lost_to_a_full_buffer_is_known() {
        let (a, address) =
            (socket(10, 8285, Sharing::Alone).unwrap(), Ipv4Addr::new(127, 82, 85, 11));
        let narrow = Buffers { receive: 20_000, ..BUFFERS };
        let local = SocketAddr::new(address.into(), 8285);
        let b = UdpSocket::open(local, Sharing::Alone, narrow).unwrap();
        let send =
            || a.send(address.into(), Ecn::NotEct, &[IoSlice::new(&[0; 1000])], None).unwrap();
        (0..200).for_each(|_| send());
        let mut buffer = vec![0; 1 << 17];
        let mut arrived = 0;
        while let Ok(train) = b.receive(&mut buffer) {
            assert_eq!(train.overruns, None);
            arrived += train.len / train.each;
        }
        assert!(arrived < 200);
        send();
        let overruns = b.receive(&mut buffer).unwrap().overruns;
        assert_eq!(overruns, Some(200 - arrived as u32));
    }

    #[test]
    fn an_address_is_shared_only_by_those_who_know_of_it() {
        let first = socket(9, 8285, Sharing::First).unwrap();
        let second = socket(9, 8285, Sharing::Joined).unwrap();
        for sharing in [Sharing::Alone, Sharing::First] {
            let error = socket(9, 8285, sharing).unwrap_err().to_string();
            assert!(error.contains("127.82.85.9:8285: bind"), "{error}");
        }
        drop((first, second));
        socket(9, 8285, Sharing::Alone).unwrap();
    }
}
