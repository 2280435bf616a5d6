//! Traffic control, as far as BPF programs need it: the clsact queueing discipline and the filters in it.

use std::os::fd::RawFd;

use crate::codec::{self, Encoder, rtm};
use crate::object::{KernelObject, Listable, sealed};
use crate::{DeviceRef, Error, Ifindex, Verb};

/// Bytes of `struct tcmsg`.
const TCMSG_LEN: usize = 20;

/// The handle of the clsact queueing discipline.
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// What is the parent of the clsact queueing discipline.
const CLSACT_PARENT: u32 = 0xffff_fff1;

/// All protocols (`ETH_P_ALL`).
const ALL: u16 = 3;

/// Attributes of queueing disciplines and filters (`linux/rtnetlink.h`).
mod tca {
    pub(super) const KIND: u16 = 1;
    pub(super) const OPTIONS: u16 = 2;
}

/// Attributes of BPF filters (`linux/pkt_cls.h`).
mod tca_bpf {
    pub(super) const FD: u16 = 6;
    pub(super) const NAME: u16 = 7;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const ID: u16 = 11;
}

/// The program's answer is the verdict (`TCA_BPF_FLAG_ACT_DIRECT`).
const DIRECT_ACTION: u32 = 1;

/// The clsact queueing discipline of a device: it queues nothing, filters hang on it. A device has at most one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Clsact<D = Ifindex> {
    /// The device.
    pub dev: D,
}

impl<D: DeviceRef> Clsact<D> {
    /// That of `dev`.
    #[must_use]
    pub const fn new(dev: D) -> Self {
        Self { dev }
    }

    /// The same with its device named another way.
    ///
    /// # Errors
    /// The error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<Clsact<E>, X> {
        Ok(Clsact { dev: f(self.dev)? })
    }

    /// The `tc qdisc` command that does `verb` to it.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        format!("tc qdisc {} dev {} clsact", verb.word(), self.dev)
    }
}

impl KernelObject for Clsact {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl sealed::Encode for Clsact {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        let kind = if verb == Verb::Delete { rtm::DELQDISC } else { rtm::NEWQDISC };
        let mut message = Encoder::begin(buffer, kind, verb.flags());
        put_tcmsg(&mut message, self.dev, CLSACT_HANDLE, CLSACT_PARENT, 0);
        message.attr_str(tca::KIND, "clsact");
        message.finish();
        Ok(1)
    }
}

/// Which clsact queueing disciplines to list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClsactFilter {
    /// Only that of this device.
    pub dev: Option<Ifindex>,
}

impl Listable for Clsact {}

impl sealed::Decode for Clsact {
    type Filter = ClsactFilter;

    const WHAT: &'static str = "queueing disciplines";
    const NEW: u16 = rtm::NEWQDISC;

    fn dumps(_: &ClsactFilter) -> Vec<sealed::Dump> {
        let header = vec![0; TCMSG_LEN];
        vec![sealed::Dump {
            kind: rtm::GETQDISC,
            header,
            attributes: Vec::new(),
            absent_is_empty: false,
        }]
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let dev = Ifindex(codec::u32_at(body, 4)?);
        kind(body)?.eq("clsact").then_some(Self { dev })
    }

    fn accepts(filter: &ClsactFilter, qdisc: &Self) -> bool {
        filter.dev.is_none_or(|dev| dev == qdisc.dev)
    }
}

/// Which packets a filter of a clsact queueing discipline sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums)]
pub enum TrafficHook {
    /// Those that the device has received.
    Ingress,
    /// Those that it is about to send.
    Egress,
}

impl TrafficHook {
    const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// A BPF program as a filter of a clsact queueing discipline, for all protocols, whose answer is the verdict
/// (`direct-action`).
///
/// The kernel's key is device, hook, priority and handle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BpfFilter<D = Ifindex> {
    /// The device.
    pub dev: D,
    /// Which packets it sees.
    pub hook: TrafficHook,
    /// The lower, the earlier; not 0.
    pub priority: u16,
    /// The number among the filters of a priority; 0 lets the kernel choose.
    pub handle: u32,
    /// What people are told it is; the kernel reports it.
    pub name: String,
    /// To add one: the descriptor of the loaded program, open until the request is done.
    pub program: Option<RawFd>,
    /// In listings: the number of the program.
    pub id: Option<u32>,
}

impl<D: DeviceRef> BpfFilter<D> {
    /// A filter of `dev` without a program yet, under handle 1.
    #[must_use]
    pub const fn new(dev: D, hook: TrafficHook, priority: u16) -> Self {
        Self { dev, hook, priority, handle: 1, name: String::new(), program: None, id: None }
    }

    /// The same filter with its device named another way.
    ///
    /// # Errors
    /// The error of `f`.
    pub fn try_map_dev<E: DeviceRef, X>(
        &self,
        f: &mut impl FnMut(D) -> Result<E, X>,
    ) -> Result<BpfFilter<E>, X> {
        Ok(BpfFilter {
            dev: f(self.dev)?,
            hook: self.hook,
            priority: self.priority,
            handle: self.handle,
            name: self.name.clone(),
            program: self.program,
            id: self.id,
        })
    }

    /// The `tc filter` command that does `verb` to it. Where the program comes from cannot be said: it is shown as
    /// pinned under the filter's name.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        let Self { dev, hook, priority, handle, name, .. } = self;
        let (word, hook) = (verb.word(), hook.word());
        let key =
            format!("tc filter {word} dev {dev} {hook} pref {priority} handle {handle:#x} bpf");
        match verb {
            Verb::Delete => key,
            _ => format!("{key} object-pinned {name} direct-action"),
        }
    }
}

impl KernelObject for BpfFilter {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl sealed::Encode for BpfFilter {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        let kind = if verb == Verb::Delete { rtm::DELTFILTER } else { rtm::NEWTFILTER };
        let mut message = Encoder::begin(buffer, kind, verb.flags());
        let info = u32::from(self.priority) << 16 | u32::from(ALL.to_be());
        put_tcmsg(&mut message, self.dev, self.handle, self.hook.parent(), info);
        message.attr_str(tca::KIND, "bpf");
        if verb != Verb::Delete {
            message.nest(tca::OPTIONS, |options| {
                if let Some(program) = self.program {
                    options.attr_u32(tca_bpf::FD, program.cast_unsigned());
                }
                options.attr_str(tca_bpf::NAME, &self.name);
                options.attr_u32(tca_bpf::FLAGS, DIRECT_ACTION);
            });
        }
        message.try_finish(|| self.command(verb))?;
        Ok(1)
    }
}

fn dumps_of_filters(dev: Ifindex) -> Vec<sealed::Dump> {
    let dump = |hook: TrafficHook| {
        let mut header = vec![0; TCMSG_LEN];
        header[4..8].copy_from_slice(&dev.0.to_ne_bytes());
        header[12..16].copy_from_slice(&hook.parent().to_ne_bytes());
        let attributes = Vec::new();
        sealed::Dump { kind: rtm::GETTFILTER, header, attributes, absent_is_empty: true }
    };
    TrafficHook::ALL.map(dump).into()
}

/// A filter of a clsact queueing discipline, of whatever kind: as much as it takes to know that there is one, and to delete it.
/// It can be listed and deleted, not made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TrafficFilter {
    /// The device.
    pub dev: Ifindex,
    /// Which packets it sees.
    pub hook: TrafficHook,
    /// Filters are asked in the order of their priorities, the lowest first.
    pub priority: u16,
    /// What it is: `bpf`, `u32`, `flower`.
    pub kind: String,
}

impl KernelObject for TrafficFilter {
    fn command(&self, verb: Verb) -> String {
        let Self { dev, hook, priority, kind } = self;
        format!("tc filter {} dev {dev} {} pref {priority} {kind}", verb.word(), hook.word())
    }
}

impl sealed::Encode for TrafficFilter {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        if verb != Verb::Delete {
            let reason = "a filter of any kind can only be deleted";
            return Err(Error::Invalid { object: self.command(verb), reason });
        }
        let mut message = Encoder::begin(buffer, rtm::DELTFILTER, verb.flags());
        let info = u32::from(self.priority) << 16 | u32::from(ALL.to_be());
        put_tcmsg(&mut message, self.dev, 0, self.hook.parent(), info);
        message.attr_str(tca::KIND, &self.kind);
        message.try_finish(|| self.command(verb))?;
        Ok(1)
    }
}

impl Listable for TrafficFilter {}

impl sealed::Decode for TrafficFilter {
    type Filter = BpfFilterFilter;

    const WHAT: &'static str = "filters";
    const NEW: u16 = rtm::NEWTFILTER;

    fn dumps(filter: &BpfFilterFilter) -> Vec<sealed::Dump> {
        dumps_of_filters(filter.dev)
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let parent = codec::u32_at(body, 12)?;
        Some(Self {
            dev: Ifindex(codec::u32_at(body, 4)?),
            hook: TrafficHook::ALL.into_iter().find(|hook| hook.parent() == parent)?,
            priority: (codec::u32_at(body, 16)? >> 16) as u16,
            kind: kind(body)?,
        })
    }

    fn accepts(filter: &BpfFilterFilter, found: &Self) -> bool {
        filter.dev == found.dev
    }
}

/// Which BPF filters to list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BpfFilterFilter {
    /// Those of this device: the kernel lists no others.
    pub dev: Ifindex,
}

impl BpfFilterFilter {
    /// All BPF filters of `dev`.
    #[must_use]
    pub const fn on(dev: Ifindex) -> Self {
        Self { dev }
    }
}

impl Default for BpfFilterFilter {
    fn default() -> Self {
        Self::on(Ifindex(0))
    }
}

impl Listable for BpfFilter {}

impl sealed::Decode for BpfFilter {
    type Filter = BpfFilterFilter;

    const WHAT: &'static str = "BPF filters";
    const NEW: u16 = rtm::NEWTFILTER;

    fn dumps(filter: &BpfFilterFilter) -> Vec<sealed::Dump> {
        dumps_of_filters(filter.dev)
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let dev = Ifindex(codec::u32_at(body, 4)?);
        let parent = codec::u32_at(body, 12)?;
        let hook = TrafficHook::ALL.into_iter().find(|hook| hook.parent() == parent)?;
        let priority = (codec::u32_at(body, 16)? >> 16) as u16;
        if kind(body)? != "bpf" {
            return None;
        }
        let mut filter = Self::new(dev, hook, priority);
        filter.handle = codec::u32_at(body, 8)?;
        // The kernel also tells of the priority as such: number 0, without options.
        let options = attributes(body)?.find(|(kind, _)| *kind == tca::OPTIONS);
        if filter.handle == 0 {
            return None;
        }
        let (_, options) = options.unwrap_or_default();
        for (kind, value) in codec::attributes(options) {
            match kind {
                tca_bpf::NAME => filter.name = codec::text(value),
                tca_bpf::ID => filter.id = codec::u32_at(value, 0),
                _ => {}
            }
        }
        Some(filter)
    }

    fn accepts(filter: &BpfFilterFilter, object: &Self) -> bool {
        filter.dev == object.dev
    }
}

fn put_tcmsg(message: &mut Encoder<'_>, dev: Ifindex, handle: u32, parent: u32, info: u32) {
    message.put(&[codec::AF_UNSPEC, 0, 0, 0]);
    for word in [dev.0, handle, parent, info] {
        message.put(&word.to_ne_bytes());
    }
}

fn attributes(body: &[u8]) -> Option<codec::Attributes<'_>> {
    body.get(TCMSG_LEN..).map(codec::attributes)
}

fn kind(body: &[u8]) -> Option<String> {
    attributes(body)?.find(|(kind, _)| *kind == tca::KIND).map(|(_, value)| codec::text(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::HEADER_LEN;
    use sealed::{Decode, Encode};

    #[test]
    fn what_is_sent_is_understood() {
        let mut filter = BpfFilter::new(Ifindex(7), TrafficHook::Egress, 20_310);
        filter.handle = 3;
        filter.name = "overlay/node1".to_owned();
        for verb in [Verb::Add, Verb::Delete] {
            let mut buffer = Vec::new();
            filter.encode(verb, &mut buffer).unwrap();
            let mut found = BpfFilter::decode(&buffer[HEADER_LEN..]).unwrap();
            // A deletion names the key only.
            found.name.clone_from(&filter.name);
            assert_eq!(found, filter);
            for len in HEADER_LEN..buffer.len() {
                let _ = BpfFilter::decode(&buffer[HEADER_LEN..len]);
            }
            let mut buffer = Vec::new();
            Clsact::new(Ifindex(7)).encode(verb, &mut buffer).unwrap();
            assert_eq!(Clsact::decode(&buffer[HEADER_LEN..]), Some(Clsact::new(Ifindex(7))));
        }
    }

    #[test]
    fn they_print_as_tc_commands() {
        assert_eq!(Clsact::new(Ifindex(7)).command(Verb::Add), "tc qdisc add dev if7 clsact");
        let filter = BpfFilter::new(Ifindex(7), TrafficHook::Ingress, 9);
        assert_eq!(
            filter.command(Verb::Delete),
            "tc filter del dev if7 ingress pref 9 handle 0x1 bpf"
        );
    }
}
