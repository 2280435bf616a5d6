//! Which packets to show.

use std::net::IpAddr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
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

/// iproute2's name for [`Encapsulation::IpInIp`].
const IPIP: &str = "ipip";

/// Encapsulations by their names, which clap lists.
pub(crate) fn encapsulations() -> impl TypedValueParser<Value = Encapsulation> {
    let names = Encapsulation::ALL.map(|known| match known {
        Encapsulation::IpInIp => PossibleValue::new(known.name()).alias(IPIP),
        _ => PossibleValue::new(known.name()),
    });
    PossibleValuesParser::new(names).try_map(|name| parse_encapsulation(&name))
}

fn parse_encapsulation(name: &str) -> Result<Encapsulation, String> {
    let name = if name == IPIP { Encapsulation::IpInIp.name() } else { name };
    let found = Encapsulation::ALL.into_iter().find(|known| known.name() == name);
    found.ok_or_else(|| "no such encapsulation".to_owned())
}

/// A VNI as a decimal number or, with 0x in front, a hexadecimal one, as lines have those of Geneve.
pub(crate) fn parse_vni(text: &str) -> Result<Vni, String> {
    let vni = match text.strip_prefix("0x") {
        None => text.parse(),
        Some(digits) => match u32::from_str_radix(digits, 16) {
            Ok(number) => Vni::new(number),
            Err(_) => return Err("expected hexadecimal digits, up to 0xffffff".to_owned()),
        },
    };
    vni.map_err(|error| error.to_string())
}

/// A prefix, or an address, which is a prefix of one address.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>().map(IpNet::from) else {
        return Err("expected an address or a prefix".to_owned());
    };
    match length {
        None => Ok(address),
        Some(length) => text.parse().map_err(|_| {
            let max = address.max_prefix_len();
            format!("expected a prefix length from 0 to {max}, found {length:?}")
        }),
    }
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
        let error = |text| parse_prefix(text).unwrap_err();
        assert_eq!(error("10.0.0.0/33"), "expected a prefix length from 0 to 32, found \"33\"");
        assert_eq!(error("fd00::/x"), "expected a prefix length from 0 to 128, found \"x\"");
        for text in ["", "10.0.0/8", "/8"] {
            assert_eq!(error(text), "expected an address or a prefix");
        }
    }

    #[test]
    fn vnis_are_decimal_or_hexadecimal() {
        for text in ["4660", "0x1234"] {
            assert_eq!(parse_vni(text).map(Vni::get), Ok(0x1234));
        }
        assert_eq!(parse_vni("0xffffff"), Ok(Vni::MAX));
        for text in ["16777216", "0x1000000", "0xfffffffff", "0x", "1234x", ""] {
            assert!(parse_vni(text).is_err(), "{text}");
        }
    }
}
