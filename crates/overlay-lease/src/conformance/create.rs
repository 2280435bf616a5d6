//! Making leases.

use std::sync::Arc;

use super::client::{Client, Created, at_once, bounded, check, same, text};
use super::sample::{LONG, claim, config, dual, node, red, v4, v4_of_length, v6, v6_of_length};
use super::{Broken, Testbed};
use crate::attributes::Attributes;
use crate::config::Configured;
use crate::family::Subnets;
use crate::history::grants;
use crate::lease::Lease;
use crate::name::NodeId;
use crate::store::{Claim, CreateError, Store};

/// How many claim something at once.
const CROWD: usize = 24;

pub(super) async fn a_lease_is_as_claimed<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let mut before = configured.revision;
    let mut leases = Vec::new();
    let subnets: [Subnets; 3] = [v4(1).into(), v6(2).into(), dual(3)];
    for (number, subnets) in subnets.into_iter().enumerate() {
        let claim = claim(subnets, number, LONG, &configured);
        let step = format!("claiming {subnets} for {}", node(number));
        let lease = one.create(&claim).await?;
        same(&step, &subnets, &lease.subnets)?;
        same(&step, &claim.node, &lease.node)?;
        same(&step, &claim.attributes, &lease.attributes)?;
        check(
            grants(claim.ttl, lease.ttl),
            &step,
            format_args!("a time to live of {:?} or less than 1 s more", claim.ttl),
            format_args!("{:?}", lease.ttl),
        )?;
        check(
            lease.created > before,
            &step,
            format_args!("a later revision than {before}"),
            lease.created,
        )?;
        same(&step, &lease.created, &lease.revision)?;
        before = lease.revision;
        for client in [&one, &other] {
            let standing = client.standing(&node(number)).await?;
            same("the lease in its node's standing", &Some(lease.clone()), &standing.lease)?;
        }
        leases.push(lease);
    }
    for client in [&one, &other] {
        let mut snapshot = client.snapshot().await?;
        check(
            snapshot.revision >= before,
            "reading everything",
            format_args!("revision {before} or a later one"),
            snapshot.revision,
        )?;
        snapshot.leases.sort_by_key(|lease| lease.revision);
        same("reading everything", &leases, &snapshot.leases)?;
    }
    Ok(())
}

pub(super) async fn leases_do_not_overlap<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let only_v4 = one.create(&claim(v4(1), 1, LONG, &configured)).await?;
    let only_v6 = one.create(&claim(v6(2), 2, LONG, &configured)).await?;
    let both = one.create(&claim(dual(3), 3, LONG, &configured)).await?;
    let claims: [(Subnets, &Lease); 10] = [
        (v4(1).into(), &only_v4),
        (dual(1), &only_v4),
        ((v4(1), v6(9)).into(), &only_v4),
        (v6(2).into(), &only_v6),
        (dual(2), &only_v6),
        ((v4(9), v6(2)).into(), &only_v6),
        (v4(3).into(), &both),
        (v6(3).into(), &both),
        ((v4(3), v6(9)).into(), &both),
        ((v4(9), v6(3)).into(), &both),
    ];
    for (subnets, holder) in claims {
        for client in [&one, &other] {
            client.taken(&claim(subnets, 9, LONG, &configured), holder).await?;
        }
    }
    // What was refused has left nothing behind.
    let standing = other.standing(&node(9)).await?;
    same("the lease of a node whose claims were refused", &None, &standing.lease)?;
    for subnets in [v6(1).into(), v4(2).into(), dual(9)] {
        let lease = one.create(&claim(subnets, 9, LONG, &configured)).await?;
        one.remove(&lease).await?;
    }
    Ok(())
}

pub(super) async fn subnets_of_other_lengths_overlap<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (client, first) = Client::configured(testbed, &red()).await?;
    let both = client.create(&claim(dual(4), 1, LONG, &first)).await?;
    let second = client.configure(&config(), Some(first.revision)).await?;
    let claims: [Subnets; 6] = [
        v4_of_length(4, 26).into(),
        v4_of_length(4, 22).into(),
        v6_of_length(4, 66).into(),
        v6_of_length(4, 62).into(),
        (v4(9), v6_of_length(4, 62)).into(),
        (v4_of_length(4, 22), v6(9)).into(),
    ];
    for subnets in claims {
        if client.standing(&node(2)).await?.may_guess {
            client.taken(&claim(subnets, 2, LONG, &second), &both).await?;
        }
    }
    Ok(())
}

pub(super) async fn a_node_has_at_most_one_lease<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (one, configured) = Client::configured(testbed, &red()).await?;
    let other = Client::new(testbed, &red()).await?;
    let held = one.create(&claim(dual(1), 1, LONG, &configured)).await?;
    for client in [&one, &other] {
        for subnets in [dual(2), v4(2).into(), v6(2).into()] {
            client.holds(&claim(subnets, 1, LONG, &configured), &held).await?;
        }
        // The very same subnets: those who cannot know whether they got them ask again.
        let again = claim(dual(1), 1, LONG, &configured);
        match bounded("claiming again what one has", client.store.create(&again)).await? {
            Err(CreateError::Taken(found) | CreateError::Holds(found)) if found == held => {}
            other => {
                let expected = format!("refused, as there is {held:?}");
                return Err(Broken::new("claiming again what one has", expected, text(&other)));
            }
        }
    }
    // A reservation is a lease, too.
    let reserved = one.create(&claim(dual(3), 3, None, &configured)).await?;
    other.holds(&claim(dual(4), 3, LONG, &configured), &reserved).await?;
    same("the leases", &2, &one.snapshot().await?.leases.len())
}

pub(super) async fn a_claim_holds_under_its_configuration<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let client = Client::new(testbed, &red()).await?;
    let nothing = Configured { config: Arc::new(config()), revision: Default::default() };
    refused(&client, &claim(dual(1), 1, LONG, &nothing), None).await?;
    let first = client.configure(&config(), None).await?;
    refused(&client, &claim(dual(1), 1, LONG, &nothing), Some(&first)).await?;
    let second = client.configure(&config(), Some(first.revision)).await?;
    refused(&client, &claim(dual(1), 1, LONG, &first), Some(&second)).await?;
    same("the leases", &Vec::new(), &client.snapshot().await?.leases)?;
    client.create(&claim(dual(1), 1, LONG, &second)).await.map(drop)
}

async fn refused<S: Store>(
    client: &Client<S>,
    claim: &Claim,
    now: Option<&Configured>,
) -> Result<(), Broken> {
    let step = format!("claiming {} under configuration {}", claim.subnets, claim.under);
    match bounded(&step, client.store.create(claim)).await? {
        Err(CreateError::Reconfigured(found)) if found.as_ref() == now => Ok(()),
        other => Err(Broken::new(step, format!("refused, as there is {now:?}"), text(&other))),
    }
}

pub(super) async fn subnets_are_reserved_for_nobody<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let mut reservations = Vec::new();
    for subnets in [dual(1), dual(2), v4(3).into()] {
        let reservation = Claim {
            node: None,
            attributes: Attributes::default(),
            ..claim(subnets, 1, None, &configured)
        };
        let lease = client.create(&reservation).await?;
        same("the node of a reservation for nobody", &None, &lease.node)?;
        same("what a reservation for nobody tells", &Attributes::default(), &lease.attributes)?;
        same("the time to live of a reservation", &None, &lease.ttl)?;
        client.taken(&reservation, &lease).await?;
        client.taken(&claim(subnets, 1, LONG, &configured), &lease).await?;
        reservations.push(lease);
    }
    let mut leases = client.snapshot().await?.leases;
    leases.sort_by_key(|lease| lease.revision);
    same("the leases", &reservations, &leases)?;
    for lease in reservations {
        client.remove(&lease).await?;
    }
    same("the leases after removing all", &Vec::new(), &client.snapshot().await?.leases)
}

pub(super) async fn of_several_claimants_one_gets_the_subnets<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let under = configured.clone();
    let results = at_once(testbed, &red(), CROWD, move |store, number| {
        let claim = claim(dual(1), number, LONG, &under);
        async move { store.create(&claim).await }
    })
    .await?;
    let step = format!("claiming the same subnets for {CROWD} nodes at once");
    let winner = only(&step, &results)?;
    for (number, result) in results.iter().enumerate() {
        let right = match result {
            Ok(lease) => lease.is_of(&node(number)),
            Err(CreateError::Taken(found)) => found == winner,
            Err(_) => false,
        };
        check(right, &step, format_args!("one success, else taken by {winner:?}"), text(result))?;
    }
    same("the leases", &vec![winner.clone()], &client.snapshot().await?.leases)
}

pub(super) async fn of_crossing_claims_none_overlap<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let under = configured.clone();
    // Each shares the subnet of one family with the one before it and that of the other family with the one after it;
    // which family comes first changes halfway.
    let results = at_once(testbed, &red(), CROWD, move |store, number| {
        let half = |number: usize| u8::try_from(number / 2).unwrap_or(u8::MAX);
        let subnets = if number < CROWD / 2 {
            (v4(half(number)), v6(half(number + 1)))
        } else {
            (v4(half(number + 1)), v6(half(number)))
        };
        let claim = claim(subnets, number, LONG, &under);
        async move { store.create(&claim).await }
    })
    .await?;
    let step = format!("claiming {CROWD} subnets at once, each of which overlaps two others");
    let leases: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    for pair in leases.windows(2) {
        if let [one, other] = pair {
            let overlap = one.subnets.overlap(&other.subnets);
            check(!overlap, &step, "no overlap", format_args!("{one:?} and {other:?}"))?;
        }
    }
    for result in &results {
        let right = match result {
            Ok(_) => true,
            Err(CreateError::Taken(found)) => leases.contains(&found),
            Err(_) => false,
        };
        check(right, &step, format_args!("success, or taken by one of {leases:?}"), text(result))?;
    }
    // Who was refused was so because of somebody: no three neighbours go without.
    check(leases.len() >= CROWD / 3, &step, "a third to be granted", leases.len())?;
    same("the leases", &leases.len(), &client.snapshot().await?.leases.len())
}

pub(super) async fn of_several_claims_of_a_node_one_is_granted<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let under = configured.clone();
    let results = at_once(testbed, &red(), CROWD, move |store, number| {
        let subnets = dual(u8::try_from(number).unwrap_or(u8::MAX));
        let claim = claim(subnets, 1, LONG, &under);
        async move { store.create(&claim).await }
    })
    .await?;
    let step = format!("claiming {CROWD} different subnets for one node at once");
    let winner = only(&step, &results)?;
    for result in &results {
        let right = match result {
            Ok(_) => true,
            Err(CreateError::Holds(found)) => found == winner,
            Err(_) => false,
        };
        check(right, &step, format_args!("one success, else it has {winner:?}"), text(result))?;
    }
    same("the leases", &vec![winner.clone()], &client.snapshot().await?.leases)
}

pub(super) async fn claims_of_different_subnets_are_all_granted<T: Testbed>(
    testbed: &T,
) -> Result<(), Broken> {
    let (client, configured) = Client::configured(testbed, &red()).await?;
    let results = at_once(testbed, &red(), CROWD, move |store, number| {
        let subnets = dual(u8::try_from(number).unwrap_or(u8::MAX));
        let claim = claim(subnets, number, LONG, &configured);
        async move { store.create(&claim).await }
    })
    .await?;
    let step = format!("claiming {CROWD} different subnets for as many nodes at once");
    for result in &results {
        check(result.is_ok(), &step, "success", text(result))?;
    }
    let mut leases: Vec<_> = results.into_iter().flatten().collect();
    let mut found = client.snapshot().await?.leases;
    leases.sort_by_key(|lease| lease.revision);
    found.sort_by_key(|lease| lease.revision);
    same("the leases", &leases, &found)?;
    let nodes: std::collections::BTreeSet<&NodeId> =
        found.iter().filter_map(|lease| lease.node.as_ref()).collect();
    same("the nodes that have leases", &CROWD, &nodes.len())
}

fn only<'a>(step: &str, results: &'a [Created]) -> Result<&'a Arc<Lease>, Broken> {
    let leases: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    match leases[..] {
        [lease] => Ok(lease),
        _ => Err(Broken::new(step, "one success", format_args!("{results:?}"))),
    }
}
