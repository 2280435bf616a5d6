use overlay_wire::ethernet::EthernetFrame;

use super::{emitted, prints};

/// Ethernet II frames.
pub fn ethernet(input: &[u8]) {
    if let Ok(frame) = EthernetFrame::parse(input) {
        let header = frame.header();
        prints(header.ether_type, 32);
        prints(header.src, 17);
        assert_eq!(header.to_bytes(), input[..header.header_len()]);
        let packet = emitted(header.header_len(), frame.payload(), |bytes| header.emit(bytes));
        assert_eq!(packet, input);
    }
}
