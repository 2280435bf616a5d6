#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "tokio"), forbid(unsafe_code))]
#![deny(unsafe_code)]

mod address;
#[cfg(feature = "tokio")]
mod async_monitor;
mod batch;
mod codec;
mod device;
mod error;
mod fdb;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hop;
mod link;
mod monitor;
mod namespace;
mod neighbour;
mod nexthop;
mod object;
mod protocol;
mod request;
mod route;
mod rule;
mod socket;
#[cfg(test)]
mod tests;
mod traffic;

pub use address::{Address, AddressFilter};
#[cfg(feature = "tokio")]
pub use async_monitor::AsyncMonitor;
pub use batch::{Batch, Outcome, scattered};
pub use device::{DeviceRef, IfName, Ifindex, InvalidIfName};
pub use error::{Error, KernelError, MissingKind};
pub use fdb::{Fdb, FdbFilter};
pub use hop::{Encap, Hop};
pub use link::{
    Bridge, Df, EncapLimit, Gre, Link, LinkFilter, LinkKind, LinkNamespace, Tunnel, TunnelMode,
    VethPeer, Vxlan,
};
pub use monitor::{Change, Event, Groups, Miss, Monitor};
pub use namespace::Namespace;
pub use neighbour::{Neighbour, NeighbourFilter, NeighbourFlags, NeighbourState};
pub use nexthop::{Nexthop, NexthopFilter, NexthopId, NexthopTarget};
pub use object::{KernelObject, Listable};
pub use protocol::{Protocol, Scope, table};
pub use request::{Object, Request, Verb};
pub use route::{Route, RouteFilter, RouteKind, RouteQuery, Via, WeightedHop};
pub use rule::{Rule, RuleAction, RuleFilter};
pub use socket::Socket;
pub use traffic::{BpfFilter, BpfFilterFilter, Clsact, ClsactFilter, TrafficFilter, TrafficHook};
