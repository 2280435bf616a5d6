//! How it has to be in the end.

use super::*;

impl World {
    pub(super) fn all_is_well(&mut self) -> Result<(), String> {
        let snapshot = self.server.memory.snapshot();
        for (number, node) in self.nodes.iter().enumerate() {
            if !node.running {
                return Err(format!("node {number} does not run"));
            }
            let status = node.tenure.status();
            let Status::Held { lease, contested: None, .. } = &status else {
                return Err(format!("node {number} holds no lease: {status:?}"));
            };
            let stored = self.checker.lease_of(number);
            if stored.is_none_or(|stored| stored.subnets != lease.subnets) {
                return Err(format!("node {number} holds {lease:?}, the store has {stored:?}"));
            }
            if stored.is_some_and(|stored| stored.attributes != node.attributes) {
                return Err(format!(
                    "node {number} does not tell {:?}: {stored:?}",
                    node.attributes
                ));
            }
            let config = snapshot.config.as_ref();
            if config.is_none_or(|config| config.config.admits(&lease.subnets).is_err()) {
                return Err(format!("node {number} has {}, which no longer fits", lease.subnets));
            }
            let view = node.following.view();
            if view.knowledge() != Knowledge::Current || view.revision() != Some(snapshot.revision)
            {
                let step = node.following.step();
                let (revision, watcher) = (view.revision(), self.server.watchers[number]);
                return Err(format!(
                    "node {number} sees {revision:?} and does {step:?} with watch {}: {watcher:?}",
                    node.watch
                ));
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let view = node.following.view();
            let same = |a: &Arc<Lease>, b: &Arc<Lease>| Arc::ptr_eq(a, b) || a == b;
            if view.leases().len() != snapshot.leases.len()
                || view.config() != snapshot.config.as_ref()
                || !view.leases().zip(&snapshot.leases).all(|(a, b)| same(a, b))
            {
                return Err(format!("node {number} does not see what is there"));
            }
        }
        if !self.checker.has_exactly(&snapshot.leases) {
            return Err("the store does not have what it said".into());
        }
        let now = self.store_now();
        self.checker.nothing_overdue(now).map_err(|violation| violation.what)
    }
}
