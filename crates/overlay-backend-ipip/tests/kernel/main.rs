//! The backend on a kernel that has the devices: the running one, or that of a virtual machine.

mod fixture;
mod point_to_point;
mod repair;
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
    // For tcpdump, which gives up rights in a way that user namespaces do not allow.
    let enter = if vm::is_inside() { overlay_lab::enter_as_root } else { overlay_lab::enter };
    if let Err(error) = enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let cases: [&[Case]; 3] = [&traffic::CASES, &repair::CASES, &point_to_point::CASES];
    let trials = cases.concat().into_iter().map(|(name, case)| {
        Trial::test(name, move || if fixture::has_tunnels(name)? { case() } else { Ok(()) })
    });
    let inside = Trial::test("another kernel", another_kernel);
    let outside = (!vm::is_inside()).then_some(inside);
    libtest_mimic::run(&Arguments::from_args(), trials.chain(outside).collect()).exit();
}

/// All cases once more on the distribution's kernel, which has the devices and gives every namespace one of each kind
/// that nobody asked for.
fn another_kernel() -> Outcome {
    const MODULES: [&str; 6] = ["bridge", "ip6_tunnel", "ipip", "sit", "tun", "veth"];
    const REQUIRED: &str = "iproute2,ipip,sit,ip6tnl,tcpdump";
    let options = VmOptions::new("debian")
        .modules(MODULES)
        .programs(["ip", "tcpdump"])
        .file("/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    let patience = Duration::from_secs(400);
    Ok(vm::run_tests_inside("another kernel", options, &["--test-threads=1"], REQUIRED, patience)?)
}
