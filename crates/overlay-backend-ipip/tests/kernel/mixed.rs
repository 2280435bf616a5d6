//! Programs at one end, devices of the kernel at the other.

use std::time::Duration;

use overlay_backend_ipip::{IpIpOptions, Programs};
use overlay_lab::throughput;
use overlay_wire::IpVersion;

use crate::fixture::{Site, reach, site};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 2] = [
    ("programs and devices understand each other over IPv4", || mixed(IpVersion::V4)),
    ("programs and devices understand each other over IPv6", || mixed(IpVersion::V6)),
];

fn mixed(version: IpVersion) -> Outcome {
    let Site { a, b, .. } = &site()?;
    let options = IpIpOptions::default().carries([version]).underlays([version]);
    let mut by_programs = a.program(&options.clone().programs(), b.peer());
    by_programs.converge();
    b.program(&options, a.peer()).converge();
    let backend = by_programs.network.backend();
    let programs = Programs::start(backend, Some(a.host.namespace()))?;
    reach(a, b, &[version]);
    for (from, to) in [(a, b), (b, a)] {
        let (inside, time) = (to.inside(version), Duration::from_millis(500));
        assert!(throughput(&from.container, &to.container, inside, time)?.bytes > 1 << 20);
    }
    let counters = programs.counters().ok_or("they are not attached")?;
    assert!(counters.sent.packets > 20 && counters.received.packets > 20, "{counters:?}");
    Ok(())
}
