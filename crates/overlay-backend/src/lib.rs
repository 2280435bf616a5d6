#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backend;
mod compare;
mod cross_subnet;
mod keeper;
mod kernel;
mod key;
mod memory;
mod network;
mod owner;
mod peer;
mod plan;
mod reconciler;
mod table;
mod trigger;
mod underlay;

pub use backend::{Backend, DataPath};
pub use cross_subnet::{CrossSubnet, TunnelMode};
pub use keeper::Keeper;
pub use kernel::{Executed, Kernel};
pub use memory::{Counters, Fault, Listing, MemoryKernel, Snapshot};
pub use network::Network;
pub use owner::{Owner, ReservedProtocol};
pub use peer::{BackendData, Node, NodeId, Peer, PeerError};
pub use plan::{Plan, Reason, Refused, RefusedReason, Step};
pub use reconciler::{Conflict, Failure, NotReady, ReconcileError, Reconciler, Report};
pub use trigger::Trigger;
pub use underlay::{Underlay, UnderlayError};
