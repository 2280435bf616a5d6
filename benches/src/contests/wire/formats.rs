use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use overlay_wire::Framing;
use overlay_wire::buffer::PacketBuffer;
use overlay_wire::decapsulate::{Accept, Decapsulator, GreKey, Policy};
use overlay_wire::encapsulate::{Outer, Template, Tunnel, UdpChecksum};
use overlay_wire::geneve::{self, GeneveOptions};
use overlay_wire::vxlan::{self, VxlanHeader};
use overlay_wire::{gue, ip_in_udp, vxlan_gpe};

use super::super::thousands;
use super::ring::{HEADROOM, Ring};
use super::{ADDRESSES, BATCH, OBJECTS, inner_frame, inner_packet, vni};
use crate::{Contest, Memory};

const V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(ADDRESSES[0][0], ADDRESSES[0][1], ADDRESSES[0][2], ADDRESSES[0][3]),
    Ipv4Addr::new(ADDRESSES[1][0], ADDRESSES[1][1], ADDRESSES[1][2], ADDRESSES[1][3]),
];
const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)];

/// Into every encapsulation, one packet at a time and in batches, with templates and policies as they come.
///
/// # Errors
/// When a packet does not come out as it went in.
pub(super) fn encapsulation_of_all(len: usize) -> Result<Contest<Memory>> {
    let title =
        format!("Encapsulation of packets of {} bytes, every format", thousands(len as u32));
    let contest = Contest::in_memory("encapsulate-all", title, OBJECTS);
    all()?.iter().try_fold(contest, |contest, format| format.enter(contest, len))
}

/// Likewise, the other way.
///
/// # Errors
/// As [`encapsulation_of_all`].
pub(super) fn decapsulation_of_all(len: usize) -> Result<Contest<Memory>> {
    let title =
        format!("Decapsulation of packets of {} bytes, every format", thousands(len as u32));
    let contest = Contest::in_memory("decapsulate-all", title, OBJECTS);
    all()?.iter().try_fold(contest, |contest, format| format.leave(contest, len))
}

struct Format {
    name: &'static str,
    template: Template,
    decapsulator: Decapsulator,
}

fn all() -> Result<Vec<Format>> {
    let vni = vni()?;
    let vxlan = Tunnel::Vxlan { port: vxlan::PORT, header: VxlanHeader::new(vni) };
    let vxlan_accept = Accept::Vxlan { port: vxlan::PORT, vni: Some(vni), group_policy: false };
    let gre = |carries, checksum| Tunnel::Gre { carries, checksum, key: Some(1), sequence: false };
    let gre_accept = Accept::Gre { key: GreKey::Is(1) };
    let [v4, v6] = [V4.map(IpAddr::V4), V6.map(IpAddr::V6)];
    let (ip, ethernet) = (Framing::Ip, Framing::Ethernet);
    let zero = UdpChecksum::Zero;
    let port = ip_in_udp::FLANNEL_PORT;
    let gpe = |carries| Tunnel::VxlanGpe { port: vxlan_gpe::PORT, vni, carries };
    let geneve =
        Tunnel::Geneve { port: geneve::PORT, vni, carries: ethernet, options: GeneveOptions::NONE };
    let accept_geneve =
        Accept::Geneve { port: geneve::PORT, vni: Some(vni), critical_options: false };
    let formats = [
        ("IP in IP", v4, zero, Tunnel::IpInIp, Accept::IpInIp),
        ("IP in UDP", v4, zero, Tunnel::IpInUdp { port }, Accept::IpInUdp { port }),
        ("GRE with key", v4, zero, gre(ip, false), gre_accept),
        ("GRE with key and checksum", v4, zero, gre(ip, true), gre_accept),
        ("GRE of frames with key", v4, zero, gre(ethernet, false), gre_accept),
        (
            "GUE",
            v4,
            zero,
            Tunnel::Gue { port: gue::PORT, carries: ip },
            Accept::Gue { port: gue::PORT },
        ),
        (
            "VXLAN-GPE",
            v4,
            zero,
            gpe(ip),
            Accept::VxlanGpe { port: vxlan_gpe::PORT, vni: Some(vni) },
        ),
        ("Geneve", v4, zero, geneve, accept_geneve),
        ("VXLAN", v4, zero, vxlan, vxlan_accept),
        ("VXLAN with UDP checksum", v4, UdpChecksum::Compute, vxlan, vxlan_accept),
        ("IP in IPv6", v6, zero, Tunnel::IpInIp, Accept::IpInIp),
        ("VXLAN over IPv6", v6, zero, vxlan, vxlan_accept),
        ("VXLAN over IPv6 with UDP checksum", v6, UdpChecksum::Compute, vxlan, vxlan_accept),
    ];
    formats
        .into_iter()
        .map(|(name, [src, dst], udp_checksum, tunnel, accept)| {
            let mut outer = Outer::new(src, dst);
            outer.udp_checksum = udp_checksum;
            let template = Template::new(&outer, &tunnel)?;
            let decapsulator = Decapsulator::new(&Policy::new(Framing::Ip, accept));
            Ok(Format { name, template, decapsulator })
        })
        .collect()
}

impl Format {
    fn enter(&self, contest: Contest<Memory>, len: usize) -> Result<Contest<Memory>> {
        let (mut one, mut ring) = (self.template.clone(), self.ring(len)?);
        let (mut many, mut batches) = (one.clone(), ring.clone());
        Ok(contest
            .repeat(self.name, BATCH, move || {
                ring.each(|slot, _| {
                    one.encapsulate(&mut PacketBuffer::new(slot, HEADROOM)).is_ok()
                });
            })
            .repeat(format!("{}, batch of 64", self.name), BATCH, move || {
                let mut refused = 0;
                many.encapsulate_batch(&mut batches.batch(HEADROOM), |_, _| refused += 1);
                refused
            }))
    }

    fn leave(&self, contest: Contest<Memory>, len: usize) -> Result<Contest<Memory>> {
        let headroom = HEADROOM - self.template.header_len();
        let mut ring = self.ring(len)?;
        let mut template = self.template.clone();
        for packet in &mut ring.batch(HEADROOM) {
            template.encapsulate(packet)?;
        }
        let mut trial = ring.clone();
        let mut packet = PacketBuffer::new(trial.first(), headroom);
        self.decapsulator.decapsulate(&mut packet)?;
        ensure!(packet.as_slice() == self.inner(len, 0)?, "{} changes the packet", self.name);

        let mut batches = ring.clone();
        let (one, many) = (self.decapsulator.clone(), self.decapsulator.clone());
        Ok(contest
            .repeat(self.name, BATCH, move || {
                ring.each(|slot, _| {
                    let mut packet = PacketBuffer::new(slot, headroom);
                    (one.decapsulate(&mut packet).is_ok(), packet.len())
                });
            })
            .repeat(format!("{}, batch of 64", self.name), BATCH, move || {
                let mut accepted = 0;
                let mut packets = batches.batch(headroom);
                many.decapsulate_batch(&mut packets, |_, result| {
                    accepted += u32::from(result.is_ok());
                });
                accepted
            }))
    }

    fn ring(&self, len: usize) -> Result<Ring> {
        Ring::new(len, |flow| self.inner(len, flow))
    }

    fn inner(&self, len: usize, flow: u16) -> Result<Vec<u8>> {
        match self.template.carries() {
            Framing::Ip => inner_packet(len, flow),
            Framing::Ethernet => inner_frame(len, flow),
        }
    }
}
