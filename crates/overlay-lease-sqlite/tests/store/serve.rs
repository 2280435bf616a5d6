//! A process that does what it is asked, all of it at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::stdin;
use std::rc::Rc;

use overlay_lease::history::{Answer, Call};
use overlay_lease::{ConfigureError, CreateError, Store, StoreError, Watch, WriteError};
use overlay_lease_sqlite::{SqliteStore, SqliteWatch};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{LocalSet, spawn_local};

use crate::child::say;
use crate::protocol::{from_answer, to_call};

/// By the numbers that the parent gave them.
type Watches = Rc<RefCell<BTreeMap<usize, Rc<Mutex<SqliteWatch>>>>>;

/// Until nobody asks any more.
pub(crate) async fn run(store: SqliteStore) {
    let (lines, mut asked) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in stdin().lines() {
            // The runtime ends with the program.
            let _ = lines.send(line.unwrap());
        }
    });
    let watches = Watches::default();
    let serve = async {
        while let Some(line) = asked.recv().await {
            let json: Value = serde_json::from_str(&line).unwrap();
            let (store, watches) = (store.clone(), watches.clone());
            spawn_local(async move {
                let answer = answer(&store, &watches, to_call(&json[1])).await;
                let answer = answer.unwrap_or_else(|error| Answer::Failed(error.to_string()));
                say(format_args!("{}", json!([json[0], from_answer(&answer)])));
            });
        }
    };
    LocalSet::new().run_until(serve).await;
}

async fn answer(store: &SqliteStore, watches: &Watches, call: Call) -> Result<Answer, StoreError> {
    match call {
        Call::Config => store.config().await.map(Answer::Config),
        Call::Configure { config, replaces } => match store.configure(&config, replaces).await {
            Ok(config) => Ok(Answer::Configured(config)),
            Err(ConfigureError::Reconfigured(config)) => Ok(Answer::Reconfigured(config)),
            Err(ConfigureError::Store(error)) => Err(error),
            Err(other) => panic!("{other}"),
        },
        Call::Standing(node) => store.standing(&node).await.map(Answer::Standing),
        Call::Tenants => store.tenants().await.map(Answer::Tenants),
        Call::Snapshot => store.snapshot().await.map(Answer::Snapshot),
        Call::Watch { watch, after } => {
            let opened = Rc::new(Mutex::new(store.watch(after).await?));
            watches.borrow_mut().insert(watch, opened);
            Ok(Answer::Done)
        }
        Call::Next { watch } => {
            let watch = watches.borrow().get(&watch).cloned();
            match watch {
                Some(watch) => watch.lock().await.next().await.map(Answer::Update),
                None => Ok(Answer::Failed("no such watch".into())),
            }
        }
        Call::Create(claim) => match store.create(&claim).await {
            Ok(lease) => Ok(Answer::Lease(lease)),
            Err(CreateError::Taken(lease)) => Ok(Answer::Taken(lease)),
            Err(CreateError::Holds(lease)) => Ok(Answer::Holds(lease)),
            Err(CreateError::Reconfigured(config)) => Ok(Answer::Reconfigured(config)),
            Err(CreateError::Store(error)) => Err(error),
            Err(other) => panic!("{other}"),
        },
        Call::Update { lease, attributes, ttl } => {
            written(store.update(&lease, &attributes, ttl).await, Answer::Lease)
        }
        Call::Renew(lease) => written(store.renew(&lease).await, |()| Answer::Done),
        Call::Remove(lease) => written(store.remove(&lease).await, |()| Answer::Done),
        Call::Remaining(lease) => written(store.remaining(&lease).await, Answer::Remaining),
    }
}

fn written<T>(
    outcome: Result<T, WriteError>,
    answer: impl FnOnce(T) -> Answer,
) -> Result<Answer, StoreError> {
    match outcome {
        Ok(outcome) => Ok(answer(outcome)),
        Err(WriteError::Fenced(lease)) => Ok(Answer::Fenced(lease)),
        Err(WriteError::Store(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}
