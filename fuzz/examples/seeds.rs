//! Writes the first inputs of the targets for `overlay-wire` into `corpus/`, each under a name that says what it is.
//!
//!     cargo run -p overlay-fuzz --example seeds
//!
//! The inputs are committed; this says where they come from, and writes those of a new format.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ethernet::{EtherType, EthernetHeader};
use overlay_wire::ip::{Ecn, IpProtocol};
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::udp::UdpHeader;
use overlay_wire::vxlan::{self, VxlanHeader};
use overlay_wire::{MacAddr, Vni};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
const V6: (Ipv6Addr, Ipv6Addr) =
    (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

fn main() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for Seed { targets, name, bytes } in seeds()? {
        for target in targets {
            let dir = corpus.join(target);
            fs::create_dir_all(&dir)?;
            fs::write(dir.join(name), &bytes)?;
        }
    }
    Ok(())
}

struct Seed {
    targets: &'static [&'static str],
    name: &'static str,
    bytes: Vec<u8>,
}

fn seeds() -> Result<Vec<Seed>> {
    const LINK: &[&str] = &["ethernet", "etherparse_link"];
    const IPV4: &[&str] = &["ipv4", "etherparse_ip"];
    const IPV6: &[&str] = &["ipv6", "etherparse_ip"];
    const UDP: &[&str] = &["udp", "etherparse_transport"];
    let seed = |targets, name, bytes| Seed { targets, name, bytes };

    let v4 = PseudoHeader::V4 { src: V4.0, dst: V4.1 };
    let v6 = PseudoHeader::V6 { src: V6.0, dst: V6.1 };
    let plain = udp(None, b"ping")?;
    let checked4 = udp(Some(&v4), b"ping")?;
    let checked6 = udp(Some(&v6), b"odd")?;

    let ipv4_udp = ipv4(Ipv4Header::new(V4.0, V4.1, IpProtocol::UDP), &checked4)?;
    let ipv6_udp = ipv6(Ipv6Header::new(V6.0, V6.1, IpProtocol::UDP), &checked6)?;
    let inner4 = ethernet(EtherType::IPV4, &ipv4_udp)?;
    let inner6 = ethernet(EtherType::IPV6, &ipv6_udp)?;
    let with_options =
        Ipv4Header { options: b"\x94\x04\0\0", ..Ipv4Header::new(V4.0, V4.1, IpProtocol(2)) };
    let fragment = Ipv4Header {
        dont_fragment: false,
        more_fragments: true,
        fragment_offset: 185,
        identification: 0x1234,
        dscp: 46,
        ecn: Ecn::Ce,
        ..Ipv4Header::new(V4.0, V4.1, IpProtocol::UDP)
    };
    let labelled = Ipv6Header {
        dscp: 46,
        ecn: Ecn::Ect0,
        flow_label: 0xabcde,
        ..Ipv6Header::new(V6.0, V6.1, IpProtocol::NO_NEXT_HEADER)
    };
    Ok(vec![
        seed(LINK, "ipv4", inner4.clone()),
        seed(LINK, "ipv6", inner6.clone()),
        seed(LINK, "empty", ethernet(EtherType(0x88cc), b"")?),
        seed(IPV4, "udp", ipv4_udp.clone()),
        seed(IPV4, "padded", [&ipv4_udp[..], &[0; 6]].concat()),
        seed(IPV4, "options", ipv4(with_options, b"igmp")?),
        seed(IPV4, "fragment", ipv4(fragment, b"12345678")?),
        seed(IPV4, "in-ipv4", ipv4(Ipv4Header::new(V4.0, V4.1, IpProtocol::IPV4), &ipv4_udp)?),
        seed(IPV6, "udp", ipv6_udp.clone()),
        seed(IPV6, "labelled", ipv6(labelled, b"")?),
        seed(IPV6, "in-ipv6", ipv6(Ipv6Header::new(V6.0, V6.1, IpProtocol::IPV6), &ipv6_udp)?),
        seed(UDP, "without-checksum", plain.clone()),
        seed(UDP, "checksum-ipv4", checked4.clone()),
        seed(UDP, "checksum-ipv6", checked6.clone()),
        seed(UDP, "all-ones-checksum", udp(Some(&v4), &all_ones(&v4)?)?),
        seed(UDP, "jumbo-length", b"\x9c\x40\x12\xb5\0\0\0\0jumbo".to_vec()),
        seed(&["vxlan"], "ipv4", vxlan(&inner4)?),
        seed(&["vxlan"], "ipv6", vxlan(&inner6)?),
        seed(&["checksum"], "ipv4", [&[10, 20, 128, 200], &ipv4_udp[..]].concat()),
        seed(&["checksum"], "zeros", vec![0; 40]),
        seed(&["checksum"], "ones", vec![0xff; 75]),
        seed(&["checksum"], "vector", [&[1, 100, 30, 255], &vxlan(&inner6)?[..], &inner4].concat()),
    ])
}

fn ethernet(ether_type: EtherType, payload: &[u8]) -> Result<Vec<u8>> {
    let header = EthernetHeader {
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        ether_type,
    };
    let mut frame = room(header.header_len(), payload);
    header.emit(&mut frame)?;
    Ok(frame)
}

fn ipv4(header: Ipv4Header<'_>, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = room(header.header_len(), payload);
    header.emit(&mut packet)?;
    Ok(packet)
}

fn ipv6(header: Ipv6Header, payload: &[u8]) -> Result<Vec<u8>> {
    let mut packet = room(header.header_len(), payload);
    header.emit(&mut packet)?;
    Ok(packet)
}

fn udp(addresses: Option<&PseudoHeader>, payload: &[u8]) -> Result<Vec<u8>> {
    let header = UdpHeader { src_port: 40_000, dst_port: vxlan::PORT };
    let mut packet = room(header.header_len(), payload);
    header.emit(&mut packet, addresses)?;
    Ok(packet)
}

fn vxlan(frame: &[u8]) -> Result<Vec<u8>> {
    let header = VxlanHeader { vni: Vni::new(0x12_3456)? };
    let mut packet = room(header.header_len(), frame);
    header.emit(&mut packet)?;
    Ok(packet)
}

/// A payload whose datagram has the checksum 0, which is sent as all ones: the checksum of one of zeros.
fn all_ones(addresses: &PseudoHeader) -> Result<[u8; 2]> {
    let zeros = udp(Some(addresses), &[0, 0])?;
    Ok([zeros[6], zeros[7]])
}

fn room(header_len: usize, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; header_len];
    packet.extend_from_slice(payload);
    packet
}
