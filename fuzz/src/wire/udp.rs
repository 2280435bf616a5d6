use overlay_wire::udp::UdpPacket;

use super::{ADDRESSES, emitted};

/// UDP datagrams, whole and cut, with and without a checksum, over both versions of IP.
pub fn udp(input: &[u8]) {
    let cut = UdpPacket::parse_cut(input);
    let whole = UdpPacket::parse(input);
    if let Ok(packet) = whole {
        assert_eq!(cut, whole);
        let length = packet.header().header_len() + packet.payload().len();
        assert_eq!(length, usize::from(packet.length()));
    }
    let Ok(packet) = cut else { return };
    let header = packet.header();
    let (header_len, payload) = (header.header_len(), packet.payload());
    let without = emitted(header_len, payload, |bytes| header.emit(bytes, None));
    if whole.is_ok() && packet.checksum() == 0 {
        assert_eq!(without, input[..without.len()]);
    }
    for addresses in &ADDRESSES {
        let written = emitted(header_len, payload, |bytes| header.emit(bytes, Some(addresses)));
        let read = UdpPacket::parse(&written).expect("what was written can be read");
        assert_eq!((read.header(), read.payload()), (header, payload));
        assert!(read.is_checksum_valid(addresses) && read.checksum() != 0);
        if whole.is_ok() && packet.checksum() != 0 && packet.is_checksum_valid(addresses) {
            assert_eq!(written, input[..written.len()]);
        }
    }
}
