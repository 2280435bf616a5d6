//! See `overlay_fuzz::dissect`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(dissect);
