//! Changing, renewing and removing leases, each only as long as it is still the one that was seen.

use std::sync::Arc;
use std::time::Duration;

use overlay_lease::{
    Attributes, ConfigureError, Configured, Lease, NetworkConfig, Revision, WriteError,
};

use crate::RequestError;
use crate::grant::Granted;
use crate::network::Network;
use crate::rpc::messages::KeyValue;
use crate::rpc::{KeyRange, Txn};
use crate::value::{self, number, number_of_existing, revision, seconds};

impl Network {
    pub(crate) async fn configure(
        &self,
        config: &NetworkConfig,
        replaces: Option<Revision>,
    ) -> Result<Configured, ConfigureError> {
        let operation = "configure the network";
        let (key, value) = (self.layout.config(), value::config(config));
        let txn = Txn::default()
            .if_mod_revision(key.as_str(), replaces.map_or(0, number_of_existing))
            .then_put(key.as_str(), value.as_slice(), 0)
            .else_get(KeyRange::single(key), 1);
        let answer = self.client.txn(txn).await;
        let mut answer = answer.map_err(|error| self.error(operation, error))?;
        if answer.succeeded {
            let revision = revision(answer.revision);
            return Ok(Configured { config: Arc::new(config.clone()), revision });
        }
        let now = answer.take_one(0);
        let found = self.read_config(operation, now.as_ref())?;
        let done = answer.repeated && now.is_some_and(|now| now.value == value);
        match found {
            Some(found) if done => Ok(found),
            _ if answer.repeated => Err(self.unknown(operation).into()),
            found => Err(ConfigureError::Reconfigured(found)),
        }
    }

    pub(crate) async fn update(
        &self,
        lease: &Lease,
        attributes: &Attributes,
        ttl: Option<Duration>,
    ) -> Result<Arc<Lease>, WriteError> {
        let operation = "change the lease";
        let own = self.fence(operation, lease).await?;
        let ttl = ttl.map(seconds);
        let before = own.etcd_lease;
        if own.lease.ttl.map(seconds) == ttl {
            self.extend(operation, &own).await?;
            if own.lease.attributes == *attributes {
                return Ok(own.lease);
            }
            return self.rewrite(operation, &own, attributes, ttl, before).await;
        }
        let mut granted = match ttl {
            Some(ttl) => {
                let granted = self.granter.grant(ttl).await;
                Some(granted.map_err(|error| self.error(operation, error))?)
            }
            None => None,
        };
        let after = granted.as_ref().map_or(0, Granted::id);
        if let Some(granted) = &mut granted {
            granted.set_used(true);
        }
        let written = self.rewrite(operation, &own, attributes, ttl, after).await;
        match (&written, granted) {
            (Ok(_), _) if own.lease.node.is_some() => self.granter.revoke(before).await,
            (Err(WriteError::Fenced(_)), Some(mut granted)) => {
                granted.set_used(false);
                granted.give_back().await;
            }
            // Strangers may have other keys on theirs, and after a failure the keys may hang on either.
            _ => {}
        }
        written
    }

    pub(crate) async fn renew(&self, lease: &Lease) -> Result<(), WriteError> {
        let operation = "renew the lease";
        let own = self.fence(operation, lease).await?;
        self.extend(operation, &own).await
    }

    pub(crate) async fn remove(&self, lease: &Lease) -> Result<(), WriteError> {
        let operation = "remove the lease";
        let own = self.fence(operation, lease).await?;
        let key = self.layout.lease(&own.lease.subnets);
        let mut txn = Txn::default()
            .if_mod_revision(key.as_str(), number(own.lease.revision))
            .then_delete(key.as_str())
            .else_get(KeyRange::single(key), 1);
        if let Some(index) = own.index {
            txn = txn.then_delete(index);
        }
        if let Some(node) = &own.lease.node {
            // The same as before, but from now on: it is this long that the subnets are free.
            txn = txn.then_put(self.layout.node(node), own.lease.subnets.to_string(), 0);
        }
        let answer = self.client.txn(txn).await;
        let mut answer = answer.map_err(|error| self.error(operation, error))?;
        let now = answer.take_one(0);
        let gone = |now: &KeyValue| now.create_revision != number(own.lease.created);
        let done_before = answer.repeated && now.as_ref().is_none_or(gone);
        if !(answer.succeeded || done_before) {
            return Err(self.fenced(now.as_ref()));
        }
        if own.lease.node.is_some() {
            self.granter.revoke(own.etcd_lease).await;
        }
        Ok(())
    }

    pub(crate) async fn remaining(&self, lease: &Lease) -> Result<Option<Duration>, WriteError> {
        let operation = "ask how long the lease lives";
        let own = self.fence(operation, lease).await?;
        if own.etcd_lease == 0 {
            return Ok(None);
        }
        let answer = self.client.time_to_live(own.etcd_lease).await;
        let left = answer.map_err(|error| self.error(operation, error))?.ttl;
        // etcd says -1 of a lease that it does not have.
        match u64::try_from(left) {
            Ok(left) => Ok(Some(Duration::from_secs(left))),
            Err(_) => Err(self.gone(operation, &own.lease).await),
        }
    }

    /// The lease as etcd has it, if it is the one that was seen.
    async fn fence(&self, operation: &'static str, lease: &Lease) -> Result<Own, WriteError> {
        let subnets = &lease.subnets;
        let index = subnets.v6().map(|v6| self.layout.v6_index(v6));
        let keys = std::iter::once(self.layout.lease(subnets)).chain(index);
        let found = self.reader.firsts(keys.map(KeyRange::single).collect()).await;
        let mut found = found.map_err(|error| self.error(operation, error))?.into_iter();
        let Some(kv) = found.next().flatten() else { return Err(WriteError::Fenced(None)) };
        if kv.mod_revision != number(lease.revision) {
            return Err(self.fenced(Some(&kv)));
        }
        let current = value::read_lease(*subnets, &kv).map_err(|problem| {
            let key = String::from_utf8_lossy(&kv.key);
            self.corrupt(operation, format!("{key}: {problem}"))
        })?;
        if current.node != lease.node {
            return Err(WriteError::Fenced(Some(current)));
        }
        // That of another lease with the same addresses, of which one must be Flannel's, stays as it is.
        let index = found.next().flatten().filter(|kv| value::read_subnets(kv) == Some(*subnets));
        Ok(Own { lease: current, etcd_lease: kv.lease, index: index.map(|kv| kv.key) })
    }

    /// Writes the lease, and moves what belongs to it to this etcd lease.
    async fn rewrite(
        &self,
        operation: &'static str,
        own: &Own,
        attributes: &Attributes,
        ttl: Option<u64>,
        etcd_lease: i64,
    ) -> Result<Arc<Lease>, WriteError> {
        let key = self.layout.lease(&own.lease.subnets);
        let value = value::lease(own.lease.node.as_ref(), attributes, ttl);
        let mut txn = Txn::default()
            .if_mod_revision(key.as_str(), number(own.lease.revision))
            .then_put(key.as_str(), value.as_slice(), etcd_lease)
            .else_get(KeyRange::single(key), 1);
        if etcd_lease != own.etcd_lease
            && let Some(index) = &own.index
        {
            txn = txn.then_put(index.as_slice(), own.lease.subnets.to_string(), etcd_lease);
        }
        let mut answer = match self.client.txn(txn).await {
            Ok(answer) => answer,
            Err(error) if no_such_lease(&error) => {
                return Err(self.gone(operation, &own.lease).await);
            }
            Err(error) => return Err(self.error(operation, error).into()),
        };
        if answer.succeeded {
            let mut lease = Lease::clone(&own.lease);
            lease.attributes.clone_from(attributes);
            lease.ttl = ttl.map(Duration::from_secs);
            lease.revision = revision(answer.revision);
            return Ok(Arc::new(lease));
        }
        let now = answer.take_one(0);
        if answer.repeated
            && let Some(now) =
                now.as_ref().filter(|now| now.value == value && now.lease == etcd_lease)
            && let Ok(lease) = value::read_lease(own.lease.subnets, now)
        {
            return Ok(lease);
        }
        if answer.repeated {
            return Err(self.unknown(operation).into());
        }
        Err(self.fenced(now.as_ref()))
    }

    /// Begins the lease's term anew.
    async fn extend(&self, operation: &'static str, own: &Own) -> Result<(), WriteError> {
        if own.etcd_lease == 0 {
            return Ok(());
        }
        let left = self.client.keep_alive(own.etcd_lease).await;
        match left.map_err(|error| self.error(operation, error))? {
            0 => Err(self.gone(operation, &own.lease).await),
            _ => Ok(()),
        }
    }

    /// What became of a lease of which the etcd lease is no longer there: either it expired, and its key with it, or
    /// somebody gave it another term, and it has another etcd lease since.
    async fn gone(&self, operation: &'static str, lease: &Lease) -> WriteError {
        match self.lease(operation, &lease.subnets).await {
            Ok(now) => WriteError::Fenced(now.filter(|now| now.revision != lease.revision)),
            Err(error) => error.into(),
        }
    }

    fn fenced(&self, now: Option<&KeyValue>) -> WriteError {
        let now = now.and_then(|kv| self.read(kv)).and_then(Result::ok);
        WriteError::Fenced(now)
    }
}

/// A lease that is still the one that was seen.
struct Own {
    lease: Arc<Lease>,
    /// The etcd lease that it dies with, 0 for a reservation.
    etcd_lease: i64,
    /// The key that names it by its IPv6 subnet, and dies with it.
    index: Option<Vec<u8>>,
}

fn no_such_lease(error: &RequestError) -> bool {
    matches!(error, RequestError::Refused { message, .. } if message.contains("lease not found"))
}
