//! See `overlay_fuzz::tcp`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(tcp);
