//! Joining the machines, and looking at what comes of it.

use std::net::IpAddr;
use std::thread;

use overlay_examples::{Addresses, Kind};
use overlay_wire::IpVersion;
use serde::de::DeserializeOwned;

use crate::command::{Announced, Command, Sender};
use crate::remote::{NUMBERS, Remote};
use crate::report::Row;

/// Both machines.
pub(crate) struct Pair<'a> {
    pub(crate) vms: [Remote<'a>; 2],
    pub(crate) addresses: [Addresses; 2],
}

impl<'a> Pair<'a> {
    pub(crate) fn new(vms: [Remote<'a>; 2]) -> anyhow::Result<Self> {
        let [one, other] = NUMBERS;
        Ok(Self { vms, addresses: [Addresses::of(one, 32)?, Addresses::of(other, 32)?] })
    }

    /// Host against host, without an overlay.
    pub(crate) fn direct(&self, version: IpVersion) -> anyhow::Result<Row> {
        let row = Row::new("direct", version);
        self.look(row, &[Sender::Host], |addresses| addresses.host(version))
    }

    /// Joins the containers by a backend, looks, and undoes it.
    pub(crate) fn joined(
        &self,
        kind: Kind,
        version: IpVersion,
        progress: &impl Fn(&str),
    ) -> anyhow::Result<Row> {
        let row = match self.join(kind, version, progress)? {
            Err(reason) => Row::unsupported(kind.name(), version, reason),
            Ok(()) => self.look(
                Row::new(kind.name(), version),
                &[Sender::Container, Sender::Host],
                |addresses| addresses.container(version).addr(),
            )?,
        };
        let carried: [Vec<String>; 2] = self.both(&Command::Clear)?;
        carried.iter().flatten().for_each(|line| progress(line));
        Ok(row)
    }

    /// The inner error says why the backend cannot join them.
    fn join(
        &self,
        kind: Kind,
        version: IpVersion,
        progress: &impl Fn(&str),
    ) -> anyhow::Result<Result<(), String>> {
        let (backend, ipv6) = (kind.name().to_owned(), version == IpVersion::V6);
        let peers: Vec<Announced> = match self.agreed(&Command::Prepare { backend, ipv6 })? {
            Ok(peers) => peers,
            Err(reason) => return Ok(Err(reason)),
        };
        let plans: Vec<Vec<String>> = match self.agreed(&Command::Plan(peers))? {
            Ok(plans) => plans,
            Err(reason) => return Ok(Err(reason)),
        };
        plans.concat().iter().for_each(|line| progress(line));
        // What a machine tells the other depends on who carries its packets.
        let peers = match self.agreed(&Command::Start)? {
            Ok(peers) => peers,
            Err(reason) => return Ok(Err(reason)),
        };
        let mtus: Vec<u32> = match self.agreed(&Command::Join(peers))? {
            Ok(mtus) => mtus,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some(mtu) = mtus.into_iter().min() {
            let [(), ()] = self.both(&Command::Mtu(mtu))?;
        }
        Ok(Ok(()))
    }

    /// Each sender of each machine pings the other machine's address, and vm1 watches.
    fn look(
        &self,
        mut row: Row,
        senders: &[Sender],
        address: impl Fn(&Addresses) -> IpAddr,
    ) -> anyhow::Result<Row> {
        let [vm1, vm2] = &self.vms;
        let [at1, at2] = self.addresses.each_ref().map(address);
        vm1.ask::<()>(&Command::Watch)?;
        for (vm, number, to) in [(vm1, NUMBERS[0], at2), (vm2, NUMBERS[1], at1)] {
            for from in senders {
                let name = match from {
                    Sender::Host => vm.name().to_owned(),
                    Sender::Container => format!("ns{number}"),
                };
                row.add_ping(&name, to, vm.ask(&Command::Ping { from: *from, to })?);
            }
        }
        if row.is_ok() {
            row.wire = vm1.ask(&Command::Seen { src: at2, dst: at1 })?;
            let from = senders.first().copied().unwrap_or(Sender::Host);
            row.mtu = Some(vm1.ask(&Command::PathMtu { from, to: at2 })?);
        }
        Ok(row)
    }

    /// What both answer, or what one of them cannot do.
    fn agreed<T: DeserializeOwned + Send>(
        &self,
        command: &Command,
    ) -> anyhow::Result<Result<Vec<T>, String>> {
        Ok(self.both::<Result<T, String>>(command)?.into_iter().collect())
    }

    /// What both answer, who work at the same time.
    fn both<T: DeserializeOwned + Send>(&self, command: &Command) -> anyhow::Result<[T; 2]> {
        let [vm1, vm2] = &self.vms;
        thread::scope(|scope| {
            let other = scope.spawn(|| vm2.ask(command));
            let one = vm1.ask(command);
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok([one?, other?])
        })
    }
}
