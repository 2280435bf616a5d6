#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod clock;
mod fault;
mod file;
mod queue;
mod read;
mod reader;
mod row;
mod schema;
mod store;
mod write;
mod writer;

pub use store::{SqliteStore, SqliteWatch};
