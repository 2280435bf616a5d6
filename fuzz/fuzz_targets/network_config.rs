//! See `overlay_fuzz::network_config`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(network_config);
