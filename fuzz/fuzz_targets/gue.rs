//! See `overlay_fuzz::gue`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(gue);
