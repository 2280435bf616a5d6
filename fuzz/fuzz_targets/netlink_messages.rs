//! See `overlay_fuzz::netlink_messages`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(netlink_messages);
