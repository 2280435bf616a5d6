//! Where etcd listens.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::OptionsError;

/// What etcd's clients connect to unless told otherwise.
const DEFAULT_PORT: u16 = 2379;

/// The client URL of one member: `https://etcd1.example:2379`, `http://127.0.0.1`, `https://[2001:db8::1]:2379`.
///
/// The port is 2379 unless given. There is no path, no query and no password in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EtcdUrl {
    tls: bool,
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Name(String),
    Ip(IpAddr),
}

impl EtcdUrl {
    /// Whether the connection is encrypted: `https`, not `http`.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost",
            Host::Ip(ip) => ip.is_loopback(),
        }
    }

    /// The name or address without brackets and port, as certificates have it.
    pub(crate) fn server_name(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ip(ip) => ip.to_string(),
        }
    }
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "https://" } else { "http://" })?;
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
        }
        write!(f, ":{}", self.port)
    }
}

impl FromStr for EtcdUrl {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        parse(text)
            .map_err(|problem| OptionsError::Endpoint { endpoint: without_secret(text), problem })
    }
}

fn parse(text: &str) -> Result<EtcdUrl, &'static str> {
    let (scheme, rest) = text.trim().split_once("://").ok_or("a scheme is missing")?;
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err("the scheme is neither http nor https"),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err("user and password belong into the credentials, not into a URL");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("an endpoint has no path; the prefix of the keys is an option of its own");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (ip, port) = bracketed.split_once(']').ok_or("a closing bracket is missing")?;
            let ip: Ipv6Addr = ip.parse().map_err(|_| "between brackets is no IPv6 address")?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or("something follows the bracket")?),
            };
            (Host::Ip(ip.into()), port)
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            (Host::parse(host)?, port)
        }
    };
    let port = match port {
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err("the port is not a number from 1 to 65535"),
        },
        None => DEFAULT_PORT,
    };
    Ok(EtcdUrl { tls, host, port })
}

impl Host {
    /// A name or an IPv4 address; IPv6 needs brackets.
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if text.is_empty() || !text.bytes().all(named) {
            return Err("the host is neither a name nor an address");
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

/// What was given, less what may be a user and a password.
fn without_secret(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://..@{host}"),
            None => format!("..@{host}"),
        },
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_print_as_they_are_used() {
        for (given, printed) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("https://ETCD-1.example/", "https://etcd-1.example:2379"),
            (" https://[2001:db8::1]:4001 ", "https://[2001:db8::1]:4001"),
            ("http://[::1]", "http://[::1]:2379"),
        ] {
            let endpoint: EtcdUrl = given.parse().unwrap();
            assert_eq!(endpoint.to_string(), printed);
            assert_eq!(endpoint.to_string().parse::<EtcdUrl>().unwrap(), endpoint);
        }
    }

    #[test]
    fn a_bad_endpoint_is_named_with_what_would_be_right() {
        for (given, words) in [
            ("etcd1:2379", "a scheme is missing"),
            ("ftp://etcd1", "neither http nor https"),
            ("http://", "neither a name nor an address"),
            ("http://etcd1:0", "from 1 to 65535"),
            ("http://etcd1:65536", "from 1 to 65535"),
            ("http://etcd1:2379/v3", "has no path"),
            ("http://[::1", "closing bracket"),
            ("http://[::1]2379", "follows the bracket"),
            ("http://[10.0.0.1]", "no IPv6 address"),
            ("http://a b", "neither a name nor an address"),
        ] {
            let error = given.parse::<EtcdUrl>().unwrap_err().to_string();
            assert!(error.contains(given) && error.contains(words), "{error}");
            assert!(error.contains("https://HOST:2379"), "{error}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for given in
            ["https://root:hunter2@etcd1:2379", "root:hunter2@etcd1", "https://a@hunter2@b"]
        {
            let error = given.parse::<EtcdUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn loopback_is_recognised_by_name_and_address() {
        for (given, loopback) in [
            ("http://localhost", true),
            ("http://127.1.2.3", true),
            ("http://[::1]", true),
            ("http://localhost.example", false),
            ("http://192.0.2.1", false),
        ] {
            assert_eq!(given.parse::<EtcdUrl>().unwrap().is_loopback(), loopback, "{given}");
        }
    }
}
