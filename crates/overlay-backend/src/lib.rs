//! Desired state, plan and reconciler for overlay network backends.
#![forbid(unsafe_code)]

mod kernel;

pub use kernel::{Executed, Kernel};
