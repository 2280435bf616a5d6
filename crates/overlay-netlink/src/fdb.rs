//! Forwarding database entries: where a bridge or a VXLAN device sends frames for a MAC address.

use std::net::IpAddr;

use overlay_wire::{MacAddr, Vni};

use crate::codec::{self, Encoder, rtm};
use crate::neighbour::{NDMSG_LEN, nda, put_ndmsg};
use crate::object::{KernelObject, Listable, sealed};
use crate::{DeviceRef, Error, Ifindex, NeighbourFlags, NeighbourState, NexthopId, Verb};

/// An entry of a forwarding database.
///
/// On a VXLAN device it says which VTEP has a MAC address; on a bridge, which port. The kernel's key
/// is device, MAC address, VLAN and source VNI; several entries of a VXLAN device with one key are
/// one entry with several remotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Fdb<D = Ifindex> {
    /// The VXLAN device, or the bridge port.
    pub dev: D,
    /// The MAC address; all zero is a VXLAN device's default for addresses it does not know.
    pub lladdr: MacAddr,
    /// VXLAN: the underlay address of the VTEP.
    pub dst: Option<IpAddr>,
    /// VXLAN: the VTEP's UDP port where it is not the device's.
    pub port: Option<u16>,
    /// VXLAN: the VNI to send where it is not the device's.
    pub vni: Option<Vni>,
    /// VXLAN, flow-based devices: the VNI that the entry is for.
    pub src_vni: Option<Vni>,
    /// VXLAN: the underlay device to send through.
    pub via: Option<D>,
    /// VXLAN: a nexthop object of the FDB sort in place of `dst`.
    pub nexthop: Option<NexthopId>,
    /// Bridge: the VLAN.
    pub vlan: Option<u16>,
    /// Permanent, or ageing.
    pub state: NeighbourState,
    /// Held by the device itself or by its bridge, and more.
    pub flags: NeighbourFlags,
}

impl<D: DeviceRef> Fdb<D> {
    /// A permanent entry of the VXLAN device `dev`: `lladdr` is at the VTEP `dst`.
    #[must_use]
    pub fn remote(lladdr: MacAddr, dst: IpAddr, dev: D) -> Self {
        Self { dst: Some(dst), ..Self::local(lladdr, dev) }
    }

    /// A permanent entry held by `dev` itself, with no destination yet.
    #[must_use]
    pub fn local(lladdr: MacAddr, dev: D) -> Self {
        Self {
            dev,
            lladdr,
            dst: None,
            port: None,
            vni: None,
            src_vni: None,
            via: None,
            nexthop: None,
            vlan: None,
            state: NeighbourState::PERMANENT | NeighbourState::NOARP,
            flags: NeighbourFlags::SELF,
        }
    }

    /// The same entry with its devices named another way.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Fdb<E>, X> {
        Ok(Fdb {
            dev: f(self.dev)?,
            lladdr: self.lladdr,
            dst: self.dst,
            port: self.port,
            vni: self.vni,
            src_vni: self.src_vni,
            via: self.via.map(&mut *f).transpose()?,
            nexthop: self.nexthop,
            vlan: self.vlan,
            state: self.state,
            flags: self.flags,
        })
    }

    /// The `bridge fdb` command that does `verb` to it.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        // `bridge` has no `change`; its `replace` is the nearest.
        let word = if verb == Verb::Change { "replace" } else { verb.word() };
        let mut words = vec![format!("bridge fdb {word} {} dev {}", self.lladdr, self.dev)];
        if let Some(dst) = self.dst {
            words.push(format!("dst {dst}"));
        }
        if let Some(id) = self.nexthop {
            words.push(format!("nhid {id}"));
        }
        if let Some(port) = self.port {
            words.push(format!("port {port}"));
        }
        if let Some(vni) = self.vni {
            words.push(format!("vni {vni}"));
        }
        if let Some(vni) = self.src_vni {
            words.push(format!("src_vni {vni}"));
        }
        if let Some(via) = self.via {
            words.push(format!("via {via}"));
        }
        if let Some(vlan) = self.vlan {
            words.push(format!("vlan {vlan}"));
        }
        for (flag, word) in [
            (NeighbourFlags::SELF, "self"),
            (NeighbourFlags::MASTER, "master"),
            (NeighbourFlags::ROUTER, "router"),
            (NeighbourFlags::EXT_LEARNED, "extern_learn"),
            (NeighbourFlags::STICKY, "sticky"),
        ] {
            if self.flags.contains(flag) {
                words.push(word.to_owned());
            }
        }
        if verb != Verb::Delete {
            let word = if self.state.contains(NeighbourState::PERMANENT) {
                "permanent"
            } else if self.state.contains(NeighbourState::NOARP) {
                "static"
            } else {
                "dynamic"
            };
            words.push(word.to_owned());
        }
        words.join(" ")
    }
}

impl KernelObject for Fdb {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl sealed::Encode for Fdb {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        let kind = if verb == Verb::Delete { rtm::DELNEIGH } else { rtm::NEWNEIGH };
        let mut message = Encoder::begin(buffer, kind, verb.flags());
        put_ndmsg(&mut message, codec::AF_BRIDGE, self.dev.0, self.state.0, self.flags.0);
        message.attr_mac(nda::LLADDR, self.lladdr);
        if let Some(dst) = self.dst {
            message.attr_ip(nda::DST, dst);
        }
        if let Some(id) = self.nexthop {
            message.attr_u32(nda::NH_ID, id.0);
        }
        if let Some(port) = self.port {
            message.attr(nda::PORT, &port.to_be_bytes());
        }
        if let Some(vni) = self.vni {
            message.attr_u32(nda::VNI, vni.get());
        }
        if let Some(vni) = self.src_vni {
            message.attr_u32(nda::SRC_VNI, vni.get());
        }
        if let Some(via) = self.via {
            message.attr_u32(nda::IFINDEX, via.0);
        }
        if let Some(vlan) = self.vlan {
            message.attr_u16(nda::VLAN, vlan);
        }
        message.finish();
        Ok(1)
    }
}

/// Which FDB entries to list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FdbFilter {
    /// Only of this device.
    pub dev: Option<Ifindex>,
}

impl FdbFilter {
    /// All entries of `dev`.
    #[must_use]
    pub const fn on(dev: Ifindex) -> Self {
        Self { dev: Some(dev) }
    }
}

impl Listable for Fdb {}

impl sealed::Decode for Fdb {
    type Filter = FdbFilter;

    const WHAT: &'static str = "FDB entries";
    const NEW: u16 = rtm::NEWNEIGH;

    fn dumps(filter: &FdbFilter) -> Vec<sealed::Dump> {
        let mut header = vec![0; NDMSG_LEN];
        header[0] = codec::AF_BRIDGE;
        vec![sealed::Dump {
            kind: rtm::GETNEIGH,
            header,
            attributes: filter.dev.map(|d| (nda::IFINDEX, d.0)).into_iter().collect(),
            absent_is_empty: false,
        }]
    }

    fn decode(body: &[u8]) -> Option<Self> {
        if codec::u8_at(body, 0)? != codec::AF_BRIDGE {
            return None;
        }
        let dev = Ifindex(codec::u32_at(body, 4)?);
        let state = NeighbourState(codec::u16_at(body, 8)?);
        let flags = NeighbourFlags(codec::u8_at(body, 10)?);
        let mut fdb = Self { state, flags, ..Self::local(MacAddr::ZERO, dev) };
        let mut lladdr = None;
        for (kind, value) in codec::attributes(body.get(NDMSG_LEN..)?) {
            match kind {
                nda::LLADDR => lladdr = codec::mac(value),
                nda::DST => fdb.dst = codec::ip(value),
                nda::NH_ID => fdb.nexthop = codec::u32_at(value, 0).map(NexthopId),
                nda::PORT => fdb.port = value.first_chunk().copied().map(u16::from_be_bytes),
                nda::VNI => fdb.vni = codec::u32_at(value, 0).and_then(|v| Vni::new(v).ok()),
                nda::SRC_VNI => {
                    fdb.src_vni = codec::u32_at(value, 0).and_then(|v| Vni::new(v).ok())
                }
                nda::IFINDEX => fdb.via = codec::u32_at(value, 0).map(Ifindex),
                nda::VLAN => fdb.vlan = codec::u16_at(value, 0),
                _ => {}
            }
        }
        Some(Self { lladdr: lladdr?, ..fdb })
    }

    fn accepts(filter: &FdbFilter, fdb: &Self) -> bool {
        filter.dev.is_none_or(|dev| dev == fdb.dev)
    }
}
