//! Neighbours: which MAC address an IP address on a link has (ARP and NDP tables).

use std::fmt;
use std::net::IpAddr;
use std::ops::BitOr;

use overlay_wire::{IpVersion, MacAddr};

use crate::codec::{self, Encoder, rtm};
use crate::object::{KernelObject, Listable, sealed};
use crate::{DeviceRef, Error, Ifindex, Protocol, Verb};

/// Bytes of `struct ndmsg`.
pub(crate) const NDMSG_LEN: usize = 12;

/// Attributes of neighbours and FDB entries (`linux/neighbour.h`).
pub(crate) mod nda {
    pub(crate) const DST: u16 = 1;
    pub(crate) const LLADDR: u16 = 2;
    pub(crate) const VLAN: u16 = 5;
    pub(crate) const PORT: u16 = 6;
    pub(crate) const VNI: u16 = 7;
    pub(crate) const IFINDEX: u16 = 8;
    pub(crate) const SRC_VNI: u16 = 11;
    pub(crate) const PROTOCOL: u16 = 12;
    pub(crate) const NH_ID: u16 = 13;
}

/// How sure the kernel is of a neighbour or FDB entry: a set of `NUD_*` bits
/// (`linux/neighbour.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct NeighbourState(pub u16);

impl NeighbourState {
    /// No state.
    pub const NONE: Self = Self(0);
    /// Being resolved.
    pub const INCOMPLETE: Self = Self(0x01);
    /// Confirmed not long ago.
    pub const REACHABLE: Self = Self(0x02);
    /// To be confirmed when next used.
    pub const STALE: Self = Self(0x04);
    /// About to be probed.
    pub const DELAY: Self = Self(0x08);
    /// Being probed.
    pub const PROBE: Self = Self(0x10);
    /// Could not be resolved.
    pub const FAILED: Self = Self(0x20);
    /// Needs no resolution.
    pub const NOARP: Self = Self(0x40);
    /// Set by an administrator; never ages.
    pub const PERMANENT: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for NeighbourState {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for NeighbourState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::PERMANENT, "permanent"),
            (Self::NOARP, "noarp"),
            (Self::REACHABLE, "reachable"),
            (Self::STALE, "stale"),
            (Self::DELAY, "delay"),
            (Self::PROBE, "probe"),
            (Self::FAILED, "failed"),
            (Self::INCOMPLETE, "incomplete"),
        ];
        match names.iter().find(|(bit, _)| self.contains(*bit)) {
            Some((_, name)) => f.write_str(name),
            None => f.write_str("none"),
        }
    }
}

/// Properties of a neighbour or FDB entry: a set of `NTF_*` bits (`linux/neighbour.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct NeighbourFlags(pub u8);

impl NeighbourFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// FDB: held by the device itself.
    pub const SELF: Self = Self(0x02);
    /// FDB: held by the bridge that the device is a port of.
    pub const MASTER: Self = Self(0x04);
    /// Answer for this address on behalf of another host.
    pub const PROXY: Self = Self(0x08);
    /// Learned by a control plane outside the kernel; never ages.
    pub const EXT_LEARNED: Self = Self(0x10);
    /// FDB: does not move to another port.
    pub const STICKY: Self = Self(0x40);
    /// The neighbour is a router.
    pub const ROUTER: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for NeighbourFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A neighbour: the link-layer address behind an IP address on a device.
///
/// The kernel's key is the device and the address (and whether it is a proxy entry).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Neighbour<D = Ifindex> {
    /// The device.
    pub dev: D,
    /// The IP address.
    pub dst: IpAddr,
    /// The MAC address; `None` for proxy entries, unresolved ones, and devices without Ethernet.
    pub lladdr: Option<MacAddr>,
    /// How sure the kernel is.
    pub state: NeighbourState,
    /// Properties.
    pub flags: NeighbourFlags,
    /// Who made it. Reported since Linux 5.0.
    pub protocol: Protocol,
}

impl<D: DeviceRef> Neighbour<D> {
    /// A permanent neighbour: `dst` on `dev` is at `lladdr`.
    #[must_use]
    pub const fn permanent(dst: IpAddr, lladdr: MacAddr, dev: D) -> Self {
        Self {
            dev,
            dst,
            lladdr: Some(lladdr),
            state: NeighbourState::PERMANENT,
            flags: NeighbourFlags::NONE,
            protocol: Protocol::UNSPEC,
        }
    }

    /// A proxy entry: answer on `dev` for `dst`, which is elsewhere.
    #[must_use]
    pub const fn proxy(dst: IpAddr, dev: D) -> Self {
        Self {
            dev,
            dst,
            lladdr: None,
            state: NeighbourState::NONE,
            flags: NeighbourFlags::PROXY,
            protocol: Protocol::UNSPEC,
        }
    }

    /// The same neighbour, made by `protocol`.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same neighbour with its device named another way.
    ///
    /// # Errors
    /// The error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Neighbour<E>, X> {
        Ok(Neighbour {
            dev: f(self.dev)?,
            dst: self.dst,
            lladdr: self.lladdr,
            state: self.state,
            flags: self.flags,
            protocol: self.protocol,
        })
    }

    /// The `ip neigh` command that does `verb` to it.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        let mut words = vec![format!("ip neigh {}", verb.word())];
        let proxy = self.flags.contains(NeighbourFlags::PROXY);
        if proxy {
            words.push("proxy".to_owned());
        }
        words.push(self.dst.to_string());
        if let Some(lladdr) = self.lladdr.filter(|_| verb != Verb::Delete && !proxy) {
            words.push(format!("lladdr {lladdr}"));
        }
        words.push(format!("dev {}", self.dev));
        if verb != Verb::Delete && !proxy {
            words.push(format!("nud {}", self.state));
            for (flag, word) in
                [(NeighbourFlags::ROUTER, "router"), (NeighbourFlags::EXT_LEARNED, "extern_learn")]
            {
                if self.flags.contains(flag) {
                    words.push(word.to_owned());
                }
            }
        }
        if verb != Verb::Delete && self.protocol != Protocol::UNSPEC {
            words.push(format!("protocol {}", self.protocol));
        }
        words.join(" ")
    }
}

/// Appends `struct ndmsg`.
pub(crate) fn put_ndmsg(message: &mut Encoder<'_>, family: u8, dev: u32, state: u16, flags: u8) {
    let mut header = [0; NDMSG_LEN];
    header[0] = family;
    header[4..8].copy_from_slice(&dev.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    message.put(&header);
}

impl KernelObject for Neighbour {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl sealed::Encode for Neighbour {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        if verb == Verb::Append {
            return Err(Error::Invalid {
                object: self.command(verb),
                reason: "the kernel has no append for neighbours",
            });
        }
        let delete = verb == Verb::Delete;
        let kind = if delete { rtm::DELNEIGH } else { rtm::NEWNEIGH };
        let mut message = Encoder::begin(buffer, kind, verb.flags());
        let family = codec::family_of(IpVersion::of(self.dst));
        put_ndmsg(&mut message, family, self.dev.0, self.state.0, self.flags.0);
        message.attr_ip(nda::DST, self.dst);
        if !delete {
            if let Some(lladdr) = self.lladdr {
                message.attr_mac(nda::LLADDR, lladdr);
            }
            if self.protocol != Protocol::UNSPEC {
                message.attr_u8(nda::PROTOCOL, self.protocol.0);
            }
        }
        message.finish();
        Ok(1)
    }
}

/// Which neighbours to list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NeighbourFilter {
    /// Only of this family.
    pub family: Option<IpVersion>,
    /// Only on this device.
    pub dev: Option<Ifindex>,
}

impl NeighbourFilter {
    /// All neighbours on `dev`, of both families.
    #[must_use]
    pub const fn on(dev: Ifindex) -> Self {
        Self { family: None, dev: Some(dev) }
    }
}

impl Listable for Neighbour {}

impl sealed::Decode for Neighbour {
    type Filter = NeighbourFilter;

    const WHAT: &'static str = "neighbours";
    const NEW: u16 = rtm::NEWNEIGH;

    fn dumps(filter: &NeighbourFilter) -> Vec<sealed::Dump> {
        codec::versions(filter.family)
            .map(|version| {
                let mut header = vec![0; NDMSG_LEN];
                header[0] = codec::family_of(version);
                sealed::Dump {
                    kind: rtm::GETNEIGH,
                    header,
                    attributes: filter.dev.map(|d| (nda::IFINDEX, d.0)).into_iter().collect(),
                    absent_is_empty: false,
                }
            })
            .collect()
    }

    fn decode(body: &[u8]) -> Option<Self> {
        codec::version_of(codec::u8_at(body, 0)?)?;
        let dev = Ifindex(codec::u32_at(body, 4)?);
        let state = NeighbourState(codec::u16_at(body, 8)?);
        let flags = NeighbourFlags(codec::u8_at(body, 10)?);
        let (mut dst, mut lladdr, mut protocol) = (None, None, Protocol::UNSPEC);
        for (kind, value) in codec::attributes(body.get(NDMSG_LEN..)?) {
            match kind {
                nda::DST => dst = codec::ip(value),
                nda::LLADDR => lladdr = codec::mac(value),
                nda::PROTOCOL => protocol = Protocol(codec::u8_at(value, 0)?),
                _ => {}
            }
        }
        Some(Self { dev, dst: dst?, lladdr, state, flags, protocol })
    }

    fn accepts(filter: &NeighbourFilter, neighbour: &Self) -> bool {
        filter.dev.is_none_or(|dev| dev == neighbour.dev)
            && filter.family.is_none_or(|family| family == IpVersion::of(neighbour.dst))
    }
}
