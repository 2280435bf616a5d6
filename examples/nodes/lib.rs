//! What the examples with two nodes have in common: the two nodes of the article, how one of them joins the other, and
//! what is seen of it on the wire.
//!
//! In `two-node` they are hosts of one program, in `two-vm` each of them is a machine with a kernel of its own.

mod addresses;
mod end;
mod machine;
mod pings;
mod say;
mod table;
mod wire;

pub use addresses::Addresses;
pub use end::{End, Kind};
pub use machine::Machine;
pub use pings::Pings;
pub use say::say;
pub use table::table;
pub use wire::{Echoes, Seen};
