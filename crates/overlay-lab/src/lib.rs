#![doc = include_str!("../README.md")]

mod capture;
mod datagrams;
mod enter;
mod error;
mod etcd;
mod host;
mod links;
mod offload;
mod pcap;
mod ping;
mod require;
mod snapshot;
mod sys;
mod sysctl;
mod throughput;
mod topology;
mod transmit;
pub mod vm;
mod wire;

pub use capture::{Capture, Frame, Listener, capture, capture_if, listen};
pub use datagrams::{PacketRate, packet_rate, round_trip};
pub use enter::{enter, enter_as_root};
pub use error::{EnterError, Error, Result};
pub use etcd::Etcd;
pub use host::Host;
pub use ping::{PingError, PingReport, PingRequest, Reply, path_mtu, ping};
pub use require::{REQUIRE, cannot_run};
pub use snapshot::Snapshot;
pub use throughput::{Throughput, throughput, throughput_of};
pub use topology::{Switch, connect};
pub use transmit::transmit;
pub use wire::{Wire, WireConfig, WireStats};
