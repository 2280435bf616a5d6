//! Making a lease: one transaction after one grant, however many nodes want one at the same time.

use std::sync::Arc;

use overlay_lease::{Claim, CreateError, Lease, Subnets};

use crate::layout::Place;
use crate::network::Network;
use crate::overlap;
use crate::rpc::messages::KeyValue;
use crate::rpc::{KeyRange, Txn, TxnAnswer};
use crate::value::{self, number, number_of_existing, revision, seconds};

const OPERATION: &str = "make the lease";

/// How often it is tried again after something was cleared away that a deleted lease left behind.
const ATTEMPTS: usize = 4;

/// What the transaction asks if it fails, in this order; the overlapping keys come after these.
const CONFIG: usize = 0;
const OWN: usize = 1;
const NODE: usize = 2;
const OVERLAPPING: usize = 3;

impl Network {
    pub(crate) async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        let ttl = claim.ttl.map(seconds);
        let etcd_lease = match ttl {
            Some(ttl) => {
                let ttl = i64::try_from(ttl).unwrap_or(i64::MAX);
                let granted = self.client.grant(ttl).await;
                granted.map_err(|error| self.error(OPERATION, error))?.id
            }
            None => 0,
        };
        let result = self.claim(&Attempt { claim, ttl, etcd_lease }).await;
        if etcd_lease != 0 && result.is_err() {
            // Whatever came of the transaction, and may still come of it: without the etcd lease there is no key. If
            // this fails, too, the etcd lease goes after its time.
            let _ = self.client.revoke(etcd_lease).await;
        }
        result
    }

    async fn claim(&self, attempt: &Attempt<'_>) -> Result<Arc<Lease>, CreateError> {
        for _ in 0..ATTEMPTS {
            let answer = self.client.txn(self.creation(attempt)).await;
            let answer = answer.map_err(|error| self.error(OPERATION, error))?;
            if answer.succeeded {
                let made = revision(answer.revision);
                let Claim { subnets, node, attributes, .. } = attempt.claim.clone();
                let ttl = attempt.ttl.map(std::time::Duration::from_secs);
                return Ok(Arc::new(Lease::new(subnets, node, attributes, ttl, made, made)));
            }
            if let Some(lease) = self.judge(attempt, answer).await? {
                return Ok(lease);
            }
        }
        Err(self.busy(OPERATION).into())
    }

    fn creation(&self, attempt: &Attempt<'_>) -> Txn {
        let Attempt { claim, etcd_lease, .. } = *attempt;
        let own = self.layout.lease(&claim.subnets);
        let named = claim.subnets.to_string();
        let config = self.layout.config();
        let mut txn = Txn::default()
            .if_mod_revision(config.as_str(), number_of_existing(claim.under))
            .then_put(own.as_str(), attempt.value(), etcd_lease)
            .else_get(KeyRange::single(config), 1)
            .else_get(KeyRange::single(own), 1)
            // Asked even without a node, so that all answers stay in their places.
            .else_get(KeyRange::single(self.node_key(claim)), 1);
        if let Some(node) = &claim.node {
            txn = txn
                .if_absent(KeyRange::single(self.layout.node(node)))
                .then_put(self.layout.node(node), named.as_str(), etcd_lease)
                .then_put(self.layout.history(node), named.as_str(), 0);
        }
        if let Some(v6) = claim.subnets.v6() {
            txn = txn.then_put(self.layout.v6_index(v6), named, etcd_lease);
        }
        for keys in self.overlapping(&claim.subnets) {
            txn = txn.if_absent(keys.clone()).else_get(keys, 1);
        }
        txn
    }

    /// All keys that would belong to leases with addresses in common.
    fn overlapping(&self, subnets: &Subnets) -> impl Iterator<Item = KeyRange> {
        let v4 = subnets.v4().map(|net| overlap::v4(&self.layout.v4(), net));
        let v6 = subnets.v6().map(|net| overlap::v6(&self.layout.v6_indices(), net));
        v4.into_iter().chain(v6).flatten()
    }

    fn node_key(&self, claim: &Claim) -> String {
        claim.node.as_ref().map_or_else(|| self.layout.config(), |node| self.layout.node(node))
    }

    /// Why the transaction failed. Nothing, if the reason has been cleared away.
    async fn judge(
        &self,
        attempt: &Attempt<'_>,
        mut answer: TxnAnswer,
    ) -> Result<Option<Arc<Lease>>, CreateError> {
        let claim = attempt.claim;
        // A repeated transaction finds what an earlier one has done.
        if let Some(own) = answer.take_one(OWN)
            && attempt.made(&own, answer.repeated)
            && let Ok(lease) = value::read_lease(claim.subnets, &own)
        {
            return Ok(Some(lease));
        }
        let config = answer.take_one(CONFIG);
        if config.as_ref().map(|kv| kv.mod_revision) != Some(number(claim.under)) {
            let config = self.read_config(OPERATION, config.as_ref())?;
            return Err(CreateError::Reconfigured(config));
        }
        if let Some(node) = &claim.node
            && let Some(pointer) = answer.take_one(NODE)
        {
            match self.pointed_to(&pointer).await? {
                Some(lease) if lease.is_of(node) && lease.subnets != claim.subnets => {
                    return Err(CreateError::Holds(lease));
                }
                Some(lease) if lease.is_of(node) => return Err(CreateError::Taken(lease)),
                left => self.clear(&pointer, left.as_deref()).await?,
            }
        }
        for index in OVERLAPPING..answer.got.len() {
            let Some(kv) = answer.take_one(index) else { continue };
            if let Some(found) = self.read(&kv) {
                let taken = found.unwrap_or_else(|_| self.unreadable(claim, &kv));
                return Err(CreateError::Taken(taken));
            }
            match self.pointed_to(&kv).await? {
                Some(lease) if lease.subnets.overlap(&claim.subnets) => {
                    return Err(CreateError::Taken(lease));
                }
                left => self.clear(&kv, left.as_deref()).await?,
            }
        }
        Ok(None)
    }

    /// The lease that a key under `tenants/` belongs to, if it is still there.
    async fn pointed_to(&self, pointer: &KeyValue) -> Result<Option<Arc<Lease>>, CreateError> {
        let Some(subnets) = value::read_subnets(pointer) else { return Ok(None) };
        Ok(self.lease(OPERATION, &subnets).await?)
    }

    /// Deletes what a lease left behind that somebody deleted by hand, as long as nothing has changed about it.
    async fn clear(&self, pointer: &KeyValue, now: Option<&Lease>) -> Result<(), CreateError> {
        let mut txn = Txn::default()
            .if_mod_revision(pointer.key.as_slice(), pointer.mod_revision)
            .then_delete(pointer.key.as_slice());
        if let Some(subnets) = value::read_subnets(pointer) {
            let key = self.layout.lease(&subnets);
            txn = txn.if_mod_revision(key, now.map_or(0, |lease| number(lease.revision)));
        }
        let cleared = self.client.txn(txn).await;
        cleared.map_err(|error| self.error(OPERATION, error))?;
        Ok(())
    }

    /// Something is in the way that cannot be read. It is somebody's, all the same.
    fn unreadable(&self, claim: &Claim, kv: &KeyValue) -> Arc<Lease> {
        let subnets = match self.layout.place(&kv.key) {
            Place::Lease(subnets) => subnets,
            _ => claim.subnets,
        };
        let (created, changed) = (revision(kv.create_revision), revision(kv.mod_revision));
        Arc::new(Lease::new(subnets, None, Default::default(), None, created, changed))
    }
}

/// A claim with what etcd gave for it.
struct Attempt<'a> {
    claim: &'a Claim,
    ttl: Option<u64>,
    /// 0 for a reservation.
    etcd_lease: i64,
}

impl Attempt<'_> {
    fn value(&self) -> Vec<u8> {
        value::lease(self.claim.node.as_ref(), &self.claim.attributes, self.ttl)
    }

    /// Whether it was this attempt that made the key. Nobody else has its etcd lease; a reservation has none.
    fn made(&self, kv: &KeyValue, repeated: bool) -> bool {
        if self.etcd_lease != 0 {
            return kv.lease == self.etcd_lease;
        }
        repeated && kv.lease == 0 && kv.value == self.value()
    }
}
