//! The store: what async callers see of the threads.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use overlay_lease::{
    Attributes, Claim, ConfigureError, Configured, CreateError, Lease, NetworkConfig, NetworkName,
    NodeId, Revision, Snapshot, Standing, Store, StoreError, Tenant, Update, Watch, WriteError,
};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::fault::Fault;
use crate::file::Link;
use crate::queue::Queue;
use crate::read;
use crate::reader::{self, Query, Reader};
use crate::row::Written;
use crate::write;
use crate::writer::{self, Asked, Write, Writer};

/// The leases of one network in an SQLite file. Clones share two threads, one that writes and one that reads, which end
/// with the last of them.
///
/// Any number of processes of one machine may use the same file at the same time, and it may hold several networks. The
/// file has to be on a local disk: SQLite's write-ahead log does not work over a network.
///
/// It needs no runtime: its futures are woken by its threads.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

struct Shared {
    /// How errors call the store.
    name: String,
    network: NetworkName,
    writes: Queue<Write>,
    queries: Queue<Query>,
    changed: watch::Sender<u64>,
    /// No thread has the file open any more when this has no sender left.
    ended: watch::Receiver<()>,
}

impl SqliteStore {
    /// The network called `network` in the file at `path`, which is made if it is not there. Its directory has to be.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file cannot be made or opened, is that of another program or a newer version, or is
    /// damaged. Then it is left as it is.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped may leave a new file without leases.
    pub async fn open(path: impl AsRef<Path>, network: &NetworkName) -> Result<Self, StoreError> {
        Self::open_after(Link::create, path.as_ref(), network).await
    }

    /// The network called `network` in the file at `path`, which has to be there: for programs that only look, or that a
    /// mistyped path should not lead to an empty network.
    ///
    /// # Errors
    ///
    /// [`StoreError`] as with [`open`](Self::open), and as
    /// [`Unavailable`](overlay_lease::StoreErrorKind::Unavailable) if there is no such file.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped changes nothing.
    pub async fn open_existing(
        path: impl AsRef<Path>,
        network: &NetworkName,
    ) -> Result<Self, StoreError> {
        Self::open_after(Link::find, path.as_ref(), network).await
    }

    async fn open_after(
        prepare: fn(&Link) -> Result<(), Fault>,
        given: &Path,
        network: &NetworkName,
    ) -> Result<Self, StoreError> {
        let name = format!("sqlite:{}", given.display());
        let failed = |fault: &Arc<Fault>| error(&name, "open the file", fault);
        let path = std::path::absolute(given)
            .map_err(|error| failed(&Arc::new(Fault::Io("find the file", error))))?;
        let (writes, queries, changed, ended) =
            start(prepare, path, network).await.map_err(|fault| failed(&fault))?;
        let network = network.clone();
        let shared = Shared { name, network, writes, queries, changed, ended };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Closes the file, for all clones and watches: what they asked before is answered, what they ask later fails.
    ///
    /// When the last handle is dropped the file is closed as well, but later, and not at all if the program ends before.
    /// That loses nothing, but the write-ahead log stays beside the file until somebody opens it next.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the file is closed nevertheless, and nobody knows when.
    pub async fn close(self) {
        let Shared { writes, queries, changed, ended, .. } = &*self.shared;
        writes.close();
        queries.close();
        // Those who watch ask, and hear that it is closed.
        changed.send_modify(|_| ());
        let mut ended = ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &NetworkName {
        &self.shared.network
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { name, network, .. } = &*self.shared;
        f.debug_struct("SqliteStore")
            .field("name", name)
            .field("network", network)
            .finish_non_exhaustive()
    }
}

type Started = (Queue<Write>, Queue<Query>, watch::Sender<u64>, watch::Receiver<()>);

async fn start(
    prepare: fn(&Link) -> Result<(), Fault>,
    path: PathBuf,
    network: &NetworkName,
) -> Result<Started, Arc<Fault>> {
    let (writes, receiver) = Queue::new();
    let (queries, asked) = Queue::new();
    let changed = watch::Sender::new(0);
    let reader =
        Reader::new(Link::new(path.clone(), reader::PATIENCE), network.clone(), changed.clone());
    let mut writer = Writer {
        link: Link::new(path, writer::PATIENCE),
        network: network.clone(),
        writes: receiver,
        changed: changed.clone(),
    };
    let (ready, opened) = oneshot::channel();
    let (running, ended) = watch::channel(());
    let reading = running.clone();
    let (read_on, read_out) = oneshot::channel::<()>();
    spawn(move || {
        let connected = prepare(&writer.link).and_then(|()| writer.link.connection().map(drop));
        let go = connected.is_ok();
        // Who opens it may have gone, and then the queue ends at once.
        let _ = ready.send(connected.map_err(Arc::new));
        if go {
            writer.run();
        }
        // Of two connections that are closed at once each may see the other one, and then nobody folds the log into the file.
        let _ = read_out.blocking_recv();
        drop(writer);
        drop(running);
    })?;
    opened.await.unwrap_or_else(|_| Err(Arc::new(Fault::Ended)))?;
    spawn(move || {
        reader.run(&asked);
        drop(read_on);
        drop(reading);
    })?;
    Ok((writes, queries, changed, ended))
}

fn spawn(run: impl FnOnce() + Send + 'static) -> Result<(), Arc<Fault>> {
    let spawned = thread::Builder::new().name("overlay-sqlite".into()).spawn(run);
    spawned.map(drop).map_err(|error| Arc::new(Fault::Io("start a thread", error)))
}

impl Shared {
    /// Has the writer do something.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        function: impl FnOnce(&Connection, i64) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.writes.put(Box::new(Asked::new(function, reply))).await;
        self.wait(operation, asked, answer).await
    }

    /// Asks the reader.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        function: impl FnOnce(&Connection, i64) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |reader| {
            // Who asked may have gone.
            let _ = reply.send(reader.answer(function));
        });
        let asked = self.queries.put(query).await;
        self.wait(operation, asked, answer).await
    }

    async fn wait<T>(
        &self,
        operation: &'static str,
        asked: Result<(), Fault>,
        answer: oneshot::Receiver<Result<T, Arc<Fault>>>,
    ) -> Result<T, StoreError> {
        let answer = match asked {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(Arc::new(Fault::Ended))),
            Err(fault) => Err(Arc::new(fault)),
        };
        answer.map_err(|fault| error(&self.name, operation, &fault))
    }

    fn written(
        &self,
        operation: &'static str,
        attributes: &Attributes,
    ) -> Result<Written, StoreError> {
        Written::new(attributes).map_err(|fault| error(&self.name, operation, &Arc::new(fault)))
    }
}

fn error(store: &str, operation: &'static str, fault: &Arc<Fault>) -> StoreError {
    StoreError::new(fault.kind(), store, operation, fault.clone())
}

impl Store for SqliteStore {
    type Watch = SqliteWatch;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        let name = self.shared.network.clone();
        let query = move |connection: &Connection, _| read::config(connection, &name);
        self.shared.read("read the configuration", query).await
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        let (name, config) = (self.shared.network.clone(), Arc::new(config.clone()));
        let write = move |connection: &Connection, _| {
            write::configure(connection, &name, &config, replaces)
        };
        self.shared.write("configure the network", write).await?
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        let (name, node) = (self.shared.network.clone(), node.clone());
        let query = move |connection: &Connection, _| read::standing(connection, &name, &node);
        self.shared.read("read a node's standing", query).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let name = self.shared.network.clone();
        let query = move |connection: &Connection, _| read::tenants(connection, &name);
        self.shared.read("list the tenants", query).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let name = self.shared.network.clone();
        let query = move |connection: &Connection, _| read::snapshot(connection, &name);
        self.shared.read("list the leases", query).await
    }

    async fn watch(&self, after: Revision) -> Result<SqliteWatch, StoreError> {
        let changed = self.shared.changed.subscribe();
        Ok(SqliteWatch { shared: self.shared.clone(), changed, after, news: true })
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        const OPERATION: &str = "make a lease";
        let written = self.shared.written(OPERATION, &claim.attributes)?;
        let (name, claim) = (self.shared.network.clone(), claim.clone());
        let write = move |connection: &Connection, now| {
            write::create(connection, &name, now, &claim, written)
        };
        self.shared.write(OPERATION, write).await?
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        const OPERATION: &str = "change a lease";
        let written = self.shared.written(OPERATION, attributes)?;
        let (name, lease) = (self.shared.network.clone(), lease.clone());
        let write = move |connection: &Connection, now| {
            write::update(connection, &name, now, &lease, written, ttl)
        };
        self.shared.write(OPERATION, write).await?
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        let (name, lease) = (self.shared.network.clone(), lease.clone());
        let write =
            move |connection: &Connection, now| write::renew(connection, &name, now, &lease);
        self.shared.write("renew a lease", write).await?
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        let (name, lease) = (self.shared.network.clone(), lease.clone());
        let write = move |connection: &Connection, _| write::remove(connection, &name, &lease);
        self.shared.write("remove a lease", write).await?
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        let (name, lease) = (self.shared.network.clone(), lease.clone());
        let query =
            move |connection: &Connection, now| write::remaining(connection, &name, now, &lease);
        self.shared.read("ask how long a lease lives", query).await?
    }
}

/// What happens in a network of a file, whichever process does it.
///
/// What this process does is told at once, what others do within 50 ms.
pub struct SqliteWatch {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    after: Revision,
    /// Whether there may be something new.
    news: bool,
}

impl fmt::Debug for SqliteWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { name, network, .. } = &*self.shared;
        f.debug_struct("SqliteWatch")
            .field("name", name)
            .field("network", network)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl Watch for SqliteWatch {
    async fn next(&mut self) -> Result<Update, StoreError> {
        loop {
            if !self.news && self.changed.changed().await.is_err() {
                return Err(error(&self.shared.name, "watch the leases", &Arc::new(Fault::Ended)));
            }
            self.news = true;
            self.changed.mark_unchanged();
            let (name, after) = (self.shared.network.clone(), self.after);
            let query = move |connection: &Connection, _| read::since(connection, &name, after);
            if let Some(update) = self.shared.read("watch the leases", query).await? {
                self.after = update.revision();
                return Ok(update);
            }
            self.news = false;
        }
    }
}
