//! See `overlay_fuzz::geneve`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(geneve);
