//! The lab, run on the running kernel, as any user.

mod capture;
mod datagrams;
mod hosts;
mod leftovers;
mod ping;
mod throughput;
mod wire;

use std::net::IpAddr;

use ipnet::IpNet;
use libtest_mimic::{Arguments, Failed, Trial};
use overlay_lab::{Host, Result, connect};

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

fn main() {
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    if leftovers::is_child() {
        leftovers::child();
    }
    let cases: [&[Case]; 7] = [
        &hosts::CASES,
        &ping::CASES,
        &wire::CASES,
        &capture::CASES,
        &datagrams::CASES,
        &throughput::CASES,
        &leftovers::CASES,
    ];
    let trials = cases.concat().into_iter().map(|(name, case)| Trial::test(name, case)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn nets<const N: usize>(texts: [&str; N]) -> [IpNet; N] {
    texts.map(|text| text.parse().expect("a network"))
}

fn ips<const N: usize>(texts: [&str; N]) -> [IpAddr; N] {
    texts.map(|text| text.parse().expect("an address"))
}

/// Two hosts on one cable: 10.0.0.1 and fd00::1 at the first, .2 and ::2 at the second.
fn pair() -> Result<(Host, Host)> {
    let (a, b) = (Host::new("a")?, Host::new("b")?);
    connect(&a, "eth0", &b, "eth0")?;
    address_pair(&a, &b)?;
    Ok((a, b))
}

fn address_pair(a: &Host, b: &Host) -> Result<()> {
    a.addresses("eth0", &nets(["10.0.0.1/24", "fd00::1/64"]))?;
    b.addresses("eth0", &nets(["10.0.0.2/24", "fd00::2/64"]))
}

/// `a - router - b`: networks 10.0.1.0/24 and fd00:1::/64, 10.0.2.0/24 and fd00:2::/64, hosts .1
/// and ::1, the router .254 and ::fe.
fn routed() -> Result<(Host, Host, Host)> {
    let (a, router, b) = (Host::new("a")?, Host::new("router")?, Host::new("b")?);
    connect(&a, "eth0", &router, "left")?;
    connect(&router, "right", &b, "eth0")?;
    router.forwarding(true)?;
    router.addresses("left", &nets(["10.0.1.254/24", "fd00:1::fe/64"]))?;
    router.addresses("right", &nets(["10.0.2.254/24", "fd00:2::fe/64"]))?;
    a.addresses("eth0", &nets(["10.0.1.1/24", "fd00:1::1/64"]))?;
    b.addresses("eth0", &nets(["10.0.2.1/24", "fd00:2::1/64"]))?;
    a.default_routes(&ips(["10.0.1.254", "fd00:1::fe"]))?;
    b.default_routes(&ips(["10.0.2.254", "fd00:2::fe"]))?;
    Ok((a, router, b))
}
