//! Captures, and tcpdump reading them.

use std::process::{Command, Stdio};
use std::time::Duration;

use overlay_lab::{Error, PingRequest, cannot_run, capture, capture_if, listen, ping};

use crate::{Case, Outcome, ips, pair};

pub(crate) const CASES: [Case; 4] = [
    ("a capture sees both directions", both_directions),
    ("a capture takes what is wanted", wanted),
    ("tcpdump reads a capture", tcpdump),
    ("a listener hears one frame after the other", listener),
];

fn ether_type(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[12], frame[13]])
}

fn both_directions() -> Outcome {
    let (a, b) = pair()?;
    let captures = [capture(&a, "eth0")?, capture(&b, "eth0")?];
    for to in ips(["10.0.0.2", "fd00::2"]) {
        assert!(ping(&a, &PingRequest::to(to).count(3))?.perfect());
    }
    for capture in &captures {
        let frames = capture.frames();
        let echo = |ether: u16, icmp: usize, types: [u8; 2]| {
            types.map(|wanted| {
                frames
                    .iter()
                    .filter(|frame| {
                        ether_type(&frame.bytes) == ether && frame.bytes[icmp] == wanted
                    })
                    .count()
            })
        };
        assert_eq!(echo(0x0800, 34, [8, 0]), [3, 3]);
        assert_eq!(echo(0x86dd, 54, [128, 129]), [3, 3]);
        assert!(
            frames.is_sorted_by_key(|frame| frame.time)
                && frames[0].time > Duration::from_secs(1_700_000_000)
        );
        assert_eq!(capture.lost(), 0);
        capture.clear();
        assert!(capture.frames().iter().all(|frame| ether_type(&frame.bytes) != 0x0800));
    }
    Ok(())
}

fn wanted() -> Outcome {
    let (a, _b) = pair()?;
    let only_v6_echo = |frame: &[u8]| ether_type(frame) == 0x86dd && frame[54] == 128;
    let capture = capture_if(&a, "eth0", only_v6_echo)?;
    for to in ips(["10.0.0.2", "fd00::2"]) {
        assert!(ping(&a, &PingRequest::to(to).count(2))?.perfect());
    }
    assert_eq!(capture.frames().len(), 2);
    capture.wait_for(Duration::ZERO, |frame| frame[21] == 64)?;
    let error = capture
        .wait_for(Duration::from_millis(20), |frame| frame[21] == 1)
        .expect_err("no such frame");
    assert!(
        matches!(error, Error::TimedOut { .. }) && error.to_string().contains("eth0 of a"),
        "{error}"
    );
    // A device that goes away for a moment does not end it.
    a.flap("eth0")?;
    let later = overlay_lab::capture(&a, "eth0")?;
    a.flap("eth0")?;
    assert!(ping(&a, &PingRequest::to(ips(["10.0.0.2"])[0]))?.perfect());
    later.wait_for(Duration::from_secs(1), |frame| ether_type(frame) == 0x0800)?;
    Ok(())
}

fn listener() -> Outcome {
    let (a, _b) = pair()?;
    let mut listener = a.run(|| listen("eth0"))?;
    assert_eq!(listener.link_type(), 1);
    assert!(ping(&a, &PingRequest::to(ips(["10.0.0.2"])[0]).count(3))?.perfect());
    let mut echoes = 0;
    while let Some(frame) = listener.next(Duration::from_millis(100))? {
        echoes += usize::from(ether_type(&frame.bytes) == 0x0800 && frame.bytes[23] == 1);
    }
    assert_eq!((echoes, listener.lost()), (6, 0));
    let error = a.run(|| listen("eth7")).expect_err("there is none");
    assert!(error.to_string().contains("listen on eth7"), "{error}");
    Ok(())
}

fn tcpdump() -> Outcome {
    let (a, _b) = pair()?;
    let (ether, lo) = (capture(&a, "eth0")?, capture(&a, "lo")?);
    for to in ips(["10.0.0.2", "fd00::2", "127.0.0.1", "::1"]) {
        assert!(ping(&a, &PingRequest::to(to))?.perfect());
    }
    if Command::new("tcpdump").arg("--version").output().is_err() {
        return Ok(cannot_run("tcpdump reads a capture", "tcpdump", "no such program")?);
    }
    let directory = std::env::temp_dir();
    for (name, capture, expected) in [
        (
            "eth0",
            &ether,
            ["10.0.0.1 > 10.0.0.2: ICMP echo request", "fd00::2 > fd00::1: ICMP6, echo reply"],
        ),
        ("lo", &lo, ["127.0.0.1 > 127.0.0.1: ICMP echo request", "::1 > ::1: ICMP6, echo reply"]),
    ] {
        let file = directory.join(format!("overlay-lab-{}-{name}.pcap", std::process::id()));
        capture.write_pcap(&file)?;
        let output = reader().arg("-nr").arg(&file).output();
        std::fs::remove_file(&file)?;
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for line in expected {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
    }
    Ok(())
}

/// Run by user 0, tcpdump becomes a user that the user namespace of this program does not have. One
/// namespace deeper it is run by nobody. Where there can be none, user 0 is the real one.
fn reader() -> Command {
    let deeper = Command::new("unshare").args(["--user", "true"]).stderr(Stdio::null()).status();
    if deeper.is_ok_and(|status| status.success()) {
        let mut command = Command::new("unshare");
        command.args(["--user", "tcpdump"]);
        command
    } else {
        let mut command = Command::new("tcpdump");
        command.args(["-Z", "root"]);
        command
    }
}
