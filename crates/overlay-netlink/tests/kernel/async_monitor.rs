//! Hearing of changes on tokio.

use std::time::Duration;

use libtest_mimic::Failed;
use overlay_netlink::{AsyncMonitor, Batch, Change, Event, Fdb, Groups, Monitor, Verb};
use overlay_wire::MacAddr;
use socket2::SockRef;

use crate::world::{VXLAN, furnished};
use crate::{Case, Outcome, ip, mac, same};

pub(crate) const CASES: [Case; 2] = [
    ("async_monitor::hears", hears),
    ("async_monitor::an_overrun_is_an_event", an_overrun_is_an_event),
];

const SOON: Duration = Duration::from_secs(5);

fn hears() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let monitor = Monitor::open_in(host.namespace(), Groups::NEIGHBOUR)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut monitor = AsyncMonitor::new(monitor)?;
        for last in 0..50 {
            // Giving up and asking again loses nothing.
            let _ = tokio::time::timeout(Duration::from_millis(1), monitor.next()).await;
            let entry = Fdb::remote(mac(last), ip("10.0.0.9"), VXLAN);
            socket.add(&entry)?;
            same(entry_heard(&mut monitor).await?, entry, "the entry")?;
        }
        Ok(())
    })
}

fn an_overrun_is_an_event() -> Outcome {
    let (host, mut socket) = furnished("a")?;
    let monitor = Monitor::open_in(host.namespace(), Groups::NEIGHBOUR)?;
    SockRef::from(&monitor).set_recv_buffer_size(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut monitor = AsyncMonitor::new(monitor)?;
        let mut batch = Batch::new();
        for number in 0..500u16 {
            let [high, low] = number.to_be_bytes();
            let entry = Fdb::remote(MacAddr([2, 0, 1, 1, high, low]), ip("10.0.0.9"), VXLAN);
            batch.push(Verb::Add, &entry)?;
        }
        socket.execute(&mut batch)?.into_result()?;
        while tokio::time::timeout(SOON, monitor.next()).await?? != Event::Overrun {}
        // What was heard before is still given, then what comes later.
        let last = Fdb::remote(mac(1), ip("10.0.0.9"), VXLAN);
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(50), monitor.next()).await
        {
            event?;
        }
        socket.add(&last)?;
        same(entry_heard(&mut monitor).await?, last, "after it")
    })
}

/// The next FDB entry; the kernel has neighbours of its own to tell of.
async fn entry_heard(monitor: &mut AsyncMonitor) -> Result<Fdb, Failed> {
    loop {
        if let Event::Fdb(Change::New, entry) = tokio::time::timeout(SOON, monitor.next()).await?? {
            return Ok(entry);
        }
    }
}
