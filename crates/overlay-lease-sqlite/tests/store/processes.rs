//! Several processes on one file, and one that is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use overlay_lab::cannot_run;
use overlay_lease::{Change, Revision, Snapshot, Store, Update, View, Watch};
use rusqlite::Connection;

use crate::child::WRITERS;
use crate::common::{Dir, block_on, claim, configured, node, numbered, open};

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Result<(), Failed>| Trial::test(name, test);
    vec![
        trial("processes_that_acquire_at_the_same_instant_get_distinct_subnets", acquire),
        trial("processes_that_want_the_same_subnets_get_distinct_ones", compete),
        trial("what_another_process_does_is_told", another_process),
        trial("a_killed_writer_loses_nothing", killed),
        trial("a_full_disk_loses_nothing", full_disk),
        trial("a_file_that_must_not_be_written_is_denied", read_only),
        trial("the_sqlite3_tool_reads_and_deletes_meanwhile", sqlite3),
    ]
}

/// A process that is gone with the value.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, file: &Path, name: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("child").arg(role).arg(file).arg(name);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn tell(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

const PROCESSES: usize = 50;

/// What as many processes get that begin at the same instant, without a file before.
fn at_the_same_instant(role: &str, dir: &Dir) -> BTreeSet<String> {
    let mut processes: Vec<_> = (0..PROCESSES)
        .map(|number| Process::start(role, &dir.file(), &format!("n{number}")))
        .collect();
    for process in &mut processes {
        assert_eq!(process.line(), "ready");
    }
    let begin = Instant::now();
    for process in &mut processes {
        process.tell();
    }
    let subnets = processes.iter_mut().map(Process::line).collect();
    eprintln!("{PROCESSES} processes {role}: {:?}", begin.elapsed());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "the file, its log, its index");
    subnets
}

fn acquire() -> Result<(), Failed> {
    let dir = Dir::new();
    let subnets = at_the_same_instant("acquire", &dir);
    assert_eq!(subnets.len(), PROCESSES, "{subnets:?}");
    let snapshot = block_on(async { open(&dir.file()).await.snapshot().await.unwrap() });
    let leases = snapshot.leases.iter().map(|lease| lease.subnets.to_string()).collect();
    assert_eq!(subnets, leases);
    Ok(())
}

fn compete() -> Result<(), Failed> {
    let subnets = at_the_same_instant("compete", &Dir::new());
    let first: BTreeSet<_> = (0..50).map(numbered).collect();
    assert_eq!(subnets, first, "each one subnet, and none was passed over");
    Ok(())
}

fn another_process() -> Result<(), Failed> {
    const LEASES: u32 = 40;
    let dir = Dir::new();
    let (latencies, changes) = block_on(async {
        let (store, under) = configured(&dir.file()).await;
        let mut watch = store.watch(under).await.unwrap();
        let mut other = Process::start("obey", &dir.file(), "n");
        assert_eq!(other.line(), "ready");
        let (mut latencies, mut seen) = (Vec::new(), Vec::new());
        for _ in 0..LEASES {
            let begin = Instant::now();
            other.tell();
            let update = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
            latencies.push(begin.elapsed());
            match update.expect("in time").unwrap() {
                Update::Changes(changes) => seen.extend(changes.changes),
                Update::Snapshot(snapshot) => panic!("a snapshot: {snapshot:?}"),
            }
        }
        (latencies, seen)
    });
    assert_eq!(changes.len(), LEASES as usize);
    for (number, change) in (0..).zip(changes) {
        let Change::Lease(lease) = change else { panic!("{change:?}") };
        assert_eq!(lease.subnets.to_string(), numbered(number));
    }
    let mut sorted = latencies;
    sorted.sort();
    let (median, longest) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    eprintln!("told what another process did after {median:?} (median), {longest:?} (longest)");
    assert!(median < Duration::from_millis(500), "{median:?}");
    Ok(())
}

/// What a writer is known to have, and what it may have if its last operation had its effect.
#[derive(Debug, Default)]
struct Known {
    sure: Option<u64>,
    begun: Option<Option<u64>>,
}

fn killed() -> Result<(), Failed> {
    const ROUNDS: u32 = 200;
    let dir = Dir::new();
    let mut known: BTreeMap<u32, Known> = (0..WRITERS).map(|w| (w, Known::default())).collect();
    let (mut acknowledged, mut in_flight) = (0, 0);
    let first = block_on(async { configured(&dir.file()).await.1 });
    let begin = Instant::now();
    for round in 0..ROUNDS {
        // Every other time somebody else has the file open meanwhile, so that the log outlives the writer.
        let witness = (round % 2 == 0).then(|| block_on(open(&dir.file())));
        let mut process = Process::start("churn", &dir.file(), &round.to_string());
        assert_eq!(process.line(), "ready");
        // After none to seven writes, and anywhere within the next ones.
        let mut said: Vec<_> = (0..round % 8).flat_map(|_| until_done(&mut process)).collect();
        std::thread::sleep(Duration::from_micros(u64::from(round) * 7919 % 5000));
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        let mut rest = String::new();
        process.output.read_to_string(&mut rest).unwrap();
        // The last line may be cut short: then it was not said.
        let whole = rest.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        said.extend(whole.map(str::to_owned));
        for line in said {
            let mut words = line.split(' ');
            let writer = words.next().unwrap().parse::<u32>().unwrap();
            let known = known.get_mut(&writer).unwrap();
            match (words.next().unwrap(), words.next()) {
                ("begin", Some(mark)) => known.begun = Some(mark.parse().ok()),
                ("done", None) => {
                    known.sure = known.begun.take().expect("begun before done");
                    acknowledged += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        check_integrity(&dir);
        let snapshot = block_on(async { open(&dir.file()).await.snapshot().await.unwrap() });
        for (writer, known) in &mut known {
            let found = mark(&snapshot, *writer);
            in_flight += u32::from(known.begun.is_some());
            assert!(
                found == known.sure || Some(found) == known.begun,
                "round {round}, writer {writer}: found {found:?} and expected {known:?}"
            );
            *known = Known { sure: found, begun: None };
        }
        if let Some(witness) = witness {
            let seen = block_on(async { follow(&witness, first).await });
            assert_eq!(seen, leases(&snapshot), "round {round}");
        }
    }
    eprintln!(
        "{ROUNDS} kills in {:?}: {acknowledged} writes acknowledged, {in_flight} in flight",
        begin.elapsed()
    );
    assert!(acknowledged > 3 * ROUNDS && in_flight > ROUNDS, "{acknowledged}, {in_flight}");
    Ok(())
}

/// What the process says up to the next write that it has made.
fn until_done(process: &mut Process) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        let line = process.line();
        assert!(!line.is_empty(), "it has ended");
        let done = line.ends_with("done");
        said.push(line);
        if done {
            return said;
        }
    }
}

pub(crate) fn check_integrity(dir: &Dir) {
    let file = Connection::open(dir.file()).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let (changes, revision): (i64, i64) = file
        .query_row("SELECT count(*), max(revision) FROM changes", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(changes, revision.min(10_000), "one change for each revision");
}

fn mark(snapshot: &Snapshot, writer: u32) -> Option<u64> {
    let mut own = snapshot.leases.iter().filter(|lease| lease.is_of(&node(&format!("w{writer}"))));
    let mark = own.next().map(|lease| lease.attributes.others["Mark"].as_u64().unwrap());
    assert!(own.next().is_none(), "one lease at most");
    mark
}

fn leases(snapshot: &Snapshot) -> BTreeMap<String, Revision> {
    let lease =
        |lease: &std::sync::Arc<overlay_lease::Lease>| (lease.subnets.to_string(), lease.revision);
    snapshot.leases.iter().map(lease).collect()
}

/// What there is, for somebody who heard of every change since the revision `first`.
async fn follow(store: &impl Store, first: Revision) -> BTreeMap<String, Revision> {
    let mut view = View::new();
    view.replace(Snapshot { revision: first, ..Snapshot::default() });
    let mut watch = store.watch(first).await.unwrap();
    let end = store.snapshot().await.unwrap().revision;
    while view.revision() < Some(end) {
        let update = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        view.apply(update.expect("in time").unwrap());
    }
    view.leases().map(|lease| (lease.subnets.to_string(), lease.revision)).collect()
}

/// Runs a role in a mount namespace that `setup` has prepared; `$1` is the directory there.
fn in_mounts(
    case: &str,
    setup: &str,
    dir: &Dir,
    role: &str,
    file: &Path,
    name: &str,
) -> Result<(), Failed> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec"]);
    command.arg(format!("{setup}; shift; exec \"$@\"")).arg("sh").arg(dir.path());
    command.arg(std::env::current_exe()?).arg("child").arg(role).arg(file).arg(name);
    let works =
        Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output();
    if !works.as_ref().is_ok_and(|output| output.status.success()) {
        return Ok(cannot_run(case, "userns", &format!("unshare: {works:?}"))?);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "fine\n", "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn full_disk() -> Result<(), Failed> {
    let dir = Dir::new();
    let ballast = dir.path().join("ballast");
    let setup = "mount -t tmpfs -o size=1m none \"$1\"";
    in_mounts("a full disk", setup, &dir, "full", &dir.file(), ballast.to_str().unwrap())
}

fn read_only() -> Result<(), Failed> {
    let dir = Dir::new();
    block_on(async {
        let (store, under) = configured(&dir.file()).await;
        store.create(&claim(under, "a", "10.5.1.0/24", HOUR)).await.unwrap();
    });
    let setup = "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"";
    let case = "a read-only directory";
    in_mounts(case, setup, &dir, "denied", &dir.file(), "the file is read-only")?;
    let missing = dir.path().join("new.db");
    in_mounts(case, setup, &dir, "denied", &missing, "Read-only file system")
}

fn sqlite3() -> Result<(), Failed> {
    let tool = |file: &Path, sql: &str| {
        let mut command = Command::new("sqlite3");
        let output = command.args(["-cmd", ".timeout 5000"]).arg(file).arg(sql).output();
        output.map(|output| {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && errors.is_empty(), "{sql}: {errors}");
            String::from_utf8(output.stdout).unwrap()
        })
    };
    if let Err(error) = tool(Path::new(":memory:"), "SELECT 1") {
        return Ok(cannot_run("reading with sqlite3", "sqlite3", &error.to_string())?);
    }
    let dir = Dir::new();
    let file = dir.file();
    block_on(async {
        let (store, under) = configured(&file).await;
        let writes = async {
            for number in 0..300 {
                let name = format!("n{number}");
                store.create(&claim(under, &name, &numbered(number), HOUR)).await.unwrap();
            }
        };
        let reads = tokio::task::spawn_blocking(move || {
            let mut counts = Vec::new();
            for _ in 0..20 {
                let count = tool(&file, "SELECT count(*) FROM lease_list").unwrap();
                counts.push(count.trim().parse::<u32>().unwrap());
                assert_eq!(tool(&file, "PRAGMA quick_check").unwrap(), "ok\n");
            }
            (counts, tool, file)
        });
        let ((), reads) = tokio::join!(writes, reads);
        let (counts, tool, file) = reads.unwrap();
        assert!(counts.is_sorted() && counts[counts.len() - 1] > 0, "{counts:?}");
        let listed =
            tool(&file, "SELECT network, ipv4, node, endpoint, backend FROM lease_list LIMIT 1")
                .unwrap();
        assert_eq!(listed, "red|10.0.0.0/24|n0|192.0.2.1|vxlan\n");
        let networks =
            tool(&file, "SELECT network, revision, leases, reservations FROM network_list")
                .unwrap();
        assert_eq!(networks, "red|301|300|0\n");
        let mut watch = store.watch(Revision::new(301)).await.unwrap();
        tool(&file, "DELETE FROM leases WHERE node = 'n7'").unwrap();
        let update = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        let Update::Changes(changes) = update.expect("in time").unwrap() else {
            panic!("a snapshot")
        };
        assert_eq!(changes.changes, [Change::Gone(numbered(7).parse().unwrap())]);
        let last = tool(
            &file,
            "SELECT revision, what, subnets, node FROM change_list ORDER BY revision DESC LIMIT 1",
        );
        assert_eq!(last.unwrap(), "302|gone|10.0.7.0/24|n7\n");
    });
    Ok(())
}
