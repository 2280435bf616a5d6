//! See `overlay_fuzz::lease_attributes`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(lease_attributes);
