//! Failures on demand.

use std::fmt;
use std::sync::Arc;

use overlay_netlink::{Error, Request};

/// What a [`Kernel`](crate::Kernel) is asked to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Listing {
    /// [`Kernel::links`](crate::Kernel::links).
    Links,
    /// [`Kernel::addresses`](crate::Kernel::addresses).
    Addresses,
    /// [`Kernel::fdb`](crate::Kernel::fdb).
    Fdb,
    /// [`Kernel::neighbours`](crate::Kernel::neighbours).
    Neighbours,
    /// [`Kernel::nexthops`](crate::Kernel::nexthops).
    Nexthops,
    /// [`Kernel::routes`](crate::Kernel::routes).
    Routes,
    /// [`Kernel::rules`](crate::Kernel::rules).
    Rules,
}

impl Listing {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Addresses => "addresses",
            Self::Fdb => "FDB entries",
            Self::Neighbours => "neighbours",
            Self::Nexthops => "nexthop objects",
            Self::Routes => "routes",
            Self::Rules => "rules",
        }
    }
}

/// Something that is to go wrong once in a [`MemoryKernel`](crate::MemoryKernel), at the next
/// request unless [`at`](Self::at), [`on`](Self::on) or [`after`](Self::after) say otherwise.
///
/// ```
/// use overlay_backend::{Fault, Kernel, Listing, MemoryKernel};
///
/// let mut kernel = MemoryKernel::new();
/// kernel.inject(Fault::refuse(12).on(Listing::Routes));
/// assert_eq!(kernel.routes(overlay_netlink::Protocol(80)).unwrap_err().errno(), Some(12));
/// assert_eq!(kernel.failures_left(), 0);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Fault {
    pub(super) what: What,
    place: Place,
    skip: usize,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Refuse(i32),
    TimeOut,
    LoseAnswers,
    Interrupt,
    Meanwhile(Vec<Request>),
}

#[derive(Clone)]
enum Place {
    Request(Arc<dyn Fn(&Request) -> bool + Send + Sync>),
    Listing(Listing),
}

impl Fault {
    fn new(what: What) -> Self {
        Self { what, place: Place::Request(Arc::new(|_| true)), skip: 0 }
    }

    /// The request, or the listing, is refused with this errno.
    pub fn refuse(errno: i32) -> Self {
        Self::new(What::Refuse(errno))
    }

    /// The conversation breaks: the request and all behind it have no effect, nor is there an
    /// answer to those before it, which had theirs.
    pub fn time_out() -> Self {
        Self::new(What::TimeOut)
    }

    /// The answers overrun the receive buffer (ENOBUFS): all requests take effect, but nobody
    /// learns which were refused.
    pub fn lose_answers() -> Self {
        Self::new(What::LoseAnswers)
    }

    /// The listing is interrupted by changes until it is given up. At a request the same as
    /// [`time_out`](Self::time_out).
    pub fn interrupt() -> Self {
        Self::new(What::Interrupt)
    }

    /// Somebody else is faster: before the request, or right after the listing, these requests are
    /// carried out, and what becomes of them is not told.
    pub fn meanwhile(requests: impl IntoIterator<Item = Request>) -> Self {
        Self::new(What::Meanwhile(requests.into_iter().collect()))
    }

    /// Only at a request that `matches`.
    pub fn at(mut self, matches: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.place = Place::Request(Arc::new(matches));
        self
    }

    /// Not at a request but at a listing.
    pub fn on(mut self, listing: Listing) -> Self {
        self.place = Place::Listing(listing);
        self
    }

    /// Only after `count` requests, or listings, that would match have passed.
    pub const fn after(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Whether it strikes at this request. Counts those that it lets pass.
    pub(super) fn strikes_request(&mut self, request: &Request) -> bool {
        matches!(&self.place, Place::Request(matches) if matches(request)) && self.strikes()
    }

    /// Whether it strikes at this listing. Counts those that it lets pass.
    pub(super) fn strikes_listing(&mut self, listing: Listing) -> bool {
        matches!(self.place, Place::Listing(of) if of == listing) && self.strikes()
    }

    const fn strikes(&mut self) -> bool {
        let strikes = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        strikes
    }
}

impl What {
    /// What the listing fails with; `None` when it goes on.
    pub(super) fn of_listing(&self, listing: Listing) -> Option<Error> {
        let what = listing.name();
        match self {
            Self::Refuse(errno) => Some(Error::refused(format!("list {what}"), *errno)),
            Self::TimeOut => Some(Error::Timeout { operation: what }),
            Self::LoseAnswers => Some(Error::Overrun { operation: what }),
            Self::Interrupt => Some(Error::Interrupted { what, attempts: 8 }),
            Self::Meanwhile(_) => None,
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Request(_) => "a request",
            Place::Listing(listing) => listing.name(),
        };
        f.debug_struct("Fault")
            .field("what", &self.what)
            .field("place", &place)
            .field("skip", &self.skip)
            .finish()
    }
}
