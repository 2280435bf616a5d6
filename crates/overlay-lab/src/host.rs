//! A host: a network namespace held by a file descriptor.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ipnet::IpNet;
use overlay_netlink::{Namespace, Socket};
use overlay_wire::MacAddr;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::enter::{in_user_namespace, unshare_network};
use crate::error::{Error, Result};
use crate::{links, offload, sys, sysctl};

/// What a new host starts with, so that it behaves the same on every machine: a new namespace
/// otherwise inherits some of this from the machine, and waits for duplicate address detection or
/// suppresses ICMP errors, which tests cannot afford.
const DEFAULTS: [(&str, &str); 9] = [
    ("net.ipv4.ip_forward", "0"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.all.accept_ra", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
];

/// A host: a network namespace with a name.
///
/// It lives as long as a clone of it does, or a thread, socket or process that was started in it.
/// Nothing is mounted or written anywhere, so that the end of the program is the end of the host.
///
/// A new host has `lo` up, no other device, forwards nothing, filters nothing by reverse path,
/// accepts no router advertisements, does no duplicate address detection, and sends ICMP errors
/// without a rate limit.
#[derive(Clone, Debug)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    namespace: Namespace,
    /// For what the lab itself does; it was opened inside and stays there.
    socket: Mutex<Socket>,
}

impl Host {
    /// Makes a host. The name is for people: it appears in errors and thread names and need not be
    /// unique.
    ///
    /// # Errors
    ///
    /// [`Error::Enter`] when no namespace can be made, most often because [`enter`](crate::enter)
    /// was not called.
    ///
    /// # Privileges
    ///
    /// `CAP_SYS_ADMIN` and `CAP_NET_ADMIN` in the user namespace, which [`enter`](crate::enter)
    /// gives.
    pub fn new(name: &str) -> Result<Self> {
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name(thread_name(name, "new"))
                .spawn_scoped(scope, || {
                    unshare_network()?;
                    Self::here(name)
                })
                .map_err(|error| Error::io("start a thread for", name, error))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Makes a host of the network namespace that the calling thread is in, which keeps its devices and becomes like a
    /// new host in all else. In a virtual machine, that is the machine.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Netlink`].
    ///
    /// # Privileges
    ///
    /// `CAP_NET_ADMIN` in the namespace.
    pub fn here(name: &str) -> Result<Self> {
        let socket = Mutex::new(links::loopback_up(name)?);
        for (key, value) in DEFAULTS {
            sysctl::write(key, value)?;
        }
        let namespace = Namespace::current()
            .map_err(|error| Error::netlink("open the namespace of", name.to_owned(), error))?;
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), namespace, socket }) })
    }

    /// The name given to [`Host::new`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs a closure inside the host and returns what it returns. Sockets made in it belong to the
    /// host for good.
    ///
    /// The closure runs on a thread of its own, since a thread is in one namespace and this one
    /// stays where it is.
    ///
    /// # Panics
    ///
    /// When the closure panics, with the same payload; when no thread can be started.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.try_run(work).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name(thread_name(self.name(), "run"))
                .spawn_scoped(scope, || self.move_here().map(|()| work()))
                .map_err(|error| Error::io("start a thread in", self.name(), error))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts a thread inside the host that goes on by itself, such as a server.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no thread can be started.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        // A thread starts in the namespace of the thread that starts it.
        let name = thread_name(self.name(), "spawn");
        self.try_run(|| thread::Builder::new().name(name).spawn(work))?
            .map_err(|error| Error::io("start a thread in", self.name(), error))
    }

    fn move_here(&self) -> Result<()> {
        move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| Error::io("move a thread into", self.name(), error))
    }

    /// The host's network namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// Opens a netlink socket inside the host.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`] when the operating system gives none.
    pub fn socket(&self) -> Result<Socket> {
        Socket::open_in(self.namespace())
            .map_err(|error| Error::netlink("open a socket in", self.name().to_owned(), error))
    }

    pub(crate) fn tell<T>(
        &self,
        request: impl FnOnce(&mut Socket) -> Result<T, overlay_netlink::Error>,
    ) -> Result<T, overlay_netlink::Error> {
        request(&mut self.inner.socket.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets a sysctl of the host, for example `net.ipv4.conf.eth0.forwarding` to `1`.
    ///
    /// As with sysctl(8), a key whose first separator is `/` may have dots in its parts.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] for a malformed key, [`Error::Io`] when there is no such sysctl or the kernel
    /// refuses the value.
    pub fn sysctl(&self, key: &str, value: impl ToString) -> Result<()> {
        let value = value.to_string();
        self.try_run(|| sysctl::write(key, &value))?
    }

    /// Reads a sysctl of the host, without the newline at its end.
    ///
    /// # Errors
    ///
    /// As [`Host::sysctl`].
    pub fn sysctl_get(&self, key: &str) -> Result<String> {
        self.try_run(|| sysctl::read(key))?
    }

    /// Makes the host a router of both families, or no longer.
    ///
    /// # Errors
    ///
    /// As [`Host::sysctl`].
    pub fn forwarding(&self, on: bool) -> Result<()> {
        let value = u8::from(on);
        self.sysctl("net.ipv4.ip_forward", value)?;
        self.sysctl("net.ipv6.conf.all.forwarding", value)
    }

    /// The command that gives a person a shell in this host from any other terminal, as the user
    /// who runs the program or as root, for as long as the program runs.
    ///
    /// Without a program after it, nsenter(1) starts `$SHELL`. One program does not run in there:
    /// Debian's tcpdump, as user 0, wants to become a user that the user namespace does not have. A
    /// real root runs it without entering that, as in `nsenter --net=/proc/1234/fd/5 tcpdump -ni
    /// eth0`; everybody else uses [`capture`](crate::capture).
    #[must_use]
    pub fn enter_command(&self) -> String {
        let process = std::process::id();
        let network = format!("--net=/proc/{process}/fd/{}", self.as_fd().as_raw_fd());
        if in_user_namespace() {
            format!("nsenter --target {process} --user --preserve-credentials {network}")
        } else {
            format!("nsenter {network}")
        }
    }

    /// Adds addresses to a device, without duplicate address detection. If the device is up, each
    /// answers when this returns.
    ///
    /// # Errors
    ///
    /// When there is no such device or it has the address already.
    pub fn addresses(&self, device: &str, addresses: &[IpNet]) -> Result<()> {
        addresses.iter().try_for_each(|address| links::add_address(self, device, *address))
    }

    /// Adds a route by a gateway.
    ///
    /// # Errors
    ///
    /// When the gateway is not on a network of the host, or there is such a route already.
    pub fn route(&self, to: IpNet, via: IpAddr) -> Result<()> {
        links::add_route(self, to, via)
    }

    /// Adds default routes, at most one per family.
    ///
    /// # Errors
    ///
    /// As [`Host::route`].
    pub fn default_routes(&self, gateways: &[IpAddr]) -> Result<()> {
        gateways.iter().try_for_each(|gateway| self.route(everything(*gateway), *gateway))
    }

    /// The MAC address of a device, if it has one.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn mac(&self, device: &str) -> Result<Option<MacAddr>> {
        links::mac(self, device)
    }

    /// Sets the MTU of a device, in bytes of IP packet.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the size is outside what it can do.
    pub fn mtu(&self, device: &str, mtu: u32) -> Result<()> {
        links::set_mtu(self, device, mtu)
    }

    /// Sets a device up.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn set_up(&self, device: &str) -> Result<()> {
        links::set_up(self, device, true)
    }

    /// Sets a device down. The kernel forgets its routes, its neighbours and its IPv6 addresses.
    ///
    /// # Errors
    ///
    /// When there is no such device.
    pub fn set_down(&self, device: &str) -> Result<()> {
        links::set_up(self, device, false)
    }

    /// Sets a device down and up again, and waits until it runs.
    ///
    /// # Errors
    ///
    /// When there is no such device, or it does not run within 5 seconds.
    pub fn flap(&self, device: &str) -> Result<()> {
        self.set_down(device)?;
        self.set_up(device)?;
        self.wait_running(device)
    }

    /// Waits until a device carries packets: it is up, and so is the other end.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after 5 seconds.
    pub fn wait_running(&self, device: &str) -> Result<()> {
        links::wait_running(self, device)
    }

    /// Switches an offload feature of a device on or off, by the name ethtool(8) lists, such as
    /// `tx-udp_tnl-segmentation`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there is no such device or feature, or the device cannot change it.
    pub fn feature(&self, device: &str, feature: &str, on: bool) -> Result<()> {
        self.try_run(|| offload::set(device, feature, on))?.map_err(|error| {
            Error::io("switch feature", self.object(&format!("{device} {feature}")), error)
        })
    }

    /// Makes a TUN device, whose packets are read from and written to the file: one IP packet each time, and nothing else.
    /// It is gone when the file is closed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there is a device of that name, or the machine has no `/dev/net/tun`.
    pub fn tun(&self, device: &str) -> Result<File> {
        let tun = self.try_run(|| sys::open_tun(device))?;
        tun.map(File::from).map_err(|error| Error::io("make", self.object(device), error))
    }

    pub(crate) fn object(&self, device: &str) -> String {
        format!("{device} of {}", self.name())
    }
}

impl AsFd for Host {
    /// The host's network namespace.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.namespace.as_fd()
    }
}

fn everything(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

// The kernel keeps 15 bytes, and a NUL in it would make the standard library refuse it.
fn thread_name(host: &str, role: &str) -> String {
    format!("{role} {host}").replace('\0', "")
}
