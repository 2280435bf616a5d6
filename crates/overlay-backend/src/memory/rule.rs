//! Policy routing rules.

use ipnet::IpNet;
use overlay_netlink::{Protocol, Rule, RuleAction, Verb, table};
use overlay_wire::IpVersion;

use super::refusal::{EEXIST, EINVAL, ENOENT, EPERM, Refusal};
use super::state::State;

impl State {
    /// The rules that every namespace starts with.
    pub(super) fn add_default_rules(&mut self) {
        let tables = [(0, table::LOCAL), (32_766, table::MAIN), (32_767, table::DEFAULT)];
        for family in IpVersion::ALL {
            let count = if family == IpVersion::V4 { 3 } else { 2 };
            for (priority, table) in &tables[..count] {
                let rule =
                    Rule::lookup(family, *table).priority(*priority).protocol(Protocol::KERNEL);
                self.rules.push(rule);
            }
        }
    }

    pub(super) fn rule(&mut self, verb: Verb, asked: &Rule) -> Result<(), Refusal> {
        let priority = asked.priority.unwrap_or_else(|| {
            // One before the second, which leaves the first to the local table.
            let mut of_family = self.rules.iter().filter(|other| other.family == asked.family);
            let second = of_family.nth(1).and_then(|other| other.priority).unwrap_or(0);
            second.saturating_sub(1)
        });
        if let RuleAction::Goto(target) = asked.action
            && target <= priority
        {
            return Err(EINVAL.says("Backward goto not supported"));
        }
        if asked.tos & 3 != 0 {
            return Err(EINVAL.says("Invalid dsfield (tos): ECN bits must be 0"));
        }
        if verb == Verb::Delete {
            let at = self.rules.iter().position(|rule| selects(asked, rule)).ok_or(ENOENT)?;
            let rule = &self.rules[at];
            let permanent = rule.priority == Some(0)
                && rule.protocol == Protocol::KERNEL
                && rule.action == RuleAction::Lookup(table::LOCAL);
            if permanent {
                return Err(EPERM);
            }
            self.rules.remove(at);
            return Ok(());
        }
        let mut rule = asked.clone();
        let truncated = |net: Option<IpNet>| net.filter(|n| n.prefix_len() > 0).map(|n| n.trunc());
        (rule.src, rule.dst) = (truncated(rule.src), truncated(rule.dst));
        rule.fwmark = rule.fwmark.filter(|mark| *mark != (0, 0));
        rule.suppress_prefixlength = rule.suppress_prefixlength.filter(|len| *len != u32::MAX);
        if rule.action == RuleAction::Lookup(0) {
            rule.action = RuleAction::Lookup(table::MAIN);
        }
        rule.priority = Some(priority);
        // A rule is as good as there if one with more selectors is; and `not` counts for nothing.
        let covered = |other: &Rule| {
            let mut asked = rule.clone();
            asked.invert = other.invert;
            asked.src = asked.src.or(other.src);
            asked.dst = asked.dst.or(other.dst);
            if asked.tos == 0 {
                asked.tos = other.tos;
            }
            asked == *other
        };
        if self.rules.iter().any(covered) {
            return Err(EEXIST);
        }
        let place = |rule: &Rule| (rule.family == IpVersion::V6, rule.priority);
        let at = self.rules.partition_point(|other| place(other) <= place(&rule));
        self.rules.insert(at, rule);
        Ok(())
    }
}

/// Whether a request to delete means this rule: what it does not say may be anything.
fn selects(asked: &Rule, rule: &Rule) -> bool {
    fn says<T: PartialEq>(asked: Option<T>, has: Option<T>) -> bool {
        asked.is_none() || asked == has
    }
    let action = match (asked.action, rule.action) {
        (RuleAction::Lookup(asked), RuleAction::Lookup(has)) => asked == 0 || asked == has,
        (RuleAction::Goto(_), RuleAction::Goto(_)) => true,
        (asked, has) => asked == has,
    };
    let net = |asked: Option<IpNet>, has: Option<IpNet>| {
        says(asked.filter(|net| net.prefix_len() > 0).map(|net| net.trunc()), has)
    };
    let mark = match (asked.fwmark, rule.fwmark) {
        (None, _) => true,
        (Some((mark, mask)), has) => {
            let (has_mark, has_mask) = has.unwrap_or((0, 0));
            (mark == 0 || mark == has_mark) && (mask == 0 || mask == has_mask)
        }
    };
    asked.family == rule.family
        && action
        && mark
        && net(asked.src, rule.src)
        && net(asked.dst, rule.dst)
        && says(asked.priority, rule.priority)
        && says(asked.iif, rule.iif)
        && says(asked.oif, rule.oif)
        && says(asked.ip_proto, rule.ip_proto)
        && says(asked.suppress_prefixlength, rule.suppress_prefixlength)
        && (asked.tos == 0 || asked.tos == rule.tos)
        && (asked.protocol == Protocol::UNSPEC || asked.protocol == rule.protocol)
}
