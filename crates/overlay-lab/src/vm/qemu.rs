//! The emulator, as a process.

use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use rustix::fs::{MemfdFlags, memfd_create};

use super::error::VmError;
use super::guest::INSIDE;
use super::initramfs;
use super::kernel::Kernel;
use super::options::VmOptions;
use crate::sys;

const PROGRAM: &str = "qemu-system-x86_64";

/// A running emulator. It ends when this is dropped, and when the program ends, however that happens.
#[derive(Debug)]
pub(super) struct Qemu {
    child: Child,
    console: Arc<Mutex<Tail>>,
    thread: Option<JoinHandle<()>>,
}

impl Qemu {
    /// Starts it; returns it with this side's end of the control channel.
    pub(super) fn start(options: VmOptions) -> Result<(Self, UnixStream), VmError> {
        let failed = |error| VmError::io("prepare a machine", error);
        // Asked first, for this is what is missing most often.
        let version = Command::new(PROGRAM).arg("--version").output();
        version.map_err(|source| VmError::NoQemu { program: PROGRAM, source })?;
        let kernel = Kernel::newest()?;
        let mut archive = File::from(
            memfd_create("initramfs", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?,
        );
        archive.write_all(&initramfs::build(&options, &kernel)?).map_err(failed)?;
        let (here, there) = UnixStream::pair().map_err(failed)?;
        let (output, writer) = io::pipe().map_err(failed)?;
        let mut command = command(options, &kernel, archive.into(), there.into())?;
        // Not in the terminal's foreground: Ctrl-C is for this program, which decides what becomes of its machines.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);

        let console = Arc::new(Mutex::new(Tail::default()));
        let seen = Arc::clone(&console);
        let (tell, started) = mpsc::sync_channel(1);
        // The kernel kills a child when the thread that started it ends. This one lives as long as the child does.
        let work = move || {
            let child = command.spawn();
            // With it go this side's copies of what the child has, or its end would never be seen.
            drop(command);
            let running = child.is_ok();
            if tell.send(child).is_ok() && running {
                read_console(output, &seen);
            }
        };
        let name = "console".to_owned();
        let thread = thread::Builder::new().name(name).spawn(work).map_err(failed)?;
        let child = started.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        let child = child.map_err(|source| VmError::NoQemu { program: PROGRAM, source })?;
        Ok((Self { child, console, thread: Some(thread) }, here))
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of the machine's console and of the emulator's own words.
    pub(super) fn console(&self) -> String {
        self.console.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    /// Ends it, and returns all that there will ever be of its console.
    pub(super) fn end(&mut self) -> String {
        // Either fails only if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.console()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

fn command(
    options: VmOptions,
    kernel: &Kernel,
    archive: OwnedFd,
    control: OwnedFd,
) -> Result<Command, VmError> {
    let mut command = Command::new(PROGRAM);
    command
        .args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max"])
        .args(["-m", &options.memory.to_string(), "-smp", &options.cpus.to_string()])
        .arg("-kernel")
        .arg(&kernel.image)
        .args(["-initrd", &format!("/proc/self/fd/{}", archive.as_raw_fd())])
        .args(["-append", &kernel_command_line(&options)?])
        .args(["-chardev", "file,id=console,path=/proc/self/fd/1", "-serial", "chardev:console"])
        .args(["-chardev", &format!("socket,id=control,fd={}", control.as_raw_fd())])
        .args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=control"]);
    let mut descriptors = vec![archive, control];
    for (number, (mac, plug)) in options.nics.into_iter().enumerate() {
        let socket = plug.0;
        command
            .args(["-netdev", &format!("socket,id=net{number},fd={}", socket.as_raw_fd())])
            // Nothing is booted from the network, and the ROM for it is in a package of its own.
            .args(["-device", &format!("virtio-net-pci,netdev=net{number},mac={mac},romfile=")]);
        descriptors.push(socket);
    }
    sys::bequeath(&mut command, descriptors);
    Ok(command)
}

fn kernel_command_line(options: &VmOptions) -> Result<String, VmError> {
    let mut line = format!(
        // A machine that panics ends. The check of the timer fails where the emulator is short of time.
        "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests {INSIDE}=1"
    );
    for argument in &options.kernel_arguments {
        if argument.is_empty() || argument.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(VmError::Invalid { what: "the kernel argument", text: argument.clone() });
        }
        line.push(' ');
        line.push_str(argument);
    }
    Ok(line)
}

fn read_console(mut output: PipeReader, seen: &Mutex<Tail>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        let Some(bytes) = buffer.get(..length) else { return };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// The end of what was said.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    const KEPT: usize = 4096;

    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(Self::KEPT);
        self.0.drain(..excess);
    }

    /// Without what would move a terminal's cursor.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>().trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_console_is_kept() {
        let mut tail = Tail::default();
        for number in 0..10_000 {
            tail.push(format!("line {number}\r\n").as_bytes());
        }
        tail.push(b"\x1b[2Jthe last\xff");
        assert!(tail.0.len() <= Tail::KEPT);
        assert!(tail.text().ends_with("line 9999\n[2Jthe last\u{fffd}"), "{}", tail.text());
    }

    #[test]
    fn kernel_arguments_come_one_by_one() {
        let line = |text: &str| kernel_command_line(&VmOptions::new("a").kernel_argument(text));
        assert!(line("fb_tunnels=initns").unwrap().ends_with(" OVERLAY_VM=1 fb_tunnels=initns"));
        for text in ["", "two words", "two\nlines", "zero\0"] {
            assert!(matches!(line(text), Err(VmError::Invalid { .. })), "{text:?}");
        }
    }
}
