use overlay_wire::tcp::{self, TcpFlags, TcpOption, TcpPacket};

use super::{ADDRESSES, emitted, prints};

/// TCP segments with their options, and clamping the segment size.
pub fn tcp(input: &[u8]) {
    clamp(input);
    let Ok(packet) = TcpPacket::parse(input) else { return };
    let header = packet.header();
    prints(header.flags, 64);
    assert_eq!(packet.header_len(), header.header_len());
    assert!(packet.options_iter().count() <= tcp::MAX_OPTIONS);
    for option in packet.options_iter() {
        if let Ok(TcpOption::Sack(blocks)) = option {
            assert!(blocks.iter().len() <= 4);
        }
    }
    for addresses in &ADDRESSES {
        let emit = |bytes: &mut [u8]| header.emit(bytes, addresses);
        let written = emitted(header.header_len(), packet.payload(), emit);
        let read = TcpPacket::parse(&written).expect("what was written can be read");
        assert_eq!((read.header(), read.payload()), (header, packet.payload()));
        assert!(read.is_checksum_valid(addresses) && read.reserved() == 0);
        // Both zeros of the one's complement are right in a checksum; we write 0.
        let canonical = packet.reserved() == 0 && packet.checksum() != 0xffff;
        if canonical && packet.is_checksum_valid(addresses) {
            assert_eq!(written, input);
        }
    }
}

/// After clamping nothing is announced above the limit, and a checksum that was right is right.
fn clamp(input: &[u8]) {
    const LIMIT: u16 = 1410;
    let mut segment = input.to_vec();
    match tcp::clamp_mss(&mut segment, LIMIT) {
        Err(_) | Ok(false) => assert_eq!(segment, input),
        Ok(true) => {
            let (before, after) = (TcpPacket::parse(input), TcpPacket::parse(&segment));
            let (Ok(before), Ok(after)) = (before, after) else { panic!("no segment any more") };
            assert!(before.flags().contains(TcpFlags::SYN));
            let mss = |packet: &TcpPacket<'_>| {
                packet
                    .options_iter()
                    .filter_map(Result::ok)
                    .filter_map(|option| match option {
                        TcpOption::Mss(mss) => Some(mss),
                        _ => None,
                    })
                    .last()
            };
            assert!(mss(&before) > Some(LIMIT));
            assert_eq!(mss(&after), Some(LIMIT));
            for addresses in &ADDRESSES {
                assert_eq!(before.is_checksum_valid(addresses), after.is_checksum_valid(addresses));
            }
        }
    }
}
