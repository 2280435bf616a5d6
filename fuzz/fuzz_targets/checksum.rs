//! See `overlay_fuzz::checksum`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(checksum);
