//! Packets cross.

use overlay_ebpf::tunnel::{AttachOptions, Format, Xdp};
use overlay_lab::{PingRequest, ping};

use crate::fixture::{done, site};
use crate::{Case, Outcome};

pub(crate) const CASES: [Case; 5] = [
    ("UDP over IPv4", || cross(Format::Udp { port: 8285 }, false, Xdp::Off)),
    ("UDP over IPv6", || cross(Format::Udp { port: 8285 }, true, Xdp::Off)),
    ("IP in IPv4", || cross(Format::IpInIp, false, Xdp::Off)),
    ("IP in IPv6", || cross(Format::IpInIp, true, Xdp::Off)),
    ("UDP over IPv4 by XDP", || cross(Format::Udp { port: 8285 }, false, Xdp::Native)),
];

fn cross(format: Format, v6: bool, xdp: Xdp) -> Outcome {
    let [a, b] = &site()?;
    let tunnels = [(a, b), (b, a)]
        .map(|(here, there)| here.tunnel(&here.options().format(format), there, v6));
    let _attached = [
        a.attach(&tunnels[0], AttachOptions::default().xdp(xdp)),
        b.attach(&tunnels[1], AttachOptions::default().xdp(xdp)),
    ];
    for inner in [false, true] {
        let report = ping(&a.host, &PingRequest::to(b.inner(inner)));
        println!("{:?} {:?}", tunnels[0].counters()?, tunnels[1].counters()?);
        let report = report?;
        assert!(
            report.perfect(),
            "{report:?} {:?} {:?}",
            tunnels[0].counters(),
            tunnels[1].counters()
        );
    }
    done()
}
