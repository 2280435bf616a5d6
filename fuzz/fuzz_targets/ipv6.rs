//! See `overlay_fuzz::ipv6`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(ipv6);
