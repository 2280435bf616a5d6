//! Two nodes, one command: containers on two hosts joined by every backend that the kernel supports.

mod join;
mod measure;
mod report;
mod setup;

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use overlay_backend_udp::FastPath;
use overlay_examples::{Kind, say};
use overlay_wire::IpVersion;

use crate::join::Joined;
use crate::measure::measure;
use crate::report::{Report, Row};
use crate::setup::{Setup, Underlay};

/// Joins containers on two hosts, vm1 and vm2, by every backend that the running kernel supports,
/// proves it with pings, measures it, and cleans up.
///
/// The hosts are network namespaces of this program alone: it needs no root, touches nothing of this
/// machine's network, and leaves nothing behind. For root it also shows what programs in the kernel
/// carry.
#[derive(Parser)]
#[command(name = "two-node", version)]
struct Options {
    /// The backend to join the hosts by.
    #[arg(long, value_enum, default_value_t = Backends::All)]
    backend: Backends,

    /// Who carries the packets of the udp backend: programs in the kernel, which takes root, threads in user space, or
    /// one after the other.
    #[arg(long, value_enum, default_value_t = DataPath::Auto)]
    data_path: DataPath,

    /// How the hosts are connected: by a switch, or by a router between two networks.
    #[arg(long, value_enum, default_value_t = Underlay::Switched)]
    underlay: Underlay,

    /// Print what would be done to the hosts, as iproute2 commands, and do nothing.
    #[arg(long, conflicts_with_all = ["keep", "json"])]
    dry_run: bool,

    /// Keep the hosts joined until Ctrl-C, repair what is broken meanwhile, and say how to enter them.
    #[arg(long, conflicts_with = "json")]
    keep: bool,

    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,

    /// Seconds that each TCP measurement takes.
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    seconds: f64,
}

/// The exit status of a program that Ctrl-C ended: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Which backends to join the hosts by.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backends {
    Vxlan,
    HostGw,
    Ipip,
    Udp,
    All,
}

/// Who carries the packets of the udp backend.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DataPath {
    /// Both in turn where that is allowed, threads otherwise.
    Auto,
    /// Programs in the kernel.
    Ebpf,
    /// Threads in user space.
    User,
}

impl Options {
    /// What the hosts are joined by, in turn. Only `root` may load programs into the kernel.
    fn kinds(&self, root: bool) -> Vec<Kind> {
        let udp: &[Kind] = match self.data_path {
            DataPath::User => &[Kind::Udp(FastPath::Off)],
            DataPath::Ebpf => &[Kind::Udp(FastPath::Required)],
            DataPath::Auto if root => &[Kind::Udp(FastPath::Off), Kind::Udp(FastPath::Required)],
            DataPath::Auto => &[Kind::Udp(FastPath::Off)],
        };
        match self.backend {
            Backends::Vxlan => vec![Kind::Vxlan],
            Backends::HostGw => vec![Kind::HostGw],
            Backends::Ipip => vec![Kind::IpIp],
            Backends::Udp => udp.to_vec(),
            Backends::All => [&[Kind::Vxlan, Kind::HostGw, Kind::IpIp], udp].concat(),
        }
    }

    /// Whether programs are to be loaded into the kernel if this user may, which takes them outside of user namespaces.
    fn wants_programs(&self) -> bool {
        let udp = self.data_path != DataPath::User;
        match self.backend {
            Backends::Vxlan | Backends::HostGw => false,
            Backends::Ipip => true,
            Backends::Udp | Backends::All => udp,
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number from 0.1 to 60".to_owned()),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("two-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Succeeds if every supported backend answered every ping.
fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // Before anything else: a program with threads cannot enter a user namespace.
    let root = options.wants_programs() && overlay_lab::enter_as_root().is_ok();
    if !root {
        overlay_lab::enter().context("cannot make a network of one's own")?;
    }
    let kinds = options.kinds(root);
    let interrupted = on_interrupt()?;
    let progress = |line: &str| {
        if options.json {
            eprintln!("{line}");
        } else {
            say(line);
        }
    };

    let setup = Setup::build(options.underlay)?;
    progress(&setup.picture());
    if options.dry_run {
        return dry_run(&kinds, &setup);
    }

    let duration = Duration::from_secs_f64(options.seconds);
    let mut report = Report::default();
    for version in IpVersion::ALL {
        progress(&format!("\n== direct, {version}: host to host, nothing in between"));
        let row = measure::direct(&setup, version, duration)?;
        progress(&row.summary());
        report.direct.push(row);
        for kind in &kinds {
            if interrupted.try_recv().is_ok() {
                eprintln!("two-node: interrupted; everything is cleaned up");
                return Ok(ExitCode::from(INTERRUPTED));
            }
            progress(&format!("\n== {}, {version}", kind.name()));
            let row = join_and_measure(&setup, *kind, version, duration, &progress)?;
            progress(&row.summary());
            report.push(row);
        }
    }

    let code = if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if options.json {
        say(report.to_json()?);
    } else {
        say(format_args!("\n{}", report.table()));
    }
    if options.keep {
        return Ok(if keep(&kinds, &setup, &interrupted)? { code } else { ExitCode::FAILURE });
    }
    Ok(code)
}

fn join_and_measure(
    setup: &Setup,
    kind: Kind,
    version: IpVersion,
    duration: Duration,
    progress: &impl Fn(&str),
) -> anyhow::Result<Row> {
    let mut joined = match Joined::prepare(setup, kind, version)? {
        Ok(joined) => joined,
        Err(reason) => return Ok(Row::unsupported(kind.name(), version, reason)),
    };
    progress(&joined.commands()?);
    if let Err(reason) = joined.apply()? {
        joined.clear()?;
        return Ok(Row::unsupported(kind.name(), version, reason));
    }
    setup.set_container_mtu(joined.mtu())?;
    let row = measure(setup, kind.name(), version, duration)?;
    joined.carried().iter().for_each(|line| progress(line));
    joined.clear()?;
    Ok(row)
}

fn dry_run(kinds: &[Kind], setup: &Setup) -> anyhow::Result<ExitCode> {
    for version in IpVersion::ALL {
        for kind in kinds {
            say(format_args!("\n== {}, {version}", kind.name()));
            match Joined::prepare(setup, *kind, version)? {
                Ok(mut joined) => say(joined.commands()?),
                Err(reason) => say(format_args!("not possible: {reason}")),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Leaves the hosts joined by the first backend that works, for both families, until it is
/// interrupted. False where none works.
fn keep(kinds: &[Kind], setup: &Setup, interrupted: &mpsc::Receiver<()>) -> anyhow::Result<bool> {
    let mut kept = Vec::new();
    for version in IpVersion::ALL {
        for kind in kinds {
            let Ok(mut joined) = Joined::prepare(setup, *kind, version)? else { continue };
            if joined.apply()?.is_ok() {
                say(format_args!("joined by {}, {version}", kind.name()));
                kept.push(joined);
                break;
            }
            joined.clear()?;
        }
    }
    let Some(mtu) = kept.iter().map(Joined::mtu).min() else {
        eprintln!("two-node: nothing joins the hosts here, so there is nothing to keep");
        return Ok(false);
    };
    setup.set_container_mtu(mtu)?;
    say(format_args!("\nEnter the hosts from another terminal:\n{}", setup.enter_commands()));
    say("\nBreak something and watch it come back; Ctrl-C ends it all.");
    while interrupted.recv_timeout(Duration::from_millis(100)).is_err() {
        for joined in &mut kept {
            joined.repair().iter().for_each(say);
        }
    }
    say("ended; everything is cleaned up");
    Ok(true)
}

/// A channel that hears of Ctrl-C and of SIGTERM. A second one ends the program at once.
fn on_interrupt() -> anyhow::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    let mut before = false;
    ctrlc::set_handler(move || {
        // Nothing outlives the program, so it may end anywhere.
        if std::mem::replace(&mut before, true) || sender.send(()).is_err() {
            std::process::exit(INTERRUPTED.into());
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(receiver)
}
