//! Two machines with kernels of their own, joined by every backend, and what their network cards see of it.

mod command;
mod inside;
mod join;
mod remote;
mod report;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use overlay_backend_udp::FastPath;
use overlay_examples::{Kind, say};
use overlay_lab::vm::{self, Vm};
use overlay_wire::IpVersion;

use crate::inside::FUNCTIONS;
use crate::join::Pair;
use crate::remote::{NUMBERS, Remote};
use crate::report::Report;

/// Boots two virtual machines, vm1 and vm2, on one cable, joins a container in each by every backend in turn, pings both
/// ways, and shows what vm1 sees on eth0.
///
/// The machines run the distribution's kernel under QEMU, which is emulated: it needs no root, touches nothing of this
/// machine's network, and leaves nothing behind; times are a multiple of those of a real machine. On Debian it takes the
/// packages qemu-system-x86 and linux-image-amd64.
#[derive(Parser)]
#[command(name = "two-vm", version)]
struct Options {
    /// The backend to join the containers by.
    #[arg(long, value_enum, default_value_t = Backends::All)]
    backend: Backends,

    /// The MTU of eth0, in bytes.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1280..=9000))]
    mtu: u32,

    /// Keep what has crossed vm1's eth0 in this file, for tcpdump, Wireshark or the example dissect.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,

    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

/// The exit status of a program that Ctrl-C ended: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// Which backends to join the containers by.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backends {
    HostGw,
    Ipip,
    Vxlan,
    Udp,
    All,
}

impl Backends {
    fn kinds(self) -> Vec<Kind> {
        match self {
            Self::HostGw => vec![Kind::HostGw],
            Self::Ipip => vec![Kind::IpIp],
            Self::Vxlan => vec![Kind::Vxlan],
            Self::Udp => vec![Kind::Udp(FastPath::Off), Kind::Udp(FastPath::Required)],
            Self::All => Kind::ALL.to_vec(),
        }
    }
}

fn main() -> ExitCode {
    vm::init_if_asked(&FUNCTIONS);
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("two-vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every supported backend answered every ping.
fn run(options: &Options) -> anyhow::Result<bool> {
    ctrlc::set_handler(|| {
        // The machines end with the program, wherever that is.
        eprintln!("two-vm: interrupted; everything is gone");
        std::process::exit(INTERRUPTED);
    })
    .context("cannot listen for Ctrl-C")?;
    // Found out before there is anything to keep in it.
    let pcap = options.pcap.as_ref().map(|path| {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("create {}", path.display()))?;
        anyhow::Ok((file, path))
    });
    let pcap = pcap.transpose()?;
    let progress = |line: &str| {
        if options.json {
            eprintln!("{line}");
        } else {
            say(line);
        }
    };

    progress("booting vm1 and vm2, two emulated machines; that takes some seconds");
    let start = Instant::now();
    let machines = remote::boot(|waited| {
        if waited.subsec_millis() == 0 && waited.as_secs().is_multiple_of(5) {
            progress(&format!("still booting after {} s", waited.as_secs()));
        }
    })?;
    let (took, release) = (start.elapsed(), machines[0].kernel_release());
    progress(&format!("Linux {release} is up in both after {:.1} s", took.as_secs_f64()));
    let mut report = Report::new(release.to_owned(), took.as_secs_f64());

    thread::scope(|scope| {
        // What serves commands in a machine ends with it, and is waited for when this scope ends.
        let _ends = Ends(&machines);
        let [vm1, vm2] = &machines;
        let [one, other] = NUMBERS;
        let pair = Pair::new([
            Remote::start(scope, vm1, one, options.mtu)?,
            Remote::start(scope, vm2, other, options.mtu)?,
        ])?;
        show(&pair, &options.backend.kinds(), &mut report, &progress)?;
        if let Some((mut file, path)) = pcap {
            let bytes = pair.vms[0].pcap()?;
            file.set_len(0)
                .and_then(|()| file.write_all(&bytes))
                .with_context(|| format!("write {}", path.display()))?;
            progress(&format!("\n{} has what crossed vm1's eth0", path.display()));
        }
        anyhow::Ok(())
    })?;

    if options.json {
        say(report.to_json()?);
    } else {
        say(format_args!("\n{}", report.table()));
    }
    Ok(report.is_ok())
}

fn show(
    pair: &Pair<'_>,
    kinds: &[Kind],
    report: &mut Report,
    progress: &impl Fn(&str),
) -> anyhow::Result<()> {
    for version in IpVersion::ALL {
        progress(&format!("\n== direct, {version}: host to host, nothing in between"));
        let row = pair.direct(version)?;
        progress(&row.summary());
        report.push_direct(row);
        for kind in kinds {
            progress(&format!("\n== {}, {version}", kind.name()));
            let row = pair.joined(*kind, version, progress)?;
            progress(&row.summary());
            report.push(row);
        }
    }
    Ok(())
}

/// Ends the machines when it is dropped.
struct Ends<'a>(&'a [Vm]);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(Vm::kill);
    }
}
