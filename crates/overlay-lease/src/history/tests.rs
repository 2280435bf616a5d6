//! The checker itself: histories that can be pass, and others do not.

use std::sync::Arc;
use std::time::Duration;

use self::shaky::ShakyStore;
use super::{Answer, Call, History, Moment, Operation, Rule, Summary, Workload, check};
use crate::config::Configured;
use crate::conformance::flawed::{Flaw, FlawedStore};
use crate::conformance::sample::{attributes, claim, config, dual, node, v4, v6};
use crate::family::Subnets;
use crate::lease::{Lease, Revision};
use crate::memory::MemoryStore;
use crate::store::Standing;
use crate::watch::{Change, Changes, Snapshot, Update};

mod shaky;

/// More than a few where somebody asks for it: `OVERLAY_SEEDS=1000`.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("OVERLAY_SEEDS").ok().and_then(|count| count.parse().ok());
    0..count.unwrap_or(10)
}

#[tokio::test(start_paused = true)]
async fn histories_of_a_correct_store_pass() {
    for seed in seeds() {
        let history = Workload::new(seed).run(vec![MemoryStore::new(); 6]).await;
        match check(&history) {
            Ok(summary) => {
                assert!(summary.leases > 10 && summary.expired > 0, "{seed}: {summary:?}");
                assert!(summary.watched > 100 && summary.refused > 100, "{seed}: {summary:?}");
            }
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
}

/// A store that is slow, and that fails before or after having had its effect.
#[tokio::test(start_paused = true)]
async fn histories_of_a_shaky_store_pass() {
    for seed in seeds() {
        let mut workload = Workload::new(seed);
        workload.patience = Duration::from_millis(50);
        workload.duration = Duration::from_secs(1_000);
        let history = workload.run(vec![ShakyStore::new(seed); 6]).await;
        match check(&history) {
            Ok(summary) => {
                assert!(summary.leases > 10 && summary.expired > 0, "{seed}: {summary:?}");
                assert!(summary.uncertain > 100, "{seed}: {summary:?}");
            }
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
}

/// What a crowd sees of a store's flaw is no history that can be.
#[tokio::test(start_paused = true)]
async fn histories_of_flawed_stores_are_refused() {
    for (flaw, rules) in [
        (Flaw::AnyRevision, &[Rule::Fence][..]),
        (Flaw::AnyNode, &[Rule::Fence, Rule::Content]),
        (Flaw::OverlapInV6, &[Rule::Overlap, Rule::Missed, Rule::Order]),
        (Flaw::ManyLeases, &[Rule::SecondLease, Rule::Missed, Rule::Order]),
        (Flaw::AnyConfiguration, &[Rule::Fence]),
        (Flaw::AnyConfigure, &[Rule::Fence]),
        (Flaw::Early, &[Rule::Early]),
        (Flaw::ReservationsExpire, &[Rule::Early]),
        (Flaw::RenewalWrites, &[Rule::Content]),
        (Flaw::LosesOthers, &[Rule::Content]),
        (Flaw::LosesChanges, &[Rule::Missed]),
        (Flaw::LosesEnds, &[Rule::Missed]),
        (Flaw::DoublesChanges, &[Rule::Doubled]),
        (Flaw::Shuffles, &[Rule::Order, Rule::Doubled]),
        (Flaw::NotCancelSafe, &[Rule::Missed]),
        (Flaw::TornSnapshots, &[Rule::Missed]),
        (Flaw::StaleStanding, &[Rule::Stale, Rule::Early]),
        (Flaw::WrongHolder, &[Rule::Content, Rule::Refusal]),
        (Flaw::WrongMemory, &[Rule::Content]),
    ] {
        let mut workload = Workload::new(1);
        workload.nodes = 6;
        let history = workload.run(vec![FlawedStore::new(flaw); 6]).await;
        match check(&history) {
            Ok(summary) => panic!("{flaw:?} passes: {summary:?}"),
            Err(violation) => {
                assert!(rules.contains(&violation.rule()), "{flaw:?}: {violation}");
                assert!(!violation.operations().is_empty(), "{flaw:?}: {violation}");
            }
        }
    }
}

/// A history that is made by hand. Each operation takes a second, and begins where it is said to.
#[derive(Default)]
struct Made {
    history: History,
    configured: Option<Configured>,
}

impl Made {
    /// The network is configured at revision 1, at second 0.
    fn new() -> Self {
        let mut made = Self::default();
        let configured = Configured { config: Arc::new(config()), revision: Revision::new(1) };
        made.configured = Some(configured.clone());
        made.at(
            0,
            Call::Configure { config: config(), replaces: None },
            Answer::Configured(configured),
        )
    }

    fn at(mut self, second: u64, call: Call, answer: Answer) -> Self {
        let moment = |tenths| Moment { at: Duration::from_millis(tenths * 100), order: tenths };
        self.history.operations.push(Operation {
            client: 0,
            began: moment(second * 10 + 1),
            ended: Some(moment(second * 10 + 9)),
            call,
            answer,
        });
        self
    }

    fn creates(self, second: u64, lease: &Arc<Lease>) -> Self {
        self.tries(second, lease, Answer::Lease(lease.clone()))
    }

    fn tries(self, second: u64, lease: &Lease, answer: Answer) -> Self {
        let mut claim = claim(lease.subnets, 0, lease.ttl, self.configured.as_ref().unwrap());
        claim.node.clone_from(&lease.node);
        claim.attributes = lease.attributes.clone();
        self.at(second, Call::Create(claim), answer)
    }

    fn renews(self, second: u64, lease: &Arc<Lease>) -> Self {
        self.at(second, Call::Renew(lease.clone()), Answer::Done)
    }

    fn removes(self, second: u64, lease: &Arc<Lease>) -> Self {
        self.at(second, Call::Remove(lease.clone()), Answer::Done)
    }

    fn updates(self, second: u64, lease: &Arc<Lease>, to: &Arc<Lease>) -> Self {
        let (attributes, ttl) = (to.attributes.clone(), to.ttl);
        let call = Call::Update { lease: lease.clone(), attributes, ttl };
        self.at(second, call, Answer::Lease(to.clone()))
    }

    fn sees(self, second: u64, revision: u64, leases: &[&Arc<Lease>]) -> Self {
        let snapshot = Snapshot {
            revision: Revision::new(revision),
            config: self.configured.clone(),
            leases: leases.iter().copied().cloned().collect(),
            skipped: Vec::new(),
        };
        self.at(second, Call::Snapshot, Answer::Snapshot(snapshot))
    }

    fn watches(self, second: u64, after: u64) -> Self {
        self.at(second, Call::Watch { watch: 0, after: Revision::new(after) }, Answer::Done)
    }

    fn hears(self, second: u64, revision: u64, changes: &[Change]) -> Self {
        let (revision, changes) = (Revision::new(revision), changes.to_vec());
        let update = Update::Changes(Changes { revision, changes, skipped: Vec::new() });
        self.at(second, Call::Next { watch: 0 }, Answer::Update(update))
    }

    #[track_caller]
    fn passes(self) -> Summary {
        check(&self.history).unwrap_or_else(|violation| panic!("{violation}"))
    }

    #[track_caller]
    fn breaks(self, rule: Rule) {
        let violation = check(&self.history).expect_err("a violation");
        assert_eq!(violation.rule(), rule, "{violation}");
        for operation in violation.operations() {
            assert!(violation.to_string().contains(&operation.to_string()), "{violation}");
        }
    }
}

/// A lease of the node with this number for 100 seconds, unchanged since it was made.
fn lease(subnets: impl Into<Subnets>, number: usize, revision: u64) -> Arc<Lease> {
    let (attributes, revision) = (attributes(number), Revision::new(revision));
    let ttl = Some(Duration::from_secs(100));
    Arc::new(Lease::new(subnets.into(), Some(node(number)), attributes, ttl, revision, revision))
}

/// The lease as it is after another revision.
fn changed(lease: &Lease, number: usize, revision: u64) -> Arc<Lease> {
    let mut lease = lease.clone();
    lease.attributes = attributes(number);
    lease.revision = Revision::new(revision);
    Arc::new(lease)
}

#[test]
fn a_history_that_can_be_passes() {
    let (a, b) = (lease(dual(1), 1, 2), lease(dual(2), 2, 3));
    let (a2, c) = (changed(&a, 9, 4), lease(dual(2), 3, 7));
    let summary = Made::new()
        .watches(1, 1)
        .creates(2, &a)
        .creates(3, &b)
        .renews(4, &b)
        .updates(5, &a, &a2)
        .sees(6, 4, &[&a2, &b])
        .removes(7, &b)
        .tries(8, &lease(dual(1), 4, 0), Answer::Taken(a2.clone()))
        .creates(9, &c)
        .at(10, Call::Renew(b.clone()), Answer::Fenced(Some(c.clone())))
        .hears(11, 4, &[Change::Lease(a), Change::Lease(b.clone()), Change::Lease(a2.clone())])
        .hears(12, 9, &[Change::Gone(b.subnets), Change::Lease(c.clone())])
        .hears(150, 12, &[Change::Gone(a2.subnets), Change::Gone(c.subnets)])
        .sees(160, 12, &[])
        .passes();
    assert_eq!((summary.leases, summary.gone, summary.expired), (3, 3, 2));
    assert_eq!((summary.watched, summary.refused, summary.snapshots), (7, 2, 2));
}

#[test]
fn what_failed_may_have_happened_or_not() {
    let a = lease(dual(1), 1, 2);
    let failed = || Answer::Failed("cut off".into());
    let tried = || Made::new().tries(1, &a, failed());
    tried().sees(2, 1, &[]).passes();
    tried().sees(2, 2, &[&a]).passes();
    tried().sees(2, 1, &[]).sees(3, 2, &[&a]).passes();
    // Once, and not as somebody else wrote it.
    tried()
        .sees(2, 2, &[&a])
        .removes(3, &a)
        .sees(5, 5, &[&lease(dual(1), 1, 5)])
        .breaks(Rule::Content);
    tried().sees(2, 2, &[&changed(&a, 5, 2)]).breaks(Rule::Content);
    // Nor if it was refused, or before it was tried.
    let refused = Answer::Reconfigured(None);
    Made::new().tries(1, &a, refused).sees(2, 2, &[&a]).breaks(Rule::Stale);
    Made::new().sees(1, 2, &[&a]).tries(2, &a, failed()).breaks(Rule::Content);
    let removal = |answer| Made::new().creates(1, &a).at(2, Call::Remove(a.clone()), answer);
    removal(failed()).sees(3, 3, &[]).passes();
    removal(failed()).sees(3, 3, &[&a]).passes();
    removal(Answer::Done).sees(3, 3, &[&a]).breaks(Rule::Stale);
    let a2 = changed(&a, 7, 3);
    let (attributes, ttl) = (a2.attributes.clone(), a2.ttl);
    let update = Call::Update { lease: a.clone(), attributes, ttl };
    let updated = || Made::new().creates(1, &a).at(2, update.clone(), failed());
    updated().sees(3, 3, &[&a2]).passes();
    updated().sees(3, 2, &[&a]).renews(4, &a).passes();
    updated().sees(3, 3, &[&a2]).renews(4, &a).breaks(Rule::Fence);
}

/// Who lost the answer finds what was to be written, and cannot tell who wrote it.
#[test]
fn what_two_want_alike_may_be_done_for_both() {
    let mut reserved = Lease::clone(&lease(dual(1), 1, 2));
    (reserved.node, reserved.ttl) = (None, None);
    let reserved = Arc::new(reserved);
    let both = |other: &Arc<Lease>| {
        let mut made = Made::new().creates(1, &reserved).creates(2, other);
        // The first one is answered last.
        made.history.operations[1].ended = Some(Moment { at: Duration::from_secs(4), order: 40 });
        made
    };
    both(&reserved).sees(5, 2, &[&reserved]).passes();
    both(&changed(&reserved, 7, 2)).breaks(Rule::Content);
    let mut other = both(&reserved);
    if let Call::Create(claim) = &mut other.history.operations[2].call {
        claim.under = Revision::new(9);
    }
    other.breaks(Rule::Fence);
    // One after the other is not at the same moment.
    Made::new().creates(1, &reserved).creates(2, &reserved).breaks(Rule::Order);
    let again = || {
        let configured = Made::new().configured.unwrap();
        let call = Call::Configure { config: config(), replaces: None };
        Made::new().at(1, call, Answer::Configured(configured))
    };
    again().breaks(Rule::Order);
    let mut both = again();
    both.history.operations[0].ended = Some(Moment { at: Duration::from_secs(4), order: 40 });
    both.passes();
    // Nor can it tell what the other one replaced; but it did not do so after having been answered.
    let first = Made::new().configured.unwrap();
    let (second, call) = (Configured { revision: Revision::new(9), ..first.clone() }, |replaces| {
        Call::Configure { config: config(), replaces }
    });
    let replaced = |answered: u64| {
        let made = Made::new().at(3, call(None), Answer::Configured(second.clone()));
        let mut made = made.at(4, call(Some(first.revision)), Answer::Configured(second.clone()));
        let at = Duration::from_secs(answered);
        made.history.operations[1].ended = Some(Moment { at, order: answered * 10 });
        made
    };
    replaced(6).passes();
    replaced(3).breaks(Rule::Order);
}

/// The end that a watch tells may be that of a lease that nobody knows to have been made, or of the one before it.
#[test]
fn an_unknown_lease_may_end() {
    let (a, unknown) = (lease(dual(1), 1, 2), lease(dual(1), 2, 0));
    let failed = || Answer::Failed("cut off".into());
    let gone = [Change::Gone(a.subnets)];
    let made = || Made::new().creates(1, &a).removes(2, &a).tries(3, &unknown, failed());
    made().watches(4, 3).hears(5, 9, &gone).passes();
    made().watches(4, 2).hears(5, 9, &gone).sees(6, 9, &[]).passes();
    Made::new()
        .creates(1, &a)
        .removes(2, &a)
        .sees(3, 3, &[])
        .watches(4, 3)
        .hears(5, 9, &gone)
        .breaks(Rule::Missed);
}

#[test]
fn leases_that_overlap_are_found() {
    let a = lease(dual(1), 1, 2);
    for other in [lease(v4(1), 2, 3), lease((v4(2), v6(1)), 2, 3)] {
        let both = || Made::new().creates(1, &a).creates(2, &other);
        both().renews(3, &a).breaks(Rule::Overlap);
        both().sees(3, 3, &[&a, &other]).breaks(Rule::Overlap);
        Made::new().creates(1, &a).removes(2, &a).creates(3, &other).passes();
    }
    let second = lease(dual(2), 1, 3);
    Made::new().creates(1, &a).creates(2, &second).renews(3, &a).breaks(Rule::SecondLease);
}

#[test]
fn late_writes_are_found() {
    let a = lease(dual(1), 1, 2);
    let (a2, b) = (changed(&a, 5, 3), lease(dual(1), 2, 4));
    let updated = || Made::new().creates(1, &a).updates(2, &a, &a2);
    updated().renews(3, &a).breaks(Rule::Fence);
    updated().removes(3, &a).breaks(Rule::Fence);
    updated().updates(3, &a, &changed(&a, 6, 4)).breaks(Rule::Fence);
    updated().removes(3, &a2).renews(4, &a2).breaks(Rule::Fence);
    updated().removes(3, &a2).removes(4, &a2).breaks(Rule::Fence);
    updated().removes(3, &a2).creates(4, &b).renews(5, &a2).breaks(Rule::Overlap);
    let mut forged = Lease::clone(&a);
    forged.node = Some(node(9));
    Made::new().creates(1, &a).renews(2, &Arc::new(forged)).breaks(Rule::Fence);
    let again = Configured { config: Arc::new(config()), revision: Revision::new(3) };
    let configure = |replaces| Call::Configure { config: config(), replaces };
    Made::new().at(1, configure(None), Answer::Configured(again.clone())).breaks(Rule::Fence);
    let first = Some(Revision::new(1));
    let reconfigured = || Made::new().at(1, configure(first), Answer::Configured(again.clone()));
    reconfigured().creates(2, &b).breaks(Rule::Fence);
    reconfigured().at(2, Call::Config, Answer::Config(None)).breaks(Rule::Stale);
    reconfigured().at(2, Call::Config, Answer::Config(Some(again.clone()))).passes();
}

#[test]
fn refusals_without_reason_are_found() {
    let (a, b) = (lease(dual(1), 1, 2), lease(dual(2), 2, 3));
    let made = || Made::new().creates(1, &a);
    made().tries(2, &b, Answer::Taken(a.clone())).breaks(Rule::Refusal);
    made().tries(2, &b, Answer::Holds(a.clone())).breaks(Rule::Refusal);
    let configured = made().configured;
    made().tries(2, &b, Answer::Reconfigured(configured)).breaks(Rule::Refusal);
    let renew = || Call::Renew(a.clone());
    made().at(2, renew(), Answer::Fenced(Some(a.clone()))).breaks(Rule::Refusal);
    made().at(2, renew(), Answer::Fenced(None)).breaks(Rule::Early);
    made().removes(2, &a).at(3, renew(), Answer::Fenced(None)).passes();
}

#[test]
fn leases_that_live_too_short_or_too_long_are_found() {
    let a = lease(dual(1), 1, 2);
    let made = || Made::new().creates(1, &a);
    let standing = |lease: Option<&Arc<Lease>>| {
        let (config, lease) = (made().configured, lease.cloned());
        Answer::Standing(Standing { config, lease, ..Standing::default() })
    };
    let asked = |second, lease| made().at(second, Call::Standing(node(1)), standing(lease));
    asked(99, None).breaks(Rule::Early);
    asked(101, None).passes();
    asked(105, Some(&a)).passes();
    asked(108, Some(&a)).breaks(Rule::Late);
    made().renews(90, &a).sees(150, 5, &[]).breaks(Rule::Early);
    made().renews(90, &a).sees(190, 5, &[]).passes();
    made().renews(90, &a).sees(150, 5, &[&a]).passes();
    made().watches(2, 2).hears(50, 3, &[Change::Gone(a.subnets)]).breaks(Rule::Early);
    let mut reserved = Lease::clone(&a);
    reserved.ttl = None;
    let reserved = Arc::new(reserved);
    Made::new().creates(1, &reserved).sees(10_000, 2, &[&reserved]).passes();
    Made::new().creates(1, &reserved).sees(10_000, 3, &[]).breaks(Rule::Early);
}

#[test]
fn old_news_are_found() {
    let (a, b) = (lease(dual(1), 1, 2), lease(dual(2), 2, 3));
    let made = || Made::new().creates(1, &a).creates(2, &b);
    made().sees(3, 2, &[&a]).breaks(Rule::Stale);
    made().sees(3, 3, &[&a]).breaks(Rule::Missed);
    made().sees(3, 3, &[&a, &b, &b]).breaks(Rule::Doubled);
    made().sees(3, 3, &[&a, &changed(&b, 8, 3)]).breaks(Rule::Content);
    made().sees(3, 3, &[&a, &b, &lease(dual(3), 3, 4)]).breaks(Rule::Order);
    made().creates(3, &lease(dual(3), 3, 3)).breaks(Rule::Order);
    made().sees(3, 9, &[&a, &b]).sees(4, 9, &[&b, &a]).passes();
    made().sees(3, 9, &[&a, &b]).sees(4, 8, &[&a, &b]).breaks(Rule::Stale);
}

#[test]
fn watches_that_miss_or_repeat_are_found() {
    let (a, b) = (lease(dual(1), 1, 2), lease(dual(2), 2, 3));
    let c = lease(dual(1), 3, 5);
    let (told_a, told_b, told_c) =
        (Change::Lease(a.clone()), Change::Lease(b.clone()), Change::Lease(c.clone()));
    let gone = Change::Gone(a.subnets);
    let made =
        || Made::new().creates(1, &a).creates(2, &b).removes(3, &a).creates(4, &c).watches(5, 1);
    let heard = |changes: &[Change]| made().hears(6, 5, changes);
    let all = [told_a.clone(), told_b.clone(), gone.clone(), told_c.clone()];
    heard(&all).passes();
    made().hears(6, 2, &all[..1]).hears(7, 3, &all[1..2]).hears(8, 5, &all[2..]).passes();
    heard(&[told_a.clone(), gone.clone(), told_c.clone()]).breaks(Rule::Missed);
    heard(&[told_a.clone(), told_b.clone(), told_c.clone()]).breaks(Rule::Missed);
    heard(&[told_a.clone(), told_b.clone(), gone.clone()]).breaks(Rule::Missed);
    heard(&[told_a.clone(), told_b.clone(), told_b.clone(), gone.clone(), told_c.clone()])
        .breaks(Rule::Doubled);
    heard(&[told_a.clone(), told_b.clone(), gone.clone(), gone.clone(), told_c.clone()])
        .breaks(Rule::Doubled);
    heard(&[told_b.clone(), told_a.clone(), gone.clone(), told_c.clone()]).breaks(Rule::Order);
    made().hears(6, 5, &all).hears(7, 5, &[]).breaks(Rule::Order);
    made().hears(6, 5, &all).hears(7, 6, &all[3..]).breaks(Rule::Order);
    // A watch that is still waiting long after something happened.
    let waiting = Call::Next { watch: 0 };
    let mut late = made().hears(6, 3, &all[..2]).at(7, waiting.clone(), Answer::None);
    late.history.operations.last_mut().unwrap().ended =
        Some(Moment { at: Duration::from_secs(30), order: 300 });
    late.breaks(Rule::Missed);
    made().hears(6, 3, &all[..2]).at(7, waiting, Answer::None).passes();
}

#[test]
fn others_may_write_without_being_heard_but_not_everything() {
    let (a, b) = (lease(dual(1), 1, 2), lease(dual(1), 2, 5));
    let among = |made: Made| {
        let history = History { among_others: true, ..made.history };
        Made { history, ..made }
    };
    let seen = || Made::new().sees(1, 2, &[&a]);
    seen().breaks(Rule::Content);
    among(seen()).passes();
    among(seen().sees(2, 3, &[])).passes();
    among(seen().creates(2, &b).renews(3, &a)).breaks(Rule::Overlap);
    among(seen().sees(2, 4, &[&changed(&a, 5, 4)]).renews(3, &a)).breaks(Rule::Fence);
}
