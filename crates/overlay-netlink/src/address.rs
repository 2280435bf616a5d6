//! Addresses of devices.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_wire::IpVersion;

use crate::codec::{self, Encoder, rtm};
use crate::object::{KernelObject, Listable, sealed};
use crate::{DeviceRef, Error, Ifindex, Protocol, Scope, Verb};

/// Bytes of `struct ifaddrmsg`.
const IFADDRMSG_LEN: usize = 8;

/// Attributes (`linux/if_addr.h`).
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const BROADCAST: u16 = 4;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const PROTO: u16 = 11;

    /// Of IPv6. The same bit of an IPv4 address says that it is not the first one of its subnet.
    pub(super) const F_TEMPORARY: u32 = 0x01;
    pub(super) const F_NODAD: u32 = 0x02;
    pub(super) const F_DEPRECATED: u32 = 0x20;
    pub(super) const F_TENTATIVE: u32 = 0x40;
    pub(super) const F_NOPREFIXROUTE: u32 = 0x200;
}

/// An address of a device. The kernel's key is the device, the address and, for IPv4, the prefix
/// length.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Address<D = Ifindex> {
    /// The device.
    pub dev: D,
    /// The address with the prefix that it makes reachable on the link.
    pub net: IpNet,
    /// The far end of a point-to-point link; `net` then has the far end's prefix length.
    pub peer: Option<IpAddr>,
    /// The broadcast address; the kernel sets none unless told.
    pub broadcast: Option<Ipv4Addr>,
    /// How far the address reaches.
    pub scope: Scope,
    /// IPv6: no duplicate address detection, usable at once.
    pub nodad: bool,
    /// No connected route for the prefix.
    pub noprefixroute: bool,
    /// IPv6: duplicate address detection is still under way. Reported, never sent.
    pub tentative: bool,
    /// IPv6: made by the kernel for privacy, and replaced by another before long (RFC 8981).
    /// Reported, never sent.
    pub temporary: bool,
    /// Its preferred lifetime is over: it is still answered, but not for new connections. Reported,
    /// never sent.
    pub deprecated: bool,
    /// Who made it. Kept since Linux 5.18; older kernels neither take nor report it, and
    /// [`command`](Self::command) leaves it out because iproute2 learned it later still.
    pub protocol: Protocol,
}

impl<D: DeviceRef> Address<D> {
    /// The address `net` on `dev`, of global scope (host scope for loopback addresses).
    #[must_use]
    pub const fn new(net: IpNet, dev: D) -> Self {
        let loopback = match net {
            IpNet::V4(v4) => v4.addr().is_loopback(),
            IpNet::V6(v6) => v6.addr().is_loopback(),
        };
        Self {
            dev,
            net,
            peer: None,
            broadcast: None,
            scope: if loopback { Scope::HOST } else { Scope::UNIVERSE },
            nodad: false,
            noprefixroute: false,
            tentative: false,
            temporary: false,
            deprecated: false,
            protocol: Protocol::UNSPEC,
        }
    }

    /// The same address without duplicate address detection. No effect on IPv4, which has none.
    #[must_use]
    pub const fn nodad(mut self) -> Self {
        self.nodad = matches!(self.net, IpNet::V6(_));
        self
    }

    /// The same address, made by `protocol`.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same address with its device named another way.
    ///
    /// # Errors
    /// The error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Address<E>, X> {
        Ok(Address {
            dev: f(self.dev)?,
            net: self.net,
            peer: self.peer,
            broadcast: self.broadcast,
            scope: self.scope,
            nodad: self.nodad,
            noprefixroute: self.noprefixroute,
            tentative: self.tentative,
            temporary: self.temporary,
            deprecated: self.deprecated,
            protocol: self.protocol,
        })
    }

    /// The `ip addr` command that does `verb` to it.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        let mut words = vec![format!("ip addr {}", verb.word())];
        match self.peer {
            Some(peer) => {
                words.push(format!("{} peer {peer}/{}", self.net.addr(), self.net.prefix_len()))
            }
            None => words.push(self.net.to_string()),
        }
        words.push(format!("dev {}", self.dev));
        if verb != Verb::Delete {
            if let Some(broadcast) = self.broadcast {
                words.push(format!("brd {broadcast}"));
            }
            if self.scope != Self::new(self.net, self.dev).scope {
                words.push(format!("scope {}", self.scope));
            }
            if self.nodad {
                words.push("nodad".to_owned());
            }
            if self.noprefixroute {
                words.push("noprefixroute".to_owned());
            }
        }
        words.join(" ")
    }
}

impl KernelObject for Address {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl sealed::Encode for Address {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        let invalid = |reason| Err(Error::Invalid { object: self.command(verb), reason });
        if verb == Verb::Append {
            return invalid("the kernel has no append for addresses");
        }
        if self.peer.is_some_and(|peer| peer.is_ipv4() != self.net.addr().is_ipv4()) {
            return invalid("the peer is not of the address's family");
        }
        let delete = verb == Verb::Delete;
        let kind = if delete { rtm::DELADDR } else { rtm::NEWADDR };
        let mut message = Encoder::begin(buffer, kind, verb.flags());
        let family = codec::family_of(codec::net_version(&self.net));
        message.put(&[family, self.net.prefix_len(), 0, self.scope.0]);
        message.put(&self.dev.0.to_ne_bytes());
        message.attr_ip(ifa::LOCAL, self.net.addr());
        message.attr_ip(ifa::ADDRESS, self.peer.unwrap_or_else(|| self.net.addr()));
        if !delete {
            if let Some(broadcast) = self.broadcast {
                message.attr_ip(ifa::BROADCAST, broadcast.into());
            }
            let mut flags = 0;
            if self.nodad {
                flags |= ifa::F_NODAD;
            }
            if self.noprefixroute {
                flags |= ifa::F_NOPREFIXROUTE;
            }
            if flags != 0 {
                message.attr_u32(ifa::FLAGS, flags);
            }
            if self.protocol != Protocol::UNSPEC {
                message.attr_u8(ifa::PROTO, self.protocol.0);
            }
        }
        message.finish();
        Ok(1)
    }
}

/// Which addresses to list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AddressFilter {
    /// Only of this family.
    pub family: Option<IpVersion>,
    /// Only of this device.
    pub dev: Option<Ifindex>,
}

impl AddressFilter {
    /// All addresses of `dev`, of both families.
    #[must_use]
    pub const fn on(dev: Ifindex) -> Self {
        Self { family: None, dev: Some(dev) }
    }
}

impl Listable for Address {}

impl sealed::Decode for Address {
    type Filter = AddressFilter;

    const WHAT: &'static str = "addresses";
    const NEW: u16 = rtm::NEWADDR;

    fn dumps(filter: &AddressFilter) -> Vec<sealed::Dump> {
        codec::versions(filter.family)
            .map(|version| {
                let mut header = vec![0; IFADDRMSG_LEN];
                header[0] = codec::family_of(version);
                if let Some(dev) = filter.dev {
                    header[4..8].copy_from_slice(&dev.0.to_ne_bytes());
                }
                sealed::Dump {
                    kind: rtm::GETADDR,
                    header,
                    attributes: Vec::new(),
                    absent_is_empty: false,
                }
            })
            .collect()
    }

    fn decode(body: &[u8]) -> Option<Self> {
        codec::version_of(codec::u8_at(body, 0)?)?;
        let prefix_len = codec::u8_at(body, 1)?;
        let mut flags = u32::from(codec::u8_at(body, 2)?);
        let scope = Scope(codec::u8_at(body, 3)?);
        let dev = Ifindex(codec::u32_at(body, 4)?);
        let (mut local, mut address, mut broadcast, mut protocol) =
            (None, None, None, Protocol::UNSPEC);
        for (kind, value) in codec::attributes(body.get(IFADDRMSG_LEN..)?) {
            match kind {
                ifa::LOCAL => local = codec::ip(value),
                ifa::ADDRESS => address = codec::ip(value),
                ifa::BROADCAST => {
                    broadcast = match codec::ip(value) {
                        Some(IpAddr::V4(v4)) => Some(v4),
                        _ => None,
                    }
                }
                ifa::FLAGS => flags = codec::u32_at(value, 0)?,
                ifa::PROTO => protocol = Protocol(codec::u8_at(value, 0)?),
                _ => {}
            }
        }
        // IPv6 reports the local end apart only on point-to-point links.
        let own = local.or(address)?;
        Some(Self {
            dev,
            net: IpNet::new(own, prefix_len).ok()?,
            peer: address.filter(|far| *far != own),
            broadcast,
            scope,
            nodad: own.is_ipv6() && flags & ifa::F_NODAD != 0,
            noprefixroute: flags & ifa::F_NOPREFIXROUTE != 0,
            tentative: flags & ifa::F_TENTATIVE != 0,
            temporary: own.is_ipv6() && flags & ifa::F_TEMPORARY != 0,
            deprecated: flags & ifa::F_DEPRECATED != 0,
            protocol,
        })
    }

    fn accepts(filter: &AddressFilter, address: &Self) -> bool {
        filter.dev.is_none_or(|dev| dev == address.dev)
            && filter.family.is_none_or(|family| family == codec::net_version(&address.net))
    }
}

#[cfg(test)]
mod tests {
    use super::sealed::Decode;
    use super::*;

    fn decoded(address: IpAddr, header_flags: u8, flags: Option<u32>) -> Address {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let family = codec::family_of(IpVersion::of(address));
        let mut body = vec![family, 24, header_flags, 0];
        body.extend(7_u32.to_ne_bytes());
        let value = flags.map(u32::to_ne_bytes).map(|value| (ifa::FLAGS, value.to_vec()));
        for (kind, value) in [(ifa::ADDRESS, octets)].into_iter().chain(value) {
            body.extend((value.len() as u16 + 4).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
        }
        Address::decode(&body).unwrap()
    }

    #[test]
    fn addresses_that_pass_are_known() {
        let v6 = "fd00::1".parse().unwrap();
        let found = decoded(v6, 0, Some(0x01));
        assert!(found.temporary && !found.deprecated && !found.tentative);
        let found = decoded(v6, 0, Some(0x121));
        assert!(found.temporary && found.deprecated);
        // The attribute has the whole of what the header has the lowest byte of.
        assert!(decoded(v6, 0x20, None).deprecated);
        assert!(!decoded(v6, 0x20, Some(0)).deprecated);
    }

    #[test]
    fn a_second_ipv4_address_is_not_temporary() {
        let found = decoded("192.0.2.1".parse().unwrap(), 0, Some(0x01 | 0x20));
        assert!(!found.temporary && found.deprecated);
    }
}
