//! The store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use overlay_lease::{
    Attributes, Claim, ConfigureError, Configured, CreateError, Lease, NetworkConfig, NetworkName,
    NodeId, Revision, Snapshot, Standing, Store, StoreError, Tenant, WriteError,
};

use crate::grant::Granter;
use crate::layout::Layout;
use crate::network::Network;
use crate::rpc::{Client, Reader};
use crate::{EtcdOptions, EtcdWatch, OptionsError};

/// The leases of one network in etcd. Clones share the connection.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    network: Arc<Network>,
}

impl EtcdStore {
    /// The network that has no name: Flannel's, if its prefix is the same. The first request connects.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for what can be told to be wrong without asking etcd.
    pub fn new(options: &EtcdOptions) -> Result<Self, OptionsError> {
        let layout = Layout::unnamed(&options.prefix);
        Ok(Self::with(Client::new(options)?, layout))
    }

    /// The network of this name, one level below the prefix, as Flannel had it up to 0.7. It shares the connection.
    ///
    /// # Errors
    ///
    /// [`OptionsError::Network`] if keys of the network without a name would be in the way: `config`, `tenants`,
    /// `ipv6-subnets`, and whatever begins with `subnets`.
    pub fn named(&self, network: &NetworkName) -> Result<Self, OptionsError> {
        let client = self.network.client.clone();
        let layout = Layout::named(&client.options().prefix, network)?;
        Ok(Self::with(client, layout))
    }

    /// How many requests were sent to etcd so far by all that share the connection; opening a watch is one.
    pub fn requests(&self) -> u64 {
        self.network.client.requests()
    }

    fn with(client: Client, layout: Layout) -> Self {
        let members: Vec<_> = client.options().endpoints.iter().map(ToString::to_string).collect();
        let name = format!("etcd at {}", members.join(","));
        let (reader, granter) = (Reader::new(client.clone()), Granter::new(client.clone()));
        let (last_seen, last_config) = (Mutex::default(), Mutex::default());
        let network = Network { client, reader, granter, layout, name, last_seen, last_config };
        Self { network: Arc::new(network) }
    }
}

impl Store for EtcdStore {
    type Watch = EtcdWatch;

    async fn config(&self) -> Result<Option<Configured>, StoreError> {
        self.network.config("read the configuration").await
    }

    async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        self.network.configure(config, replaces).await
    }

    async fn standing(&self, node: &NodeId) -> Result<Standing, StoreError> {
        self.network.standing(node).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.network.tenants().await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.network.snapshot().await
    }

    async fn watch(&self, after: Revision) -> Result<EtcdWatch, StoreError> {
        EtcdWatch::open(self.network.clone(), after).await
    }

    async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        self.network.create(claim).await
    }

    async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        self.network.update(lease, attributes, ttl).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        self.network.renew(lease).await
    }

    async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        self.network.remove(lease).await
    }

    async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        self.network.remaining(lease).await
    }
}
