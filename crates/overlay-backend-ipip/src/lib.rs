#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backend;
mod device;
mod options;

pub use crate::backend::IpIp;
pub use crate::options::{Form, IpIpOptions, PointToPoint};
