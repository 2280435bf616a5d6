//! What is to happen in a run: not everything in each, so that some things happen without others.

use std::time::Duration;

use overlay_lease::NetworkConfig;

use crate::random::Random;

/// The nature of one run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) nodes: usize,
    pub(crate) ttl: Duration,
    /// How many nodes in a million have a lease from earlier on.
    pub(crate) settled: u64,
    /// Over how long the nodes start.
    pub(crate) start: Duration,
    /// How long things go wrong.
    pub(crate) trouble: Duration,
    /// What the network is configured as at first, and what it may be configured as later.
    pub(crate) configs: Vec<NetworkConfig>,
    /// How long a message takes at least and at most, usually.
    pub(crate) latency: (Duration, Duration),
    /// How many messages in a million are lost, come twice, or come very late.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
    pub(crate) latest: Duration,
    /// How long the store takes to notice changes for those who watch.
    pub(crate) watching: Duration,
    /// How much later than it has to the store lets leases go.
    pub(crate) lazy: Duration,
    /// How many millionths clocks differ from true time.
    pub(crate) clocks: u64,
    /// How many nodes in a million tell their keeper what they see.
    pub(crate) look: u64,
    /// What goes wrong, and how often in all.
    pub(crate) troubles: Vec<(Trouble, u32)>,
}

/// What can go wrong, or be done by somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Some nodes and the store do not hear each other for a while.
    Partition,
    /// Messages reach the store, but answers do not come back, for a while.
    Deaf,
    /// A node's process ends at once, and starts again later.
    Crash,
    /// A node's process does nothing for a while.
    Pause,
    /// A node gives its lease back and ends, and starts again later.
    Leave,
    /// The store is away for a while.
    Outage,
    /// The store does nothing for a while, and then all at once.
    Stall,
    /// The store forgets how it came to what it has.
    Compaction,
    /// The network is configured anew.
    Reconfiguration,
    /// A node tells its peers something else.
    Publication,
    /// Somebody makes a node's lease a reservation, or keeps everybody away from some subnets.
    Reservation,
}

const ALL: [Trouble; 11] = [
    Trouble::Partition,
    Trouble::Deaf,
    Trouble::Crash,
    Trouble::Pause,
    Trouble::Leave,
    Trouble::Outage,
    Trouble::Stall,
    Trouble::Compaction,
    Trouble::Reconfiguration,
    Trouble::Publication,
    Trouble::Reservation,
];

/// 500 nodes and a few reservations fit into each.
const NETWORKS: [&str; 6] = [
    r#"{"Network":"10.0.0.0/12","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#,
    r#"{"Network":"10.0.0.0/15","SubnetLen":24,"SubnetMin":"10.0.0.0","Backend":{"Type":"vxlan"}}"#,
    r#"{"Network":"10.0.0.0/14","SubnetLen":23,"SubnetMin":"10.0.0.0","Backend":{"Type":"vxlan"}}"#,
    r#"{"Network":"10.1.0.0/16","SubnetLen":26,"Backend":{"Type":"vxlan"}}"#,
    r#"{"Network":"10.0.0.0/13","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}"#,
    r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/54","Backend":{"Type":"vxlan"}}"#,
];

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl Scenario {
    pub(crate) fn random(random: &mut Random) -> Self {
        let ttl = secs(random.pick(&[6, 9, 15, 30]));
        let mut configs: Vec<_> = NETWORKS
            .iter()
            .map(|json| NetworkConfig::from_json(json).expect("a network written here"))
            .collect();
        for i in (1..configs.len()).rev() {
            configs.swap(i, random.index(i + 1));
        }
        configs.truncate(3);
        let mut troubles = Vec::new();
        for trouble in ALL {
            let (per_million, often) = trouble.frequency();
            if random.chance(per_million) {
                troubles.push((trouble, 1 + random.below(often) as u32));
            }
        }
        Self {
            nodes: 500,
            ttl,
            settled: random.pick(&[0, 500_000, 950_000, 950_000]),
            start: random.pick(&[Duration::ZERO, millis(100), secs(2), secs(5)]),
            trouble: ttl * 3 / 2 + secs(5),
            configs,
            latency: random.pick(&[
                (millis(0), millis(1)),
                (millis(1), millis(20)),
                (millis(5), millis(400)),
            ]),
            lost: random.pick(&[0, 1_000, 20_000, 100_000]),
            doubled: random.pick(&[0, 1_000, 50_000]),
            late: random.pick(&[0, 1_000, 10_000]),
            latest: random.pick(&[secs(2), ttl, ttl * 3]),
            watching: random.pick(&[millis(200), secs(1), secs(3)]),
            lazy: random.pick(&[Duration::ZERO, millis(500), secs(4)]),
            clocks: random.pick(&[0, 100, 4_000]),
            look: random.pick(&[0, 500_000, 1_000_000]),
            troubles,
        }
    }
}

impl Trouble {
    /// In how many runs in a million there are such troubles, and how many at most. What makes all nodes change their
    /// lease takes so long to simulate that it is less frequent.
    const fn frequency(self) -> (u64, u64) {
        match self {
            Self::Partition | Self::Deaf => (400_000, 5),
            Self::Crash => (500_000, 100),
            Self::Pause => (500_000, 60),
            Self::Leave => (400_000, 30),
            Self::Publication => (500_000, 40),
            Self::Reservation => (500_000, 8),
            Self::Outage => (150_000, 2),
            Self::Stall => (300_000, 2),
            Self::Compaction => (500_000, 4),
            Self::Reconfiguration => (80_000, 2),
        }
    }
}
