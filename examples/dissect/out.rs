//! Standard output.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write, stdout};

use anyhow::Context;

/// Where text goes to: line by line where somebody watches, else in large pieces.
pub(crate) struct Out<W: Write> {
    to: BufWriter<W>,
    watched: bool,
}

impl Out<StdoutLock<'static>> {
    pub(crate) fn stdout(watched: bool) -> Self {
        Self::new(stdout().lock(), watched)
    }
}

impl<W: Write> Out<W> {
    pub(crate) fn new(to: W, watched: bool) -> Self {
        Self { to: BufWriter::with_capacity(1 << 16, to), watched }
    }

    pub(crate) fn line(&mut self, text: impl Display) -> anyhow::Result<()> {
        writeln!(self.to, "{text}").context("write to standard output")?;
        if self.watched { self.flush() } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.to.flush().context("write to standard output")
    }
}

/// Whether nobody reads on, as after `| head -1`: no reason to complain.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
