//! The kernel segments packets, and completes their checksums, as this crate does; and what this crate has coalesced, the
//! kernel takes apart into what it was.

mod packet;

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_lab::{Host, capture_if, connect, transmit};
use overlay_wire::MacAddr;
use overlay_wire::coalesce::{Coalescer, Options};
use overlay_wire::ethernet::{self, EtherType, EthernetHeader};
use overlay_wire::ip::Ecn;
use overlay_wire::segment::complete_checksum;
use overlay_wire::tcp::TcpFlags;
use overlay_wire::virtio_net::{ChecksumState, VirtioNetHeader};

use packet::{Large, segmented};

type Outcome = Result<(), Failed>;
type Case = (&'static str, fn() -> Outcome);

const CASES: [Case; 3] = [
    ("the kernel segments as we do", segments),
    ("the kernel takes apart what we have coalesced", coalesced),
    ("the kernel completes checksums as we do", checksums),
];

fn main() {
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let trials = CASES.map(|(name, case)| Trial::test(name, case)).into();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// What a device does for the kernel unless it is told not to.
const OFFLOADS: [&str; 6] = [
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-checksum-ip-generic",
];

/// Two hosts on one cable, between which the kernel has to do everything itself.
fn hosts() -> overlay_lab::Result<[Host; 2]> {
    let hosts = [Host::new("ours")?, Host::new("theirs")?];
    connect(&hosts[0], "eth0", &hosts[1], "eth0")?;
    for feature in OFFLOADS {
        hosts[0].feature("eth0", feature, false)?;
    }
    Ok(hosts)
}

/// Packets of every kind, and numbers that go round.
fn larges() -> Vec<Large> {
    let all = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::ECE | TcpFlags::CWR;
    let timestamps = b"\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02".to_vec();
    let mut larges = Vec::new();
    for six in [false, true] {
        for tcp in [
            Some((TcpFlags::ACK, vec![])),
            Some((all, timestamps.clone())),
            Some((all, vec![1; 40])),
            None,
        ] {
            for ip_options in [vec![], vec![0; if six { 6 } else { 8 }]] {
                // The kernel takes no more datagrams at once.
                let small = if tcp.is_some() { 1000 } else { 64 };
                for (len, size) in [(60_000, 1380), (4140, 1380), (2999, 1001), (small, 1), (7, 3)]
                {
                    larges.push(Large {
                        six,
                        port: 40_000,
                        tcp: tcp.clone(),
                        sequence: u32::MAX - 2000,
                        window: 512,
                        identification: u16::MAX - 1,
                        dont_fragment: larges.len() % 2 == 0,
                        dscp: 46,
                        ecn: Ecn::Ect0,
                        ttl: 63,
                        flow_label: 0xabcde,
                        ip_options: ip_options.clone(),
                        payload: (0..len).map(|at: usize| (at * 7 / 3) as u8).collect(),
                        size,
                    });
                }
            }
        }
    }
    larges
}

fn segments() -> Outcome {
    let [ours, theirs] = hosts()?;
    for large in larges() {
        let (header, packet) = large.build();
        let expected = segmented(&header, &packet);
        assert_eq!(expected, large.segments());
        let received = through_the_kernel(&ours, &theirs, &header, &packet, expected.len())?;
        assert_same(&received, &expected);
    }
    Ok(())
}

fn coalesced() -> Outcome {
    let [ours, theirs] = hosts()?;
    let mut coalescer = Coalescer::<1024>::new(Options::default());
    for large in larges().into_iter().filter(|large| !large.is_extended()) {
        let packets = large.segments();
        let mut buffer = packets.concat();
        let mut start = 0;
        for packet in &packets {
            coalescer.push(&buffer, start..start + packet.len())?;
            start += packet.len();
        }
        let mut written: Vec<_> = coalescer
            .finish(&mut buffer)
            .map(|packet| (packet.header(), packet.pieces().collect::<Vec<_>>()))
            .collect();
        coalescer.clear();
        let (header, pieces) = written.pop().expect("a packet");
        assert!(written.is_empty() && pieces.len() == packets.len(), "{large:?}");
        let packet: Vec<u8> = pieces.into_iter().flat_map(|it| buffer[it].to_vec()).collect();
        let received = through_the_kernel(&ours, &theirs, &header, &packet, packets.len())?;
        assert_same(&received, &packets);
    }
    Ok(())
}

fn checksums() -> Outcome {
    let [ours, theirs] = hosts()?;
    for mut large in larges().into_iter().filter(|large| large.payload.len() == 7) {
        let sum = completed(&ours, &theirs, &large)?;
        // A word of the payload grows by the checksum, which then is 0: that is written as the other zero.
        let word = u16::from_be_bytes([large.payload[4], large.payload[5]]);
        let (grown, carry) = word.overflowing_add(sum);
        large.payload[4..6].copy_from_slice(&(grown + u16::from(carry)).to_be_bytes());
        assert_eq!(completed(&ours, &theirs, &large)?, 0xffff);
    }
    Ok(())
}

/// The checksum that the kernel and we compute of the same packet.
fn completed(ours: &Host, theirs: &Host, large: &Large) -> Result<u16, Failed> {
    let (header, mut packet) = large.build();
    let header = VirtioNetHeader { gso: None, ..header };
    let received = through_the_kernel(ours, theirs, &header, &packet, 1)?;
    complete_checksum(&header, &mut packet)?;
    assert_eq!(received, [packet.clone()]);
    let ChecksumState::Needed { start, offset } = header.checksum else {
        return Err("nothing to complete".into());
    };
    let place = usize::from(start + offset);
    Ok(u16::from_be_bytes([packet[place], packet[place + 1]]))
}

/// Compares packet by packet, so that what differs can be read.
fn assert_same(received: &[Vec<u8>], expected: &[Vec<u8>]) {
    for (at, (received, expected)) in received.iter().zip(expected).enumerate() {
        assert_eq!(received, expected, "packet {at}");
    }
    assert_eq!(received.len(), expected.len());
}

/// What becomes of a packet on its way.
fn through_the_kernel(
    ours: &Host,
    theirs: &Host,
    header: &VirtioNetHeader,
    packet: &[u8],
    count: usize,
) -> Result<Vec<Vec<u8>>, Failed> {
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    let ether_type = if packet[0] >> 4 == 6 { EtherType::IPV6 } else { EtherType::IPV4 };
    // To nobody, so that nobody answers.
    let ethernet = EthernetHeader { dst: MacAddr([2, 0, 0, 0, 0, 2]), src: MAC, ether_type };
    let mut frame = [0; ethernet::LEN];
    ethernet.emit(&mut frame)?;
    let mut header = *header;
    // On this device, everything counts from the Ethernet header on.
    if let ChecksumState::Needed { start, .. } = &mut header.checksum {
        *start += ethernet::LEN as u16;
    }
    if let Some(gso) = &mut header.gso {
        gso.header_len += ethernet::LEN as u16;
    }
    let captured = capture_if(theirs, "eth0", |frame| frame.get(6..12) == Some(&MAC.0))?;
    transmit(ours, "eth0", &[&header.to_bytes()[..], &frame, packet].concat())?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while captured.frames().len() < count && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let frames = captured.frames();
    Ok(frames.into_iter().map(|frame| frame.bytes[ethernet::LEN..].to_vec()).collect())
}
