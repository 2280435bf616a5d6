//! Runnable programs that tie the Overlay libraries together.
