//! A store whose kind is chosen while the program runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::lease::{Lease, Revision};
use crate::name::NodeId;
use crate::store::{
    Claim, ConfigureError, CreateError, Standing, Store, StoreError, Tenant, WriteError,
};
use crate::watch::{Snapshot, Update, Watch};

/// Any store: for programs that are told by their user where the leases are. Clones are the same store.
///
/// ```
/// use overlay_lease::{AnyStore, MemoryStore};
///
/// let kind = "memory";
/// let store = match kind {
///     "memory" => AnyStore::new(MemoryStore::new()),
///     other => return Err(format!("{other}: no such store").into()),
/// };
/// # let _ = store;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AnyStore {
    store: Arc<dyn Erased>,
}

/// A watch on [`AnyStore`].
pub struct AnyWatch {
    watch: Box<dyn ErasedWatch>,
}

impl AnyStore {
    /// This store.
    pub fn new(store: impl Store + 'static) -> Self {
        Self { store: Arc::new(store) }
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStore").finish_non_exhaustive()
    }
}

impl fmt::Debug for AnyWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyWatch").finish_non_exhaustive()
    }
}

/// The answer of an operation, on the heap.
type Answer<'a, T, E = StoreError> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// Writes down each operation of [`Store`] once, for the trait without generics, for whatever is behind it, and for
/// [`AnyStore`]. An argument that is no reference has `=` before its type.
macro_rules! operations {
    ($($name:ident($($argument:ident: $(&$borrowed:ident)? $(=$owned:ty)?),*) -> Result<$ok:ty, $error:ty>;)*) => {
        trait Erased: Send + Sync {
            fn watch(&self, after: Revision) -> Answer<'_, AnyWatch>;
            $(fn $name<'a>(&'a self, $($argument: $(&'a $borrowed)? $($owned)?),*) -> Answer<'a, $ok, $error>;)*
        }

        impl<S: Store + 'static> Erased for S {
            fn watch(&self, after: Revision) -> Answer<'_, AnyWatch> {
                Box::pin(async move { Ok(AnyWatch { watch: Box::new(Store::watch(self, after).await?) }) })
            }

            $(fn $name<'a>(&'a self, $($argument: $(&'a $borrowed)? $($owned)?),*) -> Answer<'a, $ok, $error> {
                Box::pin(Store::$name(self, $($argument),*))
            })*
        }

        impl Store for AnyStore {
            type Watch = AnyWatch;

            async fn watch(&self, after: Revision) -> Result<AnyWatch, StoreError> {
                self.store.watch(after).await
            }

            $(async fn $name(&self, $($argument: $(&$borrowed)? $($owned)?),*) -> Result<$ok, $error> {
                self.store.$name($($argument),*).await
            })*
        }
    };
}

operations! {
    config() -> Result<Option<Configured>, StoreError>;
    configure(config: &NetworkConfig, replaces: =Option<Revision>) -> Result<Configured, ConfigureError>;
    standing(node: &NodeId) -> Result<Standing, StoreError>;
    tenants() -> Result<Vec<Tenant>, StoreError>;
    snapshot() -> Result<Snapshot, StoreError>;
    create(claim: &Claim) -> Result<Arc<Lease>, CreateError>;
    update(lease: &Lease, attributes: &Attributes, ttl: =Option<Duration>) -> Result<Arc<Lease>, WriteError>;
    renew(lease: &Lease) -> Result<(), WriteError>;
    remove(lease: &Lease) -> Result<(), WriteError>;
    remaining(lease: &Lease) -> Result<Option<Duration>, WriteError>;
}

trait ErasedWatch: Send {
    fn next(&mut self) -> Answer<'_, Update>;
}

impl<W: Watch> ErasedWatch for W {
    fn next(&mut self) -> Answer<'_, Update> {
        Box::pin(Watch::next(self))
    }
}

impl Watch for AnyWatch {
    async fn next(&mut self) -> Result<Update, StoreError> {
        self.watch.next().await
    }
}
