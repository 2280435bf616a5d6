//! Packet rates and round trips, and their end on a dead path.

use std::time::Duration;

use overlay_lab::{Error, Host, Wire, WireConfig, packet_rate, round_trip};

use crate::{Case, Outcome, address_pair, ips, pair};

pub(crate) const CASES: [Case; 3] = [
    ("datagrams are counted", counted),
    ("a round trip takes as long as the path", round_trips),
    ("a dead path ends counting", dead),
];

fn counted() -> Outcome {
    let (a, b) = pair()?;
    for address in ips(["10.0.0.2", "fd00::2"]) {
        let rate = packet_rate(&a, &b, address, 64, Duration::from_millis(200))?;
        assert!(rate.per_second() > 1e3 && rate.elapsed >= Duration::from_millis(200), "{rate:?}");
    }
    let error = packet_rate(&a, &b, ips(["192.0.2.1"])[0], 64, Duration::from_millis(100))
        .expect_err("not its address");
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
    Ok(())
}

fn round_trips() -> Outcome {
    let (a, b) = (Host::new("a")?, Host::new("b")?);
    let delay = Duration::from_millis(5);
    let _wire = Wire::new(&a, "eth0", &b, "eth0", WireConfig::new().delay(delay), 1)?;
    address_pair(&a, &b)?;
    for address in ips(["10.0.0.2", "fd00::2"]) {
        let time = round_trip(&a, &b, address, Duration::from_millis(200))?;
        assert!(time >= 2 * delay && time < 20 * delay, "{time:?}");
    }
    Ok(())
}

fn dead() -> Outcome {
    let (a, b) = (Host::new("a")?, Host::new("b")?);
    let _wire = Wire::new(&a, "eth0", &b, "eth0", WireConfig::new().loss(1.0), 1)?;
    address_pair(&a, &b)?;
    for address in ips(["10.0.0.2", "fd00::2"]) {
        let error = packet_rate(&a, &b, address, 64, Duration::from_millis(100));
        assert!(matches!(error, Err(Error::TimedOut { .. })), "{error:?}");
        let error = round_trip(&a, &b, address, Duration::from_millis(100));
        assert!(matches!(error, Err(Error::TimedOut { .. } | Error::Io { .. })), "{error:?}");
    }
    Ok(())
}
