use overlay_wire::checksum::{self, Checksum, PseudoHeader};
use overlay_wire::ip::IpProtocol;

/// The checksum beside its definition, in parts beside in one, updated beside computed anew.
///
/// The first four bytes of the input choose where it is divided and what is replaced.
pub fn checksum(input: &[u8]) {
    let Some(([a, b, c, d], bytes)) = input.split_first_chunk() else { return };
    let sum = checksum::of(bytes);
    assert_eq!(sum, defined(bytes));
    assert_eq!(checksum::is_valid(bytes), sum == 0);

    let place = |choice: u8| usize::from(choice) * (bytes.len() + 1) / 256;
    let (first, second) = bytes.split_at(place(*a));
    assert_eq!(Checksum::new().bytes(first).bytes(second).finish(), sum, "in two parts");
    let (second, third) = second.split_at(place(*b).min(second.len()));
    let parts = Checksum::new().bytes(first).bytes(second).bytes(third);
    assert_eq!(parts.finish(), sum, "in three parts");

    pseudo_headers(bytes);

    // Replace some bytes, which begin at an even offset, by others.
    let (from, to) = (place(*c) & !1, place(*d).max(place(*c) & !1));
    let old = &bytes[from..to];
    let new: Vec<u8> = old.iter().zip(input).map(|(old, other)| old ^ other).collect();
    let mut changed = bytes.to_vec();
    changed[from..to].copy_from_slice(&new);
    same(checksum::update_bytes(sum, old, &new), &changed, bytes);

    let Some(old) = bytes.get(from..).and_then(<[u8]>::first_chunk) else { return };
    let mut changed = bytes.to_vec();
    changed[from..from + 2].copy_from_slice(&[*a, *b]);
    let new = u16::from_be_bytes([*a, *b]);
    same(checksum::update(sum, u16::from_be_bytes(*old), new), &changed, bytes);
}

/// An update gives what computing anew gives. There are two zeros, and an update cannot tell which it is when all words
/// are 0 before or after.
fn same(updated: u16, changed: &[u8], before: &[u8]) {
    let anew = checksum::of(changed);
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let either = zero(before) || zero(changed);
    let zeros = [0, 0xffff];
    assert!(
        updated == anew || either && zeros.contains(&updated) && zeros.contains(&anew),
        "updated {updated:#06x}, anew {anew:#06x}"
    );
}

/// The pseudo-headers are what the RFCs draw.
fn pseudo_headers(bytes: &[u8]) {
    let (Some(&addresses), length) = (bytes.first_chunk::<32>(), bytes.len() as u32) else {
        return;
    };
    let protocol = IpProtocol(addresses[0]);
    let sum = |header| Checksum::new().pseudo_header(&header, protocol, length).bytes(bytes);

    let octets = |at: usize| [0, 1, 2, 3].map(|byte| addresses[at + byte]);
    let v4 = PseudoHeader::V4 { src: octets(0).into(), dst: octets(4).into() };
    let drawn = [&addresses[..8], &[0, protocol.0], &(length as u16).to_be_bytes(), bytes].concat();
    if length <= 0xffff {
        assert_eq!(sum(v4).finish(), defined(&drawn));
    }

    let half = |at: usize| {
        u128::from_be_bytes(std::array::from_fn::<u8, 16, _>(|byte| addresses[at + byte]))
    };
    let v6 = PseudoHeader::V6 { src: half(0).into(), dst: half(16).into() };
    let drawn = [&addresses[..], &length.to_be_bytes(), &[0, 0, 0, protocol.0], bytes].concat();
    assert_eq!(sum(v6).finish(), defined(&drawn));
}

/// RFC 1071, section 4.1.
fn defined(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
