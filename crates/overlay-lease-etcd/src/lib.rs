#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod create;
mod error;
mod finish;
mod grant;
mod layout;
mod network;
mod options;
mod overlap;
mod rpc;
mod store;
mod url;
mod value;
mod watch;
mod write;

pub use error::{OptionsError, RequestError};
pub use options::{Credentials, DEFAULT_PREFIX, EtcdOptions, Password, Tls};
pub use store::EtcdStore;
pub use url::EtcdUrl;
pub use watch::EtcdWatch;
