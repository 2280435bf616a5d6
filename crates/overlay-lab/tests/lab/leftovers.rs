//! Nothing is left behind, whatever happens to the program.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use overlay_lab::{Host, Switch, Wire, WireConfig, capture};

use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 2] =
    [("SIGKILL leaves nothing behind", killed), ("dropping a host leaves nothing behind", dropped)];

const CHILD: &str = "OVERLAY_LAB_CHILD";
const DONE: &str = "ready";

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Builds something of everything, tells the namespaces, and waits for its end.
pub(crate) fn child() -> ! {
    let build = || {
        let hosts = [Host::new("a")?, Host::new("b")?, Host::new("c")?];
        let [a, b, c] = &hosts;
        let wire = Wire::new(a, "eth0", b, "eth0", WireConfig::new(), 1)?;
        let switch = Switch::new("switch")?;
        let _ports = [switch.plug(b, "eth1", &[])?, switch.plug(c, "eth0", &[])?];
        c.bridge("br0", &[])?;
        let container = c.container("d", "br0", "veth0", &[], &[])?;
        let capture = capture(a, "eth0")?;
        let thread = c.spawn(|| thread::sleep(Duration::from_secs(600)))?;
        Ok::<_, overlay_lab::Error>((hosts, wire, switch, container, capture, thread))
    };
    let _built = build().expect("everything is built");
    for descriptor in fs::read_dir("/proc/self/fd").expect("descriptors").flatten() {
        if let Some(namespace) = namespace(descriptor.path()) {
            println!(
                "{namespace} /proc/{}/fd/{}",
                std::process::id(),
                descriptor.file_name().display()
            );
        }
    }
    println!(
        "{} /proc/{}/ns/net",
        namespace("/proc/self/ns/net".into()).expect("a namespace"),
        std::process::id()
    );
    println!("{DONE}");
    thread::sleep(Duration::from_secs(600));
    std::process::exit(1);
}

fn namespace(link: PathBuf) -> Option<String> {
    let target = fs::read_link(link).ok()?.display().to_string();
    target.starts_with("net:[").then_some(target)
}

/// The namespaces that any process holds by a thread, a descriptor or a mount, as far as this user
/// can see.
fn held() -> HashSet<String> {
    let mut links = Vec::new();
    let mut found = HashSet::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        for task in fs::read_dir(path.join("task")).into_iter().flatten().flatten() {
            links.push(task.path().join("ns/net"));
        }
        for descriptor in fs::read_dir(path.join("fd")).into_iter().flatten().flatten() {
            links.push(descriptor.path());
        }
        if let Ok(mounts) = fs::read_to_string(path.join("mountinfo")) {
            found.extend(
                mounts.split(' ').filter(|word| word.starts_with("net:[")).map(str::to_owned),
            );
        }
    }
    found.extend(links.into_iter().filter_map(namespace));
    found
}

fn killed() -> Outcome {
    let mut child =
        Command::new(std::env::current_exe()?).env(CHILD, "1").stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().expect("a pipe");
    let mut made = HashSet::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == DONE {
            break;
        }
        made.insert(line.split(' ').next().unwrap_or_default().to_owned());
    }
    let before = held();
    let seen = made.iter().filter(|namespace| before.contains(*namespace)).count();
    child.kill()?;
    child.wait()?;
    assert_eq!((made.len(), seen), (7, 7), "six hosts and the program itself");
    let after = held();
    let left: Vec<&String> = made.iter().filter(|namespace| after.contains(*namespace)).collect();
    assert!(left.is_empty(), "still held: {left:?}");
    Ok(())
}

fn dropped() -> Outcome {
    let host = Host::new("host")?;
    let inode = namespace(
        format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&host))
        )
        .into(),
    )
    .expect("a namespace");
    assert!(held().contains(&inode));
    let clone = host.clone();
    drop(host);
    assert!(held().contains(&inode), "a clone holds it");
    drop(clone);
    assert!(!held().contains(&inode));
    Ok(())
}
