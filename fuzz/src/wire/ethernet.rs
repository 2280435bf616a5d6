use overlay_wire::arp::ArpPacket;
use overlay_wire::ethernet::EthernetFrame;
use overlay_wire::vlan::VlanPacket;

use super::{emitted, prints};

/// Ethernet II frames, VLAN tags and ARP.
pub fn ethernet(input: &[u8]) {
    if let Ok(frame) = EthernetFrame::parse(input) {
        let header = frame.header();
        prints(header.ether_type, 32);
        prints(header.src, 17);
        assert_eq!(header.to_bytes(), input[..header.header_len()]);
        let packet = emitted(header.header_len(), frame.payload(), |bytes| header.emit(bytes));
        assert_eq!(packet, input);
    }
    if let Ok(tag) = VlanPacket::parse(input) {
        let header = tag.header();
        let packet = emitted(header.header_len(), tag.payload(), |bytes| header.emit(bytes));
        assert_eq!(packet, input);
    }
    if let Ok(packet) = ArpPacket::parse(input) {
        let header = packet.header();
        prints(header.operation, 32);
        let written = emitted(header.header_len(), &[], |bytes| header.emit(bytes));
        assert_eq!(written, input[..header.header_len()]);
        assert_eq!(header.to_bytes(), written[..]);
        if let Some(reply) = header.reply(header.target_mac) {
            let answered = (reply.target_mac, reply.target_ip);
            assert_eq!(answered, (header.sender_mac, header.sender_ip));
            assert!(reply.reply(header.sender_mac).is_none(), "an answer to an answer");
        }
        assert!(
            !(header.is_probe() && header.is_gratuitous()) || header.target_ip.is_unspecified()
        );
    }
}
