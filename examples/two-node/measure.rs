//! Pings, path MTU and throughput.

use std::net::IpAddr;
use std::time::Duration;

use overlay_lab::{Host, PingReport, PingRequest, path_mtu, ping, throughput};
use overlay_wire::IpVersion;

use crate::report::Row;
use crate::setup::Setup;
use crate::wire::echo_on_the_wire;

/// Pings in each direction.
const COUNT: u16 = 5;

/// Containers and hosts against the containers of the other side.
pub(crate) fn measure(
    setup: &Setup,
    backend: &'static str,
    version: IpVersion,
    duration: Duration,
) -> anyhow::Result<Row> {
    let [vm1, vm2] = setup.vms();
    let mut row = Row::supported(backend, version);
    for (from, to) in [(vm1, vm2), (vm2, vm1)] {
        let dst = to.container_address(version);
        for host in [&from.container, &from.host] {
            row.add_ping(host.name(), dst, &ping_a_few_times(host, dst)?);
        }
    }
    let dst = vm2.container_address(version);
    if row.is_ok() {
        row.wire = echo_on_the_wire(setup, version)?;
        row.mtu = Some(path_mtu(&vm1.container, dst)?);
        // A machine's speed varies by the minute: both halves of the ratio are of the same moment.
        let direct = direct_throughput(setup, version, duration)?;
        row.throughput(
            throughput(&vm1.container, &vm2.container, dst, duration)?.bits_per_second(),
        );
        row.relative_to(direct);
    }
    Ok(row)
}

/// Host against host, without an overlay.
pub(crate) fn direct(setup: &Setup, version: IpVersion, duration: Duration) -> anyhow::Result<Row> {
    let [vm1, vm2] = setup.vms();
    let mut row = Row::supported("direct", version);
    for (from, to) in [(vm1, vm2), (vm2, vm1)] {
        let dst = to.underlay(version);
        row.add_ping(from.host.name(), dst, &ping_a_few_times(&from.host, dst)?);
    }
    row.mtu = Some(path_mtu(&vm1.host, vm2.underlay(version))?);
    row.throughput(direct_throughput(setup, version, duration)?);
    Ok(row)
}

/// Bits per second.
fn direct_throughput(setup: &Setup, version: IpVersion, duration: Duration) -> anyhow::Result<f64> {
    let [vm1, vm2] = setup.vms();
    Ok(throughput(&vm1.host, &vm2.host, vm2.underlay(version), duration)?.bits_per_second())
}

fn ping_a_few_times(from: &Host, dst: IpAddr) -> anyhow::Result<PingReport> {
    let request = PingRequest::to(dst)
        .count(COUNT)
        .interval(Duration::from_millis(10))
        .timeout(Duration::from_secs(2));
    Ok(ping(from, &request)?)
}
