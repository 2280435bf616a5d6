use overlay_wire::gre::GrePacket;

use super::{emitted, prints};

/// GRE packets with checksum, key and sequence number.
pub fn gre(input: &[u8]) {
    let Ok(packet) = GrePacket::parse(input) else { return };
    let header = packet.header();
    prints(header.protocol, 32);
    assert_eq!(packet.header_len(), header.header_len());
    assert_eq!(packet.header_len() + packet.payload().len(), input.len());
    let written = emitted(header.header_len(), packet.payload(), |bytes| header.emit(bytes));
    let read = GrePacket::parse(&written).expect("what was written can be read");
    assert_eq!((read.header(), read.payload()), (header, packet.payload()));
    assert!(read.is_checksum_valid() && read.reserved() == 0);
    // Both zeros of the one's complement are right in a checksum; we write 0. Behind the checksum there are 16 bits that
    // are reserved too.
    let canonical = packet.reserved() == 0
        && (packet.checksum().is_none()
            || packet.checksum() != Some(0xffff) && input[6..8] == [0; 2]);
    if canonical && packet.is_checksum_valid() {
        assert_eq!(written, input);
    }
}
