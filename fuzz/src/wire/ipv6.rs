use overlay_wire::ipv6::Ipv6Packet;

use super::{emitted, prints};

/// IPv6 packets, whole and cut.
pub fn ipv6(input: &[u8]) {
    let cut = Ipv6Packet::parse_cut(input);
    let whole = Ipv6Packet::parse(input);
    if let Ok(packet) = whole {
        assert_eq!(cut, whole);
        assert_eq!(packet.payload().len(), packet.payload_length().into());
    }
    let Ok(packet) = cut else { return };
    let header = packet.header();
    prints(header.next_header, 32);
    let (header_len, payload) = (header.header_len(), packet.payload());
    let written = emitted(header_len, payload, |bytes| header.emit(bytes));
    let read = Ipv6Packet::parse(&written).expect("what was written can be read");
    assert_eq!((read.header(), read.payload()), (header, payload));
    if whole.is_ok() {
        assert_eq!(written, input[..written.len()]);
    }
}
