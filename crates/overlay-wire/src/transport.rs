//! A whole TCP or UDP packet in IP, as segmentation takes it apart and coalescing puts it together.

use crate::checksum::{Checksum, PseudoHeader};
use crate::error::{Error, Expected};
use crate::ip::{IpPacket, IpProtocol, IpVersion};
use crate::ipv6::extension::Extension;
use crate::tcp::{self, TcpPacket};
use crate::udp::{self, UdpPacket};
use crate::{checksum, ipv6};

/// Where the headers of a packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) version: IpVersion,
    pub(crate) kind: TransportKind,
    /// Where the header of TCP or UDP begins.
    pub(crate) at: usize,
    /// Bytes of all headers.
    pub(crate) header_len: usize,
    /// Whether there are IPv6 extension headers.
    pub(crate) extended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransportKind {
    Tcp,
    Udp,
}

impl TransportKind {
    pub(crate) const fn protocol(self) -> IpProtocol {
        match self {
            Self::Tcp => IpProtocol::TCP,
            Self::Udp => IpProtocol::UDP,
        }
    }

    /// Where in the header the checksum is.
    pub(crate) const fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => tcp::CHECKSUM,
            Self::Udp => udp::CHECKSUM,
        }
    }
}

impl Transport {
    /// Of a packet that is not a fragment and has no authentication header, which would cover all of it.
    ///
    /// # Errors
    /// [`Error`] when it is something else, or a header contradicts the packet's length.
    #[inline]
    pub(crate) fn of(packet: &IpPacket<'_>) -> Result<Self, Error> {
        let (version, name) = match packet {
            IpPacket::V4(_) => (IpVersion::V4, "IPv4"),
            IpPacket::V6(_) => (IpVersion::V6, "IPv6"),
        };
        let extended = match packet {
            IpPacket::V4(_) => false,
            IpPacket::V6(packet) => packet.extensions().next().is_some(),
        };
        let upper = packet.upper_layer()?;
        if let Some(fragment) = upper.fragment {
            let found = u64::from(fragment.offset);
            return Err(Error::field(name, "fragment", Expected::Not(found), found));
        }
        if (extended || version == IpVersion::V4) && is_authenticated(packet) {
            let number = u64::from(IpProtocol::AUTHENTICATION.0);
            return Err(Error::field(name, "protocol", Expected::Not(number), number));
        }
        let (kind, header_len) = match upper.protocol {
            IpProtocol::TCP => (TransportKind::Tcp, TcpPacket::parse(upper.payload)?.header_len()),
            IpProtocol::UDP => {
                let length = UdpPacket::parse(upper.payload)?.length();
                if usize::from(length) != upper.payload.len() {
                    let expected = Expected::Exactly(upper.payload.len() as u64);
                    return Err(Error::field("UDP", "length", expected, length.into()));
                }
                (TransportKind::Udp, udp::LEN)
            }
            other => {
                let expected = Expected::OneOf(&[6, 17]);
                return Err(Error::field(name, "protocol", expected, other.0.into()));
            }
        };
        let (at, header_len) = (upper.header_len, upper.header_len + header_len);
        Ok(Self { version, kind, at, header_len, extended })
    }

    /// The sum of the pseudo-header of a packet with so many bytes, folded but not complemented.
    #[inline]
    pub(crate) fn partial_checksum(&self, addresses: &PseudoHeader, packet_len: usize) -> u16 {
        !self.checksum(addresses, packet_len).finish()
    }

    /// Whether all checksums of a packet with these headers are right, and there are any.
    #[inline]
    pub(crate) fn is_valid(&self, packet: &[u8], addresses: &PseudoHeader) -> bool {
        let Some((ip, segment)) = packet.split_at_checked(self.at) else { return false };
        let is_header_valid = match self.version {
            IpVersion::V4 => checksum::is_valid(ip),
            IpVersion::V6 => true,
        };
        is_header_valid && self.checksum(addresses, packet.len()).bytes(segment).finish() == 0
    }

    #[inline]
    fn checksum(&self, addresses: &PseudoHeader, packet_len: usize) -> Checksum {
        // No IP packet is so long that this is cut.
        let len = packet_len.saturating_sub(self.at) as u32;
        Checksum::new().pseudo_header(addresses, self.kind.protocol(), len)
    }
}

/// Whether there is an authentication header.
fn is_authenticated(packet: &IpPacket<'_>) -> bool {
    match packet {
        IpPacket::V4(packet) => packet.protocol() == IpProtocol::AUTHENTICATION,
        IpPacket::V6(packet) => {
            packet.extensions().any(|it| matches!(it, Ok(Extension::Authentication(_))))
        }
    }
}

/// Bytes of the whole packet, as its header says.
#[inline]
pub(crate) fn total_len(packet: &IpPacket<'_>) -> usize {
    match packet {
        IpPacket::V4(packet) => packet.total_length().into(),
        IpPacket::V6(packet) => ipv6::LEN + usize::from(packet.payload_length()),
    }
}
