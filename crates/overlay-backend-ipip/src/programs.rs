//! IP in IP by programs in the kernel, where it has no devices for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use overlay_ebpf::attach;
use overlay_ebpf::tunnel::{AttachOptions, Attached, Counters, Format, Routed, TunnelOptions};
use overlay_netlink::{Groups, Monitor, Namespace, Socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::IpIp;
use crate::table::{Bell, Copy};

/// How long until what was missing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long news are collected.
const COLLECT: Duration = Duration::from_millis(100);

/// The programs that carry the packets of an [`IpIp`] set up with
/// [`programs`](crate::IpIpOptions::programs). Dropping it takes them off.
///
/// A thread keeps them attached to both devices, whatever becomes of those, and follows the ways to the peers and the MTU
/// of the underlay device.
#[derive(Debug)]
pub struct Programs {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Whether the programs carry packets at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramsState {
    /// They do.
    Attached,
    /// They cannot, and nobody does.
    Detached {
        /// Why not, in words.
        reason: String,
    },
}

/// Why the programs cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramsError {
    /// They cannot be loaded or attached.
    #[error(
        "IP in IP by programs: {source}{}",
        if .source.is_permission() { PRIVILEGES } else { "" }
    )]
    Tunnel {
        /// The error.
        #[from]
        source: overlay_ebpf::Error,
    },
    /// The kernel does not tell of changes, or its network namespace cannot be entered.
    #[error("IP in IP by programs: {0}")]
    Netlink(#[from] overlay_netlink::Error),
    /// The operating system gives no thread, or nothing to wake it by.
    #[error("IP in IP by programs: {operation}: {source}")]
    Thread {
        /// What was tried.
        operation: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The backend was set up for the kernel's own devices.
    #[error(
        "IP in IP by programs: the backend was not set up for programs (IpIpOptions::programs)"
    )]
    OtherForm,
}

const PRIVILEGES: &str =
    " (CAP_BPF and CAP_NET_ADMIN are needed, as root has them outside of any user namespace)";

impl Programs {
    /// Loads the programs, attaches them in a network namespace, or that of the calling thread, and keeps them there.
    ///
    /// `ipip` is the backend that a [`Network`](overlay_backend::Network) has, or a clone of that: an equal one made by itself
    /// knows no peers. The device is one of its [objects](overlay_backend::Backend::node_objects), which a
    /// [`Reconciler`](overlay_backend::Reconciler) has made by then. A second `Programs` would take the peers from the first.
    ///
    /// # Errors
    /// [`ProgramsError`] when they cannot be attached now. What goes wrong later stands in the [state](Self::state).
    ///
    /// # Privileges
    /// `CAP_BPF` and `CAP_NET_ADMIN`, outside of any user namespace; to enter a namespace `CAP_SYS_ADMIN`, too.
    pub fn start(ipip: &IpIp, namespace: Option<&Namespace>) -> Result<Self, ProgramsError> {
        if !ipip.is_by_programs() {
            return Err(ProgramsError::OtherForm);
        }
        let groups = Groups::ROUTE | Groups::RULE | Groups::LINK;
        let monitor = match namespace {
            Some(namespace) => Monitor::open_in(namespace, groups),
            None => Monitor::open(groups),
        }?;
        let bell = || {
            let failed = |source| ProgramsError::Thread { operation: "make an event", source };
            Bell::new().map(Arc::new).map_err(failed)
        };
        let shared = Arc::new(Shared {
            ipip: ipip.clone(),
            namespace: namespace.cloned(),
            active: Mutex::new(Err(String::new())),
            wrong: bell()?,
            wake: bell()?,
            is_stopped: AtomicBool::new(false),
        });
        let active = shared.attach()?;
        *shared.active() = Ok(active);
        let thread = thread::Builder::new().name("ipip-programs".to_owned());
        let keeper = Arc::clone(&shared);
        let thread = thread.spawn(move || keeper.keep(monitor));
        let thread = thread.map_err(|source| {
            shared.detach(String::new());
            ProgramsError::Thread { operation: "start a thread", source }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Removes what programs of a process that has crashed left on the underlay device, for a node that is carried by the
    /// kernel's devices now. From Linux 6.6 on nothing is left, and [`start`](Self::start) does it by itself.
    ///
    /// # Errors
    /// [`ProgramsError`] when the device is not there, or what is left cannot be removed.
    ///
    /// # Privileges
    /// As [`start`](Self::start).
    pub fn sweep(ipip: &IpIp, namespace: Option<&Namespace>) -> Result<(), ProgramsError> {
        let sweep = || -> Result<(), ProgramsError> {
            let link = Socket::open()?.link(&ipip.parent())?;
            let index = link.index.unwrap_or_default();
            attach::sweep(index, ipip.programs_device().as_ref())?;
            Ok(())
        };
        match namespace {
            Some(namespace) => namespace.run(sweep)?,
            None => sweep(),
        }
    }

    /// Whether they carry packets.
    #[must_use]
    pub fn state(&self) -> ProgramsState {
        match &*self.shared.active() {
            Ok(_) => ProgramsState::Attached,
            Err(reason) => ProgramsState::Detached { reason: reason.clone() },
        }
    }

    /// What they have carried and dropped since they were attached, if they are.
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        self.shared.active().as_ref().ok()?.copy.routed.tunnel().counters().ok()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.wake.ring();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
        self.shared.detach(String::new());
    }
}

#[derive(Debug)]
struct Shared {
    ipip: IpIp,
    namespace: Option<Namespace>,
    /// Or why there are none.
    active: Mutex<Result<Active, String>>,
    /// An entry could not be written.
    wrong: Arc<Bell>,
    /// It is to end.
    wake: Arc<Bell>,
    is_stopped: AtomicBool,
}

#[derive(Debug)]
struct Active {
    /// Taken off before the tables go.
    _attached: Attached,
    copy: Arc<Copy>,
    underlay_mtu: Option<u32>,
}

impl Shared {
    fn attach(&self) -> Result<Active, ProgramsError> {
        let attach = || -> Result<Active, ProgramsError> {
            let ipip = &self.ipip;
            let device = ipip.programs_device();
            let complete = |options: TunnelOptions| {
                let options = options.name(device.as_ref()).format(Format::IpInIp);
                let options = ipip.locals().fold(options, TunnelOptions::local);
                ipip.subnets().iter().fold(options, |options, net| options.subnet(*net))
            };
            let routed = Routed::load(device, ipip.parent(), complete)?;
            let underlay_mtu = routed.underlay_mtu();
            let copy = Arc::new(Copy::new(routed, Arc::clone(&self.wrong)));
            // The table comes first: until then the programs would drop what they know nothing of.
            ipip.table().copy_to(&copy)?;
            let attached = copy.routed.tunnel().attach(AttachOptions::new());
            let attached = attached.inspect_err(|_| ipip.table().copy_no_more())?;
            Ok(Active { _attached: attached, copy, underlay_mtu })
        };
        match &self.namespace {
            Some(namespace) => namespace.run(attach)?,
            None => attach(),
        }
    }

    fn detach(&self, reason: String) {
        self.ipip.table().copy_no_more();
        *self.active() = Err(reason);
    }

    /// Looks whenever there is something to look at, until it is to end.
    fn keep(&self, mut monitor: Monitor) {
        while !self.is_stopped.load(Ordering::Acquire) {
            wait([monitor.as_fd(), self.wrong.as_fd(), self.wake.as_fd()], LOOK_AGAIN);
            // Changes come many at a time.
            wait([self.wake.as_fd()], COLLECT);
            if !self.is_stopped.load(Ordering::Acquire) {
                self.look(&mut monitor);
            }
        }
    }

    /// Has the programs attached to the devices as they are now, with the peers as they are reached now.
    fn look(&self, monitor: &mut Monitor) {
        let is_wrong = self.wrong.silence();
        let news = match &mut *self.active() {
            Ok(active) if !is_wrong && active.copy.routed.holds() => {
                let mtu = active.copy.routed.underlay_mtu();
                let is_other = std::mem::replace(&mut active.underlay_mtu, mtu) != mtu;
                Some(active.copy.routed.routes_changed(monitor) | is_other)
            }
            _ => None,
        };
        match news {
            Some(true) => self.ipip.table().tell_again(),
            Some(false) => {}
            None => {
                while matches!(monitor.try_next(), Ok(Some(_))) {}
                self.detach("being attached".to_owned());
                *self.active() = self.attach().map_err(|error| error.to_string());
            }
        }
    }

    /// Whatever became of who held it, what is in it is right.
    fn active(&self) -> MutexGuard<'_, Result<Active, String>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until there is something to read from one of these, or for a while.
fn wait<const N: usize>(readable: [BorrowedFd<'_>; N], time: Duration) {
    let mut fds = readable.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let time = Timespec::try_from(time).ok();
    let _ = poll(&mut fds, time.as_ref());
}
