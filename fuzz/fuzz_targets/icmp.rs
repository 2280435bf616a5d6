//! See `overlay_fuzz::icmp`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(icmp);
