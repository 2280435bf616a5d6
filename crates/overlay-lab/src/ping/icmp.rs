//! ICMP echo on the wire, both families: requests out, replies and errors in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes before the payload of an echo message.
pub(super) const HEADER: usize = 8;

/// What a received packet says about one of our requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// An echo reply; `payload` is as it came.
    Reply { seq: u16, ttl: Option<u8>, payload: Vec<u8> },
    /// An error about the request `seq`.
    Error { seq: u16, kind: Kind },
}

/// The errors of both families under one name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TooBig { mtu: u32 },
    Unreachable { code: u8 },
    TimeExceeded,
    Other { icmp_type: u8, code: u8 },
}

/// The bytes to send: the kernel adds the checksum for IPv6.
pub(super) fn request(v6: bool, id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(payload);
    if !v6 {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// A payload that differs in every request, so that a reply with another one's bytes is noticed.
pub(super) fn payload(id: u16, seq: u16, length: usize) -> Vec<u8> {
    let mut state = u32::from(id) << 16 | u32::from(seq) | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

/// Reads what a raw ICMP socket gave: an IPv4 packet with its header, or an ICMPv6 message without.
pub(super) fn read(
    v6: bool,
    id: u16,
    dst: IpAddr,
    hop_limit: Option<u8>,
    packet: &[u8],
) -> Option<Heard> {
    let (message, ttl) =
        if v6 { (packet, hop_limit) } else { (after_ipv4(packet)?, packet.get(8).copied()) };
    let (icmp_type, code) = (*message.first()?, *message.get(1)?);
    if icmp_type == if v6 { 129 } else { 0 } {
        let seq = ours(message, id)?;
        return Some(Heard::Reply { seq, ttl, payload: message.get(HEADER..)?.to_vec() });
    }
    let kind = if v6 {
        match (icmp_type, code) {
            (1, code) => Kind::Unreachable { code },
            (2, _) => Kind::TooBig { mtu: u32::from_be_bytes(message.get(4..8)?.try_into().ok()?) },
            (3, _) => Kind::TimeExceeded,
            (..128, code) => Kind::Other { icmp_type, code },
            _ => return None,
        }
    } else {
        match (icmp_type, code) {
            (3, 4) => {
                Kind::TooBig { mtu: u16::from_be_bytes(message.get(6..8)?.try_into().ok()?).into() }
            }
            (3, code) => Kind::Unreachable { code },
            (11, _) => Kind::TimeExceeded,
            (4 | 5 | 12, code) => Kind::Other { icmp_type, code },
            _ => return None,
        }
    };
    let quoted = message.get(HEADER..)?;
    let quoted = match dst {
        IpAddr::V4(dst) => quoted_ipv4(quoted, dst)?,
        IpAddr::V6(dst) => quoted_ipv6(quoted, dst)?,
    };
    if quoted.first() != Some(&if v6 { 128 } else { 8 }) {
        return None;
    }
    Some(Heard::Error { seq: ours(quoted, id)?, kind })
}

fn ours(echo: &[u8], id: u16) -> Option<u16> {
    let [.., a, b, c, d] = *echo.get(..HEADER)? else { return None };
    (u16::from_be_bytes([a, b]) == id).then(|| u16::from_be_bytes([c, d]))
}

fn after_ipv4(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0xf) * 4..)
}

fn quoted_ipv4(packet: &[u8], dst: Ipv4Addr) -> Option<&[u8]> {
    if packet.get(9)? != &1 || packet.get(16..20)? != dst.octets() {
        return None;
    }
    after_ipv4(packet)
}

fn quoted_ipv6(packet: &[u8], dst: Ipv6Addr) -> Option<&[u8]> {
    const FRAGMENT: u8 = 44;
    if packet.get(24..40)? != dst.octets() {
        return None;
    }
    match *packet.get(6)? {
        58 => packet.get(40..),
        FRAGMENT if packet.get(40)? == &58 => packet.get(48..),
        _ => None,
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DST4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
    const DST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));

    fn ipv4(protocol: u8, ttl: u8, body: &[u8]) -> Vec<u8> {
        let mut packet =
            vec![0x45, 0, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9];
        packet.extend(body);
        packet
    }

    fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet.extend([0; 16]);
        let IpAddr::V6(dst) = DST6 else { unreachable!() };
        packet.extend(dst.octets());
        packet.extend(body);
        packet
    }

    #[test]
    fn a_request_has_a_correct_checksum() {
        for length in [0, 1, 8, 57] {
            let bytes = request(false, 7, 3, &payload(7, 3, length));
            assert_eq!(checksum(&bytes), 0, "{length}");
        }
        assert_eq!(request(true, 7, 3, &[])[..], [128, 0, 0, 0, 0, 7, 0, 3]);
    }

    #[test]
    fn replies_of_others_are_not_ours() {
        let mut reply = request(false, 7, 3, b"x");
        reply[0] = 0;
        let heard = read(false, 7, DST4, None, &ipv4(1, 61, &reply));
        assert_eq!(heard, Some(Heard::Reply { seq: 3, ttl: Some(61), payload: b"x".to_vec() }));
        assert_eq!(read(false, 8, DST4, None, &ipv4(1, 61, &reply)), None);
        let mut reply = request(true, 7, 3, b"x");
        reply[0] = 129;
        let heard = read(true, 7, DST6, Some(61), &reply);
        assert_eq!(heard, Some(Heard::Reply { seq: 3, ttl: Some(61), payload: b"x".to_vec() }));
        assert_eq!(read(true, 8, DST6, Some(61), &reply), None);
    }

    #[test]
    fn errors_quote_the_request() {
        let quoted = ipv4(1, 1, &request(false, 7, 3, b"0123"));
        for (icmp_type, code, kind) in [
            (3, 4, Kind::TooBig { mtu: 1400 }),
            (3, 1, Kind::Unreachable { code: 1 }),
            (11, 0, Kind::TimeExceeded),
            (12, 0, Kind::Other { icmp_type: 12, code: 0 }),
        ] {
            let mut error = vec![icmp_type, code, 0, 0, 0, 0];
            error.extend(1400_u16.to_be_bytes());
            error.extend(&quoted);
            let packet = ipv4(1, 64, &error);
            assert_eq!(read(false, 7, DST4, None, &packet), Some(Heard::Error { seq: 3, kind }));
            assert_eq!(read(false, 8, DST4, None, &packet), None, "another ping's");
        }
        let echo = request(true, 7, 3, b"0123");
        let fragment = [&[58, 0, 0, 1, 0, 0, 0, 0], &echo[..]].concat();
        for quoted in [ipv6(58, &echo), ipv6(44, &fragment)] {
            for (icmp_type, kind) in [
                (1, Kind::Unreachable { code: 3 }),
                (2, Kind::TooBig { mtu: 1400 }),
                (3, Kind::TimeExceeded),
                (4, Kind::Other { icmp_type: 4, code: 3 }),
            ] {
                let mut error = vec![icmp_type, 3, 0, 0];
                error.extend(1400_u32.to_be_bytes());
                error.extend(&quoted);
                assert_eq!(read(true, 7, DST6, None, &error), Some(Heard::Error { seq: 3, kind }));
            }
        }
    }

    #[test]
    fn truncated_packets_are_ignored() {
        let quoted = ipv4(1, 1, &request(false, 7, 3, b"0123"));
        let packet = ipv4(1, 64, &[&[3, 4, 0, 0, 0, 0, 5, 0], &quoted[..]].concat());
        for length in 0..20 + 8 + 20 + 8 {
            assert_eq!(read(false, 7, DST4, None, &packet[..length]), None, "{length}");
        }
        let error =
            [&[2, 0, 0, 0, 0, 0, 5, 0], &ipv6(58, &request(true, 7, 3, b"0123"))[..]].concat();
        for length in 0..8 + 40 + 8 {
            assert_eq!(read(true, 7, DST6, None, &error[..length]), None, "{length}");
        }
    }
}
