use overlay_wire::geneve::{self, GeneveOption, GeneveOptions, GenevePacket};

use super::emitted;

/// Geneve packets with options.
pub fn geneve(input: &[u8]) {
    let Ok(packet) = GenevePacket::parse(input) else { return };
    let header = packet.header();
    assert_eq!(packet.header_len(), header.header_len());
    let written = emitted(header.header_len(), packet.payload(), |bytes| header.emit(bytes));
    let read = GenevePacket::parse(&written).expect("what was written can be read");
    assert_eq!((read.header(), read.payload()), (header, packet.payload()));
    assert_eq!(read.reserved(), 0);
    // The C flag may be set without a critical option, but not by us.
    if packet.reserved() == 0 && packet.critical() == packet.options().any_critical() {
        assert_eq!(written, input);
    }

    let options: Vec<GeneveOption<'_>> = packet.options().iter().collect();
    let len: usize = options.iter().map(|option| geneve::OPTION_LEN + option.data.len()).sum();
    assert_eq!(len, packet.options().as_bytes().len(), "options are lost");
    assert!(options.iter().all(|option| option.data.len() <= geneve::MAX_OPTION_DATA));
    let mut room = [0xa5; geneve::MAX_OPTIONS];
    let emitted = GeneveOptions::emit(&options, &mut room).expect("options that were read fit");
    assert!(emitted.iter().eq(options), "the options read otherwise");
}
