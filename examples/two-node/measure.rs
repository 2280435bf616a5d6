//! Pings, path MTU and throughput.

use std::net::IpAddr;
use std::time::Duration;

use overlay_lab::{Host, PingReport, PingRequest, path_mtu, ping, throughput};
use overlay_wire::IpVersion;

use crate::report::Row;
use crate::setup::Setup;

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
        row.mtu = Some(path_mtu(&vm1.container, dst)?);
        row.throughput(
            throughput(&vm1.container, &vm2.container, dst, duration)?.bits_per_second(),
        );
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
    let dst = vm2.underlay(version);
    row.mtu = Some(path_mtu(&vm1.host, dst)?);
    row.throughput(throughput(&vm1.host, &vm2.host, dst, duration)?.bits_per_second());
    Ok(row)
}

fn ping_a_few_times(from: &Host, dst: IpAddr) -> anyhow::Result<PingReport> {
    let request = PingRequest::to(dst)
        .count(COUNT)
        .interval(Duration::from_millis(10))
        .timeout(Duration::from_secs(2));
    Ok(ping(from, &request)?)
}
