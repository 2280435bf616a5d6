use overlay_wire::ip::IpProtocol;
use overlay_wire::ipv6::Ipv6Packet;
use overlay_wire::ipv6::extension::{Extension, MAX_EXTENSIONS};

use super::{emitted, prints};

/// IPv6 packets, whole and cut, with extension headers.
pub fn ipv6(input: &[u8]) {
    let cut = Ipv6Packet::parse_cut(input);
    let whole = Ipv6Packet::parse(input);
    if let Ok(packet) = whole {
        assert_eq!(cut, whole);
        assert_eq!(packet.payload().len(), usize::from(packet.payload_length()));
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
    chain(&packet);
}

/// The extension headers and what they lead to.
fn chain(packet: &Ipv6Packet<'_>) {
    let mut extensions = packet.extensions();
    let (mut next, mut rest, mut seen) = (packet.next_header(), packet.payload(), 0);
    let mut broken = None;
    for extension in extensions.by_ref() {
        match extension {
            Ok(extension) => {
                assert_eq!(Extension::parse(next, rest), Ok(Some(extension)));
                self::extension(&extension, rest);
                (next, rest) = (extension.next_header(), extension.payload());
                seen += 1;
            }
            Err(error) => broken = Some(error),
        }
    }
    assert!(seen <= MAX_EXTENSIONS);
    assert!(extensions.next().is_none(), "something behind the end");
    assert_eq!((extensions.next_header(), extensions.payload()), (next, rest));
    match (packet.upper_layer(), broken) {
        (Ok(upper), None) => assert_eq!((upper.protocol, upper.payload), (next, rest)),
        (Err(error), Some(broken)) => assert_eq!(error, broken),
        (upper, broken) => panic!("{upper:?} behind {broken:?}"),
    }
}

/// One extension header, the first of `bytes`: written again where we can, and the same then.
fn extension(extension: &Extension<'_>, bytes: &[u8]) {
    let len = bytes.len() - extension.payload().len();
    assert!(bytes.ends_with(extension.payload()));
    match extension {
        Extension::HopByHop(packet) | Extension::DestinationOptions(packet) => {
            assert!(packet.iter().count() <= len);
            let header = packet.header();
            assert_eq!((packet.header_len(), header.header_len()), (len, len));
            let written = emitted(len, packet.payload(), |bytes| header.emit(bytes));
            assert_eq!(written, bytes);
        }
        Extension::Fragment(packet) => {
            let header = packet.header();
            let written =
                emitted(header.header_len(), packet.payload(), |bytes| header.emit(bytes));
            let read = Extension::parse(IpProtocol::FRAGMENT, &written);
            let Ok(Some(Extension::Fragment(read))) = read else { panic!("{read:?}") };
            assert_eq!((read.header(), read.payload()), (header, packet.payload()));
        }
        Extension::Routing(packet) => {
            assert_eq!(packet.data().len() + 4, len);
            assert_eq!((packet.routing_type(), packet.segments_left()), (bytes[2], bytes[3]));
        }
        Extension::Authentication(packet) => {
            assert_eq!(packet.icv().len() + 12, len);
            assert_eq!(packet.spi().to_be_bytes(), bytes[4..8]);
            assert_eq!(packet.sequence().to_be_bytes(), bytes[8..12]);
        }
        other => panic!("nobody knows {other:?} here"),
    }
}
