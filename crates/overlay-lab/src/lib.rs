//! Hosts as network namespaces, for the tests and examples of Overlay.
