//! See `overlay_fuzz::encapsulate`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(encapsulate);
