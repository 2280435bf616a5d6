//! The store, and what it tells those who watch.

use super::*;

impl World {
    pub(super) fn store_now(&self) -> Duration {
        self.server.clock.reads(self.now)
    }

    pub(super) fn asked(
        &mut self,
        node: usize,
        life: u32,
        number: u64,
        operation: Operation,
        sent: Moment,
    ) -> Checked {
        if !self.is_away() && self.server.stalled > self.now {
            let at = self.server.stalled + self.random.up_to(Duration::from_millis(50));
            let operation = Box::new(operation);
            self.queue.push(at, Event::Ask { node, life, number, operation, sent });
            return Ok(());
        }
        let record = self.recorder.asked(node, sent, &operation);
        let reply = if self.is_away() {
            Err(unavailable("ask"))
        } else {
            self.expire()?;
            let reply = self.does(operation)?;
            self.await_expiry();
            reply
        };
        let reply = Box::new(reply);
        self.send_to_node(node, Event::Reply { node, life, number, reply, record });
        Ok(())
    }

    /// Does what is asked, and has the checker look at it.
    pub(super) fn does(&mut self, operation: Operation) -> Result<Reply, Violation> {
        let now = self.store_now();
        let cause = match &operation {
            Operation::Create(_) => Cause::Create,
            Operation::Update { lease, .. }
            | Operation::Renew(lease)
            | Operation::Remove(lease) => Cause::Write(lease.clone()),
            _ => Cause::Expiry,
        };
        let renewed = match &operation {
            Operation::Renew(lease) => Some(lease.clone()),
            _ => None,
        };
        let reply = self.fault.at_store(&mut self.server.memory, now, operation);
        match &reply {
            Ok(Answer::Fenced(_)) => self.checker.counts.fenced += 1,
            Ok(Answer::Taken(_)) => self.checker.counts.taken += 1,
            _ => {}
        }
        self.record(&cause)?;
        if let (Some(saw), Ok(Answer::Done)) = (&renewed, &reply) {
            self.checker.renewed(saw, now)?;
        }
        if let (Cause::Write(saw), Ok(Answer::Lease(lease))) = (&cause, &reply)
            && lease.revision == saw.revision
        {
            self.checker.renewed(saw, now)?;
        }
        Ok(reply)
    }

    /// Shows the checker what has changed in the store, and tells those who watch.
    pub(super) fn record(&mut self, cause: &Cause) -> Checked {
        let Some(update) = self.server.memory.since(self.server.revision) else { return Ok(()) };
        let now = self.store_now();
        self.server.revision = update.revision();
        match update {
            Update::Changes(changes) => {
                let first = changes.revision.get() + 1 - changes.changes.len() as u64;
                for (revision, change) in (first..).map(Revision::new).zip(changes.changes) {
                    let numbers = &self.numbers;
                    let number = |lease: &Lease| lease.node.as_ref().map(|node| numbers[node]);
                    self.checker.wrote(revision, change, cause, now, number)?;
                }
            }
            Update::Snapshot(_) => {
                let what = "the store forgot what happened a moment ago".into();
                return Err(self.checker.broken(Rule::ViewForward, what));
            }
        }
        for node in 0..self.nodes.len() {
            self.notify(node);
        }
        Ok(())
    }

    pub(super) fn expire(&mut self) -> Checked {
        let due = self.store_now().saturating_sub(self.scenario.lazy);
        if self.fault == Fault::NoExpiry {
            return Ok(());
        }
        self.server.memory.expire(due + self.fault.hurry());
        self.record(&Cause::Expiry)
    }

    pub(super) fn await_expiry(&mut self) {
        let Some(next) = self.server.memory.next_expiry() else { return };
        if self.fault == Fault::NoExpiry {
            return;
        }
        let at = self.server.clock.when(next + self.scenario.lazy).max(self.now);
        let at = at.max(self.server.away).max(self.server.stalled);
        if self.server.expiry.is_none_or(|expiry| at < expiry) {
            self.server.expiry = Some(at);
            self.queue.push(at, Event::Expire);
        }
    }

    /// Has the watch of a node look in a moment, if there is anything to see.
    pub(super) fn notify(&mut self, node: usize) {
        let watcher = &mut self.server.watchers[node];
        if watcher.open && !watcher.pending && watcher.after != self.server.revision {
            watcher.pending = true;
            let watch = watcher.number;
            let delay = self.random.up_to(self.scenario.watching);
            self.queue.push(self.now + delay, Event::Notice { node, watch });
        }
    }

    pub(super) fn notice(&mut self, node: usize, watch: u64) -> Checked {
        let watcher = self.server.watchers[node];
        if !watcher.open || watcher.number != watch || self.nodes[node].watch != watch {
            return Ok(());
        }
        let stalled = self.server.stalled;
        if stalled > self.now || self.nodes[node].paused > self.now {
            let at = stalled.max(self.nodes[node].paused);
            self.queue.push(at, Event::Notice { node, watch });
            return Ok(());
        }
        let cut = self.is_away() || self.nodes[node].mute.max(self.nodes[node].deaf) > self.now;
        if cut || self.is_lost() {
            self.server.watchers[node].open = false;
            let after = self.random.up_to(Duration::from_secs(5));
            self.queue.push(self.now + after, Event::Broken { node, watch });
            return Ok(());
        }
        self.server.watchers[node].pending = false;
        let Some(update) = self.server.memory.since(watcher.after) else { return Ok(()) };
        self.server.watchers[node].after = update.revision();
        let call = Call::Next { watch: watch as usize };
        let answer = || Answered::Update(update.clone());
        self.recorder.instant_with(self.now, node, call, answer);
        if self.now < self.peace && self.random.chance(self.scenario.doubled) {
            let delay = self.random.up_to(self.scenario.latest);
            let (life, update) = (self.nodes[node].life, Box::new(update.clone()));
            self.queue.push(self.now + delay, Event::Again { node, life, update });
        }
        match self.fault.on_watch(update) {
            Some(update) => self.hear(node, update),
            None => Ok(()),
        }
    }
}
