#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod allocate;
mod any;
mod attributes;
mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod family;
mod hash;
#[cfg(any(test, feature = "conformance"))]
pub mod history;
mod lease;
mod memory;
mod name;
mod occupancy;
mod pool;
mod store;
mod view;
mod watch;

pub use allocate::{Exhausted, Policy, allocate, guesses};
pub use any::{AnyStore, AnyWatch};
pub use attributes::{Attributes, InvalidAttributes};
pub use config::{BackendConfig, Configured, InvalidConfig, NetworkConfig, NotInPool};
pub use family::{ByFamily, Endpoint, Endpoints, Family, InvalidSubnets, NoSubnet, Subnets};
pub use lease::{Lease, Revision};
pub use memory::{Memory, MemoryStore, MemoryWatch};
pub use name::{InvalidName, NetworkName, NodeId};
pub use pool::{Pool, Prefix};
pub use store::{
    Claim, ConfigureError, CreateError, LATE, Standing, Store, StoreError, StoreErrorKind, Tenant,
    WriteError,
};
pub use view::{Difference, Knowledge, View};
pub use watch::{Change, Changes, Skipped, Snapshot, Update, Watch};
