//! See `overlay_fuzz::ethernet`.
#![cfg_attr(fuzzing, no_main)]
overlay_fuzz::main!(ethernet);
