//! Everything at once.

use std::time::Duration;

use super::client::{Client, check};
use super::sample::red;
use super::{Broken, Testbed};
use crate::history::{self, Workload};

pub(super) async fn a_crowd_keeps_all_promises<T: Testbed>(testbed: &T) -> Result<(), Broken> {
    const CROWD: usize = 6;
    let mut clients = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        clients.push(Client::new(testbed, &red()).await?.store);
    }
    let mut workload = Workload::new(1);
    workload.operations = 150;
    workload.pause = Duration::from_millis(20);
    let history = workload.run(clients).await;
    let step = format!("{CROWD} clients that do {} operations each", workload.operations);
    let summary = history::check(&history)
        .map_err(|violation| Broken::new(&step, "a history that can be", violation))?;
    check(
        summary.uncertain < summary.operations / 10,
        &step,
        "answers",
        format_args!("{} of {} failed or took too long", summary.uncertain, summary.operations),
    )?;
    let lively = summary.leases > CROWD && summary.gone > 0 && summary.watched > summary.leases;
    check(lively, &step, "leases that come and go, and are watched", format_args!("{summary:?}"))
}
