//! The blocking netlink socket.

mod describe;
mod reply;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};

use self::describe::describe;
pub(crate) use self::reply::{Messages, Refusal};
use crate::batch::Message;
use crate::codec::{self, Encoder, rtm};
use crate::error::KernelError;
use crate::object::{KernelObject, Listable, sealed};
use crate::route::RouteQuery;
use crate::{Batch, Error, IfName, Ifindex, Link, Namespace, Outcome, Route, Verb, link};

/// How long the kernel may take to answer, unless set otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The socket buffers asked for, in bytes. Without `CAP_NET_ADMIN` in the first user namespace the
/// kernel gives what `net.core.rmem_max` and `net.core.wmem_max` allow.
const BUFFER_SIZE: usize = 8 << 20;

/// What one reply is charged against the receive buffer, in bytes: 832 on Linux 6.18, rounded up
/// for kernels with larger bookkeeping.
const REPLY_CHARGE: usize = 1024;

/// The most bytes in one send, whatever the send buffer allows: beyond this nothing gets faster.
const MAX_SEND: usize = 1 << 20;

/// The kernel fills at most 32 KiB of a dump into one datagram, and only if the receiver has room
/// for it; monitors may see a little more.
pub(crate) const RECEIVE_SIZE: usize = 64 << 10;

/// How often an interrupted dump is tried before it is given up.
const DUMP_ATTEMPTS: u32 = 8;

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
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)
            .map_err(|e| Error::io("open a netlink socket", e))?;
        socket.bind_auto().map_err(|e| Error::io("bind a netlink socket", e))?;
        // A connected socket hears nobody but the kernel.
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(|e| Error::io("connect a netlink socket", e))?;
        socket
            .set_ext_ack(true)
            .and_then(|()| socket.set_cap_ack(true))
            .and_then(|()| socket.set_netlink_get_strict_chk(true))
            .map_err(|e| Error::io("set a netlink socket's options", e))?;
        let (send_buffer, receive_buffer) = enlarge_buffers(&socket)?;
        let socket = Self {
            socket,
            sequence: 1,
            buffer: vec![0; RECEIVE_SIZE].into_boxed_slice(),
            // The kernel keeps 32 bytes of the send buffer for itself.
            send_limit: (send_buffer - 32).min(MAX_SEND),
            reply_limit: (receive_buffer / REPLY_CHARGE).max(1),
        };
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

    /// Sets how long the kernel may take to answer; `None` waits for ever. 10 seconds to begin
    /// with.
    ///
    /// # Errors
    /// [`Error::Io`] for a timeout of zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), Error> {
        sockopt::set_socket_timeout(&self.socket, Timeout::Recv, timeout)
            .map_err(|errno| Error::io("set a netlink socket's timeout", errno.into()))
    }

    /// Creates an object; fails with [`is_exists`](Error::is_exists) when its key is taken.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the kernel refuses, [`Error::Invalid`] when netlink cannot say it.
    pub fn add(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Add, object)
    }

    /// Creates an object or puts it in the place of the one with its key, without a gap.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn replace(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Replace, object)
    }

    /// Creates an object behind those with its key.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn append(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Append, object)
    }

    /// Alters an object that exists.
    ///
    /// # Errors
    /// As [`add`](Self::add); [`is_not_found`](Error::is_not_found) when there is none.
    pub fn change(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Change, object)
    }

    /// Removes an object.
    ///
    /// # Errors
    /// As [`add`](Self::add); [`is_not_found`](Error::is_not_found) when there is none.
    pub fn delete(&mut self, object: &impl KernelObject) -> Result<(), Error> {
        self.request(Verb::Delete, object)
    }

    /// Does `verb` to one object.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn request(&mut self, verb: Verb, object: &impl KernelObject) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.push(verb, object)?;
        self.execute(&mut batch)?.into_result()
    }

    /// Sends all requests of a batch and collects the result of each.
    ///
    /// They leave in as few `send` calls as the socket's buffers allow, with an acknowledgement
    /// asked of the last of each call: errors are answered in any case, and so many at most that
    /// the receive buffer holds them all.
    ///
    /// # Errors
    /// Only when the conversation with the kernel itself breaks; which requests took effect is
    /// then unknown. What the kernel says of single requests is in the [`Outcome`].
    pub fn execute(&mut self, batch: &mut Batch) -> Result<Outcome, Error> {
        let mut outcome = Outcome { requests: batch.len(), ..Outcome::default() };
        let mut refusals: Vec<(usize, Refusal)> = Vec::new();
        let mut first = 0;
        while first < batch.messages.len() {
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
        for (message, refusal) in refusals {
            let start = if message == 0 { 0 } else { batch.messages[message - 1].end };
            let Message { end, request } = batch.messages[message];
            let command = describe(&batch.bytes[start..end], |dev| self.name_of(dev));
            let error = refusal.into_error(command);
            outcome.errors.entry(request).or_insert(error);
        }
        Ok(outcome)
    }

    /// How many messages from `first` on may leave together.
    fn fitting(&self, messages: &[Message], first: usize) -> usize {
        let start = if first == 0 { 0 } else { messages[first - 1].end };
        messages[first..]
            .iter()
            .take(self.reply_limit)
            .take_while(|message| message.end - start <= self.send_limit)
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
                let index = message.sequence.wrapping_sub(base) as usize;
                if index >= count || message.kind != NLMSG_ERROR {
                    continue;
                }
                let refusal =
                    Refusal::parse(message.flags, message.body).ok_or(Error::Malformed {
                        operation: WHAT,
                        reason: "an acknowledgement is cut short",
                    })?;
                if let Some(refusal) = refusal {
                    refused(index, refusal);
                }
                if index + 1 == count {
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
        let mut request = Vec::with_capacity(64);
        let mut message = Encoder::begin(&mut request, dump.kind, NLM_F_REQUEST | NLM_F_DUMP);
        message.put(&dump.header);
        for &(kind, value) in &dump.attributes {
            message.attr_u32(kind, value);
        }
        message.finish();
        let sequence = self.send_one(&mut request)?;
        let mut consistent = true;
        loop {
            let len = self.receive(T::WHAT)?;
            for message in Messages::new(&self.buffer[..len]) {
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
                        return match parsed.flatten() {
                            None => Ok(consistent),
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
                    kind if kind == T::NEW => {
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
        query.encode(&mut request);
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
                if message.sequence != sequence {
                    continue;
                }
                if message.kind == kind {
                    return T::decode(message.body).ok_or(Error::Malformed {
                        operation: WHAT,
                        reason: "the object cannot be understood",
                    });
                }
                if message.kind == NLMSG_ERROR {
                    return Err(match Refusal::parse(message.flags, message.body).flatten() {
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

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("send to the kernel", error)),
            }
        }
    }

    /// Receives one datagram into the buffer and returns its length.
    fn receive(&mut self, operation: &'static str) -> Result<usize, Error> {
        receive(&self.socket, &mut self.buffer, operation)
    }
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

/// Makes the buffers as large as allowed and returns their sizes, sending first.
pub(crate) fn enlarge_buffers(socket: &netlink_sys::Socket) -> Result<(usize, usize), Error> {
    let failed = |errno: Errno| Error::io("set a netlink socket's buffers", errno.into());
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER_SIZE).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, BUFFER_SIZE).map_err(failed)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, BUFFER_SIZE).is_err() {
        sockopt::set_socket_send_buffer_size(socket, BUFFER_SIZE).map_err(failed)?;
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
