//! Operations of a store that are bounded in time and expected to end in a certain way.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::sample::config;
use super::{Broken, Testbed};
use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::lease::{Lease, Revision};
use crate::name::{NetworkName, NodeId};
use crate::store::{Claim, ConfigureError, CreateError, Standing, Store, WriteError};
use crate::watch::Snapshot;

/// How long an operation or a change may take to count as one that comes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What an operation of a claimant comes to.
pub(super) type Created = Result<Arc<Lease>, CreateError>;

/// A client whose operations are expected to succeed.
pub(super) struct Client<S> {
    pub(super) store: S,
}

impl<S: Store + 'static> Client<S> {
    pub(super) async fn new<T: Testbed<Store = S>>(
        testbed: &T,
        network: &NetworkName,
    ) -> Result<Self, Broken> {
        let step = format!("making a client of the network {network}");
        Ok(Self { store: succeeds(step, testbed.client(network)).await? })
    }

    /// A client of a network that is configured, and its configuration.
    pub(super) async fn configured<T: Testbed<Store = S>>(
        testbed: &T,
        network: &NetworkName,
    ) -> Result<(Self, Configured), Broken> {
        let client = Self::new(testbed, network).await?;
        let configured = client.configure(&config(), None).await?;
        Ok((client, configured))
    }

    pub(super) async fn config(&self) -> Result<Option<Configured>, Broken> {
        succeeds("reading the configuration", self.store.config()).await
    }

    pub(super) async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, Broken> {
        let step = format!("configuring the network, replacing {replaces:?}");
        succeeds(step, self.store.configure(config, replaces)).await
    }

    pub(super) async fn standing(&self, node: &NodeId) -> Result<Standing, Broken> {
        succeeds(format!("asking what {node} has"), self.store.standing(node)).await
    }

    pub(super) async fn snapshot(&self) -> Result<Snapshot, Broken> {
        succeeds("reading everything", self.store.snapshot()).await
    }

    pub(super) async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, Broken> {
        succeeds(creating(claim), self.store.create(claim)).await
    }

    pub(super) async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, Broken> {
        succeeds(writing("updating", lease), self.store.update(lease, attributes, ttl)).await
    }

    pub(super) async fn renew(&self, lease: &Lease) -> Result<(), Broken> {
        succeeds(writing("renewing", lease), self.store.renew(lease)).await
    }

    pub(super) async fn remove(&self, lease: &Lease) -> Result<(), Broken> {
        succeeds(writing("removing", lease), self.store.remove(lease)).await
    }

    pub(super) async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, Broken> {
        succeeds(writing("asking for the remaining time of", lease), self.store.remaining(lease))
            .await
    }

    /// Expects that these subnets are refused because they are those of `holder`.
    pub(super) async fn taken(&self, claim: &Claim, holder: &Lease) -> Result<(), Broken> {
        match bounded(creating(claim), self.store.create(claim)).await? {
            Err(CreateError::Taken(found)) if *found == *holder => Ok(()),
            other => Err(Broken::new(creating(claim), format!("taken: {holder:?}"), text(&other))),
        }
    }

    /// Expects that these subnets are refused because the node has `held`.
    pub(super) async fn holds(&self, claim: &Claim, held: &Lease) -> Result<(), Broken> {
        match bounded(creating(claim), self.store.create(claim)).await? {
            Err(CreateError::Holds(found)) if *found == *held => Ok(()),
            other => Err(Broken::new(
                creating(claim),
                format!("the node already has {held:?}"),
                text(&other),
            )),
        }
    }

    /// Expects that no write based on `lease` has an effect, since `now` is what there is of its subnets.
    pub(super) async fn fenced(&self, lease: &Lease, now: Option<&Lease>) -> Result<(), Broken> {
        let mut other = lease.attributes.clone();
        other.others.insert("Late".into(), true.into());
        let ttl = Some(Duration::from_secs(1));
        fenced("updating", lease, now, self.store.update(lease, &other, ttl)).await?;
        let same = self.store.update(lease, &lease.attributes, lease.ttl);
        fenced("updating, without a change,", lease, now, same).await?;
        fenced("renewing", lease, now, self.store.renew(lease)).await?;
        fenced("removing", lease, now, self.store.remove(lease)).await?;
        fenced("asking for the remaining time of", lease, now, self.store.remaining(lease)).await
    }
}

async fn fenced<T: Debug>(
    doing: &str,
    lease: &Lease,
    now: Option<&Lease>,
    operation: impl Future<Output = Result<T, WriteError>>,
) -> Result<(), Broken> {
    let step = writing(doing, lease);
    match bounded(&step, operation).await? {
        Err(WriteError::Fenced(found)) if found.as_deref() == now => Ok(()),
        other => Err(Broken::new(step, format!("refused, as there is {now:?}"), text(&other))),
    }
}

/// Expects that somebody else configured the network: as `now` says.
pub(super) async fn reconfigured<S: Store>(
    client: &Client<S>,
    replaces: Option<Revision>,
    now: Option<&Configured>,
) -> Result<(), Broken> {
    let step = format!("configuring the network, replacing {replaces:?}");
    match bounded(&step, client.store.configure(&config(), replaces)).await? {
        Err(ConfigureError::Reconfigured(found)) if found.as_ref() == now => Ok(()),
        other => Err(Broken::new(step, format!("refused, as there is {now:?}"), text(&other))),
    }
}

/// What all operations come to when they start together, each with a client of its own, in the order of the clients.
pub(super) async fn at_once<T: Testbed, R, F>(
    testbed: &T,
    network: &NetworkName,
    count: usize,
    operation: impl Fn(T::Store, usize) -> F,
) -> Result<Vec<R>, Broken>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(Client::new(testbed, network).await?);
    }
    let mut tasks = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        let operation = operation(client.store, number);
        tasks.spawn(async move { (number, operation.await) });
    }
    let step = format!("{count} operations at once");
    let mut results = Vec::with_capacity(count);
    while let Some(joined) = bounded(&step, tasks.join_next()).await? {
        results.push(joined.map_err(|error| Broken::new(&step, "an answer", error))?);
    }
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// What the operation comes to, if it comes to something.
pub(super) async fn bounded<R>(
    step: impl Display,
    operation: impl Future<Output = R>,
) -> Result<R, Broken> {
    tokio::time::timeout(PATIENCE, operation)
        .await
        .map_err(|_| Broken::new(step, "an answer", format!("none within {PATIENCE:?}")))
}

/// What the operation brings, which succeeds.
pub(super) async fn succeeds<R, E: Display>(
    step: impl Display,
    operation: impl Future<Output = Result<R, E>>,
) -> Result<R, Broken> {
    let result = bounded(&step, operation).await?;
    result.map_err(|error| Broken::new(step, "success", format!("failure: {error}")))
}

/// Expects what is expected.
pub(super) fn same<V: PartialEq + Debug + ?Sized>(
    step: impl Display,
    expected: &V,
    found: &V,
) -> Result<(), Broken> {
    check(expected == found, step, format_args!("{expected:?}"), format_args!("{found:?}"))
}

/// Expects that something holds.
pub(super) fn check(
    holds: bool,
    step: impl Display,
    expected: impl Display,
    found: impl Display,
) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::new(step, expected, found)) }
}

/// An outcome as text.
pub(super) fn text<R: Debug, E: Display + Debug>(outcome: &Result<R, E>) -> String {
    match outcome {
        Ok(result) => format!("success: {result:?}"),
        Err(error) => format!("failure: {error} ({error:?})"),
    }
}

fn creating(claim: &Claim) -> String {
    let node = claim.node.as_ref().map_or("nobody", NodeId::as_str);
    format!("claiming {} for {node} under {}", claim.subnets, claim.under)
}

fn writing(doing: &str, lease: &Lease) -> String {
    let node = lease.node.as_ref().map_or("nobody", NodeId::as_str);
    format!(
        "{doing} the lease of {} as {node} saw it at revision {}",
        lease.subnets, lease.revision
    )
}
