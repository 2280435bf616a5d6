//! The backend and the forwarder on the running kernel, as any user.

mod device;
mod fixture;
mod hostile;
mod load;
mod plain;
mod told;
mod traffic;

use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_lab::vm::{self, VmOptions};

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

fn main() {
    vm::init_if_asked(&[]);
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let cases: [&[Case]; 6] = [
        &traffic::CASES,
        &plain::CASES,
        &told::CASES,
        &device::CASES,
        &hostile::CASES,
        &load::CASES,
    ];
    let arguments = Arguments::from_args();
    let mut trials: Vec<_> = if std::fs::metadata("/dev/net/tun").is_ok() {
        cases.concat().into_iter().map(|(name, case)| Trial::test(name, case)).collect()
    } else {
        vec![Trial::test("packets through a TUN device", || {
            let why = "there is no /dev/net/tun";
            Ok(overlay_lab::cannot_run("the udp backend", "tun", why)?)
        })]
    };
    if !vm::is_inside() {
        trials.push(Trial::test("another_kernel", another_kernel));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The same cases on the distribution's kernel.
fn another_kernel() -> Outcome {
    let options = VmOptions::new("debian")
        .cpus(2)
        .modules(["bridge", "dummy", "tun", "veth"])
        .programs(["sh", "sleep", "ip"]);
    const REQUIRED: &str = "userns,iproute2,tun";
    let patience = Duration::from_secs(400);
    Ok(vm::run_tests_inside("another_kernel", options, &[], REQUIRED, patience)?)
}
