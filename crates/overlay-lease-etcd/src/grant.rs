//! The etcd leases that keys die with: granted, kept for another try, and revoked if no key does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::RequestError;
use crate::finish::finish;
use crate::rpc::Client;

/// How long one that was granted for nothing waits for another use.
const SOON: Duration = Duration::from_secs(3);

/// Grants etcd leases. Clones share the one that is kept.
#[derive(Clone)]
pub(crate) struct Granter {
    client: Client,
    spare: Arc<Mutex<Option<Granted>>>,
}

/// An etcd lease of somebody's own. It is revoked when this is dropped, unless keys may die with it. If that fails, or there
/// is no runtime any more, it goes after its time.
pub(crate) struct Granted {
    id: i64,
    seconds: u64,
    used: bool,
    client: Client,
}

impl Granter {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, spare: Arc::default() }
    }

    /// An etcd lease of so many seconds, which do not begin before this is called, and nobody else has it.
    pub(crate) async fn grant(&self, seconds: u64) -> Result<Granted, RequestError> {
        // To begin a term anew, etcd writes nothing to its disk.
        if let Some(spare) = self.take(|spare| spare.seconds == seconds)
            && let Ok(1..) = self.client.keep_alive(spare.id).await
        {
            return Ok(spare);
        }
        let client = self.client.clone();
        // If nobody waits for it any more, it is revoked as soon as it is there.
        let granted = finish(async move {
            let id = client.grant(i64::try_from(seconds).unwrap_or(i64::MAX)).await?.id;
            Ok(Granted { id, seconds, used: false, client })
        });
        granted.await
    }

    /// Keeps an etcd lease that no key dies with: its next use is probably close. If it is not, it is revoked.
    pub(crate) fn keep(&self, granted: Granted) {
        let id = granted.id;
        drop(self.spare().replace(granted));
        let granter = self.clone();
        tokio::spawn(async move {
            sleep(SOON).await;
            drop(granter.take(|spare| spare.id == id));
        });
    }

    /// Revokes an etcd lease that no key dies with, unless it is 0, for none. If that fails, it goes after its time.
    pub(crate) async fn revoke(&self, id: i64) {
        if id != 0 {
            let _ = self.client.revoke(id).await;
        }
    }

    fn take(&self, fits: impl FnOnce(&Granted) -> bool) -> Option<Granted> {
        self.spare().take_if(|spare| fits(spare))
    }

    /// A panic of another thread leaves it as whole as before.
    fn spare(&self) -> MutexGuard<'_, Option<Granted>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Granted {
    pub(crate) const fn id(&self) -> i64 {
        self.id
    }

    /// Whether keys may die with it, by what has been asked so far.
    pub(crate) const fn set_used(&mut self, used: bool) {
        self.used = used;
    }

    /// What dropping it does, and waits until that is done.
    pub(crate) async fn give_back(mut self) {
        if !self.used {
            let _ = self.client.revoke(self.id).await;
            self.used = true;
        }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.used, Handle::try_current()) {
            let (client, id) = (self.client.clone(), self.id);
            runtime.spawn(async move {
                let _ = client.revoke(id).await;
            });
        }
    }
}
