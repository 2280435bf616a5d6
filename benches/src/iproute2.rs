//! `ip` and `bridge`, as processes.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use overlay_lab::Host;

use crate::Lab;

/// The version of iproute2, if it is there.
#[must_use]
pub fn version() -> Option<String> {
    let output = Command::new("ip").arg("-V").output().ok()?;
    Command::new("bridge").arg("-V").output().ok()?;
    Some(
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .trim_start_matches("ip utility, ")
            .to_owned(),
    )
}

/// Whether iproute2 is there. Says loudly if not.
///
/// # Errors
/// When it is not, and `OVERLAY_REQUIRE` lists it.
pub(crate) fn present(contest: &str) -> Result<bool> {
    if version().is_some() {
        return Ok(true);
    }
    overlay_lab::cannot_run(contest, "iproute2", "there is no ip or no bridge program")
        .map(|()| false)
        .map_err(anyhow::Error::msg)
}

/// A file of commands for `ip -batch` or `bridge -batch`.
pub(crate) struct BatchFile {
    program: &'static str,
    path: PathBuf,
}

impl BatchFile {
    pub(crate) fn new(program: &'static str, lines: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("overlay-benches-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, lines).with_context(|| format!("write {}", path.display()))?;
        Ok(Self { program, path })
    }

    /// Runs it and returns how long that took, the start of the process included.
    pub(crate) fn run(&self, lab: &Lab) -> Result<Duration> {
        let mut command = Command::new(self.program);
        command.arg("-batch").arg(&self.path);
        time(&lab.host, command)
    }
}

impl Drop for BatchFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Runs a program inside a host and returns how long that took.
pub(crate) fn time(host: &Host, mut command: Command) -> Result<Duration> {
    let null = File::options().write(true).open("/dev/null")?;
    command.stdin(Stdio::null()).stdout(null);
    let (status, time) = host.run(|| {
        let start = Instant::now();
        let status = command.status();
        (status, start.elapsed())
    });
    let status = status.with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(time)
}
