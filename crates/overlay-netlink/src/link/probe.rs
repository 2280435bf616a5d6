//! Which kinds of devices the running kernel can make.

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkHeader, LinkInfo};

use super::{LinkKind, put};
use crate::codec::rtm;
use crate::object::{KernelObject, sealed};
use crate::{DeviceRef, Error, Socket, Verb};

impl<D: DeviceRef> LinkKind<D> {
    /// What the kernel has to be built with to make devices of this kind, and the module that it may be in instead:
    /// `("CONFIG_NET_IPIP", "ipip")`. `None` where that is not known.
    #[must_use]
    pub fn kernel_option(&self) -> Option<(&'static str, &'static str)> {
        Some(match self.name() {
            "veth" => ("CONFIG_VETH", "veth"),
            "bridge" => ("CONFIG_BRIDGE", "bridge"),
            "vxlan" => ("CONFIG_VXLAN", "vxlan"),
            "ipip" => ("CONFIG_NET_IPIP", "ipip"),
            "sit" => ("CONFIG_IPV6_SIT", "sit"),
            "ip6tnl" => ("CONFIG_IPV6_TUNNEL", "ip6_tunnel"),
            "gre" | "gretap" => ("CONFIG_NET_IPGRE", "ip_gre"),
            "ip6gre" | "ip6gretap" => ("CONFIG_IPV6_GRE", "ip6_gre"),
            "ifb" => ("CONFIG_IFB", "ifb"),
            "dummy" => ("CONFIG_DUMMY", "dummy"),
            "tun" => ("CONFIG_TUN", "tun"),
            _ => return None,
        })
    }
}

impl Socket {
    /// Asks whether the running kernel can make devices of this kind, by a request for one that no kernel makes: without
    /// a transmit queue. The kernel looks for the kind first, and loads its module if it can; with a tunnel's module
    /// comes the kind's fallback device, such as `tunl0`.
    ///
    /// # Errors
    /// [`Error::MissingKind`] when it cannot, which is [`Error::Kernel`] for a kind whose module is not known here;
    /// [`Error::Kernel`] when it does not say for lack of privilege; [`Error::Invalid`] for [`LinkKind::Device`], which is
    /// no kind.
    ///
    /// # Privileges
    /// `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
    pub fn probe<D: DeviceRef>(&mut self, kind: &LinkKind<D>) -> Result<(), Error> {
        let probe = Probe { kind: kind.name().to_owned() };
        let mut refusal = match self.add(&probe) {
            Err(Error::Kernel(refusal)) => refusal,
            answer => return answer,
        };
        if !refusal.is_permission() && !refusal.is_unknown_kind() {
            return Ok(());
        }
        // What has no name is not read back from the request's bytes.
        refusal.command = probe.command(Verb::Add);
        Err(Error::Kernel(refusal).of_kind(Some(kind)))
    }
}

/// A request for a device that cannot be.
#[derive(Debug)]
struct Probe {
    kind: String,
}

impl KernelObject for Probe {
    fn command(&self, _: Verb) -> String {
        format!("ip link add numtxqueues 0 type {}", self.kind)
    }
}

impl sealed::Encode for Probe {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        if self.kind.is_empty() {
            let reason = "a device of no kind is none that a kernel makes";
            return Err(Error::Invalid { object: self.command(verb), reason });
        }
        let info = vec![LinkInfo::Kind(InfoKind::from(self.kind.as_str()))];
        let attributes = vec![LinkAttribute::NumTxQueues(0), LinkAttribute::LinkInfo(info)];
        put(buffer, rtm::NEWLINK, verb.flags(), LinkHeader::default(), attributes);
        Ok(1)
    }
}
