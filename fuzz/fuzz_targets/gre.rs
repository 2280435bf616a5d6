//! See `overlay_fuzz::gre`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(gre);
