//! Stores that break a promise, each in one way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use super::{BoxError, Testbed};
use crate::attributes::Attributes;
use crate::config::{Configured, NetworkConfig};
use crate::lease::{Lease, Revision};
use crate::memory::{MemoryStore, MemoryWatch};
use crate::name::{NetworkName, NodeId};
use crate::store::{
    Claim, ConfigureError, CreateError, Standing, Store, StoreError, Tenant, WriteError,
};
use crate::watch::{Change, Changes, Snapshot, Update, Watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Writes are not fenced by the revision.
    AnyRevision,
    /// Writes are not fenced by the node.
    AnyNode,
    /// Subnets that overlap in IPv6 only are granted.
    OverlapInV6,
    /// Nodes get as many leases as they like.
    ManyLeases,
    /// Claims are granted whatever the configuration.
    AnyConfiguration,
    /// Whoever configures wins.
    AnyConfigure,
    /// Leases go after three quarters of their time.
    Early,
    /// Leases never go.
    Late,
    /// Reservations go, too.
    ReservationsExpire,
    /// Renewing writes the lease anew.
    RenewalWrites,
    /// Updating writes the lease anew, even if nothing changed.
    UpdateAlwaysWrites,
    /// Updating keeps the old time to live running.
    UpdateDoesNotProlong,
    /// What is told beside the well-known is lost.
    LosesOthers,
    /// Every third change is not told.
    LosesChanges,
    /// Ends are not told.
    LosesEnds,
    /// Every third change is told twice.
    DoublesChanges,
    /// The order of changes that are told together is reversed.
    Shuffles,
    /// What a dropped wait has taken is lost.
    NotCancelSafe,
    /// After compaction only what is there is told, not what is gone.
    HidesEnds,
    /// After compaction only what was made is told, not what was changed.
    HidesUpdates,
    /// Snapshots lack a lease.
    TornSnapshots,
    /// A node is told what it had when it asked last.
    StaleStanding,
    /// Others than those who have subnets are told to have them.
    WrongHolder,
    /// The remaining time is always all of it.
    RemainingStands,
    /// All networks are one.
    OneNetwork,
    /// What nodes had last is mixed up.
    WrongMemory,
}

pub(crate) struct FlawedTestbed {
    flaw: Flaw,
    networks: Mutex<BTreeMap<NetworkName, FlawedStore>>,
}

impl FlawedTestbed {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self { flaw, networks: Mutex::default() }
    }
}

impl Testbed for FlawedTestbed {
    type Store = FlawedStore;

    async fn client(&self, network: &NetworkName) -> Result<FlawedStore, BoxError> {
        let network = match self.flaw {
            Flaw::OneNetwork => super::sample::red(),
            _ => network.clone(),
        };
        let mut networks = self.networks.lock().unwrap();
        Ok(networks.entry(network).or_insert_with(|| FlawedStore::new(self.flaw)).clone())
    }

    async fn compact(&self, network: &NetworkName) -> Result<(), BoxError> {
        self.client(network).await?.store.access(|memory, _| memory.compact());
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct FlawedStore {
    flaw: Flaw,
    store: MemoryStore,
    told: Arc<Mutex<BTreeMap<NodeId, Standing>>>,
}

impl FlawedStore {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self { flaw, store: MemoryStore::new(), told: Arc::default() }
    }

    /// The lease as it is, where it does not matter how it was seen.
    fn seen(&self, lease: &Lease) -> Lease {
        let now = self.store.access(|memory, _| memory.snapshot().leases);
        let now = now.into_iter().find(|now| now.subnets == lease.subnets);
        match (self.flaw, now) {
            (Flaw::AnyRevision, Some(now)) if now.node == lease.node => Lease::clone(&now),
            (Flaw::AnyNode, Some(now)) if now.revision == lease.revision => Lease::clone(&now),
            _ => lease.clone(),
        }
    }

    fn after(&self, wait: Duration, lease: &Arc<Lease>, again: bool) {
        let (store, lease) = (self.store.clone(), lease.clone());
        tokio::spawn(async move {
            for _ in 0..100 {
                sleep(wait).await;
                let leases = store.access(|memory, _| memory.snapshot().leases);
                let now = leases.into_iter().find(|now| now.created == lease.created);
                let Some(now) = now else { return };
                let _done = if again { store.renew(&now).await } else { store.remove(&now).await };
            }
        });
    }

    async fn write_anew(&self, lease: &Lease) -> Result<Arc<Lease>, WriteError> {
        let mut other = lease.attributes.clone();
        other.others.insert("Renewed".into(), true.into());
        let between = self.store.update(lease, &other, lease.ttl).await?;
        self.store.update(&between, &lease.attributes, lease.ttl).await
    }
}

impl Store for FlawedStore {
    type Watch = FlawedWatch;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        self.store.config().await
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        let replaces = match self.flaw {
            Flaw::AnyConfigure => self.store.config().await?.map(|config| config.revision),
            _ => replaces,
        };
        self.store.configure(config, replaces).await
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        let mut standing = self.store.standing(node).await?;
        match self.flaw {
            Flaw::StaleStanding => {
                let before = self.told.lock().unwrap().insert(node.clone(), standing.clone());
                Ok(before.unwrap_or(standing))
            }
            Flaw::WrongMemory => {
                standing.last = standing.last.map(|_| super::sample::dual(99));
                Ok(standing)
            }
            _ => Ok(standing),
        }
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.store.tenants().await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.store.snapshot().await?;
        if self.flaw == Flaw::TornSnapshots && snapshot.leases.len() > 1 {
            snapshot.leases.pop();
        }
        Ok(snapshot)
    }

    async fn watch(&self, after: Revision) -> Result<FlawedWatch, StoreError> {
        let watch = self.store.watch(after).await?;
        Ok(FlawedWatch { flaw: self.flaw, watch, told: 0 })
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        let mut claim = claim.clone();
        if let (Flaw::AnyConfiguration, Some(config)) = (self.flaw, self.store.config().await?) {
            claim.under = config.revision;
        }
        if self.flaw == Flaw::LosesOthers {
            claim.attributes.others.clear();
        }
        let granted = |revision: Revision| {
            let Claim { subnets, node, attributes, ttl, .. } = claim.clone();
            Arc::new(Lease::new(subnets, node, attributes, ttl, revision.next(), revision.next()))
        };
        let lease = match self.store.create(&claim).await {
            Err(CreateError::Taken(other))
                if self.flaw == Flaw::OverlapInV6 && other.subnets.v4() != claim.subnets.v4() =>
            {
                granted(self.store.snapshot().await?.revision)
            }
            Err(CreateError::Holds(_)) if self.flaw == Flaw::ManyLeases => {
                granted(self.store.snapshot().await?.revision)
            }
            Err(CreateError::Taken(other)) if self.flaw == Flaw::WrongHolder => {
                let mut other = Lease::clone(&other);
                other.node.clone_from(&claim.node);
                return Err(CreateError::Taken(Arc::new(other)));
            }
            other => other?,
        };
        match (self.flaw, lease.ttl) {
            (Flaw::Early, Some(ttl)) => self.after(ttl * 3 / 4, &lease, false),
            (Flaw::Late, Some(_)) => self.after(Duration::from_millis(500), &lease, true),
            (Flaw::ReservationsExpire, None) => self.after(Duration::from_secs(2), &lease, false),
            _ => {}
        }
        Ok(lease)
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        let lease = &self.seen(lease);
        let mut attributes = attributes.clone();
        match self.flaw {
            Flaw::LosesOthers => attributes.others.clear(),
            Flaw::UpdateAlwaysWrites if attributes == lease.attributes && ttl == lease.ttl => {
                return self.write_anew(lease).await;
            }
            Flaw::UpdateDoesNotProlong if attributes == lease.attributes && ttl == lease.ttl => {
                self.store.remaining(lease).await?;
                return Ok(Arc::new(lease.clone()));
            }
            _ => {}
        }
        self.store.update(lease, &attributes, ttl).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        let lease = &self.seen(lease);
        match self.flaw {
            Flaw::RenewalWrites => self.write_anew(lease).await.map(drop),
            _ => self.store.renew(lease).await,
        }
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        self.store.remove(&self.seen(lease)).await
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        let lease = &self.seen(lease);
        let remaining = self.store.remaining(lease).await?;
        Ok(if self.flaw == Flaw::RemainingStands { lease.ttl } else { remaining })
    }
}

pub(crate) struct FlawedWatch {
    flaw: Flaw,
    watch: MemoryWatch,
    told: usize,
}

impl Watch for FlawedWatch {
    async fn next(&mut self) -> Result<Update, StoreError> {
        let mut update = self.watch.next().await?;
        match &mut update {
            Update::Changes(Changes { changes, .. }) => {
                let mut told = Vec::new();
                for change in changes.drain(..) {
                    self.told += 1;
                    let lost = match self.flaw {
                        Flaw::LosesChanges => self.told.is_multiple_of(3),
                        Flaw::LosesEnds => matches!(change, Change::Gone(_)),
                        _ => false,
                    };
                    if self.flaw == Flaw::DoublesChanges && self.told.is_multiple_of(3) {
                        told.push(change.clone());
                    }
                    if !lost {
                        told.push(change);
                    }
                }
                if self.flaw == Flaw::Shuffles {
                    told.reverse();
                }
                *changes = told;
            }
            Update::Snapshot(snapshot) => {
                let told = |change: fn(&Lease) -> bool| {
                    let leases = snapshot.leases.iter().filter(|lease| change(lease));
                    Changes {
                        revision: snapshot.revision,
                        changes: leases.cloned().map(Change::Lease).collect(),
                        skipped: Vec::new(),
                    }
                };
                match self.flaw {
                    Flaw::HidesEnds => update = Update::Changes(told(|_| true)),
                    Flaw::HidesUpdates => {
                        update = Update::Changes(told(|lease| lease.created == lease.revision));
                    }
                    _ => {}
                }
            }
        }
        if self.flaw == Flaw::NotCancelSafe {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(update)
    }
}
