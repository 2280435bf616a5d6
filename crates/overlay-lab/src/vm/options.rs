use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use overlay_wire::MacAddr;

use super::network::Plug;

/// What a machine is made of. It has the running program, what that needs, and what is added here, and nothing else.
#[derive(Debug)]
pub struct VmOptions {
    pub(super) name: String,
    pub(super) memory: u32,
    pub(super) cpus: u32,
    pub(super) boot_timeout: Duration,
    pub(super) modules: BTreeSet<String>,
    pub(super) programs: BTreeSet<String>,
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(super) kernel_arguments: Vec<String>,
    pub(super) nics: Vec<(MacAddr, Plug)>,
}

impl VmOptions {
    /// A machine of 512 MiB and one processor, which has two minutes to boot.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            memory: 512,
            cpus: 1,
            boot_timeout: Duration::from_secs(120),
            modules: BTreeSet::new(),
            programs: BTreeSet::new(),
            files: BTreeMap::new(),
            kernel_arguments: Vec::new(),
            nics: Vec::new(),
        }
    }

    /// Its memory in MiB, which holds all its files twice while it boots.
    #[must_use]
    pub const fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// How many processors it has, each of them a thread here.
    #[must_use]
    pub const fn cpus(mut self, count: u32) -> Self {
        self.cpus = count;
        self
    }

    /// How long it may take until it answers. A machine that has much else to do needs ten times of what it needs else.
    #[must_use]
    pub const fn boot_timeout(mut self, timeout: Duration) -> Self {
        self.boot_timeout = timeout;
        self
    }

    /// Loads these modules of the kernel and what they depend on: `ipip`, `vxlan`.
    #[must_use]
    pub fn modules<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.modules.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Adds programs that are installed here, by name and at the same path, with the libraries they need: `ip`,
    /// `tcpdump`.
    #[must_use]
    pub fn programs<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.programs.extend(names.into_iter().map(str::to_owned));
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, contents: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), contents.into());
        self
    }

    /// Adds an argument to the kernel's command line, such as `fb_tunnels=initns`
    /// (`Documentation/admin-guide/kernel-parameters.txt`).
    #[must_use]
    pub fn kernel_argument(mut self, argument: impl Into<String>) -> Self {
        self.kernel_arguments.push(argument.into());
        self
    }

    /// Adds a network device with this MAC address. The first is `eth0`.
    #[must_use]
    pub fn nic(mut self, mac: MacAddr, plug: Plug) -> Self {
        self.nics.push((mac, plug));
        self
    }
}
