//! The crate rtnetlink.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::{Lab, Prefixes};

/// Runs something with an open connection inside the host of `lab`, on a runtime of one thread: that is faster
/// than two, since the kernel does the work inside the sending call.
fn connected<T: Send>(lab: &Lab, work: impl AsyncFnOnce(Handle) -> Result<T> + Send) -> Result<T> {
    lab.host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            work(handle).await
        })
    })
}

/// Adds a route for each prefix by way of one gateway, with so many requests under way at a time.
pub(crate) fn add(
    lab: &Lab,
    prefixes: Prefixes,
    gateway: Ipv4Addr,
    flying: usize,
) -> Result<Duration> {
    let dev = lab.uplink.0;
    connected(lab, async |handle| {
        let start = Instant::now();
        let requests = prefixes.iter().map(|prefix| {
            let message = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(prefix.addr(), prefix.prefix_len())
                .gateway(gateway)
                .output_interface(dev)
                .protocol(RouteProtocol::Static)
                .build();
            handle.route().add(message).execute()
        });
        stream::iter(requests).buffer_unordered(flying).try_collect::<()>().await?;
        Ok(start.elapsed())
    })
}

/// Deletes the routes for the prefixes at `indices`, in this order.
pub(crate) fn delete(lab: &Lab, indices: Vec<u32>, flying: usize) -> Result<Duration> {
    connected(lab, async |handle| {
        let start = Instant::now();
        let requests = indices.iter().map(|index| {
            let prefix = Prefixes::at(*index);
            let message = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(prefix.addr(), prefix.prefix_len())
                .build();
            handle.route().del(message).execute()
        });
        stream::iter(requests).buffer_unordered(flying).try_collect::<()>().await?;
        Ok(start.elapsed())
    })
}

/// Lists the IPv4 routes. `count` of them must be there.
pub(crate) fn list(lab: &Lab, count: usize) -> Result<Duration> {
    connected(lab, async |handle| {
        let filter = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let start = Instant::now();
        let routes: Vec<RouteMessage> =
            handle.route().get(filter).execute().try_collect().await.context("list routes")?;
        let time = start.elapsed();
        let found =
            routes.iter().filter(|route| route.header.protocol == RouteProtocol::Static).count();
        ensure!(found == count, "{found} routes, not {count}");
        Ok(time)
    })
}
