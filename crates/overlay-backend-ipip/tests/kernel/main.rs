//! The backend on a kernel that has the devices: the running one, or that of a virtual machine.

mod fixture;
mod mixed;
mod point_to_point;
mod repair;
mod traffic;

use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_lab::Host;
use overlay_lab::vm::{self, VmOptions};
use overlay_netlink::{IfName, LinkKind, Tunnel};

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
        Trial::test(name, move || if has_tunnels(name)? { case() } else { Ok(()) })
    });
    // Programs want root, which outside of the machine is another program's part.
    let by_programs = if vm::is_inside() { &mixed::CASES[..] } else { &[] };
    let trials = trials.chain(by_programs.iter().map(|(name, case)| Trial::test(*name, case)));
    let inside = Trial::test("another kernel", another_kernel);
    let outside = (!vm::is_inside()).then_some(inside);
    libtest_mimic::run(&Arguments::from_args(), trials.chain(outside).collect()).exit();
}

/// All cases once more on the distribution's kernel, which has the devices and gives every namespace one of each kind
/// that nobody asked for.
fn another_kernel() -> Outcome {
    const MODULES: [&str; 8] =
        ["bridge", "cls_bpf", "ip6_tunnel", "ipip", "sch_ingress", "sit", "tun", "veth"];
    const REQUIRED: &str = "iproute2,ipip,sit,ip6tnl,tcpdump";
    let options = VmOptions::new("debian")
        .modules(MODULES)
        .programs(["ip", "tcpdump"])
        .file("/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    let patience = Duration::from_secs(400);
    Ok(vm::run_tests_inside("another kernel", options, &["--test-threads=1"], REQUIRED, patience)?)
}

/// Whether the kernel has the devices that the case needs; says so if not.
fn has_tunnels(case: &str) -> Result<bool, String> {
    let text = |error: overlay_lab::Error| error.to_string();
    let mut socket = Host::new("probe").and_then(|host| host.socket()).map_err(text)?;
    let tunnel = || Box::new(Tunnel::<IfName>::new());
    for kind in [LinkKind::Ipip(tunnel()), LinkKind::Sit(tunnel()), LinkKind::Ip6tnl(tunnel())] {
        if let Err(error) = socket.probe(&kind) {
            return overlay_lab::cannot_run(case, kind.name(), &error.to_string()).map(|()| false);
        }
    }
    Ok(true)
}
