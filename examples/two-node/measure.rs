//! Pings, path MTU and throughput.

use std::time::Duration;

use overlay_examples::{Echoes, Pings};
use overlay_lab::{path_mtu, throughput};
use overlay_wire::IpVersion;

use crate::report::Row;
use crate::setup::Setup;

/// Containers and hosts against the containers of the other side.
pub(crate) fn measure(
    setup: &Setup,
    backend: &'static str,
    version: IpVersion,
    duration: Duration,
) -> anyhow::Result<Row> {
    let [vm1, vm2] = setup.vms();
    let mut row = Row::supported(backend, version);
    let seen = Echoes::watch(&vm1.host)?;
    for (from, to) in [(vm1, vm2), (vm2, vm1)] {
        let dst = to.addresses.container(version).addr();
        for host in [&from.container, &from.host] {
            row.add_ping(host.name(), dst, Pings::send(host, dst)?);
        }
    }
    let [src, dst] = [vm1, vm2].map(|vm| vm.addresses.container(version).addr());
    if row.is_ok() {
        row.wire = seen.seen(src, dst)?.map(|packet| packet.text).into();
        drop(seen);
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
        let dst = to.addresses.host(version);
        row.add_ping(from.host.name(), dst, Pings::send(&from.host, dst)?);
    }
    row.mtu = Some(path_mtu(&vm1.host, vm2.addresses.host(version))?);
    row.throughput(direct_throughput(setup, version, duration)?);
    Ok(row)
}

/// Bits per second.
fn direct_throughput(setup: &Setup, version: IpVersion, duration: Duration) -> anyhow::Result<f64> {
    let [vm1, vm2] = setup.vms();
    Ok(throughput(&vm1.host, &vm2.host, vm2.addresses.host(version), duration)?.bits_per_second())
}
