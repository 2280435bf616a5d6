//! All contests, the contestants of each taking turns, as tables in Markdown: the figures in the README come from here.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use overlay_benches::{Contest, Place, Spread, contests, iproute2_version, size, smoke};

/// Measures, the contestants of each contest taking turns, and prints tables.
#[derive(Parser)]
struct Arguments {
    /// Only these contests: checksum, encapsulate, decapsulate, encapsulate-all, decapsulate-all, segment, coalesce, add,
    /// dump, delete, gateways, many-gateways, swing, vxlan, no-op, move, sqlite-create, etcd-acquire, tcp-whole,
    /// tcp-segmented, tcp-segmented-4, datagrams, round-trip
    only: Vec<String>,
    /// How often each contestant runs
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Run everything once with few objects
    #[arg(long)]
    test: bool,
    /// What Cargo passes to benchmarks
    #[arg(long, hide = true)]
    bench: bool,
}

type Make = fn(u32) -> Result<Contest>;

/// What needs a kernel, and for how many objects.
const CONTESTS: [(&str, Make, u32); 9] = [
    ("add", contests::add, 100_000),
    ("dump", contests::dump, 100_000),
    ("delete", contests::delete, 100_000),
    ("vxlan", contests::program_peers, 10_000),
    ("gateways", contests::distinct_gateways, 10_000),
    ("many-gateways", contests::many_distinct_gateways, 100_000),
    ("swing", contests::swing, 100_000),
    ("no-op", contests::no_op, 10_000),
    ("move", contests::move_peer, 10_000),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let asked =
        |id: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == id);
    let paths: Vec<_> = contests::ABOUT_PATHS.iter().filter(|path| asked(path.id)).collect();
    if !paths.is_empty() && overlay_lab::enter_as_root().is_ok() {
        // What carries packets by a program in the kernel takes part for root alone.
    } else if !paths.is_empty() || CONTESTS.iter().any(|(id, ..)| asked(id)) {
        overlay_lab::enter()?;
    }
    let rounds = if smoke() { 0 } else { arguments.rounds };
    println!("{}\n", machine());
    let mut claims = Vec::new();
    for packets in contests::ABOUT_PACKETS.iter().filter(|packets| asked(packets.id)) {
        for &size in packets.sizes {
            claims.extend(table((packets.of)(size)?, rounds)?);
        }
    }
    for (_, make, count) in CONTESTS.into_iter().filter(|(id, ..)| asked(id)) {
        claims.extend(table(make(size(count))?, rounds)?);
    }
    for path in paths {
        claims.extend(table(path.make()?, rounds)?);
    }
    if asked("sqlite-create") {
        claims.extend(table(contests::sqlite_create(size(1_000))?, rounds)?);
    }
    if asked("etcd-acquire") {
        claims.extend(table(contests::etcd_acquire(size(10_000))?, rounds)?);
    }
    if smoke() {
        println!("Each contestant ran once with few objects, to see that it works: no results.");
        return Ok(());
    }
    println!("### Claims\n\n| claim | goal | measured | |\n|---|---|---|---|");
    claims.iter().for_each(|line| println!("{line}"));
    println!("\nload average afterwards: {}", read("/proc/loadavg"));
    Ok(())
}

/// Measures a contest and prints its table. Returns a line for each of its claims.
fn table<P: Place>(mut contest: Contest<P>, rounds: usize) -> Result<Vec<String>> {
    let spreads = contest.interleave(rounds)?;
    let parts = if P::EACH { contest.objects as f64 } else { 1.0 };
    let best = spreads.first().map_or(0.0, |spread| spread.median.as_secs_f64());
    println!("### {}\n", contest.title);
    println!(
        "| | median | least to greatest | per second | time, first = 1 |\n|---|---|---|---|---|"
    );
    for (contestant, spread) in contest.contestants.iter().zip(&spreads) {
        let Spread { min, median, max } = *spread;
        let [min, median, max] = [min, median, max].map(|time| time.as_secs_f64());
        println!(
            "| {} | {} | {} to {} | {} | {:.2} |",
            contestant.name,
            shown(median / parts),
            shown(min / parts),
            shown(max / parts),
            rate(contest.objects, median),
            median / best,
        );
    }
    println!();
    let median = |name: &str| {
        let at = contest.contestants.iter().position(|contestant| contestant.name == name);
        at.map(|at| spreads[at].median.as_secs_f64())
    };
    let lines = contest.claims.iter().filter_map(|claim| {
        let (ratio, reached) = claim.goal.judge(median(claim.fast)?, median(claim.slow)?);
        let verdict = if reached { "reached" } else { "**missed**" };
        Some(format!(
            "| {}: {} against {} | {} | {} | {verdict} |",
            contest.title,
            claim.fast,
            claim.slow,
            claim.goal,
            precise(ratio)
        ))
    });
    Ok(lines.collect())
}

fn precise(ratio: f64) -> String {
    if ratio < 2.0 { format!("{ratio:.2}x") } else { format!("{ratio:.1}x") }
}

fn shown(seconds: f64) -> String {
    match seconds {
        _ if seconds >= 10.0 => format!("{seconds:.1} s"),
        _ if seconds >= 1.0 => format!("{seconds:.2} s"),
        _ if seconds >= 0.1 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds >= 0.001 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds >= 1e-6 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds >= 1e-7 => format!("{:.0} ns", seconds * 1e9),
        _ => format!("{:.1} ns", seconds * 1e9),
    }
}

fn rate(objects: u64, seconds: f64) -> String {
    let rate = objects as f64 / seconds.max(f64::MIN_POSITIVE);
    match rate {
        // One message for all of them.
        _ if rate >= 1e9 => "-".to_owned(),
        _ if rate >= 1e6 => format!("{:.1} M", rate / 1e6),
        _ if rate >= 1e3 => format!("{:.0} k", rate / 1e3),
        _ => format!("{rate:.0}"),
    }
}

/// What the figures were measured on.
fn machine() -> String {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Linux {}, {model}, {cores} cores, {:.0} ns for a load that depends on the last one in 4 MiB, {}, in a user \
         namespace, load average {}",
        read("/proc/sys/kernel/osrelease"),
        load_latency(),
        iproute2_version().unwrap_or_else(|| "no iproute2".to_owned()),
        read("/proc/loadavg"),
    )
}

/// How long a load takes that depends on the one before, in 4 MiB, in nanoseconds: about 10 to 20 with a last-level cache
/// to oneself. The kernel's part of all this consists of such loads.
fn load_latency() -> f64 {
    const PLACES: usize = (4 << 20) / size_of::<usize>();
    const LINE: usize = 64 / size_of::<usize>();
    const LOADS: u32 = 500_000;
    let lines = PLACES / LINE;
    let mut memory = vec![0; PLACES];
    // A walk over all lines in an order that no prefetcher guesses: a generator of full period.
    let mut line = 0;
    for _ in 0..lines {
        let next = (line * 16_645 + 12_345) % lines;
        memory[line * LINE] = next * LINE;
        line = next;
    }
    let mut at = 0;
    let start = Instant::now();
    for _ in 0..LOADS {
        at = memory[black_box(at)];
    }
    black_box(at);
    start.elapsed().as_secs_f64() * 1e9 / f64::from(LOADS)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
