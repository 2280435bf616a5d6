use overlay_wire::checksum;
use overlay_wire::ipv4::{self, Ipv4Packet};

use super::{emitted, prints};

/// IPv4 packets with options, whole and cut.
pub fn ipv4(input: &[u8]) {
    let cut = Ipv4Packet::parse_cut(input);
    if let Ok(packet) = Ipv4Packet::parse(input) {
        assert_eq!(cut, Ok(packet));
        assert_eq!(
            packet.header_len() + packet.payload().len(),
            usize::from(packet.total_length())
        );
    }
    let Ok(packet) = cut else { return };
    let header = packet.header();
    prints(header.protocol, 32);
    assert_eq!(header.header_len(), packet.header_len());
    assert!(header.options.len() <= ipv4::MAX_OPTIONS && packet.header_len() % 4 == 0);
    assert_eq!(
        packet.is_fragment(),
        packet.more_fragments() || packet.fragment_offset() != 0,
        "a fragment that is none"
    );
    let (header_len, payload) = (packet.header_len(), packet.payload());
    let written = emitted(header_len, payload, |bytes| header.emit(bytes));
    let read = Ipv4Packet::parse(&written).expect("what was written can be read");
    assert_eq!((read.header(), read.payload()), (header, payload));
    assert!(read.is_checksum_valid());

    let whole = usize::from(packet.total_length()) == header_len + payload.len();
    let reserved = input[6] & 0x80 != 0;
    // Both zeros of the one's complement are right in a checksum; we write 0.
    let canonical = packet.is_checksum_valid() && packet.checksum() != 0xffff;
    assert_eq!(packet.is_checksum_valid(), checksum::is_valid(&input[..header_len]));
    if whole && canonical && !reserved {
        assert_eq!(written, input[..written.len()]);
    }
}
