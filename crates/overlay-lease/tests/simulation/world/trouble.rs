//! What goes wrong, and what people do.

use super::*;

impl World {
    pub(super) fn trouble(&mut self, trouble: Trouble) -> Checked {
        if !self.is_away() && self.server.stalled <= self.now {
            self.checker.nothing_overdue(self.store_now())?;
        }
        let len = self.nodes.len();
        let node = self.random.index(len);
        let while_ = self.random.up_to(self.scenario.ttl * 3 / 2);
        let until = (self.now + while_).min(self.peace);
        match trouble {
            Trouble::Partition | Trouble::Deaf => {
                let count = 1 + self.random.index(len / 4);
                for number in (node..node + count).map(|number| number % len) {
                    let cut = &mut self.nodes[number];
                    match trouble {
                        Trouble::Deaf => cut.deaf = cut.deaf.max(until),
                        _ => cut.mute = cut.mute.max(until),
                    }
                    self.cut_watch(number);
                }
            }
            Trouble::Crash if self.nodes[node].running => {
                self.end(node)?;
                self.queue.push(until, Event::Start { node });
            }
            Trouble::Pause => {
                self.nodes[node].paused = until;
                self.queue.push(until, Event::Resume { node });
            }
            Trouble::Leave if self.nodes[node].running && self.nodes[node].paused <= self.now => {
                self.nodes[node].tenure.stop(true);
                self.tend(node)?;
                // Often enough somebody has no patience.
                if self.nodes[node].running && self.random.chance(500_000) {
                    self.end(node)?;
                    let after = self.random.up_to(Duration::from_secs(1));
                    self.queue.push(self.now + after, Event::Start { node });
                }
            }
            Trouble::Crash | Trouble::Leave => {}
            Trouble::Outage => {
                self.server.away = self.server.away.max(until);
                for node in 0..len {
                    self.cut_watch(node);
                }
                self.server.expiry = None;
                self.await_expiry();
            }
            Trouble::Stall => {
                self.server.stalled = self.server.stalled.max(until);
                self.server.expiry = None;
                self.await_expiry();
            }
            Trouble::Compaction => self.server.memory.compact(),
            Trouble::Reconfiguration => {
                let config = self.random.index(self.scenario.configs.len());
                self.configure(config)?;
            }
            Trouble::Publication => self.publish(node)?,
            Trouble::Reservation => self.reserve(node)?,
        }
        Ok(())
    }

    pub(super) fn cut_watch(&mut self, node: usize) {
        let watcher = &mut self.server.watchers[node];
        if watcher.open {
            watcher.open = false;
            let watch = watcher.number;
            let after = self.random.up_to(Duration::from_secs(5));
            self.queue.push(self.now + after, Event::Broken { node, watch });
        }
    }

    pub(super) fn configure(&mut self, config: usize) -> Checked {
        let replaces = self.server.memory.config().map(|config| config.revision);
        let config = &self.scenario.configs[config];
        match self.server.memory.configure(config, replaces) {
            Ok(configured) => {
                let call = Call::Configure { config: config.clone(), replaces };
                let answer = Answered::Configured(configured);
                self.recorder.instant(self.now, self.nodes.len(), call, answer);
            }
            Err(error) => return Err(self.checker.broken(Rule::Fence, error.to_string())),
        }
        self.record(&Cause::Expiry)
    }

    /// Some nodes have had a lease for long.
    pub(super) fn settle(&mut self) -> Checked {
        let Some(config) = self.checker.config.clone() else { return Ok(()) };
        for number in 0..self.nodes.len() {
            if !self.random.chance(self.scenario.settled) {
                continue;
            }
            let node = &self.nodes[number];
            let claim = |subnets| Claim {
                subnets,
                node: Some(node.id.clone()),
                attributes: node.attributes.clone(),
                ttl: Some(self.scenario.ttl),
                under: config.revision,
            };
            let claims: Vec<_> = guesses(&config.config, &node.id).take(3).map(claim).collect();
            for claim in claims {
                if let Ok(Answer::Lease(_)) = self.does_for_operator(Operation::Create(claim))? {
                    break;
                }
            }
        }
        self.await_expiry();
        Ok(())
    }

    pub(super) fn publish(&mut self, number: usize) -> Checked {
        let node = &mut self.nodes[number];
        if node.paused > self.now {
            return Ok(());
        }
        self.publications += 1;
        node.attributes = attributes(self.publications);
        if node.running {
            node.tenure.publish(node.attributes.clone());
            self.tend(number)?;
        }
        Ok(())
    }

    pub(super) fn reserve(&mut self, number: usize) -> Checked {
        if self.is_away() {
            return Ok(());
        }
        self.expire()?;
        let operation = match self.checker.lease_of(number) {
            Some(lease) => Operation::Update {
                lease: lease.clone(),
                attributes: lease.attributes.clone(),
                ttl: None,
            },
            None => {
                let Some(config) = self.checker.config.clone() else { return Ok(()) };
                let pools = config.config.pools();
                let at = u128::from(self.random.below(64));
                let v4 = pools.v4.as_ref().and_then(|pool| pool.nth(at));
                let v6 = pools.v6.as_ref().and_then(|pool| pool.nth(at));
                let Ok(subnets) = Subnets::new(v4, v6) else { return Ok(()) };
                let (attributes, under) = (Attributes::default(), config.revision);
                Operation::Create(Claim { subnets, node: None, attributes, ttl: None, under })
            }
        };
        self.does_for_operator(operation).map(|_| ())
    }

    pub(super) fn does_for_operator(&mut self, operation: Operation) -> Result<Reply, Violation> {
        let sent = self.recorder.moment(self.now);
        let record = self.recorder.asked(self.nodes.len(), sent, &operation);
        let reply = self.does(operation)?;
        self.recorder.answered(self.now, record, &reply);
        Ok(reply)
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn make_peace(&mut self) -> Checked {
        self.server.away = Duration::ZERO;
        self.server.stalled = Duration::ZERO;
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            node.mute = Duration::ZERO;
            node.deaf = Duration::ZERO;
            self.resume(number)?;
            self.start(number)?;
        }
        self.await_expiry();
        self.queue.push(self.now + Duration::from_secs(1), Event::Look);
        Ok(())
    }

    pub(super) fn resume(&mut self, number: usize) -> Checked {
        let node = &mut self.nodes[number];
        if node.paused > self.now && self.now < self.peace {
            return Ok(());
        }
        node.paused = Duration::ZERO;
        for event in std::mem::take(&mut node.inbox) {
            self.happens(event)?;
        }
        Ok(())
    }
}
