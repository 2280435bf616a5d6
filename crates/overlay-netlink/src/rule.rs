//! Policy routing rules: which table a packet's route is looked up in.

use ipnet::IpNet;
use overlay_wire::IpVersion;

use crate::codec::{self, Encoder, rtm};
use crate::object::{KernelObject, Listable, sealed};
use crate::{Error, IfName, Protocol, Verb, table};

/// Bytes of `struct fib_rule_hdr`.
const RULE_HEADER_LEN: usize = 12;

/// Attributes and values (`linux/fib_rules.h`).
mod fra {
    pub(super) const DST: u16 = 1;
    pub(super) const SRC: u16 = 2;
    pub(super) const IIFNAME: u16 = 3;
    pub(super) const GOTO: u16 = 4;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const FWMARK: u16 = 10;
    pub(super) const SUPPRESS_PREFIXLEN: u16 = 14;
    pub(super) const TABLE: u16 = 15;
    pub(super) const FWMASK: u16 = 16;
    pub(super) const OIFNAME: u16 = 17;
    pub(super) const PROTOCOL: u16 = 21;
    pub(super) const IP_PROTO: u16 = 22;

    pub(super) const F_INVERT: u32 = 2;
    /// `RT_TABLE_COMPAT`: the number is in the attribute.
    pub(super) const TABLE_COMPAT: u8 = 252;
}

/// What a rule does with the packets it matches (`FR_ACT_*` in `linux/fib_rules.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RuleAction {
    /// Looks the route up in this table.
    Lookup(u32),
    /// Goes on at the rule with this priority.
    Goto(u32),
    /// Nothing; goes on at the next rule.
    Nop,
    /// Drops silently.
    Blackhole,
    /// Drops and says that the network is unreachable.
    Unreachable,
    /// Drops and says that it is prohibited.
    Prohibit,
}

/// A policy routing rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Rule {
    /// For packets of this family.
    pub family: IpVersion,
    /// Where in the order of rules, 0 first; `None` lets the kernel put it before all others but
    /// the one for local addresses.
    pub priority: Option<u32>,
    /// Only packets from this prefix.
    pub src: Option<IpNet>,
    /// Only packets to this prefix.
    pub dst: Option<IpNet>,
    /// Only packets that came in on this device; `lo` for those of this host.
    pub iif: Option<IfName>,
    /// Only packets of sockets bound to this device.
    pub oif: Option<IfName>,
    /// Only packets whose mark under the mask (second) equals the value (first).
    pub fwmark: Option<(u32, u32)>,
    /// Only packets with this TOS or traffic class; zero for any.
    pub tos: u8,
    /// Only packets of this IP protocol.
    pub ip_proto: Option<u8>,
    /// Matches what the selectors above do not.
    pub invert: bool,
    /// Ignores routes found whose prefix is not longer than this.
    pub suppress_prefixlength: Option<u32>,
    /// What to do.
    pub action: RuleAction,
    /// Who made it.
    pub protocol: Protocol,
}

impl Rule {
    /// A rule for all packets of `family` that looks into table `table`.
    #[must_use]
    pub const fn lookup(family: IpVersion, table: u32) -> Self {
        Self {
            family,
            priority: None,
            src: None,
            dst: None,
            iif: None,
            oif: None,
            fwmark: None,
            tos: 0,
            ip_proto: None,
            invert: false,
            suppress_prefixlength: None,
            action: RuleAction::Lookup(table),
            protocol: Protocol::UNSPEC,
        }
    }

    /// The same rule at `priority`.
    #[must_use]
    pub const fn priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The same rule, made by `protocol`.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The `ip rule` command that does `verb` to it.
    #[must_use]
    pub fn command(&self, verb: Verb) -> String {
        let family = match self.family {
            IpVersion::V4 => "",
            IpVersion::V6 => "-6 ",
        };
        let mut words = vec![format!("ip {family}rule {}", verb.word())];
        if self.invert {
            words.push("not".to_owned());
        }
        words.push(format!(
            "from {}",
            self.src.map_or_else(|| "all".to_owned(), |net| net.to_string())
        ));
        if let Some(dst) = self.dst {
            words.push(format!("to {dst}"));
        }
        if self.tos != 0 {
            words.push(format!("tos {:#04x}", self.tos));
        }
        if let Some((mark, mask)) = self.fwmark {
            words.push(format!("fwmark {mark:#x}/{mask:#x}"));
        }
        if let Some(iif) = self.iif {
            words.push(format!("iif {iif}"));
        }
        if let Some(oif) = self.oif {
            words.push(format!("oif {oif}"));
        }
        if let Some(proto) = self.ip_proto {
            words.push(format!("ipproto {proto}"));
        }
        if let Some(priority) = self.priority {
            words.push(format!("priority {priority}"));
        }
        if self.protocol != Protocol::UNSPEC {
            words.push(format!("protocol {}", self.protocol));
        }
        match self.action {
            RuleAction::Lookup(table) => words.push(format!("lookup {table}")),
            RuleAction::Goto(priority) => words.push(format!("goto {priority}")),
            RuleAction::Nop => words.push("type nop".to_owned()),
            RuleAction::Blackhole => words.push("type blackhole".to_owned()),
            RuleAction::Unreachable => words.push("type unreachable".to_owned()),
            RuleAction::Prohibit => words.push("type prohibit".to_owned()),
        }
        if let Some(length) = self.suppress_prefixlength {
            words.push(format!("suppress_prefixlength {length}"));
        }
        words.join(" ")
    }
}

impl KernelObject for Rule {
    fn command(&self, verb: Verb) -> String {
        self.command(verb)
    }
}

impl sealed::Encode for Rule {
    fn encode(&self, verb: Verb, buffer: &mut Vec<u8>) -> Result<u32, Error> {
        let invalid = |reason| Error::Invalid { object: self.command(verb), reason };
        if !matches!(verb, Verb::Add | Verb::Delete) {
            return Err(invalid("rules can only be added and deleted"));
        }
        if [self.src, self.dst].iter().flatten().any(|net| codec::net_version(net) != self.family) {
            return Err(invalid("a prefix is not of the rule's family"));
        }
        let (action, table) = match self.action {
            RuleAction::Lookup(table) => (1, Some(table)),
            RuleAction::Goto(_) => (2, None),
            RuleAction::Nop => (3, None),
            RuleAction::Blackhole => (6, None),
            RuleAction::Unreachable => (7, None),
            RuleAction::Prohibit => (8, None),
        };
        let kind = if verb == Verb::Delete { rtm::DELRULE } else { rtm::NEWRULE };
        let mut message = Encoder::begin(buffer, kind, verb.flags());
        let len = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
        message.put(&[
            codec::family_of(self.family),
            len(self.dst),
            len(self.src),
            self.tos,
            table.map_or(0, |table| u8::try_from(table).unwrap_or(fra::TABLE_COMPAT)),
            0,
            0,
            action,
        ]);
        message.put(&(if self.invert { fra::F_INVERT } else { 0 }).to_ne_bytes());
        if let Some(table) = table {
            message.attr_u32(fra::TABLE, table);
        }
        if let Some(src) = self.src {
            message.attr_ip(fra::SRC, src.network());
        }
        if let Some(dst) = self.dst {
            message.attr_ip(fra::DST, dst.network());
        }
        if let Some(iif) = self.iif {
            message.attr_str(fra::IIFNAME, iif.as_str());
        }
        if let Some(oif) = self.oif {
            message.attr_str(fra::OIFNAME, oif.as_str());
        }
        if let Some((mark, mask)) = self.fwmark {
            message.attr_u32(fra::FWMARK, mark);
            message.attr_u32(fra::FWMASK, mask);
        }
        if let Some(proto) = self.ip_proto {
            message.attr_u8(fra::IP_PROTO, proto);
        }
        if let RuleAction::Goto(priority) = self.action {
            message.attr_u32(fra::GOTO, priority);
        }
        if let Some(length) = self.suppress_prefixlength {
            message.attr_u32(fra::SUPPRESS_PREFIXLEN, length);
        }
        if let Some(priority) = self.priority {
            message.attr_u32(fra::PRIORITY, priority);
        }
        if self.protocol != Protocol::UNSPEC {
            message.attr_u8(fra::PROTOCOL, self.protocol.0);
        }
        message.finish();
        Ok(1)
    }
}

/// Which rules to list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RuleFilter {
    /// Only of this family.
    pub family: Option<IpVersion>,
    /// Only those made by this protocol. Filtered here: the kernel has no such filter.
    pub protocol: Option<Protocol>,
}

impl RuleFilter {
    /// All rules made by `protocol`, of both families.
    #[must_use]
    pub const fn made_by(protocol: Protocol) -> Self {
        Self { family: None, protocol: Some(protocol) }
    }
}

impl Listable for Rule {}

impl sealed::Decode for Rule {
    type Filter = RuleFilter;

    const WHAT: &'static str = "rules";
    const NEW: u16 = rtm::NEWRULE;

    fn dumps(filter: &RuleFilter) -> Vec<sealed::Dump> {
        codec::versions(filter.family)
            .map(|version| {
                let mut header = vec![0; RULE_HEADER_LEN];
                header[0] = codec::family_of(version);
                sealed::Dump {
                    kind: rtm::GETRULE,
                    header,
                    attributes: Vec::new(),
                    absent_is_empty: false,
                }
            })
            .collect()
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let family = codec::version_of(codec::u8_at(body, 0)?)?;
        let (dst_len, src_len) = (codec::u8_at(body, 1)?, codec::u8_at(body, 2)?);
        let action = codec::u8_at(body, 7)?;
        let flags = codec::u32_at(body, 8)?;
        let mut rule = Self::lookup(family, u32::from(codec::u8_at(body, 4)?));
        rule.tos = codec::u8_at(body, 3)?;
        rule.invert = flags & fra::F_INVERT != 0;
        let (mut table, mut goto) = (u32::from(codec::u8_at(body, 4)?), 0);
        let (mut mark, mut mask) = (None, None);
        for (kind, value) in codec::attributes(body.get(RULE_HEADER_LEN..)?) {
            match kind {
                fra::SRC => rule.src = IpNet::new(codec::ip(value)?, src_len).ok(),
                fra::DST => rule.dst = IpNet::new(codec::ip(value)?, dst_len).ok(),
                fra::IIFNAME => rule.iif = Some(IfName::reported(value)),
                fra::OIFNAME => rule.oif = Some(IfName::reported(value)),
                fra::GOTO => goto = codec::u32_at(value, 0)?,
                fra::PRIORITY => rule.priority = codec::u32_at(value, 0),
                fra::FWMARK => mark = codec::u32_at(value, 0),
                fra::FWMASK => mask = codec::u32_at(value, 0),
                fra::TABLE => table = codec::u32_at(value, 0)?,
                fra::PROTOCOL => rule.protocol = Protocol(codec::u8_at(value, 0)?),
                fra::IP_PROTO => rule.ip_proto = codec::u8_at(value, 0),
                // All ones says that nothing is suppressed.
                fra::SUPPRESS_PREFIXLEN => {
                    rule.suppress_prefixlength =
                        codec::u32_at(value, 0).filter(|length| *length != u32::MAX);
                }
                _ => {}
            }
        }
        // The kernel leaves the priority out when it is zero.
        rule.priority = Some(rule.priority.unwrap_or(0));
        rule.fwmark = mark.or_else(|| mask.map(|_| 0)).map(|mark| (mark, mask.unwrap_or(u32::MAX)));
        rule.action = match action {
            1 => RuleAction::Lookup(if table == 0 { table::MAIN } else { table }),
            2 => RuleAction::Goto(goto),
            3 => RuleAction::Nop,
            6 => RuleAction::Blackhole,
            7 => RuleAction::Unreachable,
            8 => RuleAction::Prohibit,
            _ => return None,
        };
        Some(rule)
    }

    fn accepts(filter: &RuleFilter, rule: &Self) -> bool {
        filter.family.is_none_or(|family| family == rule.family)
            && filter.protocol.is_none_or(|wanted| rule.protocol == wanted)
    }
}
