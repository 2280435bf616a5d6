//! One step of a route: where the packet goes next.

use std::fmt::{self, Write};
use std::net::IpAddr;

use crate::codec::{self, Encoder};
use crate::{DeviceRef, Ifindex};

/// `RTNH_F_ONLINK` in `linux/rtnetlink.h`.
pub(crate) const RTNH_F_ONLINK: u8 = 4;

/// Lightweight tunnel types and attributes (`linux/lwtunnel.h`).
mod lwt {
    pub(super) const ENCAP_IP: u16 = 2;
    pub(super) const ENCAP_IP6: u16 = 4;
    pub(super) const ID: u16 = 1;
    pub(super) const DST: u16 = 2;
    pub(super) const SRC: u16 = 3;
    pub(super) const TTL: u16 = 4;
    pub(super) const TOS: u16 = 5;
}

/// Where a packet goes next: through a device, by way of a gateway, with an encapsulation, or any
/// of these together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Hop<D = Ifindex> {
    /// The router to hand the packet to.
    pub gateway: Option<IpAddr>,
    /// The device to send through; without one the kernel takes the gateway's.
    pub dev: Option<D>,
    /// The gateway is on the device's link even if no prefix says so.
    pub onlink: bool,
    /// What a flow-based tunnel device wraps the packet in.
    pub encap: Option<Box<Encap>>,
}

impl<D: DeviceRef> Hop<D> {
    /// By way of `gateway`.
    #[must_use]
    pub const fn via(gateway: IpAddr) -> Self {
        Self { gateway: Some(gateway), dev: None, onlink: false, encap: None }
    }

    /// Straight through `dev`.
    #[must_use]
    pub const fn dev(dev: D) -> Self {
        Self { gateway: None, dev: Some(dev), onlink: false, encap: None }
    }

    /// By way of `gateway`, which is on the link of `dev` whatever the prefixes say.
    #[must_use]
    pub const fn onlink(gateway: IpAddr, dev: D) -> Self {
        Self { gateway: Some(gateway), dev: Some(dev), onlink: true, encap: None }
    }

    /// The same hop through `dev`.
    #[must_use]
    pub fn through(mut self, dev: D) -> Self {
        self.dev = Some(dev);
        self
    }

    /// The same hop with an encapsulation.
    #[must_use]
    pub fn encap(mut self, encap: Encap) -> Self {
        self.encap = Some(Box::new(encap));
        self
    }

    /// The same hop with its device named another way.
    ///
    /// # Errors
    /// The error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Hop<E>, X> {
        Ok(Hop {
            gateway: self.gateway,
            dev: self.dev.map(f).transpose()?,
            onlink: self.onlink,
            encap: self.encap.clone(),
        })
    }

    /// ` via A dev D onlink`, with `inet6` in front of a gateway of the other family.
    pub(crate) fn words(&self, family_differs: bool) -> String {
        let mut words = String::new();
        if let Some(encap) = &self.encap {
            let _ = write!(words, " {encap}");
        }
        if let Some(gateway) = self.gateway {
            let family = match (family_differs, gateway) {
                (false, _) => "",
                (true, IpAddr::V4(_)) => "inet ",
                (true, IpAddr::V6(_)) => "inet6 ",
            };
            let _ = write!(words, " via {family}{gateway}");
        }
        if let Some(dev) = self.dev {
            let _ = write!(words, " dev {dev}");
        }
        if self.onlink {
            words.push_str(" onlink");
        }
        words
    }
}

/// What is wrong with the weights of several hops, if anything.
pub(crate) fn bad_weight(weights: impl IntoIterator<Item = u16>) -> Option<&'static str> {
    let mut weights = weights.into_iter().peekable();
    if weights.peek().is_none() {
        return Some("there is nothing to choose from");
    }
    weights.any(|weight| !(1..=256).contains(&weight)).then_some("a weight is not from 1 to 256")
}

impl Hop {
    /// What netlink would misunderstand, if anything.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let encap = self.encap.as_ref()?;
        let differs = encap.src.is_some_and(|src| src.is_ipv4() != encap.dst.is_ipv4());
        differs.then_some("the ends of the encapsulation are of different families")
    }

    pub(crate) const fn flags(&self) -> u8 {
        if self.onlink { RTNH_F_ONLINK } else { 0 }
    }
}

/// The encapsulation that a route or nexthop object gives its packets on a flow-based (`external`)
/// tunnel device: iproute2's `encap ip` and `encap ip6` (`linux/lwtunnel.h`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Encap {
    /// The tunnel's key: a VNI for VXLAN.
    pub id: u64,
    /// The far end of the tunnel. Its family is that of the underlay.
    pub dst: IpAddr,
    /// The near end; the kernel chooses when absent.
    pub src: Option<IpAddr>,
    /// TTL or hop limit of the outer header; zero leaves it to the kernel.
    pub ttl: u8,
    /// TOS or traffic class of the outer header.
    pub tos: u8,
}

impl Encap {
    /// A tunnel to `dst` with key `id`.
    #[must_use]
    pub const fn new(id: u64, dst: IpAddr) -> Self {
        Self { id, dst, src: None, ttl: 0, tos: 0 }
    }

    /// Writes the type under attribute `kind_attr` and the rest under `attr`.
    pub(crate) fn encode(&self, message: &mut Encoder<'_>, kind_attr: u16, attr: u16) {
        let kind = if self.dst.is_ipv4() { lwt::ENCAP_IP } else { lwt::ENCAP_IP6 };
        message.attr_u16(kind_attr, kind);
        message.nest(attr, |inner| {
            inner.attr(lwt::ID, &self.id.to_be_bytes());
            inner.attr_ip(lwt::DST, self.dst);
            if let Some(src) = self.src {
                inner.attr_ip(lwt::SRC, src);
            }
            if self.ttl != 0 {
                inner.attr_u8(lwt::TTL, self.ttl);
            }
            if self.tos != 0 {
                inner.attr_u8(lwt::TOS, self.tos);
            }
        });
    }

    /// The encapsulation among `attributes`, its type under `kind_attr` and the rest under `attr`;
    /// `None` for other types than IP and for one without a far end. The kernel puts the type last.
    pub(crate) fn find(attributes: &[u8], kind_attr: u16, attr: u16) -> Option<Box<Self>> {
        let value = |wanted| codec::attributes(attributes).find(|(kind, _)| *kind == wanted);
        let (_, kind) = value(kind_attr)?;
        let (_, encap) = value(attr)?;
        match codec::u16_at(kind, 0)? {
            lwt::ENCAP_IP | lwt::ENCAP_IP6 => Self::decode(encap).map(Box::new),
            _ => None,
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut id, mut dst, mut src, mut ttl, mut tos) = (0, None, None, 0, 0);
        for (kind, value) in codec::attributes(bytes) {
            match kind {
                lwt::ID => id = value.first_chunk().copied().map(u64::from_be_bytes)?,
                lwt::DST => dst = codec::ip(value),
                lwt::SRC => src = codec::ip(value).filter(|ip| !ip.is_unspecified()),
                lwt::TTL => ttl = codec::u8_at(value, 0)?,
                lwt::TOS => tos = codec::u8_at(value, 0)?,
                _ => {}
            }
        }
        Some(Self { id, dst: dst?, src, ttl, tos })
    }
}

impl fmt::Display for Encap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, ttl, tos) =
            if self.dst.is_ipv4() { ("ip", "ttl", "tos") } else { ("ip6", "hoplimit", "tc") };
        write!(f, "encap {kind} id {} dst {}", self.id, self.dst)?;
        if let Some(src) = self.src {
            write!(f, " src {src}")?;
        }
        if self.ttl != 0 {
            write!(f, " {ttl} {}", self.ttl)?;
        }
        if self.tos != 0 {
            write!(f, " {tos} {}", self.tos)?;
        }
        Ok(())
    }
}
