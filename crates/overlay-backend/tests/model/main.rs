//! The kernel in memory and the real one, given the same requests.
//!
//! `OVERLAY_MODEL_CASES` runs another number of cases than the usual, and `OVERLAY_MODEL_SEED`
//! another first one. A failure prints the shortest list of operations that still shows it.

mod operation;
mod random;
mod view;

use std::collections::BTreeMap;
use std::fmt::Write;

use libtest_mimic::{Arguments, Failed, Trial};
use overlay_backend::{Kernel, MemoryKernel};
use overlay_lab::Host;
use overlay_netlink::{Error, IfName, Ifindex, Socket};

use self::operation::Operation;
use self::random::Random;

/// Cases of one trial.
const CASES: u64 = 15;
const TRIALS: u64 = 8;
/// Operations of one case, after those that it begins with.
const OPERATIONS: usize = 60;

fn main() {
    if let Err(error) = overlay_lab::enter() {
        eprintln!("{error}");
        std::process::exit(1);
    }
    let cases = number("OVERLAY_MODEL_CASES").map_or(CASES, |all| all.div_ceil(TRIALS));
    let seed = number("OVERLAY_MODEL_SEED").unwrap_or(0);
    let trials = (0..TRIALS)
        .map(|trial| {
            let first = seed + trial * cases;
            Trial::test(format!("cases {first} to {}", first + cases - 1), move || {
                (first..first + cases).try_for_each(case)
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn case(seed: u64) -> Result<(), Failed> {
    let mut random = Random::new(seed);
    let mut operations: Vec<Operation> =
        (0..OPERATIONS).map(|_| operation::any(&mut random)).collect();
    let Some(difference) = compare(&operations)? else { return Ok(()) };
    let mut difference = difference;
    operations.truncate(difference.at + 1);
    let mut at = operations.len();
    while at > 0 {
        at -= 1;
        let mut fewer = operations.clone();
        fewer.remove(at);
        if let Some(still) = compare(&fewer)? {
            fewer.truncate(still.at + 1);
            at = at.min(fewer.len());
            (operations, difference) = (fewer, still);
        }
    }
    let mut text = format!("seed {seed}:\n");
    for operation in &operations {
        let _ = writeln!(text, "  {operation}");
    }
    Err(format!("{text}{}", difference.text).into())
}

/// Where and how the kernels differ.
struct Difference {
    at: usize,
    text: String,
}

fn compare(operations: &[Operation]) -> Result<Option<Difference>, Failed> {
    let host = Host::new("model")?;
    for scope in ["all", "default"] {
        host.sysctl(&format!("net.ipv4.conf.{scope}.promote_secondaries"), 0)?;
    }
    let mut real = host.socket()?;
    let mut memory = MemoryKernel::new();
    for operation in operation::beginning() {
        let (real, memory) = both(&mut real, &mut memory, &operation)?;
        if (&*real, &*memory) != ("ok", "ok") {
            return Err(format!("{operation}: {real}, in memory {memory}").into());
        }
    }
    for (at, operation) in operations.iter().enumerate() {
        let (outcome, in_memory) = both(&mut real, &mut memory, operation)?;
        if outcome.split(':').next() != in_memory.split(':').next() {
            let text = format!("kernel:    {outcome}\nin memory: {in_memory}\n");
            return Ok(Some(Difference { at, text }));
        }
        let (view, in_memory) = (view::view(&mut real)?, view::view(&mut memory)?);
        if view != in_memory {
            let mut text = String::new();
            for line in view.iter().filter(|line| !in_memory.contains(line)) {
                let _ = writeln!(text, "only in the kernel: {line}");
            }
            for line in in_memory.iter().filter(|line| !view.contains(line)) {
                let _ = writeln!(text, "only in memory:     {line}");
            }
            return Ok(Some(Difference { at, text }));
        }
    }
    Ok(None)
}

/// Carries out an operation on both and returns what each said.
fn both(
    real: &mut Socket,
    memory: &mut MemoryKernel,
    operation: &Operation,
) -> Result<(String, String), Failed> {
    Ok((carry_out(real, operation)?, carry_out(memory, operation)?))
}

fn carry_out(kernel: &mut dyn Kernel, operation: &Operation) -> Result<String, Failed> {
    let numbers: BTreeMap<IfName, Ifindex> = view::numbers(kernel)?;
    // A number that nobody has.
    let request =
        operation.numbered(|name| numbers.get(name).copied().unwrap_or(Ifindex(1_000_000)));
    let executed = kernel.execute(&mut std::iter::once(request))?;
    Ok(match executed.errors.into_iter().next() {
        None => "ok".to_owned(),
        Some((_, Error::Invalid { reason, .. })) => format!("invalid: {reason}"),
        Some((_, error)) => format!("errno {}: {error}", error.errno().unwrap_or_default()),
    })
}
