//! The blocking netlink socket.

mod describe;
mod reply;

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

pub(crate) use self::describe::{describe, link_kind};
pub(crate) use self::reply::{Cut, Messages, Refusal};
use crate::batch::Message;
use crate::codec::{self, Encoder, rtm};
use crate::error::KernelError;
use crate::object::{KernelObject, Listable, sealed};
use crate::route::RouteQuery;
use crate::{Batch, Error, IfName, Ifindex, Link, Namespace, Outcome, Route, Verb, link};

/// How long the kernel may take to answer, unless set otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The socket buffers asked for, in bytes.
pub(crate) const BUFFER_SIZE: usize = 8 << 20;

/// What one reply is charged against the receive buffer, in bytes: 832 on Linux 6.18, somewhat more
/// or less on others. Only a refusal with a very long text takes the next size of the kernel's
/// allocator, 1280; a buffer full of those would be an overrun, which is reported.
const REPLY_CHARGE: usize = 1024;

/// The most bytes in one send, whatever the send buffer allows: beyond this nothing gets faster.
const MAX_SEND: usize = 1 << 20;

/// The kernel fills at most 32 KiB of a dump into one datagram, and only if the receiver has room
/// for it; monitors may see a little more.
pub(crate) const RECEIVE_SIZE: usize = 64 << 10;

/// How often an interrupted dump is tried before it is given up.
const DUMP_ATTEMPTS: u32 = 8;

/// `MSG_DONTWAIT`.
const MSG_DONTWAIT: i32 = 0x40;

/// `MSG_TRUNC`: `recv` returns the length of the datagram even if it did not fit.
const MSG_TRUNC: i32 = 0x20;

/// A blocking connection to the kernel's routing configuration (`NETLINK_ROUTE`).
///
/// It belongs to the network namespace that it was opened in, wherever the calling thread goes
/// later. Each call returns when the kernel has done what was asked: configuration runs inside the
/// `send` call, so there is nothing to wait for and nothing to gain from an asynchronous one.
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    /// Whether answers to the last request may still be on their way.
    unread: bool,
    buffer: Box<[u8]>,
    /// The most bytes of one send.
    send_limit: usize,
    /// The most requests of one send: all of their replies fit the receive buffer.
    reply_limit: usize,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Io`] when the operating system gives none.
    ///
    /// # Privileges
    /// None to open and to list. Every change needs `CAP_NET_ADMIN` in the user namespace that
    /// owns the network namespace.
    pub fn open() -> Result<Self, Error> {
        let socket = connect()?;
        socket
            .set_ext_ack(true)
            .and_then(|()| socket.set_cap_ack(true))
            .and_then(|()| socket.set_netlink_get_strict_chk(true))
            .map_err(|e| Error::io("set a netlink socket's options", e))?;
        let mut socket = Self {
            socket,
            sequence: 1,
            unread: false,
            buffer: vec![0; RECEIVE_SIZE].into_boxed_slice(),
            send_limit: 0,
            reply_limit: 1,
        };
        socket.set_buffers(BUFFER_SIZE)?;
        socket.set_timeout(Some(DEFAULT_TIMEOUT))?;
        Ok(socket)
    }

    /// Opens a socket in another network namespace.
    ///
    /// # Errors
    /// [`Error::Namespace`] when it cannot be entered; else as [`open`](Self::open).
    ///
    /// # Privileges
    /// As [`Namespace::run`].
    pub fn open_in(namespace: &Namespace) -> Result<Self, Error> {
        namespace.run(Self::open)?
    }

    /// Sets how long to wait for the kernel's next answer; `None` waits for ever. 10 seconds to
    /// begin with.
    ///
    /// This is for answers that never come. A request that waits for others to finish theirs does
    /// so while it is sent, which has no time limit.
    ///
    /// # Errors
    /// [`Error::Io`] for a timeout of zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        sockopt::set_socket_timeout(&self.socket, Timeout::Recv, timeout)
            .map_err(|errno| Error::io("set a netlink socket's timeout", errno.into()))
    }

    /// Sets how large the send and the receive buffer may grow, in bytes; 8 MiB to begin with.
    ///
    /// Larger ones make [`execute`](Self::execute) need fewer `send` calls. The kernel gives what
    /// `net.core.wmem_max` and `net.core.rmem_max` allow, and more only to one who has
    /// `CAP_NET_ADMIN` in the first user namespace.
    ///
    /// # Errors
    /// [`Error::Io`] when the operating system refuses.
    pub fn set_buffers(&mut self, bytes: usize) -> Result<(), Error> {
        let (send_buffer, receive_buffer) = set_buffers(&self.socket, bytes)?;
        // The kernel keeps 32 bytes of the send buffer for itself.
        self.send_limit = send_buffer.saturating_sub(32).min(MAX_SEND);
        self.reply_limit = (receive_buffer / REPLY_CHARGE).max(1);
        Ok(())
    }

    /// Creates an object; fails with [`is_exists`](Error::is_exists) when its key is taken.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the kernel refuses, [`Error::Invalid`] when netlink cannot say it.
    ///
    /// # Privileges
    /// As [`request`](Self::request).
    pub fn add(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Add, object)
    }

    /// Creates an object or puts it in the place of the one with its key, without a gap.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Privileges
    /// As [`request`](Self::request).
    pub fn replace(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Replace, object)
    }

    /// Creates an object behind those with its key.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Privileges
    /// As [`request`](Self::request).
    pub fn append(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Append, object)
    }

    /// Alters an object that exists.
    ///
    /// # Errors
    /// As [`add`](Self::add); [`is_not_found`](Error::is_not_found) when there is none.
    ///
    /// # Privileges
    /// As [`request`](Self::request).
    pub fn change(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Change, object)
    }

    /// Removes an object.
    ///
    /// # Errors
    /// As [`add`](Self::add); [`is_not_found`](Error::is_not_found) when there is none.
    ///
    /// # Privileges
    /// As [`request`](Self::request).
    pub fn delete(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Delete, object)
    }

    /// Does `verb` to one object.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    pub fn request(&mut self, verb: Verb, object: &impl KernelObject) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.push(verb, object)?;
        self.execute(&mut batch)?.into_result()
    }

    /// Sends all requests of a batch and collects the result of each.
    ///
    /// They leave in as few `send` calls as the socket's buffers allow, with an acknowledgement
    /// asked of the last of each call: errors are answered in any case, and so many at most that
    /// the receive buffer holds them all. A request of several messages goes out one message at a
    /// time, and no further than the first that is refused: a device that could not be created
    /// because another has its name must not have that one's alias changed.
    ///
    /// # Errors
    /// Only when the conversation with the kernel itself breaks; which requests took effect is
    /// then unknown. What the kernel says of single requests is in the [`Outcome`].
    ///
    /// # Privileges
    /// As [`request`](Self::request).
    pub fn execute(&mut self, batch: &mut Batch) -> Result<Outcome, Error> {
        let mut outcome = Outcome { requests: batch.len(), ..Outcome::default() };
        let mut refusals: Vec<(usize, Refusal)> = Vec::new();
        let mut first = 0;
        while first < batch.messages.len() {
            let refused = refusals.last().map(|(message, _)| batch.messages[*message].request);
            if refused == Some(batch.messages[first].request) {
                first += 1;
                continue;
            }
            let count = self.fitting(&batch.messages, first);
            let start = if first == 0 { 0 } else { batch.messages[first - 1].end };
            let chunk = &batch.messages[first..first + count];
            let end = chunk[count - 1].end;
            let base = self.number(&mut batch.bytes[start..end], chunk, start);
            self.send(&batch.bytes[start..end])?;
            outcome.sends += 1;
            self.collect(base, count, |index, refusal| refusals.push((first + index, refusal)))?;
            first += count;
        }
        let mut names = BTreeMap::new();
        for (message, refusal) in refusals {
            let start = if message == 0 { 0 } else { batch.messages[message - 1].end };
            let Message { end, request } = batch.messages[message];
            let command = describe(&batch.bytes[start..end], |dev| {
                *names.entry(dev).or_insert_with(|| self.name_of(dev))
            });
            let kind = link_kind(&batch.bytes[start..end]);
            let error = refusal.into_error(command).of_kind(kind.as_ref());
            outcome.errors.insert(request, error);
        }
        Ok(outcome)
    }

    /// How many messages from `first` on may leave together.
    fn fitting(&self, messages: &[Message], first: usize) -> usize {
        let start = if first == 0 { 0 } else { messages[first - 1].end };
        let follows = |at: usize| at > first && messages[at].request == messages[at - 1].request;
        (first..messages.len())
            .take(self.reply_limit)
            .take_while(|&at| messages[at].end - start <= self.send_limit && !follows(at))
            .count()
            // A message larger than the buffer is the kernel's to refuse.
            .max(1)
    }

    /// Writes sequence numbers into the messages of one send, the acknowledgement flag into the
    /// last, and returns the first number.
    fn number(&mut self, bytes: &mut [u8], messages: &[Message], start: usize) -> u32 {
        let base = self.sequence;
        let mut at = 0;
        for (index, message) in messages.iter().enumerate() {
            let sequence = base.wrapping_add(index as u32);
            bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
            let last = index + 1 == messages.len();
            let flags = codec::u16_at(bytes, at + 6).unwrap_or_default();
            let flags = if last { flags | NLM_F_ACK } else { flags & !NLM_F_ACK };
            bytes[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
            at = message.end - start;
        }
        self.sequence = base.wrapping_add(messages.len() as u32);
        base
    }

    /// Reads replies to `count` messages numbered from `base` until the last is answered.
    fn collect(
        &mut self,
        base: u32,
        count: usize,
        mut refused: impl FnMut(usize, Refusal),
    ) -> Result<(), Error> {
        const WHAT: &str = "change the configuration";
        loop {
            let len = self.receive(WHAT)?;
            for message in Messages::new(&self.buffer[..len]) {
                let message = message.map_err(|cut| cut.during(WHAT))?;
                let index = message.sequence.wrapping_sub(base) as usize;
                if index >= count || message.kind != NLMSG_ERROR {
                    continue;
                }
                let refusal =
                    Refusal::parse(message.flags, message.body).map_err(|cut| cut.during(WHAT))?;
                if let Some(refusal) = refusal {
                    refused(index, refusal);
                }
                if index + 1 == count {
                    self.unread = false;
                    return Ok(());
                }
            }
        }
    }

    /// Lists the objects that `filter` wants.
    ///
    /// A listing that the kernel marks as interrupted by changes is repeated. Messages and
    /// attributes that this version does not know are passed over.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the kernel refuses, [`Error::Interrupted`] when the table changes
    /// faster than it can be read.
    ///
    /// # Privileges
    /// None, as for [`link`](Self::link) and [`route`](Self::route).
    pub fn list<T: Listable>(&mut self, filter: &T::Filter) -> Result<Vec<T>, Error> {
        let mut objects = Vec::new();
        for dump in T::dumps(filter) {
            let mut attempts = 0;
            let kept = objects.len();
            while !self.dump(&dump, filter, &mut objects)? {
                objects.truncate(kept);
                attempts += 1;
                if attempts == DUMP_ATTEMPTS {
                    return Err(Error::Interrupted { what: T::WHAT, attempts });
                }
            }
        }
        Ok(objects)
    }

    /// One attempt at one dump. Returns whether it was consistent.
    fn dump<T: Listable>(
        &mut self,
        dump: &sealed::Dump,
        filter: &T::Filter,
        objects: &mut Vec<T>,
    ) -> Result<bool, Error> {
        const NO_LISTING: &str = "a listing is acknowledged instead of given";
        let mut request = Vec::with_capacity(64);
        let mut message = Encoder::begin(&mut request, dump.kind, NLM_F_REQUEST | NLM_F_DUMP);
        message.put(&dump.header);
        for &(kind, value) in &dump.attributes {
            message.attr_u32(kind, value);
        }
        message.finish();
        let sequence = self.send_one(&mut request)?;
        let family = codec::u8_at(&dump.header, 0).unwrap_or(codec::AF_UNSPEC);
        let mut consistent = true;
        loop {
            let len = self.receive(T::WHAT)?;
            for message in Messages::new(&self.buffer[..len]) {
                let message = message.map_err(|cut| cut.during(T::WHAT))?;
                if message.sequence != sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    // The end carries a result too: a refused dump must not look like an empty one.
                    NLMSG_DONE | NLMSG_ERROR => {
                        let parsed = match message.kind {
                            NLMSG_DONE => Refusal::parse_done(message.body),
                            _ => Refusal::parse(message.flags, message.body),
                        };
                        self.unread = false;
                        return match parsed.map_err(|cut| cut.during(T::WHAT))? {
                            None if message.kind == NLMSG_DONE => Ok(consistent),
                            None => {
                                Err(Error::Malformed { operation: T::WHAT, reason: NO_LISTING })
                            }
                            Some(refusal)
                                if dump.absent_is_empty
                                    && refusal.errno == Errno::NOENT.raw_os_error() =>
                            {
                                Ok(true)
                            }
                            Some(refusal) => {
                                Err(refusal.into_error(format!("list {} {filter:?}", T::WHAT)))
                            }
                        };
                    }
                    // Without IPv6 the kernel answers for other families instead.
                    kind if kind == T::NEW
                        && (family == codec::AF_UNSPEC
                            || codec::u8_at(message.body, 0) == Some(family)) =>
                    {
                        objects.extend(
                            T::decode(message.body).filter(|object| T::accepts(filter, object)),
                        );
                    }
                    _ => {}
                }
            }
        }
    }

    /// The device called `name`.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found) when there is none.
    pub fn link(&mut self, name: &IfName) -> Result<Link, Error> {
        self.link_by(None, Some(*name))
    }

    /// The device with this number.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found) when there is none.
    pub fn link_by_index(&mut self, index: Ifindex) -> Result<Link, Error> {
        self.link_by(Some(index), None)
    }

    fn link_by(&mut self, index: Option<Ifindex>, name: Option<IfName>) -> Result<Link, Error> {
        let mut request = Vec::new();
        link::encode_get(index, name, &mut request);
        let shown = match (index, name) {
            (_, Some(name)) => name.to_string(),
            (index, None) => index.unwrap_or_default().to_string(),
        };
        self.get(request, rtm::NEWLINK, &format!("ip link show dev {shown}"))
    }

    /// How a packet would be routed, as `ip route get` tells it.
    ///
    /// # Errors
    /// [`Error::Kernel`] with ENETUNREACH and the like when no route leads there.
    pub fn route(&mut self, query: &RouteQuery) -> Result<Route, Error> {
        let mut request = Vec::new();
        query.encode(&mut request)?;
        self.get(request, rtm::NEWROUTE, &query.command())
    }

    /// Sends a request that is answered by one object.
    fn get<T: Listable>(
        &mut self,
        mut request: Vec<u8>,
        kind: u16,
        command: &str,
    ) -> Result<T, Error> {
        const WHAT: &str = "look something up";
        let sequence = self.send_one(&mut request)?;
        loop {
            let len = self.receive(WHAT)?;
            for message in Messages::new(&self.buffer[..len]) {
                let message = message.map_err(|cut| cut.during(WHAT))?;
                if message.sequence != sequence {
                    continue;
                }
                self.unread = false;
                if message.kind == kind {
                    return T::decode(message.body).ok_or(Error::Malformed {
                        operation: WHAT,
                        reason: "the object cannot be understood",
                    });
                }
                if message.kind == NLMSG_ERROR {
                    let refusal = Refusal::parse(message.flags, message.body)
                        .map_err(|cut| cut.during(WHAT))?;
                    return Err(match refusal {
                        Some(refusal) => refusal.into_error(command.to_owned()),
                        None => Error::Malformed { operation: WHAT, reason: "there is no object" },
                    });
                }
            }
        }
    }

    /// The name of a device for an error text.
    fn name_of(&mut self, dev: Ifindex) -> Option<IfName> {
        self.link_by_index(dev).ok().map(|link| link.name)
    }

    /// Numbers and sends one message.
    fn send_one(&mut self, request: &mut [u8]) -> Result<u32, Error> {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        request[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.send(request)?;
        Ok(sequence)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if mem::replace(&mut self.unread, true) {
            self.discard();
        }
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("send to the kernel", error)),
            }
        }
    }

    /// Throws away what an earlier request, given up, did not wait for. While any of it is there
    /// the kernel may drop new answers, and refuses a new listing.
    fn discard(&mut self) {
        while match self.socket.recv(&mut &mut self.buffer[..], MSG_DONTWAIT) {
            Ok(_) => true,
            Err(error) => {
                error.kind() == io::ErrorKind::Interrupted
                    || error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
            }
        } {}
    }

    /// Receives one datagram into the buffer and returns its length.
    fn receive(&mut self, operation: &'static str) -> Result<usize, Error> {
        receive(&self.socket, &mut self.buffer, operation)
    }
}

/// A socket that hears nobody but the kernel.
pub(crate) fn connect() -> Result<netlink_sys::Socket, Error> {
    let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)
        .map_err(|e| Error::io("open a netlink socket", e))?;
    socket.bind_auto().map_err(|e| Error::io("bind a netlink socket", e))?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(|e| Error::io("connect a netlink socket", e))?;
    Ok(socket)
}

/// Receives one datagram.
pub(crate) fn receive(
    socket: &netlink_sys::Socket,
    buffer: &mut [u8],
    operation: &'static str,
) -> Result<usize, Error> {
    loop {
        match socket.recv(&mut &mut buffer[..], MSG_TRUNC) {
            Ok(len) if len <= buffer.len() => return Ok(len),
            Ok(_) => {
                return Err(Error::Malformed {
                    operation,
                    reason: "a datagram is larger than 64 KiB",
                });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Error::Timeout { operation });
            }
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                return Err(Error::Overrun { operation });
            }
            Err(error) => return Err(Error::io("receive from the kernel", error)),
        }
    }
}

/// Makes the buffers as large as asked, or as allowed, and returns their sizes, sending first.
pub(crate) fn set_buffers(
    socket: &netlink_sys::Socket,
    bytes: usize,
) -> Result<(usize, usize), Error> {
    let failed = |errno: Errno| Error::io("set a netlink socket's buffers", errno.into());
    if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, bytes).map_err(failed)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, bytes).is_err() {
        sockopt::set_socket_send_buffer_size(socket, bytes).map_err(failed)?;
    }
    Ok((
        sockopt::socket_send_buffer_size(socket).map_err(failed)?,
        sockopt::socket_recv_buffer_size(socket).map_err(failed)?,
    ))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Refusal {
    fn into_error(self, command: String) -> Error {
        Error::Kernel(Box::new(KernelError {
            command,
            errno: self.errno,
            message: self.message,
            offset: self.offset,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fdb, LinkFilter};
    use overlay_wire::MacAddr;

    /// Every request is refused, whoever runs this: there is no such device.
    fn refused(count: usize) -> Batch {
        let mut batch = Batch::new();
        for _ in 0..count {
            let entry = Fdb::local(MacAddr([2; 6]), Ifindex(i32::MAX as u32));
            batch.push(Verb::Delete, &entry).unwrap();
        }
        batch
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut socket = Socket::open().unwrap();
        for before in 0..20 {
            socket.sequence = u32::MAX - before;
            let outcome = socket.execute(&mut refused(10)).unwrap();
            assert_eq!(
                outcome.errors().map(|(i, _)| i).collect::<Vec<_>>(),
                [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
            );
            socket.sequence = u32::MAX - before;
            assert!(!socket.list::<Link>(&LinkFilter::default()).unwrap().is_empty());
        }
    }

    #[test]
    fn a_send_holds_no_more_than_the_buffers() {
        let mut socket = Socket::open().unwrap();
        let mut batch = refused(100);
        let message = batch.messages[0].end;
        for (send_limit, reply_limit, sends) in [
            (usize::MAX, usize::MAX, 1),
            (usize::MAX, 100, 1),
            (usize::MAX, 99, 2),
            (usize::MAX, 1, 100),
            (100 * message, usize::MAX, 1),
            (100 * message - 1, usize::MAX, 2),
            (message, usize::MAX, 100),
            (1, usize::MAX, 100),
        ] {
            (socket.send_limit, socket.reply_limit) = (send_limit, reply_limit);
            let outcome = socket.execute(&mut batch).unwrap();
            assert_eq!((outcome.sends(), outcome.errors().count()), (sends, 100));
        }
    }

    /// Answers to a request that was given up are no answers to the next.
    #[test]
    fn stale_answers_are_thrown_away() {
        let mut socket = Socket::open().unwrap();
        socket.set_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut batch = refused(10);
        for _ in 0..3 {
            let base = socket.number(&mut batch.bytes, &batch.messages, 0);
            socket.send(&batch.bytes).unwrap();
            let none = socket.collect(base.wrapping_add(1000), 1, |_, _| panic!());
            assert!(matches!(none, Err(Error::Timeout { .. })));
            socket.send(&batch.bytes).unwrap();
            assert!(socket.unread);
            assert_eq!(socket.execute(&mut batch).unwrap().errors().count(), 10);
            assert!(!socket.unread);
        }
    }

    /// The kernel starts no listing while another on the same socket is not read to its end.
    #[test]
    fn a_listing_given_up_does_not_block_the_next() {
        let mut socket = Socket::open().unwrap();
        for dump in <Link as sealed::Decode>::dumps(&LinkFilter::default()) {
            let mut request = Vec::new();
            let mut message = Encoder::begin(&mut request, dump.kind, NLM_F_REQUEST | NLM_F_DUMP);
            message.put(&dump.header);
            message.finish();
            socket.send_one(&mut request).unwrap();
        }
        assert!(!socket.list::<Link>(&LinkFilter::default()).unwrap().is_empty());
    }
}
