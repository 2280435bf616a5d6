//! The backend and the reconciler on the running kernel, as any user.

mod fixture;
mod foreign;
mod plans;
mod refused;
mod repair;
mod restart;
mod scale;
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
    let cases: [&[Case]; 7] = [
        &traffic::CASES,
        &plans::CASES,
        &repair::CASES,
        &restart::CASES,
        &foreign::CASES,
        &refused::CASES,
        &scale::CASES,
    ];
    let trials = cases.concat().into_iter().map(|(name, case)| Trial::test(name, case)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
