//! The nodes: their keepers, their followers, and their processes that come and go.

use super::*;

impl World {
    pub(super) fn start(&mut self, number: usize) -> Checked {
        if self.nodes[number].running {
            return Ok(());
        }
        let (keeper_seed, follower_seed) = (self.random.next(), self.random.next());
        let node = &mut self.nodes[number];
        node.life += 1;
        node.running = true;
        node.paused = Duration::ZERO;
        let mut request = Request::new(node.id.clone(), node.attributes.clone(), self.scenario.ttl);
        request.last = node.remembers.flatten();
        node.tenure = Tenure::new(request, keeper_seed);
        node.following = Following::new(follower_seed);
        node.seen = None;
        node.alarm = None;
        node.follow_alarm = None;
        node.watch = 0;
        node.inbox.clear();
        self.follow(number);
        self.tend(number)
    }

    pub(super) fn end(&mut self, number: usize) -> Checked {
        self.nodes[number].running = false;
        self.server.watchers[number].open = false;
        self.checker.believe(number, None)
    }

    /// Lets the node's keeper do what it has to do now.
    pub(super) fn tend(&mut self, number: usize) -> Checked {
        let node = &mut self.nodes[number];
        let now = node.clock.boot_instant(self.now);
        while let Some(question) = node.tenure.question(now) {
            match self.fault.before_asking(question.operation) {
                Ok(operation) => {
                    let life = node.life;
                    let operation = Box::new(operation);
                    let sent = self.recorder.moment(self.now);
                    let number_asked = question.number;
                    let ask =
                        Event::Ask { node: number, life, number: number_asked, operation, sent };
                    self.send_to_store(number, ask);
                    break;
                }
                Err(answer) => node.tenure.answer(now, question.number, Ok(answer)),
            }
        }
        let node = &mut self.nodes[number];
        let mut stopped = false;
        if node.tenure.take_changed() {
            let status = node.tenure.status();
            stopped = matches!(status, Status::Stopped { .. });
            let holds = status.holds(now).map(|lease| lease.subnets);
            let until = match &status {
                Status::Held { until, .. } | Status::Unconfirmed { until, .. } => *until,
                _ => None,
            };
            let until = until.map_or(Duration::MAX, |until| node.clock.when_boot_instant(until));
            if let (Some(remembers), Some(subnets)) = (&mut node.remembers, holds) {
                *remembers = Some(subnets);
            }
            let until = self.fault.believes(until);
            self.checker.believe(number, holds.map(|subnets| (subnets, until)))?;
        }
        if stopped {
            self.end(number)?;
            let after = self.random.up_to(self.scenario.ttl);
            self.queue.push(self.now + after, Event::Start { node: number });
            return Ok(());
        }
        let node = &mut self.nodes[number];
        if let Some(wake) = node.tenure.wake() {
            let alarm = node.clock.when_boot_instant(wake).max(self.now);
            if node.alarm != Some(alarm) {
                node.alarm = Some(alarm);
                self.queue.push(alarm, Event::Wake { node: number, life: node.life });
            }
        }
        Ok(())
    }

    /// Lets the node's follower do what it has to do now.
    pub(super) fn follow(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let life = node.life;
        node.inquiry += 1;
        let inquiry = node.inquiry;
        let ask = match node.following.step() {
            Step::Read => Event::Read { node: number, life, inquiry },
            Step::Watch(after) => Event::Open { node: number, life, inquiry, after },
            Step::Listen => return,
            Step::Rest(until) => {
                let alarm = node.clock.when_instant(until).max(self.now);
                node.follow_alarm = Some(alarm);
                self.queue.push(alarm, Event::Follow { node: number, life });
                return;
            }
        };
        let patience = self.now + INQUIRY;
        self.queue.push(patience, Event::NoAnswer { node: number, life, inquiry });
        self.send_to_store(number, ask);
    }

    pub(super) fn learn<T>(
        &mut self,
        number: usize,
        life: u32,
        inquiry: u64,
        outcome: impl FnOnce(&mut Following, std::time::Instant) -> T,
    ) -> Checked {
        let node = &mut self.nodes[number];
        let waits = matches!(node.following.step(), Step::Read | Step::Watch(_));
        if !node.running || node.life != life || node.inquiry != inquiry || !waits {
            return Ok(());
        }
        let now = node.clock.instant(self.now);
        outcome(&mut node.following, now);
        self.goes_forward(number)?;
        self.follow(number);
        Ok(())
    }

    pub(super) fn hear(&mut self, number: usize, update: Update) -> Checked {
        let node = &mut self.nodes[number];
        let now = node.clock.instant(self.now);
        let news = node.following.heard(now, Ok(update));
        self.goes_forward(number)?;
        // What came late may look like a store that was set back.
        if self.nodes[number].following.step() != Step::Listen {
            self.follow(number);
        }
        let node = &mut self.nodes[number];
        let concerns_me = |difference: &Difference| match difference {
            Difference::Config { .. } => true,
            Difference::Changed { to: lease, .. } | Difference::Removed(lease) => {
                lease.is_of(&node.id)
            }
            _ => false,
        };
        if node.looks && news.is_some_and(|news| news.differences.iter().any(concerns_me)) {
            node.tenure.look(node.clock.boot_instant(self.now));
            return self.tend(number);
        }
        Ok(())
    }

    pub(super) fn goes_forward(&mut self, number: usize) -> Checked {
        let node = &mut self.nodes[number];
        let revision = node.following.view().revision();
        if revision < node.seen {
            let what = format!("node {number} saw {:?}, and then {revision:?}", node.seen);
            return Err(self.checker.broken(Rule::ViewForward, what));
        }
        node.seen = revision;
        Ok(())
    }
}
