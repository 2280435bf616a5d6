//! The machines, from outside.

use std::sync::mpsc;
use std::thread::{self, Scope};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use overlay_lab::vm::{self, Stream, Vm, VmError, VmOptions};
use overlay_wire::MacAddr;
use serde::de::DeserializeOwned;

use crate::command::Command;
use crate::inside::{PCAP, READY, SERVE, TELL};

/// The numbers of the article, in which all names end.
pub(crate) const NUMBERS: [u16; 2] = [245, 246];

/// How long a command may take, in a machine ten times slower than this one.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the machines may live.
const LIFETIME: Duration = Duration::from_secs(1800);

/// What Debian's kernel has as modules.
const MODULES: [&str; 8] =
    ["bridge", "cls_bpf", "ip6_tunnel", "ipip", "sch_ingress", "tun", "veth", "vxlan"];

/// Boots both machines, which hang on one cable, and reports about twice a second how long it takes.
pub(crate) fn boot(waiting: impl Fn(Duration)) -> anyhow::Result<[Vm; 2]> {
    const OFTEN: Duration = Duration::from_millis(500);
    let (left, right) = vm::cable()?;
    let options = |name, number: u16, plug| {
        // The local bit is set, the rest is free.
        let [high, low] = number.to_be_bytes();
        VmOptions::new(name)
            .modules(MODULES)
            // Or every container would have tunnels that nobody asked for.
            .kernel_argument("fb_tunnels=initns")
            .nic(MacAddr([0x52, 0x54, 0, 0, high, low]), plug)
    };
    let [one, other] = NUMBERS;
    let options = [options("vm1", one, left), options("vm2", other, right)];
    let (done, booted) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || drop(done.send(Vm::boot_all(options))));
        let mut waited = Duration::ZERO;
        loop {
            match booted.recv_timeout(OFTEN) {
                Ok(machines) => return machines.map_err(explained),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    waited += OFTEN;
                    waiting(waited);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => bail!("nobody boots the machines"),
            }
        }
    })
}

fn explained(error: VmError) -> anyhow::Error {
    match error.is_not_installed() {
        // It names one package, and mostly the other is missing, too.
        true => {
            anyhow!("{error}; what it takes: apt-get install qemu-system-x86 linux-image-amd64")
        }
        false => error.into(),
    }
}

/// A machine that serves commands.
pub(crate) struct Remote<'a> {
    vm: &'a Vm,
}

impl<'a> Remote<'a> {
    /// Starts what serves commands in a machine, on a thread that ends with the machine.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        vm: &'a Vm,
        number: u16,
        mtu: u32,
    ) -> anyhow::Result<Self>
    where
        'a: 'scope,
    {
        let (say, said) = mpsc::channel();
        scope.spawn(move || {
            let arguments = [vm.name(), &number.to_string(), &mtu.to_string()];
            let ended = vm.call_with(SERVE, &arguments, LIFETIME, |stream, bytes| match stream {
                Stream::Stdout => drop(say.send(bytes.to_vec())),
                Stream::Stderr => eprint!("{}: {}", vm.name(), String::from_utf8_lossy(bytes)),
            });
            match ended {
                Err(VmError::Ended { .. }) => {}
                Err(error) => eprintln!("{error}"),
                Ok(output) => eprintln!("{}: {SERVE}: {}", vm.name(), output.status),
            }
        });
        let said = said.recv_timeout(PATIENCE).with_context(|| format!("prepare {}", vm.name()))?;
        match said.starts_with(READY.as_bytes()) {
            true => Ok(Self { vm }),
            false => bail!("{} says {:?}", vm.name(), String::from_utf8_lossy(&said)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.vm.name()
    }

    /// Has a command done.
    pub(crate) fn ask<T: DeserializeOwned>(&self, command: &Command) -> anyhow::Result<T> {
        let answer = self.call(TELL, &[&serde_json::to_string(command)?])?;
        serde_json::from_slice(&answer).with_context(|| format!("{}: {command:?}", self.name()))
    }

    /// All that has crossed its `eth0`, as a file.
    pub(crate) fn pcap(&self) -> anyhow::Result<Vec<u8>> {
        self.call(PCAP, &[])
    }

    fn call(&self, function: &str, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let output = self.vm.call(function, arguments, PATIENCE)?;
        if !output.status.success() {
            bail!("{}: {}", self.name(), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(output.stdout)
    }
}
