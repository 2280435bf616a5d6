//! Virtual machines: another kernel, cables and hubs between them, and nothing left behind.

mod inside;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_lab::cannot_run;
use overlay_lab::vm::{self, Hub, Stream, Vm, VmError, VmOptions};
use rustix::process::{Pid, Signal, kill_process};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

const CASES: [Case; 6] = [
    ("a machine runs another kernel and programs, and is gone when dropped", another_kernel),
    ("two machines reach each other over a cable and a hub", two_machines),
    ("a machine that is not ready in time is an error in time", not_ready),
    ("a machine that panics is an error that says so", panics),
    ("what a machine cannot have is named before it starts", cannot_have),
    ("SIGKILL leaves no machine behind", killed),
];

/// In the environment of the process that is to be killed.
const CHILD: &str = "OVERLAY_LAB_VM_CHILD";

const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    vm::init_if_asked(&inside::FUNCTIONS);
    if std::env::var_os(CHILD).is_some() {
        let _vm = Vm::boot(VmOptions::new("orphan"));
        return thread::sleep(PATIENCE);
    }
    let mut arguments = Arguments::from_args();
    // Each of them has the work of a whole machine.
    arguments.test_threads = Some(1);
    let trials = CASES.map(|(name, case)| Trial::test(name, move || judge(name, case())));
    libtest_mimic::run(&arguments, trials.into()).exit();
}

fn judge(name: &str, outcome: Outcome) -> Result<(), Failed> {
    let Err(error) = outcome else { return Ok(()) };
    match error.downcast_ref::<VmError>() {
        Some(why) if why.is_not_installed() => Ok(cannot_run(name, "vm", &why.to_string())?),
        _ => Err(error.to_string().into()),
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn process(id: u32) -> PathBuf {
    format!("/proc/{id}").into()
}

fn another_kernel() -> Outcome {
    let start = Instant::now();
    let modules = ["ipip", "sit", "ip6_tunnel", "ip_gre"];
    let options = VmOptions::new("vm1").modules(modules).programs(["sh", "ip", "sleep"]);
    let vm = Vm::boot(options.file("/etc/motd", "welcome\n"))?;
    eprintln!("Linux {} was ready after {} ms", vm.kernel_release(), start.elapsed().as_millis());

    let outside = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let uname = text(&vm.call("uname", &[], PATIENCE)?);
    assert_eq!(uname, format!("{}\nvm1\n", vm.kernel_release()));
    assert_ne!(uname.lines().next(), Some(outside.trim()));
    let kinds = text(&vm.call("tunnels", &[], PATIENCE)?);
    assert_eq!(kinds, "ipip\nsit\nip6tnl\ngre\n");
    // iproute2 sees them, too.
    let shown =
        text(&vm.run(Command::new("ip").args(["-d", "link", "show", "tunnel0"]), PATIENCE)?);
    assert!(shown.contains("link/ipip 10.0.0.1 peer 10.0.0.9"), "{shown}");

    programs(&vm)?;

    let id = vm.process_id();
    assert!(process(id).exists());
    let stopped = Pid::from_raw(id.cast_signed()).ok_or("no process")?;
    kill_process(stopped, Signal::STOP)?;
    let start = Instant::now();
    let error = vm.call("uname", &[], Duration::from_millis(100)).expect_err("it hangs");
    assert!(matches!(error, VmError::Silent { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    drop(vm);
    assert!(!process(id).exists());
    Ok(())
}

/// What programs say and how they end comes back.
fn programs(vm: &Vm) -> Outcome {
    let script = "cat_motd() { while read -r line; do echo \"$line\"; done </etc/motd; }
        cat_motd; echo \"$WORD\" >&2; exit 7";
    let mut streams = Vec::new();
    let output =
        vm.run_with(shell(script).env("WORD", "two words"), PATIENCE, |stream, bytes| {
            streams.push((stream, bytes.to_vec()));
        })?;
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let expected = (&b"welcome\n"[..], &b"two words\n"[..]);
    assert_eq!((&output.stdout[..], &output.stderr[..]), expected);
    assert!(streams.contains(&(Stream::Stderr, b"two words\n".to_vec())), "{streams:?}");

    // More than any buffer on the way holds.
    let lines = shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i + 1)); done");
    let lines = text(&vm.run(&lines, PATIENCE)?);
    let expected: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    assert!(lines == expected, "{} bytes of {}", lines.len(), expected.len());

    // At the same time, and each gets its own.
    thread::scope(|scope| {
        let ask = |number: usize| vm.run(&shell(&format!("sleep 0.1; echo {number}")), PATIENCE);
        let threads = [1, 2, 3].map(|number| (number, scope.spawn(move || ask(number))));
        for (number, thread) in threads {
            let output = thread.join().expect("no panic")?;
            assert_eq!(text(&output), format!("{number}\n"));
        }
        Ok::<_, VmError>(())
    })?;

    let error = vm.call("sleep", &[], Duration::from_secs(3)).expect_err("it takes too long");
    match &error {
        VmError::TimedOut { output, .. } => assert_eq!(output, "good night\n"),
        _ => panic!("{error}"),
    }
    let left = shell("for p in /proc/[0-9]*; do read -r c <$p/cmdline; echo \"$c\"; done 2>&1");
    assert!(!text(&vm.run(&left, PATIENCE)?).contains("sleep"), "it is still there");
    let error = vm.run(&Command::new("nonesuch"), PATIENCE).expect_err("no such program");
    assert!(matches!(error, VmError::NotStarted { .. }), "{error}");
    let output = vm.call("nonesuch", &[], PATIENCE)?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonesuch"), "{output:?}");
    Ok(())
}

fn two_machines() -> Outcome {
    let (left, right) = vm::cable()?;
    let (_hub, [one, two, _unused]) = Hub::new()?;
    let macs =
        [["52:54:00:00:00:01", "52:54:00:00:01:01"], ["52:54:00:00:00:02", "52:54:00:00:01:02"]];
    let machine = |name, [cable, hub]: [&str; 2], plug, port| {
        Ok::<_, Box<dyn std::error::Error>>(
            VmOptions::new(name).nic(cable.parse()?, plug).nic(hub.parse()?, port),
        )
    };
    let machines = [machine("vm1", macs[0], left, one)?, machine("vm2", macs[1], right, two)?];
    let start = Instant::now();
    let machines = Vm::boot_all(machines)?;
    eprintln!("two machines were ready after {} ms", start.elapsed().as_millis());
    for (number, (vm, macs)) in machines.iter().zip(macs).enumerate() {
        for (network, mac) in macs.into_iter().enumerate() {
            let device = format!("eth{network}");
            let host = number + 1;
            let v4 = format!("10.0.{network}.{host}/24");
            let v6 = format!("fd00:{network}::{host}/64");
            let shown = text(&vm.call("configure", &[&device, &v4, &v6], PATIENCE)?);
            assert_eq!(shown.trim(), mac, "{device} of {}", vm.name());
        }
    }
    let far = ["10.0.0.2", "fd00:0::2", "10.0.1.2", "fd00:1::2"];
    let answers = text(&machines[0].call("ping", &far, PATIENCE)?);
    assert_eq!(answers, far.map(|address| format!("{address} 3\n")).concat());
    let answers = text(&machines[1].call("ping", &["10.0.0.1"], PATIENCE)?);
    assert_eq!(answers, "10.0.0.1 3\n");
    Ok(())
}

fn not_ready() -> Outcome {
    let start = Instant::now();
    let options = VmOptions::new("slow").boot_timeout(Duration::from_millis(1500));
    match Vm::boot(options) {
        Err(VmError::Boot { name, .. }) => assert_eq!(name, "slow"),
        Err(error) => return Err(error.into()),
        Ok(_) => panic!("no machine boots in so short a time"),
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    Ok(())
}

fn panics() -> Outcome {
    match Vm::boot(VmOptions::new("broken").kernel_argument("rdinit=/nonesuch")) {
        Err(VmError::Ended { console, .. }) => {
            assert!(console.contains("Kernel panic"), "{console}");
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => panic!("it has no first process"),
    }
}

fn cannot_have() -> Outcome {
    let options = || VmOptions::new("never");
    for (options, name) in [
        (options().modules(["no_such_module"]), "no_such_module"),
        (options().programs(["no-such-program"]), "no-such-program"),
        (options().file("../escape", ""), "../escape"),
        (options().kernel_argument("a b"), "a b"),
    ] {
        match Vm::boot(options) {
            Err(error) if error.is_not_installed() => return Err(error.into()),
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
            Ok(_) => panic!("{name}"),
        }
    }
    Ok(())
}

fn killed() -> Outcome {
    match Vm::boot(VmOptions::new("probe").boot_timeout(Duration::ZERO)) {
        Err(error) if error.is_not_installed() => return Err(error.into()),
        booted => assert!(booted.is_err(), "no machine boots in no time"),
    }
    let mut child =
        Command::new(std::env::current_exe()?).env(CHILD, "1").stdin(Stdio::null()).spawn()?;
    let start = Instant::now();
    let emulator = loop {
        if let Some(id) = emulator_of(child.id()) {
            break id;
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err("no emulator was started".into());
        }
        thread::sleep(Duration::from_millis(5));
    };
    child.kill()?;
    child.wait()?;
    let start = Instant::now();
    while process(emulator).exists() {
        assert!(start.elapsed() < PATIENCE, "process {emulator} is still there");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The child of a process that has a machine's kernel on its command line.
fn emulator_of(parent: u32) -> Option<u32> {
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    processes.find_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let runs = command.windows(7).any(|bytes| bytes == b"-kernel");
        (status.contains(&format!("PPid:\t{parent}\n")) && runs).then_some(id)
    })
}
