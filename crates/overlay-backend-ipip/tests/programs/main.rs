//! The backend by programs, on the running kernel, for root.

#[path = "../kernel/fixture.rs"]
mod fixture;

use std::time::{Duration, Instant};

use fixture::{ETH0, Program, Site, Spot, join, reach, routed_site, site};
use libtest_mimic::{Arguments, Failed, Trial};
use overlay_backend_ipip::{IpIpOptions, Programs, ProgramsError, ProgramsState};
use overlay_lab::{PingRequest, capture, ping, throughput};
use overlay_wire::IpVersion::{self, V4};
use overlay_wire::dissect::{Dissector, Start};

/// What a case returns.
type Outcome = Result<(), Failed>;

/// A case and what it shows.
type Case = (&'static str, fn() -> Outcome);

fn main() {
    let missing = match overlay_lab::enter_as_root() {
        Err(error) => Some(error.to_string()),
        Ok(()) => unusable(),
    };
    let trials = match missing {
        None => CASES.map(|(name, case)| Trial::test(name, case)).into(),
        Some(why) => vec![Trial::test("IP in IP by programs", move || {
            Ok(overlay_lab::cannot_run("IP in IP by programs", "bpf", &why)?)
        })],
    };
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

const CASES: [Case; 6] = [
    ("programs carry IPv4 and IPv6, each in its own", own_family),
    ("programs carry both over an underlay of one family", one_underlay),
    ("programs reach across a router, and follow its routes", across_a_router),
    ("programs come back with their device", deleted),
    ("without its programs a node sends nothing in the clear", nothing_in_the_clear),
    ("a backend for devices takes no programs", other_form),
];

const BOTH: [IpVersion; 2] = IpVersion::ALL;

fn by_programs() -> IpIpOptions {
    IpIpOptions::default().programs()
}

/// Why programs cannot be attached here.
fn unusable() -> Option<String> {
    let Site { a, b, .. } = &site().ok()?;
    let mut program = a.program(&by_programs(), b.peer());
    program.converge();
    start(a, &program).err().map(|error| error.to_string())
}

fn start(spot: &Spot, program: &Program) -> Result<Programs, ProgramsError> {
    Programs::start(program.network.backend(), Some(spot.host.namespace()))
}

/// Joins two nodes by programs.
fn joined(a: &Spot, b: &Spot, options: &IpIpOptions) -> ([Program; 2], [Programs; 2]) {
    let nodes = join(a, b, options);
    let start = |spot: &Spot, program: &Program| {
        start(spot, program).unwrap_or_else(|error| panic!("{error}"))
    };
    let programs = [start(a, &nodes[0]), start(b, &nodes[1])];
    (nodes, programs)
}

fn own_family() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (_nodes, programs) = joined(a, b, &by_programs());
    for version in BOTH {
        let seen = capture(&a.host, ETH0)?;
        reach(a, b, &[version]);
        let dissector = Dissector::new(Start::Ethernet);
        let overhead = version.header_len() as usize;
        let is_ours = |bytes: &[u8]| {
            let packet = dissector.dissect(bytes);
            packet.error().is_none()
                && packet.outermost().is_some_and(|outer| outer.overhead() == overhead)
        };
        seen.wait_for(Duration::from_secs(1), is_ours)?;
        let to = b.inside(version);
        let flow = throughput(&a.container, &b.container, to, Duration::from_millis(300))?;
        // A chain that segments wrongly is slower by orders of magnitude.
        assert!(flow.bits_per_second() > 1e8, "{flow:?}");
    }
    for programs in &programs {
        let counters = programs.counters().expect("attached programs");
        assert!(counters.sent.packets > 20 && counters.received.packets > 20, "{counters:?}");
    }
    Ok(())
}

fn one_underlay() -> Outcome {
    for underlay in BOTH {
        let Site { a, b, .. } = &site()?;
        let _joined = joined(a, b, &by_programs().underlays([underlay]));
        reach(a, b, &BOTH);
    }
    Ok(())
}

fn across_a_router() -> Outcome {
    let (a, b, _router) = &routed_site()?;
    let _joined = joined(a, b, &by_programs());
    reach(a, b, &BOTH);
    // By the same router, as another way.
    a.ip("ip route add 192.168.32.2/32 via 192.168.31.99");
    a.ip("ip route del default via 192.168.31.99");
    reach(a, b, &BOTH);
    a.ip("ip route del 192.168.32.2/32 via 192.168.31.99");
    let lost = || {
        let request = PingRequest::to(b.inside(V4)).count(1).timeout(Duration::from_millis(100));
        ping(&a.container, &request).is_ok_and(|report| report.received == 0)
    };
    within(lost);
    a.ip("ip route add default via 192.168.31.99");
    within(|| !lost());
    Ok(())
}

fn deleted() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (mut nodes, programs) = joined(a, b, &by_programs());
    reach(a, b, &BOTH);
    a.ip("ip link del overlay.ebpf");
    within(|| match programs[0].state() {
        ProgramsState::Detached { reason } => reason.contains("overlay.ebpf"),
        _ => false,
    });
    nodes[0].converge();
    within(|| programs[0].state() == ProgramsState::Attached);
    reach(a, b, &BOTH);
    Ok(())
}

fn nothing_in_the_clear() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let (_nodes, programs) = joined(a, b, &by_programs());
    reach(a, b, &BOTH);
    drop(programs);
    let seen = capture(&a.host, ETH0)?;
    for version in BOTH {
        let request = PingRequest::to(b.inside(version)).count(1);
        let report = ping(&a.container, &request.timeout(Duration::from_millis(300)))?;
        assert_eq!(report.received, 0, "{report:?}");
    }
    let inner = [b"\x0a\xf4\x02\x02".as_slice(), b"\xfd\x00\x02\x44\x00\x02"];
    let has = |bytes: &[u8]| {
        inner.iter().any(|address| bytes.windows(address.len()).any(|window| window == *address))
    };
    let frames = seen.frames();
    assert!(!frames.iter().any(|frame| has(&frame.bytes)), "{frames:?}");
    Ok(())
}

fn other_form() -> Outcome {
    let Site { a, b, .. } = &site()?;
    let program = a.program(&IpIpOptions::default(), b.peer());
    let error = start(a, &program).expect_err("no programs").to_string();
    assert!(error.contains("IpIpOptions::programs"), "{error}");
    Ok(())
}

/// Within two seconds it becomes true.
fn within(mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(2), "it did not become true");
        std::thread::sleep(Duration::from_millis(20));
    }
}
