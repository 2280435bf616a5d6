#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod endpoint;
mod error;
mod options;
mod rpc;

pub use endpoint::Endpoint;
pub use error::{OptionsError, RequestError};
pub use options::{Credentials, DEFAULT_PREFIX, EtcdOptions, Password, Tls};
