//! What was asked and answered, for the checker of histories, which knows nothing of this simulation.

use std::time::Duration;

use overlay_lease::history::{Answer as Answered, Call, History, Moment, Operation as Recorded};
use overlay_lease::{Answer, Operation, Reply};

/// Writes down what it is shown, once it was started.
#[derive(Default)]
pub(crate) struct Recorder {
    runs: bool,
    history: History,
    order: u64,
}

impl Recorder {
    pub(crate) fn start(&mut self) {
        self.runs = true;
    }

    pub(crate) fn moment(&mut self, at: Duration) -> Moment {
        self.order += 1;
        Moment { at, order: self.order }
    }

    /// Something was asked and answered at once.
    pub(crate) fn instant(&mut self, at: Duration, client: usize, call: Call, answer: Answered) {
        self.instant_with(at, client, call, || answer);
    }

    /// Something was asked and answered at once, with what is costly to make.
    pub(crate) fn instant_with(
        &mut self,
        at: Duration,
        client: usize,
        call: Call,
        answer: impl FnOnce() -> Answered,
    ) {
        if !self.runs {
            return;
        }
        let answer = answer();
        let began = self.moment(at);
        let ended = Some(self.moment(at));
        self.history.operations.push(Recorded { client, began, ended, call, answer });
    }

    /// Something reached the store that was sent at the moment `began`. Returns its number.
    pub(crate) fn asked(&mut self, client: usize, began: Moment, operation: &Operation) -> usize {
        if !self.runs {
            return 0;
        }
        let call = match operation.clone() {
            Operation::Standing(node) => Call::Standing(node),
            Operation::Tenants => Call::Tenants,
            Operation::Snapshot => Call::Snapshot,
            Operation::Create(claim) => Call::Create(claim),
            Operation::Update { lease, attributes, ttl } => Call::Update { lease, attributes, ttl },
            Operation::Renew(lease) => Call::Renew(lease),
            Operation::Remove(lease) => Call::Remove(lease),
        };
        let (ended, answer) = (None, Answered::None);
        self.history.operations.push(Recorded { client, began, ended, call, answer });
        self.history.operations.len() - 1
    }

    /// The answer to the operation of this number arrived.
    pub(crate) fn answered(&mut self, at: Duration, number: usize, reply: &Reply) {
        let ended = Some(self.moment(at));
        let Some(operation) = self.history.operations.get_mut(number) else { return };
        operation.ended = ended;
        operation.answer = match reply {
            Err(error) => Answered::Failed(error.to_string()),
            Ok(Answer::Standing(standing)) => Answered::Standing(standing.clone()),
            Ok(Answer::Tenants(tenants)) => Answered::Tenants(tenants.clone()),
            Ok(Answer::Snapshot(snapshot)) => Answered::Snapshot(snapshot.clone()),
            Ok(Answer::Lease(lease)) => Answered::Lease(lease.clone()),
            Ok(Answer::Done) => Answered::Done,
            Ok(Answer::Taken(lease)) => Answered::Taken(lease.clone()),
            Ok(Answer::Holds(lease)) => Answered::Holds(lease.clone()),
            Ok(Answer::Reconfigured(config)) => Answered::Reconfigured(config.clone()),
            Ok(Answer::Fenced(lease)) => Answered::Fenced(lease.clone()),
        };
    }

    /// In the order in which the operations began.
    pub(crate) fn finish(mut self) -> History {
        self.history.operations.sort_by_key(|operation| operation.began);
        self.history
    }
}
