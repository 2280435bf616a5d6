#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod error;
mod field;
mod framing;
mod mac;
mod option;
mod overhead;
mod transport;
mod vni;

pub mod arp;
pub mod buffer;
pub mod checksum;
pub mod coalesce;
pub mod decapsulate;
pub mod dissect;
pub mod encapsulate;
pub mod ethernet;
pub mod flow;
pub mod geneve;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
pub mod ip_in_ip;
pub mod ip_in_udp;
pub mod ipv4;
pub mod ipv6;
pub mod isatap;
pub mod ndp;
pub mod segment;
pub mod tcp;
pub mod udp;
pub mod virtio_net;
pub mod vlan;
pub mod vxlan;
pub mod vxlan_gpe;

pub use error::{Error, Expected};
pub use framing::Framing;
pub use ip::IpVersion;
pub use mac::{MacAddr, ParseMacAddrError};
pub use overhead::Encapsulation;
pub use vni::{InvalidVni, Vni};
