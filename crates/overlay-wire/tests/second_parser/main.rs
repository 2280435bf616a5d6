//! etherparse reads what this crate writes, and the two agree about every packet, well-formed or not.

mod agree;
mod packet;

use std::fmt::Debug;

use overlay_wire::arp::ArpPacket;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::ethernet::{EtherType, EthernetFrame};
use overlay_wire::icmpv4::Icmpv4Packet;
use overlay_wire::icmpv6::Icmpv6Packet;
use overlay_wire::ip::{IpPacket, IpProtocol};
use overlay_wire::ipv6::extension::Extension;
use overlay_wire::tcp::TcpPacket;
use overlay_wire::udp::UdpPacket;
use overlay_wire::vlan::VlanPacket;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// Checks a property, and writes nothing into the source tree when it fails.
#[track_caller]
fn check<T: Debug>(cases: u32, strategy: impl Strategy<Value = T>, property: impl Fn(T)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&strategy, |value| {
        property(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn what_is_written_is_read_with_right_checksums() {
    check(4096, packet::frame(), |frame| {
        let theirs = etherparse::SlicedPacket::from_ethernet(&frame);
        assert!(theirs.is_ok(), "{theirs:?}");
        let found = agree::on_frame(&frame);
        assert!(found.wrong_checksums == 0, "{found:?}");
    });
}

#[test]
fn what_is_read_is_written_again() {
    check(4096, packet::frame(), |frame| assert_eq!(rewritten(&frame), frame));
}

#[test]
fn damaged_packets_are_judged_alike() {
    let damage = (vec((any::<Index>(), any::<u8>()), 1..4), any::<Index>(), any::<bool>());
    check(16_384, (packet::frame(), damage), |(mut frame, (bytes, end, cut))| {
        for (at, byte) in bytes {
            let at = at.index(frame.len());
            frame[at] ^= byte;
        }
        if cut {
            frame.truncate(end.index(frame.len() + 1));
        }
        agree::on_frame(&frame);
    });
}

#[test]
fn noise_is_judged_alike() {
    check(16_384, (any::<u8>(), any::<bool>(), vec(any::<u8>(), 0..120)), |(kind, six, bytes)| {
        let addresses = packet::addresses(six);
        match kind % 10 {
            0 => drop(agree::on_frame(&bytes)),
            1 => agree::on_arp(&bytes),
            2 => drop(agree::on_ip(&with_first(bytes, 0x45))),
            3 => drop(agree::on_ip(&with_first(bytes, 0x60))),
            4 => drop(agree::on_udp(&bytes, &addresses)),
            5 => drop(agree::on_tcp(&with_offset(bytes), &addresses)),
            6 => drop(agree::on_icmpv4(&bytes)),
            7 => drop(agree::on_icmpv6(&bytes, &packet::addresses(true))),
            8 => agree::on_tcp_options(&bytes),
            _ => agree::on_extensions(bytes.len() as u8, &bytes),
        }
    });
}

/// With a version that both parsers go on behind.
fn with_first(mut bytes: Vec<u8>, first: u8) -> Vec<u8> {
    if let Some(byte) = bytes.first_mut() {
        *byte = first | *byte & 0x02;
    }
    bytes
}

/// With a data offset that is likely to be possible.
fn with_offset(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(byte) = bytes.get_mut(12) {
        *byte = 0x40 | *byte & 0x7f;
    }
    bytes
}

/// The frame again, each header read and written over its own place full of ones.
fn rewritten(frame: &[u8]) -> Vec<u8> {
    let mut again = frame.to_vec();
    let ethernet = EthernetFrame::parse(frame).unwrap();
    let mut at = 14;
    let mut ether_type = ethernet.ether_type();
    let mut tags = Vec::new();
    while [EtherType::VLAN, EtherType::QINQ].contains(&ether_type) {
        let tag = VlanPacket::parse(&frame[at..]).unwrap();
        (ether_type, at) = (tag.ether_type(), at + 4);
        tags.push(tag.header());
    }
    match ether_type {
        EtherType::ARP => {
            let header = ArpPacket::parse(&frame[at..]).unwrap().header();
            again[at..].fill(0xff);
            header.emit(&mut again[at..]).unwrap();
        }
        EtherType::IPV4 | EtherType::IPV6 => {
            let packet = IpPacket::parse(&frame[at..]).unwrap();
            rewrite_ip(&packet, &mut again[at..]);
        }
        _ => {}
    }
    for (number, tag) in tags.iter().enumerate() {
        again[14 + number * 4..][..4].fill(0xff);
        tag.emit(&mut again[14 + number * 4..]).unwrap();
    }
    again[..14].fill(0xff);
    ethernet.header().emit(&mut again).unwrap();
    again
}

/// From the inside out, as each checksum covers what is behind it.
fn rewrite_ip(packet: &IpPacket<'_>, again: &mut [u8]) {
    let upper = packet.upper_layer().unwrap();
    if upper.is_whole() {
        let addresses = packet.pseudo_header();
        rewrite_upper(upper.protocol, upper.payload, &mut again[upper.header_len..], &addresses);
    }
    match packet {
        IpPacket::V4(packet) => {
            again[..packet.header_len()].fill(0xff);
            packet.header().emit(again).unwrap();
        }
        IpPacket::V6(packet) => {
            for extension in packet.extensions() {
                let extension = extension.unwrap();
                let end = again.len() - extension.payload().len();
                match extension {
                    Extension::HopByHop(options) | Extension::DestinationOptions(options) => {
                        let at = end - options.header_len();
                        again[at..end].fill(0xff);
                        options.header().emit(&mut again[at..]).unwrap();
                    }
                    Extension::Fragment(fragment) => {
                        again[end - 8..end].fill(0xff);
                        fragment.header().emit(&mut again[end - 8..]).unwrap();
                    }
                    _ => {}
                }
            }
            again[..40].fill(0xff);
            packet.header().emit(again).unwrap();
        }
    }
}

fn rewrite_upper(protocol: IpProtocol, bytes: &[u8], again: &mut [u8], addresses: &PseudoHeader) {
    match protocol {
        IpProtocol::UDP => {
            let packet = UdpPacket::parse(bytes).unwrap();
            again[..8].fill(0xff);
            let addresses = (packet.checksum() != 0).then_some(addresses);
            packet.header().emit(again, addresses).unwrap();
        }
        IpProtocol::TCP => {
            let packet = TcpPacket::parse(bytes).unwrap();
            again[..packet.header_len()].fill(0xff);
            packet.header().emit(again, addresses).unwrap();
        }
        IpProtocol::ICMP => {
            let packet = Icmpv4Packet::parse(bytes).unwrap();
            again[..8].fill(0xff);
            packet.header().emit(again).unwrap();
        }
        IpProtocol::ICMPV6 => {
            let packet = Icmpv6Packet::parse(bytes).unwrap();
            again[..8].fill(0xff);
            packet.header().emit(again, addresses).unwrap();
        }
        _ => {}
    }
}
