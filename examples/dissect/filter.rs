//! Which packets to show.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay_wire::dissect::Outermost;
use overlay_wire::{Encapsulation, Vni};

/// What packets must be to be shown. Of a list that is not empty, one entry must fit.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) encapsulations: Vec<Encapsulation>,
    pub(crate) vnis: Vec<Vni>,
    pub(crate) inner: Vec<IpNet>,
}

impl Filter {
    pub(crate) fn matches(&self, tunnel: Option<&Outermost>) -> bool {
        let encapsulation = tunnel.map_or(Encapsulation::Direct, |tunnel| tunnel.encapsulation);
        let vni = tunnel.filter(|tunnel| has_vni(tunnel)).and_then(|tunnel| tunnel.key);
        let inner = tunnel.and_then(|tunnel| tunnel.inner);
        let is_one = |prefix: &IpNet| {
            inner.is_some_and(|(src, dst)| prefix.contains(&src) || prefix.contains(&dst))
        };
        (self.encapsulations.is_empty() || self.encapsulations.contains(&encapsulation))
            && (self.vnis.is_empty() || self.vnis.iter().any(|wanted| Some(wanted.get()) == vni))
            && (self.inner.is_empty() || self.inner.iter().any(is_one))
    }
}

/// A key of GRE is no VNI.
const fn has_vni(tunnel: &Outermost) -> bool {
    matches!(
        tunnel.encapsulation,
        Encapsulation::Vxlan | Encapsulation::VxlanGpe | Encapsulation::Geneve
    )
}

/// An encapsulation by its name.
pub(crate) fn parse_encapsulation(text: &str) -> Result<Encapsulation, String> {
    let known = Encapsulation::ALL.map(Encapsulation::name);
    // As iproute2 calls it.
    let text = if text == "ipip" { Encapsulation::IpInIp.name() } else { text };
    let found = Encapsulation::ALL.into_iter().find(|known| known.name() == text);
    found.ok_or_else(|| format!("expected one of {}", known.join(", ")))
}

/// A prefix, or an address, which is a prefix of one address.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let prefix = text.parse::<IpNet>().ok();
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    prefix.or_else(address).ok_or_else(|| "expected an address or a prefix".to_owned())
}

#[cfg(test)]
mod tests {
    use overlay_wire::dissect::{Dissector, Start};

    use super::*;

    /// 10.0.0.1 to 10.0.0.2, in GRE with key 5 from 192.168.0.1 to 192.168.0.2.
    const GRE: &[u8] = b"\x45\0\0\x30\0\0\0\0\x40\x2f\0\0\xc0\xa8\0\x01\xc0\xa8\0\x02\
        \x20\0\x08\0\0\0\0\x05\x45\0\0\x14\0\0\0\0\x40\xfd\0\0\x0a\0\0\x01\x0a\0\0\x02";

    #[test]
    fn every_kind_of_condition_counts() {
        let tunnel = Dissector::new(Start::Ip).dissect(GRE).outermost().unwrap();
        let filter = |names: &[&str], vnis: &[u32], inner: &[&str]| {
            let filter = Filter {
                encapsulations: names.iter().map(|n| parse_encapsulation(n).unwrap()).collect(),
                vnis: vnis.iter().map(|vni| Vni::new(*vni).unwrap()).collect(),
                inner: inner.iter().map(|prefix| parse_prefix(prefix).unwrap()).collect(),
            };
            (filter.matches(Some(&tunnel)), filter.matches(None))
        };
        assert_eq!(filter(&[], &[], &[]), (true, true));
        assert_eq!(filter(&["gre"], &[], &[]), (true, false));
        assert_eq!(filter(&["vxlan", "direct"], &[], &[]), (false, true));
        assert_eq!(filter(&["gre"], &[5], &[]), (false, false));
        assert_eq!(filter(&[], &[], &["fd00::/8", "10.0.0.2"]), (true, false));
        assert_eq!(filter(&[], &[], &["10.0.0.1/32"]), (true, false));
        assert_eq!(filter(&[], &[], &["192.168.0.0/16"]), (false, false));
        assert_eq!(filter(&["vxlan"], &[], &["10.0.0.0/8"]), (false, false));
    }

    #[test]
    fn wrong_conditions_are_refused() {
        let error = parse_encapsulation("vxlam").unwrap_err();
        assert!(error.contains("vxlan, ") || error.ends_with("geneve"), "{error}");
        assert!(parse_prefix("10.0.0.0/33").is_err());
        assert!(parse_prefix("").is_err());
    }
}
