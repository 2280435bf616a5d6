//! The backend and the reconciler on the running kernel, as any user.

mod fixture;
mod foreign;
mod plans;
mod refused;
mod repair;
mod restart;
mod scale;
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
    let cases: [&[Case]; 7] = [
        &traffic::CASES,
        &plans::CASES,
        &repair::CASES,
        &restart::CASES,
        &foreign::CASES,
        &refused::CASES,
        &scale::CASES,
    ];
    let trials = cases.concat().into_iter().map(|(name, case)| Trial::test(name, case));
    let inside = Trial::test("another_kernel", another_kernel);
    let outside = (!vm::is_inside()).then_some(inside);
    libtest_mimic::run(&Arguments::from_args(), trials.chain(outside).collect()).exit();
}

/// The same cases on the distribution's kernel, but those that count what thousands of peers cost: counts are the same, and
/// they would take as long as all others.
fn another_kernel() -> Outcome {
    let options = VmOptions::new("debian")
        .cpus(2)
        .modules(["bridge", "dummy", "veth", "vxlan"])
        .programs(["sh", "sleep", "ip", "bridge"]);
    const REQUIRED: &str = "userns,iproute2,vxlan,nexthop";
    let patience = Duration::from_secs(400);
    Ok(vm::run_tests_inside(
        "another_kernel",
        options,
        &["--skip", "thousand"],
        REQUIRED,
        patience,
    )?)
}
