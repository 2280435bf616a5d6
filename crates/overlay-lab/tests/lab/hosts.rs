//! Hosts, switches, bridges and containers.

use std::fs;
use std::panic::catch_unwind;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use overlay_lab::{Error, Host, PingRequest, Switch, cannot_run, ping};

use crate::{Case, Outcome, ips, nets, pair};

pub(crate) const CASES: [Case; 9] = [
    ("hosts are apart", apart),
    ("a closure's result and panic come out", results_and_panics),
    ("a thread started in a host stays there", spawned),
    ("sysctls are the host's own", sysctls),
    ("a switch joins its hosts", switch),
    ("a container reaches the world through its host", container),
    ("a flap brings the link back", flap),
    ("errors name operation and object", errors),
    ("the enter command enters", enter_command),
];

fn inode(host: &Host) -> String {
    host.run(|| fs::read_link("/proc/thread-self/ns/net")).expect("a link").display().to_string()
}

fn apart() -> Outcome {
    let (a, b) = (Host::new("a")?, Host::new("b")?);
    assert_ne!(inode(&a), inode(&b));
    assert_eq!(inode(&a), inode(&a.clone()));
    assert_eq!(a.name(), "a");
    Ok(())
}

fn results_and_panics() -> Outcome {
    let host = Host::new("host")?;
    let local = String::from("borrowed");
    assert_eq!(host.run(|| local.len()), 8);
    let panic = catch_unwind(|| host.run(|| panic!("payload"))).expect_err("a panic");
    assert_eq!(panic.downcast_ref(), Some(&"payload"));
    Ok(())
}

fn spawned() -> Outcome {
    let host = Host::new("host")?;
    let expected = inode(&host);
    let thread = host.spawn(|| fs::read_link("/proc/thread-self/ns/net"))?;
    assert_eq!(thread.join().expect("no panic")?.display().to_string(), expected);
    Ok(())
}

fn sysctls() -> Outcome {
    let (a, b) = (Host::new("a")?, Host::new("b")?);
    a.forwarding(true)?;
    for key in
        ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net/ipv6/conf/all/forwarding"]
    {
        assert_eq!(
            (a.sysctl_get(key)?, b.sysctl_get(key)?),
            ("1".to_owned(), "0".to_owned()),
            "{key}"
        );
    }
    a.sysctl("net.ipv4.ip_default_ttl", 99)?;
    assert_eq!(a.sysctl_get("net.ipv4.ip_default_ttl")?, "99");
    assert!(matches!(a.sysctl("net.ipv4.nothing", 1), Err(Error::Io { .. })));
    assert!(matches!(a.sysctl("net/../kernel/hostname", 1), Err(Error::Key { .. })));
    Ok(())
}

fn switch() -> Outcome {
    let switch = Switch::new("switch")?;
    let hosts = ["1", "2", "3"].map(|n| {
        let host = Host::new(n)?;
        let port = switch.plug(
            &host,
            "eth0",
            &nets([&format!("10.0.0.{n}/24"), &format!("fd00::{n}/64")]),
        )?;
        Ok::<_, Error>((host, port))
    });
    let [one, two, three] = hosts;
    let ((one, _), (two, _), (three, port)) = (one?, two?, three?);
    for (from, to) in
        [(&one, "10.0.0.2"), (&one, "fd00::3"), (&two, "fd00::1"), (&three, "10.0.0.1")]
    {
        let report = ping(from, &PingRequest::to(ips([to])[0]).count(2))?;
        assert!(report.perfect(), "{to}: {report:?}");
        assert_eq!(report.replies[0].ttl, 64);
    }
    switch.host().set_down(&port)?;
    let report =
        ping(&one, &PingRequest::to(ips(["10.0.0.3"])[0]).timeout(Duration::from_millis(100)))?;
    assert_eq!(report.received, 0);
    Ok(())
}

fn container() -> Outcome {
    let (node, world) = pair()?;
    node.forwarding(true)?;
    node.bridge("cni0", &nets(["10.244.1.1/24", "fd00:1::1/64"]))?;
    let [one, two] = ["2", "3"].map(|n| {
        let addresses = nets([&format!("10.244.1.{n}/24"), &format!("fd00:1::{n}/64")]);
        node.container(
            &format!("c{n}"),
            "cni0",
            &format!("veth{n}"),
            &addresses,
            &ips(["10.244.1.1", "fd00:1::1"]),
        )
    });
    let (one, two) = (one?, two?);
    world.default_routes(&ips(["10.0.0.1", "fd00::1"]))?;
    for (from, to, ttl) in [
        (&one, "10.244.1.3", 64),
        (&two, "fd00:1::2", 64),
        (&one, "10.0.0.2", 63),
        (&one, "fd00::2", 63),
        (&world, "10.244.1.3", 63),
        (&world, "fd00:1::3", 63),
    ] {
        let report = ping(from, &PingRequest::to(ips([to])[0]))?;
        assert!(report.perfect(), "{to}: {report:?}");
        assert_eq!(report.replies[0].ttl, ttl, "{to}");
    }
    Ok(())
}

fn flap() -> Outcome {
    let (a, b) = pair()?;
    let address = ips(["10.0.0.2", "fd00::2"]);
    assert!(ping(&a, &PingRequest::to(address[0]))?.perfect());
    b.set_down("eth0")?;
    let request = PingRequest::to(address[0]).timeout(Duration::from_millis(100));
    assert_eq!(ping(&a, &request)?.received, 0);
    b.set_up("eth0")?;
    b.wait_running("eth0")?;
    a.flap("eth0")?;
    assert!(ping(&a, &PingRequest::to(address[0]))?.perfect());
    // IPv6 addresses go with the link.
    let report = ping(&a, &request.clone())?;
    assert!(report.perfect());
    let gone = ping(&a, &PingRequest::to(address[1]).timeout(Duration::from_millis(100)))?;
    assert_eq!(gone.received, 0, "{gone:?}");
    a.addresses("eth0", &nets(["fd00::1/64"]))?;
    b.addresses("eth0", &nets(["fd00::2/64"]))?;
    assert!(ping(&a, &PingRequest::to(address[1]))?.perfect());
    Ok(())
}

fn errors() -> Outcome {
    let host = Host::new("alpha")?;
    for error in [
        host.set_up("eth7").expect_err("no device"),
        host.mtu("eth7", 1400).expect_err("no device"),
        host.addresses("eth7", &nets(["10.0.0.1/24"])).expect_err("no device"),
        host.feature("eth7", "tx-nocache-copy", true).expect_err("no device"),
        overlay_lab::capture(&host, "eth7").expect_err("no device"),
    ] {
        let text = error.to_string();
        assert!(text.contains("alpha") && text.contains("eth7"), "{text}");
    }
    let error = host.feature("lo", "no-such-feature", true).expect_err("no feature");
    assert!(error.to_string().contains("no-such-feature"), "{error}");
    let start = Instant::now();
    let error =
        host.route(nets(["10.9.0.0/16"])[0], ips(["10.0.0.254"])[0]).expect_err("no network");
    assert!(error.to_string().contains("10.9.0.0/16"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(1));
    Ok(())
}

/// From inside; from another terminal it is the same command, since the process is the same.
fn enter_command() -> Outcome {
    let host = Host::new("host")?;
    let expected = inode(&host);
    let command = host.enter_command();
    if Command::new("nsenter").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Ok(cannot_run("the enter command", "nsenter", "no such program")?);
    }
    // The program is in the user namespace already, which it cannot enter twice.
    let command = command.replace(" --user --preserve-credentials", "");
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .args(["readlink", "/proc/self/ns/net"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.trim(), expected);
    Ok(())
}
