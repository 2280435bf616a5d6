//! What is told on standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process;

/// Prints a line. Where nobody reads on, as after `| head -1`, the program ends without a complaint:
/// nothing outlives it, so it may end anywhere.
pub fn say(text: impl Display) {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            eprintln!("cannot write to standard output: {error}");
            process::exit(1);
        }
    }
}
