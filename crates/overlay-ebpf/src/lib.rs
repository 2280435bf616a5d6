#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod asm;
pub mod attach;
pub mod map;
pub mod probe;
pub mod program;
pub mod tunnel;

mod error;
#[allow(unsafe_code)]
mod sys;

pub use error::{Error, VerifierLog};
pub use tunnel::Tunnel;
