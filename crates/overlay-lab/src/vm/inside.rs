//! The cases of a test program, once more on another kernel.

use std::process::{Command, Output};
use std::time::Duration;

use super::error::VmError;
use super::initramfs::INIT;
use super::machine::{Stream, Vm};
use super::options::VmOptions;
use crate::require::{REQUIRE, cannot_run};

/// Boots a machine and runs this very test program in it with other arguments, such as a filter. What the program says
/// goes to this program's stderr, line by line.
///
/// It is for a test program whose `main` begins with [`init_if_asked`](super::init_if_asked) and that prints its
/// results as the standard harness does. The case that calls this must not be among those that run inside:
/// [`is_inside`](super::is_inside) tells. In the machine `required` takes the place of [`REQUIRE`].
///
/// # Errors
///
/// A message for the test harness: the machine does not boot, no case has run, one has failed, or they took too long.
/// Where QEMU or a kernel is not installed it says so, which is an error only where [`REQUIRE`] lists `vm`.
pub fn run_tests_inside(
    case: &str,
    options: VmOptions,
    arguments: &[&str],
    required: &str,
    timeout: Duration,
) -> Result<(), String> {
    let mut command = Command::new(INIT);
    command.args(arguments).env(REQUIRE, required);
    match boot_and_run(options, &command, timeout) {
        Ok(output) => verdict(&output),
        Err(error) if error.is_not_installed() => cannot_run(case, "vm", &error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn boot_and_run(
    options: VmOptions,
    command: &Command,
    timeout: Duration,
) -> Result<Output, VmError> {
    let vm = Vm::boot(options)?;
    let prefix = format!("{}, Linux {}", vm.name(), vm.kernel_release());
    let mut lines = Lines::default();
    vm.run_with(command, timeout, |stream, bytes| {
        lines.push(stream, bytes, |line| eprintln!("{prefix}: {line}"));
    })
}

/// What is not yet a whole line, of each stream.
#[derive(Default)]
struct Lines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    fn push(&mut self, stream: Stream, bytes: &[u8], mut each: impl FnMut(&str)) {
        let rest = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        rest.extend_from_slice(bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<_> = rest.drain(..=end).collect();
            each(String::from_utf8_lossy(&line).trim_end());
        }
    }
}

/// A run in which nothing ran is not a success.
fn verdict(output: &Output) -> Result<(), String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().rev().find_map(|line| line.strip_prefix("test result: "));
    let passed = result
        .and_then(|line| line.strip_prefix("ok. ")?.split_once(" passed")?.0.parse::<u32>().ok())
        .is_some_and(|count| count > 0);
    if passed && output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("inside the machine: {}\n{text}\n{errors}", output.status))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn only_a_run_in_which_cases_passed_is_a_success() {
        let verdict = |status: i32, text: &str| {
            let (status, stdout) = (ExitStatus::from_raw(status), text.as_bytes().to_vec());
            verdict(&Output { status, stdout, stderr: Vec::new() })
        };
        let ok = "test a ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n\n";
        assert_eq!(verdict(0, ok), Ok(()));
        assert!(verdict(1 << 8, ok).is_err());
        assert!(verdict(9, ok).is_err());
        assert!(verdict(0, "").is_err());
        assert!(verdict(0, "test result: ok. 0 passed; 0 failed; 9 filtered out").is_err());
        assert!(verdict(0, "test result: FAILED. 1 passed; 1 failed").is_err());
    }

    #[test]
    fn lines_are_whole_and_streams_apart() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for (stream, text) in
            [(Stream::Stdout, "on"), (Stream::Stderr, "other\n"), (Stream::Stdout, "e\ntwo\nthr")]
        {
            lines.push(stream, text.as_bytes(), |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["other", "one", "two"]);
    }
}
