//! See `overlay_fuzz::etherparse_transport`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(etherparse_transport);
