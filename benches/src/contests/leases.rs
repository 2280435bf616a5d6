//! Leases for many nodes at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use overlay_lease::{Store, acquire};
use overlay_lease_etcd::{EtcdOptions, EtcdStore};

use super::thousands;
use crate::Contest;
use crate::bare::Bare;
use crate::stores::{Kind, Stores, attributes, config, ensure_distinct, fill, request};

/// How many nodes ask at once.
const IN_FLIGHT: usize = 256;
/// Over how many connections.
const CONNECTIONS: usize = 4;

/// Nodes that get their leases from one etcd, 256 at a time: each looks where it stands, tries subnets, and has them;
/// beside transactions that write as much under keys of which everybody knows that they are free.
///
/// # Errors
/// When there is no etcd.
pub fn etcd_acquire(nodes: u32) -> Result<Contest<Stores>> {
    let title = format!("{} nodes get a lease from etcd, {IN_FLIGHT} at a time", thousands(nodes));
    let (ours, bare) = ("overlay-lease-etcd, `acquire`", "bare grants and transactions");
    Ok(Contest::in_stores("etcd-acquire", title, nodes, Stores::new()?)
        .with(ours, move |stores| acquire_all(stores, nodes))
        .with(bare, move |stores| bare_all(stores, nodes))
        .within(ours, bare, 1.5))
}

/// Leases made in an SQLite file, each durable before the next step of whoever asked for it.
///
/// # Errors
/// When there is no etcd, which shares the place.
pub fn sqlite_create(leases: u32) -> Result<Contest<Stores>> {
    let title = format!("{} leases are made in an SQLite file", thousands(leases));
    Ok(Contest::in_stores("sqlite-create", title, leases, Stores::new()?)
        .with("overlay-lease-sqlite, 64 at a time", move |stores| {
            let store = stores.open(Kind::Sqlite)?;
            let start = Instant::now();
            let made = stores.runtime.block_on(fill(&store, leases))?;
            let time = start.elapsed();
            ensure_distinct(&made, leases).map(|()| time)
        })
        .with("overlay-lease-sqlite, one after the other", move |stores| {
            let store = stores.open(Kind::Sqlite)?;
            let requests = (0..leases).map(request).collect::<Result<Vec<_>>>()?;
            stores.runtime.block_on(async {
                let start = Instant::now();
                for request in &requests {
                    acquire(&store, request).await?;
                }
                Ok(start.elapsed())
            })
        }))
}

fn acquire_all(stores: &mut Stores, nodes: u32) -> Result<Duration> {
    let options = EtcdOptions::parse(&stores.etcd_url())?;
    let requests = (0..nodes).map(request).collect::<Result<Vec<_>>>()?;
    stores.runtime.block_on(async {
        let clients =
            (0..CONNECTIONS).map(|_| EtcdStore::new(&options)).collect::<Result<Vec<_>, _>>()?;
        clients[0].configure(&config()?, None).await?;
        for client in &clients {
            client.config().await?;
        }
        let start = Instant::now();
        let asked = stream::iter(requests.iter().enumerate());
        let leases: Vec<_> = asked
            .map(|(at, request)| acquire(&clients[at % CONNECTIONS], request))
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await?;
        let time = start.elapsed();
        ensure_distinct(&leases, nodes)?;
        ensure_distinct(&clients[0].snapshot().await?.leases, nodes).map(|()| time)
    })
}

fn bare_all(stores: &mut Stores, nodes: u32) -> Result<Duration> {
    let url = stores.etcd_url();
    let values: Vec<_> = (0..nodes)
        .map(|number| serde_json::to_vec(&attributes(number).to_json()))
        .collect::<Result<_, _>>()?;
    stores.runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Bare::connect(&url).await?);
        }
        let start = Instant::now();
        let made: Vec<_> = stream::iter(values.into_iter().enumerate())
            .map(|(at, value)| {
                clients[at % CONNECTIONS].clone().create(format!("/bare/{at}"), value)
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await
            .context("a transaction")?;
        let time = start.elapsed();
        ensure!(made.len() == nodes as usize && made.iter().all(|made| *made), "a key was there");
        Ok(time)
    })
}
