//! Programs, maps and tunnels on the running kernel, as root.

mod fixture;
mod measure;
mod traffic;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

fn main() {
    let cases: [&[Case]; 2] = [&traffic::CASES, &measure::CASES];
    let trials = cases.concat().into_iter().map(|(name, case)| Trial::test(name, case)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
