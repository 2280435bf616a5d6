//! The etcd leases that keys die with: granted, kept for another try, revoked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::RequestError;
use crate::rpc::Client;

/// How long one that was granted for nothing waits for another use.
const SOON: Duration = Duration::from_secs(3);

/// Grants etcd leases. Clones share the one that is kept.
#[derive(Clone)]
pub(crate) struct Granter {
    client: Client,
    spare: Arc<Mutex<Option<Spare>>>,
}

/// An etcd lease that no key dies with.
struct Spare {
    id: i64,
    seconds: u64,
}

impl Granter {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, spare: Arc::default() }
    }

    /// An etcd lease of so many seconds, which do not begin before this is called, and nobody else has it.
    pub(crate) async fn grant(&self, seconds: u64) -> Result<i64, RequestError> {
        // To begin a term anew, etcd writes nothing to its disk.
        if let Some(spare) = self.take(|spare| spare.seconds == seconds)
            && let Ok(1..) = self.client.keep_alive(spare.id).await
        {
            return Ok(spare.id);
        }
        let granted = self.client.grant(i64::try_from(seconds).unwrap_or(i64::MAX)).await?;
        Ok(granted.id)
    }

    /// Keeps an etcd lease that no key dies with, nor ever will by what was asked before: its next use is probably close.
    /// If it is not, it is revoked.
    pub(crate) fn keep(&self, id: i64, seconds: u64) {
        let before = self.spare().replace(Spare { id, seconds });
        let granter = self.clone();
        tokio::spawn(async move {
            if let Some(before) = before {
                granter.revoke(before.id).await;
            }
            sleep(SOON).await;
            if granter.take(|spare| spare.id == id).is_some() {
                granter.revoke(id).await;
            }
        });
    }

    /// Revokes an etcd lease that no key dies with, unless it is 0, for none. If that fails, it goes after its time.
    pub(crate) async fn revoke(&self, id: i64) {
        if id != 0 {
            let _ = self.client.revoke(id).await;
        }
    }

    fn take(&self, fits: impl FnOnce(&Spare) -> bool) -> Option<Spare> {
        self.spare().take_if(|spare| fits(spare))
    }

    /// A panic of another thread leaves it as whole as before.
    fn spare(&self) -> MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
