//! What is in front of the packets of a capture: <https://www.tcpdump.org/linktypes.html>.

use anyhow::bail;
use overlay_wire::dissect::Start;
use overlay_wire::ethernet::EtherType;

const NULL: u32 = 0;
const ETHERNET: u32 = 1;
/// LINKTYPE_RAW, and the numbers it had on some systems.
const RAW_IP: [u32; 3] = [101, 12, 14];
const LOOP: u32 = 108;
const LINUX_COOKED: u32 = 113;
const IPV4: u32 = 228;
const IPV6: u32 = 229;
const LINUX_COOKED_2: u32 = 276;

/// Where a packet begins, its bytes from there on, and how many there were on the wire.
///
/// What a capture says in its own words in front of the packet is left out.
pub(crate) fn start(
    link_type: u32,
    bytes: &[u8],
    length: usize,
) -> anyhow::Result<(Start, &[u8], usize)> {
    let (header_len, ether_type_at) = match link_type {
        ETHERNET => return Ok((Start::Ethernet, bytes, length)),
        IPV4 | IPV6 => return Ok((Start::Ip, bytes, length)),
        raw if RAW_IP.contains(&raw) => return Ok((Start::Ip, bytes, length)),
        // An address family in whose numbers systems differ; the packet says itself what it is.
        NULL | LOOP => (4, None),
        LINUX_COOKED => (16, Some(14)),
        LINUX_COOKED_2 => (20, Some(0)),
        other => bail!(
            "link type {other} is not supported; these are: 0 and 108 (BSD loopback), 1 (Ethernet), \
             101, 228 and 229 (IP), 113 and 276 (Linux cooked)"
        ),
    };
    let start = match ether_type_at {
        None => Start::Ip,
        Some(at) => match bytes.get(at..at + 2) {
            Some(&[a, b]) => Start::EtherType(EtherType(u16::from_be_bytes([a, b]))),
            _ => Start::Ip,
        },
    };
    let packet = bytes.get(header_len..).unwrap_or_default();
    Ok((start, packet, length.saturating_sub(header_len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_front_is_left_out() {
        let bytes: Vec<u8> = (0..40).collect();
        for (link_type, start_at, header_len) in [
            (1, Start::Ethernet, 0),
            (101, Start::Ip, 0),
            (0, Start::Ip, 4),
            (113, Start::EtherType(EtherType(0x0e0f)), 16),
            (276, Start::EtherType(EtherType(0x0001)), 20),
        ] {
            let found = start(link_type, &bytes, 50).unwrap();
            assert_eq!(found, (start_at, &bytes[header_len..], 50 - header_len), "{link_type}");
            for len in 0..bytes.len() {
                assert!(start(link_type, &bytes[..len], len).is_ok());
            }
        }
        let error = start(105, &bytes, 50).unwrap_err().to_string();
        assert!(error.starts_with("link type 105 is not supported"), "{error}");
    }
}
