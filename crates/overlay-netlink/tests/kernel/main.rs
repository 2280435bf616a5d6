//! What only a kernel can say, asked in network namespaces of the program's own, as any user.

#[cfg(feature = "tokio")]
mod async_monitor;
mod batches;
mod dumps;
mod equivalence;
mod errors;
mod links;
mod lookups;
mod monitors;
mod sockets;
mod world;

use std::error::Error as StdError;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use libtest_mimic::{Arguments, Failed, Trial};
use overlay_lab::vm::{self, VmOptions};
use overlay_netlink::IfName;
use overlay_wire::MacAddr;

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

fn main() {
    vm::init_if_asked(&[]);
    errors::open_outside();
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let cases: &[&[Case]] = &[
        &equivalence::CASES,
        &batches::CASES,
        &dumps::CASES,
        &errors::CASES,
        &links::CASES,
        &lookups::CASES,
        &monitors::CASES,
        &sockets::CASES,
        #[cfg(feature = "tokio")]
        &async_monitor::CASES,
    ];
    let trials = cases.concat().into_iter().map(|(name, case)| Trial::test(name, case));
    let inside = Trial::test("another_kernel", another_kernel);
    let outside = (!vm::is_inside()).then_some(inside);
    libtest_mimic::run(&Arguments::from_args(), trials.chain(outside).collect()).exit();
}

/// The case for which this kernel may lack the devices, on the distribution's kernel.
fn another_kernel() -> Outcome {
    const MODULES: [&str; 11] = [
        "bridge",
        "dummy",
        "ifb",
        "ip6_gre",
        "ip6_tunnel",
        "ip_gre",
        "ipip",
        "sit",
        "tun",
        "veth",
        "vxlan",
    ];
    // Every namespace would have a device of each kind that nobody asked for.
    let options = VmOptions::new("debian")
        .modules(MODULES)
        .programs(["sh", "sleep", "ip", "bridge"])
        .kernel_argument("fb_tunnels=initns");
    const REQUIRED: &str = "userns,iproute2,dummy,ipip,sit,ip6tnl,gre,gretap,ip6gre,ip6gretap";
    // An emulated processor needs minutes for those that run iproute2 hundreds of times.
    let arguments = ["tunnel_devices"];
    let patience = Duration::from_secs(240);
    Ok(vm::run_tests_inside("another_kernel", options, &arguments, REQUIRED, patience)?)
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn name(text: &str) -> IfName {
    IfName::new(text).expect("a device name")
}

/// A failure with the claim that does not hold.
fn fail<T>(claim: impl Into<String>) -> Result<T, Failed> {
    Err(Failed::from(claim.into()))
}

fn ensure(holds: bool, claim: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { fail(claim()) }
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T, what: &str) -> Outcome {
    ensure(found == expected, || format!("{what}:\n   found {found:?}\nexpected {expected:?}"))
}

/// An error with all that caused it.
fn whole(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
