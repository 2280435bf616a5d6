use overlay_wire::vxlan::VxlanPacket;
use overlay_wire::vxlan_gpe::VxlanGpePacket;

use super::{emitted, prints};

/// VXLAN packets, with and without a group policy, and VXLAN-GPE.
pub fn vxlan(input: &[u8]) {
    if let Ok(packet) = VxlanPacket::parse(input) {
        let header = packet.header();
        assert_eq!(header.vni.to_string().parse(), Ok(header.vni));
        let written = emitted(header.header_len(), packet.payload(), |bytes| header.emit(bytes));
        assert_eq!(written[..header.header_len()], header.to_bytes());
        let read = VxlanPacket::parse(&written).expect("what was written can be read");
        assert_eq!((read.header(), read.payload()), (header, packet.payload()));
        assert_eq!(read.reserved(), 0);
        assert_eq!(written == input, packet.reserved() == 0);
    }
    if let Ok(packet) = VxlanGpePacket::parse(input) {
        let header = packet.header();
        if let Some(next) = header.next_protocol {
            prints(next, 32);
        }
        let written = emitted(header.header_len(), packet.payload(), |bytes| header.emit(bytes));
        assert_eq!(written[..header.header_len()], header.to_bytes());
        let read = VxlanGpePacket::parse(&written).expect("what was written can be read");
        assert_eq!((read.header(), read.payload()), (header, packet.payload()));
        assert_eq!(read.reserved(), 0);
        assert_eq!(written == input, packet.reserved() == 0);
    }
}
