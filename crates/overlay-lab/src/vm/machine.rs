use std::collections::HashMap;
use std::ffi::OsStr;
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::error::VmError;
use super::frame::{Frame, Job, Kind};
use super::guest::CALL;
use super::initramfs::INIT;
use super::options::VmOptions;
use super::qemu::Qemu;

/// How much longer than a program may run its machine may take to say that it ran too long.
const GRACE: Duration = Duration::from_secs(15);

/// How much of what a program writes is kept, of either stream.
const OUTPUT_LIMIT: usize = 16 << 20;

/// A running machine. It ends when this is dropped, and with the program, even by `SIGKILL`; as it is in memory only,
/// nothing stays behind.
///
/// Several threads may run programs in it at the same time.
#[derive(Debug)]
pub struct Vm {
    name: String,
    release: String,
    qemu: Mutex<Qemu>,
    control: Mutex<UnixStream>,
    waiting: Waiting,
    last_request: AtomicU32,
}

/// Who waits for answers to which request; nobody, once there will be none any more.
type Waiting = Arc<Mutex<Option<HashMap<u32, mpsc::Sender<Frame>>>>>;

/// What a program writes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl Vm {
    /// Boots a machine and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`VmError::NoQemu`] and [`VmError::NoKernel`] where these are not installed, one that names what the machine
    /// should have and cannot get, and [`VmError::Boot`] or [`VmError::Ended`], with the end of its console.
    pub fn boot(options: VmOptions) -> Result<Self, VmError> {
        let (name, timeout) = (options.name.clone(), options.boot_timeout);
        let (qemu, control) = Qemu::start(options)?;
        let failed = |error| VmError::io("listen to a machine", error);
        let reader = control.try_clone().map_err(failed)?;
        let (sender, ready) = mpsc::channel();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::from([(0, sender)]))));
        let answered = Arc::clone(&waiting);
        let listen = move || listen(reader, &answered);
        thread::Builder::new().name(format!("{name} answers")).spawn(listen).map_err(failed)?;
        let mut vm = Self {
            name,
            release: String::new(),
            qemu: Mutex::new(qemu),
            control: Mutex::new(control),
            waiting,
            last_request: AtomicU32::new(0),
        };
        match ready.recv_timeout(timeout) {
            Ok(frame) => vm.release = String::from_utf8_lossy(&frame.contents).into_owned(),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let (name, console) = (vm.name.clone(), vm.end());
                return Err(VmError::Boot { name, after: timeout, console });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(vm.ended()),
        }
        Ok(vm)
    }

    /// Boots several machines at once.
    ///
    /// # Errors
    ///
    /// As [`boot`](Self::boot), of the first that fails; the others end.
    pub fn boot_all<const N: usize>(options: [VmOptions; N]) -> Result<[Self; N], VmError> {
        let booted = thread::scope(|scope| {
            let threads = options.map(|options| scope.spawn(|| Self::boot(options)));
            threads.map(|thread| thread.join())
        });
        let mut machines = Vec::with_capacity(N);
        for machine in booted {
            machines.push(machine.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(machines.try_into().expect("as many machines as options"))
    }

    /// Its name, which it also has as host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The release of its kernel, as `uname -r` prints it.
    #[must_use]
    pub fn kernel_release(&self) -> &str {
        &self.release
    }

    /// The process that emulates it.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.qemu.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// The last lines of its console.
    #[must_use]
    pub fn console(&self) -> String {
        self.qemu.lock().unwrap_or_else(PoisonError::into_inner).console()
    }

    /// Runs a program in the machine and collects what it writes, of each stream the first 16 MiB. Of the command
    /// counts the program, its arguments, and variables that are set.
    ///
    /// # Errors
    ///
    /// [`VmError::NotStarted`], [`VmError::TimedOut`] after which it and what it has started is dead, and
    /// [`VmError::Silent`] or [`VmError::Ended`] if it is the machine that does not answer.
    pub fn run(&self, command: &Command, timeout: Duration) -> Result<Output, VmError> {
        self.run_with(command, timeout, |_, _| {})
    }

    /// Calls a function that was given to [`init_if_asked`](super::init_if_asked), in a process of its own.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run). That the function fails is no error, but a status other than 0.
    pub fn call(
        &self,
        function: &str,
        arguments: &[&str],
        timeout: Duration,
    ) -> Result<Output, VmError> {
        self.call_with(function, arguments, timeout, |_, _| {})
    }

    /// As [`call`](Self::call), and hands on what the function prints as soon as it comes.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn call_with(
        &self,
        function: &str,
        arguments: &[&str],
        timeout: Duration,
        each: impl FnMut(Stream, &[u8]),
    ) -> Result<Output, VmError> {
        self.run_with(Command::new(INIT).env(CALL, function).args(arguments), timeout, each)
    }

    /// As [`run`](Self::run), and hands on what the program writes as soon as it comes.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_with(
        &self,
        command: &Command,
        timeout: Duration,
        mut each: impl FnMut(Stream, &[u8]),
    ) -> Result<Output, VmError> {
        let request = describe(command);
        let deadline = Instant::now() + timeout + GRACE;
        let (number, answers) = self.ask(&job(command, timeout), &request)?;
        let _forget = Forget { waiting: &self.waiting, number };
        let mut output =
            Output { status: ExitStatus::default(), stdout: Vec::new(), stderr: Vec::new() };
        let name = || self.name.clone();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = match answers.recv_timeout(left) {
                Ok(frame) => frame,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let (after, console) = (timeout + GRACE, self.console());
                    return Err(VmError::Silent { request, name: name(), after, console });
                }
            };
            match frame.kind {
                Kind::Stdout => {
                    each(Stream::Stdout, &frame.contents);
                    append(&mut output.stdout, &frame.contents);
                }
                Kind::Stderr => {
                    each(Stream::Stderr, &frame.contents);
                    append(&mut output.stderr, &frame.contents);
                }
                Kind::Exit => {
                    let status =
                        frame.contents.first_chunk().map(|bytes| i32::from_le_bytes(*bytes));
                    output.status = ExitStatus::from_raw(status.unwrap_or(-1));
                    return Ok(output);
                }
                Kind::TimedOut => {
                    let text = [output.stdout, output.stderr].concat();
                    let output = String::from_utf8_lossy(&text).into_owned();
                    return Err(VmError::TimedOut {
                        request,
                        name: name(),
                        after: timeout,
                        output,
                    });
                }
                Kind::NotStarted | Kind::Ready | Kind::Run => {
                    let reason = String::from_utf8_lossy(&frame.contents).into_owned();
                    return Err(VmError::NotStarted { request, name: name(), reason });
                }
            }
        }
    }

    fn ask(&self, job: &Job, request: &str) -> Result<(u32, mpsc::Receiver<Frame>), VmError> {
        let number = self.last_request.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let (sender, answers) = mpsc::channel();
        match &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(waiting) => drop(waiting.insert(number, sender)),
            None => return Err(self.ended()),
        }
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        // A machine that does not read must not keep this waiting.
        let written = control
            .set_write_timeout(Some(GRACE))
            .and_then(|()| Frame::new(Kind::Run, number, job.encode()).write(&mut *control));
        match written {
            Ok(()) => Ok((number, answers)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let (name, console) = (self.name.clone(), self.console());
                Err(VmError::Silent { request: request.to_owned(), name, after: GRACE, console })
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                let text = format!("{} bytes of arguments", job.encode().len());
                Err(VmError::Invalid { what: "the command with", text })
            }
            Err(_) => Err(self.ended()),
        }
    }

    /// Ends it at once, as when it is dropped. Who waits for something from it gets [`VmError::Ended`].
    pub fn kill(&self) {
        self.end();
    }

    /// Ends it, and returns the end of its console.
    fn end(&self) -> String {
        self.qemu.lock().unwrap_or_else(PoisonError::into_inner).end()
    }

    fn ended(&self) -> VmError {
        VmError::Ended { name: self.name.clone(), console: self.end() }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.end();
        // It has ended by now with the machine, unless that had inherited the channel to somebody else.
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = control.shutdown(Shutdown::Both);
    }
}

/// Takes a request off the list, however it ends.
struct Forget<'a> {
    waiting: &'a Waiting,
    number: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = &mut *waiting {
            waiting.remove(&self.number);
        }
    }
}

/// Hands answers to those who wait for them, until there are no more.
fn listen(mut control: UnixStream, waiting: &Waiting) {
    while let Ok(frame) = Frame::read(&mut control) {
        let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.as_ref().and_then(|waiting| waiting.get(&frame.request)) {
            // Who has given up does not listen.
            let _ = sender.send(frame);
        }
    }
    *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn job(command: &Command, timeout: Duration) -> Job {
    let bytes = |string: &OsStr| string.as_bytes().to_vec();
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    Job {
        milliseconds: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        program: bytes(command.get_program()),
        arguments: command.get_args().map(bytes).collect(),
        environment: set.map(|(name, value)| (bytes(name), bytes(value))).collect(),
    }
}

fn describe(command: &Command) -> String {
    let called = command.get_envs().find(|(name, _)| *name == CALL).and_then(|(_, value)| value);
    let program = called.unwrap_or_else(|| command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn append(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = OUTPUT_LIMIT.saturating_sub(kept.len());
    kept.extend(bytes.iter().take(room));
}
