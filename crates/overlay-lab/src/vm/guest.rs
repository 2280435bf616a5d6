//! The machine's side: what the binary does where it is the first process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, wait};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname, uname};

use super::frame::{Frame, Job, Kind};
use super::initramfs::{HOSTNAME, INIT, MODULE_ORDER};
use crate::{links, sys};

/// In the environment of every process of a machine, and empty there. The kernel passes it on from its command line.
pub(super) const INSIDE: &str = "OVERLAY_VM";

/// In the environment of the process that serves requests.
const SERVE: &str = "OVERLAY_VM_SERVE";

/// In the environment of a process that is to run a function: its name.
pub(super) const CALL: &str = "OVERLAY_VM_CALL";

/// Where programs are found.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The control channel: the first port of the first virtio-serial device.
const CONTROL: &str = "/dev/vport0p1";

/// How long a device may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// A function that can be called in a machine: its name there, and what it does with its arguments. What it prints is
/// the answer, and an error is printed to stderr and ends it with status 1.
pub type Function = (&'static str, fn(&[String]) -> Result<(), String>);

/// Whether this process runs in a machine.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Makes the program able to be what a [`Vm`](super::Vm) runs. Call it first in `main`, before anything else, and above
/// all before [`enter`](crate::enter).
///
/// Outside of machines it returns at once. Inside, the program is the first process, which never returns from here; or
/// it is to run one of these functions, and ends with it; or it is a program like any other, and goes on.
pub fn init_if_asked(functions: &[Function]) {
    if !is_inside() {
        return;
    }
    if std::process::id() == 1 {
        first_process();
    }
    if std::env::var_os(SERVE).is_some() {
        if let Err(error) = serve() {
            // The console is what shows where a machine got stuck.
            eprintln!("{error}");
        }
        std::process::exit(1);
    }
    let Ok(name) = std::env::var(CALL) else { return };
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match functions.iter().find(|(known, _)| *known == name) {
        Some((_, function)) => function(&arguments),
        None => Err(format!("no function {name} is registered")),
    };
    if let Err(error) = &result {
        eprintln!("{error}");
    }
    std::process::exit(i32::from(result.is_err()));
}

/// Takes care of the processes that nobody else waits for; the rest is done by a process of its own, so that its
/// children are never taken from it. Ends with the machine.
fn first_process() -> ! {
    let started = prepare().and_then(|()| {
        Command::new(INIT)
            .env(SERVE, "1")
            .env("PATH", PATH)
            .spawn()
            .map_err(|error| failed("run", INIT, error))
    });
    match started {
        Ok(server) => reap_until(server.id()),
        Err(error) => eprintln!("{error}"),
    }
    // It can only be refused to those who are not root.
    let _ = reboot(RebootCommand::PowerOff);
    loop {
        thread::park();
    }
}

fn reap_until(last: u32) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid.as_raw_nonzero().get().cast_unsigned() == last => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Makes of the kernel's bare minimum what programs expect.
fn prepare() -> io::Result<()> {
    for (kind, path) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
    ] {
        mount(kind, path, kind, MountFlags::empty(), None)
            .map_err(|error| failed("mount", path, error.into()))?;
    }
    let name = fs::read(HOSTNAME).map_err(|error| failed("read", HOSTNAME, error))?;
    sethostname(&name).map_err(|error| failed("set", "host name", error.into()))?;
    let order =
        fs::read_to_string(MODULE_ORDER).map_err(|error| failed("read", MODULE_ORDER, error))?;
    for path in order.lines() {
        load(path).map_err(|error| failed("load", path, error))?;
    }
    links::loopback_up("the machine").map_err(io::Error::other)?;
    Ok(())
}

fn load(path: &str) -> io::Result<()> {
    // MODULE_INIT_COMPRESSED_FILE of linux/module.h: the kernel itself decompresses.
    let flags = if path.ends_with(".ko") { 0 } else { 4 };
    match finit_module(File::open(path)?, c"", flags) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn failed(operation: &str, object: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {object}: {error}"))
}

/// Serves requests until nobody can ask any more.
fn serve() -> io::Result<()> {
    let start = Instant::now();
    while !Path::new(CONTROL).exists() && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    let mut control = File::options()
        .read(true)
        .write(true)
        .open(CONTROL)
        .map_err(|error| failed("open", CONTROL, error))?;
    let answers = Answers(Arc::new(Mutex::new(control.try_clone()?)));
    let release = uname().release().to_bytes().to_vec();
    println!("READY");
    answers.send(Kind::Ready, 0, release)?;
    loop {
        let frame = Frame::read(&mut control)?;
        let answers = answers.clone();
        thread::spawn(move || {
            let (kind, contents) =
                match Job::decode(&frame.contents).filter(|_| frame.kind == Kind::Run) {
                    Some(job) => run(&job, frame.request, &answers),
                    None => (Kind::NotStarted, b"not a request".to_vec()),
                };
            // Whoever asked is gone if this fails, and so will be the machine.
            let _ = answers.send(kind, frame.request, contents);
        });
    }
}

#[derive(Clone)]
struct Answers(Arc<Mutex<File>>);

impl Answers {
    fn send(&self, kind: Kind, request: u32, contents: Vec<u8>) -> io::Result<()> {
        let mut control = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Frame::new(kind, request, contents).write(&mut *control)
    }
}

/// Runs a program to its end or the end of its time, and says how that was.
fn run(job: &Job, request: u32, answers: &Answers) -> (Kind, Vec<u8>) {
    let string = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let child = Command::new(string(&job.program))
        .args(job.arguments.iter().map(|argument| string(argument)))
        .envs(job.environment.iter().map(|(name, value)| (string(name), string(value))))
        .env_remove(SERVE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Whatever it starts ends with it.
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return (Kind::NotStarted, error.to_string().into_bytes()),
    };
    let (done, all_done) = mpsc::channel::<()>();
    relay(child.stdout.take(), Kind::Stdout, request, answers, &done);
    relay(child.stderr.take(), Kind::Stderr, request, answers, &done);
    drop(done);
    let ended = wait_for(&mut child, Duration::from_millis(job.milliseconds));
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // There is none any more if the program has left nothing behind.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let ended =
        ended.and_then(|status| Ok((status.is_none(), status.map_or_else(|| child.wait(), Ok)?)));
    // Nobody sends: this ends when both relays have, or when what the program left behind keeps them from it.
    let _ = all_done.recv_timeout(PATIENCE);
    match ended {
        Ok((true, _)) => (Kind::TimedOut, Vec::new()),
        Ok((false, status)) => (Kind::Exit, status.into_raw().to_le_bytes().to_vec()),
        Err(error) => (Kind::NotStarted, error.to_string().into_bytes()),
    }
}

/// The status, or `None` if it has not ended in time.
fn wait_for(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { return child.wait().map(Some) };
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        sys::wait([(std::os::fd::AsFd::as_fd(&process), PollFlags::IN)], Some(left))?;
    }
}

fn relay(
    pipe: Option<impl Read + Send + 'static>,
    kind: Kind,
    request: u32,
    answers: &Answers,
    done: &mpsc::Sender<()>,
) {
    let (answers, done) = (answers.clone(), done.clone());
    let Some(mut pipe) = pipe else { return };
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 14];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length) else { break };
            if answers.send(kind, request, bytes.to_vec()).is_err() {
                break;
            }
        }
        drop(done);
    });
}
