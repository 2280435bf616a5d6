//! Joining both hosts by a backend.

use overlay_backend::Peer;
use overlay_examples::{End, Kind};
use overlay_wire::IpVersion;

use crate::setup::Setup;

/// Both hosts, about to be joined or joined.
pub(crate) struct Joined {
    ends: Vec<End>,
}

impl Joined {
    /// Works out what both hosts need. The inner error says why the backend cannot join them.
    pub(crate) fn prepare(
        setup: &Setup,
        kind: Kind,
        version: IpVersion,
    ) -> anyhow::Result<Result<Self, String>> {
        let mut ends = Vec::new();
        for vm in setup.vms() {
            match End::prepare(vm, kind, version)? {
                Ok(end) => ends.push(end),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let mut joined = Self { ends };
        Ok(joined.introduce()?.map(|()| joined))
    }

    /// Tells each host of everybody. The inner error says why the backend cannot join them.
    fn introduce(&mut self) -> anyhow::Result<Result<(), String>> {
        let peers: Vec<Peer> = self.ends.iter().map(End::announce).collect();
        self.each(|end| end.introduce(&peers))
    }

    fn each(
        &mut self,
        mut work: impl FnMut(&mut End) -> anyhow::Result<Result<(), String>>,
    ) -> anyhow::Result<Result<(), String>> {
        for end in &mut self.ends {
            if let Err(reason) = work(end)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
    }

    /// What is to be done on each host, as commands.
    pub(crate) fn commands(&mut self) -> anyhow::Result<String> {
        let mut lines = Vec::new();
        for end in &mut self.ends {
            lines.extend(end.commands()?);
        }
        Ok(lines.join("\n"))
    }

    /// Joins the hosts. The inner error says what the kernel lacks.
    pub(crate) fn apply(&mut self) -> anyhow::Result<Result<(), String>> {
        if let Err(reason) = self.each(|end| Ok(end.start()))? {
            return Ok(Err(reason));
        }
        // What a host tells the other depends on who carries its packets.
        if let Err(reason) = self.introduce()? {
            return Ok(Err(reason));
        }
        let elsewhere = "`cargo run --release --example two-vm` brings a kernel of its own";
        Ok(self.each(End::apply)?.map_err(|reason| format!("{reason}; {elsewhere}")))
    }

    /// Who carries the packets and what they have carried, a line for each host that has a forwarder.
    pub(crate) fn carried(&self) -> Vec<String> {
        self.ends.iter().flat_map(End::carried).collect()
    }

    /// The MTU that containers should have.
    pub(crate) fn mtu(&self) -> u32 {
        self.ends.iter().map(End::mtu).min().unwrap_or_default()
    }

    /// Repairs what somebody broke, if anything, and tells it.
    pub(crate) fn repair(&mut self) -> Vec<String> {
        self.ends.iter_mut().flat_map(End::repair).collect()
    }

    /// Removes everything again.
    pub(crate) fn clear(self) -> anyhow::Result<()> {
        self.ends.into_iter().try_for_each(End::clear)
    }
}
