//! Attachments: which program sees the packets of which device.
//!
//! An [`Attachment`] takes its program off when it is dropped. With links (TCX from Linux 6.6 on, XDP from 5.9 on) the
//! kernel does so, too, when the process ends in whatever way. A filter on a clsact queueing discipline, for older
//! kernels, survives a process that crashes; [`sweep`] finds it by its name and priority.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use overlay_netlink::{
    BpfFilter, BpfFilterFilter, Clsact, Ifindex, Socket, TrafficFilter, TrafficHook,
};

use crate::error::Error;
use crate::program::Program;
use crate::sys;

/// The priority of our filters, among which kernels run the lowest first: late enough to leave room, and recognisable.
pub const FILTER_PRIORITY: u16 = 0x4f56;

/// What the names of our filters begin with.
const FILTER_PREFIX: &str = "overlay/";

/// A place where packets of a device pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hook {
    /// What the device has received, before the network stack.
    Ingress,
    /// What the device is about to send, before its queueing discipline.
    Egress,
    /// What the driver receives, before there is a socket buffer.
    XdpNative,
    /// The same for drivers that know no XDP, behind them; slower than ingress.
    XdpGeneric,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::XdpNative => "native XDP",
            Self::XdpGeneric => "generic XDP",
        })
    }
}

/// How classifiers get to ingress and egress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// TCX where the kernel has it, clsact otherwise.
    #[default]
    Auto,
    /// A TCX link (Linux 6.6).
    Tcx,
    /// A direct-action filter of a clsact queueing discipline (Linux 4.5).
    Clsact,
}

/// A program at a hook, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it takes the program off again"]
pub struct Attachment {
    hook: Hook,
    device: Ifindex,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Link { _fd: OwnedFd },
    Filter { _filter: Box<Filter> },
}

impl Attachment {
    /// Attaches a program to a device of the calling thread's network namespace.
    ///
    /// `owner` is part of the name of a clsact filter, so that [`sweep`] finds it again.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`] or [`Error::Netlink`] when the kernel refuses: no such device, a kernel or driver that cannot, a
    /// foreign XDP program at the same place.
    ///
    /// # Privileges
    ///
    /// `CAP_NET_ADMIN` in the device's network namespace.
    pub fn new(
        program: &Program,
        hook: Hook,
        device: Ifindex,
        method: Method,
        owner: &str,
    ) -> Result<Self, Error> {
        let held = match (hook, method) {
            (Hook::XdpNative | Hook::XdpGeneric, _) | (_, Method::Tcx) => {
                link(program, hook, device)?
            }
            (_, Method::Clsact) => filter(program, hook, device, owner)?,
            (_, Method::Auto) => match link(program, hook, device) {
                Err(error) if lacks_links(&error) => filter(program, hook, device, owner)?,
                result => result?,
            },
        };
        Ok(Self { hook, device, held })
    }

    /// Where the program is.
    #[must_use]
    pub const fn hook(&self) -> Hook {
        self.hook
    }

    /// On which device.
    #[must_use]
    pub const fn device(&self) -> Ifindex {
        self.device
    }

    /// Whether the kernel takes the program off when this process ends; otherwise [`sweep`] has to.
    #[must_use]
    pub const fn ends_with_process(&self) -> bool {
        matches!(self.held, Held::Link { .. })
    }
}

fn link(program: &Program, hook: Hook, device: Ifindex) -> Result<Held, Error> {
    // `enum bpf_attach_type`, and `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE`.
    let (attach_type, flags) = match hook {
        Hook::Ingress => (46, 0),
        Hook::Egress => (47, 0),
        Hook::XdpNative => (37, 1 << 2),
        Hook::XdpGeneric => (37, 1 << 1),
    };
    sys::link(program.as_fd(), device.0, attach_type, flags)
        .map(|fd| Held::Link { _fd: fd })
        .map_err(|source| Error::Attach {
            program: program.name().to_owned(),
            hook,
            device,
            source,
        })
}

/// A kernel without TCX does not know the attach type.
fn lacks_links(error: &Error) -> bool {
    matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// A filter, and whether the queueing discipline it is in was made for it.
#[derive(Debug)]
struct Filter {
    socket: Socket,
    filter: BpfFilter,
    made_qdisc: bool,
}

fn filter(program: &Program, hook: Hook, device: Ifindex, owner: &str) -> Result<Held, Error> {
    let hook = match hook {
        Hook::Ingress => TrafficHook::Ingress,
        Hook::Egress => TrafficHook::Egress,
        Hook::XdpNative | Hook::XdpGeneric => {
            return Err(Error::Attach {
                program: program.name().to_owned(),
                hook,
                device,
                source: io::ErrorKind::Unsupported.into(),
            });
        }
    };
    let mut socket = Socket::open()?;
    let made_qdisc = match socket.add(&Clsact::new(device)) {
        Ok(()) => true,
        Err(error) if error.is_exists() => false,
        Err(error) => return Err(error.into()),
    };
    let mut filter = BpfFilter::new(device, hook, FILTER_PRIORITY);
    filter.name = filter_name(owner);
    filter.program = Some(program.as_fd().as_raw_fd());
    filter.handle = match free_handle(&mut socket, device, hook) {
        Ok(handle) => handle,
        Err(error) => {
            give_back(&mut socket, device, made_qdisc);
            return Err(error.into());
        }
    };
    match socket.add(&filter) {
        Ok(()) => Ok(Held::Filter { _filter: Box::new(Filter { socket, filter, made_qdisc }) }),
        Err(error) => Err(error.into()),
    }
}

/// A number that no filter of our priority has.
fn free_handle(
    socket: &mut Socket,
    device: Ifindex,
    hook: TrafficHook,
) -> Result<u32, overlay_netlink::Error> {
    let filters = socket.list::<BpfFilter>(&BpfFilterFilter::on(device))?;
    let taken = filters.iter().filter(|f| f.hook == hook && f.priority == FILTER_PRIORITY);
    Ok(taken.map(|f| f.handle).max().unwrap_or(0).saturating_add(1))
}

impl Drop for Filter {
    fn drop(&mut self) {
        // The device may be gone, and the filter with it; there is nobody to tell about anything else.
        let _ = self.socket.delete(&self.filter);
        give_back(&mut self.socket, self.filter.dev, self.made_qdisc);
    }
}

/// Removes the queueing discipline that was made for a filter, unless somebody has hung a filter of whatever kind on it since.
fn give_back(socket: &mut Socket, device: Ifindex, made: bool) {
    let others = |socket: &mut Socket| socket.list::<TrafficFilter>(&BpfFilterFilter::on(device));
    if made && others(socket).is_ok_and(|filters| filters.is_empty()) {
        let _ = socket.delete(&Clsact::new(device));
    }
}

/// Removes the clsact filters that an earlier process left on a device under the same `owner`, and returns how many
/// there were. Filters of others, and the queueing discipline, stay.
///
/// # Errors
///
/// [`Error::Netlink`] when they cannot be listed or removed.
///
/// # Privileges
///
/// `CAP_NET_ADMIN`, if there are any.
pub fn sweep(device: Ifindex, owner: &str) -> Result<usize, Error> {
    let mut socket = Socket::open()?;
    let name = filter_name(owner);
    let mut ours: Vec<BpfFilter> = socket.list(&BpfFilterFilter::on(device))?;
    ours.retain(|filter| filter.priority == FILTER_PRIORITY && filter.name == name);
    for filter in &ours {
        match socket.delete(filter) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(ours.len())
}

fn filter_name(owner: &str) -> String {
    format!("{FILTER_PREFIX}{owner}")
}
