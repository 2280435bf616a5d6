//! A store in another process, which may be killed and started again at any time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use overlay_lease::history::{Answer, Call};
use overlay_lease::{
    Attributes, Claim, ConfigureError, Configured, CreateError, Lease, NetworkConfig, NodeId,
    Revision, Snapshot, Standing, Store, StoreError, StoreErrorKind, Tenant, Update, Watch,
    WriteError,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::protocol::{from_call, to_answer};

/// A process that serves a file. Clones are the same.
#[derive(Clone)]
pub(crate) struct Remote {
    shared: Arc<Mutex<Shared>>,
    file: PathBuf,
}

struct Shared {
    process: Process,
    /// Which process it is: counts from 0.
    life: usize,
    asked: u64,
}

type Waiting = BTreeMap<u64, oneshot::Sender<Answer>>;

struct Process {
    child: Child,
    input: ChildStdin,
    /// Who waits for which answer; nobody any more when the process has ended.
    waiting: Arc<Mutex<Option<Waiting>>>,
}

impl Process {
    fn start(file: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child", "serve"]).arg(file).arg("");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let waiting = Arc::new(Mutex::new(Some(Waiting::new())));
        let answers = waiting.clone();
        std::thread::spawn(move || deliver(output, &answers));
        Self { child, input, waiting }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

fn deliver(output: ChildStdout, waiting: &Mutex<Option<Waiting>>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    // What a killed process began to say was not said.
    while output.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
        let json: Value = serde_json::from_str(&line).unwrap();
        let number = json[0].as_u64().unwrap();
        let asked = waiting.lock().unwrap().as_mut().and_then(|waiting| waiting.remove(&number));
        // Who asked may have gone.
        let _ = asked.map(|asked| asked.send(to_answer(&json[1])));
        line.clear();
    }
    *waiting.lock().unwrap() = None;
}

impl Remote {
    pub(crate) fn start(file: &Path) -> Self {
        let process = Process::start(file);
        let shared = Arc::new(Mutex::new(Shared { process, life: 0, asked: 0 }));
        Self { shared, file: file.to_owned() }
    }

    /// Ends the process by SIGKILL. Returns how many of its operations were not answered.
    pub(crate) fn kill(&self) -> usize {
        let mut shared = self.shared.lock().unwrap();
        assert!(shared.process.child.try_wait().unwrap().is_none(), "it ended by itself");
        shared.process.child.kill().unwrap();
        shared.process.child.wait().unwrap();
        let waiting = shared.process.waiting.lock().unwrap().take();
        waiting.map_or(0, |waiting| waiting.len())
    }

    /// Starts another process in the place of the one that was killed.
    pub(crate) fn restart(&self) {
        let mut shared = self.shared.lock().unwrap();
        shared.process = Process::start(&self.file);
        shared.life += 1;
    }

    fn ask(&self, call: &Call) -> (usize, oneshot::Receiver<Answer>) {
        let mut shared = self.shared.lock().unwrap();
        shared.asked += 1;
        let (number, life) = (shared.asked, shared.life);
        let (reply, answer) = oneshot::channel();
        if let Some(waiting) = &mut *shared.process.waiting.lock().unwrap() {
            waiting.insert(number, reply);
        }
        let line = format!("{}\n", json!([number, from_call(call)]));
        // Who has been killed does not listen, and answers nothing.
        let _ = shared.process.input.write_all(line.as_bytes());
        (life, answer)
    }

    async fn call(&self, call: Call) -> Result<Answer, StoreError> {
        answered(self.ask(&call).1.await)
    }

    async fn write(&self, call: Call) -> Result<Answer, WriteError> {
        match self.call(call).await? {
            Answer::Fenced(lease) => Err(WriteError::Fenced(lease)),
            answer => Ok(answer),
        }
    }
}

fn answered(answer: Result<Answer, oneshot::error::RecvError>) -> Result<Answer, StoreError> {
    match answer {
        Ok(Answer::Failed(error)) => Err(unavailable(error)),
        Ok(answer) => Ok(answer),
        Err(_) => Err(unavailable("the process was killed".into())),
    }
}

fn unavailable(error: String) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "another process", "do what it was asked", error)
}

impl Store for Remote {
    type Watch = RemoteWatch;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        match self.call(Call::Config).await? {
            Answer::Config(config) => Ok(config),
            other => panic!("{other}"),
        }
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        match self.call(Call::Configure { config: config.clone(), replaces }).await? {
            Answer::Configured(config) => Ok(config),
            Answer::Reconfigured(config) => Err(ConfigureError::Reconfigured(config)),
            other => panic!("{other}"),
        }
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        match self.call(Call::Standing(node.clone())).await? {
            Answer::Standing(standing) => Ok(standing),
            other => panic!("{other}"),
        }
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        match self.call(Call::Tenants).await? {
            Answer::Tenants(tenants) => Ok(tenants),
            other => panic!("{other}"),
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        match self.call(Call::Snapshot).await? {
            Answer::Snapshot(snapshot) => Ok(snapshot),
            other => panic!("{other}"),
        }
    }

    async fn watch(&self, after: Revision) -> Result<RemoteWatch, StoreError> {
        Ok(RemoteWatch { remote: self.clone(), after, open: None, next: None })
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        match self.call(Call::Create(claim.clone())).await? {
            Answer::Lease(lease) => Ok(lease),
            Answer::Taken(lease) => Err(CreateError::Taken(lease)),
            Answer::Holds(lease) => Err(CreateError::Holds(lease)),
            Answer::Reconfigured(config) => Err(CreateError::Reconfigured(config)),
            other => panic!("{other}"),
        }
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        let (lease, attributes) = (Arc::new(lease.clone()), attributes.clone());
        match self.write(Call::Update { lease, attributes, ttl }).await? {
            Answer::Lease(lease) => Ok(lease),
            other => panic!("{other}"),
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        self.write(Call::Renew(Arc::new(lease.clone()))).await.map(drop)
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        self.write(Call::Remove(Arc::new(lease.clone()))).await.map(drop)
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        match self.write(Call::Remaining(Arc::new(lease.clone()))).await? {
            Answer::Remaining(remaining) => Ok(remaining),
            other => panic!("{other}"),
        }
    }
}

/// A watch in another process, opened again in the next one.
pub(crate) struct RemoteWatch {
    remote: Remote,
    after: Revision,
    /// In the process of which life it is open, and under which number.
    open: Option<(usize, usize)>,
    /// What was asked for, kept while nobody waits.
    next: Option<oneshot::Receiver<Answer>>,
}

impl RemoteWatch {
    /// The number under which it is open in the process that there is now.
    async fn open(&mut self) -> Result<usize, StoreError> {
        static WATCHES: AtomicUsize = AtomicUsize::new(0);
        let life = self.remote.shared.lock().unwrap().life;
        if let Some((opened, watch)) = self.open
            && opened == life
        {
            return Ok(watch);
        }
        let watch = WATCHES.fetch_add(1, Ordering::Relaxed);
        let (life, opened) = self.remote.ask(&Call::Watch { watch, after: self.after });
        answered(opened.await)?;
        self.open = Some((life, watch));
        Ok(watch)
    }
}

impl Watch for RemoteWatch {
    async fn next(&mut self) -> Result<Update, StoreError> {
        let next = match &mut self.next {
            Some(next) => next,
            None => {
                let watch = self.open().await?;
                self.next.insert(self.remote.ask(&Call::Next { watch }).1)
            }
        };
        let answer = next.await;
        self.next = None;
        match answered(answer)? {
            Answer::Update(update) => {
                self.after = update.revision();
                Ok(update)
            }
            other => panic!("{other}"),
        }
    }
}
