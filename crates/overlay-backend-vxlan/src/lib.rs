//! VXLAN backend: one device, three static objects per peer.
