//! Packets to be segmented, and what becomes of them, each header written from scratch.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ip::{Ecn, IpProtocol};
use overlay_wire::ipv4::Ipv4Header;
use overlay_wire::ipv6::Ipv6Header;
use overlay_wire::ipv6::extension::OptionsHeader;
use overlay_wire::segment::Segments;
use overlay_wire::tcp::{TcpFlags, TcpHeader};
use overlay_wire::udp::UdpHeader;
use overlay_wire::virtio_net::{ChecksumState, Gso, GsoKind, VirtioNetHeader};

/// A packet to be segmented.
#[derive(Clone, Debug)]
pub(crate) struct Large {
    pub(crate) six: bool,
    /// Ports, so that there are several flows.
    pub(crate) port: u16,
    /// TCP with these flags and options; UDP without.
    pub(crate) tcp: Option<(TcpFlags, Vec<u8>)>,
    pub(crate) sequence: u32,
    pub(crate) window: u16,
    pub(crate) identification: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) dscp: u8,
    pub(crate) ecn: Ecn,
    pub(crate) ttl: u8,
    pub(crate) flow_label: u32,
    /// IPv4 options or IPv6 destination options, in whole words.
    pub(crate) ip_options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) size: u16,
}

impl Large {
    pub(crate) fn addresses(&self) -> PseudoHeader {
        let host = |number| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number);
        match self.six {
            true => PseudoHeader::V6 { src: host(1), dst: host(2) },
            false => PseudoHeader::V4 {
                src: Ipv4Addr::new(10, 0, 0, 1),
                dst: Ipv4Addr::new(10, 0, 0, 2),
            },
        }
    }

    /// Whether there are IPv6 extension headers.
    pub(crate) fn is_extended(&self) -> bool {
        self.six && !self.ip_options.is_empty()
    }

    /// The segments, each written as if it were the only one.
    pub(crate) fn segments(&self) -> Vec<Vec<u8>> {
        let payloads: Vec<&[u8]> = match self.payload.as_slice() {
            [] => vec![&[]],
            payload => payload.chunks(self.size.into()).collect(),
        };
        let mut sequence = self.sequence;
        let mut segments = Vec::new();
        for (at, payload) in payloads.iter().enumerate() {
            let mut bits = self.tcp.as_ref().map_or(0, |(flags, _)| flags.bits());
            if at > 0 {
                bits &= !TcpFlags::CWR.bits();
            }
            if at + 1 < payloads.len() {
                bits &= !(TcpFlags::FIN | TcpFlags::PSH).bits();
            }
            let identification = self.identification.wrapping_add(at as u16);
            let flags = TcpFlags::from_bits(bits);
            segments.push(self.packet(payload, sequence, identification, flags));
            sequence = sequence.wrapping_add(payload.len() as u32);
        }
        segments
    }

    /// The packet as a whole, and the virtio header in front of it.
    pub(crate) fn build(&self) -> (VirtioNetHeader, Vec<u8>) {
        let flags = self.tcp.as_ref().map(|(flags, _)| *flags).unwrap_or_default();
        let mut packet = self.packet(&self.payload, self.sequence, self.identification, flags);
        let at = self.ip_len();
        let offset = if self.tcp.is_some() { 16 } else { 6 };
        let protocol = if self.tcp.is_some() { 6 } else { 17 };
        let length = (packet.len() - at) as u32;
        let sum = slow_sum(&pseudo_header(&self.addresses(), protocol, length));
        packet[at + offset..at + offset + 2].copy_from_slice(&sum.to_be_bytes());
        let kind = match (&self.tcp, self.six) {
            (Some(_), false) => GsoKind::TcpV4,
            (Some(_), true) => GsoKind::TcpV6,
            (None, _) => GsoKind::Udp,
        };
        let gso = Gso {
            kind,
            ecn: flags.contains(TcpFlags::CWR),
            header_len: (packet.len() - self.payload.len()) as u16,
            size: NonZeroU16::new(self.size).unwrap(),
        };
        let checksum = ChecksumState::Needed { start: at as u16, offset: offset as u16 };
        (VirtioNetHeader { checksum, gso: Some(gso) }, packet)
    }

    /// Bytes of the IP header with options or extension headers.
    pub(crate) fn ip_len(&self) -> usize {
        let options = self.ip_options.len();
        match self.six {
            true if options > 0 => 40 + (2 + options).next_multiple_of(8),
            true => 40,
            false => 20 + options,
        }
    }

    fn packet(
        &self,
        payload: &[u8],
        sequence: u32,
        identification: u16,
        flags: TcpFlags,
    ) -> Vec<u8> {
        let (src_port, dst_port) = (self.port, 443);
        let upper_len = self.tcp.as_ref().map_or(8, |(_, options)| 20 + options.len());
        let ip_len = self.ip_len();
        let mut packet = [&[0xa5].repeat(ip_len + upper_len), payload].concat();
        let addresses = self.addresses();
        let upper = &mut packet[ip_len..];
        match &self.tcp {
            None => UdpHeader { src_port, dst_port }.emit(upper, Some(&addresses)).unwrap(),
            Some((_, options)) => TcpHeader {
                src_port,
                dst_port,
                sequence,
                acknowledgment: 0x1234_5678,
                flags,
                window: self.window,
                urgent: 0,
                options,
            }
            .emit(upper, &addresses)
            .unwrap(),
        }
        let protocol = if self.tcp.is_some() { IpProtocol::TCP } else { IpProtocol::UDP };
        match addresses {
            PseudoHeader::V4 { src, dst } => Ipv4Header {
                identification,
                dont_fragment: self.dont_fragment,
                dscp: self.dscp,
                ecn: self.ecn,
                ttl: self.ttl,
                options: &self.ip_options,
                ..Ipv4Header::new(src, dst, protocol)
            }
            .emit(&mut packet)
            .unwrap(),
            PseudoHeader::V6 { src, dst } => {
                let mut next_header = protocol;
                if !self.ip_options.is_empty() {
                    OptionsHeader { next_header, options: &self.ip_options }
                        .emit(&mut packet[40..])
                        .unwrap();
                    next_header = IpProtocol::DESTINATION_OPTIONS;
                }
                Ipv6Header {
                    dscp: self.dscp,
                    ecn: self.ecn,
                    hop_limit: self.ttl,
                    flow_label: self.flow_label,
                    ..Ipv6Header::new(src, dst, next_header)
                }
                .emit(&mut packet)
                .unwrap();
            }
        }
        packet
    }
}

/// Segments as they would be sent: headers and payload of each, one behind the other.
pub(crate) fn segmented(header: &VirtioNetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let segments = Segments::new(header, packet).unwrap();
    let mut buffer = [0xa5; 300];
    let mut all = Vec::new();
    for index in 0..segments.count() {
        let payload = segments.write(index, &mut buffer).unwrap();
        all.push([&buffer[..segments.header_len()], payload].concat());
        assert_eq!(buffer[segments.header_len()..], [0xa5; 300][segments.header_len()..]);
        let len = all[index].len();
        assert!(len == segments.segment_len() || index + 1 == segments.count());
    }
    assert_eq!(segments.write(segments.count(), &mut buffer), None);
    all
}

/// The pseudo-header, as RFC 768 and RFC 8200 draw it.
fn pseudo_header(addresses: &PseudoHeader, protocol: u8, length: u32) -> Vec<u8> {
    let mut bytes = match addresses {
        PseudoHeader::V4 { src, dst } => [src.octets(), dst.octets()].concat(),
        PseudoHeader::V6 { src, dst } => [src.octets(), dst.octets()].concat(),
    };
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// The sum of 16-bit words as RFC 1071 defines it, not complemented.
fn slow_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum: u16, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
        sum + u16::from(carry)
    })
}
