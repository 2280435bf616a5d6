//! What is between the nodes and the store.

use super::*;

impl World {
    pub(super) fn delay(&mut self) -> Duration {
        if self.now < self.peace && self.random.chance(self.scenario.late) {
            return self.random.up_to(self.scenario.latest);
        }
        self.random.between(self.scenario.latency.0, self.scenario.latency.1)
    }

    pub(super) fn is_lost(&mut self) -> bool {
        self.now < self.peace && self.random.chance(self.scenario.lost)
    }

    pub(super) fn send_to_store(&mut self, node: usize, event: Event) {
        if self.is_lost() || self.nodes[node].mute > self.now {
            // Where a connection is gone, what was sent may be sent again when it is back.
            if self.random.chance(900_000) || self.now >= self.peace {
                return;
            }
            let after = self.nodes[node].mute.max(self.now);
            let delay = self.random.up_to(self.scenario.latest);
            self.queue.push(after + delay, event);
            return;
        }
        if let Event::Ask { node, life, number, operation, .. } = &event
            && self.now < self.peace
            && self.random.chance(self.scenario.doubled)
        {
            let sent = self.recorder.moment(self.now);
            let (node, life, number) = (*node, *life, *number);
            let again = Event::Ask { node, life, number, operation: operation.clone(), sent };
            let delay = self.random.up_to(self.scenario.latest);
            self.queue.push(self.now + delay, again);
        }
        let delay = self.delay();
        self.queue.push(self.now + delay, event);
    }

    pub(super) fn send_to_node(&mut self, node: usize, event: Event) {
        if self.is_lost() || self.nodes[node].mute.max(self.nodes[node].deaf) > self.now {
            return;
        }
        let delay = self.delay();
        self.queue.push(self.now + delay, event);
    }

    pub(super) fn reaches_store(&self, node: usize) -> bool {
        !self.is_away() && self.nodes[node].mute <= self.now
    }

    pub(super) fn is_away(&self) -> bool {
        self.server.away > self.now
    }
}
