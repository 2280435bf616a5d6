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
    /// The neighbour by way of which packets to its address leave: itself if it is on the link, else a gateway, of either
    /// version. Nobody asks the routing table again, which would take 7 % of the time of a small packet; whoever feeds peers
    /// knows when the route has changed.
    pub next_hop: IpAddr,
    /// Whether packets to it take the fast path. Those that do not go to the reader of the TUN device, for a peer that
    /// receives with a plain socket on the same machine and could not bear unfinished checksums.
    pub fast: bool,
}

impl Remote {
    /// A peer on the link, by the fast path.
    #[must_use]
    pub const fn new(address: IpAddr, mtu: u16) -> Self {
        Self { address, mtu, next_hop: address, fast: true }
    }

    /// By way of a gateway on the link.
    #[must_use]
    pub const fn via(mut self, gateway: IpAddr) -> Self {
        self.next_hop = gateway;
        self
    }

    /// By the fast path, or not.
    #[must_use]
    pub const fn fast(mut self, fast: bool) -> Self {
        self.fast = fast;
        self
    }
}

/// Bytes of a key of IPv4: length of the prefix, address.
pub(super) const KEY_V4: usize = 8;
/// Bytes of a key of IPv6.
pub(super) const KEY_V6: usize = 20;

/// Where the fields of a value are.
pub(super) mod value {
    /// The remote's address; IPv4 in the first 4 bytes.
    pub(in crate::tunnel) const ADDRESS: i16 = 0;
    /// The next hop as `struct bpf_redir_neigh`: its family and address.
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
    let (family, octets) = match &remote.next_hop {
        IpAddr::V4(address) => (libc::AF_INET, &address.octets()[..]),
        IpAddr::V6(address) => (libc::AF_INET6, &address.octets()[..]),
    };
    put(value::NEXT_HOP, &family.cast_unsigned().to_ne_bytes());
    put(value::NEXT_HOP + 4, octets);
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
