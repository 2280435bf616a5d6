//! Whole machines, with a kernel of their own: the distribution's, under QEMU, which needs neither root nor
//! virtualisation in hardware.
//!
//! A machine has one file system, which is put together in memory when it boots: the running program as its first
//! process, and what that and the [`VmOptions`] need. So a program that boots machines begins with [`init_if_asked`],
//! and what it does in a machine is written as functions of the same program:
//!
//! ```rust,no_run
//! use std::process::Command;
//! use std::time::Duration;
//! use overlay_lab::vm::{self, Function, Vm, VmOptions};
//!
//! const FUNCTIONS: [Function; 1] = [("greet", |arguments| {
//!     println!("hello, {}", arguments.join(" "));
//!     Ok(())
//! })];
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     vm::init_if_asked(&FUNCTIONS);
//!
//!     let (left, right) = vm::cable()?;
//!     let options = |name| VmOptions::new(name).modules(["ipip"]).programs(["ip"]);
//!     let [vm1, vm2] = Vm::boot_all([
//!         options("vm1").nic("52:54:00:00:00:01".parse()?, left),
//!         options("vm2").nic("52:54:00:00:00:02".parse()?, right),
//!     ])?;
//!     println!("{} runs Linux {}", vm1.name(), vm1.kernel_release());
//!     let patience = Duration::from_secs(20);
//!     let output = vm2.call("greet", &["world"], patience)?;
//!     print!("{}", String::from_utf8_lossy(&output.stdout));
//!     let output = vm1.run(Command::new("ip").args(["-d", "link"]), patience)?;
//!     print!("{}", String::from_utf8_lossy(&output.stdout));
//!     Ok(())
//! }
//! ```

mod cpio;
mod elf;
mod error;
mod frame;
mod guest;
mod initramfs;
mod inside;
mod kernel;
mod machine;
mod network;
mod options;
mod qemu;

pub use error::VmError;
pub use guest::{Function, init_if_asked, is_inside};
pub use inside::run_tests_inside;
pub use machine::{Stream, Vm};
pub use network::{Hub, Plug, cable};
pub use options::VmOptions;
