//! Programs, maps and tunnels on the running kernel.
//!
//! BPF programs want the privileges of the machine's root, whom no user namespace has: these tests run as root, in
//! network namespaces of their own.

mod fixture;
mod hostile;
mod lifecycle;
mod maps;
mod offload;
mod sys;
mod traffic;
mod wire;

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_ebpf::map::{Map, MapKind};

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

fn main() {
    let cases: [&[Case]; 6] = [
        &traffic::CASES,
        &wire::CASES,
        &hostile::CASES,
        &lifecycle::CASES,
        &maps::CASES,
        &offload::CASES,
    ];
    let missing = missing();
    let trial = |(name, case): (&'static str, fn() -> Outcome)| {
        let missing = missing.clone();
        Trial::test(name, move || match missing {
            None => case(),
            Some(why) => overlay_lab::cannot_run(name, "bpf", &why).map_err(Failed::from),
        })
    };
    let trials = cases.concat().into_iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Why nothing here can run, if so.
fn missing() -> Option<String> {
    if let Err(error) = Map::<4, 4>::create(MapKind::Array, "may_i", 1) {
        return Some(error.to_string());
    }
    let tun = std::path::Path::new("/dev/net/tun");
    (!tun.exists()).then(|| "there is no /dev/net/tun".to_owned())
}
