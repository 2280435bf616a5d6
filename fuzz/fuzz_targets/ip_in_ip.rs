//! See `overlay_fuzz::ip_in_ip`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(ip_in_ip);
