//! Shows what is inside the packets of a capture, through every encapsulation of an overlay.

mod filter;
mod link;
mod out;
mod report;
mod source;
mod summary;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{CommandFactory, Parser, ValueEnum};
use ipnet::IpNet;
use overlay_wire::dissect::{Dissector, PORTS, UdpPayload};
use overlay_wire::{Encapsulation, Vni};

use crate::filter::{Filter, encapsulations, parse_prefix, parse_vni};
use crate::out::Out;
use crate::report::Reporter;
use crate::source::Source;
use crate::summary::Summary;

/// Shows what is inside the packets of a capture file, of standard input, or of a device, through
/// every encapsulation of an overlay, and what the encapsulations cost.
#[derive(Parser)]
#[command(name = "dissect", version, after_help = EXAMPLES)]
struct Options {
    /// A pcap or pcapng file; "-" is standard input, also without this argument unless that is a
    /// terminal.
    #[arg(conflicts_with = "interface")]
    file: Option<PathBuf>,

    /// Listen to this device until Ctrl-C. Needs CAP_NET_RAW.
    #[arg(short, long, value_name = "DEVICE")]
    interface: Option<String>,

    /// End after this many packets that match.
    #[arg(short, long, value_name = "NUMBER")]
    count: Option<u64>,

    /// Print each packet as a tree: a line per header, with its fields and checksums.
    #[arg(short, long, conflicts_with_all = ["json", "quiet"])]
    tree: bool,

    /// Print Ethernet headers, too, as tcpdump -e.
    #[arg(short = 'e', long)]
    link_level: bool,

    /// Print a JSON object per packet and line, and one with "ok" and the table last.
    #[arg(long)]
    json: bool,

    /// Print no packets, only the table at the end.
    #[arg(short, long)]
    quiet: bool,

    /// The time in front of each packet.
    #[arg(long, value_enum, default_value_t = Time::Relative, conflicts_with = "json")]
    time: Time,

    /// Only packets whose outermost encapsulation is one of these; "direct" is none at all.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = encapsulations())]
    encapsulation: Vec<Encapsulation>,

    /// Only packets with one of these VNIs in the outermost encapsulation: 4660 or 0x1234.
    #[arg(long, value_delimiter = ',', value_parser = parse_vni)]
    vni: Vec<Vni>,

    /// Only packets from or to an inner address in one of these prefixes.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = parse_prefix)]
    inner: Vec<IpNet>,

    /// A destination port that means VXLAN, besides 4789 and 8472.
    #[arg(long, value_name = "PORT")]
    vxlan_port: Vec<u16>,

    /// A destination port that means VXLAN-GPE, besides 4790.
    #[arg(long, value_name = "PORT")]
    vxlan_gpe_port: Vec<u16>,

    /// A destination port that means Geneve, besides 6081.
    #[arg(long, value_name = "PORT")]
    geneve_port: Vec<u16>,

    /// A destination port that means GUE, besides 6080.
    #[arg(long, value_name = "PORT")]
    gue_port: Vec<u16>,

    /// A destination port that means an IP packet and nothing else, besides 8285.
    #[arg(long, value_name = "PORT")]
    ip_in_udp_port: Vec<u16>,
}

const EXAMPLES: &str = "\
Examples:
  dissect capture.pcap
  dissect --tree --count 1 --vni 7 capture.pcapng
  tcpdump -i eth0 -w - udp port 8472 | dissect --inner 10.244.0.0/16
  dissect --interface eth0 --encapsulation vxlan,geneve

Exit status: 0 when everything has been read, 1 when something could not be read, 2 when the
arguments are wrong, 130 when Ctrl-C has ended it before its time.";

/// What to print in front of packets.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Time {
    /// Nothing.
    None,
    /// Seconds since the first packet.
    Relative,
    /// Date and time of day, UTC.
    Utc,
}

/// The exit status of a program that Ctrl-C ended: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;
/// The exit status when the arguments are wrong, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    let watched = options.interface.is_some() || stdout().is_terminal();
    let ended = on_interrupt().and_then(|interrupted| match open(&options, &interrupted) {
        Ok(Some(source)) => run(&options, source, &interrupted, &mut Out::stdout(watched)),
        Ok(None) => Ok(USAGE),
        Err(_) if interrupted.load(Ordering::Relaxed) => Ok(INTERRUPTED),
        Err(error) => Err(error),
    });
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) if out::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dissect: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where packets are to come from, unless there is nothing to read.
fn open(options: &Options, interrupted: &Arc<AtomicBool>) -> anyhow::Result<Option<Source>> {
    Ok(Some(match (&options.interface, &options.file) {
        (Some(device), _) => Source::device(device, interrupted)?,
        (None, Some(file)) if file.as_os_str() != "-" => Source::file(file, interrupted)?,
        (None, None) if stdin().is_terminal() => {
            eprintln!("{}", Options::command().render_usage());
            eprintln!("\nThere is nothing to read: name a file or a device, or pipe a capture in.");
            eprintln!("For more information, try '--help'.");
            return Ok(None);
        }
        (None, _) => Source::standard_input(interrupted)?,
    }))
}

/// Shows everything there is; the exit status.
fn run(
    options: &Options,
    mut source: Source,
    interrupted: &AtomicBool,
    out: &mut Out<impl io::Write>,
) -> anyhow::Result<u8> {
    let ports = ports(options);
    let filter = Filter {
        encapsulations: options.encapsulation.clone(),
        vnis: options.vni.clone(),
        inner: options.inner.clone(),
    };
    let mut reporter = Reporter::new(options);
    let mut summary = Summary::default();
    let has_one_link_type = source.has_one_link_type();
    let mut first_skipped = None;
    let end = loop {
        let is_enough = options.count.is_some_and(|count| summary.matched >= count);
        if is_enough || interrupted.load(Ordering::Relaxed) {
            break Ok(());
        }
        let packet = match source.next() {
            Ok(Some(packet)) => packet,
            Ok(None) => break Ok(()),
            // It was cut short.
            Err(_) if interrupted.load(Ordering::Relaxed) => break Ok(()),
            Err(error) => break Err(error),
        };
        summary.read += 1;
        let (start, bytes, length) =
            match link::start(packet.link_type, packet.bytes, packet.length) {
                Ok(start) => start,
                Err(error) => {
                    let error = error.context(format!("packet {}", summary.read));
                    if has_one_link_type {
                        break Err(error);
                    }
                    summary.skipped += 1;
                    first_skipped.get_or_insert(error);
                    continue;
                }
            };
        let dissector = Dissector::new(start).ports(&ports).link_level(options.link_level);
        let dissection = dissector.dissect_cut(bytes, length);
        let tunnel = dissection.outermost();
        if filter.matches(tunnel.as_ref()) {
            summary.add(&dissection, tunnel.as_ref());
            reporter.packet(out, summary.read, packet.time, &dissection, tunnel.as_ref())?;
        }
    };
    summary.lost = source.lost();
    let end = end.and_then(|()| match first_skipped {
        None => Ok(()),
        Some(first) => {
            Err(first.context(format!("{} of {} packets skipped", summary.skipped, summary.read)))
        }
    });
    reporter.end(out, &summary, end.is_ok())?;
    out.flush()?;
    end?;
    // Somebody who listens to a device ends that by Ctrl-C, so that it is as good an end as any.
    let in_time = options.interface.is_some() || !interrupted.load(Ordering::Relaxed);
    Ok(if in_time { 0 } else { INTERRUPTED })
}

/// The ports of the command line before the usual ones, so that one can mean something else.
fn ports(options: &Options) -> Vec<(u16, UdpPayload)> {
    let told = [
        (&options.vxlan_port, UdpPayload::Vxlan),
        (&options.vxlan_gpe_port, UdpPayload::VxlanGpe),
        (&options.geneve_port, UdpPayload::Geneve),
        (&options.gue_port, UdpPayload::Gue),
        (&options.ip_in_udp_port, UdpPayload::Ip),
    ];
    let told = told.iter().flat_map(|(ports, payload)| ports.iter().map(|port| (*port, *payload)));
    told.chain(PORTS.iter().copied()).collect()
}

/// A flag that says that Ctrl-C or SIGTERM has come. A second one ends the program at once.
fn on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(interrupted)
}
