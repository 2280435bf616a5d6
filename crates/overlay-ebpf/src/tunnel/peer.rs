//! Peers as entries of a map: the one definition of how they stand there.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A peer, as seen from the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Remote {
    /// Its address in the underlay: where packets are sent to, and the only one it may send from.
    pub address: IpAddr,
    /// The largest inner packet it is sent, in bytes.
    pub mtu: u16,
    /// How packets to its address leave.
    pub next_hop: NextHop,
    /// Whether packets to it take the fast path. Those that do not go to the reader of the TUN device, for a peer that
    /// receives with a plain socket on the same machine and could not bear unfinished checksums.
    pub fast: bool,
}

impl Remote {
    /// A peer at `address` by the fast path, by way of the routing table.
    #[must_use]
    pub const fn new(address: IpAddr, mtu: u16) -> Self {
        Self { address, mtu, next_hop: NextHop::Routed, fast: true }
    }

    /// With another next hop.
    #[must_use]
    pub const fn next_hop(mut self, next_hop: NextHop) -> Self {
        self.next_hop = next_hop;
        self
    }

    /// By the fast path, or not.
    #[must_use]
    pub const fn fast(mut self, fast: bool) -> Self {
        self.fast = fast;
        self
    }
}

/// How outer packets leave the underlay device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NextHop {
    /// As the routing table says, asked for each packet.
    #[default]
    Routed,
    /// The peer is on the link.
    OnLink,
    /// By this gateway on the link, of either version.
    Via(IpAddr),
}

/// Bytes of a key of IPv4: length of the prefix, address.
pub(super) const KEY_V4: usize = 8;
/// Bytes of a key of IPv6.
pub(super) const KEY_V6: usize = 20;

/// Where the fields of a value are.
pub(super) mod value {
    /// The remote's address; IPv4 in the first 4 bytes.
    pub(in crate::tunnel) const ADDRESS: i16 = 0;
    /// The next hop as `struct bpf_redir_neigh`: its family, 0 if routed, and address.
    pub(in crate::tunnel) const NEXT_HOP: i16 = 16;
    /// 2 bytes.
    pub(in crate::tunnel) const MTU: i16 = 36;
    /// 2 bytes.
    pub(in crate::tunnel) const FLAGS: i16 = 38;
    pub(in crate::tunnel) const LEN: usize = 40;
}

/// The remote's address is IPv6.
pub(super) const FLAG_V6: u16 = 1;
/// Packets to it go to user space.
pub(super) const FLAG_USER_SPACE: u16 = 2;

pub(super) fn key_v4(net: Ipv4Net) -> [u8; KEY_V4] {
    let mut key = [0; KEY_V4];
    let (length, address) = key.split_at_mut(4);
    length.copy_from_slice(&u32::from(net.prefix_len()).to_ne_bytes());
    address.copy_from_slice(&net.network().octets());
    key
}

pub(super) fn key_v6(net: Ipv6Net) -> [u8; KEY_V6] {
    let mut key = [0; KEY_V6];
    let (length, address) = key.split_at_mut(4);
    length.copy_from_slice(&u32::from(net.prefix_len()).to_ne_bytes());
    address.copy_from_slice(&net.network().octets());
    key
}

pub(super) fn encode(remote: &Remote) -> [u8; value::LEN] {
    let mut bytes = [0; value::LEN];
    let mut put = |at: i16, field: &[u8]| {
        for (to, from) in bytes.iter_mut().skip(at as usize).zip(field) {
            *to = *from;
        }
    };
    let mut flags = if remote.fast { 0 } else { FLAG_USER_SPACE };
    match remote.address {
        IpAddr::V4(address) => put(value::ADDRESS, &address.octets()),
        IpAddr::V6(address) => {
            flags |= FLAG_V6;
            put(value::ADDRESS, &address.octets());
        }
    }
    let next_hop = match remote.next_hop {
        NextHop::Routed => None,
        NextHop::OnLink => Some(remote.address),
        NextHop::Via(gateway) => Some(gateway),
    };
    match next_hop {
        None => {}
        Some(IpAddr::V4(address)) => {
            put(value::NEXT_HOP, &(libc::AF_INET as u32).to_ne_bytes());
            put(value::NEXT_HOP + 4, &address.octets());
        }
        Some(IpAddr::V6(address)) => {
            put(value::NEXT_HOP, &(libc::AF_INET6 as u32).to_ne_bytes());
            put(value::NEXT_HOP + 4, &address.octets());
        }
    }
    put(value::MTU, &remote.mtu.to_ne_bytes());
    put(value::FLAGS, &flags.to_ne_bytes());
    bytes
}

/// Keys of both versions with what belongs to them.
pub(super) type Entries<const K: usize> = Vec<([u8; K], [u8; value::LEN])>;

/// Entries for the map of each version.
pub(super) fn entries<'a>(
    peers: impl IntoIterator<Item = (IpNet, &'a Remote)>,
) -> (Entries<KEY_V4>, Entries<KEY_V6>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (prefix, remote) in peers {
        match prefix {
            IpNet::V4(net) => v4.push((key_v4(net), encode(remote))),
            IpNet::V6(net) => v6.push((key_v6(net), encode(remote))),
        }
    }
    (v4, v6)
}
