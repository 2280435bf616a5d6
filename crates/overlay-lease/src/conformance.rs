//! The promises of a [`Store`], each as a test that every store can be put to.
//!
//! Who implements [`Store`] says with a [`Testbed`] how one comes by a new store, and gets one test per promise:
//!
//! ```
//! use overlay_lease::conformance::{BoxError, Testbed};
//! use overlay_lease::{MemoryStore, NetworkName};
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//!
//! #[derive(Default)]
//! struct InMemory(Mutex<BTreeMap<NetworkName, MemoryStore>>);
//!
//! impl Testbed for InMemory {
//!     type Store = MemoryStore;
//!
//!     async fn client(&self, network: &NetworkName) -> Result<MemoryStore, BoxError> {
//!         let mut networks = self.0.lock().map_err(|_| "a test has panicked")?;
//!         Ok(networks.entry(network.clone()).or_default().clone())
//!     }
//!
//!     async fn compact(&self, network: &NetworkName) -> Result<(), BoxError> {
//!         self.client(network).await?.access(|memory, _| memory.compact());
//!         Ok(())
//!     }
//! }
//!
//! overlay_lease::conformance_tests! {
//!     #[tokio::test(start_paused = true)]
//!     on InMemory::default()
//! }
//! # fn main() {}
//! ```
//!
//! The expression is evaluated once per test, so that tests may run at the same time. It may await. With a test runner of
//! one's own, [`promises`] lists the same tests as values.
//!
//! Time is that of [tokio](https://docs.rs/tokio): a store that takes its time from there may be tested while it is
//! paused; others wait for real, for some seconds per test. Each wait is bounded, so that a store which does not answer
//! fails.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::name::NetworkName;
use crate::store::Store;

mod client;
mod create;
mod crowd;
#[cfg(test)]
pub(crate) mod flawed;
mod ledger;
mod network;
pub(crate) mod sample;
mod standing;
mod term;
#[cfg(test)]
mod tests;
mod watch;
mod write;

/// Why a [`Testbed`] could not do its part.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A new store, on which one test runs. Dropping it may take the store away.
pub trait Testbed: Send + Sync {
    /// The store.
    type Store: Store + 'static;

    /// Another client of the network called `network`, which is empty at first. Two clients share nothing but the store:
    /// each has a connection of its own, as in another process.
    ///
    /// # Errors
    ///
    /// Any. The test fails with it.
    fn client(
        &self,
        network: &NetworkName,
    ) -> impl Future<Output = Result<Self::Store, BoxError>> + Send;

    /// Makes the store forget in detail what has happened in `network` up to now. A store that never remembers has
    /// nothing to do here.
    ///
    /// # Errors
    ///
    /// Any. The test fails with it.
    fn compact(&self, network: &NetworkName) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A promise that a store did not keep.
#[derive(Clone, PartialEq, Eq)]
pub struct Broken {
    promise: &'static str,
    step: String,
    expected: String,
    found: String,
}

impl Broken {
    fn new(step: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self {
            promise: "",
            step: step.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    const fn of(mut self, promise: &'static str) -> Self {
        self.promise = promise;
        self
    }

    /// The promise, as its function is called.
    #[must_use]
    pub const fn promise(&self) -> &'static str {
        self.promise
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, step, expected, found } = self;
        write!(f, "{promise}: {step}\n  expected: {expected}\n     found: {found}")
    }
}

/// As it is displayed, since this is what the test harness prints.
impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Broken {}

/// A promise of a store, as a test.
pub struct Promise<T> {
    name: &'static str,
    run: for<'a> fn(&'a T) -> Run<'a>,
}

type Run<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + 'a>>;

impl<T: Testbed> Promise<T> {
    /// Its name: that of its function in this module.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the store keeps it. The testbed must be new.
    ///
    /// # Errors
    ///
    /// [`Broken`] if not.
    pub async fn check(&self, testbed: &T) -> Result<(), Broken> {
        (self.run)(testbed).await
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Promise").field(&self.name).finish()
    }
}

/// One test per promise of a store: see the [module](crate::conformance).
///
/// Takes the attributes that make a test of an asynchronous function, and, after the word `on`, an
/// expression for a new [`Testbed`].
#[macro_export]
macro_rules! conformance_tests {
    ($(#[$attribute:meta])* on $testbed:expr) => {
        $crate::__promises! { tests [$(#[$attribute])*] [$testbed] }
    };
}

/// All promises, and what can be made of their list.
#[doc(hidden)]
#[macro_export]
macro_rules! __promises {
    (@functions [] [] $($(#[$doc:meta])* $module:ident::$name:ident;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// [`Broken`] if the store does not keep this promise.
            pub async fn $name<T: Testbed>(testbed: &T) -> Result<(), Broken> {
                $module::$name(testbed).await.map_err(|broken| broken.of(stringify!($name)))
            }
        )*

        /// All promises.
        #[must_use]
        pub fn promises<T: Testbed>() -> Vec<Promise<T>> {
            vec![$(Promise { name: stringify!($name), run: |testbed| Box::pin($name(testbed)) }),*]
        }
    };
    (@tests $attributes:tt $testbed:tt $($(#[$doc:meta])* $module:ident::$name:ident;)*) => {
        $($crate::__promises! { @test $attributes $testbed $name })*
    };
    (@test [$($attributes:tt)*] [$testbed:expr] $name:ident) => {
        $($attributes)*
        async fn $name() -> Result<(), $crate::conformance::Broken> {
            $crate::conformance::$name(&$testbed).await
        }
    };
    ($make:ident $attributes:tt $testbed:tt) => {
        $crate::__promises! {
            @$make $attributes $testbed
            /// A network that nobody has touched is not configured, and nobody has anything in it.
            network::a_new_network_is_empty;
            /// A configuration comes back as it was written, and only who knows the current one replaces it.
            network::configuring_is_fenced;
            /// Of several that configure a network at once, one does.
            network::of_several_configurations_one_is_made;
            /// A new configuration leaves leases as they are.
            network::configuring_leaves_leases_alone;
            /// What happens in one network of a store shows in no other.
            network::networks_do_not_see_each_other;
            /// A lease is as it was claimed, and everybody sees it.
            create::a_lease_is_as_claimed;
            /// Nobody gets subnets that have addresses of another lease, in either family, and learns whose they are.
            create::leases_do_not_overlap;
            /// Where a store lets nodes guess, it notices subnets of another length that overlap, too.
            create::subnets_of_other_lengths_overlap;
            /// A node that has a lease gets no other, and learns which it has.
            create::a_node_has_at_most_one_lease;
            /// Subnets that were chosen under another configuration than the current one are refused.
            create::a_claim_holds_under_its_configuration;
            /// Subnets can be kept from everybody.
            create::subnets_are_reserved_for_nobody;
            /// Of several nodes that claim the same subnets at once, one gets them, and the others learn which.
            create::of_several_claimants_one_gets_the_subnets;
            /// Of several dual-stack claims which share a subnet of one family each, no two that do are granted.
            create::of_crossing_claims_none_overlap;
            /// Of several claims that one node makes at once, one is granted.
            create::of_several_claims_of_a_node_one_is_granted;
            /// Nodes that claim different subnets at once all get them.
            create::claims_of_different_subnets_are_all_granted;
            /// What a node tells its peers arrives as it was said: text, numbers, nested and large values.
            write::attributes_come_back_exactly;
            /// An update changes the lease in place: it stays the same lease, at a later revision.
            write::an_update_changes_in_place;
            /// An update that changes nothing wakes nobody, and leaves the revision.
            write::an_update_that_changes_nothing_wakes_nobody;
            /// Renewing wakes nobody, and leaves the revision.
            write::renewing_wakes_nobody;
            /// Who does not know the lease as it is now changes nothing.
            write::stale_writes_change_nothing;
            /// Whose lease it is not changes nothing.
            write::writes_of_others_change_nothing;
            /// Who held a lease that was released changes nothing about it or about its successor's.
            write::late_writes_change_nothing;
            /// Who let a lease expire changes nothing about it or about its successor's.
            write::writes_after_expiry_change_nothing;
            /// Of several updates at once that are based on the same revision, one is made.
            write::of_several_updates_one_is_made;
            /// Removed subnets are free, for others and for the same node, and a lease of them is a new one.
            write::removed_subnets_are_free;
            /// A lease that is not renewed is not gone before its time to live.
            term::a_lease_lives_for_its_term;
            /// A lease that is not renewed is gone within [`LATE`](crate::LATE) after its time to live.
            term::a_lease_is_gone_after_its_term;
            /// Renewing makes a lease live for its time to live from then on.
            term::renewing_prolongs;
            /// So does updating, even if it changes nothing, and it changes the time to live.
            term::updating_prolongs;
            /// Reservations stay, and an update makes leases of them and the other way round.
            term::reservations_stay;
            /// The remaining time counts down, and starts again when the lease is renewed.
            term::remaining_time_counts_down;
            /// A node learns with one question what it has.
            standing::a_node_learns_what_it_has;
            /// What a store remembers of leases that are gone is right.
            standing::what_is_remembered_is_right;
            /// A watch brings every change, once and in order.
            watch::every_change_comes_once_and_in_order;
            /// A watch continues from any revision that was seen, even from before the first.
            watch::a_watch_continues_from_any_revision;
            /// A watch tells what expires.
            watch::expiry_is_watched;
            /// After compaction, what changed since is told nevertheless: what was removed, and what was changed.
            watch::compaction_hides_nothing;
            /// Who reads slowly misses nothing.
            watch::a_slow_reader_misses_nothing;
            /// A wait that is dropped takes nothing away.
            watch::a_dropped_wait_takes_nothing_away;
            /// All watches bring the same.
            watch::all_watches_bring_the_same;
            /// A crowd that does everything at once keeps all promises: its [history](crate::history) is one that can be.
            crowd::a_crowd_keeps_all_promises;
        }
    };
}

crate::__promises! { functions [] [] }
