//! What leases are, shown in memory.

use std::net::IpAddr;
use std::time::Duration;

use overlay_lease::{
    AnyStore, Attributes, Endpoints, Follower, MemoryStore, NetworkConfig, NodeId, Request, Store,
    acquire, release, reserve,
};
use serde_json::json;

use crate::out::Out;
use crate::{show, table, watch};

/// Three nodes get subnets, one moves, one leaves, one comes back; somebody who follows the network tells.
pub(crate) async fn run(out: &Out) -> anyhow::Result<()> {
    let store = AnyStore::new(MemoryStore::new());
    let mut follower = Follower::new(store.clone());
    let mut step = async |what: &str| -> anyhow::Result<()> {
        out.say(format!("\n{what}"))?;
        for difference in follower.next().await.differences {
            out.say(format!("  {}", watch::text(&difference)))?;
        }
        Ok(())
    };

    let config = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:244::/48","Backend":{"Type":"vxlan","VNI":1}}"#;
    store.configure(&NetworkConfig::from_json(config)?, None).await?;
    step("A network is configured, as for Flannel. Each node is going to have a subnet of each family.").await?;

    let mut before = Vec::new();
    for (name, address) in
        [("a", [192, 168, 32, 245]), ("b", [192, 168, 32, 246]), ("c", [192, 168, 32, 247])]
    {
        before.push(acquire(&store, &request(name, address.into())?).await?);
        step(&format!("Node {name} asks for a lease.")).await?;
    }

    acquire(&store, &request("b", [192, 168, 33, 1].into())?).await?;
    step("Node b has got another address. It keeps its subnets.").await?;

    release(&store, &before[2]).await?;
    step("Node c leaves. First nobody sends to it any more, then its subnets are free.").await?;

    let reserved = "10.244.7.0/24,fd00:244:0:7::/64".parse()?;
    reserve(&store, reserved, Some(NodeId::new("d")?)).await?;
    step("Subnets are reserved for a node that is yet to come.").await?;

    let again = acquire(&store, &request("c", [192, 168, 32, 247].into())?).await?;
    step("Node c comes back, and gets the subnets that it had.").await?;
    anyhow::ensure!(again.subnets == before[2].subnets, "node c got other subnets: {again:?}");

    acquire(&store, &request("d", [192, 168, 32, 248].into())?).await?;
    step("Node d comes.").await?;

    let mut snapshot = store.snapshot().await?;
    snapshot.leases.sort_by_key(|lease| lease.subnets);
    out.say(format!("\n{}", table::leases(&snapshot, &[])))?;
    out.say("\nlease --help tells how to do this with a database that several nodes share.")?;
    out.tell(|| json!(show::object(&snapshot, &[])))
}

fn request(name: &str, address: IpAddr) -> anyhow::Result<Request> {
    const DAY: Duration = Duration::from_secs(86_400);
    Ok(Request::new(NodeId::new(name)?, Attributes::new(Endpoints::at([address]), "vxlan"), DAY))
}
