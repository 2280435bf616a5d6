//! Standard output, for people or for machines.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write, stdout};

use anyhow::Context;
use serde_json::Value;

/// Standard output.
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// A line for people.
    pub(crate) fn say(&self, text: impl Display) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { line(text) }
    }

    /// An object for machines.
    pub(crate) fn tell(&self, object: impl FnOnce() -> Value) -> anyhow::Result<()> {
        if self.json { line(object()) } else { Ok(()) }
    }
}

/// Prints a line at once: those who watch wait for it.
fn line(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).context("write to standard output")
}

/// Whether nobody reads on, as after `| head -1`: no reason to complain.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
