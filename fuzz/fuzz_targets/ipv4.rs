//! See `overlay_fuzz::ipv4`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(ipv4);
