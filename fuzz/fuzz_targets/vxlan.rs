//! See `overlay_fuzz::vxlan`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(vxlan);
