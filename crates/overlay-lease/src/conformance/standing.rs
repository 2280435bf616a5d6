//! What a store tells a node, and what it remembers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use super::client::{Client, check, same, succeeds};
use super::sample::{LONG, attributes, claim, dual, node, red, v4, v6};
use super::{Broken, Testbed};
use crate::family::Subnets;
use crate::name::NodeId;
use crate::store::{Claim, LATE, Store};

pub(super) async fn a_node_learns_what_it_has<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    for number in 1..4 {
        one.create(&claim(dual(10 + number), 10 + usize::from(number), LONG, &configured)).await?;
    }
    let lease = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
    for (lease, number) in [(Some(lease.clone()), 1), (None, 2)] {
        let standing = other.standing(&node(number)).await?;
        same("the configuration", &Some(configured.clone()), &standing.config)?;
        same("the lease", &lease, &standing.lease)?;
    }
    let lease = one.update(&lease, &attributes(7), None).await?;
    same("the lease", &Some(lease.clone()), &other.standing(&node(1)).await?.lease)?;
    one.remove(&lease).await?;
    same("the lease", &None, &other.standing(&node(1)).await?.lease)?;
    // Names that are like each other are different ones.
    let names = ["Node", "node", "node.", "node%", "no_e", "node\\", "*", "[::1]", "a:b@c'\"&-"];
    for (name, number) in names.into_iter().zip(0..) {
        let node =
            NodeId::new(name).map_err(|error| Broken::new("naming a node", "a name", error))?;
        same("the lease of a new node", &None, &other.standing(&node).await?.lease)?;
        let claim =
            Claim { node: Some(node.clone()), ..claim(dual(100 + number), 1, LONG, &configured) };
        let lease = one.create(&claim).await?;
        same("the node", &Some(node.clone()), &lease.node)?;
        same("its lease", &Some(lease.clone()), &other.standing(&node).await?.lease)?;
    }
    Ok(())
}

pub(super) async fn what_is_remembered_is_right<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let mut last: BTreeMap<NodeId, Subnets> = BTreeMap::new();
    let held = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
    last.insert(node(1), held.subnets);
    let ttl = Duration::from_secs(2);
    let expires = one.create(&claim(dual(2), 2, Some(ttl), &configured)).await?;
    last.insert(node(2), expires.subnets);
    for subnets in [v4(3).into(), v6(4).into(), dual(5)] {
        let released = one.create(&claim(subnets, 3, LONG, &configured)).await?;
        one.remove(&released).await?;
        last.insert(node(3), subnets);
    }
    // The subnets of a node that is gone go to another: both had them last.
    let passed_on = one.create(&claim(dual(5), 4, LONG, &configured)).await?;
    last.insert(node(4), passed_on.subnets);
    remembers(&other, &last).await?;
    sleep(expires.ttl.unwrap_or(ttl) + LATE).await;
    same("the lease after it expired", &None, &one.standing(&node(2)).await?.lease)?;
    remembers(&other, &last).await
}

async fn remembers<S: Store + 'static>(
    client: &Client<S>,
    last: &BTreeMap<NodeId, Subnets>,
) -> Result<(), Broken> {
    for (node, subnets) in last {
        let found = client.standing(node).await?.last;
        check(
            found.is_none_or(|found| found == *subnets),
            format_args!("asking what {node} had last"),
            format_args!("{subnets}, or nothing"),
            format_args!("{found:?}"),
        )?;
    }
    let tenants = succeeds("reading the tenants", client.store.tenants()).await?;
    let mut seen = BTreeMap::new();
    for tenant in &tenants {
        check(
            last.get(&tenant.node) == Some(&tenant.subnets),
            format_args!("reading what {} had last", tenant.node),
            format_args!("{:?}", last.get(&tenant.node)),
            format_args!("{tenant:?}"),
        )?;
        let twice = seen.insert(&tenant.node, tenant);
        check(
            twice.is_none(),
            "reading the tenants",
            "each node once",
            format_args!("{tenants:?}"),
        )?;
    }
    Ok(())
}
