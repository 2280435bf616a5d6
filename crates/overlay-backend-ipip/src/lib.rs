#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backend;
mod device;
mod options;
mod programs;
mod table;

pub use crate::backend::IpIp;
pub use crate::options::{Form, IpIpOptions, PointToPoint};
pub use overlay_ebpf::tunnel::Counters;

pub use crate::programs::{Programs, ProgramsError, ProgramsState};
