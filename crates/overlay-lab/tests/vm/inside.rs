//! What is done inside the machines.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use overlay_lab::vm::Function;
use overlay_lab::{Host, PingRequest, ping};
use overlay_netlink::{Gre, IfName, Link, LinkKind, Socket, Tunnel};

type Outcome = Result<(), Box<dyn std::error::Error>>;

pub(crate) const FUNCTIONS: [Function; 5] = [
    ("uname", |_| told(uname())),
    ("tunnels", |_| told(tunnels())),
    ("configure", |arguments| told(configure(arguments))),
    ("ping", |arguments| told(pinged(arguments))),
    ("sleep", |_| {
        println!("good night");
        thread::sleep(Duration::from_secs(600));
        Ok(())
    }),
];

fn told(outcome: Outcome) -> Result<(), String> {
    outcome.map_err(|error| error.to_string())
}

fn uname() -> Outcome {
    println!("{}", std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    println!("{}", std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim());
    Ok(())
}

/// Makes a device of each kind and prints the kinds that the kernel says they are of.
fn tunnels() -> Outcome {
    let over = |local: &str, remote: &str| -> Result<Box<Tunnel>, Box<dyn std::error::Error>> {
        let mut tunnel = Tunnel::new();
        tunnel.local = Some(local.parse()?);
        tunnel.remote = Some(remote.parse()?);
        Ok(Box::new(tunnel))
    };
    let mut gre = Gre::new(false);
    gre.local = Some("10.0.0.1".parse()?);
    gre.remote = Some("10.0.0.9".parse()?);
    let mut socket = Socket::open()?;
    for (number, kind) in [
        LinkKind::Ipip(over("10.0.0.1", "10.0.0.9")?),
        LinkKind::Sit(over("10.0.0.1", "10.0.0.9")?),
        LinkKind::Ip6tnl(over("fd00::1", "fd00::9")?),
        LinkKind::Gre(Box::new(gre)),
    ]
    .into_iter()
    .enumerate()
    {
        let name: IfName = format!("tunnel{number}").parse()?;
        let wanted: Link = Link::new(name, kind);
        socket.add(&wanted)?;
        println!("{}", socket.link(&name)?.kind.name());
    }
    Ok(())
}

/// Gives a device addresses, and prints its MAC address.
fn configure(arguments: &[String]) -> Outcome {
    let [device, addresses @ ..] = arguments else { return Err("no device".into()) };
    let host = Host::here("machine")?;
    host.set_up(device)?;
    for address in addresses {
        host.addresses(device, &[address.parse()?])?;
    }
    host.wait_running(device)?;
    println!("{}", host.mac(device)?.ok_or("no MAC address")?);
    Ok(())
}

fn pinged(arguments: &[String]) -> Outcome {
    let host = Host::here("machine")?;
    for address in arguments {
        let to: IpAddr = address.parse()?;
        let request = PingRequest::to(to).count(3).timeout(Duration::from_secs(5));
        let report = ping(&host, &request)?;
        println!("{address} {}", report.received);
    }
    Ok(())
}
