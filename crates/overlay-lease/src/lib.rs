#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod acquire;
mod allocate;
mod any;
mod attempt;
mod attributes;
mod backoff;
mod clock;
mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod family;
mod follow;
mod hash;
#[cfg(any(test, feature = "conformance"))]
pub mod history;
mod keeper;
mod lease;
mod memory;
mod name;
mod occupancy;
mod operation;
mod pool;
mod store;
mod tenure;
mod view;
mod watch;

pub use acquire::{AcquireError, Request, ReserveError, acquire, release, reserve};
pub use allocate::{Exhausted, Policy, allocate, guesses};
pub use any::{AnyStore, AnyWatch};
pub use attributes::{Attributes, InvalidAttributes};
pub use clock::BootInstant;
pub use config::{BackendConfig, Configured, InvalidConfig, NetworkConfig, NotInPool};
pub use family::{ByFamily, Endpoint, Endpoints, Family, InvalidSubnets, NoSubnet, Subnets};
pub use follow::{Follower, Following, News, Step};
pub use keeper::{Keeper, Statuses};
pub use lease::{Lease, Revision};
pub use memory::{Memory, MemoryStore, MemoryWatch};
pub use name::{InvalidName, NetworkName, NodeId};
pub use operation::{Answer, Operation, Reply};
pub use pool::{Pool, Prefix};
pub use store::{
    Claim, ConfigureError, CreateError, LATE, Standing, Store, StoreError, StoreErrorKind, Tenant,
    WriteError,
};
pub use tenure::{Question, Status, Tenure};
pub use view::{Difference, Knowledge, View};
pub use watch::{About, Change, Changes, Skipped, Snapshot, Update, Watch};
