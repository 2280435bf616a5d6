//! Packets cost no allocation: counted, for everything that `overlay-wire` does with them. And what a lease costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::{self, Write};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use overlay_benches::contests::ABOUT_PACKETS;
use overlay_benches::stores;
use overlay_lease::{Claim, Lease, Memory, Snapshot, Subnets, Update, View};
use overlay_wire::arp::ArpPacket;
use overlay_wire::checksum::PseudoHeader;
use overlay_wire::dissect::{Dissector, Start};
use overlay_wire::ethernet::EthernetFrame;
use overlay_wire::geneve::GenevePacket;
use overlay_wire::gre::GrePacket;
use overlay_wire::gue::GuePacket;
use overlay_wire::icmp::{self, IcmpError};
use overlay_wire::icmpv4::Icmpv4Packet;
use overlay_wire::icmpv6::Icmpv6Packet;
use overlay_wire::ip::IpPacket;
use overlay_wire::ipv4::Ipv4Packet;
use overlay_wire::ipv6::Ipv6Packet;
use overlay_wire::ipv6::extension::Extension;
use overlay_wire::ndp::NeighbourPacket;
use overlay_wire::tcp::{TcpPacket, clamp_mss};
use overlay_wire::udp::UdpPacket;
use overlay_wire::vlan::VlanPacket;
use overlay_wire::vxlan::VxlanPacket;
use overlay_wire::vxlan_gpe::VxlanGpePacket;

/// The system's allocator, which counts.
struct Counting;

thread_local! {
    /// How often this thread has allocated. Tests run beside each other.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// How many bytes more this thread has allocated than freed.
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: All calls are handed to the system's allocator as they are; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: The caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: The caller's promises are the system's conditions, and the pointer came from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocates meanwhile.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// What 10,000 leases of IPv4 with a VTEP's address cost somebody who knows them all: the leases, and what finds them.
#[test]
fn a_lease_costs_less_than_a_kibibyte() -> Result<()> {
    const LEASES: u32 = 10_000;
    let store = full_of_leases(LEASES)?;
    let before = BYTES.get();
    let mut view = View::new();
    view.apply(Update::Snapshot(copy(&store.snapshot())));
    let bytes = (BYTES.get() - before) / LEASES as isize;
    assert_eq!(view.leases().len(), LEASES as usize);
    println!("{bytes} bytes per lease");
    assert!((200..1024).contains(&bytes), "{bytes}");
    Ok(())
}

/// The same, sharing nothing with it.
fn copy(snapshot: &Snapshot) -> Snapshot {
    let leases = snapshot.leases.iter().map(|lease| Arc::new(Lease::clone(lease)));
    Snapshot { leases: leases.collect(), ..snapshot.clone() }
}

fn full_of_leases(count: u32) -> Result<Memory> {
    let mut memory = Memory::new();
    let configured = memory.configure(&stores::config()?, None)?;
    let pool = configured.config.pools().v4.context("IPv4")?;
    for number in 0..count {
        let request = stores::request(number)?;
        let claim = Claim {
            subnets: Subnets::from(pool.nth(number.into()).context("a subnet")?),
            node: Some(request.node),
            attributes: request.attributes,
            ttl: Some(request.ttl),
            under: configured.revision,
        };
        memory.create(Duration::ZERO, &claim)?;
    }
    Ok(memory)
}

#[test]
fn encapsulating_decapsulating_and_checksums_allocate_nothing() -> Result<()> {
    let mut ours = 0;
    for packets in ABOUT_PACKETS {
        let mut contest = (packets.of)(packets.usual)?.with_objects(128);
        // Of those with every format all are ours.
        let all = packets.id.ends_with("-all");
        for at in 0..contest.contestants.len() {
            let name = contest.contestants[at].name.clone();
            if all || name.starts_with("overlay-wire") {
                ours += 1;
                let mut result = Ok(());
                let count = allocations(|| result = contest.run(at).map(drop));
                result?;
                assert_eq!(count, 0, "{}: {name}", packets.id);
            }
        }
    }
    assert!(ours > 50, "only {ours}");
    Ok(())
}

#[test]
fn reading_writing_and_printing_allocate_nothing() -> Result<()> {
    let (mut read, mut printed) = (0, 0);
    for input in inputs()? {
        let (mut room, mut text) = ([0; 4096], Text { bytes: [0; 1 << 15], len: 0 });
        let count = allocations(|| {
            read += formats(&input, &mut room);
            for start in [Start::Ethernet, Start::Ip] {
                let packet = Dissector::new(start).dissect(&input);
                text.len = 0;
                let fits = write!(text, "{packet}\n{packet:#}").is_ok();
                printed += usize::from(fits && black_box(text.len) > 0);
            }
        });
        assert_eq!(count, 0, "{input:02x?}");
    }
    assert!(read > 500 && printed > 200, "{read} headers read, {printed} packets printed");
    Ok(())
}

#[test]
fn an_allocation_is_noticed() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert!(allocations(|| drop(black_box(String::from("a").repeat(100)))) > 1);
}

/// Packets of every format: the seeds of the fuzz targets.
fn inputs() -> Result<Vec<Vec<u8>>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut inputs = Vec::new();
    for target in std::fs::read_dir(&corpus).context("the fuzz targets' seeds")? {
        let target = target?;
        if target.file_name() != "netlink_messages" {
            for file in std::fs::read_dir(target.path())? {
                inputs.push(std::fs::read(file?.path())?);
            }
        }
    }
    Ok(inputs)
}

/// Text in a fixed buffer.
struct Text {
    bytes: [u8; 1 << 15],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Reads the input as a header of every format, and writes what can be read. How many can.
fn formats(input: &[u8], room: &mut [u8; 4096]) -> usize {
    use std::net::Ipv6Addr;

    let addresses = &PseudoHeader::V6 { src: Ipv6Addr::LOCALHOST, dst: Ipv6Addr::LOCALHOST };
    let mut count = 0;
    macro_rules! format {
        ($parse:expr $(, $addresses:expr)?) => {
            if let Ok(packet) = $parse {
                let header = black_box(packet.header());
                let written = header.emit(&mut room[..header.header_len()] $(, $addresses)?);
                count += usize::from(black_box(written).is_ok());
            }
        };
    }
    format!(EthernetFrame::parse(input));
    format!(VlanPacket::parse(input));
    format!(ArpPacket::parse(input));
    format!(Ipv4Packet::parse(input));
    format!(Ipv6Packet::parse(input));
    format!(UdpPacket::parse(input), Some(addresses));
    format!(TcpPacket::parse(input), addresses);
    format!(Icmpv4Packet::parse(input));
    format!(Icmpv6Packet::parse(input), addresses);
    format!(NeighbourPacket::parse(input), addresses);
    format!(VxlanPacket::parse(input));
    format!(VxlanGpePacket::parse(input));
    format!(GrePacket::parse(input));
    format!(GuePacket::parse(input));
    format!(GenevePacket::parse(input));
    if let Ok(packet) = Ipv6Packet::parse(input) {
        for extension in packet.extensions() {
            match extension {
                Ok(Extension::HopByHop(options) | Extension::DestinationOptions(options)) => {
                    count += black_box(options.iter().count());
                }
                Ok(Extension::Fragment(fragment)) => format!(Ok::<_, ()>(fragment)),
                other => drop(black_box(other)),
            }
        }
    }
    if let Ok(packet) = IpPacket::parse(input) {
        let written = IcmpError::TimeExceeded.emit(input, packet.dst(), &mut room[..icmp::MAX_LEN]);
        count += usize::from(black_box(written).is_ok());
    }
    if let Some(segment) = room.get_mut(..input.len()) {
        segment.copy_from_slice(input);
        count += usize::from(black_box(clamp_mss(segment, 1400)).is_ok());
    }
    count
}
