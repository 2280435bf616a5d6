//! What is said between this program and itself inside the machines.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_backend::{BackendData, Peer};
use overlay_wire::IpVersion;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a machine is asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Work out what a backend takes. Answered by an [`Announced`], or why it cannot be.
    Prepare { backend: String, ipv6: bool },
    /// Hear of the peers. Answered by the commands that would do what is to be done, or why that cannot be.
    Plan(Vec<Announced>),
    /// Start what carries packets, if it is not the kernel. Answered as `Prepare`.
    Start,
    /// Hear of the peers and do it. Answered by the MTU that containers should have, or why it cannot be done.
    Join(Vec<Announced>),
    /// Give the container this MTU.
    Mtu(u32),
    /// Begin to look at what crosses `eth0`.
    Watch,
    /// Ping from the host or its container. Answered by [`Pings`](overlay_examples::Pings).
    Ping { from: Sender, to: IpAddr },
    /// What a ping and its answer looked like on `eth0`. Answered by two [`Seen`](overlay_examples::Seen).
    Seen { src: IpAddr, dst: IpAddr },
    /// The path MTU from the host or its container.
    PathMtu { from: Sender, to: IpAddr },
    /// Undo it all. Answered by what was carried, in lines.
    Clear,
    /// Write all that has crossed `eth0` to a file.
    Save,
}

/// Who sends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Sender {
    Host,
    Container,
}

/// A peer, as a store would keep it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Announced {
    id: String,
    subnets: Vec<IpNet>,
    endpoints: Vec<IpAddr>,
    v4: Option<Value>,
    v6: Option<Value>,
}

impl From<Peer> for Announced {
    fn from(Peer { id, subnets, endpoints, data: BackendData { v4, v6 } }: Peer) -> Self {
        Self { id: id.to_string(), subnets, endpoints, v4, v6 }
    }
}

impl From<Announced> for Peer {
    fn from(Announced { id, subnets, endpoints, v4, v6 }: Announced) -> Self {
        Self { id: id.into(), subnets, endpoints, data: BackendData { v4, v6 } }
    }
}

/// The family, for which JSON has no word of its own.
pub(crate) const fn version(ipv6: bool) -> IpVersion {
    if ipv6 { IpVersion::V6 } else { IpVersion::V4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_arrives_as_it_was_announced() {
        let data = BackendData::of(IpVersion::V4, serde_json::json!({ "VNI": 1 }));
        let peer = Peer {
            id: "vm1".into(),
            subnets: vec!["172.245.0.0/24".parse().unwrap(), "fd00:245::/64".parse().unwrap()],
            endpoints: vec!["192.168.32.245".parse().unwrap()],
            data,
        };
        let text =
            serde_json::to_string(&Command::Plan(vec![Announced::from(peer.clone())])).unwrap();
        let Command::Plan(peers) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert_eq!(peers.into_iter().map(Peer::from).collect::<Vec<_>>(), [peer]);
    }
}
