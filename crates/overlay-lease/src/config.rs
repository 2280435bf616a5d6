//! What a network is made of.

use std::sync::Arc;

use crate::lease::Revision;

/// The configuration of a network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkConfig {}

/// A configuration as a store has it.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Configured {
    /// The configuration.
    pub config: Arc<NetworkConfig>,
    /// When it was written.
    pub revision: Revision,
}
