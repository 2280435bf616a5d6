//! Many requests in few system calls.

use std::collections::BTreeMap;

use crate::object::KernelObject;
use crate::{Error, Verb};

/// Requests to be sent together, encoded as they are pushed.
///
/// The kernel works through them in order and goes on after an error, so each has a result of its
/// own in the [`Outcome`].
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) messages: Vec<Message>,
    requests: usize,
}

/// Where one message of a batch ends and which request it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) end: usize,
    pub(crate) request: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the request to do `verb` to `object` and returns its index, counted from 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] when netlink cannot say it; the batch is as it was.
    pub fn push(&mut self, verb: Verb, object: &impl KernelObject) -> Result<usize, Error> {
        let start = self.bytes.len();
        let count = object.encode(verb, &mut self.bytes)?;
        let request = self.requests;
        let mut end = start;
        for _ in 0..count {
            let len = crate::codec::u32_at(&self.bytes, end).unwrap_or_default() as usize;
            end += len;
            self.messages.push(Message { end, request });
        }
        debug_assert_eq!(end, self.bytes.len());
        self.requests += 1;
        Ok(request)
    }

    /// How many requests it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.requests
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Removes all requests and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
        self.requests = 0;
    }
}

/// What became of the requests of a [`Batch`].
#[derive(Debug, Default)]
pub struct Outcome {
    pub(crate) requests: usize,
    pub(crate) sends: usize,
    pub(crate) errors: BTreeMap<usize, Error>,
}

impl Outcome {
    /// How many requests there were.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.requests
    }

    /// Whether there were no requests.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// How many `send` calls it took.
    #[must_use]
    pub const fn sends(&self) -> usize {
        self.sends
    }

    /// Whether all requests succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    /// The error of the request at `index`; `None` when it succeeded.
    #[must_use]
    pub fn error(&self, index: usize) -> Option<&Error> {
        self.errors.get(&index)
    }

    /// The failed requests, in order, by index.
    pub fn errors(&self) -> impl Iterator<Item = (usize, &Error)> {
        self.errors.iter().map(|(index, error)| (*index, error))
    }

    /// The failed requests, in order, by index.
    pub fn into_errors(self) -> impl Iterator<Item = (usize, Error)> {
        self.errors.into_iter()
    }

    /// The first error, if any.
    ///
    /// # Errors
    /// That of the first failed request.
    pub fn into_result(self) -> Result<(), Error> {
        self.errors.into_values().next().map_or(Ok(()), Err)
    }
}

/// The indices below `len`, each once, in an order that deletes many routes quickly.
///
/// Deleting 100,000 routes in the order of their prefixes takes the kernel several times as long as
/// deleting them in this order: after each one it looks for the longest prefix that is left in the
/// same corner of its trie. Here, indices that are close to each other come far apart in time. For
/// adding, and for other objects than routes, the order matters little.
///
/// ```
/// use overlay_netlink::{Batch, Error, Outcome, Route, Socket, Verb, scattered};
///
/// fn delete(socket: &mut Socket, routes: &[Route]) -> Result<Outcome, Error> {
///     let mut batch = Batch::new();
///     for index in scattered(routes.len()) {
///         batch.push(Verb::Delete, &routes[index])?;
///     }
///     socket.execute(&mut batch)
/// }
/// ```
pub fn scattered(len: usize) -> impl Iterator<Item = usize> {
    // A stride near the golden section of the length and coprime to it visits every index once.
    let mut stride = (len as f64 * 0.618) as usize | 1;
    while len > 0 && gcd(stride, len) != 1 {
        stride += 2;
    }
    let mut at = 0;
    (0..len).map(move |_| {
        let index = at;
        at = (at + stride) % len;
        index
    })
}

const fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_visits_every_index_once() {
        for len in (0..200).chain([4_096, 65_535, 100_000]) {
            let mut indices: Vec<usize> = scattered(len).collect();
            indices.sort_unstable();
            assert!(indices.iter().copied().eq(0..len), "{len}");
        }
    }

    #[test]
    fn scattered_keeps_neighbours_apart() {
        let order: Vec<usize> = scattered(10_000).collect();
        let near = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 1_000).count();
        assert_eq!(near, 0);
    }
}
