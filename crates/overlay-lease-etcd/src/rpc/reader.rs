//! Reading keys, together with all others who want to read at the same moment.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::iter;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::client::Client;
use super::messages::KeyValue;
use super::txn::{KeyRange, Txn, TxnAnswer};
use crate::RequestError;

/// How long a question waits for the answer to those before it, so that more come along with it.
const GATHERING: Duration = Duration::from_millis(20);

/// How many ranges are read at once, unless a single question has more: half of what etcd accepts by default.
const AT_ONCE: usize = 64;

/// What many ask of etcd at the same moment goes there as one request, which costs it hardly more than one of them.
/// Whoever asks alone does not wait.
///
/// All questions of one request are refused together if one of them is, so that nobody shares a reader with those who
/// may read less.
pub(crate) struct Reader {
    client: Client,
    /// Who has it asks. The others wait for it, or for the answer, whichever comes first.
    turn: tokio::sync::Mutex<()>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// How many questions there have been.
    asked: u64,
    waiting: Vec<Question>,
}

struct Question {
    number: u64,
    ranges: Vec<KeyRange>,
    answer: oneshot::Sender<Result<Firsts, RequestError>>,
}

/// The first key of each range, if there is one.
type Firsts = Vec<Option<KeyValue>>;

impl Reader {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, turn: tokio::sync::Mutex::default(), queue: Mutex::default() }
    }

    /// The first key of each range, all of one revision, which is not older than what the client has seen.
    pub(crate) async fn firsts(&self, ranges: Vec<KeyRange>) -> Result<Firsts, RequestError> {
        loop {
            let (number, mut answered) = self.put(&ranges);
            let turn = tokio::select! {
                biased;
                answer = &mut answered => match answer {
                    Ok(answer) => return answer,
                    // Who asked on behalf of this one as well has been dropped.
                    Err(_) => continue,
                },
                turn = timeout(GATHERING, self.turn.lock()) => turn,
            };
            let questions = self.take(number);
            if !questions.is_empty() {
                self.ask(questions).await;
            }
            drop(turn);
            // It was asked just now, or has been taken by somebody who did not wait for a turn.
            if let Ok(answer) = answered.await {
                return answer;
            }
        }
    }

    /// Asks all of them at once. What several of them want to know is asked once.
    async fn ask(&self, questions: Vec<Question>) {
        let mut places = HashMap::new();
        let mut txn = Txn::default();
        for range in questions.iter().flat_map(|question| &question.ranges) {
            let next = places.len();
            if let Entry::Vacant(new) = places.entry(range.clone()) {
                new.insert(next);
                txn = txn.then_get(range.clone(), 1);
            }
        }
        let answer = self.client.glance(txn).await;
        for Question { ranges, answer: waits, .. } in questions {
            let firsts = |answer: &TxnAnswer| {
                let first = |range| answer.got.get(*places.get(range)?)?.kvs.first().cloned();
                ranges.iter().map(first).collect()
            };
            // Whoever no longer waits does not miss it.
            let _ = waits.send(answer.as_ref().map(firsts).map_err(Clone::clone));
        }
    }

    fn put(&self, ranges: &[KeyRange]) -> (u64, oneshot::Receiver<Result<Firsts, RequestError>>) {
        let (answer, answered) = oneshot::channel();
        let mut queue = self.queue();
        queue.asked += 1;
        let number = queue.asked;
        queue.waiting.push(Question { number, ranges: ranges.to_vec(), answer });
        (number, answered)
    }

    /// This question, with those that waited for longest beside it; nothing if somebody has taken it.
    fn take(&self, number: u64) -> Vec<Question> {
        let Queue { waiting, .. } = &mut *self.queue();
        waiting.retain(|question| !question.answer.is_closed());
        let Some(own) = waiting.iter().position(|question| question.number == number) else {
            return Vec::new();
        };
        let own = waiting.remove(own);
        let mut ranges = own.ranges.len();
        let fits = |question: &&Question| {
            ranges += question.ranges.len();
            ranges <= AT_ONCE
        };
        let fitting = waiting.iter().take_while(fits).count();
        let rest = waiting.split_off(fitting);
        iter::once(own).chain(mem::replace(waiting, rest)).collect()
    }

    /// A panic of another thread leaves a queue that is as whole as before.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
