//! How long a packet may be on the way to each peer, as far as the underlay has told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long what was learned holds: as long as in the kernel (`net.ipv4.route.mtu_expires`, RFC 1191, section 6.3).
const AGE: Duration = Duration::from_secs(600);

/// How many paths are remembered. The kernel remembers the others, and tells again.
const MAX: usize = 1 << 20;

/// The path MTUs that are smaller than the device's.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    known: RwLock<HashMap<IpAddr, Path>>,
    /// How many are known, to be looked at before the lock is taken.
    count: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    mtu: u32,
    learned: Instant,
}

impl Path {
    fn holds(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.learned) < AGE
    }
}

impl Paths {
    /// From now on, no datagram to `to` may be longer than `mtu`, its headers included. Returns whether that is news: what was
    /// learned holds until it is forgotten, unless it becomes even less.
    pub(crate) fn learn(&self, to: IpAddr, mtu: u32, now: Instant) -> bool {
        if self.mtu_at(to, now).is_some_and(|known| known <= mtu) {
            return false;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX && !known.contains_key(&to) {
            return false;
        }
        known.insert(to, Path { mtu, learned: now });
        self.count.store(known.len(), Ordering::Relaxed);
        true
    }

    /// The path MTU to a peer, if one was learned and still holds.
    pub(crate) fn mtu(&self, to: IpAddr) -> Option<u32> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.mtu_at(to, Instant::now())
    }

    fn mtu_at(&self, to: IpAddr, now: Instant) -> Option<u32> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&to).filter(|path| path.holds(now)).map(|path| path.mtu)
    }

    /// All that still hold, by address. The others are forgotten.
    pub(crate) fn all(&self, now: Instant) -> Vec<(IpAddr, u32)> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, path| path.holds(now));
        self.count.store(known.len(), Ordering::Relaxed);
        let mut all: Vec<_> = known.iter().map(|(to, path)| (*to, path.mtu)).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn what_was_learned_holds_for_ten_minutes() {
        let (paths, start) = (Paths::default(), Instant::now());
        assert_eq!(paths.mtu(ip(1)), None);
        paths.learn(ip(1), 1400, start);
        assert_eq!(paths.mtu(ip(1)), Some(1400));
        assert_eq!(paths.mtu(ip(2)), None);
        assert_eq!(paths.mtu_at(ip(1), start + AGE - Duration::from_secs(1)), Some(1400));
        assert_eq!(paths.mtu_at(ip(1), start + AGE), None);
        assert_eq!(paths.all(start + AGE), []);
        paths.learn(ip(1), 1300, start + AGE);
        assert_eq!(paths.all(start + AGE), [(ip(1), 1300)]);
    }

    #[test]
    fn only_less_is_news() {
        let (paths, start) = (Paths::default(), Instant::now());
        assert!(paths.learn(ip(1), 1400, start));
        assert!(!paths.learn(ip(1), 1400, start) && !paths.learn(ip(1), 1450, start));
        assert!(paths.learn(ip(1), 1300, start));
        assert_eq!(paths.all(start), [(ip(1), 1300)]);
        // By then it is forgotten.
        assert!(paths.learn(ip(1), 1450, start + AGE));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (paths, start) = (Paths::default(), Instant::now());
        for number in 0..MAX as u32 + 10 {
            paths.learn(ip(number), 1400, start);
        }
        assert_eq!(paths.all(start).len(), MAX);
        assert!(paths.learn(ip(0), 1300, start) && !paths.learn(ip(u32::MAX), 1300, start));
        assert_eq!(paths.all(start + AGE), []);
        assert!(paths.learn(ip(u32::MAX), 1400, start + AGE));
    }
}
