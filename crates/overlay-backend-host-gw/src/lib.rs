//! host-gw backend: one route per peer subnet, no encapsulation.
