//! See `overlay_fuzz::segment`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(segment);
