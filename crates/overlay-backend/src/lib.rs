//! Desired state, plan and reconciler for overlay network backends.
#![forbid(unsafe_code)]

mod kernel;
mod memory;

pub use kernel::{Executed, Kernel};
pub use memory::{Counters, Failure, Listing, MemoryKernel, Snapshot};
