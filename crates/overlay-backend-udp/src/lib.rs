#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod backend;
mod data;
mod peers;

pub use backend::{Udp, UdpOptions};
pub use data::PathData;
pub use peers::{Lookup, Mirror, Peers, Remote};
