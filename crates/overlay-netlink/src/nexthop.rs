//! Nexthop objects: gateways with a number, which many routes can share (Linux 5.3 and later).

use std::fmt;

use overlay_wire::IpVersion;

use crate::codec::{self, Encoder, rtm};
use crate::hop::{self, RTNH_F_ONLINK};
use crate::object::{KernelObject, Listable, sealed};
use crate::{DeviceRef, Encap, Error, Hop, Ifindex, Protocol, Verb};

/// Bytes of `struct nhmsg`.
const NHMSG_LEN: usize = 8;

/// Attributes (`linux/nexthop.h`).
mod nha {
    pub(super) const ID: u16 = 1;
    pub(super) const GROUP: u16 = 2;
    pub(super) const BLACKHOLE: u16 = 4;
    pub(super) const OIF: u16 = 5;
    pub(super) const GATEWAY: u16 = 6;
    pub(super) const ENCAP_TYPE: u16 = 7;
    pub(super) const ENCAP: u16 = 8;
    pub(super) const FDB: u16 = 11;
}

/// The number of a nexthop object in its network namespace. Zero lets the kernel choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NexthopId(pub u32);

impl fmt::Display for NexthopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a nexthop object stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NexthopTarget<D = Ifindex> {
    /// One hop.
    Hop(Hop<D>),
    /// Drop silently.
    Blackhole(IpVersion),
    /// Several other objects, each with its weight from 1 to 256.
    Group(Vec<(NexthopId, u16)>),
}

/// A nexthop object. Routes refer to it by number; to replace it moves all of them at once. The
/// kernel's key is the number alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Nexthop<D = Ifindex> {
    /// Its number.
    pub id: NexthopId,
    /// What it stands for.
    pub target: NexthopTarget<D>,
    /// For FDB entries of a VXLAN device in place of routes.
    pub fdb: bool,
    /// Who made it.
    pub protocol: Protocol,
}

impl<D: DeviceRef> Nexthop<D> {
    /// The object `id` for `hop`.
    #[must_use]
    pub const fn new(id: NexthopId, hop: Hop<D>) -> Self {
        Self { id, target: NexthopTarget::Hop(hop), fdb: false, protocol: Protocol::UNSPEC }
    }

    /// The object `id` that spreads over `members`, each with its weight.
    #[must_use]
    pub const fn group(id: NexthopId, members: Vec<(NexthopId, u16)>) -> Self {
        Self { id, target: NexthopTarget::Group(members), fdb: false, protocol: Protocol::UNSPEC }
    }

    /// The object `id` that drops.
    #[must_use]
    pub const fn blackhole(id: NexthopId, version: IpVersion) -> Self {
        let target = NexthopTarget::Blackhole(version);
        Self { id, target, fdb: false, protocol: Protocol::UNSPEC }
    }

    /// The same object, made by `protocol`.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same object with its device named another way.
    ///
    /// # Errors
    /// The error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Nexthop<E>, X> {
        Ok(Nexthop {
            id: self.id,
            target: match &self.target {
                NexthopTarget::Hop(hop) => NexthopTarget::Hop(hop.try_map_dev(f)?),
                NexthopTarget::Blackhole(version) => NexthopTarget::Blackhole(*version),
                NexthopTarget::Group(members) => NexthopTarget::Group(members.clone()),
            },
            fdb: self.fdb,
            protocol: self.protocol,
        })
    }

    /// The `ip nexthop` command that does `verb` to it.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        if verb == Verb::Delete {
            return format!("ip nexthop del id {}", self.id);
        }
        // `ip` needs the family said where no address shows it.
        let family = match &self.target {
            NexthopTarget::Blackhole(IpVersion::V6) => "-6 ",
            NexthopTarget::Hop(Hop { gateway: None, encap: Some(encap), .. })
                if encap.dst.is_ipv6() =>
            {
                "-6 "
            }
            _ => "",
        };
        // `ip nexthop` has no `change`; its `replace` is the nearest.
        let word = if verb == Verb::Change { "replace" } else { verb.word() };
        let mut command = format!("ip {family}nexthop {word} id {}", self.id);
        match &self.target {
            NexthopTarget::Hop(hop) => command.push_str(&hop.words(false)),
            NexthopTarget::Blackhole(_) => command.push_str(" blackhole"),
            NexthopTarget::Group(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(id, weight)| match weight {
                        1 => id.to_string(),
                        _ => format!("{id},{weight}"),
                    })
                    .collect();
                command.push_str(&format!(" group {}", members.join("/")));
            }
        }
        if self.fdb {
            command.push_str(" fdb");
        }
        if self.protocol != Protocol::UNSPEC {
            command.push_str(&format!(" proto {}", self.protocol));
        }
        command
    }
}

impl KernelObject for Nexthop {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl sealed::Encode for Nexthop {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        let delete = verb == Verb::Delete;
        let invalid = |reason| Err(Error::Invalid { object: self.command(verb), reason });
        if verb == Verb::Append {
            return invalid("the kernel has no append for nexthop objects");
        }
        let reason = match &self.target {
            NexthopTarget::Hop(hop) => hop.contradiction(),
            NexthopTarget::Blackhole(_) => None,
            NexthopTarget::Group(members) => hop::bad_weight(members.iter().map(|(_, w)| *w)),
        };
        if let Some(reason) = reason.filter(|_| !delete) {
            return invalid(reason);
        }
        let family = match &self.target {
            _ if delete => codec::AF_UNSPEC,
            NexthopTarget::Hop(Hop { gateway: Some(gateway), .. }) => {
                codec::family_of(IpVersion::of(*gateway))
            }
            NexthopTarget::Hop(Hop { encap: Some(encap), .. }) if encap.dst.is_ipv6() => {
                codec::AF_INET6
            }
            NexthopTarget::Hop(_) => codec::AF_INET,
            NexthopTarget::Blackhole(version) => codec::family_of(*version),
            NexthopTarget::Group(_) => codec::AF_UNSPEC,
        };
        let flags = match &self.target {
            NexthopTarget::Hop(hop) if !delete => hop.flags(),
            _ => 0,
        };
        let kind = if delete { rtm::DELNEXTHOP } else { rtm::NEWNEXTHOP };
        let mut message = Encoder::begin(buffer, kind, verb.flags());
        let protocol = if delete { 0 } else { self.protocol.0 };
        message.put(&[family, 0, protocol, 0]);
        message.put(&u32::from(flags).to_ne_bytes());
        message.attr_u32(nha::ID, self.id.0);
        if !delete {
            match &self.target {
                NexthopTarget::Hop(hop) => {
                    if let Some(gateway) = hop.gateway {
                        message.attr_ip(nha::GATEWAY, gateway);
                    }
                    if let Some(dev) = hop.dev {
                        message.attr_u32(nha::OIF, dev.0);
                    }
                    if let Some(encap) = &hop.encap {
                        encap.encode(&mut message, nha::ENCAP_TYPE, nha::ENCAP);
                    }
                }
                NexthopTarget::Blackhole(_) => message.attr(nha::BLACKHOLE, &[]),
                NexthopTarget::Group(members) => {
                    let mut value = Vec::with_capacity(members.len() * 8);
                    for (id, weight) in members {
                        value.extend_from_slice(&id.0.to_ne_bytes());
                        // The kernel counts weights from zero.
                        value.extend_from_slice(&[(weight - 1) as u8, 0, 0, 0]);
                    }
                    message.attr(nha::GROUP, &value);
                }
            }
            if self.fdb {
                message.attr(nha::FDB, &[]);
            }
        }
        message.try_finish(|| self.command(verb))?;
        Ok(1)
    }
}

/// Which nexthop objects to list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NexthopFilter {
    /// Only those through this device.
    pub dev: Option<Ifindex>,
    /// Only those made by this protocol. Filtered here: the kernel has no such filter.
    pub protocol: Option<Protocol>,
}

impl NexthopFilter {
    /// All objects made by `protocol`.
    #[must_use]
    pub const fn made_by(protocol: Protocol) -> Self {
        Self { dev: None, protocol: Some(protocol) }
    }
}

impl Listable for Nexthop {}

impl sealed::Decode for Nexthop {
    type Filter = NexthopFilter;

    const WHAT: &'static str = "nexthop objects";
    const NEW: u16 = rtm::NEWNEXTHOP;

    fn dumps(filter: &NexthopFilter) -> Vec<sealed::Dump> {
        vec![sealed::Dump {
            kind: rtm::GETNEXTHOP,
            header: vec![0; NHMSG_LEN],
            attributes: filter.dev.map(|d| (nha::OIF, d.0)).into_iter().collect(),
            absent_is_empty: false,
        }]
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let version = codec::version_of(codec::u8_at(body, 0)?);
        let protocol = Protocol(codec::u8_at(body, 2)?);
        let flags = codec::u32_at(body, 4)?;
        let mut hop = Hop {
            gateway: None,
            dev: None,
            onlink: flags & u32::from(RTNH_F_ONLINK) != 0,
            encap: None,
        };
        let attributes = body.get(NHMSG_LEN..)?;
        hop.encap = Encap::find(attributes, nha::ENCAP_TYPE, nha::ENCAP);
        let (mut id, mut group, mut blackhole, mut fdb) = (None, None, false, false);
        for (kind, value) in codec::attributes(attributes) {
            match kind {
                nha::ID => id = codec::u32_at(value, 0).map(NexthopId),
                nha::GATEWAY => hop.gateway = codec::ip(value),
                nha::OIF => hop.dev = codec::u32_at(value, 0).map(Ifindex),
                nha::BLACKHOLE => blackhole = true,
                nha::FDB => fdb = true,
                nha::GROUP => {
                    let members = value.chunks_exact(8).filter_map(|member| {
                        Some((NexthopId(codec::u32_at(member, 0)?), u16::from(member[4]) + 1))
                    });
                    group = Some(members.collect());
                }
                _ => {}
            }
        }
        let target = match group {
            Some(members) => NexthopTarget::Group(members),
            None if blackhole => NexthopTarget::Blackhole(version?),
            None => NexthopTarget::Hop(hop),
        };
        Some(Self { id: id?, target, fdb, protocol })
    }

    fn accepts(filter: &NexthopFilter, nexthop: &Self) -> bool {
        let dev = match &nexthop.target {
            NexthopTarget::Hop(hop) => hop.dev,
            _ => None,
        };
        filter.dev.is_none_or(|wanted| dev == Some(wanted))
            && filter.protocol.is_none_or(|wanted| nexthop.protocol == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn weights_count_from_one() {
        let group = Nexthop::group(NexthopId(9), vec![(NexthopId(1), 1), (NexthopId(2), 256)]);
        let mut bytes = Vec::new();
        sealed::Encode::encode(&group, Verb::Add, &mut bytes).unwrap();
        assert_eq!(<Nexthop as sealed::Decode>::decode(&bytes[codec::HEADER_LEN..]), Some(group));
    }

    #[test]
    fn a_gateway_of_either_family_sets_the_family() {
        for gateway in ["10.0.0.1", "fd00::1"] {
            let hop = Hop::onlink(gateway.parse::<IpAddr>().unwrap(), Ifindex(3));
            let nexthop = Nexthop::new(NexthopId(1), hop).protocol(Protocol(79));
            let mut bytes = Vec::new();
            sealed::Encode::encode(&nexthop, Verb::Replace, &mut bytes).unwrap();
            let body = &bytes[codec::HEADER_LEN..];
            assert_eq!(body[0], if gateway.contains(':') { 10 } else { 2 });
            assert_eq!(<Nexthop as sealed::Decode>::decode(body), Some(nexthop));
        }
    }
}
