//! Benchmarks of the Overlay libraries beside their named peers.
