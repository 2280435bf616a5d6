//! Making a lease: one transaction after one grant, however many nodes want one at the same time.

use std::sync::Arc;
use std::time::Duration;

use overlay_lease::{
    Attributes, Claim, CreateError, Lease, NodeId, StoreError, StoreErrorKind, Subnets,
};

use crate::RequestError;
use crate::finish::finish;
use crate::grant::Granted;
use crate::layout::{Place, too_large};
use crate::network::{Network, Tenancy};
use crate::overlap;
use crate::rpc::messages::KeyValue;
use crate::rpc::{Client, KeyRange, Txn, TxnAnswer};
use crate::value::{self, number, number_of_existing, revision, seconds};

const OPERATION: &str = "make the lease";

/// How often it is tried again after what stood in the way has gone.
const ATTEMPTS: usize = 8;

impl Network {
    pub(crate) async fn create(&self, claim: &Claim) -> Result<Arc<Lease>, CreateError> {
        if let Some(problem) = too_large(&claim.subnets) {
            let kind = StoreErrorKind::Denied;
            return Err(StoreError::new(kind, &self.name, OPERATION, problem).into());
        }
        let ttl = claim.ttl.map(seconds);
        let granted = match ttl {
            Some(ttl) => {
                let granted = self.granter.grant(ttl).await;
                Some(granted.map_err(|error| self.error(OPERATION, error))?)
            }
            None => None,
        };
        let mut attempt = Attempt { claim, ttl, granted, unknown: false };
        let result = self.attempt(&mut attempt).await;
        let unknown = attempt.unknown;
        match (&result, attempt.granted) {
            // Other subnets are tried next.
            (Err(CreateError::Taken(by)), Some(granted)) if !unknown && by.node != claim.node => {
                self.granter.keep(granted);
            }
            (Err(CreateError::Store(_)) | Ok(_), _) | (_, None) => {}
            (Err(_), Some(granted)) => granted.give_back().await,
        }
        result.map_err(|error| match error {
            CreateError::Store(error) => error.into(),
            _ if unknown => self.unknown(OPERATION).into(),
            refused => refused,
        })
    }

    async fn attempt(&self, attempt: &mut Attempt<'_>) -> Result<Arc<Lease>, CreateError> {
        let claim = attempt.claim;
        let Claim { subnets, node, attributes, .. } = claim;
        let mut tenancy = node.as_ref().map(|node| self.seen(node));
        for _ in 0..ATTEMPTS {
            let txn = self.creation(attempt, tenancy.as_ref());
            let answer = attempt.send(&self.client, txn).await;
            let mut answer = answer.map_err(|error| self.error(OPERATION, error))?;
            if answer.succeeded {
                let (made, ttl) = (revision(answer.revision), attempt.ttl.map(Duration::from_secs));
                let lease = Lease::new(*subnets, node.clone(), attributes.clone(), ttl, made, made);
                return Ok(Arc::new(lease));
            }
            if !attempt.unknown
                && let Some(taken) = self.holder(claim, &mut answer)
            {
                return Err(CreateError::Taken(taken));
            }
            match self.judge(attempt).await? {
                Verdict::Made(lease) => return Ok(lease),
                Verdict::Again(now) => tenancy = now,
            }
        }
        Err(self.busy(OPERATION).into())
    }

    /// In case it fails it asks what [`holder`](Self::holder) looks at, and no more: many more succeed, and every question
    /// makes the transaction dearer.
    fn creation(&self, attempt: &Attempt<'_>, tenancy: Option<&Tenancy>) -> Txn {
        let (claim, etcd_lease) = (attempt.claim, attempt.etcd_lease());
        let own = self.layout.lease(&claim.subnets);
        let named = claim.subnets.to_string();
        let mut txn = Txn::default()
            .if_mod_revision(self.layout.config(), number_of_existing(claim.under))
            .else_get(KeyRange::single(self.layout.config()), 1)
            .else_get(KeyRange::single(own.as_str()), 1)
            .then_put(own, attempt.value(), etcd_lease);
        if let Some(Tenancy { node, recorded, subnets, leased }) = tenancy {
            let key = self.layout.node(node);
            txn = txn.else_get(KeyRange::single(key.as_str()), 1);
            txn = txn.if_mod_revision(key.as_str(), *recorded).then_put(
                key.as_str(),
                named.as_str(),
                0,
            );
            if let Some(subnets) = subnets {
                txn = txn.if_mod_revision(self.layout.lease(subnets), *leased);
            }
        }
        if let Some(v6) = claim.subnets.v6() {
            txn = txn.then_put(self.layout.v6_index(v6), named, etcd_lease);
        }
        self.overlapping(&claim.subnets).fold(txn, Txn::if_absent)
    }

    /// All keys that would belong to leases with addresses in common.
    fn overlapping(&self, subnets: &Subnets) -> impl Iterator<Item = KeyRange> {
        let v4 = subnets.v4().map(|net| overlap::v4(&self.layout.v4(), net));
        let v6 = subnets.v6().map(|net| overlap::v6(&self.layout.v6_indices(), net));
        v4.into_iter().chain(v6).flatten()
    }

    /// Who has exactly these subnets, if that is why the transaction failed: the configuration is the one that was claimed
    /// under, and the node is new. Anything else takes a closer look.
    fn holder(&self, claim: &Claim, answer: &mut TxnAnswer) -> Option<Arc<Lease>> {
        let config = answer.take_one(0)?;
        let own = answer.take_one(1)?;
        let new = answer.take_one(2).is_none();
        let as_claimed = config.mod_revision == number_of_existing(claim.under);
        self.read(&own).and_then(Result::ok).filter(|_| as_claimed && new)
    }

    /// Why the transaction failed, unless the reason is gone.
    async fn judge(&self, attempt: &Attempt<'_>) -> Result<Verdict, CreateError> {
        let claim = attempt.claim;
        let keys = [self.layout.config(), self.layout.lease(&claim.subnets)].into_iter();
        let keys = keys.chain(claim.node.as_ref().map(|node| self.layout.node(node)));
        let ranges = keys.map(KeyRange::single).chain(self.overlapping(&claim.subnets));
        let found = self.reader.firsts(ranges.collect()).await;
        let mut found = found.map_err(|error| self.error(OPERATION, error))?.into_iter();
        let (config, own) = (found.next().flatten(), found.next().flatten());

        if let Some(own) = own.filter(|own| attempt.made(own))
            && let Ok(lease) = value::read_lease(claim.subnets, &own)
        {
            return Ok(Verdict::Made(lease));
        }
        if config.as_ref().map(|kv| kv.mod_revision) != Some(number(claim.under)) {
            let config = self.read_config(OPERATION, config.as_ref())?;
            return Err(CreateError::Reconfigured(config));
        }
        let tenancy = match &claim.node {
            Some(node) => {
                let record = found.next().flatten();
                Some(self.tenancy(node, record.as_ref(), &claim.subnets).await?)
            }
            None => None,
        };
        for kv in found.flatten() {
            if let Some(found) = self.read(&kv) {
                let taken = found.unwrap_or_else(|_| self.unreadable(claim, &kv));
                return Err(CreateError::Taken(taken));
            }
            self.check_index(claim, &kv).await?;
        }
        Ok(Verdict::Again(tenancy))
    }

    /// What etcd has of the node now, with this record, unless that is a lease.
    async fn tenancy(
        &self,
        node: &NodeId,
        record: Option<&KeyValue>,
        wanted: &Subnets,
    ) -> Result<Tenancy, CreateError> {
        let kv = match record.and_then(value::read_subnets) {
            Some(subnets) => {
                let key = KeyRange::single(self.layout.lease(&subnets));
                let found = self.reader.firsts(vec![key]).await;
                found.map_err(|error| self.error(OPERATION, error))?.into_iter().next().flatten()
            }
            None => None,
        };
        let tenancy = Tenancy::new(node, record, kv.as_ref());
        match tenancy.lease(kv.as_ref()) {
            Some(lease) if lease.subnets == *wanted => Err(CreateError::Taken(lease)),
            Some(lease) => Err(CreateError::Holds(lease)),
            None => Ok(tenancy),
        }
    }

    /// The lease that a key under `tenants/ipv6/` names has the subnets, if it is still there. Otherwise somebody deleted
    /// it by hand, and the key goes as well, as long as nothing has changed about either.
    async fn check_index(&self, claim: &Claim, index: &KeyValue) -> Result<(), CreateError> {
        let mut txn = Txn::default()
            .if_mod_revision(index.key.as_slice(), index.mod_revision)
            .then_delete(index.key.as_slice());
        if let Some(subnets) = value::read_subnets(index) {
            match self.lease(OPERATION, &subnets).await? {
                Some(lease) if lease.subnets.overlap(&claim.subnets) => {
                    return Err(CreateError::Taken(lease));
                }
                found => {
                    let revision = found.map_or(0, |lease| number(lease.revision));
                    txn = txn.if_mod_revision(self.layout.lease(&subnets), revision);
                }
            }
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
        Arc::new(Lease::new(subnets, None, Attributes::default(), None, created, changed))
    }
}

/// A claim with what etcd gave for it.
struct Attempt<'a> {
    claim: &'a Claim,
    ttl: Option<u64>,
    /// Nothing for a reservation.
    granted: Option<Granted>,
    /// Whether a transaction that has failed may have had its effect before, or may still have it.
    unknown: bool,
}

/// What to do about a transaction that failed without a reason to give up.
enum Verdict {
    /// Nothing: an earlier one had succeeded, and the answer got lost.
    Made(Arc<Lease>),
    /// To try again, with this being known of the node.
    Again(Option<Tenancy>),
}

impl Attempt<'_> {
    /// Sends the transaction, and waits for its answer even if nobody waits for it: only then it is known whether a key
    /// dies with the etcd lease. By the time it would be revoked in spite of that, the node may have found and hold the lease.
    async fn send(&mut self, client: &Client, txn: Txn) -> Result<TxnAnswer, RequestError> {
        let (client, before) = (client.clone(), self.unknown);
        let mut granted = self.granted.take();
        let sent = finish(async move {
            if let Some(granted) = &mut granted {
                granted.set_used(true);
            }
            let answer = client.txn(txn).await;
            let unknown = match &answer {
                Ok(answer) => before || answer.repeated,
                Err(error) => before || error.outcome_unknown(),
            };
            let made = answer.as_ref().is_ok_and(|answer| answer.succeeded);
            if let Some(granted) = &mut granted {
                granted.set_used(made || unknown);
            }
            (answer, granted, unknown)
        });
        let answer;
        (answer, self.granted, self.unknown) = sent.await;
        answer
    }

    /// 0 for a reservation.
    fn etcd_lease(&self) -> i64 {
        self.granted.as_ref().map_or(0, Granted::id)
    }

    fn value(&self) -> Vec<u8> {
        value::lease(self.claim.node.as_ref(), &self.claim.attributes, self.ttl)
    }

    /// Whether it was this attempt that made the key. Nobody else has its etcd lease; a reservation has none.
    fn made(&self, kv: &KeyValue) -> bool {
        let etcd_lease = self.etcd_lease();
        if etcd_lease != 0 {
            return kv.lease == etcd_lease;
        }
        self.unknown && kv.lease == 0 && kv.value == self.value()
    }
}
