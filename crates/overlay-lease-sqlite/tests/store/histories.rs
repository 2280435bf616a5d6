//! What clients of several processes did and were answered while the processes were killed again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use overlay_lease::history::{Answer, Call, History, Rule, Workload, check};
use overlay_lease::{Change, Lease, Update};

use crate::common::{Dir, block_on};
use crate::processes::check_integrity;
use crate::remote::Remote;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |seed| {
        let name = format!("what_killed_processes_did_can_be_explained_{seed}");
        Trial::test(name, move || killed(seed))
    };
    (1..=2).map(trial).collect()
}

/// How many processes there are, and how many clients use each.
const PROCESSES: usize = 3;
const CLIENTS: usize = 2;

fn killed(seed: u64) -> Result<(), Failed> {
    let dir = Dir::new();
    let processes: Vec<_> = (0..PROCESSES).map(|_| Remote::start(&dir.file())).collect();
    let clients = processes.iter().flat_map(|process| vec![process.clone(); CLIENTS]).collect();
    let mut workload = Workload::new(seed);
    workload.ttl = Duration::from_secs(1);
    (workload.operations, workload.pause) = (400, Duration::from_millis(10));
    let (over, begin) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let killer = {
        let (processes, over) = (processes.clone(), over.clone());
        thread::spawn(move || kill(&processes, &over, seed))
    };
    let history = block_on(async {
        let ends = async {
            tokio::time::sleep(KILLING).await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(workload.run(clients), ends).0
    });
    let kills = killer.join().map_err(|_| "the killer failed")?;
    let summary = check(&history).map_err(|violation| violation.to_string())?;
    let unknown = history.operations.iter().filter(|operation| {
        let write = matches!(
            operation.call,
            Call::Create(_) | Call::Update { .. } | Call::Renew(_) | Call::Remove(_)
        );
        write && matches!(operation.answer, Answer::Failed(_))
    });
    let unknown = unknown.count();
    let took = begin.elapsed();
    eprintln!("seed {seed}: {kills} kills in {took:?}, {unknown} writes in flight, {summary:?}");
    assert!(kills > 100 && unknown > 50, "{kills} kills, {unknown} writes in flight");
    assert!(summary.leases > 50, "{summary:?}");
    assert!(summary.gone > 20 && summary.expired > 5 && summary.watched > 200, "{summary:?}");
    check_integrity(&dir);
    rejects_what_cannot_be(&history);
    Ok(())
}

/// For how long processes are killed: most of the time that the clients take.
const KILLING: Duration = Duration::from_secs(9);

/// Kills one process after the other, sometimes all of them at once, and starts them again. Returns how many it killed.
fn kill(processes: &[Remote], over: &AtomicBool, seed: u64) -> usize {
    let mut random = seed;
    let mut kills = 0;
    while !over.load(Ordering::Relaxed) {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(random >> 33).unwrap();
        thread::sleep(Duration::from_micros((number % 60_000) as u64));
        let first = number % processes.len();
        let count = if number % 8 == 0 { processes.len() } else { 1 };
        let killed = || processes.iter().cycle().skip(first).take(count);
        kills += killed().map(Remote::kill).count();
        killed().for_each(Remote::restart);
    }
    kills
}

/// Puts another answer in the place of one that it is about; returns whether it did.
type Lie = fn(&mut Answer, &Call) -> bool;

/// A checker that explains everything explains nothing.
fn rejects_what_cannot_be(history: &History) {
    let lies: [(&[Rule], Lie); 5] = [
        // A write that was refused, since the lease was gone, had its effect.
        (&[Rule::Fence], |answer, call| {
            let refused = matches!((&answer, call), (Answer::Fenced(None), Call::Renew(_)));
            if refused {
                *answer = Answer::Done;
            }
            refused
        }),
        // A lease was made although the subnets were taken.
        (&[Rule::Overlap, Rule::Doubled, Rule::Order, Rule::Content], |answer, call| {
            match (&*answer, call) {
                (Answer::Taken(taken), Call::Create(claim)) if claim.node.is_some() => {
                    let (node, attributes) = (claim.node.clone(), claim.attributes.clone());
                    let made = Lease::new(
                        claim.subnets,
                        node,
                        attributes,
                        claim.ttl,
                        taken.revision,
                        taken.revision,
                    );
                    *answer = Answer::Lease(Arc::new(made));
                    true
                }
                _ => false,
            }
        }),
        // A lease is missing where everything was read.
        (&[Rule::Missed, Rule::Stale], |answer, _| match answer {
            Answer::Snapshot(snapshot) => snapshot.leases.pop().is_some(),
            _ => false,
        }),
        // A change is missing in what a watch brought.
        (&[Rule::Missed], |answer, _| match answer {
            Answer::Update(Update::Changes(changes)) => {
                matches!(changes.changes.pop(), Some(Change::Lease(_) | Change::Gone(_)))
            }
            _ => false,
        }),
        // What was read was never written.
        (&[Rule::Content], |answer, _| match answer {
            Answer::Standing(standing) => match &mut standing.lease {
                Some(lease) => {
                    let mut other = Lease::clone(lease);
                    other.attributes.others.insert("Writer".into(), "nobody".into());
                    *lease = Arc::new(other);
                    true
                }
                None => false,
            },
            _ => false,
        }),
    ];
    for (number, (rules, lie)) in lies.into_iter().enumerate() {
        let mut told = history.clone();
        // Some of them alone could be true.
        let operations = told.operations.iter_mut();
        let lied = operations
            .filter_map(|operation| lie(&mut operation.answer, &operation.call).then_some(()));
        assert!(lied.count() > 0, "lie {number}: nothing to lie about");
        let violation = check(&told).expect_err(&format!("lie {number} is believed"));
        assert!(rules.contains(&violation.rule()), "lie {number}: {violation}");
    }
}
