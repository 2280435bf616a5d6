//! The backend and the forwarder on the running kernel, as any user.

mod device;
mod fixture;
mod hostile;
mod load;
mod plain;
mod told;
mod traffic;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

fn main() {
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
    let trials = if std::fs::metadata("/dev/net/tun").is_ok() {
        cases.concat().into_iter().map(|(name, case)| Trial::test(name, case)).collect()
    } else {
        vec![Trial::test("packets through a TUN device", || {
            let why = "there is no /dev/net/tun";
            Ok(overlay_lab::cannot_run("the udp backend", "tun", why)?)
        })]
    };
    libtest_mimic::run(&arguments, trials).exit();
}
