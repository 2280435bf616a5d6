//! What the backends carry, and how fast, beside the kernel's own VXLAN.

use anyhow::Result;
use overlay_backend_vxlan::{Vxlan, VxlanOptions};

use crate::Contest;
use crate::paths::{Cable, Load, Pair, Paths, expect_answer};

/// The bare cable.
const CABLE: &str = "the cable itself";
/// The kernel's VXLAN device.
const VXLAN: &str = "kernel VXLAN, overlay-backend-vxlan";

/// A contest about what is carried between two hosts.
#[derive(Clone, Copy)]
pub struct PathContest {
    /// Its short name.
    pub id: &'static str,
    title: &'static str,
    cable: Cable,
    load: Load,
}

/// All of them.
pub const ALL: [PathContest; 5] = [
    PathContest {
        id: "tcp-whole",
        title: "1,024 MiB by one TCP flow, super-packets whole",
        cable: Cable::Whole,
        load: Load::Tcp { flows: 1, mib: 1024 },
    },
    PathContest {
        id: "tcp-segmented",
        title: "1,024 MiB by one TCP flow, packets of MTU size",
        cable: Cable::Segmented,
        load: Load::Tcp { flows: 1, mib: 1024 },
    },
    PathContest {
        id: "tcp-segmented-4",
        title: "1,024 MiB by four TCP flows, packets of MTU size",
        cable: Cable::Segmented,
        load: Load::Tcp { flows: 4, mib: 1024 },
    },
    PathContest {
        id: "datagrams",
        title: "1,000,000 datagrams of 64 bytes",
        cable: Cable::Whole,
        load: Load::Datagrams { size: 64, count: 1_000_000 },
    },
    PathContest {
        id: "round-trip",
        title: "A datagram there and back",
        cable: Cable::Whole,
        load: Load::RoundTrip,
    },
];

impl PathContest {
    /// The contest, with its hosts made and joined.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn make(self) -> Result<Contest<Paths>> {
        let Self { id, title, cable, load } = self;
        let contest = Contest::between_hosts(id, title.to_owned(), load.objects());
        let contest = {
            let pair = Pair::new(cable)?;
            contest.with(CABLE, move |_| load.measure(&pair, pair.direct()?))
        };
        let contest = {
            let pair = Pair::new(cable)?;
            let ends = pair.join(|node| Ok(Vxlan::new(node, &VxlanOptions::default())?))?;
            expect_answer(&pair, pair.overlay()?)?;
            contest.with(VXLAN, move |_| {
                let _ends = &ends;
                load.measure(&pair, pair.overlay()?)
            })
        };
        Ok(contest)
    }
}
