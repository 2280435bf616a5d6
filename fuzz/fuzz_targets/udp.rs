//! See `overlay_fuzz::udp`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(udp);
