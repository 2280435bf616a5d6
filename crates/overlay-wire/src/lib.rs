#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod mac;
mod overhead;
mod vni;

pub use mac::{MacAddr, ParseMacAddrError};
pub use overhead::{Encapsulation, IpVersion};
pub use vni::{InvalidVni, Vni};
