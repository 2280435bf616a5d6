//! The attributes of VXLAN devices: what is filled in, what may change, what conflicts.

use std::net::IpAddr;

use overlay_netlink::{Df, Ifindex, Vxlan};
use overlay_wire::Vni;

use super::refusal::{EEXIST, EINVAL, EOPNOTSUPP, Refusal};

/// What is wrong with a request whatever device it is for. The encoder sends no attributes at all
/// for a device of defaults, and the kernel takes that for a mistake.
pub(super) fn validate(asked: &Vxlan) -> Result<(), Refusal> {
    if *asked == Vxlan::unset() {
        return Err(EINVAL.says("Required attributes not provided to perform the operation"));
    }
    if asked.source_ports.is_some_and(|(low, high)| low > high) {
        return Err(EINVAL.says("Invalid source port range"));
    }
    Ok(())
}

/// The attributes of a new device: what was asked, and the kernel's defaults for the rest.
pub(super) fn with_defaults(asked: &Vxlan) -> Vxlan {
    let mut vxlan = asked.clone();
    vxlan.dev = vxlan.dev.filter(|dev| dev.0 != 0);
    vxlan.local = known(vxlan.local);
    vxlan.group = known(vxlan.group);
    vxlan.id = match vxlan.external {
        true => None,
        false => vxlan.id.or_else(|| Vni::new(0).ok()),
    };
    let port = if vxlan.gpe { 4790 } else { 8472 };
    vxlan.port = Some(vxlan.port.filter(|port| *port != 0).unwrap_or(port));
    vxlan.ageing = Some(vxlan.ageing.filter(|seconds| *seconds != 0).unwrap_or(300));
    vxlan.source_ports.get_or_insert((0, 0));
    vxlan.limit.get_or_insert(0);
    vxlan.ttl.get_or_insert(0);
    vxlan.tos.get_or_insert(0);
    vxlan.label.get_or_insert(0);
    vxlan.df.get_or_insert(Df::Unset);
    for on in [&mut vxlan.learning, &mut vxlan.udp_csum, &mut vxlan.localbypass] {
        on.get_or_insert(true);
    }
    for off in [
        &mut vxlan.proxy,
        &mut vxlan.rsc,
        &mut vxlan.l2miss,
        &mut vxlan.l3miss,
        &mut vxlan.udp6_zero_csum_tx,
        &mut vxlan.udp6_zero_csum_rx,
        &mut vxlan.rem_csum_tx,
        &mut vxlan.rem_csum_rx,
    ] {
        off.get_or_insert(false);
    }
    vxlan
}

/// The attributes after a change in place.
pub(super) fn changed(now: &Vxlan, asked: &Vxlan) -> Result<Vxlan, Refusal> {
    if asked.id.is_some_and(|id| Some(id) != now.id) {
        return Err(EOPNOTSUPP.says("Cannot change VNI"));
    }
    let other_family =
        |address: Option<IpAddr>| address.is_some_and(|a| a.is_ipv6() != is_ipv6(now));
    if other_family(asked.group) || other_family(asked.local) {
        return Err(EOPNOTSUPP.says("New local address family does not match old"));
    }
    // Even the value that it already has is refused.
    let fixed = asked.port.is_some()
        || asked.source_ports.is_some()
        || asked.limit.is_some()
        || asked.udp_csum.is_some()
        || asked.ttl_inherit
        || asked.external
        || asked.vnifilter
        || asked.gbp
        || asked.gpe
        || [
            asked.proxy,
            asked.rsc,
            asked.l2miss,
            asked.l3miss,
            asked.udp6_zero_csum_tx,
            asked.udp6_zero_csum_rx,
            asked.rem_csum_tx,
            asked.rem_csum_rx,
        ]
        .iter()
        .any(Option::is_some);
    if fixed {
        return Err(EOPNOTSUPP.says("Cannot change this attribute"));
    }
    let mut vxlan = now.clone();
    if let Some(group) = asked.group {
        vxlan.group = known(Some(group));
    }
    if let Some(local) = asked.local {
        vxlan.local = known(Some(local));
    }
    if let Some(dev) = asked.dev {
        vxlan.dev = Some(dev).filter(|dev| dev.0 != 0);
    }
    if let Some(ageing) = asked.ageing {
        vxlan.ageing = Some(if ageing == 0 { 300 } else { ageing });
    }
    vxlan.learning = asked.learning.or(now.learning);
    vxlan.ttl = asked.ttl.or(now.ttl);
    vxlan.tos = asked.tos.or(now.tos);
    vxlan.df = asked.df.or(now.df);
    vxlan.label = asked.label.or(now.label);
    vxlan.localbypass = asked.localbypass.or(now.localbypass);
    Ok(vxlan)
}

/// Whether the attributes fit each other. `asked` is as it came, with family and all.
pub(super) fn check(vxlan: &Vxlan) -> Result<(), Refusal> {
    if vxlan.gpe && !vxlan.external {
        return Err(EINVAL.says("VXLAN GPE does not support this combination of attributes"));
    }
    if vxlan.vnifilter && !vxlan.external {
        return Err(EINVAL.says("vxlan vnifilter only valid in collect metadata mode"));
    }
    if let (Some(local), Some(group)) = (vxlan.local, vxlan.group)
        && local.is_ipv4() != group.is_ipv4()
    {
        return Err(EINVAL.says("Local and remote address must be from the same family"));
    }
    if vxlan.local.is_some_and(|local| local.is_multicast()) {
        return Err(EINVAL.says("Local address cannot be multicast"));
    }
    if vxlan.label.is_some_and(|label| label != 0) && !is_ipv6(vxlan) {
        return Err(EINVAL.says("Label attribute only applies to IPv6 VXLAN devices"));
    }
    if vxlan.group.is_some_and(|group| group.is_multicast()) && vxlan.dev.is_none() {
        return Err(EINVAL.says("Local interface required for multicast remote destination"));
    }
    Ok(())
}

/// Whether the outer packets are IPv6.
pub(super) fn is_ipv6(vxlan: &Vxlan) -> bool {
    vxlan.local.or(vxlan.group).is_some_and(|address| address.is_ipv6())
}

/// The bytes that encapsulation adds to an inner packet.
pub(super) fn headroom(vxlan: &Vxlan) -> u32 {
    let ip = if is_ipv6(vxlan) { 40 } else { 20 };
    let ethernet = if vxlan.gpe { 0 } else { 14 };
    ip + 8 + 8 + ethernet
}

/// What the receiver of a UDP port must agree on (`VXLAN_F_RCV_FLAGS`).
fn receives(vxlan: &Vxlan) -> (bool, bool, bool, bool, bool, bool) {
    (
        vxlan.gbp,
        vxlan.gpe,
        vxlan.external,
        vxlan.vnifilter,
        vxlan.udp6_zero_csum_rx == Some(true),
        vxlan.rem_csum_rx == Some(true),
    )
}

/// Whether the two devices would receive the same packets.
pub(super) fn conflicts(one: &Vxlan, other: &Vxlan) -> Result<(), Refusal> {
    let same = one.id == other.id
        && one.port == other.port
        && is_ipv6(one) == is_ipv6(other)
        && receives(one) == receives(other);
    if same {
        return Err(EEXIST.says("A VXLAN device with the specified VNI already exists"));
    }
    Ok(())
}

/// Whether the two devices, both up, can share their UDP port.
pub(super) fn ports_clash(one: &Vxlan, other: &Vxlan) -> bool {
    let families = |vxlan: &Vxlan| {
        let ipv6 = is_ipv6(vxlan);
        (vxlan.external || !ipv6, vxlan.external || ipv6)
    };
    let ((a4, a6), (b4, b6)) = (families(one), families(other));
    one.port == other.port && (a4 && b4 || a6 && b6) && receives(one) != receives(other)
}

/// Whether `vxlan` sends through `dev`.
pub(super) fn is_on(vxlan: &Vxlan, dev: Ifindex) -> bool {
    vxlan.dev == Some(dev)
}

/// The address, unless it is the one that says "any".
fn known(address: Option<IpAddr>) -> Option<IpAddr> {
    address.filter(|address| !address.is_unspecified())
}
