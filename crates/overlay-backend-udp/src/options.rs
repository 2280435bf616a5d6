//! How a forwarder is set up.

use std::num::NonZeroU16;
use std::thread;

use overlay_backend::Owner;
use overlay_netlink::Namespace;

use crate::{Arrival, FastPath, Xdp};

/// The most queues unless set: more threads do not find more packets.
const MAX_QUEUES: u16 = 4;

/// How a [`Forwarder`](crate::Forwarder) is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ForwarderOptions {
    /// The network namespace of device and socket: that of the calling thread unless set.
    pub namespace: Option<Namespace>,
    /// Whose the device is: as the [`Reconciler`](overlay_backend::Reconciler) beside it has it.
    pub owner: Owner,
    /// How many queues the device has, each with a thread for either direction: one on machines with up to two cores, else
    /// half of the cores but at most four, unless set.
    pub queues: Option<NonZeroU16>,
    /// The buffers of each socket.
    pub buffers: Buffers,
    /// Whether programs in the kernel are to carry packets.
    pub fast_path: FastPath,
    /// Whether those take packets out of their datagrams before GRO: no unless set. It pays on network cards.
    pub xdp: Xdp,
    /// On which device packets arrive that those have taken out of their datagrams: on the TUN device unless set.
    pub arrival: Arrival,
}

/// How much a socket may hold, in bytes. A process without privilege in the first user namespace gets no more than
/// `net.core.rmem_max` and `net.core.wmem_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Buffers {
    /// Of what has arrived: 8 MiB unless set.
    pub receive: usize,
    /// Of what is to be sent: 4 MiB unless set.
    pub send: usize,
}

impl ForwarderOptions {
    /// The same with device and socket in this network namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// The same with a device of this owner.
    #[must_use]
    pub const fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// The same with this many queues.
    #[must_use]
    pub const fn queues(mut self, queues: NonZeroU16) -> Self {
        self.queues = Some(queues);
        self
    }

    /// The same with or without programs in the kernel.
    #[must_use]
    pub const fn fast_path(mut self, fast_path: FastPath) -> Self {
        self.fast_path = fast_path;
        self
    }

    /// The same with such programs at work before GRO, or not.
    #[must_use]
    pub const fn xdp(mut self, xdp: Xdp) -> Self {
        self.xdp = xdp;
        self
    }

    /// The same with packets that arrive there when programs have taken them out of their datagrams.
    #[must_use]
    pub const fn arrival(mut self, arrival: Arrival) -> Self {
        self.arrival = arrival;
        self
    }

    /// How many queues there are to be on this machine.
    pub(crate) fn queue_count(&self) -> u16 {
        self.queues.map_or_else(|| queues_for(cores()), NonZeroU16::get)
    }
}

impl Default for ForwarderOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            owner: Owner::default(),
            queues: None,
            buffers: Buffers { receive: 8 << 20, send: 4 << 20 },
            fast_path: FastPath::Auto,
            xdp: Xdp::Off,
            arrival: Arrival::Device,
        }
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn queues_for(cores: usize) -> u16 {
    let half = u16::try_from(cores / 2).unwrap_or(MAX_QUEUES);
    half.clamp(1, MAX_QUEUES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_a_core_for_either_direction() {
        for (cores, queues) in [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, 4)] {
            assert_eq!(queues_for(cores), queues);
        }
    }
}
