//! See `overlay_fuzz::coalesce`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(coalesce);
