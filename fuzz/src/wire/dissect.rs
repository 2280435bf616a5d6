use overlay_wire::dissect::{Dissection, Dissector, MAX_LAYERS, Start};
use overlay_wire::ethernet::EtherType;

/// Any bytes as a packet that begins with Ethernet (0), with IP of either version (1), or with what the first two bytes say
/// otherwise: whole and cut, in a line and as a tree. The text has a bound, and layers lie inside of each other.
pub fn dissect(input: &[u8]) {
    let Some((first, bytes)) = input.split_first_chunk() else { return };
    let start = match u16::from_be_bytes(*first) {
        0 => Start::Ethernet,
        1 => Start::Ip,
        ether_type => Start::EtherType(EtherType(ether_type)),
    };
    let dissector = Dissector::new(start);
    look(&dissector.dissect(bytes));
    look(&dissector.link_level(true).dissect_cut(bytes, bytes.len() + bytes.len() / 2));
    look(&dissector.max_layers(bytes.len() % 8).dissect(bytes));
}

fn look(packet: &Dissection<'_, '_>) {
    let mut inside = packet.bytes().as_ptr_range();
    let mut layers = 0;
    for layer in packet.layers() {
        layers += 1;
        let range = layer.bytes.as_ptr_range();
        assert!(layer.bytes.is_empty() || inside.start <= range.start && range.end <= inside.end);
        assert!(layer.header_len <= layer.bytes.len());
        assert_eq!(
            packet.bytes().get(layer.offset..layer.offset + layer.bytes.len()),
            Some(layer.bytes)
        );
        if !layer.bytes.is_empty() {
            inside = range;
        }
        assert!(!layer.name().is_empty());
        assert!(layer.unpadded_len() <= layer.length);
        if let Some(checksum) = layer.checksum() {
            super::prints(checksum, 64);
        }
    }
    // Behind the last header there is what it carries, or why it cannot be read.
    assert!(layers <= MAX_LAYERS + 1, "{layers} layers");
    if let Some(outermost) = packet.outermost() {
        // At least an IP header.
        assert!(outermost.overhead() >= 20, "{outermost:?}");
        assert!(outermost.outer_len <= packet.length(), "{outermost:?}");
    }

    // Options have the most text per byte.
    let limit = 4096 + 64 * packet.bytes().len();
    let (line, tree) = (packet.to_string(), format!("{packet:#}"));
    assert!(line.len() <= limit && tree.len() <= 2 * limit, "{} {}", line.len(), tree.len());
    assert!(!line.contains('\n'), "more than one line");
}
