use overlay_wire::gue::{self, Gue};

use super::emitted;

/// GUE packets of both variants, of which the second is FOU.
pub fn gue(input: &[u8]) {
    match Gue::parse(input) {
        Ok(Gue::Variant0(packet)) => {
            let header = packet.header();
            assert!(packet.extensions().len() <= gue::MAX_EXTENSIONS);
            assert_eq!(packet.header_len(), header.header_len());
            let written =
                emitted(header.header_len(), packet.payload(), |bytes| header.emit(bytes));
            assert_eq!(written, input);
        }
        Ok(Gue::Variant1(packet)) => super::ip::same(&packet, input),
        Err(_) => {}
    }
}
