//! One network in etcd, and reading it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use overlay_lease::{
    About, Configured, Lease, NodeId, Revision, Skipped, Snapshot, Standing, StoreError,
    StoreErrorKind, Subnets, Tenant,
};

use crate::RequestError;
use crate::grant::Granter;
use crate::layout::{Layout, Place};
use crate::rpc::messages::KeyValue;
use crate::rpc::{Client, Got, KeyRange, Reader, Txn};
use crate::value::{self, revision};

/// How many keys one answer may have. 20,000 leases are some 5 MB.
const PAGE: i64 = 20_000;

/// How often something is read again that changed while it was read.
const ATTEMPTS: usize = 5;

/// The keys of one network, and how to get at them.
pub(crate) struct Network {
    pub(crate) client: Client,
    pub(crate) reader: Reader,
    pub(crate) granter: Granter,
    pub(crate) layout: Layout,
    /// As errors call the store.
    pub(crate) name: String,
    /// The node that was looked up last: most programs ask for one, and then make its lease.
    pub(crate) last_seen: Mutex<Option<Tenancy>>,
    /// The configuration that was read last, which rarely changes, and what it says.
    pub(crate) last_config: Mutex<Option<(KeyValue, Configured)>>,
}

/// What etcd has of a node, so that a lease is made only as long as this is so.
#[derive(Clone)]
pub(crate) struct Tenancy {
    pub(crate) node: NodeId,
    /// When its record was written, 0 if there is none.
    pub(crate) recorded: i64,
    /// The subnets that it has, or had last.
    pub(crate) subnets: Option<Subnets>,
    /// The revision of the lease that somebody else has of them by now, 0 if there is to be none.
    pub(crate) leased: i64,
}

impl Tenancy {
    /// What its record says, and what is in the key of the lease that the record names.
    pub(crate) fn new(node: &NodeId, record: Option<&KeyValue>, lease: Option<&KeyValue>) -> Self {
        let mut tenancy = Self {
            node: node.clone(),
            recorded: record.map_or(0, |kv| kv.mod_revision),
            subnets: record.and_then(value::read_subnets),
            leased: 0,
        };
        // Its own lease has to go before there can be another.
        if tenancy.lease(lease).is_none() {
            tenancy.leased = lease.map_or(0, |kv| kv.mod_revision);
        }
        tenancy
    }

    /// The lease that the node has, if it is in this key.
    pub(crate) fn lease(&self, kv: Option<&KeyValue>) -> Option<Arc<Lease>> {
        let (subnets, kv) = self.subnets.zip(kv)?;
        value::read_lease(subnets, kv).ok().filter(|lease| lease.is_of(&self.node))
    }
}

impl Network {
    /// The error of an operation that failed for this reason.
    pub(crate) fn error(&self, operation: &'static str, error: RequestError) -> StoreError {
        StoreError::new(kind(&error), &self.name, operation, error)
    }

    pub(crate) fn corrupt(&self, operation: &'static str, problem: String) -> StoreError {
        StoreError::new(StoreErrorKind::Corrupt, &self.name, operation, problem)
    }

    /// Too much was going on at once.
    pub(crate) fn busy(&self, operation: &'static str) -> StoreError {
        let reason = format!("it changed {ATTEMPTS} times while it was looked at");
        StoreError::new(StoreErrorKind::Unavailable, &self.name, operation, reason)
    }

    /// An answer got lost, and since then somebody has written what excludes the same write, so that nobody knows whether
    /// it had its effect in between.
    pub(crate) fn unknown(&self, operation: &'static str) -> StoreError {
        let reason = "outcome unknown: an answer got lost, and by now there is something else";
        StoreError::new(StoreErrorKind::Unavailable, &self.name, operation, reason)
    }

    /// What was seen of the node last, if it was the last that was looked up.
    pub(crate) fn seen(&self, node: &NodeId) -> Tenancy {
        let seen = self.last_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.as_ref().filter(|tenancy| tenancy.node == *node);
        seen.cloned().unwrap_or_else(|| Tenancy::new(node, None, None))
    }

    pub(crate) fn remember(&self, tenancy: Tenancy) {
        *self.last_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(tenancy);
    }

    pub(crate) async fn config(
        &self,
        operation: &'static str,
    ) -> Result<Option<Configured>, StoreError> {
        let keys = KeyRange::single(self.layout.config());
        let answer = self.client.range(keys, 1, 0).await;
        let kv = answer.map_err(|error| self.error(operation, error))?.kvs.into_iter().next();
        self.read_config(operation, kv.as_ref())
    }

    pub(crate) fn read_config(
        &self,
        operation: &'static str,
        kv: Option<&KeyValue>,
    ) -> Result<Option<Configured>, StoreError> {
        let Some(kv) = kv else { return Ok(None) };
        let mut last = self.last_config.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = last.as_ref().filter(|(seen, _)| seen == kv) {
            return Ok(Some(config.clone()));
        }
        let config = value::read_config(kv).map_err(|problem| {
            self.corrupt(operation, format!("{}: {problem}", self.layout.config()))
        })?;
        *last = Some((kv.clone(), config.clone()));
        Ok(Some(config))
    }

    /// One request for a node that never had a lease, two for one that had.
    pub(crate) async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        let operation = "look up the lease of the node";
        let mut last: Option<Subnets> = None;
        for _ in 0..ATTEMPTS {
            let keys = [self.layout.config(), self.layout.node(node)].into_iter();
            let keys = keys.chain(last.map(|subnets| self.layout.lease(&subnets)));
            let found = self.reader.firsts(keys.map(KeyRange::single).collect()).await;
            let mut found = found.map_err(|error| self.error(operation, error))?.into_iter();
            let (config, record, kv) = (found.next(), found.next(), found.next());
            let config = self.read_config(operation, config.flatten().as_ref())?;
            let record = record.flatten();
            let now = record.as_ref().and_then(value::read_subnets);
            if now != last {
                last = now;
                continue;
            }
            let kv = kv.flatten();
            let tenancy = Tenancy::new(node, record.as_ref(), kv.as_ref());
            let lease = tenancy.lease(kv.as_ref());
            self.remember(tenancy);
            // Flannel's leases of both families do not appear in the index of IPv6 subnets.
            let both = |config: &Configured| {
                let pools = config.config.pools();
                pools.v4.is_some() && pools.v6.is_some()
            };
            let may_guess = !config.as_ref().is_some_and(both);
            return Ok(Standing { config, lease, last, may_guess });
        }
        Err(self.busy(operation))
    }

    pub(crate) async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let operation = "list who had which subnets";
        let directory = self.layout.nodes();
        for _ in 0..ATTEMPTS {
            let keys = KeyRange::prefix(directory.clone());
            match self.pages(keys, Got { kvs: Vec::new(), more: true }, 0).await {
                Ok(kvs) => {
                    let tenant = |kv: &KeyValue| {
                        let node = str::from_utf8(&kv.key).ok()?.strip_prefix(&directory)?;
                        let node = NodeId::new(node).ok()?;
                        let since = revision(kv.mod_revision);
                        Some(Tenant { node, subnets: value::read_subnets(kv)?, since })
                    };
                    return Ok(kvs.iter().filter_map(tenant).collect());
                }
                Err(RequestError::Compacted { .. }) => {}
                Err(error) => return Err(self.error(operation, error)),
            }
        }
        Err(self.busy(operation))
    }

    /// One request for up to 20,000 leases of each kind, and one for each 20,000 more.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let operation = "list the leases";
        for _ in 0..ATTEMPTS {
            match self.try_snapshot().await {
                Err(RequestError::Compacted { .. }) => {}
                result => return result.map_err(|error| self.error(operation, error)),
            }
        }
        Err(self.busy(operation))
    }

    async fn try_snapshot(&self) -> Result<Snapshot, RequestError> {
        let directories = [self.layout.v4(), self.layout.v6()].map(KeyRange::prefix);
        let mut txn = Txn::default().then_get(KeyRange::single(self.layout.config()), 1);
        for directory in &directories {
            txn = txn.then_get(directory.clone(), PAGE);
        }
        let mut answer = self.client.txn(txn).await?;
        let mut snapshot = Snapshot { revision: revision(answer.revision), ..Snapshot::default() };
        if let Some(kv) = answer.take_one(0) {
            match value::read_config(&kv) {
                Ok(config) => snapshot.config = Some(config),
                Err(reason) => snapshot.skipped.push(self.skipped(&kv, reason)),
            }
        }
        for (index, directory) in (1..).zip(directories) {
            let first = answer.take(index);
            for kv in self.pages(directory, first, answer.revision).await? {
                match self.read(&kv) {
                    Some(Ok(lease)) => snapshot.leases.push(lease),
                    Some(Err(reason)) => snapshot.skipped.push(self.skipped(&kv, reason)),
                    None => {}
                }
            }
        }
        Ok(snapshot)
    }

    /// The first page and all that follow, as of the same revision; 0 for that of the first of them.
    async fn pages(
        &self,
        keys: KeyRange,
        first: Got,
        mut revision: i64,
    ) -> Result<Vec<KeyValue>, RequestError> {
        let Got { mut kvs, mut more } = first;
        while more {
            let rest = match kvs.last() {
                // The next key after one is that key with a zero byte.
                Some(last) => {
                    KeyRange::between([last.key.as_slice(), &[0]].concat(), keys.end.clone())
                }
                None => keys.clone(),
            };
            let page = self.client.range(rest, PAGE, revision).await?;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            more = page.more && !page.kvs.is_empty();
            kvs.extend(page.kvs);
        }
        Ok(kvs)
    }

    /// The lease of exactly these subnets.
    pub(crate) async fn lease(
        &self,
        operation: &'static str,
        subnets: &Subnets,
    ) -> Result<Option<Arc<Lease>>, StoreError> {
        let key = self.layout.lease(subnets);
        let answer = self.client.range(KeyRange::single(key.as_str()), 1, 0).await;
        let kv = answer.map_err(|error| self.error(operation, error))?.kvs.into_iter().next();
        let Some(kv) = kv else { return Ok(None) };
        let lease = self.read(&kv).unwrap_or_else(|| Err("another key".into()));
        lease.map(Some).map_err(|problem| self.corrupt(operation, format!("{key}: {problem}")))
    }

    /// The lease in a key, or what is wrong about it, or nothing if no lease belongs there.
    pub(crate) fn read(&self, kv: &KeyValue) -> Option<Result<Arc<Lease>, String>> {
        match self.layout.place(&kv.key) {
            Place::Lease(subnets) => Some(value::read_lease(subnets, kv)),
            Place::Stray(reason) => Some(Err(reason)),
            Place::Config | Place::Elsewhere => None,
        }
    }

    /// What is reported of a key that cannot be read. Keys of strangers may be of any length.
    pub(crate) fn skipped(&self, kv: &KeyValue, reason: String) -> Skipped {
        const ENOUGH: usize = 300;
        let shortened = |text: &str| text.chars().take(ENOUGH).collect();
        let about = match self.layout.place(&kv.key) {
            Place::Config => Some(About::Config),
            Place::Lease(subnets) => Some(About::Lease(subnets)),
            Place::Stray(_) | Place::Elsewhere => None,
        };
        let key = shortened(&String::from_utf8_lossy(&kv.key));
        Skipped { key, reason: shortened(&reason), about }
    }

    /// The revision of the cluster, not only of the member that is asked.
    pub(crate) async fn revision(&self) -> Result<Revision, RequestError> {
        let keys = KeyRange::single(self.layout.config());
        let header = self.client.range(keys, 1, 0).await?.header;
        Ok(revision(header.map_or(0, |header| header.revision)))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("options", self.client.options())
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

fn kind(error: &RequestError) -> StoreErrorKind {
    match error {
        RequestError::Refused { code, message, .. } => {
            // The latter two are about what is asked, which does not get better by asking again.
            let codes = ["PermissionDenied", "Unauthenticated", "InvalidArgument", "OutOfRange"];
            // Watches are refused without a code, and wrong passwords with that of a wrong argument.
            let words = ["permission denied", "authentication", "auth token", "user name is empty"];
            let denied =
                codes.contains(&code.as_str()) || words.iter().any(|words| message.contains(words));
            if denied { StoreErrorKind::Denied } else { StoreErrorKind::Unavailable }
        }
        RequestError::Answer { .. } => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    }
}
