//! See `overlay_fuzz::etherparse_ip`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(etherparse_ip);
