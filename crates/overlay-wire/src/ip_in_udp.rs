//! Raw IP in UDP: nothing between the UDP header and the inner IP packet.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         outer IPv4 (20 bytes) or IPv6 (40 bytes) header       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                       UDP header (8 bytes)                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0 1 0 0|              inner IPv4 packet ...                    |
//! |0 1 1 0|           or inner IPv6 packet ...                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! No specification of its own describes it, and three programs send it under three names:
//!
//! * Flannel's udp backend, which reads packets from a TUN device and sends them to port [`FLANNEL_PORT`].
//! * Linux' FOU, foo over UDP: `ip fou add port N ipproto 4` says that a datagram to port N is an IPv4 packet, with
//!   `ipproto 41` an IPv6 packet. Other protocols can be foo as well: with `ipproto 47` the datagram begins with a
//!   [GRE](crate::gre) header.
//! * Variant 1 of [GUE](crate::gue), where the variant is the first two bits of the IP version.
//!
//! Since the inner version is in the inner header, one port can carry both.

use crate::error::Error;
use crate::ip::IpPacket;

/// The UDP port of Flannel's udp backend unless configured otherwise.
pub const FLANNEL_PORT: u16 = 8285;

/// The inner packet that `bytes`, the payload of a UDP datagram, are.
///
/// # Errors
/// [`Error`] when it is neither IPv4 nor IPv6, or incomplete; as [`IpPacket::parse`].
#[inline]
pub fn parse(bytes: &[u8]) -> Result<IpPacket<'_>, Error> {
    IpPacket::parse(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Expected;
    use crate::ip::IpProtocol;
    use crate::ipv4::Ipv4Header;
    use crate::ipv6::Ipv6Header;
    use crate::udp::{UdpHeader, UdpPacket};
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    #[test]
    fn one_port_carries_both_versions() {
        let udp = UdpHeader { src_port: 40000, dst_port: FLANNEL_PORT };
        let mut v4 = [0xff; 8 + 20 + 4];
        let header = Ipv4Header::new(Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, IpProtocol::ICMP);
        header.emit(&mut v4[8..]).unwrap();
        udp.emit(&mut v4, None).unwrap();
        let inner = parse(UdpPacket::parse(&v4).unwrap().payload()).unwrap();
        assert_eq!(inner.src(), IpAddr::V4(Ipv4Addr::LOCALHOST));

        let mut v6 = [0xff; 8 + 40 + 4];
        let header =
            Ipv6Header::new(Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, IpProtocol::ICMPV6);
        header.emit(&mut v6[8..]).unwrap();
        udp.emit(&mut v6, None).unwrap();
        let inner = parse(UdpPacket::parse(&v6).unwrap().payload()).unwrap();
        assert_eq!(inner.src(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn anything_else_is_refused() {
        let error = Error::field("IP", "version", Expected::OneOf(&[4, 6]), 0);
        assert_eq!(parse(&[0; 40]), Err(error));
        assert_eq!(parse(b""), Err(Error::truncated("IP", 1, 0)));
    }
}
