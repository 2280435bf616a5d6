//! Networks and their configuration.

use super::client::{Client, at_once, check, reconfigured, same, text};
use super::ledger::{Follower, Ledger};
use super::sample::{LONG, blue, claim, config, dual, node, red};
use super::{Broken, Testbed};
use crate::lease::Revision;
use crate::store::{ConfigureError, Store};

pub(super) async fn a_new_network_is_empty<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let client = Client::new(testbed, &red()).await?;
    same("reading the configuration", &None, &client.config().await?)?;
    let snapshot = client.snapshot().await?;
    let empty = snapshot.config.is_none() && snapshot.leases.is_empty();
    check(empty, "reading everything", "nothing", format_args!("{snapshot:?}"))?;
    let standing = client.standing(&node(1)).await?;
    let empty = standing.config.is_none() && standing.lease.is_none() && standing.last.is_none();
    check(empty, "asking what a node has", "nothing", format_args!("{standing:?}"))?;
    let tenants = super::client::succeeds("reading the tenants", client.store.tenants()).await?;
    same("reading the tenants", &Vec::new(), &tenants)
}

pub(super) async fn configuring_is_fenced<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, other) = (Client::new(testbed, &red()).await?, Client::new(testbed, &red()).await?);
    reconfigured(&one, Some(Revision::new(1)), None).await?;
    let first = one.configure(&config(), None).await?;
    same("configuring", &config(), &first.config)?;
    for client in [&one, &other] {
        same("reading the configuration", &Some(first.clone()), &client.config().await?)?;
        let snapshot = client.snapshot().await?;
        same("the configuration in a snapshot", &Some(first.clone()), &snapshot.config)?;
        let standing = client.standing(&node(1)).await?;
        same("the configuration in a node's standing", &Some(first.clone()), &standing.config)?;
    }
    reconfigured(&other, None, Some(&first)).await?;
    reconfigured(&other, Some(first.revision.next()), Some(&first)).await?;
    let second = other.configure(&config(), Some(first.revision)).await?;
    check(
        second.revision > first.revision,
        "configuring again",
        format_args!("a later revision than {}", first.revision),
        second.revision,
    )?;
    reconfigured(&one, Some(first.revision), Some(&second)).await?;
    same("reading the configuration", &Some(second), &one.config().await?)
}

pub(super) async fn of_several_configurations_one_is_made<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let results =
        at_once(
            testbed,
            &red(),
            16,
            |store, _| async move { store.configure(&config(), None).await },
        )
        .await?;
    let step = "configuring a network 16 times at once";
    let made: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let [one] = made[..] else {
        return Err(Broken::new(step, "one success", format_args!("{results:?}")));
    };
    for result in &results {
        match result {
            Ok(_) => {}
            Err(ConfigureError::Reconfigured(Some(found))) if found == one => {}
            other => {
                return Err(Broken::new(step, format_args!("refused: {one:?}"), text(other)));
            }
        }
    }
    Ok(())
}

pub(super) async fn configuring_leaves_leases_alone<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, first) = Client::configured(testbed, &red()).await?;
    let lease = client.create(&claim(dual(1), 1, LONG, &first)).await?;
    let second = client.configure(&config(), Some(first.revision)).await?;
    let standing = client.standing(&node(1)).await?;
    same("the lease after configuring", &Some(lease.clone()), &standing.lease)?;
    client.taken(&claim(dual(1), 2, LONG, &second), &lease).await?;
    client.renew(&lease).await
}

pub(super) async fn networks_do_not_see_each_other<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let here = Client::new(testbed, &red()).await?;
    let mut ledger = Ledger::default();
    let start = here.snapshot().await?.revision;
    let mut watch = Follower::new(&here, start, 0).await?;

    let (there, configured) = Client::configured(testbed, &blue()).await?;
    let lease = there.create(&claim(dual(1), 1, LONG, &configured)).await?;
    same("the configuration of another network", &None, &here.config().await?)?;
    let snapshot = here.snapshot().await?;
    let empty = snapshot.config.is_none() && snapshot.leases.is_empty();
    check(empty, "reading everything of another network", "nothing", format_args!("{snapshot:?}"))?;

    let configured = here.configure(&config(), None).await?;
    ledger.config(&configured);
    let twin = here.create(&claim(dual(1), 1, LONG, &configured)).await?;
    ledger.lease(&twin);
    there.remove(&lease).await?;
    here.renew(&twin).await?;
    same(
        "the lease after removing that of the same subnets in another network",
        &vec![twin.clone()],
        &here.snapshot().await?.leases,
    )?;
    here.remove(&twin).await?;
    ledger.gone(twin.subnets);
    watch.catch_up(&ledger).await
}
