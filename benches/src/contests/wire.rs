//! Packets, through `overlay-wire` and others.

mod checksum;
mod decapsulate;
mod encapsulate;
mod formats;
mod others;
mod ring;
mod segment;

use std::net::Ipv4Addr;

use anyhow::Result;
use overlay_wire::encapsulate::{EcnMode, Link, Outer, Template, Tunnel};
use overlay_wire::ethernet::{EtherType, EthernetHeader};
use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::udp::UdpHeader;
use overlay_wire::vxlan::{self, VxlanHeader};
use overlay_wire::{MacAddr, Vni};

use crate::{Contest, Memory};

/// So many objects a turn works on, if they are small: some hundred microseconds of work.
const OBJECTS: u32 = 64 * 512;
/// Packets in a batch, and in memory.
const BATCH: u32 = 64;
/// Bytes of inner packets.
const SIZES: &[usize] = &[64, 1_400, 9_000];

/// Bytes of the largest packet whose segments leave in one send, through a tunnel over UDP and IPv4 with an inner MTU of 1,472.
const GSO_MAX_SIZE: usize = 62_532;

/// A contest about packets, which needs no kernel.
#[derive(Clone, Copy)]
pub struct PacketContest {
    /// A short name for command lines.
    pub id: &'static str,
    /// How large the packets are for which it is held.
    pub sizes: &'static [usize],
    /// The one among them for which instructions are counted.
    pub usual: usize,
    /// The contest for packets of a size.
    pub of: fn(usize) -> Result<Contest<Memory>>,
}

/// All of them.
pub const ALL: [PacketContest; 7] = [
    PacketContest {
        id: "checksum",
        sizes: &[20, 64, 1_450, 65_536],
        usual: 1_450,
        of: checksum::checksum,
    },
    PacketContest { id: "encapsulate", sizes: SIZES, usual: 1_400, of: encapsulate::encapsulation },
    PacketContest { id: "decapsulate", sizes: SIZES, usual: 1_400, of: decapsulate::decapsulation },
    PacketContest {
        id: "encapsulate-all",
        sizes: SIZES,
        usual: 1_400,
        of: formats::encapsulation_of_all,
    },
    PacketContest {
        id: "decapsulate-all",
        sizes: SIZES,
        usual: 1_400,
        of: formats::decapsulation_of_all,
    },
    PacketContest {
        id: "segment",
        sizes: &[GSO_MAX_SIZE],
        usual: GSO_MAX_SIZE,
        of: segment::segmenting,
    },
    PacketContest {
        id: "coalesce",
        sizes: &[GSO_MAX_SIZE],
        usual: GSO_MAX_SIZE,
        of: segment::coalescing,
    },
];

/// Our addresses, and the peer's.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const ADDRESSES: [[u8; 4]; 2] = [[192, 168, 32, 245], [192, 168, 32, 246]];
const VNI: u32 = 0x12_3456;
/// Bytes of Ethernet, IPv4, UDP and VXLAN headers.
const HEADERS: usize = 14 + 20 + 8 + 8;

fn vni() -> Result<Vni> {
    Ok(Vni::new(VNI)?)
}

/// The headers of VXLAN over IPv4 and Ethernet.
///
/// With `plain`, nothing is taken from the inner packet but its flow, as the others have it.
fn vxlan_template(plain: bool) -> Result<Template> {
    let [src, dst] = ADDRESSES.map(Ipv4Addr::from);
    let mut outer = Outer::new(src.into(), dst.into());
    outer.link = Some(Link { src: MacAddr(MACS[0]), dst: MacAddr(MACS[1]) });
    if plain {
        outer.ecn = EcnMode::Compatibility;
    }
    let header = VxlanHeader::new(vni()?);
    Ok(Template::new(&outer, &Tunnel::Vxlan { port: vxlan::PORT, header })?)
}

/// An IPv4 packet of `len` bytes, of UDP, one of several flows.
fn inner_packet(len: usize, flow: u16) -> Result<Vec<u8>> {
    let mut packet = vec![0x5a; len];
    UdpHeader { src_port: 40_000 + flow, dst_port: 53 }.emit(&mut packet[20..], None)?;
    let (src, dst) = (Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1));
    Ipv4Header::new(src, dst, IpProtocol::UDP).emit(&mut packet)?;
    Ok(packet)
}

/// An Ethernet frame of `len` bytes with such a packet.
fn inner_frame(len: usize, flow: u16) -> Result<Vec<u8>> {
    let header = EthernetHeader {
        dst: MacAddr([2, 0, 0, 0, 1, 2]),
        src: MacAddr([2, 0, 0, 0, 1, 1]),
        ether_type: EtherType::IPV4,
    };
    Ok([&header.to_bytes()[..], &inner_packet(len - 14, flow)?].concat())
}
