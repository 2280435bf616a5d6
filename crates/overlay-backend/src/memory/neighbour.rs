//! Neighbours.

use std::net::IpAddr;

use overlay_netlink::{Ifindex, Neighbour, NeighbourFlags, NeighbourState, Protocol, Verb};

use super::refusal::{EEXIST, EINVAL, ENOBUFS, ENOENT, Refusal};
use super::state::State;

impl State {
    pub(super) fn neighbour(&mut self, verb: Verb, asked: &Neighbour) -> Result<(), Refusal> {
        let has_ipv6 = self.device(asked.dev)?.has_ipv6;
        let proxy = asked.flags.contains(NeighbourFlags::PROXY);
        let key = (asked.dev, proxy, asked.dst);
        if verb == Verb::Delete {
            return self.neighbours.remove(&key).map(drop).ok_or(ENOENT);
        }
        if asked.dst.is_ipv6() && !has_ipv6 {
            let refusal = if proxy { ENOBUFS } else { EINVAL };
            return Err(refusal.says("IPv6 is disabled on this device"));
        }
        if proxy {
            // Whatever the verb.
            let protocol = match asked.protocol {
                Protocol::UNSPEC => {
                    self.neighbours.get(&key).map_or(Protocol::UNSPEC, |n| n.protocol)
                }
                given => given,
            };
            let mut entry = Neighbour::proxy(asked.dst, asked.dev).protocol(protocol);
            entry.flags = asked.flags;
            self.neighbours.insert(key, entry);
            return Ok(());
        }
        let Some(now) = self.neighbours.get_mut(&key) else {
            if verb == Verb::Change {
                return Err(ENOENT);
            }
            if asked.lladdr.is_none() && is_valid(asked.state) {
                // By the time the kernel notices, the entry is there.
                let mut empty = asked.clone();
                (empty.state, empty.flags) = (NeighbourState::NONE, NeighbourFlags::NONE);
                self.neighbours.insert(key, empty);
                return Err(EINVAL.says("No link layer address given"));
            }
            self.neighbours.insert(key, asked.clone());
            return Ok(());
        };
        if verb == Verb::Add {
            return Err(EEXIST);
        }
        if asked.protocol != Protocol::UNSPEC {
            now.protocol = asked.protocol;
        }
        now.flags = with(now.flags, NeighbourFlags::EXT_LEARNED, asked.flags);
        let lladdr = asked.lladdr.or(now.lladdr);
        if !is_valid(asked.state) {
            now.state = asked.state;
            return Ok(());
        }
        if lladdr != now.lladdr && verb == Verb::Append && is_valid(now.state) {
            return Ok(());
        }
        if lladdr.is_none() {
            return Err(EINVAL.says("No link layer address given"));
        }
        now.lladdr = lladdr;
        now.state = asked.state;
        if verb != Verb::Append {
            now.flags = with(now.flags, NeighbourFlags::ROUTER, asked.flags);
        }
        Ok(())
    }

    /// What is listed; the kernel leaves proxy entries out unless asked for nothing else.
    pub(super) fn list_neighbours(&self, dev: Ifindex) -> Vec<Neighbour> {
        let first = (dev, false, IpAddr::from([0; 4]));
        self.neighbours
            .range(first..)
            .take_while(|((of, proxy, _), _)| *of == dev && !*proxy)
            .map(|(_, neighbour)| neighbour.clone())
            .collect()
    }
}

/// `NUD_VALID`: the MAC address can be used.
fn is_valid(state: NeighbourState) -> bool {
    [
        NeighbourState::PERMANENT,
        NeighbourState::NOARP,
        NeighbourState::REACHABLE,
        NeighbourState::PROBE,
        NeighbourState::STALE,
        NeighbourState::DELAY,
    ]
    .into_iter()
    .any(|bit| state.contains(bit))
}

/// `flags` with one bit as it is in `given`.
fn with(flags: NeighbourFlags, bit: NeighbourFlags, given: NeighbourFlags) -> NeighbourFlags {
    NeighbourFlags(flags.0 & !bit.0 | given.0 & bit.0)
}
