//! The formats of `overlay-wire`.
//!
//! A target reads its input as a header of each kind it is about. What reads is asked for everything it can tell, written
//! again over other bytes, and has to read the same then; input that is as we would write it has to come back bit by bit.

mod checksum;
mod coalesce;
mod dissect;
mod encapsulate;
mod ethernet;
mod etherparse;
mod geneve;
mod gre;
mod gue;
mod icmp;
mod ip;
mod ipv4;
mod ipv6;
mod segment;
mod tcp;
mod udp;
mod vxlan;

pub use self::checksum::checksum;
pub use self::coalesce::coalesce;
pub use self::dissect::dissect;
pub use self::encapsulate::encapsulate;
pub use self::ethernet::ethernet;
pub use self::etherparse::{etherparse_ip, etherparse_link, etherparse_transport};
pub use self::geneve::geneve;
pub use self::gre::gre;
pub use self::gue::gue;
pub use self::icmp::icmp;
pub use self::ip::ip_in_ip;
pub use self::ipv4::ipv4;
pub use self::ipv6::ipv6;
pub use self::segment::segment;
pub use self::tcp::tcp;
pub use self::udp::udp;
pub use self::vxlan::vxlan;

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};

use overlay_wire::checksum::PseudoHeader;

/// Addresses for checksums, of both versions.
const ADDRESSES: [PseudoHeader; 2] = [
    PseudoHeader::V4 { src: Ipv4Addr::new(10, 0, 0, 1), dst: Ipv4Addr::new(10, 0, 0, 2) },
    PseudoHeader::V6 {
        src: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        dst: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
    },
];

/// What a header looks like that is written in front of `payload`, over bytes that are neither all 0 nor the right ones.
fn emitted<E: Display>(
    header_len: usize,
    payload: &[u8],
    emit: impl FnOnce(&mut [u8]) -> Result<(), E>,
) -> Vec<u8> {
    let mut packet = vec![0xa5; header_len];
    packet.extend_from_slice(payload);
    if let Err(error) = emit(&mut packet) {
        panic!("what was read cannot be written: {error}");
    }
    assert_eq!(&packet[header_len..], payload, "the payload was changed");
    packet
}

/// Prints something, which must neither fail nor go on without end.
fn prints(what: impl Display, limit: usize) {
    let text = what.to_string();
    assert!(text.len() <= limit, "{} bytes of text, more than {limit}", text.len());
}
