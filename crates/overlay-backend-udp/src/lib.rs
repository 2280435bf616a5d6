#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod answer;
mod backend;
mod batch;
mod bucket;
mod control;
mod counters;
mod data;
mod departure;
mod error;
mod fast;
mod forwarder;
mod options;
mod paths;
mod peers;
mod receive;
mod socket;
mod stop;
mod sys;
mod transmit;
mod tun;

pub use backend::{Udp, UdpOptions};
pub use counters::{Counters, DropReason, Drops, Traffic};
pub use data::PathData;
pub use error::ForwardError;
pub use fast::{FastPath, FastPathState};
pub use forwarder::{Forwarder, Levels};
pub use options::{Buffers, ForwarderOptions};
pub use overlay_ebpf::tunnel::{Arrival, Xdp};
pub use peers::{Lookup, Mirror, Peers, Remote};
pub use tun::TunLevel;
