//! Throughput, and its end on a dead path.

use std::time::{Duration, Instant};

use overlay_lab::{Error, Host, Wire, WireConfig, throughput, throughput_of};

use crate::{Case, Outcome, address_pair, ips, pair};

pub(crate) const CASES: [Case; 5] = [
    ("several flows are measured together", several),
    ("a flow is measured", measured),
    ("a flow within one host is measured", within),
    ("a dead path ends the measurement", dead),
    ("a path that dies ends the measurement", dies),
];

fn measured() -> Outcome {
    let (a, b) = pair()?;
    for address in ips(["10.0.0.2", "fd00::2"]) {
        let start = Instant::now();
        let result = throughput(&a, &b, address, Duration::from_millis(300))?;
        assert!(start.elapsed() < Duration::from_secs(3));
        assert!(result.bits_per_second() > 100e6, "{result:?}");
        assert!(["cubic", "reno"].contains(&result.congestion));
        assert!(
            result.elapsed >= Duration::from_millis(300) && result.elapsed < Duration::from_secs(1)
        );
    }
    Ok(())
}

fn several() -> Outcome {
    let (a, b) = pair()?;
    let start = Instant::now();
    let result = throughput_of(4, &a, &b, ips(["10.0.0.2"])[0], Duration::from_millis(300))?;
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(result.bits_per_second() > 100e6, "{result:?}");
    Ok(())
}

fn within() -> Outcome {
    let host = Host::new("host")?;
    for address in ips(["127.0.0.1", "::1"]) {
        assert!(throughput(&host, &host, address, Duration::from_millis(100))?.bytes > 0);
    }
    let error = throughput(&host, &host, ips(["192.0.2.1"])[0], Duration::from_millis(100))
        .expect_err("not its address");
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
    Ok(())
}

fn dead() -> Outcome {
    let (a, b) = (Host::new("a")?, Host::new("b")?);
    let _wire = Wire::new(&a, "eth0", &b, "eth0", WireConfig::new().loss(1.0), 1)?;
    address_pair(&a, &b)?;
    for address in ips(["10.0.0.2", "fd00::2"]) {
        let start = Instant::now();
        let error =
            throughput(&a, &b, address, Duration::from_millis(200)).expect_err("nothing passes");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        // Address resolution may give up first.
        assert!(matches!(error, Error::TimedOut { .. } | Error::Io { .. }), "{error}");
    }
    Ok(())
}

fn dies() -> Outcome {
    let (a, b) = (Host::new("a")?, Host::new("b")?);
    let wire = Wire::new(&a, "eth0", &b, "eth0", WireConfig::new(), 1)?;
    address_pair(&a, &b)?;
    let start = Instant::now();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(150));
            wire.set(WireConfig::new().loss(1.0));
        });
        // The measured part begins after 500 ms.
        throughput(&a, &b, ips(["10.0.0.2"])[0], Duration::from_secs(2))
    });
    assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    Ok(())
}
