//! Segmentation-offloaded packets that are forwarded after they have been in a tunnel: their flags still speak of one.

use std::time::Duration;

use overlay_ebpf::tunnel::{AttachOptions, Format};
use overlay_lab::throughput;

use crate::fixture::{UDP, pair};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 4] = [
    ("forwarded through a device that offloads tunnels", || forwarded(UDP, true)),
    ("forwarded through a device that does not offload tunnels", || forwarded(UDP, false)),
    ("IP in IP, forwarded through a device that offloads tunnels", || {
        forwarded(Format::IpInIp, true)
    }),
    ("IP in IP, forwarded through one that does not", || forwarded(Format::IpInIp, false)),
];

/// From a node to a container of the other.
fn forwarded(format: Format, offload: bool) -> Outcome {
    const OFFLOADS: [&str; 4] = [
        "tx-udp_tnl-segmentation",
        "tx-udp_tnl-csum-segmentation",
        "tx-ipxip4-segmentation",
        "tx-ipxip6-segmentation",
    ];
    for outer_v6 in [false, true] {
        let pair = pair(|node| node.options().format(format), outer_v6, AttachOptions::default())?;
        let [a, b] = &pair.nodes;
        let container = b.container()?;
        for feature in OFFLOADS {
            b.host.feature("port0", feature, offload)?;
        }
        for v6 in [false, true] {
            let to = b.contained(v6);
            let flow = throughput(&a.host, &container, to, Duration::from_millis(300))?;
            println!(
                "{format:?} offload {offload} outer v6 {outer_v6} inner v6 {v6}: {:.1} Gbit/s",
                flow.bits_per_second() / 1e9
            );
            assert!(flow.bits_per_second() > 1e8, "{flow:?}");
            let flow = throughput(&container, &a.host, a.inner(v6), Duration::from_millis(300))?;
            assert!(flow.bits_per_second() > 1e8, "{flow:?}");
        }
    }
    Ok(())
}
