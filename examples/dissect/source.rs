//! Where packets come from.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, stdin};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use overlay_lab::{Error, Frame, Listener, listen};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, InterfaceDescriptionBlock, PcapBlockOwned, PcapError, create_reader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a pcapng capture begins with.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// How long nothing is heard of Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(100);

/// A packet as it was captured.
pub(crate) struct Packet<'a> {
    /// Since 1970; 0 where the capture does not tell.
    pub(crate) time: Duration,
    pub(crate) link_type: u32,
    pub(crate) bytes: &'a [u8],
    /// Bytes on the wire.
    pub(crate) length: usize,
}

/// Where packets come from.
pub(crate) enum Source {
    Capture(Capture),
    Device(Device),
}

impl Source {
    pub(crate) fn file(path: &Path, interrupted: &Arc<AtomicBool>) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let input = Patient { inner: file, interrupted: Arc::clone(interrupted) };
        Capture::new(name, input).map(Self::Capture)
    }

    pub(crate) fn standard_input(interrupted: &Arc<AtomicBool>) -> anyhow::Result<Self> {
        // Not the buffered one of the standard library, whose buffer cannot be waited for.
        let fd = stdin().as_fd().try_clone_to_owned().context("cannot read standard input")?;
        let input = Patient { inner: File::from(fd), interrupted: Arc::clone(interrupted) };
        Capture::new("standard input".to_owned(), input).map(Self::Capture)
    }

    pub(crate) fn device(name: &str, interrupted: &Arc<AtomicBool>) -> anyhow::Result<Self> {
        let listener = listen(name).map_err(|error| {
            let hint = match &error {
                Error::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                    "\nListening needs CAP_NET_RAW: run it as root, or give the program the \
                     capability with `setcap cap_net_raw+ep PROGRAM`, or pipe in what `tcpdump -w -` \
                     hears."
                }
                _ => "\n`ip link` lists the devices there are.",
            };
            anyhow!("{error}{hint}")
        })?;
        let interrupted = Arc::clone(interrupted);
        Ok(Self::Device(Device { listener, interrupted, frame: None }))
    }

    /// The next packet; `None` at the end.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Packet<'_>>> {
        match self {
            Self::Capture(capture) => capture.next(),
            Self::Device(device) => device.next(),
        }
    }

    /// Whether all packets begin with the same kind of header.
    pub(crate) const fn has_one_link_type(&self) -> bool {
        match self {
            Self::Capture(capture) => !capture.is_pcapng,
            Self::Device(_) => true,
        }
    }

    /// How many frames the kernel has dropped because they came too fast.
    pub(crate) fn lost(&self) -> u64 {
        match self {
            Self::Capture(_) => 0,
            Self::Device(device) => device.listener.lost(),
        }
    }
}

/// A device that is listened to.
pub(crate) struct Device {
    listener: Listener,
    interrupted: Arc<AtomicBool>,
    frame: Option<Frame>,
}

impl Device {
    fn next(&mut self) -> anyhow::Result<Option<Packet<'_>>> {
        self.frame = None;
        while self.frame.is_none() && !self.interrupted.load(Ordering::Relaxed) {
            self.frame = self.listener.next(PATIENCE)?;
        }
        let link_type = self.listener.link_type();
        Ok(self.frame.as_ref().map(|Frame { time, bytes, .. }| Packet {
            time: *time,
            link_type,
            bytes,
            length: bytes.len(),
        }))
    }
}

/// A capture in one of the two formats, read piece by piece.
pub(crate) struct Capture {
    name: String,
    is_pcapng: bool,
    reader: Box<dyn PcapReaderIterator + Send>,
    /// Why reading has failed: the parser does not keep that.
    failed: Arc<Mutex<Option<io::Error>>>,
    interfaces: Vec<Interface>,
    packets: u64,
    capacity: usize,
    bytes: Vec<u8>,
}

/// What a capture says about all packets of an interface.
#[derive(Clone, Copy)]
struct Interface {
    link_type: u32,
    snap_len: u32,
    /// Ticks in a second.
    resolution: u64,
    /// Seconds to be added to every time.
    offset: i64,
}

/// A block in front of which nothing has to be remembered.
enum Next {
    Packet { time: Duration, link_type: u32, length: usize },
    More,
    End,
}

impl Capture {
    const CAPACITY: usize = 1 << 17;
    /// Larger blocks than this are damage, not packets.
    const MAX_CAPACITY: usize = 1 << 24;

    fn new(name: String, input: impl Read + Send + 'static) -> anyhow::Result<Self> {
        let failed = Arc::new(Mutex::new(None));
        let mut input = Remembering { inner: input, failed: Arc::clone(&failed) };
        let head = match head(&mut input) {
            Ok(head) if head.is_empty() => return Err(anyhow!("{name} is empty")),
            Ok(head) => head,
            Err(error) => return Err(anyhow!("cannot read {name}: {error}")),
        };
        let is_pcapng = head.starts_with(&PCAPNG);
        let is_gzip = head.starts_with(&[0x1f, 0x8b]);
        let reader = create_reader(Self::CAPACITY, Cursor::new(head).chain(input));
        let reader = reader.map_err(|_| {
            let hint = if is_gzip { ": it is compressed, try `zcat FILE | dissect`" } else { "" };
            anyhow!("{name} is neither a pcap nor a pcapng capture{hint}")
        })?;
        let (interfaces, capacity, bytes) = (Vec::new(), Self::CAPACITY, Vec::new());
        Ok(Self { name, is_pcapng, reader, failed, interfaces, packets: 0, capacity, bytes })
    }

    fn next(&mut self) -> anyhow::Result<Option<Packet<'_>>> {
        loop {
            match self.block()? {
                Next::Packet { time, link_type, length } => {
                    self.packets += 1;
                    return Ok(Some(Packet { time, link_type, bytes: &self.bytes, length }));
                }
                Next::More => {}
                Next::End => return Ok(None),
            }
        }
    }

    /// Goes one block on, or gets more of it.
    fn block(&mut self) -> anyhow::Result<Next> {
        let before = self.reader.data().len();
        match self.reader.next() {
            Ok((len, block)) => {
                let next = read(block, &mut self.interfaces, &mut self.bytes);
                self.reader.consume(len);
                next.map_err(|why| self.damaged(&why))
            }
            Err(PcapError::Eof) => Ok(Next::End),
            Err(PcapError::Incomplete(_)) => {
                if self.reader.refill().is_err() {
                    return Err(self.failed());
                }
                if self.reader.data().len() == before && !self.reader.reader_exhausted() {
                    self.grow()?;
                }
                Ok(Next::More)
            }
            Err(PcapError::BufferTooSmall) => {
                self.grow()?;
                Ok(Next::More)
            }
            Err(PcapError::ReadError) => Err(self.failed()),
            Err(PcapError::UnexpectedEof) => {
                let (name, packets) = (&self.name, self.packets);
                Err(anyhow!("{name} ends in the middle of something, behind packet {packets}"))
            }
            Err(_) => Err(self.damaged("there is no block that makes sense")),
        }
    }

    /// Makes room for a large block.
    fn grow(&mut self) -> anyhow::Result<()> {
        if self.capacity >= Self::MAX_CAPACITY {
            let limit = Self::MAX_CAPACITY;
            return Err(self.damaged(&format!("there is a block of more than {limit} bytes")));
        }
        self.capacity *= 2;
        self.reader.grow(self.capacity);
        let is_failed = self.reader.refill().is_err();
        if is_failed { Err(self.failed()) } else { Ok(()) }
    }

    fn damaged(&self, why: &str) -> anyhow::Error {
        anyhow!("{} is damaged behind packet {}: {why}", self.name, self.packets)
    }

    fn failed(&self) -> anyhow::Error {
        let why = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match why {
            Some(error) => anyhow!("cannot read {}: {error}", self.name),
            None => anyhow!("cannot read {}", self.name),
        }
    }
}

/// Takes a packet out of a block, or what the block says about others.
fn read(
    block: PcapBlockOwned<'_>,
    interfaces: &mut Vec<Interface>,
    bytes: &mut Vec<u8>,
) -> Result<Next, String> {
    let mut packet = |interface: Interface, ticks: u64, data: &[u8], length: u32| {
        bytes.clear();
        bytes.extend_from_slice(data);
        let (time, link_type) = (interface.time(ticks), interface.link_type);
        Next::Packet { time, link_type, length: length as usize }
    };
    let of = |interfaces: &[Interface], number: u32| {
        let interface = interfaces.get(number as usize).copied();
        interface.ok_or_else(|| format!("a packet is of interface {number}, which there is not"))
    };
    Ok(match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let resolution =
                if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            // The upper half is about frame check sequences.
            let link_type = header.network.0 as u32 & 0xffff;
            *interfaces = vec![Interface { link_type, snap_len: 0, resolution, offset: 0 }];
            Next::More
        }
        PcapBlockOwned::Legacy(block) => {
            let interface = of(interfaces, 0)?;
            let ticks = u64::from(block.ts_sec) * interface.resolution + u64::from(block.ts_usec);
            packet(interface, ticks, block.data, block.origlen)
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            Next::More
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
            interfaces.push(Interface::of(&block)?);
            Next::More
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
            let interface = of(interfaces, block.if_id)?;
            let ticks = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
            packet(interface, ticks, block.packet_data(), block.origlen)
        }
        PcapBlockOwned::NG(Block::SimplePacket(block)) => {
            let interface = of(interfaces, 0)?;
            let data = match (interface.snap_len, block.packet_data()) {
                (0, data) => data,
                (limit, data) => data.get(..limit as usize).unwrap_or(data),
            };
            packet(interface, 0, data, block.origlen)
        }
        PcapBlockOwned::NG(_) => Next::More,
    })
}

impl Interface {
    fn of(block: &InterfaceDescriptionBlock<'_>) -> Result<Self, String> {
        let resolution = block.ts_resolution().filter(|resolution| *resolution > 0);
        Ok(Self {
            link_type: block.linktype.0 as u32,
            snap_len: block.snaplen,
            resolution: resolution.ok_or("an interface has times of no resolution")?,
            offset: block.ts_offset(),
        })
    }

    fn time(&self, ticks: u64) -> Duration {
        let seconds = (ticks / self.resolution).saturating_add_signed(self.offset);
        let rest = u128::from(ticks % self.resolution) * 1_000_000_000;
        // Less than a second.
        Duration::new(seconds, (rest / u128::from(self.resolution)) as u32)
    }
}

/// The beginning of a capture: as much as tells which format it is, and no more, so that nobody has to wait for
/// packets that are still to come.
fn head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    const PCAP_LEN: usize = 24;
    const BIG_ENDIAN: [u8; 4] = [0x1a, 0x2b, 0x3c, 0x4d];
    let mut head = Vec::new();
    let mut up_to = |head: &mut Vec<u8>, len: usize| {
        let missing = len.saturating_sub(head.len()) as u64;
        input.take(missing).read_to_end(head).map(|_| ())
    };
    up_to(&mut head, PCAP_LEN)?;
    if let Some((magic, [a, b, c, d, order @ ..])) = head.split_first_chunk()
        && *magic == PCAPNG
    {
        let length = [*a, *b, *c, *d];
        let length = match order.starts_with(&BIG_ENDIAN) {
            true => u32::from_be_bytes(length),
            false => u32::from_le_bytes(length),
        };
        up_to(&mut head, (length as usize).min(Capture::CAPACITY / 2))?;
    }
    Ok(head)
}

/// An input that remembers why it could not be read.
struct Remembering<R> {
    inner: R,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl<R: Read> Read for Remembering<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            let error = io::Error::new(error.kind(), error.to_string());
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        })
    }
}

/// An input that ends at Ctrl-C, even while there is nothing to read.
struct Patient<R> {
    inner: R,
    interrupted: Arc<AtomicBool>,
}

impl<R: Read + AsFd> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
        while !self.interrupted.load(Ordering::Relaxed) {
            let mut fds = [PollFd::new(&self.inner, PollFlags::IN)];
            match poll(&mut fds, Some(&patience)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => match self.inner.read(buffer) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    result => return result,
                },
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PCAP: &[u8] = include_bytes!("samples/encapsulations.pcap");
    const PCAPNG: &[u8] = include_bytes!("samples/encapsulations.pcapng");

    /// Link type, time, bytes in the capture and on the wire.
    type Found = (u32, Duration, Vec<u8>, usize);

    /// All packets, and the error at the end.
    fn all(bytes: &[u8]) -> (Vec<Found>, Option<String>) {
        let mut packets = Vec::new();
        let mut capture = match Capture::new("it".to_owned(), Cursor::new(bytes.to_vec())) {
            Ok(capture) => capture,
            Err(error) => return (packets, Some(error.to_string())),
        };
        loop {
            match capture.next() {
                Ok(Some(Packet { time, link_type, bytes, length })) => {
                    packets.push((link_type, time, bytes.to_vec(), length));
                }
                Ok(None) => return (packets, None),
                Err(error) => return (packets, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn both_formats_say_the_same() {
        let (packets, error) = all(PCAP);
        assert_eq!(error, None);
        assert!(packets.len() > 20 && packets.is_sorted_by_key(|packet| packet.1));
        assert_eq!(all(PCAPNG), (packets, None));
    }

    #[test]
    fn a_capture_that_ends_early_says_so() {
        let (whole, _) = all(PCAP);
        for (bytes, first) in [(PCAP, 24), (PCAPNG, 28)] {
            for len in (0..600).chain((600..bytes.len()).step_by(13)) {
                let (packets, error) = all(&bytes[..len]);
                assert!(whole.starts_with(&packets), "{len}");
                match (len, error) {
                    (0, Some(error)) => assert_eq!(error, "it is empty"),
                    (len, Some(error)) if len < first => {
                        assert_eq!(error, "it is neither a pcap nor a pcapng capture", "{len}");
                    }
                    (_, Some(error)) => assert!(error.contains("in the middle"), "{len}: {error}"),
                    // Between two blocks.
                    (_, None) => {}
                }
            }
        }
    }

    #[test]
    fn damage_does_no_harm() {
        let mut errors = 0;
        for bytes in [PCAP, PCAPNG] {
            for at in 0..400 {
                for with in [0, 0x80, 0xff] {
                    let mut bytes = bytes.to_vec();
                    bytes[at] ^= with;
                    errors += usize::from(all(&bytes).1.is_some());
                }
            }
        }
        assert!(errors > 100, "{errors}");
        let (packets, error) = all(b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
        assert!(packets.is_empty() && error.is_some_and(|error| error.contains("zcat")));
    }

    #[test]
    fn times_have_many_forms() {
        let interface = Interface { link_type: 1, snap_len: 0, resolution: 1 << 20, offset: -10 };
        assert_eq!(interface.time((100 << 20) + (1 << 19)), Duration::from_millis(90_500));
        assert_eq!(interface.time(0), Duration::ZERO);
        let nanos = Interface { resolution: 1_000_000_000, offset: 0, ..interface };
        assert_eq!(nanos.time(1_234_567_890), Duration::new(1, 234_567_890));
    }
}
