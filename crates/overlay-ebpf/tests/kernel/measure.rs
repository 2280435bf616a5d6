//! Figures.
use crate::fixture::{done, site};
use crate::{Case, Outcome};
use overlay_ebpf::tunnel::{AttachOptions, Format, Xdp};
use overlay_lab::throughput;
use std::time::Duration;
pub(crate) const CASES: [Case; 1] = [("throughput", tcp)];
fn tcp() -> Outcome {
    let [a, b] = &site()?;
    let o = |here: &crate::fixture::Node| here.options().format(Format::Udp { port: 8285 });
    let ta = a.tunnel(&o(a), b, false);
    let tb = b.tunnel(&o(b), a, false);
    let _x = (
        a.attach(&ta, AttachOptions::default().xdp(Xdp::Off)),
        b.attach(&tb, AttachOptions::default().xdp(Xdp::Off)),
    );
    for _ in 0..3 {
        let d = throughput(&a.host, &b.host, b.outer(false), Duration::from_secs(1))?;
        let t = throughput(&a.host, &b.host, b.inner(false), Duration::from_secs(1))?;
        println!("direct {:.1} tunnel {:.1}", d.bits_per_second() / 1e9, t.bits_per_second() / 1e9);
    }
    println!("{:?}", ta.counters()?);
    done()
}
