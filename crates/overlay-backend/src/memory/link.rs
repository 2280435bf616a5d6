//! Devices, and what a change of one does to all that hangs on it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use overlay_netlink::{
    Address, Bridge, Hop, IfName, Ifindex, Link, LinkKind, NeighbourState, NexthopTarget, Protocol,
    Route, Scope, Verb, VethPeer, Via,
};
use overlay_wire::MacAddr;

use super::refusal::{
    EADDRINUSE, EADDRNOTAVAIL, EEXIST, EINVAL, ELOOP, ENODEV, EOPNOTSUPP, Refusal,
};
use super::route::shares_load;
use super::state::{Device, LOOPBACK, State};
use super::vxlan;

/// What a new device gets unless told otherwise (`GSO_LEGACY_MAX_SIZE`).
const GSO_MAX_SIZE: u32 = 65_536;
/// The most that a software device takes (`TSO_MAX_SIZE`).
const GSO_LIMIT: u32 = 524_280;
/// `IPV6_MIN_MTU`.
const IPV6_MIN_MTU: u32 = 1280;
/// `ETH_MIN_MTU` and `ETH_MAX_MTU`.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65_535;
/// `IFAPROT_KERNEL_LO` and `IFAPROT_KERNEL_LL`: addresses that the kernel gives itself.
const KERNEL_LOOPBACK: Protocol = Protocol(1);
const KERNEL_LINK_LOCAL: Protocol = Protocol(3);

impl State {
    /// The loopback device as it is when it has been set up.
    pub(super) fn add_loopback(&mut self) {
        let Ok(name) = IfName::new("lo") else { return };
        let mut link = Link::new(name, LinkKind::Device).mtu(65_536).address(MacAddr::ZERO).up();
        link.carrier = Some(true);
        self.register(link, true);
        for (text, protocol) in [("127.0.0.1/8", Protocol::UNSPEC), ("::1/128", KERNEL_LOOPBACK)] {
            let Ok(net) = text.parse() else { continue };
            self.hold(Address::new(net, LOOPBACK).protocol(protocol), false);
        }
    }

    pub(super) fn link(&mut self, verb: Verb, asked: &Link) -> Result<(), Refusal> {
        let found = match asked.index.filter(|index| index.0 != 0) {
            Some(index) => Some(index).filter(|index| self.devices.contains_key(index)),
            None => self.names.get(&asked.name).copied(),
        };
        match verb {
            Verb::Add => {
                self.validate(asked)?;
                if found.is_some() {
                    return Err(EEXIST);
                }
                self.create(asked)?;
                // The alias is a second message, sent once the first has succeeded.
                if let (Some(alias), Some(index)) = (&asked.alias, self.names.get(&asked.name))
                    && let Some(device) = self.devices.get_mut(index)
                {
                    device.link.alias = Some(alias.clone()).filter(|alias| !alias.is_empty());
                }
                Ok(())
            }
            Verb::Delete => {
                let index = found.ok_or(ENODEV)?;
                if matches!(self.device(index)?.link.kind, LinkKind::Device) {
                    return Err(EOPNOTSUPP);
                }
                self.delete_link(index);
                Ok(())
            }
            _ => {
                if !matches!(asked.kind, LinkKind::Device | LinkKind::Tun) {
                    self.validate(asked)?;
                }
                let index = found.ok_or(ENODEV)?;
                self.change_kind(index, asked)?;
                self.change_link(index, asked)
            }
        }
    }

    /// What is checked before the device is looked for.
    fn validate(&self, asked: &Link) -> Result<(), Refusal> {
        if self.absent_kinds.contains(asked.kind.name()) {
            return Ok(());
        }
        if let LinkKind::Vxlan(vxlan) = &asked.kind {
            check_mac(asked.address)?;
            if asked.mtu.is_some_and(|mtu| !MTU_RANGE.contains(&mtu)) {
                return Err(EINVAL.says("MTU must be between 68 and 65535"));
            }
            vxlan::validate(vxlan)?;
        } else if !matches!(asked.kind, LinkKind::Device | LinkKind::Other(_)) {
            check_mac(asked.address)?;
        }
        Ok(())
    }

    fn create(&mut self, asked: &Link) -> Result<(), Refusal> {
        let kind = asked.kind.name();
        if self.absent_kinds.contains(kind) || matches!(asked.kind, LinkKind::Other(_)) {
            return Err(EOPNOTSUPP.says("Unknown device type"));
        }
        if asked.mtu.is_some_and(|mtu| !MTU_RANGE.contains(&mtu)) {
            return Err(EINVAL);
        }
        if self.names.contains_key(&asked.name) {
            return Err(EEXIST);
        }
        let mut link = Link::new(asked.name, asked.kind.clone());
        link.index = asked.index;
        link.mtu = Some(asked.mtu.unwrap_or(1500));
        link.address = asked.address;
        link.gso_max_size = asked.gso_max_size;
        link.arp = asked.arp;
        let mut peer = None;
        match &asked.kind {
            LinkKind::Vxlan(asked_vxlan) => {
                let vxlan = vxlan::with_defaults(asked_vxlan);
                vxlan::check(&vxlan)?;
                let limit = self.vxlan_limit(&vxlan)?;
                self.check_vni(&vxlan, None)?;
                link.mtu = Some(match (asked.mtu, vxlan.dev) {
                    (None, Some(_)) => limit,
                    (None, None) => 1500,
                    (Some(mtu), _) => mtu.min(limit),
                });
                link.kind = LinkKind::Vxlan(Box::new(vxlan));
            }
            LinkKind::Veth(other) => {
                let name = match other {
                    Some(other) => other.name,
                    None => self.unused_name("veth")?,
                };
                let other = other.as_deref().cloned().unwrap_or_else(|| VethPeer::new(name));
                check_mac(other.address)?;
                if other.mtu.is_some_and(|mtu| !MTU_RANGE.contains(&mtu)) {
                    return Err(EINVAL);
                }
                if self.names.contains_key(&other.name) || other.name == asked.name {
                    return Err(EEXIST);
                }
                link.kind = LinkKind::Veth(None);
                peer = Some(other);
            }
            LinkKind::Bridge(bridge) => link.kind = LinkKind::Bridge(bridge_defaults(bridge)),
            LinkKind::Ipip(tunnel) | LinkKind::Sit(tunnel) | LinkKind::Ip6tnl(tunnel) => {
                self.check_tunnel(kind, tunnel)?;
                let overhead = if kind == "ip6tnl" { 48 } else { 20 };
                let under = tunnel.dev.and_then(|dev| self.devices.get(&dev)).map(Device::mtu);
                link.mtu =
                    asked.mtu.or_else(|| Some(under.unwrap_or(1500).saturating_sub(overhead)));
            }
            _ => {}
        }
        let peer = peer.map(|peer| self.create_peer(&peer));
        let index = self.register(link, asked.address.is_some());
        self.device_mut(index)?.mtu_chosen = asked.mtu.is_some();
        if let Some(peer) = peer {
            self.device_mut(index)?.link.peer = Some(peer);
            if let Ok(device) = self.device_mut(peer) {
                device.link.peer = Some(index);
            }
        }
        if asked.namespace.is_some() {
            self.forget_link(index);
            return Ok(());
        }
        let configured = match asked.up {
            Some(true) => self.set_link_up(index),
            _ => Ok(()),
        }
        .and_then(|()| match asked.master {
            Some(master) => self.set_master(index, master),
            None => Ok(()),
        });
        if configured.is_err() {
            self.delete_link(index);
        }
        configured
    }

    /// The other end of a cable.
    fn create_peer(&mut self, peer: &VethPeer) -> Ifindex {
        let mut link = Link::new(peer.name, LinkKind::Veth(None)).mtu(peer.mtu.unwrap_or(1500));
        link.address = peer.address;
        let index = self.register(link, peer.address.is_some());
        if peer.namespace.is_some() {
            self.forget_link(index);
        }
        index
    }

    /// Gives a new device its number and what else it lacks. It is down.
    fn register(&mut self, mut link: Link, mac_chosen: bool) -> Ifindex {
        let index = link.index.unwrap_or_else(|| {
            while self.devices.contains_key(&Ifindex(self.next_index)) {
                self.next_index += 1;
            }
            let index = Ifindex(self.next_index);
            self.next_index += 1;
            index
        });
        link.index = Some(index);
        link.address = match &link.kind {
            LinkKind::Vxlan(vxlan) if vxlan.gpe => None,
            LinkKind::Ipip(_) | LinkKind::Sit(_) | LinkKind::Ip6tnl(_) => None,
            _ => Some(link.address.unwrap_or_else(|| self.generate_mac())),
        };
        link.gso_max_size.get_or_insert(GSO_MAX_SIZE);
        link.up.get_or_insert(false);
        let resolves = match &link.kind {
            LinkKind::Vxlan(vxlan) => !vxlan.gpe,
            LinkKind::Ipip(_) | LinkKind::Sit(_) | LinkKind::Ip6tnl(_) => false,
            LinkKind::Dummy | LinkKind::Ifb | LinkKind::Tun => false,
            _ => true,
        };
        link.arp.get_or_insert(resolves);
        link.carrier.get_or_insert(false);
        self.names.insert(link.name, index);
        let has_ipv6 = link.mtu.unwrap_or_default() >= IPV6_MIN_MTU;
        let device =
            Device { link, mac_chosen, mtu_chosen: false, has_ipv6, addresses: Vec::new() };
        if let LinkKind::Vxlan(vxlan) = &device.link.kind {
            self.set_default_remote(index, None, Some(vxlan));
        }
        self.devices.insert(index, device);
        index
    }

    fn unused_name(&self, prefix: &str) -> Result<IfName, Refusal> {
        (0..)
            .map_while(|n| IfName::new(&format!("{prefix}{n}")).ok())
            .find(|name| !self.names.contains_key(name))
            .ok_or(EINVAL)
    }

    /// The largest inner packet.
    fn vxlan_limit(&self, vxlan: &overlay_netlink::Vxlan) -> Result<u32, Refusal> {
        Ok(match vxlan.dev {
            Some(dev) => {
                let under = self
                    .device(dev)
                    .map_err(|e| e.says("Invalid local interface, device not found"))?;
                under.mtu().saturating_sub(vxlan::headroom(vxlan)).max(68)
            }
            None => 65_535,
        })
    }

    fn check_vni(
        &self,
        vxlan: &overlay_netlink::Vxlan,
        except: Option<Ifindex>,
    ) -> Result<(), Refusal> {
        self.vxlans()
            .filter(|(index, ..)| Some(*index) != except)
            .try_for_each(|(_, _, other)| vxlan::conflicts(vxlan, other))
    }

    fn vxlans(&self) -> impl Iterator<Item = (Ifindex, &Device, &overlay_netlink::Vxlan)> {
        self.devices.iter().filter_map(|(index, device)| match &device.link.kind {
            LinkKind::Vxlan(vxlan) => Some((*index, device, &**vxlan)),
            _ => None,
        })
    }

    /// Two tunnels of one kind between the same ends are one too many.
    fn check_tunnel(&self, kind: &str, asked: &overlay_netlink::Tunnel) -> Result<(), Refusal> {
        let ends = |tunnel: &overlay_netlink::Tunnel| (tunnel.local, tunnel.remote, tunnel.dev);
        if asked.dev.is_some_and(|dev| !self.devices.contains_key(&dev)) {
            return Err(ENODEV);
        }
        let taken = self.devices.values().any(|device| match &device.link.kind {
            LinkKind::Ipip(other) | LinkKind::Sit(other) | LinkKind::Ip6tnl(other) => {
                device.link.kind.name() == kind && ends(other) == ends(asked)
            }
            _ => false,
        });
        if taken { Err(EEXIST) } else { Ok(()) }
    }

    /// Changes attributes of the kind.
    fn change_kind(&mut self, index: Ifindex, asked: &Link) -> Result<(), Refusal> {
        let now = self.device(index)?.link.kind.clone();
        match (&now, &asked.kind) {
            (LinkKind::Vxlan(now), LinkKind::Vxlan(asked_vxlan)) => {
                if asked.mtu.is_some() {
                    return Err(EOPNOTSUPP.says("Cannot change mtu"));
                }
                let vxlan = vxlan::changed(now, asked_vxlan)?;
                vxlan::check(&vxlan)?;
                let limit = self.vxlan_limit(&vxlan)?;
                self.check_vni(&vxlan, Some(index))?;
                if vxlan.group != now.group {
                    self.set_default_remote(index, Some(now), Some(&vxlan));
                }
                let moved = vxlan.dev != now.dev;
                let device = self.device_mut(index)?;
                device.link.kind = LinkKind::Vxlan(Box::new(vxlan));
                if moved {
                    device.link.mtu = Some(device.mtu().min(limit));
                }
                Ok(())
            }
            (LinkKind::Bridge(now), LinkKind::Bridge(asked)) => {
                let bridge = overlay(now, asked);
                self.device_mut(index)?.link.kind = LinkKind::Bridge(bridge);
                Ok(())
            }
            (_, LinkKind::Device | LinkKind::Tun | LinkKind::Veth(None) | LinkKind::Other(_))
            | (_, LinkKind::Ifb | LinkKind::Dummy) => Ok(()),
            (_, LinkKind::Bridge(asked)) if *asked == Bridge::default() => Ok(()),
            (LinkKind::Ipip(_), LinkKind::Ipip(_))
            | (LinkKind::Sit(_), LinkKind::Sit(_))
            | (LinkKind::Ip6tnl(_), LinkKind::Ip6tnl(_))
            | (LinkKind::Gre(_), LinkKind::Gre(_)) => {
                self.device_mut(index)?.link.kind = asked.kind.clone();
                Ok(())
            }
            _ => Err(EOPNOTSUPP),
        }
    }

    /// Changes what all devices have, in the kernel's order; what came before a refusal stays.
    fn change_link(&mut self, index: Ifindex, asked: &Link) -> Result<(), Refusal> {
        if asked.namespace.is_some() {
            self.forget_link(index);
            return Ok(());
        }
        if let Some(mac) = asked.address {
            self.set_mac(index, mac, true)?;
        }
        if let Some(mtu) = asked.mtu {
            self.set_mtu(index, mtu)?;
            self.device_mut(index)?.mtu_chosen = true;
        }
        if asked.index.is_some_and(|index| index.0 != 0) {
            self.rename(index, asked.name)?;
        }
        if let Some(alias) = &asked.alias {
            self.device_mut(index)?.link.alias =
                Some(alias.clone()).filter(|alias| !alias.is_empty());
        }
        if let Some(arp) = asked.arp {
            self.device_mut(index)?.link.arp = Some(arp);
        }
        match asked.up {
            Some(true) => self.set_link_up(index)?,
            Some(false) => self.set_link_down(index),
            None => {}
        }
        if let Some(master) = asked.master {
            self.set_master(index, master)?;
        }
        if let Some(size) = asked.gso_max_size {
            if size > GSO_LIMIT {
                return Err(EINVAL.says("too big gso_max_size"));
            }
            self.device_mut(index)?.link.gso_max_size = Some(size);
        }
        Ok(())
    }

    fn set_mac(&mut self, index: Ifindex, mac: MacAddr, chosen: bool) -> Result<(), Refusal> {
        let device = self.device_mut(index)?;
        if device.link.address.is_none() || index == LOOPBACK {
            return Err(EOPNOTSUPP);
        }
        if !mac.is_unicast() && chosen {
            return Err(EADDRNOTAVAIL);
        }
        device.link.address = Some(mac);
        device.mac_chosen |= chosen;
        let master = device.link.master;
        // Even an address that is the same, even permanent neighbours.
        self.neighbours.retain(|(dev, proxy, _), _| *dev != index || *proxy);
        if let Some(master) = master {
            self.follow_ports(master);
        }
        Ok(())
    }

    fn set_mtu(&mut self, index: Ifindex, mtu: u32) -> Result<(), Refusal> {
        let device = self.device(index)?;
        if device.mtu() == mtu {
            return Ok(());
        }
        if !MTU_RANGE.contains(&mtu) && index != LOOPBACK {
            return Err(EINVAL);
        }
        if let LinkKind::Vxlan(vxlan) = &device.link.kind
            && mtu > self.vxlan_limit(vxlan).unwrap_or(65_535)
        {
            return Err(EINVAL);
        }
        let (had_ipv6, old) = (device.has_ipv6, device.mtu());
        let device = self.device_mut(index)?;
        device.link.mtu = Some(mtu);
        device.has_ipv6 = mtu >= IPV6_MIN_MTU;
        let (has_ipv6, master) = (device.has_ipv6, device.link.master);
        if had_ipv6 && !has_ipv6 {
            self.wipe_ipv6(index);
        } else if has_ipv6 && !had_ipv6 {
            self.give_link_local(index);
        } else {
            self.change_ipv6_mtus(index, old, mtu);
        }
        if let Some(master) = master {
            self.follow_ports(master);
        }
        Ok(())
    }

    fn rename(&mut self, index: Ifindex, name: IfName) -> Result<(), Refusal> {
        let old = self.device(index)?.link.name;
        if old == name {
            return Ok(());
        }
        if self.names.contains_key(&name) {
            return Err(EEXIST);
        }
        self.names.remove(&old);
        self.names.insert(name, index);
        self.device_mut(index)?.link.name = name;
        Ok(())
    }

    fn set_master(&mut self, index: Ifindex, master: Ifindex) -> Result<(), Refusal> {
        let old = self.device_mut(index)?.link.master.take();
        if let Some(old) = old {
            self.follow_ports(old);
        }
        if master.0 == 0 {
            return Ok(());
        }
        let Some(bridge) = self.devices.get(&master) else { return Err(EINVAL) };
        if !matches!(bridge.link.kind, LinkKind::Bridge(_)) {
            return Err(EOPNOTSUPP);
        }
        let port = self.device_mut(index)?;
        if port.link.address.is_none() || index == LOOPBACK {
            return Err(EINVAL);
        }
        if matches!(port.link.kind, LinkKind::Bridge(_)) {
            return Err(ELOOP.says("Can not enslave a bridge to a bridge"));
        }
        port.link.master = Some(master);
        self.follow_ports(master);
        Ok(())
    }

    /// A bridge takes MAC address, MTU and carrier from its ports.
    fn follow_ports(&mut self, bridge: Ifindex) {
        let ports: Vec<(MacAddr, u32, bool)> = self
            .devices
            .values()
            .filter(|port| port.link.master == Some(bridge))
            .map(|port| {
                let forwards = port.is_up() && port.has_carrier();
                (port.link.address.unwrap_or_default(), port.mtu(), forwards)
            })
            .collect();
        let Ok(device) = self.device(bridge) else { return };
        let (mac, mac_chosen, mtu_chosen) =
            (device.link.address, device.mac_chosen, device.mtu_chosen);
        let lowest = ports.iter().map(|(mac, ..)| *mac).min().unwrap_or_default();
        if !mac_chosen && mac != Some(lowest) {
            let _ = self.set_mac(bridge, lowest, false);
        }
        if !mtu_chosen {
            let mtu = ports.iter().map(|(_, mtu, _)| *mtu).min().unwrap_or(1500);
            let _ = self.set_mtu(bridge, mtu);
        }
        self.update_carrier(bridge);
    }

    /// Whether packets can leave: what the cable's other end, the ports, or nobody decides.
    fn update_carrier(&mut self, index: Ifindex) {
        let Ok(device) = self.device(index) else { return };
        let carrier = device.is_up()
            && match &device.link.kind {
                // An end in another namespace is taken to be up.
                LinkKind::Veth(_) => device
                    .link
                    .peer
                    .is_none_or(|peer| self.devices.get(&peer).is_none_or(Device::is_up)),
                LinkKind::Bridge(_) => self.devices.values().any(|port| {
                    port.link.master == Some(index) && port.is_up() && port.has_carrier()
                }),
                _ => true,
            };
        let (had, up, master) = (device.has_carrier(), device.is_up(), device.link.master);
        if had == carrier {
            return;
        }
        if let Ok(device) = self.device_mut(index) {
            device.link.carrier = Some(carrier);
        }
        if carrier {
            self.give_link_local(index);
        } else if up {
            self.remove_nexthops_on(index);
            self.neighbours.retain(|(dev, proxy, _), neighbour| {
                *dev != index || *proxy || neighbour.state.contains(NeighbourState::PERMANENT)
            });
        }
        if let Some(master) = master {
            self.update_carrier(master);
        }
    }

    pub(super) fn set_link_up(&mut self, index: Ifindex) -> Result<(), Refusal> {
        let device = self.device(index)?;
        if device.is_up() {
            return Ok(());
        }
        if let LinkKind::Vxlan(vxlan) = &device.link.kind {
            let clash = self.vxlans().any(|(other, device, vxlan2)| {
                other != index && device.is_up() && vxlan::ports_clash(vxlan, vxlan2)
            });
            if clash {
                return Err(EADDRINUSE);
            }
        }
        let device = self.device_mut(index)?;
        device.link.up = Some(true);
        let peer = device.link.peer;
        self.connect_addresses(index);
        self.update_carrier(index);
        if let Some(peer) = peer {
            self.update_carrier(peer);
        }
        Ok(())
    }

    pub(super) fn set_link_down(&mut self, index: Ifindex) {
        let Some(device) = self.devices.get_mut(&index).filter(|device| device.is_up()) else {
            return;
        };
        device.link.up = Some(false);
        let peer = device.link.peer;
        device.addresses.retain(|held| held.address.net.addr().is_ipv4());
        self.remove_nexthops_on(index);
        self.remove_routes_on(index, false);
        self.neighbours.retain(|(dev, ..), _| *dev != index);
        self.fdb.retain(|key, entry| key.dev != index || entry.outlives_down(key));
        self.update_carrier(index);
        if let Some(peer) = peer {
            self.update_carrier(peer);
        }
    }

    /// Removes a device with all that hangs on it.
    pub(super) fn delete_link(&mut self, index: Ifindex) {
        let peer = self.devices.get(&index).and_then(|device| match device.link.kind {
            LinkKind::Veth(_) => device.link.peer,
            _ => None,
        });
        self.forget_link(index);
        if let Some(peer) = peer {
            self.forget_link(peer);
        }
    }

    /// Removes a device, which may go on elsewhere, from this namespace.
    fn forget_link(&mut self, index: Ifindex) {
        let on_it: Vec<Ifindex> = self
            .vxlans()
            .filter(|(_, _, vxlan)| vxlan::is_on(vxlan, index))
            .map(|(index, ..)| index)
            .collect();
        for vxlan in on_it {
            self.forget_link(vxlan);
        }
        self.set_link_down(index);
        self.remove_nexthops_on(index);
        self.remove_routes_on(index, true);
        let held = self.devices.get(&index).map(|device| device.addresses.clone());
        for held in held.unwrap_or_default().into_iter().rev() {
            self.drop_address(index, &held.address);
        }
        self.neighbours.retain(|(dev, ..), _| *dev != index);
        self.fdb.retain(|key, _| key.dev != index);
        let Some(device) = self.devices.remove(&index) else { return };
        self.names.remove(&device.link.name);
        if let Some(master) = device.link.master {
            self.follow_ports(master);
        }
        for port in self.devices.values_mut() {
            if port.link.master == Some(index) {
                port.link.master = None;
            }
        }
    }

    /// Nexthop objects do not survive the loss of their device or its carrier.
    fn remove_nexthops_on(&mut self, index: Ifindex) {
        let on_it: Vec<_> = self
            .nexthops
            .values()
            .filter(|nexthop| {
                matches!(&nexthop.target, NexthopTarget::Hop(hop) if hop.dev == Some(index))
            })
            .map(|nexthop| nexthop.id)
            .collect();
        for id in on_it {
            self.remove_nexthop(id);
        }
    }

    /// Removes the routes that lead through a device, and hops of those that lead elsewhere too.
    fn remove_routes_on(&mut self, index: Ifindex, gone: bool) {
        self.remove_ipv4_routes_on(index, gone, gone);
        self.remove_ipv6_routes_on(index, gone);
    }

    /// `scopes` takes those of host scope too, as the loss of a device's last IPv4 address does,
    /// and `gone` those with hops elsewhere.
    pub(super) fn remove_ipv4_routes_on(&mut self, index: Ifindex, scopes: bool, gone: bool) {
        let down: Vec<Ifindex> = self
            .devices
            .iter()
            .filter(|(_, device)| !device.is_up())
            .map(|(index, _)| *index)
            .collect();
        let runs = |dev: Option<Ifindex>| dev.is_some_and(|d| d != index && !down.contains(&d));
        let concerned =
            |route: &Route| route.dst.addr().is_ipv4() && leads_through(&route.via, index);
        self.fib.update_where(concerned, |routes| {
            routes.retain(|route| {
                !concerned(route)
                    || match &route.via {
                        Via::Multipath(hops) => !gone && hops.iter().any(|w| runs(w.hop.dev)),
                        _ => !scopes && route.scope == Scope::HOST,
                    }
            });
        });
    }

    fn remove_ipv6_routes_on(&mut self, index: Ifindex, gone: bool) {
        let down: Vec<Ifindex> = self
            .devices
            .iter()
            .filter(|(_, device)| !device.is_up())
            .map(|(index, _)| *index)
            .collect();
        let concerned =
            |route: &Route| route.dst.addr().is_ipv6() && leads_through(&route.via, index);
        let runs = |route: &Route| {
            !concerned(route) && !down.iter().any(|dev| leads_through(&route.via, *dev))
        };
        self.fib.update_where(concerned, |routes| {
            // As long as one of several hops runs, the others are only marked as dead.
            let several = routes.iter().filter(|route| shares_load(route)).count() > 1;
            let one_runs = routes.iter().any(|route| shares_load(route) && runs(route));
            routes.retain(|route| {
                let waits = !gone && several && shares_load(route);
                if waits && !one_runs { false } else { waits || !concerned(route) }
            });
        });
    }

    /// IPv6 leaves the device.
    fn wipe_ipv6(&mut self, index: Ifindex) {
        if let Some(device) = self.devices.get_mut(&index) {
            device.addresses.retain(|held| held.address.net.addr().is_ipv4());
        }
        self.remove_ipv6_routes_on(index, true);
        self.neighbours.retain(|(dev, _, dst), _| *dev != index || dst.is_ipv4());
    }

    /// The address that IPv6 makes of the MAC address when packets can leave.
    fn give_link_local(&mut self, index: Ifindex) {
        let Ok(device) = self.device(index) else { return };
        let Some(mac) = device.link.address else { return };
        let has_one =
            device.addresses.iter().any(|held| held.address.protocol == KERNEL_LINK_LOCAL);
        if !device.has_carrier() || !device.has_ipv6 || has_one || index == LOOPBACK {
            return;
        }
        let [a, b, c, d, e, f] = mac.octets();
        let [x, y, z, w] = [
            u16::from_be_bytes([a ^ 2, b]),
            u16::from_be_bytes([c, 0xff]),
            u16::from_be_bytes([0xfe, d]),
            u16::from_be_bytes([e, f]),
        ];
        let own = Ipv6Addr::new(0xfe80, 0, 0, 0, x, y, z, w);
        let Ok(net) = Ipv6Net::new(own, 64) else { return };
        let mut address = Address::new(IpNet::V6(net), index).protocol(KERNEL_LINK_LOCAL);
        address.scope = Scope::LINK;
        self.hold(address, false);
    }

    /// Whether a device of the host has this address: any device, or a certain one.
    pub(super) fn is_own(&self, address: IpAddr, dev: Option<Ifindex>) -> bool {
        self.devices
            .iter()
            .filter(|(index, _)| dev.is_none_or(|dev| dev == **index))
            .any(|(_, device)| device.addresses.iter().any(|h| h.address.net.addr() == address))
    }
}

fn leads_through(via: &Via, index: Ifindex) -> bool {
    let through = |hop: &Hop| hop.dev == Some(index);
    match via {
        Via::Hop(hop) => through(hop),
        Via::Multipath(hops) => hops.iter().any(|weighted| through(&weighted.hop)),
        _ => false,
    }
}

fn check_mac(mac: Option<MacAddr>) -> Result<(), Refusal> {
    match mac {
        Some(mac) if !mac.is_unicast() => Err(EADDRNOTAVAIL),
        _ => Ok(()),
    }
}

fn bridge_defaults(asked: &Bridge) -> Bridge {
    let mut bridge = Bridge::default();
    bridge.stp = Some(false);
    bridge.forward_delay = Some(1_500);
    bridge.ageing_time = Some(30_000);
    bridge.vlan_filtering = Some(false);
    bridge.mcast_snooping = Some(true);
    overlay(&bridge, asked)
}

/// `now` with what `asked` says.
fn overlay(now: &Bridge, asked: &Bridge) -> Bridge {
    let mut bridge = now.clone();
    bridge.stp = asked.stp.or(now.stp);
    bridge.forward_delay = asked.forward_delay.or(now.forward_delay);
    bridge.ageing_time = asked.ageing_time.or(now.ageing_time);
    bridge.vlan_filtering = asked.vlan_filtering.or(now.vlan_filtering);
    bridge.mcast_snooping = asked.mcast_snooping.or(now.mcast_snooping);
    bridge
}
