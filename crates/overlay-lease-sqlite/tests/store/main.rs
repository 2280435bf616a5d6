//! The store in a file: the promises of every store, what others do to the file, and several processes, which are this
//! program called with the word `child`.

mod child;
mod common;
mod conformance;
mod damage;
mod histories;
mod processes;
mod protocol;
mod remote;
mod serve;
mod single;

use libtest_mimic::Arguments;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("child") {
        return child::run(&arguments.collect::<Vec<_>>());
    }
    let trials = [
        conformance::trials(),
        damage::trials(),
        histories::trials(),
        single::trials(),
        processes::trials(),
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
