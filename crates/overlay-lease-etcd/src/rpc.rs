//! A small client of etcd's v3 API: one connection at a time, several members, no code generator.

mod client;
mod codec;
mod connection;
pub(crate) mod messages;
mod method;
mod reader;
mod txn;
mod watch;

pub(crate) use client::Client;
pub(crate) use reader::Reader;
pub(crate) use txn::{Got, KeyRange, Txn, TxnAnswer};
pub(crate) use watch::{Watched, Watcher};
