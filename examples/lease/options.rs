//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::{Ipv4Net, Ipv6Net};
use overlay_lease::{NetworkName, NodeId, Subnets};
use serde_json::Value;

use crate::place::Place;

/// Subnet leases: which node of an overlay network owns which subnet, and how it is reached.
///
/// Without a command it shows what leases are, in memory: three nodes get subnets, one moves, one
/// leaves, one comes back.
#[derive(Parser)]
#[command(name = "lease", version, after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Where the leases are: memory:, sqlite:PATH, or etcd:URL with further URLs after commas. A file is
    /// made by init only.
    #[arg(short, long, global = true, default_value = "sqlite:leases.db")]
    pub(crate) store: Place,

    /// Which of several networks in the store; etcd has one without a name, as Flannel does.
    #[arg(short, long, global = true)]
    pub(crate) network: Option<NetworkName>,

    #[command(flatten)]
    pub(crate) etcd: Etcd,

    /// Print JSON: one object, or with watch and acquire one per line. What fails is one as well, on
    /// standard output, with "ok": false, "error" and "hint".
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Args)]
#[command(next_help_heading = "Options for etcd")]
pub(crate) struct Etcd {
    /// The key below which the network is.
    #[arg(long, global = true, value_name = "KEY", default_value = "/coreos.com/network")]
    pub(crate) prefix: String,

    /// The certificates of those who may vouch for the server, in PEM; with https.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Our own certificate, in PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// The key of our own certificate, in PEM.
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Log in as this user.
    #[arg(long, global = true, requires = "password_file")]
    pub(crate) user: Option<String>,

    /// The file with the user's password, whose last line break does not count. There is no option
    /// for the password itself: other users of the machine could see it.
    #[arg(long, global = true, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Say what the network is made of.
    Init(Init),
    /// Show the network and all leases.
    Show(Show),
    /// Take a lease for a node, and keep it until Ctrl-C.
    Acquire(Acquire),
    /// Give a lease back; a reservation is only emptied.
    Release(Release),
    /// Set subnets aside for a node, or for nobody.
    Reserve(Reserve),
    /// Follow what happens, until Ctrl-C.
    Watch(Watch),
}

#[derive(Args)]
pub(crate) struct Init {
    /// The IPv4 network that is cut into subnets; 10.244.0.0/16 if neither family is given.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) ipv4: Option<Ipv4Net>,

    /// The IPv6 network that is cut into subnets.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) ipv6: Option<Ipv6Net>,

    /// The prefix length of a node's IPv4 subnet.
    #[arg(long, value_name = "LENGTH", conflicts_with = "file")]
    pub(crate) ipv4_len: Option<u8>,

    /// The prefix length of a node's IPv6 subnet.
    #[arg(long, value_name = "LENGTH", requires = "ipv6")]
    pub(crate) ipv6_len: Option<u8>,

    /// What carries packets from node to node: vxlan, host-gw, ipip, udp.
    #[arg(long, value_name = "TYPE", default_value = "vxlan")]
    pub(crate) backend: String,

    /// Read all of it from a file in Flannel's format instead; "-" is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ipv4", "ipv6", "backend"])]
    pub(crate) file: Option<PathBuf>,

    /// Replace the configuration that there is. Leases stay.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Args)]
pub(crate) struct Show {
    /// Ask for each lease when it expires, too: a question per lease.
    #[arg(long)]
    pub(crate) expiry: bool,
}

#[derive(Args)]
pub(crate) struct Acquire {
    /// The node's identity; the host's name if not given.
    #[arg(long)]
    pub(crate) node: Option<NodeId>,

    /// Where the node is reached, of each family one; found out if not given.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) address: Vec<IpAddr>,

    /// What its backend wants peers to know, as JSON: '{"VNI":1,"VtepMAC":"0a:58:0a:05:01:00"}'.
    #[arg(long, value_name = "JSON")]
    pub(crate) data: Option<Value>,

    /// How long the lease lives without being renewed: 90s, 10m, 24h.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) ttl: Duration,

    /// Take it and leave it to itself.
    #[arg(long)]
    pub(crate) once: bool,

    /// Give it back at Ctrl-C. Otherwise it lives on until it expires, and the node gets it again.
    #[arg(long, conflicts_with = "once")]
    pub(crate) release: bool,
}

#[derive(Args)]
pub(crate) struct Release {
    /// The node whose lease it is; the host's name if neither is given.
    #[arg(long)]
    pub(crate) node: Option<NodeId>,

    /// The subnets of the lease, whoever has it: 10.244.1.0/24 or 10.244.1.0/24,fd00:0:0:1::/64.
    #[arg(conflicts_with = "node")]
    pub(crate) subnets: Option<Subnets>,

    /// Remove it even if it is a reservation.
    #[arg(long)]
    pub(crate) reservation: bool,
}

#[derive(Args)]
pub(crate) struct Reserve {
    /// The subnets: 10.244.1.0/24 or 10.244.1.0/24,fd00:0:0:1::/64.
    pub(crate) subnets: Subnets,

    /// For whom. Without it, nobody gets them.
    #[arg(long)]
    pub(crate) node: Option<NodeId>,
}

#[derive(Args)]
pub(crate) struct Watch {
    /// End after this many changes.
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  lease
  lease init --ipv4 10.244.0.0/16 --ipv6 fd00:244::/48
  lease acquire --node a --address 192.0.2.1 --once && lease show
  lease --store etcd:http://127.0.0.1:2379 watch
  lease --store etcd:https://10.0.0.1:2379,https://10.0.0.2:2379 --ca ca.pem show --json

Exit status: 0 when it was done, 1 when it could not be done, 2 when the arguments are wrong.
Ctrl-C ends watch and acquire with 0: there is no other end to them.";

/// A number and a unit, as in 90s, 10m, 24h, 7d.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?}: expected a number and a unit, as in 90s, 10m, 24h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds).map(Duration::from_secs) {
        Some(time) if (1..=365 * 86_400).contains(&time.as_secs()) => Ok(time),
        _ => Err(format!("{text:?}: expected 1 second to 365 days")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Options::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in
            ["", "s", "5", "5w", "-5s", "0s", "1.5h", "366d", "99999999999999999999s", "5µ"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
