//! See `overlay_fuzz::etherparse_link`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(etherparse_link);
