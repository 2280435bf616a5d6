//! Takes a lease for a node, and keeps it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::Context;
use overlay_lease::{
    AnyStore, Attributes, BootInstant, ByFamily, Endpoints, Family, Keeper, NodeId, Request,
    Status, Store, acquire,
};
use serde_json::{Value, json};

use crate::error::{Problem, chain};
use crate::options::Acquire;
use crate::out::Out;
use crate::table::{lease_json, line, rough};

pub(crate) async fn run(store: AnyStore, options: &Acquire, out: &Out) -> anyhow::Result<()> {
    let request = request(&store, options).await?;
    if options.once {
        let lease = acquire(&store, &request).await?;
        out.say(line(&lease))?;
        return out.tell(|| json!({"ok": true, "lease": lease_json(&lease)}));
    }
    let keeper = Keeper::start(store, request);
    let mut statuses = keeper.statuses();
    let mut told = String::new();
    loop {
        let now = statuses.now();
        // Renewals change nothing but the time, which is not worth a line.
        if text(&now) != told {
            told = text(&now);
            out.say(&told)?;
            out.tell(|| object(&now))?;
        }
        tokio::select! {
            changed = statuses.changed() => if changed.is_none() { break },
            ended = crate::interrupted() => {
                ended?;
                break;
            }
        }
    }
    let stopped = tokio::select! {
        stopped = keeper.stop(options.release) => stopped,
        ended = crate::interrupted() => return ended,
    };
    out.say(text(&stopped))?;
    out.tell(|| object(&stopped))?;
    match stopped {
        Status::Stopped { error: Some(error) } => {
            Err(anyhow::Error::new(error).context("the lease is not released"))
        }
        _ => Ok(()),
    }
}

async fn request(store: &AnyStore, options: &Acquire) -> anyhow::Result<Request> {
    let config = store.config().await?.ok_or(Problem::NotConfigured)?;
    let kind = config.config.backend().kind();
    let addresses =
        if options.address.is_empty() { own_addresses() } else { options.address.clone() };
    for (family, is) in
        [(Family::V4, IpAddr::is_ipv4 as fn(&_) -> _), (Family::V6, IpAddr::is_ipv6)]
    {
        if addresses.iter().filter(|address| is(address)).count() > 1 {
            return Err(Problem::Addresses(family).into());
        }
    }
    let endpoints = Endpoints::at(addresses);
    if endpoints.is_empty() {
        return Err(Problem::NoAddress.into());
    }
    let mut attributes = Attributes::new(endpoints, kind);
    attributes.data = ByFamily {
        v4: options.data.clone().filter(|_| endpoints.v4.is_some()),
        v6: options.data.clone().filter(|_| endpoints.v6.is_some()),
    };
    Ok(Request::new(node(options.node.as_ref())?, attributes, options.ttl))
}

/// The node that was named, or the one that has the name of this host.
pub(crate) fn node(named: Option<&NodeId>) -> anyhow::Result<NodeId> {
    if let Some(node) = named {
        return Ok(node.clone());
    }
    let name = rustix::system::uname();
    let name = name.nodename().to_str().context("the host's name is not text")?;
    NodeId::new(name).context("the host's name")
}

/// The addresses from which this host would send to the rest of the world. Nothing is sent.
fn own_addresses() -> Vec<IpAddr> {
    let source = |any: IpAddr, far: IpAddr| {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(SocketAddr::new(far, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    // Addresses of documentation and of the v6 twin of it: RFC 5737, RFC 3849.
    let v4 = source(IpAddr::from([0; 4]), IpAddr::from([192, 0, 2, 1]));
    let v6 =
        source(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    v4.into_iter().chain(v6).collect()
}

fn text(status: &Status) -> String {
    match status {
        Status::Acquiring { lost: None, error: None, .. } => "asking for a lease".into(),
        Status::Acquiring { error: Some(error), failures, .. } => {
            format!("no lease after {failures} attempts: {}", chain(&**error))
        }
        Status::Acquiring { lost: Some(lost), successor, .. } => match successor {
            Some(successor) => format!("lost {}: it is now {}", lost.subnets, line(successor)),
            None => format!("lost {}: asking for it again", lost.subnets),
        },
        Status::Held { lease, moved_from: Some(from), .. } => {
            format!("moved from {from}: {}", line(lease))
        }
        Status::Held { lease, contested: Some(theirs), .. } => {
            let node = theirs.node.as_ref().map_or("the node", NodeId::as_str);
            format!(
                "held: {}; but somebody else is {node} as well, and writes: {}. Give one of both another --node",
                line(lease),
                line(theirs)
            )
        }
        Status::Held { lease, .. } => format!("held: {}", line(lease)),
        Status::Unconfirmed { lease, until, error, .. } => {
            let now = BootInstant::now();
            let left = until.map(|until| rough(until.saturating_duration_since(now)));
            let left = left.map_or_else(|| "for good".into(), |left| format!("for {left}"));
            format!(
                "{} is still ours {left}, but cannot be renewed: {}",
                lease.subnets,
                chain(&**error)
            )
        }
        Status::Expired { lease, .. } => {
            format!(
                "{} could not be renewed in time, and may be somebody else's by now",
                lease.subnets
            )
        }
        Status::Releasing => "giving the lease back".into(),
        Status::Stopped { error: None } => "no longer kept".into(),
        Status::Stopped { error: Some(error) } => format!("no longer kept: {}", chain(&**error)),
        other => format!("{other:?}"),
    }
}

fn object(status: &Status) -> Value {
    let contested = match status {
        Status::Held { contested, .. } => contested.as_deref(),
        _ => None,
    };
    let (event, lease, error) = match status {
        Status::Acquiring { lost, error, .. } => ("acquiring", lost.as_ref(), error.as_ref()),
        Status::Held { lease, .. } => ("held", Some(lease), None),
        Status::Unconfirmed { lease, error, .. } => ("unconfirmed", Some(lease), Some(error)),
        Status::Expired { lease, error, .. } => ("expired", Some(lease), error.as_ref()),
        Status::Releasing => ("releasing", None, None),
        Status::Stopped { error } => ("stopped", None, error.as_ref()),
        _ => ("other", None, None),
    };
    json!({
        "event": event,
        "lease": lease.map(|lease| lease_json(lease)),
        "contested": contested.map(lease_json),
        "error": error.map(|error| chain(&**error)),
    })
}
