//! The peers as programs in the kernel are to have them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use overlay_backend::NodeId;
use overlay_ebpf::tunnel::{Remote, Routed};
use overlay_wire::{Encapsulation, IpVersion};
use rustix::event::{EventfdFlags, eventfd};

/// A subnet of a peer, and the peer's end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) subnet: IpNet,
    pub(crate) endpoint: IpAddr,
    /// The largest packet inside that the node is set up for, in bytes.
    pub(crate) mtu: u32,
}

/// All entries, and the programs that have a copy of them.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<NodeId, Vec<Entry>>,
    copy: Option<Arc<Copy>>,
}

/// The entries as programs have them.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) routed: Routed,
    /// Rung when an entry could not be written, so that this is no copy any more.
    wrong: Arc<Bell>,
}

impl Copy {
    pub(crate) const fn new(routed: Routed, wrong: Arc<Bell>) -> Self {
        Self { routed, wrong }
    }

    fn set<'e>(
        &self,
        entries: impl IntoIterator<Item = &'e Entry>,
    ) -> Result<(), overlay_ebpf::Error> {
        let underlay = self.routed.underlay_mtu();
        let remotes: Vec<_> =
            entries.into_iter().map(|entry| (entry.subnet, self.remote(entry, underlay))).collect();
        self.routed.tunnel().set_peers(remotes.iter().map(|(net, to)| (*net, to)))
    }

    fn remote(&self, entry: &Entry, underlay: Option<u32>) -> Remote {
        let outer = IpVersion::of(entry.endpoint);
        let now = underlay.and_then(|mtu| Encapsulation::IpInIp.inner_mtu(mtu, outer));
        let mtu = entry.mtu.min(now.unwrap_or_default());
        self.routed.remote(entry.endpoint, u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    fn check(&self, done: Result<impl Sized, overlay_ebpf::Error>) {
        if done.is_err() {
            self.wrong.ring();
        }
    }
}

impl Table {
    /// A peer has these entries from now on.
    pub(crate) fn set(&self, id: &NodeId, now: Vec<Entry>) {
        let mut state = self.state();
        let before = state.entries.insert(id.clone(), now).unwrap_or_default();
        let now = state.entries.get(id).map(Vec::as_slice).unwrap_or_default();
        if let Some(copy) = &state.copy {
            copy.check(copy.set(now));
        }
        let is_kept = |old: &Entry| now.iter().any(|entry| entry.subnet == old.subnet);
        state.forget(before.iter().filter(|old| !is_kept(old)));
    }

    /// A peer is gone.
    pub(crate) fn remove(&self, id: &NodeId) {
        let mut state = self.state();
        let before = state.entries.remove(id).unwrap_or_default();
        state.forget(&before);
    }

    /// Has these programs hold all entries from now on, in place of any others. If they cannot, nobody does.
    pub(crate) fn copy_to(&self, copy: &Arc<Copy>) -> Result<(), overlay_ebpf::Error> {
        let mut state = self.state();
        state.copy = None;
        copy.set(state.entries.values().flatten())?;
        state.copy = Some(Arc::clone(copy));
        Ok(())
    }

    /// No programs hold the entries any more.
    pub(crate) fn copy_no_more(&self) {
        self.state().copy = None;
    }

    /// Writes all entries once more: the ways to the peers may have changed.
    pub(crate) fn tell_again(&self) {
        let state = self.state();
        if let Some(copy) = &state.copy {
            copy.check(copy.set(state.entries.values().flatten()));
        }
    }

    /// Whatever became of who held it, what is in it is right.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget<'e>(&self, entries: impl IntoIterator<Item = &'e Entry>) {
        let Some(copy) = &self.copy else { return };
        for entry in entries {
            copy.check(copy.routed.tunnel().remove_peer(entry.subnet));
        }
    }
}

/// Rung any number of times, and readable until it is silenced.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn ring(&self) {
        // Where it would overflow, it has been rung.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Returns whether it had been rung.
    pub(crate) fn silence(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
